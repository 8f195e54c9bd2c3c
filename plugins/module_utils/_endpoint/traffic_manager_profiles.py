# SPDX-FileCopyrightText: The modelfleet maintainers
# SPDX-License-Identifier: GPL-3.0-or-later
"""An endpoint as Azure Traffic Manager knows it: two profiles, and the tags that hold the definition. Pure.

Profiles are in the words of Azure's own API (``Profile``, ``ProfileProperties``, ``Endpoint``).

A profile has one routing method, so no single one can share traffic among some members and keep others in reserve.
Hence two: the pool routes among the active members, and the front, whose name clients ask for, routes by priority to
the pool and then to each standby member.
"""

from __future__ import annotations

import hashlib
import ipaddress
import re
import zlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ansible_collections.modelfleet.serving.plugins.module_utils._endpoint.balancer import others
from ansible_collections.modelfleet.serving.plugins.module_utils._endpoint.definition import Endpoint, Member
from ansible_collections.modelfleet.serving.plugins.module_utils._endpoint.dns_records import record_of
from ansible_collections.modelfleet.serving.plugins.module_utils._endpoint.health_check import is_one_path, path_of
from ansible_collections.modelfleet.serving.plugins.module_utils._endpoint.refusals import (
    check_jurisdictions,
    check_models,
    check_nobody_waits,
    check_one_kind,
    check_one_port,
    check_own_addresses,
    check_places_name_members,
)
from ansible_collections.modelfleet.serving.plugins.module_utils._endpoint.stored import OWNERSHIP, pack, split, unpack
from ansible_collections.modelfleet.serving.plugins.module_utils._endpoint.traffic_manager_options import POLICIES
from ansible_collections.modelfleet.serving.plugins.module_utils._errors import InputError

Json = dict[str, Any]

# The pool's endpoint in the front. No member can have this name, since it is no DNS label.
POOL_ENDPOINT = "active_members"
EXTERNAL = "Microsoft.Network/trafficManagerProfiles/externalEndpoints"
NESTED = "Microsoft.Network/trafficManagerProfiles/nestedEndpoints"

# A tag's name has neither spaces nor '#' and ':' here, and begins with no digit.
_MARK = "modelfleet"
_NONCE = "modelfleet-nonce"
_PART = "modelfleet-definition-"
_MOST_TAGS = 50
_TAG_CHARACTERS = 256
_MOST_MEMBERS = 200
# What Traffic Manager finds out itself.
_STATUS = ("endpointMonitorStatus", "profileMonitorStatus")
# What somebody may have given an endpoint by hand, and what then changes who gets what.
_NEVER = ("subnets", "customHeaders", "geoMapping")
_KEPT = ("target", "endpointStatus", "alwaysServe")
# What people see of an endpoint, by routing method.
_SHOWN = {
    "Weighted": "weight",
    "Priority": "priority",
    "Performance": "endpointLocation",
    "Geographic": "geoMapping",
}
_GEOGRAPHY = re.compile(r"WORLD|GEO-[A-Z]{2}|[A-Z]{2}(-[A-Z]{2,3})?")
_REGION = re.compile(r"[A-Za-z]+[A-Za-z0-9 ]*")


@dataclass(frozen=True)
class Mark:
    """What the tags of the pool hold.

    :param nonce: another one with each change, by which a writer knows its own.
    """

    endpoint: Endpoint
    nonce: str = ""


@dataclass(frozen=True)
class Names:
    """Where the profiles are.

    :param pool_id: the id of the pool, by which the front refers to it.
    :param front_label: the first label of the name that clients ask for.
    :param pool_label: the same of the pool, which nobody asks for, but which has to be unique in the world.
    """

    front: str
    pool: str
    pool_id: str
    front_label: str
    pool_label: str


def names_of(subscription: str, group: str, profile: str, label: str) -> Names:
    """Give the names of an endpoint's profiles."""
    pool = f"{profile}-pool"
    path = f"/subscriptions/{subscription}/resourceGroups/{group}/providers/Microsoft.Network"
    pool_id = f"{path}/trafficManagerProfiles/{pool}"
    unique = hashlib.sha256(pool_id.lower().encode()).hexdigest()[:16]
    return Names(profile, pool, pool_id, label, f"{label[:40]}-{unique}")


