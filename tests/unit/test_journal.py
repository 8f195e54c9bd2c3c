# SPDX-FileCopyrightText: The modelfleet maintainers
# SPDX-License-Identifier: GPL-3.0-or-later
"""The journal survives a run that dies at any byte, and shows every other damage."""

from __future__ import annotations

import json
import resource
import signal
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ansible_collections.modelfleet.serving.plugins.module_utils._call import Call
from ansible_collections.modelfleet.serving.plugins.module_utils._failover import journal
from ansible_collections.modelfleet.serving.plugins.module_utils._failover.journal import Entry, JournalError
from ansible_collections.modelfleet.serving.plugins.module_utils._features import fleet_journal, fleet_journal_info

PLAN = {"action": "failover", "moves": [{"cluster": "a", "before": "active", "after": "drained"}], "reason": "a goes"}


def write(path: Path, event: str, run: str = "r1", **more: Any) -> Any:
    defaults = {name: spec.get("default") for name, spec in fleet_journal.FEATURE.arguments.items()}
    check = more.pop("check_mode", False)
    given = {"path": str(path), "endpoint": "models", "event": event, "run": run, "who": "ann@host", **more}
    return fleet_journal.FEATURE.run(Call({**defaults, **given}, check_mode=check))


def info(path: Path) -> dict[str, Any]:
    return fleet_journal_info.FEATURE.run(Call({"path": str(path)})).values


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "state" / "models.journal"


def test_a_run_is_put_together_with_its_outcome_and_times(path: Path) -> None:
    assert info(path)["runs"] == []
    times = {"detected": "2026-01-01T00:00:00.000+00:00", "started": "2026-01-01T00:00:02.500+00:00"}
    write(path, "intent", data={"plan": PLAN, **times, "holder": "ann r1"}, why="it answers nothing", epoch=4)
    found = info(path)
    assert found["unfinished"]["run"] == "r1"
    assert found["unfinished"]["plan"] == PLAN
    assert found["last_shift"]["seconds_ago"] < 60
    for event in ("scaled", "shifted"):
        write(path, event)
    write(path, "completed", epoch=4, data={"lost": 0})
    found = info(path)
    assert found["unfinished"] is None
    (run,) = found["runs"]
    assert (run["who"], run["why"], run["outcome"], run["epoch"], run["lost"]) == (
        "ann@host",
        "it answers nothing",
        "completed",
        4,
        0,
    )
    assert run["seconds"]["detect"] == 2.5
    assert set(run["seconds"]) == {"detect", "decide", "scale", "shift", "verify", "whole"}


def test_an_interrupted_run_is_over_when_another_replaces_it(path: Path) -> None:
    write(path, "intent", data={"plan": PLAN})
    replacing = write(path, "intent", run="r2", data={"plan": {**PLAN, "abandons": "r1"}}).values["entry"]
    found = info(path)
    assert found["unfinished"]["run"] == "r2"
    first, second = found["runs"]
    assert (first["outcome"], first["reason"], first["ended"]) == ("abandoned", "r2 replaces it", replacing["time"])
    assert second["outcome"] == "unfinished"
    write(path, "completed", run="r2")
    assert info(path)["unfinished"] is None, "the one that was replaced stays over"


def test_the_same_event_is_written_once(path: Path) -> None:
    assert write(path, "gate_closed", run="", why="works on the network").changed
    assert not write(path, "gate_closed", run="", why="works on the network").changed
    assert info(path)["gate"]["closed"]
    assert write(path, "gate_opened", run="").changed
    assert [entry["number"] for entry in info(path)["entries"]] == [1, 2]


def test_check_mode_writes_nothing(path: Path) -> None:
    assert write(path, "intent", data={"plan": PLAN}, check_mode=True).changed
    assert not path.parent.exists()


def test_a_decision_on_an_older_state_is_refused(path: Path) -> None:
    last = info(path)["last"]
    write(path, "intent", run="other", data={"plan": PLAN}, if_last=last)
    with pytest.raises(JournalError, match="intent of other by ann@host"):
        write(path, "intent", data={"plan": PLAN}, if_last=last)
    last = info(path)["last"]
    write(path, "refused", run="third")
    write(path, "abandoned", run="other", if_last=last)


def test_a_journal_belongs_to_one_endpoint(path: Path) -> None:
    write(path, "gate_closed", run="")
    with pytest.raises(JournalError, match="belongs to the endpoint models"):
        write(path, "gate_closed", run="", endpoint="others")


