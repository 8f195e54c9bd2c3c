# SPDX-FileCopyrightText: The modelfleet maintainers
# SPDX-License-Identifier: GPL-3.0-or-later
"""The collection under ansible-runner, which is how AWX runs a playbook."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

from _api_server import ApiServer
from test_session import closed_port

from .lab import LOCAL, environment, other_python, write

TOKEN = "token-that-nobody-may-see"


def test_events_and_artefacts(tmp_path: Path) -> None:
    tasks = [
        {
            "name": "create",
            "modelfleet.serving.serving_namespace": {
                "host": "{{ api }}",
                "api_key": "{{ token }}",
                "name": "{{ inventory_hostname }}",
            },
        },
        {"name": "wait", "modelfleet.doors.echo": {"progress": ["one of two"], "warnings": ["look out"]}},
        {"name": "fail", "modelfleet.doors.echo": {"end": "failed"}, "when": "inventory_hostname == 'there'"},
    ]
    variables = environment(tmp_path) | {"PATH": f"{Path(sys.executable).parent}:/usr/bin:/bin"}
    del variables["ANSIBLE_CALLBACK_PLUGINS"], variables["ANSIBLE_CALLBACKS_ENABLED"]
    with ApiServer(tmp_path) as api:
        hosts = {
            "here": {**LOCAL, "api": api.url},
            "there": {**LOCAL, "api": api.url, "ansible_python_interpreter": other_python(tmp_path)},
            "gone": {**LOCAL, "api": f"http://127.0.0.1:{closed_port()}"},
        }
        write(tmp_path, [{"hosts": "all", "gather_facts": False, "tasks": tasks}], hosts)
        (tmp_path / "env").mkdir()
        (tmp_path / "env" / "extravars").write_text(json.dumps({"token": TOKEN}))
        command = ["run", str(tmp_path), "--project-dir", str(tmp_path), "--playbook", "play.yml", "--ident", "it"]
        command += ["--inventory", str(tmp_path / "hosts.yml"), "--cmdline=-vvv --diff", "--quiet"]
        done = subprocess.run(
            [sys.executable, "-m", "ansible_runner", *command],
            env=variables,
            capture_output=True,
            text=True,
            timeout=300,
            check=False,
        )
    artefacts = [path for path in (tmp_path / "artifacts" / "it").rglob("*") if path.is_file()]
    events = [json.loads(path.read_text()) for path in artefacts if path.parent.name == "job_events"]
    assert done.returncode == 4, "Ansible's own code for an unreachable host"
    assert (tmp_path / "artifacts" / "it" / "status").read_text() == "failed"
    ended = {
        (event["event_data"]["host"], event["event_data"]["task"]): (event["event"], event["event_data"]["res"])
        for event in events
        if event["event"] in ("runner_on_ok", "runner_on_failed", "runner_on_unreachable")
    }
    assert {key: kind for key, (kind, _result) in ended.items()} == {
        ("here", "create"): "runner_on_ok",
        ("here", "wait"): "runner_on_ok",
        ("there", "create"): "runner_on_ok",
        ("there", "wait"): "runner_on_ok",
        ("there", "fail"): "runner_on_failed",
        ("gone", "create"): "runner_on_unreachable",
    }
    assert ended["here", "create"][1]["changed"] is True
    assert ended["there", "create"][1]["changed"] is True
    assert ended["here", "wait"][1]["warnings"] == ended["there", "wait"][1]["warnings"]
    (stats,) = (event["event_data"] for event in events if event["event"] == "playbook_on_stats")
    assert stats["dark"] == {"gone": 1}
    assert any("… here: one of two" in event["stdout"] for event in events)
    assert [path.name for path in artefacts if TOKEN in path.read_text(errors="replace")] == []
