# SPDX-FileCopyrightText: The modelfleet maintainers
# SPDX-License-Identifier: GPL-3.0-or-later
"""What is claimed of Azure Traffic Manager, with a stand-in for Azure (``azure.py`` says what it is)."""

from __future__ import annotations

import copy
import hashlib
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("azure.mgmt.trafficmanager")

import azure.identity

from ansible_collections.modelfleet.serving.plugins.module_utils._endpoint import (
    traffic_manager,
    traffic_manager_api,
    traffic_manager_options,
    traffic_manager_profiles,
)
from ansible_collections.modelfleet.serving.plugins.module_utils._endpoint.balancer import (
    BalancerError,
    ChangedMeanwhileError,
)
from ansible_collections.modelfleet.serving.plugins.module_utils._endpoint.plan import Plan
from ansible_collections.modelfleet.serving.plugins.module_utils._errors import InputError, WaitError

from .azure import FRONT, GROUP, POOL, SUBSCRIPTION, Azure, AzureLab, RefusedError, by_hand
from .scenarios import Scenarios, cut_everywhere, failover

CREDENTIAL = traffic_manager_api._credential
PROBER = {"health_check_path": "/healthz"}
TWO_MODELS = [{"name": "iris"}, {"name": "half_plus_two"}]
IDS = ("subscription_id", "client_id", "secret", "tenant", "ad_user", "password")


@pytest.fixture
def lab(monkeypatch: pytest.MonkeyPatch) -> Iterator[AzureLab]:
    # Tests have no patience, and none of the machine's own credentials.
    monkeypatch.setattr(traffic_manager_api, "_CREDENTIAL_FILE", "/nowhere")
    monkeypatch.setattr(traffic_manager, "_HEALTH_SECONDS", 0.0)
    monkeypatch.setattr(traffic_manager, "_SETTLE_SECONDS", 0.0)
    monkeypatch.setattr(traffic_manager_api, "_BACKOFF_SECONDS", 0.0)
    # One signs in once for a test of many runs, since that takes longer than all calls of one.
    signed_in: list[Any] = []

    def once(*given: Any) -> Any:
        signed_in.extend([] if signed_in else [CREDENTIAL(*given)])
        return signed_in[0]

    monkeypatch.setattr(traffic_manager_api, "_credential", once)
    cloud = Azure()
    cloud.install(monkeypatch)
    try:
        yield AzureLab(cloud)
    finally:
        cloud.close()


class ProberLab(AzureLab):
    """With one path for all models, which several models need."""

    def access(self) -> dict[str, Any]:
        return {**super().access(), **PROBER}


class TestScenarios(Scenarios):
    # A member that no longer stands by is taken out of the front, after the traffic has moved.
    most_drain_writes = 2
    shift = "CreateOrUpdate"
    faults = ("Get", "CheckNameAvailability", shift)
    keeps_others_out = False

    @pytest.fixture
    def lab(self, lab: AzureLab) -> AzureLab:
        return ProberLab(lab.cloud)


def test_what_azure_gets(lab: AzureLab) -> None:
    first, *rest = lab.members("abcd", c="drained", d="standby")
    lab.run(members=[{**first, "weight": 7, "port": 8080}, *({**entry, "port": 8080} for entry in rest)])
    assert lab.cloud.calls[0] == "Token"
    front, pool = (lab.cloud.profiles[name]["properties"] for name in (FRONT, POOL))
    monitor = {
        "protocol": "HTTP",
        "port": 8080,
        "path": "/v1/models/iris/metadata",
        "intervalInSeconds": 10,
        "timeoutInSeconds": 5,
        "toleratedNumberOfFailures": 2,
        "expectedStatusCodeRanges": [{"min": 200, "max": 200}],
        "customHeaders": [],
    }
    assert (front["monitorConfig"], pool["monitorConfig"]) == (monitor, monitor)
    assert (front["trafficRoutingMethod"], pool["trafficRoutingMethod"]) == ("Priority", "Weighted")
    assert front["dnsConfig"] == {"relativeName": "models", "ttl": 30}
    seen = [
        (entry["name"], entry["properties"]["endpointStatus"], entry["properties"]["weight"])
        for entry in pool["endpoints"]
    ]
    assert seen == [("a", "Enabled", 7), ("b", "Enabled", 100), ("c", "Disabled", 100)]
    assert [(entry["name"], entry["properties"]["priority"]) for entry in front["endpoints"]] == [
        ("active_members", 1),
        ("d", 2),
    ]
    assert lab.cloud.profiles[FRONT]["tags"]["modelfleet"] == "Managed by modelfleet.serving.global_endpoint"
    lab.settled()


