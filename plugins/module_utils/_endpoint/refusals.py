# SPDX-FileCopyrightText: The modelfleet maintainers
# SPDX-License-Identifier: GPL-3.0-or-later
"""What several balancers refuse of a definition, in the same words. Pure."""

from __future__ import annotations

from collections.abc import Iterable

from ansible_collections.modelfleet.serving.plugins.module_utils._endpoint.balancer import others
from ansible_collections.modelfleet.serving.plugins.module_utils._endpoint.definition import (
    DEFAULT_MODEL_TIMEOUT,
    Endpoint,
    Model,
)
from ansible_collections.modelfleet.serving.plugins.module_utils._endpoint.dns_records import record_of
from ansible_collections.modelfleet.serving.plugins.module_utils._errors import InputError


def check_models(
    models: Iterable[Model],
    record: str,
    balancer: str,
    why: str = ". No request passes through DNS, so none is given to another member",
) -> None:
    """Refuse of models a timeout, and another host than the endpoint's.

    :param why: why a model can have no timeout, as the end of the sentence.
    """
    for model in models:
        # The default is what nobody asked for.
        if model.try_timeout is not None or model.timeout != DEFAULT_MODEL_TIMEOUT:
            raise InputError(
                f"{balancer}: the model {model.name} has a timeout{why}.",
                hint=f"Leave out timeout and try_timeout{others('timeouts')}",
            )
        if model.host not in (None, record):
            raise InputError(
                f"{balancer}: the clusters know the model {model.name} as {model.host}, and clients ask for {record}.",
                hint=f"Give the clusters' routes the host {record}{others('hosts')}",
            )


def check_one_kind(endpoint: Endpoint, balancer: str, why: str) -> None:
    """Refuse members whose records have different types.

    :param why: why they must not, as the end of the sentence.
    """
    if len({record_of(member)[0] for member in endpoint.members}) > 1:
        each = ", ".join(f"{member.name} {record_of(member)[0]}" for member in endpoint.members)
        raise InputError(
            f"{balancer}: the members need records of different types ({each}), and {why}.",
            hint="Give all members IPv4 addresses, all IPv6 addresses, or all host names.",
        )


def check_one_port(endpoint: Endpoint, balancer: str) -> None:
    """Refuse members with different ports."""
    if len({member.port for member in endpoint.members}) > 1:
        each = ", ".join(f"{member.name} {member.port}" for member in endpoint.members)
        raise InputError(
            f"{balancer}: the members have different ports ({each}). DNS carries no port.",
            hint=f"Give all members one port{others('ports')}",
        )


def check_own_addresses(endpoint: Endpoint, balancer: str, itself: str) -> None:
    """Refuse an address that nobody else knows, two members with one, and that of the endpoint.

    :param itself: the endpoint's own host name.
    """
    seen: dict[tuple[str, str], str] = {}
    for member in endpoint.members:
        if "%" in member.address:
            raise InputError(
                f"{balancer}: the address {member.address} of {member.name} is known on one machine alone.",
                hint="Give an address that clients reach.",
            )
        # One address may be written in several ways.
        record = record_of(member)
        if record in seen:
            raise InputError(
                f"{balancer}: {seen[record]} and {member.name} have one address ({member.address}), so neither can be"
                " drained.",
                hint=f"Give each member its own address{others('ports')}",
            )
        if record == ("CNAME", f"{itself}."):
            raise InputError(f"{balancer}: {member.name} has the address of the endpoint itself.", hint="Correct it.")
        seen[record] = member.name


def check_nobody_waits(endpoint: Endpoint, balancer: str) -> None:
    """Refuse members that stand by where there are no health checks."""
    waiting = [member.name for member in endpoint.members if member.state == "standby"]
    if waiting:
        raise InputError(
            f"{balancer}: {', '.join(waiting)} would stand by, and without health checks nothing takes over.",
            hint=f"Use another {balancer}.health_check_type than NONE, or drain that member.",
        )


def check_places_name_members(endpoint: Endpoint, balancer: str) -> None:
    """Refuse places of who is no member."""
    for place, names in endpoint.settings["locations"].items():
        for name in names:
            if endpoint.member(name) is None:
                raise InputError(
                    f"{balancer}.locations: {place} names {name}, which is no member.", hint="Check the name."
                )


def check_everybody_has_a_place(endpoint: Endpoint, balancer: str) -> None:
    """Refuse members that take traffic and have no place."""
    named = {name for names in endpoint.settings["locations"].values() for name in names}
    for member in endpoint.members:
        if member.state != "drained" and member.name not in named:
            raise InputError(
                f"{balancer}: {member.name} is {member.state}, and no place of {balancer}.locations names it.",
                hint="Name it in a place, or drain it.",
            )


def check_jurisdictions(endpoint: Endpoint, balancer: str) -> None:
    """Refuse members that take traffic of a model that may not be served there, where all members serve all models."""
    for model in endpoint.models:
        for member in endpoint.members:
            if member.state != "drained" and not model.may_be_served_by(member):
                raise InputError(
                    f"{balancer}: {member.name} ({member.jurisdiction or 'no jurisdiction'}) would get requests for"
                    f" {model.name}, which may be served in {' or '.join(model.jurisdictions)} alone.",
                    hint=f"Drain that member, make an endpoint for each jurisdiction{others('jurisdictions')}",
                )
