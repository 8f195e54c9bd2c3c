# SPDX-FileCopyrightText: The modelfleet maintainers
# SPDX-License-Identifier: GPL-3.0-or-later
"""Who says how many replicas a Deployment has: we, or its autoscaler, and how the one hands over to the other.

Server-side apply removes a field whose only owner stops naming it, and the number of replicas would fall back to one:
https://kubernetes.io/docs/reference/using-api/server-side-apply/#transferring-ownership. So a field manager of its own
holds the number until the other side has taken it.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from ansible_collections.modelfleet.serving.plugins.module_utils._cluster.apply import FIELD_MANAGER
from ansible_collections.modelfleet.serving.plugins.module_utils._cluster.bundle import Bundle
from ansible_collections.modelfleet.serving.plugins.module_utils._cluster.fields import owned_fields
from ansible_collections.modelfleet.serving.plugins.module_utils._cluster.kinds import Ref
from ansible_collections.modelfleet.serving.plugins.module_utils._cluster.session import Session
from ansible_collections.modelfleet.serving.plugins.module_utils._errors import ServingError

Json = dict[str, Any]

_HOLDER = "modelfleet-replicas"


def prepare(
    session: Session, bundle: Bundle, deployment: Ref, replicas: int | None, *, check: bool
) -> tuple[Bundle, bool]:
    """Prepare an apply that names the number of replicas where the last one did not, or the other way round.

    :param replicas: None leaves the number to the autoscaler of the bundle.
    :returns: what to apply, which in check mode has what a run hands over before, and whether to take the number by
        force from our own autoscaler, which the same apply prunes.
    :raises ServingError: when an autoscaler that is not ours would set the number again and again.
    """
    live = session.get(deployment)
    if live is None:
        return bundle, False
    ours, held = (_owns_replicas(live, manager) for manager in (FIELD_MANAGER, _HOLDER))
    if replicas is None:
        if ours and check:
            return _with_replicas(bundle, deployment, live["spec"]["replicas"]), False
        if ours:
            _hold(session, deployment, live["spec"]["replicas"])
        return bundle, False
    if ours and held and not check:
        _hold(session, deployment, None)
    return bundle, not ours and _require_own_autoscaler(session, deployment)


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


def _require_own_autoscaler(session: Session, deployment: Ref) -> bool:
    """Tell whether we made the autoscaler of a Deployment; False where there is none."""
    found = find_autoscaler(session, deployment)
    if found is None:
        return False
    if not owned_fields(found, FIELD_MANAGER):
        raise ServingError(
            f"cluster {session.name}: {Ref.of(found)} sets how many pods {deployment} has, not we.",
            hint="Remove it, or set autoscaling in its place.",
        )
    return True


def _with_replicas(bundle: Bundle, deployment: Ref, replicas: int) -> Bundle:
    objects = [
        {**manifest, "spec": {**manifest["spec"], "replicas": replicas}} if Ref.of(manifest) == deployment else manifest
        for manifest in bundle.objects
    ]
    return replace(bundle, objects=tuple(objects))


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
