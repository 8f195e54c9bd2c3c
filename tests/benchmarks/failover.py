# SPDX-FileCopyrightText: The modelfleet maintainers
# SPDX-License-Identifier: GPL-3.0-or-later
"""Measure what users see when one of the local fleet's clusters fails, is drained, or returns.

``make bench`` runs it. Each case is one fault in the middle of an open load (see openload.py) on the endpoint, beside
predictions that honestly take up to 5 s; an automatic failover follows. It writes build/bench/failover.json, a row a
case, and build/bench/failover-requests.json for the plot; cases that are not run again keep their rows.

``failover.py [FAULT…]``. BENCH_RATE (200) requests a second have 1 KB, BENCH_BIG_RATE (20) have 1 MB.
The endpoint has the two models that the load asks, and a max_body that fits it: checks and buffers of others would
only take from the machine that carries everything; see docs/haproxy.md for what they cost.
The automatic failover is that of the collection: ansible-rulebook in build/automation, with its rulebook. It and the
playbooks get what nobody else uses of the processor, since elsewhere they are on a machine of their own: with a share
like everybody's, their bursts were most of what users felt.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import asdict
from datetime import datetime
from pathlib import Path
from typing import Any

import yaml
from localfleet import (
    CHECKOUT,
    CLUSTERS,
    FAULTS,
    HALF_PLUS_TWO,
    HAPROXY,
    REQUEST,
    RESPONSE,
    URL,
    Endpoint,
    FleetError,
    fault,
    slow_model,
    until,
)
from openload import WRONG, Sample, Stream, load, outcome

from ansible_collections.modelfleet.serving.plugins.module_utils._failover.journal import read

Json = dict[str, Any]

OUTPUT = CHECKOUT / "build" / "bench"
FLEET, INVENTORY = CHECKOUT / "inventories" / "local", OUTPUT / "inventory"
RESULTS, REQUESTS = OUTPUT / "failover.json", OUTPUT / "failover-requests.json"
VICTIM = "aws-eu-west-1"
SMALL, BIG = 1_000, 1_000_000
# Requests a second that each cluster is said to take.
CAPACITY = 250
# What HAProxy keeps of a request to repeat it, for each size.
MAX_BODY = {SMALL: 2**16, BIG: 2**20}
CASES = (*FAULTS, "drain", "failback")
# For a controller: what it takes of the processor is left over by clusters, balancer and load.
LEFT_OVER = ("chrt", "--idle", "0")
# Seconds of load before the fault, and after it at least.
BEFORE, AFTER = 20.0, 12.0
# The share of the machine that is free before a case; the clusters alone leave about two thirds of two cores.
QUIET = 0.55
# The plot shows so many seconds around the fault.
WINDOW = (-1.0, 5.0)
# Seconds that predictions of the model slow take, and how many there are a second.
HONEST, SLOW_RATE = (0.5, 2.0, 5.0), 1.0
GOALS = {"affected_seconds": 1.0, "wrong_seconds": 1.0, "verified_seconds": 10.0}


def write_inventory(size: int) -> None:
    """Write the local fleet's inventory as an endpoint for this load has it."""
    shutil.rmtree(INVENTORY, ignore_errors=True)
    shutil.copytree(FLEET, INVENTORY)
    groups = INVENTORY / "group_vars"
    fleet, clusters = (yaml.safe_load((groups / name).read_text()) for name in ("all.yml", "clusters.yml"))
    fleet["serving_models"] = [model for model in fleet["serving_models"] if model["name"] == "half_plus_two"]
    fleet["serving_endpoint"]["haproxy"]["max_body"] = MAX_BODY[size]
    # By the demo's own figure two clusters could not take the load, and the safety rules would keep the third.
    clusters["cluster_capacity"] = CAPACITY
    for name, variables in (("all.yml", fleet), ("clusters.yml", clusters)):
        (groups / name).write_text(yaml.safe_dump(variables, sort_keys=False))


def playbook(name: str, inventory: Path = INVENTORY, **variables: object) -> subprocess.Popen[bytes]:
    """Start a playbook as a person would."""
    environment = {
        **os.environ,
        "ANSIBLE_CONFIG": str(CHECKOUT / "ansible.cfg"),
        "ANSIBLE_COLLECTIONS_PATH": str(CHECKOUT / "build" / "collections"),
        "ANSIBLE_NOCOLOR": "1",
        "XDG_STATE_HOME": str(OUTPUT / "state"),
    }
    return subprocess.Popen(
        [
            *LEFT_OVER,
            str(Path(sys.executable).with_name("ansible-playbook")),
            f"modelfleet.serving.{name}",
            f"--inventory={inventory}",
            f"--extra-vars={json.dumps(variables)}",
        ],
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=(OUTPUT / f"{name}.log").open("wb"),
        stderr=subprocess.STDOUT,
        cwd=CHECKOUT,
    )


