# SPDX-FileCopyrightText: The modelfleet maintainers
# SPDX-License-Identifier: GPL-3.0-or-later
"""The namespace that models are served from, with its guard rails. Pure."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from ansible_collections.modelfleet.serving.plugins.module_utils._manifests.common import metadata
from ansible_collections.modelfleet.serving.plugins.module_utils._manifests.overrides import override

Json = dict[str, Any]
CREATED = "modelfleet.serving/created"


@dataclass(frozen=True)
class NamespaceSpec:
    """What a serving namespace should be.

    :param pod_security: the Pod Security level that its pods must meet.
    :param quota: the hard limits of a ResourceQuota, such as ``{"pods": "20"}``; none without.
    :param default_requests: what a container without requests of its own asks for; none without.
    :param isolate: deny what comes in, but for the serving ports.
    :param created: the namespace exists because of us, so deleting it is ours to do.
    """

    name: str
    labels: dict[str, str] = field(default_factory=dict)
    annotations: dict[str, str] = field(default_factory=dict)
    pod_security: str = "restricted"
    quota: dict[str, str] = field(default_factory=dict)
    default_requests: dict[str, str] = field(default_factory=dict)
    isolate: bool = True
    created: bool = True
    overrides: dict[str, Json] = field(default_factory=dict)


def namespace(spec: NamespaceSpec) -> tuple[Json, ...]:
    """Give the objects of a serving namespace."""
    objects = [_namespace(spec)]
    if spec.quota:
        objects.append(
            {
                "apiVersion": "v1",
                "kind": "ResourceQuota",
                "metadata": metadata("serving", spec.name, "namespace", spec.name),
                "spec": {"hard": spec.quota},
            }
        )
    if spec.default_requests:
        objects.append(
            {
                "apiVersion": "v1",
                "kind": "LimitRange",
                "metadata": metadata("serving", spec.name, "namespace", spec.name),
                "spec": {"limits": [{"type": "Container", "defaultRequest": spec.default_requests}]},
            }
        )
    if spec.isolate:
        objects.append(_network_policy(spec))
    return override(objects, spec.overrides)


def _namespace(spec: NamespaceSpec) -> Json:
    own = metadata(spec.name, None, "namespace", spec.name)
    own["labels"] |= {
        "pod-security.kubernetes.io/enforce": spec.pod_security,
        "pod-security.kubernetes.io/warn": spec.pod_security,
        **spec.labels,
    }
    annotations = {**spec.annotations, **({CREATED: "true"} if spec.created else {})}
    if annotations:
        own["annotations"] = annotations
    return {"apiVersion": "v1", "kind": "Namespace", "metadata": own}


def _network_policy(spec: NamespaceSpec) -> Json:
    ports = [{"port": 8500, "protocol": "TCP"}, {"port": 8501, "protocol": "TCP"}]
    return {
        "apiVersion": "networking.k8s.io/v1",
        "kind": "NetworkPolicy",
        "metadata": metadata("serving", spec.name, "namespace", spec.name),
        "spec": {"podSelector": {}, "policyTypes": ["Ingress"], "ingress": [{"ports": ports}]},
    }
