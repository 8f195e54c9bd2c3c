# SPDX-FileCopyrightText: The modelfleet maintainers
# SPDX-License-Identifier: GPL-3.0-or-later
"""What is claimed of Cloudflare, against a stand-in that is held to its schema (``cloudflare.py`` says how)."""

from __future__ import annotations

import contextlib
import copy
import json
import sys
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from typing import Any

import pytest

pytest.importorskip("cloudflare")

from werkzeug import Response

from ansible_collections.modelfleet.serving.plugins.module_utils._endpoint import (
    cloudflare,
    cloudflare_api,
    cloudflare_objects,
    cloudflare_options,
)
from ansible_collections.modelfleet.serving.plugins.module_utils._endpoint.balancer import BalancerError
from ansible_collections.modelfleet.serving.plugins.module_utils._endpoint.plan import RefusedError
from ansible_collections.modelfleet.serving.plugins.module_utils._errors import InputError, WaitError

from .cloudflare import ACCOUNT, RECORD, TOKEN, ZONE, ZONE_ID, Cloudflare, CloudflareLab
from .lab import free_ports
from .scenarios import MODELS, Scenarios, failover, make_clients_once


@pytest.fixture
def lab(monkeypatch: pytest.MonkeyPatch) -> Iterator[CloudflareLab]:
    for name in ("TOKEN", "API_TOKEN", "API_KEY", "EMAIL", "BASE_URL"):
        monkeypatch.delenv(f"CLOUDFLARE_{name}", raising=False)
    # Tests have no patience.
    monkeypatch.setattr(cloudflare, "_HEALTH_SECONDS", 0.0)
    monkeypatch.setattr(cloudflare, "_SETTLE_SECONDS", 0.0)
    monkeypatch.setattr(cloudflare_api, "_FIRST_PAUSE", 0.001)
    cloud = Cloudflare()
    try:
        yield CloudflareLab(cloud)
    finally:
        cloud.close()


@pytest.fixture
def one_client(monkeypatch: pytest.MonkeyPatch) -> None:
    make_clients_once(monkeypatch, cloudflare_api.Api)


@pytest.mark.usefixtures("one_client")
class TestScenarios(Scenarios):
    shift = "UpdateLoadBalancer"
    faults = ("ListZones", "ListPools", "CreateMonitor", "CreatePool", "CreateLoadBalancer")
    keeps_others_out = False


def of_members(names: str) -> dict[str, float]:
    """Give equal shares."""
    return {name: round(1 / len(names), 6) for name in names}


def meanwhile(lab: CloudflareLab, action: Callable[[], Any], operation: str, number: int = 1) -> None:
    """Do something just before a certain call of an operation."""
    left = number

    def before(called: str) -> None:
        nonlocal left
        if called == operation:
            left -= 1
            if left == 0:
                lab.cloud.before = lambda _called: None
                action()

    lab.cloud.before = before


def test_who_is_overtaken_before_it_writes_decides_anew(lab: CloudflareLab, one_client: None) -> None:
    lab.run()
    lab.meanwhile(lambda: lab.change("b", "drained", wait=False), "GetLoadBalancer")
    lab.change("a", "drained")
    assert lab.drained() == {"a", "b"}
    assert lab.shares() == {"c": 1}
    lab.settled()
    # The last but one, drained at the same time as the last.
    lab.change("b", "active")
    lab.meanwhile(lambda: lab.change("b", "drained", wait=False), "GetLoadBalancer")
    with pytest.raises(RefusedError, match="rule min_active"):
        lab.change("c", "drained")
    assert lab.shares() == {"c": 1}


def test_who_is_overwritten_decides_anew(lab: CloudflareLab, one_client: None) -> None:
    lab.run()
    restore = lab.cloud.snapshot()
    lab.change("b", "drained")
    other = copy.deepcopy(lab.cloud.load_balancer)
    restore()
    # The other one looked before this one wrote, and writes now.
    meanwhile(lab, lambda: lab.cloud.put("LoadBalancer", other["id"], other), "GetLoadBalancer", 2)
    lab.change("a", "drained")
    assert lab.drained() == {"a", "b"}
    assert lab.shares() == {"c": 1}
    lab.settled()


