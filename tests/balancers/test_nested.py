# SPDX-FileCopyrightText: The modelfleet maintainers
# SPDX-License-Identifier: GPL-3.0-or-later
"""An endpoint that is a member of another: a real HAProxy behind a name of a real name server."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from .dns_lab import DNSLab
from .lab import Lab, Load

pytestmark = pytest.mark.skipif(
    not shutil.which("named") or not shutil.which("haproxy"), reason="named or haproxy is not installed"
)


@pytest.fixture
def region(tmp_path: Path) -> Iterator[Lab]:
    (tmp_path / "region").mkdir()
    lab = Lab(tmp_path / "region")
    try:
        yield lab
    finally:
        lab.close()


@pytest.fixture
def world(tmp_path: Path) -> Iterator[DNSLab]:
    (tmp_path / "world").mkdir()
    lab = DNSLab(tmp_path / "world")
    try:
        yield lab
    finally:
        lab.close()


def test_each_moves_traffic_among_its_own_members(region: Lab, world: DNSLab) -> None:
    region.run()
    members = [
        {"name": "europe", "address": "127.0.0.1", "port": region.port},
        {"name": "america", "address": "192.0.2.9", "port": region.port},
    ]
    world.run(members=members)
    assert set(world.ask("resolver")) == {"127.0.0.1", "192.0.2.9"}

    # A cluster of a region fails: the region's balancer loses no request, and the name stays as it is.
    load = Load(region, 2, 50)
    region.pause("a")
    assert load.lost() == []
    region.resume("a")
    assert not world.run(members=members).changed

    # A region is left: its own endpoint stays as it is.
    drained = [{"name": "europe", "state": "drained"}]
    world.run(members=drained, exclusive_members=False, models=None)
    assert set(world.ask("primary")) == {"192.0.2.9"}
    assert not region.run().changed
