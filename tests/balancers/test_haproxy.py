# SPDX-FileCopyrightText: The modelfleet maintainers
# SPDX-License-Identifier: GPL-3.0-or-later
"""What is claimed of HAProxy, with a real one; skipped where none is installed."""

from __future__ import annotations

import csv
import http.client
import io
import shutil
import socket
import ssl
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from ansible_collections.modelfleet.serving.plugins.module_utils._endpoint.balancer import BalancerError
from ansible_collections.modelfleet.serving.plugins.module_utils._endpoint.haproxy import DEFAULTS, HAProxy, Master
from ansible_collections.modelfleet.serving.plugins.module_utils._endpoint.plan import RefusedError
from ansible_collections.modelfleet.serving.plugins.module_utils._errors import InputError, WaitError

from .lab import GOLDEN, Cut, Lab, Load, Writer, drain, stop, toggle_together

pytestmark = pytest.mark.skipif(not shutil.which("haproxy"), reason="haproxy is not installed")


@pytest.fixture
def lab(tmp_path: Path) -> Iterator[Lab]:
    lab = Lab(tmp_path)
    try:
        yield lab
    finally:
        lab.close()


def certificate(folder: Path, host: str) -> Path:
    """Write a self-signed certificate of a host, and its key, into one file."""
    file, key = folder / f"{host}.pem", folder / f"{host}.key"
    subject = ["-subj", f"/CN={host}", "-addext", f"subjectAltName=DNS:{host}"]
    command = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", *subject]
    subprocess.run([*command, "-keyout", str(key), "-out", str(file)], check=True, capture_output=True)
    file.write_text(file.read_text() + key.read_text())
    return file


def test_tls_to_clients_and_to_members(lab: Lab) -> None:
    edge, other, front = (certificate(lab.folder, f"{name}.example.org") for name in ("edge", "other", "front"))
    for name, port, shown in zip("abc", lab.members, (edge, edge, other), strict=True):
        lab.backends[name].kill()
        lab.backends[name].wait()
        lab.start(name, port, str(shown))
    options = {"member_tls": True, "member_ca": str(edge), "certificate": str(front)}
    with pytest.raises(InputError, match=r"a has the address 127\.0\.0\.1, so which name .* is not known"):
        lab.run(haproxy=options)
    options["member_tls_name"] = "edge.example.org"
    # c shows a certificate that nobody trusts: it is taken for one that answers wrong.
    with pytest.raises(WaitError, match="still finds c down"):
        lab.run(haproxy=options, wait_timeout=2)
    assert [member["up"] for member in lab.info()["members"]] == [True, True, False]
    trusted = ssl.create_default_context(cafile=str(front))
    for _unused in range(4):
        with socket.create_connection(("127.0.0.1", lab.port), 2) as plain:
            trusted.set_alpn_protocols(["h2", "http/1.1"])
            with trusted.wrap_socket(plain, server_hostname="front.example.org") as client:
                assert client.selected_alpn_protocol() == "h2"
        trusted.set_alpn_protocols(["http/1.1"])
        own = http.client.HTTPSConnection("front.example.org", lab.port, context=trusted, timeout=5)
        with socket.create_connection(("127.0.0.1", lab.port), 2) as plain:
            own.sock = trusted.wrap_socket(plain, server_hostname="front.example.org")
            status, answer, port = lab.predict(connection=own)
            own.close()
        assert (status, answer) == (200, {"predictions": [2.5, 3.0, 4.5]})
        assert int(port) in lab.members[:2]
    # Nobody trusted is left: then better no answer than one of a stranger.
    with pytest.raises(WaitError):
        lab.run(haproxy={**options, "member_ca": str(front)}, wait_timeout=1)
    own = http.client.HTTPSConnection("front.example.org", lab.port, context=trusted, timeout=5)
    with socket.create_connection(("127.0.0.1", lab.port), 2) as plain:
        own.sock = trusted.wrap_socket(plain, server_hostname="front.example.org")
        assert lab.predict(connection=own)[0] == 503
        own.close()