def test_who_is_overtaken_while_it_waits_for_its_turn_decides_anew(lab: CloudflareLab, one_client: None) -> None:
    lab.run()
    lab.cloud.faults = [("UpdateLoadBalancer", "throttled")]
    meanwhile(lab, lambda: lab.change("b", "drained", wait=False), "ListLoadBalancers", 2)
    lab.change("a", "drained")
    assert lab.shares() == {"c": 1}
    lab.settled()


@pytest.mark.parametrize("operation", ["CreateMonitor", "CreatePool", "CreateLoadBalancer"])
def test_two_who_create_it(lab: CloudflareLab, one_client: None, operation: str) -> None:
    meanwhile(lab, lambda: lab.run(wait=False), operation)
    with contextlib.suppress(BalancerError):
        lab.run()
    # What was refused is no problem here.
    lab.cloud.problems.clear()
    lab.run()
    assert lab.shares() == of_members("abc")
    lab.settled()
    assert len(lab.cloud.ours()) == 5


def test_members_change_at_the_same_time(lab: CloudflareLab, one_client: None) -> None:
    lab.run()
    meanwhile(lab, lambda: lab.run(members=lab.members("ab"), wait=False), "CreatePool")
    lab.run(members=lab.members("d"), exclusive_members=False, models=None)
    assert lab.shares() == of_members("abd")
    lab.settled()


@pytest.mark.parametrize("zero", ["fallback", "equal"])
def test_a_standby_takes_over_whatever_a_share_of_nothing_means(
    lab: CloudflareLab, one_client: None, zero: str
) -> None:
    cloud = lab.cloud
    cloud.zero = zero
    lab.run(members=lab.members("abcd", c="standby", d="drained"))
    assert lab.shares() == of_members("ab")
    cloud.sick = {lab.address("a")}
    assert lab.shares() == {"b": 1}
    cloud.sick |= {lab.address("b")}
    assert lab.shares() == {"c": 1}
    cloud.sick |= {lab.address("c")}
    assert lab.shares() == {"c": 1}
    info = lab.info()
    assert info["fail_open"] == ["iris"]
    assert info["members"][0]["reasons"] == {"iris": "2 of 2 data centers: Response code mismatch error"}
    assert info["members"][3]["up"] is True, "who is drained is still checked, so that a failback knows"
    with pytest.raises(WaitError, match="iris: 2 of 2 data centers"):
        lab.change("a", weight=50, wait_timeout=0)
    cloud.health_by_center = False
    assert lab.info()["members"][0]["reasons"] == {"iris": "1 of 1 data centers: Response code mismatch error"}


def test_the_policy_failover(lab: CloudflareLab, one_client: None) -> None:
    cloud = lab.cloud
    members = lab.members("abcd", b="standby", c="standby", d="drained")
    members[2]["weight"] = 200
    lab.run(members=members, cloudflare={"policy": "failover"})
    assert lab.shares() == {"a": 1}
    cloud.sick = {lab.address("a")}
    assert lab.shares() == {"c": 1}, "by weight"
    cloud.sick |= {lab.address("c")}
    assert lab.shares() == {"b": 1}
    cloud.sick |= {lab.address("b")}
    assert lab.shares() == {"a": 1}, "when all fail, none is drained by it"
    cloud.sick = set()
    with pytest.raises(InputError, match="one member takes all traffic, and a, b are active"):
        lab.change("b", "active")
    cloud.calls.clear()
    failover(lab, "a", "b")
    assert cloud.writes() == ["UpdateLoadBalancer"]
    assert lab.shares() == {"b": 1}
    lab.settled()
    # From one policy to another in one write.
    lab.run(members=[{"name": "c", "state": "drained"}], exclusive_members=False, cloudflare={"policy": "weighted"})
    assert cloud.writes() == ["UpdateLoadBalancer"]
    lab.settled()


