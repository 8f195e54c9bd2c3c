# SPDX-FileCopyrightText: The modelfleet maintainers
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a failover decides, rule by rule, and over random fleets, faults and interruptions."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from ansible_collections.modelfleet.serving.plugins.module_utils._call import Call
from ansible_collections.modelfleet.serving.plugins.module_utils._errors import InputError
from ansible_collections.modelfleet.serving.plugins.module_utils._failover.fleet import (
    Cluster,
    History,
    Policy,
    Request,
    Served,
    Server,
    Unfinished,
    blamed,
)
from ansible_collections.modelfleet.serving.plugins.module_utils._failover.plan import Plan, plan, select
from ansible_collections.modelfleet.serving.plugins.module_utils._failover.rules import RULE_NAMES
from ansible_collections.modelfleet.serving.plugins.module_utils._features.failover_plan import FEATURE

RIGHT = Served(True, versions=frozenset({1}))
WRONG = Served(False, answered=True, error="2.4 instead of 2.5", versions=frozenset({1}))
SILENT = Served(False, answered=False, error="no answer in 1 s")
FAILOVER, FAILBACK = Request("failover"), Request("failback")
NOW = History()


def cluster(name: str, served: Served = RIGHT, **more: Any) -> Cluster:
    """A cluster with one model; the balancer sees what the controller sees, unless told otherwise."""
    return Cluster(name, **{"models": {"m": served}, "up": served.right, "capacity": 100.0, **more})


def moves(found: Plan) -> dict[str, str]:
    return {move.cluster: move.after for move in found.moves}


def refused_by(found: Plan) -> list[str]:
    assert (found.status == "refused") == any(verdict.refuses() for verdict in found.verdicts), found
    return [verdict.rule for verdict in found.verdicts if verdict.refuses()]


def test_a_named_cluster_is_left() -> None:
    found = plan([cluster("a"), cluster("b")], Request("failover", ("a",)), Policy(), NOW)
    assert (found.status, moves(found), found.targets) == ("go", {"a": "drained"}, ("b",))
    assert [verdict.rule for verdict in found.verdicts] == list(RULE_NAMES)


def test_a_dead_cluster_is_left_without_being_named() -> None:
    found = plan([cluster("a", SILENT), cluster("b"), cluster("c")], FAILOVER, Policy(), NOW)
    assert (found.status, moves(found)) == ("go", {"a": "drained"})
    assert "no answer in 1 s" in found.moves[0].reason


def test_wrong_answers_are_an_outage_too() -> None:
    assert moves(plan([cluster("a", WRONG), cluster("b"), cluster("c")], FAILOVER, Policy(), NOW)) == {"a": "drained"}


def test_healthy_clusters_stay_unless_named() -> None:
    found = plan([cluster("a"), cluster("b")], FAILOVER, Policy(), NOW)
    assert (found.status, found.moves) == ("nothing", ())
    assert "failover_from" in found.reason


@pytest.mark.parametrize(("wrong", "count"), [(2, 3), (3, 3), (2, 2), (3, 5)])
def test_a_bad_release_takes_no_cluster_out(wrong: int, count: int) -> None:
    fleet = [cluster(f"c{number}", WRONG if number < wrong else RIGHT) for number in range(count)]
    found = plan(fleet, FAILOVER, Policy(), NOW)
    assert (found.status, found.moves) == ("refused", ())
    assert "that is its release" in found.reason


def test_two_dead_clouds_are_no_bad_release() -> None:
    fleet = [cluster("a", SILENT), cluster("b", SILENT), cluster("c")]
    assert blamed(tuple(fleet)) == frozenset()
    assert moves(plan(fleet, FAILOVER, Policy(), NOW)) == {"a": "drained", "b": "drained"}


def test_a_cluster_dies_during_a_bad_release() -> None:
    bad = {"m": WRONG, "n": RIGHT}
    fleet = [cluster(name, models=bad, up=False) for name in "ab"]
    fleet += [cluster("c", models={"m": SILENT, "n": SILENT}, up=False), cluster("d", models={"m": RIGHT, "n": RIGHT})]
    found = plan(fleet, FAILOVER, Policy(), NOW)
    assert (found.status, moves(found)) == ("go", {"c": "drained"})


def test_the_controller_alone_is_no_reason() -> None:
    found = plan([cluster("a", SILENT, up=True), cluster("b")], FAILOVER, Policy(), NOW)
    assert (found.status, found.moves) == ("refused", ())
    assert "the balancer does" in found.reason