@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_a_write_cut_off_at_any_byte_is_put_aside(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    path = tmp_path_factory.mktemp("cut") / "models.journal"
    write(path, "intent", data={"plan": PLAN})
    sound, head = path.read_bytes(), Path(f"{path}.head").read_bytes()
    write(path, "shifted")
    whole = path.read_bytes()
    # The head is written after the line, so a run that dies leaves the old one.
    path.write_bytes(whole[: data.draw(st.integers(len(sound), len(whole)))])
    Path(f"{path}.head").write_bytes(head)
    again = write(path, "shifted")
    assert again.changed or path.read_bytes() == whole
    assert [entry["event"] for entry in info(path)["entries"]] == ["intent", "shifted"]


@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_every_other_damage_is_refused_and_recovered(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    path = tmp_path_factory.mktemp("damage") / "models.journal"
    events = ("intent", "scaled", "shifted", "completed")
    for event in events:
        write(path, event, data={"plan": PLAN} if event == "intent" else {})
    lines = path.read_bytes().splitlines(keepends=True)
    kind = data.draw(st.sampled_from(["bit", "line out", "cut", "swap", "gone", "cut and torn"]))
    if kind == "bit":
        raw = bytearray(b"".join(lines))
        place = data.draw(st.integers(0, len(raw) - 1))
        raw[place] ^= 1 << data.draw(st.integers(0, 7))
        path.write_bytes(raw)
    elif kind == "line out":
        del lines[data.draw(st.integers(0, len(lines) - 1))]
        path.write_bytes(b"".join(lines))
    elif kind == "cut":
        path.write_bytes(b"".join(lines[: data.draw(st.integers(0, len(lines) - 1))]))
    elif kind == "cut and torn":
        path.write_bytes(b"".join(lines[:-1]) + lines[-1][:-5])
    elif kind == "swap":
        lines[1], lines[2] = lines[2], lines[1]
        path.write_bytes(b"".join(lines))
    else:
        path.unlink()
    before = path.read_bytes() if path.exists() else None
    with pytest.raises(JournalError, match="damaged") as refused:
        write(path, "gate_closed", run="")
    assert "failover_history_recover=true" in str(refused.value)
    assert (path.read_bytes() if path.exists() else None) == before
    recovered = fleet_journal.FEATURE.run(
        Call({**_defaults(), "path": str(path), "endpoint": "models", "recover": True, "who": "ann@host"})
    )
    kept = recovered.values["entry"]["data"]["kept"]
    assert [entry["event"] for entry in info(path)["entries"]] == [*events[:kept], "recovered"]
    assert Path(recovered.values["entry"]["data"]["aside"]).read_bytes() == (before or b"")
    assert write(path, "gate_closed", run="").changed


def _defaults() -> dict[str, Any]:
    return {name: spec.get("default") for name, spec in fleet_journal.FEATURE.arguments.items()}


def test_a_full_disk_leaves_the_journal_as_it_was(path: Path) -> None:
    write(path, "intent", data={"plan": PLAN})
    before = path.read_bytes()
    # The limit on a file's size makes the kernel refuse in the middle of a line, as a full disk does.
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (len(before) + 20, limits[1]))
    try:
        with pytest.raises(JournalError, match=r"can't be written: File too large.*failover_journal"):
            write(path, "shifted")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        signal.signal(signal.SIGXFSZ, handler)
    assert path.read_bytes() == before
    assert write(path, "shifted").changed


def test_many_writers_make_one_chain(path: Path) -> None:
    threads = [threading.Thread(target=write, args=(path, "refused", f"r{number}")) for number in range(12)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [entry["number"] for entry in info(path)["entries"]] == list(range(1, 13))


def test_nobody_else_reads_it(path: Path) -> None:
    write(path, "gate_closed", run="")
    assert path.stat().st_mode & 0o077 == 0
    assert path.parent.stat().st_mode & 0o077 == 0


def test_a_dead_process_is_told_from_a_living_one() -> None:
    script = (
        "import sys; sys.path.insert(0, sys.argv[1]); import json, ctypes;"
        "ctypes.CDLL(None).prctl(15, b'ansible-playbook', 0, 0, 0);"
        "from ansible_collections.modelfleet.serving.plugins.module_utils._failover.journal import process;"
        "print(json.dumps(process()), flush=True); sys.stdin.read()"
    )
    collections = str(Path(fleet_journal.__file__).parents[5])
    command = [sys.executable, "-c", script, collections.removesuffix("/ansible_collections")]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as child:
        assert child.stdout is not None
        recorded = json.loads(child.stdout.readline())
        assert recorded["pid"] == child.pid
        assert journal.alive(recorded) is True
        assert journal.alive({**recorded, "host": "elsewhere"}) is None
        assert journal.alive({**recorded, "started": recorded["started"] - 1}) is False
        child.kill()
        child.wait()
        assert journal.alive(recorded) is False
    assert journal.alive(None) is None


def test_a_clock_that_was_set_back_never_gives_negative_seconds(path: Path) -> None:
    entry = Entry(1, "2126-01-01T00:00:00.000+00:00", "models", "r1", "shifted", 1, "ann", "")
    path.parent.mkdir()
    path.write_bytes(entry.line())
    assert info(path)["last_shift"]["seconds_ago"] == 0
