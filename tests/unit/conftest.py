# SPDX-FileCopyrightText: The modelfleet maintainers
# SPDX-License-Identifier: GPL-3.0-or-later
"""The API servers of the tests: a small one in this process, and the real one where its binary has been built."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import _kubernetes
import pytest
from _api_server import ApiServer
from _cluster import Cluster, fresh_cluster
from _edge import Edge

_SHARED = "MODELFLEET_UNIT_KUBERNETES"


def pytest_configure(config: pytest.Config) -> None:
    """Make a folder for the one real API server that all workers share."""
    if not hasattr(config, "workerinput"):
        os.environ[_SHARED] = tempfile.mkdtemp(prefix="kubernetes-")


def pytest_unconfigure(config: pytest.Config) -> None:
    """Stop the real API server, if a test started it."""
    if not hasattr(config, "workerinput"):
        folder = Path(os.environ[_SHARED])
        _kubernetes.stop(folder)
        shutil.rmtree(folder)


@pytest.hookimpl(tryfirst=True)  # before pytest leaves out what -m does not ask for
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark the tests on the real API server and run them last: it starts while the others run."""
    for item in filter(_needs_kubernetes, items):
        item.add_marker("kubernetes")
    items.sort(key=_needs_kubernetes)


def pytest_collection_finish(session: pytest.Session) -> None:
    """Start the real API server where a test will ask for it."""
    if not session.config.option.collectonly and any(map(_needs_kubernetes, session.items)):
        _kubernetes.start(Path(os.environ[_SHARED]))


def _needs_kubernetes(item: pytest.Item) -> bool:
    parameters = getattr(getattr(item, "callspec", None), "params", {})
    return "kubernetes" in getattr(item, "fixturenames", ()) or parameters.get("cluster") == "real"


@pytest.fixture(scope="session")
def kubernetes() -> _kubernetes.Kubernetes:
    """A real API server with etcd, without nodes or controllers."""
    server = _kubernetes.wait_ready(Path(os.environ[_SHARED]))
    if server is None:
        pytest.skip("no binary of kube-apiserver and etcd: `make fleet` builds one")
    return server


@pytest.fixture
def api(tmp_path: Path) -> Iterator[ApiServer]:
    """The small API server, for one test."""
    volume = tmp_path / "volume"
    volume.mkdir()
    with ApiServer(volume) as server:
        yield server


@pytest.fixture
def edge() -> Iterator[Edge]:
    """A cluster's edge, for one test."""
    with Edge() as edge:
        yield edge


@pytest.fixture(params=["small", "real"])
def cluster(request: pytest.FixtureRequest) -> Iterator[Cluster]:
    """A namespace on the small API server, and in a second run of the test on the real one."""
    if request.param == "real":
        params = request.getfixturevalue("kubernetes").connection
    else:
        params = {"host": request.getfixturevalue("api").url}
    with fresh_cluster(params) as cluster:
        yield cluster


@pytest.fixture
def real(kubernetes: _kubernetes.Kubernetes) -> Iterator[Cluster]:
    """A namespace on the real API server, for what the small one does not do."""
    with fresh_cluster(kubernetes.connection) as cluster:
        yield cluster


@pytest.fixture(autouse=True)
def _no_cluster_of_the_user(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Keep the kubeconfig and the variables of whoever runs the tests out of them."""
    for name in list(os.environ):
        if name.startswith("K8S_AUTH_"):
            monkeypatch.delenv(name)
    monkeypatch.setenv("KUBECONFIG", str(tmp_path / "no-kubeconfig"))
