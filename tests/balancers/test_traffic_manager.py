# SPDX-FileCopyrightText: The modelfleet maintainers
# SPDX-License-Identifier: GPL-3.0-or-later
"""What is claimed of Azure Traffic Manager, with a stand-in for Azure (``azure.py`` says what it is)."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

pytest.importorskip("azure.mgmt.trafficmanager")

from ansible_collections.modelfleet.serving.plugins.module_utils._endpoint import traffic_manager, traffic_manager_api

from .azure import Azure, AzureLab, Token
from .scenarios import Scenarios


@pytest.fixture
def lab(monkeypatch: pytest.MonkeyPatch) -> Iterator[AzureLab]:
    for names in traffic_manager_api._VARIABLES.values():
        for name in names:
            monkeypatch.delenv(name, raising=False)
    # Tests have no patience, and none of the machine's own credentials.
    monkeypatch.setattr(traffic_manager, "_HEALTH_SECONDS", 0.0)
    monkeypatch.setattr(traffic_manager, "_SETTLE_SECONDS", 0.0)
    monkeypatch.setattr(traffic_manager_api, "_BACKOFF_SECONDS", 0.0)
    monkeypatch.setattr(traffic_manager_api, "_CREDENTIAL_FILE", "/nowhere")
    monkeypatch.setattr(
        traffic_manager_api,
        "_authentication",
        lambda *_unused: {"credential": object(), "authentication_policy": Token()},
    )
    cloud = Azure()
    try:
        yield AzureLab(cloud)
    finally:
        cloud.close()


PROBER = {"health_check_path": "/healthz"}


class ProberLab(AzureLab):
    """One path for all models, as several models need it."""

    def access(self) -> dict[str, Any]:
        return {**super().access(), **PROBER}


class TestScenarios(Scenarios):
    # A member that leaves the standby ones is taken out of the front after the traffic has moved.
    most_drain_writes = 2
    shift = "CreateOrUpdate"
    faults = ("Get", "CheckNameAvailability", shift)
    keeps_others_out = False

    @pytest.fixture
    def lab(self, lab: AzureLab) -> AzureLab:
        return ProberLab(lab.cloud)
