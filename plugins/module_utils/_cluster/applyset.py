# SPDX-FileCopyrightText: The modelfleet maintainers
# SPDX-License-Identifier: GPL-3.0-or-later
"""Whose an object is: the ApplySet conventions, which kubectl understands too. Pure.

A set is a ConfigMap, its parent, whose annotations name the kinds and namespaces that may hold members; each member
carries the set's id as a label: https://kubernetes.io/docs/reference/labels-annotations-taints/#applyset-kubernetes-io-id
"""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from ansible_collections.modelfleet.serving.plugins.module_utils._cluster.kinds import Ref

Json = dict[str, Any]

ID = "applyset.kubernetes.io/id"
PART_OF = "applyset.kubernetes.io/part-of"
_TOOLING = "applyset.kubernetes.io/tooling"
_KINDS = "applyset.kubernetes.io/contains-group-kinds"
_NAMESPACES = "applyset.kubernetes.io/additional-namespaces"
_APPLIED = "applied"


@dataclass(frozen=True)
class Record:
    """What a set's parent says of its members.

    :param group_kinds: which kinds, such as ``ConfigMap`` and ``Deployment.apps``, may have members.
    :param namespaces: where members may be, besides the set's own namespace.
    :param applied: the fingerprint of each member as it was applied, by the member's identity. Empty while a run is
        under way that brings other members than the last, or when it was cut off.
    """

    group_kinds: frozenset[str] = frozenset()
    namespaces: frozenset[str] = frozenset()
    applied: Mapping[str, str] = field(default_factory=dict)

    def widened(self, other: Record) -> Record:
        """Give the record while members of both may be there."""
        return Record(self.group_kinds | other.group_kinds, self.namespaces | other.namespaces)

    def has_exactly(self, refs: Iterable[Ref]) -> bool:
        """Tell whether these are all the members that may be there; if so, there is nothing to search for."""
        complete = bool(self.applied) or not self.group_kinds
        return complete and self.applied.keys() == {ref.identity for ref in refs}


@dataclass(frozen=True)
class ApplySet:
    """One set, by what its parent is named after and where it lives."""

    name: str
    namespace: str

    @property
    def parent(self) -> Ref:
        """The object that stands for the set."""
        return Ref("v1", "ConfigMap", f"applyset-{self.name}", self.namespace)

    @property
    def id(self) -> str:
        """The value of the members' label; its form is part of the specification."""
        text = f"{self.parent.name}.{self.namespace}.{self.parent.kind}.{self.parent.group}"
        digest = base64.urlsafe_b64encode(hashlib.sha256(text.encode()).digest()).decode().rstrip("=")
        return f"applyset-{digest}-v1"

    @property
    def member_labels(self) -> dict[str, str]:
        """What each member is labelled with."""
        return {PART_OF: self.id}

    def labelled(self, manifest: Json) -> Json:
        """Give a manifest that says it is a member."""
        metadata = manifest["metadata"]
        labels = {**(metadata.get("labels") or {}), **self.member_labels}
        return {**manifest, "metadata": {**metadata, "labels": labels}}

    def record(self, refs: Iterable[Ref], applied: Mapping[str, str]) -> Record:
        """Give the record of a set that has exactly these members, with their fingerprints."""
        refs = list(refs)
        return Record(
            frozenset(ref.group_kind for ref in refs),
            frozenset(ref.namespace for ref in refs if ref.namespace) - {self.namespace},
            applied,
        )

    def manifest(self, record: Record) -> Json:
        """Give the parent that bears a record."""
        annotations = {_TOOLING: "modelfleet/v1", _KINDS: ",".join(sorted(record.group_kinds))}
        if record.namespaces:
            annotations[_NAMESPACES] = ",".join(sorted(record.namespaces))
        return {
            "apiVersion": self.parent.api_version,
            "kind": self.parent.kind,
            "metadata": {
                "name": self.parent.name,
                "namespace": self.namespace,
                "labels": {ID: self.id, "app.kubernetes.io/managed-by": "modelfleet"},
                "annotations": annotations,
            },
            "data": {_APPLIED: json.dumps(record.applied, sort_keys=True)},
        }


def read_record(parent: Json | None) -> Record:
    """Read what a live parent says; nothing where there is none."""
    annotations = _annotations(parent)
    kinds, namespaces = (frozenset(filter(None, annotations.get(key, "").split(","))) for key in (_KINDS, _NAMESPACES))
    try:
        applied = json.loads((parent or {}).get("data", {})[_APPLIED])
    except (ValueError, LookupError, TypeError):  # of another tool, or spoilt: whatever it says, it is not believed
        applied = {}
    return Record(kinds, namespaces, applied if isinstance(applied, dict) else {})


def tooling(parent: Json | None) -> str:
    """Tell which tool a live parent says it is kept by; empty where there is none."""
    text: str = _annotations(parent).get(_TOOLING, "")
    return text


def _annotations(manifest: Json | None) -> Json:
    return (manifest or {}).get("metadata", {}).get("annotations") or {}