def marked(profile: Json | None) -> bool:
    """Tell whether a profile is ours."""
    return _tag(profile, _MARK) == OWNERSHIP


def nonce_of(profile: Json | None) -> str:
    """Give by which change a profile is as it is."""
    return _tag(profile, _NONCE).partition(" ")[0]


def built_on(profile: Json | None, nonce: str) -> bool:
    """Tell whether a change is still there: as the last one, or as what the last one began with."""
    return nonce in _tag(profile, _NONCE).split()


def _tag(profile: Json | None, name: str) -> str:
    # Azure may give a tag's name in other letters.
    tags = {key.lower(): value for key, value in ((profile or {}).get("tags") or {}).items()}
    return str(tags.get(name, ""))


def tags_of(profile: Json | None, nonce: str, endpoint: Endpoint | None = None) -> dict[str, str]:
    """Give a profile's tags: ours, and those of others that it has, such as for the bill.

    :param endpoint: the definition, for the pool.
    """
    parts = split(pack(endpoint.stored()), _TAG_CHARACTERS) if endpoint else []
    numbered = {f"{_PART}{number:02}": part for number, part in enumerate(parts, 1)}
    before = nonce_of(profile)
    return {**theirs(profile), _MARK: OWNERSHIP, _NONCE: f"{nonce} {before}" if before else nonce, **numbered}


def theirs(profile: Json | None) -> dict[str, str]:
    """Give the tags of others that a profile has."""
    tags = (profile or {}).get("tags") or {}
    return {
        key: value
        for key, value in tags.items()
        if key.lower() not in (_MARK, _NONCE) and not key.lower().startswith(_PART)
    }


def decode(profile: Json) -> Mark:
    """Read back the definition that :func:`tags_of` put into the pool's tags.

    :raises ValueError: saying what it is instead.
    """
    if not marked(profile):
        raise ValueError("was made by hand or by another tool")
    tags = {key.lower(): value for key, value in profile["tags"].items()}
    parts = [tags[name] for name in sorted(tags) if name.startswith(_PART)]
    try:
        return Mark(Endpoint.from_dict(unpack("".join(parts))), nonce_of(profile))
    except (KeyError, TypeError, ValueError, AttributeError, zlib.error) as error:
        raise ValueError(f"has a damaged definition in its tags ({error!r})") from error


def wanted_pool(endpoint: Endpoint, names: Names) -> Json:
    """Give the profile that routes among the active members.

    A drained member stays in it, disabled; with the policy ``geographic`` it has no place, and so no endpoint.
    """
    settings = endpoint.settings
    policy = settings["policy"]
    endpoints = []
    for member in endpoint.members:
        more: Json = {}
        if policy == "geographic":
            more["geoMapping"] = _places(endpoint, member)
            if not more["geoMapping"]:
                continue
        elif member.state == "standby":
            continue
        elif policy == "weighted":
            more["weight"] = member.weight
        else:
            more["endpointLocation"] = next(
                (place for place, listed in settings["locations"].items() if member.name in listed), ""
            )
        endpoints.append(_external(endpoint, member, "Disabled" if member.state == "drained" else "Enabled", **more))
    return _profile(endpoint, POLICIES[policy], names.pool_label, endpoints)


