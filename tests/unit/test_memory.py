# SPDX-FileCopyrightText: The modelfleet maintainers
# SPDX-License-Identifier: GPL-3.0-or-later
"""Whether the versions of a server fit into its memory."""

from __future__ import annotations

from typing import Any

import pytest

from ansible_collections.modelfleet.serving.plugins.module_utils._errors import InputError
from ansible_collections.modelfleet.serving.plugins.module_utils._tfserving.memory import require_memory
from ansible_collections.modelfleet.serving.plugins.module_utils._tfserving.model_config import ServedModel

MEBI = 2**20
SIZES = {"m": {"1": 100 * MEBI, "2": 200 * MEBI, "3": 50 * MEBI}, "n": {"1": 10 * MEBI}}
ONE, TWO = ServedModel("m", (1,)), ServedModel("m", (2,))


@pytest.mark.parametrize(
    ("current", "wanted", "needed"),
    [
        ([], [ONE], 120),
        ([ONE], [ONE], 120),
        ([], [ONE, ServedModel("n", (1,))], 132),
        # The new version is loaded beside the old one.
        ([ONE], [TWO], 360),
        ([], [ServedModel("m", (1, 2))], 360),
        ([], [ServedModel("m", policy="all")], 420),
        ([], [ServedModel("m", policy="latest")], 300),
        ([], [ServedModel("m", (9,))], 0),
        ([], [ServedModel("unknown", policy="all")], 0),
    ],
)
def test_what_is_loaded_at_the_same_time_must_fit(current: Any, wanted: Any, needed: int) -> None:
    require_memory(current, wanted, SIZES, f"{needed}Mi")
    if needed:
        with pytest.raises(InputError, match=f"{needed - 1}Mi is too little for m .* about {needed}Mi"):
            require_memory(current, wanted, SIZES, f"{needed - 1}Mi")


@pytest.mark.parametrize(
    ("limit", "fits"),
    [
        (None, True),
        ("lots", True),
        ("120Mi", True),
        ("125829120", True),
        ("125829120000m", True),
        ("1.2e8", False),
        ("120M", False),
        ("0.1Gi", False),
        ("1Gi", True),
        ("1G", True),
        ("100k", False),
    ],
)
def test_a_limit_is_read_as_kubernetes_does(limit: str | None, fits: bool) -> None:
    if fits:
        require_memory([], [ONE], SIZES, limit)
    else:
        with pytest.raises(InputError, match=r"resources\.limits\.memory"):
            require_memory([], [ONE], SIZES, limit)
