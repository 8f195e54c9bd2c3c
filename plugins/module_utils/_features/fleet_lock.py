# SPDX-FileCopyrightText: The modelfleet maintainers
# SPDX-License-Identifier: GPL-3.0-or-later
"""One run at a time moves the traffic of a fleet."""

from __future__ import annotations

from ansible_collections.modelfleet.serving.plugins.module_utils._call import Call, Feature, Result
from ansible_collections.modelfleet.serving.plugins.module_utils._cluster.arguments import clusters_argument
from ansible_collections.modelfleet.serving.plugins.module_utils._errors import InputError
from ansible_collections.modelfleet.serving.plugins.module_utils._failover.lease import Claim
from ansible_collections.modelfleet.serving.plugins.module_utils._failover.lock import FleetLock, as_values
from ansible_collections.modelfleet.serving.plugins.module_utils._names import require_dns_label, require_unique

_SHORTEST_TTL = 3


def run(call: Call) -> Result:
    """Take, renew or release the lock."""
    params = call.params
    name = require_dns_label(params["name"], "name")
    namespace = require_dns_label(params["namespace"], "namespace")
    holder = _require_holder(params["holder"], "holder")
    forced = _require_holder(params["force_holder"], "force_holder") if params["force_holder"] else ""
    clusters = params["clusters"]
    if not clusters:
        raise InputError("clusters: the list is empty.", hint="Name the clusters of the fleet.")
    require_unique([entry["name"] for entry in clusters], "clusters")
    if params["ttl"] < _SHORTEST_TTL:
        raise InputError(f"ttl: {params['ttl']} s is too short.", hint=f"Use {_SHORTEST_TTL} or more.")
    if params["timeout"] <= 0:
        raise InputError(f"timeout: {params['timeout']:g} is no time.", hint="Give seconds, such as 3.")
    with FleetLock(name, namespace, clusters, params["timeout"]) as lock:
        if params["state"] == "held":
            claim = Claim(
                holder,
                params["ttl"],
                forced,
                params["epoch"],
                params["above_epoch"],
                params["allow_minority"],
            )
            standing = lock.take(claim, params["wait"], call.check_mode)
            for cluster in standing.clusters:
                if cluster.error:
                    call.warn(f"The fleet lock is held without {cluster.name}: {cluster.error}.")
        else:
            standing = lock.release(holder, params["epoch"], call.check_mode)
            for cluster in standing.clusters:
                if cluster.error:
                    call.warn(f"The Lease of {cluster.name} was not released ({cluster.error}); it runs out by itself.")
        for text in lock.warnings():
            call.warn(text)
    return Result(changed=standing.changed, values=as_values(standing))


def _require_holder(value: str, option: str) -> str:
    if not 0 < len(value) <= 250 or not value.isprintable():
        raise InputError(f"{option}: {value!r} names nobody.", hint="Use a line of text, at most 250 characters.")
    return value


FEATURE = Feature(
    arguments={
        "name": {"type": "str", "required": True},
        "state": {"type": "str", "choices": ["held", "released"], "default": "held"},
        "holder": {"type": "str", "required": True},
        "clusters": clusters_argument(),
        "namespace": {"type": "str", "default": "default"},
        "ttl": {"type": "int", "default": 60},
        "wait": {"type": "float", "default": 0.0},
        "timeout": {"type": "float", "default": 3.0},
        "epoch": {"type": "int"},
        "above_epoch": {"type": "int", "default": 0},
        "force_holder": {"type": "str"},
        "allow_minority": {"type": "bool", "default": False},
    },
    run=run,
)