def wanted_front(endpoint: Endpoint, names: Names, before: Iterable[Json] = ()) -> Json:
    """Give the profile that clients ask: the pool first, then the standby members, the heaviest first.

    :param before: endpoints that are to stay in it though they are no longer wanted.
    """
    pool: Json = {
        "targetResourceId": names.pool_id,
        "endpointStatus": "Enabled",
        "minChildEndpoints": 1,
        "alwaysServe": _always(endpoint),
    }
    endpoints: list[Json] = [{"name": POOL_ENDPOINT, "type": NESTED, "properties": pool}]
    # Where places are kept apart, nobody takes over from everywhere.
    if endpoint.settings["policy"] != "geographic":
        waiting = [member for member in endpoint.members if member.state == "standby"]
        waiting.sort(key=lambda member: (-member.weight, member.name))
        endpoints += [_external(endpoint, member, "Enabled") for member in waiting]
    known = {entry["name"] for entry in endpoints}
    targets = {entry["properties"].get("target") for entry in endpoints}
    kind = record_of(endpoint.members[0])[0]
    for entry in before:
        properties = {key: value for key, value in entry["properties"].items() if key in _KEPT}
        target = properties.get("target")
        # A profile takes an address once, and one type of them.
        fits = target and target not in targets and record_of(Member("", target))[0] == kind
        if fits and entry["name"] not in known:
            endpoints.append({"name": entry["name"], "type": EXTERNAL, "properties": properties})
    for number, entry in enumerate(endpoints, 1):
        entry["properties"]["priority"] = number
    return _profile(endpoint, "Priority", names.front_label, endpoints)


def _external(endpoint: Endpoint, member: Member, status: str, **more: Any) -> Json:
    kind = record_of(member)[0]
    target = member.address if kind == "CNAME" else str(ipaddress.ip_address(member.address))
    properties = {"target": target, "endpointStatus": status, "alwaysServe": _always(endpoint), **more}
    return {"name": member.name, "type": EXTERNAL, "properties": properties}


def _always(endpoint: Endpoint) -> str:
    return "Enabled" if endpoint.settings["health_check_type"] == "NONE" else "Disabled"


def _places(endpoint: Endpoint, member: Member) -> list[str]:
    """Give the places that a member answers: those where it is the first that is active, or else stands by."""
    return sorted(
        place for place, listed in endpoint.settings["locations"].items() if _chosen(endpoint, listed) == member
    )


def _chosen(endpoint: Endpoint, listed: Sequence[str]) -> Member | None:
    found = [member for name in listed if (member := endpoint.member(name))]
    ordered = [member for state in ("active", "standby") for member in found if member.state == state]
    return ordered[0] if ordered else None


def _profile(endpoint: Endpoint, method: str, label: str, endpoints: list[Json]) -> Json:
    return {
        "location": "global",
        "properties": {
            "profileStatus": "Enabled",
            "trafficRoutingMethod": method,
            "dnsConfig": {"relativeName": label, "ttl": endpoint.settings["ttl"]},
            "monitorConfig": _monitor(endpoint),
            "endpoints": endpoints,
        },
    }


def _monitor(endpoint: Endpoint) -> Json:
    """Give the health check, which is one for all members and so for all models."""
    settings = endpoint.settings
    kind = settings["health_check_type"]
    monitor: Json = {
        # A profile cannot be without one, also where each endpoint is always served.
        "protocol": "TCP" if kind == "NONE" else kind,
        "port": settings["health_check_port"] or endpoint.members[0].port,
        "intervalInSeconds": settings["health_check_interval"],
        "timeoutInSeconds": settings["health_check_timeout"],
        "toleratedNumberOfFailures": settings["health_check_threshold"] - 1,
    }
    if monitor["protocol"] != "TCP":
        monitor["path"] = path_of(settings["health_check_path"], endpoint.models[0].name)
        monitor["expectedStatusCodeRanges"] = [{"min": 200, "max": 200}]
        host = settings["health_check_host"]
        monitor["customHeaders"] = [{"name": "Host", "value": host}] if host else []
    return monitor


def endpoints_of(profile: Json | None) -> dict[str, Json]:
    """Give a profile's endpoints by name."""
    return {entry["name"]: entry for entry in (profile or {}).get("properties", {}).get("endpoints") or ()}