def test_a_balancer_without_a_view_does_not_object() -> None:
    assert moves(plan([cluster("a", SILENT, up=None), cluster("b", up=None)], FAILOVER, Policy(), NOW)) == {
        "a": "drained"
    }


def test_when_all_fail_nothing_is_removed() -> None:
    found = plan([cluster("a", SILENT), cluster("b", SILENT)], FAILOVER, Policy(override=frozenset(RULE_NAMES)), NOW)
    assert (found.status, found.moves) == ("refused", ())
    assert "nowhere to go" in found.reason


@pytest.mark.parametrize("override", [(), RULE_NAMES])
def test_the_last_one_is_never_taken_away(override: tuple[str, ...]) -> None:
    policy = Policy(override=frozenset(override))
    found = plan([cluster("a"), cluster("b", state="drained")], Request("failover", ("a",)), policy, NOW)
    assert "min_active" in refused_by(found)
    assert "never taken away" in found.reason


def test_an_override_names_its_rule() -> None:
    fleet, request = [cluster("a"), cluster("b")], Request("failover", ("a",))
    assert refused_by(plan(fleet, request, Policy(min_active=2), NOW)) == ["min_active", "target_healthy"]
    assert refused_by(plan(fleet, request, Policy(min_active=2, override=frozenset({"capacity"})), NOW))
    found = plan(fleet, request, Policy(min_active=2, override=frozenset({"min_active", "target_healthy"})), NOW)
    assert found.status == "go"
    assert {verdict.rule for verdict in found.verdicts if verdict.overridden} == {"min_active", "target_healthy"}


def test_the_target_must_answer_right() -> None:
    found = plan([cluster("a"), cluster("b", SILENT)], Request("failover", ("a",)), Policy(), NOW)
    assert refused_by(found) == ["target_healthy"]
    assert "b: m: no answer in 1 s" in found.reason


def test_a_cluster_that_was_not_asked_is_no_target() -> None:
    found = plan([cluster("a"), Cluster("b", up=True)], Request("failover", ("a",)), Policy(), NOW)
    assert refused_by(found) == ["target_healthy"]
    assert "b was not asked" in found.reason


def test_the_gate() -> None:
    found = plan(
        [cluster("a"), cluster("b")], Request("failover", ("a",)), Policy(), History(gate="change freeze (ann)")
    )
    assert refused_by(found) == ["gate"]
    assert "change freeze (ann)" in found.reason


@pytest.mark.parametrize(("since", "refused"), [(10.0, ["cooldown"]), (300.0, []), (None, [])])
def test_the_cooldown(since: float | None, refused: list[str]) -> None:
    fleet, policy = [cluster("a"), cluster("b")], Policy(cooldown=300)
    found = plan(fleet, Request("failover", ("a",)), policy, History(since_shift=since))
    assert refused_by(found) == refused


def test_the_target_must_lie_where_the_model_may_be() -> None:
    policy = Policy(jurisdictions={"m": frozenset({"eu"})})
    fleet = [cluster("a", jurisdiction="eu"), cluster("b", jurisdiction="us")]
    found = plan(fleet, Request("failover", ("a",)), policy, NOW)
    assert refused_by(found) == ["jurisdiction"]
    assert "b is in us, and m may be served in eu" in found.reason


def test_a_standby_that_may_take_over_comes_first() -> None:
    policy = Policy(jurisdictions={"m": frozenset({"eu"})})
    fleet = [
        cluster("a", SILENT, jurisdiction="eu"),
        cluster("b", state="standby", jurisdiction="us", capacity=900.0),
        cluster("c", state="standby", jurisdiction="eu"),
    ]
    assert moves(plan(fleet, FAILOVER, policy, NOW)) == {"a": "drained", "c": "active"}


def test_the_target_must_serve_what_is_left() -> None:
    policy = Policy(versions={"m": frozenset({1, 2})})
    both = replace(RIGHT, versions=frozenset({1, 2}))
    found = plan([cluster("a", both), cluster("b")], Request("failover", ("a",)), policy, NOW)
    assert refused_by(found) == ["version"]
    assert "b does not serve version 2 of m" in found.reason
    # Nobody serves version 2 yet: it is in the catalogue alone.
    assert plan([cluster("a"), cluster("b")], Request("failover", ("a",)), policy, NOW).status == "go"
    # A silent cluster cannot say what it served; another target has version 2.
    found = plan([cluster("a", SILENT), cluster("b", both), cluster("c")], FAILOVER, policy, NOW)
    assert refused_by(found) == ["version"]


