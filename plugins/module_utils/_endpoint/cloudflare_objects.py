# SPDX-FileCopyrightText: The modelfleet maintainers
# SPDX-License-Identifier: GPL-3.0-or-later
"""An endpoint as Cloudflare knows it: monitors, pools, and the load balancer that holds the definition. Pure.

All in the words of Cloudflare's own API.
"""

from __future__ import annotations

import hashlib
import ipaddress
import json
import re
import zlib
from collections.abc import Iterable, Mapping
from typing import Any

from ansible_collections.modelfleet.serving.plugins.module_utils._endpoint.balancer import others
from ansible_collections.modelfleet.serving.plugins.module_utils._endpoint.cloudflare_options import REGIONS
from ansible_collections.modelfleet.serving.plugins.module_utils._endpoint.definition import (
    DEFAULT_PORT,
    Endpoint,
    Member,
)
from ansible_collections.modelfleet.serving.plugins.module_utils._endpoint.health_check import is_one_path, path_of
from ansible_collections.modelfleet.serving.plugins.module_utils._endpoint.plan import Traffic, traffic_weight
from ansible_collections.modelfleet.serving.plugins.module_utils._endpoint.refusals import (
    check_everybody_has_a_place,
    check_jurisdictions,
    check_models,
    check_nobody_waits,
    check_places_name_members,
)
from ansible_collections.modelfleet.serving.plugins.module_utils._endpoint.stored import OWNERSHIP, pack, unpack
from ansible_collections.modelfleet.serving.plugins.module_utils._errors import InputError

Json = dict[str, Any]


# Cloudflare names no limit of a description. This is far more than what hundreds of members take, and a page of text.
_DEFINITION_CHARACTERS = 16_000
# Pools have shares from 0 to 1, in steps of this.
_STEPS = 100
# What Cloudflare tells of an origin, and nobody set.
_TOLD = {"disabled_at", "flatten_cname"}
_UNSHOWN = _TOLD | {
    *("id", "created_on", "modified_on", "description", "networks", "zone_name", "latitude", "longitude"),
    *("notification_email", "notification_filter", "load_shedding", "origin_steering", "health_sources", "probe_zone"),
    *("session_affinity_attributes", "session_affinity_ttl", "expected_body", "healthy", "location_strategy"),
}
_PLACE = re.compile(rf"\*|region:({'|'.join(REGIONS)})|country:[A-Z]{{2}}")


def tag_of(zone: str, record: str) -> str:
    """Give what marks the monitors and pools of one load balancer: an account has those of all its zones."""
    return hashlib.sha256(f"{zone} {record}".encode()).hexdigest()[:16]


def encode(endpoint: Endpoint, nonce: str) -> str:
    """Give the description of the load balancer: the definition.

    :param nonce: another one with each change, so that two writers never write the same.
    """
    return f"{OWNERSHIP}: {pack({'definition': endpoint.stored(), 'nonce': nonce})}"


def decode(description: str) -> Endpoint:
    """Read back what :func:`encode` gave.

    :raises ValueError: saying what it is instead.
    """
    mark, _colon, packed = description.partition(": ")
    if mark != OWNERSHIP:
        raise ValueError("was made by hand or by another tool")
    try:
        return Endpoint.from_dict(unpack(packed)["definition"])
    except (KeyError, TypeError, ValueError, AttributeError, zlib.error) as error:
        raise ValueError(f"has a damaged definition ({error!r})") from error


def _mark(tag: str, endpoint: Endpoint, what: str) -> str:
    return f"{OWNERSHIP} ({tag}): {endpoint.name}, {what}"


def name_in(tag: str, description: str | None) -> str | None:
    """Give the endpoint's name out of the description of a monitor or a pool; ``None`` when it is not ours."""
    found = re.fullmatch(rf"{re.escape(f'{OWNERSHIP} ({tag}): ')}([^,]+), .*", description or "")
    return found[1] if found else None


def pool_prefix(tag: str) -> str:
    """Give what the names of our pools begin with."""
    return f"modelfleet-{tag}-"


def pool_name(tag: str, member: Member) -> str:
    """Give the name of a member's pool. At another address, a member has another pool.

    So traffic goes to the new address with the write of the load balancer, as every other change, and not before.
    """
    where = hashlib.sha256(f"{member.address} {member.port}".encode()).hexdigest()[:8]
    return f"{pool_prefix(tag)}{member.name}-{where}"


