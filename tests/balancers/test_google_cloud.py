# SPDX-FileCopyrightText: The modelfleet maintainers
# SPDX-License-Identifier: GPL-3.0-or-later
"""What is claimed of Google Cloud, against a stand-in for its API (``google.py`` says what it is derived from)."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from typing import Any

import pytest

pytest.importorskip("googleapiclient")

from ansible_collections.modelfleet.serving.plugins.module_utils._endpoint import google_cloud, google_cloud_api

from .google import Google, GoogleLab, InternetLab
from .scenarios import Scenarios, failover


@pytest.fixture
def cloud(monkeypatch: pytest.MonkeyPatch) -> Iterator[Google]:
    for name in google_cloud_api._VARIABLES.values():
        monkeypatch.delenv(name, raising=False)
    # Tests have no patience.
    monkeypatch.setattr(google_cloud, "_HEALTH_SECONDS", 0.0)
    monkeypatch.setattr(google_cloud_api, "_POLL_SECONDS", 0.0)
    monkeypatch.setattr(google_cloud_api, "_FIRST_PAUSE", 0.0)
    # Nor for a client a run, which takes longer than all its calls.
    made: dict[tuple[int, str, str], Any] = {}
    make = google_cloud_api.Api._collection

    def collection(self: google_cloud_api.Api, kind: str) -> Any:
        key = (threading.get_ident(), self._access["endpoint_url"], kind)
        if key not in made:
            made[key] = make(self, kind)
        return made[key]

    monkeypatch.setattr(google_cloud_api.Api, "_collection", collection)
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

    def test_a_standby_takes_over(self, lab: GoogleLab) -> None:  # type: ignore[override]
        cloud = lab.cloud
        lab.run(members=lab.members("abc", b="standby", c="drained"))
        assert lab.shares() == {"a": 1}
        cloud.sick = {lab.address("a")}
        assert lab.shares() == {"b": 1}, "with no controller alive"
        assert [member["up"] for member in lab.info()["members"]] == [False, True, True]
        # A drained member never stands in, and when all others fail, Google answers with an error, as docs says.
        cloud.sick = {lab.address(name) for name in "ab"}
        assert lab.shares() == {}
        cloud.sick = set()
        cloud.calls.clear()
        failover(lab, "a", "b")
        assert 1 <= len(cloud.writes()) <= self.most_drain_writes
        assert lab.shares() == {"b": 1}
        lab.settled()
