# SPDX-FileCopyrightText: The modelfleet maintainers
# SPDX-License-Identifier: GPL-3.0-or-later
"""How the scenarios' results are shown."""

from __future__ import annotations

import pytest


def pytest_report_teststatus(report: pytest.TestReport) -> tuple[str, str, str] | None:
    """Show how long each scenario took, in its own line of ``pytest -v``."""
    if report.when != "call":
        return None
    return report.outcome, "." if report.passed else "F", f"{report.outcome.upper()} in {report.duration:.1f} s"
