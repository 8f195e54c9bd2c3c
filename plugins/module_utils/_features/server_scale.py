# SPDX-FileCopyrightText: The modelfleet maintainers
# SPDX-License-Identifier: GPL-3.0-or-later
"""More replicas of a server for a while: raised before traffic comes, and given back when it has gone."""

from __future__ import annotations

from dataclasses import asdict, replace

from ansible_collections.modelfleet.serving.plugins.module_utils._call import Call, Feature, Result
from ansible_collections.modelfleet.serving.plugins.module_utils._cluster.apply import FIELD_MANAGER, edit
from ansible_collections.modelfleet.serving.plugins.module_utils._cluster.arguments import (
    cluster_arguments,
    wait_arguments,
)
from ansible_collections.modelfleet.serving.plugins.module_utils._cluster.autoscalers import bounds, find_autoscaler
from ansible_collections.modelfleet.serving.plugins.module_utils._cluster.changes import Change, result_of
from ansible_collections.modelfleet.serving.plugins.module_utils._cluster.fields import owned_fields
from ansible_collections.modelfleet.serving.plugins.module_utils._cluster.kinds import Ref
from ansible_collections.modelfleet.serving.plugins.module_utils._cluster.raised import Raised, read_raised
from ansible_collections.modelfleet.serving.plugins.module_utils._cluster.readiness import Objects, wait_live
from ansible_collections.modelfleet.serving.plugins.module_utils._cluster.session import Json, Session, connect
from ansible_collections.modelfleet.serving.plugins.module_utils._cluster.wait import Deadline
from ansible_collections.modelfleet.serving.plugins.module_utils._errors import InputError, ServingError, WaitError
from ansible_collections.modelfleet.serving.plugins.module_utils._manifests.names import config_name
from ansible_collections.modelfleet.serving.plugins.module_utils._names import require_dns_label
from ansible_collections.modelfleet.serving.plugins.module_utils._store.own import require_filled
from ansible_collections.modelfleet.serving.plugins.module_utils._tfserving.model_config import read_config


def run(call: Call) -> Result:
    """Raise the least number of replicas, or give back what there was before."""
    params = call.params
    name = require_dns_label(params["name"], "name")
    namespace = require_dns_label(params["namespace"], "namespace")
    raising = params["state"] == "raised"
    wanted = _require_replicas(params["replicas"]) if raising else 0
    deadline = Deadline.after(params["wait_timeout"])
    with connect(params, call.warn) as session:
        workload = _find_workload(session, namespace, name)
        autoscaler = find_autoscaler(session, Ref.of(workload))
        scaled = autoscaler or workload
        if raising:
            _require_volumes(session, workload, wanted)
            changes, after = _raise(session, scaled, wanted, params["reason"], check=call.check_mode)
        else:
            changes = _restore(session, [workload, *([autoscaler] if autoscaler else [])], check=call.check_mode)
            before = read_raised(scaled)
            after = None
            wanted = _least({**scaled, "spec": {**scaled["spec"], **(before.before if before else {})}})
        if raising and params["wait"] and not call.check_mode:
            awaited = [entry for entry in (workload, autoscaler) if entry]
            try:
                _wait(call, session, awaited, wanted, deadline)
            except WaitError as error:
                if changes:
                    _take_back(session, scaled, error)
                raise
        result = result_of(changes)
        result.values["replicas"] = max(wanted, _least(scaled)) if raising else wanted
        result.values["raised"] = asdict(after) if after else None
        return result


def _require_replicas(replicas: int | None) -> int:
    if replicas is None or replicas < 1:
        raise InputError(f"replicas: {replicas} is too few.", hint="Use 1 or more, or state: restored.")
    return replicas


def _find_workload(session: Session, namespace: str, name: str) -> Json:
    for kind in ("Deployment", "StatefulSet"):
        if live := session.get(Ref("apps/v1", kind, name, namespace)):
            return live
    raise InputError(
        f"cluster {session.name}: there is no server {namespace}/{name}, neither a Deployment nor a StatefulSet.",
        hint="Check name and namespace; modelfleet.serving.model_server_info lists the servers.",
    )


