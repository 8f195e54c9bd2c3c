# SPDX-FileCopyrightText: The modelfleet maintainers
# SPDX-License-Identifier: GPL-3.0-or-later
"""An endpoint as Google Cloud knows it: the objects of a global external Application Load Balancer. Pure.

Bodies are in the words of the Compute Engine API. The URL map carries all traffic, the definition and our mark; every
other object follows from the definition.
"""

from __future__ import annotations

import hashlib
import ipaddress
import math
import re
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ansible_collections.modelfleet.serving.plugins.module_utils._endpoint.balancer import others
from ansible_collections.modelfleet.serving.plugins.module_utils._endpoint.definition import Endpoint, Member
from ansible_collections.modelfleet.serving.plugins.module_utils._endpoint.health_check import is_one_path, path_of
from ansible_collections.modelfleet.serving.plugins.module_utils._endpoint.refusals import check_jurisdictions
from ansible_collections.modelfleet.serving.plugins.module_utils._endpoint.stored import OWNERSHIP, pack, unpack
from ansible_collections.modelfleet.serving.plugins.module_utils._errors import InputError

Json = dict[str, Any]


_API = "https://www.googleapis.com/compute/v1/"
_MOST_CHARACTERS = 2048
_MOST_MEMBERS = 50
_MOST_CERTIFICATES = 15
# What a network endpoint group may take before the next one is used. It only has to be more than there ever is: who
# gets how much is said by the URL map, and the other groups of a backend service are for members that fail.
_RATE = 1_000_000.0
# A client that asks too early, or a path that nobody has, is better sent nowhere than to a member.
_CLOSED = {"hostRedirect": "closed.invalid", "redirectResponseCode": "TEMPORARY_REDIRECT", "stripQuery": True}
# Answers that say that the member did not work on the request; a 500 is the model's own.
_RETRIED = ["gateway-error", "connect-failure", "refused-stream"]

# Everything but the URL map, in the order in which it is made; it is deleted in the other direction.
KINDS = (
    "healthChecks",
    "globalNetworkEndpointGroups",
    "networkEndpointGroups",
    "backendServices",
    "globalAddresses",
    "sslCertificates",
    "targetHttpProxies",
    "targetHttpsProxies",
    "globalForwardingRules",
)
GROUPS = ("globalNetworkEndpointGroups", "networkEndpointGroups")
# What can have labels, of these.
LABELLED = ("globalAddresses", "globalForwardingRules")
# What is made before the URL map refers to it.
BASE = ("healthChecks", *GROUPS, "backendServices")
_PATHS = {
    "globalNetworkEndpointGroups": "networkEndpointGroups",
    "globalAddresses": "addresses",
    "globalForwardingRules": "forwardingRules",
}


@dataclass(frozen=True, order=True)
class Ref:
    """Which object.

    :param kind: the collection, as the API's library calls it.
    :param zone: of a zonal one.
    """

    kind: str
    name: str
    zone: str = ""

    def link(self, project: str) -> str:
        """Give the object's address, which others refer to it by."""
        where = f"zones/{self.zone}" if self.zone else "global"
        return f"{_API}projects/{project}/{where}/{_PATHS.get(self.kind, self.kind)}/{self.name}"


