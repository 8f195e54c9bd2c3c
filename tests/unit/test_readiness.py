# SPDX-FileCopyrightText: The modelfleet maintainers
# SPDX-License-Identifier: GPL-3.0-or-later
"""When an object is ready, what is said of one that is not, and which ends the wait."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from _api_server import ApiServer

from ansible_collections.modelfleet.serving.plugins.module_utils._cluster.bundle import Bundle
from ansible_collections.modelfleet.serving.plugins.module_utils._cluster.kinds import Ref
from ansible_collections.modelfleet.serving.plugins.module_utils._cluster.pods import current_pods, is_ready, live_pods
from ansible_collections.modelfleet.serving.plugins.module_utils._cluster.readiness import (
    not_ready,
    scaling_fault,
    wait_ready,
)
from ansible_collections.modelfleet.serving.plugins.module_utils._cluster.session import Session, connect
from ansible_collections.modelfleet.serving.plugins.module_utils._cluster.wait import Deadline
from ansible_collections.modelfleet.serving.plugins.module_utils._errors import WaitError

Json = dict[str, Any]
SPACE = "serving"


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


def missing(session: Session, live: Json, *around: Json) -> str:
    objects = {Ref.of(manifest): manifest for manifest in (live, *around)}
    return not_ready(session, Ref.of(live), objects)


REPLICA_SETS = [replica_set("old", "1"), replica_set("new", "2")]


def test_a_rollout_is_done_when_each_replica_is_new_and_available(session: Session) -> None:
    assert missing(session, deployment(**DONE), *READY, *REPLICA_SETS) == ""


@pytest.mark.parametrize(
    ("live", "pods", "words"),
    [
        (deployment(observed=2, **DONE), READY, "its controller has not seen the last change"),
        (deployment(), [], "0 of 2 replicas updated, 0 available; no pods yet"),
        (deployment(replicas=3, updatedReplicas=2, availableReplicas=3), READY, "2 of 2 replicas updated"),
        (deployment(replicas=2, updatedReplicas=2, availableReplicas=1), READY, "1 available"),
        (deployment(**DONE), [READY[0], pod("b")], "1 available; a Running, b Pending"),
        (deployment(updatedReplicas=1), [pod("a", **waiting("ContainerCreating"))], "a ContainerCreating"),
    ],
)
def test_what_is_missing_is_said(session: Session, live: Json, pods: list[Json], words: str) -> None:
    assert words in missing(session, live, *pods, *REPLICA_SETS)


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
        missing(session, deployment(), pod("a", **status), *REPLICA_SETS)
    text = str(caught.value)
    assert f"cluster {session.name}: Pod serving/a can't get ready: {words}" in text
    assert "Last event: Failed: newest words" in text
    assert "What served before still does" in text


def test_a_refused_pod_ends_the_wait_with_the_words_of_the_refusal(session: Session) -> None:
    refusal = {"type": "ReplicaFailure", "status": "True", "message": "exceeded quota: pods=1"}
    with pytest.raises(WaitError, match="Deployment serving/server can't get ready: exceeded quota: pods=1"):
        missing(session, deployment(conditions=(refusal,)))


def test_waiting_for_room_is_no_failure_by_itself(session: Session) -> None:
    unbound = unschedulable("pod has unbound immediate PersistentVolumeClaims")
    assert "0 available" in missing(session, deployment(), pod("a", **unbound), *REPLICA_SETS)


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


def event(of: Json, reason: str, message: str = "words", *, kind: str = "Warning", count: int = 1) -> Json:
    return {
        "apiVersion": "v1",
        "kind": "Event",
        "metadata": {"name": f"{of['metadata']['name']}.{reason}", "namespace": SPACE},
        "type": kind,
        "reason": reason,
        "message": message,
        "count": count,
        "involvedObject": {"name": of["metadata"]["name"], "uid": of["metadata"].get("uid")},
        "lastTimestamp": "2026-01-01T00:00:00Z",
    }


def since(seconds: float) -> str:
    return (datetime.now(UTC) - timedelta(seconds=seconds)).isoformat(timespec="seconds").replace("+00:00", "Z")


def test_an_autoscaler_of_nodes_is_given_its_time(session: Session) -> None:
    def stuck(seconds: float) -> Json:
        status = unschedulable("0/1 nodes: Insufficient cpu.")
        status["conditions"][0]["lastTransitionTime"] = since(seconds)
        return pod("a", **status)

    def judged(pod_: Json, *events: Json) -> str:
        return missing(session, deployment(), pod_, *events, *REPLICA_SETS)

    assert "a Pending" in judged(stuck(5))
    with pytest.raises(WaitError, match="Insufficient cpu"):
        judged(stuck(60))
    assert "a Pending" in judged(stuck(60), event(stuck(60), "TriggeredScaleUp", kind="Normal"))


def test_an_autoscaler_that_does_not_scale_says_why(session: Session) -> None:
    def autoscaler(seconds: float, status: str = "False", **more: Any) -> Json:
        active = {"type": "ScalingActive", "status": status, "reason": "FailedGetPodsMetric", "message": "no metric x."}
        conditions = [
            {"type": "AbleToScale", "status": "True", "reason": "SucceededGetScale"},
            {**active, "lastTransitionTime": since(seconds)},
        ]
        live = manifest("HorizontalPodAutoscaler", {"conditions": conditions, **more}, {"minReplicas": 2})
        return {**live, "apiVersion": "autoscaling/v2"}

    assert scaling_fault(autoscaler(90)) == "FailedGetPodsMetric: no metric x"
    assert scaling_fault(autoscaler(20)) == "", "new pods have no metrics yet"
    assert scaling_fault(autoscaler(90, "True")) == ""
    assert scaling_fault({"kind": "HorizontalPodAutoscaler"}) == ""
    assert missing(session, autoscaler(0)) == "wants 0 pods of 2 at least: FailedGetPodsMetric: no metric x."
    assert missing(session, autoscaler(0, desiredReplicas=2)) == "", "it serves, whatever its metrics"


def manifest(kind: str, status: Json, spec: Json | None = None, api_version: str = "v1") -> Json:
    metadata = {"name": "x", "namespace": SPACE, "uid": "1", "generation": 3}
    return {"apiVersion": api_version, "kind": kind, "metadata": metadata, "spec": spec or {}, "status": status}


def owned(name: str, **status: Any) -> Json:
    result = pod(name, **status)
    result["metadata"] |= {"ownerReferences": [{"uid": "1"}]}
    result["metadata"]["labels"] = {"controller-revision-hash": "r2"}
    return result


def conditions(**states: str) -> Json:
    entries = [
        {"type": name, "status": status, "reason": "Why", "message": "because"} for name, status in states.items()
    ]
    return {"conditions": entries}


OWNED = [owned(name, conditions=[{"type": "Ready", "status": "True"}]) for name in ("a", "b")]
STATEFUL = {"observedGeneration": 3, "updateRevision": "r2", "replicas": 2, "readyReplicas": 2, "updatedReplicas": 2}
DAEMON = {"observedGeneration": 3, "desiredNumberScheduled": 2, "updatedNumberScheduled": 2, "numberAvailable": 2}
STATEFUL_SET = ("StatefulSet", "apps/v1")
DAEMON_SET = ("DaemonSet", "apps/v1")
JOB = ("Job", "batch/v1")
CRD = ("CustomResourceDefinition", "apiextensions.k8s.io/v1")
CUSTOM = ("Certificate", "cert-manager.io/v1")


@pytest.mark.parametrize(
    ("kind", "status", "spec", "words"),
    [
        (STATEFUL_SET, STATEFUL, {"replicas": 2}, ""),
        (STATEFUL_SET, {**STATEFUL, "observedGeneration": 2}, {"replicas": 2}, "has not seen"),
        (STATEFUL_SET, {**STATEFUL, "readyReplicas": 1}, {"replicas": 2}, "1 of 2 ready"),
        (STATEFUL_SET, {**STATEFUL, "updatedReplicas": 1}, {"replicas": 2}, "1 of 2 replicas updated"),
        (STATEFUL_SET, {**STATEFUL, "updatedReplicas": 0}, {"replicas": 2, "updateStrategy": {"type": "OnDelete"}}, ""),
        (
            STATEFUL_SET,
            {**STATEFUL, "updatedReplicas": 1},
            {"replicas": 2, "updateStrategy": {"rollingUpdate": {"partition": 1}}},
            "",
        ),
        (DAEMON_SET, DAEMON, {}, ""),
        (DAEMON_SET, {**DAEMON, "numberAvailable": 1}, {}, "2 of 2 pods updated, 1 available"),
        (DAEMON_SET, {**DAEMON, "updatedNumberScheduled": 0}, {}, "0 of 2 pods updated"),
        (DAEMON_SET, {**DAEMON, "updatedNumberScheduled": 0}, {"updateStrategy": {"type": "OnDelete"}}, ""),
        (JOB, conditions(Complete="True"), {}, ""),
        (JOB, {}, {"suspend": True}, ""),
        (JOB, {"active": 1}, {}, "has not ended; no pods yet"),
        (("Pod", "v1"), {"phase": "Succeeded"}, {}, ""),
        (("Pod", "v1"), {"phase": "Running", "conditions": [{"type": "Ready", "status": "True"}]}, {}, ""),
        (("Pod", "v1"), {"phase": "Running"}, {}, "is Running, not ready"),
        (("PersistentVolumeClaim", "v1"), {"phase": "Bound"}, {}, ""),
        (("PersistentVolumeClaim", "v1"), {"phase": "Pending"}, {}, "is Pending, not bound"),
        (CRD, conditions(Established="True", NamesAccepted="True"), {}, ""),
        (CRD, {}, {}, "is not established"),
        (("Namespace", "v1"), {"phase": "Terminating"}, {}, "is Terminating"),
        (("Namespace", "v1"), {"phase": "Active"}, {}, ""),
        (("Service", "v1"), {}, {"type": "LoadBalancer"}, "has no address yet"),
        (("Service", "v1"), {"loadBalancer": {"ingress": [{"ip": "10.0.0.1"}]}}, {"type": "LoadBalancer"}, ""),
        (("Service", "v1"), {}, {"type": "ClusterIP"}, ""),
        (CUSTOM, {}, {}, ""),
        (CUSTOM, {"observedGeneration": 2}, {}, "has not seen the last change"),
        (CUSTOM, {"observedGeneration": 3, **conditions(Ready="False")}, {}, "is not ready: Why: because"),
        (CUSTOM, conditions(Ready="Unknown"), {}, "is not ready: Why: because"),
        (CUSTOM, conditions(Reconciling="True"), {}, "is not ready: Why: because"),
        (CUSTOM, conditions(Ready="True"), {}, ""),
        (("Deployment", "apps/v1"), {"observedGeneration": 3}, {"replicas": 2, "paused": True}, ""),
    ],
)
def test_each_kind_is_judged_by_its_own_rules(
    session: Session, kind: tuple[str, str], status: Json, spec: Json, words: str
) -> None:
    around = OWNED if kind == STATEFUL_SET else []
    said = missing(session, manifest(kind[0], status, spec, kind[1]), *around)
    assert words in said
    assert bool(words) is bool(said)


def test_a_stateful_set_waits_for_what_is_seen_of_its_pods(session: Session) -> None:
    live = manifest("StatefulSet", STATEFUL, {"replicas": 2}, "apps/v1")
    assert "2 of 2 replicas updated, 1 of 2 ready; a Pending" in missing(session, live, OWNED[0])


CLAIM = ("PersistentVolumeClaim", "v1")


@pytest.mark.parametrize(
    ("kind", "status", "around", "words"),
    [
        (
            STATEFUL_SET,
            {"observedGeneration": 3, "updateRevision": "r2"},
            [owned("a", **waiting("ErrImagePull"))],
            "Pod",
        ),
        (
            STATEFUL_SET,
            {"observedGeneration": 3},
            ["FailedCreate"],
            "its pods are refused. Last event: FailedCreate: words",
        ),
        (
            DAEMON_SET,
            {"observedGeneration": 3},
            ["FailedCreate"],
            "its pods are refused. Last event: FailedCreate: words",
        ),
        (JOB, {}, ["FailedCreate"], "its pods are refused. Last event: FailedCreate: words"),
        (JOB, conditions(Failed="True"), [], "Job serving/x can't get ready: Why: because"),
        (("Pod", "v1"), {"phase": "Failed", "message": "evicted"}, [], "Pod serving/x can't get ready: evicted"),
        (CLAIM, {"phase": "Lost"}, [], "PersistentVolumeClaim serving/x can't get ready: it is Lost"),
        (CRD, conditions(NamesAccepted="False"), [], "Why: because"),
        (CUSTOM, conditions(Stalled="True"), [], "Certificate serving/x can't get ready: Why: because"),
        (
            ("Deployment", "apps/v1"),
            {"observedGeneration": 3, "conditions": [{"type": "Progressing", "reason": "ProgressDeadlineExceeded"}]},
            [],
            "ProgressDeadlineExceeded",
        ),
    ],
)
def test_what_waiting_does_not_mend_ends_it(
    session: Session, kind: tuple[str, str], status: Json, around: list[Any], words: str
) -> None:
    live = manifest(kind[0], status, {"replicas": 1}, kind[1])
    objects = [event(live, entry) if isinstance(entry, str) else entry for entry in around]
    with pytest.raises(WaitError) as caught:
        missing(session, live, *objects)
    assert words in str(caught.value)


def test_a_job_may_crash_and_a_claim_may_wait(session: Session) -> None:
    assert "a CrashLoopBackOff" in missing(
        session, manifest(*JOB[:1], {}, {}, JOB[1]), owned("a", **waiting("CrashLoopBackOff"))
    )
    claim = manifest(CLAIM[0], {"phase": "Pending"})
    assert missing(session, claim, event(claim, "WaitForFirstConsumer", kind="Normal")) == ""
    failed = event(claim, "ProvisioningFailed", "no such class")
    assert missing(session, claim, failed) == "is Pending, not bound: no such class"
    with pytest.raises(WaitError, match="Last event: ProvisioningFailed: no such class"):
        missing(session, claim, {**failed, "count": 2})


def test_a_bundle_is_waited_for_as_a_whole(api: ApiServer, session: Session) -> None:
    """What needs no waiting is not even asked for."""
    config = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "c"}}
    assert wait_ready(session, Bundle("b", SPACE, (config,)), Deadline.after(5)) == {}
    assert api.requests == []
    claims = tuple({"apiVersion": "v1", "kind": CLAIM[0], "metadata": {"name": name}} for name in "abcde")
    with pytest.raises(
        WaitError, match=r"waited 0\.3 s: .*serving/a: does not exist yet; .*serving/c: .*; and 2 more\."
    ):
        wait_ready(session, Bundle("b", SPACE, claims), Deadline.after(0.3))
