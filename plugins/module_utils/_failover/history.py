# SPDX-FileCopyrightText: The modelfleet maintainers
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a journal's entries mean: runs with their outcome and times, the unfinished one, the gate. Pure."""

from __future__ import annotations

import itertools
from collections.abc import Iterable
from datetime import datetime
from typing import Any

from ansible_collections.modelfleet.serving.plugins.module_utils._failover.journal import Entry

Run = dict[str, Any]
# A run that failed is not over: its traffic may be anywhere, until it is resumed, undone or replaced.
OUTCOMES = frozenset({"completed", "reverted", "abandoned", "refused"})


def runs(entries: Iterable[Entry]) -> list[Run]:
    """Put the entries of each run together, oldest run first.

    :return: run, who, why, epoch, action, started, ended, outcome, reason, seconds by phase, lost, plan.
    """
    found: dict[str, list[Entry]] = {}
    for entry in entries:
        if entry.run:
            found.setdefault(entry.run, []).append(entry)
    replaced = {
        entry.data["plan"]["abandons"]: entry
        for events in found.values()
        for entry in events
        if entry.event == "intent" and (entry.data.get("plan") or {}).get("abandons")
    }
    return [_run(name, events, replaced.get(name)) for name, events in found.items()]


def unfinished(entries: Iterable[Entry]) -> Run | None:
    """Give the last run that intended to move traffic and has no outcome."""
    entries = tuple(entries)
    for run in reversed(runs(entries)):
        if run["plan"] and run["outcome"] not in OUTCOMES:
            return run
    return None


def last_shift(entries: Iterable[Entry]) -> Entry | None:
    """Give the last entry after which traffic moved. An intent counts: its run may have died right after the shift."""
    return next((entry for entry in reversed(tuple(entries)) if entry.event in ("intent", "shifted")), None)


def gate(entries: Iterable[Entry]) -> dict[str, Any]:
    """Tell whether an operator closed the gate, who, why and when."""
    for entry in reversed(tuple(entries)):
        if entry.event in ("gate_closed", "gate_opened"):
            closed = entry.event == "gate_closed"
            return {"closed": closed, "who": entry.who, "why": entry.why, "since": entry.time}
    return {"closed": False, "who": "", "why": "", "since": None}


def seconds_between(earlier: str, later: str) -> float:
    """Give the seconds between two ISO 8601 times; never less than 0, since clocks are set back at times."""
    return max((_time(later) - _time(earlier)).total_seconds(), 0.0)


def _time(text: str) -> datetime:
    return datetime.fromisoformat(text.replace("Z", "+00:00"))


def _run(name: str, events: list[Entry], replaced: Entry | None) -> Run:
    """Put a run together; ``replaced`` is the intent of another run that took its place."""
    intent = next((entry for entry in events if entry.event == "intent"), None)
    last = events[-1]
    outcome = last.event if last.event in OUTCOMES or last.event == "failed" else "unfinished"
    ended, reason = last.time, last.data.get("reason")
    if replaced is not None and outcome not in OUTCOMES:
        outcome, ended, reason = "abandoned", replaced.time, f"{replaced.run} replaces it"
    data = intent.data if intent else last.data
    completed = _last(events, "completed")
    return {
        "run": name,
        "who": (intent or last).who,
        "why": (intent or last).why,
        "epoch": last.epoch,
        "action": (data.get("plan") or {}).get("action", ""),
        "started": data.get("started") or events[0].time,
        "ended": ended if outcome != "unfinished" else None,
        "outcome": outcome,
        "reason": reason or (data.get("plan") or {}).get("reason", ""),
        "seconds": _seconds(events, data),
        "lost": completed.data.get("lost") if completed else None,
        "plan": intent.data.get("plan") if intent else None,
        "holder": intent.data.get("holder") if intent else None,
        "process": intent.data.get("process") if intent else None,
    }


def _seconds(events: list[Entry], data: dict[str, Any]) -> dict[str, float]:
    """Measure the phases that are known: detect, decide, scale, shift, verify, and the whole.

    From the first bad answer, where whoever started the run knew it, or else from the start of the run.
    """
    marks: list[tuple[str, str]] = []
    if data.get("detected"):
        marks.append(("", data["detected"]))
    if data.get("started"):
        marks.append(("detect", data["started"]))
    for event, phase in (("intent", "decide"), ("scaled", "scale"), ("shifted", "shift"), ("completed", "verify")):
        entry = _last(events, event)
        if entry is not None:
            marks.append((phase, entry.time))
    found = {
        phase: round(seconds_between(earlier, later), 3)
        for (_before, earlier), (phase, later) in itertools.pairwise(marks)
    }
    if len(marks) > 1:
        found["whole"] = round(seconds_between(marks[0][1], marks[-1][1]), 3)
    return found


def _last(events: list[Entry], event: str) -> Entry | None:
    return next((entry for entry in reversed(events) if entry.event == event), None)
