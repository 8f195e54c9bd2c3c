# SPDX-FileCopyrightText: The modelfleet maintainers
# SPDX-License-Identifier: GPL-3.0-or-later
"""Measure one bundle on the local fleet's clusters, applied by what users would pick instead and by this collection.

``make bench`` prepares what this needs and runs it. BENCH_ROUNDS (5) and BENCH_HOSTS (1,10,100,300; 0
for none) change its length.
"""

from __future__ import annotations

import contextlib
import json
import os
import platform
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from importlib import metadata
from pathlib import Path

import inputs
import report
from inputs import LABEL, Fleet, Json
from processes import BenchmarkError, Command, peak_memory, timed

HERE = Path(__file__).resolve().parent
CHECKOUT = HERE.parents[1]
OUTPUT = CHECKOUT / "build" / "bench"
PYTHON_BIN = Path(sys.executable).parent
HOME = Path(os.environ.get("MODELFLEET_HOME") or Path.home() / ".cache" / "modelfleet")
# The empty play has a turn in every round too.
EMPTY = "empty_play"
PHASES = ("first", "unchanged", "one_field")
FORKS = 5  # as Ansible has by default; more than there are clusters


@dataclass(frozen=True)
class Target:
    """One bundle in one namespace of every cluster of a fleet; ``bundle`` is the folder that inputs.py wrote."""

    fleet: Fleet
    namespace: str
    bundle: Path


@dataclass
class Tools:
    """The commands that are measured, and their common environment."""

    kubectl: Path = OUTPUT / "bin" / "kubectl"
    helm: Path = OUTPUT / "bin" / "helm"
    environment: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Keep what the caller's environment sets, and the home folder's caches, out of the figures."""
        kept = {
            name: value
            for name, value in os.environ.items()
            if not name.startswith(("ANSIBLE_", "K8S_AUTH_", "HELM_", "KUBE"))
        }
        self.environment = {
            **kept,
            "ANSIBLE_CONFIG": str(HERE / "ansible.cfg"),
            "KUBECACHEDIR": str(OUTPUT / "cache"),
            **{f"HELM_{name}_HOME": str(OUTPUT / "helm" / name.lower()) for name in ("CACHE", "CONFIG", "DATA")},
        }

    def playbook(self, name: str, fleet: Fleet, forks: int, *options: str) -> Command:
        """Give one ansible-playbook run over the fleet's hosts."""
        playbook = [str(PYTHON_BIN / "ansible-playbook"), str(HERE / "playbooks" / f"{name}.yml")]
        return Command(
            [*playbook, "--inventory", str(fleet.inventory), "--forks", str(forks), *options], self.environment
        )

    def play_target(self, name: str, target: Target) -> list[Command]:
        """Give the one run that applies a target on all clusters."""
        variables = {"bundle_namespace": target.namespace, "bundle": str(target.bundle)}
        return [self.playbook(name, target.fleet, FORKS, "--extra-vars", json.dumps(variables))]

    def kubectl_command(self, fleet: Fleet, context: str, *arguments: str) -> Command:
        """Give one kubectl command for one cluster."""
        connection = ["--kubeconfig", str(fleet.kubeconfig), "--context", context]
        return Command([str(self.kubectl), *connection, *arguments], self.environment)

    def kubectl_apply(self, target: Target) -> list[Command]:
        """Give one server-side apply a cluster."""
        return [
            self.kubectl_command(target.fleet, context, "apply", "--server-side", "-f", f"{target.bundle}/bundle.yaml")
            for context in target.fleet.contexts
        ]

    def helm_upgrade(self, target: Target) -> list[Command]:
        """Give one upgrade a cluster. A chart can't bring the namespace that its own release is recorded in."""
        return [
            Command(
                [
                    str(self.helm),
                    *("--kubeconfig", str(target.fleet.kubeconfig), "--kube-context", context),
                    *("upgrade", "--install", "--namespace", "default"),
                    *(target.namespace, f"{target.bundle}/chart"),
                ],
                self.environment,
            )
            for context in target.fleet.contexts
        ]


