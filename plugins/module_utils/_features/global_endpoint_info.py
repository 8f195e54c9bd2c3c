# SPDX-FileCopyrightText: The modelfleet maintainers
# SPDX-License-Identifier: GPL-3.0-or-later
"""What an endpoint is, who carries its traffic, and how the balancer finds them."""

from __future__ import annotations

from typing import Any

from ansible_collections.modelfleet.serving.plugins.module_utils._call import Call, Feature, Result
from ansible_collections.modelfleet.serving.plugins.module_utils._endpoint.arguments import (
    endpoint_arguments,
    open_balancer,
)
from ansible_collections.modelfleet.serving.plugins.module_utils._endpoint.balancer import MemberHealth
from ansible_collections.modelfleet.serving.plugins.module_utils._endpoint.definition import Endpoint
from ansible_collections.modelfleet.serving.plugins.module_utils._endpoint.plan import Traffic, plan, traffic_weight


def run(call: Call) -> Result:
    """Read the definition and the balancer's view of it."""
    balancer = open_balancer(call.params)
    observed = balancer.read()
    endpoint = observed.endpoint
    if endpoint is None:
        return Result(
            values={
                "exists": False,
                "addresses": [],
                "endpoint": None,
                "epoch": 0,
                "digest": "",
                "members": [],
                "active": [],
                "fail_open": [],
                "drift": [],
                "errors": None,
            }
        )
    health = balancer.health()
    members = []
    for member in endpoint.members:
        live = (observed.traffic or {}).get(member.name, Traffic(traffic_weight(member)))
        found = health.get(member.name, MemberHealth(up=False))
        members.append(
            {
                "name": member.name,
                "address": member.address,
                "port": member.port,
                "weight": member.weight,
                "state": member.state,
                "traffic": live.weight,
                "forced": live.note,
                # A balancer that asks no member finds none of them down.
                "up": found.up if health else None,
                "models": found.models,
                "reasons": found.reasons,
                "sessions": found.sessions if health else None,
                "rate": found.rate,
            }
        )
    return Result(
        values={
            "exists": True,
            "addresses": balancer.addresses(),
            "endpoint": endpoint.as_dict(),
            "epoch": endpoint.epoch,
            "digest": endpoint.digest(),
            "members": members,
            "active": endpoint.active(),
            "fail_open": _fail_open(endpoint, health),
            "drift": [step.as_dict() for step in plan(observed, endpoint).steps],
            "errors": balancer.errors(),
        }
    )


def _fail_open(endpoint: Endpoint, health: dict[str, MemberHealth]) -> list[str]:
    """Name the models whose check fails on every member that could take traffic: they are served unchecked."""
    able: list[Any] = [member.name for member in endpoint.members if member.state != "drained"]
    return [
        model.name
        for model in endpoint.models
        if health and not any(name in health and health[name].models.get(model.name) for name in able)
    ]


FEATURE = Feature(arguments=endpoint_arguments(), run=run)
