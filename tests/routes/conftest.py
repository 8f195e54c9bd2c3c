# SPDX-FileCopyrightText: The modelfleet maintainers
# SPDX-License-Identifier: GPL-3.0-or-later
"""A real edge with servers behind it, and an API server that knows OpenShift's Route."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "unit"))

from edge import CLUSTER, HOME, Certificate, Edge, Json, servers

NAMESPACE = f"route-{os.getpid()}"
DELTA = Certificate.of("delta.internal")


@pytest.fixture(scope="session")
def namespace() -> Iterator[tuple[Json, str]]:
    """A new namespace with the servers; gives the connection too."""
    kubeconfig = HOME / "kubeconfig"
    if not kubeconfig.exists():
        pytest.skip("no local fleet: `make fleet` makes one")
    image = (HOME / "server_image").read_text().strip()
    if not image.startswith("modelfleet/prediction-server"):
        pytest.skip(f"the image {image} has no Python to run the tests' servers by")
    connection = {"kubeconfig": str(kubeconfig), "context": f"kind-{CLUSTER}"}
    edge = Edge(connection, NAMESPACE, "", {})
    space = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": NAMESPACE}}
    try:
        made = edge.apply("servers", space, *servers(image, DELTA), wait_timeout=120)
        assert not made.get("failed"), made
        yield connection, NAMESPACE
    finally:
        edge.apply("servers", wait=False)


@pytest.fixture(params=["ingress", "gateway"])
def edge(request: pytest.FixtureRequest, namespace: tuple[Json, str]) -> Edge:
    """The edge by each kind of route that the fleet's controller serves."""
    more = {"gateway": {"name": "edge", "namespace": "traefik"}} if request.param == "gateway" else {}
    return Edge(*namespace, request.param, more)


@pytest.fixture
def delta() -> Certificate:
    """The certificate of the server that has TLS for gRPC."""
    return DELTA
