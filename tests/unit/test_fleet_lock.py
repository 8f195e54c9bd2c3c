# SPDX-FileCopyrightText: The modelfleet maintainers
# SPDX-License-Identifier: GPL-3.0-or-later
"""The fleet lock: its rules against contenders that crash, stall and are cut off, and its module on API servers."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from _api_server import ApiServer
from _cluster import Cluster
from _doors import run_module
from _kubernetes import Kubernetes
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from ansible_collections.modelfleet.serving.plugins.module_utils._cluster.arguments import secrets
from ansible_collections.modelfleet.serving.plugins.module_utils._cluster.kinds import Ref
from ansible_collections.modelfleet.serving.plugins.module_utils._endpoint.definition import Endpoint
from ansible_collections.modelfleet.serving.plugins.module_utils._endpoint.plan import RefusedError, check_epoch
from ansible_collections.modelfleet.serving.plugins.module_utils._failover.lease import (
    Claim,
    Decision,
    Lease,
    Seen,
    decide,
    explain,
    suffices,
)
from ansible_collections.modelfleet.serving.plugins.module_utils._failover.lock import FleetLock, _Peer

Json = dict[str, Any]
START = datetime(2026, 1, 1, tzinfo=UTC)
TTL = 10
CLUSTERS = range(3)


@dataclass
class Place:
    """A cluster: its Lease, and its clock, which is nobody else's."""

    offset: float
    lease: Lease = field(default_factory=Lease)

    def date(self, time: float) -> datetime:
        """Give the header Date, which has whole seconds."""
        return (START + timedelta(seconds=time + self.offset)).replace(microsecond=0)

    def write(self, lease: Lease) -> Lease | None:
        """Replace the Lease if it is what the writer has read."""
        if lease.version != self.lease.version:
            return None
        assert lease.epoch >= self.lease.epoch
        self.lease = replace(lease, metadata={"uid": "u", "resourceVersion": str(int(lease.version or 0) + 1)})
        return self.lease


@dataclass
class Contender:
    """A run, between two of its steps at any time. What it holds, it believes until its own clock says otherwise."""

    holder: str
    dates: bool
    started: float = 0.0
    claim: Claim | None = None
    seen: dict[int, Seen] = field(default_factory=dict)
    first: dict[int, tuple[str, float]] = field(default_factory=dict)
    decision: Decision | None = None
    written: dict[int, Lease] = field(default_factory=dict)
    epoch: int = 0
    until: float = 0.0

    def idle(self) -> None:
        """Forget what an attempt has come to."""
        self.claim, self.decision, self.seen, self.written = None, None, {}, {}


class Contenders(RuleBasedStateMachine):
    """Three runs want the lock of three clusters. Each read and each write is a step of its own."""

    who = st.integers(0, 2)
    where = st.sampled_from(CLUSTERS)
    dated = True

    def __init__(self) -> None:
        super().__init__()
        self.time = 0.0
        self.places = [Place(offset) for offset in (0.0, 1000.3, -500.6)]
        self.runs = [Contender(f"run-{number}", dates=self.dated) for number in range(3)]
        self.born = len(self.runs)
        self.granted: dict[int, str] = {}
        self.forced: set[str] = set()
        self.endpoint = Endpoint("models", (), (), {})
        self.writes: list[int] = []

    @rule(seconds=st.sampled_from([0.25, 1.0, 4.0, TTL - 2, TTL + 1]))
    def time_passes(self, seconds: float) -> None:
        self.time += seconds

    @rule(who=who, force=st.integers(0, 9), renew=st.booleans())
    def begin(self, who: int, force: int, renew: bool) -> None:
        run = self.runs[who]
        forced = self.runs[force].holder if force < 3 and force != who else ""
        run.idle()
        run.started = self.time
        run.claim = Claim(run.holder, TTL, forced, run.epoch or None if renew else None)

    @rule(who=who, where=where)
    def read(self, who: int, where: int) -> None:
        run, place = self.runs[who], self.places[where]
        if run.claim is None or run.decision is not None:
            return
        version, since = run.first.get(where, ("none", 0.0))
        if version != place.lease.version:
            version, since = run.first[where] = (place.lease.version, self.time)
        now = place.date(self.time) if run.dates else None
        run.seen[where] = Seen(place.lease, now, self.time - since)

    @rule(who=who)
    def decide(self, who: int) -> None:
        run = self.runs[who]
        if run.claim is None or run.decision is not None:
            return
        decision = decide(len(self.places), {str(key): entry for key, entry in run.seen.items()}, run.claim)
        if decision.epoch:
            run.decision = decision
        else:
            run.idle()

    @rule(who=who, where=where, heard=st.booleans())
    def write(self, who: int, where: int, heard: bool) -> None:
        run = self.runs[who]
        if run.claim is None or run.decision is None or str(where) not in run.decision.clusters:
            return
        before = self.places[where].lease
        written = self.places[where].write(run.claim.written(run.seen[where], run.decision.epoch))
        if written is not None:
            if run.claim.force_holder and before.holder == run.claim.force_holder:
                self.forced.add(before.holder)
            if heard:
                run.written[where] = written

    @rule(who=who)
    def finish(self, who: int) -> None:
        run = self.runs[who]
        if run.claim is None or run.decision is None:
            return
        if suffices(len(self.places), run.written, run.seen, run.claim):
            run.epoch, run.until = run.decision.epoch, run.started + TTL
            assert self.granted.setdefault(run.epoch, run.holder) == run.holder
        elif not run.decision.renews:
            # It may have had some of them before; it is told that it does not hold the lock.
            run.until = 0.0
            for where, lease in run.written.items():
                self.places[where].write(lease.released())
        run.idle()

    @rule(who=who, force=st.integers(0, 9), reached=st.sets(where, min_size=2), written=st.sets(where, min_size=1))
    def attempt(self, who: int, force: int, reached: set[int], written: set[int]) -> None:
        """All steps at once; the others may be in the middle of theirs."""
        self.begin(who, force, renew=False)
        for where in reached:
            self.read(who, where)
        self.decide(who)
        for where in written:
            self.write(who, where, heard=True)
        self.finish(who)

    @rule(who=who, reached=st.sets(where))
    def release(self, who: int, reached: set[int]) -> None:
        run = self.runs[who]
        for where in reached:
            lease = self.places[where].lease
            if lease.holder == run.holder and lease.epoch == run.epoch:
                self.places[where].write(lease.released())
        run.idle()
        run.until = 0.0

    @rule(who=who)
    def crash(self, who: int) -> None:
        self.runs[who] = Contender(f"run-{self.born}", self.dated)
        self.born += 1

    @rule(who=who)
    def move_traffic(self, who: int) -> None:
        """Also long after the lock was lost: a run that was stopped does not know."""
        run = self.runs[who]
        if not run.epoch:
            return
        newest = max(self.writes, default=0)
        try:
            check_epoch(self.endpoint, run.epoch)
        except RefusedError:
            assert run.epoch < newest
            return
        assert run.epoch >= newest
        self.writes.append(run.epoch)
        self.endpoint = replace(self.endpoint, epoch=run.epoch)

    @rule()
    def the_dead_do_not_hold_it_for_ever(self) -> None:
        """Whatever was left behind, a run that comes after some time gets the lock."""
        self.time += TTL + 2
        seen = {str(where): Seen(place.lease, place.date(self.time)) for where, place in enumerate(self.places)}
        if self.dated:
            assert len(decide(len(seen), seen, Claim("run-late", TTL)).clusters) == len(seen)

    @invariant()
    def two_never_hold_it_at_once(self) -> None:
        holders = [run for run in self.runs if self.time < run.until and run.holder not in self.forced]
        assert len(holders) <= 1, holders


class ContendersWithoutDates(Contenders):
    """The same where no API server tells the time."""

    dated = False


TestContenders = Contenders.TestCase
TestContenders.settings = settings(max_examples=300, stateful_step_count=60, deadline=None)
TestContendersWithoutDates = ContendersWithoutDates.TestCase
TestContendersWithoutDates.settings = settings(max_examples=100, stateful_step_count=60, deadline=None)


def held(renewed: float, ttl: float = TTL) -> Lease:
    when = START + timedelta(seconds=renewed)
    return Lease("other", 3, ttl, when, when, {"uid": "u", "resourceVersion": "1"})


@pytest.mark.parametrize(
    ("now", "unchanged", "expired"),
    [
        (10.0, 0.0, False),  # read at 0.9 and at 10.0, both dates cut off: 9.1 s
        (11.0, 0.0, True),
        (-500.0, 9.9, False),  # the server's clock was set back
        (-500.0, 10.0, True),
        (None, 9.9, False),
        (None, 10.0, True),
    ],
)
def test_a_lease_runs_out_by_its_servers_clock_or_before_our_eyes(
    now: float | None, unchanged: float, expired: bool
) -> None:
    time = None if now is None else START + timedelta(seconds=now)
    assert Seen(held(0.0), time, unchanged).expired() is expired


def test_an_unreadable_time_is_no_time() -> None:
    spec = {"holderIdentity": "other", "leaseDurationSeconds": 10, "renewTime": "soon"}
    lease = Lease.from_manifest({"metadata": {}, "spec": spec})
    assert not Seen(lease, START, 9.0).expired()


def test_a_minority_is_enough_only_where_it_is_allowed_and_all_that_answer_agree() -> None:
    seen = {"a": Seen(Lease(), START)}
    assert decide(2, seen, Claim("me", TTL)) == Decision()
    allowed = Claim("me", TTL, allow_minority=True)
    assert decide(2, seen, allowed) == Decision(1, ("a",))
    assert decide(3, {**seen, "b": Seen(held(0.0), START)}, allowed) == Decision()
    assert decide(2, {}, allowed) == Decision()


def test_a_new_epoch_is_above_what_the_endpoint_has_seen() -> None:
    seen = {"a": Seen(Lease(), START)}
    assert decide(1, seen, Claim("me", TTL, above_epoch=41)).epoch == 42


def test_a_refusal_names_holder_time_clusters_and_the_next_step() -> None:
    seen = {name: Seen(held(0.0), START + timedelta(seconds=4)) for name in "ab"}
    message, hint = explain(3, seen, {"c": "no answer in 2.9 s"}, Claim("me", TTL))
    assert message == (
        "2 of 3 clusters are needed; a, b: other has it (since 2026-01-01 00:00:00 UTC, renewed 4 s ago, for 10 s each"
        " time); c: no answer in 2.9 s"
    )
    assert "runs out in 7 s, or give its name as force_holder" in hint


@dataclass
class Fleet:
    """Three small API servers, and the module."""

    servers: dict[str, ApiServer]

    def run(self, holder: str, *, check: bool = False, **more: Any) -> Json:
        clusters = [{"name": name, "host": server.url} for name, server in self.servers.items()]
        return run_module("fleet_lock", {"name": "m", "holder": holder, "clusters": clusters, **more}, check=check)

    def leases(self) -> dict[str, Json]:
        return {name: server.find("leases")[0]["spec"] for name, server in self.servers.items()}

    def writes(self) -> int:
        return sum(len(server.writes()) for server in self.servers.values())

    def cut(self, name: str, times: int = 100, seconds: float = 2.0) -> None:
        """Let a cluster's answers come too late."""
        for method in ("GET", "PUT", "POST"):
            self.servers[name].fail(method, "leases", 200, delay=seconds, times=times)


@pytest.fixture
def fleet(tmp_path: Path) -> Iterator[Fleet]:
    with ExitStack() as stack:
        yield Fleet({name: stack.enter_context(ApiServer(tmp_path)) for name in "abc"})


