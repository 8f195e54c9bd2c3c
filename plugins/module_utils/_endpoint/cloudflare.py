# SPDX-FileCopyrightText: The modelfleet maintainers
# SPDX-License-Identifier: GPL-3.0-or-later
"""Cloudflare Load Balancing as the global endpoint: a load balancer, a pool a member, a monitor a port.

The load balancer says who gets how much, and its description holds the definition: one write changes both. Pools and
monitors say nothing about traffic. They are made before the write that names them, and deleted after the write that
does not, so whatever a run leaves behind that was cut off serves nobody, and the next run finds it by its name or its
description.

Cloudflare has no conditional write. So the load balancer is read once more right before it is written, and again some
time after: whoever was overwritten in between decides anew.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext, suppress
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

from ansible_collections.modelfleet.serving.plugins.module_utils._endpoint.balancer import (
    BalancerError,
    ChangedMeanwhileError,
    MemberHealth,
    text_diff,
)
from ansible_collections.modelfleet.serving.plugins.module_utils._endpoint.cloudflare_api import (
    Api,
    ForbiddenError,
    GoneError,
    UnsureError,
)
from ansible_collections.modelfleet.serving.plugins.module_utils._endpoint.cloudflare_objects import (
    Json,
    check_definition,
    check_port,
    decode,
    describe,
    encode,
    load_balancer_differences,
    members_of,
    monitor_differences,
    name_in,
    pool_differences,
    pool_name,
    pool_prefix,
    tag_of,
    traffic_in,
    verdict,
    wanted_load_balancer,
    wanted_monitors,
    wanted_pool,
)
from ansible_collections.modelfleet.serving.plugins.module_utils._endpoint.cloudflare_options import DEFAULTS
from ansible_collections.modelfleet.serving.plugins.module_utils._endpoint.definition import (
    Endpoint,
)
from ansible_collections.modelfleet.serving.plugins.module_utils._endpoint.plan import Observed, Plan, traffic_weight
from ansible_collections.modelfleet.serving.plugins.module_utils._errors import InputError
from ansible_collections.modelfleet.serving.plugins.module_utils._names import require_host_name

# The API's requests are for all who use it.
_HEALTH_SECONDS = 5.0
# Longer than from the last look at the load balancer until it is written.
_SETTLE_SECONDS = 1.0
_LOOKS = 10
# Fields that follow from the pools.
_POOLS = {"default_pools", "fallback_pool", "region_pools", "country_pools", "random_steering"}
# What a load balancer can be put back to.
_WRITABLE = (
    *("name", "description", "enabled", "proxied", "ttl", "steering_policy", "session_affinity"),
    *("default_pools", "fallback_pool", "region_pools", "country_pools", "pop_pools", "rules"),
    *("random_steering", "adaptive_routing", "location_strategy"),
)


class _NotKeptError(BalancerError):
    """The definition does not fit, and everything is as it was before."""


@dataclass
class _Found:
    """What was read last, as Cloudflare gave it.

    :ivar load_balancer: the load balancer of our host name, whoever made it.
    :ivar pools: ours, by id.
    :ivar monitors: ours, by id.
    """

    load_balancer: Json | None = None
    pools: dict[str, Json] = field(default_factory=dict)
    monitors: dict[str, Json] = field(default_factory=dict)


class Cloudflare:
    """The balancer behind :class:`Balancer`.

    :param access: the options by which Cloudflare is reached, the zone and the host name.
    :param adopt: whether a load balancer, or a DNS record, that is not ours may be replaced.
    """

    predicts = False

    def __init__(self, access: Mapping[str, Any], adopt: bool = False) -> None:
        self._access = access
        self._adopt = adopt
        self._record = require_host_name(access["record"].removesuffix(".").lower(), "cloudflare.record")
        self._api = Api(access)
        self._tag = ""
        self._found = self._before = _Found()
        self._endpoint: Endpoint | None = None
        # The pool of each member, of the definition in force.
        self._pools: dict[str, str] = {}
        self._asked = float("-inf")

    def defaults(self) -> dict[str, Any]:
        """Give every setting with its default."""
        return dict(DEFAULTS)

    def exclusive(self) -> AbstractContextManager[None]:
        """Keep nobody out: :meth:`apply` finds it."""
        return nullcontext()

    def read(self) -> Observed:
        """Read the load balancer with the definition, the pools and the monitors."""
        if not self._tag:
            zone, name = self._api.zone(self._access["zone"])
            if self._record != name and not self._record.endswith(f".{name}"):
                raise InputError(
                    f"cloudflare.record: {self._record} is not in the zone {name}.",
                    hint="Give the complete name, or another zone.",
                )
            self._tag = tag_of(zone, self._record)
        self._found = _Found(
            self._api.load_balancer(self._record),
            {entry["id"]: entry for entry in self._api.pools(pool_prefix(self._tag))},
            {
                entry["id"]: entry
                for entry in self._api.monitors()
                if name_in(self._tag, entry.get("description")) is not None
            },
        )
        self._before = replace(self._found)
        self._endpoint, self._pools = None, {}
        if self._found.load_balancer is None:
            return self._left_behind()
        try:
            self._endpoint = decode(self._found.load_balancer.get("description") or "")
        except ValueError as error:
            if self._adopt:
                return Observed()
            raise BalancerError(
                f"the load balancer {self._record} {error}; nothing is changed.",
                hint="Set adopt=true to replace it, or use another record.",
            ) from error
        return self._observed(self._endpoint)

    def _left_behind(self) -> Observed:
        """Give what there is without a load balancer: what a run left that was cut off, in the beginning or the end."""
        ours = [*self._found.pools.values(), *self._found.monitors.values()]
        names = [name for entry in ours if (name := name_in(self._tag, entry.get("description")))]
        if not names:
            return Observed()
        members = members_of(self._found.pools.values())
        return Observed(Endpoint(names[0], members, (), dict(DEFAULTS)), None, ("the load balancer is missing",))

    def _observed(self, endpoint: Endpoint) -> Observed:
        live = self._found.load_balancer or {}
        complaints = []
        monitors, pools, changed = self._match(endpoint)
        if changed:
            complaints.append(f"{', '.join(changed)} are missing, or were changed by hand or by another version")
        left = len(self._found.pools) - len(pools) + len(self._found.monitors) - len(monitors)
        if left:
            complaints.append(f"{left} pools or monitors are left by a change that was interrupted")
        self._pools = pools
        known = {member.name: pools.get(member.name, f"missing: {member.name}") for member in endpoint.members}
        wanted = wanted_load_balancer(endpoint, self._record, known)
        traffic = None
        differ = load_balancer_differences(live, wanted)
        if endpoint.settings["policy"] == "weighted":
            traffic = traffic_in(endpoint, pools, live)
            told = any(
                traffic[member.name].note or traffic[member.name].weight != traffic_weight(member)
                for member in endpoint.members
            )
            if told and set(live.get("default_pools") or ()) <= set(pools.values()):
                # That is said already, by member.
                differ = [key for key in differ if key not in ("default_pools", "random_steering")]
        if differ and not (set(differ) <= _POOLS and len(pools) < len(endpoint.members)):
            complaints.append(f"the load balancer was changed by hand, or by another version ({', '.join(differ)})")
        return Observed(endpoint, traffic, tuple(complaints))

    def _match(self, endpoint: Endpoint) -> tuple[dict[int, str], dict[str, str], list[str]]:
        """Find the monitors by port and the pools by member, and name those that are missing or not as wanted."""
        changed = []
        monitors: dict[int, str] = {}
        named = _ids(self._found.monitors, "description", self._used())
        for port, wanted in wanted_monitors(endpoint, self._record, self._tag).items():
            identifier = named.get(wanted["description"])
            if identifier:
                monitors[port] = identifier
            if identifier is None or monitor_differences(self._found.monitors[identifier], wanted):
                changed.append(f"the monitor of port {port}")
        pools: dict[str, str] = {}
        named = _ids(self._found.pools, "name", self._used())
        for member in endpoint.members:
            identifier = named.get(pool_name(self._tag, member))
            if identifier:
                pools[member.name] = identifier
                monitor = monitors.get(check_port(endpoint, member), "")
                wanted = wanted_pool(endpoint, self._record, self._tag, member, monitor)
            if identifier is None or pool_differences(self._found.pools[identifier], wanted):
                changed.append(f"the pool of {member.name}")
        return monitors, pools, changed

    def _used(self) -> set[str]:
        """Give the ids of the pools that the load balancer names, and of their monitors."""
        used = _named(self._found.load_balancer)
        return used | {str(self._found.pools[pool].get("monitor")) for pool in used & set(self._found.pools)}

    def health(self) -> dict[str, MemberHealth]:
        """Give what Cloudflare's data centers found last, of each member. Asks at most every few seconds."""
        time.sleep(max(0.0, self._asked + _HEALTH_SECONDS - time.monotonic()))
        self._asked = time.monotonic()
        if self._endpoint is None:
            self.read()
        endpoint = self._endpoint
        if endpoint is None or endpoint.settings["health_check_type"] == "NONE":
            return {}
        members = {}
        for member in endpoint.members:
            reason = "its pool does not exist"
            if member.name in self._pools:
                with suppress(GoneError):
                    reason = verdict(self._api.pool_health(self._pools[member.name]))
            models = {model.name: not reason for model in endpoint.models}
            members[member.name] = MemberHealth(not reason, models, dict.fromkeys(models, reason) if reason else {})
        return members

    def addresses(self) -> list[str]:
        """Give the name of the load balancer."""
        return [self._record]

    def errors(self) -> int | None:
        """Give nothing: Cloudflare's analytics are another product."""
        return None

    def check(self, plan: Plan) -> None:
        """Refuse what Cloudflare cannot do, and to hide a DNS record that somebody else made."""
        if plan.desired is None:
            return
        check_definition(plan.desired, self._record)
        if self._found.load_balancer is not None or self._adopt:
            return
        try:
            records = self._api.records(self._record)
        except ForbiddenError as error:
            raise BalancerError(
                f"whether {self._record} has DNS records, which a load balancer would hide, cannot be seen:"
                f" {error.message}",
                hint="Give the token the permission DNS Read, or set adopt=true.",
            ) from error
        if records:
            kinds = ", ".join(sorted({entry["type"] for entry in records}))
            raise BalancerError(
                f"{self._record} has DNS records ({kinds}) that were made by hand or by another tool, and a load"
                f" balancer would hide them; nothing is changed.",
                hint="Set adopt=true to let the load balancer take over, or use another record.",
            )

    def diff(self, plan: Plan) -> list[dict[str, str]]:
        """Give the change of the load balancer, its pools and its monitors."""
        if not plan.steps:
            return []
        # What was read, also after it was changed.
        found = self._before
        names = {key: str(entry["name"]) for key, entry in found.pools.items()}
        names |= {key: f"monitor of port {entry.get('port')}" for key, entry in found.monitors.items()}
        before = describe(found.load_balancer, found.pools.values(), found.monitors.values(), names)
        after = self._foretold(plan.desired) if plan.desired else ""
        return text_diff(f"load balancer {self._record}", before, after)

    def _foretold(self, desired: Endpoint) -> str:
        """Give what will be, with names in place of ids."""
        monitors = wanted_monitors(desired, self._record, self._tag)
        pools = []
        for member in desired.members:
            monitor = check_port(desired, member)
            name = f"monitor of port {monitor}" if monitor in monitors else ""
            pools.append(wanted_pool(desired, self._record, self._tag, member, name))
        names = {member.name: pool_name(self._tag, member) for member in desired.members}
        return describe(wanted_load_balancer(desired, self._record, names), pools, monitors.values(), {})

    def apply(self, plan: Plan) -> None:
        """Make monitors and pools, write the load balancer, and delete what nobody uses any more."""
        if plan.desired is None:
            self._remove()
            return
        undo: list[Callable[[], None]] = []
        try:
            monitors = self._make_monitors(plan.desired, undo)
            pools = self._make_pools(plan.desired, monitors, undo)
            self._write(plan.desired, pools)
        except (ChangedMeanwhileError, UnsureError):
            raise
        except BalancerError as error:
            if not isinstance(error, _NotKeptError) and self._moved():
                raise self._overtaken() from error
            # Nobody uses these.
            for step in reversed(undo):
                with suppress(BalancerError):
                    step()
            raise
        self._sweep(set(pools.values()), set(monitors.values()))

    def _make_monitors(self, desired: Endpoint, undo: list[Callable[[], None]]) -> dict[int, str]:
        """Give the id of each port's monitor, after it is as wanted."""
        known = self._match(desired)[0]
        monitors = {}
        for port, wanted in wanted_monitors(desired, self._record, self._tag).items():
            identifier = known.get(port)
            if identifier is None:
                identifier = str(self._api.create_monitor(wanted)["id"])
                undo.append(partial(self._api.delete_monitor, identifier))
            elif monitor_differences(self._found.monitors[identifier], wanted):
                self._api.update_monitor(identifier, wanted)
            monitors[port] = identifier
        return monitors

    def _make_pools(
        self, desired: Endpoint, monitors: Mapping[int, str], undo: list[Callable[[], None]]
    ) -> dict[str, str]:
        """Give the id of each member's pool, after it is as wanted."""
        known = self._match(desired)[1]
        pools = {}
        for member in desired.members:
            monitor = monitors.get(check_port(desired, member), "")
            wanted = wanted_pool(desired, self._record, self._tag, member, monitor)
            identifier = known.get(member.name)
            if identifier is None:
                identifier = str(self._api.create_pool(wanted)["id"])
                undo.append(partial(self._api.delete_pool, identifier))
            elif pool_differences(self._found.pools[identifier], wanted):
                self._api.update_pool(identifier, wanted)
            pools[member.name] = identifier
        return pools

    def _write(self, desired: Endpoint, pools: dict[str, str]) -> None:
        """Make the load balancer and the definition be as wanted, in one write.

        :raises ChangedMeanwhileError: when it is no longer as it was read, or does not stay as it was written.
        """
        old = self._found.load_balancer
        body = wanted_load_balancer(desired, self._record, pools, encode(desired, secrets.token_hex(8)))

        def done() -> Json | None:
            """Tell, after an answer that was lost, whether the write was carried out."""
            now = self._api.load_balancer(self._record)
            if now is not None and now.get("description") == body["description"]:
                return now
            if _version(now) != _version(old):
                raise self._overtaken()
            return None

        if self._moved():
            raise self._overtaken()
        if old is None:
            made = self._api.create_load_balancer(body, done)
        else:
            made = self._api.update_load_balancer(old["id"], body, done)
        if made.get("description") != body["description"]:
            self._take_back(made, old, len(body["description"]))
        self._settle(made)
        self._found.load_balancer, self._endpoint, self._pools = made, desired, dict(pools)

    def _take_back(self, made: Json, old: Json | None, size: int) -> None:
        """Undo a write whose definition was not kept as it is; what is not documented may be so all the same."""
        if old is None:
            self._api.delete_load_balancer(made["id"])
        else:
            again = {key: old[key] for key in _WRITABLE if old.get(key) is not None}
            self._api.update_load_balancer(old["id"], again, lambda: None)
        raise _NotKeptError(
            f"Cloudflare keeps {len(made.get('description') or '')} of {size} characters of a description, which holds"
            f" the definition; nothing is changed.",
            hint="Use fewer models or members.",
        )

    def _settle(self, made: Json) -> None:
        """Look whether another one, who had read before this write, has written after it."""
        for _look in range(_LOOKS):
            time.sleep(_SETTLE_SECONDS)
            now = self._api.read_load_balancer(made["id"])
            if now is not None and now.get("description") == made["description"]:
                return
            if now is None or _version(now) != _version(self._found.load_balancer):
                raise self._overtaken()
        raise UnsureError(
            f"the load balancer {self._record} was written, and still reads as before.",
            hint="Run this again, which goes on from what it finds.",
        )

    def _moved(self) -> bool:
        """Tell whether the load balancer is no longer what was read."""
        old = self._found.load_balancer
        now = self._api.load_balancer(self._record) if old is None else self._api.read_load_balancer(old["id"])
        return _version(now) != _version(old)

    def _overtaken(self) -> ChangedMeanwhileError:
        return ChangedMeanwhileError(
            f"the load balancer {self._record} is no longer what was read.",
            hint="Somebody else changes it all the time. Run this again.",
        )

    def _remove(self) -> None:
        """Take the load balancer away, then the pools, which it names, then the monitors, which they name."""
        if self._found.load_balancer is not None:
            if self._moved():
                raise self._overtaken()
            self._api.delete_load_balancer(self._found.load_balancer["id"])
            self._found.load_balancer = None
        self._sweep(set(), set())

    def _sweep(self, pools: set[str], monitors: set[str]) -> None:
        """Delete what was read and is not used."""
        for identifier in set(self._found.pools) - pools:
            self._api.delete_pool(identifier)
        for identifier in set(self._found.monitors) - monitors:
            self._api.delete_monitor(identifier)


def _ids(entries: Mapping[str, Json], key: str, used: set[str]) -> dict[str, str]:
    """Give ids by name. Of two that two runs made at once, it is the one in use."""
    ordered = sorted(entries.items(), key=lambda entry: (entry[0] in used, entry[0]))
    return {str(entry.get(key)): identifier for identifier, entry in ordered}


def _named(load_balancer: Json | None) -> set[str]:
    """Give the ids of the pools that a load balancer names."""
    found = load_balancer or {}
    named = {*(found.get("default_pools") or ()), str(found.get("fallback_pool"))}
    for places in ("region_pools", "country_pools"):
        named |= {pool for pools in (found.get(places) or {}).values() for pool in pools}
    return named


def _version(load_balancer: Json | None) -> tuple[Any, ...]:
    """Give what is another one after each change, also one by hand."""
    found = load_balancer or {}
    return found.get("id"), found.get("modified_on"), found.get("description")


__all__ = ["Cloudflare"]
