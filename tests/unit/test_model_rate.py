# SPDX-FileCopyrightText: The modelfleet maintainers
# SPDX-License-Identifier: GPL-3.0-or-later
"""model_rate against a real HTTP edge of known speed."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Any

import pytest
from _doors import run_module
from _edge import Edge

Json = dict[str, Any]
Measure = Callable[..., Json]
GOLDEN = {"request": {"instances": [1.0]}, "response": {"predictions": [2.5]}}
RIGHT = (200, {"predictions": [2.5]})


@pytest.fixture
def measure(edge: Edge) -> Measure:
    def measure(*, check: bool = False, **more: Any) -> Json:
        models = [{"name": "m", "golden": [GOLDEN]}]
        return run_module("model_rate", {"url": edge.url, "models": models, "step_seconds": 0.5, **more}, check=check)

    return measure


def one_by_one(seconds: float) -> Callable[[], tuple[int, Any]]:
    """Answer one request at a time, however many wait."""
    lock = threading.Lock()

    def answer() -> tuple[int, Any]:
        with lock:
            time.sleep(seconds)
        return RIGHT

    return answer


def test_the_rate_within_a_latency(edge: Edge, measure: Measure) -> None:
    edge.predictions["m"] = lambda: (time.sleep(0.04), RIGHT)[1]  # type: ignore[func-returns-value]
    result = measure(max_at_once=4, replicas=2, max_latency=5)
    assert result["limit"] == "at_once"
    assert [step["at_once"] for step in result["steps"]] == [1, 2, 4]
    assert result["steps"][0]["rate"] < result["rate"] <= 100, "four at once, at most 25 a second each"
    assert result["replica_rate"] == pytest.approx(result["rate"] / 2, abs=0.1)
    assert all(step["latency"] >= 0.04 for step in result["steps"])


def test_more_at_once_that_brings_no_more_is_the_end(edge: Edge, measure: Measure) -> None:
    edge.predictions["m"] = one_by_one(0.02)
    result = measure(max_latency=5)
    assert result["limit"] == "saturated"
    assert 0 < result["rate"] <= 50


def test_late_answers_are_the_end_and_do_not_count(edge: Edge, measure: Measure) -> None:
    edge.predictions["m"] = one_by_one(0.3)
    result = measure(max_latency=0.5, step_seconds=1)
    assert result["limit"] == "latency"
    assert result["rate"] == max(step["rate"] for step in result["steps"][:-1])
    assert result["steps"][-1]["latency"] > 0.5


def test_errors_under_load_are_the_end_and_do_not_count(edge: Edge, measure: Measure) -> None:
    running = threading.Semaphore(2)

    def answer() -> tuple[int, Any]:
        if not running.acquire(blocking=False):
            return 503, {"error": "overload"}
        time.sleep(0.02)
        running.release()
        return RIGHT

    edge.predictions["m"] = answer
    result = measure()
    assert (result["limit"], result["steps"][-1]["error"]) == ("error", "overload (503)")
    assert [step["at_once"] for step in result["steps"]] == [1, 2, 4]


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (lambda: (time.sleep(0.2), RIGHT)[1], "one request at a time takes 0.2"),
        (lambda: (200, {"predictions": [7.0]}), "['predictions'][0] is 7.0, not 2.5."),
    ],
)
def test_what_is_not_right_at_rest_is_not_measured(
    edge: Edge, measure: Measure, answer: Callable[[], tuple[int, Any]], words: str
) -> None:
    edge.predictions["m"] = answer
    failed = measure()
    assert failed["failed"] is True
    assert words in failed["msg"]
    assert len(edge.hosts) < 5, "a wrong answer ends it at once"


def test_it_is_bounded_in_number_and_time(edge: Edge, measure: Measure) -> None:
    assert measure(max_requests=7)["limit"] == "requests"
    assert len(edge.hosts) == 7
    started = time.monotonic()
    edge.predictions["m"] = lambda: (time.sleep(0.02), RIGHT)[1]  # type: ignore[func-returns-value]
    assert measure(max_seconds=1.2)["limit"] == "time"
    assert time.monotonic() - started < 2


def test_each_model_is_asked_as_often_by_its_own_host(edge: Edge, measure: Measure) -> None:
    models = [{"name": "a", "golden": [GOLDEN], "host": "a.example.org"}, {"name": "b", "golden": [GOLDEN]}]
    assert measure(models=models, max_requests=20, max_at_once=1)["rate"] > 0
    assert edge.hosts.count("a.example.org") == 10


def test_check_mode_sends_nothing(edge: Edge, measure: Measure) -> None:
    assert measure(check=True)["rate"] is None
    assert not edge.hosts


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ({"url": "edge"}, "url: 'edge' is no usable URL"),
        ({"models": []}, "models is empty"),
        ({"host_header": "a b"}, "host_header: 'a b' is no valid name"),
        *(({name: 0}, f"{name}: 0") for name in ("replicas", "max_latency", "step_seconds", "max_seconds")),
        *(({name: 0}, f"{name}: 0") for name in ("max_requests", "max_at_once", "timeout")),
    ],
)
def test_bad_input_is_refused_before_the_first_request(edge: Edge, measure: Measure, wrong: Json, words: str) -> None:
    failed = measure(**wrong)
    assert failed["failed"] is True
    assert words in failed["msg"]
    assert not edge.hosts
