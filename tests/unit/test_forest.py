# SPDX-FileCopyrightText: The modelfleet maintainers
# SPDX-License-Identifier: GPL-3.0-or-later
"""The golden requests of the example's forest, against the data it learned from. Its image is in tests/images."""

from __future__ import annotations

import csv
import json
from pathlib import Path

FILES = Path(__file__).resolve().parents[2] / "roles" / "local_fleet" / "files"
SPECIES = ("setosa", "versicolor", "virginica")


def test_the_golden_requests_are_flowers_of_each_species() -> None:
    with (FILES / "models" / "iris.csv").open(newline="") as stream:
        rows = [list(row.values()) for row in csv.DictReader(stream)]
    known = {tuple(map(float, row[:4])): row[4] for row in rows}
    seen = set()
    for golden in json.loads((FILES / "iris_forest" / "golden.json").read_text()):
        flowers, answers = golden["request"]["instances"], golden["response"]["predictions"]
        assert len(flowers) == len(answers) > 0
        for flower, shares in zip(flowers, answers, strict=True):
            assert abs(sum(shares) - 1) < 1e-9
            species = known[tuple(flower)]
            seen.add(species)
            # A flower that lies between two species tells more of the forest than a clear one.
            assert SPECIES[shares.index(max(shares))] == species or max(shares) < 0.9
    assert seen == set(SPECIES)