def check_port(endpoint: Endpoint, member: Member) -> int:
    """Give the port at which a member is checked."""
    return int(endpoint.settings["health_check_port"] or member.port)


def wanted_monitors(endpoint: Endpoint, record: str, tag: str) -> dict[int, Json]:
    """Give the monitors by port: one for all members that are checked alike."""
    settings = endpoint.settings
    kind = settings["health_check_type"].lower()
    if kind == "none":
        return {}
    # A threshold of 1 is what is meant by 0, the default.
    threshold = settings["health_check_threshold"]
    common: Json = {
        "type": kind,
        "method": "connection_established" if kind == "tcp" else "GET",
        "interval": settings["health_check_interval"],
        "timeout": settings["health_check_timeout"],
        "retries": settings["health_check_retries"],
        "consecutive_down": threshold if threshold > 1 else 0,
        "consecutive_up": threshold if threshold > 1 else 0,
    }
    if kind != "tcp":
        # All models have the same path, or there is but one.
        common |= {
            "path": path_of(settings["health_check_path"], endpoint.models[0].name) if endpoint.models else "/",
            "header": {"Host": [settings["health_check_host"] or record]},
            "expected_codes": "200",
            "follow_redirects": False,
            "allow_insecure": not settings["health_check_validate_certs"],
        }
    ports = sorted({check_port(endpoint, member) for member in endpoint.members})
    return {
        port: {**common, "port": port, "description": _mark(tag, endpoint, f"{record}, port {port}")} for port in ports
    }


def wanted_pool(endpoint: Endpoint, record: str, tag: str, member: Member, monitor: str) -> Json:
    """Give the pool of a member. It says nothing about traffic, so that one write of the load balancer says all.

    :param monitor: the id of its monitor; empty for none.
    """
    origin: Json = {"name": member.name, "address": _address(member), "enabled": True, "weight": 1}
    if endpoint.settings["proxied"]:
        origin["port"] = member.port
    pool: Json = {
        "name": pool_name(tag, member),
        "description": _mark(tag, endpoint, f"{record}, {member.name}"),
        "enabled": True,
        "minimum_origins": 1,
        "origins": [origin],
    }
    if monitor:
        pool["monitor"] = monitor
    if endpoint.settings["health_check_regions"]:
        pool["check_regions"] = endpoint.settings["health_check_regions"]
    return pool


def wanted_load_balancer(endpoint: Endpoint, record: str, pools: Mapping[str, str], description: str = "") -> Json:
    """Give the load balancer.

    :param pools: the id of the pool by member.
    """
    settings = endpoint.settings
    places = _places(endpoint)
    order = places["*"]
    wanted: Json = {
        "name": record,
        "description": description,
        "enabled": True,
        "proxied": settings["proxied"],
        "session_affinity": "none",
        "steering_policy": {"weighted": "random", "failover": "off", "geographic": "geo"}[settings["policy"]],
        "default_pools": [pools[member.name] for member in order],
        # It gets the traffic when no pool is healthy, so nobody is without an answer because of health checks alone.
        # To a standby member it goes when no active one is healthy, which is the same.
        "fallback_pool": pools[_last(order, settings["policy"]).name],
        # Left out, these would stay at what they are.
        "region_pools": {},
        "country_pools": {},
    }
    for place, members in places.items():
        if place != "*":
            kind, _colon, code = place.partition(":")
            wanted[f"{kind}_pools"][code] = [pools[member.name] for member in members]
    if settings["policy"] == "weighted":
        # A standby member is named with no share, so that it is checked, and takes over also where a share of 0 would
        # count like all others as soon as there is nothing else.
        shares = {name: step / _STEPS for name, step in steps(order).items()}
        wanted["random_steering"] = {
            "default_weight": 0,
            "pool_weights": {pools[member.name]: shares[member.name] for member in order},
        }
    if settings["proxied"]:
        # A connection that fails is tried once at another member, before a health check has found out. Not by place,
        # where it would be a member of another one.
        wanted["adaptive_routing"] = {"failover_across_pools": settings["policy"] != "geographic"}
    else:
        wanted["ttl"] = settings["ttl"]
        if settings["policy"] == "geographic":
            # Where the client is, or else its resolver, rather than the data center that happens to answer.
            wanted["location_strategy"] = {"mode": "resolver_ip", "prefer_ecs": "geo"}
    return wanted


