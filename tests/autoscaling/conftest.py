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

from _lab import CLUSTER, HOME, Lab, new_lab, run_feature
from pipeline import HERE, Pipeline, build_adapter, go

from ansible_collections.modelfleet.serving.plugins.module_utils._features import model_image


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
    if go() is None and "PROMETHEUS_ADAPTER" not in os.environ:
        pytest.skip("no Go to build the adapter with")
    folder = tmp_path_factory.mktemp("pipeline")
    shutil.copy(HERE / "Dockerfile", folder)
    build_adapter(folder)
    base = (HOME / "python_image").read_text().strip()
    return load_image(folder, "modelfleet/metrics-pipeline", base)


def load_image(folder: Path, repository: str, base: str) -> str:
    """Build an image from a folder, unless there is one of it, and load it into the cluster's node; gives its name."""
    node = f"{CLUSTER}-control-plane"
    given = {"path": str(folder), "repository": repository, "build_args": {"BASE": base}}
    made = run_feature(model_image.FEATURE, {**given, "network": "host", "load_into": [node]})
    return str(made["image"])


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
