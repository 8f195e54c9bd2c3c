# SPDX-FileCopyrightText: The modelfleet maintainers
# SPDX-License-Identifier: GPL-3.0-or-later
"""One feature, two doors, one result: the same tasks inside the controller, and as modules.

One playbook runs every task on three hosts, side by side:

- ``here``: by the action plugin, in the controller's own process.
- ``there``: as a module on this machine, by another interpreter.
- ``bastion``: as a module behind a real OpenSSH server.

Each host has an API server of its own, so that each finds what its own earlier tasks left.
"""

from __future__ import annotations

import copy
import datetime
import json
import os
import sys
import threading
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest
import yaml
from _api_server import ApiServer
from _certificates import make_certificates
from test_session import closed_port, inline_kubeconfig

from ansible_collections.modelfleet.serving.plugins.module_utils._cluster.arguments import secrets

from .lab import LOCAL, SSHD, Json, Played, environment, other_python, play, private, ssh_server

GOLDEN = {"request": {"instances": [1.0, 2.0, 5.0]}, "response": {"predictions": [2.5, 3.0, 4.5]}}
TOKEN = "token-that-nobody-may-see"
SECRET = "another-that-nobody-may-see"
DOORS = {"here": "action", "there": "module"} | ({"bastion": "module"} if SSHD else {})
# What differs by nature: times, processes, and where Ansible ran something.
BY_NATURE = {"seconds", "resourceVersion", "process", "door", "prefix", "exception"}


class _HalfPlusTwo(BaseHTTPRequestHandler):
    """What half_plus_two answers."""

    def do_POST(self) -> None:
        request = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        right = self.path == "/v1/models/half_plus_two:predict"
        answer = {"predictions": [x / 2 + 2 for x in request["instances"]]} if right else {"error": "no such model"}
        data = json.dumps(answer).encode()
        self.send_response(200 if right else 404)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *_: object) -> None:
        """Stay silent."""


@dataclass
class Task:
    """One task, by whichever door.

    :param end: how it has to end.
    """

    module: str
    arguments: Json
    end: str = "ok"
    keywords: Json = field(default_factory=dict)

    def written(self, name: str) -> Json:
        """Give the task as it stands in the playbook."""
        kept_going = {"ignore_errors": True, "ignore_unreachable": True}
        return {"name": name, f"modelfleet.{self.module}": self.arguments, **kept_going, **self.keywords}