def test_clusters_by_place(lab: CloudflareLab, one_client: None) -> None:
    cloud = lab.cloud

    def at(country: str, region: str) -> set[str]:
        return {address[0] for address in cloud.shares((country, region))}

    locations = {"country:DE": ["a", "b"], "region:WEU": ["b", "a"], "*": "c"}
    lab.run(cloudflare={"policy": "geographic", "locations": locations})
    assert (at("DE", "WEU"), at("FR", "WEU"), at("US", "ENAM")) == ({"a"}, {"b"}, {"c"})
    lab.settled()
    cloud.sick = {lab.address("a")}
    assert at("DE", "WEU") == {"b"}
    cloud.sick |= {lab.address("b")}
    assert at("DE", "WEU") == {"c"}, "the one fallback pool of all places, as docs/cloudflare.md warns"
    cloud.sick = set()
    cloud.calls.clear()
    lab.change("a", "drained")
    assert cloud.writes() == ["UpdateLoadBalancer"]
    assert at("DE", "WEU") == {"b"}
    lab.settled()
    with pytest.raises(InputError, match=r"every member of the place .* would be drained"):
        lab.change("b", "drained")
    # A place less.
    lab.run(
        members=[{"name": "a", "state": "active"}],
        exclusive_members=False,
        models=None,
        cloudflare={"locations": {"region:WEU": ["b", "a"], "*": "c"}},
    )
    assert at("DE", "WEU") == {"b"}
    lab.settled()
    lab.run(cloudflare={"policy": "weighted", "locations": {}})
    assert lab.shares() == of_members("abc")
    assert cloud.load_balancer["region_pools"] == {}, "or its pools could never be deleted"
    lab.settled()


def test_without_the_proxy(lab: CloudflareLab, one_client: None) -> None:
    lab.run()
    first = lab.cloud.load_balancer
    assert first["proxied"] is True
    assert first["adaptive_routing"] == {"failover_across_pools": True}
    assert "ttl" not in first
    assert lab.cloud.pool("a")["origins"][0]["port"] == 80
    lab.run(cloudflare={"proxied": False, "ttl": 60})
    assert (lab.cloud.load_balancer["proxied"], lab.cloud.load_balancer["ttl"]) == (False, 60)
    assert "port" not in lab.cloud.pool("a")["origins"][0]
    lab.settled()


def test_a_member_moves_with_the_write_of_the_load_balancer(lab: CloudflareLab, one_client: None) -> None:
    cloud = lab.cloud
    lab.run(members=lab.members("ab"))
    cloud.calls.clear()
    seen = []
    cloud.before = lambda called: seen.append(lab.cloud.shares()) if called == "UpdateLoadBalancer" else None
    lab.run(members=[{"name": "a", "address": "2606:4700:0:0::1", "port": 8080}], exclusive_members=False, models=None)
    cloud.before = lambda _called: None
    assert cloud.writes() == ["CreateMonitor", "CreatePool", "UpdateLoadBalancer", "DeletePool"]
    assert seen == [{lab.address("a"): 0.5, lab.address("b"): 0.5}]
    assert cloud.shares() == {"2606:4700::1": 0.5, lab.address("b"): 0.5}
    assert cloud.pool("a")["origins"][0]["port"] == 8080
    assert {entry["port"] for entry in cloud.objects["Monitor"].values()} == {80, 8080}
    lab.settled()


def test_kinds_of_health_checks(lab: CloudflareLab, one_client: None) -> None:
    cloud = lab.cloud

    def monitors() -> list[dict[str, Any]]:
        return list(cloud.objects["Monitor"].values())

    lab.run(cloudflare={"health_check_path": ""})
    [first] = monitors()
    assert first["path"] == "/v1/models/iris/metadata"
    assert first["header"] == {"Host": [RECORD]}
    assert first["expected_codes"] == "200"
    cloud.calls.clear()
    # They say nothing about traffic, and are changed where they are.
    lab.run(
        cloudflare={"health_check_path": "/healthz/{model}", "health_check_threshold": 3, "health_check_interval": 15}
    )
    assert cloud.writes() == ["UpdateMonitor", "UpdateLoadBalancer"]
    [second] = monitors()
    assert (second["id"], second["path"], second["interval"]) == (first["id"], "/healthz/iris", 15)
    assert (second["consecutive_down"], second["consecutive_up"]) == (3, 3)
    lab.settled()
    lab.run(cloudflare={"health_check_type": "TCP", "health_check_port": 8443, "health_check_interval": 60})
    [third] = monitors()
    assert (third["type"], third["port"]) == ("tcp", 8443)
    lab.settled()
    cloud.calls.clear()
    lab.run(cloudflare={"health_check_regions": ["WEU", "ENAM"]})
    assert cloud.writes() == [*["UpdatePool"] * 3, "UpdateLoadBalancer"]
    assert cloud.pool("a")["check_regions"] == ["ENAM", "WEU"]
    lab.run(members=lab.members("d"), exclusive_members=False)
    assert cloud.pool("d")["check_regions"] == ["ENAM", "WEU"]
    lab.settled()
    lab.run(cloudflare={"health_check_type": "NONE"})
    assert monitors() == []
    assert lab.info()["members"][0]["up"] is None
    lab.settled()
    with pytest.raises(InputError, match="a would stand by"):
        lab.change("a", "standby")