def test_a_shift_among_active_members_is_one_write(lab: AzureLab) -> None:
    lab.run(members=lab.members("abcd", d="standby"))
    for act in (
        lambda: lab.change("a", "drained"),
        lambda: lab.change("a", "active"),
        lambda: lab.change("a", weight=1),
        lambda: lab.run(members=None, models=None, epoch=7),
    ):
        lab.cloud.writes()
        assert act().changed
        assert lab.cloud.writes() == ["CreateOrUpdate"]
        lab.settled()


def test_any_number_of_active_and_standby_members(lab: AzureLab) -> None:
    cloud = lab.cloud
    *others, last = lab.members("abcd", c="standby", d="standby")
    lab.run(members=[*others, {**last, "weight": 200}])
    assert lab.shares() == {"a": 0.5, "b": 0.5}
    cloud.sick = {lab.address("a")}
    assert lab.shares() == {"b": 1}
    cloud.sick |= {lab.address("b")}
    assert lab.shares() == {"d": 1}, "the heaviest is the first"
    cloud.sick |= {lab.address("d")}
    assert lab.shares() == {"c": 1}
    assert [member["up"] for member in lab.info()["members"]] == [False, False, True, False]
    cloud.sick |= {lab.address("c")}
    assert lab.shares() == {"a": 0.5, "b": 0.5}
    cloud.sick = set()
    lab.settled()


def test_a_failover_moves_traffic_by_its_first_write(lab: AzureLab) -> None:
    lab.run(members=lab.members("abc", c="standby"))
    after: list[dict[str, float]] = []
    lab.cloud.before = lambda _operation: after.append(lab.shares())
    failover(lab, "a", "c")
    lab.cloud.before = lambda _operation: None
    assert next(shares for shares in after if shares != after[0]) == {"b": 0.5, "c": 0.5}
    assert lab.cloud.writes()[-2:] == ["CreateOrUpdate", "CreateOrUpdate"]
    assert [entry["name"] for entry in lab.cloud.profiles[FRONT]["properties"]["endpoints"]] == ["active_members"]
    lab.settled()


def test_members_change_places(lab: AzureLab) -> None:
    lab.run(members=lab.members("abc", c="standby"))
    seen: list[list[str]] = []

    def before(operation: str) -> None:
        if operation == "CreateOrUpdate":
            seen.append([entry["name"] for entry in _endpoints(lab, FRONT)])

    lab.cloud.before = before
    members = [{"name": "a", "state": "standby"}, {"name": "c", "state": "active"}]
    lab.run(members=members, exclusive_members=False, models=None)
    assert seen == [["active_members", "c"], *[["active_members", "a", "c"]] * 2]
    assert lab.shares() == {"b": 0.5, "c": 0.5}
    lab.settled()


# Who stands by is in the front before he leaves the pool, and stays there until the pool has him.
@pytest.mark.parametrize("turn", ["stand by", "change places", "move"])
def test_cut_while_standby_members_change(lab: AzureLab, monkeypatch: pytest.MonkeyPatch, turn: str) -> None:
    states = {
        "stand by": {"b": "standby"},
        "change places": {"a": "standby", "c": "active"},
        "move": {"b": "standby", "c": "drained"},
    }[turn]

    def act() -> Any:
        members = [{"name": name, "state": state} for name, state in states.items()]
        return lab.run(members=members, exclusive_members=False, models=None, wait=False)

    # As it is when it counts: nobody but the standby is well.
    lab.cloud.sick = {lab.address("a"), lab.address("b")}
    cut_everywhere(lab, monkeypatch, lambda: lab.run(members=lab.members("abc", c="standby"), wait=False), act)


def test_the_nearest_region_answers(lab: AzureLab) -> None:
    locations = {"westeurope": ["a", "b"], "East US": "c"}
    lab.run(traffic_manager={"policy": "performance", "locations": locations})
    where = {entry["name"]: entry["properties"]["endpointLocation"] for entry in _endpoints(lab, POOL)}
    assert where == {"a": "West Europe", "b": "West Europe", "c": "East US"}
    assert lab.cloud.shares(region="eastus") == {lab.address("c"): 1.0}
    lab.settled()
    lab.change("c", "drained")
    assert lab.cloud.shares(region="eastus") == {lab.address("a"): 0.5, lab.address("b"): 0.5}
    lab.change("c", "standby")
    lab.settled()
    lab.cloud.sick = {lab.address("a"), lab.address("b")}
    assert lab.shares() == {"c": 1}
    # To another policy and back.
    lab.run(members=None, models=None, traffic_manager={"policy": "weighted", "locations": {}}, wait=False)
    lab.settled()


