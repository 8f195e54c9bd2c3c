# SPDX-FileCopyrightText: The modelfleet maintainers
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which versions the stores of a namespace hold, and whether the bytes are still the published ones."""

from __future__ import annotations

from typing import Any

from ansible_collections.modelfleet.serving.plugins.module_utils._call import Call, Feature, Result
from ansible_collections.modelfleet.serving.plugins.module_utils._cluster.arguments import cluster_arguments
from ansible_collections.modelfleet.serving.plugins.module_utils._cluster.execute import PodShell
from ansible_collections.modelfleet.serving.plugins.module_utils._cluster.pods import is_ready
from ansible_collections.modelfleet.serving.plugins.module_utils._cluster.session import Json, Session, connect
from ansible_collections.modelfleet.serving.plugins.module_utils._cluster.wait import Deadline
from ansible_collections.modelfleet.serving.plugins.module_utils._manifests.common import selector
from ansible_collections.modelfleet.serving.plugins.module_utils._manifests.store import MODELS_PATH
from ansible_collections.modelfleet.serving.plugins.module_utils._names import require_dns_label
from ansible_collections.modelfleet.serving.plugins.module_utils._store.publish import read_digests
from ansible_collections.modelfleet.serving.plugins.module_utils._store.record import Record, read_record

_OURS = {"app.kubernetes.io/managed-by": "modelfleet", "app.kubernetes.io/component": "store"}


def run(call: Call) -> Result:
    """Read the stores of a namespace, or the one named."""
    params = call.params
    namespace = require_dns_label(params["namespace"], "namespace")
    name = params["name"]
    labels = {**_OURS, **selector("store", require_dns_label(name, "name"))} if name is not None else _OURS
    deadline = Deadline.after(params["wait_timeout"])
    with connect(params, call.warn) as session:
        claims = session.find("v1", "PersistentVolumeClaim", namespace, labels=labels)
        pods = session.find("v1", "Pod", namespace) if params["verify"] else []
        return Result(values={"stores": [_store(session, claim, pods, params["verify"], deadline) for claim in claims]})


def _store(session: Session, claim: Json, pods: list[Json], verify: bool, deadline: Deadline) -> dict[str, Any]:
    name = claim["metadata"]["name"]
    record = read_record(claim)
    row = {
        "name": name,
        "phase": claim.get("status", {}).get("phase", "Pending"),
        "capacity": claim.get("status", {}).get("capacity", {}).get("storage"),
        "versions": record,
    }
    if verify:
        shell = _shell(session, name, pods, deadline)
        row["verified"] = shell is not None
        row["tampered"] = _tampered(shell, record) if shell else []
    return row


def _tampered(shell: PodShell, record: Record) -> list[dict[str, Any]]:
    """Give the versions whose files are not those that were published."""
    versions = [(model, int(version)) for model, held in record.items() for version in held]
    digests = read_digests(shell, MODELS_PATH, versions) if versions else {}
    found = []
    for model, version in versions:
        published, present = record[model][str(version)], digests.get((model, version))
        if present != published:
            found.append({"model": model, "version": version, "published": published, "found": present})
    return found


def _shell(session: Session, claim: str, pods: list[Json], deadline: Deadline) -> PodShell | None:
    """Find a running pod that has the store mounted, so that reading it needs no pod of its own."""
    for pod in pods:
        volumes = [
            volume["name"]
            for volume in pod["spec"].get("volumes", [])
            if volume.get("persistentVolumeClaim", {}).get("claimName") == claim
        ]
        for container in pod["spec"]["containers"]:
            mounts = {mount["name"]: mount["mountPath"] for mount in container.get("volumeMounts", [])}
            if is_ready(pod) and volumes and mounts.get(volumes[0]) == MODELS_PATH:
                where = pod["metadata"]
                return PodShell(session, where["namespace"], where["name"], container["name"], deadline)
    return None


FEATURE = Feature(
    arguments={
        **cluster_arguments(),
        "namespace": {"type": "str", "required": True},
        "name": {"type": "str"},
        "verify": {"type": "bool", "default": False},
        "wait_timeout": {"type": "int", "default": 600},
    },
    run=run,
)
