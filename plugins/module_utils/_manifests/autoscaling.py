# SPDX-FileCopyrightText: The modelfleet maintainers
# SPDX-License-Identifier: GPL-3.0-or-later
"""How many pods a server has as its load goes up and down: a HorizontalPodAutoscaler. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from ansible_collections.modelfleet.serving.plugins.module_utils._errors import InputError

Json = dict[str, Any]

# The module option, shared by every module that deploys pods.
AUTOSCALING_OPTION: dict[str, Any] = {
    "type": "dict",
    "options": {
        "min_replicas": {"type": "int", "default": 2},
        "max_replicas": {"type": "int", "required": True},
        "cpu": {"type": "int"},
        "memory": {"type": "int"},
        "metrics": {"type": "list", "elements": "dict", "default": []},
        "behavior": {"type": "dict", "default": {}},
    },
}
# The types of metrics, with the API that serves each.
METRICS_APIS = {
    "ContainerResource": "metrics.k8s.io",
    "External": "external.metrics.k8s.io",
    "Object": "custom.metrics.k8s.io",
    "Pods": "custom.metrics.k8s.io",
    "Resource": "metrics.k8s.io",
}


@dataclass(frozen=True)
class Autoscaling:
    """Between how many pods to have, and by what.

    :param cpu: percent of the CPU requests that the pods should use on average; ``memory`` likewise.
    :param metrics: further metrics, as ``spec.metrics`` of ``autoscaling/v2`` has them: latency, queue length, GPU use.
    :param behavior: how fast to scale, as ``spec.behavior`` has it.
    """

    min_replicas: int
    max_replicas: int
    cpu: int | None = None
    memory: int | None = None
    metrics: tuple[Json, ...] = ()
    behavior: Json = field(default_factory=dict)


def read_autoscaling(params: Mapping[str, Any] | None, resources: Mapping[str, Any]) -> Autoscaling | None:
    """Read the ``autoscaling`` option.

    :param resources: the container's requests and limits, of which percentages are taken.
    :raises InputError: for bounds that are none, and for what an autoscaler could never act on.
    """
    if params is None:
        return None
    low, high = params["min_replicas"], params["max_replicas"]
    if not 1 <= low <= high:
        raise InputError(
            f"autoscaling: from {low} to {high} replicas is no range.",
            hint="min_replicas is 1 or more, and max_replicas not less than that.",
        )
    for name in ("cpu", "memory"):
        percent = params[name]
        if percent is None:
            continue
        if percent < 1:
            raise InputError(f"autoscaling.{name}: {percent} is no percentage.", hint="Use 70, say.")
        # Kubernetes takes a limit for the request where there is none.
        if not any(name in (resources.get(kind) or {}) for kind in ("requests", "limits")):
            raise InputError(
                f"autoscaling.{name}: {percent} % of what? The server's pods request no {name}.",
                hint=f"Set resources.requests.{name}.",
            )
    for metric in params["metrics"]:
        if metric.get("type") not in METRICS_APIS:
            raise InputError(
                f"autoscaling.metrics: {metric.get('type')!r} is no type of metric.",
                hint=f"Use one of {', '.join(METRICS_APIS)}, as spec.metrics of a HorizontalPodAutoscaler does.",
            )
    if params["cpu"] is None and params["memory"] is None and not params["metrics"]:
        raise InputError("autoscaling has nothing to scale by.", hint="Set cpu, memory or metrics.")
    return Autoscaling(low, high, params["cpu"], params["memory"], tuple(params["metrics"]), params["behavior"])


def autoscaler(spec: Autoscaling, workload: str, metadata: Json, kind: str = "Deployment") -> Json:
    """Give the autoscaler of a Deployment or StatefulSet."""
    shares = (("cpu", spec.cpu), ("memory", spec.memory))
    metrics: list[Json] = [
        {"type": "Resource", "resource": {"name": name, "target": {"type": "Utilization", "averageUtilization": share}}}
        for name, share in shares
        if share is not None
    ]
    body: Json = {
        "scaleTargetRef": {"apiVersion": "apps/v1", "kind": kind, "name": workload},
        "minReplicas": spec.min_replicas,
        "maxReplicas": spec.max_replicas,
        "metrics": [*metrics, *spec.metrics],
    }
    if spec.behavior:
        body["behavior"] = spec.behavior
    return {"apiVersion": "autoscaling/v2", "kind": "HorizontalPodAutoscaler", "metadata": metadata, "spec": body}
