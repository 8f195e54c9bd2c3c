# SPDX-FileCopyrightText: The modelfleet maintainers
# SPDX-License-Identifier: GPL-3.0-or-later
"""Pods that answer predictions, and what surrounds them, whatever runs in them. Pure."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from ansible_collections.modelfleet.serving.plugins.module_utils._manifests.autoscaling import Autoscaling, autoscaler
from ansible_collections.modelfleet.serving.plugins.module_utils._manifests.common import (
    metadata,
    pod_security,
    selector,
    spread,
)
from ansible_collections.modelfleet.serving.plugins.module_utils._manifests.names import COMPONENT

Json = dict[str, Any]


@dataclass(frozen=True)
class Workload:
    """A server's pods.

    :param container: the container, with a port ``rest`` and the probes of its start and readiness; this adds that
        of its liveness, and what makes it leave without losing a request.
    :param service_ports: the ports of its Service.
    :param replicas: the number of pods; with ``autoscaling`` the autoscaler alone decides.
    :param drain_seconds: how long a pod that is told to leave keeps answering: longer than a balancer needs to notice
        and the longest request takes.
    :param start_seconds: how long a pod may take to start.
    :param affinity: what ties the pods to nodes; without it they are spread over nodes and zones.
    :param pod_labels: labels of the pods alone, beside those of all objects.
    :param component: what its pods are; ``server`` for what answers predictions.
    :param claim: the template of a claim of which each pod has one of its own, as a StatefulSet's pods do.
    """

    name: str
    namespace: str
    container: Json
    service_ports: tuple[Json, ...]
    replicas: int
    drain_seconds: int
    start_seconds: int
    autoscaling: Autoscaling | None = None
    init_containers: tuple[Json, ...] = ()
    volumes: tuple[Json, ...] = ()
    affinity: Json = field(default_factory=dict)
    pod_labels: dict[str, str] = field(default_factory=dict)
    claim: Json | None = None
    component: str = COMPONENT

    @property
    def kind(self) -> str:
        """The kind of what makes the pods."""
        return "StatefulSet" if self.claim else "Deployment"


def workload(spec: Workload) -> list[Json]:
    """Give the objects: what makes the pods, Service, service account, and as needed budget and autoscaler."""
    own = metadata(spec.name, spec.namespace, spec.component, spec.name)
    pods = selector(spec.component, spec.name)
    objects: list[Json] = [
        {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": own, "automountServiceAccountToken": False},
        {"apiVersion": "apps/v1", "kind": spec.kind, "metadata": own, "spec": _body(spec, own, pods)},
        {
            "apiVersion": "v1",
            "kind": "Service",
            "metadata": own,
            "spec": {"selector": pods, "ports": list(spec.service_ports)},
        },
    ]
    if (spec.autoscaling.min_replicas if spec.autoscaling else spec.replicas) > 1:
        body = {"maxUnavailable": 1, "selector": {"matchLabels": pods}}
        objects.append({"apiVersion": "policy/v1", "kind": "PodDisruptionBudget", "metadata": own, "spec": body})
    if spec.autoscaling:
        objects.append(autoscaler(spec.autoscaling, spec.name, own, spec.kind))
    return objects


def _body(spec: Workload, own: Json, pods: dict[str, str]) -> Json:
    """Give the ``spec`` of the Deployment or StatefulSet."""
    template = {"metadata": {"labels": {**own["labels"], **spec.pod_labels}}, "spec": _pod(spec, pods)}
    body: Json = {"selector": {"matchLabels": pods}, "template": template}
    if not spec.autoscaling:
        body["replicas"] = spec.replicas
    if spec.claim is None:
        body["strategy"] = {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": 1, "maxUnavailable": 0}}
        body["progressDeadlineSeconds"] = spec.start_seconds + 60
        return body
    return {
        **body,
        "serviceName": spec.name,
        # In order, a pod that can't get ready would hold up the others, and the template that mends it as well. A
        # rollout takes one pod after another all the same.
        "podManagementPolicy": "Parallel",
        "updateStrategy": {"type": "RollingUpdate"},
        # The volumes are model_store's.
        "persistentVolumeClaimRetentionPolicy": {"whenDeleted": "Retain", "whenScaled": "Retain"},
        "volumeClaimTemplates": [spec.claim],
    }


def _pod(spec: Workload, pods: dict[str, str]) -> Json:
    container = {
        **spec.container,
        # Only that it accepts connections: a server busy with loading or predicting must not be restarted.
        "livenessProbe": {
            "tcpSocket": {"port": "rest"},
            "periodSeconds": 10,
            "failureThreshold": 6,
            "timeoutSeconds": 10,
        },
        # Traffic still comes until every balancer has noticed that the pod leaves.
        "lifecycle": {"preStop": {"exec": {"command": ["sleep", str(spec.drain_seconds)]}}},
    }
    pod: Json = {
        "serviceAccountName": spec.name,
        "automountServiceAccountToken": False,
        "enableServiceLinks": False,
        # A server may have no handler for SIGTERM, so the grace ends just after the drain, not long after it.
        "terminationGracePeriodSeconds": spec.drain_seconds + 5,
        "securityContext": pod_security(),
        "containers": [container],
        "volumes": list(spec.volumes),
    }
    if spec.init_containers:
        pod["initContainers"] = list(spec.init_containers)
    if spec.affinity:
        pod["affinity"] = spec.affinity
    else:
        pod["topologySpreadConstraints"] = spread(pods)
    return pod
