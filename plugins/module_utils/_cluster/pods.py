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


def is_passing(pod: Json) -> bool:
    """Tell whether a pod has ended, or is one of those of ours that fill a volume and go."""
    helper = pod["metadata"].get("labels", {}).get("app.kubernetes.io/component") in ("fetch", "loader")
    return helper or pod.get("status", {}).get("phase") in ("Succeeded", "Failed")


def claims_of(pod_spec: Json) -> list[str]:
    """Give the names of the volume claims that a pod, by its ``spec``, has mounted or is about to."""
    volumes = pod_spec.get("volumes") or []
    return [volume["persistentVolumeClaim"]["claimName"] for volume in volumes if "persistentVolumeClaim" in volume]


def own_claims(workload: Json) -> list[str]:
    """Give what the names of the claims begin with of which each pod of a StatefulSet has one of its own."""
    name, templates = workload["metadata"]["name"], workload["spec"].get("volumeClaimTemplates") or []
    return [f"{template['metadata']['name']}-{name}-" for template in templates]


def mounts(workload: Json, claim: str) -> bool:
    """Tell whether a pod of a Deployment or StatefulSet mounts a claim, or would when there are more of them."""
    own = any(claim.startswith(name) and claim[len(name) :].isdecimal() for name in own_claims(workload))
    return own or claim in claims_of(workload["spec"]["template"]["spec"])


def pods_of(workload: Json | None, objects: Iterable[Json]) -> list[Json]:
    """Give the live pods of the present template of a Deployment or StatefulSet."""
    if workload is not None and workload["kind"] == "StatefulSet":
        return owned_by(workload, objects)
    return current_pods(workload, objects)


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
