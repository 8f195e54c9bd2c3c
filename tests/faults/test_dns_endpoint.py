# SPDX-FileCopyrightText: The modelfleet maintainers
# SPDX-License-Identifier: GPL-3.0-or-later
"""The playbooks on the real fleet with a DNS record as the endpoint: a client finds the clusters by a caching resolver.

HAProxy, the fleet's own endpoint, is not asked and not changed.
"""

from __future__ import annotations

import json
import random
import shutil
import socket
import socketserver
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from _fleet import AWS, CLUSTERS, Fleet, docker, node, paused

pytest.importorskip("dns", reason="dnspython is not installed")
sys.path.append(str(Path(__file__).resolve().parents[1]))

from balancers.dns_lab import RECORD, DNSLab

pytestmark = [
    pytest.mark.slow,  # some two and a half minutes
    pytest.mark.skipif(not shutil.which("named"), reason="named is not installed (Debian's bind9)"),
]

TTL = 2


class Client(socketserver.ThreadingTCPServer):
    """A port of 127.0.0.1 at which each connection goes where the resolver says at that moment."""

    allow_reuse_address = True
    daemon_threads = True

    def __init__(self, lab: DNSLab) -> None:
        self.lab = lab
        super().__init__(("127.0.0.1", 0), Relay)


class Relay(socketserver.BaseRequestHandler):
    """One connection."""

    server: Client

    def handle(self) -> None:
        """Carry bytes both ways until one side ends."""
        address = random.choice(sorted(self.server.lab.ask("resolver")))
        with socket.create_connection((address, 80), 1) as cluster:
            cluster.settimeout(10)
            back = threading.Thread(target=carry, args=(cluster, self.request))
            back.start()
            carry(self.request, cluster)
            back.join()


def carry(source: socket.socket, target: socket.socket) -> None:
    """Carry bytes until there are no more."""
    try:
        while data := source.recv(65536):
            target.sendall(data)
        target.shutdown(socket.SHUT_WR)
    except OSError:
        pass


class DNSFleet:
    """The fleet behind a record."""

    def __init__(self, fleet: Fleet, lab: DNSLab, port: int) -> None:
        self.fleet, self.lab = fleet, lab
        self.addresses = {
            cluster: docker("inspect", "--format", "{{.NetworkSettings.Networks.kind.IPAddress}}", node(cluster))
            for cluster in CLUSTERS
        }
        access = lab.params(rfc2136={"ttl": TTL})["rfc2136"]
        self.variables = {
            "serving_endpoint": {
                "name": "dns",
                "balancer": "rfc2136",
                "url": f"http://127.0.0.1:{port}",
                "rfc2136": access,
            },
            "dns_addresses": self.addresses,
            "cluster_edge_address": "{{ dns_addresses[inventory_hostname] }}",
            # No tries by time: no request passes through DNS.
            "global_endpoint_models": "{{ serving_models | modelfleet.serving.pick('name', 'golden') }}",
        }

    def run(self, playbook: str, *more: str, code: int | None = 0, **variables: Any) -> str:
        """Run a playbook to its end."""
        return self.fleet.run(playbook, *more, code=code, **{**self.variables, **variables})

    def published(self, server: str = "secondary") -> list[str]:
        """Name the clusters whose addresses a name server gives."""
        known = {address: cluster for cluster, address in self.addresses.items()}
        return sorted(known[address] for address in self.lab.ask(server))


@pytest.fixture
def dns_fleet(fleet: Fleet, tmp_path: Path) -> Iterator[DNSFleet]:
    folder = tmp_path / "dns"
    folder.mkdir()
    lab = DNSLab(folder)
    client = Client(lab)
    threading.Thread(target=client.serve_forever, daemon=True).start()
    try:
        yield DNSFleet(fleet, lab, client.server_address[1])
    finally:
        client.shutdown()
        client.server_close()
        lab.close()
        for cluster in CLUSTERS:
            kubectl = ("kubectl", "--kubeconfig", "/etc/kubernetes/admin.conf", "--namespace", "default")
            docker("exec", node(cluster), *kubectl, "delete", "lease", "modelfleet-dns", "--ignore-not-found")


def test_the_playbooks_run_over_dns(dns_fleet: DNSFleet) -> None:
    others = sorted({*CLUSTERS} - {AWS})
    refused = dns_fleet.run("endpoint", code=None, global_endpoint_models="{{ serving_models }}")
    assert "half_plus_two has a timeout" in refused
    assert "changed=1" in dns_fleet.run("endpoint")
    assert "changed=0" in dns_fleet.run("endpoint")
    assert dns_fleet.published() == sorted(CLUSTERS)

    text = dns_fleet.run("failover", "--check", failover_from="aws")
    assert "changed=1" in text
    assert dns_fleet.published() == sorted(CLUSTERS)
    text = dns_fleet.run("failover", failover_from="aws")
    assert "drained  the balancer asks no cluster" in text
    assert dns_fleet.published() == others
    # A later run of the whole definition leaves it drained.
    assert "changed=0" in dns_fleet.run("endpoint")
    assert "asks no cluster" in dns_fleet.run("status", serving_status_page="")
    dns_fleet.run("failback")
    assert dns_fleet.published() == sorted(CLUSTERS)
    assert [run["outcome"] for run in dns_fleet.fleet.runs()] == ["completed", "completed"]

    # A cluster that is down is found by the controller alone.
    with paused(AWS):
        began = time.monotonic()
        dns_fleet.run("failover")
        while AWS in dns_fleet.published("resolver"):
            time.sleep(0.01)
        assert time.monotonic() - began < 60
        assert dns_fleet.published() == others
    dns_fleet.run("failback")
    assert dns_fleet.published() == sorted(CLUSTERS)

    reports = dns_fleet.fleet.folder / "drills"
    dns_fleet.run("drill", drill_from=AWS, drill_seconds=4, drill_name="dns", drill_reports=str(reports))
    report = json.loads((reports / "dns.json").read_text())
    assert report["passed"]
    assert dns_fleet.published() == sorted(CLUSTERS)

    assert "changed=1" in dns_fleet.run("endpoint", global_endpoint_state="absent")
    assert dns_fleet.lab.ask("secondary", RECORD) == {}
