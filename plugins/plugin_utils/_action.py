# SPDX-FileCopyrightText: The modelfleet maintainers
# SPDX-License-Identifier: GPL-3.0-or-later
"""The door inside the controller: a feature runs in the worker's own process when the connection is local.

No interpreter is started and no import is paid a second time: the strategy loads the action plugin in the parent
process, and the forked workers inherit the imported libraries, but no connection: a session lasts for one task.

What passes through this door is what passes through a module's: arguments and results go through the same JSON, are
validated by the same code and lose the same secrets. ``tests/doors`` holds the doors against each other.
"""

from __future__ import annotations

import json
import os
import shutil
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, ClassVar

from ansible import constants
from ansible.errors import AnsibleError
from ansible.module_utils.common.arg_spec import ModuleArgumentSpecValidator
from ansible.module_utils.common.json import Direction, get_module_decoder, get_module_encoder
from ansible.module_utils.common.parameters import remove_values
from ansible.module_utils.common.warnings import warn
from ansible.module_utils.errors import UnsupportedError
from ansible.plugins.action import ActionBase
from ansible.plugins.loader import filter_loader, lookup_loader, test_loader
from ansible.utils.display import Display

from ansible_collections.modelfleet.serving.plugins.module_utils._call import Call, Feature, error_result
from ansible_collections.modelfleet.serving.plugins.module_utils._cluster.arguments import secrets
from ansible_collections.modelfleet.serving.plugins.module_utils._errors import ServingError

Json = dict[str, Any]


class InProcessAction(ActionBase):
    """Run :attr:`feature` here when that equals running its module on the target, and as a module otherwise."""

    feature: ClassVar[Feature]

    _supports_async = False
    _supports_check_mode = True

    def run(self, tmp: str | None = None, task_vars: Json | None = None) -> Json:
        """Run the task by the door that fits its connection, interpreter and become settings."""
        task_vars = task_vars or {}
        result: Json = super().run(tmp, task_vars)  # refuses async, for either door
        arguments, environment = self._inputs()
        if self._runs_here(task_vars):
            with _environment(environment):
                outcome = self._run_feature(arguments, task_vars)
        else:
            self._task.environment = [environment]
            outcome = self._execute_module(module_args=arguments, task_vars=task_vars)
        return {**result, **outcome}

    def _inputs(self) -> tuple[Json, Json]:
        """Give the task's arguments, with those that its environment stands for, and the rest of its environment.

        Ansible starts a module by a command line with the task's environment in it. Everybody on the target can read
        a token there, and so can who reads the log of ``-vvv``. A module's arguments are in neither.
        """
        rest: Json = {}
        self._compute_environment_string(rest)
        arguments = dict(self._task.args)
        for name, spec in self.feature.arguments.items():
            _strategy, variables = spec.get("fallback", (None, []))
            values = [str(rest.pop(variable)) for variable in variables if variable in rest]
            if values and not {name, *spec.get("aliases", [])} & arguments.keys():
                arguments[name] = values[0]
        return arguments, rest

    def _run_feature(self, arguments: Json, task_vars: Json) -> Json:
        """Do what :class:`AnsibleModule` does around a feature."""
        arguments = _through_json(arguments, Direction.CONTROLLER_TO_MODULE)
        validation = ModuleArgumentSpecValidator(self.feature.arguments, **self.feature.constraints).validate(arguments)
        params = {**arguments, **validation.validated_parameters}
        hidden = validation._no_log_values | secrets(params)
        call = Call(
            params,
            check_mode=self._task.check_mode,
            warn=lambda message: warn(remove_values(message, hidden)),
            progress=lambda message: self._show(task_vars, remove_values(message, hidden)),
        )
        if validation.error_messages:
            message = validation.errors.msg
            if isinstance(validation.errors[0], UnsupportedError):
                message = f"Unsupported parameters for ({self._task.action}) module: {message}"
            outcome: Json = {"failed": True, "msg": message}
        else:
            try:
                outcome = self.feature.run(call).as_dict(self._task.diff)
            except ServingError as error:
                outcome = error_result(error)
            except Exception as error:
                raise AnsibleError("Module failed.") from error  # as Ansible says it of a module
        if _shows_invocation(task_vars):
            outcome["invocation"] = {"module_args": params}
        # A secret that reads "True" hides no truth value.
        plain = {key: value for key, value in outcome.items() if value is None or isinstance(value, bool)}
        return _through_json({**remove_values(outcome, hidden), **plain}, Direction.MODULE_TO_CONTROLLER)

    def _show(self, task_vars: Json, message: str) -> None:
        """Print a line while the task still runs; the parent process prints it at once.

        On standard error, as Ansible's own warnings: standard output may be JSON that another program reads.
        """
        if not self._task.no_log:
            # A server's words may hold line breaks, and codes that a terminal obeys.
            text = " ".join("".join(sign if sign.isprintable() else " " for sign in message).split())
            line = f"  … {task_vars['inventory_hostname']}: {text}"
            Display().display(line, color=constants.COLOR_VERBOSE, stderr=True)

    def _runs_here(self, task_vars: Json) -> bool:
        """Tell whether the module would run on this machine, as this user and by this interpreter.

        An interpreter that is left to Ansible's discovery is this one, which has what the collection needs.
        """
        if self._connection.transport.rpartition(".")[2] != "local" or self._connection.become:
            return False
        if self._task.delegate_to:
            task_vars = task_vars["ansible_delegated_vars"][self._task.delegate_to]
        # Variables reach an action as they were written: "{{ ansible_playbook_python }}", say.
        wanted = constants.config.get_config_value("INTERPRETER_PYTHON", variables=task_vars)
        interpreter = str(self._templar.template(wanted) or "auto").strip()
        return interpreter.startswith("auto") or _same_interpreter(interpreter, sys.executable)


