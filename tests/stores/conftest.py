# SPDX-FileCopyrightText: The modelfleet maintainers
# SPDX-License-Identifier: GPL-3.0-or-later
"""A cluster of the local fleet, with sources that its pods can read."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from _lab import Lab, new_lab
from _web import Web


@pytest.fixture
def lab() -> Iterator[Lab]:
    """A new namespace."""
    with new_lab("store") as lab:
        yield lab


@pytest.fixture
def web(tmp_path: Path) -> Iterator[Web]:
    """A web server whose folder is ``tmp_path / "web"``."""
    (tmp_path / "web").mkdir()
    with Web(tmp_path / "web") as server:
        yield server
