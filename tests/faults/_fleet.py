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
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from _place import HOME
from ansible.module_utils.common.arg_spec import ArgumentSpecValidator

from ansible_collections.modelfleet.serving.plugins.module_utils._call import Call
from ansible_collections.modelfleet.serving.plugins.module_utils._failover.history import runs
from ansible_collections.modelfleet.serving.plugins.module_utils._failover.journal import read
from ansible_collections.modelfleet.serving.plugins.module_utils._features import (
    global_endpoint,
    global_endpoint_info,
)

CHECKOUT = Path(__file__).resolve().parents[2]
CLUSTERS = ("aws-eu-west-1", "azure-westeurope", "gcp-europe-west1")
AWS, AZURE, GCP = CLUSTERS
ENDPOINT = "modelfleet-endpoint"
_HAPROXY = {"config_path": str(HOME / "haproxy" / "haproxy.cfg"), "master": "127.0.0.1:9998"}


def docker(*arguments: str, check: bool = True) -> str:
    """Run a command of Docker and give what it prints."""
    done = subprocess.run(["docker", *arguments], capture_output=True, text=True, check=False, timeout=60)
    assert not check or done.returncode == 0, done.stderr
    return done.stdout.strip()


def node(cluster: str) -> str:
    """Name the cluster's container."""
    return f"modelfleet-{cluster}-control-plane"


def until(condition: Callable[[], bool], what: str, seconds: float = 60) -> None:
    """Wait for something that must come."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"after {seconds} s: {what}"
        time.sleep(0.02)


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
        assert (found != 0) if code is None else (found == code), text
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
        found = _call(global_endpoint_info.FEATURE)
        return {member["name"]: member for member in found["members"]}

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
            until(self._answers, "the endpoint does not start")
        if self.active() != sorted(CLUSTERS):
            members = [{"name": name, "state": "active"} for name in CLUSTERS]
            _call(global_endpoint.FEATURE, name="local", members=members, exclusive_members=False, wait=False)
        until(self.healthy, "a cluster does not come back", 120)

    def _answers(self) -> bool:
        try:
            return len(self.members()) == len(CLUSTERS)
        except Exception:  # whatever is wrong, it is not there yet
            return False


@contextlib.contextmanager
def paused(*clusters: str) -> Iterator[None]:
    """Freeze clusters: they neither answer nor refuse."""
    for cluster in clusters:
        docker("pause", node(cluster))
    try:
        yield
    finally:
        for cluster in clusters:
            docker("unpause", node(cluster), check=False)


@contextlib.contextmanager
def without_api(cluster: str) -> Iterator[None]:
    """Cut a cluster's API server off; its pods go on serving."""
    rule = ["INPUT", "-p", "tcp", "--dport", "6443", "-i", "eth0", "-j", "REJECT", "--reject-with", "tcp-reset"]
    docker("exec", node(cluster), "iptables", "-I", *rule)
    try:
        yield
    finally:
        docker("exec", node(cluster), "iptables", "-D", *rule)


def _call(feature: Any, **given: Any) -> dict[str, Any]:
    checked = ArgumentSpecValidator(feature.arguments).validate({**given, "haproxy": _HAPROXY})
    assert not checked.error_messages, checked.error_messages
    values: dict[str, Any] = feature.run(Call(checked.validated_parameters)).values
    return values