def steps(members: Iterable[Member]) -> dict[str, int]:
    """Give the shares in hundredths of the largest, by member; 0 for one that stands by."""
    listed = list(members)
    largest = max((member.weight for member in listed if member.state == "active"), default=1)
    return {
        member.name: round(member.weight * _STEPS / largest) if member.state == "active" else 0 for member in listed
    }


def _places(endpoint: Endpoint) -> dict[str, list[Member]]:
    """Give the members of each place that may take traffic, in order; ``*`` is everywhere else."""
    if endpoint.settings["policy"] == "geographic":
        return {place: _in_order(endpoint, names) for place, names in endpoint.settings["locations"].items()}
    # The order means something with the policy failover.
    ordered = sorted(endpoint.members, key=lambda member: (-member.weight, member.name))
    return {"*": _in_order(endpoint, [member.name for member in ordered])}


def _in_order(endpoint: Endpoint, names: Iterable[str]) -> list[Member]:
    """Give the active ones, then those that stand by."""
    known = [member for name in names if (member := endpoint.member(name))]
    return [member for state in ("active", "standby") for member in known if member.state == state]


def _last(order: list[Member], policy: str) -> Member:
    """Give the one that gets the traffic when none is healthy."""
    return order[-1] if policy == "weighted" and order[-1].state == "standby" else order[0]


def traffic_in(endpoint: Endpoint, pools: Mapping[str, str], found: Mapping[str, Any]) -> dict[str, Traffic]:
    """Give what a load balancer gives each member; other than wanted only where somebody changed it by hand."""
    steering = found.get("random_steering") or {}
    weights, default = steering.get("pool_weights") or {}, steering.get("default_weight", 1)
    wanted = steps(endpoint.members)
    largest = max((member.weight for member in endpoint.members if member.state == "active"), default=1)
    traffic = {}
    for member in endpoint.members:
        pool = pools.get(member.name, "")
        listed = pool in (found.get("default_pools") or ())
        share = round(weights.get(pool, default) * _STEPS)
        live = Traffic(traffic_weight(member))
        if member.state == "active" and (not listed or share != wanted[member.name]):
            live = Traffic(round(share * largest / _STEPS) if listed else 0)
        elif member.state == "standby" and not (listed and share == 0):
            live = Traffic(round(share * largest / _STEPS), "active") if listed else Traffic(0, "drained")
        elif member.state == "drained" and listed:
            live = Traffic(round(share * largest / _STEPS), "" if share else "standby")
        traffic[member.name] = live
    return traffic


def monitor_differences(found: Mapping[str, Any], wanted: Mapping[str, Any]) -> list[str]:
    """Name the fields of a monitor that are not as wanted."""
    return _differences(found, wanted)


def pool_differences(found: Mapping[str, Any], wanted: Mapping[str, Any]) -> list[str]:
    """Name the fields of a pool that are not as wanted."""
    shed = found.get("load_shedding") or {}
    shedding = ["load_shedding"] if shed.get("default_percent") or shed.get("session_percent") else []
    return [*_differences(found, {"monitor": "", "monitor_group": "", "check_regions": [], **wanted}), *shedding]


def load_balancer_differences(found: Mapping[str, Any], wanted: Mapping[str, Any]) -> list[str]:
    """Name the fields of a load balancer that are not as wanted; the definition is none of them."""
    # What would overrule our pools.
    others_way: Json = {"pop_pools": {}, "rules": [], "pool_sets": []}
    return _differences(found, {**others_way, **{key: wanted[key] for key in wanted if key != "description"}})


def _differences(found: Mapping[str, Any], wanted: Mapping[str, Any]) -> list[str]:
    return sorted(key for key, value in wanted.items() if not _same(found.get(key), value))


def _same(found: Any, wanted: Any) -> bool:
    """Compare. What is left out, empty, null, zero or false is the same."""
    if isinstance(wanted, dict) and isinstance(found, dict):
        keys = (found.keys() | wanted.keys()) - _TOLD
        return all(_same(found.get(key), wanted.get(key)) for key in keys)
    if isinstance(wanted, list) and isinstance(found, list):
        return len(found) == len(wanted) and all(map(_same, found, wanted))
    return bool(found == wanted or (not found and not wanted))


