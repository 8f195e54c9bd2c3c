# SPDX-FileCopyrightText: The modelfleet maintainers
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a long task says while it runs: shown at once, on standard error, and not where nothing may be logged."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest

from .lab import LOCAL, command, environment, other_python, play, write

FIRST = "  … here: Deployment serving/web: 1 of 3 pods are ready\n"
SECOND = "  … here: Deployment serving/web: 2 of 3 pods are ready\n"


@pytest.mark.parametrize("callback", ["default", "modelfleet.serving.stages"])
def test_it_is_shown_while_the_task_runs(tmp_path: Path, callback: str) -> None:
    steps = [f"Deployment serving/web: {ready} of 3 pods are ready" for ready in (1, 2)]
    task = {"name": "wait", "modelfleet.doors.echo": {"progress": steps, "seconds": 2.0}}
    write(tmp_path, [{"hosts": "all", "gather_facts": False, "tasks": [task]}], {"here": LOCAL})
    variables = environment(tmp_path) | {"ANSIBLE_STDOUT_CALLBACK": callback}
    with open(tmp_path / "stdout", "w") as stdout:
        running = subprocess.Popen(
            command(), cwd=tmp_path, env=variables, stdout=stdout, stderr=subprocess.PIPE, text=True
        )
        assert running.stderr is not None
        with running:
            shown = []
            for line in running.stderr:
                # Ansible parses paths as Python literals, which warns where a temporary name has "1in" or "2or" in it.
                if "SyntaxWarning" not in line:
                    shown.append(line)
                assert not (tmp_path / "record").exists(), "the task has ended before this was shown"
    assert running.returncode == 0
    assert shown == [FIRST, SECOND]
    assert json.loads((tmp_path / "record").read_text())["ended"] == "ok"
    assert "…" not in (tmp_path / "stdout").read_text()


def test_what_is_not_shown(tmp_path: Path) -> None:
    tasks = [
        {"name": "secret", "modelfleet.doors.echo": {"progress": ["I know hush-hush"], "secret": "hush-hush"}},
        {"name": "no_log", "modelfleet.doors.echo": {"progress": ["private"]}, "no_log": True},
        {"name": "terminal", "modelfleet.doors.echo": {"progress": ["\x1b[31mred\r\n\tand  more\x07"]}},
    ]
    environment(tmp_path)
    hosts = {"here": LOCAL, "there": {**LOCAL, "ansible_python_interpreter": other_python(tmp_path)}}
    played = play(tmp_path, [{"hosts": "all", "gather_facts": False, "tasks": tasks}], hosts)
    shown = [line for line in played.output.splitlines() if "…" in line]
    assert shown == ["  … here: I know ********", "  … here: [31mred and more"]
    assert len(played.results) == 6
