# SPDX-FileCopyrightText: The modelfleet maintainers
# SPDX-License-Identifier: GPL-3.0-or-later
"""Whose an object is: the ApplySet conventions, which kubectl understands too. Pure.

A set is a ConfigMap, its parent, whose annotations name the kinds and namespaces that may hold members; each member
carries the set's id as a label: https://kubernetes.io/docs/reference/labels-annotations-taints/#applyset-kubernetes-io-id
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from ansible_collections.modelfleet.serving.plugins.module_utils._cluster.kinds import Ref

Json = dict[str, Any]

ID = "applyset.kubernetes.io/id"
PART_OF = "applyset.kubernetes.io/part-of"
_TOOLING = "applyset.kubernetes.io/tooling"
_KINDS = "applyset.kubernetes.io/contains-group-kinds"
_NAMESPACES = "applyset.kubernetes.io/additional-namespaces"
_MEMBERS = "modelfleet.serving/members"


@dataclass(frozen=True)
class Record:
    """What a set's parent says of its members.

    :param group_kinds: which kinds, such as ``ConfigMap`` and ``Deployment.apps``, may have members.
    :param namespaces: where members may be, besides the set's own namespace.
    :param members: the digest of exactly these members, when a whole run has left no others; empty while one is under
        way or was cut off. It spares the next run a search of every kind for what to prune.
    """

    group_kinds: frozenset[str] = frozenset()
    namespaces: frozenset[str] = frozenset()
    members: str = ""

    def widened(self, other: Record) -> Record:
        """Give the record while members of both may be there."""
        return Record(self.group_kinds | other.group_kinds, self.namespaces | other.namespaces)


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

    def record(self, refs: Iterable[Ref]) -> Record:
        """Give the record of a set that has exactly these members."""
        refs = list(refs)
        digest = hashlib.sha256(repr(sorted(map(repr, (ref.identity for ref in refs)))).encode()).hexdigest()
        return Record(
            frozenset(ref.group_kind for ref in refs),
            frozenset(ref.namespace for ref in refs if ref.namespace) - {self.namespace},
            digest,
        )

    def manifest(self, record: Record) -> Json:
        """Give the parent that bears a record."""
        annotations = {_TOOLING: "modelfleet/v1", _KINDS: ",".join(sorted(record.group_kinds))}
        if record.namespaces:
            annotations[_NAMESPACES] = ",".join(sorted(record.namespaces))
        if record.members:
            annotations[_MEMBERS] = record.members
        return {
            "apiVersion": self.parent.api_version,
            "kind": self.parent.kind,
            "metadata": {
                "name": self.parent.name,
                "namespace": self.namespace,
                "labels": {ID: self.id, "app.kubernetes.io/managed-by": "modelfleet"},
                "annotations": annotations,
            },
        }


def read_record(parent: Json | None) -> Record:
    """Read what a live parent says; nothing where there is none."""
    annotations = _annotations(parent)
    kinds, namespaces = (frozenset(filter(None, annotations.get(key, "").split(","))) for key in (_KINDS, _NAMESPACES))
    return Record(kinds, namespaces, annotations.get(_MEMBERS, ""))


def tooling(parent: Json | None) -> str:
    """Tell which tool a live parent says it is kept by; empty where there is none."""
    text: str = _annotations(parent).get(_TOOLING, "")
    return text


def _annotations(manifest: Json | None) -> Json:
    return (manifest or {}).get("metadata", {}).get("annotations") or {}
