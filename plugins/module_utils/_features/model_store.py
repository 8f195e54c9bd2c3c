# SPDX-FileCopyrightText: The modelfleet maintainers
# SPDX-License-Identifier: GPL-3.0-or-later
"""The volume of a cluster's models, filled with the versions that should be there."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any, cast

from ansible.module_utils.common.yaml import yaml_dump

from ansible_collections.modelfleet.serving.plugins.module_utils._call import Call, Feature, Result
from ansible_collections.modelfleet.serving.plugins.module_utils._cluster.apply import apply, delete
from ansible_collections.modelfleet.serving.plugins.module_utils._cluster.arguments import (
    apply_arguments,
    cluster_arguments,
)
from ansible_collections.modelfleet.serving.plugins.module_utils._cluster.bundle import Bundle
from ansible_collections.modelfleet.serving.plugins.module_utils._cluster.changes import result_of
from ansible_collections.modelfleet.serving.plugins.module_utils._cluster.execute import PodShell
from ansible_collections.modelfleet.serving.plugins.module_utils._cluster.kinds import Ref
from ansible_collections.modelfleet.serving.plugins.module_utils._cluster.readiness import require_startable
from ansible_collections.modelfleet.serving.plugins.module_utils._cluster.session import Json, Session, connect
from ansible_collections.modelfleet.serving.plugins.module_utils._cluster.wait import Deadline, Kind, wait_until
from ansible_collections.modelfleet.serving.plugins.module_utils._errors import ApiError, InputError, WaitError
from ansible_collections.modelfleet.serving.plugins.module_utils._manifests.common import selector
from ansible_collections.modelfleet.serving.plugins.module_utils._manifests.store import (
    MODELS_PATH,
    StoreSpec,
    loader,
    store,
)
from ansible_collections.modelfleet.serving.plugins.module_utils._names import (
    require_dns_label,
    require_model,
    require_unique,
    require_version,
)
from ansible_collections.modelfleet.serving.plugins.module_utils._store.artefact import (
    DIGEST,
    Artefact,
    read_artefact,
)
from ansible_collections.modelfleet.serving.plugins.module_utils._store.publish import publish, require_same

# The digests of the published versions, on the claim itself: the record lives and dies with the volume.
RECORD = "modelfleet.serving/versions"
# A field manager of its own, so that applying the claim never takes the record away.
_RECORD_MANAGER = "modelfleet-store"

Record = dict[str, dict[str, str]]


def run(call: Call) -> Result:
    """Make a store exist with the versions asked for, or be gone."""
    params = call.params
    name = require_dns_label(params["name"], "name")
    namespace = require_dns_label(params["namespace"], "namespace")
    deadline = Deadline.after(params["wait_timeout"])
    if params["state"] == "absent":
        with connect(params, call.warn) as session:
            return result_of(delete(session, Bundle(f"store-{name}", namespace, ()), check=call.check_mode))
    artefacts = _artefacts(params["models"])
    spec = StoreSpec(
        name=name,
        namespace=namespace,
        size=params["size"],
        image=params["image"],
        access_modes=tuple(params["access_modes"]),
        storage_class=params["storage_class"],
        overrides=params["overrides"],
    )
    with connect(params, call.warn) as session:
        ref = Ref("v1", "PersistentVolumeClaim", name, namespace)
        before = read_record(session.get(ref))
        left = _not_recorded(artefacts, before)
        bundle = Bundle(f"store-{name}", namespace, store(spec))
        result = result_of(apply(session, bundle, check=call.check_mode, force=params["force_conflicts"]))
        after = _with(before, left)
        if left:
            result.changed = True
            result.diff.append(_record_diff(ref, before, after))
            if not call.check_mode:
                _fill(call, session, spec, ref, left, before, deadline)
        result.values |= {
            "versions": after,
            "copied": [{"model": a.model, "version": a.version, "digest": a.digest, "bytes": a.size} for a in left],
        }
        return result


def read_record(claim: Json | None) -> Record:
    """Read which versions a claim's volume holds, with their digests."""
    text = (claim or {}).get("metadata", {}).get("annotations", {}).get(RECORD)
    return cast(Record, json.loads(text)) if text else {}


def _artefacts(models: Iterable[dict[str, Any]] | None) -> list[Artefact]:
    """Read the versions from their sources and hold them against the digests that were asked for."""
    models = list(models or ())
    if not models:
        raise InputError("models is empty.", hint="Name one model or more; use state: absent to remove the store.")
    require_unique([entry["name"] for entry in models], "models")
    artefacts = []
    for entry in models:
        name = require_model(entry["name"], "models.name")
        versions = entry["versions"] or []
        if not versions:
            raise InputError(f"models: {name} has no version to copy.", hint="List one or more in versions.")
        require_unique([str(version) for version in versions], f"models: {name}: versions")
        # The keys of a dict come as the user wrote them: 1 or "1".
        digests = {str(version): digest for version, digest in (entry.get("digests") or {}).items()}
        unused = sorted(digests.keys() - {str(version) for version in versions})
        if unused:
            raise InputError(
                f"models: {name}: digests names version {', '.join(unused)}, which is not to be copied.",
                hint="A digest is checked when its version is copied: correct versions or digests.",
            )
        for version in versions:
            artefact = read_artefact(name, require_version(version, f"models: {name}"), entry["source"])
            wanted = digests.get(str(version))
            if wanted is not None and not DIGEST.fullmatch(str(wanted)):
                raise InputError(f"{artefact}: {wanted!r} is no digest.", hint="Use sha256: and 64 hexadecimal digits.")
            if wanted is not None and wanted != artefact.digest:
                raise InputError(
                    f"{artefact}: the files in {artefact.folder} have the digest {artefact.digest}, not {wanted}.",
                    hint="Nothing was copied. Find out which is right: the source or the declared digest.",
                )
            artefacts.append(artefact)
    return artefacts


