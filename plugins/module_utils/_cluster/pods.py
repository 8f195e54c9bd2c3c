# SPDX-FileCopyrightText: The modelfleet maintainers
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a pod's object says of it. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

Json = dict[str, Any]


def is_ready(pod: Json) -> bool:
    """Tell whether a pod takes traffic."""
    conditions = pod.get("status", {}).get("conditions", [])
    return any(entry["type"] == "Ready" and entry["status"] == "True" for entry in conditions)


def live_pods(objects: Iterable[Json]) -> list[Json]:
    """Give the pods among some objects that are not about to leave."""
    return [entry for entry in objects if entry["kind"] == "Pod" and not entry["metadata"].get("deletionTimestamp")]
