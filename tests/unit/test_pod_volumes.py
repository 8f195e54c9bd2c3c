# SPDX-FileCopyrightText: The modelfleet maintainers
# SPDX-License-Identifier: GPL-3.0-or-later
"""A server whose pods have a volume each: what is filled, what is refused, and how it takes over from another."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from _api_server import ApiServer
from _cluster import Cluster
from _doors import run_module
from _edge import Edge
from _kubernetes import Kubernetes
from _models import saved_model

from ansible_collections.modelfleet.serving.plugins.module_utils._cluster.apply import apply
from ansible_collections.modelfleet.serving.plugins.module_utils._cluster.kinds import Ref
from ansible_collections.modelfleet.serving.plugins.module_utils._features.failover_plan import FEATURE as PLAN
from ansible_collections.modelfleet.serving.plugins.module_utils._manifests.autoscaling import Autoscaling
from ansible_collections.modelfleet.serving.plugins.module_utils._manifests.server import ServerSpec, server
from ansible_collections.modelfleet.serving.plugins.module_utils._store.own import common, filled
from ansible_collections.modelfleet.serving.plugins.module_utils._tfserving.model_config import ServedModel

Json = dict[str, Any]
Run = Callable[..., Json]
CHECKOUT = Path(__file__).resolve().parents[2]
SPACE = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "serving"}}
SERVED = {"m": {"1": "sha256:one"}}
CLAIM = {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "10Gi"}}}


def claim(name: str, record: Json | None = None, modes: tuple[str, ...] = ("ReadWriteOnce",), **labels: str) -> Json:
    annotations = {"modelfleet.serving/versions": json.dumps(SERVED if record is None else record)}
    metadata = {"name": name, "namespace": "serving", "annotations": annotations, "labels": labels}
    spec = {**CLAIM, "accessModes": list(modes)}
    return {"apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": metadata, "spec": spec}


def test_the_parts_of_a_server_with_a_volume_a_pod() -> None:
    spec = ServerSpec("server", "serving", "serving:1", (ServedModel("m", (1,)),), "models", claim=CLAIM)
    parts = {manifest["kind"]: manifest for manifest in server(spec)}
    assert "Deployment" not in parts
    assert parts["PodDisruptionBudget"]["spec"]["maxUnavailable"] == 1, "as many as a rollout takes away at a time"
    body = parts["StatefulSet"]["spec"]
    assert body["podManagementPolicy"] == "Parallel", "a broken pod must not hold up the template that mends it"
    assert body["persistentVolumeClaimRetentionPolicy"] == {"whenDeleted": "Retain", "whenScaled": "Retain"}
    assert body["serviceName"] == parts["Service"]["metadata"]["name"]
    (template,) = body["volumeClaimTemplates"]
    pod = body["template"]["spec"]
    assert "affinity" not in pod
    assert {entry["topologyKey"] for entry in pod["topologySpreadConstraints"]} == {
        "kubernetes.io/hostname",
        "topology.kubernetes.io/zone",
    }
    names = {volume["name"] for volume in pod["volumes"]} | {template["metadata"]["name"]}
    assert {mount["name"]: mount for mount in pod["containers"][0]["volumeMounts"]}.keys() == names
    (store,) = [mount for mount in pod["containers"][0]["volumeMounts"] if mount["name"] == "models"]
    assert store == {"name": "models", "mountPath": "/models", "readOnly": True}
    scaled = {
        manifest["kind"]: manifest
        for manifest in server(
            ServerSpec("server", "n", "i", spec.models, "models", claim=CLAIM, autoscaling=Autoscaling(2, 4, cpu=50))
        )
    }
    assert "replicas" not in scaled["StatefulSet"]["spec"]
    assert scaled["HorizontalPodAutoscaler"]["spec"]["scaleTargetRef"]["kind"] == "StatefulSet"


@pytest.mark.parametrize(
    ("claims", "model", "pods", "why"),
    [
        ([], ServedModel("m", (1,)), 0, "models-s-0 does not exist"),
        ([SERVED, SERVED], ServedModel("m", (1,)), 2, "models-s-2 does not exist"),
        ([{}], ServedModel("m", (1,)), 0, "models-s-0 holds nothing of m"),
        ([SERVED, {"m": {"2": "x"}}], ServedModel("m", (1,)), 1, "models-s-1 lacks m version 1"),
        ([SERVED, {"m": {"1": "sha256:x"}}], ServedModel("m", (1,)), 1, "models-s-1 holds other files of m version 1"),
        ([SERVED, {"m": {**SERVED["m"], "2": "x"}}], ServedModel("m", (1,)), 2, "models-s-2 does not exist"),
        # By these policies, the server serves what it finds.
        (
            [SERVED, {"m": {**SERVED["m"], "10": "x"}}],
            ServedModel("m", policy="all"),
            1,
            "models-s-1 holds m version 10, which the others lack",
        ),
        ([{"m": {"2": "x", "10": "y"}}, {"m": {"2": "x"}}], ServedModel("m", policy="latest"), 1, "lacks m version 10"),
        ([SERVED, SERVED], ServedModel("m", policy="latest"), 2, "models-s-2 does not exist"),
    ],
)
def test_volumes_count_when_they_hold_the_same(claims: list[Json], model: ServedModel, pods: int, why: str) -> None:
    named = {f"models-s-{number}": claim(f"models-s-{number}", record) for number, record in enumerate(claims)}
    number, words = filled(named, "models", "s", (model,))
    assert number == pods
    assert why in words


def test_what_records_have_in_common() -> None:
    assert common([]) == {}
    assert common([SERVED]) == SERVED
    other = {"m": {"1": "sha256:one", "2": "x"}, "n": {"1": "y"}}
    assert common([other, SERVED]) == common([SERVED, other]) == SERVED
    assert common([SERVED, {"m": {"1": "sha256:x"}}]) == {}


class TestStore:
    """model_store with per_pod."""

    @pytest.fixture
    def fill(self, api: ApiServer, tmp_path: Path) -> Run:
        api.put("namespaces", SPACE)
        self.loaders: list[Json] = []
        together = threading.Barrier(3)

        def kubelet(manifest: Json) -> None:
            if manifest["kind"] == "Pod":
                self.loaders.append(manifest)
                threading.Thread(target=start, args=(manifest,), daemon=True).start()

        def start(manifest: Json) -> None:
            together.wait(5)  # the scheduler can spread only those that are there together
            status = {"containerStatuses": [{"name": "loader", "ready": True, "state": {"running": {}}}]}
            api.put("pods", {**manifest, "status": {"phase": "Running", **status}})

        def volume(pod: str) -> Path:
            place = api.folder / pod.removesuffix("-loader")
            place.mkdir(exist_ok=True)
            return place

        api.on_create = kubelet
        api.folder_of = volume
        saved_model(tmp_path / "m", 1, b"weights")
        models = [{"name": "m", "source": str(tmp_path / "m"), "versions": [1]}]

        def fill(*, check: bool = False, pods: int = 3, **more: Any) -> Json:
            given = {"host": api.url, "namespace": "serving", "name": "models", "models": models, "wait_timeout": 10}
            own = {"server": "server", "pods": pods}
            return run_module("model_store", {**given, "per_pod": own, **more}, check=check)

        return fill

    def test_each_volume_gets_the_same(self, api: ApiServer, fill: Run) -> None:
        checked = fill(check=True)
        assert not api.writes()
        done = fill()
        for part in ("changed", "diff", "versions", "objects", "copied"):
            assert checked[part] == done[part]
        names = [f"models-server-{number}" for number in range(3)]
        assert [row["claim"] for row in done["copied"]] == names
        claims = {entry["metadata"]["name"]: entry for entry in api.find("persistentvolumeclaims")}
        assert sorted(claims) == names
        recorded = {entry["metadata"]["annotations"]["modelfleet.serving/versions"] for entry in claims.values()}
        assert [json.loads(text) for text in recorded] == [done["versions"]]
        for number, loader in enumerate(sorted(self.loaders, key=lambda entry: str(entry["metadata"]["name"]))):
            own = {"statefulset.kubernetes.io/pod-name": f"server-{number}"}
            shared = {"modelfleet.serving/store": "models-server"}
            assert {**own, **shared}.items() <= loader["metadata"]["labels"].items()
            affinity = loader["spec"]["affinity"]["podAffinity"]["requiredDuringSchedulingIgnoredDuringExecution"]
            assert [term["labelSelector"]["matchLabels"] for term in affinity] == [own], "where its pod is"
            spread = [entry["labelSelector"]["matchLabels"] for entry in loader["spec"]["topologySpreadConstraints"]]
            assert spread == [shared, shared]
            assert own.items() <= claims[names[number]]["metadata"]["labels"].items()
        assert fill()["changed"] is False
        fewer = fill(pods=2)
        assert fewer["changed"] is False
        assert len(api.find("persistentvolumeclaims")) == 3, "those beyond stay"
        assert fill(state="absent")["changed"] is True
        assert api.find("persistentvolumeclaims") == []

    def test_one_that_fails_leaves_the_others_filled(self, api: ApiServer, fill: Run) -> None:
        api.fail("GET", r"models-server-1-loader/exec", 500, times=99)
        failed = fill()
        assert failed["failed"] is True
        assert failed["msg"].startswith("PersistentVolumeClaim serving/models-server-1: ")
        filled = [
            entry["metadata"]["name"]
            for entry in api.find("persistentvolumeclaims")
            if "modelfleet.serving/versions" in entry["metadata"].get("annotations", {})
        ]
        assert filled == ["models-server-0", "models-server-2"]

    @pytest.mark.parametrize(
        ("more", "words"),
        [
            ({"pods": 0}, "per_pod.pods: 0 is too few."),
            ({"per_pod": {"server": "a/b", "pods": 2}}, "per_pod.server: 'a/b' is no valid name."),
            ({"name": "a" * 54, "pods": 11}, "would have a name of 64 characters"),
            (
                {"access_modes": ["ReadWriteMany"]},
                "A volume a pod is of no use with ReadWriteMany: pods on all nodes can",
            ),
            ({"access_modes": ["ReadWriteOnce", "ReadOnlyMany"]}, "is of no use with ReadWriteOnce, ReadOnlyMany"),
        ],
    )
    def test_what_can_not_be_is_refused(self, api: ApiServer, fill: Run, more: Json, words: str) -> None:
        assert words in fill(**more)["msg"]
        assert api.requests == []

    def test_what_a_pod_serves_stays(self, api: ApiServer, fill: Run) -> None:
        models = (ServedModel("m", (1,)),)
        spec = ServerSpec("server", "serving", "serving:1", models, "models", claim=CLAIM)
        plurals = {"ConfigMap": "configmaps", "StatefulSet": "statefulsets"}
        fill()
        for manifest in server(spec):
            if manifest["kind"] in plurals:
                api.put(plurals[manifest["kind"]], manifest)
        (entry,) = fill(check=True)["invocation"]["module_args"]["models"] or [{}]
        newer = {**entry, "versions": [2], "keep": 0}
        saved_model(Path(entry["source"]), 2, b"other")
        spared = fill(models=[newer], check=True)["spared"]
        assert [(row["claim"], row["version"]) for row in spared] == [(f"models-server-{n}", 1) for n in range(3)]
        # Another store's volumes are not what it serves from.
        api.put("persistentvolumeclaims", claim("models", {"m": {"1": "x"}}))
        shared = fill(models=[newer], per_pod=None, check=True)
        assert [row["version"] for row in shared["collected"]] == [1]


class TestServer:
    """model_server with store_per_pod, with controllers that do as they should at once."""

    @pytest.fixture
    def serve(self, api: ApiServer) -> Run:
        api.put("namespaces", SPACE)
        for name in ("models", "models-server-0", "models-server-1"):
            api.put("persistentvolumeclaims", claim(name))
        self.order: list[str] = []

        def controllers(manifest: Json) -> None:
            if manifest["kind"] in ("Deployment", "StatefulSet"):
                self.order.append(f"{manifest['kind']} made")
                threading.Timer(0.3, self.roll_out, (api, manifest["kind"])).start()

        api.on_create = controllers
        row = {"version": "1", "state": "AVAILABLE", "status": {}}
        api.pod_answer = lambda *_: (200, {"model_version_status": [row]})

        def serve(*, check: bool = False, own: bool = True, **more: Any) -> Json:
            given = {"host": api.url, "name": "server", "namespace": "serving", "store": "models", "wait_timeout": 10}
            models = [{"name": "m", "versions": [1]}]
            return run_module("model_server", {**given, "models": models, "store_per_pod": own, **more}, check=check)

        return serve

    def roll_out(self, api: ApiServer, kind: str) -> None:
        plural = f"{kind.lower()}s"
        (live,) = api.find(plural)
        count = live["spec"].get("replicas", 1)
        labels = {**live["spec"]["template"]["metadata"]["labels"]}
        labels |= {"controller-revision-hash": "r", "pod-template-hash": "r"}
        revision = {"deployment.kubernetes.io/revision": "1"}
        named = {"namespace": "serving", "labels": labels}
        if kind == "Deployment":
            metadata = {"name": "server-r", "annotations": revision, **named}
            api.put("replicasets", {"apiVersion": "apps/v1", "kind": "ReplicaSet", "metadata": metadata})
        ready = {"phase": "Running", "conditions": [{"type": "Ready", "status": "True"}]}
        for number in range(count):
            name = f"server-{number}" if kind == "StatefulSet" else f"server-r-{number}"
            metadata = {"name": name, "ownerReferences": [{"uid": live["metadata"]["uid"]}], **named}
            api.put("pods", {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": {}, "status": ready})
        counts = ("replicas", "updatedReplicas", "availableReplicas", "readyReplicas")
        status = {"observedGeneration": 1, "updateRevision": "r", **dict.fromkeys(counts, count)}
        self.order.append(f"{kind} ready")
        metadata = {**live["metadata"], "annotations": {**live["metadata"].get("annotations", {}), **revision}}
        api.put(plural, {**live, "metadata": metadata, "status": status})

    def deletions(self, api: ApiServer) -> list[str]:
        return [request.path.split("/")[-2] for request in api.writes() if request.method == "DELETE"]

    def test_it_comes_up_and_is_found(self, api: ApiServer, serve: Run, edge: Edge) -> None:
        checked = serve(check=True)
        done = serve()
        assert checked["objects"] == done["objects"]
        assert serve()["changed"] is False
        (found,) = run_module("model_server_info", {"host": api.url, "namespace": "serving"})["servers"]
        assert (found["store"], found["store_per_pod"], found["replicas"]) == ("models", True, 2)
        assert found["digests"] == SERVED
        assert [pod["name"] for pod in found["pods"]] == ["server-0", "server-1"]
        api.put("persistentvolumeclaims", claim("models-server-2"))
        api.put("persistentvolumeclaims", claim("models-server-3", {}))
        golden = {"request": {"instances": [1.0]}, "response": {"predictions": [2.5]}}
        given = {"host": api.url, "edge_url": edge.url, "namespace": "serving"}
        health = run_module("cluster_health", {**given, "models": [{"name": "m", "golden": [golden]}]})
        (row,) = health["api"]["servers"]
        assert (row["replicas"], row["ready"], row["volumes"]) == (2, 2, 3)
        assert row["models"] == {"m": {"versions": [1], "digests": SERVED["m"]}}

    @pytest.mark.parametrize("own", [True, False])
    def test_the_new_pods_are_ready_before_the_old_ones_go(self, api: ApiServer, serve: Run, own: bool) -> None:
        new, old = ("StatefulSet", "Deployment") if own else ("Deployment", "StatefulSet")
        serve(own=not own)
        refused = serve(own=own, wait=False)
        assert f"{old} serving/server can only become a {new} when that is ready" in refused["msg"]
        checked = serve(own=own, check=True)
        self.order.clear()
        api.requests.clear()
        delete = threading.Event()

        def watch_deletions() -> None:
            while not self.deletions(api) and not delete.wait(0.01):
                pass
            self.order.append(f"{old} deleted")

        watcher = threading.Thread(target=watch_deletions)
        watcher.start()
        done = serve(own=own)
        delete.set()
        watcher.join()
        assert self.order == [f"{new} made", f"{new} ready", f"{old} deleted"]
        assert checked["objects"] == done["objects"]
        actions = {row["kind"]: row["action"] for row in done["objects"] if row["action"] != "unchanged"}
        assert actions == {new: "created", old: "deleted"}
        assert api.find(f"{old.lower()}s") == []
        assert serve(own=own)["changed"] is False

    def test_a_change_that_was_cut_off_is_gone_on_with(self, api: ApiServer, serve: Run) -> None:
        serve(own=False)
        api.fail("WATCH", "/pods", 403, times=99)
        api.on_create = lambda manifest: None  # no controller makes the pods
        failed = serve(wait_timeout=1)
        assert failed["failed"] is True
        assert len(api.find("deployments")) == len(api.find("statefulsets")) == 1, "both are there"
        (found,) = run_module("model_server_info", {"host": api.url, "namespace": "serving"})["servers"]
        assert found["store_per_pod"] is False, "the one that serves speaks for the server"
        api.faults.clear()
        # Either way on, the other one goes.
        assert serve(own=False)["changed"] is True
        assert (len(api.find("deployments")), api.find("statefulsets")) == (1, [])

    def test_as_many_pods_as_an_autoscaler_has_made_take_over(self, api: ApiServer, serve: Run) -> None:
        for number in (2, 3):
            api.put("persistentvolumeclaims", claim(f"models-server-{number}"))
        scaled = {
            "autoscaling": {"min_replicas": 2, "max_replicas": 4, "cpu": 50},
            "resources": {"requests": {"cpu": "1"}},
        }
        status = {"currentReplicas": 3, "desiredReplicas": 3}

        def roll_out(manifest: Json) -> None:
            if manifest["kind"] == "HorizontalPodAutoscaler":
                manifest["status"] = status

        controllers = api.on_create
        api.on_create = lambda manifest: (controllers(manifest), roll_out(manifest))[0]
        serve(own=False, **scaled)
        (live,) = api.find("deployments")
        api.put("deployments", {**live, "spec": {**live["spec"], "replicas": 3}})
        serve(**scaled)
        (live,) = api.find("statefulsets")
        assert live["status"]["replicas"] == 3, "not one, which the autoscaler would have to raise"
        (autoscaler,) = api.find("horizontalpodautoscalers")
        assert autoscaler["spec"]["scaleTargetRef"]["kind"] == "StatefulSet"

    @pytest.mark.parametrize(
        ("more", "words"),
        [
            (
                {"replicas": 3},
                "3 pods of server need 3 filled volumes, and there are 2: the claim models-server-2 does not",
            ),
            ({"replicas": 1}, "store_per_pod: with 1 pod, each rollout would leave nobody to answer"),
            (
                {"autoscaling": {"max_replicas": 4, "cpu": 50}, "resources": {"requests": {"cpu": "1"}}},
                "4 pods of server need 4 filled volumes, and there are 2",
            ),
            (
                {
                    "autoscaling": {"min_replicas": 1, "max_replicas": 2, "cpu": 50},
                    "resources": {"requests": {"cpu": "1"}},
                },
                "store_per_pod: with 1 pod",
            ),
            ({"models": [{"name": "m", "versions": [2]}]}, "there are 0: the claim models-server-0 lacks m version 2"),
            (
                {"store": "other"},
                "the claim other-server-0 does not exist. Fill them by modelfleet.serving.model_store",
            ),
            ({"store": "tmp"}, "a volume a pod can't be called tmp"),
            ({"name": "s" * 53}, "is too long for a server with a volume a pod. Use 52"),
            ({"overrides": {"Deployment": {}}}, "there is no Deployment to override. Use one of ConfigMap"),
        ],
    )
    def test_what_can_not_be_is_refused(self, api: ApiServer, serve: Run, more: Json, words: str) -> None:
        assert words in serve(**more)["msg"]
        assert api.find("statefulsets") == []

    def test_a_rollout_does_not_begin_with_the_only_pod_that_serves(self, api: ApiServer, serve: Run) -> None:
        serve()
        pods = {pod["metadata"]["name"]: pod for pod in api.find("pods")}
        gone = {"conditions": [{"type": "Ready", "status": "False"}]}
        api.put("pods", {**pods["server-0"], "status": gone})
        before = api.find("statefulsets")
        refused = serve(drain_seconds=20)
        assert "only the pod server-1 is ready, and a rollout would begin with it" in refused["msg"]
        assert api.find("statefulsets") == before
        # Where it would begin with the other one, nothing is lost.
        api.put("pods", pods["server-0"])
        api.put("pods", {**pods["server-1"], "status": gone})
        assert "would begin with it" not in serve(drain_seconds=20, wait_timeout=1).get("msg", "")

    def test_volumes_that_others_use_are_refused(self, api: ApiServer, serve: Run) -> None:
        pod: Json = {
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {"name": "reader", "namespace": "serving"},
            "spec": {"volumes": [{"name": "x", "persistentVolumeClaim": {"claimName": "models-server-1"}}]},
        }
        api.put("pods", pod)
        assert (
            "Pod serving/reader mounts PersistentVolumeClaim serving/models-server-1, which is for a pod of server"
            in serve()["msg"]
        )
        api.put("pods", {**pod, "status": {"phase": "Succeeded"}})
        assert serve()["changed"] is True

    def test_volumes_that_need_not_be_one_a_pod_are_refused(self, api: ApiServer, serve: Run) -> None:
        for number in (0, 1):
            api.put("persistentvolumeclaims", claim(f"models-server-{number}", modes=("ReadWriteMany",)))
        assert "A volume a pod is of no use with ReadWriteMany" in serve()["msg"]

    def test_the_volume_of_a_pod_is_shared_by_none(self, api: ApiServer, serve: Run) -> None:
        label = {"statefulset.kubernetes.io/pod-name": "other-0"}
        api.put("persistentvolumeclaims", claim("models-other-0", **label))
        assert (
            "PersistentVolumeClaim serving/models-other-0 is for the pod other-0 alone"
            in serve(own=False, store="models-other-0")["msg"]
        )

    def test_another_store_needs_another_server(self, api: ApiServer, serve: Run) -> None:
        serve()
        for number in (0, 1):
            api.put("persistentvolumeclaims", claim(f"others-server-{number}"))
        assert (
            "has volumes of the store models, and Kubernetes lets no StatefulSet take others"
            in serve(store="others")["msg"]
        )

    def test_what_is_raised_stays_so_and_needs_its_volumes(self, api: ApiServer, serve: Run) -> None:
        serve(own=False)
        scale = {"host": api.url, "name": "server", "namespace": "serving", "wait": False}
        raised = run_module("server_scale", {**scale, "replicas": 3})
        assert raised["changed"] is True
        assert "3 pods of server need 3 filled volumes, and there are 2" in serve()["msg"]
        api.put("persistentvolumeclaims", claim("models-server-2"))
        assert serve()["changed"] is True
        (live,) = api.find("statefulsets")
        assert live["spec"]["replicas"] == 3
        assert "3 filled volumes" not in run_module("server_scale", {**scale, "replicas": 3}).get("msg", "")
        assert "4 pods of server need 4 filled volumes" in run_module("server_scale", {**scale, "replicas": 4})["msg"]
        assert run_module("server_scale", {**scale, "state": "restored"})["changed"] is True
        (live,) = api.find("statefulsets")
        assert live["spec"]["replicas"] == 2


def test_a_real_server_takes_it_once_and_keeps_what_can_not_change(real: Cluster, kubernetes: Kubernetes) -> None:
    for number in range(2):
        made = claim(f"models-server-{number}")
        made["metadata"]["namespace"] = real.namespace
        real.session.request("POST", real.session.path(Ref("v1", made["kind"], "", real.namespace)), body=made)
    given = {**kubernetes.connection, "name": "server", "namespace": real.namespace, "store": "models"}
    served = {**given, "models": [{"name": "m", "versions": [1]}], "store_per_pod": True, "wait": False}
    checked, done = run_module("model_server", served, check=True), run_module("model_server", served)
    assert checked["objects"] == done["objects"]
    assert {row["action"] for row in done["objects"]} == {"created"}
    assert run_module("model_server", served)["changed"] is False, "with what the server has filled in"
    # A claim that has grown meanwhile changes nothing of what can't be changed.
    path = real.session.path(Ref("v1", "PersistentVolumeClaim", "models-server-0", real.namespace))
    body = {"metadata": {"annotations": {"modelfleet.serving/bytes": json.dumps({"m": {"1": 5}})}}}
    real.session.request("PATCH", path, body=body, content_type="application/merge-patch+json")
    assert run_module("model_server", {**served, "drain_seconds": 20})["changed"] is True


def test_a_member_that_is_kept_goes_with_the_next_apply(cluster: Cluster) -> None:
    kept, stays = cluster.config("kept"), cluster.secret(a="b")
    cluster.apply(kept, stays)
    bundle = cluster.bundle(stays)
    assert [change.action for change in apply(cluster.session, bundle, keep=[Ref.of(kept)])] == ["unchanged"]
    assert cluster.live("ConfigMap", "kept") is not None
    assert cluster.apply(stays) == {"Secret secret": "unchanged", "ConfigMap kept": "deleted"}
    assert cluster.live("ConfigMap", "kept") is None


@pytest.mark.parametrize(("volumes", "refused"), [(None, False), (4, False), (3, True)])
def test_a_failover_counts_on_no_pod_without_a_volume(volumes: int | None, refused: bool) -> None:
    """One replica takes 50 requests a second, and 200 come."""

    def health(ready: int) -> Json:
        row = {"name": "s", "replicas": ready, "ready": ready, "max": None, "volumes": volumes, "models": {}}
        answer = {"right": True, "answered": True, "error": "", "versions": [1]}
        return {"api": {"servers": [row]}, "edge": {"models": {"m": answer}}}

    clusters = [
        {"name": name, "capacity": 100.0, "replica_rate": 50.0, "maximum_replicas": 8, "health": health(2)}
        for name in ("a", "b")
    ]
    members = [{"name": name, "state": "active", "up": True, "rate": 100.0} for name in ("a", "b")]
    given = {"action": "failover", "select": ["a"], "members": members, "clusters": clusters}
    found = run_module("failover_plan", given)["plan"]
    assert PLAN.arguments["clusters"]["options"].keys() >= clusters[0].keys()
    by_rule = {verdict["rule"]: verdict for verdict in found["verdicts"]}
    assert (found["status"] == "refused") is refused, by_rule


@pytest.mark.ansible
@pytest.mark.parametrize(
    ("variables", "stores"),
    [
        ({}, [["", ["b", "a"]]]),
        ({"serving_store_per_pod": True}, [["", []], ["images", ["b"]], ["serving", ["a"]]]),
        ({"serving_servers": {"images": {"store_per_pod": True}}}, [["", ["a"]], ["images", ["b"]]]),
        (
            {"serving_store_per_pod": True, "serving_servers": {"images": {"store_per_pod": False}}},
            [["", ["b"]], ["serving", ["a"]]],
        ),
    ],
)
def test_the_role_fills_a_volume_for_each_pod_of_the_servers_that_want_it(
    variables: Json, stores: list[Any], tmp_path: Path
) -> None:
    models = [
        {"name": "a", "source": "/a", "versions": [1]},
        {"name": "b", "source": "/b", "versions": [1], "server": "images"},
        {"name": "c", "image": "team/c:1"},
    ]
    (tmp_path / "variables.json").write_text(json.dumps({"serving_models": models, "stores": stores, **variables}))
    role = CHECKOUT / "roles" / "serving"
    found = (
        "serving_stores | map('first') | zip(serving_stores | map('last') | map('map', attribute='name')) | map('list')"
    )
    play = {
        "hosts": "localhost",
        "gather_facts": False,
        "vars_files": [str(role / part / "main.yml") for part in ("defaults", "vars")],
        "vars": {"found": f"{{{{ {found} }}}}"},
        "tasks": [{"ansible.builtin.assert": {"that": "found == stores", "fail_msg": "{{ found | string }}"}}],
    }
    (tmp_path / "play.yml").write_text(json.dumps([play]))
    (tmp_path / "ansible.cfg").touch()
    done = subprocess.run(
        [sys.executable, "-m", "ansible", "playbook", "-i", "localhost,", "-e", "@variables.json", "play.yml"],
        cwd=tmp_path,
        env={**os.environ, "ANSIBLE_CONFIG": str(tmp_path / "ansible.cfg"), "ANSIBLE_STDOUT_CALLBACK": "default"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout
