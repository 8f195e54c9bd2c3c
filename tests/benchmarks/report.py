# SPDX-FileCopyrightText: The modelfleet maintainers
# SPDX-License-Identifier: GPL-3.0-or-later
"""What was measured, as figures, as text, and in docs/benchmarks.md and its plot, which `python report.py` writes."""

from __future__ import annotations

import json
import re
import statistics
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from plot import draw

Json = dict[str, Any]

CHECKOUT = Path(__file__).resolve().parents[2]
RESULTS = CHECKOUT / "build" / "bench" / "apply.json"
PAGE = CHECKOUT / "docs" / "benchmarks.md"
PLOT = CHECKOUT / "docs" / "benchmarks-apply.svg"

OURS = "modelfleet"
TITLES = {
    "k8s_task_per_object": "kubernetes.core.k8s, one task an object",
    "k8s_one_task": "kubernetes.core.k8s, one task",
    "kubectl_ssa": "kubectl apply --server-side",
    "helm": "helm upgrade --install",
    OURS: "modelfleet.serving.bundle",
}
PHASES = {"first": "first apply", "unchanged": "no change", "one_field": "one field changed"}
# The share of another way's time that this collection's may be at most.
GOALS = {"k8s_task_per_object": 1 / 50, "k8s_one_task": 1 / 8, "kubectl_ssa": 1.0, "helm": 1.0}
GOAL_MB_PER_HOST = 1.0


def results(compared: Mapping[str, Mapping[str, list[float]]], grown: list[Json], empty: str, about: Json) -> Json:
    """Make figures of what was measured.

    :param compared: seconds by way and phase, one a round.
    :param grown: what scale() gives, one for each number of hosts.
    :param empty: the way that is taken off the ways that are plays.
    :param about: versions and settings.
    """
    start = statistics.median(second for phase in compared[empty].values() for second in phase)
    plays = {way for way in compared if way.startswith("k8s_")} | {OURS}
    net = {
        way: {phase: [second - start * (way in plays) for second in seconds] for phase, seconds in phases.items()}
        for way, phases in compared.items()
        if way != empty
    }
    medians = {
        way: {phase: round(statistics.median(seconds), 3) for phase, seconds in phases.items()}
        for way, phases in net.items()
    }
    return {
        **about,
        "empty_play_seconds": round(start, 3),
        "net_seconds": medians,
        "net_seconds_range": {
            way: {phase: [round(min(seconds), 3), round(max(seconds), 3)] for phase, seconds in phases.items()}
            for way, phases in net.items()
        },
        "ours_as_share_of": {
            way: {phase: round(medians[OURS][phase] / medians[way][phase], 4) for phase in PHASES} for way in GOALS
        },
        "scale": list(_growth(grown, empty)),
    }


def _growth(grown: list[Json], empty: str) -> Iterator[Json]:
    before: Json = {}
    for one in sorted(grown, key=lambda one: int(one["hosts"])):
        hosts, memory = one["hosts"], one["memory"]
        start, first, unchanged = (statistics.median(one["seconds"][phase]) for phase in (empty, "first", "unchanged"))
        above = memory["first"] - memory[empty]
        row: Json = {
            "hosts": hosts,
            "rounds": len(one["seconds"]["first"]),
            "empty_play_seconds": round(start, 3),
            "net_seconds_per_host": round((first - start) / hosts, 4),
            "unchanged_net_seconds_per_host": round((unchanged - start) / hosts, 4),
            "controller_mb": round(above, 1),
            "controller_mb_per_host": round(above / hosts, 3),
        }
        if before:
            more = above - before["controller_mb"]
            row["controller_mb_per_further_host"] = round(more / (hosts - before["hosts"]), 3)
        yield (before := row)


def goals(figures: Json) -> Iterator[tuple[str, str, bool]]:
    """Give each figure to reach: what it is, what was measured, whether it is reached."""
    for way, limit in GOALS.items():
        share = figures["ours_as_share_of"][way]
        for phase, title in PHASES.items():
            wanted = f"at most 1/{1 / limit:.0f} of the time of" if limit < 1 else "faster than"
            reached = share[phase] <= limit if limit < 1 else share[phase] < 1
            yield f"{title}: {wanted} {TITLES[way]}", _ratio(share[phase]), reached
    ours = figures["net_seconds"][OURS]
    share_unchanged = ours["unchanged"] / ours["first"]
    yield "no change: faster than the first apply", _ratio(share_unchanged), share_unchanged < 1
    by_hosts = {row["hosts"]: row for row in figures["scale"]}
    if {10, 300} <= by_hosts.keys():
        ten, most = (by_hosts[hosts]["net_seconds_per_host"] for hosts in (10, 300))
        yield "a host of 300: no more time than a host of 10", f"{most:.3f} s and {ten:.3f} s", most <= ten
    if 300 in by_hosts:
        memory = by_hosts[300]["controller_mb_per_host"]
        yield "a host of 300: under 1 MB of the controller's memory", f"{memory:.2f} MB", memory < GOAL_MB_PER_HOST


