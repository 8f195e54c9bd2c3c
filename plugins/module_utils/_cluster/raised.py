# SPDX-FileCopyrightText: The modelfleet maintainers
# SPDX-License-Identifier: GPL-3.0-or-later
"""More replicas for a while than are declared: a note on the object that was raised, which every apply respects. Pure.

The note is owned by the field manager that owns the raised fields. So it comes and goes with them, and a later apply
neither lowers what is raised nor calls it a change. What that apply would have set goes into the note, to be restored.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

Json = dict[str, Any]

NOTE = "modelfleet.serving/raised"


@dataclass(frozen=True)
class Raised:
    """A raise that is in force.

    :param to: the least that the fields of ``spec`` are to be, by name, such as ``replicas`` or ``minReplicas``.
    :param before: what they are without it.
    :param reason: why, in words for people.
    """

    to: Mapping[str, int]
    before: Mapping[str, int]
    reason: str = ""

    def put_on(self, manifest: Json) -> Json:
        """Give a manifest with the raise in force."""
        values = {name: max(self.before[name], least) for name, least in self.to.items()}
        note = json.dumps({"to": self.to, "before": self.before, "reason": self.reason}, sort_keys=True)
        metadata = manifest["metadata"]
        annotations = {**(metadata.get("annotations") or {}), NOTE: note}
        spec = {**manifest.get("spec", {}), **values}
        return {**manifest, "metadata": {**metadata, "annotations": annotations}, "spec": spec}

    def taken_off(self, manifest: Json) -> Json:
        """Give a manifest without it; a number that the manifest no longer says stays unsaid."""
        metadata = dict(manifest["metadata"])
        annotations = {name: value for name, value in metadata.pop("annotations", {}).items() if name != NOTE}
        if annotations:
            metadata["annotations"] = annotations
        spec = {name: self.before.get(name, value) for name, value in manifest.get("spec", {}).items()}
        return {**manifest, "metadata": metadata, "spec": spec}


def read_raised(live: Json | None) -> Raised | None:
    """Read the note of an object; None where there is none, or nothing that one could act on."""
    text = ((live or {}).get("metadata", {}).get("annotations") or {}).get(NOTE)
    try:
        note = json.loads(text or "")
        to, before = ({str(key): int(value) for key, value in note[part].items()} for part in ("to", "before"))
        return Raised(to, before, str(note["reason"])) if to and to.keys() == before.keys() else None
    except (AttributeError, KeyError, TypeError, ValueError):
        return None


def respecting(manifest: Json, live: Json | None) -> Json:
    """Give a manifest that does not lower what is raised on the live object.

    One that no longer says the raised numbers, since an autoscaler now does, ends the raise.
    """
    raised = read_raised(live)
    declared = manifest.get("spec") or {}
    if raised is None or not all(name in declared for name in raised.to):
        return manifest
    return replace(raised, before={name: declared[name] for name in raised.to}).put_on(manifest)