NETS = [{"name": "a", "address": "9.9.9.9"}, {"name": "b", "address": "9.9.9.8", "port": 81}]


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"members": [{"name": "a", "address": "10.0.0.1"}]}, "cannot reach 10.0.0.1.*haproxy"),
        ({"members": [{"name": name, "address": "x.example.net"} for name in "ab"]}, "have one address"),
        ({"members": [{"name": "a", "address": RECORD}]}, "address of the endpoint itself"),
        ({"members": NETS, "cloudflare": {"proxied": False}}, "different ports.*haproxy"),
        ({"models": [{"name": "iris", "timeout": 9.0}]}, "has a timeout.*haproxy"),
        ({"models": [{"name": "iris", "host": "iris.example.org"}]}, "clients ask for models.example.org.*haproxy"),
        (
            {"models": MODELS, "cloudflare": {"health_check_path": ""}},
            "one path, and the models are half_plus_two, iris",
        ),
        ({"models": MODELS, "cloudflare": {"health_check_path": "/{model}"}}, "one path.*route53"),
        ({"members": [{**NETS[0], "weight": 255}, {**NETS[1], "weight": 1}]}, "weight of b is too small.*route53"),
        ({"members": [{**NETS[0], "state": "standby"}, {**NETS[1], "state": "standby"}]}, "min_active"),
        ({"cloudflare": {"record": "example.net"}}, "not in the zone"),
        ({"cloudflare": {"policy": "failover"}}, "a, b, c are active"),
        ({"cloudflare": {"policy": "geographic"}}, "needs locations"),
        ({"cloudflare": {"policy": "geographic", "locations": {"region:WEU": ["a"]}}}, r"'\*' among them"),
        ({"cloudflare": {"policy": "geographic", "locations": {"*": "a", "Europe": ["a"]}}}, "'Europe' is no place"),
        ({"cloudflare": {"policy": "geographic", "locations": {"*": "z"}}}, "names z, which is no member"),
        ({"cloudflare": {"policy": "geographic", "locations": {"*": "a"}}}, "b is active, and no place"),
        ({"cloudflare": {"locations": {"*": ["a"]}}}, "mean nothing to the policy weighted"),
        ({"cloudflare": {"locations": {"*": []}}}, "no list of members"),
        ({"cloudflare": {"health_check_threshold": 11}}, "out of range"),
        ({"cloudflare": {"health_check_path": "healthz"}}, "is no path"),
        ({"cloudflare": {"health_check_port": 70000}}, "no TCP port"),
        ({"cloudflare": {"health_check_interval": 10, "health_check_timeout": 5}}, "health_check_interval.*shorter"),
        ({"cloudflare": {"ttl": 5}}, "out of range"),
        ({"cloudflare": {"zone": "other.org"}}, "no zone other.org"),
        ({"cloudflare": {"zone": "c" * 32}}, "Cloudflare refused: HTTP 403"),
        ({"cloudflare": {"api_token": "wrong"}}, "HTTP 401: Authentication error .*Check api_token"),
        ({"cloudflare": {"account_api_key": "x"}}, "exclude each other"),
        ({"cloudflare": {"api_token": None, "account_api_key": "x"}}, "needs account_email"),
        ({"cloudflare": {"api_token": None}}, "no credentials"),
    ],
)
def test_refusals(lab: CloudflareLab, changed: dict[str, Any], words: str) -> None:
    for check in (True, False):
        with pytest.raises((InputError, BalancerError, RefusedError), match=words):
            lab.run(check=check, **changed)
    assert lab.cloud.writes() == []


def test_one_standby_with_the_policy_weighted(lab: CloudflareLab, one_client: None) -> None:
    lab.run()
    lab.change("b", "standby")
    with pytest.raises(InputError, match=r"one member can stand by, .* and b, c would.*route53"):
        lab.change("c", "standby")
    lab.settled()


