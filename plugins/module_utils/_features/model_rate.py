# SPDX-FileCopyrightText: The modelfleet maintainers
# SPDX-License-Identifier: GPL-3.0-or-later
"""How many requests a second a cluster, and one of its replicas, takes within a latency."""

from __future__ import annotations

from dataclasses import asdict

from ansible_collections.modelfleet.serving.plugins.module_utils._call import Call, Feature, Result
from ansible_collections.modelfleet.serving.plugins.module_utils._errors import InputError, ServingError
from ansible_collections.modelfleet.serving.plugins.module_utils._names import require_host_name, require_url
from ansible_collections.modelfleet.serving.plugins.module_utils._tfserving.golden import (
    GOLDEN_OPTIONS,
    Golden,
    goldens,
)
from ansible_collections.modelfleet.serving.plugins.module_utils._tfserving.load import Limits, measure
from ansible_collections.modelfleet.serving.plugins.module_utils._tfserving.rest import Transport, kept_transport


def run(call: Call) -> Result:
    """Measure; in check mode nothing is sent, since load is no mere reading."""
    params = call.params
    url = require_url(params["url"], "url")
    wanted = goldens(params["models"])
    hosts = {entry["name"]: entry["host"] or params["host_header"] for entry in params["models"]}
    for host in filter(None, hosts.values()):
        require_host_name(host, "host_header")
    for option in ("max_latency", "step_seconds", "max_seconds", "max_requests", "max_at_once", "replicas", "timeout"):
        if not params[option] or params[option] <= 0:
            raise InputError(f"{option}: {params[option]} is too few.", hint="Use more than 0.")
    limits = Limits(
        latency=params["max_latency"],
        step_seconds=params["step_seconds"],
        seconds=params["max_seconds"],
        requests=params["max_requests"],
        at_once=params["max_at_once"],
    )
    if call.check_mode:
        return Result(values={"rate": None, "replica_rate": None, "limit": None, "steps": []})

    def connect() -> list[tuple[Transport, Golden]]:
        ways = {
            host: kept_transport(url, timeout=params["timeout"], host=host, validate_certs=params["validate_certs"])
            for host in set(hosts.values())
        }
        return [(ways[hosts[golden.model]], golden) for golden in wanted]

    steps, limit = measure(connect, limits)
    within = steps[:-1] if limit in ("error", "latency") else steps
    if not within:
        step = steps[0]
        late = f"one request at a time takes {step.latency:g} s, more than {limits.latency:g} s"
        raise ServingError(
            f"{url}: {step.error or late}.",
            hint="Measure a cluster that answers right and in time, or raise max_latency.",
            details={"steps": [asdict(step)]},
        )
    rate = max(step.rate for step in within)
    return Result(
        values={
            "rate": rate,
            "replica_rate": round(rate / params["replicas"], 1),
            "limit": limit,
            "steps": [asdict(step) for step in steps],
        }
    )


FEATURE = Feature(
    arguments={
        "url": {"type": "str", "required": True},
        "host_header": {"type": "str"},
        "validate_certs": {"type": "bool", "default": True},
        "models": {
            "type": "list",
            "elements": "dict",
            "required": True,
            "options": {**GOLDEN_OPTIONS, "host": {"type": "str"}},
        },
        "replicas": {"type": "int", "default": 1},
        "max_latency": {"type": "float", "default": 0.1},
        "timeout": {"type": "float", "default": 5.0},
        "step_seconds": {"type": "float", "default": 3.0},
        "max_seconds": {"type": "float", "default": 30.0},
        "max_requests": {"type": "int", "default": 20000},
        "max_at_once": {"type": "int", "default": 32},
    },
    run=run,
)