def _load_what_templates_use() -> None:
    """Load Ansible's filters, tests and lookups, and the collection's own, while this is still the parent process.

    A worker ends with its task, and what the parent did not load, each worker loads for itself and forgets: some five
    per cent of the processor time of a failover.
    """
    # Of Ansible's own, one brings all.
    for name in ("default", "modelfleet.serving.one_endpoint", "modelfleet.serving.pick"):
        filter_loader.get(name)
    test_loader.get("defined")
    for name in ("env", "file", "template"):
        lookup_loader.get(name, class_only=True)


_load_what_templates_use()


def _same_interpreter(one: str, other: str) -> bool:
    """Tell whether two paths start the same Python with the same packages.

    Virtual environments are links to one Python; what they have installed depends on the path they are called by.
    """
    places = [Path(shutil.which(path) or path) for path in (one, other)]
    return len({(path.resolve(), _virtual_environment(path)) for path in places}) == 1


def _virtual_environment(interpreter: Path) -> Path | None:
    """Give the virtual environment of an interpreter, where Python itself looks for it (see its ``getpath.py``)."""
    for folder in (interpreter.absolute().parent, interpreter.absolute().parent.parent):
        if (folder / "pyvenv.cfg").is_file():
            return folder.resolve()
    return None


@contextmanager
def _environment(variables: Mapping[str, Any]) -> Iterator[None]:
    """Set environment variables for one task; the worker runs each item of a loop, and they may differ."""
    before = dict(os.environ)
    os.environ.update({name: str(value) for name, value in variables.items()})
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(before)


def _through_json(value: Json, direction: Direction) -> Json:
    """Give what the other side of a module's standard input or output would read, such as a date as text."""
    text = json.dumps(value, cls=get_module_encoder("legacy", direction))
    read: Json = json.loads(text, cls=get_module_decoder("legacy", direction))
    return read


def _shows_invocation(task_vars: Json) -> bool:
    """Tell whether a module would return its arguments: always before ansible-core 2.21, since then on demand."""
    try:
        return bool(constants.config.get_config_value("INJECT_INVOCATION", variables=task_vars))
    except AnsibleError:
        return True
