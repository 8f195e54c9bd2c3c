# SPDX-FileCopyrightText: The modelfleet maintainers
# SPDX-License-Identifier: GPL-3.0-or-later
"""Put a version into a store so that a server never sees half of it.

The files go to a folder that no server looks at, on the same file system; there they are verified and flushed, and one
rename publishes them. A copy that was cut off is continued, file by file. A published version never changes.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Protocol

from ansible_collections.modelfleet.serving.plugins.module_utils._errors import ServingError
from ansible_collections.modelfleet.serving.plugins.module_utils._store.artefact import (
    Artefact,
    archive,
    parse_listing,
    tree_digest,
)
from ansible_collections.modelfleet.serving.plugins.module_utils._store.scripts import (
    FREE,
    LIST,
    LIST_ALL,
    PUBLISH,
    REMOVE,
    TIDY,
    UNPACK,
)
from ansible_collections.modelfleet.serving.plugins.module_utils._store.wanted import require_same


class Shell(Protocol):
    """Runs a shell script on the store's file system and gives its output; raises ServingError when it fails."""

    def __call__(self, script: str, *arguments: str, stdin: Iterable[bytes] = ()) -> bytes: ...


def publish(shell: Shell, artefact: Artefact, root: str) -> None:
    """Publish a version below a root folder, or find it there already.

    :raises ServingError: when the store holds other files under this version's number, is too full for this one, or
        can't be written.
    """
    model_folder = f"{root}/{artefact.model}"
    published = parse_listing(shell(LIST, f"{model_folder}/{artefact.version}"))
    if published:
        require_same(artefact, artefact.digest, tree_digest(published))
        return
    staging = f"{root}/.incoming/{artefact.model}-{artefact.version}-{artefact.digest[7:19]}"
    staged = parse_listing(shell(LIST, staging))
    wrong = [path for path, digest in staged.items() if artefact.files.get(path) != digest]
    if wrong:
        shell(REMOVE, staging, *wrong)
    left = {path for path, digest in artefact.files.items() if staged.get(path) != digest}
    if left:
        _require_room(artefact, sum(artefact.sizes[path] for path in left), int(shell(FREE, root)) * 1024)
        shell(UNPACK, staging, stdin=archive(artefact, left))
    arrived = parse_listing(shell(LIST, staging))
    if arrived != artefact.files:
        paths = artefact.files.keys() | arrived.keys()
        wrong = sorted(path for path in paths if arrived.get(path) != artefact.files.get(path))
        raise ServingError(
            f"{artefact}: what arrived in the store differs from the source: {', '.join(wrong)}.",
            hint="Nothing was published; run again to send these files anew.",
        )
    shell(PUBLISH, staging, model_folder, str(artefact.version))
    shell(TIDY, root, artefact.model, str(artefact.version))


def _require_room(artefact: Artefact, needed: int, free: int) -> None:
    if needed > free:
        raise ServingError(
            f"{artefact} needs {needed / 1e6:.1f} MB more, and the store has only {free / 1e6:.1f} MB left.",
            hint="Nothing was copied. Raise size where the storage class allows it, or let old versions go with keep.",
        )


def read_digests(shell: Shell, root: str, versions: Iterable[tuple[str, int]]) -> Mapping[tuple[str, int], str]:
    """Compute the tree digests of some versions in a store, in one go; one that is not there is left out."""
    names = {f"{model}/{version}": (model, version) for model, version in versions}
    listing = parse_listing(shell(LIST_ALL, root, stdin=["".join(f"{name}\n" for name in [*names, ""]).encode()]))
    trees: dict[tuple[str, int], dict[str, str]] = {}
    for path, digest in listing.items():
        model, version, rest = path.split("/", 2)
        trees.setdefault(names[f"{model}/{version}"], {})[rest] = digest
    return {name: tree_digest(files) for name, files in trees.items()}
