# SPDX-FileCopyrightText: The modelfleet maintainers
# SPDX-License-Identifier: GPL-3.0-or-later
"""Namespaces in a cluster of the local fleet, with metrics of their pods."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

# A namespace to fill and to serve from is what the tests of stores have, too.
sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "stores"))

from _lab import HOME, Lab, new_lab
from pipeline import HERE, Pipeline, build, go, load_image


@pytest.fixture
def lab() -> Iterator[Lab]:
    """A new namespace."""
    with new_lab("scaled") as lab:
        yield lab


@pytest.fixture(scope="session")
def image(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The image with Prometheus and the adapter, loaded into the cluster's node."""
    if not (HOME / "python_image").exists():
        pytest.skip("no local fleet: `make fleet` makes one")
    if go() is None:
        pytest.skip("no Go to build Prometheus with")
    folder = tmp_path_factory.mktemp("pipeline")
    shutil.copy(HERE / "Dockerfile", folder)
    build(folder / "bin")
    return load_image(folder, "modelfleet/metrics-pipeline")


@pytest.fixture
def pipeline(image: str) -> Iterator[Pipeline]:
    """Metrics of the servers in all namespaces of this run."""
    with new_lab("metrics") as lab:
        pipeline = Pipeline(lab.session, lab.namespace, image, f"scaled-{os.getpid()}-.*")
        try:
            pipeline.start()
            yield pipeline
        finally:
            pipeline.stop()
