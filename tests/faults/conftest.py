# SPDX-FileCopyrightText: The modelfleet maintainers
# SPDX-License-Identifier: GPL-3.0-or-later
"""A cluster of the local fleet, for what only real nodes and controllers do."""

from __future__ import annotations

import itertools
import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from _fleet import Fleet
from _place import CLUSTER, HOME, Place

from ansible_collections.modelfleet.serving.plugins.module_utils._cluster.session import connect

_numbers = itertools.count()


@pytest.fixture
def place() -> Iterator[Place]:
    """A new namespace; it is removed afterwards, without waiting for it."""
    kubeconfig = HOME / "kubeconfig"
    if not kubeconfig.exists():
        pytest.skip("no local fleet: `make fleet` makes one")
    connection = {"kubeconfig": str(kubeconfig), "context": f"kind-{CLUSTER}"}
    with connect({**connection, "request_timeout": 10.0}) as session:
        image = (HOME / "server_image").read_text().strip()
        place = Place(session, connection, f"fault-{os.getpid()}-{next(_numbers)}", image)
        yield place
        place.run(state="absent", wait=False)


@pytest.fixture(scope="session")
def served(tmp_path_factory: pytest.TempPathFactory) -> None:
    """The catalogue is served by all clusters: whatever was there before, the playbook sets it right."""
    if not (HOME / "kubeconfig").exists():
        pytest.skip("no local fleet: `make fleet` makes one")
    fleet = Fleet(tmp_path_factory.mktemp("site"))
    fleet.start("site").end(0, 900)
    fleet.restore()


@pytest.fixture
def fleet(served: None, tmp_path: Path) -> Iterator[Fleet]:
    """The fleet with a journal of the test's own; all members are active again afterwards."""
    fleet = Fleet(tmp_path)
    yield fleet
    fleet.restore()
