# SPDX-FileCopyrightText: The modelfleet maintainers
# SPDX-License-Identifier: GPL-3.0-or-later
"""TF Serving on Kubernetes: its pods and configuration, and what surrounds them. Pure."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from ansible_collections.modelfleet.serving.plugins.module_utils._errors import InputError
from ansible_collections.modelfleet.serving.plugins.module_utils._manifests.autoscaling import Autoscaling
from ansible_collections.modelfleet.serving.plugins.module_utils._manifests.common import (
    container_security,
    metadata,
)
from ansible_collections.modelfleet.serving.plugins.module_utils._manifests.names import (
    COMPONENT,
    GRPC_PORT,
    REST_PORT,
    config_name,
    shared_name,
)
from ansible_collections.modelfleet.serving.plugins.module_utils._manifests.overrides import override
from ansible_collections.modelfleet.serving.plugins.module_utils._manifests.store import (
    MODELS_PATH,
    STORE_LABEL,
    placement,
)
from ansible_collections.modelfleet.serving.plugins.module_utils._manifests.workload import Workload, workload
from ansible_collections.modelfleet.serving.plugins.module_utils._tfserving.model_config import (
    ServedModel,
    config_text,
)
from ansible_collections.modelfleet.serving.plugins.module_utils._tfserving.parameters import (
    Batching,
    batching_text,
    monitoring_text,
)

Json = dict[str, Any]

METRICS_PATH = "/monitoring/prometheus/metrics"
CONFIG_PATH = "/config"
_TLS_PATH = "/tls"
_TLS_CONFIG_PATH = "/tls-config"
# How often the server looks for a new configuration: a change is served without a restart.
_CONFIG_POLL_SECONDS = 1
# A ConfigMap holds 1 MiB, so a golden request of an image model may not fit; then its metadata is asked for alone.
_LARGEST_GOLDEN_BYTES = 64 * 1024

# Sends the requests that are kept as files and wants 200 for each. Kubernetes' own probes can send neither a POST nor
# ask for several models; the server's image has bash, and no other HTTP client.
_PROBE = """\
for request in "$@"; do
  test -f "$request" || continue
  exec 3<>"/dev/tcp/127.0.0.1/$PORT" && cat "$request" >&3 && read -r -u 3 protocol status words || exit 1
  exec 3>&-
  test "$status" = 200 || { echo "$request: ${status} ${words}"; exit 1; }
