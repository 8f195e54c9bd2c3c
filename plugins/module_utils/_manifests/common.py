# SPDX-FileCopyrightText: The modelfleet maintainers
# SPDX-License-Identifier: GPL-3.0-or-later
"""What our manifests share: labels and the settings that Pod Security's restricted level asks for. Pure."""

from __future__ import annotations

from typing import Any

Json = dict[str, Any]

# Any user but root will do: the server needs to read its models, and the loader to write them.
USER_ID = 1000


def metadata(name: str, namespace: str | None, component: str, instance: str) -> Json:
    """Give the metadata of an object with the labels that Kubernetes recommends."""
    result: Json = {"name": name, "labels": labels(component, instance)}
    if namespace:
        result["namespace"] = namespace
    return result


def labels(component: str, instance: str) -> dict[str, str]:
    """Give the recommended labels: https://kubernetes.io/docs/concepts/overview/working-with-objects/common-labels/."""
    return {**selector(component, instance), "app.kubernetes.io/managed-by": "modelfleet"}


def selector(component: str, instance: str) -> dict[str, str]:
    """Give the labels by which the pods of one instance are found; they never change over its life."""
    return {"app.kubernetes.io/component": component, "app.kubernetes.io/instance": instance}


def spread(pod_labels: dict[str, str]) -> list[Json]:
    """Give the constraints that spread pods with some labels over nodes and zones as evenly as the cluster allows."""
    return [
        {
            "maxSkew": 1,
            "topologyKey": key,
            "whenUnsatisfiable": "ScheduleAnyway",
            "labelSelector": {"matchLabels": pod_labels},
        }
        for key in ("kubernetes.io/hostname", "topology.kubernetes.io/zone")
    ]


def pod_security() -> Json:
    """Give the pod's security context at the restricted level."""
    return {
        "runAsNonRoot": True,
        "runAsUser": USER_ID,
        "runAsGroup": USER_ID,
        "fsGroup": USER_ID,
        # A large store is not walked again at each start of a pod.
        "fsGroupChangePolicy": "OnRootMismatch",
        "seccompProfile": {"type": "RuntimeDefault"},
    }


def container_security() -> Json:
    """Give the container's security context at the restricted level, with a read-only root file system."""
    return {
        "allowPrivilegeEscalation": False,
        "capabilities": {"drop": ["ALL"]},
        "readOnlyRootFilesystem": True,
    }
