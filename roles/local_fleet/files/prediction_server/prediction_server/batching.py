# SPDX-FileCopyrightText: The modelfleet maintainers
# SPDX-License-Identifier: GPL-3.0-or-later
"""Requests that come at the same time run as one, as --enable_batching has it.

Source: TF Serving's batching/batching_session.cc and servables/tensorflow/bundle_factory_util.h and .cc, TensorFlow's
core/kernels/batching_util/shared_batch_scheduler.h.
"""

from __future__ import annotations

import collections
import dataclasses
import os
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from tensorflow.core.protobuf import config_pb2

from . import metrics
from .errors import Code, ServingError, invalid
from .json_tensors import Array
from .log import error, info

Inputs = Mapping[str, tuple[Array, int]]
"""Tensors by name, each with its `DataType` number."""

PER_MODEL_FILE = "batching_params.pbtxt"


class Runner(Protocol):
    """What can run a loaded model: TensorFlow's session, or a batching one around it."""

    def run(self, inputs: Inputs, outputs: Sequence[str], run_options: bytes = b"") -> list[Array]:
        """Feed tensors by name, and fetch others."""

    def close(self) -> None:
        """Free the model."""


@dataclasses.dataclass(frozen=True)
class Parameters:
    """BatchingParameters with its defaults. Sizes are rows: the sizes of the inputs' first dimension."""

    max_batch_size: int = 1000
    batch_timeout_micros: int = 0
    max_enqueued_batches: int = 10
    allowed_batch_sizes: tuple[int, ...] = ()
    pad_variable_length_inputs: bool = False
    enable_large_batch_splitting: bool = False
    max_execution_batch_size: int = 0

    @classmethod
    def from_proto(cls, proto: Any) -> Parameters:
        """Raises INVALID_ARGUMENT for what the scheduler does not take."""
        wrapped = ("max_batch_size", "batch_timeout_micros", "max_enqueued_batches", "enable_large_batch_splitting")
        given = {name: getattr(proto, name).value for name in wrapped if proto.HasField(name)}
        limit = given.get("max_batch_size", cls.max_batch_size)
        execution = limit
        if given.get("enable_large_batch_splitting") and proto.HasField("max_execution_batch_size"):
            execution = proto.max_execution_batch_size.value
        found = cls(
            **given,
            allowed_batch_sizes=tuple(proto.allowed_batch_sizes),
            pad_variable_length_inputs=proto.pad_variable_length_inputs,
            max_execution_batch_size=execution,
        )
        found.check()
        return found

    def check(self) -> None:
        """Raise INVALID_ARGUMENT as WrapSessionForBatching() and AddQueue() do."""
        if self.allowed_batch_sizes and self.allowed_batch_sizes[-1] != self.max_batch_size:
            raise invalid(
                "Last entry in allowed_batch_sizes must match max_batch_size; last entry was"
                f" {self.allowed_batch_sizes[-1]}; expected {self.max_batch_size}"
            )
        if self.max_batch_size == 0:
            raise invalid("input_batch_size_limit must be positive; was 0")
        if self.batch_timeout_micros < 0:
            raise invalid(f"batch_timeout_micros must be non-negative; was {self.batch_timeout_micros}")
        if self.max_enqueued_batches == 0:
            raise invalid("max_enqueued_batches must be positive; was 0")

    def padded(self, size: int) -> int:
        """The lowest allowed size that holds so many rows."""
        return next((allowed for allowed in self.allowed_batch_sizes if allowed >= size), size)


@dataclasses.dataclass
class _Task:
    """A request, or a part of one. `deadline` and `enqueued` are in seconds of the monotonic clock."""

    inputs: Inputs
    size: int
    run_options: Any
    enqueued: float
    deadline: float
    done: threading.Event = dataclasses.field(default_factory=threading.Event)
    results: dict[str, Array] = dataclasses.field(default_factory=dict)
    error: ServingError | None = None

    def part(self, first: int, size: int) -> _Task:
        rows = slice(first, first + size)
        inputs = {name: (array[rows], dtype) for name, (array, dtype) in self.inputs.items()}
        return _Task(inputs, size, self.run_options, self.enqueued, self.deadline)


