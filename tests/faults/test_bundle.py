# SPDX-FileCopyrightText: The modelfleet maintainers
# SPDX-License-Identifier: GPL-3.0-or-later
"""What goes wrong with a bundle in a real cluster ends its task soon, in words that say why."""

from __future__ import annotations

import time
from typing import Any

import pytest
from _place import Place

from ansible_collections.modelfleet.serving.plugins.module_utils._cluster.kinds import Ref
from ansible_collections.modelfleet.serving.plugins.module_utils._errors import WaitError

Json = dict[str, Any]


def claim(storage_class: str | None = None) -> Json:
    spec: Json = {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "10Mi"}}}
    if storage_class:
        spec["storageClassName"] = storage_class
    return {"apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": {"name": "models"}, "spec": spec}


def job(place: Place, *command: str) -> Json:
    container = {"name": "main", "image": place.image, "command": list(command)}
    pod = {"restartPolicy": "Never", "containers": [container]}
    spec = {"backoffLimit": 0, "template": {"spec": pod}}
    return {"apiVersion": "batch/v1", "kind": "Job", "metadata": {"name": "once"}, "spec": spec}


def quota(pods: int) -> Json:
    spec = {"hard": {"pods": str(pods)}}
    return {"apiVersion": "v1", "kind": "ResourceQuota", "metadata": {"name": "quota"}, "spec": spec}


def stateful(place: Place) -> Json:
    manifest = place.deployment()
    manifest["kind"] = "StatefulSet"
    manifest["spec"]["serviceName"] = "server"
    return manifest


def test_a_bundle_of_many_kinds_gets_ready_stays_and_goes(place: Place) -> None:
    deployment = place.deployment()
    deployment["spec"]["template"]["spec"]["volumes"] = [
        {"name": "models", "persistentVolumeClaim": {"claimName": "models"}}
    ]
    service = {"apiVersion": "v1", "kind": "Service", "metadata": {"name": "server"}}
    service["spec"] = {"selector": {"app": "server"}, "ports": [{"port": 80}]}  # type: ignore[assignment]
    objects = [claim(), deployment, service, job(place, "true")]
    checked = place.run(*objects, check=True)
    done = place.run(*objects)
    assert checked.as_dict(diff=True) == done.as_dict(diff=True)
    live = place.session.get(Ref("apps/v1", "Deployment", "server", place.namespace))
    assert live is not None
    assert live["status"]["availableReplicas"] == 1
    bound = place.session.get(Ref("v1", "PersistentVolumeClaim", "models", place.namespace))
    assert bound is not None
    assert bound["status"]["phase"] == "Bound"
    assert not place.run(*objects).changed, "what its controllers wrote is no change"
    place.run(service)
    assert place.session.find("v1", "Pod", place.namespace) == [], "the pods went with what owned them"
    place.run(state="absent")
    assert place.session.get(Ref("v1", "Namespace", place.namespace)) is None


def test_a_claim_that_waits_for_its_first_pod_holds_nothing_up(place: Place) -> None:
    started = time.monotonic()
    place.run(claim())
    assert time.monotonic() - started < 60


@pytest.mark.parametrize(
    ("what", "words"),
    [
        ("image", r"Pod .*/server-.* can't get ready: (ErrImagePull|ImagePullBackOff): .*Last event: Failed"),
        ("crash", r"Pod .*/server-.* can't get ready: CrashLoopBackOff: .*Last event: BackOff"),
        ("room", r"Pod .*/server-.* can't get ready: Unschedulable: .*Insufficient cpu.*Last event: FailedScheduling"),
        ("quota", r"Deployment .*/server can't get ready: .*exceeded quota: quota, requested: pods=1"),
        ("quotaofset", r"StatefulSet .*/server can't get ready: its pods are refused\. .*exceeded quota: quota"),
        ("policy", r"Deployment .*/server can't get ready: .*violates PodSecurity \"restricted"),
        ("volume", r"PersistentVolumeClaim .*/models can't get ready: .*storageclass.* \"no-such-class\" not found"),
        ("job", r"Job .*/once can't get ready: BackoffLimitExceeded"),
    ],
    ids=lambda value: value if value.isalpha() else "",
)
def test_what_waiting_does_not_mend(place: Place, what: str, words: str) -> None:
    broken: dict[str, list[Json]] = {
        "image": [place.deployment(image="modelfleet/no-such-image:1", imagePullPolicy="IfNotPresent")],
        "crash": [place.deployment(command=["false"], readinessProbe={"exec": {"command": ["true"]}})],
        "room": [place.deployment(resources={"requests": {"cpu": "1000"}})],
        "quota": [quota(0), place.deployment()],
        "quotaofset": [quota(0), stateful(place)],
        "policy": [place.deployment()],
        "volume": [claim("no-such-class")],
        "job": [job(place, "false")],
    }
    if what == "policy":
        labels = {"pod-security.kubernetes.io/enforce": "restricted"}
        space = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": place.namespace, "labels": labels}}
        place.session.request("POST", "/api/v1/namespaces", body=space)
    started = time.monotonic()
    with pytest.raises(WaitError, match=words):
        place.run(*broken[what])
    assert time.monotonic() - started < 90, "not at the deadline"


def test_a_rollout_that_fails_leaves_the_old_pods(place: Place) -> None:
    place.run(place.deployment())
    with pytest.raises(WaitError, match="What served before still does"):
        place.run(place.deployment(image="modelfleet/no-such-image:1"))
    live = place.session.get(Ref("apps/v1", "Deployment", "server", place.namespace))
    assert live is not None
    assert live["status"]["availableReplicas"] == 1


def test_a_long_wait_says_what_it_waits_for(place: Place) -> None:
    slow = place.deployment(readinessProbe={"exec": {"command": ["true"]}, "initialDelaySeconds": 6})
    told: list[str] = []
    place.run(slow, progress=told)
    assert any("0 available; server-" in line for line in told), told
    assert len(told) == len(set(told))


def test_what_holds_a_namespace_is_said(place: Place) -> None:
    held: Json = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "held"}}
    held["metadata"]["finalizers"] = ["example.org/never"]
    place.run(held)
    try:
        with pytest.raises(WaitError, match=r"held is still there: its finalizers are example\.org/never"):
            place.run(state="absent", wait_timeout=5)
    finally:
        path = f"/api/v1/namespaces/{place.namespace}/configmaps/held"
        patch = {"metadata": {"finalizers": None}}
        place.session.request("PATCH", path, body=patch, content_type="application/merge-patch+json")
