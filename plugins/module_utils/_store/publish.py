# SPDX-FileCopyrightText: The modelfleet maintainers
# SPDX-License-Identifier: GPL-3.0-or-later
"""Put a version into a store so that a server never sees half of it.

The files go to a folder that no server looks at, on the same file system; there they are verified and flushed, and one
rename publishes them. A copy that was cut off is continued, file by file. A published version never changes.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Protocol

from ansible_collections.modelfleet.serving.plugins.module_utils._errors import ServingError
from ansible_collections.modelfleet.serving.plugins.module_utils._store.artefact import (
    Artefact,
    archive,
    parse_listing,
    tree_digest,
)

# busybox and GNU tools both understand these.
_LIST = 'test -d "$1" || exit 0; cd "$1" && find . -type f -print0 | LC_ALL=C sort -z | xargs -0 -r sha256sum'
_UNPACK = 'mkdir -p "$1" && tar -x -f - -C "$1"'
# sync without arguments, since busybox knows no other; it flushes the store among the rest.
_PUBLISH = 'mkdir -p "$2" && sync && mv -T "$1" "$2/$3" && sync'
_REMOVE = 'cd "$1" && shift && rm -f -- "$@"'


class Shell(Protocol):
    """Runs a shell script on the store's file system and gives its output; raises ServingError when it fails."""

    def __call__(self, script: str, *arguments: str, stdin: Iterable[bytes] = ()) -> bytes: ...


def publish(shell: Shell, artefact: Artefact, root: str) -> None:
    """Publish a version below a root folder, or find it there already.

    :raises ServingError: when the store holds other files under this version's number, or can't be written.
    """
    model_folder = f"{root}/{artefact.model}"
    published = parse_listing(shell(_LIST, f"{model_folder}/{artefact.version}"))
    if published:
        require_same(artefact, tree_digest(published))
        return
    staging = f"{root}/.incoming/{artefact.model}-{artefact.version}-{artefact.digest[7:19]}"
    staged = parse_listing(shell(_LIST, staging))
    strange = [path for path in staged if path not in artefact.files]
    if strange:
        shell(_REMOVE, staging, *strange)
    left = [path for path, digest in artefact.files.items() if staged.get(path) != digest]
    if left:
        shell(_UNPACK, staging, stdin=archive(artefact, left))
    arrived = parse_listing(shell(_LIST, staging))
    if arrived != artefact.files:
        paths = artefact.files.keys() | arrived.keys()
        wrong = sorted(path for path in paths if arrived.get(path) != artefact.files.get(path))
        raise ServingError(
            f"{artefact}: what arrived in the store differs from the source: {', '.join(wrong)}.",
            hint="Nothing was published; run again to send these files anew.",
        )
    shell(_PUBLISH, staging, model_folder, str(artefact.version))


def require_same(artefact: Artefact, digest: str) -> None:
    """Refuse to put other files under a version's number.

    :raises ServingError: when the digests differ.
    """
    if digest != artefact.digest:
        raise ServingError(
            f"{artefact} is in the store already with other files: {digest}, not {artefact.digest}.",
            hint="A published version never changes: give the new files a new version number.",
        )


def read_digest(shell: Shell, folder: str) -> str | None:
    """Compute the tree digest of a folder in the store; None where there is none."""
    files = parse_listing(shell(_LIST, folder))
    return tree_digest(files) if files else None
