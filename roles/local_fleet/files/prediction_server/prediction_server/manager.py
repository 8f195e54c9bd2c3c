# SPDX-FileCopyrightText: The modelfleet maintainers
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which versions are loaded: the states of all, and the loop that brings them to what is wanted.

Source: TF Serving's core/aspired_versions_manager.cc, availability_preserving_policy.cc, loader_harness.cc,
basic_manager.cc and servable_state_monitor.cc.
"""

from __future__ import annotations

import ctypes
import dataclasses
import enum
import os
import threading
import time
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor

from .errors import Code, ServingError
from .log import error, info
from .servable import Servable


class State(enum.IntEnum):
    """The states that GetModelStatus shows, with the numbers of ModelVersionStatus.State."""

    START = 10
    LOADING = 20
    AVAILABLE = 30
    UNLOADING = 40
    END = 50


class _Harness(enum.Enum):
    NEW = enum.auto()
    LOADING = enum.auto()
    READY = enum.auto()
    UNLOADING = enum.auto()
    DISABLED = enum.auto()
    FAILED = enum.auto()


_INTERVAL = 0.1  # seconds between two looks at what is wanted


@dataclasses.dataclass
class _Managed:
    name: str
    version: int
    path: str
    aspired: bool = True
    state: _Harness = _Harness.NEW
    servable: Servable | None = None
    cancelled: threading.Event = dataclasses.field(default_factory=threading.Event)

    @property
    def id(self) -> str:
        return f"{{name: {self.name} version: {self.version}}}"


@dataclasses.dataclass(frozen=True)
class VersionState:
    """What GetModelStatus says of one version."""

    state: State
    error: ServingError | None = None


class StateMonitor:
    """The last known state of every version that ever was; `listen` gives a fresh one that knows only what follows."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._states: dict[str, dict[int, VersionState]] = {}
        self._listeners: list[StateMonitor] = []

    def publish(self, name: str, version: int, state: State, problem: ServingError | None = None) -> None:
        """Record a change."""
        with self._changed:
            self._states.setdefault(name, {})[version] = VersionState(state, problem)
            listeners = list(self._listeners)
            self._changed.notify_all()
        for listener in listeners:
            listener.publish(name, version, state, problem)

    def listen(self) -> StateMonitor:
        """A new monitor without a past."""
        fresh = StateMonitor()
        with self._changed:
            self._listeners.append(fresh)
        return fresh

    def forget(self, listener: StateMonitor) -> None:
        """Stop telling a monitor that `listen` gave."""
        with self._changed:
            self._listeners.remove(listener)

    def versions(self, name: str) -> dict[int, VersionState]:
        """The states of a model's versions, the highest version first."""
        with self._changed:
            return dict(sorted(self._states.get(name, {}).items(), reverse=True))

    def wait_available(self, names: Iterable[str]) -> None:
        """Block until each model has a version that is AVAILABLE; raises UNKNOWN if one failed instead."""
        wanted = set(names)
        with self._changed:
            while True:
                reached = {name: self._reached(name) for name in wanted}
                if all(version is not None for version in reached.values()):
                    break
                self._changed.wait()
            failed = []
            for name, version in sorted(reached.items()):
                state = self._states[name][version or 0]
                if state.state is not State.AVAILABLE:
                    cause = f" due to error: {state.error}" if state.error else ""
                    failed.append(f"{{{{name: {name} version: {version}}}{cause}}}, ")
        if failed:
            raise ServingError(
                Code.UNKNOWN, f"{len(failed)} servable(s) did not become available: {{{''.join(failed)}}}"
            )

    def _reached(self, name: str) -> int | None:
        # The highest version that is done, well or not, speaks for its model.
        for version, state in sorted(self._states.get(name, {}).items(), reverse=True):
            if state.state in (State.AVAILABLE, State.END):
                return version
        return None


