# SPDX-FileCopyrightText: The modelfleet maintainers
# SPDX-License-Identifier: GPL-3.0-or-later
"""Waiting: how a rollout is judged, and how a watch goes on through what disturbs it."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest
from _api_server import ApiServer

from ansible_collections.modelfleet.serving.plugins.module_utils._cluster.kinds import Ref
from ansible_collections.modelfleet.serving.plugins.module_utils._cluster.pods import current_pods, is_ready, live_pods
from ansible_collections.modelfleet.serving.plugins.module_utils._cluster.session import Session, connect
from ansible_collections.modelfleet.serving.plugins.module_utils._cluster.wait import (
    Deadline,
    Kind,
    rollout_missing,
    wait_until,
)
from ansible_collections.modelfleet.serving.plugins.module_utils._errors import ApiError, ServingError, WaitError

Json = dict[str, Any]
SPACE = "serving"
PODS = Kind("v1", "Pod", SPACE, {"app": "server"})


@pytest.fixture
def session(api: ApiServer) -> Iterator[Session]:
    with connect({"host": api.url}) as session:
        yield session


def pod(name: str, *, ready: bool = False, template: str = "new", **status: Any) -> Json:
    conditions = [{"type": "Ready", "status": str(ready)}]
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "namespace": SPACE, "labels": {"app": "server", "pod-template-hash": template}},
        "spec": {"containers": [{"name": "server"}]},
        "status": {"phase": "Running" if ready else "Pending", "conditions": conditions, **status},
    }


def waiting(reason: str, message: str = "", **more: Any) -> Json:
    state = {"waiting": {"reason": reason, "message": message}}
    return {"containerStatuses": [{"name": "server", "ready": False, "state": state, **more}]}


def unschedulable(message: str) -> Json:
    return {"conditions": [{"type": "PodScheduled", "reason": "Unschedulable", "message": message}]}


def deployment(observed: int = 3, conditions: tuple[Json, ...] = (), **status: int) -> Json:
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {
            "name": "server",
            "namespace": SPACE,
            "generation": 3,
            "annotations": {"deployment.kubernetes.io/revision": "2"},
        },
        "spec": {"replicas": 2},
        "status": {"observedGeneration": observed, "conditions": list(conditions), **status},
    }


def replica_set(template: str, revision: str) -> Json:
    return {
        "apiVersion": "apps/v1",
        "kind": "ReplicaSet",
        "metadata": {
            "name": f"server-{template}",
            "namespace": SPACE,
            "labels": {"pod-template-hash": template},
            "annotations": {"deployment.kubernetes.io/revision": revision},
        },
    }


DONE = {"replicas": 2, "updatedReplicas": 2, "availableReplicas": 2}
READY = [pod("a", ready=True), pod("b", ready=True)]


def test_a_rollout_is_done_when_each_replica_is_new_and_available(session: Session) -> None:
    assert rollout_missing(session, deployment(**DONE), READY) == ""


@pytest.mark.parametrize(
    ("live", "pods", "words"),
    [
        (None, [], "the Deployment does not exist yet"),
        (deployment(observed=2, **DONE), READY, "the rollout has not begun"),
        (deployment(), [], "0 of 2 replicas updated, 0 available; no pods yet"),
        (deployment(replicas=3, updatedReplicas=2, availableReplicas=3), READY, "2 of 2 replicas updated"),
        (deployment(replicas=2, updatedReplicas=2, availableReplicas=1), READY, "1 available"),
        (deployment(**DONE), [READY[0], pod("b")], "1 available; a Running, b Pending"),
        (deployment(updatedReplicas=1), [pod("a", **waiting("ContainerCreating"))], "a ContainerCreating"),
    ],
)
def test_what_is_missing_is_said(session: Session, live: Json | None, pods: list[Json], words: str) -> None:
    assert words in rollout_missing(session, live, pods)


@pytest.mark.parametrize(
    ("status", "words"),
    [
        (waiting("ImagePullBackOff", 'Back-off pulling image "x"'), 'ImagePullBackOff: Back-off pulling image "x"'),
        (waiting("InvalidImageName", "bad"), "InvalidImageName: bad"),
        (
            waiting("CrashLoopBackOff", "back-off", lastState={"terminated": {"message": "no such flag"}}),
            "CrashLoopBackOff: no such flag",
        ),
        ({"initContainerStatuses": waiting("ErrImagePull", "no")["containerStatuses"]}, "ErrImagePull: no"),
        (unschedulable("0/1 nodes: Insufficient cpu."), "Unschedulable: 0/1 nodes: Insufficient cpu"),
        (unschedulable('claim "x" not found'), 'Unschedulable: claim "x" not found'),
    ],
)
def test_a_pod_that_can_not_start_ends_the_wait_with_its_event(
    session: Session, api: ApiServer, status: Json, words: str
) -> None:
    for number, (name, kind, message) in enumerate(
        [
            ("a", "Warning", "older"),
            ("a", "Warning", "newest words"),
            ("a", "Normal", "fine"),
            ("b", "Warning", "other"),
        ]
    ):
        metadata = {"name": f"e{number}", "namespace": SPACE}
        event = {"apiVersion": "v1", "kind": "Event", "metadata": metadata, "type": kind, "reason": "Failed"}
        api.put(
            "events", {**event, "message": message, "involvedObject": {"name": name}, "lastTimestamp": f"2026-{number}"}
        )
    with pytest.raises(WaitError) as caught:
        rollout_missing(session, deployment(), [pod("a", **status)])
    text = str(caught.value)
    assert f"cluster {session.name}: pod serving/a can't start: {words}" in text
    assert "Last event: Failed: newest words" in text
    assert "The previous pods keep serving" in text


def test_a_refused_pod_ends_the_wait_with_the_words_of_the_refusal(session: Session) -> None:
    refusal = {"type": "ReplicaFailure", "status": "True", "message": "exceeded quota: pods=1"}
    with pytest.raises(WaitError, match="Deployment serving/server: exceeded quota: pods=1"):
        rollout_missing(session, deployment(conditions=(refusal,)), [])


def test_waiting_for_room_is_no_failure_by_itself(session: Session) -> None:
    unbound = unschedulable("pod has unbound immediate PersistentVolumeClaims")
    assert "0 available" in rollout_missing(session, deployment(), [pod("a", **unbound)])


def test_only_pods_of_the_present_template_count() -> None:
    leaving = pod("c", ready=True)
    leaving["metadata"]["deletionTimestamp"] = "now"
    stuck = pod("old", template="old", **waiting("ImagePullBackOff"))
    objects = [*READY, leaving, stuck, replica_set("old", "1"), replica_set("new", "2"), deployment()]
    assert [entry["metadata"]["name"] for entry in current_pods(deployment(), objects)] == ["a", "b"]
    assert [entry["metadata"]["name"] for entry in live_pods(objects)] == ["a", "b", "old"]
    assert current_pods(None, objects) == []
    assert current_pods(deployment(), [*READY, replica_set("old", "1")]) == []
    assert [is_ready(entry) for entry in (READY[0], stuck)] == [True, False]


def names_until(api: ApiServer, session: Session, wanted: set[str], seconds: float = 5) -> set[str]:
    def judge(objects: dict[Ref, Json]) -> str:
        names = {ref.name for ref in objects}
        return "" if names == wanted else f"found {sorted(names)}"

    return {ref.name for ref in wait_until(session, [PODS], judge, Deadline.after(seconds))}


def soon(action: Any, *arguments: Any) -> None:
    threading.Timer(0.1, action, arguments).start()


def test_a_wait_follows_what_is_added_changed_and_removed(api: ApiServer, session: Session) -> None:
    api.put("pods", pod("a"))
    foreign = pod("x")
    foreign["metadata"]["labels"] = {"app": "other"}
    api.put("pods", foreign)
    soon(api.put, "pods", pod("b"))
    assert names_until(api, session, {"a", "b"}) == {"a", "b"}
    soon(api.remove, "pods", "a")
    assert names_until(api, session, {"b"}) == {"b"}
    assert [request.method for request in api.requests].count("GET") == 2, "it watched and did not poll"


def test_a_wait_goes_on_through_a_watch_that_is_too_old_or_ends(api: ApiServer, session: Session) -> None:
    api.fail("WATCH", "/pods", 410, reason="Expired", message="too old resource version")
    api.fail("WATCH", "/pods", None)
    soon(api.put, "pods", pod("a"))
    assert names_until(api, session, {"a"}) == {"a"}


def test_a_wait_goes_on_after_an_error_event_in_the_stream(api: ApiServer, session: Session) -> None:
    status = {"kind": "Status", "code": 410, "reason": "Expired", "message": "too old"}
    api.fail("WATCH", "/pods", 200, message="", stream=[{"type": "ERROR", "object": status}])
    soon(api.put, "pods", pod("a"))
    assert names_until(api, session, {"a"}) == {"a"}


def test_a_wait_that_may_not_watch_says_so_at_once(api: ApiServer, session: Session) -> None:
    api.fail("WATCH", "/pods", 403, reason="Forbidden", message="user can't watch pods", times=9)
    start = time.monotonic()
    with pytest.raises(ApiError, match=r"user can't watch pods .403 Forbidden.*Give this user the permission"):
        names_until(api, session, {"a"}, seconds=20)
    assert time.monotonic() - start < 5


def test_a_wait_ends_at_its_deadline_with_what_is_missing(api: ApiServer, session: Session) -> None:
    api.put("pods", pod("a"))
    with pytest.raises(WaitError, match=r"waited 0\.3 s: found \['a'\]\. Raise wait_timeout"):
        names_until(api, session, {"b"}, seconds=0.3)


def test_a_judge_can_end_a_wait(api: ApiServer, session: Session) -> None:
    def judge(objects: dict[Ref, Json]) -> str:
        raise WaitError("never")

    with pytest.raises(WaitError, match="never"):
        wait_until(session, [PODS], judge, Deadline.after(5))


def test_a_server_that_answers_too_late_does_not_hold_a_wait(api: ApiServer, session: Session) -> None:
    api.fail("GET", "/pods", 200, delay=3.0)
    start = time.monotonic()
    with pytest.raises(ServingError, match="no answer from the cluster yet"):
        names_until(api, session, {"a"}, seconds=0.2)
    assert time.monotonic() - start < 2
