# SPDX-FileCopyrightText: The modelfleet maintainers
# SPDX-License-Identifier: GPL-3.0-or-later
"""One call a cluster: server-side apply of a whole bundle, in waves, with a diff of the fields we own, and pruning.

Pruning follows the ApplySet conventions, so kubectl and other tools understand whose an object is:
https://kubernetes.io/docs/reference/labels-annotations-taints/#applyset-kubernetes-io-id
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal, TypeVar

from ansible.module_utils.common.yaml import yaml_dump

from ansible_collections.modelfleet.serving.plugins.module_utils._call import Result
from ansible_collections.modelfleet.serving.plugins.module_utils._cluster.fields import owned_fields, project, union
from ansible_collections.modelfleet.serving.plugins.module_utils._cluster.kinds import Ref, wave
from ansible_collections.modelfleet.serving.plugins.module_utils._cluster.session import PARALLEL_REQUESTS, Session
from ansible_collections.modelfleet.serving.plugins.module_utils._errors import ApiError, ServingError

Json = dict[str, Any]
_T = TypeVar("_T")

FIELD_MANAGER = "modelfleet"
_PART_OF = "applyset.kubernetes.io/part-of"
_KINDS_ANNOTATION = "applyset.kubernetes.io/contains-group-kinds"


@dataclass(frozen=True)
class Bundle:
    """Everything that should exist for one thing, such as one model server.

    :param name: unique in its namespace; a name such as ``server-serving`` says what the bundle is for.
    :param objects: the manifests; an empty tuple means that nothing of the bundle should exist.
    """

    name: str
    namespace: str
    objects: tuple[Json, ...]


@dataclass(frozen=True)
class Change:
    """What an apply did, or would do, to one object.

    :param before: the fields we own, before; None where the object did not exist.
    :param after: the same, after; None where it was deleted.
    """

    ref: Ref
    before: Json | None
    after: Json | None

    @property
    def action(self) -> Literal["created", "deleted", "updated", "unchanged"]:
        """Say in one word what happens to the object."""
        if self.before is None:
            return "created"
        if self.after is None:
            return "deleted"
        return "unchanged" if self.before == self.after else "updated"


def apply(session: Session, bundle: Bundle, *, check: bool = False, force: bool = False) -> list[Change]:
    """Make the cluster hold exactly this bundle.

    :param check: only ask the server what would happen, by its dry run.
    :param force: take over fields that another manager owns.
    :returns: one change an object, those that left the bundle included, in the order of the waves.
    :raises ServingError: with ``applied`` and ``not_applied`` in its details when the server refused an object.
    """
    parent = _parent(bundle)
    part_of = parent["metadata"]["labels"]["applyset.kubernetes.io/id"]
    members = [_labelled(_readable(manifest), part_of) for manifest in bundle.objects]
    live_parent = session.get(Ref.of(parent))
    annotations = (live_parent or {}).get("metadata", {}).get("annotations", {})
    before_kinds = set(filter(None, annotations.get(_KINDS_ANNOTATION, "").split(",")))
    now_kinds = {_group_kind(Ref.of(manifest)) for manifest in members}

    # After the namespace it lives in, and before any other member, the parent names every kind that may have members:
    # a run that is cut off leaves nothing that a later prune would not find.
    waves = [
        [manifest for manifest in members if wave(manifest["kind"]) == 0],
        [_with_kinds(parent, before_kinds | now_kinds)],
        [manifest for manifest in members if wave(manifest["kind"]) == 1],
        [manifest for manifest in members if wave(manifest["kind"]) > 1],
    ]
    changes: list[Change] = []
    # A real run would have made the namespace by now, here or in a task before this one.
    homeless = check and session.get(Ref("v1", "Namespace", bundle.namespace)) is None
    for in_wave in waves:
        work = partial(_apply_one, session, check=check, force=force, homeless=homeless)
        done, errors = _parallel(work, in_wave)
        changes += done
        if errors:
            visible = [change for change in changes if change.ref != Ref.of(parent)]
            applied = {change.ref for change in visible}
            raise _with_progress(errors[0], visible, [r for m in members if (r := Ref.of(m)) not in applied])

    keep = {Ref.of(manifest) for manifest in members}
    changes += _delete_members(session, bundle.namespace, part_of, before_kinds, keep, check=check)
    if before_kinds - now_kinds and not check:
        _apply_one(session, _with_kinds(parent, now_kinds), check=False, force=force)
    # The parent is bookkeeping: it is a change only together with something a user can see.
    return [change for change in changes if change.ref != Ref.of(parent)]


def delete(session: Session, bundle: Bundle, *, check: bool = False) -> list[Change]:
    """Delete everything that was applied as this bundle, and nothing else."""
    parent = Ref.of(_parent(bundle))
    live = session.get(parent)
    if live is None:
        return []
    metadata = live["metadata"]
    kinds = set(filter(None, metadata.get("annotations", {}).get(_KINDS_ANNOTATION, "").split(",")))
    part_of = metadata["labels"]["applyset.kubernetes.io/id"]
    changes = _delete_members(session, bundle.namespace, part_of, kinds, set(), check=check)
    _delete_one(session, live, check=check)
    return changes


def result_of(changes: Iterable[Change]) -> Result:
    """Give the task result of an apply: what changed, the diff, and the objects with what happened to each."""
    changes = list(changes)
    return Result(
        changed=any(change.action != "unchanged" for change in changes),
        diff=[_diff(change) for change in changes if change.action != "unchanged"],
        values={"objects": [_row(change) for change in changes]},
    )


def _row(change: Change) -> dict[str, Any]:
    ref = change.ref
    return {
        "api_version": ref.api_version,
        "kind": ref.kind,
        "namespace": ref.namespace,
        "name": ref.name,
        "action": change.action,
    }


def _diff(change: Change) -> dict[str, str]:
    """Give Ansible's diff of one change; what a Secret holds is never shown, only that it differs."""
    before, after = change.before, change.after
    if change.ref.kind == "Secret":
        before, after = _hide(before, after, "before"), _hide(after, before, "after")
    return {
        "before_header": str(change.ref),
        "after_header": str(change.ref),
        "before": yaml_dump(before) if before else "",
        "after": yaml_dump(after) if after else "",
    }