def _not_recorded(artefacts: list[Artefact], record: Record) -> list[Artefact]:
    left = []
    for artefact in artefacts:
        digest = record.get(artefact.model, {}).get(str(artefact.version))
        if digest is None:
            left.append(artefact)
        else:
            require_same(artefact, digest)
    return left


def _with(record: Record, artefacts: list[Artefact]) -> Record:
    after = {model: dict(versions) for model, versions in record.items()}
    for artefact in artefacts:
        after.setdefault(artefact.model, {})[str(artefact.version)] = artefact.digest
    return after


def _record_diff(ref: Ref, before: Record, after: Record) -> dict[str, str]:
    header = f"versions in {ref}"
    return {
        "before_header": header,
        "after_header": header,
        "before": yaml_dump(before) if before else "",
        "after": yaml_dump(after),
    }


def _fill(
    call: Call,
    session: Session,
    spec: StoreSpec,
    ref: Ref,
    artefacts: list[Artefact],
    record: Record,
    deadline: Deadline,
) -> None:
    """Publish versions through a pod that is there for this alone; what was published stays recorded on a failure."""
    manifest = loader(spec, seconds=int(deadline.seconds) + 60)
    pod = Ref.of(manifest)
    pods = Kind("v1", "Pod", spec.namespace, selector("loader", spec.name))
    _remove_left(session, pod, pods, deadline)
    made = session.request("POST", session.path(Ref("v1", "Pod", "", spec.namespace)), body=manifest)
    try:

        def judge(objects: dict[Ref, Json]) -> str:
            return _not_ready(session, made, objects.get(pod))

        wait_until(session, [pods], judge, deadline, call.progress)

        shell = PodShell(session, spec.namespace, pod.name, "loader", deadline)
        for artefact in artefacts:
            call.progress(f"{ref}: {artefact}, {artefact.size / 1e6:.1f} MB")
            publish(shell, artefact, MODELS_PATH)
            record = _with(record, [artefact])
            _write_record(session, ref, record)
    finally:
        _delete(session, made)


def _write_record(session: Session, ref: Ref, record: Record) -> None:
    annotations = {RECORD: json.dumps(record, sort_keys=True)}
    body = {
        "apiVersion": ref.api_version,
        "kind": ref.kind,
        "metadata": {"name": ref.name, "namespace": ref.namespace, "annotations": annotations},
    }
    query = {"fieldManager": _RECORD_MANAGER}
    session.request("PATCH", session.path(ref), query=query, body=body, content_type="application/apply-patch+yaml")


def _remove_left(session: Session, pod: Ref, pods: Kind, deadline: Deadline) -> None:
    """Remove the pod of a run that was cut off."""
    left = session.get(pod)
    if left is not None:
        _delete(session, left)
        wait_until(session, [pods], lambda objects: f"{pod} is still there" if pod in objects else "", deadline)


def _delete(session: Session, pod: Json) -> None:
    """Delete this pod, and not one that another run has made under the same name."""
    options = {"gracePeriodSeconds": 0, "preconditions": {"uid": pod["metadata"]["uid"]}}
    try:
        session.request("DELETE", session.path(Ref.of(pod)), body=options)
    except ApiError as error:
        if error.status not in (404, 409):  # it may be gone already, by its own deadline or with its node
            raise


def _not_ready(session: Session, made: Json, pod: Json | None) -> str:
    """Say what the loader pod still lacks; ``""`` when it runs.

    :raises WaitError: when it is gone.
    """
    if pod is None or pod["metadata"]["uid"] != made["metadata"]["uid"]:
        raise WaitError(
            f"cluster {session.name}: {Ref.of(made)} was removed while this run was using it.",
            hint="Another run may be filling the same store; run again when it has ended.",
        )
    require_startable(session, pod)
    ready = any(status.get("ready") for status in pod.get("status", {}).get("containerStatuses", []))
    return "" if ready else f"{Ref.of(pod)} is {pod.get('status', {}).get('phase', 'Pending')}"


FEATURE = Feature(
    arguments={
        **cluster_arguments(),
        **apply_arguments(),
        "wait_timeout": {"type": "int", "default": 600},
        "name": {"type": "str", "required": True},
        "namespace": {"type": "str", "required": True},
        "size": {"type": "str", "default": "10Gi"},
        "access_modes": {"type": "list", "elements": "str", "default": ["ReadWriteOnce"]},
        "storage_class": {"type": "str"},
        "image": {"type": "str", "default": "busybox:1.37.0"},
        "models": {
            "type": "list",
            "elements": "dict",
            "options": {
                "name": {"type": "str", "required": True},
                "source": {"type": "path", "required": True},
                "versions": {"type": "list", "elements": "int", "required": True},
                "digests": {"type": "dict"},
            },
        },
        "overrides": {"type": "dict", "default": {}},
    },
    run=run,
    constraints={"required_if": [("state", "present", ["models"])]},
)
