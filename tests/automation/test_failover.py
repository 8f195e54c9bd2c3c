# SPDX-FileCopyrightText: The modelfleet maintainers
# SPDX-License-Identifier: GPL-3.0-or-later
"""The real ansible-rulebook on the local fleet: a cluster dies, and traffic moves with nobody in the loop."""

from __future__ import annotations

import json
import os
import subprocess
import time
import urllib.request
from collections.abc import Callable, Iterator
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from _rulebook import CHECKOUT, environment, needs_java, running, until
from ansible.module_utils.common.arg_spec import ArgumentSpecValidator

from ansible_collections.modelfleet.serving.plugins.module_utils._call import Call
from ansible_collections.modelfleet.serving.plugins.module_utils._features.global_endpoint_info import FEATURE

HOME = Path(os.environ.get("MODELFLEET_HOME") or Path.home() / ".cache" / "modelfleet")
CLUSTER = "aws-eu-west-1"
NODE = f"modelfleet-{CLUSTER}-control-plane"
# As inventories/local has it.
HAPROXY = {"config_path": str(HOME / "haproxy" / "haproxy.cfg"), "master": "127.0.0.1:9998"}

pytestmark = [
    pytest.mark.skipif(not (HOME / "kubeconfig").exists(), reason="no local fleet: `make fleet` makes one"),
    needs_java,
]


def states() -> dict[str, str]:
    """Ask the balancer for its members and their states."""
    validated = ArgumentSpecValidator(FEATURE.arguments).validate({"haproxy": HAPROXY})
    members = FEATURE.run(Call(validated.validated_parameters)).as_dict(diff=False)["members"]
    return {member["name"]: member["state"] for member in members}


@pytest.fixture
def play(tmp_path: Path) -> Callable[..., str]:
    def run(playbook: str, program: str = "ansible-playbook", **variables: Any) -> str:
        command = [program, f"modelfleet.serving.{playbook}", "--extra-vars", json.dumps(variables)]
        done = subprocess.run(
            command, cwd=CHECKOUT, env=environment(tmp_path), capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    return run


@pytest.fixture
def healthy_fleet(play: Callable[..., str]) -> Iterator[None]:
    """A fleet that serves the catalogue and is whole, and is so again afterwards."""
    # By the environment of `make env`, since a rulebook's own builds no images.
    play("site", program=str(CHECKOUT / ".venv" / "bin" / "ansible-playbook"))
    assert set(states().values()) == {"active"}, "the local fleet is not whole: playbooks/failback.yml mends it"
    try:
        yield
    finally:
        subprocess.run(["docker", "unpause", NODE], capture_output=True, check=False)
        if states()[CLUSTER] != "active":
            play("failback", failover_to=CLUSTER, failover_healthy_seconds=2, failover_override=["cooldown"])


@pytest.fixture
def automation(play: Callable[..., str], tmp_path: Path) -> Iterator[Path]:
    """Start the automatic failover by the command that the playbook prints; gives its log."""
    told = play("automation", failover_health_config=str(tmp_path / "model_health.yml"))
    command = told.split("Start the automatic failover with\n\n")[1].split("\n\n")[0].split("\nok:")[0]
    with running(command.strip(), tmp_path) as log:
        yield log


@pytest.mark.usefixtures("healthy_fleet")
def test_traffic_leaves_a_cluster_that_died_and_comes_back_when_told(
    automation: Path, play: Callable[..., str], tmp_path: Path
) -> None:
    time.sleep(2)
    paused = datetime.now().astimezone()
    subprocess.run(["docker", "pause", NODE], check=True, capture_output=True)
    until(lambda: states()[CLUSTER] == "drained", 45, automation)
    until(lambda: "PLAY RECAP" in automation.read_text(), 30, automation)
    assert [name for name, state in states().items() if state != "active"] == [CLUSTER]
    text = automation.read_text()
    assert text.count("PLAY RECAP") == 1
    assert "failed=0" in text.split("PLAY RECAP")[1]
    assert predict() == [2.5, 3.0, 4.5]

    # What the journal knows of it.
    play("history", failover_history_json=str(tmp_path / "history.json"))
    history = json.loads((tmp_path / "history.json").read_text())
    (run,) = history["runs"]
    assert run["who"] == "ansible-rulebook"
    assert run["why"].startswith(f"{CLUSTER}: half_plus_two: canonical: http://127.0.0.1:8082: no answer")
    detected = datetime.fromisoformat(history["entries"][0]["data"]["detected"])
    # On a busy machine the answers just before may have been late, too.
    assert paused - timedelta(seconds=1) < detected < datetime.fromisoformat(run["started"])

    # The cluster comes back; its traffic does so only when somebody says it.
    subprocess.run(["docker", "unpause", NODE], check=True, capture_output=True)
    until(lambda: f"{CLUSTER} answers right again" in automation.read_text(), 30, automation)
    assert states()[CLUSTER] == "drained"
    play("failback", failover_to=CLUSTER, failover_healthy_seconds=2, failover_override=["cooldown"])
    assert set(states().values()) == {"active"}
    assert predict() == [2.5, 3.0, 4.5]


def predict() -> Any:
    request = urllib.request.Request(
        "http://127.0.0.1:8080/v1/models/half_plus_two:predict", data=b'{"instances": [1.0, 2.0, 5.0]}', method="POST"
    )
    with urllib.request.urlopen(request, timeout=10) as response:
        return json.load(response)["predictions"]
