# SPDX-FileCopyrightText: The modelfleet maintainers
# SPDX-License-Identifier: GPL-3.0-or-later
"""The files of a version on the controller, in a folder or an archive, one after another and never unpacked."""

from __future__ import annotations

import os
import stat
import tarfile
import zipfile
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Protocol

from ansible_collections.modelfleet.serving.plugins.module_utils._errors import InputError

# What reading a broken archive raises.
UNREADABLE = (tarfile.TarError, zipfile.BadZipFile, zlib.error, EOFError, OSError, NotImplementedError)
# Far more than any SavedModel has.
_MOST_MEMBERS = 100_000


class Tree(Protocol):
    """Files below one root.

    :param path: the folder or archive.
    """

    @property
    def path(self) -> Path: ...

    def files(self) -> Iterator[tuple[str, int, IO[bytes]]]:
        """Give each file's path, size in bytes, and content, which is there until the next one."""


@dataclass(frozen=True)
class Folder:
    """A folder. ``what`` names the version in messages."""

    what: str
    path: Path

    def files(self) -> Iterator[tuple[str, int, IO[bytes]]]:
        """Give its plain files, and refuse it if it holds anything else."""
        for path in sorted(self._plain_files()):
            with path.open("rb") as file:
                yield str(path.relative_to(self.path)), path.stat().st_size, file

    def _plain_files(self) -> Iterator[Path]:
        for parent, folders, names in os.walk(self.path):
            for name in folders + names:
                path = Path(parent, name)
                mode = path.lstat().st_mode
                if not (stat.S_ISREG(mode) or stat.S_ISDIR(mode)):
                    raise _not_plain(self.what, str(path))
                _require_name(self.what, name)
                if stat.S_ISREG(mode):
                    yield path


@dataclass(frozen=True)
class Archive:
    """A tar or zip archive.

    :param prefix: what every path in it begins with, and is left out.
    """

    what: str
    path: Path
    kind: str
    prefix: str = ""

    def files(self) -> Iterator[tuple[str, int, IO[bytes]]]:
        """Give its plain files, and refuse it at the first member that is none or is not below its root."""
        seen: set[str] = set()
        for name, size, file in self._zip() if self.kind == "zip" else self._tar():
            path = self._checked(name)
            if path in seen or len(seen) >= _MOST_MEMBERS:
                problem = "has too many members" if path not in seen else f"holds {path} twice"
                raise InputError(f"{self.what}: {self.path} {problem}.", hint="Make the archive again.")
            seen.add(path)
            yield path.removeprefix(self.prefix), size, file

    def _tar(self) -> Iterator[tuple[str, int, IO[bytes]]]:
        with tarfile.open(self.path, "r:gz" if self.kind == "tgz" else "r:") as tar:
            for member in tar:
                if member.isdir():
                    continue
                file = tar.extractfile(member) if member.isreg() else None
                if file is None:
                    raise _not_plain(self.what, f"{self.path}: {member.name}")
                yield member.name, member.size, file

    def _zip(self) -> Iterator[tuple[str, int, IO[bytes]]]:
        with zipfile.ZipFile(self.path) as archive:
            for info in archive.infolist():
                if info.is_dir():
                    continue
                if stat.S_IFMT(info.external_attr >> 16) not in (0, stat.S_IFREG) or info.flag_bits & 1:
                    raise _not_plain(self.what, f"{self.path}: {info.filename}")
                with archive.open(info) as file:
                    yield info.filename, info.file_size, file

    def _checked(self, name: str) -> str:
        parts = name.removeprefix("./").split("/")
        if name.startswith("/") or not {"", ".", ".."}.isdisjoint(parts):
            raise InputError(
                f"{self.what}: {self.path} holds {name!r}, which is not below its root.", hint="Make the archive again."
            )
        for part in parts:
            _require_name(self.what, part)
        return "/".join(parts)


def _require_name(what: str, name: str) -> None:
    if not name.isprintable() or "\\" in name:
        raise InputError(f"{what}: the file name {name!r} can't be used.", hint="Rename it.")


def _not_plain(what: str, path: str) -> InputError:
    return InputError(
        f"{what}: {path} is neither a file nor a folder.",
        hint="Links and devices are not copied; put the file itself there.",
    )
