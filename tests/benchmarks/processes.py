# SPDX-FileCopyrightText: The modelfleet maintainers
# SPDX-License-Identifier: GPL-3.0-or-later
"""How long commands take, and how much memory."""

from __future__ import annotations

import contextlib
import subprocess
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO


class BenchmarkError(Exception):
    """What is measured didn't do what it should."""


@dataclass(frozen=True)
class Command:
    """A command with its whole environment."""

    arguments: list[str]
    environment: dict[str, str]

    def start(self, log: BinaryIO) -> subprocess.Popen[bytes]:
        """Start it with its output going to the log."""
        return subprocess.Popen(
            self.arguments, env=self.environment, stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT
        )


def timed(commands: Sequence[Command], log: Path) -> float:
    """Run the commands at once; give the seconds until the last one has ended."""
    with log.open("wb") as output:
        started = time.perf_counter()
        processes = [command.start(output) for command in commands]
        codes = [process.wait() for process in processes]
        taken = time.perf_counter() - started
    _check(commands, codes, log)
    return taken


def peak_memory(command: Command, log: Path, interval: float = 0.1) -> float:
    """Run the command; give the peak of the memory of all its processes together, in MB (10^6 bytes).

    It is looked at every ``interval`` seconds. Pages that processes share count once (PSS).
    """
    peak = 0
    with log.open("wb") as output:
        process = command.start(output)
        while process.poll() is None:
            peak = max(peak, sum(_pss(pid) for pid in _tree(process.pid)))
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(interval)
    _check([command], [process.returncode], log)
    return peak * 1024 / 1e6


def _check(commands: Sequence[Command], codes: Sequence[int], log: Path) -> None:
    for command, code in zip(commands, codes, strict=True):
        if code:
            tail = log.read_text(errors="replace")[-4000:]
            raise BenchmarkError(f"{' '.join(command.arguments)} ended with {code}:\n{tail}")


def _tree(pid: int) -> Iterator[int]:
    yield pid
    for task in Path(f"/proc/{pid}/task").glob("*/children"):
        with contextlib.suppress(OSError):  # it has ended
            for child in task.read_text().split():
                yield from _tree(int(child))


def _pss(pid: int) -> int:
    """Give the proportional set size in KiB, or 0 for a process that has ended."""
    with contextlib.suppress(OSError), open(f"/proc/{pid}/smaps_rollup") as lines:
        for line in lines:
            if line.startswith("Pss:"):
                return int(line.split()[1])
    return 0
