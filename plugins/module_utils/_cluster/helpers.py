# SPDX-FileCopyrightText: The modelfleet maintainers
# SPDX-License-Identifier: GPL-3.0-or-later
"""Pods and jobs that are there for one task alone: make them, wait for them, and clear them away."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from ansible_collections.modelfleet.serving.plugins.module_utils._cluster.execute import PodShell
from ansible_collections.modelfleet.serving.plugins.module_utils._cluster.kinds import Ref
from ansible_collections.modelfleet.serving.plugins.module_utils._cluster.readiness import (
    not_ready,
    require_startable,
    wait_gone,
)
from ansible_collections.modelfleet.serving.plugins.module_utils._cluster.session import Session
from ansible_collections.modelfleet.serving.plugins.module_utils._cluster.wait import Deadline, Kind, wait_until
from ansible_collections.modelfleet.serving.plugins.module_utils._errors import ApiError, ServingError, WaitError

Json = dict[str, Any]
Tell = Callable[[str], None]


@contextmanager
def pod_shell(session: Session, manifest: Json, deadline: Deadline, progress: Tell) -> Iterator[PodShell]:
    """Run commands in a pod that is made for this alone, and removed afterwards; it has one container.

    :raises WaitError: when it can't start, or is gone.
    """
    pod = Ref.of(manifest)
    pods = Kind("v1", "Pod", pod.namespace, manifest["metadata"]["labels"])
    left = session.get(pod)
    if left is not None:  # by a run that was cut off
        _delete(session, left)
        wait_until(session, [pods], lambda objects: f"{pod} is still there" if pod in objects else "", deadline)
    made = session.request("POST", session.path(Ref("v1", "Pod", "", pod.namespace)), body=manifest)
    try:
        wait_until(session, [pods], lambda objects: _not_running(session, made, objects.get(pod)), deadline, progress)
        container = manifest["spec"]["containers"][0]["name"]
        yield PodShell(session, str(pod.namespace), pod.name, container, deadline)
    finally:
        _delete(session, made)


@contextmanager
def job_report(session: Session, manifest: Json, deadline: Deadline, progress: Tell) -> Iterator[str]:
    """Run a job to its end, or go on with the one of its name, and give what its container has left as its last words.

    The job is removed when the caller has made use of them; should that fail, or the run be cut off, the next one finds
    them. A job that has failed stays, for people to look at, until it is tried again or its time is over.

    :raises ServingError: when the job fails, with the last words of its last pod.
    :raises WaitError: when it can't start, is removed by someone else, or has not ended by the deadline.
    """
    job = Ref.of(manifest)
    pods = {"batch.kubernetes.io/job-name": job.name}

    def pods_now() -> list[Json]:
        return session.find("v1", "Pod", job.namespace, labels=pods)

    live = session.get(job)
    if live is not None and _is_of_no_use(live, pods_now):
        _delete(session, live)
        wait_gone(session, [job], manifest["metadata"]["labels"], deadline)
        live = None
    if live is None:
        try:
            live = session.request("POST", session.path(Ref("batch/v1", "Job", "", job.namespace)), body=manifest)
        except ApiError as error:
            live = session.get(job) if error.status == 409 else None  # another run was faster
            if live is None:
                raise
    made = live
    found: list[str] = []

    def judge(objects: dict[Ref, Json]) -> str:
        present = objects.get(job)
        if present is None or present["metadata"]["uid"] != made["metadata"]["uid"]:
            raise _gone(session, made)
        own = [entry for entry in objects.values() if entry["kind"] == "Pod"]
        found.extend(_report(own))  # at once: a pod that is evicted as it ends takes its last words along
        # Job and pods are watched apart: as far as is known its last pod may still run, or not be there yet.
        if _has(present, "Failed"):
            raise _failed(session, present, own + pods_now())
        text = not_ready(session, job, objects)
        if not text:
            if not own and not found:
                found.extend(_report(pods_now()))
            if not own and not found:
                raise WaitError(f"cluster {session.name}: {job} has ended without a report.", hint="Run again.")
            return "" if found else f"{job} has ended, and its report has not come yet"
        running = [pod for pod in own if pod.get("status", {}).get("phase") == "Running"]
        line = session.pod_log(str(job.namespace), running[0]["metadata"]["name"]) if running else ""
        return f"{job}: {line}" if line else f"{job} {text}"

    kinds = [
        Kind("batch/v1", "Job", job.namespace, manifest["metadata"]["labels"]),
        Kind("v1", "Pod", job.namespace, pods),
        Kind("v1", "Event", job.namespace, {}, optional=True),
    ]
    wait_until(session, kinds, judge, deadline, progress)
    yield found[0]
    _delete(session, made)  # not after an error


def remove_jobs(session: Session, namespace: str, labels: dict[str, str]) -> None:
    """Remove the jobs with some labels, whatever they are at."""
    for job in session.find("batch/v1", "Job", namespace, labels=labels):
        _delete(session, job)


def _is_of_no_use(job: Json, pods: Callable[[], list[Json]]) -> bool:
    """Tell whether a job is about to leave, or has ended and left no report."""
    ended = _has(job, "Complete") or _has(job, "Failed")
    leaves = "deletionTimestamp" in job["metadata"]
    return leaves or (ended and not _report(pods()))


def _has(job: Json, condition: str) -> bool:
    conditions = job.get("status", {}).get("conditions") or []
    return any(entry["type"] == condition and entry["status"] == "True" for entry in conditions)


def _report(pods: list[Json]) -> list[str]:
    """Give the last words of the pod that has succeeded."""
    return [words for pod in pods for code, words in _last_words(pod) if code == 0 and words]


def _failed(session: Session, job: Json, pods: list[Json]) -> ServingError:
    said = [(pod["metadata"].get("creationTimestamp", ""), words) for pod in pods for _code, words in _last_words(pod)]
    words = max(said)[1] if said else ""
    if not words:
        conditions = [entry for entry in job["status"]["conditions"] if entry["type"] == "Failed"]
        words = f"{conditions[0].get('reason', '')}: {conditions[0].get('message', '')}"
    text = " / ".join(line.strip() for line in words.strip().splitlines()[-5:])
    return ServingError(f"cluster {session.name}: {Ref.of(job)} has failed: {text.rstrip('.')}.")


def _last_words(pod: Json) -> Iterator[tuple[int, str]]:
    for status in pod.get("status", {}).get("containerStatuses", []):
        ended = status.get("state", {}).get("terminated")
        if ended:
            yield ended.get("exitCode", 0), ended.get("message") or ""


def _not_running(session: Session, made: Json, pod: Json | None) -> str:
    """Say what a pod still lacks; ``""`` when it runs.

    :raises WaitError: when it is gone or can't start.
    """
    if pod is None or pod["metadata"]["uid"] != made["metadata"]["uid"]:
        raise _gone(session, made)
    require_startable(session, pod)
    ready = any(status.get("ready") for status in pod.get("status", {}).get("containerStatuses", []))
    return "" if ready else f"{Ref.of(pod)} is {pod.get('status', {}).get('phase', 'Pending')}"


def _gone(session: Session, made: Json) -> WaitError:
    return WaitError(
        f"cluster {session.name}: {Ref.of(made)} was removed while this run was using it.",
        hint="Another run may be filling the same store; run again when it has ended.",
    )


def _delete(session: Session, made: Json) -> None:
    """Delete this object with what it owns, and not one that another run has made under the same name."""
    options: Json = {"preconditions": {"uid": made["metadata"]["uid"]}, "propagationPolicy": "Background"}
    if made["kind"] == "Pod":
        options["gracePeriodSeconds"] = 0
    try:
        session.request("DELETE", session.path(Ref.of(made)), body=options)
    except ApiError as error:
        if error.status not in (404, 409):  # it may be gone already, by its own deadline or with its node
            raise