def ended(process: subprocess.Popen[bytes], name: str) -> float:
    """Wait for a playbook; give the moment of its end.

    :raises FleetError: when it failed.
    """
    if process.wait(120):
        raise FleetError(f"{name} failed:\n{(OUTPUT / f'{name}.log').read_text()[-3000:]}")
    return time.monotonic()


class Automation:
    """ansible-rulebook with the collection's own rulebook, which fails over without a person."""

    def __init__(self) -> None:
        """Write what is watched."""
        self._config = OUTPUT / "model_health.yml"
        self._journal = OUTPUT / "state" / "modelfleet" / "local.journal"
        self._journal.unlink(missing_ok=True)
        self._journal.with_name(f"{self._journal.name}.head").unlink(missing_ok=True)
        ended(playbook("automation", failover_health_config=str(self._config)), "automation")

    @contextmanager
    def at_work(self) -> Iterator[None]:
        """Have it run.

        :raises FleetError: when it does not start.
        """
        folder = CHECKOUT / "build" / "automation" / "python" / "bin"
        log = OUTPUT / "ansible-rulebook.log"
        environment = {
            **os.environ,
            "PATH": f"{folder}:{os.environ['PATH']}",
            "ANSIBLE_CONFIG": str(CHECKOUT / "ansible.cfg"),
            "ANSIBLE_COLLECTIONS_PATH": str(CHECKOUT / "build" / "collections"),
            "ANSIBLE_NOCOLOR": "1",
            "XDG_STATE_HOME": str(OUTPUT / "state"),
            "model_health_config": str(self._config),
        }
        command = [
            *(*LEFT_OVER, str(folder / "ansible-rulebook"), "--rulebook=modelfleet.serving.failover", "-v"),
            *("--env-vars=model_health_config", f"--inventory={INVENTORY}"),
        ]
        with log.open("wb") as output:
            process = subprocess.Popen(command, env=environment, cwd=OUTPUT, stdout=output, stderr=subprocess.STDOUT)
        try:
            until(lambda: b"Waiting for events" in log.read_bytes(), 90, f"ansible-rulebook does not start; see {log}.")
            yield
        finally:
            process.terminate()
            process.wait()

    def runs(self) -> int:
        """Count the failovers that are verified."""
        return sum(entry.event == "completed" for entry in read(self._journal).entries)

    def verified(self, before: int) -> tuple[float, float]:
        """Wait for one more verified failover; give the moments of its start and of its verification.

        :raises FleetError: when none comes.
        """
        until(lambda: self.runs() > before, 90, "no failover was verified.", 0.05)
        entries = read(self._journal).entries
        intent, verified = (
            next(entry for entry in reversed(entries) if entry.event == event) for event in ("intent", "completed")
        )
        offset = time.monotonic() - time.time()
        started, ended = (
            datetime.fromisoformat(text).timestamp() + offset for text in (intent.data["started"], verified.time)
        )
        return started, ended


def idle(seconds: float) -> float:
    """Give the share of the machine that nobody used for so long."""

    def ticks() -> tuple[int, int]:
        numbers = [int(word) for word in Path("/proc/stat").read_text().split("\n", 1)[0].split()[1:]]
        return numbers[3] + numbers[4], sum(numbers[:8])

    free, every = ticks()
    time.sleep(seconds)
    free_after, every_after = ticks()
    return (free_after - free) / (every_after - every)


def streams(size: int) -> list[Stream]:
    """Give the load: fast predictions of one size, and a few slow ones."""
    name, usual = ("BENCH_RATE", 200) if size == SMALL else ("BENCH_BIG_RATE", 20)
    fast = Stream(HALF_PLUS_TWO, float(os.environ.get(name) or usual), REQUEST, RESPONSE, size)
    path = "/v1/models/slow:predict"
    slow = [
        Stream(path, SLOW_RATE, {"instances": [seconds]}, {"predictions": [seconds]}, size, honest=seconds)
        for seconds in HONEST
    ]
    return [fast, *slow]