def members_of(pools: Iterable[Mapping[str, Any]]) -> tuple[Member, ...]:
    """Give the members as far as their pools tell, for what is left without a load balancer."""
    members = {}
    for pool in pools:
        for origin in pool.get("origins") or ():
            port = origin.get("port") or DEFAULT_PORT
            members[origin.get("name", "")] = Member(origin.get("name", ""), origin.get("address", ""), port)
    return tuple(sorted(members.values(), key=lambda member: member.name))


def describe(
    load_balancer: Mapping[str, Any] | None,
    pools: Iterable[Mapping[str, Any]],
    monitors: Iterable[Mapping[str, Any]],
    names: Mapping[str, str],
) -> str:
    """Give all of it as text for people.

    :param names: names for ids.
    """
    lines = []
    for kind, entry in (
        *(("monitor", entry) for entry in monitors),
        *(("pool", entry) for entry in pools),
        *(("load balancer", entry) for entry in ([load_balancer] if load_balancer else [])),
    ):
        text = json.dumps(_shown(entry), sort_keys=True)
        for identifier, name in names.items():
            text = text.replace(f'"{identifier}"', json.dumps(name))
        lines.append(f"{kind} {text}\n")
    return "".join(sorted(lines))


def _shown(value: Any) -> Any:
    """Leave out what nobody set, and the description, which holds the definition."""
    if isinstance(value, dict):
        shown = {key: _shown(entry) for key, entry in value.items() if key not in _UNSHOWN}
        return {key: entry for key, entry in shown.items() if entry not in (None, {}, [], "", 0)}
    if isinstance(value, list):
        return [_shown(entry) for entry in value]
    # 1.0 is how Cloudflare may give 1.
    return int(value) if isinstance(value, float) and value.is_integer() else value


def _address(member: Member) -> str:
    try:
        return str(ipaddress.ip_address(member.address))
    except ValueError:
        return member.address


def verdict(health: Mapping[str, Any]) -> str:
    """Give why a pool fails, by what most of the data centers found; empty when it passes.

    Cloudflare's reference and its examples differ in the form: the findings are those of one data center, or are by the
    name of each.
    """
    found = health.get("pop_health") or {}
    reports = [found] if "healthy" in found else [entry for entry in found.values() if isinstance(entry, dict)]
    if not reports:
        return "no data center has reported yet"
    bad = [report for report in reports if not report.get("healthy")]
    if 2 * len(bad) < len(reports):
        return ""
    reasons = [
        str(result["failure_reason"])
        for report in bad
        for origin in report.get("origins") or ()
        for result in origin.values()
        if isinstance(result, dict) and not result.get("healthy") and result.get("failure_reason")
    ]
    return f"{len(bad)} of {len(reports)} data centers: {reasons[0] if reasons else 'unhealthy'}"


def check_definition(endpoint: Endpoint, record: str) -> None:
    """Refuse what Cloudflare cannot do.

    :raises InputError: naming what can.
    """
    _check_members(endpoint, record)
    check_models(endpoint.models, record, "cloudflare", ", and Cloudflare has none a model")
    check_jurisdictions(endpoint, "cloudflare")
    _check_policy(endpoint)
    _check_health_checks(endpoint)
    size = len(encode(endpoint, "0" * 16))
    if size > _DEFINITION_CHARACTERS:
        raise InputError(
            f"cloudflare: the definition has {size} characters, and {_DEFINITION_CHARACTERS} are the most.",
            hint=f"Use fewer models or members{others('large definitions')}",
        )