def _endpoints(lab: AzureLab, profile: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = lab.cloud.profiles[profile]["properties"]["endpoints"]
    return found


def test_residency_by_place(lab: AzureLab) -> None:
    locations = {"DE": ["a", "b"], "GEO-EU": ["b", "a"], "WORLD": "c"}
    lab.run(traffic_manager={"policy": "geographic", "locations": locations})
    a, b, c = ({lab.address(name): 1.0} for name in "abc")
    assert [lab.cloud.shares(place) for place in ("DE", "FR", "JP")] == [a, b, c]
    lab.settled()
    # Who is drained is followed by the next of the place, and never by one that is not named.
    lab.change("a", "drained")
    assert [lab.cloud.shares(place) for place in ("DE", "FR", "JP")] == [b, b, c]
    lab.settled()
    with pytest.raises(InputError, match=r"every member of the place .* would be drained"):
        lab.change("b", "drained")
    # One that stands by in his place, and takes no other.
    lab.change("a", "standby")
    assert [lab.cloud.shares(place) for place in ("DE", "FR", "JP")] == [b, b, c]
    assert [entry["name"] for entry in _endpoints(lab, FRONT)] == ["active_members"]
    assert [member["up"] for member in lab.settled()["members"]] == [True, True, True]
    lab.change("b", "drained")
    assert [lab.cloud.shares(place) for place in ("DE", "FR", "JP")] == [a, a, c]
    lab.settled()
    with pytest.raises(InputError, match="a is active, and no place"):
        lab.run(
            members=[{"name": n, "state": "active"} for n in "abc"],
            traffic_manager={"locations": {"DE": ["b"], "WORLD": "c"}},
        )


MIXED = [{"name": "a", "address": "9.9.9.9"}, {"name": "b", "address": "b.edge.example.net"}]
PERFORMANCE = {"policy": "performance", "locations": {"westeurope": ["a", "b", "c"]}}


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"members": MIXED}, "records of different types"),
        ({"members": [{"name": "a", "address": "10.0.0.1"}]}, "takes no private address"),
        ({"members": [{"name": name, "address": "x.example.net"} for name in "ab"]}, "have one address"),
        ({"members": [{"name": "a", "address": "models.trafficmanager.net"}]}, "address of the endpoint itself"),
        (
            {"members": [{**MIXED[0], "port": 80}, {"name": "b", "address": "9.9.9.8", "port": 81}]},
            "different ports.*haproxy",
        ),
        ({"members": [{"name": f"m{n}", "address": f"m{n}.example.net"} for n in range(200)]}, "too many"),
        ({"models": [{"name": "iris", "timeout": 9.0}]}, "has a timeout.*haproxy"),
        ({"models": [{"name": "iris", "host": "iris.example.org"}]}, "clients ask for models.trafficmanager.net"),
        ({"models": TWO_MODELS}, "one path, and there are 2 models.*healthz"),
        ({"models": TWO_MODELS, "traffic_manager": {"health_check_path": "/healthz/{model}"}}, "one path"),
        ({"traffic_manager": {"locations": {"WORLD": ["a"]}}}, "mean nothing to the policy weighted"),
        ({"traffic_manager": {"policy": "performance"}}, "nearest to a .found: none"),
        ({"traffic_manager": {"policy": "performance", "locations": {"?": ["a"]}}}, "no place of the policy"),
        ({"traffic_manager": {"policy": "performance", "locations": {"eastus": ["z"]}}}, "names z, which is no"),
        ({"traffic_manager": {"policy": "geographic"}}, "needs locations"),
        ({"traffic_manager": {"policy": "geographic", "locations": {"WORLD": ["a"]}}}, "b is active, and no place"),
        ({"traffic_manager": {"policy": "geographic", "locations": {"Germany": ["a"]}}}, "no place of the policy"),
        (
            {"members": [{**MIXED[1], "weight": 5}, {"name": "a", "address": "a.net"}], "traffic_manager": PERFORMANCE},
            "different weights",
        ),
        ({"traffic_manager": {"health_check_timeout": 10}}, "5 to 9 with an interval of 10"),
        ({"traffic_manager": {"health_check_timeout": 4}}, "out of range"),
        ({"traffic_manager": {"health_check_threshold": 11}}, "out of range"),
        ({"traffic_manager": {"ttl": -1}}, "out of range"),
        ({"traffic_manager": {"health_check_path": "healthz"}}, "is no path"),
        ({"traffic_manager": {"health_check_port": 70000}}, "no TCP port"),
        ({"traffic_manager": {"health_check_host": "no host"}}, "health_check_host"),
        ({"traffic_manager": {"locations": {"WORLD": []}}}, "no list of members"),
        ({"traffic_manager": {"resource_group": "other"}}, "ResourceGroupNotFound.*Make the resource group"),
        ({"traffic_manager": {"resource_group": "a/b"}}, "no name of a resource group"),
        ({"traffic_manager": {"profile_name": "x" * 59}}, "no name of a profile"),
        ({"traffic_manager": {"relative_name": "a.b"}}, "relative_name"),
        ({"traffic_manager": {"subscription_id": None}}, "no subscription is given"),
        ({"traffic_manager": {"subscription_id": "1" * 8}}, "SubscriptionNotFound.*another tenant"),
        ({"traffic_manager": {"cloud_environment": "Mars"}}, "no cloud"),
    ],
)
def test_refusals(lab: AzureLab, changed: dict[str, Any], words: str) -> None:
    for check in (True, False):
        with pytest.raises((InputError, BalancerError), match=words):
            lab.run(check=check, **changed)
    assert lab.cloud.writes() == []


def test_health_checks(lab: AzureLab) -> None:
    members = [{"name": "a", "address": "9.9.9.9"}, {"name": "b", "address": "9.9.9.8"}]
    given = {"health_check_type": "HTTPS", "health_check_host": "models.example.org", "health_check_threshold": 1}
    hosted = [{"name": "iris", "host": "models.example.org"}]
    lab.run(members=members, models=hosted, traffic_manager={**given, "health_check_path": "/healthz/{model}"})
    monitor = lab.cloud.profiles[POOL]["properties"]["monitorConfig"]
    assert (monitor["protocol"], monitor["path"], monitor["toleratedNumberOfFailures"]) == ("HTTPS", "/healthz/iris", 0)
    assert monitor["customHeaders"] == [{"name": "Host", "value": "models.example.org"}]
    lab.settled()
    slow = {"health_check_type": "TCP", "health_check_interval": 30, "health_check_timeout": 10, "health_check_port": 1}
    lab.run(members=None, models=None, traffic_manager=slow)
    for profile in (FRONT, POOL):
        assert lab.cloud.profiles[profile]["properties"]["monitorConfig"] == {
            "protocol": "TCP",
            "port": 1,
            "intervalInSeconds": 30,
            "timeoutInSeconds": 10,
            "toleratedNumberOfFailures": 0,
        }
    lab.settled()
    # From addresses to names.
    lab.run(members=lab.members("ab"), models=None)
    assert lab.shares() == {"a": 0.5, "b": 0.5}
    lab.settled()


def test_without_health_checks(lab: AzureLab) -> None:
    lab.run(traffic_manager={"health_check_type": "NONE"})
    assert lab.info()["members"][0]["up"] is None
    lab.cloud.sick = {lab.address(name) for name in "abc"}
    lab.change("a", "drained")
    assert lab.shares() == {"b": 0.5, "c": 0.5}
    with pytest.raises(InputError, match="b would stand by"):
        lab.change("b", "standby")
    lab.settled()


def test_what_traffic_manager_finds(lab: AzureLab) -> None:
    lab.run(members=lab.members("abcd", c="drained", d="standby"))
    lab.cloud.sick = {lab.address("a")}
    lab.cloud.unasked = {lab.address("d")}
    info = lab.info()
    # It does not check who is drained, and says nothing against him.
    assert [member["up"] for member in info["members"]] == [False, True, True, False]
    assert [member["models"] for member in info["members"]][1:3] == [{"iris": True}, {}]
    assert info["members"][0]["reasons"] == {"iris": "Degraded: its health check fails"}
    assert info["members"][3]["reasons"] == {"iris": "CheckingEndpoint: no result of its health check yet"}
    assert info["fail_open"] == []
    with pytest.raises(WaitError, match="iris: Degraded: its health check fails"):
        lab.change("a", weight=50, wait_timeout=0)


def _weight(lab: AzureLab) -> None:
    lab.cloud.endpoint(POOL, "a")["weight"] = 7


def _disabled(lab: AzureLab) -> None:
    lab.cloud.endpoint(POOL, "a")["endpointStatus"] = "Disabled"


def _enabled(lab: AzureLab) -> None:
    lab.cloud.endpoint(POOL, "c")["endpointStatus"] = "Enabled"


def _standby_disabled(lab: AzureLab) -> None:
    lab.cloud.endpoint(FRONT, "d")["endpointStatus"] = "Disabled"


