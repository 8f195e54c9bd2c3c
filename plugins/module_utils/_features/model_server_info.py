# SPDX-FileCopyrightText: The modelfleet maintainers
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the model servers of a namespace are, and what each of their pods serves."""

from __future__ import annotations

from typing import Any

from ansible_collections.modelfleet.serving.plugins.module_utils._call import Call, Feature, Result
from ansible_collections.modelfleet.serving.plugins.module_utils._cluster.arguments import cluster_arguments
from ansible_collections.modelfleet.serving.plugins.module_utils._cluster.autoscalers import bounds
from ansible_collections.modelfleet.serving.plugins.module_utils._cluster.pods import is_ready, live_pods
from ansible_collections.modelfleet.serving.plugins.module_utils._cluster.readiness import scaling_fault
from ansible_collections.modelfleet.serving.plugins.module_utils._cluster.session import Json, Session, connect
from ansible_collections.modelfleet.serving.plugins.module_utils._errors import ServingError
from ansible_collections.modelfleet.serving.plugins.module_utils._features.server_state import ServerState, read_servers
from ansible_collections.modelfleet.serving.plugins.module_utils._manifests.names import REST_PORT, server_selector
from ansible_collections.modelfleet.serving.plugins.module_utils._names import require_dns_label
from ansible_collections.modelfleet.serving.plugins.module_utils._tfserving.model_config import ServedModel
from ansible_collections.modelfleet.serving.plugins.module_utils._tfserving.rest import (
    labelled_version,
    model_status,
    pod_transport,
)


def run(call: Call) -> Result:
    """Read the servers of a namespace, or the one named."""
    namespace = require_dns_label(call.params["namespace"], "namespace")
    name = call.params["name"]
    wanted = require_dns_label(name, "name") if name is not None else None
    with connect(call.params, call.warn) as session:
        return Result(
            values={"servers": [_server(session, state) for state in read_servers(session, namespace, wanted)]}
        )


def _server(session: Session, state: ServerState) -> dict[str, Any]:
    name, namespace = state.workload["metadata"]["name"], state.workload["metadata"]["namespace"]
    spec, status = state.workload["spec"], state.workload.get("status", {})
    pods = live_pods(session.find("v1", "Pod", namespace, labels=server_selector(name)))
    return {
        "name": name,
        "image": spec["template"]["spec"]["containers"][0]["image"],
        "store": state.store,
        "store_per_pod": state.volumes is not None,
        "replicas": spec["replicas"],
        "available_replicas": status.get("availableReplicas", 0),
        "autoscaling": _autoscaling(state.autoscaler),
        "models": [model.name for model in state.models],
        "labels": {model.name: model.labels for model in state.models},
        "digests": {model.name: state.record.get(model.name, {}) for model in state.models},
        "pods": [_pod(session, namespace, pod, state.models) for pod in pods],
    }


def _autoscaling(live: Json | None) -> Json | None:
    if live is None:
        return None
    low, high = bounds(live)
    desired = (live.get("status") or {}).get("desiredReplicas", 0)
    return {"min_replicas": low, "max_replicas": high, "desired_replicas": desired, "fault": scaling_fault(live)}


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