@dataclass(frozen=True)
class Place:
    """Where an endpoint is: the project, and the URL map whose name all other objects' names begin with."""

    project: str
    url_map: str

    @property
    def map(self) -> Ref:
        """Give the URL map."""
        return Ref("urlMaps", self.url_map)

    @property
    def mark(self) -> str:
        """Give the description of all objects but the URL map, which shows that they are ours."""
        return f"{OWNERSHIP} ({self.url_map})"

    def ref(self, kind: str, *parts: str, zone: str = "") -> Ref:
        """Give an object by the parts of its name."""
        return Ref(kind, _named(self.url_map, *parts), zone)

    def address(self, endpoint: Endpoint) -> Ref:
        """Give the address: the one that somebody has reserved, or our own."""
        reserved = endpoint.settings["address"]
        return Ref("globalAddresses", reserved) if reserved else self.ref("globalAddresses")

    def service(self, endpoint: Endpoint, member: Member) -> Ref:
        """Give the backend service of a member. One with health checks cannot become one without."""
        return self.ref("backendServices", member.name, *(() if is_checked(endpoint) else ("internet",)))

    def group(self, endpoint: Endpoint, member: Member, spare: bool = False) -> Ref:
        """Give a network endpoint group of a member: its own, or the one by which it stands in for others.

        A group cannot be changed, so its name tells what is in it, and a member that moves gets another.
        """
        zone = endpoint.settings["zones"].get(member.name, "")
        content = f"{zone} {endpoint.settings['network']} {member.address} {member.port}"
        parts = (member.name, _digest(content), *(("spare",) if spare else ()))
        return self.ref("networkEndpointGroups" if zone else "globalNetworkEndpointGroups", *parts, zone=zone)


@dataclass(frozen=True)
class Wanted:
    """What should be beside the URL map.

    :param objects: bodies, in the order in which they are made.
    :param inside: what a network endpoint group holds; ``None`` for nothing.
    :param labels: of the forwarding rules and the address.
    """

    objects: dict[Ref, Json]
    inside: dict[Ref, Json | None]
    labels: dict[str, str]


def _named(*parts: str) -> str:
    name = "-".join(parts)
    return name if len(name) <= 63 else f"{name[:54].rstrip('-')}-{_digest(name)}"


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:8]


def is_checked(endpoint: Endpoint) -> bool:
    """Tell whether Google checks the members. Of groups in the internet it takes no health check."""
    settings = endpoint.settings
    return any(member.name in settings[key] for member in endpoint.members for key in ("zones", "negs"))


def own_groups(place: Place, endpoint: Endpoint, member: Member) -> list[str]:
    """Give the addresses of the groups that a member is asked by."""
    given = endpoint.settings["negs"].get(member.name)
    return [_API + link(text) for text in given] if given else [place.group(endpoint, member).link(place.project)]


def _spare_groups(place: Place, endpoint: Endpoint, member: Member) -> list[str]:
    """Give the addresses of the groups by which a member stands in for others.

    What is in groups of its own is not ours to change, so a drained member has none; any other has an empty one.
    """
    if member.name in endpoint.settings["negs"]:
        return own_groups(place, endpoint, member) if member.state != "drained" else []
    return [place.group(endpoint, member, spare=True).link(place.project)]


def encode(endpoint: Endpoint) -> str:
    """Give the description of the URL map: our mark, and the definition."""
    return f"{OWNERSHIP}: {pack(endpoint.stored())}"


def decode(description: str) -> Endpoint:
    """Read back what :func:`encode` gave.

    :raises ValueError: saying what it is instead.
    """
    if not description.startswith(f"{OWNERSHIP}: "):
        raise ValueError("is somebody else's")
    try:
        return Endpoint.from_dict(unpack(description.removeprefix(f"{OWNERSHIP}: ")))
    except (KeyError, TypeError, ValueError, AttributeError, zlib.error) as error:
        raise ValueError(f"is damaged ({error!r})") from error


def wanted_map(place: Place, endpoint: Endpoint, closed: bool = False) -> Json:
    """Give the URL map.

    :param closed: whether it sends nobody anywhere, as before the first member is there and after the last is gone.
    """
    body: Json = {"name": place.url_map, "description": encode(endpoint)}
    if closed:
        return {**body, "defaultUrlRedirect": dict(_CLOSED)}
    models, rules = endpoint.models, _rules(place, endpoint)
    hosts = {model.host for model in models}
    several = len(hosts) > 1
    # What becomes of requests whose path tells no model.
    usual = _action(place, endpoint, max(model.timeout for model in models), None, None if several else models[0].host)
    body["defaultRouteAction"] = usual
    body["hostRules"] = [{"hosts": ["*"], "pathMatcher": "models"}]
    body["pathMatchers"] = [{"name": "models", "defaultRouteAction": usual, "routeRules": rules}]
    # gRPC's path never does, so by its host a model's calls have the timeout that is its own.
    for host in sorted(filter(None, hosts)) if several else ():
        name = f"host-{_digest(host)}"
        body["hostRules"].append({"hosts": [host], "pathMatcher": name})
        usual = _action(place, endpoint, max(model.timeout for model in models if model.host == host), None, host)
        body["pathMatchers"].append({"name": name, "defaultRouteAction": usual, "routeRules": rules})
    return body