def tasks(model_server: str, kubeconfig: Json) -> dict[str, Task]:
    """Give the tasks; ``api`` is a variable of each host."""
    probe = {"models": [{"name": "half_plus_two", "golden": [GOLDEN]}], "url": model_server}
    wrong = {**probe, "models": [{"name": "half_plus_two", "golden": [{**GOLDEN, "response": {"predictions": []}}]}]}
    cluster = {"host": "{{ api }}", "api_key": TOKEN}
    space = {**cluster, "name": "serving", "quota": {"pods": 20}}
    info = {"namespace": "serving"}
    config = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "c"}, "data": {"text": "ü"}}
    home = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "more"}}
    bundle = {**cluster, "name": "more", "namespace": "more", "objects": [config, home], "wait": False}
    inside = {**cluster, "namespace": "more", "wait": False}
    forest = {**inside, "name": "forest", "image": "team/forest:1", "model": "forest"}
    server = {**inside, "name": "server", "models": [{"name": "m", "versions": [1]}], "store": "s", "retain": ["n"]}
    route = {**inside, "model": "forest", "server": "forest", "moving": ["m"]}
    prober = {**inside, "models": [{"name": "m", "server": "server"}]}
    prune = {**inside, "models": ["m"], "servers": ["server"], "drain_seconds": 0}
    checked = {"check_mode": True, "diff": True}
    diff = {"diff": True}
    by_environment = {"K8S_AUTH_HOST": "{{ api }}", "K8S_AUTH_API_KEY": TOKEN}
    values = {"when": datetime.date(2026, 1, 2), 1: [2, 3.5, None, True], "text": "ü – {{ 1 + 1 }}"}
    group = {"group/modelfleet.serving.cluster": cluster}
    password = {
        "host": "{{ api }}",
        "username": "me",
        "password": SECRET,
        "impersonate_user": "joe",
        "impersonate_groups": "a,b",
        "proxy": f"http://me:{SECRET}@127.0.0.1:1",
        "no_proxy": "127.0.0.0/8",
        "proxy_headers": {"basic_auth": f"me:{SECRET}", "proxy_basic_auth": f"me:{SECRET}", "user_agent": "fleet/1.0"},
    }
    table = {
        # What a feature returns.
        "probe": Task("serving.model_probe", probe),
        "probe in check mode": Task("serving.model_probe", probe, keywords={"check_mode": True}),
        "wrong answer": Task("serving.model_probe", wrong, "failed"),
        "wrong answer, let pass": Task("serving.model_probe", {**wrong, "fail_on_wrong": False}),
        "no such model": Task(
            "serving.model_probe", {**probe, "models": [{"name": "other", "golden": [GOLDEN]}]}, "failed"
        ),
        "create, checked": Task("serving.serving_namespace", space, "changed", checked),
        "create": Task("serving.serving_namespace", space, "changed", diff),
        "create again": Task("serving.serving_namespace", space, "ok", diff),
        "change": Task("serving.serving_namespace", {**space, "labels": {"team": "x"}}, "changed", diff),
        "change without diff": Task(
            "serving.serving_namespace", {**space, "labels": {"team": "y"}}, "changed", {"diff": False}
        ),
        "delete, checked": Task("serving.serving_namespace", {**space, "state": "absent"}, "changed", checked),
        "delete": Task("serving.serving_namespace", {**space, "state": "absent"}, "changed", diff),
        "refused": Task("serving.serving_namespace", {**space, "name": "forbidden"}, "failed"),
        "unreachable": Task(
            "serving.serving_namespace", {**space, "host": f"http://127.0.0.1:{closed_port()}"}, "unreachable"
        ),
        "bundle, checked": Task("serving.bundle", bundle, "changed", checked),
        "bundle": Task("serving.bundle", bundle, "changed", diff),
        "bundle again": Task("serving.bundle", bundle, "ok", diff),
        "bundle without objects": Task("serving.bundle", {**bundle, "objects": []}, "failed"),
        "server, checked": Task("serving.model_server", server, "changed", checked),
        "server without a store": Task("serving.model_server", server, "failed"),
        "image": Task("serving.image_server", forest, "changed", diff),
        "image again": Task("serving.image_server", forest, "ok", diff),
        "scale": Task(
            "serving.server_scale", {**inside, "name": "forest", "replicas": 4, "reason": "a test"}, "changed", diff
        ),
        "scale back": Task("serving.server_scale", {**inside, "name": "forest", "state": "restored"}, "changed", diff),
        "route": Task("serving.model_route", route, "changed", diff),
        "route to no server": Task("serving.model_route", {**route, "server": None}, "failed"),
        "routes": Task("serving.model_route_info", {**cluster, "namespace": "more"}),
        "servers": Task("serving.model_server_info", {**cluster, "namespace": "more"}),
        "stores": Task("serving.model_store_info", {**cluster, "namespace": "more"}),
        "prober": Task("serving.serving_prober", prober, "changed", diff),
        "prober of nothing": Task("serving.serving_prober", {**prober, "models": None}, "failed"),
        "prober, removed": Task("serving.serving_prober", {**prober, "state": "absent"}, "changed", diff),
        "prune, checked": Task("serving.serving_prune", prune, "changed", checked),
        "prune": Task("serving.serving_prune", prune, "changed", diff),
        "prune again": Task("serving.serving_prune", prune, "ok", diff),
        "prune all": Task("serving.serving_prune", {**prune, "servers": []}, "failed"),
        "bundle, removed": Task("serving.bundle", {**bundle, "state": "absent"}, "changed", diff),
        "values": Task("doors.echo", {"value": values}),
        "changed": Task("doors.echo", {"value": 1, "end": "changed"}, "changed"),
        "failed": Task("doors.echo", {"end": "failed", "secret": SECRET}, "failed"),
        "unreachable with values": Task("doors.echo", {"end": "unreachable", "value": values}, "unreachable"),
        "crash": Task("doors.echo", {"end": "crash"}, "failed"),
        # What Ansible says of arguments.
        "bad URL": Task("serving.model_probe", {**probe, "url": "ftp://nowhere"}, "failed"),
        "missing argument": Task("serving.model_probe", {"url": model_server}, "failed"),
        "unknown argument": Task("serving.model_probe", {**probe, "colour": "red"}, "failed"),
        "excluding arguments": Task("serving.model_probe", {**probe, "server": "a", "namespace": "b"}, "failed"),
        "string for a list": Task("serving.model_probe", {**probe, "models": "half_plus_two"}, "failed"),
        "bad name": Task("serving.serving_namespace", {**space, "name": "../serving"}, "failed"),
        "bad choice": Task("serving.serving_namespace", {**space, "state": "gone"}, "failed"),
        "argument that another requires": Task("doors.echo", {"end": "changed"}, "failed"),
        "warnings": Task("doors.echo", {"warnings": ["one", "two", "one"]}),
        "warnings of a failure": Task("doors.echo", {"warnings": ["one"], "end": "failed"}, "failed"),
        "deprecated alias": Task("doors.echo", {"length": 1}),
        "deprecated argument": Task("doors.echo", {"colour": "red"}),
        "argument and its alias": Task("doors.echo", {"size": 1, "width": 2}),
        # What must not be shown.
        "secret": Task("doors.echo", {"secret": SECRET, "value": {"a": [f"b {SECRET}"]}, "warnings": [SECRET]}),
        "secret that reads as a truth value": Task("doors.echo", {"secret": "True", "value": True}),
        "secret in a bad argument": Task("doors.echo", {"secret": SECRET, "end": SECRET}, "failed"),
        "secret with a line break": Task(
            "serving.serving_namespace", {**space, "api_key": f"{TOKEN}\n{TOKEN}"}, "failed"
        ),
        "no_log": Task("doors.echo", {"value": SECRET, "progress": [SECRET]}, keywords={"no_log": True}),
        "inline certificates": Task("serving.model_server_info", {**info, "kubeconfig": kubeconfig}),
        "inline certificates, refused": Task(
            "serving.model_server_info", {"namespace": "a/b", "kubeconfig": kubeconfig}, "failed"
        ),
        "inline certificates, wrong argument": Task(
            "serving.model_server_info", {"wrong": 1, "kubeconfig": kubeconfig}, "failed"
        ),
        "inline certificates, shown": Task(
            "doors.echo", {"kubeconfig": kubeconfig, "value": kubeconfig, "end": "failed"}, "failed"
        ),
        "text of a kubeconfig": Task("serving.model_server_info", {**info, "kubeconfig": yaml.safe_dump(kubeconfig)}),
        "text of a kubeconfig, wrong argument": Task(
            "serving.model_server_info", {"wrong": 1, "kubeconfig": yaml.safe_dump(kubeconfig)}, "failed"
        ),
        "passwords": Task("serving.model_server_info", {**info, **password}),
        "passwords, refused": Task("serving.model_server_info", {"namespace": "a/b", **password}, "failed"),
        "passwords, wrong argument": Task("serving.model_server_info", {"wrong": 1, **password}, "failed"),
        # Where arguments come from.
        "environment": Task("serving.model_server_info", info, keywords={"environment": by_environment}),
        "environment, and arguments": Task(
            "serving.model_server_info",
            {**info, **cluster, "verify_ssl": True},
            keywords={"environment": {**by_environment, "K8S_AUTH_API_KEY": SECRET, "K8S_AUTH_VERIFY_SSL": False}},
        ),
        "environment with a kubeconfig": Task(
            "serving.model_server_info", info, keywords={"environment": {"KUBECONFIG": "{{ kubeconfig_file }}"}}
        ),
        "environment of each item": Task(
            "doors.echo",
            {"variables": ["FIRST", "SECOND"]},
            keywords={"loop": ["FIRST", "SECOND"], "environment": "{{ {item: 'set'} }}"},
        ),
        "defaults of the group": Task("serving.model_server_info", info, keywords={"module_defaults": group}),
        "templates": Task(
            "doors.echo",
            {"value": "{{ (earlier | default({}))['value'] | default(text) }}", "secret": "{{ text }}"},
            keywords={"vars": {"text": "{{ 'x' * 3 }}"}, "register": "earlier"},
        ),
        "template that fails": Task("doors.echo", {"value": "{{ undefined_variable }}"}, "failed"),
        "loop": Task(
            "doors.echo",
            {"value": "{{ item }}", "end": "{{ 'failed' if item == 2 else 'changed' }}", "warnings": ["of {{ item }}"]},
            "failed",
            {"loop": [1, 2, 3]},
        ),
        # Keywords.
        "async": Task("doors.echo", {}, "failed", {"async": 10, "poll": 1}),
        "timeout": Task("doors.echo", {"progress": ["slow"], "seconds": 4.0}, "failed", {"timeout": 1}),
        "delegated": Task("doors.echo", {"value": "{{ api }}"}, keywords={"delegate_to": "{{ other }}"}),
    }
    if os.geteuid() == 0:  # anybody else would be asked for a password
        become = {"become": True, "become_method": "ansible.builtin.su", "become_user": "root"}
        table["become"] = Task("serving.serving_namespace", {**space, "name": "other"}, "changed", {**become, **diff})
    return table


