# SPDX-FileCopyrightText: The modelfleet maintainers
# SPDX-License-Identifier: GPL-3.0-or-later
"""Failovers on the real fleet while something goes wrong: what users see is where the balancer sends their requests."""

from __future__ import annotations

import json
import signal
import subprocess
import threading
import time

import pytest
from _fleet import AWS, AZURE, CLUSTERS, ENDPOINT, GCP, Fleet, docker, paused, until, without_api
from _place import HOME

ALL = sorted(CLUSTERS)


def kubectl(fleet: Fleet, cluster: str, *arguments: str) -> str:
    """Run kubectl in the namespace of the models."""
    program = fleet.folder / "kubectl"
    if not program.exists():
        program.symlink_to(next((HOME / "bin").glob("*/kubernetes")))
    place = ["--kubeconfig", str(HOME / "kubeconfig"), "--context", f"kind-modelfleet-{cluster}", "-n", "serving"]
    return subprocess.check_output([program, *place, *arguments], text=True)


def replicas(fleet: Fleet, cluster: str) -> dict[str, tuple[int, int]]:
    """Give how many pods each server is to have, and how many are ready."""
    found = json.loads(kubectl(fleet, cluster, "get", "deployments", "-o", "json"))
    return {
        item["metadata"]["name"]: (item["spec"]["replicas"], item["status"].get("readyReplicas", 0))
        for item in found["items"]
    }


def refusal(text: str, rule: str) -> bool:
    """Tell whether the output says that this rule refuses."""
    return f"Refused by the rule {rule}:" in text and f"failover_override: [{rule}]" in text


def test_a_failover_and_a_failback_are_recorded(fleet: Fleet) -> None:
    fleet.run("failover", failover_from=AWS, failover_why="the provider works there")
    assert fleet.states() == {AWS: "drained", AZURE: "active", GCP: "active"}
    again = fleet.run("failover", failover_from=AWS)
    assert "changed=0" in again
    assert "nothing to do" in again
    fleet.run("failback")
    assert fleet.active() == ALL
    away, back = fleet.runs()
    assert (away["action"], away["outcome"], away["why"]) == ("failover", "completed", "the provider works there")
    assert (back["action"], back["outcome"]) == ("failback", "completed")
    assert {"decide", "shift", "verify", "whole"} <= away["seconds"].keys()
    assert away["lost"] == 0
    assert back["epoch"] > away["epoch"] > 0
    assert away["who"]
    told = fleet.run("history", failover_history_json=str(fleet.folder / "history.json"))
    assert f"{AWS}: active becomes drained" in told
    exported = json.loads((fleet.folder / "history.json").read_text())
    assert [run["outcome"] for run in exported["runs"]] == ["completed", "completed"]


def test_check_mode_shows_the_plan_and_changes_nothing(fleet: Fleet) -> None:
    text = fleet.run("failover", "--check", "--diff", failover_from="aws")
    assert f"{AWS}" in text
    assert '"state": "drained"' in text, "the diff"
    assert "changed=1" in text
    assert "Safety rules" in text
    for rule in ("gate", "cooldown", "min_active", "target_healthy", "version", "jurisdiction", "capacity"):
        assert rule in text
    assert fleet.active() == ALL
    assert not fleet.journal.exists()


@pytest.mark.parametrize("event", ["intent", "shifted"])
def test_a_run_that_is_killed_is_gone_on_with(fleet: Fleet, event: str) -> None:
    for playbook, wanted in (("failover", [AZURE, GCP]), ("failback", ALL)):
        before = fleet.events().count("shifted") if fleet.journal.exists() else 0
        seen = fleet.events().count(event) if fleet.journal.exists() else 0
        run = fleet.start(playbook, **{"failover_from" if playbook == "failover" else "failover_to": AWS})
        until(lambda: fleet.journal.exists() and fleet.events().count(event) > seen, f"no {event} comes")  # noqa: B023
        run.signal(signal.SIGKILL)
        run.end(-signal.SIGKILL)
        assert fleet.traffic(), "somebody carries the traffic"
        text = fleet.run(playbook, **{"failover_from" if playbook == "failover" else "failover_to": AWS})
        assert "This goes on with the run" in text
        assert fleet.active() == wanted
        assert fleet.runs()[-1]["outcome"] == "completed"
        # The entry of a shift may be written by both; the run is one, and so is the move.
        assert len({run["run"] for run in fleet.runs()}) == (1 if playbook == "failover" else 2)
        assert fleet.events().count("shifted") - before in (1, 2)


