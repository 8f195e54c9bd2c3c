# SPDX-FileCopyrightText: The modelfleet maintainers
# SPDX-License-Identifier: GPL-3.0-or-later
"""Whole modules against the small API server, with a little of what controllers and kubelets do."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from _api_server import ApiServer
from _doors import feature, run_module
from _kubernetes import Kubernetes
from _models import saved_model
from ansible.module_utils.common.arg_spec import ArgumentSpecValidator

from ansible_collections.modelfleet.serving.plugins.module_utils._call import Call
from ansible_collections.modelfleet.serving.plugins.module_utils._cluster.session import connect
from ansible_collections.modelfleet.serving.plugins.module_utils._store.artefact import read_artefact
from ansible_collections.modelfleet.serving.plugins.module_utils._tfserving.model_config import read_config

Json = dict[str, Any]
Run = Callable[..., Json]
SPACE = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "serving"}}


def kubelet(manifest: Json) -> None:
    """Let a pod be ready as soon as it is made."""
    if manifest["kind"] == "Pod":
        manifest["status"] = {
            "phase": "Running",
            "conditions": [{"type": "Ready", "status": "True"}],
            "containerStatuses": [{"name": "loader", "ready": True, "state": {"running": {}}}],
        }


@pytest.fixture
def run(api: ApiServer) -> Run:
    api.put("namespaces", SPACE)
    api.on_create = kubelet

    def run(module: str, *, check: bool = False, **arguments: Any) -> Json:
        return run_module(module, {"host": api.url, "namespace": "serving", **arguments}, check=check)

    return run


class TestStore:
    """model_store and model_store_info: the pod's commands run in a real shell on a temporary folder."""

    @pytest.fixture
    def source(self, tmp_path: Path) -> Path:
        for version in (1, 2):
            saved_model(tmp_path / "m", version, b"weights" * 50_000 * version)
        return tmp_path / "m"

    @pytest.fixture
    def fill(self, run: Run, source: Path) -> Run:
        def fill(*versions: int, **more: Any) -> Json:
            models = [{"name": "m", "source": str(source), "versions": list(versions)}]
            return run("model_store", name="models", models=models, wait_timeout=20, **more)

        return fill

    def test_versions_are_published_and_recorded_once(self, api: ApiServer, fill: Run, source: Path) -> None:
        digests = {str(version): read_artefact("m", version, str(source)).digest for version in (1, 2)}
        first = fill(1)
        assert first["changed"] is True
        assert first["versions"] == {"m": {"1": digests["1"]}}
        assert [entry["version"] for entry in first["copied"]] == [1]
        both = fill(1, 2)
        assert both["versions"] == {"m": digests}
        assert [entry["version"] for entry in both["copied"]] == [2]
        before = len(api.requests)
        again = fill(1, 2)
        assert again["changed"] is False
        assert again["copied"] == []
        assert "diff" not in again
        assert not any("/pods" in request.path for request in api.requests[before:]), "nothing to copy needs no pod"
        assert sorted(path.name for path in (api.folder / "m").iterdir()) == ["1", "2"]
        assert api.find("pods") == []

    def test_check_mode_writes_nothing_and_tells_the_same(self, api: ApiServer, fill: Run) -> None:
        checked = fill(1, check=True)
        assert not api.writes()
        assert list(api.folder.iterdir()) == []
        done = fill(1)
        for part in ("changed", "diff", "versions", "copied", "objects"):
            assert checked[part] == done[part]

    def test_a_copy_that_was_cut_is_continued(self, api: ApiServer, fill: Run) -> None:
        api.exec_cut_after = 400_000
        cut = fill(1)
        assert cut["unreachable"] is True
        assert "the connection" in cut["msg"]
        assert "Run again to continue." in cut["msg"]
        assert not (api.folder / "m").exists()
        assert api.find("pods") == [], "the pod that writes is removed after a failure too"
        assert fill(1)["changed"] is True
        assert (api.folder / "m" / "1" / "saved_model.pb").exists()

    def test_what_was_published_before_a_failure_stays_recorded(self, api: ApiServer, fill: Run) -> None:
        (api.folder / "m").mkdir()
        (api.folder / "m" / "2").mkdir()
        (api.folder / "m" / "2" / "other").write_text("other files")
        failed = fill(1, 2)
        assert failed["failed"] is True
        assert "m version 2 is in the store already with other files" in failed["msg"]
        (claim,) = api.find("persistentvolumeclaims")
        assert json.loads(claim["metadata"]["annotations"]["modelfleet.serving/versions"])["m"].keys() == {"1"}

    def test_other_files_under_a_recorded_number_are_refused(self, api: ApiServer, fill: Run, source: Path) -> None:
        fill(1)
        (source / "1" / "saved_model.pb").write_bytes(b"another RestoreV2 graph")
        before = len(api.writes())
        refused = fill(1)
        assert "A published version never changes: give the new files a new version number." in refused["msg"]
        assert len(api.writes()) == before

    def test_a_command_that_fails_is_quoted(self, api: ApiServer, fill: Run) -> None:
        (api.folder / ".incoming").write_text("a file where a folder should be")
        failed = fill(1)
        assert failed["failed"] is True
        assert "pod serving/models-loader: sh failed with code" in failed["msg"]
        assert ".incoming" in failed["msg"]

    @pytest.mark.parametrize(
        ("status", "words"),
        [
            ({"status": "Failure", "message": "container not found"}, "sh failed: container not found"),
            (None, "the connection ended before the command"),
        ],
    )
    def test_a_command_that_did_not_run_is_explained(
        self, api: ApiServer, fill: Run, status: Json | None, words: str
    ) -> None:
        api.exec_status = status or {"": ""}
        if status is None:
            api.exec_status = json.loads('"nothing"')
        assert words in fill(1)["msg"]

    def test_the_loader_of_a_run_that_was_killed_is_replaced(self, api: ApiServer, fill: Run) -> None:
        metadata = {"name": "models-loader", "namespace": "serving"}
        api.put("pods", {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": {"old": True}})
        assert fill(1)["changed"] is True
        assert api.find("pods") == []

    def test_another_run_that_takes_the_loader_away_is_told_and_keeps_its_own(
        self, api: ApiServer, run: Run, source: Path
    ) -> None:
        metadata = {"name": "models-loader", "namespace": "serving"}
        others = {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": {"of": "another run"}}

        def take_away() -> None:
            api.on_create = kubelet
            api.remove("pods", "models-loader")
            api.put("pods", others)

        def interfere(manifest: Json) -> None:
            if manifest["kind"] == "Pod":
                threading.Timer(0.3, take_away).start()

        api.on_create = interfere
        models = [{"name": "m", "source": str(source), "versions": [1]}]
        failed = run("model_store", name="models", models=models, wait_timeout=20)
        assert "Pod serving/models-loader was removed while this run was using it." in failed["msg"]
        assert "Another run may be filling the same store" in failed["msg"]
        (pod,) = api.find("pods")
        assert pod["spec"] == {"of": "another run"}

    def test_a_claim_that_is_never_bound_is_a_bounded_wait(self, api: ApiServer, run: Run, source: Path) -> None:
        api.on_create = lambda manifest: None
        models = [{"name": "m", "source": str(source), "versions": [1]}]
        failed = run("model_store", name="models", models=models, wait_timeout=1)
        assert "waited 1 s: Pod serving/models-loader is Pending. Raise wait_timeout" in failed["msg"]
        assert api.find("pods") == []

    def test_info_tells_and_verifies(self, api: ApiServer, fill: Run, run: Run) -> None:
        fill(1)
        (store,) = run("model_store_info")["stores"]
        assert store["name"] == "models"
        assert store["versions"]["m"].keys() == {"1"}
        (unverified,) = run("model_store_info", name="models", verify=True)["stores"]
        assert unverified["verified"] is False, "no pod has it mounted"
        spec = {
            "containers": [{"name": "server", "volumeMounts": [{"name": "store", "mountPath": "/models"}]}],
            "volumes": [{"name": "store", "persistentVolumeClaim": {"claimName": "models"}}],
        }
        api.put(
            "pods", {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "s", "namespace": "serving"}, "spec": spec}
        )
        (verified,) = run("model_store_info", name="models", verify=True)["stores"]
        assert (verified["verified"], verified["tampered"]) == (True, [])
        (api.folder / "m" / "1" / "saved_model.pb").write_bytes(b"other")
        (tampered,) = run("model_store_info", verify=True)["stores"]
        assert [(entry["model"], entry["version"]) for entry in tampered["tampered"]] == [("m", 1)]
        assert not any(request.method == "WATCH" for request in api.requests[-3:])

    def test_absent_removes_the_claim(self, api: ApiServer, fill: Run, run: Run) -> None:
        fill(1)
        assert run("model_store", name="models", state="absent")["changed"] is True
        assert api.find("persistentvolumeclaims") == []
        assert run("model_store", name="models", state="absent")["changed"] is False


class TestServer:
    """model_server, model_server_info and model_probe."""

    @pytest.fixture(autouse=True)
    def _controllers(self, api: ApiServer) -> None:
        """Roll a Deployment out as soon as it is stored, with pods that serve what their ConfigMap says."""
        self.states = {"1": "AVAILABLE"}
        self.leads_to = 1
        self.asked: list[str] = []

        def controllers(manifest: Json) -> None:
            if manifest["kind"] == "Deployment":
                threading.Timer(0.05, self.roll_out, (api,)).start()

        api.on_create = controllers

        def answer(pod: str, method: str, path: str, body: bytes) -> tuple[int, Any]:
            self.asked.append(pod)
            if path.endswith(":predict"):
                return 200, {"predictions": [x / 2 + 2 for x in json.loads(body)["instances"]]}
            if path.endswith("/metadata"):
                label = path.split("/")[-2]
                return (200, {"model_spec": {"version": str(self.leads_to)}}) if label == "stable" else (404, {})
            rows = [
                {"version": v, "state": s, "status": {"error_message": "bad" if s == "END" else ""}}
                for v, s in self.states.items()
            ]
            return 200, {"model_version_status": rows}

        api.pod_answer = answer

    def roll_out(self, api: ApiServer) -> None:
        (live,) = api.find("deployments")
        labels = {**live["spec"]["template"]["metadata"]["labels"], "pod-template-hash": "new"}
        revision = {"deployment.kubernetes.io/revision": "1"}
        named = {"namespace": "serving", "labels": labels}
        api.put(
            "replicasets",
            {
                "apiVersion": "apps/v1",
                "kind": "ReplicaSet",
                "metadata": {"name": "server-new", "annotations": revision, **named},
            },
        )
        for number in range(live["spec"]["replicas"]):
            pod = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": f"server-{number}", **named}, "spec": {}}
            api.put(
                "pods", {**pod, "status": {"phase": "Running", "conditions": [{"type": "Ready", "status": "True"}]}}
            )
        count = live["spec"]["replicas"]
        status = {"observedGeneration": 1, "replicas": count, "updatedReplicas": count, "availableReplicas": count}
        metadata = {**live["metadata"], "generation": 1, "annotations": revision}
        api.put("deployments", {**live, "metadata": metadata, "status": status})

    @pytest.fixture
    def serve(self, run: Run, api: ApiServer, _controllers: None) -> Run:
        def serve(*versions: int, **more: Any) -> Json:
            models = [{"name": "half_plus_two", "versions": list(versions)}]
            return run("model_server", name="server", store="models", models=models, wait_timeout=10, **more)

        return serve

    @pytest.fixture
    def run(self, api: ApiServer) -> Run:
        api.put("namespaces", SPACE)
        claim = {"apiVersion": "v1", "kind": "PersistentVolumeClaim", "spec": {"accessModes": ["ReadWriteMany"]}}
        api.put("persistentvolumeclaims", {**claim, "metadata": {"name": "models", "namespace": "serving"}})

        def run(module: str, *, check: bool = False, **arguments: Any) -> Json:
            return run_module(module, {"host": api.url, "namespace": "serving", **arguments}, check=check)

        return run

    def test_a_server_comes_up_and_stays_as_it_is(self, api: ApiServer, serve: Run) -> None:
        assert serve(1)["changed"] is True
        assert set(self.asked) == {"server-0", "server-1"}, "every pod was asked what it serves"
        again = serve(1)
        assert again["changed"] is False
        assert "diff" not in again

    def test_a_new_version_is_announced_to_the_pods_and_waited_for(self, api: ApiServer, serve: Run) -> None:
        serve(1)
        self.states = {"1": "AVAILABLE", "2": "LOADING"}
        threading.Timer(0.3, self.states.update, ({"2": "AVAILABLE"},)).start()
        result = serve(1, 2)
        assert [row["kind"] for row in result["objects"] if row["action"] == "updated"] == ["ConfigMap"]
        assert self.states["2"] == "AVAILABLE"
        for pod in api.find("pods"):
            assert "modelfleet.serving/models-config" in pod["metadata"]["annotations"]

    def written(self, api: ApiServer) -> list[list[tuple[Any, ...]]]:
        """Give the configurations that were written, as versions and labels of each model."""
        bodies = [
            json.loads(request.body)
            for request in api.requests
            if request.method == "PATCH"
            and request.path.endswith("/configmaps/server-models")
            and "dryRun" not in request.query
        ]
        texts = [body["data"]["models.config"] for body in bodies]
        return [[(model.versions, model.labels) for model in read_config(text)] for text in texts]

    def test_a_version_takes_over_in_three_steps(self, api: ApiServer, run: Run, serve: Run) -> None:
        def labelled(version: int, **more: Any) -> Json:
            models = [{"name": "half_plus_two", "versions": [version], "labels": {"stable": version}}]
            return run("model_server", name="server", store="models", models=models, wait_timeout=10, **more)

        labelled(1)
        api.requests.clear()
        self.states = {"1": "AVAILABLE", "2": "LOADING"}

        def follow() -> None:
            """Do as a server does that reads what is written."""
            while len(self.written(api)) < 1:
                time.sleep(0.01)
            assert self.leads_to == 1
            self.states["2"] = "AVAILABLE"
            while len(self.written(api)) < 2:
                time.sleep(0.01)
            self.leads_to = 2
            while len(self.written(api)) < 3:
                time.sleep(0.01)
            del self.states["1"]

        follower = threading.Thread(target=follow)
        follower.start()
        result = labelled(2)
        follower.join(5)
        assert self.written(api) == [
            [((1, 2), {"stable": 1})],
            [((1, 2), {"stable": 2})],
            [((2,), {"stable": 2})],
        ]
        assert [row["kind"] for row in result["objects"] if row["action"] == "updated"] == ["ConfigMap"]
        assert labelled(2)["changed"] is False

    @pytest.mark.parametrize("wanted", [[2], [1, 2]])
    def test_a_version_that_can_not_be_loaded_is_taken_out_again(
        self, api: ApiServer, run: Run, serve: Run, wanted: list[int]
    ) -> None:
        serve(1)
        api.requests.clear()
        self.states = {"1": "AVAILABLE", "2": "END"}
        failed = run(
            "model_server",
            name="server",
            store="models",
            models=[{"name": "half_plus_two", "versions": wanted}],
            wait_timeout=10,
        )
        assert (
            "model half_plus_two version 2 can't be loaded: bad. The versions that were served before" in failed["msg"]
        )
        assert "The configuration of before is in force again" in failed["msg"]
        assert self.written(api) == [[((1, 2), {})], [((1,), {})]]
        assert serve(1)["changed"] is False

    def test_a_model_that_moved_is_kept_until_it_is_let_go(self, api: ApiServer, run: Run, serve: Run) -> None:
        golden = [{"request": {"instances": [1.0]}, "response": {"predictions": [2.5]}}]
        moved = {"name": "alpha", "versions": [1], "labels": {"stable": 1}, "golden": golden}
        stays = {"name": "half_plus_two", "versions": [1]}

        def served(models: list[Json], **more: Any) -> Json:
            return run("model_server", name="server", store="models", models=models, wait_timeout=10, **more)

        def files() -> Json:
            (live,) = [entry for entry in api.find("configmaps") if entry["metadata"]["name"] == "server-models"]
            data: Json = live["data"]
            return data

        assert served([moved, stays])["retained"] == []
        before = files()
        api.requests.clear()
        assert served([moved, stays], retain=["alpha", "elsewhere"])["retained"] == []
        unmoved = sorted((request.method, request.path) for request in api.requests)
        api.requests.clear()
        assert served([moved, stays])["retained"] == []
        assert unmoved == sorted((one.method, one.path) for one in api.requests), "it costs nothing"

        for check in (True, False):
            kept = served([stays], retain=["alpha", "elsewhere"], check=check)
            assert kept["retained"] == ["alpha"]
            assert kept["changed"] is False
        assert files() == before, "with its label and its probes, in its place"
        newer = served([{**stays, "labels": {"stable": 1}}, {"name": "gamma", "versions": [1]}], retain=["alpha"])
        assert newer["retained"] == ["alpha"]
        assert [model.name for model in read_config(files()["models.config"])] == ["alpha", "half_plus_two", "gamma"]

        foretold = served([stays], check=True)
        done = served([stays])
        assert foretold["objects"] == done["objects"]
        assert [model.name for model in read_config(files()["models.config"])] == ["half_plus_two"]
        assert not [name for name in files() if "alpha" in name]

    def test_what_no_pod_has_loaded_is_not_kept(self, api: ApiServer, run: Run, serve: Run) -> None:
        models = [{"name": name, "versions": [1]} for name in ("alpha", "half_plus_two")]
        run("model_server", name="server", store="models", models=models, wait_timeout=10)
        answer = api.pod_answer

        def unknown(pod: str, method: str, path: str, body: bytes) -> tuple[int, Any]:
            return (404, {"error": "no such model"}) if "/alpha" in path else answer(pod, method, path, body)

        api.pod_answer = unknown
        result = run(
            "model_server", name="server", store="models", models=models[1:], retain=["alpha"], wait_timeout=10
        )
        assert result["retained"] == []
        assert result["changed"] is True

    def test_a_store_that_is_missing_or_for_one_pod_is_refused(self, api: ApiServer, run: Run) -> None:
        models = [{"name": "half_plus_two", "versions": [1]}]
        missing = run("model_server", name="server", store="other", models=models)
        assert "there is no PersistentVolumeClaim serving/other to serve from" in missing["msg"]
        assert run("model_server", name="server", store="other", models=models, check=True)["changed"] is True
        claim = {"apiVersion": "v1", "kind": "PersistentVolumeClaim", "spec": {"accessModes": ["ReadWriteOncePod"]}}
        api.put("persistentvolumeclaims", {**claim, "metadata": {"name": "single", "namespace": "serving"}})
        single = run("model_server", name="server", store="single", models=models)
        assert "is for one pod only (ReadWriteOncePod)" in single["msg"]
        assert api.find("deployments") == []

    def test_info_and_probe_ask_the_pods(self, run: Run, serve: Run) -> None:
        serve(1)
        (server,) = run("model_server_info")["servers"]
        assert server["models"] == ["half_plus_two"]
        assert server["store"] == "models"
        assert [pod["models"] for pod in server["pods"]] == [{"half_plus_two": {"1": "AVAILABLE"}}] * 2
        golden = {"request": {"instances": [1.0]}, "response": {"predictions": [2.5]}}
        models = [{"name": "half_plus_two", "golden": [golden]}]
        probed = run("model_probe", server="server", models=models)
        assert probed["healthy"] is True
        assert [row["target"] for row in probed["results"]] == ["pod server-0", "pod server-1"]
        missing = run("model_probe", server="other", models=models)
        assert missing["failed"] is True
        assert "no pod to probe" in missing["msg"]

    def test_an_image_is_served_and_found(self, run: Run) -> None:
        image = {"name": "server", "image": "team/forest:1", "model": "half_plus_two", "wait_timeout": 10}
        checked = run("image_server", **image, check=True)
        done = run("image_server", **image)
        assert checked["objects"] == done["objects"]
        assert {row["action"] for row in done["objects"]} == {"created"}
        assert run("image_server", **image)["changed"] is False
        (server,) = run("model_server_info")["servers"]
        assert (server["image"], server["store"], server["models"]) == ("team/forest:1", None, ["half_plus_two"])
        golden = {"request": {"instances": [1.0]}, "response": {"predictions": [2.5]}}
        assert run("model_probe", server="server", models=[{"name": "half_plus_two", "golden": [golden]}])["healthy"]
        assert run("image_server", name="server", state="absent", wait=False)["changed"] is True

    def test_a_server_can_turn_into_an_image_and_back(self, run: Run, serve: Run) -> None:
        serve(1)
        image = run("image_server", name="server", image="team/forest:1", model="forest", wait_timeout=10)
        actions = {row["kind"]: row["action"] for row in image["objects"]}
        assert (actions["ConfigMap"], actions["Deployment"]) == ("deleted", "updated")

    def test_a_probe_waits_for_the_right_answer(self, api: ApiServer, run: Run, serve: Run) -> None:
        serve(1)
        right = api.pod_answer
        calls: list[str] = []

        def late(*arguments: Any) -> tuple[int, Any]:
            calls.append(arguments[0])
            return right(*arguments) if len(calls) > 2 else (503, {"error": "not yet"})

        api.pod_answer = late
        golden = {"request": {"instances": [1.0]}, "response": {"predictions": [2.5]}}
        models = [{"name": "half_plus_two", "golden": [golden]}]
        assert run("model_probe", server="server", models=models, wait_timeout=5)["healthy"] is True


class TestNamespace:
    """serving_namespace, on a real API server, which has no controller that empties a namespace."""

    @pytest.fixture
    def space(self, kubernetes: Kubernetes, request: pytest.FixtureRequest) -> Run:
        name = f"space-{abs(hash(request.node.nodeid)) % 10**8}"

        def space(**arguments: Any) -> Json:
            check = arguments.pop("check", False)
            return run_module("serving_namespace", {**kubernetes.connection, "name": name, **arguments}, check=check)

        return space

    def test_it_is_made_kept_and_changed(self, space: Run) -> None:
        options = {"quota": {"pods": 20}, "default_requests": {"cpu": "100m"}, "labels": {"team": "a"}}
        checked = space(**options, check=True)
        made = space(**options)
        assert checked["objects"] == made["objects"]
        assert {row["kind"] for row in made["objects"]} == {"Namespace", "ResourceQuota", "LimitRange", "NetworkPolicy"}
        assert space(**options)["changed"] is False
        less = space(quota={"pods": 20})
        assert {row["kind"]: row["action"] for row in less["objects"]} == {
            "Namespace": "updated",
            "ResourceQuota": "unchanged",
            "LimitRange": "deleted",
            "NetworkPolicy": "unchanged",
        }

    def test_one_that_was_there_is_not_deleted(self, space: Run, kubernetes: Kubernetes) -> None:
        name = space(check=True)["objects"][0]["name"]
        with connect(kubernetes.connection) as session:
            body = {**SPACE, "metadata": {"name": name}}
            session.request("POST", "/api/v1/namespaces", body=body)
            assert space()["changed"] is True
            # By the feature itself: Ansible tells a warning to its user only once in a process.
            warnings: list[str] = []
            arguments = {**kubernetes.connection, "name": name, "state": "absent", "wait_timeout": 1}
            found = feature("serving_namespace")
            params = ArgumentSpecValidator(found.arguments).validate(arguments).validated_parameters
            gone = found.run(Call(params, warn=warnings.append)).as_dict(diff=False)
            live = session.request("GET", f"/api/v1/namespaces/{name}")
        assert {row["kind"]: row["action"] for row in gone["objects"]}["NetworkPolicy"] == "deleted"
        assert live["status"]["phase"] == "Active"
        assert len(warnings) == 1
        assert f"the namespace {name} was there before this collection" in warnings[0]

    def test_one_that_is_stuck_is_a_bounded_wait(self, space: Run) -> None:
        name = space()["objects"][0]["name"]
        stuck = space(state="absent", wait_timeout=1)
        assert f"waited 1 s: Namespace {name} is still there" in stuck["msg"]
        again = space(wait_timeout=1)
        assert f"waited 1 s: Namespace {name} is still there" in again["msg"]
