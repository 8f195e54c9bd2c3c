# SPDX-FileCopyrightText: The modelfleet maintainers
# SPDX-License-Identifier: GPL-3.0-or-later
"""The door inside the controller: a feature runs in the worker's own process when the connection is local.

No interpreter is started and no import is paid a second time: the strategy loads the action plugin in the parent
process, and the forked workers inherit the imported libraries, but no connection: a session lasts for one task.
"""

from __future__ import annotations

import os
import sys
from typing import Any, ClassVar

from ansible import constants
from ansible.errors import AnsibleError
from ansible.module_utils.common.parameters import remove_values
from ansible.plugins.action import ActionBase

from ansible_collections.modelfleet.serving.plugins.module_utils._call import Call, Feature, error_result
from ansible_collections.modelfleet.serving.plugins.module_utils._cluster.arguments import secrets
from ansible_collections.modelfleet.serving.plugins.module_utils._errors import ServingError


class InProcessAction(ActionBase):
    """Run :attr:`feature` here when that equals running its module on the target, and as a module otherwise."""

    feature: ClassVar[Feature]

    _supports_async = False
    _supports_check_mode = True

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        """Run the task by the door that fits its connection, interpreter and become settings."""
        task_vars = task_vars or {}
        result: dict[str, Any] = super().run(tmp, task_vars)
        if not self._runs_here(task_vars):
            module_result: dict[str, Any] = self._execute_module(task_vars=task_vars)
            return {**result, **module_result}

        # The worker was forked for this task alone, so its environment is the task's.
        environment: dict[str, Any] = {}
        self._compute_environment_string(environment)
        os.environ.update({name: str(value) for name, value in environment.items()})
        validation, params = self.validate_argument_spec(self.feature.arguments, **self.feature.constraints)
        warnings: list[str] = []
        call = Call(params, check_mode=self._task.check_mode, warn=warnings.append)
        try:
            outcome = self.feature.run(call).as_dict(self._task.diff)
        except ServingError as error:
            outcome = error_result(error)
        if _shows_invocation(task_vars):
            outcome["invocation"] = {"module_args": params}
        result.update(remove_values(outcome, validation._no_log_values | secrets(params)))
        if warnings:
            result["warnings"] = [*result.get("warnings", []), *warnings]
        return result

    def _runs_here(self, task_vars: dict[str, Any]) -> bool:
        """Tell whether the module would run on this machine, as this user and by this interpreter."""
        # Variables reach an action as they were written: "{{ ansible_playbook_python }}", say.
        interpreter = str(self._templar.template(task_vars.get("ansible_python_interpreter")) or sys.executable)
        return (
            self._connection.transport.rpartition(".")[2] == "local"
            and not self._connection.become
            and (interpreter.startswith("auto") or os.path.realpath(interpreter) == os.path.realpath(sys.executable))
        )


def _shows_invocation(task_vars: dict[str, Any]) -> bool:
    """Tell whether a module would return its arguments: always before ansible-core 2.21, since then on demand."""
    try:
        return bool(constants.config.get_config_value("INJECT_INVOCATION", variables=task_vars))
    except AnsibleError:
        return True
