# SPDX-FileCopyrightText: The modelfleet maintainers
# SPDX-License-Identifier: GPL-3.0-or-later
"""What is claimed of Cloudflare, against a stand-in that is held to Cloudflare's schema (``cloudflare.py`` says how)."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

pytest.importorskip("cloudflare")

from ansible_collections.modelfleet.serving.plugins.module_utils._endpoint import cloudflare, cloudflare_api

from .cloudflare import RECORD, Cloudflare, CloudflareLab
from .scenarios import Scenarios


@pytest.fixture
def lab(monkeypatch: pytest.MonkeyPatch) -> Iterator[CloudflareLab]:
    for name in ("TOKEN", "API_TOKEN", "API_KEY", "EMAIL", "BASE_URL"):
        monkeypatch.delenv(f"CLOUDFLARE_{name}", raising=False)
    # Tests have no patience.
    monkeypatch.setattr(cloudflare, "_HEALTH_SECONDS", 0.0)
    monkeypatch.setattr(cloudflare, "_SETTLE_SECONDS", 0.0)
    monkeypatch.setattr(cloudflare_api, "_FIRST_PAUSE", 0.001)
    cloud = Cloudflare()
    try:
        yield CloudflareLab(cloud)
    finally:
        cloud.close()


@pytest.fixture
def one_client(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make the client once for a test of many runs, since that takes longer than all calls of one."""
    clients: dict[str, Any] = {}
    make = cloudflare_api.Api._client

    def client(self: cloudflare_api.Api) -> Any:
        url = self._access["endpoint_url"]
        if url not in clients:
            clients[url] = make(self)
        return clients[url]

    monkeypatch.setattr(cloudflare_api.Api, "_client", client)


@pytest.mark.usefixtures("one_client")
class TestScenarios(Scenarios):
    shift = "UpdateLoadBalancer"
    faults = ("ListZones", "ListPools", "CreateMonitor", "CreatePool", "CreateLoadBalancer")
    keeps_others_out = False
