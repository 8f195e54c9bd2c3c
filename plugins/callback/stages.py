# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Print a long set-up as a short list of stages, for people."""

from __future__ import annotations

DOCUMENTATION = r"""
name: stages
type: stdout
short_description: A long set-up as a short list of stages
version_added: 0.1.0
author:
  - The modelfleet maintainers (@modelfleet)
description:
  - Prints one line when a stage begins and one when it ends, with its elapsed time and whether it changed anything.
  - A stage is a play, or a task file that it includes; what that one includes is part of it.
  - While a stage takes long, a line every few seconds says how long it has been going on and quotes the end of the
    log that it writes, if O(logs) is set.
  - A failure is printed in full, with the task, the file and the command's own error output.
options:
  logs:
    description: The directory in which long commands write their logs.
    type: path
    env:
      - name: MODELFLEET_LOGS
    ini:
      - section: callback_stages
        key: logs
  heartbeat:
    description: Seconds between two signs of life of a stage.
    type: float
    default: 15
    env:
      - name: MODELFLEET_HEARTBEAT
    ini:
      - section: callback_stages
        key: heartbeat
requirements:
  - set as stdout in configuration
"""

EXAMPLES = r"""
# In the environment:
# ANSIBLE_STDOUT_CALLBACK=modelfleet.serving.stages ansible-playbook playbooks/local_fleet.yml
"""

import re
import threading
import time
from pathlib import Path
from typing import Any

from ansible import constants
from ansible.plugins.callback import CallbackBase

_INCLUDES = ("include_tasks", "ansible.builtin.include_tasks", "ansible.legacy.include_tasks")
_CONTROL = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]|[\x00-\x1f\x7f]")


def elapsed(seconds: float) -> str:
    """Seconds as people say them: 0.4 s, 12 s, 3 min 05 s."""
    if seconds < 10:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    return f"{whole // 60} min {whole % 60:02d} s"


def last_line(path: Path, width: int = 90) -> str:
    """The last line of a log that says something, without control characters; empty where there is none."""
    try:
        with path.open("rb") as log:
            log.seek(0, 2)
            log.seek(max(0, log.tell() - 4096))
            text = log.read().decode("utf-8", "replace")
    except OSError:
        return ""
    for line in reversed(text.replace("\r", "\n").splitlines()):
        clean = _CONTROL.sub("", line).strip()
        if clean:
            return clean if len(clean) <= width else "…" + clean[-width + 1 :]
    return ""


def newest_log(directory: Path, since: float) -> Path | None:
    """The log that was written to last, if anything was since then (seconds of the epoch)."""
    newest: tuple[float, Path] | None = None
    try:
        for path in directory.glob("*.log"):
            written = path.stat().st_mtime
            # The engine's own log goes on beside every stage.
            if path.name != "dockerd.log" and written >= since and (newest is None or written > newest[0]):
                newest = (written, path)
    except OSError:
        return None
    return newest[1] if newest else None


def _within_include(task: Any) -> bool:
    """Tell whether a task stands in a file that was itself included."""
    parent = task._parent
    while parent is not None:
        if getattr(parent, "action", None) in _INCLUDES and not parent.statically_loaded:
            return True
        parent = parent._parent
    return False


