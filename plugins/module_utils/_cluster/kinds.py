# SPDX-FileCopyrightText: The modelfleet maintainers
# SPDX-License-Identifier: GPL-3.0-or-later
"""Names of objects, and what is known about Kubernetes' own kinds without asking the server."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Resource:
    """A kind's place in the API: the plural of its URL, and whether its objects live in namespaces."""

    plural: str
    namespaced: bool


@dataclass(frozen=True)
class Ref:
    """The name of one object, unique in a cluster; an empty name means the whole collection."""

    api_version: str
    kind: str
    name: str
    namespace: str | None = None

    @classmethod
    def of(cls, manifest: dict[str, Any]) -> Ref:
        """Give the name of the object in a manifest."""
        metadata = manifest["metadata"]
        return cls(manifest["apiVersion"], manifest["kind"], metadata["name"], metadata.get("namespace"))

    @property
    def group(self) -> str:
        """The API group; empty for the core group."""
        return self.api_version.rpartition("/")[0]

    @property
    def group_kind(self) -> str:
        """The kind as ApplySets spell it, such as ``ConfigMap`` or ``Deployment.apps``."""
        return f"{self.kind}.{self.group}" if self.group else self.kind

    @property
    def identity(self) -> str:
        """What makes it one object, whichever version of its API it is spoken of by."""
        return f"{self.group_kind}/{self.namespace or ''}/{self.name}"

    def __str__(self) -> str:
        return f"{self.kind} {self.namespace}/{self.name}" if self.namespace else f"{self.kind} {self.name}"


_BUILTIN = {
    ("v1", "ConfigMap"): Resource("configmaps", True),
    ("v1", "Event"): Resource("events", True),
    ("v1", "LimitRange"): Resource("limitranges", True),
    ("v1", "Namespace"): Resource("namespaces", False),
    ("v1", "Node"): Resource("nodes", False),
    ("v1", "PersistentVolume"): Resource("persistentvolumes", False),
    ("v1", "PersistentVolumeClaim"): Resource("persistentvolumeclaims", True),
    ("v1", "Pod"): Resource("pods", True),
    ("v1", "ResourceQuota"): Resource("resourcequotas", True),
    ("v1", "Secret"): Resource("secrets", True),
    ("v1", "Service"): Resource("services", True),
    ("v1", "ServiceAccount"): Resource("serviceaccounts", True),
    ("apiextensions.k8s.io/v1", "CustomResourceDefinition"): Resource("customresourcedefinitions", False),
    ("apps/v1", "DaemonSet"): Resource("daemonsets", True),
    ("apps/v1", "Deployment"): Resource("deployments", True),
    ("apps/v1", "ReplicaSet"): Resource("replicasets", True),
    ("apps/v1", "StatefulSet"): Resource("statefulsets", True),
    ("autoscaling/v2", "HorizontalPodAutoscaler"): Resource("horizontalpodautoscalers", True),
    ("batch/v1", "CronJob"): Resource("cronjobs", True),
    ("batch/v1", "Job"): Resource("jobs", True),
    ("coordination.k8s.io/v1", "Lease"): Resource("leases", True),
    ("networking.k8s.io/v1", "Ingress"): Resource("ingresses", True),
    ("networking.k8s.io/v1", "IngressClass"): Resource("ingressclasses", False),
    ("networking.k8s.io/v1", "NetworkPolicy"): Resource("networkpolicies", True),
    ("policy/v1", "PodDisruptionBudget"): Resource("poddisruptionbudgets", True),
    ("rbac.authorization.k8s.io/v1", "ClusterRole"): Resource("clusterroles", False),
    ("rbac.authorization.k8s.io/v1", "ClusterRoleBinding"): Resource("clusterrolebindings", False),
    ("rbac.authorization.k8s.io/v1", "Role"): Resource("roles", True),
    ("rbac.authorization.k8s.io/v1", "RoleBinding"): Resource("rolebindings", True),
    ("scheduling.k8s.io/v1", "PriorityClass"): Resource("priorityclasses", False),
    ("storage.k8s.io/v1", "StorageClass"): Resource("storageclasses", False),
}


def builtin_resource(api_version: str, kind: str) -> Resource | None:
    """Give what is known of a kind without discovery."""
    return _BUILTIN.get((api_version, kind))


def builtin_version(group: str, kind: str) -> str | None:
    """Give the version by which we speak of one of Kubernetes' own kinds."""
    for api_version, known in _BUILTIN:
        if known == kind and api_version.rpartition("/")[0] == group:
            return api_version
    return None


# What makes room for the rest; what pods need to start; everything else; what would judge or answer for the rest.
WAVES = 4
_WAVES = {
    "CustomResourceDefinition": 0,
    "Namespace": 0,
    "ClusterRole": 1,
    "ClusterRoleBinding": 1,
    "ConfigMap": 1,
    "IngressClass": 1,
    "LimitRange": 1,
    "NetworkPolicy": 1,
    "PersistentVolume": 1,
    "PersistentVolumeClaim": 1,
    "PriorityClass": 1,
    "ResourceQuota": 1,
    "Role": 1,
    "RoleBinding": 1,
    "RuntimeClass": 1,
    "Secret": 1,
    "ServiceAccount": 1,
    "StorageClass": 1,
    "APIService": 3,
    "MutatingWebhookConfiguration": 3,
    "ValidatingWebhookConfiguration": 3,
}

# Kinds that own nothing that is worth waiting for when one is deleted.
LEAVES = frozenset(
    {"HorizontalPodAutoscaler.autoscaling", "Ingress.networking.k8s.io", "PodDisruptionBudget.policy", "Service"}
)


def wave(kind: str) -> int:
    """Give the position of a kind in the order of applying, below ``WAVES``; deletion goes the other way round."""
    return _WAVES.get(kind, 2)
