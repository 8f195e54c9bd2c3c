# SPDX-FileCopyrightText: The modelfleet maintainers
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the model servers of a namespace are, and what each of their pods serves."""

from __future__ import annotations

from typing import Any

from ansible_collections.modelfleet.serving.plugins.module_utils._call import Call, Feature, Result
from ansible_collections.modelfleet.serving.plugins.module_utils._cluster.arguments import cluster_arguments
from ansible_collections.modelfleet.serving.plugins.module_utils._cluster.kinds import Ref
from ansible_collections.modelfleet.serving.plugins.module_utils._cluster.pods import claims_of, is_ready, live_pods
from ansible_collections.modelfleet.serving.plugins.module_utils._cluster.session import Json, Session, connect
from ansible_collections.modelfleet.serving.plugins.module_utils._errors import ServingError
from ansible_collections.modelfleet.serving.plugins.module_utils._manifests.image_server import MODEL_LABEL
from ansible_collections.modelfleet.serving.plugins.module_utils._manifests.server import REST_PORT, config_name
from ansible_collections.modelfleet.serving.plugins.module_utils._manifests.workload import OUR_SERVERS, server_selector
from ansible_collections.modelfleet.serving.plugins.module_utils._names import require_dns_label
from ansible_collections.modelfleet.serving.plugins.module_utils._store.record import read_record
from ansible_collections.modelfleet.serving.plugins.module_utils._tfserving.model_config import ServedModel, read_config
from ansible_collections.modelfleet.serving.plugins.module_utils._tfserving.rest import (
    labelled_version,
    model_status,
    pod_transport,
)


def run(call: Call) -> Result:
    """Read the servers of a namespace, or the one named."""
    namespace = require_dns_label(call.params["namespace"], "namespace")
    name = call.params["name"]
    labels = {**OUR_SERVERS, **server_selector(require_dns_label(name, "name"))} if name is not None else OUR_SERVERS
    with connect(call.params, call.warn) as session:
        deployments = session.find("apps/v1", "Deployment", namespace, labels=labels)
        return Result(values={"servers": [_server(session, namespace, entry) for entry in deployments]})


def _server(session: Session, namespace: str, deployment: Json) -> dict[str, Any]:
    name = deployment["metadata"]["name"]
    spec, status = deployment["spec"], deployment.get("status", {})
    configs = session.find("v1", "ConfigMap", namespace, labels={**OUR_SERVERS, **server_selector(name)})
    config = next((entry for entry in configs if entry["metadata"]["name"] == config_name(name)), None)
    models = read_config((config or {}).get("data", {}).get("models.config", ""))
    if of_image := spec["template"]["metadata"]["labels"].get(MODEL_LABEL):
        models = (ServedModel(of_image, ()),)
    pods = live_pods(session.find("v1", "Pod", namespace, labels=server_selector(name)))
    claims = claims_of(spec["template"]["spec"])
    claim = session.get(Ref("v1", "PersistentVolumeClaim", claims[0], namespace)) if claims else None
    record = read_record(claim)
    return {
        "name": name,
        "image": spec["template"]["spec"]["containers"][0]["image"],
        "store": claims[0] if claims else None,
        "replicas": spec["replicas"],
        "available_replicas": status.get("availableReplicas", 0),
        "autoscaling": _autoscaling(session, namespace, name),
        "models": [model.name for model in models],
        "labels": {model.name: model.labels for model in models},
        "digests": {model.name: record.get(model.name, {}) for model in models},
        "pods": [_pod(session, namespace, pod, models) for pod in pods],
    }


def _autoscaling(session: Session, namespace: str, name: str) -> dict[str, int] | None:
    live = session.get(Ref("autoscaling/v2", "HorizontalPodAutoscaler", name, namespace))
    if live is None:
        return None
    spec, status = live["spec"], live.get("status") or {}
    return {
        "min_replicas": spec.get("minReplicas", 1),
        "max_replicas": spec["maxReplicas"],
        "desired_replicas": status.get("desiredReplicas", 0),
    }


def _pod(session: Session, namespace: str, pod: Json, models: tuple[ServedModel, ...]) -> dict[str, Any]:
    """Ask one pod what it serves; a pod that does not answer says why in ``error``."""
    name = pod["metadata"]["name"]
    row: dict[str, Any] = {"name": name, "ready": is_ready(pod), "models": {}, "labels": {}, "error": ""}
    send = pod_transport(session, namespace, name, REST_PORT)
    try:
        for model in models:
            row["models"][model.name] = {
                str(version): state["state"] for version, state in model_status(send, model.name).items()
            }
            row["labels"][model.name] = {label: labelled_version(send, model.name, label) for label in model.labels}
    except ServingError as error:
        row["error"] = str(error)
    return row


FEATURE = Feature(
    arguments={
        **cluster_arguments(),
        "namespace": {"type": "str", "required": True},
        "name": {"type": "str"},
    },
    run=run,
)