@pytest.mark.slow
def test_a_run_that_is_killed_when_its_targets_are_scaled_is_gone_on_with(fleet: Fleet) -> None:
    needs = {"failover_from": AWS, "failover_required_capacity": 250, "cluster_maximum_replicas": 4}
    before = replicas(fleet, AZURE)
    run = fleet.start("failover", **needs)
    until(lambda: fleet.journal.exists() and "scaled" in fleet.events(), "nothing is scaled", 120)
    run.signal(signal.SIGKILL)
    run.end(-signal.SIGKILL)
    assert "This goes on with the run" in fleet.run("failover", **needs)
    assert fleet.active() == [AZURE, GCP]
    assert len(fleet.runs()) == 1
    fleet.run("failback")
    until(lambda: replicas(fleet, AZURE) == before, "the replicas are not given back")


def test_a_run_that_is_killed_after_its_end_leaves_nothing_to_do(fleet: Fleet) -> None:
    run = fleet.start("failover", failover_from=AWS)
    until(lambda: fleet.journal.exists() and "completed" in fleet.events(), "no end comes")
    run.signal(signal.SIGKILL)
    run.end(-signal.SIGKILL)
    assert "nothing to do" in fleet.run("failover", failover_from=AWS)
    # The lock that the dead run left runs out, and nobody has to release it.
    fleet.run("failback")
    assert fleet.active() == ALL


def test_a_run_that_sleeps_past_its_lock_writes_nothing(fleet: Fleet) -> None:
    lock = {"failover_lock_ttl": 3, "failover_lock_wait": 15}
    first = fleet.start("failover", failover_from=AWS, **lock)
    until(lambda: fleet.journal.exists() and "intent" in fleet.events(), "no intent comes")
    first.signal(signal.SIGSTOP)
    # Another controller, which knows nothing of the first one's journal.
    fleet.run("failover", failover_from=AZURE, failover_journal=str(fleet.folder / "other.journal"), **lock)
    assert fleet.active() == [AWS, GCP]
    first.signal(signal.SIGCONT)
    text = first.end(None)
    assert fleet.active() == [AWS, GCP], "traffic is as the new holder left it"
    assert "epoch" in text or "changed since" in text


def test_of_two_at_once_one_wins(fleet: Fleet) -> None:
    # Two controllers with a journal each, so that only the lock is between them.
    runs = [
        fleet.start(
            "failover",
            failover_from=cluster,
            failover_journal=str(fleet.folder / f"{cluster}.journal"),
            failover_lock_wait=0,
        )
        for cluster in (AWS, AZURE)
    ]
    codes = [run.process.wait(180) for run in runs]
    texts = [run.text() for run in runs]
    assert sorted(bool(code) for code in codes) == [False, True], texts
    loser = texts[0] if codes[0] else texts[1]
    winner = (AWS, AZURE)[codes.index(0)]
    assert sorted(set(ALL) - {winner}) == fleet.active()
    # Either the lock was still held, and the holder is named, or the winner's move was seen.
    assert "-failover-" in loser
    assert "holds" in loser or "held" in loser or "changed since" in loser


def test_the_last_active_member_stays(fleet: Fleet) -> None:
    text = fleet.run("failover", "--check", code=2, failover_from=ALL, failover_override=["min_active"])
    assert "Refused by the rule min_active: 0 active clusters would remain" in text
    text = fleet.run("failover", code=2, failover_from=[AWS, AZURE], failover_min_active=2)
    assert refusal(text, "min_active")
    assert fleet.active() == ALL
    assert [run["outcome"] for run in fleet.runs()] == ["refused"]


@pytest.mark.parametrize(
    ("rule", "variables", "shortfall"),
    [
        ("capacity", {"failover_required_capacity": 250}, "50 too few"),
        ("jurisdiction", {"jurisdiction": "us"}, "us"),
    ],
)
def test_a_target_that_does_not_suit_is_refused(
    fleet: Fleet, rule: str, variables: dict[str, object], shortfall: str
) -> None:
    golden = {"request": {"instances": [1.0]}, "response": {"predictions": [2.5]}}
    model = {
        "name": "half_plus_two",
        "golden": [golden],
        "versions": [2],
        "jurisdictions": [variables.get("jurisdiction", "eu")],
    }
    given = {"failover_from": AWS, "failover_models": [model], **variables}
    text = fleet.run("failover", code=2, **given)
    assert refusal(text, rule)
    assert shortfall in text
    assert fleet.active() == ALL
    fleet.run("failover", "--check", **given, failover_override=[rule])


