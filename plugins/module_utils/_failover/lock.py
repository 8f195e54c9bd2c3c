# SPDX-FileCopyrightText: The modelfleet maintainers
# SPDX-License-Identifier: GPL-3.0-or-later
"""The fleet lock, on the API servers of a fleet: all at once, none waited for long. The rules are in ``lease.py``."""

from __future__ import annotations

import queue
import random
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeVar

from ansible_collections.modelfleet.serving.plugins.module_utils._cluster.kinds import Ref
from ansible_collections.modelfleet.serving.plugins.module_utils._cluster.session import Session, connect
from ansible_collections.modelfleet.serving.plugins.module_utils._errors import (
    ApiError,
    InputError,
    ServingError,
    UnreachableError,
)
from ansible_collections.modelfleet.serving.plugins.module_utils._failover.lease import (
    API_VERSION,
    OUTRUN,
    Claim,
    Decision,
    Lease,
    Seen,
    decide,
    explain,
    majority,
    most,
    suffices,
)

T = TypeVar("T")

# Once enough clusters have answered, the others get as long again, and no less than this.
_GRACE_SECONDS = 0.25
# A worker's own time is shorter, so that it tells what it met before it is given up.
_MARGIN_SECONDS = 0.1
# Two that want the same Leases try again after different pauses.
_PAUSE_SECONDS = (0.2, 1.0)


class LockError(ServingError):
    """The lock is not to be had, or was lost; the message names who has it."""


@dataclass(frozen=True)
class ClusterLock:
    """How it stands with the Lease of one cluster."""

    name: str
    held: bool
    holder: str
    error: str


@dataclass(frozen=True)
class Standing:
    """How it stands with the lock.

    :param expires: seconds for which nobody can take it, 0 when it is not held.
    """

    held: bool
    epoch: int
    holder: str
    clusters: tuple[ClusterLock, ...]
    expires: float = 0.0
    changed: bool = False


class _Peer:
    """One cluster: its session, opened when it is first needed, and since when its Lease is as it is."""

    def __init__(self, params: Mapping[str, Any], path: Ref, seconds: float) -> None:
        self.name: str = params["name"]
        self.identity: tuple[Any, ...] = ()
        self.warnings: list[str] = []
        self._params = {**params, "request_timeout": seconds}
        self._ref = path
        self._seconds = seconds - _MARGIN_SECONDS
        self._session: Session | None = None
        self._busy = threading.Lock()
        self._version = ("", "")
        self._since = 0.0

    def read(self) -> Seen:
        """Read the Lease."""

        def work(session: Session, left: Callable[[], float]) -> Seen:
            answer = session.request_once("GET", session.path(self._ref), seconds=left())
            lease = Lease.from_manifest(answer.content)
            now = time.monotonic()
            if self._version != (lease.uid, lease.version):
                self._version, self._since = (lease.uid, lease.version), now
            return Seen(lease, answer.time, now - self._since)

        return self._do(work)

    def write(self, lease: Lease) -> Lease | None:
        """Write a Lease in place of the one that was read; ``None`` when another has written meanwhile."""

        def work(session: Session, left: Callable[[], float]) -> Lease | None:
            manifest = lease.manifest(self._ref.name, str(self._ref.namespace))
            path = session.path(self._ref)
            method, where = ("PUT", path) if lease.exists else ("POST", path.rpartition("/")[0])
            try:
                return Lease.from_manifest(session.request_once(method, where, body=manifest, seconds=left()).content)
            except ApiError as error:
                if error.status == 409:
                    return None
                if error.status == 404 and not lease.exists:
                    error.hint = f"Make the namespace {self._ref.namespace} in this cluster, or give another."
                raise

        return self._do(work)

    def _do(self, work: Callable[[Session, Callable[[], float]], T]) -> T:
        """Do something in the time that the cluster has; a login may take a part of it."""
        if not self._busy.acquire(blocking=False):
            raise UnreachableError(f"cluster {self.name}: it still owes an answer.")
        try:
            end = time.monotonic() + self._seconds
            if self._session is None:
                session = connect(self._params, self.warnings.append)
                session.name = self.name
                server = session.server
                self.identity = (server.url, server.proxy, server.name)
                self._session = session

            def left() -> float:
                rest = end - time.monotonic()
                if rest <= 0:
                    raise UnreachableError(f"cluster {self.name}: its login took longer than {self._seconds:g} s.")
                return rest

            return work(self._session, left)
        finally:
            self._busy.release()

    def close(self) -> None:
        """Close the connections, unless a worker that was given up still has them; it ends by its own time."""
        if self._session is not None and self._busy.acquire(blocking=False):
            self._session.close()


