# SPDX-FileCopyrightText: The modelfleet maintainers
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which door a host takes: the one inside the controller only where the module would run by the same Python."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from .lab import LOCAL, other_python, play

ECHO = [{"hosts": "all", "gather_facts": False, "tasks": [{"name": "echo", "modelfleet.doors.echo": {}}]}]


@pytest.fixture
def other_environment(tmp_path: Path) -> Path:
    """Another virtual environment of the same Python."""
    # ansible-core's modules need nothing outside of Python itself.
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", "--symlinks", tmp_path / "other"], check=True)
    return tmp_path / "other"


def test_local_hosts(tmp_path: Path, other_environment: Path) -> None:
    assert (other_environment / "bin" / "python").resolve() == Path(sys.executable).resolve()
    here, elsewhere = Path(sys.executable), tmp_path / "elsewhere"
    elsewhere.symlink_to(here)
    (tmp_path / "link").symlink_to(here.parent.parent)
    action, ours = ("action", sys.prefix), Path(sys.executable).parent
    interpreters = {
        "unset": (None, action),
        "auto": ("auto", action),
        "auto-silent": ("auto_silent", action),
        "the-controllers": (sys.executable, action),
        "in-a-template": ("{{ ansible_playbook_python }}", action),
        "same-environment": (str(next(path for path in ours.glob("python3*") if path != here)), action),
        "linked-environment": (str(tmp_path / "link" / "bin" / here.name), action),
        "of-the-path": (here.name, action),
        # A link to the Python of an environment from outside of it starts the Python beneath.
        "linked-from-elsewhere": (str(elsewhere), ("module", sys.base_prefix)),
        "other-environment": (str(other_environment / "bin" / "python"), ("module", str(other_environment))),
        "script": (other_python(tmp_path), ("module", sys.prefix)),
    }
    hosts = {
        name: {**LOCAL, **({"ansible_python_interpreter": interpreter} if interpreter else {})}
        for name, (interpreter, _expected) in interpreters.items()
    }
    hosts["full-name"] = {"ansible_connection": "ansible.builtin.local"}
    expected = {name: expected for name, (_interpreter, expected) in interpreters.items()} | {"full-name": action}
    played = play(tmp_path, ECHO, hosts, PATH=f"{ours}:/usr/bin:/bin")
    assert played.code == 0, played.output
    results = {name: played.results[name, "echo"] for name in hosts}
    assert {name: (result["door"], result["prefix"]) for name, result in results.items()} == expected


def test_the_configuration_names_an_interpreter(tmp_path: Path, other_environment: Path) -> None:
    hosts = {"unset": LOCAL, "set": {**LOCAL, "ansible_python_interpreter": sys.executable}}
    interpreter = str(other_environment / "bin" / "python")
    played = play(tmp_path, ECHO, hosts, ANSIBLE_PYTHON_INTERPRETER=interpreter)
    assert played.code == 0, played.output
    assert played.results["unset", "echo"]["prefix"] == str(other_environment)
    assert played.results["set", "echo"]["door"] == "action"


def test_a_delegated_task_goes_where_the_other_host_would(tmp_path: Path, other_environment: Path) -> None:
    hosts = {
        "here": {**LOCAL, "other": "there"},
        "there": {**LOCAL, "other": "here", "ansible_python_interpreter": str(other_environment / "bin" / "python")},
    }
    task = {"name": "echo", "modelfleet.doors.echo": {}, "delegate_to": "{{ other }}"}
    played = play(tmp_path, [{"hosts": "all", "gather_facts": False, "tasks": [task]}], hosts)
    assert played.results["here", "echo"]["prefix"] == str(other_environment)
    assert played.results["there", "echo"]["door"] == "action"