def test_a_definition_of_an_older_version_is_completed(lab: Lab) -> None:
    lab.run()
    old = lab.config.read_text()
    assert '"member_tls":false,' in old
    lab.config.write_text(old.replace('"member_tls":false,', ""))
    [drift] = lab.info()["drift"]
    assert "written by another version" in drift["reason"]
    assert lab.run().changed
    assert lab.config.read_text() == old


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
    assert second.values["addresses"] == lab.info()["addresses"] == [], "what clients call the machine, others know"
    assert lab.predict()[:2] == (200, {"predictions": [2.5, 3.0, 4.5]})
    assert lab.answering() == {str(port) for port in lab.members}

    # Drained without a reload; a later run of the whole definition leaves it drained, a restart too.
    process = reloads(lab)
    written = lab.config.stat().st_ino
    assert not lab.run().changed
    assert lab.config.stat().st_ino == written, "a run without a change only reads"
    drain = {"members": [{"name": "a", "state": "drained"}], "exclusive_members": False, "models": None}
    foretold = lab.run(check=True, **drain)
    assert foretold.changed
    assert states(lab)["a"] == ("active", 100)
    done = lab.run(**drain)
    assert (done.diff, done.values) == (foretold.diff, foretold.values)
    assert [step["action"] for step in done.values["steps"]] == ["drain"]
    assert not lab.run(**drain).changed
    assert not lab.run().changed
    assert reloads(lab) == process
    assert lab.answering() == {str(port) for port in lab.members[1:]}
    lab.haproxy.terminate()
    lab.haproxy.wait(5)
    lab.haproxy = lab.start_haproxy()
    assert not lab.run().changed
    assert states(lab) == {"a": ("drained", 0), "b": ("active", 100), "c": ("active", 100)}

    # Back, a weight, and a standby.
    lab.run(**{**drain, "members": [{"name": "a", "state": "active", "weight": 10}, {"name": "c", "state": "standby"}]})
    assert states(lab) == {"a": ("active", 10), "b": ("active", 100), "c": ("standby", 100)}
    assert lab.answering() <= {str(port) for port in lab.members[:2]}

    assert lab.run(state="absent").changed
    assert not lab.run(state="absent").changed
    assert lab.info()["exists"] is False


def test_a_master_that_is_away_for_a_moment_is_asked_again(lab: Lab) -> None:
    # Listens, closes, executes itself anew and listens again: two runs in fifteen met that.
    lab.run()
    for _unused in range(10):
        lab.haproxy.terminate()
        lab.haproxy.wait(5)
        lab.haproxy = lab.start_haproxy()
        assert not lab.run().changed


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


def test_to_judge_a_configuration_takes_no_answer_for_a_name(lab: Lab, tmp_path: Path) -> None:
    judged = tmp_path / "judged.cfg"
    members = [{**lab.params()["members"][0], "address": "localhost"}]
    lab.run(members=members, haproxy={"validate_command": ["tee", str(judged)]}, wait=False)
    assert " init-addr none resolvers names" in judged.read_text()
    assert " init-addr last,libc,none resolvers names" in lab.config.read_text()


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


def test_a_cluster_that_answers_in_time_now_and_then_stays_out(lab: Lab) -> None:
    lab.run()
    others = {str(lab.members[0]), str(lab.members[2])}
    lab.mood("b", "slow 1")
    time.sleep(2)
    assert not lab.info()["members"][1]["up"]
    lab.mood("b", "slow 1 4")
    for _unused in range(4):
        time.sleep(0.5)
        assert lab.answering() == others
    lab.mood("b", "right")
    assert not lab.run().changed
    assert lab.answering() == {*others, str(lab.members[1])}


def hasty(lab: Lab) -> None:
    lab.run(models=[{**lab.params()["models"][0], "try_timeout": 0.2}], haproxy={"check_timeout": 2.0})


def test_a_silent_cluster_costs_no_more_than_a_try(lab: Lab) -> None:
    hasty(lab)
    load = Load(lab, 3, 100)
    time.sleep(1)
    lab.pause("b")
    # The checks alone would have needed four seconds.
    assert 0.2 <= max(taken for _unused, taken, _unused in load.wait()) < 1
    assert load.lost() == []


