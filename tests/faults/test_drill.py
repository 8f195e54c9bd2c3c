# SPDX-FileCopyrightText: The modelfleet maintainers
# SPDX-License-Identifier: GPL-3.0-or-later
"""Drills on the real fleet: one that reaches its objectives, and two in which users are hurt."""

from __future__ import annotations

import json
from html.parser import HTMLParser
from typing import Any

import pytest
from _fleet import AWS, CLUSTERS, ENDPOINT, Fleet, docker, until

ALL = sorted(CLUSTERS)


def report(fleet: Fleet) -> dict[str, Any]:
    """Read the drill's report for machines; that for people is there, too, and closes its elements."""
    (path,) = (fleet.folder / "drills").glob("*.json")
    page = path.with_suffix(".html").read_text()
    parser = _Elements()
    parser.feed(page)
    assert parser.open == []
    found: dict[str, Any] = json.loads(path.read_text())
    assert found["drill"] in page
    return found


class _Elements(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag != "meta":
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def options(fleet: Fleet) -> dict[str, Any]:
    return {"drill_from": AWS, "drill_seconds": 3, "drill_reports": str(fleet.folder / "drills")}


def test_a_drill_leaves_and_returns_and_reports(fleet: Fleet) -> None:
    fleet.run("drill", **options(fleet))
    assert fleet.active() == ALL
    found = report(fleet)
    assert found["passed"]
    assert [phase["phase"] for phase in found["phases"]] == [
        "before",
        "failover",
        "without",
        "failback",
        "after",
        "total",
    ]
    assert found["phases"][-1]["sent"] == sum(second["sent"] for second in found["seconds"]) > 50
    assert {objective["name"]: objective["reached"] for objective in found["objectives"]} == {
        "rto_seconds": True,
        "lost": True,
        "wrong": True,
        "returned": True,
    }
    assert [run["outcome"] for run in found["runs"]] == ["completed", "completed"]


def test_a_drill_does_not_begin_where_users_are_hurt_already(fleet: Fleet) -> None:
    fleet.run("drill", code=2, **options(fleet), drill_most_lost=-1)
    assert not fleet.journal.exists(), "nothing was moved"
    found = report(fleet)
    assert not found["passed"]
    assert "In the phase before" in found["failure"]


@pytest.mark.slow
def test_a_drill_returns_at_once_when_users_are_hurt(fleet: Fleet) -> None:
    run = fleet.start("drill", **{**options(fleet), "drill_seconds": 60}, drill_rto_seconds=0.1)
    # The phase before takes as long as the others.
    until(lambda: fleet.journal.exists() and "completed" in fleet.events(), "no failover", 150)
    docker("restart", "--time", "0", ENDPOINT)
    text = run.end(2)
    assert "In the phase without" in text
    assert fleet.active() == ALL
    found = report(fleet)
    assert not found["passed"]
    missed = {objective["name"] for objective in found["objectives"] if not objective["reached"]}
    assert missed == {"rto_seconds", "lost"}
    without = next(phase for phase in found["phases"] if phase["phase"] == "without")
    assert without["sent"] < 300, "it did not look on for the whole minute"