done
"""
# TF Serving wants certificates inside its configuration, where Kubernetes keeps them as files of a Secret.
_TLS_CONFIG = """\
set -eu
field() { printf '%s: "' "$1"; while read -r line; do printf '%s\\\\n' "$line"; done < "$2"; printf '"\\n'; }
umask 077
{
  field server_key tls.key
  field server_cert tls.crt
  if test -n "$VERIFY_CLIENTS"; then field custom_ca ca.crt; echo 'client_verify: true'; fi
} > "$OUTPUT/ssl.config"
"""


@dataclass(frozen=True)
class GrpcTls:
    """TLS of the gRPC port.

    :param secret: a Secret with ``tls.crt`` and ``tls.key``, and for ``verify_clients`` also ``ca.crt``.
    :param verify_clients: whether clients must show a certificate of that authority (mTLS).
    :param digest: of the certificates in it; pods with another one are replaced.
    """

    secret: str
    verify_clients: bool = False
    digest: str = ""


@dataclass(frozen=True)
class ServerSpec:
    """What a model server should be.

    :param store: the claim that holds the models, and how it can be mounted.
    :param claim: the ``spec`` of the claims of pods that have a volume each; ``store`` is what their names begin with.
    :param golden: a right request by model, which must be answered before a pod takes traffic.
    :param start_seconds: how long the first load of all models may take.
    :param arguments: further flags of the server, such as ``--tensorflow_session_parallelism=4``.
    """

    name: str
    namespace: str
    image: str
    models: tuple[ServedModel, ...]
    store: str
    access_modes: tuple[str, ...] = ("ReadWriteMany",)
    claim: Json | None = None
    golden: dict[str, Any] = field(default_factory=dict)
    replicas: int = 2
    autoscaling: Autoscaling | None = None
    resources: dict[str, dict[str, str]] = field(default_factory=dict)
    batching: Batching | None = None
    grpc_tls: GrpcTls | None = None
    arguments: tuple[str, ...] = ()
    drain_seconds: int = 15
    start_seconds: int = 600
    rest_timeout_seconds: int = 30
    overrides: dict[str, Json] = field(default_factory=dict)


def server(spec: ServerSpec) -> tuple[Json, ...]:
    """Give the objects of a model server."""
    volumes: list[Json] = [
        {"name": "config", "configMap": {"name": config_name(spec.name)}},
        {"name": "store", "persistentVolumeClaim": {"claimName": spec.store, "readOnly": True}},
        {"name": "tmp", "emptyDir": {}},
    ]
    if spec.claim is not None:
        del volumes[1]
    if spec.grpc_tls:
        volumes += [
            {"name": "tls", "secret": {"secretName": spec.grpc_tls.secret}},
            {"name": "tls-config", "emptyDir": {"medium": "Memory"}},
        ]
    if spec.claim is not None and spec.store in (volume["name"] for volume in volumes):
        raise InputError(
            f"store: a volume a pod can't be called {spec.store}, which another volume of the pods is.",
            hint="Give the store another name.",
        )
    # h2c tells gateways to speak HTTP/2 without TLS to the pods, as gRPC does.
    grpc_protocol = "https" if spec.grpc_tls else "kubernetes.io/h2c"
    objects = workload(
        Workload(
            name=spec.name,
            namespace=spec.namespace,
            container=_container(spec),
            service_ports=(
                {"name": "grpc", "port": GRPC_PORT, "targetPort": "grpc", "appProtocol": grpc_protocol},
                {"name": "rest", "port": REST_PORT, "targetPort": "rest", "appProtocol": "http"},
            ),
            replicas=spec.replicas,
            drain_seconds=spec.drain_seconds,
            start_seconds=spec.start_seconds,
            autoscaling=spec.autoscaling,
            init_containers=(_tls_config_container(spec, spec.grpc_tls),) if spec.grpc_tls else (),
            volumes=tuple(volumes),
            affinity={} if spec.claim else placement({STORE_LABEL: spec.store}, spec.access_modes),
            pod_labels={STORE_LABEL: shared_name(spec.store, spec.name) if spec.claim else spec.store},
            claim=spec.claim and {"metadata": {"name": spec.store}, "spec": spec.claim},
        )
    )
    return override([_config(spec, spec.models, spec.models), *objects], spec.overrides)


def interim_config(spec: ServerSpec, models: Iterable[ServedModel], probed: Iterable[ServedModel]) -> Json:
    """Give the ConfigMap of a server that is on its way to what it should serve.

    :param probed: the models that its probes ask for: what still loads makes no pod unready.
    """
    own = {kind: patch for kind, patch in spec.overrides.items() if kind == "ConfigMap"}
    return override([_config(spec, models, probed)], own)[0]


def _config(spec: ServerSpec, models: Iterable[ServedModel], probed: Iterable[ServedModel]) -> Json:
    data = {"models.config": config_text(models, MODELS_PATH), "monitoring.config": monitoring_text(METRICS_PATH)}
    if spec.batching:
        data["batching.config"] = batching_text(spec.batching)
    for model in probed:
        data[f"metadata.{model.name}.http"] = _request("GET", f"/v1/models/{model.name}/metadata")
        body = json.dumps(spec.golden[model.name]) if model.name in spec.golden else ""
        if 0 < len(body) <= _LARGEST_GOLDEN_BYTES:
            data[f"golden.{model.name}.http"] = _request("POST", f"/v1/models/{model.name}:predict", body)
    own = metadata(config_name(spec.name), spec.namespace, COMPONENT, spec.name)
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": own, "data": data}


def golden_in(config: Mapping[str, str], model: str) -> Any:
    """Read the golden request of a model from a ConfigMap's data that a server was given; None where there is none."""
    _head, _end, body = config.get(f"golden.{model}.http", "").partition("\r\n\r\n")
    return json.loads(body) if body else None