def _rules(place: Place, endpoint: Endpoint) -> list[Json]:
    """Give the routes of the models' paths."""
    rules = []
    for number, model in enumerate(endpoint.models):
        path = f"/v1/models/{model.name}"
        rules.append(
            {
                "priority": number,
                "matchRules": [
                    {"fullPathMatch": path},
                    # ":predict" and its like, and "/versions/1:predict".
                    {"prefixMatch": f"{path}:"},
                    {"prefixMatch": f"{path}/"},
                ],
                "routeAction": _action(place, endpoint, model.timeout, model.try_timeout, model.host),
            }
        )
    return rules


def _action(place: Place, endpoint: Endpoint, timeout: float, try_timeout: float | None, host: str | None) -> Json:
    action: Json = {
        "weightedBackendServices": [
            {
                "backendService": place.service(endpoint, member).link(place.project),
                # With weight 0 it is still part of the map, so Google checks it.
                "weight": member.weight if member.state == "active" else 0,
            }
            for member in endpoint.members
        ],
        "timeout": _duration(timeout),
    }
    retries = endpoint.settings["retries"]
    if retries:
        action["retryPolicy"] = {"numRetries": retries, "retryConditions": list(_RETRIED)}
        if try_timeout is not None:
            action["retryPolicy"]["perTryTimeout"] = _duration(try_timeout)
    if host:
        action["urlRewrite"] = {"hostRewrite": host}
    return action


def _duration(seconds: float) -> Json:
    whole = math.floor(seconds)
    return {"seconds": str(whole), "nanos": round((seconds - whole) * 1e9)}


def wanted_objects(place: Place, endpoint: Endpoint) -> Wanted:
    """Give everything but the URL map."""
    settings = endpoint.settings
    objects: dict[Ref, Json] = {}
    inside: dict[Ref, Json | None] = {}

    def add(ref: Ref, **body: Any) -> Ref:
        objects[ref] = {"name": ref.name, "description": place.mark, **body}
        return ref

    checked = is_checked(endpoint)
    check = None
    if checked:
        # Its type cannot be changed, so each has its own name.
        kind = settings["health_check_type"].lower()
        check = add(place.ref("healthChecks", kind), **_health_check(endpoint))
    for member in endpoint.members:
        if member.name in settings["negs"]:
            continue
        for spare in (False, True) if checked else (False,):
            ref, body, content = _group(place, endpoint, member, spare)
            add(ref, **body)
            inside[ref] = None if spare and member.state == "drained" else content
    for member in endpoint.members:
        add(place.service(endpoint, member), **_service(place, endpoint, member, check))
    if not settings["address"]:
        add(place.address(endpoint), addressType="EXTERNAL", ipVersion="IPV4")
    # One a domain, since one can't be changed, and takes up to an hour to be had.
    managed = [
        add(place.ref("sslCertificates", _digest(domain)), type="MANAGED", managed={"domains": [domain]})
        for domain in settings["domains"]
    ]
    secure = bool(settings["certificates"] or settings["certificate_map"] or managed)
    proxy = place.ref("targetHttpsProxies" if secure else "targetHttpProxies")
    front: Json = {"urlMap": place.map.link(place.project)}
    if secure:
        # Both, since what is empty must be so.
        front["sslCertificates"] = [_certificate(place, name) for name in settings["certificates"]]
        front["sslCertificates"] += [ref.link(place.project) for ref in managed]
        front["certificateMap"] = _certificate_map(place, settings["certificate_map"])
    add(proxy, **front)
    for port in settings["ports"] or [443 if secure else 80]:
        # Its address and port cannot be changed, so each has its own name.
        parts = ({80: "http", 443: "https"}.get(port, str(port)), settings["address"])
        add(
            place.ref("globalForwardingRules", *filter(None, parts)),
            loadBalancingScheme="EXTERNAL_MANAGED",
            IPProtocol="TCP",
            IPAddress=place.address(endpoint).link(place.project),
            portRange=f"{port}-{port}",
            target=proxy.link(place.project),
        )
    ordered = {ref: objects[ref] for ref in sorted(objects, key=lambda ref: KINDS.index(ref.kind))}
    return Wanted(ordered, inside, dict(settings["labels"]))


