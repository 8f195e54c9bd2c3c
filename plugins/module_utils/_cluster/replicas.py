# SPDX-FileCopyrightText: The modelfleet maintainers
# SPDX-License-Identifier: GPL-3.0-or-later
"""Who says how many replicas a Deployment has: we, or its autoscaler, and how the one hands over to the other.

Server-side apply removes a field whose only owner stops naming it, and the number of replicas would fall back to one:
https://kubernetes.io/docs/reference/using-api/server-side-apply/#transferring-ownership. So a field manager of its own
holds the number until the other side has taken it.
"""

from __future__ import annotations

from typing import Any

from ansible_collections.modelfleet.serving.plugins.module_utils._cluster.apply import FIELD_MANAGER
from ansible_collections.modelfleet.serving.plugins.module_utils._cluster.fields import owned_fields
from ansible_collections.modelfleet.serving.plugins.module_utils._cluster.kinds import Ref
from ansible_collections.modelfleet.serving.plugins.module_utils._cluster.session import Session

Json = dict[str, Any]

_HOLDER = "modelfleet-replicas"


def is_autoscaled(session: Session, deployment: Ref) -> bool:
    """Tell whether an autoscaler that we made decides."""
    live = session.get(_autoscaler(deployment))
    return live is not None and bool(owned_fields(live, FIELD_MANAGER))


def hand_over(session: Session, deployment: Ref, replicas: int | None) -> None:
    """Prepare an apply that names the number of replicas where it did not, or the other way round.

    :param replicas: None leaves it to the autoscaler. Another's autoscaler is left alone: the apply tells the conflict.
    """
    live = session.get(deployment)
    if live is None:
        return
    ours, held = (_owns_replicas(live, manager) for manager in (FIELD_MANAGER, _HOLDER))
    if replicas is None and ours:
        _hold(session, deployment, live["spec"]["replicas"])
    elif replicas is not None and not ours and is_autoscaled(session, deployment):
        # The apply prunes the autoscaler a moment later.
        _hold(session, deployment, replicas)
    elif replicas is not None and ours and held:
        _hold(session, deployment, None)


def _autoscaler(deployment: Ref) -> Ref:
    return Ref("autoscaling/v2", "HorizontalPodAutoscaler", deployment.name, deployment.namespace)


def _owns_replicas(live: Json, manager: str) -> bool:
    return "f:replicas" in owned_fields(live, manager).get("f:spec", {})


def _hold(session: Session, deployment: Ref, replicas: int | None) -> None:
    body: Json = {
        "apiVersion": deployment.api_version,
        "kind": deployment.kind,
        "metadata": {"name": deployment.name, "namespace": deployment.namespace},
    }
    if replicas is not None:
        body["spec"] = {"replicas": replicas}
    session.request(
        "PATCH",
        session.path(deployment),
        query={"fieldManager": _HOLDER, "force": "true"},
        body=body,
        content_type="application/apply-patch+yaml",
    )
