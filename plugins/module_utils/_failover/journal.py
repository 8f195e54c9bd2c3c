# SPDX-FileCopyrightText: The modelfleet maintainers
# SPDX-License-Identifier: GPL-3.0-or-later
"""The journal: what was intended and what became of it, one line an event, on disk before the next step is done.

A line is JSON with the checksum of the line before it, so a line that was changed, lost or put in between shows. A
small file beside it, the head, holds the last line's number and checksum, so that lines cut off at the end show too.

The only damage that mends itself is a last line without its end: that is a run that died while it wrote, and nothing
was done on the strength of it. It is kept aside. Everything else is refused until somebody says ``recover``.
"""

from __future__ import annotations

import contextlib
import fcntl
import getpass
import hashlib
import json
import os
import socket
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from ansible_collections.modelfleet.serving.plugins.module_utils._errors import ServingError

EVENTS = (
    "intent",
    "scaled",
    "shifted",
    "completed",
    "failed",
    "reverted",
    "abandoned",
    "refused",
    "gate_closed",
    "gate_opened",
    "recovered",
)
_FIRST = "0" * 64


@dataclass(frozen=True)
class Entry:
    """One event.

    :param number: its place, from 1.
    :param time: when it was written, UTC, ISO 8601 with milliseconds.
    :param run: name of the run it belongs to; empty for what belongs to none.
    :param epoch: the epoch of the fleet lock; 0 without one.
    :param data: whatever else is known, such as the plan.
    :param before: checksum of the entry before.
    """

    number: int
    time: str
    endpoint: str
    run: str
    event: str
    epoch: int
    who: str
    why: str
    data: dict[str, Any] = field(default_factory=dict)
    before: str = _FIRST

    def text(self) -> str:
        """Give the entry as its checksum sees it."""
        return json.dumps(asdict(self), sort_keys=True, ensure_ascii=False)

    def checksum(self) -> str:
        """Give the SHA-256 of the entry, which holds that of the entry before."""
        return hashlib.sha256(self.text().encode()).hexdigest()

    def line(self) -> bytes:
        """Give the entry as it lies in the file."""
        return json.dumps({**asdict(self), "checksum": self.checksum()}, ensure_ascii=False).encode() + b"\n"


@dataclass(frozen=True)
class Content:
    """What a journal holds.

    :param entries: those that are whole and in their place.
    :param size: bytes of them.
    :param torn: what follows them without an end of line: a write that was cut off.
    :param damage: what is wrong; empty for a sound journal.
    """

    entries: tuple[Entry, ...] = ()
    size: int = 0
    torn: bytes = b""
    damage: str = ""


class JournalError(ServingError):
    """The journal can't be read or written, so nothing may be done that it would have to record."""


def read(path: Path) -> Content:
    """Read a journal and hold it against its checksums.

    :raises JournalError: when it can't be read, or is damaged.
    """
    content = _read(path)
    if content.damage:
        raise JournalError(
            f"the journal {path} is damaged: {content.damage}",
            hint="Nothing was changed. See what the fleet does with modelfleet.serving.status, then run"
            " modelfleet.serving.history with failover_history_recover=true: it keeps the"
            f" {len(content.entries)} sound entries and puts the damaged file aside.",
        )
    return content


def append(path: Path, entry: Entry, if_last: str | None = None) -> tuple[Entry, bool, Content]:
    """Add an entry, with its number, time and checksum filled in here, and have it on disk.

    The same event of the same run, as the last entry, is not written again.

    :param if_last: checksum of the last entry that the caller has seen, refusals apart.
    :return: the entry, whether it is new, and the journal as it was before; a torn last line of it was put aside.
    :raises JournalError: when the journal is damaged, goes on since ``if_last``, or the disk refuses.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        with _locked(path):
            content = read(path)
            if if_last is not None and last_decision(content.entries) != if_last:
                newest = content.entries[-1] if content.entries else entry
                raise JournalError(
                    f"the journal {path} went on since it was read: {newest.event} of {newest.run or 'no run'} by"
                    f" {newest.who} at {newest.time}.",
                    hint="Nothing was changed. Run it again; it will decide on what is there now.",
                )
            entry, new = following(content.entries, entry)
            if new:
                if content.torn:
                    _aside(path, content.torn, "torn")
                _write(path, content.size, entry)
            return entry, new, content
    except OSError as error:
        raise _refused(path, error) from error


def recover(path: Path, who: str, why: str, endpoint: str) -> tuple[Entry, Path] | None:
    """Keep the sound entries of a damaged journal, and put the damaged file aside.

    :return: the entry that says so and where the damaged file is; ``None`` for a sound journal.
    """
    try:
        with _locked(path):
            content = _read(path)
            if not content.damage:
                return None
            damaged = _aside(path, path.read_bytes() if path.exists() else b"", "damaged")
            data = {"damage": content.damage, "kept": len(content.entries), "aside": str(damaged)}
            entry, _new = following(content.entries, Entry(0, "", endpoint, "", "recovered", 0, who, why, data))
            sound = b"".join(kept.line() for kept in content.entries)
            _replace(path, sound + entry.line())
            _replace(_head(path), _head_line(entry))
            return entry, damaged
    except OSError as error:
        raise _refused(path, error) from error


def following(entries: tuple[Entry, ...], entry: Entry) -> tuple[Entry, bool]:
    """Give the entry with its place, time and chain; the last one itself when it says the same already."""
    last = entries[-1] if entries else None
    if last is not None and last.endpoint != entry.endpoint:
        raise JournalError(
            f"the journal belongs to the endpoint {last.endpoint}, not to {entry.endpoint}.",
            hint="Give each endpoint a journal of its own (failover_journal).",
        )
    said = ("run", "event", "epoch", "who", "why", "data")
    if last is not None and all(getattr(last, name) == getattr(entry, name) for name in said):
        return last, False
    now = datetime.now(UTC).isoformat(timespec="milliseconds")
    return (
        replace(
            entry,
            number=last.number + 1 if last else 1,
            time=now,
            before=last.checksum() if last else _FIRST,
        ),
        True,
    )


def last_decision(entries: tuple[Entry, ...]) -> str:
    """Give the checksum of the last entry that is no refusal; empty without one. Refusals change nothing."""
    return next((entry.checksum() for entry in reversed(entries) if entry.event != "refused"), "")


def me() -> str:
    """Name who runs this."""
    try:
        user = getpass.getuser()
    except (KeyError, OSError):  # a container's user often has no name
        user = str(os.getuid())
    return f"{user}@{socket.gethostname()}"


def process() -> dict[str, Any] | None:
    """Tell which ``ansible-playbook`` this is part of, so that a later run can see whether it still lives.

    :return: host, pid and start time in clock ticks; ``None`` where it can't be told, as behind SSH.
    """
    pid, found = os.getpid(), None
    while pid > 1:
        status = _status(pid)
        if status is None:
            break
        if status["name"].startswith("ansible-playboo"):  # the kernel keeps 15 characters
            found = {"host": socket.gethostname(), "pid": pid, "started": status["started"]}
        pid = status["parent"]
    return found


def alive(recorded: Mapping[str, Any] | None) -> bool | None:
    """Tell whether that process still lives; ``None`` when it can't be told."""
    if not recorded or recorded["host"] != socket.gethostname() or not Path("/proc/self").exists():
        return None
    status = _status(recorded["pid"])
    return status is not None and status["state"] != "Z" and status["started"] == recorded["started"]