def test_the_same_version_is_the_same_everywhere() -> None:
    one, other = (replace(RIGHT, digests={1: digest}) for digest in ("sha256:aaa", "sha256:bbb"))
    found = plan([cluster("a"), cluster("b", one), cluster("c", other)], Request("failover", ("a",)), Policy(), NOW)
    assert refused_by(found) == ["version"]
    assert "b have sha256:aaa, c have sha256:bbb" in found.reason


def test_the_shortfall_is_named() -> None:
    policy = Policy(required_capacity=150)
    found = plan([cluster("a"), cluster("b")], Request("failover", ("a",)), policy, NOW)
    assert refused_by(found) == ["capacity"]
    assert "b can take 100 requests a second together, 150 are needed, 50 too few" in found.reason


def test_what_is_down_already_is_left_whatever_the_others_can_take() -> None:
    dead = Served(right=False, answered=False, error="silence")
    fleet = [cluster("a", models={"m": dead}, up=False), cluster("b")]
    found = plan(fleet, FAILOVER, Policy(required_capacity=150), NOW)
    assert (found.status, moves(found)) == ("go", {"a": "drained"})
    (verdict,) = (verdict for verdict in found.verdicts if verdict.rule == "capacity")
    assert "50 too few; they carry it already, since a is down" in verdict.reason


def test_what_the_balancer_carries_is_needed_too() -> None:
    fleet = [cluster("a", rate=80.0), cluster("b", rate=80.0)]
    assert refused_by(plan(fleet, Request("failover", ("a",)), Policy(), NOW)) == ["capacity"]


def test_the_target_is_scaled_before() -> None:
    fleet = [cluster("a"), cluster("b", servers=(Server("s", 2, 2, 6), Server("t", 1, 1, 6)))]
    found = plan(fleet, Request("failover", ("a",)), Policy(required_capacity=250), NOW)
    assert (found.status, moves(found)) == ("go", {"a": "drained"})
    assert [(entry.server, entry.replicas) for entry in found.raises] == [("s", 5), ("t", 3)]
    # No more than it may have.
    assert refused_by(plan(fleet, Request("failover", ("a",)), Policy(required_capacity=301), NOW)) == ["capacity"]


def test_measured_capacity() -> None:
    fleet = [cluster("a"), cluster("b", capacity=None, replica_rate=40.0, servers=(Server("s", 2, 2, 4),))]
    found = plan(fleet, Request("failover", ("a",)), Policy(required_capacity=100), NOW)
    assert [(entry.server, entry.replicas) for entry in found.raises] == [("s", 3)]


def test_a_standby_helps_before_replicas_do() -> None:
    fleet = [cluster("a"), cluster("b", servers=(Server("s", 1, 1, 9),)), cluster("c", state="standby")]
    found = plan(fleet, Request("failover", ("a",)), Policy(required_capacity=200), NOW)
    assert (moves(found), found.raises) == ({"a": "drained", "c": "active"}, ())
    assert found.moves[0].after == "active", "traffic is brought before it is taken"


def test_a_capacity_that_is_not_known_is_told() -> None:
    fleet = [cluster("a", rate=50.0), cluster("b", capacity=None)]
    found = plan(fleet, Request("failover", ("a",)), Policy(), NOW)
    assert found.status == "go"
    assert any(verdict.rule == "capacity" and "not judged" in verdict.reason for verdict in found.verdicts)
    assert refused_by(plan(fleet, Request("failover", ("a",)), Policy(required_capacity=1), NOW)) == ["capacity"]


def test_failback() -> None:
    fleet = [cluster("a", state="drained"), cluster("b"), cluster("c")]
    history = History(promoted=frozenset({"c"}))
    assert moves(plan(fleet, FAILBACK, Policy(), history)) == {"a": "active", "c": "standby"}
    # One that stood by stays until everybody is back.
    fleet[1] = cluster("b", state="drained")
    assert moves(plan(fleet, Request("failback", ("a",)), Policy(), history)) == {"a": "active"}
    assert plan([cluster("a")], FAILBACK, Policy(), NOW).status == "nothing"


@pytest.mark.parametrize("sick", [{"served": SILENT}, {"up": False}, {"models": {}}])
def test_a_sick_cluster_does_not_return(sick: dict[str, Any]) -> None:
    assert refused_by(plan([cluster("a", state="drained", **sick), cluster("b")], FAILBACK, Policy(), NOW)) == [
        "target_healthy"
    ]