def _target(lab: AzureLab) -> None:
    lab.cloud.endpoint(POOL, "a")["target"] = "evil.example.net"


def _served_always(lab: AzureLab) -> None:
    lab.cloud.endpoint(POOL, "a")["alwaysServe"] = "Enabled"


def _headers(lab: AzureLab) -> None:
    lab.cloud.endpoint(POOL, "a")["customHeaders"] = [{"name": "Host", "value": "x"}]


def _less(lab: AzureLab) -> None:
    lab.cloud.profiles[POOL]["properties"]["endpoints"].pop(0)


def _more(lab: AzureLab) -> None:
    lab.cloud.profiles[FRONT]["properties"]["endpoints"].append(
        {
            "name": "x",
            "type": "Microsoft.Network/trafficManagerProfiles/externalEndpoints",
            "properties": {"target": "x.example.net", "priority": 9, "weight": 1},
        }
    )


def _profile_disabled(lab: AzureLab) -> None:
    lab.cloud.profiles[FRONT]["properties"]["profileStatus"] = "Disabled"


def _method(lab: AzureLab) -> None:
    lab.cloud.profiles[POOL]["properties"]["trafficRoutingMethod"] = "Priority"


def _path(lab: AzureLab) -> None:
    lab.cloud.profiles[POOL]["properties"]["monitorConfig"]["path"] = "/"


def _ttl(lab: AzureLab) -> None:
    lab.cloud.profiles[FRONT]["properties"]["dnsConfig"]["ttl"] = 3600


def _front_gone(lab: AzureLab) -> None:
    del lab.cloud.profiles[FRONT]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (_weight, "a: weight 7 was set by hand; active, weight 100 is wanted"),
        (_disabled, "a: disabled was set by hand"),
        (_enabled, "c: enabled was set by hand; drained"),
        (_standby_disabled, "d: disabled was set by hand; standby"),
        (_target, "(models-pool: a)"),
        (_served_always, "(models-pool: a)"),
        (_headers, "(models-pool: a)"),
        (_less, "(models-pool: a)"),
        (_more, "(models: x)"),
        (_profile_disabled, "(models: profileStatus)"),
        (_method, "(models-pool: trafficRoutingMethod)"),
        (_path, "(models-pool: monitorConfig)"),
        (_ttl, "(models: dnsConfig)"),
        (_front_gone, "the profile models is missing"),
    ],
)
def test_what_was_changed_by_hand_is_mended(lab: AzureLab, change: Callable[[AzureLab], None], words: str) -> None:
    members = lab.members("abcd", c="drained", d="standby")
    lab.run(members=members)
    change(lab)
    [drift] = lab.info()["drift"]
    assert words in f"{drift['subject']}: {drift['reason']}"
    assert lab.run(members=members).changed
    assert not lab.run(members=members).changed
    assert lab.shares() == {"a": 0.5, "b": 0.5}
    lab.settled()


def test_what_azure_writes_its_own_way_is_no_change(lab: AzureLab) -> None:
    lab.run()
    for profile in lab.cloud.profiles.values():
        profile["tags"] = {name.upper(): value for name, value in profile["tags"].items()}
    lab.cloud.endpoint(FRONT, "active_members")["targetResourceId"] = lab.cloud.id(POOL).upper()
    assert not lab.run().changed
    lab.settled()


def many(number: int) -> list[dict[str, Any]]:
    """Give members whose names cannot be packed well."""
    names = [f"m{hashlib.sha256(bytes([entry])).hexdigest()[:32]}" for entry in range(number)]
    return [{"name": name, "address": f"{name}.example.net"} for name in names]


def test_tags_of_others_stay(lab: AzureLab) -> None:
    lab.run(members=many(20))
    for profile in (FRONT, POOL):
        lab.cloud.profiles[profile]["tags"]["cost-center"] = "7"
    lab.settled()
    lab.change(many(1)[0]["name"], "standby")
    assert {profile["tags"]["cost-center"] for profile in lab.cloud.profiles.values()} == {"7"}
    parts = [name for name in lab.cloud.profiles[POOL]["tags"] if name.startswith("modelfleet-definition")]
    assert len(parts) > 1
    # The definition is smaller then, and no old part is left.
    lab.run(members=lab.members("a"), models=None)
    assert [name for name in lab.cloud.profiles[POOL]["tags"] if name.startswith("modelfleet-def")] == parts[:2]
    lab.settled()


def test_a_definition_that_does_not_fit_is_refused(lab: AzureLab) -> None:
    lab.run()
    lab.cloud.profiles[POOL]["tags"] |= {f"tag-{number}": "x" for number in range(43)}
    lab.cloud.writes()
    with pytest.raises(InputError, match=r"needs \d+ tags, and the profile has room for 7.*haproxy"):
        lab.run(members=many(100))
    assert lab.cloud.writes() == []


