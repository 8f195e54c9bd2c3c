# SPDX-FileCopyrightText: The modelfleet maintainers
# SPDX-License-Identifier: GPL-3.0-or-later
"""Wait by watch, with one deadline, and stop at once when what is waited for can't come any more."""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from ansible_collections.modelfleet.serving.plugins.module_utils._cluster.kinds import Ref
from ansible_collections.modelfleet.serving.plugins.module_utils._cluster.pods import is_ready
from ansible_collections.modelfleet.serving.plugins.module_utils._cluster.session import Session
from ansible_collections.modelfleet.serving.plugins.module_utils._errors import (
    ApiError,
    ServingError,
    UnreachableError,
    WaitError,
)

Json = dict[str, Any]

# A watch is opened anew this often, so that a connection that died silently can't hold a wait for long.
_WATCH_SECONDS = 30.0
# Waiting reasons of a container that more waiting does not mend. CrashLoopBackOff comes after two crashes or more.
_HOPELESS_WAITING = frozenset(
    {
        "CrashLoopBackOff",
        "CreateContainerConfigError",
        "ErrImageNeverPull",
        "ErrImagePull",
        "ImagePullBackOff",
        "InvalidImageName",
    }
)


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
    """One kind of object to watch in a namespace, cut down by labels."""

    api_version: str
    kind: str
    namespace: str | None
    labels: Mapping[str, str]


def wait_until(
    session: Session,
    kinds: list[Kind],
    judge: Callable[[dict[Ref, Json]], str],
    deadline: Deadline,
) -> dict[Ref, Json]:
    """Watch some kinds until a judge is content with all of their objects.

    :param judge: looks at the objects; gives ``""`` when content, otherwise what is still missing, in words.
        It raises :class:`WaitError` when waiting longer is of no use.
    :returns: the objects as they were when the judge was content.
    :raises WaitError: at the deadline, with the judge's last words.
    """
    events: queue.Queue[tuple[int, list[Json] | ServingError]] = queue.Queue()
    stop = threading.Event()
    for number, kind in enumerate(kinds):
        threading.Thread(target=_follow, args=(session, number, kind, events, stop, deadline), daemon=True).start()
    seen: dict[int, list[Json]] = {}
    missing = "no answer from the cluster yet"
    try:
        while True:
            try:
                number, news = events.get(timeout=deadline.left)
            except queue.Empty:
                raise WaitError(
                    f"cluster {session.name}: waited {deadline.seconds:g} s: {missing}.",
                    hint="Raise wait_timeout if it only needs longer.",
                ) from None
            if isinstance(news, ServingError):
                raise news
            seen[number] = news
            if len(seen) < len(kinds):
                continue
            objects = {Ref.of(manifest): manifest for manifests in seen.values() for manifest in manifests}
            missing = judge(objects)
            if not missing:
                return objects
    finally:
        stop.set()


def _follow(
    session: Session,
    number: int,
    kind: Kind,
    events: queue.Queue[tuple[int, list[Json] | ServingError]],
    stop: threading.Event,
    deadline: Deadline,
) -> None:
    """Keep a local list of one kind up to date, and tell it after each change."""
    failures = 0
    while not stop.is_set() and deadline.left:
        try:
            found, version = session.find_with_version(kind.api_version, kind.kind, kind.namespace, labels=kind.labels)
            known = {Ref.of(manifest): manifest for manifest in found}
            events.put((number, list(known.values())))
            seconds = min(_WATCH_SECONDS, deadline.left)
            for event in session.watch(
                kind.api_version, kind.kind, kind.namespace, labels=kind.labels, version=version, seconds=seconds
            ):
                failures = 0
                manifest = event["object"]
                if event["type"] == "DELETED":
                    known.pop(Ref.of(manifest), None)
                else:
                    known[Ref.of(manifest)] = manifest
                events.put((number, list(known.values())))
                if stop.is_set():
                    return
        except (ApiError, UnreachableError) as error:
            # 410: the resource version is too old, and listing anew is the way on. A watch also ends with its server:
            # a restart of the API server must not fail a wait that can still come true.
            failures += 1
            if getattr(error, "status", 410) in (401, 403) or failures > 5:
                events.put((number, error))
                return
            stop.wait(min(0.2 * 2**failures, deadline.left))


