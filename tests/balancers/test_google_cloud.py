# SPDX-FileCopyrightText: The modelfleet maintainers
# SPDX-License-Identifier: GPL-3.0-or-later
"""What is claimed of Google Cloud, against a stand-in for its API (``google.py`` says what it is derived from)."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

pytest.importorskip("googleapiclient")

from ansible_collections.modelfleet.serving.plugins.module_utils._endpoint import google_cloud, google_cloud_api

from .google import Google, GoogleLab, InternetLab
from .scenarios import Scenarios


@pytest.fixture
def cloud(monkeypatch: pytest.MonkeyPatch) -> Iterator[Google]:
    for name in google_cloud_api._VARIABLES.values():
        monkeypatch.delenv(name, raising=False)
    # Tests have no patience.
    monkeypatch.setattr(google_cloud, "_HEALTH_SECONDS", 0.0)
    monkeypatch.setattr(google_cloud_api, "_POLL_SECONDS", 0.0)
    monkeypatch.setattr(google_cloud_api, "_FIRST_PAUSE", 0.0)
    # Nor for a client a run, which takes longer than all its calls.
    clients: dict[str, Any] = {}
    make = google_cloud_api.Api._client

    def client(self: google_cloud_api.Api) -> Any:
        url = self._access["endpoint_url"]
        if url not in clients:
            clients[url] = make(self)
        return clients[url]

    monkeypatch.setattr(google_cloud_api.Api, "_client", client)
    cloud = Google()
    try:
        yield cloud
    finally:
        cloud.close()


@pytest.fixture
def lab(cloud: Google) -> GoogleLab:
    return GoogleLab(cloud)


@pytest.fixture
def internet(cloud: Google) -> InternetLab:
    return InternetLab(cloud)


class TestScenarios(Scenarios):
    most_drain_writes = 2
    shift = "urlMaps.update"
    faults = (
        "urlMaps.get",
        "urlMaps.insert",
        "healthChecks.insert",
        "networkEndpointGroups.insert",
        "networkEndpointGroups.attachNetworkEndpoints",
        "backendServices.insert",
        "urlMaps.update",
        "globalAddresses.insert",
        "targetHttpProxies.insert",
        "globalForwardingRules.insert",
        "globalOperations.get",
        "zoneOperations.get",
        "networkEndpointGroups.listNetworkEndpoints",
    )
