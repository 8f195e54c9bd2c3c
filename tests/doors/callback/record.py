# SPDX-FileCopyrightText: The modelfleet maintainers
# SPDX-License-Identifier: GPL-3.0-or-later
"""Write the result of every task to a file, one JSON object a line, for the tests that run a playbook."""

from __future__ import annotations

import dataclasses
import json
import os
from typing import Any

from ansible.plugins.callback import CallbackBase

DOCUMENTATION = """
name: record
short_description: Write the result of every task to a file
description: For tests.
type: notification
"""


def _plain(value: Any) -> Any:
    """Spell out warnings and deprecations, which are no JSON."""
    return dataclasses.asdict(value) if dataclasses.is_dataclass(value) else str(value)


class CallbackModule(CallbackBase):
    """Record results as they arrive."""

    CALLBACK_VERSION = 2.0
    CALLBACK_TYPE = "notification"
    CALLBACK_NAME = "record"

    def _record(self, ended: str, task_result: Any) -> None:
        host, task = task_result._host.get_name(), task_result._task.get_name()
        with open(os.environ["RECORD_FILE"], "a") as file:
            entry = {"host": host, "task": task, "ended": ended, "result": task_result._result}
            json.dump(entry, file, default=_plain)
            file.write("\n")

    def v2_runner_on_ok(self, result: Any) -> None:
        """Record a task that went well."""
        self._record("ok", result)

    def v2_runner_on_failed(self, result: Any, ignore_errors: bool = False) -> None:
        """Record a task that failed, which Ansible does not say in its result."""
        self._record("failed", result)

    def v2_runner_on_unreachable(self, result: Any) -> None:
        """Record a task whose host is unreachable."""
        self._record("unreachable", result)
