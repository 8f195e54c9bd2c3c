# SPDX-FileCopyrightText: The modelfleet maintainers
# SPDX-License-Identifier: GPL-3.0-or-later
"""Measure what a rollout of a version on the local fleet's clusters adds to what the servers need to load it.

A run of the play is timed, without the time of an empty play. What the servers needed is what they say themselves: the
growth of TF Serving's metric ``:tensorflow:cc:saved_model:load_latency`` (microseconds) in the slowest pod.
``make bench`` prepares what this needs and runs it. ROLLOUT_ROUNDS (4) changes its length.
"""

from __future__ import annotations

import json
import os
import re
import statistics
import subprocess
import sys

from apply import FORKS, HOME, OUTPUT, Tools, say
from inputs import Fleet
from processes import BenchmarkError, Command, timed

GOAL_SECONDS = 15.0
_POD_METRICS = "/api/v1/namespaces/benchmark-rollout/pods/{}:8501/proxy/monitoring/prometheus/metrics"
_LOADED = re.compile(
    r'^:tensorflow:cc:saved_model:load_latency\{model_path="/models/half_plus_two/(\d+)"\} (\d+)', re.MULTILINE
)


class Clusters:
    """The clusters, asked by kubectl."""

    def __init__(self, tools: Tools, fleet: Fleet) -> None:
        """Take a fleet with one host a cluster."""
        self.tools = tools
        self.fleet = fleet

    def loads(self) -> dict[tuple[str, str], dict[int, float]]:
        """Give the seconds that each pod has spent loading each version since its start, by context and pod."""
        found = {}
        for context in self.fleet.contexts:
            names = self._ask(context, "get", "pods", "--namespace", "benchmark-rollout", "--output", "name").split()
            for name in names:
                pod = name.removeprefix("pod/")
                text = self._ask(context, "get", "--raw", _POD_METRICS.format(pod))
                found[context, pod] = {int(version): int(micros) / 1e6 for version, micros in _LOADED.findall(text)}
        return found

    def _ask(self, context: str, *arguments: str) -> str:
        command = self.tools.kubectl_command(self.fleet, context, *arguments)
        return subprocess.run(
            command.arguments, env=command.environment, check=True, stdout=subprocess.PIPE, text=True
        ).stdout


def measure(tools: Tools, fleet: Fleet, rounds: int) -> list[dict[str, float]]:
    """Roll out version 2 and then version 1 again, in each round; give the seconds of each rollout."""
    image = (HOME / "server_image").read_text().strip()
    variables = {"kubeconfig": str(fleet.kubeconfig), "models": str(HOME / "models"), "image": image}

    def play(name: str, **more: object) -> Command:
        return tools.playbook(name, fleet, FORKS, "--extra-vars", json.dumps(variables | more))

    clusters = Clusters(tools, fleet)
    found = []
    try:
        timed([play("rollout_prepare")], OUTPUT / "log")
        for number in range(rounds):
            for version in (2, 1):
                before = clusters.loads()
                empty = timed([play("empty")], OUTPUT / "log")
                taken = timed([play("rollout", version=version)], OUTPUT / "log") - empty
                after = clusters.loads()
                if before.keys() != after.keys():
                    raise BenchmarkError("A pod was restarted, so its metrics began anew.")
                loading = max(loads[version] - before[pod].get(version, 0.0) for pod, loads in after.items())
                found.append({"seconds": round(taken, 3), "load_seconds": round(loading, 3)})
                say(
                    f"round {number + 1}: version {version}: {taken:.2f} s, of which the servers loaded {loading:.2f} s"
                )
    finally:
        timed([play("rollout_prepare", state="absent")], OUTPUT / "log")
    return found


def main() -> int:
    """Measure, write build/bench/rollout.json and show the result."""
    tools = Tools()
    fleet = Fleet.make(OUTPUT / "hosts-3", HOME / "kubeconfig", 3)
    try:
        rounds = measure(tools, fleet, int(os.environ.get("ROLLOUT_ROUNDS") or 4))
    except BenchmarkError as error:
        print(f"The benchmark failed: {error}", file=sys.stderr)
        return 1
    added = statistics.median(entry["seconds"] - entry["load_seconds"] for entry in rounds)
    figures = {"added_seconds": round(added, 3), "goal_seconds": GOAL_SECONDS, "rounds": rounds}
    (OUTPUT / "rollout.json").write_text(json.dumps(figures, indent=2) + "\n")
    verdict = "reached" if added <= GOAL_SECONDS else "missed"
    print(
        f"A rollout on three clusters adds {added:.1f} s to the loading itself (goal {GOAL_SECONDS:.0f} s: {verdict})"
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