def _hide(secret: Json | None, other: Json | None, when: str) -> Json | None:
    if secret is None:
        return None
    hidden = dict(secret)
    if "data" in secret:
        others = (other or {}).get("data", {})
        hidden["data"] = {
            key: "hidden" if others.get(key) == value else f"hidden, {when}" for key, value in secret["data"].items()
        }
    return hidden


def _apply_one(session: Session, manifest: Json, *, check: bool, force: bool, homeless: bool = False) -> Change:
    """Apply one object, or let the server say what that would do."""
    ref = Ref.of(manifest)
    live = session.get(ref)
    query = {"fieldManager": FIELD_MANAGER, "force": str(force).lower()}
    if check:
        query["dryRun"] = "All"
    if homeless and ref.namespace:
        # The server can't try the object in a namespace that does not exist. What we own of a new object is what its
        # manifest says.
        return Change(ref, None, _shown(manifest, ref))
    after = session.request(
        "PATCH", session.path(ref), query=query, body=manifest, content_type="application/apply-patch+yaml"
    )
    after_fields = owned_fields(after, FIELD_MANAGER)
    if live is None:
        return Change(ref, None, _shown(project(after, after_fields), ref))
    before_fields = owned_fields(live, FIELD_MANAGER)
    fields = union(before_fields, after_fields) if before_fields else after_fields
    return Change(ref, _shown(project(live, fields), ref), _shown(project(after, fields), ref))


def _delete_members(
    session: Session, namespace: str, part_of: str, kinds: set[str], keep: set[Ref], *, check: bool
) -> list[Change]:
    """Delete the members of an ApplySet that are not to be kept, pods' owners before what they use."""
    doomed: list[Json] = []
    for group_kind in sorted(kinds, key=lambda text: (-wave(text.partition(".")[0]), text)):
        kind, _unused, group = group_kind.partition(".")
        api_version = session.api_version(group, kind)
        if api_version is None:
            continue  # the CRD is gone, and its objects with it
        found = session.find(api_version, kind, namespace, labels={_PART_OF: part_of})
        doomed += [manifest for manifest in found if Ref.of(manifest) not in keep]
    done, errors = _parallel(partial(_delete_one, session, check=check), doomed)
    if errors:
        removed = {change.ref for change in done}
        raise _with_progress(errors[0], done, [r for m in doomed if (r := Ref.of(m)) not in removed])
    return done


