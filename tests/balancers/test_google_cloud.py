# SPDX-FileCopyrightText: The modelfleet maintainers
# SPDX-License-Identifier: GPL-3.0-or-later
"""What is claimed of Google Cloud, against a stand-in for its API (``google.py`` says what it is derived from)."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import pytest

pytest.importorskip("googleapiclient")

from ansible_collections.modelfleet.serving.plugins.module_utils._endpoint import (
    google_cloud,
    google_cloud_api,
    google_cloud_options,
)
from ansible_collections.modelfleet.serving.plugins.module_utils._endpoint.balancer import BalancerError
from ansible_collections.modelfleet.serving.plugins.module_utils._endpoint.google_cloud_objects import encode
from ansible_collections.modelfleet.serving.plugins.module_utils._errors import InputError, WaitError

from .google import (
    MAP,
    OTHER_ZONE,
    PROJECT,
    ZONE,
    Google,
    GoogleLab,
    InternetLab,
    RefusedError,
    canonical,
    gke_group,
    route,
    validate,
)
from .lab import toggle_together
from .scenarios import MODELS, THIRDS, Scenarios, cut_everywhere, failover


@pytest.fixture
def cloud(monkeypatch: pytest.MonkeyPatch) -> Iterator[Google]:
    for name in google_cloud_api._VARIABLES.values():
        monkeypatch.delenv(name, raising=False)
    # Tests have no patience.
    monkeypatch.setattr(google_cloud, "_HEALTH_SECONDS", 0.0)
    monkeypatch.setattr(google_cloud_api, "_POLL_SECONDS", 0.0)
    monkeypatch.setattr(google_cloud_api, "_FIRST_PAUSE", 0.0)
    # Nor for a client a run, which takes longer than all its calls.
    made: dict[tuple[str, str], Any] = {}
    make = google_cloud_api.Api._collection

    def collection(self: google_cloud_api.Api, kind: str) -> Any:
        key = (self._access["endpoint_url"], kind)
        if key not in made:
            made[key] = make(self, kind)
        return made[key]

    monkeypatch.setattr(google_cloud_api.Api, "_collection", collection)
    cloud = Google()
    try:
        yield cloud
    finally:
        cloud.close()


@pytest.fixture
def lab(cloud: Google) -> GoogleLab:
    return GoogleLab(cloud)


@pytest.fixture
def internet(cloud: Google) -> InternetLab:
    return InternetLab(cloud)


class TestScenarios(Scenarios):
    most_drain_writes = 2
    shift = "urlMaps.update"
    faults = (
        "urlMaps.get",
        "urlMaps.insert",
        "healthChecks.insert",
        "networkEndpointGroups.insert",
        "networkEndpointGroups.attachNetworkEndpoints",
        "backendServices.insert",
        "urlMaps.update",
        "globalAddresses.insert",
        "targetHttpProxies.insert",
        "globalForwardingRules.insert",
        "globalOperations.get",
        "zoneOperations.get",
        "networkEndpointGroups.listNetworkEndpoints",
    )

    def test_a_standby_takes_over(self, lab: GoogleLab) -> None:  # type: ignore[override]
        cloud = lab.cloud
        lab.run(members=lab.members("abc", b="standby", c="drained"))
        assert lab.shares() == {"a": 1}
        cloud.sick = {lab.address("a")}
        assert lab.shares() == {"b": 1}, "with no controller alive"
        assert [member["up"] for member in lab.info()["members"]] == [False, True, True]
        # A drained member never stands in, and when all others fail, Google answers with an error, as docs says.
        cloud.sick = {lab.address(name) for name in "ab"}
        assert lab.shares() == {}
        cloud.sick = set()
        cloud.calls.clear()
        failover(lab, "a", "b")
        assert 1 <= len(cloud.writes()) <= self.most_drain_writes
        assert lab.shares() == {"b": 1}
        lab.settled()


# Through the internet.


def test_members_in_the_internet(internet: InternetLab) -> None:
    lab, cloud = internet, internet.cloud
    lab.run(models=MODELS)
    assert lab.shares() == THIRDS
    assert not [key for key in cloud.objects if "/healthChecks/" in key]
    assert lab.settled()["members"][0]["up"] is None
    assert not lab.run(models=MODELS).changed
    cloud.calls.clear()
    lab.change("a", "drained")
    assert cloud.writes() == ["urlMaps.update"]
    assert lab.shares() == {"b": 0.5, "c": 0.5}
    # Nobody would take over.
    with pytest.raises(InputError, match="b would stand by, and nothing takes over"):
        lab.change("b", "standby")
    # A member that moves gets another group before the old one goes.
    lab.run(members=[{"name": "b", "address": "9.9.9.9", "port": 8080}], exclusive_members=False, models=None)
    assert cloud.shares() == {"9.9.9.9": 0.5, lab.address("c"): 0.5}
    lab.settled()
    cloud.leaving = True
    lab.remove()
    assert cloud.ours() == []


@pytest.mark.parametrize("scenario", ["create", "move"])
def test_cut_in_the_internet(internet: InternetLab, monkeypatch: pytest.MonkeyPatch, scenario: str) -> None:
    def first() -> None:
        if scenario == "move":
            internet.run(members=internet.members("ab"), wait=False)

    def act() -> Any:
        moved = [{**internet.members("b")[0], "port": 8080 if scenario == "move" else 80}]
        return internet.run(members=internet.members("a") + moved, wait=False)

    cut_everywhere(internet, monkeypatch, first, act)


def test_from_the_internet_to_private_connections(internet: InternetLab, lab: GoogleLab) -> None:
    internet.run(members=internet.members("ab"))
    lab.run(members=lab.members("ab"))
    assert lab.shares() == {"a": 0.5, "b": 0.5}
    lab.settled()
    internet.run(members=internet.members("ab"), google_cloud={"zones": {}})
    assert internet.shares() == {"a": 0.5, "b": 0.5}
    internet.settled()


# In groups of GKE.


def test_groups_of_gke(lab: GoogleLab) -> None:
    cloud = lab.cloud
    negs = {"a": [f"https://www.googleapis.com/compute/v1/{gke_group(zone)}" for zone in (ZONE, OTHER_ZONE)]}
    pods = {f"10.8.{zone}.{pod}" for zone in (0, 1) for pod in (1, 2)}
    lab.run(google_cloud={"negs": negs})
    third = pytest.approx(1 / 3)
    assert cloud.shares() == {**dict.fromkeys(pods, pytest.approx(1 / 12)), "10.0.0.2": third, "10.0.0.3": third}
    lab.settled()
    # A part of its pods is enough; with none, the others take its share.
    cloud.sick = {"10.8.0.1", "10.8.1.2"}
    assert lab.info()["members"][0]["up"] is True
    cloud.sick = set(pods)
    assert lab.info()["members"][0]["up"] is False
    assert lab.shares() == {"b": 0.5, "c": 0.5}
    cloud.sick = {"10.0.0.2"}
    assert sum(cloud.shares().get(pod, 0) for pod in pods) > 0.34
    # Drained, it stands in for nobody, and its groups stay as they are.
    cloud.calls.clear()
    lab.change("a", "drained", wait=False)
    assert cloud.writes() == ["urlMaps.update", *["backendServices.patch"] * 2]
    assert lab.shares() == {"c": 1}
    cloud.sick = {"10.0.0.2", "10.0.0.3"}
    assert cloud.shares() == {}
    cloud.sick = set()
    lab.settled()
    lab.change("a", "active")
    lab.settled()
    cloud.leaving = True
    lab.remove()
    assert cloud.ours() == []
    assert {
        entry["ipAddress"] for zone in (ZONE, OTHER_ZONE) for entry in cloud.objects[gke_group(zone)]["_inside"]
    } == pods


# What requests get.


def test_models_have_timeouts_hosts_and_tries(lab: GoogleLab) -> None:
    models = [
        {"name": "iris", "timeout": 2.5, "try_timeout": 0.2, "host": "iris.example.org"},
        {"name": "half_plus_two", "timeout": 30.0},
    ]
    lab.run(models=models)
    found = lab.cloud.find("models", "urlMaps")
    for path in ("/v1/models/iris", "/v1/models/iris:predict", "/v1/models/iris/versions/1:predict"):
        action = route(found, path)
        assert action["timeout"] == {"seconds": "2", "nanos": 500_000_000}
        assert action["retryPolicy"]["perTryTimeout"] == {"seconds": "0", "nanos": 200_000_000}
        assert action["retryPolicy"]["numRetries"] == 2
        assert action["urlRewrite"] == {"hostRewrite": "iris.example.org"}
    for path in ("/v1/models/half_plus_two:predict", "/v1/models/iris2:predict", "/tensorflow.serving/Predict"):
        action = route(found, path)
        assert action["timeout"] == {"seconds": "30", "nanos": 0}
        assert "urlRewrite" not in action
    # By its host, gRPC has the model's own timeout.
    assert route(found, "/tensorflow.serving/Predict", "iris.example.org")["timeout"]["seconds"] == "2"
    # A path tells more than the host does.
    assert route(found, "/v1/models/half_plus_two:predict", "iris.example.org")["timeout"]["seconds"] == "30"
    assert lab.cloud.find("models-a", "backendServices")["timeoutSec"] == 30
    lab.run(models=models, google_cloud={"retries": 0})
    assert "retryPolicy" not in route(lab.cloud.find("models", "urlMaps"), "/v1/models/iris:predict")
    lab.settled()


def test_https_and_back(lab: GoogleLab) -> None:
    cloud = lab.cloud
    lab.run()
    address = cloud.find("models", "addresses")["address"]
    lab.run(google_cloud={"certificates": ["site"], "labels": {"team": "ml"}})
    rule = cloud.find("models-https", "forwardingRules")
    assert (rule["portRange"], rule["labels"]) == ("443-443", {"team": "ml"})
    assert cloud.find("models", "addresses")["labels"] == {"team": "ml"}
    assert canonical(rule["target"]).endswith("/targetHttpsProxies/models")
    assert cloud._kind("targetHttpProxies") == {}
    assert cloud.find("models", "addresses")["address"] == address
    assert lab.shares() == THIRDS
    lab.settled()
    lab.run(google_cloud={"certificates": [], "certificate_map": "sites", "labels": {}})
    proxy = cloud.find("models", "targetHttpsProxies")
    assert (proxy["sslCertificates"], proxy["certificateMap"][-6:]) == ([], "/sites")
    lab.settled()
    lab.run(google_cloud={"certificates": ["site"], "certificate_map": ""})
    proxy = cloud.find("models", "targetHttpsProxies")
    assert (proxy["sslCertificates"][0][-5:], proxy["certificateMap"]) == ("/site", "")
    lab.settled()
    for key, value in (("certificates", ["site"]), ("domains", ["a.example.org"])):
        with pytest.raises(InputError, match="certificate_map excludes certificates and domains"):
            lab.run(google_cloud={"certificates": [], "certificate_map": "sites", key: value})
    lab.run(google_cloud={"certificates": []})
    assert lab.shares() == THIRDS
    assert cloud._kind("targetHttpsProxies") == {}
    lab.settled()


def test_google_makes_certificates(lab: GoogleLab) -> None:
    cloud = lab.cloud

    def certified() -> set[str]:
        """Give the domains whose certificates the proxy shows."""
        shown = [canonical(text) for text in cloud.find("models", "targetHttpsProxies")["sslCertificates"]]
        return {domain for key in shown for domain in cloud.objects[key].get("managed", {}).get("domains", ["site"])}

    foretold = lab.run(check=True, google_cloud={"domains": ["b.example.org", "a.example.org"]})
    done = lab.run(google_cloud={"domains": ["b.example.org", "a.example.org"]})
    assert foretold.diff == done.diff
    assert certified() == {"a.example.org", "b.example.org"}
    lab.settled()
    kept = cloud._kind("sslCertificates").keys()
    # The certificate of a domain that stays is not made anew.
    lab.run(google_cloud={"domains": ["c.example.org", "b.example.org"], "certificates": ["site"]})
    assert certified() == {"site", "b.example.org", "c.example.org"}
    assert len(cloud._kind("sslCertificates").keys() & kept) == 2
    lab.settled()
    with pytest.raises(InputError, match="16 certificates and domains are too many"):
        lab.run(google_cloud={"domains": [f"m{number}.example.org" for number in range(15)]})
    lab.run(google_cloud={"domains": [], "certificates": []})
    assert list(cloud._kind("sslCertificates")) == [f"projects/{PROJECT}/global/sslCertificates/site"]
    lab.settled()
    lab.run(google_cloud={"domains": ["a.example.org"]})
    lab.remove()
    assert cloud.ours() == []


RESERVED = f"projects/{PROJECT}/global/addresses/front"


def reserve(cloud: Google, **more: Any) -> None:
    cloud.objects[RESERVED] = {"name": "front", "address": "198.51.100.7", "addressType": "EXTERNAL", **more}


def fronts(lab: GoogleLab) -> set[tuple[str, str]]:
    """Give the names of addresses, and the ports of each, at which the URL map can be reached."""
    rules = lab.cloud._kind("forwardingRules").values()
    assert {canonical(rule["target"]).split("/")[-2] for rule in rules} <= {"targetHttpProxies", "targetHttpsProxies"}
    return {(canonical(rule["IPAddress"]).rpartition("/")[2], rule["portRange"]) for rule in rules}


def test_an_address_that_is_reserved_outlives_the_endpoint(lab: GoogleLab) -> None:
    cloud = lab.cloud
    reserve(cloud)
    options = {"address": "front", "ports": [8443, 80]}
    foretold = lab.run(check=True, google_cloud=options)
    done = lab.run(google_cloud=options)
    assert done.values["addresses"] == foretold.values["addresses"] == ["198.51.100.7"]
    assert fronts(lab) == {("front", "80-80"), ("front", "8443-8443")}
    assert lab.settled()["addresses"] == ["198.51.100.7"]
    cloud.calls.clear()
    assert not lab.run(google_cloud={"ports": [80, 8443]}, wait=False).changed
    assert cloud.writes() == []
    # The ports stay where HTTPS takes their place, and go where they are no longer wanted.
    lab.run(google_cloud={"certificates": ["site"]})
    assert fronts(lab) == {("front", "80-80"), ("front", "8443-8443")}
    assert not cloud._kind("targetHttpProxies")
    lab.settled()
    lab.run(google_cloud={"ports": []})
    assert fronts(lab) == {("front", "443-443")}
    # To an address of its own and back: there is always a way in.
    done = lab.run(google_cloud={"address": ""})
    assert fronts(lab) == {(MAP, "443-443")}
    assert done.values["addresses"] == [lab.front]
    lab.settled()
    lab.run(google_cloud={"address": "front"})
    assert fronts(lab) == {("front", "443-443")}
    lab.settled()
    cloud.leaving = True
    lab.remove()
    assert cloud.ours() == []
    assert RESERVED in cloud.objects


def test_an_address_that_cannot_be_had_is_refused(lab: GoogleLab) -> None:
    cloud = lab.cloud
    options = {"google_cloud": {"address": "front"}}
    for check in (True, False):
        with pytest.raises(BalancerError, match="no global external address front in serving-1"):
            lab.run(check, **options)
    reserve(cloud, addressType="INTERNAL")
    with pytest.raises(BalancerError, match="no global external address front"):
        lab.run(**options)
    reserve(cloud)
    proxy = f"projects/{PROJECT}/global/targetHttpProxies/theirs"
    cloud.objects[f"projects/{PROJECT}/global/urlMaps/theirs"] = {"name": "theirs"}
    cloud.objects[proxy] = {"name": "theirs", "urlMap": f"projects/{PROJECT}/global/urlMaps/theirs"}
    theirs = f"projects/{PROJECT}/global/forwardingRules/theirs"
    cloud.objects[theirs] = {"name": "theirs", "target": proxy, "IPAddress": RESERVED, "portRange": "80-80"}
    cloud.calls.clear()
    with pytest.raises(BalancerError, match=r"front is in use by .*/forwardingRules/theirs"):
        lab.run(**options)
    assert cloud.writes() == []
    # Another port of it may be somebody else's, also later.
    cloud.objects[theirs]["portRange"] = "81-81"
    lab.run(**options)
    lab.change("a", "drained")
    lab.settled()
    lab.run(google_cloud={"address": ""})
    with pytest.raises(BalancerError, match=f"{MAP} is one that this module made"):
        lab.run(google_cloud={"address": MAP})


@pytest.mark.parametrize("options", [{"address": "198.51.100.7"}, {"ports": [0]}, {"ports": [80, 80]}])
def test_a_front_that_cannot_be_is_refused(lab: GoogleLab, options: dict[str, Any]) -> None:
    with pytest.raises(InputError, match=r"google_cloud\.(address|ports)"):
        lab.run(google_cloud=options)


def test_a_definition_of_an_older_version_is_completed(lab: GoogleLab) -> None:
    lab.run()
    stored = lab.cloud.find(MAP, "urlMaps")
    endpoint = google_cloud.decode(stored["description"])
    older = {key: value for key, value in endpoint.settings.items() if key not in ("address", "ports")}
    stored["description"] = encode(replace(endpoint, settings=older))
    assert "another version" in lab.info()["drift"][0]["reason"]
    assert lab.run().changed
    assert google_cloud.decode(lab.cloud.find(MAP, "urlMaps")["description"]) == endpoint
    lab.settled()


def test_health_checks(lab: GoogleLab) -> None:
    cloud = lab.cloud
    lab.run(models=[{"name": "iris"}], google_cloud={"health_check_path": ""})
    assert cloud.find("models-http", "healthChecks")["httpHealthCheck"] == {
        "portSpecification": "USE_SERVING_PORT",
        "requestPath": "/v1/models/iris/metadata",
        "host": "",
    }
    lab.run(models=[{"name": "iris"}], google_cloud={"health_check_path": "", "health_check_host": "x.example.org"})
    assert cloud.find("models-http", "healthChecks")["httpHealthCheck"]["host"] == "x.example.org"
    lab.run(models=[{"name": "iris"}], google_cloud={"health_check_path": "", "health_check_host": ""})
    assert cloud.find("models-http", "healthChecks")["httpHealthCheck"]["host"] == ""
    with pytest.raises(InputError, match="checks a member by one path, and there are 2 models"):
        lab.run(models=MODELS, google_cloud={"health_check_path": "/healthz/{model}"})
    changed = {"health_check_type": "TCP", "health_check_port": 8443, "health_check_interval": 10}
    lab.run(models=MODELS, google_cloud=changed)
    assert list(cloud._kind("healthChecks")) == [f"projects/{PROJECT}/global/healthChecks/models-tcp"]
    found = cloud.find("models-tcp", "healthChecks")
    assert found["tcpHealthCheck"] == {"portSpecification": "USE_FIXED_PORT", "port": 8443}
    assert (found["checkIntervalSec"], found["timeoutSec"]) == (10, 10)
    cloud.sick = {lab.address("b")}
    info = lab.settled()
    assert [member["up"] for member in info["members"]] == [True, False, True]
    assert info["members"][1]["reasons"]["iris"] == "Google's checkers say UNHEALTHY"
    with pytest.raises(WaitError, match="checkers say UNHEALTHY"):
        lab.change("b", weight=9, wait_timeout=0)


def test_every_group_of_zones_is_paged(lab: GoogleLab) -> None:
    lab.cloud.page = 1
    lab.run()
    lab.settled()
    assert not lab.run().changed


# What others do.


def weigh_by_hand(cloud: Google) -> None:
    cloud.find("models", "urlMaps")["defaultRouteAction"]["weightedBackendServices"][0]["weight"] = 7


def check_by_hand(cloud: Google) -> None:
    cloud.find("models-http", "healthChecks")["httpHealthCheck"]["requestPath"] = "/"


def serve_by_hand(cloud: Google) -> None:
    cloud.find("models-a", "backendServices")["backends"].pop()


def fill_by_hand(cloud: Google) -> None:
    cloud.find("models-a-[0-9a-f]{8}", "networkEndpointGroups")["_inside"] = [{"ipAddress": "10.9.9.9", "port": 80}]


def empty_by_hand(cloud: Google) -> None:
    cloud.find("models-a-[0-9a-f]{8}-spare", "networkEndpointGroups")["_inside"] = []


def rule_by_hand(cloud: Google) -> None:
    cloud.find("models", "urlMaps")["pathMatchers"][0]["routeRules"][0]["routeAction"]["weightedBackendServices"].pop()


def more_by_hand(cloud: Google) -> None:
    cloud.find("models", "urlMaps")["headerAction"] = {"requestHeadersToRemove": ["X-Model"]}


def port_by_hand(cloud: Google) -> None:
    cloud.find("models-http", "forwardingRules")["portRange"] = "8080-8080"


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (weigh_by_hand, "weight 7 was set by hand"),
        (check_by_hand, "models-http (healthChecks)"),
        (serve_by_hand, "models-a (backendServices)"),
        (fill_by_hand, "(networkEndpointGroups)"),
        (empty_by_hand, "spare (networkEndpointGroups)"),
        (rule_by_hand, "the URL map was changed by hand"),
        (more_by_hand, "the URL map was changed by hand"),
        (port_by_hand, "models-http (globalForwardingRules)"),
        (lambda cloud: cloud.forget("models-http", "forwardingRules"), "missing: models-http"),
    ],
)
def test_what_was_changed_by_hand_is_mended(lab: GoogleLab, change: Callable[[Google], None], words: str) -> None:
    lab.run()
    change(lab.cloud)
    drift = lab.info()["drift"]
    assert any(words in step["reason"] for step in drift), drift
    lab.cloud.leaving = True
    assert lab.run().changed
    assert not lab.run().changed
    assert lab.shares() == THIRDS
    lab.settled()


def test_a_group_in_the_internet_is_mended(internet: InternetLab) -> None:
    internet.run()
    group = internet.cloud.find("models-a-[0-9a-f]{8}", "networkEndpointGroups")
    group["_inside"] = [{"fqdn": "evil.example.net", "port": 80}]
    internet.cloud.leaving = True
    assert internet.run().changed
    assert internet.shares() == THIRDS
    internet.settled()


def test_what_is_left_of_a_member_is_right_before_it_gets_traffic(lab: GoogleLab) -> None:
    cloud = lab.cloud
    lab.run()
    lab.change("c", "drained")
    cloud.find("models-c", "backendServices")["backends"].clear()
    seen = []
    lab.meanwhile(lambda: seen.extend(cloud.find("models-c", "backendServices")["backends"]), "urlMaps.update")
    lab.change("c", "active")
    assert len(seen) == 3
    assert lab.shares() == THIRDS
    lab.settled()


def test_what_others_set_stays(lab: GoogleLab) -> None:
    lab.run()
    service = lab.cloud.find("models-a", "backendServices")
    service["logConfig"] = {"enable": True}
    serve_by_hand(lab.cloud)
    lab.run()
    assert lab.cloud.find("models-a", "backendServices")["logConfig"] == {"enable": True}


@pytest.mark.parametrize("kind", ["backendServices", "healthChecks", "globalAddresses"])
def test_objects_of_others_are_left_alone(lab: GoogleLab, kind: str) -> None:
    name = {"backendServices": "models-a", "healthChecks": "models-http"}.get(kind, "models")
    path = f"projects/{PROJECT}/global/{kind.replace('globalAddresses', 'addresses')}/{name}"
    theirs = {"name": name, "description": "by hand", "loadBalancingScheme": "EXTERNAL_MANAGED", "backends": []}
    lab.cloud.objects[path] = dict(theirs)
    for check in (True, False):
        with pytest.raises(BalancerError, match=rf"{name} \({kind}\) exists and is somebody else's"):
            lab.run(check=check)
    assert lab.cloud.writes() == []
    if kind == "globalAddresses":
        with pytest.raises(BalancerError, match="Delete it, or use another url_map"):
            lab.run(adopt=True)
        return
    if kind == "healthChecks":
        lab.cloud.objects[path] = {"name": name, "type": "HTTP", "httpHealthCheck": {}}
    lab.run(adopt=True)
    assert lab.shares() == THIRDS
    lab.settled()


def test_many_writers(lab: GoogleLab) -> None:
    lab.run()
    assert toggle_together(lambda name, state: lab.change(name, state, wait=False), 3) == []
    assert lab.shares() == {"c": 1}
    lab.settled()


def test_two_who_create_it(lab: GoogleLab) -> None:
    for operation in ("urlMaps.insert", "backendServices.insert"):
        lab.meanwhile(lambda: lab.run(wait=False), operation)
        lab.run()
        assert lab.shares() == THIRDS
        lab.settled()
        lab.cloud.leaving = True
        lab.remove()
        assert lab.cloud.ours() == []
        lab.cloud.leaving = False


def test_two_who_add_members(lab: GoogleLab) -> None:
    def add(name: str) -> None:
        lab.run(members=lab.members(name), exclusive_members=False, models=None, wait=False)

    for operation in ("networkEndpointGroups.insert", "urlMaps.update", "backendServices.patch"):
        lab.run(members=lab.members("ab"))
        lab.meanwhile(lambda: add("c"), operation)
        add("d")
        assert lab.shares() == dict.fromkeys("abcd", 0.25)
        lab.settled()


# What is refused.


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"members": [{"name": "a", "address": "a.example.net"}]}, "its address a.example.net is no IPv4 address"),
        ({"google_cloud": {"zones": {"a": ZONE}}}, "do not name b, c"),
        ({"google_cloud": {"negs": {"a": ["k8s1-models"]}}}, "is no list of network endpoint groups"),
        ({"google_cloud": {"zones": {}}}, "cannot reach 10.0.0.1"),
        ({"google_cloud": {"zones": {"a": "Europe"}}}, "'Europe' is no zone"),
        (
            {"members": [{"name": "a", "address": "2620:fe::fe"}], "google_cloud": {"zones": {}}},
            "no IPv6 address in the internet",
        ),
        ({"google_cloud": {"retries": 11}}, "out of range"),
        ({"google_cloud": {"health_check_interval": 0}}, "out of range"),
        ({"google_cloud": {"health_check_path": "healthz"}}, "is no path"),
        ({"google_cloud": {"labels": {"Team": "x"}}}, "is no label"),
        ({"google_cloud": {"url_map": "Models"}}, "is no name of a URL map"),
        ({"google_cloud": {"project": None}}, "set GCP_PROJECT"),
        ({"google_cloud": {"project": "other-project"}}, "no such project.*google_cloud.project"),
        ({"google_cloud": {"access_token": "old"}}, "lasts an hour"),
        ({"google_cloud": {"access_token": None}}, "auth_kind=accesstoken needs it"),
        ({"google_cloud": {"auth_kind": "serviceaccount", "service_account_contents": "{}"}}, "no credentials"),
        ({"google_cloud": {"auth_kind": "serviceaccount", "service_account_file": "/nowhere"}}, "no credentials"),
        (
            {"members": [{"name": f"m{n}-{n * 7919 % 10007}", "address": f"10.1.{n}.1"} for n in range(60)]},
            "60 members are too many",
        ),
    ],
)
def test_refusals(lab: GoogleLab, changed: dict[str, Any], words: str) -> None:
    for check in (True, False):
        with pytest.raises((InputError, BalancerError), match=words):
            lab.run(check=check, **changed)
    assert lab.cloud.writes() == []


def test_a_definition_that_does_not_fit_is_refused(lab: GoogleLab) -> None:
    models = [{"name": f"model-{number * 7919 % 10007}-{number * 104729 % 1299709}"} for number in range(300)]
    with pytest.raises(InputError, match=r"2048 fit into the URL map's description.*haproxy"):
        lab.run(models=models)


def test_what_google_refuses_later_is_told(lab: GoogleLab) -> None:
    with pytest.raises(BalancerError, match="sslCertificates/none' was not found"):
        lab.run(google_cloud={"certificates": ["none"]})
    lab.run(google_cloud={"certificates": ["site"]})
    assert lab.shares() == THIRDS
    lab.settled()


def test_it_gives_up_waiting(lab: GoogleLab) -> None:
    lab.run()
    lab.cloud.delay = 10**6
    with pytest.raises(BalancerError, match=r"has worked on models .* is not done"):
        lab.change("a", "drained", google_cloud={"operation_timeout": 0.05})


def test_credentials_come_from_the_environment(lab: GoogleLab, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GCP_PROJECT", PROJECT)
    monkeypatch.setenv("GCP_AUTH_KIND", "accesstoken")
    monkeypatch.setenv("GCP_ACCESS_TOKEN", "token")
    assert lab.run(google_cloud=dict.fromkeys(("project", "auth_kind", "access_token"))).changed


def test_without_the_library_it_says_so(lab: GoogleLab, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "googleapiclient.discovery", None)
    monkeypatch.setitem(sys.modules, "googleapiclient", None)
    with pytest.raises(InputError, match="pip install google-api-python-client"):
        lab.run()


def test_secrets_are_marked() -> None:
    marked = [name for name, spec in google_cloud_options.arguments().items() if spec.get("no_log")]
    assert marked == ["service_account_contents", "access_token"]


# The stand-in.


@pytest.mark.parametrize(
    ("schema", "body", "words"),
    [
        ("UrlMap", {"name": "Models"}, "does not match"),
        ("UrlMap", {"colour": "red"}, "unknown field colour"),
        ("UrlMap", {"creationTimestamp": "now"}, "only Google writes this"),
        ("BackendService", {"protocol": "GOPHER"}, "is none of"),
        ("BackendService", {"timeoutSec": "5"}, "no whole number"),
        ("BackendService", {"backends": [{"maxRatePerEndpoint": "5"}]}, "no number"),
        ("HttpRouteAction", {"timeout": {"seconds": 5}}, "no text"),
        ("WeightedBackendService", {"weight": -1}, "out of range"),
    ],
)
def test_the_stand_in_holds_bodies_to_the_schema(schema: str, body: dict[str, Any], words: str) -> None:
    with pytest.raises(RefusedError, match=words):
        validate({"$ref": schema}, body, "resource", "compute.urlMaps.insert")


def test_the_stand_in_holds_changes_to_the_rules(lab: GoogleLab) -> None:
    lab.run()
    api = google_cloud_api.Api(lab.params()["google_cloud"])

    def insert(kind: str, **body: Any) -> Any:
        return lambda: api._call(kind, "insert", project=PROJECT, body=body)

    link = f"https://www.googleapis.com/compute/v1/projects/{PROJECT}/global"
    redirect = {"hostRedirect": "example.net"}
    for act, words in (
        (insert("urlMaps", name="x", defaultService=f"{link}/backendServices/none"), "was not found"),
        (insert("urlMaps", name="x", defaultService=f"{link}/healthChecks/models-http"), "is none of"),
        (insert("urlMaps", name="x"), "exactly one of"),
        (insert("urlMaps", name="models", defaultUrlRedirect=redirect), "already exists"),
        (insert("urlMaps", name="x", description="x" * 2049, defaultUrlRedirect=redirect), "too long"),
        (lambda: api._call("urlMaps", "delete", project=PROJECT, urlMap="models"), "already being used by"),
        (
            lambda: api._call(
                "urlMaps",
                "update",
                project=PROJECT,
                urlMap="models",
                body={"name": "models", "fingerprint": "b2xk", "defaultUrlRedirect": redirect},
            ),
            "Invalid fingerprint",
        ),
    ):
        with pytest.raises(BalancerError, match=words):
            act()
    assert json.dumps(lab.cloud.find("models", "urlMaps")).count("models-a")
    lab.settled()
