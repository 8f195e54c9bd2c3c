# SPDX-FileCopyrightText: The modelfleet maintainers
# SPDX-License-Identifier: GPL-3.0-or-later
"""The versions that a store should hold, as the option ``models`` names them."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass
from typing import Any

from ansible_collections.modelfleet.serving.plugins.module_utils._errors import InputError, ServingError
from ansible_collections.modelfleet.serving.plugins.module_utils._names import (
    require_model,
    require_unique,
    require_version,
)
from ansible_collections.modelfleet.serving.plugins.module_utils._store.artefact import (
    DIGEST,
    Artefact,
    read_artefact,
)
from ansible_collections.modelfleet.serving.plugins.module_utils._store.record import Record
from ansible_collections.modelfleet.serving.plugins.module_utils._store.source import (
    Source,
    is_the_same_for_all,
    parse_source,
)


@dataclass(frozen=True)
class Wanted:
    """One version.

    :param artefact: its files, where they are on the controller.
    :param digest: of the files, where it is known before they are copied.
    """

    model: str
    version: int
    source: Source
    artefact: Artefact | None
    digest: str | None

    def __str__(self) -> str:
        return f"{self.model} version {self.version}"


def read_wanted(models: Iterable[dict[str, Any]] | None, remotes: Collection[str] | None) -> list[Wanted]:
    """Read the option, and the files that are on the controller, and hold those against the digests asked for.

    :param remotes: the names of remotes that sources may use; None when they are not known here.
    """
    models = list(models or ())
    if not models:
        raise InputError("models is empty.", hint="Name one model or more; use state: absent to remove the store.")
    require_unique([entry["name"] for entry in models], "models")
    return [wanted for entry in models for wanted in _versions(entry, remotes)]


def _versions(entry: dict[str, Any], remotes: Collection[str] | None) -> Iterable[Wanted]:
    name = require_model(entry["name"], "models.name")
    versions = entry["versions"] or []
    if not versions:
        raise InputError(f"models: {name} has no version to copy.", hint="List one or more in versions.")
    require_unique([str(version) for version in versions], f"models: {name}: versions")
    if len(versions) > 1 and is_the_same_for_all(entry["source"]):
        raise InputError(
            f"models: {name}: source is one archive for {len(versions)} versions.",
            hint="Put {version} where its name has the version's number.",
        )
    if (entry.get("keep") or 0) < 0:
        raise InputError(f"models: {name}: keep is below 0.", hint="Give the number of versions to keep.")
    # The keys of a dict come as the user wrote them: 1 or "1".
    digests = {str(version): digest for version, digest in (entry.get("digests") or {}).items()}
    unused = sorted(digests.keys() - {str(version) for version in versions})
    if unused:
        raise InputError(
            f"models: {name}: digests names version {', '.join(unused)}, which is not to be copied.",
            hint="A digest is checked when its version is copied: correct versions or digests.",
        )
    for version in versions:
        what = f"{name} version {require_version(version, f'models: {name}')}"
        digest = digests.get(str(version))
        if digest is not None and not DIGEST.fullmatch(str(digest)):
            raise InputError(f"{what}: {digest!r} is no digest.", hint="Use sha256: and 64 hexadecimal digits.")
        source = parse_source(entry["source"], version, remotes)
        artefact = None if source.remote else read_artefact(name, version, entry["source"])
        if artefact and digest not in (None, artefact.digest):
            raise InputError(
                f"{what}: the files in {artefact.tree.path} have the digest {artefact.digest}, not {digest}.",
                hint="Nothing was copied. Find out which is right: the source or the declared digest.",
            )
        yield Wanted(name, version, source, artefact, artefact.digest if artefact else digest)


def not_recorded(wanted: Iterable[Wanted], record: Record) -> list[Wanted]:
    """Give the versions that a store does not hold yet.

    :raises ServingError: when it holds other files under the number of one.
    """
    left = []
    for entry in wanted:
        present = record.get(entry.model, {}).get(str(entry.version))
        if present is None:
            left.append(entry)
        elif entry.digest is not None:
            require_same(entry, entry.digest, present)
    return left


def require_same(what: object, digest: str, present: str) -> None:
    """Refuse to put other files under a version's number.

    :raises ServingError: when the digests differ.
    """
    if digest != present:
        raise ServingError(
            f"{what} is in the store already with other files: {present}, not {digest}.",
            hint="A published version never changes: give the new files a new version number.",
        )
