# SPDX-FileCopyrightText: The modelfleet maintainers
# SPDX-License-Identifier: GPL-3.0-or-later
"""What has to change at a balancer, and why. Pure, and the same for every balancer."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from ansible_collections.modelfleet.serving.plugins.module_utils._endpoint.definition import (
    DEFAULT_PORT,
    DEFAULT_STATE,
    DEFAULT_WEIGHT,
    Endpoint,
    EndpointRequest,
    Member,
    MemberRequest,
)
from ansible_collections.modelfleet.serving.plugins.module_utils._errors import InputError, ServingError


@dataclass(frozen=True)
class Traffic:
    """How much a member gets at this moment, by the balancer's running state.

    :param weight: the weight in force; 0 for a drained member.
    :param note: what someone forced by hand, such as ``maintenance``; empty when nothing was.
    """

    weight: int
    note: str = ""


@dataclass(frozen=True)
class Observed:
    """What a balancer holds now.

    :param endpoint: the stored definition, ``None`` where there is none of ours.
    :param traffic: the running state by member; ``None`` where it cannot differ or could not be read.
    :param complaints: reasons why the balancer has to be written anew though the definition is the same.
    """

    endpoint: Endpoint | None = None
    traffic: Mapping[str, Traffic] | None = None
    complaints: tuple[str, ...] = ()


@dataclass(frozen=True)
class Step:
    """One change, with its reason, for people.

    :param action: create, delete, add, remove, move, weigh, activate, stand_by, drain, models, settings, mend,
        fence.
    :param subject: the member, or the endpoint.
    """

    action: str
    subject: str
    reason: str

    def as_dict(self) -> dict[str, str]:
        """Give the step as a return value."""
        return {"action": self.action, "subject": self.subject, "reason": self.reason}


@dataclass(frozen=True)
class Plan:
    """From what is observed to what is wanted.

    :param desired: the definition to store; ``None`` removes the endpoint.
    """

    observed: Observed
    desired: Endpoint | None
    steps: tuple[Step, ...] = field(default=())


class RefusedError(ServingError):
    """A safety rule forbids the change; the message names the rule."""


def merge(stored: Endpoint | None, request: EndpointRequest, defaults: Mapping[str, Any]) -> Endpoint:
    """Complete a request by what is stored, and by the defaults where nothing is.

    A member whose state is left out keeps its state, so that no later run undoes a failover.

    :param defaults: the balancer's settings where neither the request nor the stored definition has one.
    :raises InputError: when too little is known to make an endpoint.
    """
    if stored is not None and stored.name != request.name:
        raise InputError(
            f"the balancer carries the endpoint {stored.name!r}, not {request.name!r}.",
            hint="Correct the name, or remove the other endpoint first (state=absent).",
        )
    old_members = stored.members if stored else ()
    asked = {entry.name: entry for entry in request.members or ()}
    members = []
    for old in old_members:
        if old.name in asked:
            members.append(_merge_member(old, asked.pop(old.name)))
        elif request.members is None or not request.exclusive:
            members.append(old)
    members += [_merge_member(None, entry) for entry in asked.values()]
    models = request.models if request.models is not None else (stored.models if stored else ())
    for what, entries in (("members", members), ("models", models)):
        if not entries:
            raise InputError(
                f"the endpoint {request.name!r} does not exist yet, and no {what} are given.",
                hint=f"Give its {what}, or create it first.",
            )
    # The order of the members means nothing, so a list in another order is no change.
    ordered = tuple(sorted(members, key=lambda member: member.name))
    settings = {**defaults, **(stored.settings if stored else {}), **request.settings}
    epoch = max(stored.epoch if stored else 0, request.epoch or 0)
    return Endpoint(request.name, ordered, tuple(sorted(models, key=lambda model: model.name)), settings, epoch)


def _merge_member(old: Member | None, new: MemberRequest) -> Member:
    keys = ("address", "port", "weight", "state", "jurisdiction")
    given = {key: value for key in keys if (value := getattr(new, key)) is not None}
    if old is not None:
        return replace(old, **given)
    if "address" not in given:
        raise InputError(
            f"member {new.name!r} is not part of the endpoint, and no address is given.",
            hint="Check the name, or give the address of its cluster's edge.",
        )
    return Member(new.name, **{"port": DEFAULT_PORT, "weight": DEFAULT_WEIGHT, "state": DEFAULT_STATE, **given})


def check_min_active(stored: Endpoint | None, desired: Endpoint, min_active: int) -> None:
    """Refuse to go below the number of active members; what is below already may stay.

    A model that may be served in some jurisdictions alone needs an active member there.

    :raises RefusedError: naming the rule ``min_active``.
    """
    before = stored.active() if stored else []
    after = desired.active()
    if not after or (len(after) < min_active and (not stored or len(after) < len(before))):
        raise RefusedError(
            f"refused by the rule min_active: {desired.name} would have {len(after)} active members"
            f"{' (' + ', '.join(after) + ')' if after else ''} and needs {max(min_active, 1)}.",
            hint="Make another member active first, or lower min_active (never below 1).",
            details={"rule": "min_active", "active": after},
        )
    for model in desired.models:
        able = [member for member in desired.members if model.may_be_served_by(member)]
        if not any(member.state == "active" for member in able):
            raise RefusedError(
                f"refused by the rule min_active: {desired.name} would have no active member for {model.name}, which"
                f" may be served in {' or '.join(model.jurisdictions)}.",
                hint=f"Make one of {', '.join(member.name for member in able)} active first."
                if able
                else "Give the members their jurisdiction, or add one that lies there.",
                details={"rule": "min_active", "active": after},
            )


def check_epoch(stored: Endpoint | None, epoch: int | None) -> None:
    """Refuse who holds an older fleet lock than the one under which the endpoint was changed last.

    :raises RefusedError: naming the rule ``epoch``.
    """
    if stored is not None and epoch is not None and epoch < stored.epoch:
        raise RefusedError(
            f"refused by the rule epoch: this run took the fleet lock with epoch {epoch}, and {stored.name} was changed"
            f" under epoch {stored.epoch}, so another run has taken the lock since.",
            hint="Stop here, observe the fleet again, and begin a new run. If the clusters were built anew, let"
            f" fleet_lock begin above (above_epoch={stored.epoch}).",
            details={"rule": "epoch", "epoch": stored.epoch},
        )


def check_digest(stored: Endpoint | None, digest: str | None) -> None:
    """Refuse a change that was decided by another definition than the one that is stored.

    :raises RefusedError: naming the rule ``if_digest``.
    """
    found = stored.digest() if stored else ""
    if digest is not None and digest != found:
        raise RefusedError(
            "refused by the rule if_digest: the endpoint was changed since it was observed"
            f" (its digest is {found[:12] or 'empty'}, not {digest[:12] or 'empty'}).",
            hint="Observe it again (global_endpoint_info), and decide anew.",
            details={"rule": "if_digest", "digest": found},
        )


def plan(observed: Observed, desired: Endpoint | None) -> Plan:
    """List the steps from what is observed to what is wanted, traffic first and removals last."""
    stored = observed.endpoint
    if desired is None:
        steps = [Step("delete", stored.name, "state is absent")] if stored else []
        return Plan(observed, None, tuple(steps))
    if stored is None:
        steps = [Step("create", desired.name, "there is no endpoint yet")]
        steps += [Step("add", member.name, f"{member.state}, weight {member.weight}") for member in desired.members]
        return Plan(observed, desired, tuple(steps))

    added: list[Step] = []
    brought: list[Step] = []
    taken: list[Step] = []
    for member in desired.members:
        old = stored.member(member.name)
        if old is None:
            added.append(Step("add", member.name, f"{member.state}, weight {member.weight}"))
            continue
        if (old.address, old.port) != (member.address, member.port):
            moved = f"{old.address}:{old.port} becomes {member.address}:{member.port}"
            brought.append(Step("move", member.name, moved))
        if old.jurisdiction != member.jurisdiction:
            moved = f"jurisdiction {old.jurisdiction or 'unknown'} becomes {member.jurisdiction or 'unknown'}"
            brought.append(Step("move", member.name, moved))
        if old.state != member.state:
            action = {"active": "activate", "standby": "stand_by", "drained": "drain"}[member.state]
            step = Step(action, member.name, f"{old.state} becomes {member.state}")
            (brought if member.state == "active" else taken).append(step)
        if old.weight != member.weight:
            brought.append(Step("weigh", member.name, f"weight {old.weight} becomes {member.weight}"))
        live = (observed.traffic or {}).get(member.name)
        if live is not None and (live.note or live.weight != traffic_weight(old)):
            found = live.note or f"weight {live.weight}"
            brought.append(
                Step("mend", member.name, f"{found} was set by hand; {member.state}, weight {member.weight} is wanted")
            )
    removed = [
        Step("remove", old.name, "it is not listed") for old in stored.members if desired.member(old.name) is None
    ]
    others = []
    if stored.models != desired.models:
        names = ", ".join(model.name for model in desired.models)
        others.append(Step("models", desired.name, f"the models become {names}, or their checks change"))
    changed = sorted(
        key for key in {*stored.settings, *desired.settings} if stored.settings.get(key) != desired.settings.get(key)
    )
    if changed:
        others.append(Step("settings", desired.name, f"changed: {', '.join(changed)}"))
    others += [Step("mend", desired.name, complaint) for complaint in observed.complaints]
    if stored.epoch != desired.epoch:
        # Also when nothing else changes: from now on, who holds an older lock is refused.
        others.append(Step("fence", desired.name, f"epoch {stored.epoch} becomes {desired.epoch}"))
    return Plan(observed, desired, tuple(added + brought + taken + removed + others))


def traffic_weight(member: Member) -> int:
    """Give the weight that a member has to have at a balancer that drains by weight."""
    return 0 if member.state == "drained" else member.weight
