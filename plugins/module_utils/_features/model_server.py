# SPDX-FileCopyrightText: The modelfleet maintainers
# SPDX-License-Identifier: GPL-3.0-or-later
"""A model server in a cluster, serving the versions it should."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable

from ansible_collections.modelfleet.serving.plugins.module_utils._call import Call, Feature, Result
from ansible_collections.modelfleet.serving.plugins.module_utils._cluster.apply import apply, delete
from ansible_collections.modelfleet.serving.plugins.module_utils._cluster.applyset import ApplySet
from ansible_collections.modelfleet.serving.plugins.module_utils._cluster.arguments import (
    apply_arguments,
    cluster_arguments,
    wait_arguments,
)
from ansible_collections.modelfleet.serving.plugins.module_utils._cluster.bundle import Bundle
from ansible_collections.modelfleet.serving.plugins.module_utils._cluster.changes import Change, result_of
from ansible_collections.modelfleet.serving.plugins.module_utils._cluster.kinds import Ref
from ansible_collections.modelfleet.serving.plugins.module_utils._cluster.pods import current_pods, is_ready
from ansible_collections.modelfleet.serving.plugins.module_utils._cluster.readiness import wait_gone, wait_ready
from ansible_collections.modelfleet.serving.plugins.module_utils._cluster.session import Json, Session, connect
from ansible_collections.modelfleet.serving.plugins.module_utils._cluster.wait import Deadline, poll_until, too_late
from ansible_collections.modelfleet.serving.plugins.module_utils._errors import InputError, WaitError
from ansible_collections.modelfleet.serving.plugins.module_utils._manifests.server import (
    REST_PORT,
    ServerSpec,
    server,
)
from ansible_collections.modelfleet.serving.plugins.module_utils._manifests.workload import server_selector
from ansible_collections.modelfleet.serving.plugins.module_utils._names import require_dns_label
from ansible_collections.modelfleet.serving.plugins.module_utils._tfserving.model_config import (
    ServedModel,
    config_text,
    served_models,
)
from ansible_collections.modelfleet.serving.plugins.module_utils._tfserving.rest import (
    Transport,
    model_status,
    pod_transport,
)

_CONFIG_ANNOTATION = "modelfleet.serving/models-config"
# TF Serving has no way to be watched, so its status is polled.
_POLL_SECONDS = 0.3


def run(call: Call) -> Result:
    """Make a model server be as asked, or be gone."""
    params = call.params
    name = require_dns_label(params["name"], "name")
    namespace = require_dns_label(params["namespace"], "namespace")
    bundle_name = f"server-{name}"
    deadline = Deadline.after(params["wait_timeout"])
    if params["state"] == "absent":
        with connect(params, call.warn) as session:
            changes = delete(session, Bundle(bundle_name, namespace, ()), check=call.check_mode)
            if params["wait"] and not call.check_mode:
                labels = ApplySet(bundle_name, namespace).member_labels
                wait_gone(session, [change.ref for change in changes], labels, deadline, call.progress)
            return result_of(changes)
    if params["replicas"] < 1:
        raise InputError(f"replicas: {params['replicas']} is too few.", hint="Use 1 or more, or state: absent.")
    spec = ServerSpec(
        name=name,
        namespace=namespace,
        image=params["image"],
        models=served_models(params["models"]),
        store=require_dns_label(params["store"], "store"),
        replicas=params["replicas"],
        resources=params["resources"],
        arguments=tuple(params["arguments"]),
        drain_seconds=params["drain_seconds"],
        start_seconds=params["start_seconds"],
        overrides=params["overrides"],
    )
    with connect(params, call.warn) as session:
        bundle = Bundle(bundle_name, namespace, server(spec))
        changes = apply(session, bundle, check=call.check_mode, force=params["force_conflicts"])
        if params["wait"] and not call.check_mode:
            _announce_config(session, spec, changes)
            objects = wait_ready(session, bundle, deadline, call.progress)
            _wait_loaded(call, session, spec, _serving_pods(spec, objects), deadline)
        return result_of(changes)


def _announce_config(session: Session, spec: ServerSpec, changes: Iterable[Change]) -> None:
    """Let the running pods see a new configuration at once.

    The kubelet refreshes a mounted ConfigMap about once a minute, and also whenever the pod itself changes: so the
    pods get an annotation.
    """
    changed = [change.ref.kind for change in changes if change.action == "updated"]
    if changed == ["ConfigMap"]:
        digest = hashlib.sha256(config_text(spec.models, "").encode()).hexdigest()[:16]
        patch = {"metadata": {"annotations": {_CONFIG_ANNOTATION: digest}}}
        for pod in session.find("v1", "Pod", spec.namespace, labels=server_selector(spec.name)):
            session.request("PATCH", session.path(Ref.of(pod)), body=patch, content_type="application/merge-patch+json")


def _serving_pods(spec: ServerSpec, objects: dict[Ref, Json]) -> list[str]:
    """Give the names of the pods that run the present template and take traffic."""
    deployment = objects.get(Ref("apps/v1", "Deployment", spec.name, spec.namespace))
    return sorted(pod["metadata"]["name"] for pod in current_pods(deployment, objects.values()) if is_ready(pod))


def _wait_loaded(call: Call, session: Session, spec: ServerSpec, pods: list[str], deadline: Deadline) -> None:
    """Wait until every pod serves every version, by its own word."""
    for pod in pods:
        send = pod_transport(session, spec.namespace, pod, REST_PORT)
        for model in spec.models:

            def missing(pod: str = pod, model: ServedModel = model, send: Transport = send) -> str:
                return _not_available(model, model_status(send, model.name), pod)

            if text := poll_until(missing, deadline, _POLL_SECONDS, call.progress):
                raise too_late(session, text, deadline)


def _not_available(model: ServedModel, status: dict[int, dict[str, str]], pod: str) -> str:
    """Say which version a pod does not serve yet; ``""`` when it serves all, and no other."""
    for version in model.versions:
        state = status.get(version, {"state": "UNKNOWN", "error": ""})
        if state["state"] == "END" and state["error"]:
            raise WaitError(
                f"pod {pod}: model {model.name} version {version} can't be loaded: {state['error']}.",
                hint="The versions that were served before still are. Check the files of this one.",
            )
        if state["state"] != "AVAILABLE":
            return f"pod {pod}: model {model.name} version {version} is {state['state']}"
    for version, state in status.items():
        if version not in model.versions and state["state"] != "END":
            return f"pod {pod}: model {model.name} version {version} is still {state['state']}"
    return ""


FEATURE = Feature(
    arguments={
        **cluster_arguments(),
        **apply_arguments(),
        **wait_arguments(600),
        "name": {"type": "str", "required": True},
        "namespace": {"type": "str", "required": True},
        "image": {"type": "str", "default": "tensorflow/serving:2.19.1"},
        "models": {
            "type": "list",
            "elements": "dict",
            "options": {
                "name": {"type": "str", "required": True},
                "versions": {"type": "list", "elements": "int", "required": True},
                "labels": {"type": "dict"},
            },
        },
        "store": {"type": "str"},
        "replicas": {"type": "int", "default": 2},
        "resources": {"type": "dict", "default": {}},
        "arguments": {"type": "list", "elements": "str", "default": []},
        "drain_seconds": {"type": "int", "default": 15},
        "start_seconds": {"type": "int", "default": 600},
        "overrides": {"type": "dict", "default": {}},
    },
    run=run,
    constraints={"required_if": [("state", "present", ["models", "store"])]},
)