@pytest.mark.slow
def test_targets_are_scaled_before_the_traffic_comes_and_scaled_back_after(fleet: Fleet) -> None:
    before = replicas(fleet, AZURE)
    fleet.run("failover", failover_from=AWS, failover_required_capacity=250, cluster_maximum_replicas=4)
    assert fleet.events() == ["intent", "scaled", "shifted", "completed"]
    raised = replicas(fleet, AZURE)
    assert raised != before
    assert all(ready >= before[name][1] for name, (_wanted, ready) in raised.items())
    assert all(wanted == ready for wanted, ready in raised.values()), "traffic came to pods that were ready"
    fleet.run("failback")
    until(lambda: replicas(fleet, AZURE) == before, "the replicas are not given back")


def test_no_traffic_comes_to_targets_that_are_not_ready(fleet: Fleet) -> None:
    before = replicas(fleet, AZURE)
    text = fleet.run(
        "failover",
        code=2,
        failover_from=AWS,
        failover_required_capacity=250,
        cluster_maximum_replicas=4,
        failover_scale_timeout=1,
    )
    assert "No traffic was moved." in text
    assert fleet.active() == ALL
    assert fleet.events() == ["intent", "abandoned"]
    until(lambda: replicas(fleet, AZURE) == before, "the replicas are not given back")


@pytest.mark.slow
def test_a_target_with_an_older_version_is_refused(fleet: Fleet) -> None:
    def deploy(**variables: object) -> None:
        fleet.run("deploy", "--limit", f"{GCP},localhost", "--tags", "server", **variables)

    def model(name: str) -> dict[str, object]:
        source = HOME / "models" / name
        return {
            "name": name,
            "source": str(source),
            "versions": [1],
            "golden": json.loads((source / "golden.json").read_text()),
        }

    try:
        deploy(serving_models=[model("half_plus_two"), model("iris")])
        text = fleet.run("failover", code=2, failover_from=AWS)
        assert refusal(text, "version")
        assert f"{GCP} does not serve version 2 of half_plus_two" in text
    finally:
        deploy()
    assert fleet.active() == ALL


def test_a_closed_gate_keeps_traffic_where_it_is(fleet: Fleet) -> None:
    fleet.run("gate", failover_why="the provider works on the network")
    assert refusal(fleet.run("failover", code=2, failover_from=AWS), "gate")
    fleet.run("gate", failover_gate="opened")
    fleet.run("failover", "--check", failover_from=AWS)


def test_a_cluster_without_its_api_goes_on_serving(fleet: Fleet) -> None:
    with without_api(AWS):
        text = fleet.run("failover")
    assert "nothing to do" in text
    assert fleet.active() == ALL


@pytest.mark.slow
def test_a_cluster_whose_pods_are_dead_is_left(fleet: Fleet) -> None:
    before = replicas(fleet, AWS)
    kubectl(fleet, AWS, "scale", "deployment", "--all", "--replicas=0")
    try:
        until(lambda: not fleet.members()[AWS]["up"], "the balancer does not see it")
        fleet.run("failover")
        assert fleet.active() == [AZURE, GCP]
    finally:
        for name, (wanted, _ready) in before.items():
            kubectl(fleet, AWS, "scale", "deployment", name, f"--replicas={wanted}")


def test_a_controller_that_is_cut_off_moves_nothing(fleet: Fleet) -> None:
    text = fleet.run("failover", code=2, cluster_edge_url="http://127.0.0.1:9")
    assert "the controller gets no right answer, and the balancer does" in text
    assert fleet.active() == ALL


