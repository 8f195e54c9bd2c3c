# SPDX-FileCopyrightText: The modelfleet maintainers
# SPDX-License-Identifier: GPL-3.0-or-later
"""From what is observed and what is asked for to what has to move, and why. Pure; no order of its input matters.

A plan is three things: moves (a member's state before and after), raises (replicas that a target needs first), and what
each safety rule says. It is carried out only when no rule refuses it.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any

from ansible_collections.modelfleet.serving.plugins.module_utils._errors import InputError
from ansible_collections.modelfleet.serving.plugins.module_utils._failover.fleet import (
    Cluster,
    History,
    Policy,
    Request,
    blamed,
)
from ansible_collections.modelfleet.serving.plugins.module_utils._failover.rules import (
    RULES,
    Proposal,
    Verdict,
    ailment,
)


@dataclass(frozen=True)
class Move:
    """One member's change of state."""

    cluster: str
    before: str
    after: str
    reason: str


@dataclass(frozen=True)
class Raise:
    """Replicas that a server must have before traffic comes."""

    cluster: str
    server: str
    replicas: int
    reason: str


@dataclass(frozen=True)
class Plan:
    """What to do, and why.

    :param status: ``go``; ``nothing`` when all is as asked; ``refused``.
    :param moves: changes of state, those that bring traffic first.
    :param verdicts: what each rule says; empty when there is nothing to do.
    :param reason: the whole in one sentence: why it is refused, or why there is nothing to do.
    :param notes: what people should know of the observation.
    :param resumes: the interrupted run that this one finishes; empty otherwise.
    :param abandons: the interrupted run that this one replaces; empty otherwise.
    """

    action: str
    status: str
    reason: str
    moves: tuple[Move, ...] = ()
    raises: tuple[Raise, ...] = ()
    targets: tuple[str, ...] = ()
    verdicts: tuple[Verdict, ...] = ()
    notes: tuple[str, ...] = ()
    resumes: str = ""
    abandons: str = ""

    def as_dict(self) -> dict[str, Any]:
        """Give the plan as JSON can hold it."""
        return {name: list(value) if isinstance(value, tuple) else value for name, value in asdict(self).items()}


def select(clusters: Iterable[Cluster], words: Iterable[str], option: str) -> tuple[str, ...]:
    """Find the members that are named, or whose cloud is.

    :raises InputError: when a word is neither.
    """
    clusters = tuple(clusters)
    found: set[str] = set()
    for word in words:
        named = {cluster.name for cluster in clusters if word and word in (cluster.name, cluster.cloud)}
        if not named:
            raise InputError(
                f"{option}: {word!r} is no member of the endpoint and no cloud of one.",
                hint=f"The members are {', '.join(sorted(cluster.name for cluster in clusters))}.",
            )
        found |= named
    return tuple(sorted(found))


def plan(clusters: Iterable[Cluster], request: Request, policy: Policy, history: History) -> Plan:
    """Decide.

    :param clusters: all members of the endpoint.
    """
    fleet = {cluster.name: cluster for cluster in sorted(clusters, key=lambda cluster: cluster.name)}
    unfinished = history.unfinished
    if unfinished is None:
        return _plan(fleet, request, policy, history)
    moves = {name: states for name, states in unfinished.moves.items() if name in fleet}
    if request.action == "revert":
        before = {name: states[0] for name, states in moves.items()}
        reasons = dict.fromkeys(before, "its move is undone")
        return _judge(fleet, before, reasons, request, policy, history, resumes=unfinished.run)
    after = {name: states[1] for name, states in moves.items()}
    if request.action == unfinished.action and set(request.clusters) <= after.keys():
        reasons = dict.fromkeys(after, "a run was interrupted that wanted it")
        resumed = _judge(fleet, after, reasons, request, policy, history, resumes=unfinished.run)
        if resumed.status != "refused":
            return resumed
    return replace(_plan(fleet, request, policy, history), abandons=unfinished.run)


def _plan(fleet: Mapping[str, Cluster], request: Request, policy: Policy, history: History) -> Plan:
    if request.action == "failover":
        return _failover(fleet, request, policy, history)
    if request.action == "failback":
        return _failback(fleet, request, policy, history)
    return Plan(request.action, "nothing", "The journal has no unfinished run to undo.")


