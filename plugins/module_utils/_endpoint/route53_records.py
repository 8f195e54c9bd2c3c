# SPDX-FileCopyrightText: The modelfleet maintainers
# SPDX-License-Identifier: GPL-3.0-or-later
"""An endpoint as Route 53 knows it: record sets, health checks, and the TXT record that holds the definition. Pure.

Records and health checks are in the words of Route 53's own API (``ResourceRecordSet``, ``HealthCheckConfig``).
"""

from __future__ import annotations

import hashlib
import ipaddress
import json
import re
import uuid
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from ansible_collections.modelfleet.serving.plugins.module_utils._endpoint.balancer import others
from ansible_collections.modelfleet.serving.plugins.module_utils._endpoint.definition import (
    Endpoint,
    Member,
)
from ansible_collections.modelfleet.serving.plugins.module_utils._endpoint.dns_records import (
    record_of,
    strings,
)
from ansible_collections.modelfleet.serving.plugins.module_utils._endpoint.health_check import path_of
from ansible_collections.modelfleet.serving.plugins.module_utils._endpoint.refusals import (
    check_everybody_has_a_place,
    check_jurisdictions,
    check_models,
    check_nobody_waits,
    check_one_kind,
    check_one_port,
    check_own_addresses,
    check_places_name_members,
)
from ansible_collections.modelfleet.serving.plugins.module_utils._endpoint.stored import OWNERSHIP, unpack
from ansible_collections.modelfleet.serving.plugins.module_utils._errors import InputError

Json = dict[str, Any]

# In place of the id of a health check that is yet to be made.
NEW = "new"

# Route 53 takes 255 characters in a string, 4000 in a value, and 32,000 in all values of a change, which holds the old
# definition and the new one.
_VALUE_STRINGS = 14
_DEFINITION_CHARACTERS = 12_000
_MOST_MEMBERS = 100
# The edges of a place: a continent, a country, a state of the USA, or everywhere else.
_PLACE = re.compile(r"\*|continent:(AF|AN|AS|EU|OC|NA|SA)|country:[A-Z]{2}|state:[A-Z]{2}")
_REGION = re.compile(r"[a-z]{2}(-[a-z]+)+-[0-9]{1,2}")


@dataclass(frozen=True)
class Checks:
    """The ids of a member's health checks.

    :param record: the one that its records name.
    :param models: the one that tells of a model, by model. Where there is one check, it is the same as ``record``.
    """

    record: str
    models: Mapping[str, str]

    def ids(self) -> set[str]:
        """Give all of them."""
        return {self.record, *self.models.values()}


@dataclass(frozen=True)
class Mark:
    """What our TXT record holds.

    :param checks: health checks by member. One that is not in here is used by nobody, and never will be.
    :param nonce: another one with each change, so that two writers never write the same.
    """

    endpoint: Endpoint
    checks: Mapping[str, Checks] = field(default_factory=dict)
    nonce: str = ""

    def used(self) -> set[str]:
        """Give the ids of the health checks."""
        return {entry for checks in self.checks.values() for entry in checks.ids()}


def encode(mark: Mark) -> list[str]:
    """Give the values of the TXT record, in the quotes that Route 53 wants."""
    stored = {
        "definition": mark.endpoint.stored(),
        "checks": {
            name: {"record": checks.record, "models": dict(checks.models)} for name, checks in mark.checks.items()
        },
        "nonce": mark.nonce,
    }
    chunks = strings(stored)
    parts = [chunks[start : start + _VALUE_STRINGS] for start in range(0, len(chunks), _VALUE_STRINGS)]
    # The order of values means nothing in DNS, so each has its number.
    return [
        " ".join(f'"{string}"' for string in (OWNERSHIP, f"{number}/{len(parts)}", *part))
        for number, part in enumerate(parts, 1)
    ]