def _check_members(endpoint: Endpoint, record: str) -> None:
    proxied = endpoint.settings["proxied"]
    ports = {member.port for member in endpoint.members}
    if len(ports) > 1 and not proxied:
        each = ", ".join(f"{member.name} {member.port}" for member in endpoint.members)
        raise InputError(
            f"cloudflare: the members have different ports ({each}), and DNS carries no port.",
            hint=f"Give all members one port, or use cloudflare.proxied=true{others('ports')}",
        )
    seen: dict[tuple[str, int], str] = {}
    for member in endpoint.members:
        address = _address(member)
        try:
            public = ipaddress.ip_address(address).is_global
        except ValueError:
            public = True
        if not public:
            raise InputError(
                f"cloudflare: Cloudflare is in the internet and cannot reach {address} ({member.name}).",
                hint=f"Give a public address{others('private addresses')}",
            )
        if address == record:
            raise InputError(f"cloudflare: {member.name} has the address of the endpoint itself.", hint="Correct it.")
        where = (address, member.port)
        if where in seen:
            raise InputError(
                f"cloudflare: {seen[where]} and {member.name} have one address ({address}:{member.port}), so neither"
                f" can be drained.",
                hint="Give each member its own address or port.",
            )
        seen[where] = member.name


def _check_health_checks(endpoint: Endpoint) -> None:
    settings = endpoint.settings
    kind = settings["health_check_type"]
    if kind == "NONE":
        check_nobody_waits(endpoint, "cloudflare")
    tries = settings["health_check_timeout"] * (settings["health_check_retries"] + 1)
    if settings["health_check_interval"] < tries:
        raise InputError(
            f"cloudflare: health_check_interval ({settings['health_check_interval']} s) is shorter than all tries of a"
            f" check ({tries} s).",
            hint="Use a longer interval, a shorter health_check_timeout, or fewer health_check_retries.",
        )
    if kind in ("HTTP", "HTTPS") and not is_one_path(settings["health_check_path"], endpoint.models):
        names = ", ".join(model.name for model in endpoint.models)
        raise InputError(
            f"cloudflare: a pool has one health check, which asks for one path, and the models are {names}.",
            hint="Set cloudflare.health_check_path to a path that tells of all of them, such as that of a prober, or"
            f" cloudflare.health_check_type to TCP{others('health checks of several models')}",
        )


def _check_policy(endpoint: Endpoint) -> None:
    policy = endpoint.settings["policy"]
    locations = endpoint.settings["locations"]
    if policy != "geographic" and locations:
        raise InputError(
            f"cloudflare: locations mean nothing to the policy {policy}.",
            hint="Set locations={}, or use the policy geographic.",
        )
    states = {
        state: [member.name for member in endpoint.members if member.state == state] for state in ("active", "standby")
    }
    if policy == "weighted":
        if len(states["standby"]) > 1:
            raise InputError(
                f"cloudflare: with the policy weighted one member can stand by, as the fallback pool, and"
                f" {', '.join(states['standby'])} would.",
                hint=f"Drain the others, or use the policy failover{others('several standby members')}",
            )
        lost = [name for name in states["active"] if not steps(endpoint.members)[name]]
        if lost:
            raise InputError(
                f"cloudflare: the weight of {', '.join(lost)} is too small beside the largest; Cloudflare takes"
                f" hundredths of it.",
                hint=f"Use a larger weight{others('small weights')}",
            )
    elif policy == "failover":
        if len(states["active"]) > 1:
            raise InputError(
                f"cloudflare: with the policy failover one member takes all traffic, and {', '.join(states['active'])}"
                f" are active.",
                hint="Let the others stand by, or use the policy weighted.",
            )
    else:
        _check_locations(endpoint)


def _check_locations(endpoint: Endpoint) -> None:
    locations = endpoint.settings["locations"]
    if len({member.weight for member in endpoint.members}) > 1:
        raise InputError(
            "cloudflare: the members have different weights, which mean nothing to the policy geographic.",
            hint="Give all members one weight, or use the policy weighted.",
        )
    if "*" not in locations:
        raise InputError(
            "cloudflare: the policy geographic needs locations, and '*' among them, for clients anywhere else.",
            hint="Name the members of each place, such as 'region:WEU', 'country:DE' and '*'.",
        )
    check_places_name_members(endpoint, "cloudflare")
    for place, names in locations.items():
        if not _PLACE.fullmatch(place):
            raise InputError(
                f"cloudflare.locations: {place!r} is no place.",
                hint=f"Use 'country:DE', '*', or 'region:' and one of {', '.join(REGIONS)}.",
            )
        if not _in_order(endpoint, names):
            raise InputError(
                f"cloudflare: every member of the place {place} would be drained, and clients there would get the"
                f" answer of a larger place.",
                hint=f"Name another member for {place}, after these, or make one of them active.",
            )
    check_everybody_has_a_place(endpoint, "cloudflare")