def _failover(fleet: Mapping[str, Cluster], request: Request, policy: Policy, history: History) -> Plan:
    active = [cluster for cluster in fleet.values() if cluster.state == "active"]
    named = bool(request.clusters)
    # A person who names a cluster decides; only where the observation decides, a bad release is told from an outage.
    apart_from = frozenset[str]() if named else blamed(tuple(fleet.values()))
    notes = [
        f"{model} is wrong on most clusters that answer: that is its release, and no cluster is left because of it"
        for model in sorted(apart_from)
    ]
    if named:
        leaving = {name: "it was named" for name in request.clusters if fleet[name].state != "drained"}
    else:
        sick = [cluster for cluster in active if cluster.asked and not cluster.healthy(apart_from)]
        leaving = {cluster.name: ailment(cluster) for cluster in sick if cluster.up is not True}
        notes += [
            f"{cluster.name} is not left: the controller gets no right answer, and the balancer does"
            for cluster in sick
            if cluster.up is True
        ]
        if not leaving:
            calm = not sick and not apart_from
            reason = "All active clusters answer right." if calm else f"No cluster is left: {'; '.join(notes)}."
            reason += " Name one with failover_from to move traffic all the same."
            return Plan("failover", "nothing" if calm else "refused", reason, notes=tuple(notes))
        able = [cluster for cluster in fleet.values() if cluster.state != "drained" and cluster.healthy(apart_from)]
        if not able:
            reason = "All clusters that could take traffic fail, so there is nowhere to go, and nothing is removed: "
            return Plan("failover", "refused", reason + "; ".join(leaving.values()) + ".", notes=tuple(notes))

    staying = [cluster for cluster in active if cluster.name not in leaving]
    after = dict.fromkeys(leaving, "drained")
    reasons = dict(leaving)
    needed = _needed(fleet.values(), policy)
    standby = [cluster for cluster in fleet.values() if cluster.state == "standby" and cluster.name not in leaving]
    for cluster in sorted(standby, key=lambda cluster: _rank(cluster, policy, apart_from)):
        good = [member for member in staying if member.healthy(apart_from)]
        short = "capacity" not in policy.override and _sum(good) < needed and not _unknown(good)
        if len(good) >= policy.min_active and not short:
            break
        if not cluster.healthy(apart_from):
            continue
        after[cluster.name] = "active"
        reasons[cluster.name] = "it takes over from the clusters that are left"
        staying.append(cluster)
    return _judge(fleet, after, reasons, request, policy, history, apart_from, tuple(notes))


def _failback(fleet: Mapping[str, Cluster], request: Request, policy: Policy, history: History) -> Plan:
    drained = [name for name, cluster in fleet.items() if cluster.state == "drained"]
    returning = [name for name in request.clusters or drained if fleet[name].state != "active"]
    after = dict.fromkeys(returning, "active")
    reasons = dict.fromkeys(returning, "it returns")
    if returning and not set(drained) - set(returning):
        # Who stood by before stands by again once everybody is back.
        for name in sorted(history.promoted):
            if name in fleet and fleet[name].state == "active" and name not in returning:
                after[name] = "standby"
                reasons[name] = "it stood by before the failover"
    return _judge(fleet, after, reasons, request, policy, history)


def _judge(
    fleet: Mapping[str, Cluster],
    after: Mapping[str, str],
    reasons: Mapping[str, str],
    request: Request,
    policy: Policy,
    history: History,
    apart_from: frozenset[str] = frozenset(),
    notes: tuple[str, ...] = (),
    resumes: str = "",
) -> Plan:
    """Hold the wanted states against the rules."""
    moves = [
        Move(name, fleet[name].state, state, reasons[name])
        for name, state in sorted(after.items())
        if fleet[name].state != state
    ]
    moves.sort(key=lambda move: move.after != "active")
    if not moves and not resumes:
        return Plan(request.action, "nothing", "All clusters are as asked.", notes=notes)
    active = tuple(cluster for cluster in fleet.values() if after.get(cluster.name, cluster.state) == "active")
    # Traffic goes where the balancer finds answers; a failback is about the clusters that return, too.
    targets = tuple(
        cluster
        for cluster in active
        if cluster.healthy(apart_from) or (request.action == "failback" and cluster.name in after)
    )
    needed = _needed(fleet.values(), policy)
    raises = _raises(targets, needed)
    proposal = Proposal(
        left=tuple(cluster for cluster in fleet.values() if after.get(cluster.name) == "drained"),
        active=active,
        targets=tuple(cluster for cluster in targets if cluster.healthy(apart_from)),
        taken=_raised(targets, raises),
        unknown=tuple(_unknown(targets)),
        needed=needed,
        policy=policy,
        history=history,
        resumes=bool(resumes),
    )
    verdicts = []
    for rule in RULES:
        verdict = rule(proposal)
        if request.action == "failback" and verdict.rule == "target_healthy":
            verdict = _returning_healthy(fleet, after, verdict)
        verdicts.append(
            replace(verdict, overridden=not verdict.holds and not verdict.final and verdict.rule in policy.override)
        )
    refusing = [verdict for verdict in verdicts if verdict.refuses()]
    first = refusing[0] if refusing else None
    reason = (
        "; ".join(f"{move.cluster}: {move.before} becomes {move.after}" for move in moves) or "nothing is left to move"
    )
    if first is not None:
        reason = f"Refused by the rule {first.rule}: {first.reason}."
        if not first.final:
            reason += f" Override it with failover_override: [{first.rule}]."
    return Plan(
        request.action,
        "refused" if refusing else "go",
        reason,
        tuple(moves),
        raises,
        tuple(cluster.name for cluster in proposal.targets),
        tuple(verdicts),
        notes,
        resumes,
    )


