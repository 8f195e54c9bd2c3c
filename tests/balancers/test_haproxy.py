# SPDX-FileCopyrightText: The modelfleet maintainers
# SPDX-License-Identifier: GPL-3.0-or-later
"""What is claimed of HAProxy, with a real one; skipped where none is installed."""

from __future__ import annotations

import shutil
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from ansible_collections.modelfleet.serving.plugins.module_utils._endpoint.balancer import BalancerError
from ansible_collections.modelfleet.serving.plugins.module_utils._errors import WaitError

from .lab import Lab, Load

pytestmark = pytest.mark.skipif(not shutil.which("haproxy"), reason="haproxy is not installed")


@pytest.fixture
def lab(tmp_path: Path) -> Iterator[Lab]:
    lab = Lab(tmp_path)
    try:
        yield lab
    finally:
        lab.close()


def states(lab: Lab) -> dict[str, tuple[str, int]]:
    return {member["name"]: (member["state"], member["traffic"]) for member in lab.info()["members"]}


def reloads(lab: Lab) -> str:
    return lab.runtime("show info").split("Pid: ")[1].split()[0]


def test_life(lab: Lab) -> None:
    assert lab.info()["exists"] is False
    assert lab.run(check=True).changed
    assert lab.info()["exists"] is False
    assert lab.run().changed
    second = lab.run()
    assert not second.changed
    assert second.diff == []
    assert lab.predict()[:2] == (200, {"predictions": [2.5, 3.0, 4.5]})
    assert {lab.predict()[2] for _unused in range(12)} == {str(port) for port in lab.members}

    # Drained without a reload; a later run of the whole definition leaves it drained, a restart too.
    process = reloads(lab)
    drain = {"members": [{"name": "a", "state": "drained"}], "exclusive_members": False, "models": None}
    assert lab.run(check=True, **drain).changed
    assert states(lab)["a"] == ("active", 100)
    done = lab.run(**drain)
    assert [step["action"] for step in done.values["steps"]] == ["drain"]
    assert not lab.run(**drain).changed
    assert not lab.run().changed
    assert reloads(lab) == process
    assert {lab.predict()[2] for _unused in range(12)} == {str(port) for port in lab.members[1:]}
    lab.haproxy.terminate()
    lab.haproxy.wait(5)
    lab.haproxy = lab.start_haproxy()
    assert not lab.run().changed
    assert states(lab) == {"a": ("drained", 0), "b": ("active", 100), "c": ("active", 100)}

    # Back, a weight, and a standby.
    lab.run(**{**drain, "members": [{"name": "a", "state": "active", "weight": 10}, {"name": "c", "state": "standby"}]})
    assert states(lab) == {"a": ("active", 10), "b": ("active", 100), "c": ("standby", 100)}
    assert {lab.predict()[2] for _unused in range(12)} <= {str(port) for port in lab.members[:2]}

    assert lab.run(state="absent").changed
    assert not lab.run(state="absent").changed
    assert lab.info()["exists"] is False


def test_drift_by_hand_is_seen_and_mended(lab: Lab) -> None:
    lab.run()
    lab.runtime("set server rest.half_plus_two/a state maint")
    lab.runtime("set server grpc.half_plus_two/b weight 7")
    assert [step["subject"] for step in lab.info()["drift"]] == ["a", "b"]
    mended = lab.run()
    assert [step["action"] for step in mended.values["steps"]] == ["mend", "mend"]
    assert not lab.run().changed
    lab.config.write_text(lab.config.read_text().replace("retries 3", "retries 2"))
    assert "by hand" in lab.run(check=True).values["steps"][0]["reason"]
    assert lab.run().changed
    assert not lab.run().changed


