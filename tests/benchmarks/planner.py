# SPDX-FileCopyrightText: The modelfleet maintainers
# SPDX-License-Identifier: GPL-3.0-or-later
"""Measure how long the planner takes to decide for a fleet of 300 clusters; it writes build/bench/plan.json."""

from __future__ import annotations

import json
import statistics
import sys
import time
from pathlib import Path

CHECKOUT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(CHECKOUT / "build" / "collections"))

from ansible_collections.modelfleet.serving.plugins.module_utils._failover.fleet import (  # noqa: E402
    Cluster,
    History,
    Policy,
    Request,
    Served,
    Server,
)
from ansible_collections.modelfleet.serving.plugins.module_utils._failover.plan import plan  # noqa: E402

CLUSTERS, MODELS, ROUNDS, DEAD = 300, 20, 7, 30
GOAL_SECONDS = 1.0
OUTPUT = CHECKOUT / "build" / "bench" / "plan.json"


def fleet() -> list[Cluster]:
    """Give a fleet of which every tenth cluster is silent, every fifth one standby."""
    right = Served(True, versions=frozenset({1, 2}), digests={1: "a", 2: "b"})
    silent = Served(False, answered=False, error="no answer in 1 s")
    clusters = []
    for number in range(CLUSTERS):
        dead = number % (CLUSTERS // DEAD) == 0
        clusters.append(
            Cluster(
                f"cluster-{number:03}",
                state="standby" if number % 5 == 4 else "active",
                cloud=("aws", "azure", "gcp")[number % 3],
                jurisdiction=("eu", "us")[number % 2],
                models={f"model-{model}": silent if dead else right for model in range(MODELS)},
                up=not dead,
                servers=(Server("serving", 2, 2, 6),),
                capacity=100.0,
                rate=40.0,
            )
        )
    return clusters


def main() -> int:
    """Measure, write the figures and show them."""
    clusters = fleet()
    policy = Policy(
        min_active=100,
        required_capacity=20_000.0,
        versions={f"model-{model}": frozenset({1, 2}) for model in range(MODELS)},
    )
    seconds = []
    for _round in range(ROUNDS):
        started = time.perf_counter()
        found = plan(clusters, Request("failover"), policy, History())
        seconds.append(time.perf_counter() - started)
    if found.status != "go" or sum(move.after == "drained" for move in found.moves) != DEAD:
        print(f"The plan is not the one to measure: {found.status}: {found.reason}", file=sys.stderr)
        return 1
    median = statistics.median(seconds)
    figures = {"clusters": CLUSTERS, "models": MODELS, "leaving": DEAD, "seconds": round(median, 4)}
    OUTPUT.parent.mkdir(parents=True, exist_ok=True)
    OUTPUT.write_text(json.dumps({**figures, "goal_seconds": GOAL_SECONDS}) + "\n")
    verdict = "reached" if median < GOAL_SECONDS else "missed"
    print(f"The plan for {CLUSTERS} clusters takes {median:.3f} s (goal {GOAL_SECONDS:g} s: {verdict})")
    return 0


if __name__ == "__main__":
    sys.exit(main())
