# SPDX-FileCopyrightText: The modelfleet maintainers
# SPDX-License-Identifier: GPL-3.0-or-later
"""The tests of the doors share the small API server with the unit tests."""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "unit"))


@pytest.fixture
def tmp_path() -> Iterator[Path]:
    """Give a folder with a short name.

    The socket that ansible-core 2.21 makes below ``TMPDIR`` may have 107 characters; with a longer name, a run ends
    with "Local RPC server did not start".
    """
    with tempfile.TemporaryDirectory(prefix="doors-") as folder:
        yield Path(folder)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark all of these tests: they start Ansible."""
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker("ansible")
