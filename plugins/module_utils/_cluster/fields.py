# SPDX-FileCopyrightText: The modelfleet maintainers
# SPDX-License-Identifier: GPL-3.0-or-later
"""The part of an object that one field manager owns, read from its ``managedFields``. Pure.

Format: https://kubernetes.io/docs/reference/using-api/server-side-apply/ and structured-merge-diff's ``fieldsV1``.
"""

from __future__ import annotations

import json
from typing import Any

Fields = dict[str, Any]


def owned_fields(manifest: dict[str, Any] | None, manager: str) -> Fields:
    """Give the field set that a manager applied to an object; empty where it applied none."""
    for entry in (manifest or {}).get("metadata", {}).get("managedFields", []):
        if entry.get("manager") == manager and entry.get("operation") == "Apply" and not entry.get("subresource"):
            fields: Fields = entry.get("fieldsV1", {})
            return fields
    return {}


def union(left: Fields, right: Fields) -> Fields:
    """Give the fields that either set names; an empty set below a field means all of it, and wins."""
    if not left or not right:
        return {}
    merged = dict(left)
    for key, fields in right.items():
        merged[key] = union(merged[key], fields) if key in merged else fields
    return merged


def project(value: Any, fields: Fields) -> Any:
    """Cut a value down to the fields of a set.

    A set without members stands for the whole value; ``.`` stands for the presence of the map or item itself. The items
    of a list stay in its own order, which means something: that of init containers, say.
    """
    members = {key: inner for key, inner in fields.items() if key != "."}
    if not fields:
        return value
    if isinstance(value, dict):
        return {
            key[2:]: project(value[key[2:]], inner)
            for key, inner in members.items()
            if key.startswith("f:") and key[2:] in value
        }
    if isinstance(value, list):
        return [project(item, inner) for item in value for key, inner in members.items() if _names_item(key, item)]
    return value


def _names_item(key: str, item: Any) -> bool:
    """Tell whether a path element (``k:`` by key fields, ``v:`` by value) stands for this item of a list."""
    selector, _unused, text = key.partition(":")
    wanted = json.loads(text)
    if selector == "k" and isinstance(item, dict):
        # A key field that was left out of the object has a default, such as protocol TCP of a port.
        return all(item.get(name, content) == content for name, content in wanted.items())
    return bool(selector == "v" and item == wanted)
