# SPDX-FileCopyrightText: The modelfleet maintainers
# SPDX-License-Identifier: GPL-3.0-or-later
"""One feature, two doors: a playbook that runs features inside the controller, and the same as modules.

One playbook runs each task on the host ``here``, by the action plugin, and a few on ``there``, whose interpreter is
another: they go through AnsiballZ as on any remote host. The rest is held against the module run in this process.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import yaml
from _api_server import ApiServer
from _certificates import Certificates, make_certificates
from _doors import run_module
from test_session import closed_port, inline_kubeconfig

from ansible_collections.modelfleet.serving.plugins.module_utils._cluster.arguments import secrets

Json = dict[str, Any]
CHECKOUT = Path(__file__).resolve().parents[2]
GOLDEN = {"request": {"instances": [1.0, 2.0, 5.0]}, "response": {"predictions": [2.5, 3.0, 4.5]}}
TOKEN = "token-that-nobody-may-see"


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
    """One task, by either door."""

    module: str
    arguments: Json
    keywords: Json = field(default_factory=dict)
    also_there: bool = False


def tasks(model_server: str, kubeconfig: Json) -> dict[str, Task]:
    """Give the tasks; ``{api}`` stands for the API server of the door."""
    probe = {"models": [{"name": "half_plus_two", "golden": [GOLDEN]}], "url": model_server}
    wrong = {**probe, "models": [{"name": "half_plus_two", "golden": [{**GOLDEN, "response": {"predictions": []}}]}]}
    space = {"host": "{api}", "api_key": TOKEN, "name": "serving", "quota": {"pods": 20}}
    text = yaml.safe_dump(kubeconfig)
    password = {
        "host": "{api}",
        "username": "me",
        "password": TOKEN,
        "impersonate_user": "joe",
        "impersonate_groups": "a,b",
        "proxy": f"http://me:{TOKEN}@127.0.0.1:1",
        "no_proxy": "127.0.0.0/8",
        "proxy_headers": {"basic_auth": f"me:{TOKEN}", "proxy_basic_auth": f"me:{TOKEN}", "user_agent": "fleet/1.0"},
    }
    checked = {"check_mode": True, "diff": True}
    return {
        "probe": Task("model_probe", probe, also_there=True),
        "probe in check mode": Task("model_probe", probe, {"check_mode": True}),
        "wrong answer": Task("model_probe", wrong),
        "wrong answer, let pass": Task("model_probe", {**wrong, "fail_on_wrong": False}),
        "no such model": Task("model_probe", {**probe, "models": [{"name": "other", "golden": [GOLDEN]}]}),
        "bad URL": Task("model_probe", {**probe, "url": "ftp://nowhere"}),
        "missing argument": Task("model_probe", {"url": model_server}),
        "unknown argument": Task("model_probe", {**probe, "colour": "red"}),
        "excluding arguments": Task("model_probe", {**probe, "server": "a", "namespace": "b"}),
        "string for a list": Task("model_probe", {**probe, "models": "half_plus_two"}),
        "create, checked": Task("serving_namespace", space, checked),
        "create": Task("serving_namespace", space, {"diff": True}, also_there=True),
        "create again": Task("serving_namespace", space, {"diff": True}),
        "change": Task("serving_namespace", {**space, "labels": {"team": "x"}}, {"diff": True}),
        "change without diff": Task("serving_namespace", {**space, "labels": {"team": "y"}}, {"diff": False}),
        "delete, checked": Task("serving_namespace", {**space, "state": "absent"}, checked),
        "delete": Task("serving_namespace", {**space, "state": "absent"}, {"diff": True}),
        "bad name": Task("serving_namespace", {**space, "name": "../serving"}),
        "bad choice": Task("serving_namespace", {**space, "state": "gone"}),
        "refused": Task("serving_namespace", {**space, "name": "forbidden"}),
        "unreachable": Task("serving_namespace", {**space, "host": f"http://127.0.0.1:{closed_port()}"}),
        "from the environment": Task("model_server_info", {"namespace": "serving"}, {"environment": "{api}"}),
        "inline certificates": Task("model_server_info", {"namespace": "serving", "kubeconfig": kubeconfig}),
        "inline certificates, refused": Task("model_server_info", {"namespace": "a/b", "kubeconfig": kubeconfig}),
        "inline certificates, wrong argument": Task("model_server_info", {"wrong": 1, "kubeconfig": kubeconfig}),
        "text": Task("model_server_info", {"namespace": "serving", "kubeconfig": text}, also_there=True),
        "text, wrong argument": Task("model_server_info", {"wrong": 1, "kubeconfig": text}),
        "password": Task("model_server_info", {"namespace": "serving", **password}, also_there=True),
        "password, refused": Task("model_server_info", {"namespace": "a/b", **password}),
        "password, wrong argument": Task("model_server_info", {"wrong": 1, **password}),
    }


@dataclass
class Played:
    """What one run of the playbook left behind."""

    tasks: dict[str, Task]
    results: dict[tuple[str, str], Json]
    output: str
    folder: Path
    api: ApiServer
    certificates: Certificates
    kubeconfig: Json


def prepare(api: ApiServer) -> None:
    api.fail("PATCH", "/namespaces/forbidden", 403, reason="Forbidden", message="you may not", times=99)


def spelled(arguments: Json, api: ApiServer) -> Json:
    """Put the API server's address into some arguments."""
    result: Json = json.loads(json.dumps(arguments).replace("{api}", api.url))
    return result


