# SPDX-FileCopyrightText: The modelfleet maintainers
# SPDX-License-Identifier: GPL-3.0-or-later
"""The local fleet as a whole: its playbooks, its endpoint, its journal, and ways to break its clusters."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ansible_collections.modelfleet.serving.plugins.module_utils._failover.history import runs
from ansible_collections.modelfleet.serving.plugins.module_utils._failover.journal import read

sys.path.append(str(Path(__file__).resolve().parents[1] / "benchmarks"))

from localfleet import CLUSTERS, Endpoint, command, fault, node
from localfleet import until as wait_until

CHECKOUT = Path(__file__).resolve().parents[2]
AWS, AZURE, GCP = CLUSTERS
ENDPOINT = "modelfleet-endpoint"


def docker(*arguments: str) -> str:
    """Run a command of Docker and give what it prints."""
    return command("docker", *arguments)


def cluster_addresses() -> dict[str, str]:
    """Give the address of each cluster on the network of the containers."""
    shown = "{{.NetworkSettings.Networks.kind.IPAddress}}"
    return {cluster: docker("inspect", "--format", shown, node(cluster)) for cluster in CLUSTERS}


def until(condition: Callable[[], bool], what: str, seconds: float = 60) -> None:
    """Wait for something that must come, and see it at once."""
    wait_until(condition, seconds, what, pause=0.02)


@dataclass
class Run:
    """A playbook that runs, with its children in a process group of its own."""

    process: subprocess.Popen[str]
    output: Path

    def text(self) -> str:
        """Give what it has printed so far."""
        return self.output.read_text()

    def signal(self, number: signal.Signals) -> None:
        """Send a signal to the run and to all its workers."""
        os.killpg(self.process.pid, number)

    def end(self, code: int | None = 0, seconds: float = 180) -> str:
        """Wait for its end, and hold its exit code against the right one; ``None``: any but 0."""
        found = self.process.wait(seconds)
        text = self.text()
        assert (found != 0) if code is None else (found == code), f"exit code {found}\n{text}"
        return text


@dataclass
class Fleet:
    """The fleet, and a journal of the test's own.

    :param folder: where the test keeps its files.
    """

    folder: Path
    started: list[Run] = field(default_factory=list)

    @property
    def journal(self) -> Path:
        """The journal of most runs."""
        return self.folder / "endpoint.journal"

    def start(self, playbook: str, *more: str, **variables: Any) -> Run:
        """Start a playbook as a user does."""
        given = {
            "failover_journal": str(self.journal),
            "failover_verify_timeout": 5,
            "failover_healthy_seconds": 1,
            # A test that kills its run leaves the lock to run out.
            "failover_lock_ttl": 10,
            "failover_lock_wait": 15,
            **variables,
        }
        output = self.folder / f"run-{len(self.started)}.log"
        environment = {**os.environ, "ANSIBLE_NOCOLOR": "1", "ANSIBLE_LOCAL_TEMP": str(self.folder / "tmp")}
        with output.open("w") as file:
            process = subprocess.Popen(
                [
                    str(Path(sys.executable).with_name("ansible-playbook")),
                    f"modelfleet.serving.{playbook}",
                    "--extra-vars",
                    json.dumps(given),
                    *more,
                ],
                cwd=CHECKOUT,
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=file,
                stderr=subprocess.STDOUT,
                text=True,
                start_new_session=True,
            )
        self.started.append(Run(process, output))
        return self.started[-1]

    def run(self, playbook: str, *more: str, code: int | None = 0, **variables: Any) -> str:
        """Run a playbook to its end."""
        return self.start(playbook, *more, **variables).end(code)

    def events(self, journal: Path | None = None) -> list[str]:
        """Name the events in the journal, oldest first."""
        return [entry.event for entry in read(journal or self.journal).entries]

    def runs(self) -> list[dict[str, Any]]:
        """Give the runs in the journal."""
        return runs(read(self.journal).entries)

    def members(self) -> dict[str, dict[str, Any]]:
        """Give the members of the endpoint, as the balancer tells."""
        return {member["name"]: member for member in Endpoint().info()["members"]}

    def states(self) -> dict[str, str]:
        """Give the members' states."""
        return {name: member["state"] for name, member in self.members().items()}

    def active(self) -> list[str]:
        """Name the active members."""
        return sorted(name for name, state in self.states().items() if state == "active")

    def traffic(self) -> list[str]:
        """Name the members that the balancer gives a weight now."""
        return sorted(name for name, member in self.members().items() if member["traffic"])

    def healthy(self) -> bool:
        """Tell whether all are active and up."""
        members = self.members()
        return sorted(members) == sorted(CLUSTERS) and all(
            member["state"] == "active" and member["up"] for member in members.values()
        )

    def restore(self) -> None:
        """End what still runs, and make all members active again."""
        for run in self.started:
            if run.process.poll() is None:
                run.signal(signal.SIGKILL)
                run.process.wait()
        for cluster in CLUSTERS:
            if docker("inspect", "--format", "{{.State.Paused}}", node(cluster)) == "true":
                docker("unpause", node(cluster))
        if docker("inspect", "--format", "{{.State.Running}}", ENDPOINT) != "true":
            docker("start", ENDPOINT)
            until(self.answers, "the endpoint does not start")
        if self.active() != sorted(CLUSTERS):
            Endpoint().activate()
        until(self.healthy, "a cluster does not come back", 120)

    def answers(self) -> bool:
        """Tell whether the endpoint is there with all members."""
        try:
            return len(self.members()) == len(CLUSTERS)
        except Exception:  # whatever is wrong, it is not there yet
            return False


@contextlib.contextmanager
def paused(*clusters: str) -> Iterator[None]:
    """Freeze clusters: they neither answer nor refuse."""
    with contextlib.ExitStack() as stack:
        for cluster in clusters:
            stack.enter_context(fault("pause", cluster))
        yield


@contextlib.contextmanager
def without_api(cluster: str) -> Iterator[None]:
    """Cut a cluster's API server off; its pods go on serving."""
    rule = ["INPUT", "-p", "tcp", "--dport", "6443", "-i", "eth0", "-j", "REJECT", "--reject-with", "tcp-reset"]
    docker("exec", node(cluster), "iptables", "-I", *rule)
    try:
        yield
    finally:
        docker("exec", node(cluster), "iptables", "-D", *rule)
