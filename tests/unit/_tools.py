# SPDX-FileCopyrightText: The modelfleet maintainers
# SPDX-License-Identifier: GPL-3.0-or-later
"""The tools that scripts run by in a store's pods: those of busybox, and stand-ins for what a test needs otherwise."""

from __future__ import annotations

import os
import shutil
import sys
from pathlib import Path

import pytest

_BUSYBOX = (
    "awk cat chmod cmp cut df du echo find grep gzip head ls mkdir mktemp mv nproc rm sed sh sha256sum sort sync tar "
    "test tr unzip wc xargs"
)

# What the scripts ask of rclone, for folders of this machine: NAME:path is below $REMOTE.
_RCLONE = """
import os, shutil, sys
from pathlib import Path

def place(text):
    name, colon, path = text.partition(":")
    return Path(os.environ["REMOTE"], path) if colon and "/" not in name else Path(text)

command, *rest = sys.argv[1:]
values, names, skip = [], [], False
for word in rest:
    if skip:
        skip = False
    elif word in ("--format", "--separator", "--stats", "--stats-log-level", "--log-format", "--retries"):
        skip = True
    elif not word.startswith("--"):
        values.append(word)
source = place(values[0])
with open(os.environ["REMOTE"] + ".log", "a") as log:
    print(command, *values, file=log)
fault = os.environ.get("RCLONE_FAULT", "")
if fault == command:
    sys.exit("the source is not there today")
if not source.exists():
    sys.exit(3)
files = [source] if source.is_file() else sorted(path for path in source.rglob("*") if path.is_file())
base = source.parent if source.is_file() else source
if command == "lsf":
    for path in files:
        print(path.stat().st_size, path.relative_to(base))
elif command == "cat":
    sys.stdout.buffer.write(source.read_bytes())
elif command == "copyto":
    shutil.copy2(source, values[1])
elif command == "sync":
    target = Path(values[1])
    for path in [path for path in target.rglob("*") if path.is_file()]:
        if not (source / path.relative_to(target)).is_file():
            path.unlink()
    for number, path in enumerate(files):
        if fault == "cut" and number:
            sys.exit("the connection broke")
        copy = target / path.relative_to(base)
        known = copy.stat() if copy.is_file() else None
        if known and (known.st_size, known.st_mtime_ns) == (path.stat().st_size, path.stat().st_mtime_ns):
            continue
        copy.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(path, copy)
        print("copied", path.name, file=sys.stderr)
"""


def executable(path: Path, script: str, interpreter: str = "/bin/sh") -> Path:
    """Write a command."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"#!{interpreter}\n{script}\n")
    path.chmod(0o755)
    return path


def rclone(folder: Path) -> Path:
    """Put the stand-in for rclone into a folder."""
    return executable(folder / "rclone", _RCLONE, sys.executable)


def busybox_tools(tmp_path: Path) -> Path:
    """Make a folder with busybox under the names of its tools, for a path with nothing else on it."""
    tools = tmp_path / "busybox"
    tools.mkdir()
    for tool in _BUSYBOX.split():
        (tools / tool).symlink_to(str(shutil.which("busybox")))
    return tools


def full_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, kibibytes: int) -> None:
    """Let ``df`` say that so much is left."""
    folder = tmp_path / f"df-{kibibytes}"
    lines = f"echo Filesystem 1024-blocks Used Available Capacity Mounted; echo /dev/x 1000 0 {kibibytes} 100% /models"
    executable(folder / "df", lines)
    monkeypatch.setenv("PATH", f"{folder}:{os.environ['PATH']}")
