# SPDX-FileCopyrightText: The modelfleet maintainers
# SPDX-License-Identifier: GPL-3.0-or-later
"""A version of a model as a folder of files: its digest and its structure.

The tree digest is what these standard tools print, so anyone can check it without us::

    cd VERSION_FOLDER && find . -type f -print0 | LC_ALL=C sort -z | xargs -0 sha256sum | sha256sum
"""

from __future__ import annotations

import hashlib
import os
import re
import stat
import tarfile
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from ansible_collections.modelfleet.serving.plugins.module_utils._errors import InputError

_READ_BYTES = 1024 * 1024
_SHARD = re.compile(r"variables\.data-(\d{5})-of-(\d{5})")
DIGEST = re.compile(r"sha256:[0-9a-f]{64}")


@dataclass(frozen=True)
class Artefact:
    """One version of a model on the controller.

    :param files: path below the folder, such as ``variables/variables.index``, to its sha256 in hexadecimal.
    :param size: bytes of all files.
    """

    model: str
    version: int
    folder: Path
    files: dict[str, str]
    size: int

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
    """Read and check the folder of one version.

    :param source: the folder that holds one folder a version.
    :raises InputError: when the folder is missing, is no SavedModel, or holds anything but plain files and folders.
    """
    folder = Path(source).expanduser() / str(version)
    what = f"{model} version {version}"
    if not folder.is_dir():
        raise InputError(
            f"{what}: there is no folder {folder}.",
            hint="source is the folder that holds one folder a version, named by its number.",
        )
    paths = sorted(_plain_files(what, folder))
    files = {str(path.relative_to(folder)): _file_digest(path) for path in paths}
    _require_saved_model(what, folder, set(files))
    return Artefact(model, version, folder, files, sum(path.stat().st_size for path in paths))


def archive(artefact: Artefact, paths: Iterable[str]) -> Iterator[bytes]:
    """Stream some files of an artefact as a tar archive, without holding more than a block of it in memory."""
    for path in paths:
        source = artefact.folder / path
        member = tarfile.TarInfo(path)
        member.size = source.stat().st_size
        member.mode = 0o644
        yield member.tobuf(tarfile.GNU_FORMAT)
        with source.open("rb") as file:
            while block := file.read(_READ_BYTES):
                yield block
        yield bytes(-member.size % tarfile.BLOCKSIZE)
    # Two empty blocks end an archive.
    yield bytes(2 * tarfile.BLOCKSIZE)


def _plain_files(what: str, folder: Path) -> Iterator[Path]:
    for parent, folders, names in os.walk(folder):
        for name in folders + names:
            path = Path(parent, name)
            mode = path.lstat().st_mode
            if not (stat.S_ISREG(mode) or stat.S_ISDIR(mode)):
                raise InputError(
                    f"{what}: {path} is neither a file nor a folder.",
                    hint="Links and devices are not copied; put the file itself there.",
                )
            if not name.isprintable() or "\\" in name:
                raise InputError(f"{what}: the file name {name!r} can't be used.", hint="Rename it.")
            if stat.S_ISREG(mode):
                yield path


def _require_saved_model(what: str, folder: Path, files: set[str]) -> None:
    """Check that a SavedModel is whole, as far as its files show.

    A server may load a model that lacks variables "successfully" and then answer every request with an error.
    """
    graph = next((name for name in ("saved_model.pb", "saved_model.pbtxt") if name in files), None)
    if graph is None:
        raise InputError(
            f"{what}: {folder} is no SavedModel: saved_model.pb is missing.",
            hint="Export it with tf.saved_model.save or model.export.",
        )
    shards = [match for name in files if (match := _SHARD.fullmatch(name.removeprefix("variables/")))]
    missing = {f"{number:05}" for match in shards for number in range(int(match[2]))} - {match[1] for match in shards}
    # A graph that restores variables has this operation, and then its checkpoint always has an index.
    restores = b"RestoreV2" in (folder / graph).read_bytes()
    if (
        (restores and "variables/variables.index" not in files)
        or missing
        or bool(shards) == ("variables/variables.index" not in files)
    ):
        raise InputError(
            f"{what}: {folder} is an incomplete SavedModel: its variables are missing or incomplete.",
            hint="Copy or export it again; a server would answer every request with an error.",
        )


def _file_digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
