# SPDX-FileCopyrightText: The modelfleet maintainers
# SPDX-License-Identifier: GPL-3.0-or-later
"""The fleet behind another endpoint than its own HAProxy, which is not asked and not changed."""

from __future__ import annotations

import json
import socket
import socketserver
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from _fleet import AWS, CLUSTERS, Fleet, docker, node, paused


class Client(socketserver.ThreadingTCPServer):
    """A port of 127.0.0.1 at which each connection goes where the endpoint says at that moment.

    :param choose: gives host and port of a cluster's edge.
    """

    allow_reuse_address = True
    daemon_threads = True

    def __init__(self, choose: Callable[[], tuple[str, int]]) -> None:
        self.choose = choose
        super().__init__(("127.0.0.1", 0), Relay)


class Relay(socketserver.BaseRequestHandler):
    """One connection."""

    server: Client

    def handle(self) -> None:
        """Carry bytes both ways until one side ends."""
        with socket.create_connection(self.server.choose(), 1) as cluster:
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


class Behind:
    """The fleet behind an endpoint.

    :param name: of the endpoint.
    :param addresses: of the clusters, as the balancer knows them.
    :param options: the balancer's own.
    :param published: names the clusters to which clients are sent.
    """

    def __init__(
        self,
        fleet: Fleet,
        name: str,
        balancer: str,
        options: dict[str, Any],
        addresses: dict[str, str],
        url: str,
        published: Callable[[], list[str]],
    ) -> None:
        self.fleet, self.name, self.published = fleet, name, published
        self.variables = {
            "serving_endpoint": {"name": name, "balancer": balancer, "url": url, balancer: options},
            "behind_addresses": addresses,
            "cluster_edge_address": "{{ behind_addresses[inventory_hostname] }}",
            # No tries by time: through most of these no request passes.
            "global_endpoint_models": "{{ serving_models | modelfleet.serving.pick('name', 'golden') }}",
        }

    def run(self, playbook: str, *more: str, code: int | None = 0, **variables: Any) -> str:
        """Run a playbook to its end."""
        return self.fleet.run(playbook, *more, code=code, **{**self.variables, **variables})

    def forget(self) -> None:
        """Remove the locks of this endpoint's name."""
        for cluster in CLUSTERS:
            kubectl = ("kubectl", "--kubeconfig", "/etc/kubernetes/admin.conf", "--namespace", "default")
            docker("exec", node(cluster), *kubectl, "delete", "lease", f"modelfleet-{self.name}", "--ignore-not-found")


@contextmanager
def client(choose: Callable[[], tuple[str, int]]) -> Iterator[str]:
    """Start a :class:`Client`; gives its URL."""
    server = Client(choose)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        server.server_close()


def run_all(behind: Behind, down: Callable[[bool], None], left: Callable[[], bool]) -> None:
    """Run the playbooks that move traffic, one after another, and assert where clients are sent.

    :param down: called when a cluster goes down, and when it comes back.
    :param left: tells whether clients are no longer sent to that cluster.
    """
    others = sorted({*CLUSTERS} - {AWS})
    assert "changed=1" in behind.run("endpoint")
    assert "changed=0" in behind.run("endpoint")
    assert behind.published() == sorted(CLUSTERS)

    assert "changed=1" in behind.run("failover", "--check", failover_from="aws")
    assert behind.published() == sorted(CLUSTERS)
    behind.run("failover", failover_from="aws")
    assert behind.published() == others
    # A later run of the whole definition leaves it drained.
    assert "changed=0" in behind.run("endpoint")
    assert "drained" in behind.run("status", serving_status_page="")
    behind.run("failback")
    assert behind.published() == sorted(CLUSTERS)
    assert [run["outcome"] for run in behind.fleet.runs()] == ["completed", "completed"]

    # A cluster that is down.
    with paused(AWS):
        down(True)
        began = time.monotonic()
        behind.run("failover")
        while not left():
            time.sleep(0.01)
        assert time.monotonic() - began < 60
        assert behind.published() == others
    down(False)
    behind.run("failback")
    assert behind.published() == sorted(CLUSTERS)

    reports = behind.fleet.folder / "drills"
    behind.run("drill", drill_from=AWS, drill_seconds=4, drill_name=behind.name, drill_reports=str(reports))
    assert json.loads((reports / f"{behind.name}.json").read_text())["passed"]
    assert behind.published() == sorted(CLUSTERS)