class CallbackModule(CallbackBase):
    """The callback; see DOCUMENTATION."""

    CALLBACK_VERSION = 2.0
    CALLBACK_TYPE = "stdout"
    CALLBACK_NAME = "modelfleet.serving.stages"

    def __init__(self) -> None:
        super().__init__()
        self._begun = time.monotonic()
        self._lock = threading.Lock()
        self._stage = ""
        self._stage_begun = 0.0
        self._stage_clock = 0.0
        self._changed = 0
        self._stages = 0
        self._quiet = threading.Event()
        self._beat: threading.Thread | None = None

    # Stages

    def _end_stage(self, word: str = "") -> None:
        with self._lock:
            stage, self._stage = self._stage, ""
        if not stage:
            return
        took = elapsed(time.monotonic() - self._stage_begun)
        if word:
            self._display.display(f"  {word} after {took}", color=constants.COLOR_ERROR)
        elif self._changed:
            self._display.display(f"  done in {took}", color=constants.COLOR_CHANGED)
        else:
            self._display.display(f"  nothing to do ({took})", color=constants.COLOR_OK)

    def _begin_stage(self, name: str) -> None:
        self._end_stage()
        self._stages += 1
        self._changed = 0
        self._stage_begun = time.monotonic()
        self._stage_clock = time.time()
        with self._lock:
            self._stage = name
        total = elapsed(time.monotonic() - self._begun)
        self._display.display(f"[{total}] {name}", color=constants.COLOR_HIGHLIGHT)
        if self._beat is None:
            # A thread, because a long command gives the callback no event until it ends.
            self._beat = threading.Thread(target=self._heartbeat, daemon=True)
            self._beat.start()

    def _heartbeat(self) -> None:
        every = float(self.get_option("heartbeat"))
        logs = self.get_option("logs")
        while not self._quiet.wait(1.0):
            with self._lock:
                stage, begun, clock = self._stage, self._stage_begun, self._stage_clock
            seconds = time.monotonic() - begun
            if not stage or seconds < every or seconds % every >= 1.0:
                continue
            log = newest_log(Path(logs), clock) if logs else None
            said = f"  {log.stem}: {last_line(log)}" if log else ""
            self._display.display(f"  … {elapsed(seconds)}{said}", color=constants.COLOR_VERBOSE)

    # Events

    def v2_playbook_on_play_start(self, play: Any) -> None:
        self._begin_stage(play.get_name().strip() or "play")

    def v2_playbook_on_include(self, included_file: Any) -> None:
        task = included_file._task
        if task.action in _INCLUDES and not _within_include(task):
            self._begin_stage(task.name or Path(str(included_file._filename)).stem)

    def v2_runner_on_ok(self, result: Any) -> None:
        if result._result.get("changed", False):
            self._changed += 1
        self._handle_warnings(result._result)

    def v2_runner_on_failed(self, result: Any, ignore_errors: bool = False) -> None:
        if ignore_errors:
            return
        task = result._task
        outcome = result._result
        self._end_stage("failed")
        show = self._display.display
        show(f"  host: {result._host.get_name()}", color=constants.COLOR_ERROR)
        show(f"  task: {task.get_name().strip()}  ({task.get_path()})", color=constants.COLOR_ERROR)
        failures = [item for item in outcome.get("results", []) if item.get("failed")] or [outcome]
        for failure in failures:
            label = failure.get("_ansible_item_label", failure.get("item"))
            if isinstance(label, str):
                show(f"  item: {label}", color=constants.COLOR_ERROR)
            if failure.get("_ansible_no_log"):
                show("  the error is hidden: the task is marked no_log", color=constants.COLOR_ERROR)
                continue
            for key in ("msg", "stdout", "stderr", "module_stdout", "module_stderr", "exception"):
                text = str(failure.get(key) or "").strip()
                if text and text != "(traceback unavailable)":
                    show("\n".join(f"  {line}" for line in text.splitlines()), color=constants.COLOR_ERROR)

    def v2_runner_on_unreachable(self, result: Any) -> None:
        self.v2_runner_on_failed(result)

    def v2_runner_retry(self, result: Any) -> None:
        """A retry is how a task waits; the heartbeat already says that it does."""

    def v2_playbook_on_stats(self, stats: Any) -> None:
        self._end_stage()
        self._quiet.set()
        total = elapsed(time.monotonic() - self._begun)
        failed = sum(stats.failures.values()) + sum(stats.dark.values())
        changed = sum(stats.changed.values())
        if failed:
            self._display.display(f"failed after {total}", color=constants.COLOR_ERROR)
        else:
            self._display.display(f"finished in {total}, changed={changed}", color=constants.COLOR_OK)
