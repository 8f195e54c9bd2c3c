# SPDX-FileCopyrightText: The modelfleet maintainers
# SPDX-License-Identifier: GPL-3.0-or-later
"""A cluster fails under load while nobody is there: no controller, no playbook. The endpoint alone loses nothing."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from itertools import product
from pathlib import Path

import pytest

sys.path.append(str(Path(__file__).resolve().parents[1] / "benchmarks"))

from localfleet import (
    HALF_PLUS_TWO,
    REQUEST,
    RESPONSE,
    URL,
    Endpoint,
    fault,
)
from openload import Stream, load, outcome

# Enough that every moment of the fault is met, and little enough for a machine with other work.
RATES = {1_000: 100.0, 1_000_000: 10.0}
VICTIM = "azure-westeurope"


@pytest.fixture(scope="module")
def endpoint(served: None) -> Iterator[Endpoint]:
    """The fleet's endpoint with three healthy clusters, as it was left afterwards."""
    endpoint = Endpoint()
    members = endpoint.info()["members"]
    endpoint.activate()
    try:
        yield endpoint
        endpoint.healthy()
    finally:
        endpoint.change(members=[{"name": member["name"], "state": member["state"]} for member in members])


@pytest.mark.parametrize(
    ("name", "size"),
    [
        *product(["pause", "cut"], RATES),
        ("kill", 1_000),
        # A node that was killed takes the better part of a minute to come back.
        pytest.param("kill", 1_000_000, marks=pytest.mark.slow),
    ],
)
def test_no_idempotent_request_is_lost(endpoint: Endpoint, tmp_path: Path, name: str, size: int) -> None:
    endpoint.healthy()
    kinds = [Stream(HALF_PLUS_TWO, RATES[size], REQUEST, RESPONSE, size)]
    with load(URL, kinds, tmp_path, 60) as running:
        time.sleep(3)
        with fault(name, VICTIM) as began:
            time.sleep(4)
            # Otherwise this would show nothing.
            assert endpoint.down() == [VICTIM]
            samples = running.stop()
    found = outcome(samples, kinds, began)
    assert (found.lost, found.wrong) == (0, 0), found
    assert found.requests > 6 * RATES[size]
    # The way of a request that a silent cluster held: found down by two checks, taken back, sent elsewhere.
    assert found.slowest_seconds < 5, found
