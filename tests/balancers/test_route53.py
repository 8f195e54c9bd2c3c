# SPDX-FileCopyrightText: The modelfleet maintainers
# SPDX-License-Identifier: GPL-3.0-or-later
"""What is claimed of Route 53, with moto's server held to AWS's rules (``aws.py`` says which)."""

from __future__ import annotations

import hashlib
import sys
from collections.abc import Callable, Iterator
from typing import Any

import pytest

pytest.importorskip("moto")

from ansible_collections.modelfleet.serving.plugins.module_utils._endpoint import (
    route53,
    route53_api,
    route53_options,
    route53_records,
)
from ansible_collections.modelfleet.serving.plugins.module_utils._endpoint.balancer import BalancerError
from ansible_collections.modelfleet.serving.plugins.module_utils._endpoint.definition import (
    Endpoint,
    Golden,
    Member,
    Model,
)
from ansible_collections.modelfleet.serving.plugins.module_utils._errors import InputError, WaitError

from .aws import RECORD, ZONE, Aws, AwsLab
from .lab import toggle_together
from .scenarios import MODELS, Scenarios, cut_everywhere, make_clients_once


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
    cloud = Aws()
    cloud.install(monkeypatch)
    try:
        yield AwsLab(cloud)
    finally:
        cloud.close()


@pytest.fixture
def one_client(monkeypatch: pytest.MonkeyPatch) -> None:
    make_clients_once(monkeypatch, route53_api.Api)


def shares(**members: float) -> Any:
    """Give the answers by member, as the name servers should give them."""
    return pytest.approx({AwsLab.address(name): share for name, share in members.items()})


@pytest.mark.usefixtures("one_client")
class TestScenarios(Scenarios):
    shift = "ChangeResourceRecordSets"
    faults = ("ListResourceRecordSets", "CreateHealthCheck", "ChangeTagsForResource", shift)

    def test_another_change_is_still_under_way(self, lab: AwsLab) -> None:
        self.test_what_passes_is_tried_again(lab, "busy")


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
    assert regions == {"eu-west-1": ["a.edge.example.net."], "us-east-1": ["c.edge.example.net."]}
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


def test_of_two_writers_none_loses_a_change(lab: AwsLab, one_client: None) -> None:
    lab.run()
    lab.meanwhile(lambda: lab.change("b", "drained", wait=False), "ChangeResourceRecordSets")
    lab.change("a", "drained")
    assert lab.drained() == {"a", "b"}
    assert lab.cloud.shares() == shares(c=1)
    # Also while health checks are made.
    lab.meanwhile(lambda: lab.run(members=None, models=MODELS, wait=False), "ChangeResourceRecordSets")
    lab.run(members=[{"name": "d", "address": "d.edge.example.net"}], exclusive_members=False, models=None)
    assert lab.cloud.shares() == shares(c=0.5, d=0.5)
    lab.settled()


def test_two_who_create_it(lab: AwsLab, one_client: None) -> None:
    lab.meanwhile(lambda: lab.run(wait=False), "ChangeResourceRecordSets")
    lab.run()
    assert lab.cloud.shares() == shares(a=1 / 3, b=1 / 3, c=1 / 3)
    lab.settled()


def test_many_writers(lab: AwsLab) -> None:
    lab.run()
    assert toggle_together(lambda name, state: lab.change(name, state, wait=False), 3) == []
    assert lab.cloud.shares() == shares(c=1)
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


CUTS: dict[str, Callable[[AwsLab], Any]] = {
    "path": lambda lab: lab.run(members=None, models=None, route53={"health_check_path": "/healthz"}, wait=False),
    "policy": lambda lab: lab.run(
        members=None,
        models=None,
        route53={"policy": "latency", "locations": {"eu-west-1": ["a", "b", "c"]}},
        wait=False,
    ),
}


@pytest.mark.parametrize("scenario", CUTS)
def test_cut_after_every_call(lab: AwsLab, one_client: None, monkeypatch: pytest.MonkeyPatch, scenario: str) -> None:
    cut_everywhere(lab, monkeypatch, lambda: lab.run(wait=False), lambda: CUTS[scenario](lab))


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
    arguments = route53_options.arguments()
    assert [name for name, spec in arguments.items() if spec.get("no_log")] == ["secret_key", "session_token"]


def test_the_definition_survives_its_way_through_the_zone() -> None:
    golden = Golden({"instances": [[number / 7 for number in range(1500)]]}, {"predictions": [1.5]}, 1e-5)
    endpoint = Endpoint(
        "models", (Member("a", "9.9.9.9"),), (Model("iris", golden),), dict(route53_options.DEFAULTS), 3
    )
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