def test_an_honest_prediction_outlives_the_tries(lab: Lab) -> None:
    hasty(lab)
    for name in "abc":
        lab.mood(name, "slow 0.8")
    start = time.monotonic()
    assert lab.predict()[0] == 200
    assert time.monotonic() - start > 1.2, "two tries, and the patient one"


@pytest.mark.parametrize("chunked", [False, True])
def test_what_is_too_big_to_be_sent_again_has_its_whole_time(lab: Lab, chunked: bool) -> None:
    hasty(lab)
    for name in "abc":
        lab.mood(name, "slow 0.8")
    start = time.monotonic()
    assert lab.predict(size=2 * DEFAULTS["max_body"], chunked=chunked)[0] == 200
    assert time.monotonic() - start < 1.2, "the patient one alone"


def test_when_every_cluster_is_slow_nothing_is_tried_twice(lab: Lab) -> None:
    hasty(lab)
    for name in "abc":
        lab.mood(name, "slow 0.4")
    load = Load(lab, 4, 100, threads=100)
    assert load.lost() == []
    late = [taken for _unused, taken, _unused in load.wait() if taken > 0.75]
    assert 0 < len(late) < len(load.results) / 2, "some had two tries in vain, most had none"


def test_requests_that_wait_for_a_silent_cluster_are_taken_back(lab: Lab) -> None:
    lab.run(models=[{**lab.params()["models"][0], "timeout": 60.0}])
    lab.pause("b")
    start = time.monotonic()
    assert {lab.predict()[0] for _unused in range(4)} == {200}
    assert time.monotonic() - start < 2


def test_a_cut_off_cluster_loses_nothing(lab: Lab) -> None:
    lab.run()
    load = Load(lab, 4, 200, threads=32, keep=True)
    time.sleep(1)
    sockets = lab.cut("b")
    assert load.lost() == []
    assert [member["up"] for member in lab.info()["members"]] == [True, False, True]
    for entry in sockets:
        entry.close()


@pytest.mark.parametrize("keep", [True, False])
def test_the_rate_counts_requests_not_connections(lab: Lab, keep: bool) -> None:
    lab.run()
    load = Load(lab, 3, 90, keep=keep)
    time.sleep(2)
    now = time.monotonic()
    rates = {member["name"]: member["rate"] for member in lab.info()["members"]}
    assert load.lost() == []
    asked = sum(now - 1 < start <= now for start, _unused, _unused in load.results)
    assert 0.5 * asked < sum(rates.values()) < 1.5 * asked
    assert all(0.5 * asked < 3 * rate < 1.5 * asked for rate in rates.values())
    time.sleep(2)
    assert [member["rate"] for member in lab.info()["members"]] == [0, 0, 0], "health checks are no requests"


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


@pytest.mark.parametrize("end", ["paused", "killed"])
def test_a_standby_takes_over_alone(lab: Lab, end: str) -> None:
    members = lab.params()["members"]
    members[1]["state"] = members[2]["state"] = "standby"
    lab.run(members=members)
    assert lab.answering() == {str(lab.members[0])}
    load = Load(lab, 3, 50)
    time.sleep(0.5)
    if end == "paused":
        lab.pause("a")
    else:
        lab.backends["a"].kill()
    assert load.lost() == []
    assert lab.answering() == {str(port) for port in lab.members[1:]}