class FleetLock:
    """The lock of one endpoint; use it as a context manager.

    :param clusters: name and connection arguments of each.
    :param seconds: how long one cluster may take for one answer.
    """

    def __init__(self, name: str, namespace: str, clusters: Sequence[Mapping[str, Any]], seconds: float) -> None:
        self._name = name
        self._seconds = seconds
        ref = Ref(API_VERSION, "Lease", f"modelfleet-{name}", namespace)
        self._peers = {params["name"]: _Peer(params, ref, seconds) for params in clusters}

    def __enter__(self) -> FleetLock:
        return self

    def __exit__(self, *_unused: object) -> None:
        for peer in self._peers.values():
            peer.close()

    def warnings(self) -> list[str]:
        """Give what the servers warn of."""
        return [text for peer in self._peers.values() for text in peer.warnings]

    def take(self, claim: Claim, wait: float, check: bool) -> Standing:
        """Take or renew the lock.

        :param wait: seconds to keep trying.
        :param check: only tell whether it could be had.
        :raises LockError: when it can't be had, or, for a claim with an epoch, is lost.
        """
        end = time.monotonic() + wait
        while True:
            try:
                return self._attempt(claim, check)
            except LockError:
                pause = random.uniform(*_PAUSE_SECONDS)
                if time.monotonic() + pause > end:
                    raise
                time.sleep(pause)

    def release(self, holder: str, epoch: int | None, check: bool) -> Standing:
        """Give back what a holder has.

        :param epoch: only Leases of this epoch.
        """
        total = len(self._peers)
        seen, errors = self._read(lambda found: len(found) >= majority(total))
        owned = {
            name: entry
            for name, entry in seen.items()
            if entry.lease.holder == holder and epoch in (None, entry.lease.epoch)
        }
        written, failed = ({}, {}) if check else self._write({name: seen[name].lease.released() for name in owned})
        errors |= failed
        left = {name: entry.lease for name, entry in seen.items()}
        left |= {name: seen[name].lease.released() for name in owned} if check else written
        return Standing(
            False,
            max((entry.lease.epoch for entry in owned.values()), default=0),
            most(list(left.values())),
            tuple(
                ClusterLock(name, False, left[name].holder if name in left else "", errors.get(name, ""))
                for name in self._peers
            ),
            changed=bool(owned if check else written),
        )

    def _attempt(self, claim: Claim, check: bool) -> Standing:
        """Try once."""
        total = len(self._peers)
        # Before the first answer is asked for: a Lease counts from when it was read.
        started = time.monotonic()
        # A minority is enough only when no more of the others can be expected.
        strict = replace(claim, allow_minority=False)
        seen, errors = self._read(lambda found: decide(total, found, strict).epoch > 0)
        decision = decide(total, seen, claim)
        if not decision.epoch:
            raise self._refusal(seen, errors, claim)
        wanted = {name: claim.written(seen[name], decision.epoch) for name in decision.clusters}
        if check:
            written = wanted
        else:
            written, failed = self._write(wanted, lambda found: suffices(total, found, wanted, claim))
            errors |= failed
            if not suffices(total, written, seen, claim):
                raise self._loss(seen, errors, claim, decision, written)
        now = {name: entry.lease for name, entry in seen.items()} | written
        return Standing(
            True,
            decision.epoch,
            claim.holder,
            self._clusters(now, written, errors),
            max(0.0, claim.ttl - (time.monotonic() - started)),
            changed=True,
        )

    def _loss(
        self,
        seen: Mapping[str, Seen],
        errors: dict[str, str],
        claim: Claim,
        decision: Decision,
        written: Mapping[str, Lease],
    ) -> LockError:
        """Give back what this attempt took, and say why it was in vain.

        A lock that was only to be renewed is not given back: it is held until it runs out, or is released. Else the
        holder may have had some of the Leases before; without an epoch of which it has a majority they are no lock.
        """
        if not decision.renews:
            self._write({name: lease.released() for name, lease in written.items()})
        # Who was faster shows in what is there now; and so does what was written without an answer.
        again, unanswered = self._read(lambda found: len(found) >= majority(len(self._peers)))
        if not decision.renews:
            stray = {name: entry.lease for name, entry in again.items() if claim.owns(entry.lease, decision.epoch)}
            self._write({name: lease.released() for name, lease in stray.items()})
        return self._refusal({**seen, **again}, {**errors, **unanswered}, claim)

    def _refusal(self, seen: Mapping[str, Seen], errors: Mapping[str, str], claim: Claim) -> LockError:
        message, hint = explain(len(self._peers), seen, errors, claim)
        leases = {name: entry.lease for name, entry in seen.items()}
        standing = Standing(False, 0, most(list(leases.values())), self._clusters(leases, {}, errors))
        return LockError(
            f"the fleet lock of {self._name} is not to be had: {message}.",
            hint=hint,
            details=as_values(standing),
        )

    def _clusters(
        self, leases: Mapping[str, Lease], held: Mapping[str, Lease], errors: Mapping[str, str]
    ) -> tuple[ClusterLock, ...]:
        found = []
        for name in self._peers:
            holder = leases[name].holder if name in leases else ""
            error = errors.get(name, "") or (f"{holder} has it" if name not in held and holder else "")
            found.append(ClusterLock(name, name in held, holder, error))
        return tuple(found)

    def _read(self, enough: Callable[[dict[str, Seen]], bool]) -> tuple[dict[str, Seen], dict[str, str]]:
        """Read all Leases; gives them, and what went wrong, by cluster."""
        seen, errors = self._all({name: peer.read for name, peer in self._peers.items()}, enough)
        self._require_different({name: entry.lease for name, entry in seen.items()})
        return seen, errors

    def _write(
        self, leases: Mapping[str, Lease], enough: Callable[[dict[str, Lease]], bool] = lambda found: False
    ) -> tuple[dict[str, Lease], dict[str, str]]:
        """Write Leases; gives those that are there now, and why the others are not, by cluster."""

        def write(name: str) -> Lease:
            lease = self._peers[name].write(leases[name])
            if lease is None:
                raise LockError(OUTRUN)
            return lease

        def work(name: str) -> Callable[[], Lease]:
            return lambda: write(name)

        written, errors = self._all({name: work(name) for name in leases}, enough)
        self._require_different(written)
        return written, errors

    def _all(
        self, work: Mapping[str, Callable[[], T]], enough: Callable[[dict[str, T]], bool]
    ) -> tuple[dict[str, T], dict[str, str]]:
        """Do something in all clusters at once; a cluster that is late is given up.

        :param enough: tells by what came whether the rest is worth no more than a short wait.
        """
        answers: queue.Queue[tuple[str, T | Exception]] = queue.Queue()

        def run(name: str) -> None:
            try:
                answers.put((name, work[name]()))
            except Exception as error:  # raised below, where it is seen
                answers.put((name, error))

        started = time.monotonic()
        end = started + self._seconds
        for name in work:
            # Not a pool, whose threads Python waits for when it ends: a plugin that logs in may hang for a minute.
            threading.Thread(target=run, args=(name,), daemon=True).start()
        found: dict[str, T] = {}
        errors: dict[str, str] = {}
        content = False
        while len(found) + len(errors) < len(work):
            try:
                name, answer = answers.get(timeout=max(0.0, end - time.monotonic()))
            except queue.Empty:
                break
            if isinstance(answer, ServingError):
                errors[name] = answer.message.removeprefix(f"cluster {name}: ").rstrip(".")
                if answer.hint and not isinstance(answer, UnreachableError):
                    errors[name] += f". {answer.hint.rstrip('.')}"
            elif isinstance(answer, Exception):
                raise answer
            else:
                found[name] = answer
            if not content and enough(found):
                content = True
                taken = time.monotonic() - started
                end = min(end, time.monotonic() + max(_GRACE_SECONDS, taken))
        late = f"no answer in {time.monotonic() - started:.1f} s"
        return found, errors | {name: late for name in work if name not in found and name not in errors}

    def _require_different(self, leases: Mapping[str, Lease]) -> None:
        """Refuse a list that names one cluster twice: a majority of it would be none.

        :raises InputError: naming both.
        """
        known: dict[Any, str] = {}
        for name, peer in self._peers.items():
            for mark in (peer.identity, leases[name].uid if name in leases else ""):
                if mark and known.setdefault(mark, name) != name:
                    raise InputError(
                        f"clusters: {known[mark]} and {name} are the same cluster.",
                        hint="Give each its own kubeconfig and context, or host.",
                    )


def as_values(standing: Standing) -> dict[str, Any]:
    """Give what the module returns."""
    return {
        "held": standing.held,
        "epoch": standing.epoch,
        "holder": standing.holder,
        "clusters": [vars(cluster) for cluster in standing.clusters],
        "expires_seconds": round(standing.expires, 1),
    }