class Manager:
    """Loads and unloads versions so that those wanted are served, a new one always before the old one goes."""

    def __init__(
        self,
        load: Callable[[str, int, str], Servable],
        monitor: StateMonitor,
        *,
        max_retries: int,
        retry_interval: float,
        load_threads: int,
        unload_threads: int,
    ) -> None:
        """`load` makes a Servable of a name, a version and a path. `retry_interval` is in seconds, negative for none.

        With no threads of their own, loads and unloads run in the manager's loop one after another, as TF Serving
        does by default: a load that is retried holds up all others.
        """
        self._load, self._monitor = load, monitor
        self._max_retries, self._retry_interval = max_retries, retry_interval
        self._lock = threading.Lock()
        self._managed: dict[str, dict[int, _Managed]] = {}
        self._pending: dict[str, dict[int, str]] = {}
        self._serving: dict[str, dict[int, Servable]] = {}
        self._threads = load_threads
        self._loaders = ThreadPoolExecutor(max(load_threads, 4 * (os.cpu_count() or 1)), "load")
        self._unloaders = ThreadPoolExecutor(unload_threads, "unload") if unload_threads else None
        # Until the first models are there, loads run side by side ("fast initial load").
        self._initial = True
        threading.Thread(target=self._loop, name="manager", daemon=True).start()

    def initial_load_done(self) -> None:
        """From now on loads use only the threads that were asked for."""
        self._initial = False

    def aspire(self, name: str, versions: dict[int, str]) -> None:
        """Say which versions of a model are wanted, with the path of each. None at all means to unload the model."""
        with self._lock:
            self._pending[name] = dict(versions)

    def acquire(self, name: str, version: int | None) -> Servable:
        """The servable for a request, whose `release` must be called after it; raises NOT_FOUND."""
        # One more look if it is unloaded between being found and being taken.
        for _ in range(3):
            versions = self._serving.get(name)
            servable = None
            if versions:
                servable = versions.get(max(versions) if version is None else version)
            if servable is None:
                break
            if servable.acquire():
                return servable
        wanted = f"Latest({name})" if version is None else f"Specific({name}, {version})"
        raise ServingError(Code.NOT_FOUND, f"Servable not found for request: {wanted}")

    # -- the loop

    def _loop(self) -> None:
        while True:
            started = time.monotonic()
            try:
                with self._lock:
                    self._flush()
                    self._take_pending()
                    actions = self._actions()
                # The policy names one action at a time for each model; all that are due are done in this round.
                for action in actions:
                    action()
                if actions:
                    continue
            except Exception as problem:
                error(f"manager: {problem!r}")
            time.sleep(max(0.0, _INTERVAL - (time.monotonic() - started)))

    def _flush(self) -> None:
        for name, versions in list(self._managed.items()):
            for version, managed in list(versions.items()):
                if not managed.aspired and managed.state in (_Harness.NEW, _Harness.DISABLED, _Harness.FAILED):
                    del versions[version]
                    if managed.state is _Harness.NEW:
                        self._monitor.publish(name, version, State.END)
            if not versions:
                del self._managed[name]

    def _take_pending(self) -> None:
        for name, wanted in list(self._pending.items()):
            current = self._managed.get(name, {})
            # A version that is wanted again while it still goes must be gone first.
            if any(not managed.aspired and version in wanted for version, managed in current.items()):
                continue
            del self._pending[name]
            for version, managed in current.items():
                if version not in wanted:
                    managed.aspired = False
                    managed.cancelled.set()
            for version, path in wanted.items():
                if version not in current:
                    self._managed.setdefault(name, {})[version] = _Managed(name, version, path)
                    self._monitor.publish(name, version, State.START)

    def _actions(self) -> list[Callable[[], None]]:
        actions: list[Callable[[], None]] = []
        for versions in self._managed.values():
            action = self._next(versions)
            if action:
                actions.append(action)
        return actions

    def _next(self, versions: dict[int, _Managed]) -> Callable[[], None] | None:
        aspired = [managed for managed in versions.values() if managed.aspired]
        serving = any(managed.state is _Harness.READY for managed in aspired)
        leaving = [m for m in versions.values() if not m.aspired and m.state is _Harness.READY]
        if leaving and (not aspired or serving or len(leaving) > 1):
            lowest = min(leaving, key=lambda managed: managed.version)
            lowest.state = _Harness.UNLOADING
            return lambda: self._start_unload(lowest)
        new = [managed for managed in aspired if managed.state is _Harness.NEW]
        if new:
            highest = max(new, key=lambda managed: managed.version)
            highest.state = _Harness.LOADING
            return lambda: self._start_load(highest)
        return None

    def _start_load(self, managed: _Managed) -> None:
        if self._initial or self._threads:
            self._loaders.submit(self._do_load, managed)
        else:
            self._do_load(managed)

    def _do_load(self, managed: _Managed) -> None:
        self._monitor.publish(managed.name, managed.version, State.LOADING)
        info(f"Loading servable version {managed.id}")
        problem = ServingError(Code.UNKNOWN, "not loaded")
        for attempt in range(self._max_retries + 1):
            if attempt:
                info(f"Retrying of Loading servable: {managed.id} retry: {attempt}")
                if managed.cancelled.wait(max(self._retry_interval, 0)):
                    break
            try:
                servable = self._load(managed.name, managed.version, managed.path)
            except ServingError as caught:
                problem = caught
            except Exception as caught:
                problem = ServingError(Code.UNKNOWN, str(caught))
            else:
                self._loaded(managed, servable)
                return
            error(f"Loading servable: {managed.id} failed: {problem}")
        with self._lock:
            managed.state = _Harness.FAILED
        error(f"Servable {managed.id} cannot be loaded: {problem}")
        self._monitor.publish(managed.name, managed.version, State.END, problem)

    def _loaded(self, managed: _Managed, servable: Servable) -> None:
        if managed.cancelled.is_set():
            servable.close()
            with self._lock:
                managed.state = _Harness.DISABLED
            cancelled = ServingError(Code.CANCELLED, "Loading of servable cancelled")
            self._monitor.publish(managed.name, managed.version, State.END, cancelled)
            return
        with self._lock:
            managed.servable = servable
            managed.state = _Harness.READY
            # A new dictionary each time, so that requests may read without the lock.
            self._serving[managed.name] = self._serving.get(managed.name, {}) | {managed.version: servable}
        info(f"Successfully loaded servable version {managed.id}")
        self._monitor.publish(managed.name, managed.version, State.AVAILABLE)

    def _start_unload(self, managed: _Managed) -> None:
        if self._unloaders:
            self._unloaders.submit(self._do_unload, managed)
        else:
            self._do_unload(managed)

    def _do_unload(self, managed: _Managed) -> None:
        self._monitor.publish(managed.name, managed.version, State.UNLOADING)
        info(f"Quiescing servable version {managed.id}")
        with self._lock:
            rest = {
                version: item for version, item in self._serving[managed.name].items() if version != managed.version
            }
            if rest:
                self._serving[managed.name] = rest
            else:
                del self._serving[managed.name]
        if managed.servable:
            managed.servable.close()
            managed.servable = None
        _trim_memory()
        with self._lock:
            managed.state = _Harness.DISABLED
        info(f"Done unloading servable version {managed.id}")
        self._monitor.publish(managed.name, managed.version, State.END)


def _trim_memory() -> None:
    # Two versions stood side by side: give what the old one held back to the system, where the C library can.
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim:
        trim(0)
