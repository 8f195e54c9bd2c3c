# SPDX-FileCopyrightText: The modelfleet maintainers
# SPDX-License-Identifier: GPL-3.0-or-later
"""The manifests against Kubernetes' own schemas, against Pod Security's restricted level, and against each other."""

from __future__ import annotations

import json
import re
import subprocess
import threading
from collections.abc import Iterator
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest

from ansible_collections.modelfleet.serving.plugins.module_utils._cluster.kinds import Ref, wave
from ansible_collections.modelfleet.serving.plugins.module_utils._manifests.autoscaling import Autoscaling
from ansible_collections.modelfleet.serving.plugins.module_utils._manifests.fetch import FetchSpec, fetch
from ansible_collections.modelfleet.serving.plugins.module_utils._manifests.image_server import (
    ImageServerSpec,
    image_server,
)
from ansible_collections.modelfleet.serving.plugins.module_utils._manifests.names import server_selector
from ansible_collections.modelfleet.serving.plugins.module_utils._manifests.namespace import NamespaceSpec, namespace
from ansible_collections.modelfleet.serving.plugins.module_utils._manifests.route import route
from ansible_collections.modelfleet.serving.plugins.module_utils._manifests.route_spec import RouteSpec
from ansible_collections.modelfleet.serving.plugins.module_utils._manifests.server import (
    GrpcTls,
    ServerSpec,
    interim_config,
    server,
)
from ansible_collections.modelfleet.serving.plugins.module_utils._manifests.store import StoreSpec, loader, store
from ansible_collections.modelfleet.serving.plugins.module_utils._store.source import Source
from ansible_collections.modelfleet.serving.plugins.module_utils._tfserving.model_config import ServedModel
from ansible_collections.modelfleet.serving.plugins.module_utils._tfserving.parameters import Batching

Json = dict[str, Any]

