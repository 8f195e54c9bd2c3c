# SPDX-FileCopyrightText: The modelfleet maintainers
# SPDX-License-Identifier: GPL-3.0-or-later
"""Let go of old versions beyond the number to keep, and never of one that a server uses."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass
from typing import Any

from ansible_collections.modelfleet.serving.plugins.module_utils._store.publish import Shell
from ansible_collections.modelfleet.serving.plugins.module_utils._store.record import Record
from ansible_collections.modelfleet.serving.plugins.module_utils._store.scripts import EMPTY, HIDE


@dataclass(frozen=True)
class Use:
    """What one server is told to serve of a model; ``versions`` is None when the server chooses them itself."""

    server: str
    model: str
    versions: Collection[int] | None


def surplus(record: Record, models: Iterable[dict[str, Any]]) -> list[tuple[str, int]]:
    """Give the versions that are not listed and are beyond the number of those to keep, the newest being kept.

    :param models: as the option ``models`` has them; without ``keep``, all versions of a model are kept.
    """
    found = []
    for entry in models:
        if entry.get("keep") is not None:
            held = sorted(map(int, record.get(entry["name"], {})), reverse=True)
            unlisted = [version for version in held if version not in entry["versions"]]
            found += [(entry["name"], version) for version in unlisted[entry["keep"] :]]
    return found


def user_of(model: str, version: int, uses: Iterable[Use]) -> str | None:
    """Give a server that serves a version."""
    for use in uses:
        if use.model == model and (use.versions is None or version in use.versions):
            return use.server
    return None


def hide(shell: Shell, root: str, model: str, version: int) -> None:
    """Take a version out of a store; its bytes go with :func:`empty`."""
    shell(HIDE, root, model, str(version))


def empty(shell: Shell, root: str) -> None:
    """Free the room of what was taken out."""
    shell(EMPTY, root)