pytestmark = pytest.mark.ansible


@pytest.fixture
def played(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Played]:
    """Run every task in one playbook: starting Ansible is what takes the time."""
    folder = tmp_path_factory.mktemp("play")
    certificates = make_certificates(folder / "certificates")
    model_server = ThreadingHTTPServer(("127.0.0.1", 0), _HalfPlusTwo)
    threading.Thread(target=model_server.serve_forever, daemon=True).start()
    with (
        ApiServer(folder) as here,
        ApiServer(folder) as there,
        ApiServer(folder, certificates.server_context()) as secure,
    ):
        kubeconfig = inline_kubeconfig(secure.url, certificates)
        todo = tasks(f"http://127.0.0.1:{model_server.server_port}", kubeconfig)
        prepare(here)
        plays = [
            {"hosts": "here", "gather_facts": False, "tasks": [as_task(name, task) for name, task in todo.items()]},
            {
                "hosts": "there",
                "gather_facts": False,
                "tasks": [as_task(name, task) for name, task in todo.items() if task.also_there],
            },
        ]
        (folder / "play.yml").write_text(json.dumps(plays))
        other = folder / "other-python"
        other.write_text(f'#!/bin/sh\nexec {sys.executable} "$@"\n')
        other.chmod(0o755)
        local = {"ansible_connection": "local"}
        hosts = {
            # The usual way to say it, which has to be templated before it is compared.
            "here": {**local, "api": here.url, "ansible_python_interpreter": "{{ ansible_playbook_python }}"},
            "there": {**local, "api": there.url, "ansible_python_interpreter": str(other)},
        }
        (folder / "hosts.yml").write_text(yaml.safe_dump({"all": {"hosts": hosts}}))
        output = play_it(folder)
        lines = (folder / "record").read_text().splitlines()
        entries = [json.loads(line) for line in lines]
        results = {
            (entry["host"], entry["task"]): {**entry["result"], "failed": entry["ended"] == "failed"}
            for entry in entries
        }
        yield Played(todo, results, output, folder, here, certificates, kubeconfig)
    model_server.shutdown()


def as_task(name: str, task: Task) -> Json:
    keywords = dict(task.keywords)
    if "environment" in keywords:
        keywords["environment"] = {"K8S_AUTH_HOST": "{{ api }}", "K8S_AUTH_API_KEY": TOKEN}
    arguments = json.loads(json.dumps(task.arguments).replace("{api}", "{{ api }}"))
    return {
        "name": name,
        f"modelfleet.serving.{task.module}": arguments,
        "ignore_errors": True,
        "ignore_unreachable": True,
        **keywords,
    }


def play_it(folder: Path) -> str:
    (folder / "tmp").mkdir()
    (folder / "ansible.cfg").touch()
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("ANSIBLE_", "K8S_AUTH"))}
    environment |= {
        "ANSIBLE_INJECT_INVOCATION": "true",
        "ANSIBLE_CONFIG": str(folder / "ansible.cfg"),
        "ANSIBLE_COLLECTIONS_PATH": str(CHECKOUT / "build" / "collections"),
        "ANSIBLE_CALLBACK_PLUGINS": str(Path(__file__).parent / "callback"),
        "ANSIBLE_CALLBACKS_ENABLED": "record",
        "ANSIBLE_LOCAL_TEMP": str(folder / "tmp"),
        "ANSIBLE_REMOTE_TEMP": str(folder / "tmp"),
        "RECORD_FILE": str(folder / "record"),
        "TMPDIR": str(folder / "tmp"),
        "HOME": str(folder),
        "KUBECONFIG": str(folder / "no-kubeconfig"),
    }
    command = [sys.executable, "-m", "ansible", "playbook", "-vvv", "--inventory", "hosts.yml", "play.yml"]
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)
    assert (folder / "record").exists(), done.stdout + done.stderr
    return done.stdout + done.stderr


