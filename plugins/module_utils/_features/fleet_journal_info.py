# SPDX-FileCopyrightText: The modelfleet maintainers
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the journal of an endpoint's failovers says."""

from __future__ import annotations

from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from ansible_collections.modelfleet.serving.plugins.module_utils._call import Call, Feature, Result
from ansible_collections.modelfleet.serving.plugins.module_utils._failover import history
from ansible_collections.modelfleet.serving.plugins.module_utils._failover.journal import (
    alive,
    last_decision,
    me,
    read,
)


def run(call: Call) -> Result:
    """Read the journal, and put its entries together."""
    content = read(Path(call.params["path"]).expanduser())
    if content.torn:
        call.warn("The journal's last line was cut off: a run died while it wrote it, and did nothing after that.")
    entries = content.entries
    shift = history.last_shift(entries)
    now = datetime.now(UTC).isoformat(timespec="milliseconds")
    unfinished: dict[str, Any] | None = history.unfinished(entries)
    if unfinished is not None:
        unfinished = {**unfinished, "alive": alive(unfinished["process"])}
    return Result(
        values={
            "entries": [{**asdict(entry), "checksum": entry.checksum()} for entry in entries],
            "runs": history.runs(entries),
            "unfinished": unfinished,
            "last_shift": {"seconds_ago": history.seconds_between(shift.time, now), "run": shift.run}
            if shift
            else None,
            "gate": history.gate(entries),
            "last": last_decision(entries),
            "now": now,
            "me": me(),
        }
    )


FEATURE = Feature(arguments={"path": {"type": "path", "required": True}}, run=run)
