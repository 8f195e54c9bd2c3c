# SPDX-FileCopyrightText: The modelfleet maintainers
# SPDX-License-Identifier: GPL-3.0-or-later
"""A version of a model as a folder of files: its digest and its structure.

The tree digest is what these standard tools print, so anyone can check it without us::

    cd VERSION_FOLDER && find . -type f -print0 | LC_ALL=C sort -z | xargs -0 sha256sum | sha256sum
"""

from __future__ import annotations

import hashlib
import re
import tarfile
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import IO

from ansible_collections.modelfleet.serving.plugins.module_utils._errors import InputError
from ansible_collections.modelfleet.serving.plugins.module_utils._store.source import parse_source
from ansible_collections.modelfleet.serving.plugins.module_utils._store.tree import UNREADABLE, Archive, Folder, Tree

_READ_BYTES = 1024 * 1024
_SHARD = re.compile(r"variables\.data-(\d{5})-of-(\d{5})")
_GRAPHS = ("saved_model.pb", "saved_model.pbtxt")
DIGEST = re.compile(r"sha256:[0-9a-f]{64}")


@dataclass(frozen=True)
class Artefact:
    """One version of a model on the controller.

    :param files: path below its root, such as ``variables/variables.index``, to its sha256 in hexadecimal.
    :param sizes: the same paths to their bytes.
    """

    model: str
    version: int
    tree: Tree
    files: dict[str, str]
    sizes: dict[str, int]

    @property
    def size(self) -> int:
        """Bytes of all files."""
        return sum(self.sizes.values())

    @property
    def digest(self) -> str:
        """The tree digest, with its algorithm: ``sha256:…``."""
        return tree_digest(self.files)

    def __str__(self) -> str:
        return f"{self.model} version {self.version}"


def tree_digest(files: dict[str, str]) -> str:
    """Give the digest of a tree from the digests of its files."""
    lines = sorted((f"./{path}".encode(), digest) for path, digest in files.items())
    listing = b"".join(digest.encode() + b"  " + path + b"\n" for path, digest in lines)
    return f"sha256:{hashlib.sha256(listing).hexdigest()}"


def parse_listing(listing: bytes) -> dict[str, str]:
    """Read what ``find . -type f … | xargs -0 sha256sum`` printed: path to sha256."""
    files = {}
    for line in listing.decode(errors="replace").split("\n")[:-1]:
        digest, _unused, path = line.partition("  ")
        files[path.removeprefix("./")] = digest
    return files


def read_artefact(model: str, version: int, source: str) -> Artefact:
    """Read and check one version, in one pass over its bytes.

    :param source: the folder that holds one folder a version, or an archive, as :func:`parse_source` reads it.
    :raises InputError: when it is missing, is no SavedModel, or holds anything but plain files and folders.
    """
    what = f"{model} version {version}"
    tree: Folder | Archive = _tree(what, version, source)
    files, sizes, restores = {}, {}, False
    try:
        for path, size, file in tree.files():
            sizes[path] = size
            if path.rpartition("/")[2] in _GRAPHS:
                content = file.read()  # a graph has at most 2 GB, by the format
                files[path] = hashlib.sha256(content).hexdigest()
                # A graph that restores variables has this operation, and then its checkpoint always has an index.
                restores = restores or b"RestoreV2" in content
            else:
                files[path] = _digest(file)
    except UNREADABLE as error:
        raise InputError(f"{what}: {tree.path} can't be read: {error}.", hint="Copy it again.") from error
    if isinstance(tree, Archive):
        tree = replace(tree, prefix=_only_folder(files))
        files = {path.removeprefix(tree.prefix): digest for path, digest in files.items()}
        sizes = {path.removeprefix(tree.prefix): size for path, size in sizes.items()}
    _require_saved_model(what, tree.path, files, restores)
    return Artefact(model, version, tree, files, sizes)


def archive(artefact: Artefact, paths: Collection[str]) -> Iterator[bytes]:
    """Stream some files of an artefact as a tar archive, without holding more than a block of it in memory."""
    for path, size, file in artefact.tree.files():
        if path not in paths:
            continue
        member = tarfile.TarInfo(path)
        member.size = size
        member.mode = 0o644
        yield member.tobuf(tarfile.GNU_FORMAT)
        while block := file.read(_READ_BYTES):
            yield block
        yield bytes(-size % tarfile.BLOCKSIZE)
    # Two empty blocks end an archive.
    yield bytes(2 * tarfile.BLOCKSIZE)


def _tree(what: str, version: int, source: str) -> Folder | Archive:
    place = parse_source(source, version)
    path = Path(place.path)
    if place.archive:
        if not path.is_file():
            raise InputError(f"{what}: there is no archive {path}.", hint="{version} in source stands for the version.")
        return Archive(what, path, place.archive)
    if not path.is_dir():
        raise InputError(
            f"{what}: there is no folder {path}.",
            hint="source is the folder that holds one folder a version, named by its number.",
        )
    return Folder(what, path)


def _only_folder(paths: Iterable[str]) -> str:
    """Give the one folder, with its slash, that an archive holds everything in; empty when there is none such."""
    tops = {path.partition("/")[0] + "/" if "/" in path else "" for path in paths}
    return tops.pop() if len(tops) == 1 and tops != {"variables/"} else ""


def _require_saved_model(what: str, where: Path, files: Collection[str], restores: bool) -> None:
    """Check that a SavedModel is whole, as far as its files show.

    A server may load a model that lacks variables "successfully" and then answer every request with an error.

    :param restores: whether its graph restores variables.
    """
    if not any(name in files for name in _GRAPHS):
        raise InputError(
            f"{what}: {where} is no SavedModel: saved_model.pb is missing.",
            hint="Export it with tf.saved_model.save or model.export.",
        )
    shards = [match for name in files if (match := _SHARD.fullmatch(name.removeprefix("variables/")))]
    missing = {f"{number:05}" for match in shards for number in range(int(match[2]))} - {match[1] for match in shards}
    if (
        (restores and "variables/variables.index" not in files)
        or missing
        or bool(shards) == ("variables/variables.index" not in files)
    ):
        raise InputError(
            f"{what}: {where} is an incomplete SavedModel: its variables are missing or incomplete.",
            hint="Copy or export it again; a server would answer every request with an error.",
        )


def _digest(file: IO[bytes]) -> str:
    digest = hashlib.sha256()
    while block := file.read(_READ_BYTES):
        digest.update(block)
    return digest.hexdigest()
