# SPDX-FileCopyrightText: The modelfleet maintainers
# SPDX-License-Identifier: GPL-3.0-or-later
"""What an apply did to each object, as a task result tells it: one word, the diff, and never a secret. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Literal

from ansible.module_utils.common.yaml import yaml_dump

from ansible_collections.modelfleet.serving.plugins.module_utils._call import Result
from ansible_collections.modelfleet.serving.plugins.module_utils._cluster.applyset import PART_OF
from ansible_collections.modelfleet.serving.plugins.module_utils._cluster.kinds import Ref

Json = dict[str, Any]


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


def change_of(ref: Ref, before: Json | None, after: Json | None) -> Change:
    """Give a change from the owned fields, as a person reads them: named, and without the bookkeeping label.

    Where the label is what differs, it is shown: the object was taken into the bundle, or into another one.
    """
    hidden = before is None or after is None or _bundle(before) == _bundle(after)
    return Change(ref, *(None if owned is None else _named(owned, ref, hidden) for owned in (before, after)))


def _bundle(owned: Json) -> Any:
    return owned.get("metadata", {}).get("labels", {}).get(PART_OF)


def _named(owned: Json, ref: Ref, without_bundle: bool) -> Json:
    metadata = dict(owned.get("metadata", {}))
    labels = metadata.pop("labels", {})
    labels = {key: value for key, value in labels.items() if not (key == PART_OF and without_bundle)}
    metadata["name"] = ref.name
    if ref.namespace:
        metadata["namespace"] = ref.namespace
    if labels:
        metadata["labels"] = labels
    return {**owned, "apiVersion": ref.api_version, "kind": ref.kind, "metadata": metadata}


def result_of(changes: Iterable[Change]) -> Result:
    """Give the task result of an apply: what changed, the diff, and the objects with what happened to each."""
    changes = list(changes)
    return Result(
        changed=any(change.action != "unchanged" for change in changes),
        diff=[_diff(change) for change in changes if change.action != "unchanged"],
        values={"objects": [row(change.ref, change.action) for change in changes]},
    )


def row(ref: Ref, action: str, **more: str) -> dict[str, Any]:
    """Give one entry of the return value ``objects``."""
    return {
        "api_version": ref.api_version,
        "kind": ref.kind,
        "namespace": ref.namespace,
        "name": ref.name,
        "action": action,
        **more,
    }


def _diff(change: Change) -> dict[str, str]:
    """Give Ansible's diff of one change; what a Secret holds is never shown, only that it differs."""
    before, after = change.before, change.after
    if change.ref.group_kind == "Secret":
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
