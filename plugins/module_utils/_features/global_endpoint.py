# SPDX-FileCopyrightText: The modelfleet maintainers
# SPDX-License-Identifier: GPL-3.0-or-later
"""One address in front of the models of many clusters."""

from __future__ import annotations

import json
import random
import time
from collections.abc import Mapping
from typing import Any

from ansible_collections.modelfleet.serving.plugins.module_utils._call import Call, Feature, Result
from ansible_collections.modelfleet.serving.plugins.module_utils._endpoint.arguments import (
    endpoint_arguments,
    given_settings,
    open_balancer,
)
from ansible_collections.modelfleet.serving.plugins.module_utils._endpoint.balancer import (
    Balancer,
    ChangedMeanwhileError,
)
from ansible_collections.modelfleet.serving.plugins.module_utils._endpoint.definition import (
    STATES,
    Endpoint,
    EndpointRequest,
    request_from_params,
)
from ansible_collections.modelfleet.serving.plugins.module_utils._endpoint.plan import (
    Plan,
    Step,
    check_digest,
    check_epoch,
    check_min_active,
    merge,
    plan,
    traffic_weight,
)
from ansible_collections.modelfleet.serving.plugins.module_utils._errors import InputError, WaitError
from ansible_collections.modelfleet.serving.plugins.module_utils._tfserving.golden import GOLDEN_OPTIONS

# Of writers that meet, one is always done, so with so many tries it takes a crowd to fail.
_TRIES = 10
# HAProxy's checks come every 250 ms; an answer takes a millisecond.
_POLL_SECONDS = 0.1


def run(call: Call) -> Result:
    """Make an endpoint be as asked, or be gone."""
    params = call.params
    if params["min_active"] < 1:
        raise InputError(f"min_active: {params['min_active']} is no rule.", hint="Use 1 or more.")
    request = request_from_params(params, given_settings(params))
    balancer = open_balancer(params, params["adopt"])
    if call.check_mode:
        return _change(call, balancer, request)[0]
    result, desired = _change_alone(call, balancer, request)
    if desired is not None and params["wait"]:
        _wait(balancer, desired, params["wait_timeout"])
    return result


def _change_alone(call: Call, balancer: Balancer, request: EndpointRequest) -> tuple[Result, Endpoint | None]:
    """Change while nobody else does, or decide anew when somebody did.

    What is checked must still be so when it is written: a run that was stopped in between must not undo the next.
    """
    for turn in range(1, _TRIES):
        try:
            with balancer.exclusive():
                return _change(call, balancer, request)
        except ChangedMeanwhileError:
            # Not in step with the other one.
            time.sleep(random.uniform(0, 0.05 * turn))
    with balancer.exclusive():
        return _change(call, balancer, request)


def _change(call: Call, balancer: Balancer, request: EndpointRequest) -> tuple[Result, Endpoint | None]:
    """Read, decide and, outside of check mode, write; gives the result, and the endpoint if there is to be one."""
    params = call.params
    observed = balancer.read()
    stored = observed.endpoint
    desired: Endpoint | None = None
    if params["state"] == "absent" and stored is not None and stored.name != request.name:
        # Another endpoint is none of our business, and this one is not there.
        return Result(values=_values(None, (), [])), None
    # First: who comes too late may ask for what is no longer there.
    check_epoch(stored, request.epoch)
    check_digest(stored, params["if_digest"])
    if params["state"] == "present":
        desired = merge(stored, request, balancer.defaults())
        if not balancer.predicts:
            desired = desired.without_goldens()
        check_min_active(stored, desired, params["min_active"])
    todo = plan(observed, desired)
    balancer.check(todo)
    if todo.steps and not call.check_mode:
        balancer.apply(todo)
    addresses = balancer.addresses() if desired else []
    result = Result(bool(todo.steps), _diff(todo) + balancer.diff(todo), _values(desired, todo.steps, addresses))
    return result, desired


