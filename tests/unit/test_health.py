# SPDX-FileCopyrightText: The modelfleet maintainers
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a watcher of clusters tells, and when; tests/automation has the same with real servers."""

from __future__ import annotations

from itertools import groupby
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ansible_collections.modelfleet.serving.plugins.module_utils._failover.health import (
    Answer,
    Health,
    Patience,
    harmless,
)

CLUSTERS, MODELS = ("aws", "azure", "gcp"), ("a", "b")
PATIENCE = Patience(fall=3, rise=5, repeat=60, hearing=6)
SILENT, WRONG = ("no answer", False), ("2.4 instead of 2.5", True)


class Fleet:
    """Asks every model of every cluster once a second."""

    def __init__(self, patience: Patience = PATIENCE) -> None:
        self.health = Health("e", CLUSTERS, MODELS, patience, lambda moment: f"{moment:.2f}")
        self.time = 100.0
        self.ill: dict[tuple[str, str], tuple[str, bool]] = {}

    def set(self, how: tuple[str, bool] | None, *clusters: str, models: tuple[str, ...] = MODELS) -> None:
        for cluster in clusters:
            for model in models:
                self.ill.pop((cluster, model), None)
                if how:
                    self.ill[cluster, model] = how

    def rounds(self, count: int, order: tuple[str, ...] = CLUSTERS) -> list[dict[str, Any]]:
        events = []
        for _round in range(count):
            self.time += 1
            for place, cluster in enumerate(order):
                for model in MODELS:
                    error, answered = self.ill.get((cluster, model), ("", True))
                    asked = self.time + place / 10
                    events += self.health.hear(cluster, model, Answer(asked, asked + 0.05, error, answered))
        return events


def told(events: list[dict[str, Any]]) -> list[tuple[str, str, bool]]:
    return [(event["type"], event["cluster"], event["common_cause"]) for event in events]


def test_three_wrong_answers_in_a_row_count_and_two_do_not() -> None:
    fleet = Fleet()
    assert fleet.rounds(10) == []
    fleet.set(WRONG, "aws", models=("b",))
    assert fleet.rounds(2) == []
    fleet.set(None, "aws")
    assert fleet.rounds(1) == []
    fleet.set(WRONG, "aws", models=("b",))
    (event,) = fleet.rounds(3)
    assert told([event]) == [("unhealthy", "aws", False)]
    assert (event["detected"], event["since"]) == ("114.05", "116.05")
    assert event["reason"] == "aws: b: 2.4 instead of 2.5"


def test_five_right_answers_bring_it_back() -> None:
    fleet = Fleet()
    fleet.set(SILENT, "aws")
    assert told(fleet.rounds(4)) == [("unhealthy", "aws", False)]
    fleet.set(None, "aws")
    assert fleet.rounds(4) == []
    assert told(fleet.rounds(1)) == [("healthy", "aws", False)]


def test_an_answer_from_before_the_trouble_is_no_witness() -> None:
    health = Health("e", ("aws", "gcp"), ("a",), PATIENCE, str)
    assert health.hear("gcp", "a", Answer(0.0, 0.1)) == []
    # One refuses at once, the other is asked and keeps silent: the way there is cut.
    for moment in (1.0, 1.5, 2.0):
        assert health.hear("aws", "a", Answer(moment, moment + 0.1, *SILENT)) == []
    for moment in (0.5, 2.0):
        assert health.hear("gcp", "a", Answer(moment, moment + 1.5, *SILENT)) == []
    events = health.hear("gcp", "a", Answer(3.5, 5.0, *SILENT))
    assert told(events) == [("unhealthy", "aws", True), ("unhealthy", "gcp", True)]


@pytest.mark.parametrize("order", [CLUSTERS, CLUSTERS[::-1]])
def test_nobody_is_blamed_before_the_others_are_heard(order: tuple[str, ...]) -> None:
    fleet = Fleet()
    fleet.set(SILENT, order[0])
    assert fleet.rounds(1, order) == []
    fleet.set(SILENT, *order)
    # The first is confirmed in the second of these rounds, when the others have answered wrong only once.
    assert fleet.rounds(2, order) == []
    events = fleet.rounds(2, order)
    assert sorted(told(events)) == [("unhealthy", cluster, True) for cluster in CLUSTERS]


def test_when_they_come_back_one_by_one_nobody_is_blamed_either() -> None:
    fleet = Fleet()
    fleet.set(SILENT, *CLUSTERS)
    fleet.rounds(30)
    events = []
    for cluster in CLUSTERS:
        fleet.set(None, cluster)
        events += fleet.rounds(2)
    events += fleet.rounds(10)
    assert sorted(told(events)) == [("healthy", cluster, False) for cluster in CLUSTERS]


def test_the_last_one_of_an_outage_is_told_as_what_it_is() -> None:
    fleet = Fleet()
    fleet.set(SILENT, *CLUSTERS)
    fleet.rounds(30)
    fleet.set(None, "aws", "azure")
    events = fleet.rounds(10)
    assert ("unhealthy", "gcp", False) in told(events)
    assert events[-1]["unhealthy"] == ["gcp"]


def test_a_model_that_flaps_elsewhere_delays_but_does_not_hide() -> None:
    fleet = Fleet()
    fleet.set(SILENT, "aws")
    events: list[dict[str, Any]] = []
    for number in range(12):
        # Undecided for ever: whenever somebody else is heard, one of the two has just answered wrong.
        fleet.set(WRONG if number % 2 else None, "gcp", models=("a",))
        fleet.set(None if number % 2 else WRONG, "gcp", models=("b",))
        events += fleet.rounds(1)
    assert told(events) == [("unhealthy", "aws", False)]


def test_it_is_told_again_while_it_lasts() -> None:
    fleet = Fleet(Patience(fall=3, rise=5, repeat=10, hearing=6))
    fleet.set(SILENT, "aws")
    events = fleet.rounds(35)
    assert [event["repeated"] for event in events] == [0, 1, 2, 3]
    assert {event["detected"] for event in events} == {"101.05"}


@given(st.lists(st.tuples(st.sampled_from(CLUSTERS), st.sampled_from((None, SILENT, WRONG))), max_size=40))
def test_whatever_happens_states_alternate_and_an_outage_of_all_is_nobodys(
    steps: list[tuple[str, tuple[str, bool] | None]],
) -> None:
    fleet = Fleet(Patience(fall=3, rise=5, repeat=1e9, hearing=1e9))
    events = []
    for cluster, how in steps:
        fleet.set(how, cluster)
        events += fleet.rounds(1)
    for event in events:
        assert (event["type"] == "unhealthy") == bool(event["models"]), event
        if event["type"] == "unhealthy" and not event["common_cause"]:
            # Somebody was there to take the traffic.
            assert len(event["unhealthy"]) < len(CLUSTERS), event
    for cluster in CLUSTERS:
        states = [(event["type"], event["common_cause"]) for event in events if event["cluster"] == cluster]
        healthy = [kind for kind, _common in states]
        assert healthy[:1] != ["healthy"]
        assert not any(kind == "healthy" and len(list(run)) > 1 for kind, run in groupby(healthy))


@given(st.text(alphabet="{}%#' a\n\x1b"))
def test_no_text_is_a_template(text: str) -> None:
    found = harmless(text)
    assert not any(sign in found for sign in ("{{", "{%", "{#", "\n", "\x1b"))
    assert harmless(found) == found