def _require_volumes(session: Session, workload: Json, wanted: int) -> None:
    """Refuse more pods of a server than there are volumes for, where each pod has one of its own."""
    name, namespace = workload["metadata"]["name"], workload["metadata"]["namespace"]
    templates = workload["spec"].get("volumeClaimTemplates")
    config = session.get(Ref("v1", "ConfigMap", config_name(name), namespace)) if templates else None
    if not templates or config is None:  # of something else, whose volumes are empty at first
        return
    found = session.find("v1", "PersistentVolumeClaim", namespace)
    claims = {entry["metadata"]["name"]: entry for entry in found}
    models = read_config(config.get("data", {}).get("models.config", ""))
    require_filled(session.name, claims, templates[0]["metadata"]["name"], name, wanted, models)


def _least(scaled: Json) -> int:
    """Give the least number of pods that an autoscaler, or a workload without one, is to have."""
    if scaled["kind"] == "HorizontalPodAutoscaler":
        return bounds(scaled)[0]
    replicas: int = scaled["spec"].get("replicas", 1)
    return replicas


def _raise(
    session: Session, scaled: Json, wanted: int, reason: str, *, check: bool
) -> tuple[list[Change], Raised | None]:
    """Raise what is lower; gives the raise that is in force then."""
    present = read_raised(scaled)
    if _least(scaled) >= wanted:
        return [], present
    names = ["replicas"]
    if scaled["kind"] == "HorizontalPodAutoscaler":
        names = ["minReplicas"] if bounds(scaled)[1] >= wanted else ["minReplicas", "maxReplicas"]
    _require_ours(session, scaled, names)
    before = {name: scaled["spec"][name] for name in names} | dict(present.before if present else {})
    raised = Raised(dict.fromkeys(before, wanted), before, reason)
    return [edit(session, scaled, raised.put_on, check=check)], raised


def _restore(session: Session, objects: list[Json], *, check: bool) -> list[Change]:
    """Take a raise off; it may stand on a workload that has got an autoscaler since."""
    raises = [(live, raised) for live in objects if (raised := read_raised(live))]
    return [edit(session, live, raised.taken_off, check=check) for live, raised in raises]


def _require_ours(session: Session, scaled: Json, names: list[str]) -> None:
    """Refuse to raise what another tool would lower again, or would not let go of."""
    ours = owned_fields(scaled, FIELD_MANAGER).get("f:spec", {})
    for name in names:
        if f"f:{name}" in ours:
            continue
        entries = scaled["metadata"].get("managedFields", [])
        owners = {entry["manager"] for entry in entries if f"f:{name}" in entry.get("fieldsV1", {}).get("f:spec", {})}
        who = f"set by {', '.join(sorted(owners))}, not by" if owners else "set by nobody, so not by"
        raise ServingError(
            f"cluster {session.name}: {name} of {Ref.of(scaled)} is {who} this collection, and is left alone.",
            hint="Scale it by what owns it, or deploy the server again with force_conflicts to take the field over.",
        )


def _wait(call: Call, session: Session, awaited: list[Json], least: int, deadline: Deadline) -> None:
    ref = Ref.of(awaited[0])

    def lacks(objects: Objects) -> str:
        # An autoscaler says that it wants more before the workload hears of it.
        replicas = objects[ref]["spec"].get("replicas", 1)
        return "" if replicas >= least else f"{ref}: its autoscaler has not raised it from {replicas} to {least}"

    wait_live(session, awaited, deadline, call.progress, lacks)


def _take_back(session: Session, scaled: Json, error: WaitError) -> None:
    """Undo this run's raise, whatever else has changed since; the error tells it.

    :param scaled: the object as it was before this run.
    """
    ref, earlier = Ref.of(scaled), read_raised(scaled)
    try:
        live = session.get(ref)
        now = read_raised(live)
        if live is None or now is None:
            return

        def back(manifest: Json) -> Json:
            plain = now.taken_off(manifest)
            if not earlier:
                return plain
            return replace(earlier, before={name: plain["spec"][name] for name in earlier.to}).put_on(plain)

        edit(session, live, back)
    except ServingError as failure:
        error.hint = f"{ref} could not be lowered again: {failure} Use state: restored. {error.hint}"
        return
    error.message = f"{error.message} {ref} is again to have {_least(scaled)} pods at least."


_CHOICES = ["raised", "restored"]

FEATURE = Feature(
    arguments={
        **cluster_arguments(),
        **wait_arguments(300),
        "name": {"type": "str", "required": True},
        "namespace": {"type": "str", "required": True},
        "state": {"type": "str", "choices": _CHOICES, "default": "raised"},
        "replicas": {"type": "int"},
        "reason": {"type": "str", "default": ""},
    },
    run=run,
    constraints={"required_if": [("state", "raised", ["replicas"])]},
)