def rollout_missing(session: Session, deployment: Json | None, pods: list[Json]) -> str:
    """Judge a Deployment's rollout: ``""`` when every replica runs the present template and is available.

    :param pods: those of the present template, see :func:`pods.current_pods`.
    :raises WaitError: when a pod of it can't come up, with the reason and the latest event.
    """
    if deployment is None:
        return "the Deployment does not exist yet"
    status, wanted = deployment.get("status", {}), deployment["spec"].get("replicas", 1)
    if status.get("observedGeneration", 0) < deployment["metadata"]["generation"]:
        return "the rollout has not begun"
    for condition in status.get("conditions", []):
        # A quota or an admission webhook that refuses the pods shows here alone, since no pod exists.
        if condition["type"] == "ReplicaFailure" and condition["status"] == "True":
            raise WaitError(f"cluster {session.name}: {Ref.of(deployment)}: {condition['message']}.")
    for pod in pods:
        require_startable(session, pod)
    updated = status.get("updatedReplicas", 0)
    # The Deployment and its pods are watched apart, so either may be ahead of the other.
    available = min(status.get("availableReplicas", 0), sum(map(is_ready, pods)))
    if updated < wanted or available < wanted or status.get("replicas", 0) > updated:
        name = deployment["metadata"]["name"]
        return f"{name}: {updated} of {wanted} replicas updated, {available} available; {_pods_in_words(pods)}"
    return ""


def _pods_in_words(pods: list[Json]) -> str:
    words = []
    for pod in pods:
        state = pod.get("status", {}).get("phase", "Pending")
        for container in pod.get("status", {}).get("containerStatuses", []):
            waiting = container.get("state", {}).get("waiting")
            if waiting:
                state = waiting.get("reason", state)
            elif not container.get("ready"):
                state = "not ready"
            else:
                state = "ready"
        words.append(f"{pod['metadata']['name']} {state}")
    return ", ".join(sorted(words)) or "no pods yet"


def require_startable(session: Session, pod: Json) -> None:
    """Stop waiting for a pod that can't start, by its containers' states or the scheduler's verdict.

    :raises WaitError: with the reason and the latest event.
    """
    status = pod.get("status", {})
    for container in [*status.get("initContainerStatuses", []), *status.get("containerStatuses", [])]:
        waiting = container.get("state", {}).get("waiting") or {}
        if waiting.get("reason") in _HOPELESS_WAITING:
            died = (container.get("lastState", {}).get("terminated") or {}).get("message", "")
            raise _hopeless(session, pod, waiting["reason"], died or waiting.get("message", ""))
    for condition in status.get("conditions", []):
        if condition["type"] == "PodScheduled" and condition.get("reason") == "Unschedulable":
            # A pod of the old template that is about to leave may free the room, and an autoscaler may make some:
            # unschedulable is final only for what no node could ever satisfy, which the scheduler does not tell. The
            # claim that is missing or unbound for good it does tell.
            message = condition.get("message", "")
            if "not found" in message or "Insufficient" in message or "didn't match" in message:
                raise _hopeless(session, pod, "Unschedulable", message)


def _hopeless(session: Session, pod: Json, reason: str, message: str) -> WaitError:
    name, namespace = pod["metadata"]["name"], pod["metadata"]["namespace"]
    events = [
        event
        for event in session.find("v1", "Event", namespace)
        if event.get("involvedObject", {}).get("name") == name and event.get("type") == "Warning"
    ]
    events.sort(key=lambda event: str(event.get("lastTimestamp") or event.get("eventTime") or ""))
    last = f" Last event: {events[-1].get('reason')}: {str(events[-1].get('message')).rstrip('.')}." if events else ""
    return WaitError(
        f"cluster {session.name}: pod {namespace}/{name} can't start: {reason}: {message.strip().rstrip('.')}.{last}",
        hint="The previous pods keep serving; correct the cause and run again.",
    )