def _certificate(place: Place, name: str) -> str:
    return name if "/" in name else f"{_API}projects/{place.project}/global/sslCertificates/{name}"


def _certificate_map(place: Place, name: str) -> str:
    host = "//certificatemanager.googleapis.com/"
    return (
        name if "/" in name or not name else f"{host}projects/{place.project}/locations/global/certificateMaps/{name}"
    )


def _health_check(endpoint: Endpoint) -> Json:
    settings = endpoint.settings
    kind = settings["health_check_type"]
    port = settings["health_check_port"]
    config: Json = {"portSpecification": "USE_FIXED_PORT", "port": port} if port else {}
    if not port:
        config["portSpecification"] = "USE_SERVING_PORT"
    if kind != "TCP":
        config["requestPath"] = path_of(settings["health_check_path"], endpoint.models[0].name)
        config["host"] = settings["health_check_host"]
    return {
        "type": kind,
        "checkIntervalSec": settings["health_check_interval"],
        "timeoutSec": settings["health_check_interval"],
        "healthyThreshold": settings["health_check_threshold"],
        "unhealthyThreshold": settings["health_check_threshold"],
        f"{kind.lower()}HealthCheck": config,
    }


def _group(place: Place, endpoint: Endpoint, member: Member, spare: bool) -> tuple[Ref, Json, Json]:
    """Give a network endpoint group, and what it holds."""
    ref = place.group(endpoint, member, spare)
    if ref.zone:
        body: Json = {"networkEndpointType": "NON_GCP_PRIVATE_IP_PORT"}
        network = endpoint.settings["network"] or "default"
        body["network"] = network if "/" in network else f"{_API}projects/{place.project}/global/networks/{network}"
        return ref, body, {"ipAddress": member.address, "port": member.port}
    name = _ip(member.address) is None
    kind = "INTERNET_FQDN_PORT" if name else "INTERNET_IP_PORT"
    return ref, {"networkEndpointType": kind}, {"fqdn" if name else "ipAddress": member.address, "port": member.port}


def _service(place: Place, endpoint: Endpoint, member: Member, check: Ref | None) -> Json:
    """Give the backend service of a member.

    Shares come from the URL map, which knows nothing of health. So the health is in here: while the member's own group
    fails, the spare groups of the others take its share. That of a drained member is empty.
    """
    body: Json = {
        "loadBalancingScheme": "EXTERNAL_MANAGED",
        "protocol": endpoint.settings["protocol"],
        "timeoutSec": math.ceil(max(model.timeout for model in endpoint.models)),
    }
    own = own_groups(place, endpoint, member)
    if check is None:
        return {**body, "backends": [{"group": group} for group in own]}
    groups = [(group, "PREFERRED") for group in own]
    groups += [
        (group, "DEFAULT")
        for other in endpoint.members
        if other.name != member.name
        for group in _spare_groups(place, endpoint, other)
    ]
    return {
        **body,
        "healthChecks": [check.link(place.project)],
        "backends": [
            {"group": group, "balancingMode": "RATE", "maxRatePerEndpoint": _RATE, "preference": preference}
            for group, preference in groups
        ],
        # Faster than health checks, where there are requests.
        "outlierDetection": {
            "consecutiveGatewayFailure": 5,
            "enforcingConsecutiveGatewayFailure": 100,
            "enforcingConsecutiveErrors": 0,
            "enforcingSuccessRate": 0,
            "interval": {"seconds": "1", "nanos": 0},
            "baseEjectionTime": {"seconds": "30", "nanos": 0},
            "maxEjectionPercent": 50,
        },
    }


