# SPDX-FileCopyrightText: The modelfleet maintainers
# SPDX-License-Identifier: GPL-3.0-or-later
"""The tests of the doors share the small API server with the unit tests."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "unit"))


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark all of these tests: they start Ansible."""
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker("ansible")
