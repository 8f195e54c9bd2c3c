# SPDX-FileCopyrightText: The modelfleet maintainers
# SPDX-License-Identifier: GPL-3.0-or-later
"""Who says how many replicas a workload has: we, or its autoscaler, and how the one hands over to the other.

Server-side apply removes a field whose only owner stops naming it, and the number of replicas would fall back to one:
https://kubernetes.io/docs/reference/using-api/server-side-apply/#transferring-ownership. So a field manager of its own
holds the number until the other side has taken it.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from ansible_collections.modelfleet.serving.plugins.module_utils._cluster.apply import FIELD_MANAGER
from ansible_collections.modelfleet.serving.plugins.module_utils._cluster.autoscalers import find_autoscaler
from ansible_collections.modelfleet.serving.plugins.module_utils._cluster.bundle import Bundle
from ansible_collections.modelfleet.serving.plugins.module_utils._cluster.fields import owned_fields
from ansible_collections.modelfleet.serving.plugins.module_utils._cluster.kinds import Ref
from ansible_collections.modelfleet.serving.plugins.module_utils._cluster.session import Session
from ansible_collections.modelfleet.serving.plugins.module_utils._errors import ServingError

Json = dict[str, Any]

_HOLDER = "modelfleet-replicas"


def prepare(
    session: Session, bundle: Bundle, workload: Ref, replicas: int | None, *, check: bool
) -> tuple[Bundle, bool]:
    """Prepare an apply that names the number of replicas where the last one did not, or the other way round.

    :param replicas: None leaves the number to the autoscaler of the bundle.
    :returns: what to apply, which in check mode has what a run hands over before, and whether to take the number by
        force from our own autoscaler, which the same apply prunes, or from one that is gone.
    :raises ServingError: when an autoscaler that is not ours would set the number again and again.
    """
    live = session.get(workload)
    if live is None:
        return bundle, False
    ours, held = (_owns_replicas(live, manager) for manager in (FIELD_MANAGER, _HOLDER))
    if replicas is None:
        if ours and check:
            return with_replicas(bundle, workload, live["spec"]["replicas"]), False
        if ours:
            _hold(session, workload, live["spec"]["replicas"])
        return bundle, False
    if ours and held and not check:
        _hold(session, workload, None)
    return bundle, not ours and _was_autoscaled(session, workload, live)


def _was_autoscaled(session: Session, workload: Ref, live: Json) -> bool:
    """Tell whether the number is that of an autoscaler of ours, or of one that is gone.

    :raises ServingError: when it is that of an autoscaler that is not ours.
    """
    found = find_autoscaler(session, workload)
    if found is None:
        return any(
            (entry.get("manager"), entry.get("subresource")) == ("kube-controller-manager", "scale")
            and "f:replicas" in entry.get("fieldsV1", {}).get("f:spec", {})
            for entry in live["metadata"].get("managedFields", [])
        )
    if not owned_fields(found, FIELD_MANAGER):
        raise ServingError(
            f"cluster {session.name}: {Ref.of(found)} sets how many pods {workload} has, not we.",
            hint="Remove it, or set autoscaling in its place.",
        )
    return True


def with_replicas(bundle: Bundle, workload: Ref, replicas: int) -> Bundle:
    """Give a bundle that says how many replicas a Deployment or the like of it has."""
    objects = [
        {**manifest, "spec": {**manifest["spec"], "replicas": replicas}} if Ref.of(manifest) == workload else manifest
        for manifest in bundle.objects
    ]
    return replace(bundle, objects=tuple(objects))


def _owns_replicas(live: Json, manager: str) -> bool:
    return "f:replicas" in owned_fields(live, manager).get("f:spec", {})


def _hold(session: Session, workload: Ref, replicas: int | None) -> None:
    body: Json = {
        "apiVersion": workload.api_version,
        "kind": workload.kind,
        "metadata": {"name": workload.name, "namespace": workload.namespace},
    }
    if replicas is not None:
        body["spec"] = {"replicas": replicas}
    session.request(
        "PATCH",
        session.path(workload),
        query={"fieldManager": _HOLDER, "force": "true"},
        body=body,
        content_type="application/apply-patch+yaml",
    )