def decode(values: Sequence[str]) -> Mark:
    """Read back what :func:`encode` gave.

    :raises ValueError: saying what it is instead.
    """
    parts: dict[str, str] = {}
    for value in values:
        mark, *strings = re.findall(r'"([^"]*)"', value) or [""]
        if mark != OWNERSHIP:
            raise ValueError("is somebody else's")
        if strings:
            parts[strings[0]] = "".join(strings[1:])
    try:
        packed = "".join(parts[f"{number}/{len(parts)}"] for number in range(1, len(parts) + 1))
        stored = unpack(packed)
        checks = {name: Checks(entry["record"], entry["models"]) for name, entry in stored["checks"].items()}
        return Mark(Endpoint.from_dict(stored["definition"]), checks, stored["nonce"])
    except (KeyError, TypeError, ValueError, AttributeError, zlib.error) as error:
        raise ValueError(f"is damaged ({error!r})") from error


def reference_prefix(zone: str, record: str) -> str:
    """Give what the ``CallerReference`` of each of our health checks begins with, which cannot be changed later.

    A tag could mark them as well, but is a second call, and a run that is cut in between would leave a check behind
    that nobody knows.
    """
    return f"modelfleet-{hashlib.sha256(f'{zone} {record}'.encode()).hexdigest()[:16]}-"


def wanted_checks(endpoint: Endpoint, record: str, member: Member) -> dict[str, Json]:
    """Give the health checks of a member by model: each its own, or all the same one.

    Route 53 can only GET. By default it asks for the metadata of each model, which takes a loaded one.
    """
    settings = endpoint.settings
    kind = settings["health_check_type"]
    if kind == "NONE":
        return {}
    config: Json = {
        "Type": kind,
        "Port": settings["health_check_port"] or member.port,
        "RequestInterval": settings["health_check_interval"],
        "FailureThreshold": settings["health_check_threshold"],
    }
    if record_of(member)[0] == "CNAME":
        # Route 53 resolves the name itself, and asks for it as the host.
        config["FullyQualifiedDomainName"] = member.address
    else:
        config["IPAddress"] = str(ipaddress.ip_address(member.address))
        if kind != "TCP":
            config["FullyQualifiedDomainName"] = settings["health_check_host"] or record
    if kind == "TCP":
        return {model.name: config for model in endpoint.models}
    if kind == "HTTPS":
        config["EnableSNI"] = True
    path = settings["health_check_path"]
    return {model.name: {**config, "ResourcePath": path_of(path, model.name)} for model in endpoint.models}


def all_of(checks: Sequence[str]) -> Json:
    """Give the health check that passes when all others do."""
    return {"Type": "CALCULATED", "HealthThreshold": len(checks), "ChildHealthChecks": sorted(checks)}


def same_check(found: Mapping[str, Any], wanted: Mapping[str, Any]) -> bool:
    """Tell whether a health check is as wanted, and neither inverted nor disabled by hand."""

    def normal(key: str, value: Any) -> Any:
        if key == "IPAddress" and value:
            # An IPv6 address can be written in several ways.
            return ipaddress.ip_address(value)
        return sorted(value) if isinstance(value, list) else value

    same = all(normal(key, found.get(key)) == normal(key, value) for key, value in wanted.items())
    return same and not found.get("Inverted") and not found.get("Disabled")


