# SPDX-FileCopyrightText: The modelfleet maintainers
# SPDX-License-Identifier: GPL-3.0-or-later
"""The folder an image is built from, as an archive that is the same wherever and whenever the folder was written."""

from __future__ import annotations

import hashlib
import json
import stat
import tarfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from ansible_collections.modelfleet.serving.plugins.module_utils._errors import InputError
from ansible_collections.modelfleet.serving.plugins.module_utils._image.package import docker_package

# 1980, before which ZIP archives know no time, and some tools refuse a file for that.
_TIME = 315532800


class Sink(Protocol):
    """What an archive is written to."""

    def write(self, data: bytes, /) -> Any:
        """Take some bytes."""


@dataclass(frozen=True)
class Context:
    """What a build is given.

    :param files: the paths that count, below the folder, in order; folders too.
    """

    folder: Path
    dockerfile: str
    files: tuple[str, ...]

    def write(self, target: Sink) -> None:
        """Write the archive: without times, owners and the umask of a checkout, so that it is equal everywhere."""
        try:
            with tarfile.open(fileobj=target, mode="w|", format=tarfile.PAX_FORMAT) as archive:  # type: ignore[call-overload]
                for name in self.files:
                    self._add(archive, name)
        except OSError as error:
            where = error.filename or self.folder
            raise InputError(f"path: {where} can't be put into an archive: {error.strerror or error}.") from error

    def _add(self, archive: tarfile.TarFile, name: str) -> None:
        path = self.folder / name
        if (entry := _entry(path, name)) is None:
            return
        if entry.isreg():
            with path.open("rb") as stream:
                archive.addfile(entry, stream)
        else:
            archive.addfile(entry)

    def digest(self, **options: Any) -> str:
        """Give a digest of the files and of the options of the build: 16 hexadecimal digits, for a tag."""
        hashed = hashlib.sha256()
        hashed.update(json.dumps({**options, "dockerfile": self.dockerfile}, sort_keys=True).encode())
        self.write(_Hasher(hashed))
        return hashed.hexdigest()[:16]


@dataclass(frozen=True)
class _Hasher:
    """Hash what is written."""

    hashed: Any

    def write(self, data: bytes, /) -> int:
        self.hashed.update(data)
        return len(data)


def read_context(folder: Path, dockerfile: str) -> Context:
    """List what counts of a folder: everything but what its ``.dockerignore`` leaves out, as Docker reads it.

    :param dockerfile: path of the Dockerfile, below the folder.
    """
    if not folder.is_dir():
        raise InputError(f"path: {folder} is no folder.", hint="Give the folder with the Dockerfile.")
    found = folder / dockerfile
    if Path(dockerfile).is_absolute() or ".." in Path(dockerfile).parts or not found.is_file():
        raise InputError(f"dockerfile: {found} is no file in {folder}.", hint="Give its path below the folder.")
    name = Path(dockerfile).as_posix()
    files = docker_package("docker.utils.build").exclude_paths(str(folder), _ignored(folder), dockerfile=name)
    return Context(folder, name, tuple(sorted(files)))


def _ignored(folder: Path) -> list[str]:
    try:
        lines = (folder / ".dockerignore").read_text(encoding="utf-8").splitlines()
    except FileNotFoundError:
        return []
    return [line.strip() for line in lines if line.strip() and not line.strip().startswith("#")]


def _entry(path: Path, name: str) -> tarfile.TarInfo | None:
    """Describe a file by what it is, without what only this copy of it has; None for a socket or device."""
    found = path.lstat()
    entry = tarfile.TarInfo(name)
    entry.mtime = _TIME
    if stat.S_ISDIR(found.st_mode):
        entry.type, entry.mode = tarfile.DIRTYPE, 0o755
    elif stat.S_ISLNK(found.st_mode):
        entry.type, entry.mode, entry.linkname = tarfile.SYMTYPE, 0o777, str(path.readlink())
    elif stat.S_ISREG(found.st_mode):
        entry.mode, entry.size = 0o755 if found.st_mode & stat.S_IXUSR else 0o644, found.st_size
    else:
        return None
    return entry
