# SPDX-FileCopyrightText: The modelfleet maintainers
# SPDX-License-Identifier: GPL-3.0-or-later
"""One call a cluster: server-side apply of a whole bundle, in waves, and pruning of what left it."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from ansible_collections.modelfleet.serving.plugins.module_utils._cluster.applyset import (
    ID,
    PART_OF,
    ApplySet,
    Record,
    read_record,
    tooling,
)
from ansible_collections.modelfleet.serving.plugins.module_utils._cluster.bundle import Bundle, definitions, members
from ansible_collections.modelfleet.serving.plugins.module_utils._cluster.changes import Change, change_of, row
from ansible_collections.modelfleet.serving.plugins.module_utils._cluster.fields import owned_fields, project, union
from ansible_collections.modelfleet.serving.plugins.module_utils._cluster.kinds import LEAVES, WAVES, Ref, wave
from ansible_collections.modelfleet.serving.plugins.module_utils._cluster.raised import respecting
from ansible_collections.modelfleet.serving.plugins.module_utils._cluster.session import MALFORMED, Session
from ansible_collections.modelfleet.serving.plugins.module_utils._cluster.wait import Deadline, poll_until, too_late
from ansible_collections.modelfleet.serving.plugins.module_utils._errors import (
    ApiError,
    InputError,
    ServingError,
)

Json = dict[str, Any]

FIELD_MANAGER = "modelfleet"
# Every cluster has it. What is foretold for a namespace that does not exist yet is tried there, by a dry run.
_STAND_IN_NAMESPACE = "default"
# A definition is established within a second or two; a server under load may take longer.
_DEFINITION_SECONDS = 60.0
# How long what is being deleted may take to be gone, before it is made anew.
_GONE_SECONDS = 60.0
_POLL_SECONDS = 0.1


def apply(
    session: Session,
    bundle: Bundle,
    *,
    check: bool = False,
    force: bool = False,
    deadline: Deadline | None = None,
    keep: Collection[Ref] = (),
) -> list[Change]:
    """Make the cluster hold exactly this bundle.

    :param check: only ask the server what would happen, by its dry run.
    :param force: take over fields that another manager owns, and objects that another bundle holds.
    :param deadline: until when definitions of custom resources may take to be served.
    :param keep: members that have left the bundle and are to stay until it is applied again, without them here.
    :returns: one change an object, those that left the bundle included, in the order of the waves.
    :raises ServingError: when the server refused an object; ``objects`` in its details says how far each one got.
    """
    applyset = ApplySet(bundle.name, bundle.namespace)
    defined = definitions(bundle.objects)
    session.define(defined)
    objects = [applyset.labelled(manifest) for manifest in members(bundle, session.resource)]
    refs = [Ref.of(manifest) for manifest in objects]
    live_parent = session.get(applyset.parent)
    _require_own(session, applyset, live_parent)
    recorded = read_record(live_parent)
    others = not recorded.has_exactly(refs)
    applier = _Applier(session, applyset, check, force, recorded.applied)
    if check:
        namespaces = {bundle.namespace, *(ref.namespace for ref in refs if ref.namespace)}
        applier.unserved = {kind for kind in defined if not session.serves(*kind)}
        applier.homeless = {name for name in namespaces if not _exists(session, name)}

    steps = _Steps(session)
    with steps.told(refs):
        for number, in_wave in enumerate(_waves(objects, bundle.namespace)):
            done = steps.run(applier.apply, in_wave)
            if number == 0 and not check:
                # Nothing was in a namespace before it was made, so nothing need be read there.
                applier.fresh = {change.ref.name for change in done if change.action == "created"}
                if others:
                    # After the namespace it lives in and before any other member, the parent names every kind that may
                    # have members: a run that is cut off leaves nothing that a later prune would not find.
                    applier.patch(applyset.manifest(recorded.widened(applyset.record(refs, {}))))
            if number == 1 and defined and not check:
                _wait_served(session, defined, deadline or Deadline.after(_DEFINITION_SECONDS))
        if others:
            _prune(session, applyset, recorded, {ref.identity for ref in (*refs, *keep)}, steps, check=check)
        record = applyset.record(refs, applier.applied)
        if record != recorded and not check and not keep:  # until then, the record names more kinds than these
            applier.patch(applyset.manifest(record))
    return steps.done


def apply_ahead(session: Session, bundle: Bundle, manifest: Json, *, force: bool = False) -> None:
    """Apply one member of a bundle that exists, ahead of the rest."""
    applyset = ApplySet(bundle.name, bundle.namespace)
    _Applier(session, applyset, False, force, {}).patch(applyset.labelled(manifest))


def foretell(session: Session, bundle: Bundle, manifest: Json) -> Change:
    """Ask the server what applying one member of a bundle that exists would do, whoever owns its fields."""
    applyset = ApplySet(bundle.name, bundle.namespace)
    return _Applier(session, applyset, True, True, {}).apply(applyset.labelled(manifest))


def edit(session: Session, live: Json, change: Callable[[Json], Json], *, check: bool = False) -> Change:
    """Change what we own of one object, and nothing else of it.

    :param change: takes the part of the object that we applied, and gives what it should be.
    :raises ApiError: when another manager owns what changes.
    """
    ref, before_fields = Ref.of(live), owned_fields(live, FIELD_MANAGER)
    before = project(live, before_fields)
    metadata = {**before.get("metadata", {}), "name": ref.name, "namespace": ref.namespace}
    # Another server-side apply of ours: so what is left out goes, and who owns what stays as it is.
    manifest = change({**before, "apiVersion": ref.api_version, "kind": ref.kind, "metadata": metadata})
    after = patch(session, manifest, check=check)
    fields = union(before_fields, owned_fields(after, FIELD_MANAGER))
    return change_of(ref, project(live, fields), project(after, fields))


def patch(session: Session, manifest: Json, *, check: bool = False, force: bool = False) -> Json:
    """Send an object to be applied; gives it as the server has it then, or would have it."""
    # Strict, so that a misspelled field is an error and not silently dropped.
    query = {"fieldManager": FIELD_MANAGER, "force": str(force).lower(), "fieldValidation": "Strict"}
    if check:
        query["dryRun"] = "All"
    path = session.path(Ref.of(manifest))
    return session.request("PATCH", path, query=query, body=manifest, content_type="application/apply-patch+yaml")


def delete(session: Session, bundle: Bundle, *, check: bool = False) -> list[Change]:
    """Delete everything that was applied as this bundle, and nothing else."""
    applyset = ApplySet(bundle.name, bundle.namespace)
    live_parent = session.get(applyset.parent)
    if live_parent is None:
        return []
    _require_own(session, applyset, live_parent)
    steps = _Steps(session)
    with steps.told(()):
        _prune(session, applyset, read_record(live_parent), frozenset(), steps, check=check)
        _delete_one(session, live_parent, check=check)
    return steps.done


def bundles(session: Session, namespace: str) -> list[str]:
    """Give the names of the bundles whose records a namespace holds."""
    live = session.find("v1", "ConfigMap", namespace, labels={"app.kubernetes.io/managed-by": "modelfleet"})
    labels = {entry["metadata"]["name"]: entry["metadata"]["labels"] for entry in live}
    names = [name.removeprefix("applyset-") for name in sorted(labels)]
    return [name for name in names if labels.get(f"applyset-{name}", {}).get(ID) == ApplySet(name, namespace).id]


@dataclass
class _Steps:
    """How far a call has got with each object."""

    session: Session
    done: list[Change] = field(default_factory=list)
    failed: list[tuple[Ref, ServingError]] = field(default_factory=list)

    def run(self, work: Callable[[Json], Change], manifests: list[Json]) -> list[Change]:
        """Do independent work side by side; what succeeds is kept beside what fails.

        :raises ServingError: the first, when all have been tried.
        """

        def attempt(manifest: Json) -> Change | ServingError:
            try:
                return work(manifest)
            except ServingError as error:
                return error

        workers = min(len(manifests), self.session.parallel_requests)
        if workers < 2:  # needs no thread
            outcomes = list(map(attempt, manifests))
        else:
            with ThreadPoolExecutor(workers) as pool:
                outcomes = list(pool.map(attempt, manifests))
        changes = [outcome for outcome in outcomes if isinstance(outcome, Change)]
        self.done += changes
        for manifest, outcome in zip(manifests, outcomes, strict=True):
            if isinstance(outcome, ServingError):
                self.failed.append((Ref.of(manifest), outcome))
        if self.failed:
            raise self.failed[0][1]
        return changes

    @contextmanager
    def told(self, refs: Iterable[Ref]) -> Iterator[None]:
        """Add to an error how far each object got.

        :param refs: what the call was to apply.
        """
        try:
            yield
        except ServingError as error:
            rows = [row(change.ref, change.action) for change in self.done]
            rows += [row(ref, "failed", error=str(failure)) for ref, failure in self.failed]
            reached = {change.ref for change in self.done} | {ref for ref, _unused in self.failed}
            rows += [row(ref, "not_applied") for ref in refs if ref not in reached]
            others = ", ".join(str(ref) for ref, _unused in self.failed[1:])
            if others:
                error.hint = f"{error.hint} Refused too: {others}; see objects for the reasons.".strip()
            changed = any(change.action != "unchanged" for change in self.done)
            error.details = {**error.details, "changed": changed, "objects": rows}
            raise


@dataclass
class _Applier:
    """Applies one object after another of a set, or lets the server say what that would do.

    :param recorded: the fingerprints of the last run. What stands as it was applied is not sent again.
    :param unserved: the kinds that only the bundle itself will bring.
    :param homeless: the namespaces that a real run would have made by then, here or in a task before this one.
    :param fresh: the namespaces that this run has made.
    """

    session: Session
    applyset: ApplySet
    check: bool
    force: bool
    recorded: Mapping[str, str]
    applied: dict[str, str] = field(default_factory=dict)
    unserved: set[tuple[str, str]] = field(default_factory=set)
    homeless: set[str] = field(default_factory=set)
    fresh: set[str] = field(default_factory=set)

    def apply(self, manifest: Json) -> Change:
        ref = Ref.of(manifest)
        if (ref.api_version, ref.kind) in self.unserved:
            # What we own of a new object is what its manifest says.
            return change_of(ref, None, manifest)
        if ref.namespace in self.homeless:
            return self._foretell(manifest, ref)
        live = None if ref.namespace in self.fresh else self.session.get(ref)
        if live is not None and live["metadata"].get("deletionTimestamp"):
            if self.check:
                return self._foretell(manifest, ref) if ref.namespace else change_of(ref, None, manifest)
            self._wait_gone(ref)
            live = None
        if live is not None and not self.force:
            self._require_free(live, ref)
        manifest = respecting(manifest, live)
        before_fields = owned_fields(live, FIELD_MANAGER)
        name, secret = ref.identity, ref.group_kind == "Secret"
        if live is not None and not secret:
            owned = project(live, before_fields)
            self.applied[name] = _fingerprint(manifest, owned, before_fields)
            if self.applied[name] == self.recorded.get(name):
                return change_of(ref, owned, owned)
        after = self.patch(manifest)
        after_fields = owned_fields(after, FIELD_MANAGER)
        owned = project(after, after_fields)
        # Who may read the record may not always read Secrets, and short ones could be guessed from a fingerprint.
        self.applied[name] = "" if secret else _fingerprint(manifest, owned, after_fields)
        if live is None:
            return change_of(ref, None, owned)
        fields = union(before_fields, after_fields) if before_fields else after_fields
        return change_of(ref, project(live, fields), project(after, fields))

    def patch(self, manifest: Json) -> Json:
        """Send an object; gives it as the server has it then, or would have it."""
        return patch(self.session, manifest, check=self.check, force=self.force)

    def _foretell(self, manifest: Json, ref: Ref) -> Change:
        """Try an object where there is a namespace, under a name that nothing has: for its errors and its final form.

        What only the right namespace decides, such as quotas and policies, can't be known before it exists.
        """
        name = f"modelfleet-{hashlib.sha256(repr((self.applyset.id, ref)).encode()).hexdigest()[:12]}"
        trial = {**manifest, "metadata": {**manifest["metadata"], "name": name, "namespace": _STAND_IN_NAMESPACE}}
        try:
            after = self.patch(trial)
        except ApiError as error:
            if not _is_of_the_object(error):
                return change_of(ref, None, manifest)
            words = error.message.replace(f"/namespaces/{_STAND_IN_NAMESPACE}/", f"/namespaces/{ref.namespace}/")
            error.message = words.replace(name, ref.name)
            raise
        return change_of(ref, None, project(after, owned_fields(after, FIELD_MANAGER)))

    def _wait_gone(self, ref: Ref) -> None:
        """Wait for the end of an object that is being deleted: whatever is applied to it goes with it."""

        def missing() -> str:
            left = self.session.get(ref)
            if left is None or not left["metadata"].get("deletionTimestamp"):
                return ""
            held = ", ".join(left["metadata"].get("finalizers") or ())
            return f"{ref} is still being deleted{f', held by {held}' if held else ''}"

        deadline = Deadline.after(_GONE_SECONDS)
        if text := poll_until(missing, deadline, _POLL_SECONDS):
            raise too_late(self.session, text, deadline)

    def _require_free(self, live: Json, ref: Ref) -> None:
        """Refuse an object that another bundle holds, which would take it back in its next run."""
        holder = (live["metadata"].get("labels") or {}).get(PART_OF, self.applyset.id)
        if holder == self.applyset.id:
            return
        where = ref.namespace or self.applyset.namespace
        for parent in self.session.find("v1", "ConfigMap", where, labels={ID: holder}):
            raise ServingError(
                f"cluster {self.session.name}: {ref} belongs to another bundle, whose record is {Ref.of(parent)}.",
                hint="Leave it to that one, or set force_conflicts to take it over.",
            )


def _fingerprint(manifest: Json, owned: Json, fields: Json) -> str:
    """Tell apart what was applied and what has become of it, whatever others have done to other fields.

    The same manifest over the same fields with the same values would change nothing.
    """
    return hashlib.sha256(json.dumps([manifest, owned, fields], sort_keys=True).encode()).hexdigest()[:32]


def _is_of_the_object(error: ApiError) -> bool:
    """Tell whether an object was refused for what it is, and not for where it was tried."""
    if error.status == 400:
        return "admission webhook" not in error.message
    return error.status == 422 or MALFORMED in error.message


def _waves(objects: Iterable[Json], namespace: str) -> list[list[Json]]:
    """Give the objects by when they are applied: the bundle's own namespace before the waves."""
    waves: list[list[Json]] = [[] for _unused in range(WAVES + 1)]
    for manifest in objects:
        is_home = manifest["kind"] == "Namespace" and manifest["metadata"]["name"] == namespace
        waves[0 if is_home else wave(manifest["kind"]) + 1].append(manifest)
    return waves


