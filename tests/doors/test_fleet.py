# SPDX-FileCopyrightText: The modelfleet maintainers
# SPDX-License-Identifier: GPL-3.0-or-later
"""A fleet of many hosts at once: every strategy, with few and many forks, keeps hosts apart."""

from __future__ import annotations

from pathlib import Path

import pytest
from _api_server import ApiServer
from test_session import closed_port

from .lab import LOCAL, environment, other_python, play


@pytest.mark.parametrize(("forks", "clusters"), [(1, 20), (50, 60)])
@pytest.mark.parametrize("strategy", ["linear", "free"])
def test_no_host_sees_another(tmp_path: Path, strategy: str, forks: int, clusters: int) -> None:
    names = [f"cluster-{number:02}" for number in range(clusters)]
    modules, gone = names[10:12], names[15]
    environment(tmp_path)
    python = other_python(tmp_path)
    tasks = [
        {
            "name": "create",
            "modelfleet.serving.serving_namespace": {
                "host": "{{ api }}",
                "api_key": "{{ token }}",
                "name": "{{ inventory_hostname }}",
            },
        },
        {
            "name": "read",
            "modelfleet.serving.model_server_info": {"namespace": "{{ inventory_hostname }}"},
            "environment": {"K8S_AUTH_HOST": "{{ api }}", "K8S_AUTH_API_KEY": "{{ token }}"},
        },
    ]
    plays = [{"hosts": "all", "gather_facts": False, "strategy": strategy, "tasks": tasks}]
    with ApiServer(tmp_path) as api:
        hosts = {name: {**LOCAL, "api": api.url, "token": f"token-of-{name}"} for name in names}
        hosts[gone]["api"] = f"http://127.0.0.1:{closed_port()}"
        for name in modules:
            hosts[name]["ansible_python_interpreter"] = python
        played = play(tmp_path, plays, hosts, "--forks", str(forks))
        requests = list(api.requests)
        assert {made["metadata"]["name"] for made in api.find("namespaces")} == set(names) - {gone}

    assert played.code == 4, "some host is unreachable"
    assert played.results[gone, "create"]["ended"] == "unreachable"
    wanted = {(name, task["name"]) for name in names if name != gone for task in tasks}
    assert played.results.keys() == wanted | {(gone, "create")}
    for name in set(names) - {gone}:
        created, read = (played.results[name, task["name"]] for task in tasks)
        assert created["changed"] is True
        assert {made["namespace"] or made["name"] for made in created["objects"]} == {name}
        assert read["servers"] == []
    assert len({request.headers["authorization"] for request in requests}) == len(names) - 1
    for request in requests:
        name = request.path.split("/namespaces/")[1].split("/")[0]
        assert request.headers["authorization"] == f"Bearer token-of-{name}"
    assert played.left() == []