def interrupted(found: Plan, run: str = "r1") -> Unfinished:
    return Unfinished(run, found.action, {move.cluster: (move.before, move.after) for move in found.moves})


def apply(fleet: Mapping[str, Cluster], found: Plan, count: int | None = None) -> dict[str, Cluster]:
    """Carry out the first moves of a plan."""
    changed = dict(fleet)
    for move in found.moves[:count]:
        changed[move.cluster] = replace(changed[move.cluster], state=move.after)
    return changed


def test_an_interrupted_run_goes_on() -> None:
    fleet = {entry.name: entry for entry in (cluster("a", SILENT), cluster("b", state="standby"))}
    whole = plan(fleet.values(), FAILOVER, Policy(cooldown=300), NOW)
    for count in range(len(whole.moves) + 1):
        history = History(since_shift=1.0, unfinished=interrupted(whole))
        resumed = plan(apply(fleet, whole, count).values(), FAILOVER, Policy(cooldown=300), history)
        assert (resumed.status, resumed.resumes) == ("go", "r1")
        assert apply(apply(fleet, whole, count), resumed) == apply(fleet, whole)


def test_another_request_replaces_an_interrupted_run() -> None:
    fleet = [cluster("a"), cluster("b"), cluster("c")]
    first = plan(fleet, Request("failover", ("a",)), Policy(), NOW)
    found = plan(fleet, Request("failover", ("b",)), Policy(), History(unfinished=interrupted(first)))
    assert (moves(found), found.abandons, found.resumes) == ({"b": "drained"}, "r1", "")


def test_a_run_is_not_resumed_against_the_rules() -> None:
    """The target of an interrupted run died meanwhile, and the cluster that was to be left is well again."""
    first = plan([cluster("a", SILENT), cluster("b")], FAILOVER, Policy(), NOW)
    found = plan([cluster("a"), cluster("b", SILENT)], FAILOVER, Policy(), History(unfinished=interrupted(first)))
    assert (moves(found), found.abandons) == ({"b": "drained"}, "r1")


def test_a_shift_is_undone() -> None:
    fleet = {entry.name: entry for entry in (cluster("a"), cluster("b"), cluster("c", state="standby"))}
    first = plan(fleet.values(), Request("failover", ("a", "b")), Policy(), NOW)
    shifted = apply(fleet, first)
    assert {name: entry.state for name, entry in shifted.items()} == {"a": "drained", "b": "drained", "c": "active"}
    dead = {**shifted, "c": replace(shifted["c"], models={"m": SILENT}, up=False)}
    undo = plan(dead.values(), Request("revert"), Policy(cooldown=300), History(1.0, unfinished=interrupted(first)))
    assert undo.status == "go"
    assert {name: entry.state for name, entry in apply(dead, undo).items()} == {
        "a": "active",
        "b": "active",
        "c": "standby",
    }


def test_clusters_are_selected_by_name_and_cloud() -> None:
    fleet = [cluster("a", cloud="aws"), cluster("b", cloud="gcp"), cluster("c", cloud="aws")]
    assert select(fleet, ["aws", "b"], "failover_from") == ("a", "b", "c")
    for word in ("azure", ""):
        with pytest.raises(InputError, match=f"failover_from: '{word}' is no member .* The members are a, b, c"):
            select(fleet, [word], "failover_from")


def test_300_clusters() -> None:
    """The benchmark has the figure; this holds the order of it."""
    fleet = [cluster(f"c{number}", SILENT if number % 7 == 0 else RIGHT, cloud="x") for number in range(300)]
    start = time.process_time()
    found = plan(fleet, FAILOVER, Policy(required_capacity=100), NOW)
    assert len(found.moves) == 43
    assert time.process_time() - start < 5


