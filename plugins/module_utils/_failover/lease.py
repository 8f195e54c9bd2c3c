# SPDX-FileCopyrightText: The modelfleet maintainers
# SPDX-License-Identifier: GPL-3.0-or-later
"""The fleet lock's rules: whose a Lease is, who may take it, and under which epoch. Pure.

The protocol: read the Leases of all clusters, choose an epoch above every one that was read, and write the Leases that
are free, each only if it still is what was read (compare and swap by its resource version). Who has written a majority
holds the lock. Two majorities share a cluster. There, one has written before the other has read, or else the other's
write would have failed; so the other has read the first one's epoch, and chosen a higher one. No epoch is ever held by
two, and a Lease's epoch never falls, also when it is released.

Time only decides when a lock of someone who may be dead can be taken. Two machines' clocks are never compared: when a
Lease was renewed, and what time it is now, are both told by its own API server, in the ``Date`` of its answers. Where
there is no such header, a Lease has run out when this process has seen it unchanged for the whole of its time, which is
how client-go does it. (Several API servers of one cluster are taken for one clock. If they are not, or if it is set
while a lock is held, two may believe that they hold the lock, and the epoch tells the endpoint which one does.)
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Any

Json = dict[str, Any]

API_VERSION = "coordination.k8s.io/v1"
# What is said of a Lease that was another's when it was to be written.
OUTRUN = "another run has written it at the same moment"
# The header Date has whole seconds, so a difference of two may be one too many.
_DATE_SECONDS = 1.0
_TIME_FORMAT = "%Y-%m-%dT%H:%M:%S.%fZ"


@dataclass(frozen=True)
class Lease:
    """A Lease of one cluster.

    :param holder: who has it; empty when nobody does.
    :param epoch: the epoch under which it was taken last; it stays when the Lease is released.
    :param ttl: seconds after which it can be taken by another, unless it is renewed.
    :param acquired: when its holder took it, and when it was renewed last, both by the API server's clock.
    :param metadata: the object's own; empty when the Lease does not exist.
    """

    holder: str = ""
    epoch: int = 0
    ttl: float = 0.0
    acquired: datetime | None = None
    renewed: datetime | None = None
    metadata: Mapping[str, Any] = field(default_factory=dict)

    @classmethod
    def from_manifest(cls, manifest: Mapping[str, Any] | None) -> Lease:
        """Read what the API server gave; ``None`` where it has none."""
        if manifest is None:
            return cls()
        spec = manifest.get("spec") or {}
        return cls(
            spec.get("holderIdentity") or "",
            spec.get("leaseTransitions") or 0,
            spec.get("leaseDurationSeconds") or 0.0,
            _time(spec.get("acquireTime")),
            _time(spec.get("renewTime")),
            manifest["metadata"],
        )

    def manifest(self, name: str, namespace: str) -> Json:
        """Give the object to write; with the version that was read, so that it replaces only that."""
        metadata = self.metadata or {
            "name": name,
            "namespace": namespace,
            "labels": {"app.kubernetes.io/managed-by": "modelfleet"},
        }
        spec: Json = {"leaseTransitions": self.epoch}
        if self.holder:
            spec |= {"holderIdentity": self.holder, "leaseDurationSeconds": int(self.ttl)}
        for key, value in (("acquireTime", self.acquired), ("renewTime", self.renewed)):
            if value is not None:
                spec[key] = value.astimezone(UTC).strftime(_TIME_FORMAT)
        return {"apiVersion": API_VERSION, "kind": "Lease", "metadata": dict(metadata), "spec": spec}

    @property
    def exists(self) -> bool:
        """Tell whether the API server has it."""
        return bool(self.metadata)

    @property
    def uid(self) -> str:
        """Give what no Lease of another cluster has."""
        return str(self.metadata.get("uid", ""))

    @property
    def version(self) -> str:
        """Give what changes with every write."""
        return str(self.metadata.get("resourceVersion", ""))

    def released(self) -> Lease:
        """Give the Lease as nobody's."""
        return replace(self, holder="", ttl=0.0, acquired=None, renewed=None)


@dataclass(frozen=True)
class Seen:
    """A Lease as it was read.

    :param now: the API server's time when it answered; ``None`` where it did not tell.
    :param unchanged: for so many seconds, by its own clock, this process has seen the Lease as it is.
    """

    lease: Lease
    now: datetime | None = None
    unchanged: float = 0.0

    def expired(self) -> bool:
        """Tell whether the holder has let its time pass."""
        if self.unchanged >= self.lease.ttl:
            return True
        age = self.age()
        return age is not None and age >= self.lease.ttl + _DATE_SECONDS

    def age(self) -> float | None:
        """Give the seconds since it was renewed, by the API server's clock; ``None`` where that is not known."""
        if self.now is None or self.lease.renewed is None:
            return None
        return (self.now - self.lease.renewed).total_seconds()


@dataclass(frozen=True)
class Claim:
    """What a run wants.

    :param holder: who it is.
    :param ttl: seconds.
    :param force_holder: a holder from whom the lock is taken though it has not run out.
    :param epoch: only renew the lock of this epoch.
    :param above_epoch: a new epoch is above this one.
    :param allow_minority: whether all clusters that answered are enough.
    """

    holder: str
    ttl: float
    force_holder: str = ""
    epoch: int | None = None
    above_epoch: int = 0
    allow_minority: bool = False

    def may_take(self, seen: Seen) -> bool:
        """Tell whether a Lease is nobody's, the own one, or to be had from its holder."""
        holder = seen.lease.holder
        return not holder or holder == self.holder or holder == self.force_holder or seen.expired()

    def owns(self, lease: Lease, epoch: int) -> bool:
        """Tell whether a Lease is the own one of an epoch."""
        return lease.holder == self.holder and lease.epoch == epoch

    def written(self, seen: Seen, epoch: int) -> Lease:
        """Give the Lease to write in place of one that was read.

        Its time is when it was read, which is before it is written: it runs out too early rather than too late.
        """
        kept = self.owns(seen.lease, epoch)
        acquired = seen.lease.acquired if kept else seen.now
        return Lease(self.holder, epoch, self.ttl, acquired, seen.now, seen.lease.metadata)


