# SPDX-FileCopyrightText: The modelfleet maintainers
# SPDX-License-Identifier: GPL-3.0-or-later
"""The molecule scenarios, each as one test, so that one sees how long each took; they share the local fleet."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

CHECKOUT = Path(__file__).resolve().parents[2]
BIN = Path(sys.executable).parent
LOGS = CHECKOUT / "build" / "scenarios"

# default makes the fleet. failover, release and site leave it serving, teardown empties it.
SCENARIOS = ["default", "check", "site", "failover", "release", "teardown"]


def test_every_scenario_is_listed() -> None:
    assert sorted(SCENARIOS) == sorted(path.parent.name for path in CHECKOUT.glob("extensions/molecule/*/molecule.yml"))


@pytest.mark.parametrize("scenario", SCENARIOS)
def test_scenario(scenario: str) -> None:
    LOGS.mkdir(parents=True, exist_ok=True)
    log = LOGS / f"{scenario}.log"
    # The first one made the fleet; the others need not look at all of it again.
    state = [] if scenario == "default" else ["--no-shared-state"]
    with log.open("w") as output:
        code = subprocess.run(
            ["molecule", "test", "--scenario-name", scenario, *state],
            cwd=CHECKOUT,
            env={**os.environ, "PATH": f"{BIN}:{os.environ['PATH']}", "NO_COLOR": "1"},
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            check=False,
        ).returncode
    text = log.read_text(errors="replace")
    # A step whose playbook is missing would only be a warning.
    missing = re.findall(rf"^{scenario} > (?!destroy|cleanup)\w+: Executed: Missing.*", text, re.MULTILINE)
    if code or missing:
        pytest.fail(f"{log.relative_to(CHECKOUT)} ends:\n{text[-6000:]}", pytrace=False)