def test_a_standby_becomes_active_and_back_without_a_reload(lab: Lab) -> None:
    lab.run(models=[{**lab.params()["models"][0], "try_timeout": 1.0}])
    lab.run(**drain("b", "standby"))
    process = reloads(lab)
    load = Load(lab, 4, 100, keep=True)
    for members in (
        {"a": "drained", "b": "active", "c": "standby"},
        {"a": "active", "b": "standby", "c": "drained"},
        {"a": "standby", "b": "active", "c": "active"},
    ):
        start = time.monotonic()
        changed = [{"name": name, "state": state, "weight": 20} for name, state in members.items()]
        assert lab.run(members=changed, exclusive_members=False, models=None).changed
        assert time.monotonic() - start < 1
        ports = dict(zip("abc", map(str, lab.members), strict=True))
        answered = lab.answering()
        assert answered == {ports[name] for name, state in members.items() if state == "active"}
        assert states(lab) == {name: (state, 0 if state == "drained" else 20) for name, state in members.items()}
        assert lab.info()["drift"] == []
    assert load.lost() == []
    assert reloads(lab) == process
    # HAProxy comes up with what is in force.
    lab.haproxy.terminate()
    lab.haproxy.wait(5)
    lab.haproxy = lab.start_haproxy()
    assert not lab.run(models=None).changed
    assert str(lab.members[0]) not in lab.answering()


def test_requests_stay_in_their_jurisdiction(lab: Lab) -> None:
    members = lab.params()["members"]
    for member, place in zip(members, ("eu", "eu", "us"), strict=True):
        member["jurisdiction"] = place
    models = [
        {"name": "half_plus_two", "golden": [GOLDEN], "jurisdictions": ["eu"]},
        {"name": "anywhere", "golden": [GOLDEN]},
    ]
    lab.run(members=members, models=models)
    ports = [str(port) for port in lab.members]
    elsewhere = "/v1/models/anywhere:predict"

    assert (lab.answering(), lab.answering(path=elsewhere)) == (set(ports[:2]), set(ports))
    assert [member["models"] for member in lab.info()["members"]] == [
        {"half_plus_two": True, "anywhere": True},
        {"half_plus_two": True, "anywhere": True},
        {"anywhere": True},
    ]
    assert not lab.run(members=members, models=models).changed
    # Not when all who may serve it answer wrong, and not when they are gone.
    for name in "ab":
        lab.mood(name, "wrong")
    time.sleep(1)
    assert lab.info()["fail_open"] == ["half_plus_two"]
    assert (lab.answering(), lab.answering(path=elsewhere)) == (set(ports[:2]), {ports[2]})
    for name in "ab":
        lab.mood(name, "right")
    with pytest.raises(RefusedError, match="min_active: models would have no active member for half_plus_two"):
        lab.run(members=[{"name": name, "state": "drained"} for name in "ab"], exclusive_members=False, models=None)
    for name in "ab":
        lab.backends[name].kill()
    time.sleep(1)
    assert lab.predict()[0] == 503
    assert lab.answering(path=elsewhere) == {ports[2]}
    with pytest.raises(InputError, match=r"c \(us\) may serve none of the models"):
        lab.run(members=members, models=models[:1])
    # A cluster that is said to lie elsewhere gets the model.
    members[2]["jurisdiction"] = "eu"
    lab.run(members=members, models=models, wait=False)
    time.sleep(1)
    assert lab.answering() == {ports[2]}


def test_a_canary_by_weights_without_a_reload(lab: Lab) -> None:
    members = lab.params()["members"]
    lab.run(members=[*members[:2], {**members[2], "weight": 1}])
    process = reloads(lab)
    for weight in (1, 10, 50, 100):
        changed = {"members": [{"name": "c", "weight": weight}], "exclusive_members": False, "models": None}
        assert lab.run(**changed).changed == (weight != 1)
        load = Load(lab, 2, 200)
        before = served(lab)
        assert load.lost() == []
        share = (served(lab)["c"] - before["c"]) / (sum(served(lab).values()) - sum(before.values()))
        assert share == pytest.approx(weight / (200 + weight), abs=0.05)
    assert reloads(lab) == process
    assert lab.info()["drift"] == []


def served(lab: Lab) -> dict[str, int]:
    """Count the requests that each member got."""
    rows = csv.DictReader(io.StringIO(lab.runtime("show stat -1 4 -1").lstrip("# ")))
    return {row["svname"]: int(row["stot"]) for row in rows if row["pxname"] == "rest.half_plus_two"}