class _Batch:
    def __init__(self) -> None:
        self.tasks: list[_Task] = []
        self.size = 0


class _Queue:
    """The requests for one set of tensors, in batches of which the last is open. All but `process` need the lock."""

    def __init__(self, parameters: Parameters, process: Callable[[list[_Task]], None]) -> None:
        self.process = process
        self.running = 0
        self._parameters = parameters
        self._limit = parameters.max_execution_batch_size
        self._batches = collections.deque([_Batch()])
        self._opened = 0.0
        self._closing = False

    def schedule(self, task: _Task) -> list[_Task]:
        """Put a request into batches and give its parts: itself, unless it was split. Raises if there is no room."""
        self._check_room(task)
        parts = [task]
        if self._parameters.enable_large_batch_splitting and task.size > self._limit - self._batches[-1].size:
            parts = []
            first, size = 0, self._limit - self._batches[-1].size or self._limit
            while first < task.size:
                size = min(size, task.size - first)
                parts.append(task.part(first, size))
                first, size = first + size, self._limit
        for part in parts:
            if self._batches[-1].size + part.size > self._limit:
                self._batches.append(_Batch())
            if not self._batches[-1].tasks:
                self._opened = time.monotonic()
            self._batches[-1].tasks.append(part)
            self._batches[-1].size += part.size
        return parts

    def _check_room(self, task: _Task) -> None:
        most = self._parameters.max_batch_size
        if task.size > most:
            raise invalid(f"Task size {task.size} is larger than maximum input batch size {most}")
        enqueued, allowed = len(self._batches), self._parameters.max_enqueued_batches
        full = "The batch scheduling queue to which this task was submitted is full; "
        if self._parameters.enable_large_batch_splitting:
            room = (allowed - enqueued) * self._limit + self._limit - self._batches[-1].size
            if task.size > room:
                raise ServingError(
                    Code.UNAVAILABLE,
                    f"{full}task size is {task.size} but scheduling capacity is only {room} (num_enqueued_batches="
                    f"{enqueued}, max_enqueued_batches={allowed}, open_batch_size={self._batches[-1].size},"
                    f" max_execution_batch_size={self._limit})",
                )
        elif self._batches[-1].size + task.size > most and enqueued >= allowed:
            raise ServingError(
                Code.UNAVAILABLE, f"{full}currently {enqueued} batches enqueued and max_enqueued_batches is {allowed}"
            )

    def due(self) -> float | None:
        """When the open batch has waited long enough; None while it is empty."""
        if not self._batches[-1].tasks:
            return None
        if self._closing or self._batches[-1].size >= self._limit:
            return 0.0
        return self._opened + self._parameters.batch_timeout_micros / 1e6

    def take(self, now: float) -> list[_Task] | None:
        """The next batch that is full or due."""
        due = self.due()
        if len(self._batches) == 1 and due is not None and now >= due:
            self._batches.append(_Batch())
        return self._batches.popleft().tasks if len(self._batches) > 1 else None

    def close(self) -> None:
        """Wait for nothing more."""
        self._closing = True

    @property
    def idle(self) -> bool:
        """Whether nothing waits and nothing runs."""
        return not self.running and len(self._batches) == 1 and not self._batches[0].tasks