MODELS = (ServedModel("half_plus_two", (1, 2), {"stable": 1}), ServedModel("iris", (1,)))
SERVER = ServerSpec("serving", "team", "tensorflow/serving:2.19.1", MODELS, "models")
STORE = StoreSpec("models", "team", "10Gi", "busybox:1.37.0")
POD_STORE = StoreSpec("models-serving-1", "team", "10Gi", "busybox:1.37.0", pod="serving-1")
CLAIM = {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "10Gi"}}}
FETCH = FetchSpec(
    store=replace(STORE, remotes={"RCLONE_CONFIG_A_TYPE": "s3"}, remotes_secret="kept"),
    model="iris",
    version=1,
    source=Source(":http:", remote=True, url="https://models.example.org/iris/1/"),
    digest="sha256:" + "0" * 64,
    claim_uid="00000000-0000-0000-0000-000000000000",
    image="rclone/rclone:1.76.0",
    seconds=600,
)
BUNDLES: dict[str, tuple[Json, ...]] = {
    "namespace": namespace(NamespaceSpec("team")),
    "namespace with limits": namespace(
        NamespaceSpec(
            "team",
            labels={"team": "vision"},
            annotations={"owner": "someone"},
            quota={"pods": "20", "requests.cpu": "8"},
            default_requests={"cpu": "100m", "memory": "128Mi"},
        )
    ),
    "namespace that was there": namespace(NamespaceSpec("team", isolate=False, created=False)),
    "store": store(STORE),
    "store of a class": store(
        StoreSpec("models", "team", "1Ti", "busybox", access_modes=("ReadWriteMany",), storage_class="fast")
    ),
    "store with remotes": store(
        StoreSpec("models", "team", "1Ti", "busybox", remotes={"RCLONE_CONFIG_A_TYPE": "s3"}, remotes_secret="kept")
    ),
    "loader": (loader(STORE, seconds=600),),
    "fetch": (fetch(FETCH),),
    "store of a pod": store(POD_STORE),
    "loader for a pod": (loader(POD_STORE, seconds=600),),
    "fetch for a pod": (fetch(replace(FETCH, store=POD_STORE)),),
    "fetch to any node": (fetch(replace(FETCH, store=replace(STORE, access_modes=("ReadWriteMany",)), digest=None)),),
    "server": server(SERVER),
    "server with a volume a pod": server(replace(SERVER, claim=CLAIM)),
    "server with a volume a pod that scales": server(
        replace(SERVER, claim=CLAIM, autoscaling=Autoscaling(2, 5, cpu=70))
    ),
    "server alone": server(
        ServerSpec(
            "serving",
            "team",
            "tensorflow/serving@sha256:" + "0" * 64,
            MODELS,
            "models",
            replicas=1,
            resources={"requests": {"cpu": "1", "memory": "2Gi"}, "limits": {"memory": "2Gi"}},
            arguments=("--tensorflow_session_parallelism=4",),
        )
    ),
    "server with everything": server(
        ServerSpec(
            "serving",
            "team",
            "tensorflow/serving:2.19.1",
            MODELS,
            "models",
            access_modes=("ReadWriteOnce",),
            golden={"iris": {"instances": [[1.0, 2.0]]}, "half_plus_two": {"instances": ["x" * 70000]}},
            autoscaling=Autoscaling(
                2,
                5,
                cpu=70,
                memory=80,
                metrics=(
                    {
                        "type": "Pods",
                        "pods": {"metric": {"name": "queue"}, "target": {"type": "AverageValue", "averageValue": "3"}},
                    },
                ),
                behavior={"scaleDown": {"stabilizationWindowSeconds": 60}},
            ),
            resources={"requests": {"cpu": "1", "memory": "2Gi"}},
            batching=Batching(32, 1000, None, 100, (8, 32)),
            grpc_tls=GrpcTls("certificates", verify_clients=True),
        )
    ),
    "image server": image_server(
        ImageServerSpec("forest", "team", "team/forest:3f1c", "iris_forest", {"THREADS": "2"}, ("--fast",))
    ),
    "image server that scales": image_server(
        ImageServerSpec("forest", "team", "team/forest:3f1c", "forest", autoscaling=Autoscaling(1, 5, cpu=70))
    ),
    "ingress": route(RouteSpec("half_plus_two", "serving", "team", "ingress", host="models.example.org")),
    "ingress of a class": route(
        RouteSpec("iris", "serving", "team", "ingress", grpc=False, ingress_class="nginx", annotations={"a/b": "c"})
    ),
    "gateway": route(RouteSpec("iris", "serving", "team", "gateway", host="a.example.org", gateway=("edge", "main"))),
}
# The Gateway API is a CRD, so not in Kubernetes' schemas: molecule applies its routes to a real gateway.
BUILT_IN = [
    pytest.param(manifest, id=f"{name}: {manifest['kind']} {number}")
    for name, bundle in BUNDLES.items()
    for number, manifest in enumerate(bundle)
    if not manifest["apiVersion"].startswith("gateway.")
]


@pytest.mark.parametrize("manifest", BUILT_IN)
@pytest.mark.parametrize("version", ["1.30", "1.36"])
def test_kubernetes_accepts_it(manifest: Json, version: str) -> None:
    kubernetes_validate.validate(manifest, version, strict=True)


def test_the_schemas_would_notice() -> None:
    """The validator itself works: a wrong field and a wrong type are found."""
    (claim,) = store(STORE)
    for wrong in ({"sizes": "10Gi"}, {"accessModes": "ReadWriteOnce"}):
        with pytest.raises(kubernetes_validate.ValidationError):
            kubernetes_validate.validate({**claim, "spec": {**claim["spec"], **wrong}}, "1.30", strict=True)


def pod_specs() -> Iterator[Any]:
    for name, bundle in BUNDLES.items():
        for manifest in bundle:
            if manifest["kind"] in ("Pod", "Deployment", "StatefulSet", "Job"):
                spec = manifest["spec"] if manifest["kind"] == "Pod" else manifest["spec"]["template"]["spec"]
                yield pytest.param(spec, id=name)


