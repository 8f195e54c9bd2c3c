# SPDX-FileCopyrightText: The modelfleet maintainers
# SPDX-License-Identifier: GPL-3.0-or-later
"""A cluster of the local fleet, with sources that its pods can read."""

from __future__ import annotations

import contextlib
import itertools
import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from _lab import CLUSTER, HOME, Lab
from _web import Web

from ansible_collections.modelfleet.serving.plugins.module_utils._cluster.session import connect
from ansible_collections.modelfleet.serving.plugins.module_utils._errors import ApiError

_numbers = itertools.count()


@pytest.fixture
def lab() -> Iterator[Lab]:
    """A new namespace; it is removed afterwards, without waiting for it."""
    kubeconfig = HOME / "kubeconfig"
    if not kubeconfig.exists():
        pytest.skip("no local fleet: `make fleet` makes one")
    connection = {"kubeconfig": str(kubeconfig), "context": f"kind-{CLUSTER}"}
    with connect({**connection, "request_timeout": 10.0}) as session:
        image = (HOME / "server_image").read_text().strip()
        lab = Lab(session, connection, f"store-{os.getpid()}-{next(_numbers)}", image)
        labels = {"pod-security.kubernetes.io/enforce": "restricted"}
        space = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": lab.namespace, "labels": labels}}
        session.request("POST", "/api/v1/namespaces", body=space)
        yield lab
        with contextlib.suppress(ApiError):  # a volume of the test's may have had to go with it
            session.request("DELETE", f"/api/v1/namespaces/{lab.namespace}", body={})


@pytest.fixture
def web(tmp_path: Path) -> Iterator[Web]:
    """A web server whose folder is ``tmp_path / "web"``."""
    (tmp_path / "web").mkdir()
    with Web(tmp_path / "web") as server:
        yield server
