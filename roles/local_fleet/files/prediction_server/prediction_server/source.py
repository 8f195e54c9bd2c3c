# SPDX-FileCopyrightText: The modelfleet maintainers
# SPDX-License-Identifier: GPL-3.0-or-later
"""What is wanted: the versions that a model's base path holds, by its version policy, looked at again and again.

Source: TF Serving's sources/storage_path/file_system_storage_path_source.cc.
"""

from __future__ import annotations

import re
import threading
import time
from pathlib import Path
from typing import Any

from .errors import ServingError, invalid
from .log import error, warning
from .manager import Manager

_NUMBER = re.compile(r"[ \t\n\r\f\v]*[+-]?[0-9]+[ \t\n\r\f\v]*", re.ASCII)


def parse_version(text: str) -> int | None:
    """A version number as absl::SimpleAtoi reads it (leading zeros count), or None."""
    if not _NUMBER.fullmatch(text):
        return None
    value = int(text)
    return value if -(2**63) <= value < 2**63 else None


def versions_wanted(config: Any) -> dict[int, str]:
    """The versions of a ModelConfig to serve and their paths.

    Raises INVALID_ARGUMENT if the base path is missing. A base path that is there but has nothing to serve gives an
    empty dictionary, which unloads the model: so says the original.
    """
    base = Path(config.base_path)
    if not base.exists():
        raise invalid(
            f"Could not find base path {base} for servable {config.name} with error NOT_FOUND: {base} not found"
        )
    policy = config.model_version_policy
    choice = policy.WhichOneof("policy_choice")
    if choice == "specific":
        wanted = list(policy.specific.versions)
        if not wanted:
            warning(f"No specific versions requested for servable {config.name}.")
            return {}
        direct = {version: str(base / str(version)) for version in wanted}
        if all(Path(path).exists() for path in direct.values()):
            return direct
    children: dict[int, str] = {}
    for child in sorted(base.iterdir()):
        version = parse_version(child.name)
        # The serving loader refuses negative versions; they never become servable.
        if version is not None and version >= 0:
            children[version] = str(child)
    if choice == "specific":
        missing = set(wanted) - set(children)
        for version in sorted(missing):
            warning(
                f"Version {version} of servable {config.name}, which was requested to be served as a 'specific' version"
                " in the servable's version policy, was not found in the file system"
            )
        return {version: path for version, path in children.items() if version in wanted}
    if not children:
        warning(
            f"No versions of servable {config.name} found under base path {base}."
            " Did you forget to name your leaf directory as a number (eg. '/1/')?"
        )
    if choice == "all":
        return children
    number = max(policy.latest.num_versions, 1)
    return {version: children[version] for version in sorted(children, reverse=True)[:number]}


class Source:
    """Polls the base paths of the configured models and tells the manager what is wanted."""

    def __init__(self, manager: Manager, poll_seconds: int) -> None:
        """`poll_seconds`: 0 looks exactly once, a negative number never does."""
        self._manager, self._poll_seconds = manager, poll_seconds
        self._lock = threading.Lock()
        self._models: dict[str, Any] = {}

    @property
    def names(self) -> set[str]:
        """The models of the present configuration."""
        return set(self._models)

    def update(self, models: dict[str, Any]) -> None:
        """Replace the configuration: models that are gone are unloaded at once, the others at the next look."""
        with self._lock:
            for name in set(self._models) - set(models):
                self._manager.aspire(name, {})
            self._models = dict(models)

    def start(self) -> None:
        """Look once now if that is all that was asked for, or begin to look at intervals."""
        if self._poll_seconds == 0:
            self._look()
        elif self._poll_seconds > 0:
            threading.Thread(target=self._loop, name="file_system_poll", daemon=True).start()

    def _loop(self) -> None:
        while True:
            self._look()
            time.sleep(self._poll_seconds)

    def _look(self) -> None:
        with self._lock:
            try:
                # All or nothing: one missing base path keeps every model as it is, like the original.
                found = {name: versions_wanted(config) for name, config in self._models.items()}
            except (ServingError, OSError) as problem:
                message = problem.message if isinstance(problem, ServingError) else str(problem)
                error(f"FileSystemStoragePathSource encountered a filesystem access error: {message}")
                return
            for name, versions in found.items():
                self._manager.aspire(name, versions)
