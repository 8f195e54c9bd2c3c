# SPDX-FileCopyrightText: The modelfleet maintainers
# SPDX-License-Identifier: GPL-3.0-or-later
"""The plot of docs/benchmarks.md."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("svg")
# Text stays text, and the same figures give the same file.
matplotlib.rcParams.update({"svg.fonttype": "none", "svg.hashsalt": "modelfleet", "font.family": "sans-serif"})

from matplotlib import pyplot  # noqa: E402 - it reads these settings

Json = dict[str, Any]

COLOURS = ["#1b4f9c", "#5b93f5", "#e3a008"]
BAR = 0.27
PLAIN = "{x:g}"  # and not a power of ten


def draw(figures: Json, titles: Mapping[str, str], phases: Mapping[str, str], path: Path) -> None:
    """Draw the comparison above, and how cost grows below.

    :param titles: the ways, from above to below.
    :param phases: what each of them did, and how it is called.
    """
    picture, (ways, seconds, memory) = pyplot.subplots(
        3, 1, figsize=(8, 10.5), height_ratios=[2.2, 1, 1], layout="constrained"
    )
    _compare(ways, figures, titles, phases)
    _grow(
        seconds,
        figures["scale"],
        {"net_seconds_per_host": phases["first"], "unchanged_net_seconds_per_host": phases["unchanged"]},
    )
    seconds.set(ylabel="seconds a host")
    seconds.set_title("How the cost of a host grows with the inventory", loc="left")
    seconds.legend(frameon=False, ncols=2, loc="upper right")
    _grow(memory, figures["scale"], {"controller_mb_per_host": phases["first"]})
    memory.set(ylabel="controller MB a host", xlabel="hosts in the inventory")
    for axes in (ways, seconds, memory):
        axes.spines[["top", "right"]].set_visible(False)
    picture.savefig(path, metadata={"Date": None, "Creator": None})
    pyplot.close(picture)


def draw_failover(cases: list[Json], titles: Mapping[str, str], path: Path) -> None:
    """Draw each request around each fault, those with 1 KB and those with 1 MB.

    :param cases: fault, body_bytes and requests, which are lists of seconds since the fault, seconds taken and outcome.
    :param titles: the faults, and how they are called.
    """
    shown = [fault for fault in titles if any(case["fault"] == fault for case in cases)]
    picture, panels = pyplot.subplots(
        len(shown), 1, figsize=(8, 1.5 * len(shown) + 0.5), sharex=True, layout="constrained", squeeze=False
    )
    for axes, fault in zip(panels[:, 0], shown, strict=True):
        for case in cases:
            if case["fault"] == fault:
                _requests(axes, case)
        axes.axvline(0, color="#1b1f24", linewidth=1)
        axes.axvline(1, color="#1b1f24", linewidth=0.6, linestyle=":")
        axes.set_title(f"A cluster is {titles[fault]}", loc="left", fontsize=10)
        axes.set(ylabel="seconds", ylim=(0, None))
        axes.spines[["top", "right"]].set_visible(False)
    panels[0, 0].legend(frameon=False, ncols=4, loc="upper right", fontsize=8)
    panels[-1, 0].set(xlabel="moment of the request, in seconds since the fault")
    picture.savefig(path, dpi=110, metadata={"Date": None, "Creator": None})
    pyplot.close(picture)


def _requests(axes: Any, case: Json) -> None:
    big = case["body_bytes"] >= 1_000_000
    kinds = {"right": (COLOURS[1] if big else COLOURS[0], "o" if big else "."), "wrong": (COLOURS[2], "x")}
    groups: dict[str, list[tuple[float, float]]] = {"right": [], "wrong": [], "lost": []}
    for at, taken, outcome in case["requests"]:
        groups[outcome if outcome in kinds else "lost"].append((at, taken))
    for outcome, places in groups.items():
        # What is right is in the legend anyway, once a size.
        if places or outcome == "right":
            colour, marker = kinds.get(outcome, ("#c0182a", "X"))
            label = f"{outcome}, {'1 MB' if big else '1 KB'}"
            columns = list(zip(*places, strict=True)) or [(), ()]
            # Thousands of requests: as shapes of their own they would be a megabyte.
            axes.plot(*columns, marker, color=colour, markersize=3, linestyle="none", label=label, rasterized=True)


def _compare(axes: Any, figures: Json, titles: Mapping[str, str], phases: Mapping[str, str]) -> None:
    for number, (phase, title) in enumerate(phases.items()):
        for place, way in enumerate(titles):
            median, (low, high) = figures["net_seconds"][way][phase], figures["net_seconds_range"][way][phase]
            at = place + (number - 1) * BAR
            axes.barh(at, median, BAR * 0.9, color=COLOURS[number], label=None if place else title)
            axes.plot([low, high], [at, at], color="#1b1f24", linewidth=1)
            axes.annotate(f"{median:.2f}", (high, at), xytext=(4, 0), textcoords="offset points", va="center", size=9)
    axes.set_yticks(range(len(titles)), [title.replace(", ", ",\n") for title in titles.values()])
    axes.invert_yaxis()
    axes.set(xscale="log", xlabel="seconds, without those of an empty play (logarithmic)")
    axes.xaxis.set_major_formatter(PLAIN)
    axes.margins(x=0.1)
    axes.set_title("12 objects on each of 3 clusters: medians and ranges", loc="left")
    axes.legend(frameon=False, loc="lower right")


def _grow(axes: Any, rows: list[Json], lines: Mapping[str, str]) -> None:
    hosts = [row["hosts"] for row in rows]
    for number, (key, title) in enumerate(lines.items()):
        values = [row[key] for row in rows]
        axes.plot(hosts, values, marker="o", color=COLOURS[number], label=title)
        for place in zip(hosts, values, strict=True):
            above = (0, -14 if number else 7)
            axes.annotate(f"{place[1]:.3g}", place, xytext=above, textcoords="offset points", ha="center", size=9)
    axes.set(xscale="log", yscale="log")
    axes.yaxis.set_major_formatter(PLAIN)
    axes.set_xticks(hosts, [str(number) for number in hosts])
    axes.minorticks_off()
    axes.margins(y=0.35)
