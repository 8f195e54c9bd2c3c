# SPDX-FileCopyrightText: The modelfleet maintainers
# SPDX-License-Identifier: GPL-3.0-or-later
"""cluster_health against a real HTTP edge, on the small API server, and on the real one what it reads there."""

from __future__ import annotations

import json
import ssl
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from _api_server import ApiServer
from _certificates import make_certificates
from _cluster import Cluster
from _doors import run_module
from _edge import Edge
from _kubernetes import Kubernetes

from ansible_collections.modelfleet.serving.plugins.module_utils._cluster.wait import Deadline
from ansible_collections.modelfleet.serving.plugins.module_utils._failover.observe import run_until
from ansible_collections.modelfleet.serving.plugins.module_utils._manifests.autoscaling import Autoscaling
from ansible_collections.modelfleet.serving.plugins.module_utils._manifests.server import ServerSpec, server
from ansible_collections.modelfleet.serving.plugins.module_utils._tfserving.model_config import ServedModel

Json = dict[str, Any]
GOLDEN = {"request": {"instances": [1.0]}, "response": {"predictions": [2.5]}}
MODEL = {"name": "m", "versions": [1], "golden": [GOLDEN]}


@pytest.fixture
def health(edge: Edge, api: ApiServer) -> Callable[..., Json]:
    def health(**arguments: Any) -> Json:
        given = {"host": api.url, "edge_url": edge.url, "namespace": "serving", "models": [MODEL], **arguments}
        result = run_module("cluster_health", given)
        assert "unreachable" not in result
        return result

    return health


Health = Callable[..., Json]


def hang() -> tuple[int, Any]:
    time.sleep(30)
    return 200, {}


def without_seconds(result: Json) -> Json:
    return {
        name: {key: value for key, value in row.items() if key != "seconds"}
        for name, row in result["edge"]["models"].items()
    }


def test_edge_and_api_of_a_healthy_cluster(edge: Edge, real: Cluster, kubernetes: Kubernetes) -> None:
    record = {"m": {"1": "sha256:one", "2": "sha256:two", "10": "sha256:ten"}, "other": {"1": "sha256:other"}}
    annotations = {"modelfleet.serving/versions": json.dumps(record)}
    size = {"requests": {"storage": "1Gi"}}
    claim = {
        "apiVersion": "v1",
        "kind": "PersistentVolumeClaim",
        "metadata": {**real.named("models"), "annotations": annotations},
        "spec": {"accessModes": ["ReadWriteMany"], "resources": size},
    }
    given: Json = {"namespace": real.namespace, "image": "serving:1", "store": "models"}
    latest = ServedModel("m", policy="latest", num_versions=2)
    scaled = ServerSpec(name="scaled", models=(latest,), replicas=2, autoscaling=Autoscaling(3, 9, cpu=50), **given)
    fixed = ServerSpec(name="fixed", models=(ServedModel("other", (1,)),), replicas=2, **given)
    real.apply(claim, *server(scaled), *server(fixed))
    path = f"/apis/apps/v1/namespaces/{real.namespace}/deployments/fixed/status"
    status = {"status": {"observedGeneration": 1, "replicas": 2, "readyReplicas": 1}}
    real.session.request("PATCH", path, body=status, content_type="application/merge-patch+json")

    result = run_module(
        "cluster_health",
        {
            **kubernetes.connection,
            "edge_url": edge.url,
            "namespace": real.namespace,
            "servers": ["scaled", "fixed", "missing"],
            "models": [MODEL, {"name": "of_image", "golden": [GOLDEN]}],
        },
    )
    assert without_seconds(result) == {
        "m": {"right": True, "answered": True, "error": "", "versions": [2]},
        "of_image": {"right": True, "answered": True, "error": "", "versions": None},
    }
    assert result["edge"]["right"] is True
    assert 0 < result["edge"]["models"]["m"]["seconds"] < 1.5
    assert edge.asked == ["/v1/models/m"], "nobody asks for the versions of a model that has none"
    assert result["api"] == {
        "reachable": True,
        "error": "",
        "servers": [
            {
                "name": "scaled",
                "replicas": 1,  # as the API server defaults what the autoscaler is to say
                "ready": 0,
                "min": 3,
                "max": 9,
                "volumes": None,
                "models": {"m": {"versions": [2, 10], "digests": record["m"]}},
            },
            {
                "name": "fixed",
                "replicas": 2,
                "ready": 1,
                "min": None,
                "max": None,
                "volumes": None,
                "models": {"other": {"versions": [1], "digests": record["other"]}},
            },
            {"name": "missing", "replicas": 0, "ready": 0, "min": None, "max": None, "volumes": None, "models": {}},
        ],
    }