def test_a_dns_record_is_not_hidden(lab: CloudflareLab, one_client: None) -> None:
    lab.cloud.records = [{"name": RECORD, "type": kind, "content": "x"} for kind in ("A", "TXT")]
    for check in (True, False):
        with pytest.raises(BalancerError, match=r"has DNS records \(A\) that were made by hand.*adopt=true"):
            lab.run(check=check)
    lab.cloud.faults = [("ListRecords", "forbidden")]
    with pytest.raises(BalancerError, match=r"cannot be seen.*DNS Read, or set adopt=true"):
        lab.run()
    assert lab.cloud.writes() == []
    lab.run(adopt=True)
    # From then on, it is our name.
    lab.change("a", "drained")
    lab.settled()
    lab.cloud.leaving = True
    lab.remove()


def by_hand(**fields: Any) -> Callable[[CloudflareLab], None]:
    return lambda lab: lab.cloud.change("LoadBalancer", lab.cloud.load_balancer["id"], **fields)


def by_hand_a_pool_less(lab: CloudflareLab) -> None:
    now, pool = lab.cloud.load_balancer, lab.cloud.pool("a")["id"]
    by_hand(default_pools=[entry for entry in now["default_pools"] if entry != pool])(lab)


def by_hand_a_weight(lab: CloudflareLab) -> None:
    steering = copy.deepcopy(lab.cloud.load_balancer["random_steering"])
    steering["pool_weights"][lab.cloud.pool("a")["id"]] = 0.07
    by_hand(random_steering=steering)(lab)


def by_hand_a_pool_more(lab: CloudflareLab) -> None:
    lab.cloud.put("Pool", "2" * 32, {"name": "by-hand", "origins": [{"name": "x", "address": "9.9.9.9"}]})
    by_hand(default_pools=[*lab.cloud.load_balancer["default_pools"], "2" * 32])(lab)


def by_hand_another_address(lab: CloudflareLab) -> None:
    pool = lab.cloud.pool("a")
    lab.cloud.change("Pool", pool["id"], origins=[{**pool["origins"][0], "address": lab.address("d")}])


def by_hand_a_monitor(lab: CloudflareLab) -> None:
    [monitor] = lab.cloud.objects["Monitor"]
    lab.cloud.change("Monitor", monitor, path="/")


RULE = {"name": "x", "condition": 'http.request.uri.path contains "/x"', "overrides": {"steering_policy": "off"}}


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (by_hand_a_pool_less, "a: weight 0 was set by hand"),
        (by_hand_a_weight, "a: weight 7 was set by hand"),
        (by_hand_a_pool_more, "changed by hand, or by another version (default_pools)"),
        (by_hand(enabled=False), "(enabled)"),
        (by_hand(proxied=False), "(proxied)"),
        (by_hand(steering_policy="off"), "(steering_policy)"),
        (by_hand(session_affinity="cookie"), "(session_affinity)"),
        (by_hand(rules=[RULE]), "(rules)"),
        (by_hand(pop_pools={"AMS": ["2" * 32]}), "(pop_pools)"),
        (by_hand_another_address, "the pool of a are missing, or were changed by hand"),
        (lambda lab: lab.cloud.change("Pool", lab.cloud.pool("a")["id"], enabled=False), "the pool of a"),
        (
            lambda lab: lab.cloud.change("Pool", lab.cloud.pool("a")["id"], load_shedding={"default_percent": 50}),
            "the pool of a",
        ),
        (by_hand_a_monitor, "the monitor of port 80"),
    ],
)
def test_what_was_changed_by_hand_is_mended(
    lab: CloudflareLab, one_client: None, change: Callable[[CloudflareLab], None], words: str
) -> None:
    lab.run()
    change(lab)
    [drift] = lab.info()["drift"]
    assert words in f"{drift['subject']}: {drift['reason']}"
    lab.cloud.problems.clear()
    foretold = lab.run(check=True)
    done = lab.run()
    assert done.changed
    assert done.diff == foretold.diff
    assert not lab.run().changed
    assert lab.shares() == of_members("abc")
    lab.settled()


def test_a_load_balancer_that_was_deleted_by_hand_is_made_again(lab: CloudflareLab, one_client: None) -> None:
    lab.run()
    lab.cloud.objects["LoadBalancer"].clear()
    [drift] = [step for step in lab.info()["drift"] if step["action"] == "mend"]
    assert drift["reason"] == "the load balancer is missing"
    lab.run()
    assert lab.shares() == of_members("abc")
    lab.settled()


