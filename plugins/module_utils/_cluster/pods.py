# SPDX-FileCopyrightText: The modelfleet maintainers
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a pod's object says of it. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

Json = dict[str, Any]


def is_ready(pod: Json) -> bool:
    """Tell whether a pod takes traffic."""
    conditions = pod.get("status", {}).get("conditions", [])
    return any(entry["type"] == "Ready" and entry["status"] == "True" for entry in conditions)


def live_pods(objects: Iterable[Json]) -> list[Json]:
    """Give the pods among some objects that are not about to leave."""
    return [entry for entry in objects if entry["kind"] == "Pod" and not entry["metadata"].get("deletionTimestamp")]


def claims_of(pod_spec: Json) -> list[str]:
    """Give the names of the volume claims that a pod, by its ``spec``, has mounted or is about to."""
    volumes = pod_spec.get("volumes") or []
    return [volume["persistentVolumeClaim"]["claimName"] for volume in volumes if "persistentVolumeClaim" in volume]


def owned_by(owner: Json, objects: Iterable[Json]) -> list[Json]:
    """Give the live pods that a controller made; of a StatefulSet, those of its present template."""
    uid, revision = owner["metadata"].get("uid"), owner.get("status", {}).get("updateRevision")
    return [
        pod
        for pod in live_pods(objects)
        if any(entry.get("uid") == uid for entry in pod["metadata"].get("ownerReferences", []))
        and (revision is None or pod["metadata"].get("labels", {}).get("controller-revision-hash") == revision)
    ]


def current_pods(deployment: Json | None, objects: Iterable[Json]) -> list[Json]:
    """Give the live pods of a Deployment's present template, found by the ReplicaSet of its revision.

    Those of the template before are about to go, so what they are stuck in says nothing of the rollout.
    """
    objects = list(objects)
    revision = _revision(deployment or {"metadata": {}})
    hashes = {
        entry["metadata"]["labels"]["pod-template-hash"]
        for entry in objects
        if entry["kind"] == "ReplicaSet" and revision is not None and _revision(entry) == revision
    }
    return [pod for pod in live_pods(objects) if pod["metadata"].get("labels", {}).get("pod-template-hash") in hashes]


def _revision(manifest: Json) -> str | None:
    revision: str | None = manifest["metadata"].get("annotations", {}).get("deployment.kubernetes.io/revision")
    return revision
