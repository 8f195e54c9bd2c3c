# SPDX-FileCopyrightText: The modelfleet maintainers
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a global endpoint is, whichever balancer carries it. Pure.

An endpoint is one address in front of many clusters. The clusters are its members; the models are what it serves.
"""

from __future__ import annotations

import dataclasses
import hashlib
import ipaddress
import json
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ansible_collections.modelfleet.serving.plugins.module_utils._errors import InputError
from ansible_collections.modelfleet.serving.plugins.module_utils._names import (
    require_dns_label,
    require_host_name,
    require_model,
    require_unique,
)

STATES = ("active", "standby", "drained")
DEFAULT_PORT = 80
DEFAULT_WEIGHT = 100
DEFAULT_STATE = "active"
DEFAULT_MODEL_TIMEOUT = 5.0
# The narrowest range of the balancers: HAProxy takes 256 steps, Route 53 255, Azure 1000. 0 would be another drain.
MAXIMUM_WEIGHT = 255


@dataclass(frozen=True)
class Member:
    """A cluster as the balancer sees it.

    :param address: host name or IP address of the cluster's edge.
    :param weight: share of the traffic, 1 to 255, relative to the other members.
    :param state: ``active`` takes traffic, ``standby`` only when no active member can, ``drained`` none.
    :param jurisdiction: where the cluster's data stays; empty where nobody said.
    """

    name: str
    address: str
    port: int = DEFAULT_PORT
    weight: int = DEFAULT_WEIGHT
    state: str = DEFAULT_STATE
    jurisdiction: str = ""


@dataclass(frozen=True)
class Golden:
    """A prediction with a known answer: what the health check asks and expects.

    :param tolerance: how far a number may be off, relative to the expected one, or absolute near zero.
    """

    request: Mapping[str, Any]
    response: Mapping[str, Any]
    tolerance: float


@dataclass(frozen=True)
class Model:
    """A model that the endpoint serves.

    :param golden: the health check; without it, a model is healthy when the cluster answers its metadata.
    :param timeout: seconds that an honest prediction may take.
    :param try_timeout: seconds after which another cluster is tried at once, for a model that is usually faster.
    :param host: host name by which the clusters' edges know the model, where several share an edge.
    :param jurisdictions: where it may be served; anywhere, when empty.
    """

    name: str
    golden: Golden | None = None
    timeout: float = DEFAULT_MODEL_TIMEOUT
    host: str | None = None
    try_timeout: float | None = None
    jurisdictions: tuple[str, ...] = ()

    def may_be_served_by(self, member: Member) -> bool:
        """Tell whether a member lies where the model may be served."""
        return not self.jurisdictions or member.jurisdiction in self.jurisdictions


@dataclass(frozen=True)
class Endpoint:
    """The whole definition, which the balancer stores, so that it can be read back without any other record.

    :param settings: the balancer's own settings, complete.
    :param epoch: the highest epoch of the fleet lock under which it was changed. It does not say what the endpoint is,
        but who may change it, so it is kept apart.
    """

    name: str
    members: tuple[Member, ...]
    models: tuple[Model, ...]
    settings: Mapping[str, Any]
    epoch: int = 0

    def member(self, name: str) -> Member | None:
        """Find a member by its name."""
        return next((member for member in self.members if member.name == name), None)

    def active(self) -> list[str]:
        """Name the members that take traffic."""
        return [member.name for member in self.members if member.state == "active"]

    def without_goldens(self) -> Endpoint:
        """Give the definition without what only a health check that predicts can use."""
        models = tuple(dataclasses.replace(model, golden=None) for model in self.models)
        return dataclasses.replace(self, models=models)

    def as_dict(self) -> dict[str, Any]:
        """Give the definition as JSON can hold it."""
        definition = dataclasses.asdict(self)
        del definition["epoch"]
        return definition

    def digest(self) -> str:
        """Give what is another when the definition is."""
        return hashlib.sha256(json.dumps(self.as_dict(), sort_keys=True).encode()).hexdigest()

    def stored(self) -> dict[str, Any]:
        """Give what the balancer stores: the definition, and the epoch where there is one."""
        return {**self.as_dict(), **({"epoch": self.epoch} if self.epoch else {})}

    @classmethod
    def from_dict(cls, stored: Mapping[str, Any]) -> Endpoint:
        """Read back what :meth:`stored` gave.

        :raises KeyError, TypeError: when it is something else.
        """
        if not isinstance(stored, Mapping):
            raise TypeError(f"no mapping: {stored!r}")
        # What this version does not know would be lost when it writes.
        if unknown := stored.keys() - {field.name for field in dataclasses.fields(cls)}:
            raise TypeError(f"unknown: {', '.join(sorted(unknown))}")
        models = []
        for entry in stored["models"]:
            golden = entry["golden"]
            places = tuple(entry.get("jurisdictions", ()))
            models.append(Model(**{**entry, "golden": Golden(**golden) if golden else None, "jurisdictions": places}))
        members = tuple(Member(**entry) for entry in stored["members"])
        epoch = stored.get("epoch", 0)
        if not isinstance(epoch, int):
            raise TypeError(f"epoch {epoch!r}")
        return cls(stored["name"], members, tuple(models), dict(stored["settings"]), epoch)


@dataclass(frozen=True)
class MemberRequest:
    """A member as the user wrote it: what was left out is ``None`` and keeps its present value."""

    name: str
    address: str | None = None
    port: int | None = None
    weight: int | None = None
    state: str | None = None
    jurisdiction: str | None = None


@dataclass(frozen=True)
class EndpointRequest:
    """An endpoint as the user wrote it: what was left out is ``None`` and keeps its present value.

    :param exclusive: whether members that are not listed are removed.
    :param epoch: the epoch of the fleet lock that the user holds.
    """

    name: str
    members: tuple[MemberRequest, ...] | None
    models: tuple[Model, ...] | None
    settings: Mapping[str, Any]
    exclusive: bool = True
    epoch: int | None = None


def request_from_params(params: Mapping[str, Any], settings: Mapping[str, Any]) -> EndpointRequest:
    """Check and take over a module's options.

    :raises InputError: on names, addresses and numbers that no balancer should ever see.
    """
    members = params["members"]
    if members is not None:
        _require_some(members, "members")
        require_unique([entry["name"] for entry in members], "members")
        members = tuple(_member(entry, f"members[{index}]") for index, entry in enumerate(members))
    models = params["models"]
    if models is not None:
        _require_some(models, "models")
        require_unique([entry["name"] for entry in models], "models")
        models = tuple(_model(entry, f"models[{index}]") for index, entry in enumerate(models))
    epoch = params["epoch"]
    if epoch is not None and epoch < 1:
        raise InputError(f"epoch: {epoch} is no epoch.", hint="Give the epoch that fleet_lock returned, or none.")
    return EndpointRequest(
        require_dns_label(params["name"], "name"), members, models, settings, params["exclusive_members"], epoch
    )


def _require_some(entries: Sequence[Any], option: str) -> None:
    if not entries:
        raise InputError(
            f"{option}: the list is empty, and an empty list never means 'remove everything'.",
            hint="Leave the option out to keep what is there, or use state=absent to remove the endpoint.",
        )


def _member(entry: Mapping[str, Any], option: str) -> MemberRequest:
    # The name becomes a word of the balancer's configuration, so it is checked as strictly as a DNS label.
    member = MemberRequest(
        require_dns_label(entry["name"], f"{option}.name"),
        entry["address"],
        entry["port"],
        entry["weight"],
        entry["state"],
        entry["jurisdiction"],
    )
    if member.address is not None:
        require_address(member.address, f"{option}.address")
    if member.port is not None:
        require_port(member.port, f"{option}.port")
    if member.weight is not None and not 1 <= member.weight <= MAXIMUM_WEIGHT:
        raise InputError(
            f"{option}.weight: {member.weight} is no weight.",
            hint=f"Use a whole number from 1 to {MAXIMUM_WEIGHT}; a member without traffic has state=drained.",
        )
    return member


def _model(entry: Mapping[str, Any], option: str) -> Model:
    timeout = entry["timeout"]
    if not 0 < timeout <= 3600:
        raise InputError(f"{option}.timeout: {timeout} is no timeout.", hint="Use seconds, more than 0, at most 3600.")
    try_timeout = entry["try_timeout"]
    if try_timeout is not None and not 0.01 <= try_timeout < timeout:
        raise InputError(
            f"{option}.try_timeout: {try_timeout} is no timeout of a try.",
            hint=f"Use seconds, at least 0.01 and less than timeout ({timeout:g}), or leave it out.",
        )
    golden = read_golden(entry["golden"], option)
    if entry["host"] is not None:
        require_host_name(entry["host"], f"{option}.host")
    # Their order means nothing.
    places = tuple(sorted(set(entry["jurisdictions"])))
    return Model(require_model(entry["name"], f"{option}.name"), golden, timeout, entry["host"], try_timeout, places)


def read_golden(entries: Sequence[Mapping[str, Any]] | None, option: str) -> Golden | None:
    """Take over what a health check predicts: the first of a model's golden requests, if it has any.

    One prediction a check: every cluster is asked all the time.
    """
    if not entries:
        return None
    first = entries[0]
    tolerance = first["tolerance"]
    if not (math.isfinite(tolerance) and tolerance >= 0):
        raise InputError(f"{option}.golden[0].tolerance: {tolerance} is no tolerance.", hint="Use 0 or more.")
    return Golden(first["request"], first["response"], tolerance)


def require_port(value: int, option: str) -> int:
    """Check a TCP port."""
    if not 1 <= value <= 65535:
        raise InputError(f"{option}: {value} is no TCP port.", hint="Use a whole number from 1 to 65535.")
    return value


def require_address(value: str, option: str) -> str:
    """Check a host name or an IP address."""
    try:
        if ipaddress.ip_address(value).is_unspecified:
            raise InputError(f"{option}: {value} is nobody's address.", hint="Use the address of the cluster's edge.")
    except ValueError:
        # Digits and dots that are no IPv4 address would be taken for a name and never resolve.
        if re.fullmatch(r"[0-9.]+", value):
            raise InputError(f"{option}: {value!r} is no IP address.", hint="Use four numbers from 0 to 255.") from None
        require_host_name(value, option)
    return value