def comparable(result: Json, *addresses: str) -> Json:
    """Leave out what differs by nature: times, traces, what Ansible adds, and the server's address."""

    def clean(value: Any) -> Any:
        if isinstance(value, dict):
            kept = {key: inner for key, inner in value.items() if not key.startswith("_ansible")}
            return {
                key: clean(inner)
                for key, inner in kept.items()
                if key not in ("seconds", "exception", "resourceVersion")
            }
        if isinstance(value, list):
            return [clean(inner) for inner in value]
        for address in addresses:
            value = value.replace(address, "API") if isinstance(value, str) else value
        return value

    cleaned: Json = clean(result)
    return cleaned


NAMES = list(tasks("", {}))


def test_both_doors(played: Played, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, subtests: pytest.Subtests) -> None:
    """One test, since test workers would each run the playbook for their share of several."""
    for check in (target_does_the_same, one_interpreter_starts, ends_as_meant, no_secret_is_shown_or_left):
        with subtests.test(check.__name__):
            check(played)
    with ApiServer(tmp_path) as api:
        prepare(api)
        for name, task in played.tasks.items():
            modes = {"check": task.keywords.get("check_mode", False), "diff": task.keywords.get("diff", False)}
            with subtests.test(name), monkeypatch.context() as environment:
                if "environment" in task.keywords:
                    environment.setenv("K8S_AUTH_HOST", api.url)
                    environment.setenv("K8S_AUTH_API_KEY", TOKEN)
                module = comparable(run_module(task.module, spelled(task.arguments, api), **modes), api.url)
                action = comparable(played.results["here", name], played.api.url)
                module.setdefault("failed", False)
                if "invocation" not in action:
                    # Ansible refused the arguments itself, and calls the module by its full name.
                    assert short(action["msg"]) == short(module["msg"])
                    assert action["failed"] is module["failed"] is True
                    assert "changed" not in action or action["changed"] is False
                else:
                    assert action == module
        assert requests_of(api) == requests_of(played.api)


def short(message: str) -> str:
    """Leave out the name of the module, which differs."""
    return re.sub(r"\([\w.]+\) module", "module", message)


def requests_of(api: ApiServer) -> list[tuple[str, str]]:
    """Give what was asked of a server, in no order: objects are applied side by side.

    Without watches: what is waited for may be there before the watch begins.
    """
    return sorted((request.method, request.path) for request in api.requests if request.method != "WATCH")


def target_does_the_same(played: Played) -> None:
    """The tasks that also ran by AnsiballZ, with another interpreter."""
    for name, parts in (
        ("probe", ("healthy", "results")),
        ("create", ("changed", "diff", "objects")),
        ("text", ("changed", "servers")),
        ("password", ("changed", "servers")),
    ):
        here, there = (comparable(played.results[host, name], played.api.url) for host in ("here", "there"))
        assert {part: here[part] for part in parts} == {part: there[part] for part in parts}
        assert here["invocation"]["module_args"].keys() == there["invocation"]["module_args"].keys()


def one_interpreter_starts(played: Played) -> None:
    started = [line for line in played.output.splitlines() if line.startswith("Using module file")]
    assert len(started) == 4, "the tasks on there, and none on here"


def ends_as_meant(played: Played) -> None:
    def ends(result: Json) -> str:
        if result.get("unreachable"):
            return "unreachable"
        return "failed" if result.get("failed") else ("changed" if result["changed"] else "ok")

    found = {name: ends(played.results["here", name]) for name in NAMES}
    assert {name for name, end in found.items() if end == "unreachable"} == {"unreachable"}
    assert {name for name, end in found.items() if end == "changed"} == {
        "create, checked",
        "create",
        "change",
        "change without diff",
        "delete, checked",
        "delete",
    }
    assert {name for name, end in found.items() if end == "ok"} == {
        "probe",
        "probe in check mode",
        "wrong answer, let pass",
        "create again",
        "from the environment",
        "inline certificates",
        "text",
        "password",
    }
    assert "diff" in played.results["here", "change"]
    assert "diff" not in played.results["here", "change without diff"]


def no_secret_is_shown_or_left(played: Played) -> None:
    assert "K8S_AUTH_API_KEY" not in played.output
    texts = [played.output, (played.folder / "record").read_text()]
    left = [path for path in (played.folder / "tmp").rglob("*") if path.is_file()]
    texts += [path.read_text(errors="replace") for path in left]
    for secret in (TOKEN, *secrets({"kubeconfig": played.kubeconfig})):
        for text in texts:
            assert secret not in text
    assert left == []