def test_a_damaged_definition_is_nobodys(lab: CloudflareLab, one_client: None) -> None:
    lab.run()
    by_hand(description=lab.cloud.load_balancer["description"][:-9])(lab)
    with pytest.raises(BalancerError, match=r"has a damaged definition.*adopt=true"):
        lab.run()
    lab.run(adopt=True)
    lab.settled()


def test_a_description_that_is_not_kept(lab: CloudflareLab, one_client: None) -> None:
    lab.cloud.leaving = True
    lab.cloud.longest = 300
    with pytest.raises(BalancerError, match=r"keeps 300 of \d+ characters"):
        lab.run()
    assert lab.cloud.ours() == []
    lab.cloud.longest = 10**6
    lab.run()
    before = lab.cloud.load_balancer
    lab.cloud.longest = len(before["description"])
    with pytest.raises(BalancerError, match="nothing is changed"):
        lab.run(members=lab.members("abcd", a="drained"))
    assert lab.shares() == of_members("abc")
    lab.settled()


def test_a_change_that_fails_leaves_nothing(lab: CloudflareLab, one_client: None) -> None:
    lab.cloud.faults = [("CreateLoadBalancer", "forbidden")]
    with pytest.raises(BalancerError, match=r"permissions that docs/cloudflare\.md lists"):
        lab.run()
    assert lab.cloud.ours() == []


@pytest.mark.parametrize("code", ["broken", "lost", "throttled"])
def test_a_teardown_is_tried_again(lab: CloudflareLab, one_client: None, code: str) -> None:
    lab.run()
    lab.cloud.leaving = True
    lab.cloud.faults = [(f"Delete{kind}", code) for kind in ("LoadBalancer", "Pool", "Monitor")]
    lab.remove()
    assert (lab.cloud.faults, lab.cloud.ours()) == ([], [])


def test_what_does_not_pass_is_told(lab: CloudflareLab, one_client: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cloudflare_api, "_ATTEMPTS", 2)
    lab.cloud.faults = [("ListPools", "broken")] * 2
    with pytest.raises(BalancerError, match="Cloudflare failed: HTTP 500: as the test asks"):
        lab.run()
    lab.cloud.faults = [("ListPools", "throttled")] * 2
    with pytest.raises(BalancerError, match=r"HTTP 429.*1200 requests in five minutes"):
        lab.run()
    with pytest.raises(BalancerError, match="cannot be reached"):
        lab.run(cloudflare={"endpoint_url": f"http://127.0.0.1:{free_ports(1)[0]}"})


def test_something_else_answers(lab: CloudflareLab, one_client: None, monkeypatch: pytest.MonkeyPatch) -> None:
    page = Response("<p>Log in first.</p>", content_type="text/html")
    monkeypatch.setattr(lab.cloud, "answer", lambda _request: page)
    for zone in (ZONE, ZONE_ID):
        with pytest.raises(BalancerError, match=r"is not Cloudflare's API.*endpoint_url"):
            lab.run(cloudflare={"zone": zone})


def test_zones_and_accounts(lab: CloudflareLab, one_client: None) -> None:
    lab.run(cloudflare={"zone": ZONE_ID, "record": f"{RECORD.upper()}."})
    assert not lab.run(cloudflare={"zone": f"{ZONE}.", "account_id": ACCOUNT}).changed
    lab.cloud.zones.append({"id": "0c" * 16, "name": ZONE, "account": {"id": "0d" * 16}})
    with pytest.raises(InputError, match="2 accounts have a zone"):
        lab.run()
    assert not lab.run(cloudflare={"zone": ZONE_ID}).changed