def _delete_one(session: Session, live: Json, *, check: bool) -> Change:
    ref = Ref.of(live)
    query = {"propagationPolicy": "Foreground" if wave(ref.kind) == 2 else "Background"}
    if check:
        query["dryRun"] = "All"
    try:
        session.request("DELETE", session.path(ref), query=query)
    except ApiError as error:
        if error.status != 404:
            raise
    return Change(ref, _shown(project(live, owned_fields(live, FIELD_MANAGER)), ref), None)


def _shown(owned: Json, ref: Ref) -> Json:
    """Give the owned fields as a person reads them: named, and without the bookkeeping labels."""
    metadata = dict(owned.get("metadata", {}))
    labels = {key: value for key, value in metadata.pop("labels", {}).items() if key != _PART_OF}
    metadata["name"] = ref.name
    if ref.namespace:
        metadata["namespace"] = ref.namespace
    if labels:
        metadata["labels"] = labels
    return {**owned, "apiVersion": ref.api_version, "kind": ref.kind, "metadata": metadata}


def _parallel(work: Callable[[Json], _T], items: list[Json]) -> tuple[list[_T], list[ServingError]]:
    """Do independent work side by side; what succeeded is kept beside what failed."""
    done: list[_T] = []
    errors: list[ServingError] = []
    with ThreadPoolExecutor(PARALLEL_REQUESTS) as pool:
        for future in [pool.submit(work, item) for item in items]:
            try:
                done.append(future.result())
            except ServingError as error:
                errors.append(error)
    return done, errors


def _with_progress(error: ServingError, done: list[Change], left: list[Ref]) -> ServingError:
    """Add to an error what the call had done before it, and what it had not."""
    error.details = {
        **error.details,
        "changed": any(change.action != "unchanged" for change in done),
        "applied": [str(change.ref) for change in done],
        "not_applied": [str(ref) for ref in left],
    }
    return error


def _parent(bundle: Bundle) -> Json:
    """Give the object that stands for the set; its id is defined by the ApplySet specification."""
    name = f"applyset-{bundle.name}"
    digest = hashlib.sha256(f"{name}.{bundle.namespace}.ConfigMap.".encode()).digest()
    identity = base64.urlsafe_b64encode(digest).decode().rstrip("=")
    return {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {
            "name": name,
            "namespace": bundle.namespace,
            "labels": {
                "applyset.kubernetes.io/id": f"applyset-{identity}-v1",
                "app.kubernetes.io/managed-by": "modelfleet",
            },
            "annotations": {"applyset.kubernetes.io/tooling": "modelfleet/v1"},
        },
    }


def _with_kinds(parent: Json, kinds: set[str]) -> Json:
    metadata = parent["metadata"]
    annotations = {**metadata["annotations"], _KINDS_ANNOTATION: ",".join(sorted(kinds))}
    return {**parent, "metadata": {**metadata, "annotations": annotations}}


def _labelled(manifest: Json, part_of: str) -> Json:
    metadata = manifest["metadata"]
    return {**manifest, "metadata": {**metadata, "labels": {**metadata.get("labels", {}), _PART_OF: part_of}}}


def _readable(manifest: Json) -> Json:
    """Write a Secret as the server will: it never gives ``stringData`` back, so a change of it would go unseen."""
    if "stringData" not in manifest:
        return manifest
    encoded = {key: base64.b64encode(text.encode()).decode() for key, text in manifest["stringData"].items()}
    rest = {key: value for key, value in manifest.items() if key != "stringData"}
    return {**rest, "data": {**manifest.get("data", {}), **encoded}}


def _group_kind(ref: Ref) -> str:
    return f"{ref.kind}.{ref.group}" if ref.group else ref.kind