@pytest.mark.slow
def test_a_flapping_cluster_shifts_once_a_cooldown(fleet: Fleet) -> None:
    stop = threading.Event()

    def flap() -> None:
        while not stop.wait(2):
            with paused(AWS):
                stop.wait(2)

    flapping = threading.Thread(target=flap)
    flapping.start()
    try:
        end = time.monotonic() + 40
        while time.monotonic() < end:
            for playbook in ("failover", "failback"):
                fleet.start(playbook, failover_cooldown=300).process.wait(180)
    finally:
        stop.set()
        flapping.join()
    assert fleet.events().count("shifted") <= 1
    assert fleet.traffic()


def test_with_all_clusters_dead_nothing_is_removed(fleet: Fleet) -> None:
    with paused(*CLUSTERS):
        until(lambda: not any(member["up"] for member in fleet.members().values()), "the balancer does not see it")
        text = fleet.run("failover", code=2)
        assert fleet.active() == ALL
    assert "there is nowhere to go, and nothing is removed" in text


def test_a_bad_release_takes_no_cluster_out(fleet: Fleet) -> None:
    wrong = {"request": {"instances": [1.0]}, "response": {"predictions": [7.0]}}
    text = fleet.run("failover", code=2, failover_models=[{"name": "half_plus_two", "golden": [wrong]}])
    assert "that is its release" in text
    assert fleet.active() == ALL


def test_a_target_that_dies_meanwhile_does_not_get_the_traffic(fleet: Fleet) -> None:
    run = fleet.start("failover", failover_from=[AWS, AZURE], failover_verify_timeout=3)
    until(lambda: fleet.journal.exists() and "intent" in fleet.events(), "no intent comes")
    with paused(GCP):
        text = run.end(2)
        assert fleet.active() == ALL, "the move is undone"
        assert fleet.traffic()
    assert "The traffic was moved back" in text
    assert fleet.runs()[-1]["outcome"] == "reverted"


def test_a_balancer_that_is_gone_half_way_is_reported_and_gone_on_with(fleet: Fleet) -> None:
    run = fleet.start("failover", failover_from=AWS)
    until(lambda: fleet.journal.exists() and "intent" in fleet.events(), "no intent comes")
    docker("kill", ENDPOINT)
    try:
        text = run.end(2)
    finally:
        docker("start", ENDPOINT)
    until(fleet.answers, "the endpoint does not start")
    assert "run it again to go on with it" in text
    assert fleet.runs()[-1]["outcome"] == "failed"
    fleet.run("failover", failover_from=AWS)
    assert fleet.active() == [AZURE, GCP]
    docker("restart", ENDPOINT)
    until(fleet.answers, "the endpoint does not start")
    assert fleet.traffic() == [AZURE, GCP], "a restart keeps what was decided"


@pytest.mark.parametrize("damage", ["cut", "bit", "full"])
def test_without_a_sound_journal_nothing_moves(fleet: Fleet, damage: str) -> None:
    fleet.run("gate", failover_gate="opened")
    content = fleet.journal.read_bytes()
    if damage == "full":
        _on_a_full_disk(fleet)
        return
    fleet.journal.write_bytes(b"" if damage == "cut" else content.replace(b"opened", b"closed", 1))
    text = fleet.run("failover", code=2, failover_from=AWS)
    assert "is damaged" in text
    assert "failover_history_recover=true" in text
    assert fleet.active() == ALL
    fleet.run("history", failover_history_recover=True)
    fleet.run("failover", "--check", failover_from=AWS)


def _on_a_full_disk(fleet: Fleet) -> None:
    disk = fleet.folder / "disk"
    disk.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=16k", "tmpfs", disk], check=False)
    if mounted.returncode:
        pytest.skip("this user may not mount")
    try:
        (disk / "filler").write_bytes(b"x" * 12288)
        text = fleet.run("failover", code=2, failover_from=AWS, failover_journal=str(disk / "endpoint.journal"))
        assert "can't be written" in text
        assert "No space left on device" in text
        assert fleet.active() == ALL
    finally:
        subprocess.run(["umount", disk], check=True)


def test_most_clusters_must_carry_the_lock(fleet: Fleet) -> None:
    with paused(AWS, AZURE):
        until(lambda: not fleet.members()[AZURE]["up"], "the balancer does not see it")
        text = fleet.run("failover", code=2)
        assert "2 of 3 clusters are needed" in text
        assert "failover_override: [lock]" in text
        assert fleet.runs()[-1]["outcome"] == "refused"
        assert fleet.active() == ALL
        fleet.run("failover", failover_override=["lock"])
        assert fleet.active() == [GCP]
