# SPDX-FileCopyrightText: The modelfleet maintainers
# SPDX-License-Identifier: GPL-3.0-or-later
"""TF Serving on Kubernetes: one Deployment with its configuration, Service and disruption budget. Pure."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from ansible_collections.modelfleet.serving.plugins.module_utils._manifests.common import (
    container_security,
    metadata,
    pod_security,
    selector,
)
from ansible_collections.modelfleet.serving.plugins.module_utils._manifests.overrides import override
from ansible_collections.modelfleet.serving.plugins.module_utils._manifests.store import MODELS_PATH
from ansible_collections.modelfleet.serving.plugins.module_utils._tfserving.model_config import (
    ServedModel,
    config_text,
)

Json = dict[str, Any]

GRPC_PORT = 8500
REST_PORT = 8501
CONFIG_PATH = "/config"
# How often the server looks for a new configuration: a change is served without a restart.
_CONFIG_POLL_SECONDS = 2


@dataclass(frozen=True)
class ServerSpec:
    """What a model server should be.

    :param store: the claim that holds the models.
    :param drain_seconds: how long a pod that is told to leave keeps answering: longer than a balancer needs to notice
        and the longest request takes.
    :param start_seconds: how long the first load of all models may take.
    :param arguments: further flags of the server, such as ``--enable_batching=true``.
    """

    name: str
    namespace: str
    image: str
    models: tuple[ServedModel, ...]
    store: str
    replicas: int = 2
    resources: dict[str, dict[str, str]] = field(default_factory=dict)
    arguments: tuple[str, ...] = ()
    drain_seconds: int = 15
    start_seconds: int = 600
    rest_timeout_seconds: int = 30
    overrides: dict[str, Json] = field(default_factory=dict)


def server(spec: ServerSpec) -> tuple[Json, ...]:
    """Give the objects of a model server."""
    objects = [_config(spec), _service_account(spec), _deployment(spec), _service(spec)]
    if spec.replicas > 1:
        objects.append(_disruption_budget(spec))
    return override(objects, spec.overrides)


def config_name(server_name: str) -> str:
    """Give the name of the ConfigMap that tells a server what to serve."""
    return f"{server_name}-models"


def server_selector(server_name: str) -> dict[str, str]:
    """Give the labels by which the pods of a server are found."""
    return selector("server", server_name)


def _metadata(spec: ServerSpec, name: str | None = None) -> Json:
    return metadata(name or spec.name, spec.namespace, "server", spec.name)


def _config(spec: ServerSpec) -> Json:
    return {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": _metadata(spec, config_name(spec.name)),
        "data": {"models.config": config_text(spec.models, MODELS_PATH)},
    }


def _service_account(spec: ServerSpec) -> Json:
    return {
        "apiVersion": "v1",
        "kind": "ServiceAccount",
        "metadata": _metadata(spec),
        "automountServiceAccountToken": False,
    }


def _service(spec: ServerSpec) -> Json:
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": _metadata(spec),
        "spec": {
            "selector": server_selector(spec.name),
            "ports": [
                # h2c tells gateways to speak HTTP/2 without TLS to the pods, as gRPC does.
                {"name": "grpc", "port": GRPC_PORT, "targetPort": "grpc", "appProtocol": "kubernetes.io/h2c"},
                {"name": "rest", "port": REST_PORT, "targetPort": "rest", "appProtocol": "http"},
            ],
        },
    }


def _disruption_budget(spec: ServerSpec) -> Json:
    return {
        "apiVersion": "policy/v1",
        "kind": "PodDisruptionBudget",
        "metadata": _metadata(spec),
        "spec": {"maxUnavailable": 1, "selector": {"matchLabels": server_selector(spec.name)}},
    }


def _deployment(spec: ServerSpec) -> Json:
    pods = server_selector(spec.name)
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": _metadata(spec),
        "spec": {
            "replicas": spec.replicas,
            "selector": {"matchLabels": pods},
            "strategy": {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": 1, "maxUnavailable": 0}},
            "progressDeadlineSeconds": spec.start_seconds + 60,
            "template": {
                "metadata": {"labels": _metadata(spec)["labels"]},
                "spec": {
                    "serviceAccountName": spec.name,
                    "automountServiceAccountToken": False,
                    "enableServiceLinks": False,
                    # The server has no handler for SIGTERM, so the grace ends just after the drain, not long after it.
                    "terminationGracePeriodSeconds": spec.drain_seconds + 5,
                    "securityContext": pod_security(),
                    "topologySpreadConstraints": [
                        {
                            "maxSkew": 1,
                            "topologyKey": "kubernetes.io/hostname",
                            "whenUnsatisfiable": "ScheduleAnyway",
                            "labelSelector": {"matchLabels": pods},
                        }
                    ],
                    "containers": [_container(spec)],
                    "volumes": [
                        {"name": "config", "configMap": {"name": config_name(spec.name)}},
                        {"name": "store", "persistentVolumeClaim": {"claimName": spec.store, "readOnly": True}},
                        {"name": "tmp", "emptyDir": {}},
                    ],
                },
            },
        },
    }


def _container(spec: ServerSpec) -> Json:
    # The status of a model answers 200 while it still loads; its metadata needs a version that is loaded.
    loaded = {"httpGet": {"path": f"/v1/models/{spec.models[0].name}/metadata", "port": "rest"}}
    container = {
        "name": "server",
        "image": spec.image,
        # Not the image's shell script: it would be PID 1 in the server's place.
        "command": ["/usr/bin/tensorflow_model_server"],
        "args": [
            f"--port={GRPC_PORT}",
            f"--rest_api_port={REST_PORT}",
            f"--rest_api_timeout_in_ms={spec.rest_timeout_seconds * 1000}",
            f"--model_config_file={CONFIG_PATH}/models.config",
            f"--model_config_file_poll_wait_seconds={_CONFIG_POLL_SECONDS}",
            # Without it, a label in the first configuration stops the server: no version is loaded yet then.
            "--allow_version_labels_for_unavailable_models=true",
            "--enable_grpc_healthcheck_service=true",
            "--enable_profiler=false",
            *spec.arguments,
        ],
        "ports": [{"name": "grpc", "containerPort": GRPC_PORT}, {"name": "rest", "containerPort": REST_PORT}],
        "startupProbe": {**loaded, "periodSeconds": 1, "failureThreshold": spec.start_seconds, "timeoutSeconds": 5},
        "readinessProbe": {**loaded, "periodSeconds": 5, "failureThreshold": 2, "timeoutSeconds": 5},
        # Only that it accepts connections: a server busy with loading or predicting must not be restarted.
        "livenessProbe": {
            "tcpSocket": {"port": "rest"},
            "periodSeconds": 10,
            "failureThreshold": 6,
            "timeoutSeconds": 10,
        },
        "lifecycle": {"preStop": {"exec": {"command": ["sleep", str(spec.drain_seconds)]}}},
        "securityContext": container_security(),
        "volumeMounts": [
            {"name": "config", "mountPath": CONFIG_PATH, "readOnly": True},
            {"name": "store", "mountPath": MODELS_PATH, "readOnly": True},
            {"name": "tmp", "mountPath": "/tmp"},
        ],
    }
    if spec.resources:
        container["resources"] = spec.resources
    return container