def _request(method: str, path: str, body: str = "") -> str:
    lines = [f"{method} {path} HTTP/1.1", "Host: localhost", "Connection: close"]
    if body:
        lines += ["Content-Type: application/json", f"Content-Length: {len(body.encode())}"]
    return "\r\n".join([*lines, "", body])


def _probe(pattern: str) -> Json:
    script = f"PORT={REST_PORT}; set -- {CONFIG_PATH}/{pattern}\n{_PROBE}"
    return {"exec": {"command": ["/bin/bash", "-c", script]}}


def _container(spec: ServerSpec) -> Json:
    arguments = [
        f"--port={GRPC_PORT}",
        f"--rest_api_port={REST_PORT}",
        f"--rest_api_timeout_in_ms={spec.rest_timeout_seconds * 1000}",
        f"--model_config_file={CONFIG_PATH}/models.config",
        f"--model_config_file_poll_wait_seconds={_CONFIG_POLL_SECONDS}",
        # Without it, a label in the first configuration stops the server: no version is loaded yet then.
        "--allow_version_labels_for_unavailable_models=true",
        # A file that is broken stays so; what matters is to say it soon.
        "--max_num_load_retries=1",
        "--load_retry_interval_micros=1000000",
        f"--monitoring_config_file={CONFIG_PATH}/monitoring.config",
        "--enable_grpc_healthcheck_service=true",
        "--enable_profiler=false",
    ]
    mounts = [
        {"name": "config", "mountPath": CONFIG_PATH, "readOnly": True},
        {"name": spec.store if spec.claim else "store", "mountPath": MODELS_PATH, "readOnly": True},
        {"name": "tmp", "mountPath": "/tmp"},
    ]
    if spec.batching:
        arguments += ["--enable_batching=true", f"--batching_parameters_file={CONFIG_PATH}/batching.config"]
    if spec.grpc_tls:
        arguments.append(f"--ssl_config_file={_TLS_CONFIG_PATH}/ssl.config")
        mounts.append({"name": "tls-config", "mountPath": _TLS_CONFIG_PATH, "readOnly": True})
    container = {
        "name": "server",
        "image": spec.image,
        # Not the image's shell script: it would be PID 1 in the server's place.
        "command": ["/usr/bin/tensorflow_model_server"],
        "args": [*arguments, *spec.arguments],
        "ports": [{"name": "grpc", "containerPort": GRPC_PORT}, {"name": "rest", "containerPort": REST_PORT}],
        # A model that was copied in part may load and then answer every request with an error: a pod takes traffic only
        # when each model has answered its golden request.
        "startupProbe": {
            **_probe("*.http"),
            "periodSeconds": 1,
            "failureThreshold": spec.start_seconds,
            "timeoutSeconds": 30,
        },
        # Not by predictions, which wait for those of clients: under a heavy load, one pod after another would leave.
        # Nor by the status of a model, which answers 200 while it still loads; its metadata needs a loaded version.
        "readinessProbe": {
            **_probe("metadata.*.http"),
            "periodSeconds": 5,
            "failureThreshold": 2,
            "timeoutSeconds": 5,
        },
        "securityContext": container_security(),
        "volumeMounts": mounts,
    }
    if spec.resources:
        container["resources"] = spec.resources
    return container


def _tls_config_container(spec: ServerSpec, tls: GrpcTls) -> Json:
    container: Json = {
        "name": "tls-config",
        "image": spec.image,
        "command": ["/bin/bash", "-c", _TLS_CONFIG],
        "workingDir": _TLS_PATH,
        "env": [
            {"name": "OUTPUT", "value": _TLS_CONFIG_PATH},
            {"name": "VERIFY_CLIENTS", "value": "true" if tls.verify_clients else ""},
            # Nobody reads it, but the server reads its certificate only at its start.
            {"name": "CERTIFICATE_DIGEST", "value": tls.digest},
        ],
        "securityContext": container_security(),
        "volumeMounts": [
            {"name": "tls", "mountPath": _TLS_PATH, "readOnly": True},
            {"name": "tls-config", "mountPath": _TLS_CONFIG_PATH},
        ],
    }
    if spec.resources:
        container["resources"] = spec.resources
    return container