def differences(found: Json, wanted: Json, shown: Iterable[str] = ()) -> set[str]:
    """Name what is not as wanted in a profile: its settings, and its endpoints.

    :param shown: endpoints whose status and weight show elsewhere.
    """
    have, want = found.get("properties", {}), wanted["properties"]
    differ = {key for key, value in want.items() if key != "endpoints" and not _same(have.get(key), value)}
    there, expected = endpoints_of(found), endpoints_of(wanted)
    differ |= there.keys() ^ expected.keys()
    for name in there.keys() & expected.keys():
        real, right = there[name].get("properties", {}), dict(expected[name]["properties"])
        if name in shown:
            del right["endpointStatus"]
            right.pop("weight", None)
        foreign = any(real.get(key) for key in _NEVER if key not in right)
        if foreign or not _same(there[name].get("type", ""), expected[name]["type"]) or not _same(real, right):
            differ.add(name)
    return differ


def _same(found: Any, wanted: Any) -> bool:
    """Tell whether everything that is wanted is there; Azure adds defaults, and writes ids and places its own way."""
    if isinstance(wanted, dict):
        return isinstance(found, dict) and all(_same(found.get(key), value) for key, value in wanted.items())
    if isinstance(wanted, list):
        # An empty list may come back as none.
        have = found or []
        if len(have) != len(wanted):
            return False
        if all(isinstance(entry, str) for entry in [*have, *wanted]):
            have, wanted = sorted(have), sorted(wanted)
        return all(_same(one, other) for one, other in zip(have, wanted, strict=True))
    if isinstance(wanted, str):
        return isinstance(found, str) and _plain(found) == _plain(wanted)
    return bool(found == wanted)


def _plain(text: str) -> str:
    return text.lower().replace(" ", "")


def without_status(value: Any) -> Any:
    """Give a profile without what Traffic Manager finds out itself, to tell whether somebody has changed it."""
    if isinstance(value, dict):
        return {key: without_status(entry) for key, entry in value.items() if key not in _STATUS}
    if isinstance(value, list):
        return [without_status(entry) for entry in value]
    return value


def describe(profile: Json | None, name: str) -> list[str]:
    """Give a profile as lines for people."""
    if profile is None:
        return []
    properties = profile["properties"]
    dns, monitor = properties.get("dnsConfig", {}), properties.get("monitorConfig", {})
    words = {key: value for key, value in without_status(monitor).items() if value}
    lines = [
        f"{name}: {properties.get('trafficRoutingMethod')}, {properties.get('profileStatus')}, name"
        f" {dns.get('relativeName')}, ttl {dns.get('ttl')}",
        f"{name}: health check {', '.join(f'{key} {words[key]}' for key in sorted(words))}",
    ]
    shown = ("target", "endpointStatus", _SHOWN.get(properties.get("trafficRoutingMethod", ""), ""))
    for entry in properties.get("endpoints") or ():
        given = entry.get("properties", {})
        told = [f"{key} {given[key]}" for key in shown if given.get(key) is not None]
        if given.get("alwaysServe") == "Enabled":
            told.append("always served")
        lines.append(f"{name}: {entry['name']} {', '.join(told)}")
    return lines


def check_definition(endpoint: Endpoint, front_name: str, tags: Mapping[str, str]) -> None:
    """Refuse what these profiles cannot say.

    :param front_name: the name that clients ask for.
    :param tags: those of others that the pool has.
    :raises InputError: naming what can.
    """
    _check_members(endpoint, front_name)
    check_models(endpoint.models, endpoint.settings["health_check_host"] or front_name, "traffic_manager")
    check_jurisdictions(endpoint, "traffic_manager")
    _check_policy(endpoint)
    _check_health_check(endpoint)
    room = _MOST_TAGS - len(tags)
    needed = len(tags_of(None, "", endpoint))
    if needed > room:
        raise InputError(
            f"traffic_manager: the definition needs {needed} tags, and the profile has room for {room}.",
            hint=f"Use fewer members and models, or remove other tags{others('large definitions')}",
        )