def wanted_records(endpoint: Endpoint, record: str, checks: Mapping[str, str]) -> list[Json]:
    """Give the record sets of an endpoint.

    A drained member has none: with weight 0 it would get traffic as soon as no other is healthy, which is what a
    standby member is for.

    :param checks: the id of the health check by member; empty for none.
    """

    def entry(identifier: str, member: Member, **policy: Any) -> Json:
        kind, value = record_of(member)
        record_set: Json = {
            "Name": f"{record}.",
            "Type": kind,
            "SetIdentifier": identifier,
            **policy,
            "TTL": endpoint.settings["ttl"],
            "ResourceRecords": [{"Value": value}],
        }
        if member.name in checks:
            record_set["HealthCheckId"] = checks[member.name]
        return record_set

    members = [member for member in endpoint.members if member.state != "drained"]
    policy = endpoint.settings["policy"]
    if policy == "weighted":
        return [
            entry(member.name, member, Weight=member.weight if member.state == "active" else 0) for member in members
        ]
    if policy == "failover":
        return [
            entry(member.name, member, Failover="PRIMARY" if member.state == "active" else "SECONDARY")
            for member in members
        ]
    records = []
    for place, names in endpoint.settings["locations"].items():
        chosen = _chosen(endpoint, names)
        if chosen is not None:
            where = {"Region": place} if policy == "latency" else {"GeoLocation": _location(place)}
            records.append(entry(place, chosen, **where))
    return records


def _chosen(endpoint: Endpoint, names: Sequence[str]) -> Member | None:
    """Give the first member of a place that takes traffic, or else the first that stands by."""
    found = [member for name in names if (member := endpoint.member(name))]
    ordered = [member for state in ("active", "standby") for member in found if member.state == state]
    return ordered[0] if ordered else None


def _location(place: str) -> Json:
    kind, _unused, code = place.partition(":")
    if kind == "continent":
        return {"ContinentCode": code}
    if kind == "state":
        return {"CountryCode": "US", "SubdivisionCode": code}
    return {"CountryCode": code or "*"}


def changes(before: Sequence[Json], after: Sequence[Json]) -> list[Json]:
    """Give the changes that make one of the other.

    A record is deleted and created rather than replaced, since Route 53 refuses the whole batch when what is to be
    deleted is no longer as it was read.
    """
    gone = [{"Action": "DELETE", "ResourceRecordSet": entry} for entry in before if entry not in after]
    return gone + [{"Action": "CREATE", "ResourceRecordSet": entry} for entry in after if entry not in before]


def describe(entry: Mapping[str, Any]) -> str:
    """Give a record set as one line for people."""
    values = " ".join(value["Value"] for value in entry.get("ResourceRecords", ()))
    words = [entry["Name"], str(entry.get("TTL", "")), entry["Type"], values]
    for key in ("SetIdentifier", "Weight", "Failover", "Region", "GeoLocation", "HealthCheckId"):
        if key in entry:
            value = entry[key]
            words.append(f"{key}={json.dumps(value) if isinstance(value, dict) else value}")
    return " ".join(words)


def check_definition(endpoint: Endpoint, record: str, zone: str) -> None:
    """Refuse what these records cannot say.

    :raises InputError: naming what can.
    """
    _check_members(endpoint, record, zone)
    check_models(endpoint.models, record, "route53")
    check_jurisdictions(endpoint, "route53")
    _check_policy(endpoint)
    if endpoint.settings["health_check_type"] != "NONE":
        _check_health_checks(endpoint)
    else:
        if endpoint.settings["policy"] == "failover":
            raise InputError(
                "route53: the policy failover needs health checks.",
                hint="Use another route53.health_check_type than NONE, or the policy weighted.",
            )
        check_nobody_waits(endpoint, "route53")
    size = sum(map(len, encode(_foretold(endpoint, record))))
    if size > _DEFINITION_CHARACTERS:
        raise InputError(
            f"route53: the definition has {size} characters, and {_DEFINITION_CHARACTERS} fit into the zone.",
            hint=f"Use fewer models or members{others('large definitions')}",
        )


def _foretold(endpoint: Endpoint, record: str) -> Mark:
    """Give what the TXT record will hold, with ids that nobody made: they take most of the room, and do not shrink."""

    def some_id(*words: str) -> str:
        return str(uuid.uuid5(uuid.NAMESPACE_DNS, " ".join(words)))

    checks = {}
    for member in endpoint.members:
        wanted = wanted_checks(endpoint, record, member)
        # The same check for several models is made once.
        ids = {model: some_id(member.name, json.dumps(config)) for model, config in wanted.items()}
        if ids:
            checks[member.name] = Checks(some_id(member.name), ids)
    return Mark(endpoint, checks, "0" * 16)