def test_life(fleet: Fleet) -> None:
    assert fleet.run("one", check=True)["epoch"] == 1
    assert fleet.writes() == 0
    first = fleet.run("one")
    assert (first["changed"], first["held"], first["epoch"], first["holder"]) == (True, True, 1, "one")
    assert [(entry["name"], entry["held"], entry["error"]) for entry in first["clusters"]] == [
        (name, True, "") for name in "abc"
    ]
    assert 58 < first["expires_seconds"] <= 60
    assert fleet.run("one")["epoch"] == 1
    assert fleet.run("one", epoch=1)["held"]
    for check in (True, False):
        before = fleet.writes()
        refused = fleet.run("two", check=check)
        assert refused["failed"]
        assert (refused["held"], refused["holder"]) == (False, "one")
        assert "one has it (since 20" in refused["msg"]
        assert fleet.writes() == before
    assert fleet.run("one", state="released", epoch=9)["changed"] is False
    assert fleet.run("one", state="released", check=True)["changed"] is True
    assert fleet.leases()["a"]["holderIdentity"] == "one"
    released = fleet.run("one", state="released", epoch=1)
    assert (released["changed"], released["held"], released["epoch"]) == (True, False, 1)
    assert fleet.run("one", state="released")["changed"] is False
    assert fleet.run("two")["epoch"] == 2


def test_a_dead_runs_lock_is_taken_over_by_name_or_by_time(fleet: Fleet) -> None:
    fleet.run("dead", ttl=3)
    assert fleet.run("two", force_holder="deaf")["failed"]
    forced = fleet.run("two", force_holder="dead", ttl=3)
    assert forced["epoch"] == 2
    lost = fleet.run("dead", epoch=1)
    assert "dead does not hold it with epoch 1 any more: it is held by two" in lost["msg"]
    started = time.monotonic()
    waited = fleet.run("three", wait=10)
    assert waited["epoch"] == 3
    assert 2 < time.monotonic() - started < 6


def test_a_run_waits_for_another_that_ends(fleet: Fleet) -> None:
    fleet.run("one")
    timer = threading.Timer(0.7, lambda: [server.objects.clear() for server in fleet.servers.values()])
    timer.start()
    assert fleet.run("two", wait=5)["held"]


def test_one_dead_cluster_costs_little_and_two_are_named(fleet: Fleet) -> None:
    fleet.cut("b")
    result = fleet.run("one", timeout=1.5)
    assert result["held"]
    (error,) = [entry["error"] for entry in result["clusters"] if entry["name"] == "b"]
    assert "no answer in" in error
    assert fleet.run("one", state="released", timeout=1.5)["changed"]
    fleet.cut("c")
    refused = fleet.run("one", timeout=1.0)
    assert refused["failed"]
    assert not refused.get("unreachable")
    assert "b: no answer from http://127.0.0.1:" in refused["msg"]
    assert "allow_minority" in refused["msg"]
    assert fleet.run("one", timeout=1.0, allow_minority=True)["held"]


def test_what_a_lost_attempt_took_is_given_back(fleet: Fleet) -> None:
    for name in "bc":
        fleet.servers[name].fail("POST", "leases", 500)
    refused = fleet.run("one")
    assert refused["failed"]
    assert "injected" in refused["msg"]
    assert "holderIdentity" not in fleet.servers["a"].find("leases")[0]["spec"]
    # Its epoch stays: another may have read it.
    assert fleet.servers["a"].find("leases")[0]["spec"]["leaseTransitions"] == 1


def test_what_is_written_after_it_was_given_up_belongs_to_its_run_until_it_runs_out(fleet: Fleet) -> None:
    for name in "bc":
        fleet.servers[name].fail("POST", "leases", 200, delay=0.8)
    assert fleet.run("one", timeout=0.7, ttl=3)["failed"]
    time.sleep(0.5)
    assert "b, c: one has it" in fleet.run("two")["msg"]
    again = fleet.run("one", ttl=3)
    assert (again["held"], again["epoch"]) == (True, 1)
    assert fleet.run("two", wait=6)["epoch"] == 2


