# SPDX-FileCopyrightText: The modelfleet maintainers
# SPDX-License-Identifier: GPL-3.0-or-later
"""Who decides how many pods a workload has, where that is an autoscaler."""

from __future__ import annotations

from typing import Any

from ansible_collections.modelfleet.serving.plugins.module_utils._cluster.kinds import Ref
from ansible_collections.modelfleet.serving.plugins.module_utils._cluster.session import Session

Json = dict[str, Any]


def find_autoscaler(session: Session, workload: Ref) -> Json | None:
    """Read the autoscaler that sets how many pods a Deployment or the like has, whatever its name."""
    return autoscaler_of(session.find("autoscaling/v2", "HorizontalPodAutoscaler", workload.namespace), workload)


def autoscaler_of(autoscalers: list[Json], workload: Ref) -> Json | None:
    """Find the autoscaler of a workload among those of its namespace."""
    for found in autoscalers:
        target = found["spec"]["scaleTargetRef"]
        if (target["kind"], target["name"]) == (workload.kind, workload.name):
            return found
    return None


def bounds(autoscaler: Json) -> tuple[int, int]:
    """Give between how many pods an autoscaler keeps its workload."""
    return autoscaler["spec"].get("minReplicas", 1), autoscaler["spec"]["maxReplicas"]