def test_members_come_and_go_without_a_lost_request(lab: Lab) -> None:
    a, b, c = lab.params()["members"]
    lab.run(members=[a, b])
    load = Load(lab, 4, 100)
    for members in ([b, c], [a, b, c], [a]):
        time.sleep(0.3)
        assert lab.run(members=members).changed
        assert set(states(lab)) == {member["name"] for member in members}
    assert load.lost() == []
    assert lab.answering() == {str(lab.members[0])}


CUTS = {
    "create": lambda lab: lab.run(wait=False),
    "drain": lambda lab: lab.run(**drain("a")),
    "failover": lambda lab: lab.run(
        **{**drain("a"), "members": [{"name": "a", "state": "drained"}, {"name": "c", "state": "active"}]}
    ),
    "add and remove": lambda lab: lab.run(members=[lab.params()["members"][0], lab.params()["members"][2]], wait=False),
    "teardown": lambda lab: lab.run(state="absent"),
}


@pytest.mark.parametrize("scenario", CUTS)
def test_cut_at_every_step(lab: Lab, monkeypatch: pytest.MonkeyPatch, scenario: str) -> None:
    """Each time one step later: what is said to HAProxy, and the file that is written."""
    act = CUTS[scenario]
    number = 0
    finished = False
    while not finished:
        number += 1
        lab.run(members=[{**member, "state": "active"} for member in lab.params()["members"]])
        if scenario == "create":
            lab.run(state="absent")
        elif scenario == "failover":
            lab.run(**drain("c", "standby"))
        left = number

        def step(call: Any) -> Any:
            def counted(*args: Any) -> Any:
                nonlocal left
                answer = call(*args)
                left -= 1
                if left == 0:
                    raise Cut
                return answer

            return counted

        with monkeypatch.context() as cut:
            cut.setattr(Master, "ask", step(Master.ask))
            cut.setattr(HAProxy, "_write", step(HAProxy._write))
            try:
                act(lab)
                finished = True
            except Cut:
                pass
        if scenario not in ("create", "teardown"):
            assert lab.predict()[0] == 200, f"after a cut at step {number}"
        done = act(lab)
        assert not act(lab).changed
        assert lab.info()["drift"] == []
        assert lab.info()["active"] == done.values["active"]
        assert (lab.predict()[0] == 200) == (scenario != "teardown"), f"after a cut at step {number}"
    assert number > 4, "no step was counted"


def test_a_run_that_is_cut_between_the_file_and_the_process_is_mended(
    lab: Lab, monkeypatch: pytest.MonkeyPatch
) -> None:
    lab.run()
    lab.run(**drain("c", "standby"))
    for name, state in (("c", "active"), ("b", "standby"), ("b", "drained")):
        with monkeypatch.context() as cut:
            cut.setattr(HAProxy, "_set_traffic", lambda *_unused: pytest.fail("cut"))
            with pytest.raises(pytest.fail.Exception):
                lab.run(**drain(name, state))
        [drift] = lab.info()["drift"]
        assert (drift["action"], drift["subject"]) == ("mend", name)
        assert [step["action"] for step in lab.run(**drain(name, state)).values["steps"]] == ["mend"]
        assert lab.info()["drift"] == []
        assert states(lab)[name][0] == state
    assert lab.answering() == {str(lab.members[0]), str(lab.members[2])}


def test_more_clients_than_connections_wait_for_their_turn(lab: Lab) -> None:
    lab.run(haproxy={"max_connections": 20})
    for name in "abc":
        lab.mood(name, "slow 0.1")
    # Each new connection; all twenty at once need as many ways inside HAProxy.
    load = Load(lab, 3, 400, threads=60)
    assert load.lost() == []
    assert max(taken for _unused, taken, _unused in load.wait()) < 2


def test_requests_in_flight_end_when_their_cluster_is_drained(lab: Lab) -> None:
    lab.run()
    for name in "abc":
        lab.mood(name, "slow 0.2")
    load = Load(lab, 2, 50)
    time.sleep(0.7)
    lab.run(members=[{"name": "a", "state": "drained"}], exclusive_members=False, wait=False)
    assert load.lost() == []