def test_a_damaged_definition_is_left_alone(lab: AzureLab) -> None:
    lab.run()
    lab.cloud.profiles[POOL]["tags"]["modelfleet-definition-01"] = "x"
    lab.cloud.writes()
    with pytest.raises(BalancerError, match=r"models-pool has a damaged definition in its tags.*adopt=true"):
        lab.run()
    assert lab.cloud.writes() == []
    lab.run(adopt=True)
    lab.settled()


def test_a_pool_that_is_gone(lab: AzureLab) -> None:
    lab.run()
    del lab.cloud.profiles[POOL]
    lab.cloud.profiles[FRONT]["properties"]["endpoints"] = []
    for act in (lab.run, lab.remove):
        with pytest.raises(BalancerError, match=r"models has lost models-pool.*adopt=true"):
            act()
    lab.run(adopt=True)
    lab.settled()


def test_a_pool_of_somebody_else(lab: AzureLab) -> None:
    lab.cloud.put(POOL, by_hand("other"))
    with pytest.raises(BalancerError, match="models-pool was made by hand"):
        lab.run()
    assert lab.cloud.writes() == []
    lab.run(adopt=True)
    assert lab.cloud.profiles[POOL]["properties"]["dnsConfig"]["relativeName"] == "other"
    assert lab.cloud.profiles[POOL]["tags"]["cost-center"] == "7"
    lab.settled()


def test_names_in_the_world(lab: AzureLab) -> None:
    lab.cloud.taken = {"models"}
    for check in (True, False):
        with pytest.raises(InputError, match=r"models\.trafficmanager\.net cannot be had: Domain name is already"):
            lab.run(check=check)
    # Who may not ask is told by Azure itself; what is made until then is used by the next run.
    lab.cloud.faults = [("CheckNameAvailability", "forbidden")]
    with pytest.raises(BalancerError, match=r"Domain name is already in use"):
        lab.run()
    lab.run(traffic_manager={"relative_name": "fleet"})
    assert lab.cloud.profiles[FRONT]["properties"]["dnsConfig"]["relativeName"] == "fleet"
    with pytest.raises(InputError, match="has the name fleet"):
        lab.run()


def test_who_was_overtaken_decides_anew(lab: AzureLab) -> None:
    lab.run()
    reads = 0

    def before(operation: str) -> None:
        # Just before the last look.
        nonlocal reads
        reads += operation == "Get"
        if reads == 3:
            reads = 99
            lab.change("b", "drained", wait=False)

    lab.cloud.before = before
    lab.change("a", "drained")
    assert lab.drained() == {"a", "b"}
    assert lab.shares() == {"c": 1}
    lab.settled()


def test_who_was_overwritten_does_it_again(lab: AzureLab, monkeypatch: pytest.MonkeyPatch) -> None:
    """The other one has read before this one writes, and writes while this one waits."""
    lab.run()
    restore = lab.cloud.snapshot()
    lab.change("b", "drained")
    other = lab.cloud.profiles
    restore()
    slept: list[float] = []

    def sleep(seconds: float) -> None:
        slept.append(seconds)
        if seconds == 1.5 and len([entry for entry in slept if entry == 1.5]) == 1:
            lab.cloud.profiles = other

    monkeypatch.setattr(traffic_manager, "_SETTLE_SECONDS", 1.5)
    monkeypatch.setattr(traffic_manager.time, "sleep", sleep)
    assert lab.change("a", "drained").changed
    assert lab.drained() == {"a", "b"}
    assert lab.shares() == {"c": 1}


def test_who_was_built_upon_is_done(lab: AzureLab, monkeypatch: pytest.MonkeyPatch) -> None:
    lab.run()
    done: list[Any] = []

    def sleep(seconds: float) -> None:
        if seconds and not done:
            done.append("begun")
            lab.change("b", "drained", wait=False)

    monkeypatch.setattr(traffic_manager, "_SETTLE_SECONDS", 1.5)
    monkeypatch.setattr(traffic_manager.time, "sleep", sleep)
    lab.cloud.calls.clear()
    assert lab.change("a", "drained", wait=False).changed
    assert len(lab.cloud.writes()) == 2
    assert lab.drained() == {"a", "b"}