@pytest.mark.parametrize("spec", list(pod_specs()))
def test_pods_meet_the_restricted_level(spec: Json) -> None:
    """Each control of https://kubernetes.io/docs/concepts/security/pod-security-standards/#restricted."""
    assert not {"hostNetwork", "hostPID", "hostIPC"} & spec.keys()
    allowed = {
        "configMap",
        "csi",
        "downwardAPI",
        "emptyDir",
        "ephemeral",
        "persistentVolumeClaim",
        "projected",
        "secret",
    }
    for volume in spec["volumes"]:
        assert volume.keys() - {"name"} <= allowed
    assert spec["securityContext"]["runAsNonRoot"] is True
    assert spec["securityContext"]["runAsUser"] > 0
    assert spec["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    assert not spec["securityContext"].keys() & {"sysctls", "seLinuxOptions", "windowsOptions"}
    containers = [*spec.get("initContainers", []), *spec["containers"]]
    for container in containers:
        own = container["securityContext"]
        assert own["allowPrivilegeEscalation"] is False
        assert own["capabilities"] == {"drop": ["ALL"]}
        assert not own.keys() & {"privileged", "procMount", "runAsUser", "runAsNonRoot", "seccompProfile"}
        assert not any("hostPort" in port for port in container.get("ports", []))
    # Ours, beyond the standard: nothing to write to but volumes, and no token to steal.
    assert spec["automountServiceAccountToken"] is False
    assert all(container["securityContext"]["readOnlyRootFilesystem"] for container in containers)


@pytest.mark.parametrize("bundle", BUNDLES.values(), ids=BUNDLES.keys())
def test_objects_of_a_bundle_are_distinct_and_labelled(bundle: tuple[Json, ...]) -> None:
    refs = [Ref.of(manifest) for manifest in bundle]
    assert len(set(refs)) == len(refs)
    for manifest in bundle:
        assert manifest["metadata"]["labels"]["app.kubernetes.io/managed-by"] == "modelfleet"
        assert manifest["metadata"].get("namespace") == (None if manifest["kind"] == "Namespace" else "team")
        for value in manifest["metadata"]["labels"].values():
            assert re.fullmatch(r"[A-Za-z0-9]([A-Za-z0-9._-]{0,61}[A-Za-z0-9])?", value)


def by_kind(bundle: tuple[Json, ...]) -> dict[str, Json]:
    return {manifest["kind"]: manifest for manifest in bundle}


def test_the_parts_of_a_server_find_each_other() -> None:
    parts = by_kind(BUNDLES["server"])
    template = parts["Deployment"]["spec"]["template"]
    selector = server_selector("serving")
    assert parts["Deployment"]["spec"]["selector"]["matchLabels"] == selector
    assert parts["Service"]["spec"]["selector"] == selector
    assert parts["PodDisruptionBudget"]["spec"]["selector"]["matchLabels"] == selector
    assert selector.items() <= template["metadata"]["labels"].items()
    assert template["spec"]["serviceAccountName"] == parts["ServiceAccount"]["metadata"]["name"]
    (container,) = template["spec"]["containers"]
    names = {port["name"] for port in container["ports"]}
    assert {port["targetPort"] for port in parts["Service"]["spec"]["ports"]} == names
    volumes = {volume["name"]: volume for volume in template["spec"]["volumes"]}
    assert {mount["name"] for mount in container["volumeMounts"]} == volumes.keys()
    assert volumes["config"]["configMap"]["name"] == parts["ConfigMap"]["metadata"]["name"]
    assert volumes["store"]["persistentVolumeClaim"] == {"claimName": "models", "readOnly": True}
    assert "--model_config_file=/config/models.config" in container["args"]


def test_the_parts_of_an_image_server_find_each_other() -> None:
    parts = by_kind(BUNDLES["image server"])
    assert parts.keys() == {"ServiceAccount", "Deployment", "Service", "PodDisruptionBudget"}
    template = parts["Deployment"]["spec"]["template"]
    (container,) = template["spec"]["containers"]
    (port,) = parts["Service"]["spec"]["ports"]
    assert [port["targetPort"]] == [entry["name"] for entry in container["ports"]]
    variables = {entry["name"]: entry["value"] for entry in container["env"]}
    assert variables == {"PORT": "8501", "MODEL_NAME": "iris_forest", "THREADS": "2"}
    assert port["port"] == container["ports"][0]["containerPort"] == 8501, "what namespaces let in"
    assert container["args"] == ["--fast"]
    for probe in ("startupProbe", "readinessProbe"):
        assert container[probe]["httpGet"] == {"path": "/v1/models/iris_forest", "port": "rest"}
    assert template["metadata"]["labels"]["modelfleet.serving/model"] == "iris_forest"
    assert parts["Service"]["spec"]["selector"].items() <= template["metadata"]["labels"].items()
    volumes = {volume["name"] for volume in template["spec"]["volumes"]}
    assert {mount["name"] for mount in container["volumeMounts"]} == volumes


def test_a_pod_that_leaves_answers_until_it_is_drained() -> None:
    spec = by_kind(server(ServerSpec("s", "n", "i", MODELS, "models", drain_seconds=40)))["Deployment"]["spec"]
    pod = spec["template"]["spec"]
    assert pod["containers"][0]["lifecycle"]["preStop"]["exec"]["command"] == ["sleep", "40"]
    assert pod["terminationGracePeriodSeconds"] > 40
    assert spec["strategy"]["rollingUpdate"] == {"maxSurge": 1, "maxUnavailable": 0}


def test_one_replica_has_no_disruption_budget_that_would_block_a_drain() -> None:
    assert "PodDisruptionBudget" in by_kind(BUNDLES["server"])
    assert "PodDisruptionBudget" not in by_kind(BUNDLES["server alone"])


def container_of(name: str) -> Json:
    (container,) = by_kind(BUNDLES[name])["Deployment"]["spec"]["template"]["spec"]["containers"]
    return dict(container)


def test_probes_ask_by_the_requests_that_the_configuration_brings() -> None:
    files = by_kind(BUNDLES["server with everything"])["ConfigMap"]["data"]
    assert {name for name in files if name.endswith(".http")} == {
        "metadata.half_plus_two.http",
        "metadata.iris.http",
        "golden.iris.http",  # that of half_plus_two is too large for a ConfigMap
    }
    head, _blank, body = files["golden.iris.http"].partition("\r\n\r\n")
    assert head.startswith("POST /v1/models/iris:predict HTTP/1.1\r\n")
    assert f"Content-Length: {len(body)}" in head
    assert json.loads(body) == {"instances": [[1.0, 2.0]]}
    container = container_of("server with everything")
    assert "/config/*.http" in container["startupProbe"]["exec"]["command"][2]
    assert "/config/metadata.*.http" in container["readinessProbe"]["exec"]["command"][2]
    assert container["livenessProbe"]["tcpSocket"] == {"port": "rest"}


@pytest.mark.parametrize("status", [200, 400, None])
def test_a_probe_wants_success(status: int | None, tmp_path: Path) -> None:
    """The script of the probe itself, by bash, against a server that answers so, or not at all."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            asked.append((self.path, self.rfile.read(int(self.headers["Content-Length"]))))
            self.send_response(status or 0, "words of the server")
            self.end_headers()

        def log_message(self, *_arguments: Any) -> None: ...

    asked: list[tuple[str, bytes]] = []
    (tmp_path / "golden.iris.http").write_bytes(
        by_kind(BUNDLES["server with everything"])["ConfigMap"]["data"]["golden.iris.http"].encode()
    )
    with HTTPServer(("127.0.0.1", 0), Handler) as backend:
        threading.Thread(target=backend.serve_forever, args=(0.02,), daemon=True).start()
        port = backend.server_port
        if status is None:
            backend.shutdown()
            backend.server_close()
        shell, option, script = container_of("server with everything")["startupProbe"]["exec"]["command"]
        script = script.replace("PORT=8501", f"PORT={port}").replace("/config/", f"{tmp_path}/")
        process = subprocess.run([shell, option, script], capture_output=True, text=True, timeout=20, check=False)
        backend.shutdown()
    assert process.returncode == (0 if status == 200 else 1)
    assert ("400 words of the server" in process.stdout) == (status == 400)
    assert asked == ([("/v1/models/iris:predict", b'{"instances": [[1.0, 2.0]]}')] if status else [])


def test_certificates_get_into_the_servers_configuration(tmp_path: Path) -> None:
    pod = by_kind(BUNDLES["server with everything"])["Deployment"]["spec"]["template"]["spec"]
    (container,) = pod["initContainers"]
    key = "-----BEGIN PRIVATE KEY-----\nMIIE+/=\nabc==\n-----END PRIVATE KEY-----\n"
    for name in ("tls.key", "tls.crt", "ca.crt"):
        (tmp_path / name).write_text(key)
    environment = {entry["name"]: entry["value"] for entry in container["env"]} | {"OUTPUT": str(tmp_path)}
    subprocess.run(container["command"], cwd=tmp_path, env=environment, check=True)
    text = (tmp_path / "ssl.config").read_text()
    quoted = json.dumps(key)
    assert text == f"server_key: {quoted}\nserver_cert: {quoted}\ncustom_ca: {quoted}\nclient_verify: true\n"
    assert "--ssl_config_file=/tls-config/ssl.config" in container_of("server with everything")["args"]
    ports = by_kind(BUNDLES["server with everything"])["Service"]["spec"]["ports"]
    assert [port["appProtocol"] for port in ports] == ["https", "http"]


def test_pods_of_a_volume_of_one_node_share_it_and_others_are_spread() -> None:
    together = by_kind(BUNDLES["server with everything"])["Deployment"]["spec"]["template"]
    (term,) = together["spec"]["affinity"]["podAffinity"]["requiredDuringSchedulingIgnoredDuringExecution"]
    # The first pod finds no other, and may run anywhere: for that its own labels must match.
    assert term["labelSelector"]["matchLabels"].items() <= together["metadata"]["labels"].items()
    assert "topologySpreadConstraints" not in together["spec"]
    spread = by_kind(BUNDLES["server"])["Deployment"]["spec"]["template"]["spec"]
    assert "affinity" not in spread
    assert [entry["topologyKey"] for entry in spread["topologySpreadConstraints"]] == [
        "kubernetes.io/hostname",
        "topology.kubernetes.io/zone",
    ]


def test_an_autoscaler_alone_says_how_many_pods_there_are() -> None:
    parts = by_kind(BUNDLES["server with everything"])
    assert "replicas" not in parts["Deployment"]["spec"]
    body = parts["HorizontalPodAutoscaler"]["spec"]
    assert (body["minReplicas"], body["maxReplicas"]) == (2, 5)
    assert [metric["type"] for metric in body["metrics"]] == ["Resource", "Resource", "Pods"]
    assert body["behavior"] == {"scaleDown": {"stabilizationWindowSeconds": 60}}
    assert "PodDisruptionBudget" in parts


def test_what_still_loads_makes_no_pod_unready() -> None:
    spec = ServerSpec("s", "n", "i", MODELS, "models", overrides={"ConfigMap": {"data": {"more": "x"}}})
    data = interim_config(spec, MODELS, MODELS[:1])["data"]
    assert "iris" in data["models.config"]
    assert {name for name in data if name.endswith(".http")} == {"metadata.half_plus_two.http"}
    assert data["more"] == "x"


def test_a_namespace_says_whether_it_is_ours_to_delete() -> None:
    created = by_kind(BUNDLES["namespace"])["Namespace"]["metadata"]
    adopted = by_kind(BUNDLES["namespace that was there"])["Namespace"]["metadata"]
    assert created["annotations"] == {"modelfleet.serving/created": "true"}
    assert "annotations" not in adopted
    assert created["labels"]["pod-security.kubernetes.io/enforce"] == "restricted"


def test_a_namespace_lets_in_only_the_serving_ports() -> None:
    policy = by_kind(BUNDLES["namespace"])["NetworkPolicy"]["spec"]
    assert policy["podSelector"] == {}
    assert [port["port"] for rule in policy["ingress"] for port in rule["ports"]] == [8500, 8501]
    assert set(by_kind(BUNDLES["namespace that was there"])) == {"Namespace"}


def test_a_route_leads_to_each_verb_of_its_model_only() -> None:
    rest, _grpc, _service = BUNDLES["ingress"]
    (rule,) = rest["spec"]["rules"]
    assert rule["host"] == "models.example.org"
    assert {(path["path"], path["pathType"]) for path in rule["http"]["paths"]} == {
        ("/v1/models/half_plus_two", "Prefix"),
        ("/v1/models/half_plus_two:predict", "Exact"),
        ("/v1/models/half_plus_two:classify", "Exact"),
        ("/v1/models/half_plus_two:regress", "Exact"),
    }
    (gateway,) = BUNDLES["gateway"]
    assert gateway["spec"]["parentRefs"] == [{"namespace": "edge", "name": "main"}]
    assert gateway["spec"]["hostnames"] == ["a.example.org"]
    assert {
        (match["path"]["type"], match["path"]["value"], backend["port"])
        for rule in gateway["spec"]["rules"]
        for match in rule["matches"]
        for backend in rule["backendRefs"]
    } == {
        ("PathPrefix", "/v1/models/iris", 8501),
        ("Exact", "/v1/models/iris:predict", 8501),
        ("Exact", "/v1/models/iris:classify", 8501),
        ("Exact", "/v1/models/iris:regress", 8501),
        ("PathPrefix", "/tensorflow.serving.PredictionService", 8500),
        ("PathPrefix", "/tensorflow.serving.ModelService", 8500),
    }
    assert [manifest["kind"] for manifest in BUNDLES["ingress of a class"]] == ["Ingress"]
    assert BUNDLES["ingress of a class"][0]["spec"]["ingressClassName"] == "nginx"


def test_what_pods_need_is_applied_before_them() -> None:
    assert wave("Namespace") == wave("CustomResourceDefinition") == 0
    for kind in ("ConfigMap", "Secret", "ServiceAccount", "PersistentVolumeClaim", "ResourceQuota", "NetworkPolicy"):
        assert wave("Namespace") < wave(kind) < wave("Deployment")


def test_overrides_reach_every_bundle() -> None:
    note = {"metadata": {"annotations": {"note": "x"}}}
    made = (
        *namespace(NamespaceSpec("team", overrides={"NetworkPolicy": note, "Namespace": note})),
        *store(StoreSpec("models", "team", "1Gi", "busybox", overrides={"PersistentVolumeClaim": note})),
        loader(StoreSpec("models", "team", "1Gi", "busybox", overrides={"Pod": note, "Job": note}), seconds=1),
        fetch(replace(FETCH, store=replace(STORE, overrides={"Pod": note, "Job": note}))),
        *server(ServerSpec("s", "n", "i", MODELS, "models", overrides={"Deployment": note})),
        *route(RouteSpec("iris", "serving", "team", "ingress", overrides={"Ingress": note})),
    )
    noted = {m["kind"] for m in made if m["metadata"].get("annotations", {}).get("note") == "x"}
    assert noted == {"NetworkPolicy", "Namespace", "PersistentVolumeClaim", "Pod", "Job", "Deployment", "Ingress"}


def test_the_pods_that_fill_a_store_are_drawn_to_its_node() -> None:
    job, anywhere = BUNDLES["fetch"][0], BUNDLES["fetch to any node"][0]
    pod = BUNDLES["loader"][0]
    for spec, labels in (
        (pod["spec"], pod["metadata"]["labels"]),
        (job["spec"]["template"]["spec"], job["spec"]["template"]["metadata"]["labels"]),
    ):
        (term,) = spec["affinity"]["podAffinity"]["requiredDuringSchedulingIgnoredDuringExecution"]
        assert term["labelSelector"]["matchLabels"].items() <= labels.items()
    assert anywhere["spec"]["template"]["spec"]["affinity"] == {}


def test_a_job_is_named_by_what_it_fetches() -> None:
    long = replace(STORE, name="a" * 63)
    others = (
        replace(FETCH, version=2),
        replace(FETCH, model="other"),
        replace(FETCH, claim_uid="another"),
        replace(FETCH, digest=None),
        replace(FETCH, source=Source("s3:bucket/1", remote=True)),
        replace(FETCH, store=long),
    )
    names = [fetch(spec)["metadata"]["name"] for spec in (FETCH, *others)]
    assert len(set(names)) == len(names)
    assert max(map(len, names)) <= 57, "and its pods by it"
    assert fetch(replace(FETCH, seconds=1))["metadata"]["name"] == names[0]