# Random fleets.
served = st.sampled_from([RIGHT, RIGHT, WRONG, SILENT, replace(RIGHT, versions=frozenset({1, 2}))])
clusters = st.builds(
    cluster,
    st.just(""),
    served,
    state=st.sampled_from(["active", "active", "standby", "drained"]),
    jurisdiction=st.sampled_from(["eu", "us"]),
    up=st.sampled_from([True, False, None]),
    capacity=st.sampled_from([None, 0.0, 100.0]),
    replica_rate=st.sampled_from([None, 30.0]),
    rate=st.sampled_from([0.0, 40.0]),
    servers=st.sampled_from([(), (Server("s", 2, 1, 3),), (Server("s", 1, 0, 3),), (Server("s", 1, 1, 1),)]),
)
fleets = st.lists(clusters, min_size=1, max_size=6).map(
    lambda found: {f"c{number}": replace(entry, name=f"c{number}") for number, entry in enumerate(found)}
)
policies = st.builds(
    Policy,
    min_active=st.integers(1, 3),
    required_capacity=st.sampled_from([0.0, 150.0]),
    cooldown=st.sampled_from([0.0, 300.0]),
    versions=st.sampled_from([{}, {"m": frozenset({1, 2})}]),
    jurisdictions=st.sampled_from([{}, {"m": frozenset({"eu"})}]),
    override=st.frozensets(st.sampled_from(RULE_NAMES)),
)


@st.composite
def situations(draw: st.DrawFn) -> tuple[dict[str, Cluster], Request, Policy, History]:
    fleet = draw(fleets)
    names = draw(st.lists(st.sampled_from(sorted(fleet)), unique=True, max_size=3))
    request = Request(draw(st.sampled_from(["failover", "failback"])), tuple(names))
    history = History(
        since_shift=draw(st.sampled_from([None, 1.0, 400.0])),
        gate=draw(st.sampled_from(["", "", "closed"])),
        promoted=frozenset(draw(st.lists(st.sampled_from(sorted(fleet)), max_size=2))),
    )
    return fleet, request, draw(policies), history


def hold(fleet: Mapping[str, Cluster], found: Plan, policy: Policy, history: History) -> None:
    """Assert what no plan may break, by looking at the outcome alone."""
    if found.status != "go":
        return
    after = apply(fleet, found)
    active = [entry for entry in after.values() if entry.state == "active"]
    assert active, "zero members"
    passed_over = policy.override
    if "target_healthy" not in passed_over and found.action == "failover":
        assert any(not entry.wrong(blamed(tuple(fleet.values()))) and entry.asked for entry in active)
    if "min_active" not in passed_over:
        assert len(active) >= policy.min_active
    if "jurisdiction" not in passed_over and policy.jurisdictions:
        assert all(after[name].jurisdiction == "eu" for name in found.targets)
    if "cooldown" not in passed_over and not found.resumes:
        assert history.since_shift is None or history.since_shift >= policy.cooldown
    if "gate" not in passed_over:
        assert not history.gate
    # Only what still serves takes load with it when it is left.
    takes_away = any(move.after == "drained" and fleet[move.cluster].up is not False for move in found.moves)
    if "capacity" not in passed_over and policy.required_capacity and takes_away:
        raised = {(entry.cluster, entry.server): entry.replicas for entry in found.raises}
        total = 0.0
        for name in found.targets:
            entry = after[name]
            grown = tuple(
                replace(server, ready=raised.get((name, server.name), server.ready)) for server in entry.servers
            )
            before, now = entry.servers, grown
            factor = min((n.ready / b.ready for b, n in zip(before, now, strict=True) if b.ready), default=1.0)
            total += (entry.takes() or 0.0) * max(1.0, factor)
        assert total >= policy.required_capacity - 1e-6
    for entry in found.raises:
        server = next(server for server in fleet[entry.cluster].servers if server.name == entry.server)
        assert server.ready < entry.replicas <= server.most


@settings(max_examples=400)
@given(situations())
def test_no_plan_breaks_a_rule(situation: tuple[dict[str, Cluster], Request, Policy, History]) -> None:
    fleet, request, policy, history = situation
    found = plan(fleet.values(), request, policy, history)
    hold(fleet, found, policy, history)
    assert plan(reversed(list(fleet.values())), request, policy, history) == found, "the order of the members matters"


@settings(max_examples=200)
@given(situations(), st.integers(0, 6))
def test_a_resumed_plan_equals_an_uninterrupted_one(
    situation: tuple[dict[str, Cluster], Request, Policy, History], count: int
) -> None:
    fleet, request, policy, history = situation
    whole = plan(fleet.values(), request, policy, history)
    if whole.status != "go":
        return
    cut = apply(fleet, whole, count)
    later = replace(history, since_shift=0.5, unfinished=interrupted(whole))
    resumed = plan(cut.values(), request, policy, later)
    hold(cut, resumed, policy, later)
    if resumed.resumes:
        assert apply(cut, resumed) == apply(fleet, whole)
    again = plan(apply(cut, resumed).values(), request, policy, replace(history, since_shift=0.5))
    assert not (resumed.resumes and again.status == "go" and "cooldown" not in policy.override and policy.cooldown)


