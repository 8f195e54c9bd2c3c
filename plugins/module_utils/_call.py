# SPDX-FileCopyrightText: The modelfleet maintainers
# SPDX-License-Identifier: GPL-3.0-or-later
"""One feature, two doors: what a feature is given, what it returns, and the door of the module.

The other door, inside the controller's process, is ``plugins/plugin_utils/_action.py``.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible.module_utils.common.parameters import remove_values

from ansible_collections.modelfleet.serving.plugins.module_utils._cluster.arguments import secrets
from ansible_collections.modelfleet.serving.plugins.module_utils._errors import ServingError, UnreachableError


def _ignore(message: str) -> None:
    """Drop a message: for callers that have nobody to show it to."""


@dataclass(frozen=True)
class Call:
    """One task as a feature sees it: validated parameters and the modes it runs in.

    :param warn: adds a warning to the task's result.
    :param progress: says in a few words what a long task is at, for people. The door inside the controller prints it
        at once; a module can speak only when it ends, so there it is dropped.
    """

    params: Mapping[str, Any]
    check_mode: bool = False
    warn: Callable[[str], None] = _ignore
    progress: Callable[[str], None] = _ignore


@dataclass
class Result:
    """What a feature did.

    :param diff: one entry an object, each with ``before``, ``after`` and their headers, as Ansible shows them.
    :param values: the return values that the module documents.
    """

    changed: bool = False
    diff: list[dict[str, str]] = field(default_factory=list)
    values: dict[str, Any] = field(default_factory=dict)

    def as_dict(self, diff: bool) -> dict[str, Any]:
        """Give the task result, with the diff only where it was asked for."""
        result = {"changed": self.changed, **self.values}
        if diff and self.diff:
            result["diff"] = self.diff
        return result


@dataclass(frozen=True)
class Feature:
    """The arguments and the function behind a module, whichever door it is called by.

    :param constraints: ``mutually_exclusive``, ``required_if`` and the like, as :class:`AnsibleModule` takes them.
    """

    arguments: dict[str, Any]
    run: Callable[[Call], Result]
    constraints: dict[str, Any] = field(default_factory=dict)


def error_result(error: ServingError) -> dict[str, Any]:
    """Give the task result of an error; an unreachable server is no failure of the cluster, so it is marked apart."""
    result = {"changed": False, **error.details, "msg": str(error)}
    if isinstance(error, UnreachableError):
        result["unreachable"] = True
    else:
        result["failed"] = True
    return result


class _Module(AnsibleModule):
    """A module that shows no secret of its kubeconfig, also when its arguments are refused."""

    def _load_params(self) -> None:
        super()._load_params()
        self.no_log_values |= secrets(self.params)


def run_as_module(feature: Feature) -> None:
    """Run a feature as an Ansible module, in the interpreter on the target."""
    module = _Module(argument_spec=feature.arguments, supports_check_mode=True, **feature.constraints)
    module.no_log_values |= secrets(module.params)  # the environment may have given a kubeconfig

    def warn(message: str) -> None:
        module.warn(
            remove_values(message, module.no_log_values)
        )  # AnsibleModule does so only to the result's own values

    call = Call(module.params, check_mode=module.check_mode, warn=warn)
    try:
        result = feature.run(call)
    except ServingError as error:
        # exit_json, since fail_json would mark an unreachable cluster as failed too.
        module.exit_json(**error_result(error))
    module.exit_json(**result.as_dict(module._diff))
