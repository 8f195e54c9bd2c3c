# SPDX-FileCopyrightText: The modelfleet maintainers
# SPDX-License-Identifier: GPL-3.0-or-later
"""Replicas are raised and given back, on a real API server; controllers are played where a test waits for them."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Any

import pytest
from _cluster import Cluster, actions
from _doors import run_module
from _kubernetes import Kubernetes

from ansible_collections.modelfleet.serving.plugins.module_utils._cluster.apply import apply
from ansible_collections.modelfleet.serving.plugins.module_utils._cluster.kinds import Ref
from ansible_collections.modelfleet.serving.plugins.module_utils._cluster.raised import NOTE, Raised, read_raised
from ansible_collections.modelfleet.serving.plugins.module_utils._cluster.replicas import prepare
from ansible_collections.modelfleet.serving.plugins.module_utils._manifests.autoscaling import Autoscaling
from ansible_collections.modelfleet.serving.plugins.module_utils._manifests.server import ServerSpec, server
from ansible_collections.modelfleet.serving.plugins.module_utils._tfserving.model_config import ServedModel

Json = dict[str, Any]
Scale = Callable[..., Json]


def serve(cluster: Cluster, replicas: int = 2, autoscaling: Autoscaling | None = None) -> dict[str, str]:
    """Apply a server as model_server does; gives what happened to what has replicas."""
    spec = ServerSpec(
        name="server",
        namespace=cluster.namespace,
        image="serving:1",
        models=(ServedModel("m", (1,)),),
        store="models",
        golden={"m": {"instances": [1.0]}},
        replicas=replicas,
        autoscaling=autoscaling,
        resources={"requests": {"cpu": "500m"}, "limits": {"memory": "1024Mi"}},
        access_modes=("ReadWriteMany",),
    )

    def applied(check: bool) -> dict[str, str]:
        bundle = cluster.bundle(*server(spec))
        wanted = None if autoscaling else replicas
        bundle, force = prepare(cluster.session, bundle, ref(cluster, "Deployment"), wanted, check=check)
        return actions(apply(cluster.session, bundle, check=check, force=force))

    checked, done = applied(True), applied(False)
    assert checked == done, "check mode says what a run does"
    assert {action for name, action in done.items() if "ConfigMap" in name} <= {"created", "unchanged"}
    return {
        name.split()[0]: done[name] for name in done if name.split()[0] in ("Deployment", "HorizontalPodAutoscaler")
    }


def ref(cluster: Cluster, kind: str) -> Ref:
    group = "apps/v1" if kind in ("Deployment", "StatefulSet") else "autoscaling/v2"
    return Ref(group, kind, "server", cluster.namespace)


def live(cluster: Cluster, kind: str = "Deployment") -> Json:
    found = cluster.session.get(ref(cluster, kind))
    assert found is not None
    return found


def limits(cluster: Cluster) -> tuple[int, int]:
    spec = live(cluster, "HorizontalPodAutoscaler")["spec"]
    return spec["minReplicas"], spec["maxReplicas"]


def merge(cluster: Cluster, path: str, body: Json) -> None:
    """Write to an object as a controller does."""
    cluster.session.request("PATCH", path, body=body, content_type="application/merge-patch+json")


def lasting(manifest: Json) -> Json:
    """Give what an object is, without when and how often it was written."""
    metadata = dict(manifest["metadata"])
    for name in ("resourceVersion", "generation"):
        metadata.pop(name, None)
    fields = [{key: value for key, value in entry.items() if key != "time"} for entry in metadata["managedFields"]]
    return {**manifest, "metadata": {**metadata, "managedFields": fields}}


@pytest.fixture
def scale(real: Cluster, kubernetes: Kubernetes) -> Scale:
    """Run the module, in check mode first, which has to tell the same and change nothing."""

    def scale(replicas: int | None = None, *, checked: bool = True, **more: Any) -> Json:
        given = {**kubernetes.connection, "name": "server", "namespace": real.namespace, "wait": False, **more}
        if replicas is None:
            given["state"] = "restored"
        else:
            given["replicas"] = replicas
        if not checked:
            return run_module("server_scale", given)
        before = live(real)
        foretold = run_module("server_scale", given, check=True)
        assert live(real) == before
        result = run_module("server_scale", given)
        parts = ("changed", "diff", "replicas", "raised", "objects")
        assert [foretold.get(part) for part in parts] == [result.get(part) for part in parts]
        return result

    return scale


def test_a_raise_is_given_back_and_leaves_no_trace(real: Cluster, scale: Scale) -> None:
    serve(real, 2)
    before = lasting(live(real))
    raised = scale(5, reason="failover from a")
    assert (raised["changed"], raised["replicas"], live(real)["spec"]["replicas"]) == (True, 5, 5)
    assert raised["raised"] == {"to": {"replicas": 5}, "before": {"replicas": 2}, "reason": "failover from a"}
    (diff,) = raised["diff"]
    assert "replicas: 2" in diff["before"]
    assert "replicas: 5" in diff["after"]
    assert live(real)["spec"]["template"] == before["spec"]["template"], "no pod is made anew"
    assert scale(5)["changed"] is False
    assert scale(3)["changed"] is False, "it never lowers"
    assert serve(real, 2) == {"Deployment": "unchanged"}, "a deploy leaves it, and calls it no change"
    assert live(real)["spec"]["replicas"] == 5

    restored = scale()
    assert (restored["changed"], restored["replicas"], restored["raised"]) == (True, 2, None)
    assert lasting(live(real)) == before
    assert scale()["changed"] is False
    assert serve(real, 2) == {"Deployment": "unchanged"}
    assert serve(real, 3) == {"Deployment": "updated"}


def test_a_second_raise_keeps_what_was_first(real: Cluster, scale: Scale) -> None:
    serve(real, 2)
    scale(3)
    assert scale(5)["raised"]["before"] == {"replicas": 2}
    assert scale()["replicas"] == 2
    assert live(real)["spec"]["replicas"] == 2


@pytest.mark.parametrize(("declared", "meanwhile"), [(3, 5), (7, 7), (1, 5)])
def test_what_is_declared_meanwhile_is_given_back(real: Cluster, scale: Scale, declared: int, meanwhile: int) -> None:
    serve(real, 2)
    scale(5)
    assert serve(real, declared) == {"Deployment": "updated"}
    assert serve(real, declared) == {"Deployment": "unchanged"}
    assert live(real)["spec"]["replicas"] == meanwhile
    assert scale()["replicas"] == declared
    assert live(real)["spec"]["replicas"] == declared
    assert serve(real, declared) == {"Deployment": "unchanged"}


def test_an_autoscaler_keeps_deciding(real: Cluster, scale: Scale) -> None:
    declared = Autoscaling(2, 4, cpu=50)
    serve(real, autoscaling=declared)
    before = lasting(live(real, "HorizontalPodAutoscaler"))
    unscaled = live(real)
    assert scale(3)["replicas"] == 3
    assert limits(real) == (3, 4)
    raised = scale(6)
    assert [row["kind"] for row in raised["objects"]] == ["HorizontalPodAutoscaler"]
    assert limits(real) == (6, 6)
    assert live(real) == unscaled
    assert set(serve(real, autoscaling=declared).values()) == {"unchanged"}
    assert limits(real) == (6, 6)
    assert serve(real, autoscaling=Autoscaling(2, 9, cpu=50))["HorizontalPodAutoscaler"] == "updated"
    assert limits(real) == (6, 9)
    serve(real, autoscaling=declared)
    assert scale()["replicas"] == 2
    assert lasting(live(real, "HorizontalPodAutoscaler")) == before


def test_a_raise_ends_where_an_autoscaler_takes_over_and_where_it_leaves(real: Cluster, scale: Scale) -> None:
    serve(real, 2)
    scale(5)
    assert serve(real, autoscaling=Autoscaling(2, 9, cpu=50))["Deployment"] == "updated"
    assert read_raised(live(real)) is None
    assert live(real)["spec"]["replicas"] == 5, "it is the autoscaler that lowers it"
    scale(4)
    assert limits(real) == (4, 9)
    assert serve(real, 2) == {"Deployment": "updated", "HorizontalPodAutoscaler": "deleted"}
    assert (read_raised(live(real)), live(real)["spec"]["replicas"]) == (None, 2)


def test_a_stateful_set_of_a_bundle_is_raised(real: Cluster, scale: Scale, kubernetes: Kubernetes) -> None:
    manifest = {**real.deployment(), "kind": "StatefulSet"}
    manifest["spec"]["serviceName"] = "server"
    bundle = {**kubernetes.connection, "name": "own", "namespace": real.namespace, "objects": [manifest], "wait": False}
    run_module("bundle", bundle)
    assert scale(4, checked=False)["changed"] is True
    assert run_module("bundle", bundle)["changed"] is False
    assert live(real, "StatefulSet")["spec"]["replicas"] == 4
    assert scale(checked=False)["changed"] is True
    assert live(real, "StatefulSet")["spec"]["replicas"] == 2
    assert run_module("bundle", bundle)["changed"] is False


def test_what_another_scales_is_left_alone(real: Cluster, scale: Scale) -> None:
    real.by_other(real.deployment())
    refused = scale(4, checked=False)
    assert "replicas of Deployment" in refused["msg"]
    assert "is set by other, not by this collection, and is left alone." in refused["msg"]
    assert live(real)["spec"]["replicas"] == 2


def test_a_server_that_does_not_exist_is_an_error(scale: Scale, real: Cluster) -> None:
    for replicas in (4, None):
        assert f"there is no server {real.namespace}/server" in scale(replicas, checked=False)["msg"]


class TestWaiting:
    """With what the controllers would write."""

    def status(self, real: Cluster, **status: Any) -> None:
        path = real.session.path(ref(real, "Deployment")) + "/status"
        generation = live(real)["metadata"]["generation"]
        merge(real, path, {"status": {"observedGeneration": generation, **status}})

    def when_raised(self, real: Cluster, action: Callable[[], None]) -> threading.Thread:
        def follow() -> None:
            while live(real)["spec"]["replicas"] != 5:
                time.sleep(0.05)
            action()

        thread = threading.Thread(target=follow)
        thread.start()
        return thread

    def refuse(self, real: Cluster) -> None:
        words = 'pods "server-x" is forbidden: exceeded quota: pods=1, used: pods=2, limited: pods=2'
        condition = {"type": "ReplicaFailure", "status": "True", "reason": "FailedCreate", "message": words}
        self.status(real, replicas=2, conditions=[condition])

    @pytest.mark.parametrize("earlier", [None, 3])
    def test_what_can_not_be_had_is_taken_back_at_once(self, real: Cluster, scale: Scale, earlier: int | None) -> None:
        serve(real, 2)
        if earlier:
            scale(earlier)
            self.refuse(real)
        before = lasting(live(real))
        follower = self.when_raised(real, lambda: self.refuse(real))
        started = time.monotonic()
        failed = scale(5, checked=False, wait=True, wait_timeout=30)
        follower.join(5)
        assert time.monotonic() - started < 10
        assert failed["failed"] is True
        assert "exceeded quota: pods=1" in failed["msg"]
        assert f"Deployment {real.namespace}/server is again to have {earlier or 2} pods at least." in failed["msg"]
        after = lasting(live(real))
        assert (after["spec"], after["metadata"].get("annotations")) == (
            before["spec"],
            before["metadata"].get("annotations"),
        )
        assert serve(real, 2) == {"Deployment": "unchanged"}

    def test_what_does_not_come_in_time_is_taken_back(self, real: Cluster, scale: Scale) -> None:
        serve(real, 2)
        failed = scale(5, checked=False, wait=True, wait_timeout=1)
        assert "waited 1 s" in failed["msg"]
        assert "is again to have 2 pods at least" in failed["msg"]
        assert (read_raised(live(real)), live(real)["spec"]["replicas"]) == (None, 2)

    def test_it_waits_until_the_autoscaler_has_raised_the_workload(self, real: Cluster, scale: Scale) -> None:
        serve(real, autoscaling=Autoscaling(2, 4, cpu=50))
        self.roll_out(real)
        path = real.session.path(ref(real, "HorizontalPodAutoscaler")) + "/status"
        merge(real, path, {"status": {"currentReplicas": 1, "desiredReplicas": 6}})
        failed = scale(6, checked=False, wait=True, wait_timeout=1)
        words = f"Deployment {real.namespace}/server: its autoscaler has not raised it from 1 to 6."
        assert words in failed["msg"]
        assert limits(real) == (2, 4)

    def test_it_waits_until_the_pods_are_ready(self, real: Cluster, scale: Scale) -> None:
        serve(real, 1)
        self.roll_out(real)
        follower = self.when_raised(real, lambda: self.roll_out(real))
        raised = scale(5, checked=False, wait=True, wait_timeout=30)
        follower.join(5)
        assert (raised["changed"], raised["replicas"]) == (True, 5)
        assert scale(wait=True)["changed"] is True

    def roll_out(self, real: Cluster) -> None:
        """Have as many pods that are ready as the Deployment is to have."""
        deployment = live(real)
        count = deployment["spec"]["replicas"]
        revision = {"deployment.kubernetes.io/revision": "1"}
        merge(real, real.session.path(Ref.of(deployment)), {"metadata": {"annotations": revision}})
        labels = {**deployment["spec"]["template"]["metadata"]["labels"], "pod-template-hash": "new"}
        template = {"metadata": {"labels": labels}, "spec": deployment["spec"]["template"]["spec"]}
        spec = {"selector": {"matchLabels": labels}, "template": template}
        metadata = {**real.named("server-new"), "labels": labels, "annotations": revision}
        real.by_other({"apiVersion": "apps/v1", "kind": "ReplicaSet", "metadata": metadata, "spec": spec})
        for number in range(count):
            metadata = {**real.named(f"server-{number}"), "labels": labels}
            pod = {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": template["spec"]}
            real.by_other(pod)
            ready = {"status": {"conditions": [{"type": "Ready", "status": "True"}]}}
            merge(real, real.session.path(Ref.of(pod)) + "/status", ready)
        self.status(
            real, replicas=count, updatedReplicas=count, readyReplicas=count, availableReplicas=count, conditions=[]
        )


def test_a_note_that_was_spoilt_by_hand_ends_the_raise() -> None:
    raised = Raised({"replicas": 4}, {"replicas": 2}, "why")
    manifest: Json = {"metadata": {"name": "s"}, "spec": {"replicas": 2}}
    noted = raised.put_on(manifest)
    assert read_raised(noted) == raised
    assert raised.taken_off(noted) == manifest
    for note in (
        "",
        "[]",
        "{}",
        "no JSON",
        '{"to": {"replicas": "x"}, "before": {}, "reason": ""}',
        '{"to": {}, "before": {}, "reason": ""}',
    ):
        assert read_raised({"metadata": {"annotations": {NOTE: note}}}) is None