@dataclass
class Doors:
    """What the playbook left behind, and what it was about."""

    played: Played
    tasks: dict[str, Task]
    apis: dict[str, ApiServer]
    secrets: set[str]


@pytest.fixture(scope="module")
def doors(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Doors]:
    """Run every task by every door, in one playbook: starting Ansible is what takes the time."""
    folder = tmp_path_factory.mktemp("doors")
    environment(folder)
    certificates = make_certificates(folder / "certificates")
    model_server = ThreadingHTTPServer(("127.0.0.1", 0), _HalfPlusTwo)
    threading.Thread(target=model_server.serve_forever, daemon=True).start()
    with ExitStack() as stack:
        bastion = stack.enter_context(ssh_server(folder, private(folder))) if SSHD else {}
        apis = {host: stack.enter_context(ApiServer(folder)) for host in DOORS}
        secure = stack.enter_context(ApiServer(folder, certificates.server_context()))
        for host, api in apis.items():
            api.fail("PATCH", "/namespaces/forbidden", 403, reason="Forbidden", message="you may not", times=99)
            (folder / host).write_text(json.dumps(inline_kubeconfig(api.url, certificates)))
        kubeconfig = inline_kubeconfig(secure.url, certificates)
        ways = {
            # The usual way to say it, which has to be templated before it is compared.
            "here": {**LOCAL, "ansible_python_interpreter": "{{ ansible_playbook_python }}", "other": "there"},
            "there": {**LOCAL, "ansible_python_interpreter": other_python(folder), "other": "here"},
            # Modules go to there as files, and to the bastion through standard input.
            "bastion": {
                **bastion,
                "ansible_python_interpreter": sys.executable,
                "ansible_pipelining": True,
                "other": "there",
            },
        }
        hosts = {host: {**ways[host], "api": apis[host].url, "kubeconfig_file": str(folder / host)} for host in DOORS}
        table = tasks(f"http://127.0.0.1:{model_server.server_port}", kubeconfig)
        plays = [{"hosts": "all", "gather_facts": False, "tasks": [one.written(name) for name, one in table.items()]}]
        played = play(folder, plays, hosts, "-vvv")
        yield Doors(played, table, apis, {TOKEN, SECRET, *secrets({"kubeconfig": kubeconfig})})
    model_server.shutdown()


