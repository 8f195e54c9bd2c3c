# SPDX-FileCopyrightText: The modelfleet maintainers
# SPDX-License-Identifier: GPL-3.0-or-later
"""The playbooks on the real fleet with each cloud's balancer as the endpoint, by its stand-in.

A client is sent to the real clusters as the cloud documents that it would be. `make faults` runs it in the environment
of the clouds' SDKs.
"""

from __future__ import annotations

import importlib
import random
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from _behind import Behind, client, run_all
from _fleet import AWS, CLUSTERS, Fleet

pytest.importorskip("moto", reason="the clouds' SDKs are not installed")
sys.path.append(str(Path(__file__).resolve().parents[1]))

from balancers.cloud import CloudLab

pytestmark = pytest.mark.slow  # some two minutes each

# Where this machine reaches the clusters' edges, as inventories/local says.
PORTS = {"gcp-europe-west1": 8081, "aws-eu-west-1": 8082, "azure-westeurope": 8083}
# The file of the stand-in, the names in it, and the settings of the balancer.
LABS: dict[str, tuple[str, str, str, dict[str, Any]]] = {
    "cloudflare": ("cloudflare", "Cloudflare", "CloudflareLab", {"health_check_interval": 15}),
    "google_cloud": ("google", "Google", "InternetLab", {}),
    "route53": ("aws", "Aws", "AwsLab", {"health_check_path": "/healthz"}),
    "traffic_manager": ("azure", "Azure", "AzureLab", {"health_check_path": "/healthz"}),
}


@pytest.fixture(params=LABS)
def lab(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[CloudLab]:
    file, cloud, lab, _settings = LABS[request.param]
    module = importlib.import_module(f"balancers.{file}")
    made = getattr(module, cloud)()
    if hasattr(made, "install"):
        made.install(monkeypatch)
    try:
        yield getattr(module, lab)(made)
    finally:
        made.close()


def test_the_playbooks_run_over_a_cloud(fleet: Fleet, lab: CloudLab) -> None:
    addresses = {cluster: f"{cluster}.edge.example.net" for cluster in CLUSTERS}
    known = {address: cluster for cluster, address in addresses.items()}

    def published() -> list[str]:
        return sorted(known[address] for address in lab.cloud.shares())

    def edge() -> tuple[str, int]:
        shares = lab.cloud.shares()
        [address] = random.choices(list(shares), list(shares.values()))
        return "127.0.0.1", PORTS[known[address]]

    def down(is_down: bool) -> None:
        lab.cloud.sick = {addresses[AWS]} if is_down else set()

    settings = LABS[lab.balancer][3]
    with client(edge) as url:
        behind = Behind(
            fleet, lab.balancer.replace("_", "-"), lab.balancer, {**lab.access(), **settings}, addresses, url, published
        )
        try:
            run_all(behind, down, lambda: AWS not in published())
            lab.cloud.leaving = True
            assert "changed=1" in behind.run("endpoint", global_endpoint_state="absent")
        finally:
            behind.forget()
    assert lab.cloud.problems == []
    assert lab.cloud.ours() == []
