# SPDX-FileCopyrightText: The modelfleet maintainers
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a failover knows: the observed fleet, the policy, what was asked for, and what happened before. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Served:
    """A model as one cluster serves it, asked at the cluster's edge.

    :param right: whether its golden prediction was right.
    :param answered: whether something answered at all; a wrong answer may be the model's fault, silence the cluster's.
    :param error: what was wrong, in words.
    :param versions: the versions that are loaded; ``None`` where that is not known.
    :param digests: digest by version, where the cluster's API tells it.
    """

    right: bool
    answered: bool = True
    error: str = ""
    versions: frozenset[int] | None = None
    digests: Mapping[int, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Server:
    """A server of models in one cluster.

    :param replicas: how many there are to be.
    :param ready: how many are ready.
    :param most: how many a failover may ask for.
    """

    name: str
    replicas: int
    ready: int
    most: int


@dataclass(frozen=True)
class Cluster:
    """A member of the endpoint, as the controller and the balancer see it.

    :param state: ``active``, ``standby`` or ``drained``, by the balancer's definition.
    :param models: what its edge answers, by model; empty when it was not asked.
    :param up: the balancer's own view, ``None`` where the balancer has none.
    :param servers: its servers, as its API tells; empty when it does not answer, or was not asked.
    :param capacity: requests a second that it takes with all its replicas, as declared; ``None`` when not declared.
    :param replica_rate: requests a second that one replica was measured to take.
    :param rate: requests a second that it takes now, by the balancer.
    """

    name: str
    state: str = "active"
    cloud: str = ""
    jurisdiction: str = ""
    models: Mapping[str, Served] = field(default_factory=dict)
    up: bool | None = None
    servers: tuple[Server, ...] = ()
    capacity: float | None = None
    replica_rate: float | None = None
    rate: float = 0.0

    @property
    def asked(self) -> bool:
        """Tell whether its edge was asked for predictions."""
        return bool(self.models)

    def wrong(self, apart_from: frozenset[str] = frozenset()) -> list[str]:
        """Name the models that it does not answer right."""
        return [name for name, model in self.models.items() if not model.right and name not in apart_from]

    def healthy(self, apart_from: frozenset[str] = frozenset()) -> bool:
        """Tell whether it was asked, and answers every model right."""
        return self.asked and not self.wrong(apart_from)

    def takes(self) -> float | None:
        """Give the requests a second that it takes with the replicas that are ready now; ``None``: not known."""
        ready = min((server.ready / max(server.replicas, 1) for server in self.servers), default=1.0)
        if self.capacity is not None:
            return self.capacity * min(ready, 1.0)
        if self.replica_rate is not None and self.servers:
            return self.replica_rate * min(server.ready for server in self.servers)
        return None

    def grows(self) -> float:
        """Give by what factor a failover may raise what it takes; 1: not at all."""
        return min((server.most / server.ready if server.ready else 1.0 for server in self.servers), default=1.0)


@dataclass(frozen=True)
class Request:
    """What is to be done.

    :param action: ``failover``, ``failback``, or ``revert``, which undoes the moves of the unfinished run.
    :param clusters: the clusters to leave or to return to; empty: those that the observation shows.
    """

    action: str
    clusters: tuple[str, ...] = ()


@dataclass(frozen=True)
class Policy:
    """The safety rules' settings.

    :param min_active: so many members must stay active.
    :param required_capacity: requests a second that the remaining clusters must take together.
    :param cooldown: seconds between two shifts.
    :param versions: the versions that the catalogue lists, by model.
    :param jurisdictions: where a model may be served, by model; a model that is not named may be served anywhere.
    :param override: names of the rules that are passed over.
    """

    min_active: int = 1
    required_capacity: float = 0.0
    cooldown: float = 0.0
    versions: Mapping[str, frozenset[int]] = field(default_factory=dict)
    jurisdictions: Mapping[str, frozenset[str]] = field(default_factory=dict)
    override: frozenset[str] = frozenset()


@dataclass(frozen=True)
class Unfinished:
    """A run whose intent is in the journal, and no outcome.

    :param moves: state before and after, by cluster.
    """

    run: str
    action: str
    moves: Mapping[str, tuple[str, str]]


@dataclass(frozen=True)
class History:
    """What the journal says.

    :param since_shift: seconds since the last shift; ``None`` when there was none.
    :param gate: why an operator closed the gate; empty when it is open.
    :param promoted: the standby clusters that earlier failovers made active.
    """

    since_shift: float | None = None
    gate: str = ""
    unfinished: Unfinished | None = None
    promoted: frozenset[str] = frozenset()


def blamed(clusters: tuple[Cluster, ...]) -> frozenset[str]:
    """Name the models that are wrong by a release, not by an outage: most of the clusters answer them, and wrong.

    No cluster is left because of such a model: a bad release would take out one cluster after another. Clusters that do
    not answer at all are no witnesses, so two clouds that are down blame no model.
    """
    names = {name for cluster in clusters for name in cluster.models}
    found = set()
    for name in names:
        witnesses = [cluster.models[name] for cluster in clusters if name in cluster.models]
        answers = [model for model in witnesses if model.answered]
        wrong = [model for model in answers if not model.right]
        if len(wrong) >= 2 and 2 * len(wrong) > len(answers):
            found.add(name)
    return frozenset(found)