@pytest.mark.parametrize(
    ("answer", "answered", "words"),
    [
        ((200, {"predictions": [7.0]}), True, "golden: ['predictions'][0] is 7.0, not 2.5"),
        ((200, {"outputs": [2.5]}), True, "golden: the answer has ['outputs']"),
        ((200, {"hello": "world"}), False, "golden: the answer has ['hello']"),
        ((200, b"<html>"), False, "golden: the answer is not JSON"),
        ((200, []), False, "golden: the answer has []"),
        ((503, {"error": "no backend"}), False, "golden: no backend (503)"),
        ((404, b"404 page not found"), False, "golden: 404 page not found (404)"),
    ],
)
def test_a_wrong_answer_and_none_are_told_apart(
    edge: Edge, health: Health, answer: tuple[int, Any], answered: bool, words: str
) -> None:
    edge.predictions["m"] = lambda: answer
    result = health(models=[MODEL, {"name": "fine", "golden": [GOLDEN]}])
    row = result["edge"]["models"]["m"]
    assert (row["right"], row["answered"]) == (False, answered)
    assert words in row["error"]
    assert result["edge"]["right"] is False
    assert result["edge"]["models"]["fine"]["right"] is True


@pytest.mark.parametrize(
    "status", [(404, {"error": "none"}), (500, b"oops"), (200, []), (200, {"model_version_status": [1]})]
)
def test_versions_that_nobody_tells_are_not_known(edge: Edge, health: Health, status: tuple[int, Any]) -> None:
    edge.status = status
    row = health()["edge"]["models"]["m"]
    assert (row["right"], row["versions"]) == (True, None)


def test_what_hangs_does_not_hold_the_rest(api: ApiServer, edge: Edge, health: Health) -> None:
    answers = iter([(200, {"predictions": [2.5]})])
    edge.predictions["half"] = lambda: next(answers, None) or hang()
    edge.predictions["silent"] = hang
    api.fail("GET", "/deployments", 200, delay=30)
    started = time.monotonic()
    models = [{"name": name, "golden": [GOLDEN, GOLDEN]} for name in ("half", "silent", "fine")]
    result = health(models=models, timeout=30, deadline=1)
    assert time.monotonic() - started < 2
    silence = f"{edge.url}: no answer within 1 s."
    assert result["edge"]["models"]["half"] == {
        "right": False,
        "answered": True,
        "error": silence,
        "versions": None,
        "seconds": 1.0,
    }
    assert result["edge"]["models"]["silent"]["answered"] is False
    assert result["edge"]["models"]["fine"]["right"] is True
    assert result["api"] == {"reachable": False, "error": f"cluster {api.url}: no answer within 1 s.", "servers": []}


def test_one_prediction_has_its_own_limit(edge: Edge, health: Health) -> None:
    edge.predictions["m"] = hang
    started = time.monotonic()
    row = health(timeout=0.3)["edge"]["models"]["m"]
    assert time.monotonic() - started < 2
    assert "no answer: " in row["error"]
    assert 0.3 <= row["seconds"] < 1


