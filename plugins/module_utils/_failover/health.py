# SPDX-FileCopyrightText: The modelfleet maintainers
# SPDX-License-Identifier: GPL-3.0-or-later
"""From single answers to confirmed changes of clusters, which an event source tells. Pure: answers and times come in.

A change is told once it is confirmed: so many wrong answers in a row, or so many right ones. Before trouble is told,
the others are heard: every model of every cluster must have been asked after the trouble began, and be decided. So a
controller that is cut off does not blame the cluster that it happened to miss first.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

from ansible_collections.modelfleet.serving.plugins.module_utils._failover.fleet import Cluster, Served, blamed
from ansible_collections.modelfleet.serving.plugins.module_utils._failover.rules import ailment

Json = dict[str, Any]

# A server's own words are quoted, and nobody needs more of them.
_LONGEST = 500


@dataclass(frozen=True)
class Answer:
    """How a model was answered at a cluster's edge. Times are seconds of a clock that never goes back.

    :param asked: when the request was sent.
    :param heard: when the answer was there, or given up.
    :param error: what was wrong; empty when nothing was.
    :param answered: whether there was a prediction at all, right or wrong.
    """

    asked: float
    heard: float
    error: str = ""
    answered: bool = True


@dataclass(frozen=True)
class Patience:
    """When a change counts.

    :param fall: so many wrong answers in a row make a model wrong.
    :param rise: so many right ones in a row make it right again.
    :param repeat: seconds after which a cluster that stays unhealthy is told again.
    :param hearing: seconds that the others are heard at most before trouble is told.
    """

    fall: int
    rise: int
    repeat: float
    hearing: float


class _Pulse:
    """One model at one cluster's edge."""

    def __init__(self) -> None:
        self.wrong = False
        self.words = ""
        self.answered = True
        self.asked = float("-inf")
        # The first answer of the present run of answers that speak against the state, and how many there were.
        self.contrary = 0
        self.contrary_since = 0.0
        # The first answer of the run that made the state, and when it was confirmed.
        self.detected = float("-inf")
        self.since = float("-inf")

    def hear(self, answer: Answer, patience: Patience) -> None:
        self.asked = answer.asked
        if answer.error:
            self.words, self.answered = answer.error, answer.answered
        if bool(answer.error) == self.wrong:
            self.contrary = 0
            return
        if not self.contrary:
            self.contrary_since = answer.heard
        self.contrary += 1
        if self.contrary >= (patience.rise if self.wrong else patience.fall):
            self.wrong = not self.wrong
            self.contrary = 0
            self.detected, self.since = self.contrary_since, answer.heard


@dataclass
class _Told:
    """What was last told of a cluster, and since when something else would be to tell.

    :param state: ``healthy``; ``ill``; ``release`` when it is wrong only in what most clusters answer wrong;
        ``nowhere`` when no cluster is healthy.
    """

    state: str = "healthy"
    when: float = 0.0
    times: int = 0
    otherwise: float | None = None


class Health:
    """What is known of a fleet, and what was told of it. All clusters are taken for healthy until they prove otherwise.

    :param clock: gives a time of the answers' clock as text.
    """

    def __init__(
        self,
        endpoint: str,
        clusters: Iterable[str],
        models: Iterable[str],
        patience: Patience,
        clock: Callable[[float], str],
    ) -> None:
        self._endpoint = endpoint
        self._patience = patience
        self._clock = clock
        models = tuple(models)
        self._pulses = {cluster: {model: _Pulse() for model in models} for cluster in clusters}
        self._told = {cluster: _Told() for cluster in self._pulses}

    def hear(self, cluster: str, model: str, answer: Answer) -> list[Json]:
        """Take an answer in.

        :returns: the events to tell now; mostly none.
        """
        self._pulses[cluster][model].hear(answer, self._patience)
        now = answer.heard
        fleet = tuple(self._cluster(name) for name in self._pulses)
        # As the planner of failovers sees it, so that it is not called for what it refuses.
        releases = blamed(fleet)
        nowhere = not any(each.healthy(releases) for each in fleet)
        events = []
        for each in fleet:
            own = each.wrong(releases)
            state = "healthy" if each.healthy() else "nowhere" if nowhere else "ill" if own else "release"
            told = self._told[each.name]
            if state == told.state:
                told.otherwise = None
                if state == "healthy" or now - told.when < self._patience.repeat:
                    continue
                told.times += 1
            else:
                told.otherwise = now if told.otherwise is None else told.otherwise
                # A model that flaps somewhere keeps nobody waiting for ever.
                patient = now - told.otherwise < self._patience.hearing
                if state != "healthy" and patient and not self._all_heard():
                    continue
                told.times, told.otherwise = 0, None
            told.state, told.when = state, now
            events.append(self._event(each, state, (own or each.wrong())[:1], fleet, told.times))
        return events

    def _cluster(self, name: str) -> Cluster:
        pulses = self._pulses[name].items()
        return Cluster(name, models={model: Served(not it.wrong, it.answered, it.words) for model, it in pulses})

    def _all_heard(self) -> bool:
        pulses = [pulse for models in self._pulses.values() for pulse in models.values()]
        newest = max(pulse.detected for pulse in pulses)
        return all(pulse.asked >= newest and not pulse.contrary for pulse in pulses)

    def _event(self, cluster: Cluster, state: str, first: list[str], fleet: tuple[Cluster, ...], times: int) -> Json:
        pulses = self._pulses[cluster.name].values()
        if state == "healthy":
            marks = [max(pulses, key=lambda pulse: pulse.since)]
        else:
            marks = [pulse for pulse in pulses if pulse.wrong]
        return {
            "type": "healthy" if state == "healthy" else "unhealthy",
            "endpoint": self._endpoint,
            "cluster": cluster.name,
            "model": first[0] if first else "",
            "models": cluster.wrong(),
            "reason": harmless(_reason(cluster, state, first)),
            "detected": self._clock(min(pulse.detected for pulse in marks)),
            "since": self._clock(min(pulse.since for pulse in marks)),
            "unhealthy": sorted(each.name for each in fleet if not each.healthy()),
            "common_cause": state in ("nowhere", "release"),
            "repeated": times,
        }


def _reason(cluster: Cluster, state: str, first: list[str]) -> str:
    if state == "healthy":
        return f"{cluster.name} answers right again"
    words = ailment(Cluster(cluster.name, models={model: cluster.models[model] for model in first}))
    if state == "nowhere":
        return f"{words}; no cluster answers right, so a release or the way from here may be the cause"
    if state == "release":
        return f"{words}; most clusters that answer {first[0]} answer it wrong, so its release is the cause"
    return words


def harmless(text: str) -> str:
    """Give a text, which may quote a server, without what Ansible would run: it becomes a playbook's variable."""
    plain = "".join(sign if sign.isprintable() else " " for sign in text)
    return re.sub(r"\{(?=[{%#])", "{ ", plain)[:_LONGEST]