def comparable(result: Json, api: ApiServer) -> Json:
    """Leave out what differs by nature, and the address of the host's own server."""

    def clean(value: Any) -> Any:
        if isinstance(value, dict):
            return {
                key: clean(inner)
                for key, inner in value.items()
                if key not in BY_NATURE and not key.startswith("_ansible")
            }
        if isinstance(value, list):
            return [clean(inner) for inner in value]
        return value.replace(api.url, "API") if isinstance(value, str) else value

    cleaned: Json = clean(copy.deepcopy(result))
    return cleaned


def ending(result: Json) -> str:
    return "changed" if result["ended"] == "ok" and result["changed"] else str(result["ended"])


@pytest.mark.parametrize("name", list(tasks("", {})))
def test_one_result(doors: Doors, name: str) -> None:
    results = {host: doors.played.results[host, name] for host in DOORS}
    here = comparable(results["here"], doors.apis["here"])
    for host, result in results.items():
        assert ending(result) == doors.tasks[name].end, host
        assert comparable(result, doors.apis[host]) == here, host


def test_each_host_used_its_door(doors: Doors) -> None:
    for host, door in DOORS.items():
        assert doors.played.results[host, "values"]["door"] == door
    assert doors.played.results["here", "delegated"]["door"] == "module", "it was delegated to there"
    assert doors.played.results["there", "delegated"]["door"] == "action", "it was delegated to here"
    processes = {doors.played.results[host, "values"]["process"] for host in DOORS}
    assert len(processes) == len(DOORS)
    assert os.getpid() not in processes


