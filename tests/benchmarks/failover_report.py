# SPDX-FileCopyrightText: The modelfleet maintainers
# SPDX-License-Identifier: GPL-3.0-or-later
"""What failovers cost, put into docs/benchmarks.md with its plot; ``python failover_report.py`` writes both.

It needs build/bench/failover.json, failover-requests.json and plan.json.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from typing import Any

from plot import draw_failover
from report import CHECKOUT, markdown, write_sections

Json = dict[str, Any]

OUTPUT = CHECKOUT / "build" / "bench"
PLOT = CHECKOUT / "docs" / "benchmarks-failover.svg"
FAULTS = {
    "pause": "paused",
    "kill": "killed",
    "cut": "cut off",
    "slow": "slow",
    "wrong": "wrong",
    "drain": "drained",
    "failback": "failed back",
}
SLOW = "slow"


def table(rows: list[Json]) -> list[list[str]]:
    """Give the rows of the table, the first one with the columns' names."""
    head = ["cluster", "load", "requests", "lost", "wrong", "slowest", "last affected", "verified"]
    return [head, *(_row(row) for row in rows)]


def _row(row: Json) -> list[str]:
    size = "1 MB" if row["body_bytes"] >= 1_000_000 else "1 KB"
    load = f"{row['rate']:g}/s of {size}" + (", taking up to 5 s" if row["model"] == SLOW else "")
    slowest = f"{row['slowest_seconds']:.2f} s"
    if row["model"] == SLOW:
        slowest += f" ({row['slowest_over_seconds']:.2f} s late)"
    verified = f"{row['verified_seconds']:.1f} s" if row["verified_seconds"] is not None else "failed"
    return [
        FAULTS[row["fault"]],
        load,
        str(row["requests"]),
        str(row["lost"]),
        str(row["wrong"]),
        slowest,
        f"{row['affected_seconds']:.2f} s" if row["affected"] else "none",
        verified,
    ]


def goals(rows: list[Json], plan: Json) -> Iterator[list[str]]:
    """Give each figure to reach: what it is, what was measured, whether it is reached."""

    def verdict(reached: bool) -> str:
        return "reached" if reached else "missed"

    lost = sum(row["lost"] for row in rows)
    total = sum(row["requests"] for row in rows)
    yield ["no request lost", f"{lost} of {total}", verdict(lost == 0)]
    for key, limit, words, cases in (
        ("affected_seconds", 1.0, "none affected later than 1 s after the fault", FAULTS),
        ("wrong_seconds", 1.0, "wrong answers for at most 1 s", ("wrong",)),
        ("verified_seconds", 10.0, "automatic failover, from the fault to verified: 10 s", list(FAULTS)[:5]),
    ):
        values = [(row[key], row["fault"]) for row in rows if row["fault"] in cases and row[key] is not None]
        if not values:
            yield [words, "not measured", verdict(False)]
            continue
        # A failover that failed is none in time.
        whole = all(row[key] is not None for row in rows if row["fault"] in cases)
        worst, fault = max(values)
        yield [words, f"{worst:.2f} s ({FAULTS[fault]})", verdict(whole and worst <= limit)]
    yield [
        f"the plan for {plan['clusters']} clusters: under {plan['goal_seconds']:g} s",
        f"{plan['seconds']:.3f} s",
        verdict(plan["seconds"] < plan["goal_seconds"]),
    ]


def main() -> None:
    """Write the page and the plot."""
    rows, requests, plan = (
        json.loads((OUTPUT / name).read_text()) for name in ("failover.json", "failover-requests.json", "plan.json")
    )
    loads = [row["load_average"] for row in rows]
    about = (
        f"The machine's load average at the end of the cases was {min(loads):g} to {max(loads):g}, on 2 cores. "
        f"The 99th percentile before the faults was {min(row['before_p99_seconds'] for row in rows):.2f} to "
        f"{max(row['before_p99_seconds'] for row in rows):.2f} s."
    )
    write_sections(
        {
            "failover": markdown(table(rows)),
            "failover-goals": markdown([["to reach", "measured", ""], *goals(rows, plan)]),
            "failover-about": [about],
        }
    )
    draw_failover(requests, FAULTS, PLOT)


if __name__ == "__main__":
    sys.exit(main())