def _values(endpoint: Endpoint | None, steps: tuple[Step, ...], addresses: list[str]) -> dict[str, Any]:
    return {
        "addresses": addresses,
        "endpoint": endpoint.as_dict() if endpoint else None,
        "epoch": endpoint.epoch if endpoint else 0,
        "digest": endpoint.digest() if endpoint else "",
        "active": endpoint.active() if endpoint else [],
        "steps": [step.as_dict() for step in steps],
    }


def _wait(balancer: Balancer, endpoint: Endpoint, timeout: int) -> None:
    """Wait until the balancer itself finds every active member up; one without a view of its own finds nobody down.

    :param timeout: seconds.
    """
    deadline = time.monotonic() + timeout
    while True:
        health = balancer.health()
        down = [name for name in endpoint.active() if name not in health or not health[name].up]
        if not down or not health:
            return
        if time.monotonic() >= deadline:
            break
        time.sleep(_POLL_SECONDS)
    reasons = [
        f"{name}: {model}: {reason}"
        for name in down
        for model, reason in (health[name].reasons if name in health else {}).items()
    ]
    raise WaitError(
        f"the endpoint {endpoint.name} is set up, and after {timeout} s the balancer still finds {', '.join(down)} down"
        f" ({'; '.join(reasons) or 'it gives no reason'}).",
        hint="Other members carry the traffic. Ask that cluster's own edge for the golden prediction (model_probe).",
        details={"down": down},
    )


def _diff(todo: Plan) -> list[dict[str, str]]:
    """Show the members as traffic sees them; a drift by hand shows in what was there before."""
    if not todo.steps:
        return []
    before = _traffic(todo.observed.endpoint)
    for name, live in (todo.observed.traffic or {}).items():
        if name in before and (live.note or live.weight != before[name]["traffic"]):
            before[name] = {**before[name], "traffic": live.weight, **({"forced": live.note} if live.note else {})}
    name = (todo.desired or todo.observed.endpoint or Endpoint("", (), (), {})).name
    return [
        {
            "before_header": f"endpoint {name}",
            "after_header": f"endpoint {name}",
            "before": _text(before),
            "after": _text(_traffic(todo.desired)),
        }
    ]


def _traffic(endpoint: Endpoint | None) -> dict[str, dict[str, Any]]:
    return {
        member.name: {
            "address": f"{member.address}:{member.port}",
            "state": member.state,
            "traffic": traffic_weight(member),
        }
        for member in (endpoint.members if endpoint else ())
    }


def _text(members: Mapping[str, Any]) -> str:
    return "".join(f"{name}: {json.dumps(member)}\n" for name, member in members.items())


FEATURE = Feature(
    arguments={
        **endpoint_arguments(),
        "name": {"type": "str", "required": True},
        "state": {"type": "str", "choices": ["present", "absent"], "default": "present"},
        "members": {
            "type": "list",
            "elements": "dict",
            "options": {
                "name": {"type": "str", "required": True},
                "address": {"type": "str"},
                "port": {"type": "int"},
                "weight": {"type": "int"},
                "state": {"type": "str", "choices": list(STATES)},
                "jurisdiction": {"type": "str"},
            },
        },
        "exclusive_members": {"type": "bool", "default": True},
        "models": {
            "type": "list",
            "elements": "dict",
            "options": {
                "name": {"type": "str", "required": True},
                "golden": {**GOLDEN_OPTIONS["golden"], "required": False},
                "timeout": {"type": "float", "default": 5.0},
                "try_timeout": {"type": "float"},
                "host": {"type": "str"},
                "jurisdictions": {"type": "list", "elements": "str", "default": []},
            },
        },
        "min_active": {"type": "int", "default": 1},
        "epoch": {"type": "int"},
        "if_digest": {"type": "str"},
        "adopt": {"type": "bool", "default": False},
        "wait": {"type": "bool", "default": True},
        "wait_timeout": {"type": "int", "default": 60},
    },
    run=run,
)