def test_a_cluster_that_is_gone_is_a_finding(health: Health) -> None:
    nobody = "http://127.0.0.1:1"
    result = health(host=nobody, edge_url=nobody)
    assert "failed" not in result
    assert result["edge"]["right"] is False
    assert f"{nobody}: no answer: " in result["edge"]["models"]["m"]["error"]
    assert (result["api"]["reachable"], result["api"]["servers"]) == (False, [])
    assert f"no answer from {nobody}" in result["api"]["error"]


@pytest.mark.parametrize(("status", "reachable"), [(403, True), (401, True), (500, False)])
def test_an_api_that_refuses_has_answered(api: ApiServer, health: Health, status: int, reachable: bool) -> None:
    api.fail("GET", "/deployments", status, times=9, message="the server's words")
    result = health()
    assert result["edge"]["right"] is True
    assert (result["api"]["reachable"], result["api"]["servers"]) == (reachable, [])
    # A 500 is asked again, perhaps until the deadline.
    assert "the server's words" in result["api"]["error"] or not reachable


def test_a_plugin_that_gets_no_token_is_no_bad_input(api: ApiServer, health: Health, tmp_path: Path) -> None:
    command = {"apiVersion": "client.authentication.k8s.io/v1", "command": "false", "interactiveMode": "Never"}
    kubeconfig = {
        "current-context": "c",
        "contexts": [{"name": "c", "context": {"cluster": "c", "user": "u"}}],
        "clusters": [{"name": "c", "cluster": {"server": api.url}}],
        "users": [{"name": "u", "user": {"exec": command}}],
    }
    result = health(host=None, kubeconfig=kubeconfig)
    assert result["edge"]["right"] is True
    assert result["api"]["reachable"] is False
    assert "the plugin false" in result["api"]["error"]


def test_a_model_may_have_a_host_of_its_own(edge: Edge, health: Health) -> None:
    models = [{"name": "a", "golden": [GOLDEN], "host": "a.example.org"}, {"name": "b", "golden": [GOLDEN]}]
    assert health(models=models, host_header="all.example.org")["edge"]["right"] is True
    assert sorted(edge.hosts) == ["a.example.org", "all.example.org"]


def test_the_certificate_of_an_edge_is_verified_unless_told_otherwise(
    edge: Edge, health: Health, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    certificates = make_certificates(tmp_path / "certificates")
    context = certificates.server_context()
    context.verify_mode = ssl.CERT_NONE
    edge.server.socket = context.wrap_socket(edge.server.socket, server_side=True)
    url = edge.url.replace("http:", "https:")
    unknown = health(edge_url=url)["edge"]["models"]["m"]
    assert (unknown["right"], "certificate verify failed" in unknown["error"]) == (False, True)
    assert health(edge_url=url, validate_certs=False)["edge"]["right"] is True
    monkeypatch.setenv("SSL_CERT_FILE", str(certificates.ca))
    assert health(edge_url=url)["edge"]["right"] is True


def test_the_planner_reads_it(edge: Edge, health: Health) -> None:
    edge.predictions["m"] = lambda: (200, {"predictions": [7.0]})
    sick, well = health(), {"edge": {"models": {"m": {"right": True, "answered": True, "error": "", "versions": [1]}}}}
    # Ansible remembers the warnings of all that ran in this process before.
    sick.pop("warnings", None)
    members = [{"name": name, "state": "active", "up": name == "well", "rate": 1.0} for name in ("sick", "well")]
    clusters = [{"name": "sick", "health": sick}, {"name": "well", "health": well}]
    result = run_module("failover_plan", {"action": "failover", "members": members, "clusters": clusters})
    assert [(move["cluster"], move["after"]) for move in result["plan"]["moves"]] == [("sick", "drained")]


def test_a_defect_is_not_taken_for_silence() -> None:
    with pytest.raises(ZeroDivisionError):
        run_until(Deadline.after(5), [lambda: print(1 // 0)])