class Scheduler:
    """The threads that all models share. They take a batch from one queue after the other."""

    def __init__(self, threads: int, name: str) -> None:
        if threads < 1:
            raise invalid(f"num_batch_threads must be positive; was {threads}")
        self._changed = threading.Condition()
        self._queues: list[_Queue] = []
        self._next = 0
        for number in range(threads):
            threading.Thread(target=self._work, name=f"{name}_{number}", daemon=True).start()

    def add(self, queue: _Queue) -> None:
        """Begin to look at a queue."""
        with self._changed:
            self._queues.append(queue)

    def schedule(self, queue: _Queue, task: _Task) -> list[_Task]:
        """Put a request into a queue and give its parts."""
        with self._changed:
            parts = queue.schedule(task)
            self._changed.notify_all()
        return parts

    def remove(self, queue: _Queue) -> None:
        """Let a queue run empty, then forget it."""
        with self._changed:
            queue.close()
            self._changed.notify_all()
            self._changed.wait_for(lambda: queue.idle)
            self._queues.remove(queue)

    def _work(self) -> None:
        while True:
            queue, tasks = self._take()
            queue.process(tasks)
            with self._changed:
                queue.running -= 1
                self._changed.notify_all()

    def _take(self) -> tuple[_Queue, list[_Task]]:
        with self._changed:
            while True:
                now = time.monotonic()
                ordered = self._queues[self._next :] + self._queues[: self._next]
                for queue in ordered:
                    tasks = queue.take(now)
                    if tasks:
                        queue.running += 1
                        self._next = (self._queues.index(queue) + 1) % len(self._queues)
                        return queue, tasks
                due = [moment for queue in ordered if (moment := queue.due()) is not None]
                self._changed.wait(max(min(due) - now, 0.0) if due else None)


class BatchingSession:
    """A session whose concurrent runs with the same inputs and outputs are merged. Thread-safe, but for `close`."""

    def __init__(self, session: Runner, scheduler: Scheduler, parameters: Parameters) -> None:
        info("Wrapping session to perform batch processing")
        self._session, self._scheduler, self._parameters = session, scheduler, parameters
        self._lock = threading.Lock()
        self._queues: dict[tuple[frozenset[str], frozenset[str]], _Queue] = {}

    def run(self, inputs: Inputs, outputs: Sequence[str], run_options: bytes = b"") -> list[Array]:
        """As TensorFlow's session has it, except that each tensor needs a first dimension, the same for all."""
        size = _rows(inputs)
        options = config_pb2.RunOptions.FromString(run_options)
        now = time.monotonic()
        deadline = now + options.timeout_in_ms / 1e3 if options.timeout_in_ms > 0 else float("inf")
        parts = self._scheduler.schedule(self._queue(inputs, outputs), _Task(inputs, size, options, now, deadline))
        for part in parts:
            part.done.wait()
        for part in parts:
            if part.error:
                raise part.error
        if len(parts) == 1:
            return [parts[0].results[name] for name in outputs]
        return [np.concatenate([part.results[name] for part in parts]) for name in outputs]

    def close(self) -> None:
        """Finish what waits, then free the model."""
        for queue in self._queues.values():
            self._scheduler.remove(queue)
        self._session.close()

    def _queue(self, inputs: Inputs, outputs: Sequence[str]) -> _Queue:
        key = frozenset(inputs), frozenset(outputs)
        with self._lock:
            if key not in self._queues:
                names = sorted(key[1])
                self._queues[key] = _Queue(self._parameters, lambda tasks: self._process(tasks, names))
                self._scheduler.add(self._queues[key])
            return self._queues[key]

    def _process(self, tasks: list[_Task], outputs: list[str]) -> None:
        """Run a batch. A failure is that of each of its requests, also of those that did nothing wrong."""
        problem: ServingError | None = None
        try:
            self._run_batch(tasks, outputs)
        except ServingError as caught:
            problem = caught
        except Exception as caught:
            error(f"batching: {caught!r}")
            problem = ServingError(Code.INTERNAL, f"{type(caught).__name__}: {caught}")
        for task in tasks:
            task.error = problem
            task.done.set()

    def _run_batch(self, tasks: list[_Task], outputs: list[str]) -> None:
        now = time.monotonic()
        for task in tasks:
            metrics.QUEUING_LATENCY.add("", amount=(now - task.enqueued) * 1e6)
        last = max(task.deadline for task in tasks)
        if last <= now:
            raise ServingError(Code.RESOURCE_EXHAUSTED, "Run() timeout exceeded while waiting in batching queue")
        options = config_pb2.RunOptions()
        options.CopyFrom(tasks[0].run_options)
        options.timeout_in_ms = 0 if last == float("inf") else max(int((last - now) * 1e3), 1)
        size = sum(task.size for task in tasks)
        padded = self._parameters.padded(size)
        results = self._session.run(self._merge(tasks, padded - size), outputs, options.SerializeToString())
        metrics.WRAPPED_RUNS.add()
        for name, array in zip(outputs, results, strict=True):
            if not array.ndim:
                raise ServingError(Code.FAILED_PRECONDITION, "Batched output tensor has 0 dimensions")
            if len(array) != padded:
                raise ServingError(
                    Code.FAILED_PRECONDITION,
                    "Batched output tensor's 0th dimension does not equal the sum of the 0th dimension sizes of the"
                    " input tensors",
                )
            first = 0
            for task in tasks:
                task.results[name] = array[first : first + task.size]
                first += task.size

    def _merge(self, tasks: list[_Task], padding: int) -> Inputs:
        merged: dict[str, tuple[Array, int]] = {}
        for name, (_first, dtype) in tasks[0].inputs.items():
            arrays = [task.inputs[name][0] for task in tasks]
            if any(task.inputs[name][1] != dtype for task in tasks):
                raise ServingError(
                    Code.INTERNAL,
                    "Tensor concat operation failed: INVALID_ARGUMENT: Cannot concatenate tensors that have different"
                    " data types.",
                )
            if self._parameters.pad_variable_length_inputs and len({array.ndim for array in arrays}) == 1:
                arrays = _grown(arrays)
            if len({array.shape[1:] for array in arrays}) > 1:
                raise ServingError(
                    Code.FAILED_PRECONDITION,
                    f"Tensors with name '{name}' from different tasks have different shapes and padding is turned off."
                    " Set pad_variable_length_inputs to true, or ensure that all tensors with the same name have equal"
                    " dimensions starting with the first dim.",
                )
            # The last request's first row is a valid one, so it fills the batch up.
            arrays += [arrays[-1][:1]] * padding
            merged[name] = (arrays[0] if len(arrays) == 1 else np.concatenate(arrays), dtype)
        return merged