@pytest.mark.skipif(SSHD is None, reason="no sshd is installed, so no task went through ssh: install openssh-server")
def test_the_bastion_was_reached_by_ssh(doors: Doors) -> None:
    assert "<127.0.0.1> SSH: EXEC ssh" in doors.played.output


def test_each_server_was_asked_the_same(doors: Doors) -> None:
    """In no order: objects are applied side by side. What a watch waits for may be there before it begins."""
    asked = {
        host: sorted((request.method, request.path) for request in api.requests if request.method != "WATCH")
        for host, api in doors.apis.items()
    }
    assert len(asked["here"]) > 20
    for requests in asked.values():
        assert requests == asked["here"]


def test_the_results_say_what_they_should(doors: Doors) -> None:
    """Three equal results could be equally wrong."""
    got = {name: doors.played.results["here", name] for name in doors.tasks}
    assert got["values"]["value"] == {"when": "2026-01-02", "1": [2, 3.5, None, True], "text": "ü – 2"}
    assert got["values"]["tuple"] == [1, {"2": "two"}]
    assert "diff" in got["change"]
    assert "diff" not in got["change without diff"]
    assert got["warnings"]["warnings"] == ["one", "two"]
    assert got["warnings of a failure"]["warnings"] == ["one"]
    for name, option in {"deprecated alias": "length", "deprecated argument": "colour"}.items():
        (deprecation,) = got[name]["deprecations"]
        assert f"'{option}' is deprecated" in deprecation["msg"]
        assert deprecation["version"] == "9.0.0"
    assert got["argument and its alias"]["warnings"] == ["Both option size and its alias width are set."]
    assert (
        "Unsupported parameters for (modelfleet.serving.model_probe) module: colour" in got["unknown argument"]["msg"]
    )
    assert got["unknown argument"]["invocation"]["module_args"]["colour"] == "red"
    assert got["async"]["msg"] == "This action (modelfleet.doors.echo) does not support async."
    assert "Timed out after 1 second" in got["timeout"]["msg"]
    assert "a mistake in the code" in got["crash"]["msg"]
    assert got["secret that reads as a truth value"]["value"] is True
    assert "censored" in got["no_log"]
    first, second = (item["environment"] for item in got["environment of each item"]["results"])
    assert (first, second) == ({"FIRST": "set", "SECOND": None}, {"FIRST": None, "SECOND": "set"})
    assert got["environment, and arguments"]["invocation"]["module_args"]["validate_certs"] is True
    assert [item["changed"] for item in got["loop"]["results"]] == [True, False, True]
    assert got["loop"]["warnings"] == ["of 1", "of 2", "of 3"]


def test_no_secret_is_shown_or_left(doors: Doors) -> None:
    everything = doors.played.everything()
    for secret in doors.secrets:
        assert secret not in everything
    # A module that Ansible gave up on can't tidy up its own code.
    assert [path.name for path in doors.played.left() if not path.name.endswith("_payload.zip")] == []