@dataclass(frozen=True)
class Decision:
    """What to write.

    :param epoch: the epoch to write; 0 when the lock can't be had.
    :param clusters: where to write it.
    :param renews: whether the lock is held already.
    """

    epoch: int = 0
    clusters: tuple[str, ...] = ()
    renews: bool = False


def majority(total: int) -> int:
    """Give how many of so many clusters are a majority."""
    return total // 2 + 1


def suffices(total: int, names: Collection[str], answered: Collection[str], claim: Claim) -> bool:
    """Tell whether the Leases of these clusters are the lock.

    :param total: the number of clusters of the fleet, whether they answer or not.
    """
    return len(names) >= majority(total) or (claim.allow_minority and bool(names) and set(names) == set(answered))


def decide(total: int, seen: Mapping[str, Seen], claim: Claim) -> Decision:
    """Choose the epoch, and the Leases to write.

    :param seen: the Leases of the clusters that answered.
    """
    own = [entry.lease.epoch for entry in seen.values() if entry.lease.holder == claim.holder]
    epoch = max(own, default=0)
    kept = [name for name, entry in seen.items() if claim.owns(entry.lease, epoch)]
    free = [name for name, entry in seen.items() if claim.may_take(entry)]
    if claim.epoch is not None and claim.epoch != epoch:
        return Decision()
    if suffices(total, kept, seen, claim) and epoch >= claim.above_epoch:
        # Held already. A Lease with a higher epoch, which someone took in vain, must keep it.
        more = [name for name in free if name not in kept and seen[name].lease.epoch < epoch]
        return Decision(epoch, (*kept, *more), renews=True)
    if claim.epoch is not None or not suffices(total, free, seen, claim):
        return Decision()
    highest = max([claim.above_epoch, *(entry.lease.epoch for entry in seen.values())])
    return Decision(highest + 1, tuple(free))


def obstacles(seen: Mapping[str, Seen], claim: Claim) -> dict[str, str]:
    """Say, for each cluster whose Lease can't be taken, who has it and since when."""
    return {name: _tenure(entry) for name, entry in seen.items() if not claim.may_take(entry)}


def _tenure(seen: Seen) -> str:
    lease = seen.lease
    parts = []
    if lease.acquired is not None:
        parts.append(f"since {lease.acquired.astimezone(UTC):%Y-%m-%d %H:%M:%S} UTC")
    age = seen.age()
    if age is not None:
        parts.append(f"renewed {max(0.0, age):.0f} s ago")
    parts.append(f"for {lease.ttl:g} s each time")
    return f"{lease.holder} has it ({', '.join(parts)})"


def most(leases: Collection[Lease]) -> str:
    """Name the holder of the most Leases; empty when nobody has one."""
    holders = [lease.holder for lease in leases if lease.holder]
    return max(sorted(set(holders)), key=holders.count, default="")


def explain(total: int, seen: Mapping[str, Seen], errors: Mapping[str, str], claim: Claim) -> tuple[str, str]:
    """Say why the lock can't be had, and what to do: message and hint.

    :param errors: what went wrong with a cluster, in words.
    """
    taken = obstacles(seen, claim)
    words = _grouped({**errors, **taken})
    if claim.epoch is not None:
        lost = f"{claim.holder} does not hold it with epoch {claim.epoch} any more"
        rivals = most([entry.lease for entry in seen.values()])
        found = f"it is held by {rivals}" if rivals else "nobody holds it"
        reached = len(seen) >= majority(total)
        message = f"{lost}: {found}" if reached else f"{lost}, or too few clusters answer to tell"
        detail = f" ({'; '.join(words)})" if words else ""
        return message + detail, "Stop here, observe the fleet again, and begin a new run."
    message = f"{majority(total)} of {total} clusters are needed; {'; '.join(words)}"
    if taken:
        names = sorted({seen[name].lease.holder for name in taken})
        left = max(_left(seen[name]) for name in taken)
        return message, (
            f"Wait until {', '.join(names)} is done (wait gives it time). If it has died, its lock runs out in"
            f" {left:.0f} s, or give its name as force_holder."
        )
    if OUTRUN in errors.values():
        return message, "Try again, or give wait."
    return message, (
        "Mend the way to these clusters. If they are dead for good, take them out of clusters; allow_minority=true goes"
        " on with those that answer."
    )


def _grouped(texts: Mapping[str, str]) -> list[str]:
    """Say once what is the same of several clusters."""
    names: dict[str, list[str]] = {}
    for name, text in sorted(texts.items()):
        names.setdefault(text, []).append(name)
    return [f"{', '.join(those)}: {text}" for text, those in names.items()]


def _left(seen: Seen) -> float:
    age = seen.age()
    by_date = seen.lease.ttl + _DATE_SECONDS - age if age is not None else seen.lease.ttl
    return max(0.0, min(by_date, seen.lease.ttl - seen.unchanged))


def _time(text: Any) -> datetime | None:
    """Read a time of the API; ``None`` where it is none."""
    try:
        return datetime.fromisoformat(str(text).replace("Z", "+00:00"))
    except ValueError:
        return None
