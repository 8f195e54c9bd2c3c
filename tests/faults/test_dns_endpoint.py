# SPDX-FileCopyrightText: The modelfleet maintainers
# SPDX-License-Identifier: GPL-3.0-or-later
"""The playbooks on the real fleet with a DNS record as the endpoint: clients ask a caching resolver."""

from __future__ import annotations

import random
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from _behind import Behind, client, run_all
from _fleet import AWS, Fleet, cluster_addresses

pytest.importorskip("dns", reason="dnspython is not installed")
sys.path.append(str(Path(__file__).resolve().parents[1]))

from balancers.dns_lab import RECORD, DNSLab

pytestmark = [
    pytest.mark.slow,  # some two and a half minutes
    pytest.mark.skipif(not shutil.which("named"), reason="named is not installed (Debian's bind9)"),
]

TTL = 2


@pytest.fixture
def lab(tmp_path: Path) -> Iterator[DNSLab]:
    folder = tmp_path / "dns"
    folder.mkdir()
    lab = DNSLab(folder)
    try:
        yield lab
    finally:
        lab.close()


def test_the_playbooks_run_over_dns(fleet: Fleet, lab: DNSLab) -> None:
    addresses = cluster_addresses()
    known = {address: cluster for cluster, address in addresses.items()}

    def published(server: str = "secondary") -> list[str]:
        return sorted(known[address] for address in lab.ask(server))

    with client(lambda: (random.choice(sorted(lab.ask("resolver"))), 80)) as url:
        access = lab.params(rfc2136={"ttl": TTL})["rfc2136"]
        behind = Behind(fleet, "dns", "rfc2136", access, addresses, url, published)
        try:
            refused = behind.run("endpoint", code=None, global_endpoint_models="{{ serving_models }}")
            assert "half_plus_two has a timeout" in refused
            run_all(behind, lambda _down: None, lambda: AWS not in published("resolver"))
            assert "changed=1" in behind.run("endpoint", global_endpoint_state="absent")
            assert lab.ask("secondary", RECORD) == {}
        finally:
            behind.forget()
