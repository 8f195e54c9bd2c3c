# SPDX-FileCopyrightText: The modelfleet maintainers
# SPDX-License-Identifier: GPL-3.0-or-later
"""The safety rules: what a plan must hold before traffic moves. Pure.

Each rule looks at a proposal and says what it found, whether it holds or not, so that check mode shows all of them.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from ansible_collections.modelfleet.serving.plugins.module_utils._failover.fleet import Cluster, History, Policy


@dataclass(frozen=True)
class Verdict:
    """What a rule says of a plan.

    :param holds: whether the rule is met.
    :param overridden: whether it is not met and passed over, since the user named it.
    :param final: whether naming it would not help.
    """

    rule: str
    holds: bool
    reason: str
    overridden: bool = False
    final: bool = False

    def refuses(self) -> bool:
        """Tell whether the plan must not be carried out."""
        return not self.holds and not self.overridden


@dataclass(frozen=True)
class Proposal:
    """What is about to be done, as the rules see it.

    :param left: the clusters that take no traffic any more.
    :param active: the members that would be active afterwards.
    :param targets: those of them that will carry the traffic: not the ones that are down anyway.
    :param taken: requests a second that the targets take, after a raise of their replicas.
    :param unknown: targets of which that is not known.
    :param needed: requests a second that are needed.
    """

    left: tuple[Cluster, ...]
    active: tuple[Cluster, ...]
    targets: tuple[Cluster, ...]
    taken: float
    unknown: tuple[str, ...]
    needed: float
    policy: Policy
    history: History
    resumes: bool = False


def gate(proposal: Proposal) -> Verdict:
    """An operator may close the gate: nothing moves then."""
    why = proposal.history.gate
    return Verdict("gate", not why, f"the gate is closed: {why}" if why else "the gate is open")


def cooldown(proposal: Proposal) -> Verdict:
    """No second shift within the cooldown; a shift that goes on after an interruption is the same one."""
    since, wanted = proposal.history.since_shift, proposal.policy.cooldown
    if proposal.resumes:
        return Verdict("cooldown", True, "an interrupted shift goes on")
    if since is None:
        return Verdict("cooldown", True, "nothing was shifted before")
    reason = f"the last shift was {since:.0f} s ago, {wanted:.0f} s must pass"
    return Verdict("cooldown", since >= wanted, reason)


def min_active(proposal: Proposal) -> Verdict:
    """So many members must stay active, and never none."""
    count, needed = len(proposal.active), max(proposal.policy.min_active, 1)
    names = f" ({_names(proposal.active)})" if count else ""
    reason = f"{count} active clusters would remain{names}, {needed} are needed"
    if not count:
        reason += "; the last one is never taken away"
    return Verdict("min_active", count >= needed, reason, final=not count)


def target_healthy(proposal: Proposal) -> Verdict:
    """So many of the active members must answer right."""
    count, needed = len(proposal.targets), max(proposal.policy.min_active, 1)
    sick = [cluster for cluster in proposal.active if cluster not in proposal.targets]
    reason = f"{count} of the active clusters answer right{f' ({_names(proposal.targets)})' if count else ''}"
    if sick:
        reason += f"; {'; '.join(ailment(cluster) for cluster in sick)}"
    return Verdict("target_healthy", count >= needed, f"{reason}; {needed} are needed")


def version(proposal: Proposal) -> Verdict:
    """Each target serves what the clusters that are left serve, with the same digests everywhere.

    Of clusters that are left and do not answer, the catalogue tells what they served, as far as any target has it: a
    version that is in the catalogue and nowhere deployed yet is not missed.
    """
    problems = []
    for model, listed in proposal.policy.versions.items():
        serving = [known for cluster in proposal.targets if (known := _versions(cluster, model)) is not None]
        left = [known for cluster in proposal.left if (known := _versions(cluster, model))]
        wanted = frozenset().union(*left) if left else listed & frozenset().union(*serving)
        for cluster in proposal.targets:
            if (known := _versions(cluster, model)) is not None and wanted - known:
                missing = ", ".join(str(number) for number in sorted(wanted - known))
                problems.append(f"{cluster.name} does not serve version {missing} of {model}")
    problems += _different(proposal)
    return Verdict("version", not problems, "; ".join(problems) or "the targets serve the same versions")


def _versions(cluster: Cluster, model: str) -> frozenset[int] | None:
    served = cluster.models.get(model)
    return served.versions if served is not None else None


def _different(proposal: Proposal) -> list[str]:
    """Name the versions that are not the same everywhere; a digest that is not known accuses nobody."""
    known: dict[tuple[str, int], dict[str, list[str]]] = {}
    for cluster in proposal.targets:
        for model, served in cluster.models.items():
            for number, digest in served.digests.items():
                known.setdefault((model, number), {}).setdefault(digest, []).append(cluster.name)
    return [
        f"version {number} of {model} is not the same everywhere: "
        + ", ".join(f"{' and '.join(names)} have {digest[:19]}" for digest, names in digests.items())
        for (model, number), digests in known.items()
        if len(digests) > 1
    ]


def jurisdiction(proposal: Proposal) -> Verdict:
    """Each target lies where the models may be served."""
    problems = [
        f"{cluster.name} is in {cluster.jurisdiction or 'no jurisdiction'}, "
        f"and {model} may be served in {' or '.join(sorted(places))}"
        for cluster in proposal.targets
        for model, places in proposal.policy.jurisdictions.items()
        if cluster.jurisdiction not in places
    ]
    reason = "; ".join(problems) or "the targets lie where the models may be served"
    return Verdict("jurisdiction", not problems, reason)


def capacity(proposal: Proposal) -> Verdict:
    """The targets take the requests that are needed, with the replicas that they are given before."""
    if proposal.unknown and not proposal.policy.required_capacity:
        reason = f"not judged: what {', '.join(proposal.unknown)} can take is not known (cluster_capacity)"
        return Verdict("capacity", True, reason)
    short = proposal.needed - proposal.taken
    reason = f"{_names(proposal.targets) or 'no cluster'} can take {proposal.taken:.0f} requests a second together, "
    reason += f"{proposal.needed:.0f} are needed"
    if short > 0:
        reason += f", {short:.0f} too few"
        if proposal.unknown:
            reason += f"; what {', '.join(proposal.unknown)} can take is not known (cluster_capacity)"
        if proposal.left and all(cluster.up is False for cluster in proposal.left):
            # Refusing would take no load off anybody, and keep a dead cluster in the endpoint.
            return Verdict("capacity", True, f"{reason}; they carry it already, since {_names(proposal.left)} is down")
    return Verdict("capacity", short <= 0, reason)


# In the order in which they are told.
RULES: tuple[Callable[[Proposal], Verdict], ...] = (
    gate,
    cooldown,
    min_active,
    target_healthy,
    version,
    jurisdiction,
    capacity,
)
RULE_NAMES = tuple(rule.__name__ for rule in RULES)


def ailment(cluster: Cluster) -> str:
    """Say what is wrong with a cluster, in words."""
    if not cluster.asked:
        return f"{cluster.name} was not asked"
    wrong = cluster.wrong()
    first = f": {wrong[0]}: {cluster.models[wrong[0]].error}" if wrong else " answers right"
    return f"{cluster.name}{first}" + (", the balancer finds it down" if cluster.up is False else "")


def _names(clusters: tuple[Cluster, ...]) -> str:
    return ", ".join(cluster.name for cluster in clusters)