def test_a_teardown_stops_when_somebody_changes_it(lab: AzureLab) -> None:
    lab.run()
    lab.meanwhile(lambda: lab.change("a", weight=9, wait=False), "Delete")
    lab.cloud.leaving = True
    balancer = traffic_manager.TrafficManager(lab.params()["traffic_manager"])
    observed = balancer.read()
    with pytest.raises(ChangedMeanwhileError, match="models-pool is no longer what was read"):
        balancer.apply(Plan(observed, None))
    assert POOL in lab.cloud.profiles
    lab.run()
    lab.settled()


def test_a_write_is_not_repeated_blindly(lab: AzureLab) -> None:
    lab.run()
    lab.cloud.calls.clear()
    lab.cloud.faults = [("CreateOrUpdate", "broken"), ("CreateOrUpdate", "lost")]
    lab.change("a", "drained", wait=False)
    assert lab.cloud.calls == ["Get"] * 2 + ["Get", "CreateOrUpdate"] * 2 + ["Get"] * 3
    assert lab.shares() == {"b": 0.5, "c": 0.5}
    # Whoever came in between two tries is not overwritten.
    lab.cloud.faults = [("CreateOrUpdate", "broken")]
    lab.cloud.calls.clear()
    reads = 0

    def before(operation: str) -> None:
        nonlocal reads
        reads += operation == "Get"
        if reads == 4:
            reads = 99
            lab.cloud.faults = []
            lab.change("b", weight=9, wait=False)

    lab.cloud.before = before
    lab.change("a", "active", wait=False)
    assert lab.shares() == pytest.approx({"a": 100 / 209, "b": 9 / 209, "c": 100 / 209}, abs=1e-5)
    lab.settled()


def test_what_lasts_is_told(lab: AzureLab) -> None:
    lab.run()
    lab.cloud.faults = [("CreateOrUpdate", "broken")] * 99
    with pytest.raises(BalancerError, match="InternalServerError"):
        lab.change("a", "drained")
    lab.cloud.faults = []
    assert lab.shares() == {"a": 0.333333, "b": 0.333333, "c": 0.333333}
    lab.settled()


def test_an_azure_that_is_not_there(lab: AzureLab) -> None:
    with pytest.raises(BalancerError, match=r"Azure cannot be reached.*endpoint_url"):
        lab.run(traffic_manager={"endpoint_url": "https://127.0.0.1:1"})


def _credential(monkeypatch: pytest.MonkeyPatch, **options: Any) -> tuple[Any, dict[str, Any]]:
    """Give the credential that options and environment lead to, and what it was made of."""
    made: dict[str, Any] = {}

    class Client:
        def __init__(self, **given: Any) -> None:
            made.update(given)

    import azure.mgmt.trafficmanager as sdk

    monkeypatch.setattr(sdk, "TrafficManagerManagementClient", Client)
    given = dict.fromkeys((*IDS, "profile", "auth_source", "cloud_environment", "endpoint_url"))
    traffic_manager_api.Api({**given, "timeout": 1.0, "resource_group": GROUP, **options}).connect()
    return made["credential"], made


PRINCIPAL = {"client_id": "c", "secret": "s", "tenant": "t", "subscription_id": SUBSCRIPTION}


