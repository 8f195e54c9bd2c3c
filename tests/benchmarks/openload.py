# SPDX-FileCopyrightText: The modelfleet maintainers
# SPDX-License-Identifier: GPL-3.0-or-later
"""An open load: each request has its moment, whatever became of those before it. ``openload.py PLAN.json OUTPUT``.

A client that waits for an answer before it asks again sends less while a server hangs, and so hides what it looks for
(coordinated omission). Here the time of a request counts from its moment, also when this process itself was late. It
runs as a process of its own, on 127.0.0.1 only, until its time is over or SIGTERM; then it writes one line a request.
Times are those of the machine's monotonic clock, which all processes share.
"""

from __future__ import annotations

import asyncio
import gc
import json
import math
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import urlsplit

import aiohttp

# Nobody waits longer; a request that does is lost.
PATIENCE = 30.0
# What comes while so many wait is lost without being sent: the ways through this machine have their limits, too.
MOST_WAITING = 800
RIGHT, WRONG = "right", "wrong"


@dataclass(frozen=True)
class Stream:
    """Requests of one kind.

    :param rate: requests a second.
    :param body: what is sent; it is padded by spaces to ``size`` bytes.
    :param right: the expected answer.
    :param honest: seconds that an answer takes anyway.
    """

    path: str
    rate: float
    body: Any
    right: Any
    size: int = 0
    tolerance: float = 1e-5
    honest: float = 0.0

    def text(self) -> bytes:
        """Give the body. Spaces before the closing brace leave it valid JSON of the same meaning."""
        compact = json.dumps(self.body)
        return (compact[:-1] + " " * (self.size - len(compact)) + compact[-1]).encode()


class Sample(NamedTuple):
    """One request.

    :param stream: its stream's number.
    :param at: its moment.
    :param seconds: from its moment to the end of its answer.
    :param outcome: ``right``, ``wrong``, or why it was lost.
    """

    stream: int
    at: float
    seconds: float
    outcome: str

    @property
    def lost(self) -> bool:
        """Whether it had no answer."""
        return self.outcome not in (RIGHT, WRONG)


def matches(right: Any, found: Any, tolerance: float) -> bool:
    """Compare as the module model_probe does: relative to the right number, or absolute near zero."""
    if isinstance(right, dict):
        same = isinstance(found, dict) and right.keys() == found.keys()
        return same and all(matches(right[key], found[key], tolerance) for key in right)
    if isinstance(right, list):
        same = isinstance(found, list) and len(right) == len(found)
        return same and all(matches(left, other, tolerance) for left, other in zip(right, found, strict=True))
    if isinstance(right, (int, float)) and isinstance(found, (int, float)):
        return math.isclose(right, found, rel_tol=tolerance, abs_tol=tolerance)
    return bool(right == found)


async def send(url: str, streams: Sequence[Stream], seconds: float, stopped: asyncio.Event) -> list[Sample]:
    """Send until the time is over or somebody says stop, and wait for the last answers."""
    samples: list[Sample] = []
    # No limit: as many connections as it takes.
    connector = aiohttp.TCPConnector(limit=0)
    timeout = aiohttp.ClientTimeout(total=PATIENCE)
    headers = {"Content-Type": "application/json"}
    async with aiohttp.ClientSession(connector=connector, timeout=timeout, headers=headers) as session:

        async def one(number: int, stream: Stream, body: bytes, at: float) -> None:
            try:
                async with session.post(url + stream.path, data=body) as answer:
                    text = await answer.read()
                outcome = f"status {answer.status} {text[:100]!r}"
                if answer.status == 200:
                    outcome = RIGHT if matches(stream.right, json.loads(text), stream.tolerance) else WRONG
            except (aiohttp.ClientError, TimeoutError, ValueError) as error:
                outcome = f"{type(error).__name__} {error}".strip()
            samples.append(Sample(number, at, time.monotonic() - at, outcome))

        began = time.monotonic() + 0.1
        # Streams of one rate do not send at the same moments.
        moments = _merged(
            [(began + number / len(streams) / stream.rate, 1 / stream.rate) for number, stream in enumerate(streams)]
        )
        bodies = [stream.text() for stream in streams]
        running: set[asyncio.Task[None]] = set()
        for at, number in moments:
            if at > began + seconds or stopped.is_set():
                break
            await asyncio.sleep(max(0.0, at - time.monotonic()))
            if len(running) >= MOST_WAITING:
                samples.append(Sample(number, at, time.monotonic() - at, f"{MOST_WAITING} requests wait already"))
                continue
            task = asyncio.create_task(one(number, streams[number], bodies[number], at))
            running.add(task)
            task.add_done_callback(running.discard)
        if running:
            await asyncio.wait(running)
    return sorted(samples, key=lambda sample: sample.at)