def link(text: str) -> str:
    """Give the part of an object's address that is the same however it is written."""
    start = text.find("projects/")
    return text[start:] if start >= 0 else text


def same(wanted: Any, found: Any) -> bool:
    """Tell whether something is as wanted. What Google added, such as defaults, does not count."""
    if isinstance(wanted, dict):
        return isinstance(found or {}, dict) and all(
            same(value, (found or {}).get(key)) for key, value in wanted.items()
        )
    if isinstance(wanted, list):
        one, other = (sorted(entries, key=_order) for entries in (wanted, found or []))
        return len(one) == len(other) and all(same(*pair) for pair in zip(one, other, strict=True))
    if not wanted:
        return not found or str(found) in ("0", "0.0")
    if isinstance(wanted, str) and isinstance(found, str):
        return link(wanted) == link(found)
    if isinstance(wanted, int | float) and not isinstance(wanted, bool):
        return found is not None and float(found) == float(wanted)
    return bool(wanted == found)


def _order(entry: Any) -> str:
    """Give what tells one entry of a list from the others, since Google may list them in another order."""
    if not isinstance(entry, dict):
        return link(str(entry))
    keys = ("group", "backendService", "priority", "pathMatcher", "name", "fullPathMatch", "prefixMatch")
    return " ".join(link(str(entry.get(key, ""))) for key in keys)


def same_map(wanted: Mapping[str, Any], found: Mapping[str, Any]) -> bool:
    """Tell whether the URL map sends everybody where it should, and nobody elsewhere."""
    traffic = (
        "defaultRouteAction",
        "defaultUrlRedirect",
        "defaultService",
        "headerAction",
        "hostRules",
        "pathMatchers",
    )
    return same(wanted, found) and not any(found.get(key) for key in traffic if key not in wanted)


def weights(found: Mapping[str, Any]) -> dict[str, int]:
    """Give the weights in force, by the address of the backend service."""
    entries = (found.get("defaultRouteAction") or {}).get("weightedBackendServices") or []
    return {link(entry["backendService"]): int(entry.get("weight", 0)) for entry in entries}


def reweighed(wanted: Json, found: Mapping[str, Any]) -> Json:
    """Give the wanted map with the weights that are found, to see whether something else differs."""
    present = weights(found)

    def action(body: Json) -> Json:
        listed = [
            {**entry, "weight": present[link(entry["backendService"])]}
            for entry in body["weightedBackendServices"]
            if link(entry["backendService"]) in present
        ]
        return {**body, "weightedBackendServices": listed}

    if "defaultRouteAction" not in wanted:
        return wanted
    matchers = [
        {
            **matcher,
            "defaultRouteAction": action(matcher["defaultRouteAction"]),
            "routeRules": [{**rule, "routeAction": action(rule["routeAction"])} for rule in matcher["routeRules"]],
        }
        for matcher in wanted["pathMatchers"]
    ]
    return {**wanted, "defaultRouteAction": action(wanted["defaultRouteAction"]), "pathMatchers": matchers}