def ways(tools: Tools) -> dict[str, Callable[[Target], list[Command]]]:
    """Give what is compared: for each way, the commands that run at once."""
    return {
        EMPTY: lambda target: tools.play_target("empty", target),
        "k8s_task_per_object": lambda target: tools.play_target("k8s_task_per_object", target),
        "k8s_one_task": lambda target: tools.play_target("k8s_one_task", target),
        "kubectl_ssa": tools.kubectl_apply,
        "helm": tools.helm_upgrade,
        "modelfleet": lambda target: tools.play_target("modelfleet", target),
    }


class Clusters:
    """The real clusters, outside of what is measured."""

    KINDS = ",".join(manifest["kind"].lower() for manifest in inputs.objects("any"))

    def __init__(self, tools: Tools, fleet: Fleet) -> None:
        """Take a fleet with one host a cluster."""
        self.tools = tools
        self.fleet = fleet

    def clean(self) -> None:
        """Delete what a benchmark has left in any cluster, and wait until it is gone."""
        kinds = [("namespaces", LABEL, []), ("secrets", "owner=helm", ["--namespace", "default"])]
        for kind, selector, options in kinds:
            self._everywhere("delete", kind, "--selector", selector, "--timeout", "10m", *options)

    def check(self, expected: Sequence[dict[str, list[Json]]]) -> None:
        """Fail unless every object is there as it was given; ``expected`` has them by cluster and namespace."""
        answers = self._everywhere("get", self.KINDS, "--all-namespaces", "--selector", LABEL, "--output", "json")
        for namespaces, answer in zip(expected, answers, strict=True):
            found: dict[str, dict[tuple[str, str], Json]] = {}
            for item in json.loads(answer)["items"]:
                namespace = item["metadata"].get("namespace") or item["metadata"]["name"]
                found.setdefault(namespace, {})[inputs.key(item)] = item
            for namespace, manifests in namespaces.items():
                there = found.get(namespace, {})
                wanted = {inputs.key(manifest): manifest for manifest in manifests}
                if unequal := wanted.keys() ^ there.keys():
                    raise BenchmarkError(f"{namespace}: missing, or too many: {sorted(unequal)}")
                for key, manifest in wanted.items():
                    for difference in inputs.differences(manifest, there[key]):
                        raise BenchmarkError(f"{namespace}: {' '.join(key)}{difference}")

    def _everywhere(self, *arguments: str) -> list[str]:
        processes = [
            subprocess.Popen(command.arguments, env=command.environment, stdout=subprocess.PIPE, text=True)
            for command in (
                self.tools.kubectl_command(self.fleet, context, *arguments) for context in self.fleet.contexts
            )
        ]
        outputs = [process.communicate()[0] for process in processes]
        if any(process.returncode for process in processes):
            raise BenchmarkError(f"kubectl {' '.join(arguments)} failed")
        return outputs


def compare(tools: Tools, clusters: Clusters, rounds: int) -> dict[str, dict[str, list[float]]]:
    """Measure each way in each round, in an order that rotates; give the seconds by way and phase.

    The round before the first is a warm-up that fills caches, and doesn't count.
    """
    seconds: dict[str, dict[str, list[float]]] = {}
    commands = ways(tools)
    names = list(commands)
    for number in range(rounds + 1):
        for way in names[number % len(names) :] + names[: number % len(names)]:
            namespace = f"benchmark-{way.replace('_', '-')}-{number}"
            for phase in PHASES if number else PHASES[:1]:
                manifests = inputs.objects(namespace, changed=phase == "one_field")
                target = Target(clusters.fleet, namespace, inputs.write(OUTPUT / "bundles" / phase, manifests))
                taken = timed(commands[way](target), OUTPUT / "log")
                say(f"round {number}: {way}, {phase}: {taken:.2f} s")
                if number:
                    seconds.setdefault(way, {}).setdefault(phase, []).append(taken)
                if way != EMPTY:
                    clusters.check([{namespace: manifests}] * len(clusters.fleet.contexts))
        clusters.clean()
    return seconds


