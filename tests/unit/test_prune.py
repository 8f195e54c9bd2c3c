# SPDX-FileCopyrightText: The modelfleet maintainers
# SPDX-License-Identifier: GPL-3.0-or-later
"""What is not in the catalogue any more leaves, routes before servers, and nothing else."""

from __future__ import annotations

from typing import Any

import pytest
from _api_server import ApiServer
from _doors import run_module

Json = dict[str, Any]


@pytest.fixture
def space(api: ApiServer) -> ApiServer:
    """Give a namespace with two servers, each with a route, and with a bundle and a ConfigMap of somebody's."""
    api.put("namespaces", {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "serving"}})
    given = {"host": api.url, "namespace": "serving", "wait": False}
    for model, server in (("a_1", "one"), ("b", "two")):
        assert run_module("image_server", {**given, "name": server, "image": "team/i:1", "model": model})["changed"]
        route = {**given, "model": model, "server": server, "grpc": False}
        assert run_module("model_route", route)["changed"]
    own = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "own"}, "data": {"a": "b"}}
    assert run_module("bundle", {**given, "name": "server-x", "objects": [own]})["changed"]
    # It looks like a record of ours and is none.
    labels = {"app.kubernetes.io/managed-by": "modelfleet"}
    named = {"name": "applyset-server-three", "namespace": "serving", "labels": labels}
    api.put("configmaps", {"apiVersion": "v1", "kind": "ConfigMap", "metadata": named})
    api.requests.clear()
    return api


def prune(api: ApiServer, models: list[str], servers: list[str], *, check: bool = False) -> Json:
    given = {"host": api.url, "namespace": "serving", "models": models, "servers": servers, "drain_seconds": 0}
    return run_module("serving_prune", given, check=check)


def test_routes_leave_before_servers_and_the_rest_stays(space: ApiServer) -> None:
    before = set(space.objects)
    foretold = prune(space, ["a_1"], ["one"], check=True)
    assert space.writes() == []
    done = prune(space, ["a_1"], ["one"])
    assert foretold["changed"] is done["changed"] is True
    assert foretold["servers"] == done["servers"] == ["two"]
    assert foretold["objects"] == done["objects"]
    deleted = [request.path.rsplit("/", 2)[1:] for request in space.writes()]
    assert deleted[0] == ["ingresses", "model-b"]
    assert deleted.index(["configmaps", "applyset-route-model-b"]) < deleted.index(["deployments", "two"])
    gone = {(plural, name) for _api, plural, _namespace, name in before - set(space.objects)}
    assert {("ingresses", "model-b"), ("deployments", "two"), ("services", "two")} <= gone
    assert {name for _plural, name in gone} <= {"model-b", "two", "applyset-route-model-b", "applyset-server-two"}
    again = prune(space, ["a_1"], ["one"])
    assert (again["changed"], again["servers"], again["objects"]) == (False, [], [])


def test_a_model_that_has_moved_takes_its_server_with_it(space: ApiServer) -> None:
    assert prune(space, ["a_1", "b"], ["one"])["servers"] == ["two"]
    assert {entry["metadata"]["name"] for entry in space.find("ingresses")} == {"model-a-1-1426", "model-b"}
