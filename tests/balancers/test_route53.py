# SPDX-FileCopyrightText: The modelfleet maintainers
# SPDX-License-Identifier: GPL-3.0-or-later
"""What is claimed of Route 53, with moto's server held to AWS's rules (``aws.py`` says which)."""

from __future__ import annotations

import hashlib
import sys
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest

pytest.importorskip("moto")

from ansible_collections.modelfleet.serving.plugins.module_utils._endpoint import route53, route53_api, route53_records
from ansible_collections.modelfleet.serving.plugins.module_utils._endpoint.balancer import BalancerError
from ansible_collections.modelfleet.serving.plugins.module_utils._endpoint.definition import (
    Endpoint,
    Golden,
    Member,
    Model,
)
from ansible_collections.modelfleet.serving.plugins.module_utils._endpoint.plan import RefusedError
from ansible_collections.modelfleet.serving.plugins.module_utils._errors import InputError, WaitError

from .aws import RECORD, ZONE, AwsLab, Cloud

MODELS = [{"name": "iris"}, {"name": "half_plus_two"}]
WEIGHTED = {name: f"{name}.edge.example.net." for name in "abcd"}


@pytest.fixture
def lab(monkeypatch: pytest.MonkeyPatch) -> Iterator[AwsLab]:
    for name in ("AWS_PROFILE", "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "AWS_URL"):
        monkeypatch.delenv(name, raising=False)
    # Tests have no patience, and none of the machine's own credentials.
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_CONFIG_FILE", "/nowhere")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", "/nowhere")
    monkeypatch.setattr(route53, "_HEALTH_SECONDS", 0.0)
    monkeypatch.setattr(route53_api, "_PENDING_SECONDS", 0.01)
    cloud = Cloud()
    cloud.install(monkeypatch)
    try:
        yield AwsLab(cloud)
    finally:
        cloud.close()


