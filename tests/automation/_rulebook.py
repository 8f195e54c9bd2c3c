# SPDX-FileCopyrightText: The modelfleet maintainers
# SPDX-License-Identifier: GPL-3.0-or-later
"""The real ansible-rulebook, as a process."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from _edges import COLLECTION

CHECKOUT = COLLECTION.resolve()

needs_java = pytest.mark.skipif(shutil.which("java") is None, reason="no Java: ansible-rulebook's rule engine needs it")


def environment(folder: Path) -> dict[str, str]:
    """Give what a user's shell has, with a journal of the test's own."""
    return {
        **os.environ,
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
        "ANSIBLE_CONFIG": str(CHECKOUT / "ansible.cfg"),
        "ANSIBLE_NOCOLOR": "1",
        "XDG_STATE_HOME": str(folder / "state"),
    }


@contextlib.contextmanager
def running(command: str, folder: Path) -> Iterator[Path]:
    """Run ansible-rulebook in a folder until it waits for events; gives its log."""
    log = folder / "ansible-rulebook.log"
    with (
        log.open("w") as output,
        subprocess.Popen(
            f"exec env {command} -v",
            shell=True,
            cwd=folder,
            env=environment(folder),
            stdout=output,
            stderr=subprocess.STDOUT,
        ) as process,
    ):
        try:
            until(lambda: process.poll() is not None or "Waiting for events" in log.read_text(), 60, log)
            yield log
            assert process.poll() is None, log.read_text()[-5000:]
        finally:
            process.send_signal(signal.SIGINT)
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                process.kill()


def until(what: Callable[[], Any], seconds: float, log: Path) -> Any:
    """Wait for something, or fail with the end of the log."""
    deadline = time.monotonic() + seconds
    while not (found := what()):
        assert time.monotonic() < deadline, log.read_text()[-5000:]
        time.sleep(0.2)
    return found
