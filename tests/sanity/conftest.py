# SPDX-FileCopyrightText: The modelfleet maintainers
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the quality gates share: clean copies of the checkout, and a way to run a tool."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest
from gates import BIN, CHECKOUT, Run, source_files


def pytest_report_teststatus(report: pytest.TestReport) -> tuple[str, str, str] | None:
    """Show how long each gate took, in its own line of ``pytest -v``."""
    if report.when != "call":
        return None
    return report.outcome, "." if report.passed else "F", f"{report.outcome.upper()} in {report.duration:.1f} s"


@pytest.fixture(scope="session")
def run() -> Run:
    """Run a tool of the development environment, and fail with its output when it fails."""

    def run_tool(*command: str, cwd: Path = CHECKOUT, env: Mapping[str, str] | None = None) -> str:
        result = subprocess.run(
            [str(BIN / command[0]) if (BIN / command[0]).exists() else command[0], *command[1:]],
            cwd=cwd,
            env={**os.environ, "PATH": f"{BIN}:{os.environ['PATH']}", "NO_COLOR": "1", **(env or {})},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
        )
        if result.returncode:
            pytest.fail(f"{' '.join(command)}: exit code {result.returncode}\n{result.stdout}", pytrace=False)
        return result.stdout

    return run_tool


@pytest.fixture(scope="module")
def source_copy(request: pytest.FixtureRequest) -> Path:
    """Copy the collection's files to where its name wants them, with nothing else around.

    One copy a test module and Python, since two may run at once.
    """
    name = f"{request.module.__name__.rpartition('.')[2]}-{sys.version_info.major}.{sys.version_info.minor}"
    target = CHECKOUT / "build" / name / "ansible_collections" / "modelfleet" / "serving"
    shutil.rmtree(target, ignore_errors=True)
    for file in source_files():
        (target / file).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(CHECKOUT / file, target / file)
    # ansible-test asks git for the files. A repository around the copy would answer with none, as build/ is ignored.
    subprocess.run(["git", "init", "--quiet", "."], cwd=target, check=True)
    return target