def scale(tools: Tools, clusters: Clusters, kubeconfig: Path, hosts: int, rounds: int) -> Json:
    """Measure how much a run over so many hosts costs; memory is sampled in a run of its own, which takes longer."""
    fleet = Fleet.make(OUTPUT / f"hosts-{hosts}", kubeconfig, hosts, "benchmark")
    count = len(clusters.fleet.contexts)
    namespaces = [f"benchmark-{name}" for name in fleet.contexts]
    bundles = [{name: inputs.objects(name) for name in namespaces[cluster::count]} for cluster in range(count)]
    empty, apply = (tools.playbook(name, fleet, FORKS) for name in ("empty", "modelfleet"))
    seconds: dict[str, list[float]] = {EMPTY: [], "first": [], "unchanged": []}
    for number in range(rounds):
        for phase, command in ((EMPTY, empty), ("first", apply), ("unchanged", apply)):
            seconds[phase].append(timed([command], OUTPUT / "log"))
            say(f"{hosts} hosts, round {number + 1}: {phase}: {seconds[phase][-1]:.2f} s")
        clusters.check(bundles)
        clusters.clean()
    memory = {phase: peak_memory(command, OUTPUT / "log") for phase, command in ((EMPTY, empty), ("first", apply))}
    clusters.clean()
    say(f"{hosts} hosts: {memory['first']:.0f} MB, the empty play {memory[EMPTY]:.0f} MB")
    return {"hosts": hosts, "seconds": seconds, "memory": memory}


def say(text: str) -> None:
    """Show that something goes on, apart from the results."""
    print(text, file=sys.stderr, flush=True)


@contextlib.contextmanager
def cleaned(clusters: Clusters) -> Iterator[None]:
    """Leave nothing on the clusters, also after an error."""
    clusters.clean()
    try:
        yield
    finally:
        clusters.clean()


def versions(tools: Tools) -> dict[str, str]:
    """Give what was measured by its versions."""
    core = OUTPUT.glob("python/lib/python*/site-packages/ansible_collections/kubernetes/core/MANIFEST.json")
    kubectl, helm = (
        subprocess.run(command, env=tools.environment, check=True, capture_output=True, text=True).stdout
        for command in (
            [str(tools.kubectl), "version", "--client", "--output", "json"],
            [str(tools.helm), "version", "--template", "{{ .Version }}"],
        )
    )
    return {
        "ansible-core": metadata.version("ansible-core"),
        "Python": platform.python_version(),
        "kubernetes.core": json.loads(next(core).read_text())["collection_info"]["version"],
        "kubectl": json.loads(kubectl)["clientVersion"]["gitVersion"],
        "Helm": helm,
    }


def main() -> int:
    """Measure, write build/bench/apply.json and show the results."""
    rounds = int(os.environ.get("BENCH_ROUNDS") or 5)
    sizes = [int(hosts) for hosts in (os.environ.get("BENCH_HOSTS") or "1,10,100,300").split(",")]
    kubeconfig = HOME / "kubeconfig"
    tools = Tools()
    about = {
        "date": time.strftime("%Y-%m-%d"),
        "cores": os.cpu_count(),
        "rounds": rounds,
        "forks": FORKS,
        "versions": versions(tools),
    }
    clusters = Clusters(tools, Fleet.make(OUTPUT / "hosts-3", kubeconfig, 3))
    started = time.monotonic()
    try:
        with cleaned(clusters):
            compared = compare(tools, clusters, rounds)
            # About as many hosts behind each figure, but no figure of fewer than three rounds.
            grown = [
                scale(tools, clusters, kubeconfig, hosts, min(rounds, max(3, 300 // hosts))) for hosts in sizes if hosts
            ]
    except BenchmarkError as error:
        print(f"The benchmark failed: {error}", file=sys.stderr)
        return 1
    figures = report.results(compared, grown, EMPTY, about)
    (OUTPUT / "apply.json").write_text(json.dumps(figures, indent=2) + "\n")
    print(report.text(figures))
    say(f"{(time.monotonic() - started) / 60:.0f} minutes")
    return 0


if __name__ == "__main__":
    sys.exit(main())