def measure(case: str, size: int, endpoint: Endpoint, automation: Automation) -> tuple[list[Json], list[list[Any]]]:
    """Run one case; give its rows, one a model, and the fast requests near its fault for the plot."""
    endpoint.activate()
    if case == "failback":
        endpoint.change(members=[{"name": VICTIM, "state": "drained"}])
    endpoint.healthy()
    # What the fault before left behind, as pods that start anew, is over.
    until(lambda: idle(10) > QUIET, 180, f"the machine is not idle for {QUIET:.0%} of its time.", 0)
    kinds = streams(size)
    problem = ""
    started: float | None = None
    verified: float | None = None
    work = automation.at_work() if case in FAULTS else nullcontext()
    with work, tempfile.TemporaryDirectory() as folder, load(URL, kinds, Path(folder)) as running:
        time.sleep(BEFORE)
        before = automation.runs()
        with fault(case, VICTIM) if case in FAULTS else nullcontext(time.monotonic()) as began:
            try:
                if case in FAULTS:
                    started, verified = automation.verified(before)
                else:
                    name, variable = ("failover", "failover_from") if case == "drain" else ("failback", "failover_to")
                    verified = ended(playbook(name, **{variable: VICTIM}), name)
            except FleetError as error:
                problem = str(error)
            time.sleep(max(0.0, began + AFTER - time.monotonic()))
            samples = running.stop()
    if case == "wrong":
        # The Service's change takes a while to reach the edge; the fault is what users see.
        began = min((sample.at for sample in samples if sample.outcome == WRONG), default=began)

    def since(moment: float | None) -> float | None:
        return round(moment - began, 2) if moment is not None else None

    rows = [
        {
            "fault": case,
            "body_bytes": size,
            **_summary(samples, kinds, model, began),
            "started_seconds": since(started),
            "verified_seconds": since(verified),
            "problem": problem,
            "load_average": round(os.getloadavg()[0], 1),
        }
        for model in ("half_plus_two", "slow")
    ]
    first, last = WINDOW
    near = [
        [round(sample.at - began, 4), round(sample.seconds, 4), sample.outcome]
        for sample in samples
        if sample.stream == 0 and first <= sample.at - began <= last
    ]
    return rows, near


def _summary(samples: Sequence[Sample], kinds: Sequence[Stream], model: str, began: float) -> Json:
    numbers = {number for number, kind in enumerate(kinds) if f"/{model}:" in kind.path}
    chosen = [sample for sample in samples if sample.stream in numbers]
    rate = sum(kinds[number].rate for number in numbers)
    return {"model": model, "rate": rate, **asdict(outcome(chosen, kinds, began))}


def show(row: Json) -> None:
    """Print a row."""
    words = ("requests", "lost", "wrong", "affected", "slowest_seconds", "affected_seconds", "verified_seconds")
    figures = ", ".join(f"{word} {row[word]}" for word in words)
    print(f"{row['fault']} {row['body_bytes']} {row['model']}: {figures} {row['problem'][-300:]}", flush=True)


def keep(path: Path, new: Any, same: Callable[[Any], object]) -> None:
    """Put rows into a file in the place of those of the same case."""
    old = json.loads(path.read_text()) if path.exists() else []
    names = {same(row) for row in new}
    order = {case: number for number, case in enumerate(CASES)}
    rows = [row for row in old if same(row) not in names] + list(new)
    rows.sort(key=lambda row: (order[row["fault"]], row["body_bytes"]))
    path.write_text("[\n" + ",\n".join(json.dumps(row) for row in rows) + "\n]\n")


def main() -> int:
    """Measure, write the figures and show them."""
    cases = sys.argv[1:] or CASES
    sizes = [int(size) for size in os.environ.get("BENCH_BYTES", f"{SMALL},{BIG}").split(",")]
    if unknown := set(cases) - set(CASES):
        print(f"No such faults: {', '.join(sorted(unknown))}. There are {', '.join(CASES)}.", file=sys.stderr)
        return 2
    OUTPUT.mkdir(parents=True, exist_ok=True)
    endpoint = Endpoint()
    found = endpoint.info()
    states = [{"name": member["name"], "state": member["state"]} for member in found["members"]]
    # What an inventory does not name stays as it is, so its own playbook would not bring this back.
    max_body = found["endpoint"]["settings"]["max_body"]
    failed = False
    try:
        for size in sizes:
            write_inventory(size)
            ended(playbook("endpoint"), "endpoint")
            automation = Automation()
            with slow_model(endpoint):
                for case in cases:
                    rows, near = measure(case, size, endpoint, automation)
                    for row in rows:
                        show(row)
                    failed |= any(row["problem"] for row in rows)
                    keep(RESULTS, rows, lambda row: (row["fault"], row["body_bytes"], row["model"]))
                    plotted = {"fault": case, "body_bytes": size, "requests": near}
                    keep(REQUESTS, [plotted], lambda row: (row["fault"], row["body_bytes"]))
                endpoint.activate()
                endpoint.healthy()
    except FleetError as error:
        print(f"The benchmark failed: {error}", file=sys.stderr)
        return 1
    finally:
        endpoint.change(members=states, haproxy={**HAPROXY, "max_body": max_body})
        ended(playbook("endpoint", FLEET), "endpoint")
    return int(failed)


if __name__ == "__main__":
    assert VICTIM in CLUSTERS
    sys.exit(main())