class Fleet(RuleBasedStateMachine):
    """Clusters fail and recover, runs shift, are cut off anywhere, and are run again by people and by machines."""

    @initialize(states=st.lists(st.sampled_from(["active", "standby"]), min_size=2, max_size=5), policy=policies)
    def begin(self, states: list[str], policy: Policy) -> None:
        self.clock = 0.0
        self.shifts: list[float] = []
        self.unfinished: Unfinished | None = None
        self.policy = replace(policy, override=frozenset(), jurisdictions={})
        self.fleet = {
            f"c{number}": cluster(f"c{number}", state="active" if number == 0 else state)
            for number, state in enumerate(states)
        }

    @rule(number=st.integers(0, 4), served=served)
    def fault(self, number: int, served: Served) -> None:
        name = sorted(self.fleet)[number % len(self.fleet)]
        self.fleet[name] = replace(self.fleet[name], models={"m": served}, up=served.right)

    @rule(seconds=st.sampled_from([1.0, 100.0, 400.0]))
    def wait(self, seconds: float) -> None:
        self.clock += seconds

    @precondition(lambda self: hasattr(self, "fleet"))
    @rule(
        action=st.sampled_from(["failover", "failback"]),
        number=st.integers(-1, 4),
        cut=st.none() | st.integers(0, 3),
    )
    def run(self, action: str, number: int, cut: int | None) -> None:
        named = () if number < 0 else (sorted(self.fleet)[number % len(self.fleet)],)
        since = self.clock - self.shifts[-1] if self.shifts else None
        history = History(since_shift=since, unfinished=self.unfinished)
        found = plan(self.fleet.values(), Request(action, named), self.policy, history)
        hold(self.fleet, found, self.policy, history)
        if found.status != "go":
            return
        if not found.resumes and since is not None:
            assert since >= self.policy.cooldown, "a second shift in the cooldown"
        # The intent is in the journal before anything moves.
        if not found.resumes:
            self.unfinished = interrupted(found, f"r{len(self.shifts)}")
            self.shifts.append(self.clock)
        self.fleet = apply(self.fleet, found, cut)
        if cut is None:
            self.unfinished = None

    @invariant()
    def somebody_is_active(self) -> None:
        if hasattr(self, "fleet"):
            assert any(entry.state == "active" for entry in self.fleet.values())


TestFleet = Fleet.TestCase


def call(**params: Any) -> Any:
    defaults = {name: spec.get("default") for name, spec in FEATURE.arguments.items()}
    return FEATURE.run(Call({**defaults, **params})).values["plan"]


def test_the_feature_reads_what_the_other_modules_return() -> None:
    def health(right: bool, ready: int = 1) -> dict[str, Any]:
        served = {
            "right": right,
            "answered": right,
            "error": "" if right else "silence",
            "versions": [1],
            "seconds": 0.1,
        }
        server = {"name": "s", "replicas": 1, "ready": ready, "min": None, "max": None}
        return {
            "edge": {"right": right, "models": {"m": served}},
            "api": {"reachable": True, "servers": [{**server, "models": {"m": {"digests": {"1": "sha256:a"}}}}]},
        }

    facts = {"cloud": None, "jurisdiction": None, "capacity": 100.0, "replica_rate": None, "maximum_replicas": 3}
    done = {"action": "failover", "moves": [{"cluster": "c", "before": "standby", "after": "active"}]}
    found = call(
        action="failover",
        members=[{"name": name, "state": "active", "up": name == "b", "rate": 60.0} for name in "ab"],
        clusters=[{"name": name, **facts, "health": health(name == "b")} for name in "ab"],
        models=[{"name": "m", "versions": [1], "jurisdictions": []}],
        journal={
            "gate": {"closed": False},
            "last_shift": {"seconds_ago": 900.0},
            "unfinished": None,
            "runs": [{"run": "r0", "started": "2026-01-01", "outcome": "completed", "plan": done}],
        },
        cooldown=300.0,
    )
    assert found["status"] == "go"
    assert found["moves"][0]["cluster"] == "a"
    assert found["raises"] == [
        {"cluster": "b", "server": "s", "replicas": 2, "reason": "120 requests a second are needed"}
    ]


def test_the_feature_refuses_an_endpoint_that_is_not_there() -> None:
    with pytest.raises(InputError, match="carries no endpoint"):
        call(action="failover", members=[])
