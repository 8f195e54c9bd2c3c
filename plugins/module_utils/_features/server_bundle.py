# SPDX-FileCopyrightText: The modelfleet maintainers
# SPDX-License-Identifier: GPL-3.0-or-later
"""What model_server and image_server have in common: one name is one server, whichever serves it."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace

from ansible_collections.modelfleet.serving.plugins.module_utils._call import Call, Result
from ansible_collections.modelfleet.serving.plugins.module_utils._cluster.apply import FIELD_MANAGER, apply, delete
from ansible_collections.modelfleet.serving.plugins.module_utils._cluster.applyset import ApplySet
from ansible_collections.modelfleet.serving.plugins.module_utils._cluster.bundle import Bundle
from ansible_collections.modelfleet.serving.plugins.module_utils._cluster.changes import Change, result_of
from ansible_collections.modelfleet.serving.plugins.module_utils._cluster.fields import owned_fields
from ansible_collections.modelfleet.serving.plugins.module_utils._cluster.kinds import Ref
from ansible_collections.modelfleet.serving.plugins.module_utils._cluster.raised import respecting
from ansible_collections.modelfleet.serving.plugins.module_utils._cluster.readiness import (
    Objects,
    scaling_fault,
    wait_gone,
    wait_ready,
)
from ansible_collections.modelfleet.serving.plugins.module_utils._cluster.replicas import prepare, with_replicas
from ansible_collections.modelfleet.serving.plugins.module_utils._cluster.session import Json, Session, connect
from ansible_collections.modelfleet.serving.plugins.module_utils._cluster.wait import Deadline
from ansible_collections.modelfleet.serving.plugins.module_utils._errors import InputError
from ansible_collections.modelfleet.serving.plugins.module_utils._manifests.autoscaling import METRICS_APIS

_LAST_WORD_SECONDS = 1.0


def bundle_name(server: str) -> str:
    """Give the name of a server's bundle."""
    return f"server-{server}"


def apply_server(
    call: Call, session: Session, bundle: Bundle, workload: Ref, replicas: int | None, deadline: Deadline
) -> list[Change]:
    """Apply a server. One whose Deployment becomes a StatefulSet, or the other way round, has both until the new pods
    are ready; so no request is lost.

    :param replicas: None leaves the number of pods to the autoscaler of the bundle.
    """
    check, force = call.check_mode, call.params["force_conflicts"]
    former = find_former(session, bundle, workload)
    before: dict[Ref, Change] = {}
    if former is not None:
        if not call.params["wait"]:
            raise InputError(
                f"cluster {session.name}: {Ref.of(former)} can only become a {workload.kind} when that is ready, "
                "which this task does not wait for.",
                hint="Set wait to true.",
            )
        first, number = bundle, replicas
        if session.get(workload) is None:
            if number is None:  # as many as there are, and not one that the autoscaler would have to raise
                number = former["spec"].get("replicas", 1)
                first = with_replicas(first, workload, number)
            first = _with(first, workload, lambda manifest: respecting(manifest, former))
        if check:
            return apply(session, first, check=True, force=force)
        first, returned = prepare(session, first, workload, number, check=False)
        done = apply(session, first, force=force or returned, deadline=deadline, keep=[Ref.of(former)])
        before = {change.ref: change for change in done if change.action != "unchanged"}
        wait_ready(session, first, deadline, call.progress)
    bundle, returned = prepare(session, bundle, workload, replicas, check=check)
    changes = apply(session, bundle, check=check, force=force or returned, deadline=deadline)
    if returned and not check:
        # The controller may be at work on the autoscaler that was pruned yet, and write its number once more.
        time.sleep(_LAST_WORD_SECONDS)
        apply(session, bundle, force=True, deadline=deadline)
    return [before.get(change.ref, change) for change in changes]


def find_former(session: Session, bundle: Bundle, workload: Ref) -> Json | None:
    """Read the member of a server's bundle that makes its pods by another kind of workload than they are to be."""
    kind = "Deployment" if workload.kind == "StatefulSet" else "StatefulSet"
    live = session.get(Ref("apps/v1", kind, workload.name, workload.namespace))
    labels = (live or {}).get("metadata", {}).get("labels") or {}
    member = ApplySet(bundle.name, bundle.namespace).member_labels.items() <= labels.items()
    return live if member and owned_fields(live, FIELD_MANAGER) else None


def _with(bundle: Bundle, ref: Ref, change: Callable[[Json], Json]) -> Bundle:
    objects = tuple(change(manifest) if Ref.of(manifest) == ref else manifest for manifest in bundle.objects)
    return replace(bundle, objects=objects)


def warn_of_scaling(call: Call, session: Session, objects: Objects) -> None:
    """Warn when the autoscaler of a server that is ready can't scale it: nothing else would tell before the load comes.

    :param objects: those of the server.
    """
    for ref, live in objects.items():
        if ref.kind != "HorizontalPodAutoscaler":
            continue
        apis = {METRICS_APIS[metric["type"]] for metric in live["spec"].get("metrics") or ()}
        missing = [api for api in sorted(apis) if session.api_version(api, "") is None]
        if missing:
            call.warn(
                f"cluster {session.name}: {ref} can't scale: nothing in the cluster serves {' and '.join(missing)}. "
                "Install what does: a metrics server, or an adapter such as prometheus-adapter."
            )
        elif fault := scaling_fault(live):
            call.warn(f"cluster {session.name}: {ref} does not scale: {fault}.")


def remove(call: Call, server: str, namespace: str, deadline: Deadline) -> Result:
    """Delete a server with everything around it, and wait until it is gone if that was asked for."""
    with connect(call.params, call.warn) as session:
        return result_of(delete_bundle(call, session, Bundle(bundle_name(server), namespace, ()), deadline))


def delete_bundle(call: Call, session: Session, bundle: Bundle, deadline: Deadline) -> list[Change]:
    """Delete a bundle, and wait until it is gone if that was asked for."""
    changes = delete(session, bundle, check=call.check_mode)
    if call.params["wait"] and not call.check_mode:
        labels = ApplySet(bundle.name, bundle.namespace).member_labels
        wait_gone(session, [change.ref for change in changes], labels, deadline, call.progress)
    return changes


def require_replicas(replicas: int | None) -> int:
    """Check a number of pods."""
    if replicas is None or replicas < 1:
        raise InputError(f"replicas: {replicas} is too few.", hint="Use 1 or more, or state: absent.")
    return replicas