def _status(pid: int) -> dict[str, Any] | None:
    try:
        text = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return None
    name, rest = text[text.index("(") + 1 : text.rindex(")")], text[text.rindex(")") + 2 :].split()
    return {"name": name, "state": rest[0], "parent": int(rest[1]), "started": int(rest[19])}


def _read(path: Path) -> Content:
    # The head first: it is written after its line, so whoever writes meanwhile only brings lines that it does not know.
    head = _read_head(path)
    try:
        raw = path.read_bytes()
    except FileNotFoundError:
        raw = b""
    except OSError as error:
        raise JournalError(f"the journal {path} can't be read: {error.strerror}.") from error
    *lines, torn = raw.split(b"\n")
    entries: list[Entry] = []
    size, damage = 0, ""
    before = _FIRST
    for number, line in enumerate(lines, 1):
        try:
            fields = json.loads(line)
            checksum = fields.pop("checksum")
            entry = Entry(**fields)
        except (ValueError, TypeError, KeyError, AttributeError):
            damage = f"line {number} is no entry."
            break
        if entry.checksum() != checksum:
            damage = f"line {number} does not match its checksum."
            break
        if entry.number != number or entry.before != before:
            damage = f"line {number} does not follow the line before it; lines are missing or were put in between."
            break
        before = checksum
        entries.append(entry)
        size += len(line) + 1
    if not damage:
        damage = _cut_off(head, entries)
    return Content(tuple(entries), size, b"" if damage else torn, damage)


def _read_head(path: Path) -> str:
    try:
        return _head(path).read_text()
    except FileNotFoundError:
        return f"0 {_FIRST}"
    except (OSError, ValueError):
        return ""


def _cut_off(head: str, entries: list[Entry]) -> str:
    """Compare with the head: it may be behind, and never ahead."""
    try:
        number, checksum = head.split()
        known = int(number)
    except ValueError:
        return "its head can't be read."
    if known > len(entries):
        return f"it ends at entry {len(entries)}, and {known} were written; the last ones are missing."
    if known and entries[known - 1].checksum() != checksum:
        return f"its entry {known} is not the one that was written."
    return ""


def _head(path: Path) -> Path:
    return path.with_name(path.name + ".head")


def _head_line(entry: Entry) -> bytes:
    return f"{entry.number} {entry.checksum()}\n".encode()


def _write(path: Path, size: int, entry: Entry) -> None:
    """Append to the sound part; a write that fails half-way leaves what was there before."""
    new = not path.exists()
    handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        os.ftruncate(handle, size)
        try:
            line = entry.line()
            while line:
                line = line[os.pwrite(handle, line, os.fstat(handle).st_size) :]
            os.fsync(handle)
        except OSError:
            with contextlib.suppress(OSError):
                os.ftruncate(handle, size)
                os.fsync(handle)
            raise
    finally:
        os.close(handle)
    if new:
        _sync_folder(path.parent)
    _replace(_head(path), _head_line(entry))


def _replace(path: Path, text: bytes) -> None:
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=path.name + ".")
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        Path(name).replace(path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise
    _sync_folder(path.parent)


def _sync_folder(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _aside(path: Path, content: bytes, what: str) -> Path:
    moment = datetime.now(UTC).strftime("%Y%m%dT%H%M%S%f")
    target = path.with_name(f"{path.name}.{what}-{moment}")
    _replace(target, content)
    return target


@contextlib.contextmanager
def _locked(path: Path) -> Iterator[None]:
    """One writer at a time. The lock file stays: removing it would let two in."""
    handle = os.open(path.with_name(path.name + ".lock"), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)


def _refused(path: Path, error: OSError) -> JournalError:
    return JournalError(
        f"the journal {path} can't be written: {error.strerror}.",
        hint="What would have been recorded was not done. Make room there, or name another place (failover_journal).",
    )