def test_a_failed_renewal_leaves_the_lock_as_it_is(fleet: Fleet) -> None:
    fleet.run("one")
    for name in "bc":
        fleet.servers[name].fail("PUT", "leases", 500)
    assert fleet.run("one")["failed"]
    assert {spec["holderIdentity"] for spec in fleet.leases().values()} == {"one"}
    assert fleet.run("one", epoch=1)["held"]


def test_of_many_at_once_one_gets_it_each_time(fleet: Fleet) -> None:
    """Real threads, real sockets: each who gets the lock counts, and gives it back."""
    epochs: list[int] = []
    inside = 0
    overlaps = 0

    def contend(number: int) -> None:
        nonlocal inside, overlaps
        clusters = [{"name": name, "host": server.url} for name, server in fleet.servers.items()]
        for turn in range(2):
            with FleetLock("m", "default", clusters, 3.0) as lock:
                taken = lock.take(Claim(f"run {number} {turn}", 60), 60, check=False)
                inside += 1
                overlaps += inside > 1
                epochs.append(taken.epoch)
                time.sleep(0.02)
                inside -= 1
                lock.release(f"run {number} {turn}", taken.epoch, check=False)

    threads = [threading.Thread(target=contend, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert overlaps == 0
    assert len(epochs) == 8
    assert epochs == sorted(set(epochs))


def test_a_cluster_that_is_listed_twice_is_no_majority(fleet: Fleet) -> None:
    url = fleet.servers["a"].url
    twice = [{"name": "a", "host": url}, {"name": "b", "host": url.replace("127.0.0.1", "localhost")}]
    same = run_module("fleet_lock", {"name": "m", "holder": "one", "clusters": [twice[0], {**twice[0], "name": "b"}]})
    assert "clusters: a and b are the same cluster" in same["msg"]
    other_name = run_module("fleet_lock", {"name": "m", "holder": "one", "clusters": twice})
    assert "clusters: a and b are the same cluster" in other_name["msg"]


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ({"name": "a/b"}, "name: 'a/b' is no valid name"),
        ({"namespace": "A"}, "namespace: 'A' is no valid name"),
        ({"holder": ""}, "holder: '' names nobody"),
        ({"holder": "a\nb"}, "names nobody"),
        ({"ttl": 2}, "ttl: 2 s is too short"),
        ({"timeout": 0}, "timeout: 0 is no time"),
        ({"clusters": []}, "clusters: the list is empty"),
        ({"clusters": [{"name": "a"}, {"name": "a"}]}, "'a' stands there more than once"),
    ],
)
def test_bad_input_is_refused_without_a_call(more: Json, message: str, fleet: Fleet) -> None:
    clusters = [{"name": "a", "host": fleet.servers["a"].url}]
    result = run_module("fleet_lock", {"name": "m", "holder": "one", "clusters": clusters, **more})
    assert message in result["msg"]
    assert fleet.servers["a"].requests == []


