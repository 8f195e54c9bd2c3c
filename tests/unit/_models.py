# SPDX-FileCopyrightText: The modelfleet maintainers
# SPDX-License-Identifier: GPL-3.0-or-later
"""Folders that look like SavedModels to everything but TensorFlow."""

from __future__ import annotations

import shutil
from pathlib import Path


def saved_model(base: Path, version: int, content: bytes = b"weights") -> Path:
    """Make one version of a model with two shards of variables; gives its folder."""
    folder = base / str(version)
    (folder / "variables").mkdir(parents=True)
    (folder / "saved_model.pb").write_bytes(b"graph with save/RestoreV2 in it")
    (folder / "variables" / "variables.index").write_bytes(b"index")
    for shard in range(2):
        (folder / "variables" / f"variables.data-{shard:05}-of-00002").write_bytes(content + bytes([shard]))
    return folder


# What may be missing from one.
def no_graph(folder: Path) -> None:
    (folder / "saved_model.pb").unlink()


def no_variables(folder: Path) -> None:
    shutil.rmtree(folder / "variables")


def no_index(folder: Path) -> None:
    (folder / "variables" / "variables.index").unlink()


def no_shard(folder: Path) -> None:
    (folder / "variables" / "variables.data-00001-of-00002").unlink()


def only_index(folder: Path) -> None:
    for shard in (folder / "variables").glob("*.data-*"):
        shard.unlink()