def _rows(inputs: Inputs) -> int:
    """The size of the inputs' first dimension. Source: ComputeTensorBatchSize() in batching/batching_util.h."""
    sizes = set()
    for array, _dtype in inputs.values():
        if not array.ndim:
            raise invalid("Batching Run() input tensors must have at least one dimension")
        sizes.add(len(array))
    if len(sizes) > 1:
        raise invalid("Batching Run() input tensors must have equal 0th-dimension size")
    return sizes.pop() if sizes else 0


def _grown(arrays: list[Array]) -> list[Array]:
    """Arrays made as large as the largest but for their rows, with each one's first value as the filling."""
    shape = tuple(max(sizes) for sizes in zip(*(array.shape[1:] for array in arrays), strict=True))
    grown = []
    for array in arrays:
        if array.shape[1:] == shape:
            grown.append(array)
            continue
        if not array.size:
            raise invalid("Got empty tensor in batch of non-empty tensors.")
        larger = np.full((len(array), *shape), array.flat[0], dtype=array.dtype)
        larger[tuple(slice(0, size) for size in array.shape)] = array
        grown.append(larger)
    return grown


class Batching:
    """What the command line says about batching: the shared threads, and each model's parameters."""

    def __init__(self, proto: Any, read: Callable[[str], Any], *, per_model: bool) -> None:
        """`proto` is a BatchingParameters message and `read` reads one from a file, which each model may have."""
        threads = proto.num_batch_threads.value if proto.HasField("num_batch_threads") else os.cpu_count() or 1
        name = proto.thread_pool_name.value if proto.HasField("thread_pool_name") else "batch_threads"
        self._scheduler = Scheduler(threads, name)
        self._proto, self._read, self._per_model = proto, read, per_model

    def wrap(self, session: Runner, path: str) -> Runner:
        """Batch the runs of a model loaded from `path`, if it wants that. Raises INVALID_ARGUMENT."""
        proto = self._proto
        if self._per_model:
            file = Path(path, PER_MODEL_FILE)
            if not file.exists():
                return session
            proto = self._read(str(file))
        return BatchingSession(session, self._scheduler, Parameters.from_proto(proto))