def test_the_environments_cluster_is_not_every_cluster(fleet: Fleet, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("K8S_AUTH_HOST", fleet.servers["a"].url)
    clusters = [{"name": name} for name in "abc"]
    result = run_module("fleet_lock", {"name": "m", "holder": "one", "clusters": clusters})
    assert result["failed"]
    assert fleet.servers["a"].requests == []


def test_secrets_of_the_clusters_are_not_shown(fleet: Fleet) -> None:
    clusters: list[Json] = [
        {"name": name, "host": server.url, "api_key": f"token-of-{name}"} for name, server in fleet.servers.items()
    ]
    clusters[0] = {"name": "a", "kubeconfig": kubeconfig(fleet.servers["a"].url, "token-of-a")}
    result = run_module("fleet_lock", {"name": "m", "holder": "one", "clusters": clusters})
    assert result["held"]
    assert "token-of-" not in json.dumps(result)
    assert [server.requests[0].headers["authorization"] for server in fleet.servers.values()] == [
        f"Bearer token-of-{name}" for name in "abc"
    ]
    assert secrets({"clusters": clusters}) == {"token-of-a"}  # the others are hidden by the argument spec


def kubeconfig(url: str, token: str) -> Json:
    return {
        "current-context": "c",
        "contexts": [{"name": "c", "context": {"cluster": "c", "user": "u"}}],
        "clusters": [{"name": "c", "cluster": {"server": url}}],
        "users": [{"name": "u", "user": {"token": token}}],
    }


class TestKubernetes:
    """What only a real API server can say."""

    def run(self, kubernetes: Kubernetes, real: Cluster, holder: str, **more: Any) -> Json:
        connection = {**kubernetes.connection, **more.pop("connection", {})}
        arguments = {"name": "m", "holder": holder, "namespace": real.namespace, **more}
        return run_module("fleet_lock", {**arguments, "clusters": [{"name": "real", **connection}]})

    def test_life(self, kubernetes: Kubernetes, real: Cluster) -> None:
        assert self.run(kubernetes, real, "one", ttl=3)["epoch"] == 1
        assert self.run(kubernetes, real, "one", ttl=3)["epoch"] == 1
        assert "one has it" in self.run(kubernetes, real, "two")["msg"]
        assert self.run(kubernetes, real, "two", wait=8)["epoch"] == 2
        assert self.run(kubernetes, real, "one", state="released")["changed"] is False
        assert self.run(kubernetes, real, "two", state="released")["changed"] is True
        assert self.run(kubernetes, real, "three")["epoch"] == 3

    def test_it_has_run_out_for_a_run_that_has_just_begun(self, kubernetes: Kubernetes, real: Cluster) -> None:
        self.run(kubernetes, real, "one", ttl=3)
        time.sleep(4.1)
        assert self.run(kubernetes, real, "two")["epoch"] == 2

    def test_who_writes_at_the_same_moment_is_refused(self, kubernetes: Kubernetes, real: Cluster) -> None:
        ref = Ref("coordination.k8s.io/v1", "Lease", "modelfleet-m", real.namespace)
        one, two = (_Peer({"name": name, **kubernetes.connection}, ref, 3.0) for name in ("one", "two"))
        for epoch in (1, 2):  # the first creates it, the second replaces it
            seen = one.read(), two.read()
            assert one.write(Claim("one", 60).written(seen[0], epoch)) is not None
            assert two.write(Claim("two", 60).written(seen[1], epoch)) is None

    def test_a_service_account_of_the_namespace_is_enough(self, kubernetes: Kubernetes, real: Cluster) -> None:
        account = f"system:serviceaccount:{real.namespace}:deployer"
        as_account = {"impersonate_user": account}
        assert "(403 Forbidden)" in self.run(kubernetes, real, "one", connection=as_account)["msg"]
        role: Json = {
            "apiVersion": "rbac.authorization.k8s.io/v1",
            "kind": "Role",
            "metadata": real.named("lock"),
            "rules": [
                {"apiGroups": ["coordination.k8s.io"], "resources": ["leases"], "verbs": ["get", "create", "update"]}
            ],
        }
        binding = {
            **role,
            "kind": "RoleBinding",
            "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": "lock"},
            "subjects": [{"kind": "ServiceAccount", "name": "deployer", "namespace": real.namespace}],
        }
        del binding["rules"]
        real.apply(role, binding)
        deadline = time.monotonic() + 10  # the server learns of a role a moment later
        while not (first := self.run(kubernetes, real, "one", connection=as_account))["held"]:
            assert time.monotonic() < deadline, first
        assert self.run(kubernetes, real, "one", connection=as_account)["held"]
        assert self.run(kubernetes, real, "one", connection=as_account, state="released")["changed"]

    def test_a_missing_namespace_is_named(self, kubernetes: Kubernetes, real: Cluster) -> None:
        message = self.run(kubernetes, real, "one", namespace="nowhere")["msg"]
        assert 'namespaces "nowhere" not found' in message
        assert "Make the namespace nowhere" in message