def test_rejected_configuration_is_rolled_back(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    lab.run()
    before = lab.config.read_text()
    bad = {"haproxy": {"user": "nobody-of-this-name"}}
    with pytest.raises(BalancerError, match="cannot find user id for 'nobody-of-this-name'"):
        lab.run(**bad)
    assert lab.config.read_text() == before
    with pytest.raises(BalancerError, match="the reload failed"):
        lab.run(haproxy={**bad["haproxy"], "validate_command": ["true"]})
    assert lab.config.read_text() == before
    assert lab.predict()[0] == 200
    time.sleep(0.3)
    assert not lab.run().changed


def test_foreign_configuration_is_left_alone(lab: Lab) -> None:
    lab.config.write_text("# mine\n")
    with pytest.raises(BalancerError, match="is not managed"):
        lab.run()
    assert lab.config.read_text() == "# mine\n"
    assert lab.run(adopt=True).changed


def test_errors_are_those_of_tf_serving(lab: Lab) -> None:
    lab.run()
    assert lab.predict(path="/v1/models/no%22ne:predict")[:2] == (
        404,
        {"error": "Servable not found for request: Latest(no%22ne)"},
    )
    assert lab.predict(path="/v1/models/half_plus_two/versions/1:predict")[0] == 200
    assert lab.predict(path="/other")[0] == 404


def test_wait_says_why(lab: Lab) -> None:
    lab.mood("b", "wrong")
    with pytest.raises(WaitError, match=r"b: half_plus_two: .*L7"):
        lab.run(wait_timeout=2)
    lab.mood("b", "right")
    assert not lab.run().changed


@pytest.mark.parametrize("size", [0, 1_000_000])
def test_a_paused_cluster_loses_nothing(lab: Lab, size: int) -> None:
    lab.run()
    load = Load(lab, 4, 30 if size else 100, size)
    time.sleep(1)
    lab.pause("b")
    time.sleep(2)
    lab.resume("b")
    assert max(taken for _unused, taken, _unused in load.wait()) < 3
    assert load.lost() == []


@pytest.mark.parametrize("keep", [True, False])
def test_a_killed_cluster_loses_nothing(lab: Lab, keep: bool) -> None:
    lab.run()
    load = Load(lab, 3, 200, keep=keep)
    time.sleep(1)
    lab.backends["b"].kill()
    assert load.lost() == []


def test_a_cut_off_cluster_loses_nothing(lab: Lab) -> None:
    lab.run()
    load = Load(lab, 4, 200, threads=32, keep=True)
    time.sleep(1)
    sockets = lab.cut("b")
    assert load.lost() == []
    assert [member["up"] for member in lab.info()["members"]] == [True, False, True]
    for entry in sockets:
        entry.close()


def test_wrong_answers_take_a_cluster_out(lab: Lab) -> None:
    lab.run()
    lab.mood("b", "wrong")
    time.sleep(1)
    assert [member["up"] for member in lab.info()["members"]] == [True, False, True]
    assert {lab.predict()[1]["predictions"][0] for _unused in range(20)} == {2.5}


def test_when_all_checks_fail_nothing_is_removed(lab: Lab) -> None:
    lab.run()
    for name in "abc":
        lab.mood(name, "wrong")
    time.sleep(1.2)
    assert lab.info()["fail_open"] == ["half_plus_two"]
    assert lab.predict()[0] == 200


def test_a_standby_takes_over_alone(lab: Lab) -> None:
    members = lab.params()["members"]
    members[1]["state"] = members[2]["state"] = "standby"
    lab.run(members=members)
    assert {lab.predict()[2] for _unused in range(6)} == {str(lab.members[0])}
    load = Load(lab, 3, 50)
    time.sleep(0.5)
    lab.pause("a")
    assert load.lost() == []
    assert lab.predict()[2] in {str(port) for port in lab.members[1:]}


def test_requests_in_flight_end_when_their_cluster_is_drained(lab: Lab) -> None:
    lab.run()
    for name in "abc":
        lab.mood(name, "slow 0.2")
    load = Load(lab, 2, 50)
    time.sleep(0.7)
    lab.run(members=[{"name": "a", "state": "drained"}], exclusive_members=False, wait=False)
    assert load.lost() == []