def test_credentials_come_from_the_environment(lab: CloudflareLab, monkeypatch: pytest.MonkeyPatch) -> None:
    none = {"api_token": None, "endpoint_url": None}
    monkeypatch.setenv("CLOUDFLARE_BASE_URL", f"{lab.cloud.url}/client/v4")
    monkeypatch.setenv("CLOUDFLARE_API_KEY", TOKEN)
    monkeypatch.setenv("CLOUDFLARE_EMAIL", "me@example.org")
    assert lab.run(check=True, cloudflare=none).changed
    assert lab.cloud.credentials == (None, TOKEN, "me@example.org")
    for name in ("CLOUDFLARE_API_TOKEN", "CLOUDFLARE_TOKEN"):
        monkeypatch.setenv(name, TOKEN)
        assert lab.run(check=True, cloudflare=none).changed
        assert lab.cloud.credentials == (f"Bearer {TOKEN}", None, None), "never both"
        monkeypatch.delenv(name)
    # What is asked for is not mixed with what happens to be in the environment.
    monkeypatch.setenv("CLOUDFLARE_API_TOKEN", "wrong")
    key = {"account_api_key": TOKEN, "account_email": "me@example.org"}
    assert lab.run(check=True, cloudflare={**none, **key}).changed
    assert lab.cloud.credentials == (None, TOKEN, "me@example.org")


def test_without_the_library_it_says_so(lab: CloudflareLab, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "cloudflare", None)
    with pytest.raises(InputError, match="pip install cloudflare"):
        lab.run()


def test_secrets_are_marked() -> None:
    found = [name for name, spec in cloudflare_options.arguments().items() if spec.get("no_log")]
    assert found == ["api_token", "account_api_key"]


def test_findings_of_data_centers() -> None:
    def center(healthy: bool, reason: str = "") -> dict[str, Any]:
        return {"healthy": healthy, "origins": [{"192.0.2.1": {"healthy": healthy, "failure_reason": reason}}]}

    verdict = cloudflare_objects.verdict
    assert verdict({"pop_health": {"A": center(True), "B": center(True), "C": center(False, "TCP Timeout")}}) == ""
    found = {"A": center(True), "B": center(False, "TCP Timeout"), "C": center(False)}
    assert verdict({"pop_health": found}) == "2 of 3 data centers: TCP Timeout"
    assert verdict({"pop_health": {"A": center(False), "B": center(True)}}) == "1 of 2 data centers: unhealthy"
    for nothing in ({}, {"pop_health": None}, {"pop_health": {}}):
        assert verdict(nothing) == "no data center has reported yet"


@pytest.mark.parametrize(
    ("operation", "body", "words"),
    [
        ("monitors", {"description": "x", "method": "POST", "type": "http"}, "method: POST does not go with http"),
        ("monitors", {"interval": "60", "method": "GET"}, ".interval: '60' is no int"),
        ("monitors", {"type": "ftp", "method": "GET"}, ".type: 'ftp' is none of"),
        ("monitors", {"header": {"Host": "x"}, "method": "GET"}, ".header.Host: no list"),
        ("monitors", {"body": "x", "method": "GET"}, ".body: unknown field"),
        ("pools", {"name": "a"}, ".origins: required"),
        ("pools", {"name": "a b", "origins": [{"address": "9.9.9.9"}]}, "only letters, digits"),
        ("pools", {"name": "a", "origins": [{"address": "9.9.9.9", "ports": 1}]}, ".origins[0].ports: unknown field"),
        ("pools", {"name": "a", "origins": [{"address": "9.9.9.9"}], "monitor": "1"}, "monitor: does not exist"),
        ("load_balancers", {"name": RECORD, "default_pools": ["1"], "fallback_pool": "1"}, "pools that do not exist"),
        ("load_balancers", {"name": RECORD, "default_pools": []}, ".fallback_pool: required"),
        (
            "load_balancers",
            {"name": "x", "default_pools": [], "fallback_pool": "1", "random_steering": {"pool_weights": {"1": 0.001}}},
            "in steps of 0.01",
        ),
    ],
)
def test_the_stand_in_refuses_what_cloudflare_would(
    lab: CloudflareLab, operation: str, body: dict[str, Any], words: str
) -> None:
    path = (
        f"zones/{ZONE_ID}/{operation}"
        if operation == "load_balancers"
        else f"accounts/{ACCOUNT}/load_balancers/{operation}"
    )
    request = urllib.request.Request(
        f"{lab.cloud.url}/client/v4/{path}",
        json.dumps(body).encode(),
        {"Authorization": f"Bearer {TOKEN}", "Content-Type": "application/json"},
    )
    with pytest.raises(urllib.error.HTTPError) as refused:
        urllib.request.urlopen(request)
    assert refused.value.code == 400
    assert words in json.loads(refused.value.read())["errors"][0]["message"]
    assert any(words in problem for problem in lab.cloud.problems), "so no such request goes by unseen"