def _check_members(endpoint: Endpoint, front_name: str) -> None:
    if len(endpoint.members) >= _MOST_MEMBERS:
        raise InputError(
            f"traffic_manager: {len(endpoint.members)} members are too many.",
            hint=f"Traffic Manager takes {_MOST_MEMBERS} endpoints in a profile, and one of them is the pool.",
        )
    check_one_kind(endpoint, "traffic_manager", "a profile has one type")
    check_one_port(endpoint, "traffic_manager")
    for member in endpoint.members:
        if record_of(member)[0] != "CNAME" and not ipaddress.ip_address(member.address).is_global:
            raise InputError(
                f"traffic_manager: Traffic Manager takes no private address, and {member.name} has {member.address}.",
                hint=f"Give a public address{others('private addresses')}",
            )
    check_own_addresses(endpoint, "traffic_manager", front_name)


def _check_health_check(endpoint: Endpoint) -> None:
    settings = endpoint.settings
    kind = settings["health_check_type"]
    if settings["health_check_interval"] == 10 and settings["health_check_timeout"] > 9:
        raise InputError(
            "traffic_manager: health_check_timeout must be 5 to 9 with an interval of 10 s.",
            hint="Use a shorter timeout, or health_check_interval=30.",
        )
    if kind == "NONE":
        check_nobody_waits(endpoint, "traffic_manager")
    elif kind != "TCP" and not is_one_path(settings["health_check_path"], endpoint.models):
        raise InputError(
            f"traffic_manager: a profile checks one path, and there are {len(endpoint.models)} models.",
            hint="Give traffic_manager.health_check_path one that tells of all of them, such as '/healthz' of a prober"
            f" in each cluster (serving_prober), or health_check_type=TCP{others('health checks of several models')}",
        )


def _check_policy(endpoint: Endpoint) -> None:
    policy = endpoint.settings["policy"]
    locations = endpoint.settings["locations"]
    if policy == "weighted":
        if locations:
            raise InputError(
                "traffic_manager: locations mean nothing to the policy weighted.",
                hint="Set locations={}, or use the policy performance or geographic.",
            )
        return
    if len({member.weight for member in endpoint.members}) > 1:
        raise InputError(
            f"traffic_manager: the members have different weights, which mean nothing to the policy {policy}.",
            hint="Give all members one weight, or use the policy weighted.",
        )
    pattern, example = (
        (_REGION, "an Azure region, such as 'westeurope'")
        if policy == "performance"
        else (_GEOGRAPHY, "a code of Traffic Manager's, such as 'DE', 'GEO-EU' or 'WORLD'")
    )
    check_places_name_members(endpoint, "traffic_manager")
    for place in locations:
        if not pattern.fullmatch(place):
            raise InputError(
                f"traffic_manager.locations: {place!r} is no place of the policy {policy}.", hint=f"Use {example}."
            )
    if policy == "performance":
        _check_regions(endpoint, locations)
    else:
        _check_places(endpoint, locations)


def _check_regions(endpoint: Endpoint, locations: Mapping[str, Sequence[str]]) -> None:
    for member in endpoint.members:
        regions = [place for place, listed in locations.items() if member.name in listed]
        if len(regions) != 1:
            raise InputError(
                f"traffic_manager: the policy performance needs the one Azure region that is nearest to {member.name}"
                f" (found: {', '.join(regions) or 'none'}).",
                hint="Name each member under one region of traffic_manager.locations.",
            )


def _check_places(endpoint: Endpoint, locations: Mapping[str, Sequence[str]]) -> None:
    if not locations:
        raise InputError(
            "traffic_manager: the policy geographic needs locations.",
            hint="Name the members of each place, such as 'DE', 'GEO-EU' and 'WORLD'.",
        )
    for place, listed in locations.items():
        if _chosen(endpoint, listed) is None:
            raise InputError(
                f"traffic_manager: every member of the place {place} would be drained, and clients there would get no"
                " answer or that of a larger place.",
                hint=f"Name another member for {place}, after these, or make one of them active.",
            )
    for member in endpoint.members:
        if member.state == "active" and not _places(endpoint, member):
            raise InputError(
                f"traffic_manager: {member.name} is active, and no place of traffic_manager.locations comes to it.",
                hint="Name it first in a place, or let it stand by or drain it.",
            )