def _merged(streams: list[tuple[float, float]]) -> Iterator[tuple[float, int]]:
    turns = [0] * len(streams)
    while True:
        at, number = min((first + turns[i] * pause, i) for i, (first, pause) in enumerate(streams))
        turns[number] += 1
        yield at, number


class Running:
    """A load at work in its process."""

    def __init__(self, process: subprocess.Popen[bytes], output: Path) -> None:
        """Take over the process."""
        self._process, self._output = process, output

    def stop(self) -> list[Sample]:
        """Stop sending, wait for the last answers, and give all requests by their moments."""
        if self._process.poll() is None:
            self._process.terminate()
        if self._process.wait(PATIENCE + 10):
            raise RuntimeError("The load ended with an error.")
        return [Sample(*json.loads(line)) for line in self._output.read_text().splitlines()]


@contextmanager
def load(url: str, streams: Sequence[Stream], folder: Path, seconds: float = 300.0) -> Iterator[Running]:
    """Send in another process, until it is stopped or so many seconds are over."""
    if urlsplit(url).hostname != "127.0.0.1":
        raise ValueError(f"{url} is not on 127.0.0.1, and this load goes nowhere else.")
    plan = {"url": url, "seconds": seconds, "streams": [asdict(stream) for stream in streams]}
    (folder / "plan.json").write_text(json.dumps(plan))
    output = folder / "samples.jsonl"
    process = subprocess.Popen(
        [sys.executable, __file__, str(folder / "plan.json"), str(output)], stdout=subprocess.PIPE
    )
    try:
        assert process.stdout is not None
        process.stdout.readline()
        yield Running(process, output)
    finally:
        process.kill()
        process.wait()


async def _main(plan: dict[str, Any], output: Path) -> None:
    stopped = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stopped.set)
    print("ready", flush=True)
    # A collection of all that was counted would be a pause of the load.
    gc.disable()
    streams = [Stream(**stream) for stream in plan["streams"]]
    samples = await send(plan["url"], streams, plan["seconds"], stopped)
    output.write_text("".join(json.dumps(sample) + "\n" for sample in samples))


def quantile(values: Sequence[float], share: float) -> float:
    """Give the value that this share of the values does not pass."""
    ordered = sorted(values)
    return ordered[max(0, math.ceil(share * len(ordered)) - 1)]


@dataclass(frozen=True)
class Outcome:
    """What a fault did to the requests of a load.

    :param limit_seconds: from where on a request counts as slow, over what its answer takes anyway.
    :param slowest_seconds: the longest that a client waited for an answer.
    :param slowest_over_seconds: the longest over what the answer takes anyway.
    :param affected: requests that were lost, wrong or slow.
    :param affected_seconds: from the fault to the moment of the last affected request; 0 when there was none.
    :param wrong_seconds: from the fault to the moment of the last wrong answer.
    """

    requests: int
    lost: int
    wrong: int
    affected: int
    before_p99_seconds: float
    limit_seconds: float
    slowest_seconds: float
    slowest_over_seconds: float
    affected_seconds: float
    wrong_seconds: float
    errors: tuple[str, ...]


# A request is slow from three times the 99th percentile before the fault on, but not for what a busy machine does.
SLOW_FACTOR, SLOW_AT_LEAST = 3.0, 0.1


def outcome(samples: Sequence[Sample], streams: Sequence[Stream], fault: float) -> Outcome:
    """Sum up a load with one fault in it.

    :param fault: the moment of the fault; the load began at least a few seconds before it.
    """

    def over(sample: Sample) -> float:
        return sample.seconds - streams[sample.stream].honest

    # Requests that were in flight at the fault belong to what it did.
    before = [over(sample) for sample in samples if sample.at + sample.seconds < fault]
    p99 = quantile(before, 0.99)
    limit = max(SLOW_FACTOR * p99, SLOW_AT_LEAST)
    after = [sample for sample in samples if sample.at + sample.seconds >= fault]
    hit = [sample for sample in after if sample.outcome != RIGHT or over(sample) > limit]

    def last(which: Sequence[Sample]) -> float:
        return round(max((sample.at - fault for sample in which), default=0.0), 3)

    return Outcome(
        requests=len(samples),
        lost=sum(sample.lost for sample in samples),
        wrong=sum(sample.outcome == WRONG for sample in samples),
        affected=len(hit),
        before_p99_seconds=round(p99, 4),
        limit_seconds=round(limit, 3),
        slowest_seconds=round(max(sample.seconds for sample in after), 3),
        slowest_over_seconds=round(max(map(over, after)), 3),
        affected_seconds=max(0.0, last(hit)),
        wrong_seconds=max(0.0, last([sample for sample in after if sample.outcome == WRONG])),
        errors=tuple(sorted({sample.outcome for sample in samples if sample.lost}))[:5],
    )


if __name__ == "__main__":
    asyncio.run(_main(json.loads(Path(sys.argv[1]).read_text()), Path(sys.argv[2])))
