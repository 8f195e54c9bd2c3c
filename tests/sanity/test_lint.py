# SPDX-FileCopyrightText: The modelfleet maintainers
# SPDX-License-Identifier: GPL-3.0-or-later
"""The linters, on the checkout as it is."""

from __future__ import annotations

import pytest
from gates import Run

GATES = {
    "ruff-check": ["ruff", "check"],
    "ruff-format": ["ruff", "format", "--check"],
    "mypy": ["mypy", "-p", "ansible_collections.modelfleet.serving.plugins"],
    "yamllint": ["yamllint", "--strict", "."],
    # Offline, since the collection depends on no other one and no run should ask Galaxy.
    "ansible-lint": ["ansible-lint", "--offline", "--strict", "-qq", "--nocolor"],
    "antsibull-changelog": ["antsibull-changelog", "lint"],
}


@pytest.mark.parametrize("gate", GATES)
def test_lint(gate: str, run: Run) -> None:
    run(*GATES[gate])