@pytest.fixture
def one_client(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make the client once for a test of many runs, since that takes longer than all calls of one."""
    clients: dict[str, Any] = {}
    make = route53_api.Api._client

    def client(self: route53_api.Api) -> Any:
        url = self._access["endpoint_url"]
        if url not in clients:
            clients[url] = make(self)
        return clients[url]

    monkeypatch.setattr(route53_api.Api, "_client", client)


def shares(**members: float) -> Any:
    """Give the answers by member, as the name servers should give them."""
    return pytest.approx({WEIGHTED[name]: share for name, share in members.items()})


def test_life(lab: AwsLab, one_client: None) -> None:
    cloud = lab.cloud
    foretold = lab.run(check=True, models=MODELS)
    assert foretold.changed
    assert lab.info()["exists"] is False
    assert cloud.writes() == []
    done = lab.run(models=MODELS)
    assert done.diff == foretold.diff
    assert done.values == foretold.values
    assert cloud.shares() == shares(a=1 / 3, b=1 / 3, c=1 / 3)
    lab.settled()

    # A run without a change only reads.
    cloud.calls.clear()
    again = lab.run(models=MODELS, wait=False)
    assert (again.changed, again.diff) == (False, [])
    assert cloud.calls == ["ListHostedZonesByName", *["ListResourceRecordSets"] * 2, "ListHealthChecks"]

    # A drain is one write, and stays through a later run of the whole definition.
    cloud.calls.clear()
    assert [step["action"] for step in lab.change("a", "drained").values["steps"]] == ["drain"]
    assert cloud.writes() == ["ChangeResourceRecordSets"]
    assert cloud.shares() == shares(b=0.5, c=0.5)
    assert not lab.change("a", "drained").changed
    assert not lab.run(models=MODELS).changed
    assert cloud.writes() == []
    # It is still checked, so that a failback knows.
    assert [member["up"] for member in lab.info()["members"]] == [True, True, True]
    lab.settled()

    # Failback, too.
    lab.change("a", "active")
    assert cloud.writes() == ["ChangeResourceRecordSets"]
    assert cloud.shares() == shares(a=1 / 3, b=1 / 3, c=1 / 3)

    # A member more, two fewer.
    lab.run(members=[{"name": "d", "address": "d.edge.example.net"}], exclusive_members=False, models=None)
    assert cloud.shares() == shares(a=0.25, b=0.25, c=0.25, d=0.25)
    lab.settled()
    lab.run(members=[{"name": name} for name in "bd"], models=None)
    assert cloud.shares() == shares(b=0.5, d=0.5)
    lab.settled()

    cloud.leaving = True
    assert lab.run(check=True, state="absent", members=None, models=None).changed
    assert lab.run(state="absent", members=None, models=None).changed
    assert (cloud.records(), cloud.backend.health_checks) == ([], {})
    cloud.calls.clear()
    assert not lab.run(state="absent", members=None, models=None).changed
    assert cloud.writes() == []


def test_a_canary_by_weights(lab: AwsLab, one_client: None) -> None:
    lab.run(
        members=[
            {"name": "a", "address": "a.edge.example.net"},
            {"name": "b", "address": "b.edge.example.net", "weight": 1},
        ]
    )
    for weight in (1, 10, 50, 100):
        lab.cloud.calls.clear()
        lab.change("b", weight=weight)
        assert len(lab.cloud.writes()) == (weight != 1)
        assert lab.cloud.shares() == shares(a=100 / (100 + weight), b=weight / (100 + weight))
    lab.settled()


def test_members_fail_and_a_standby_takes_over(lab: AwsLab, one_client: None) -> None:
    cloud = lab.cloud
    lab.run(models=MODELS)
    lab.change("c", "standby")
    assert cloud.shares() == shares(a=0.5, b=0.5)
    cloud.sick = {"a.edge.example.net"}
    assert cloud.shares() == shares(b=1)
    assert lab.info()["members"][0]["reasons"] == dict.fromkeys(
        ("half_plus_two", "iris"), "1 of 1 checkers: Failure: HTTP Status Code: 503"
    )
    cloud.sick |= {"b.edge.example.net"}
    assert cloud.shares() == shares(c=1)
    # None is drained by it, not even when all fail.
    cloud.sick |= {"c.edge.example.net"}
    assert cloud.shares() == shares(a=0.5, b=0.5)
    assert lab.info()["fail_open"] == ["half_plus_two", "iris"]
    # One model alone.
    cloud.sick = {"/v1/models/iris/metadata"}
    assert [member["up"] for member in lab.info()["members"]] == [False, False, False]
    assert lab.info()["members"][0]["models"] == {"half_plus_two": True, "iris": False}
    with pytest.raises(WaitError, match="iris: 1 of 1 checkers"):
        lab.change("a", weight=50, wait_timeout=0)


def test_the_policy_failover(lab: AwsLab, one_client: None) -> None:
    cloud = lab.cloud
    states = zip("abc", ("active", "standby", "drained"), strict=True)
    members = [{"name": name, "address": f"{name}.edge.example.net", "state": state} for name, state in states]
    lab.run(members=members, route53={"policy": "failover"})
    assert cloud.shares() == shares(a=1)
    cloud.sick = {"a.edge.example.net"}
    assert cloud.shares() == shares(b=1)
    cloud.sick = set()
    with pytest.raises(InputError, match="one primary member, and a, b are active"):
        lab.change("b", "active")
    cloud.calls.clear()
    lab.run(
        members=[{"name": "a", "state": "drained"}, {"name": "b", "state": "active"}],
        exclusive_members=False,
        models=None,
    )
    assert cloud.writes() == ["ChangeResourceRecordSets"]
    assert cloud.shares() == shares(b=1)
    lab.settled()
    # From one policy to another in one transaction.
    lab.run(members=None, models=None, route53={"policy": "weighted"})
    assert cloud.writes() == ["ChangeResourceRecordSets"]
    lab.settled()


def test_residency_by_geolocation(lab: AwsLab, one_client: None) -> None:
    cloud = lab.cloud
    locations = {"country:DE": ["a", "b"], "continent:EU": ["b", "a"], "*": "c"}
    lab.run(route53={"policy": "geolocation", "locations": locations})
    germany, france = ({"ContinentCode": "EU", "CountryCode": code} for code in ("DE", "FR"))
    assert cloud.shares(germany) == shares(a=1)
    assert cloud.shares(france) == shares(b=1)
    assert cloud.shares() == shares(c=1)
    lab.settled()
    # Who is drained is followed by the next of the place, and never by one that is not named.
    lab.change("a", "drained")
    assert cloud.shares(germany) == shares(b=1)
    lab.settled()
    with pytest.raises(InputError, match=r"every member of the place .* would be drained"):
        lab.change("b", "drained")
    assert cloud.shares(germany) == shares(b=1)


def test_latency(lab: AwsLab, one_client: None) -> None:
    locations = {"eu-west-1": ["a", "b"], "us-east-1": ["c"]}
    lab.run(route53={"policy": "latency", "locations": locations})
    regions = {entry["Region"]: entry["Values"] for entry in lab.cloud.records() if "Region" in entry}
    assert regions == {"eu-west-1": [WEIGHTED["a"]], "us-east-1": [WEIGHTED["c"]]}
    lab.change("a", "drained")
    lab.change("c", "drained")
    assert lab.cloud.shares() == shares(b=1)
    lab.settled()


MIXED = [{"name": "a", "address": "9.9.9.9"}, {"name": "b", "address": "b.edge.example.net"}]


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"members": MIXED}, "records of different types"),
        ({"members": [{"name": "a", "address": "10.0.0.1"}]}, "cannot reach 10.0.0.1"),
        ({"members": [{"name": name, "address": "x.example.net"} for name in "ab"]}, "have one address"),
        ({"members": [{"name": "a", "address": RECORD}]}, "address of the endpoint itself"),
        (
            {"members": [{**MIXED[0], "port": 80}, {"name": "b", "address": "9.9.9.8", "port": 81}]},
            "different ports.*haproxy",
        ),
        ({"models": [{"name": "iris", "timeout": 9.0}]}, "has a timeout.*haproxy"),
        ({"models": [{"name": "iris", "host": "iris.example.org"}]}, "clients ask for models.example.org.*haproxy"),
        ({"route53": {"record": "example.net"}}, "not in the zone"),
        ({"route53": {"record": ZONE}}, "is the zone itself"),
        ({"route53": {"policy": "failover"}}, "one primary member"),
        ({"route53": {"policy": "latency"}}, "needs locations"),
        ({"route53": {"policy": "latency", "locations": {"Europe": ["a"]}}}, "no place of the policy latency"),
        ({"route53": {"policy": "latency", "locations": {"eu-west-1": ["z"]}}}, "names z, which is no member"),
        ({"route53": {"policy": "latency", "locations": {"eu-west-1": ["a"]}}}, "b is active, and no place"),
        ({"route53": {"policy": "failover", "health_check_type": "NONE"}}, "one primary|needs health checks"),
        ({"route53": {"locations": {"*": ["a"]}}}, "mean nothing to the policy weighted"),
        ({"route53": {"health_check_host": "x.example.org"}}, "health_check_host cannot be used"),
        ({"route53": {"health_check_threshold": 11}}, "out of range"),
        ({"route53": {"health_check_path": "healthz"}}, "is no path"),
        ({"route53": {"health_check_port": 70000}}, "no TCP port"),
        ({"route53": {"ttl": -1}}, "out of range"),
        ({"route53": {"locations": {"*": []}}}, "no list of members"),
        ({"route53": {"hosted_zone": "other.org"}}, "no hosted zone other.org"),
        ({"route53": {"hosted_zone": "Z123"}}, "NoSuchHostedZone"),
        ({"route53": {"profile": "work"}}, "exclude each other"),
        ({"route53": {"access_key": None, "secret_key": None, "profile": "work"}}, "no credentials for AWS.*work"),
        ({"route53": {"access_key": None, "secret_key": None}}, "no credentials for AWS"),
    ],
)
def test_refusals(lab: AwsLab, one_client: None, changed: dict[str, Any], words: str) -> None:
    for check in (True, False):
        with pytest.raises((InputError, BalancerError), match=words):
            lab.run(check=check, **changed)
    assert lab.cloud.writes() == []


def test_a_standby_without_health_checks_is_refused(lab: AwsLab, one_client: None) -> None:
    lab.run(route53={"health_check_type": "NONE"})
    assert lab.cloud.backend.health_checks == {}
    assert lab.info()["members"][0]["up"] is None
    with pytest.raises(InputError, match="a would stand by"):
        lab.change("a", "standby")
    lab.change("a", "drained")
    assert lab.cloud.shares() == shares(b=0.5, c=0.5)


def test_addresses_and_kinds_of_checks(lab: AwsLab, one_client: None) -> None:
    members = [{"name": "a", "address": "9.9.9.9", "port": 8080}, {"name": "b", "address": "9.9.9.8", "port": 8080}]
    lab.run(members=members, models=[{"name": "iris"}])
    found = {check.ip_address: check for check in lab.cloud.backend.health_checks.values()}
    first = found["9.9.9.9"]
    assert len(found) == 2, "one model needs no calculated check"
    assert (first.type_, first.fqdn, int(first.port)) == ("HTTP", RECORD, 8080)
    assert first.resource_path == "/v1/models/iris/metadata"
    assert lab.cloud.backend.resource_tags[first.id]["Name"] == f"{RECORD} a iris"
    lab.settled()
    # Of what cannot be changed, new ones are made before the old ones go.
    lab.cloud.calls.clear()
    lab.run(members=None, models=None, route53={"health_check_path": "/healthz", "health_check_interval": 30})
    assert lab.cloud.writes() == [
        *["CreateHealthCheck", "ChangeTagsForResource"] * 2,
        "ChangeResourceRecordSets",
        *["DeleteHealthCheck"] * 2,
    ]
    assert {check.resource_path for check in lab.cloud.backend.health_checks.values()} == {"/healthz"}
    lab.run(members=None, models=None, route53={"health_check_type": "TCP", "health_check_port": 8443})
    assert {check.resource_path for check in lab.cloud.backend.health_checks.values()} == {None}
    lab.settled()
    # From addresses to names, in one transaction.
    lab.run(members=[{"name": name, "address": f"{name}.edge.example.net"} for name in "ab"])
    assert lab.cloud.shares() == shares(a=0.5, b=0.5)
    lab.settled()


def test_what_is_not_ours_is_left_alone(lab: AwsLab, one_client: None) -> None:
    cloud = lab.cloud
    cloud.put(Type="A", ResourceRecords=[{"Value": "9.9.9.9"}])
    for given in ({}, {"state": "absent", "members": None, "models": None}):
        with pytest.raises(BalancerError, match="records that were made by hand"):
            lab.run(**given)
    with pytest.raises(BalancerError, match="adopt=true"):
        lab.info()
    assert cloud.writes() == []
    lab.run(adopt=True)
    assert cloud.shares() == shares(a=1 / 3, b=1 / 3, c=1 / 3)
    lab.settled()


def test_a_definition_that_is_not_ours_is_left_alone(lab: AwsLab, one_client: None) -> None:
    lab.cloud.put(Name=f"_modelfleet.{RECORD}.", Type="TXT", ResourceRecords=[{"Value": '"v=other"'}])
    with pytest.raises(BalancerError, match=r"TXT record _modelfleet\.models\.example\.org is somebody else's"):
        lab.run()
    lab.run(adopt=True)
    lab.settled()


def test_a_name_that_is_needed_for_other_things(lab: AwsLab, one_client: None) -> None:
    lab.cloud.put(Type="MX", ResourceRecords=[{"Value": "10 mail.example.org."}])
    with pytest.raises(InputError, match="has records of the type MX"):
        lab.run()
    lab.run(members=[{"name": "a", "address": "9.9.9.9"}])
    lab.cloud.leaving = True
    lab.run(state="absent", members=None, models=None)
    assert [entry["Type"] for entry in lab.cloud.records()] == ["MX"]


def by_hand_weight(lab: AwsLab) -> None:
    entry = next(entry for entry in lab.cloud.records() if entry.get("SetIdentifier") == "a")
    values = [{"Value": value} for value in entry.pop("Values")]
    lab.cloud.put(**{**entry, "Weight": 7, "ResourceRecords": values})


def by_hand_address(lab: AwsLab) -> None:
    entry = next(entry for entry in lab.cloud.records() if entry.get("SetIdentifier") == "a")
    del entry["Values"]
    lab.cloud.put(**{**entry, "ResourceRecords": [{"Value": "evil.example.net."}]})


def by_hand_more(lab: AwsLab) -> None:
    lab.cloud.put(Type="CNAME", SetIdentifier="x", Weight=1, TTL=30, ResourceRecords=[{"Value": "x.example.net."}])


def by_hand_a_check_less(lab: AwsLab) -> None:
    del lab.cloud.backend.health_checks[next(iter(lab.cloud.backend.health_checks))]


def by_hand_inverted(lab: AwsLab) -> None:
    next(iter(lab.cloud.backend.health_checks.values())).inverted = True


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda lab: lab.cloud.remove("a"), "weight 0 was set by hand"),
        (by_hand_weight, "weight 7 was set by hand"),
        (by_hand_address, "records were changed by hand, or by another version (a)"),
        (by_hand_more, "records were changed by hand, or by another version (x)"),
        (by_hand_a_check_less, "health checks of a are missing"),
        (by_hand_inverted, "health checks of a are missing, or were changed"),
    ],
)
def test_what_was_changed_by_hand_is_mended(
    lab: AwsLab, one_client: None, change: Callable[[AwsLab], None], words: str
) -> None:
    lab.run()
    change(lab)
    [drift] = lab.info()["drift"]
    assert words in f"{drift['subject']}: {drift['reason']}"
    lab.cloud.problems.clear()
    assert lab.run().changed
    assert not lab.run().changed
    assert lab.cloud.shares() == shares(a=1 / 3, b=1 / 3, c=1 / 3)
    lab.settled()


def test_a_record_of_another_type_by_hand_is_removed(lab: AwsLab, one_client: None) -> None:
    members = [{"name": "a", "address": "9.9.9.9"}]
    lab.run(members=members)
    lab.cloud.put(Type="AAAA", SetIdentifier="a", Weight=100, TTL=30, ResourceRecords=[{"Value": "2620:fe::fe"}])
    [drift] = lab.info()["drift"]
    assert "records were changed by hand, or by another version (a)" in drift["reason"]
    assert lab.run(members=members).changed
    assert lab.cloud.shares() == {"9.9.9.9": 1.0}
    lab.settled()


def meanwhile(lab: AwsLab, action: Callable[[], Any], operation: str = "ChangeResourceRecordSets") -> None:
    """Do something just before the next call of an operation."""

    def before(called: str) -> None:
        if called == operation:
            lab.cloud.before = lambda _called: None
            action()

    lab.cloud.before = before


def test_of_two_writers_none_loses_a_change(lab: AwsLab, one_client: None) -> None:
    lab.run()
    meanwhile(lab, lambda: lab.change("b", "drained", wait=False))
    lab.change("a", "drained")
    assert lab.drained() == {"a", "b"}
    assert lab.cloud.shares() == shares(c=1)
    # Also while health checks are made.
    meanwhile(lab, lambda: lab.run(members=None, models=MODELS, wait=False))
    lab.run(members=[{"name": "d", "address": "d.edge.example.net"}], exclusive_members=False, models=None)
    assert lab.cloud.shares() == shares(c=0.5, d=0.5)
    lab.settled()


def test_two_who_create_it(lab: AwsLab, one_client: None) -> None:
    meanwhile(lab, lambda: lab.run(wait=False))
    lab.run()
    assert lab.cloud.shares() == shares(a=1 / 3, b=1 / 3, c=1 / 3)
    lab.settled()


def test_many_writers(lab: AwsLab) -> None:
    lab.run()
    errors: list[Exception] = []

    def toggle(name: str) -> None:
        try:
            for state in ("drained", "active", "drained"):
                lab.change(name, state, wait=False)
        except Exception as error:
            errors.append(error)

    threads = [threading.Thread(target=toggle, args=(name,)) for name in "ab"]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []
    assert lab.cloud.shares() == shares(c=1)
    lab.settled()


def test_the_rules_hold_against_who_is_faster(lab: AwsLab, one_client: None) -> None:
    lab.run()
    # The last but one, drained at the same time as the last.
    lab.change("c", "drained")
    meanwhile(lab, lambda: lab.change("b", "drained", wait=False))
    with pytest.raises(RefusedError, match="rule min_active"):
        lab.change("a", "drained")
    assert lab.cloud.shares() == shares(a=1)
    # An older lock, and an older decision.
    meanwhile(lab, lambda: lab.change("b", "active", epoch=5, wait=False))
    with pytest.raises(RefusedError, match="rule epoch"):
        lab.change("c", "active", epoch=4)
    assert lab.info()["epoch"] == 5
    seen = lab.info()["digest"]
    meanwhile(lab, lambda: lab.change("b", weight=9, wait=False))
    with pytest.raises(RefusedError, match="rule if_digest"):
        lab.change("b", "drained", if_digest=seen)
    assert lab.cloud.shares() == shares(a=100 / 109, b=9 / 109)
    assert lab.change("b", "drained", epoch=6).values["epoch"] == 6
    lab.settled()


@pytest.mark.parametrize("code", ["Throttling", "PriorRequestNotComplete", "InternalFailure", "lost"])
def test_what_passes_is_tried_again(lab: AwsLab, one_client: None, code: str) -> None:
    operations = ("ListResourceRecordSets", "CreateHealthCheck", "ChangeTagsForResource", "ChangeResourceRecordSets")
    lab.cloud.faults = [(operation, code) for operation in operations]
    lab.run()
    assert lab.cloud.faults == []
    assert lab.cloud.shares() == shares(a=1 / 3, b=1 / 3, c=1 / 3)
    lab.settled()
    # The batch that counts, too.
    lab.cloud.faults = [("ChangeResourceRecordSets", code)]
    lab.change("a", "drained")
    assert lab.cloud.shares() == shares(b=0.5, c=0.5)
    lab.settled()


def test_what_lasts_is_told(lab: AwsLab, one_client: None, monkeypatch: pytest.MonkeyPatch) -> None:
    lab.run()
    before = lab.cloud.records()
    monkeypatch.setattr(route53_api, "_ATTEMPTS", 2)
    lab.cloud.faults = [("ChangeResourceRecordSets", "AccessDenied")]
    with pytest.raises(BalancerError, match=r"AccessDenied.*permissions that docs/route53\.md lists"):
        lab.run(members=[{"name": "d", "address": "d.edge.example.net"}], exclusive_members=False)
    assert lab.cloud.records() == before
    lab.settled()


def test_it_waits_for_all_name_servers(lab: AwsLab, one_client: None) -> None:
    lab.cloud.pending = 3
    lab.run()
    assert lab.cloud.calls.count("GetChange") == 4
    lab.cloud.pending = 1000
    with pytest.raises(BalancerError, match="not all of Route 53's name servers have it"):
        lab.change("a", "drained", route53={"propagation_timeout": 0.05})
    lab.cloud.pending = 0
    assert not lab.change("a", "drained").changed


class Cut(BaseException):
    """The end of the process, wherever it is."""


SCENARIOS: dict[str, Callable[[AwsLab], Any]] = {
    "create": lambda lab: lab.run(models=MODELS, wait=False),
    "drain": lambda lab: lab.change("a", "drained", wait=False),
    "failover": lambda lab: lab.run(
        members=[{"name": "a", "state": "drained"}, {"name": "c", "state": "active"}],
        exclusive_members=False,
        models=None,
        wait=False,
    ),
    "canary": lambda lab: lab.change("a", weight=10, wait=False),
    "add and remove": lambda lab: lab.run(
        members=[{"name": name, "address": f"{name}.edge.example.net"} for name in "bcd"], wait=False
    ),
    "path": lambda lab: lab.run(members=None, models=None, route53={"health_check_path": "/healthz"}, wait=False),
    "model": lambda lab: lab.run(members=None, models=MODELS, wait=False),
    "policy": lambda lab: lab.run(
        members=None,
        models=None,
        route53={"policy": "latency", "locations": {"eu-west-1": ["a", "b", "c"]}},
        wait=False,
    ),
    "teardown": lambda lab: lab.run(state="absent", members=None, models=None),
    "teardown after a cut creation": lambda lab: lab.run(state="absent", members=None, models=None),
}


@pytest.mark.parametrize("scenario", SCENARIOS)
def test_cut_after_every_call(lab: AwsLab, one_client: None, monkeypatch: pytest.MonkeyPatch, scenario: str) -> None:
    from botocore.client import BaseClient

    cloud, act = lab.cloud, SCENARIOS[scenario]
    left = 10**6
    call = BaseClient._make_api_call

    def counted(self: Any, operation: str, params: dict[str, Any]) -> Any:
        nonlocal left
        if left <= 0:
            raise Cut
        left -= 1
        answer = call(self, operation, params)
        if left == 0:
            raise Cut
        return answer

    monkeypatch.setattr(BaseClient, "_make_api_call", counted)
    cloud.leaving = scenario.startswith("teardown")
    if scenario == "teardown after a cut creation":
        left = 9
        with pytest.raises(Cut):
            lab.run(members=[{"name": "a", "address": "a.edge.example.net"}])
        left = 10**6
        assert cloud.backend.health_checks
    elif scenario != "create":
        lab.run(wait=False)
        if scenario == "failover":
            lab.change("c", "standby", wait=False)
    restore = cloud.snapshot()
    act(lab)
    wanted = (cloud.shares(), len(cloud.backend.health_checks))
    number = 0
    while True:
        number += 1
        restore()
        served = cloud.shares()
        left = number
        try:
            act(lab)
        except Cut:
            finished = False
        else:
            finished = True
        left = 10**6
        if served and not cloud.leaving:
            assert cloud.shares(), f"nobody answers after a cut at call {number}"
        act(lab)
        assert (cloud.shares(), len(cloud.backend.health_checks)) == wanted
        assert not act(lab).changed
        if not cloud.leaving:
            lab.settled()
        else:
            assert cloud.records() == []
        assert cloud.problems == []
        if finished:
            break
    assert number > 4


def test_zones(lab: AwsLab, one_client: None) -> None:
    backend = lab.cloud.backend
    lab.run(route53={"hosted_zone": lab.cloud.zone_id, "record": f"{RECORD.upper()}."})
    assert not lab.run(route53={"hosted_zone": f"{ZONE}."}).changed
    private = backend.create_hosted_zone(
        f"{ZONE}.", private_zone=True, caller_reference="2", vpcid="vpc-1", vpcregion="eu-west-1"
    )
    assert not lab.run().changed, "of a public and a private one, it is the public one"
    with pytest.raises(InputError, match="private zone"):
        lab.run(route53={"hosted_zone": private.resource_id})
    backend.create_hosted_zone(f"{ZONE}.", private_zone=False, caller_reference="3", vpcid=None, vpcregion=None)
    with pytest.raises(InputError, match="2 public zones are called"):
        lab.run()


def test_credentials_come_from_the_environment(lab: AwsLab, monkeypatch: pytest.MonkeyPatch) -> None:
    none = {"access_key": None, "secret_key": None, "endpoint_url": None}
    monkeypatch.setenv("AWS_ACCESS_KEY", "testing")
    monkeypatch.setenv("AWS_SECRET_KEY", "testing")
    monkeypatch.setenv("AWS_URL", lab.cloud.url)
    assert lab.run(check=True, route53=none).changed
    assert "ListHealthChecks" in lab.cloud.calls


def test_without_boto3_it_says_so(lab: AwsLab, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "boto3", None)
    with pytest.raises(InputError, match="pip install boto3"):
        lab.run()


def test_secrets_are_marked() -> None:
    arguments = route53.arguments()
    assert [name for name, spec in arguments.items() if spec.get("no_log")] == ["secret_key", "session_token"]


def test_the_definition_survives_its_way_through_the_zone() -> None:
    golden = Golden({"instances": [[number / 7 for number in range(1500)]]}, {"predictions": [1.5]}, 1e-5)
    endpoint = Endpoint("models", (Member("a", "9.9.9.9"),), (Model("iris", golden),), dict(route53.DEFAULTS), 3)
    mark = route53_records.Mark(endpoint, {"a": route53_records.Checks("1", {"iris": "1"})}, "x")
    values = route53_records.encode(mark)
    assert len(values) > 1
    assert route53_records.decode(values[::-1]) == mark
    for damaged in (values[1:], [values[0].replace(" ", "", 1), *values[1:]], [values[0][:-40] + '"', *values[1:]], []):
        with pytest.raises(ValueError, match="is "):
            route53_records.decode(damaged)


def test_a_definition_that_does_not_fit_is_refused(lab: AwsLab, one_client: None) -> None:
    # Names that cannot be packed well.
    models = [{"name": f"m{hashlib.sha256(bytes([number])).hexdigest()[:50]}"} for number in range(250)]
    with pytest.raises(InputError, match=r"fit into the zone.*haproxy"):
        lab.run(models=models)
