# SPDX-FileCopyrightText: The modelfleet maintainers
# SPDX-License-Identifier: GPL-3.0-or-later
"""Counters and histograms in TF Serving's Prometheus form, whose names begin with a colon.

Source: util/prometheus_exporter.cc, servables/tensorflow/util.cc, batching/batching_session.cc and
cc/saved_model/loader.cc.
"""

from __future__ import annotations

import bisect
import re
import threading

# 10 us times 1.8 to the power of 0..31, then infinity: about 20 minutes in 33 buckets.
_LIMITS = [10 * 1.8**power for power in range(33)]
# 100 us times 1.2 to the power of 0..51: about a second.
_QUEUING_LIMITS = [100 * 1.2**power for power in range(52)]


class Counter:
    """A number for each set of label values that only grows."""

    def __init__(self, name: str, *labels: str) -> None:
        self.name, self.labels = name, labels
        self._values: dict[tuple[str, ...], int] = {}
        self._lock = threading.Lock()

    def add(self, *values: str, amount: int = 1) -> None:
        """Add to the cell of these label values."""
        with self._lock:
            self._values[values] = self._values.get(values, 0) + amount

    def first(self) -> int:
        """The value of the first cell, which is what HandleReloadConfigRequest compares."""
        return next(iter(self._values.values()), 0)

    def lines(self) -> list[str]:
        """The metric in Prometheus' text format."""
        with self._lock:
            cells = list(self._values.items())
        name = _metric(self.name)
        if not cells:
            return []
        return [f"# TYPE {name} counter", *(f"{name}{{{_labels(self.labels, key)}}} {value}" for key, value in cells)]


class Histogram:
    """A distribution of durations in microseconds for each set of label values."""

    def __init__(self, name: str, *labels: str, limits: list[float] = _LIMITS) -> None:
        self.name, self.labels, self._limits = name, labels, limits
        self._cells: dict[tuple[str, ...], tuple[list[int], list[float]]] = {}
        self._lock = threading.Lock()

    def add(self, *values: str, amount: float) -> None:
        """Record one duration, in microseconds."""
        with self._lock:
            buckets, total = self._cells.setdefault(values, ([0] * (len(self._limits) + 1), [0.0]))
            buckets[bisect.bisect_right(self._limits, amount)] += 1
            total[0] += amount

    def lines(self) -> list[str]:
        """The metric in Prometheus' text format."""
        with self._lock:
            cells = [(key, list(buckets), total[0]) for key, (buckets, total) in self._cells.items()]
        if not cells:
            return []
        name = _metric(self.name)
        lines = [f"# TYPE {name} histogram"]
        for key, buckets, total in cells:
            labels = _labels(self.labels, key)
            count = 0
            for limit, number in zip([*map("{:g}".format, self._limits), "+Inf"], buckets, strict=True):
                count += number
                lines.append(f'{name}_bucket{{{labels}{"," if labels else ""}le="{limit}"}} {count}')
            lines += [f"{name}_sum{{{labels}}} {total:g}", f"{name}_count{{{labels}}} {count}"]
        return lines


def _metric(name: str) -> str:
    return re.sub(r"[^a-zA-Z0-9_]", ":", name)


def _labels(names: tuple[str, ...], values: tuple[str, ...]) -> str:
    quoted = (value.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n") for value in values)
    return ",".join(f'{name}="{value}"' for name, value in zip(names, quoted, strict=True))


REQUEST_COUNT = Counter("/tensorflow/serving/request_count", "model_name", "status")
EXAMPLE_COUNT = Counter("/tensorflow/serving/request_example_count_total", "model")
REQUEST_LATENCY = Histogram("/tensorflow/serving/request_latency", "model_name", "API", "entrypoint")
RUNTIME_LATENCY = Histogram("/tensorflow/serving/runtime_latency", "model_name", "API", "runtime")
WARMUP_LATENCY = Histogram("/tensorflow/serving/model_warmup_latency", "model_path", "status")
WARMUP_RECORDS = Counter("/tensorflow/serving/model_warmup_records_read", "model_path", "status")
# The original names no thread pool here.
QUEUING_LATENCY = Histogram(
    "/tensorflow/serving/batching_session/queuing_latency", "thread_pool_name", limits=_QUEUING_LIMITS
)
WRAPPED_RUNS = Counter("/tensorflow/serving/batching_session/wrapped_run_count")
LOAD_ATTEMPTS = Counter("/tensorflow/cc/saved_model/load_attempt_count", "model_path", "status")
LOAD_LATENCY = Counter("/tensorflow/cc/saved_model/load_latency", "model_path")
ALL: tuple[Counter | Histogram, ...] = (
    LOAD_ATTEMPTS,
    LOAD_LATENCY,
    WARMUP_LATENCY,
    WARMUP_RECORDS,
    QUEUING_LATENCY,
    WRAPPED_RUNS,
    EXAMPLE_COUNT,
    REQUEST_COUNT,
    REQUEST_LATENCY,
    RUNTIME_LATENCY,
)


def page() -> bytes:
    """The whole page."""
    return ("\n".join(line for metric in ALL for line in metric.lines()) + "\n").encode()
