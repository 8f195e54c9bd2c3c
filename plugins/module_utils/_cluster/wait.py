# SPDX-FileCopyrightText: The modelfleet maintainers
# SPDX-License-Identifier: GPL-3.0-or-later
"""Wait by watch, with one deadline, and stop at once when what is waited for can't come any more."""

from __future__ import annotations

import math
import queue
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

from ansible_collections.modelfleet.serving.plugins.module_utils._cluster.kinds import Ref
from ansible_collections.modelfleet.serving.plugins.module_utils._cluster.session import Session, ignore
from ansible_collections.modelfleet.serving.plugins.module_utils._errors import (
    ApiError,
    ServingError,
    UnreachableError,
    WaitError,
)

Json = dict[str, Any]

# A watch is opened anew this often, so that a connection that died silently can't hold a wait for long.
_WATCH_SECONDS = 30.0
_UNKNOWN_SECONDS = 1.0
# A server that restarts is back by then.
_OUTAGE_SECONDS = 90.0
# Until its caches are filled, it answers that nobody may do anything.
_WARM_UP_SECONDS = 30.0
_LONGEST_PAUSE_SECONDS = 5.0
# A wait that is over sooner needs no word.
_QUIET_SECONDS = 2.0


@dataclass(frozen=True)
class Deadline:
    """One point in time for everything that a task waits for.

    :param seconds: what the user allowed, for the message.
    """

    at: float
    seconds: float

    @classmethod
    def after(cls, seconds: float) -> Deadline:
        """Give the deadline so many seconds from now."""
        return cls(time.monotonic() + seconds, seconds)

    @property
    def left(self) -> float:
        """Seconds left, never less than zero."""
        return max(0.0, self.at - time.monotonic())


@dataclass(frozen=True)
class Kind:
    """One kind of object to watch in a namespace, cut down by labels.

    :param optional: go on without it where the user may not read it.
    """

    api_version: str
    kind: str
    namespace: str | None
    labels: Mapping[str, str]
    optional: bool = False


News: TypeAlias = "tuple[int, list[Json] | ServingError]"


def wait_until(
    session: Session,
    kinds: list[Kind],
    judge: Callable[[dict[Ref, Json]], str],
    deadline: Deadline,
    progress: Callable[[str], None] = ignore,
) -> dict[Ref, Json]:
    """Watch some kinds until a judge is content with all of their objects.

    :param judge: looks at the objects; gives ``""`` when content, otherwise what is still missing, in words.
        It raises :class:`WaitError` when waiting longer is of no use.
    :param progress: is told what is missing whenever that changes, but for the first moments and never twice a second.
    :returns: the objects as they were when the judge was content.
    :raises WaitError: at the deadline, with the judge's last words.
    """
    news: queue.Queue[News] = queue.Queue()
    stop = threading.Event()
    for number, kind in enumerate(kinds):
        threading.Thread(target=_follow, args=(session, number, kind, news, stop, deadline), daemon=True).start()
    seen: dict[int, list[Json]] = {}
    missing = "no answer from the cluster yet"
    reporter = _Reporter(progress)
    try:
        while True:
            try:
                number, found = news.get(timeout=min(deadline.left, reporter.due(missing)))
            except queue.Empty:
                if not deadline.left:
                    raise too_late(session, missing, deadline) from None
                # Judged again: what the judge gives time to is over at some moment, and no event tells.
            else:
                if isinstance(found, ServingError):
                    raise found
                seen[number] = found
            if len(seen) < len(kinds):
                continue
            objects = {Ref.of(manifest): manifest for manifests in seen.values() for manifest in manifests}
            missing = judge(objects)
            if not missing:
                return objects
    finally:
        stop.set()


def poll_until(
    missing: Callable[[], str], deadline: Deadline, seconds: float, progress: Callable[[str], None] = ignore
) -> str:
    """Ask again and again, for what can't be watched.

    :param missing: gives ``""`` when content, otherwise what is still missing, in words.
    :param seconds: between two askings.
    :returns: what is missing at the deadline; ``""`` when nothing is.
    """
    reporter = _Reporter(progress)
    while (text := missing()) and deadline.left:
        reporter.due(text)
        time.sleep(min(seconds, deadline.left))
    return text


def too_late(session: Session, missing: str, deadline: Deadline) -> WaitError:
    """Give the error of a wait that is over before what it was for has come."""
    return WaitError(
        f"cluster {session.name}: waited {deadline.seconds:g} s: {missing}.",
        hint="Raise wait_timeout if it only needs longer.",
    )


class _Reporter:
    """Tells what is missing when it has changed; what changes faster than a person reads is told when it rests."""

    def __init__(self, progress: Callable[[str], None]) -> None:
        self._progress = progress
        self._told = ""
        self._next = time.monotonic() + _QUIET_SECONDS

    def due(self, missing: str) -> float:
        """Tell it if its time has come; gives the seconds until the next time to look."""
        wait = self._next - time.monotonic()
        if wait > 0:
            return wait
        if missing == self._told:
            return _QUIET_SECONDS
        self._progress(missing)
        self._told = missing
        self._next = time.monotonic() + _QUIET_SECONDS
        return _QUIET_SECONDS


def _follow(
    session: Session, number: int, kind: Kind, news: queue.Queue[News], stop: threading.Event, deadline: Deadline
) -> None:
    """Keep a local list of one kind up to date, and tell it after each change."""
    where = (kind.api_version, kind.kind, kind.namespace)
    known: dict[Ref, Json] = {}
    version, failures, listed = "", 0, False
    answered, refused_since = time.monotonic(), math.inf
    while not stop.is_set() and deadline.left:
        try:
            if not version:
                found, version = session.find_with_version(*where, labels=kind.labels)
                failures, listed, answered, refused_since = 0, True, time.monotonic(), math.inf
                known = {Ref.of(manifest): manifest for manifest in found}
                news.put((number, list(known.values())))
                if not version:  # the server does not know the kind, or not yet
                    stop.wait(min(_UNKNOWN_SECONDS, deadline.left))
                continue
            seconds = min(_WATCH_SECONDS, deadline.left)
            for event in session.watch(*where, labels=kind.labels, version=version, seconds=seconds):
                failures, answered, refused_since = 0, time.monotonic(), math.inf
                manifest = event["object"]
                version = manifest["metadata"]["resourceVersion"]
                if event["type"] == "BOOKMARK":
                    continue
                if event["type"] == "DELETED":
                    known.pop(Ref.of(manifest), None)
                else:
                    known[Ref.of(manifest)] = manifest
                news.put((number, list(known.values())))
                if stop.is_set():
                    return
        except (ApiError, UnreachableError) as error:
            status = getattr(error, "status", 0)
            refused = status in (401, 403)
            now = time.monotonic()
            refused_since = min(refused_since, now) if refused else math.inf
            if kind.optional and refused:
                news.put((number, []))
                return
            # A watch also ends with its server, which must not fail a wait that can still come true. 410: the resource
            # version is too old, and listing anew is the way on.
            failures += 1
            final = not listed or now - refused_since > _WARM_UP_SECONDS
            if now - answered > _OUTAGE_SECONDS or (refused and final):
                news.put((number, error))
                return
            if status and not refused:
                version = ""
            stop.wait(min(0.2 * 2**failures, _LONGEST_PAUSE_SECONDS, deadline.left))