def _returning_healthy(fleet: Mapping[str, Cluster], after: Mapping[str, str], verdict: Verdict) -> Verdict:
    """Tell whether every cluster that returns answers right, to the controller and to the balancer."""
    returning = [fleet[name] for name, state in sorted(after.items()) if state == "active"]
    sick = [cluster for cluster in returning if not cluster.healthy() or cluster.up is False]
    if not sick:
        return replace(
            verdict, holds=True, reason=verdict.reason if verdict.holds else "the clusters that return answer right"
        )
    return replace(verdict, holds=False, reason="; ".join(ailment(cluster) for cluster in sick))


def _rank(cluster: Cluster, policy: Policy, apart_from: frozenset[str]) -> tuple[bool, bool, float, str]:
    """Order the standby clusters: those that no rule forbids first, then by what they take."""
    forbidden = any(cluster.jurisdiction not in places for places in policy.jurisdictions.values())
    behind = any(
        served.versions is not None and not policy.versions.get(model, frozenset()) <= served.versions
        for model, served in cluster.models.items()
        if model not in apart_from
    )
    return forbidden, behind, -(cluster.takes() or 0.0), cluster.name


def _needed(clusters: Iterable[Cluster], policy: Policy) -> float:
    """Give the requests a second that are needed: what is declared, or what the balancer carries now, if more."""
    return max(policy.required_capacity, sum(cluster.rate for cluster in clusters))


def _sum(clusters: Iterable[Cluster]) -> float:
    return sum(cluster.takes() or 0.0 for cluster in clusters)


def _unknown(clusters: Iterable[Cluster]) -> list[str]:
    return [cluster.name for cluster in clusters if cluster.takes() is None]


def _raises(targets: tuple[Cluster, ...], needed: float) -> tuple[Raise, ...]:
    """Raise the replicas of the targets until they take what is needed, all by one factor as far as each may grow."""
    growing = {cluster.name: cluster for cluster in targets if cluster.takes()}
    fixed = 0.0
    if not growing or _sum(growing.values()) >= needed:
        return ()
    factors = dict.fromkeys(growing, 1.0)
    free = set(growing)
    while free:
        factor = (needed - fixed) / _sum(growing[name] for name in free)
        full = {name for name in free if growing[name].grows() <= factor}
        if not full:
            factors.update(dict.fromkeys(free, factor))
            break
        for name in full:
            factors[name] = max(growing[name].grows(), 1.0)
            fixed += factors[name] * (growing[name].takes() or 0.0)
        free -= full
    return tuple(
        Raise(cluster.name, server.name, wanted, f"{needed:.0f} requests a second are needed")
        for name, cluster in growing.items()
        for server in cluster.servers
        # Floating point must not ask for one replica more.
        if (wanted := min(server.most, math.ceil(round(server.ready * factors[name], 6)))) > server.replicas
        or (wanted > server.ready and factors[name] > 1)
    )


def _raised(targets: tuple[Cluster, ...], raises: tuple[Raise, ...]) -> float:
    """Give what the targets take together once the raises are there."""
    total = 0.0
    for cluster in targets:
        wanted = {entry.server: entry.replicas for entry in raises if entry.cluster == cluster.name}
        factor = min(
            (wanted.get(server.name, server.ready) / server.ready for server in cluster.servers if server.ready),
            default=1.0,
        )
        total += (cluster.takes() or 0.0) * max(factor, 1.0)
    return total
