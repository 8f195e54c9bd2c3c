# SPDX-FileCopyrightText: The modelfleet maintainers
# SPDX-License-Identifier: GPL-3.0-or-later
"""One event in the journal of an endpoint's failovers."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

from ansible_collections.modelfleet.serving.plugins.module_utils._call import Call, Feature, Result
from ansible_collections.modelfleet.serving.plugins.module_utils._failover.journal import (
    EVENTS,
    Entry,
    append,
    following,
    last_decision,
    me,
    process,
    read,
    recover,
)


def run(call: Call) -> Result:
    """Write one event, or put a damaged journal aside."""
    params = call.params
    path = Path(params["path"]).expanduser()
    who = params["who"] or me()
    if params["recover"] and not call.check_mode:
        recovered = recover(path, who, params["why"], params["endpoint"])
        if recovered is not None:
            call.warn(
                f"The damaged journal lies in {recovered[1]}; {recovered[0].data['kept']} entries of it were sound."
            )
        if params["event"] is None:
            entry = recovered[0] if recovered else None
            return Result(changed=recovered is not None, values={"entry": asdict(entry) if entry else None})
    if params["event"] is None:
        return Result(values={"entry": None})
    data = dict(params["data"])
    if params["event"] == "intent":
        data["process"] = process()
    entry = Entry(0, "", params["endpoint"], params["run"], params["event"], params["epoch"], who, params["why"], data)
    if call.check_mode:
        before = read(path)
        entry, new = following(before.entries, entry)
        after = before.entries
    else:
        entry, new, before = append(path, entry, params["if_last"])
        after = (*before.entries, entry) if new else before.entries
        if new and before.torn:
            call.warn(f"The last line of {path} was cut off: a run died while it wrote it. It was put aside.")
    return Result(changed=new, values={"entry": asdict(entry), "last": last_decision(after)})


FEATURE = Feature(
    arguments={
        "path": {"type": "path", "required": True},
        "endpoint": {"type": "str", "required": True},
        "event": {"type": "str", "choices": [event for event in EVENTS if event != "recovered"]},
        "run": {"type": "str", "default": ""},
        "epoch": {"type": "int", "default": 0},
        "who": {"type": "str"},
        "why": {"type": "str", "default": ""},
        "data": {"type": "dict", "default": {}},
        "if_last": {"type": "str"},
        "recover": {"type": "bool", "default": False},
    },
    run=run,
    constraints={"required_one_of": [["event", "recover"]]},
)
