# SPDX-FileCopyrightText: The modelfleet maintainers
# SPDX-License-Identifier: GPL-3.0-or-later
"""model_store with remote sources and old versions, against the small API server and a little of a Job's controller."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from _api_server import ApiServer
from _doors import run_module
from _models import saved_model

from ansible_collections.modelfleet.serving.plugins.module_utils._manifests.server import ServerSpec, server
from ansible_collections.modelfleet.serving.plugins.module_utils._tfserving.model_config import ServedModel

Json = dict[str, Any]
Run = Callable[..., Json]
DIGEST = "sha256:" + "a" * 64
OTHER = "sha256:" + "b" * 64
REPORT = json.dumps({"digest": DIGEST, "bytes": 12})
URL = "https://models.example.org/m"


class Controller:
    """Ends each Job at once, as ``outcome`` says: the exit code of its pod and its last words."""

    def __init__(self, api: ApiServer) -> None:
        self.api = api
        self.outcome: tuple[int, str] | None = (0, REPORT)
        self.jobs: list[Json] = []
        api.on_create = self.created

    def created(self, manifest: Json) -> None:
        if manifest["kind"] == "Pod" and manifest["metadata"]["name"].endswith("-loader"):
            manifest["status"] = {
                "phase": "Running",
                "containerStatuses": [{"name": "loader", "ready": True, "state": {"running": {}}}],
            }
        if manifest["kind"] == "Job":
            self.jobs.append(manifest)
            if self.outcome is not None:
                self.end(manifest, *self.outcome)

    def end(self, job: Json, code: int, words: str) -> None:
        """Give a job its pod and its status."""
        name, namespace = job["metadata"]["name"], job["metadata"]["namespace"]
        ended = {"exitCode": code, "message": words}
        pod = {
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {
                "name": f"{name}-x",
                "namespace": namespace,
                "labels": {**job["metadata"]["labels"], "batch.kubernetes.io/job-name": name},
            },
            "spec": job["spec"]["template"]["spec"],
            "status": {
                "phase": "Failed" if code else "Succeeded",
                "containerStatuses": [{"name": "fetch", "ready": False, "state": {"terminated": ended}}],
            },
        }
        self.api.put("pods", pod)
        condition = {"type": "Failed" if code else "Complete", "status": "True", "reason": "BackoffLimitExceeded"}
        job["status"] = {"conditions": [condition]}


@pytest.fixture
def controller(api: ApiServer) -> Controller:
    api.put("namespaces", {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "serving"}})
    return Controller(api)


@pytest.fixture
def fill(api: ApiServer, controller: Controller) -> Run:
    def fill(*models: Json, check: bool = False, **more: Any) -> Json:
        arguments = {"host": api.url, "namespace": "serving", "name": "models", "wait_timeout": 10, **more}
        return run_module("model_store", {**arguments, "models": list(models)}, check=check)

    return fill


def model(*versions: int, **more: Any) -> Json:
    return {"name": "m", "source": URL, "versions": list(versions), **more}


def recorded(api: ApiServer) -> Json:
    (claim,) = api.find("persistentvolumeclaims")
    found: Json = json.loads(claim["metadata"].get("annotations", {}).get("modelfleet.serving/versions", "{}"))
    return found


def test_what_a_job_reports_is_recorded_and_the_job_goes(api: ApiServer, controller: Controller, fill: Run) -> None:
    result = fill(model(1, 2))
    assert result["copied"] == [
        {"claim": "models", "model": "m", "version": version, "digest": DIGEST, "bytes": 12} for version in (1, 2)
    ]
    assert result["versions"] == recorded(api) == {"m": {"1": DIGEST, "2": DIGEST}}
    assert len(controller.jobs) == 2
    assert api.find("jobs") == []
    assert not any(
        manifest["kind"] == "Pod" and "loader" in manifest["metadata"]["name"] for manifest in api.find("pods")
    )
    before = len(controller.jobs)
    assert fill(model(1, 2))["changed"] is False
    assert len(controller.jobs) == before, "what is recorded is not fetched again"


def test_check_mode_tells_what_is_known(api: ApiServer, fill: Run) -> None:
    checked = fill(model(1, digests={"1": DIGEST}), check=True)
    assert not api.writes()
    done = fill(model(1, digests={"1": DIGEST}))
    for part in ("changed", "diff", "versions", "objects", "collected", "spared"):
        assert checked[part] == done[part]
    unknown = fill(model(1, 2), check=True)
    assert unknown["versions"]["m"]["2"] == "known when it is copied"
    assert unknown["copied"] == [{"claim": "models", "model": "m", "version": 2, "digest": None, "bytes": None}]


def test_a_job_that_fails_says_why_and_is_replaced(api: ApiServer, controller: Controller, fill: Run) -> None:
    controller.outcome = (1, "first line\nthe bucket is not there.\n")
    failed = fill(model(1))
    assert "has failed: first line / the bucket is not there." in failed["msg"]
    assert "Job serving/models-fetch-" in failed["msg"]
    (job,) = api.find("jobs")
    assert recorded(api) == {}
    controller.outcome = (0, REPORT)
    api.on_create = controller.created
    removed = threading.Timer(0.3, lambda: api.remove("pods", f"{job['metadata']['name']}-x"))
    removed.start()
    assert fill(model(1))["changed"] is True
    removed.join()
    assert len(controller.jobs) == 2


def test_a_job_that_fails_says_why_also_when_the_watch_of_its_pods_is_behind(
    api: ApiServer, controller: Controller, fill: Run
) -> None:
    def end_later(manifest: Json) -> None:
        controller.created(manifest)
        if manifest["kind"] == "Job":
            threading.Timer(0.5, end, [manifest]).start()

    def end(job: Json) -> None:
        controller.end(job, 1, "the bucket is not there.")
        api.put("jobs", job)

    controller.outcome = None
    api.on_create = end_later
    api.fail("WATCH", "/api/v1/namespaces/serving/pods", 200, delay=5)
    assert "has failed: the bucket is not there." in fill(model(1))["msg"]


def test_a_job_that_another_run_has_begun_is_gone_on_with(api: ApiServer, controller: Controller, fill: Run) -> None:
    controller.outcome = None
    late = fill(model(1), wait_timeout=1)
    assert "waited 1 s: Job serving/models-fetch-" in late["msg"]
    (job,) = api.find("jobs")

    def end() -> None:
        controller.end(job, 0, REPORT)
        api.put("jobs", job)

    threading.Timer(0.3, end).start()
    assert fill(model(1))["versions"] == {"m": {"1": DIGEST}}
    assert len(controller.jobs) == 1


def test_a_job_that_has_ended_meanwhile_is_taken(api: ApiServer, controller: Controller, fill: Run) -> None:
    controller.outcome = None
    fill(model(1), wait_timeout=1)
    (job,) = api.find("jobs")
    controller.end(job, 0, REPORT)
    api.put("jobs", job)
    assert fill(model(1))["versions"] == {"m": {"1": DIGEST}}
    assert len(controller.jobs) == 1


def test_a_job_that_is_removed_by_someone_ends_the_wait(api: ApiServer, controller: Controller, fill: Run) -> None:
    controller.outcome = None

    def remove() -> None:
        (job,) = api.find("jobs")
        api.remove("jobs", job["metadata"]["name"])

    threading.Timer(1, remove).start()
    assert "was removed while this run was using it" in fill(model(1))["msg"]


def test_a_pod_that_is_evicted_as_it_ends_has_been_heard(api: ApiServer, controller: Controller, fill: Run) -> None:
    controller.outcome = None

    def end() -> None:
        (job,) = api.find("jobs")
        controller.end(job, 0, REPORT)
        api.remove("pods", f"{job['metadata']['name']}-x")
        threading.Timer(0.3, api.put, ("jobs", job)).start()

    threading.Timer(0.5, end).start()
    assert fill(model(1))["versions"] == {"m": {"1": DIGEST}}


def test_a_job_without_a_report_is_done_again(api: ApiServer, controller: Controller, fill: Run) -> None:
    controller.outcome = None

    def lose() -> None:
        (job,) = api.find("jobs")
        api.put("jobs", {**job, "status": {"conditions": [{"type": "Complete", "status": "True"}]}})

    threading.Timer(0.5, lose).start()
    assert "has ended without a report. Run again." in fill(model(1))["msg"]
    controller.outcome = (0, REPORT)
    assert fill(model(1))["versions"] == {"m": {"1": DIGEST}}
    assert len(controller.jobs) == 2


def test_another_claim_of_the_name_has_other_jobs(api: ApiServer, controller: Controller, fill: Run) -> None:
    fill(model(1))
    api.remove("persistentvolumeclaims", "models")
    fill(model(1))
    names = [job["metadata"]["name"] for job in controller.jobs]
    assert names[0] != names[1]


def test_the_wrong_digest_is_not_recorded(api: ApiServer, fill: Run) -> None:
    wrong = fill(model(1, digests={"1": OTHER}))
    assert "other files" in wrong["msg"]
    assert recorded(api) == {}


def test_remotes_go_to_a_secret_and_are_not_shown(api: ApiServer, controller: Controller, fill: Run) -> None:
    remote = {"type": "s3", "region": "eu-west-1", "secret_access_key": "a-key-that-nobody-sees"}
    bucket = {"name": "m", "source": "s3:bucket/m", "versions": [1]}
    result = fill(bucket, remotes={"s3": remote}, remotes_secret="kept")
    assert result["changed"] is True
    (secret,) = api.find("secrets")
    assert secret["metadata"]["name"] == "models-remotes"
    assert secret["data"].keys() == {f"RCLONE_CONFIG_S3_{name}" for name in ("TYPE", "REGION", "SECRET_ACCESS_KEY")}
    (container,) = controller.jobs[0]["spec"]["template"]["spec"]["containers"]
    assert container["envFrom"] == [{"secretRef": {"name": name}} for name in ("models-remotes", "kept")]
    assert "a-key-that-nobody-sees" not in json.dumps(result)
    assert "eu-west-1" in json.dumps(result["invocation"]), "what is no secret is shown"
    controller.outcome = (1, "refused: a-key-that-nobody-sees")
    failed = fill({**bucket, "versions": [1, 2]}, remotes={"s3": remote})
    assert "refused: " in failed["msg"]
    assert "a-key" not in json.dumps(failed)
    assert fill(model(1))["changed"] is True, "a Secret that nothing needs goes"
    assert api.find("secrets") == []


def test_the_job_can_be_bent(controller: Controller, fill: Run) -> None:
    patch = {"Job": {"spec": {"template": {"spec": {"nodeSelector": {"pool": "big"}}}}}}
    fill(model(1), overrides=patch)
    assert controller.jobs[0]["spec"]["template"]["spec"]["nodeSelector"] == {"pool": "big"}
    assert "there is no Deployment" in fill(model(1), overrides={"Deployment": {}})["msg"]


@pytest.mark.parametrize(
    ("modes", "words"),
    [
        (["ReadOnlyMany"], "is ReadOnlyMany alone, so nothing can be written to it. Add"),
        (["ReadWriteOncePod", "ReadWriteOnce"], "ReadWriteOncePod goes with no other mode"),
        (["ReadWriteSometimes"], "value of access_modes must be one or more of"),
        ([], "access_modes: there is none"),
    ],
)
def test_access_modes_that_can_not_work_are_refused(api: ApiServer, fill: Run, modes: list[str], words: str) -> None:
    assert words in fill(model(1), access_modes=modes)["msg"]
    assert not api.writes()


def test_a_volume_for_one_pod_is_not_waited_for(api: ApiServer, controller: Controller, fill: Run) -> None:
    modes = {"access_modes": ["ReadWriteOncePod"]}
    assert fill(model(1), **modes)["changed"] is True
    claim = {"persistentVolumeClaim": {"claimName": "models"}}
    pod: Json = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "server-0", "namespace": "serving"}}
    api.put("pods", {**pod, "spec": {"volumes": [{"name": "store", **claim}]}, "status": {"phase": "Running"}})
    assert fill(model(1), **modes)["changed"] is False, "what needs no writing is no trouble"
    refused = fill(model(1, 2), **modes)
    assert "is ReadWriteOncePod and mounted by Pod serving/server-0, so no other pod can write to it" in refused["msg"]


@pytest.mark.parametrize(
    ("entry", "words"),
    [
        ({"source": "/srv/m.zip", "versions": [1, 2]}, "source is one archive for 2 versions"),
        ({"source": "gs:bucket", "versions": [1]}, "there is no remote 'gs'"),
        ({"source": URL, "versions": [1], "keep": -1}, "keep is below 0"),
        ({"source": URL, "versions": [1], "digests": {1: "md5:1"}}, "is no digest"),
        ({"source": URL, "versions": [0]}, "0 is no model version"),
    ],
)
def test_wrong_input_is_refused_before_anything_is_called(api: ApiServer, fill: Run, entry: Json, words: str) -> None:
    assert words in fill({"name": "m", **entry})["msg"]
    assert api.requests == []


def test_absent_takes_the_jobs_along(api: ApiServer, controller: Controller, fill: Run) -> None:
    controller.outcome = (1, "no")
    fill(model(1))
    assert api.find("jobs")
    fill(state="absent")
    assert api.find("jobs") == []
    assert api.find("persistentvolumeclaims") == []


class TestKeep:
    """Old versions, with a store in a folder of this machine."""

    @pytest.fixture
    def source(self, tmp_path: Path, fill: Run) -> str:
        for version in (1, 2, 3, 4):
            saved_model(tmp_path / "m", version, b"weights" * version)
        fill({"name": "m", "source": str(tmp_path / "m"), "versions": [1, 2, 3, 4]})
        return str(tmp_path / "m")

    def held(self, api: ApiServer) -> list[str]:
        assert recorded(api)["m"].keys() == {path.name for path in (api.folder / "m").iterdir()}
        assert not (api.folder / ".trash").exists()
        return sorted(recorded(api)["m"])

    def serve(self, api: ApiServer, *versions: int, store: str | None = None) -> None:
        models = (ServedModel("m", versions),)
        spec = ServerSpec("serving", "serving", "tensorflow/serving:2.19.1", models, store or "models")
        plurals = {"ConfigMap": "configmaps"} | ({"Deployment": "deployments"} if store else {})
        for manifest in server(spec):
            if manifest["kind"] in plurals:
                api.put(plurals[manifest["kind"]], manifest)

    def test_all_stay_unless_told(self, api: ApiServer, fill: Run, source: str) -> None:
        assert fill({"name": "m", "source": source, "versions": [4]})["changed"] is False
        assert self.held(api) == ["1", "2", "3", "4"]

    def test_the_oldest_go_and_check_mode_says_so(self, api: ApiServer, fill: Run, source: str) -> None:
        entry = {"name": "m", "source": source, "versions": [4], "keep": 1}
        checked = fill(entry, check=True)
        assert self.held(api) == ["1", "2", "3", "4"]
        done = fill(entry)
        assert {**checked, "invocation": None} == {**done, "invocation": None}
        assert [row["version"] for row in done["collected"]] == [2, 1]
        assert self.held(api) == ["3", "4"]
        assert fill(entry)["changed"] is False

    @pytest.mark.parametrize("store", [None, "models"])
    def test_what_is_served_stays(self, api: ApiServer, fill: Run, source: str, store: str | None) -> None:
        self.serve(api, 1, store=store)
        done = fill({"name": "m", "source": source, "versions": [4], "keep": 0})
        assert done["spared"] == [{"claim": "models", "model": "m", "version": 1, "server": "serving"}]
        assert self.held(api) == ["1", "4"]

    def test_a_server_of_another_store_counts_not(self, api: ApiServer, fill: Run, source: str) -> None:
        self.serve(api, 1, store="others")
        done = fill({"name": "m", "source": source, "versions": [4], "keep": 0})
        assert done["spared"] == []
        assert self.held(api) == ["4"]

    def test_nothing_goes_when_a_copy_fails(
        self, api: ApiServer, controller: Controller, fill: Run, source: str
    ) -> None:
        controller.outcome = (1, "no")
        fill({"name": "m", "source": URL, "versions": [5], "keep": 0})
        assert self.held(api) == ["1", "2", "3", "4"]