def _check_members(endpoint: Endpoint, record: str, zone: str) -> None:
    if len(endpoint.members) > _MOST_MEMBERS:
        raise InputError(
            f"route53: {len(endpoint.members)} members are too many.",
            hint=f"Route 53 takes {_MOST_MEMBERS} records of a name.",
        )
    kinds = {record_of(member)[0] for member in endpoint.members}
    check_one_kind(endpoint, "route53", "shares count within one type only")
    if kinds == {"CNAME"} and record == zone:
        raise InputError(
            f"route53: {record} is the zone itself, where no host name can stand (CNAME).",
            hint="Give the members' IP addresses, or use a record below the zone.",
        )
    check_one_port(endpoint, "route53")
    check_own_addresses(endpoint, "route53", record)


def _check_health_checks(endpoint: Endpoint) -> None:
    for member in endpoint.members:
        kind = record_of(member)[0]
        if kind != "CNAME" and not ipaddress.ip_address(member.address).is_global:
            raise InputError(
                f"route53: Route 53's health checkers are in the internet and cannot reach {member.address}"
                f" ({member.name}).",
                hint="Give a public address, or fail over by playbook alone (route53.health_check_type=NONE).",
            )
        if kind == "CNAME" and endpoint.settings["health_check_host"]:
            raise InputError(
                f"route53: health_check_host cannot be used for {member.name}, since Route 53 asks a member with a host"
                f" name for that name.",
                hint="Leave out health_check_host, or give the members' IP addresses.",
            )


def _check_policy(endpoint: Endpoint) -> None:
    policy = endpoint.settings["policy"]
    locations = endpoint.settings["locations"]
    if policy in ("weighted", "failover"):
        if locations:
            raise InputError(
                f"route53: locations mean nothing to the policy {policy}.",
                hint="Set locations={}, or use the policy latency or geolocation.",
            )
        if policy == "failover":
            _check_failover(endpoint)
        return
    weights = {member.weight for member in endpoint.members}
    if len(weights) > 1:
        raise InputError(
            f"route53: the members have different weights, which mean nothing to the policy {policy}.",
            hint="Give all members one weight, or use the policy weighted.",
        )
    if not locations:
        raise InputError(
            f"route53: the policy {policy} needs locations.",
            hint="Name the members of each "
            + ("AWS region." if policy == "latency" else "place, such as 'continent:EU', 'country:DE' and '*'."),
        )
    pattern, example = (_REGION, "eu-west-1") if policy == "latency" else (_PLACE, "'continent:EU' or '*'")
    check_places_name_members(endpoint, "route53")
    for place, names in locations.items():
        if not pattern.fullmatch(place):
            raise InputError(
                f"route53.locations: {place!r} is no place of the policy {policy}.", hint=f"Use {example}."
            )
        if policy == "geolocation" and _chosen(endpoint, names) is None:
            raise InputError(
                f"route53: every member of the place {place} would be drained, and clients there would get no answer or"
                f" that of a larger place.",
                hint=f"Name another member for {place}, after these, or make one of them active.",
            )
    check_everybody_has_a_place(endpoint, "route53")
    if not wanted_records(endpoint, "", {member.name: NEW for member in endpoint.members}):
        raise InputError("route53: no place has a member that takes traffic.", hint="Make one of them active.")


def _check_failover(endpoint: Endpoint) -> None:
    for state, role in (("active", "primary"), ("standby", "secondary")):
        found = [member.name for member in endpoint.members if member.state == state]
        if len(found) > 1:
            raise InputError(
                f"route53: the policy failover has one {role} member, and {', '.join(found)} are {state}.",
                hint="Drain the others, or use the policy weighted, which takes any number of each.",
            )