def test_an_epoch_fences_without_a_reload(lab: Lab) -> None:
    lab.run()
    process = reloads(lab)
    assert (lab.info()["epoch"], lab.run(wait=False).changed) == (0, False)
    assert lab.run(**drain("a", epoch=5)).values["epoch"] == 5
    assert not lab.run(**drain("a", epoch=5)).changed
    assert not lab.run(**drain("a")).changed
    assert not lab.run().changed
    assert lab.info()["drift"] == []
    with pytest.raises(RefusedError, match="rule epoch: this run took the fleet lock with epoch 4"):
        lab.run(**drain("b", epoch=4))
    with pytest.raises(RefusedError, match="rule epoch"):
        lab.run(check=True, state="absent", epoch=4)
    # Also when there is nothing else to do: who comes later with 5 is too late.
    assert lab.run(check=True, **drain("a", epoch=6)).changed
    assert lab.info()["epoch"] == 5
    assert [step["action"] for step in lab.run(**drain("a", epoch=6)).values["steps"]] == ["fence"]
    with pytest.raises(RefusedError, match="rule epoch"):
        lab.run(**drain("b", epoch=5))
    assert lab.info()["epoch"] == 6
    assert states(lab)["b"] == ("active", 100)
    assert reloads(lab) == process


def test_a_change_that_was_decided_by_an_older_definition_is_refused(lab: Lab) -> None:
    assert lab.info()["digest"] == ""
    with pytest.raises(RefusedError, match="rule if_digest"):
        lab.run(if_digest="0" * 64)
    lab.run(if_digest="")
    seen = lab.info()["digest"]
    after = lab.run(**drain("a", if_digest=seen)).values["digest"]
    assert after == lab.info()["digest"] != seen
    with pytest.raises(RefusedError, match="rule if_digest"):
        lab.run(**drain("b", if_digest=seen))
    assert states(lab)["b"] == ("active", 100)
    assert lab.run(**drain("b", if_digest=after)).changed


def test_a_stopped_run_that_wakes_up_late_is_refused(lab: Lab) -> None:
    lab.run()
    stalled = Writer(lab, **drain("a", epoch=1))
    stop(stalled.process)
    assert lab.run(**drain("b", epoch=2)).changed
    assert "refused by the rule epoch" in stalled.go()
    assert {name: state for name, (state, _unused) in states(lab).items()} == {
        "a": "active",
        "b": "drained",
        "c": "active",
    }


def test_a_run_that_is_stopped_in_the_middle_lets_nobody_in_and_harms_nobody(lab: Lab) -> None:
    lab.run()
    stalled = Writer(lab, inside=True, **drain("a", epoch=1))
    stop(stalled.process)
    with pytest.raises(BalancerError, match=f"the process {stalled.process.pid} has held "):
        lab.run(**drain("b", epoch=2, haproxy={"timeout": 0.3}))
    assert states(lab)["b"] == ("active", 100)
    assert stalled.go() == "done"
    assert states(lab)["a"] == ("drained", 0)
    assert lab.run(**drain("b", epoch=2)).changed
    assert lab.info()["drift"] == []


def test_a_run_that_is_killed_in_the_middle_is_in_nobodys_way(lab: Lab) -> None:
    lab.run()
    killed = Writer(lab, inside=True, **drain("a", epoch=1))
    killed.process.kill()
    killed.process.communicate()
    assert lab.run(**drain("b", epoch=2)).changed


def test_two_writers_at_once_lose_no_change(lab: Lab) -> None:
    lab.run()
    assert toggle_together(lambda name, state: lab.run(**drain(name, state)), 8) == []
    assert {name: state for name, (state, _unused) in states(lab).items()} == dict.fromkeys("abc", "active")
    assert lab.info()["drift"] == []


def test_of_two_who_decided_alike_one_is_refused(lab: Lab) -> None:
    lab.run()
    seen = lab.info()["digest"]
    writers = [Writer(lab, **drain(name, if_digest=seen)) for name in "ab"]
    outcomes = [writer.go() for writer in writers]
    assert outcomes[0] == "done"
    assert "rule if_digest" in outcomes[1]
