# SPDX-FileCopyrightText: The modelfleet maintainers
# SPDX-License-Identifier: GPL-3.0-or-later
"""How many requests a second something answers right and in time: more and more at once, until it does not."""

from __future__ import annotations

import itertools
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from ansible_collections.modelfleet.serving.plugins.module_utils._tfserving.golden import Golden
from ansible_collections.modelfleet.serving.plugins.module_utils._tfserving.probe import Verdict, ask
from ansible_collections.modelfleet.serving.plugins.module_utils._tfserving.rest import Transport

# A step that is not better by this much was the last: what is asked, or this machine, is at its limit.
_WORTH_IT = 1.05


@dataclass(frozen=True)
class Limits:
    """What bounds a measurement.

    :param latency: seconds that 95 of 100 answers must not exceed.
    :param step_seconds: how long each step lasts.
    :param seconds: how long all of them may.
    :param requests: how many requests to send in all.
    :param at_once: how many requests to have under way at most.
    """

    latency: float
    step_seconds: float
    seconds: float
    requests: int
    at_once: int


@dataclass(frozen=True)
class Step:
    """What came of so many requests at once.

    :param rate: right answers a second.
    :param latency: seconds that 95 of 100 answers did not exceed.
    :param error: the first answer that was not right, in words; ``""`` when all were.
    """

    at_once: int
    requests: int
    rate: float
    latency: float
    error: str


def measure(connect: Callable[[], Sequence[tuple[Transport, Golden]]], limits: Limits) -> tuple[list[Step], str]:
    """Double the requests at once until the answers are late or wrong, are no more than before, or a bound is met.

    :param connect: gives what to ask in turn, over connections that one thread has for itself.
    :returns: the steps, and what ended them: ``latency``, ``error``, ``saturated``, ``time``, ``requests`` or
        ``at_once``. The last step is over the limit when that is one of the first two.
    """
    end = time.monotonic() + limits.seconds
    steps: list[Step] = []
    at_once = 1
    while True:
        left = limits.requests - sum(step.requests for step in steps)
        seconds = min(limits.step_seconds, end - time.monotonic())
        if left < at_once:
            return steps, "requests"
        if seconds < limits.step_seconds and steps:
            return steps, "time"
        step = _step(connect, at_once, seconds, left)
        best = max((earlier.rate for earlier in steps), default=0.0)
        steps.append(step)
        if step.error:
            return steps, "error"
        if step.latency > limits.latency:
            return steps, "latency"
        if step.rate < best * _WORTH_IT:
            return steps, "saturated"
        if at_once == limits.at_once:
            return steps, "at_once"
        at_once = min(2 * at_once, limits.at_once)


def _step(
    connect: Callable[[], Sequence[tuple[Transport, Golden]]], at_once: int, seconds: float, requests: int
) -> Step:
    verdicts: list[Verdict] = []
    tickets = iter(range(requests))
    lock = threading.Lock()
    wrong = threading.Event()
    start = time.monotonic()

    def work() -> None:
        for send, golden in itertools.cycle(connect()):
            with lock:
                granted = next(tickets, None) is not None
            if not granted or wrong.is_set() or time.monotonic() - start >= seconds:
                return
            verdict = ask(send, golden)
            verdicts.append(verdict)
            if not verdict.right:
                wrong.set()

    threads = [threading.Thread(target=work, daemon=True) for _number in range(at_once)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    taken = time.monotonic() - start
    latencies = sorted(verdict.seconds for verdict in verdicts)
    return Step(
        at_once,
        len(verdicts),
        round(sum(verdict.right for verdict in verdicts) / taken, 1),
        latencies[int(0.95 * (len(latencies) - 1))] if latencies else 0.0,
        next((verdict.error for verdict in verdicts if not verdict.right), ""),
    )