def _ratio(share: float) -> str:
    return f"1/{1 / share:.3g}" if 0 < share < 1 else f"{share:.3g} times"


def comparison_table(figures: Json) -> list[list[str]]:
    """Give the rows of the comparison, the first one with the columns' names."""
    rows = [["way", *PHASES.values(), "ours is faster by"]]
    for way, title in TITLES.items():
        medians, ranges = figures["net_seconds"][way], figures["net_seconds_range"][way]
        cells = [f"{medians[phase]:.2f} s ({ranges[phase][0]:.2f}–{ranges[phase][1]:.2f})" for phase in PHASES]
        share = figures["ours_as_share_of"].get(way)
        factors = " / ".join(f"{1 / share[phase]:.3g}×" for phase in PHASES) if share else ""
        rows.append([title, *cells, factors])
    return rows


def scale_table(figures: Json) -> list[list[str]]:
    """Give the rows of the growth, the first one with the columns' names."""
    rows = [["hosts", "first apply a host", "no change a host", "memory", "memory a host", "memory a further host"]]
    for row in figures["scale"]:
        further = row.get("controller_mb_per_further_host")
        rows.append(
            [
                str(row["hosts"]),
                f"{row['net_seconds_per_host']:.3f} s",
                f"{row['unchanged_net_seconds_per_host']:.3f} s",
                f"{row['controller_mb']:.0f} MB",
                f"{row['controller_mb_per_host']:.2f} MB",
                f"{further:.2f} MB" if further is not None else "",
            ]
        )
    return rows


def text(figures: Json) -> str:
    """Give all of it as plain text for a terminal."""
    parts = [f"An empty play: {figures['empty_play_seconds']:.2f} s", "", *_aligned(comparison_table(figures))]
    if figures["scale"]:
        parts += ["", *_aligned(scale_table(figures))]
    verdicts = [[goal, measured, "reached" if reached else "missed"] for goal, measured, reached in goals(figures)]
    return "\n".join([*parts, "", *_aligned(verdicts)])


def _aligned(rows: list[list[str]]) -> list[str]:
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]


def markdown(rows: list[list[str]]) -> list[str]:
    """Give a table's lines; the first row has the columns' names."""
    lines = [f"| {' | '.join(row)} |" for row in rows]
    return [lines[0], "|" + " --- |" * len(rows[0]), *lines[1:]]


def write_page(figures: Json) -> None:
    """Put the tables between the marks in docs/benchmarks.md, and draw its plot."""
    sections = {
        "comparison": markdown(comparison_table(figures)),
        "scale": markdown(scale_table(figures)),
        "goals": markdown(
            [["to reach", "measured", ""]]
            + [[goal, measured, "reached" if reached else "missed"] for goal, measured, reached in goals(figures)]
        ),
        "about": [
            f"{figures['date']}, {figures['cores']} cores shared with the three clusters, {figures['rounds']} rounds, "
            + ", ".join(f"{name} {version}" for name, version in figures["versions"].items())
            + f". An empty play takes {figures['empty_play_seconds']:.2f} s."
        ],
    }
    write_sections(sections)
    draw(figures, TITLES, PHASES, PLOT)


def write_sections(sections: Mapping[str, list[str]]) -> None:
    """Put lines between the marks in docs/benchmarks.md."""
    page = PAGE.read_text()
    for name, lines in sections.items():
        page, count = re.subn(
            rf"(<!-- {name} -->\n).*?(<!-- /{name} -->)",
            lambda match, lines=lines: match[1] + "\n".join([*lines, ""]) + match[2],  # type: ignore[misc]
            page,
            flags=re.DOTALL,
        )
        if count != 1:
            raise ValueError(f"{PAGE} must have one section {name}")
    PAGE.write_text(page)


if __name__ == "__main__":
    write_page(json.loads(RESULTS.read_text()))