def _require_own(session: Session, applyset: ApplySet, live_parent: Json | None) -> None:
    keeper = tooling(live_parent)
    if keeper and not keeper.startswith("modelfleet/"):
        raise InputError(
            f"cluster {session.name}: {applyset.parent} is kept by {keeper}.", hint="Give the bundle another name."
        )


def _exists(session: Session, namespace: str) -> bool:
    try:
        return session.get(Ref("v1", "Namespace", namespace)) is not None
    except ApiError as error:
        if error.status == 403:  # a user of one namespace may not read it, and need not
            return True
        raise


def _wait_served(session: Session, defined: Iterable[tuple[str, str]], deadline: Deadline) -> None:
    """Wait until the server takes objects of the kinds that were just defined. Discovery can't be watched."""

    def missing() -> str:
        left = [kind for kind in defined if not session.serves(*kind)]
        return (
            f"{left[0][1]} in {left[0][0]} is not served; see its CustomResourceDefinition's conditions" if left else ""
        )

    if text := poll_until(missing, deadline, _POLL_SECONDS):
        raise too_late(session, text, deadline)


def _prune(
    session: Session, applyset: ApplySet, record: Record, keep: Collection[str], steps: _Steps, *, check: bool
) -> None:
    """Delete the members of a set that are not to be kept, pods' owners before what they use."""
    doomed: dict[Ref, Json] = {}
    for group_kind in sorted(record.group_kinds):
        kind, _unused, group = group_kind.partition(".")
        api_version = session.api_version(group, kind)
        if api_version is None:
            continue  # the CRD is gone, and its objects with it
        for namespace in (applyset.namespace, *sorted(record.namespaces)):
            for manifest in session.find(api_version, kind, namespace, labels=applyset.member_labels):
                ref = Ref.of(manifest)
                # A label may be copied by anyone; what we never applied is not ours to delete. What a run before this
                # one has deleted may still be there, until the garbage collector has seen it.
                leaves = "deletionTimestamp" in manifest["metadata"]
                if ref.identity not in keep and not leaves and owned_fields(manifest, FIELD_MANAGER):
                    doomed[ref] = manifest
    for number in reversed(range(WAVES)):
        in_wave = [manifest for ref, manifest in doomed.items() if wave(ref.kind) == number]
        steps.run(partial(_delete_one, session, check=check), in_wave)


def _delete_one(session: Session, live: Json, *, check: bool) -> Change:
    """Delete this object, and not one that someone has made anew under the same name."""
    ref = Ref.of(live)
    # In the foreground an object stays until what it owns is gone; an autoscaler would go on to scale until then.
    options: Json = {
        "propagationPolicy": "Foreground" if wave(ref.kind) == 2 and ref.group_kind not in LEAVES else "Background",
        "preconditions": {"uid": live["metadata"]["uid"]},
    }
    if check:
        # Here, since a server that is sent a body does not look at the query.
        options["dryRun"] = ["All"]
    try:
        session.request("DELETE", session.path(ref), body=options)
    except ApiError as error:
        if error.status != 404:
            raise
    return change_of(ref, project(live, owned_fields(live, FIELD_MANAGER)), None)