def test_credentials(lab: AzureLab, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(traffic_manager_api, "_credential", CREDENTIAL)
    credential, made = _credential(monkeypatch, **PRINCIPAL)
    assert isinstance(credential, azure.identity.ClientSecretCredential)
    assert (credential._client_id, made["subscription_id"]) == ("c", SUBSCRIPTION)
    for source, kind in (
        ("cli", azure.identity.AzureCliCredential),
        ("msi", azure.identity.ManagedIdentityCredential),
        ("auto", azure.identity.DefaultAzureCredential),
    ):
        found, _made = _credential(monkeypatch, subscription_id="x", auth_source=source)
        assert isinstance(found, kind)
    with pytest.raises(InputError, match="tenant are missing"):
        _credential(monkeypatch, subscription_id="x", client_id="c", secret="s")

    person = {"subscription_id": "x", "ad_user": "p@example.org", "password": "w"}
    credential, _made = _credential(monkeypatch, **person)
    assert isinstance(credential, azure.identity.UsernamePasswordCredential)
    assert (credential._username, credential._password, credential._tenant_id) == (
        "p@example.org",
        "w",
        "organizations",
    )
    credential, _made = _credential(monkeypatch, **person, client_id="c", tenant="t")
    assert (credential._client_id, credential._tenant_id) == ("c", "t")
    for more in ({"password": None}, {"ad_user": None}, {"secret": "s"}):
        with pytest.raises(InputError, match="ad_user and password go together"):
            _credential(monkeypatch, **{**person, **more})

    # As AWX sets them.
    for name, value in (("CLIENT_ID", "e"), ("SECRET", "s"), ("TENANT", "t"), ("SUBSCRIPTION_ID", "sub")):
        monkeypatch.setenv(f"AZURE_{name}", value)
    monkeypatch.setenv("AZURE_CLOUD_ENVIRONMENT", "AzureUSGovernment")
    credential, made = _credential(monkeypatch)
    assert (credential._client_id, made["subscription_id"]) == ("e", "sub")
    assert made["cloud_setting"].name == "AZURE_US_GOVERNMENT"
    assert "microsoftonline.us" in credential._authority
    # What is asked for is not mixed with what happens to be there.
    with pytest.raises(InputError, match="tenant are missing"):
        _credential(monkeypatch, client_id="c", secret="x")

    path = tmp_path / "credentials"
    path.write_text("[work]\nclient_id=f\nsecret=s%\ntenant=t\nsubscription_id=filed\n")
    monkeypatch.setattr(traffic_manager_api, "_CREDENTIAL_FILE", str(path))
    credential, made = _credential(monkeypatch, profile="work")
    assert (credential._client_id, made["subscription_id"]) == ("f", "filed")
    with pytest.raises(InputError, match="no profile 'play'"):
        _credential(monkeypatch, profile="play")


@pytest.mark.parametrize("module", ["azure.mgmt.trafficmanager", "azure.identity"])
def test_without_the_sdk_it_says_so(lab: AzureLab, monkeypatch: pytest.MonkeyPatch, module: str) -> None:
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(InputError, match=f"pip install {module.replace('.', '-')}"):
        lab.run()


def test_secrets_are_marked() -> None:
    arguments = traffic_manager_options.arguments()
    assert [name for name, spec in arguments.items() if spec.get("no_log")] == ["secret", "password"]


def test_the_stand_in_takes_no_nonsense(lab: AzureLab) -> None:
    lab.run(members=lab.members("abc", c="standby"))
    cloud = lab.cloud
    good = {
        name: {key: value for key, value in cloud.profiles[name].items() if key != "name"} for name in (FRONT, POOL)
    }
    for name, body in good.items():
        cloud.put(name, body)

    def refused(name: str, change: Callable[[dict[str, Any]], Any], words: str) -> None:
        body = copy.deepcopy(good[name])
        change(body)
        with pytest.raises(RefusedError, match=words):
            cloud.put(name, body)

    def first(body: dict[str, Any]) -> dict[str, Any]:
        found: dict[str, Any] = body["properties"]["endpoints"][0]["properties"]
        return found

    refused(POOL, lambda body: body.update(etag="x"), "there is no field etag")
    refused(POOL, lambda body: first(body).update(weight="1"), "'1' is no int")
    refused(POOL, lambda body: first(body).update(weight=1001), "the weight 1001")
    refused(POOL, lambda body: first(body).update(endpointStatus="drained"), "is none of")
    refused(POOL, lambda body: first(body).update(endpointMonitorStatus="Online"), "Azure's own")
    refused(POOL, lambda body: first(body).update(target="10.0.0.1"), "reserved address")
    refused(POOL, lambda body: first(body).pop("target"), "has a target")
    refused(POOL, lambda body: first(body).update(target="b.edge.example.net"), "one target twice")
    refused(POOL, lambda body: body["properties"]["dnsConfig"].update(fqdn="x"), "Azure's own")
    refused(POOL, lambda body: body["properties"]["dnsConfig"].update(relativeName="x"), "cannot be changed")
    refused(POOL, lambda body: body["properties"]["monitorConfig"].update(timeoutInSeconds=10), "the timeout")
    refused(POOL, lambda body: body["properties"]["monitorConfig"].update(protocol="TCP"), "the path")
    refused(POOL, lambda body: body["properties"].update(trafficRoutingMethod="Geographic"), "no region is mapped")
    refused(POOL, lambda body: body["properties"].update(trafficRoutingMethod="Performance"), "the location")
    refused(POOL, lambda body: body.update(location="westeurope"), "has to be global")
    refused(POOL, lambda body: body["tags"].update({"a b": "x"}), "the tag a b")
    refused(POOL, lambda body: body["tags"].update(x="x" * 257), "the tag x")
    refused(FRONT, lambda body: first(body).update(priority=2), "one priority twice")
    refused(FRONT, lambda body: first(body).update(targetResourceId=cloud.id("gone")), "does not exist")
    with pytest.raises(RefusedError, match="is an endpoint of models"):
        cloud._delete(POOL)
    assert traffic_manager_profiles.decode(cloud.profiles[POOL]).endpoint.name == "models"