def _ip(address: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        return ipaddress.ip_address(address)
    except ValueError:
        return None


def check_definition(place: Place, endpoint: Endpoint) -> None:
    """Refuse what these objects cannot say.

    :raises InputError: naming what can.
    """
    located = endpoint.settings["zones"].keys() | endpoint.settings["negs"].keys()
    checked = is_checked(endpoint)
    names = {member.name for member in endpoint.members}
    if len(names) > _MOST_MEMBERS:
        raise InputError(
            f"google_cloud: {len(names)} members are too many.", hint=f"A backend service takes {_MOST_MEMBERS} groups."
        )
    if checked and (missing := sorted(names - located)):
        raise InputError(
            f"google_cloud.zones and negs do not name {', '.join(missing)}. Google checks members with a zone and no"
            f" others, and those that it does not check cannot stand in for others.",
            hint="Give all members a zone, which takes private connections to them (VPN, Interconnect), or none.",
        )
    for member in endpoint.members:
        if member.name not in endpoint.settings["negs"]:
            _check_address(member, checked)
    _check_models(endpoint)
    check_jurisdictions(endpoint, "google_cloud")
    waiting = [member.name for member in endpoint.members if member.state == "standby"]
    if waiting and not checked:
        raise InputError(
            f"google_cloud: {', '.join(waiting)} would stand by, and nothing takes over: Google takes no health"
            f" checks of members that it reaches through the internet.",
            hint="Give all members a zone (google_cloud.zones), or drain that member and let a playbook fail over.",
        )
    settings = endpoint.settings
    if settings["certificate_map"] and (settings["certificates"] or settings["domains"]):
        raise InputError(
            "google_cloud: certificate_map excludes certificates and domains.", hint="Give the one that you mean."
        )
    if (number := len(settings["certificates"]) + len(settings["domains"])) > _MOST_CERTIFICATES:
        raise InputError(
            f"google_cloud: {number} certificates and domains are too many.",
            hint=f"A load balancer takes {_MOST_CERTIFICATES}; a certificate_map takes more.",
        )
    size = len(encode(endpoint))
    if size > _MOST_CHARACTERS:
        raise InputError(
            f"google_cloud: the definition has {size} characters, and {_MOST_CHARACTERS} fit into the URL map's"
            f" description.",
            hint=f"Use fewer members and models{others('large definitions')}",
        )


def _check_address(member: Member, private: bool) -> None:
    address = _ip(member.address)
    if private and not isinstance(address, ipaddress.IPv4Address):
        raise InputError(
            f"google_cloud: {member.name} has a zone, and its address {member.address} is no IPv4 address.",
            hint="Give the IPv4 address that the network reaches it by, or leave out google_cloud.zones.",
        )
    if private or address is None:
        return
    if address.version != 4:
        raise InputError(
            f"google_cloud: Google reaches no IPv6 address in the internet ({member.address} of {member.name}).",
            hint="Give a host name or an IPv4 address.",
        )
    if not address.is_global:
        raise InputError(
            f"google_cloud: Google cannot reach {member.address} ({member.name}) through the internet.",
            hint="Give a public address or a host name; or, for a private connection (VPN, Interconnect), the zone of"
            " each member (google_cloud.zones).",
        )


def _check_models(endpoint: Endpoint) -> None:
    settings = endpoint.settings
    if not is_checked(endpoint) or settings["health_check_type"] == "TCP":
        return
    if not is_one_path(settings["health_check_path"], endpoint.models):
        raise InputError(
            f"google_cloud: Google checks a member by one path, and there are {len(endpoint.models)} models.",
            hint="Give google_cloud.health_check_path, such as '/healthz' of the prober, which answers for all models"
            f"{others('health checks of several models')}",
        )


def describe(body: Mapping[str, Any], inside: Mapping[str, Any] | None = None) -> str:
    """Give an object as one line for people."""
    shown = {key: value for key, value in body.items() if key not in ("name", "description")}
    text = _plain(shown)
    return f"{text} with {_plain(inside)}" if inside else text


def _plain(value: Any) -> str:
    if isinstance(value, Mapping):
        return " ".join(f"{key}={_plain(entry)}" for key, entry in sorted(value.items()) if entry not in (None, [], {}))
    if isinstance(value, list):
        return f"[{', '.join(_plain(entry) for entry in value)}]"
    return re.sub(r"^\S*projects/\S*/", "", str(value))
