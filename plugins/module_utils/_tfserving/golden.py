# SPDX-FileCopyrightText: The modelfleet maintainers
# SPDX-License-Identifier: GPL-3.0-or-later
"""Golden requests: predictions whose right answers are known. Pure."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from ansible_collections.modelfleet.serving.plugins.module_utils._errors import InputError
from ansible_collections.modelfleet.serving.plugins.module_utils._names import require_model, require_unique

# The module options of one model with its golden requests, shared by every module that probes.
GOLDEN_OPTIONS: dict[str, Any] = {
    "name": {"type": "str", "required": True},
    "golden": {
        "type": "list",
        "elements": "dict",
        "required": True,
        "options": {
            "name": {"type": "str", "default": "golden"},
            "request": {"type": "dict", "required": True},
            "response": {"type": "dict", "required": True},
            "tolerance": {"type": "float", "default": 1e-5},
        },
    },
}


@dataclass(frozen=True)
class Golden:
    """One request with its right answer.

    :param tolerance: how far a number may be off, relative to the expected one, or absolute near zero.
    """

    model: str
    name: str
    request: Any
    response: Any
    tolerance: float

    def mismatch(self, answer: Any) -> str:
        """Say where an answer differs from the right one; ``""`` when it is right."""
        return _mismatch(self.response, answer, self.tolerance, "")


def goldens(models: Iterable[dict[str, Any]] | None) -> list[Golden]:
    """Read the ``models`` option (see :data:`GOLDEN_OPTIONS`).

    :raises InputError: for bad or repeated names, and for a model without a golden request.
    """
    found = []
    names = []
    for entry in models or ():
        names.append(require_model(entry["name"], "models.name"))
        if not entry["golden"]:
            raise InputError(f"models: {entry['name']} has no golden request.", hint="Give at least one.")
        found += [
            Golden(entry["name"], golden["name"], golden["request"], golden["response"], golden["tolerance"])
            for golden in entry["golden"]
        ]
    if not found:
        raise InputError("models is empty.", hint="Name one model or more to probe.")
    require_unique(names, "models")
    return found


def _close(expected: float, found: float, tolerance: float) -> bool:
    try:
        return math.isclose(expected, found, rel_tol=tolerance, abs_tol=tolerance)
    except OverflowError:  # JSON has integers beyond any float
        return expected == found


def _mismatch(expected: Any, found: Any, tolerance: float, where: str) -> str:
    place = where or "the answer"
    # bool is a number to Python, and not to JSON.
    if isinstance(expected, bool) != isinstance(found, bool) or isinstance(expected, (bool, str, type(None))):
        same = isinstance(expected, bool) == isinstance(found, bool) and expected == found
        return "" if same else f"{place} is {found!r}, not {expected!r}"
    if isinstance(expected, dict):
        if not isinstance(found, dict) or expected.keys() != found.keys():
            keys = sorted(found) if isinstance(found, dict) else found
            return f"{place} has {keys!r}, not {sorted(expected)!r}"
        pairs = [(key, expected[key], found[key]) for key in expected]
    elif isinstance(expected, list):
        if not isinstance(found, list) or len(expected) != len(found):
            return f"{place} has {len(found) if isinstance(found, list) else found!r} items, not {len(expected)}"
        pairs = [(number, *pair) for number, pair in enumerate(zip(expected, found, strict=True))]
    elif not isinstance(found, (int, float)) or not _close(expected, found, tolerance):
        return f"{place} is {found!r}, not {expected!r}"
    else:
        return ""
    return next(
        (text for key, left, right in pairs if (text := _mismatch(left, right, tolerance, f"{where}[{key!r}]"))), ""
    )
