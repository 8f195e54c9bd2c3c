# SPDX-FileCopyrightText: The modelfleet maintainers
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a failover or a failback would do, and what each safety rule says of it. Calls nothing and changes nothing."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ansible_collections.modelfleet.serving.plugins.module_utils._call import Call, Feature, Result
from ansible_collections.modelfleet.serving.plugins.module_utils._errors import InputError
from ansible_collections.modelfleet.serving.plugins.module_utils._failover.fleet import (
    Cluster,
    History,
    Policy,
    Request,
    Served,
    Server,
    Unfinished,
)
from ansible_collections.modelfleet.serving.plugins.module_utils._failover.plan import plan, select
from ansible_collections.modelfleet.serving.plugins.module_utils._failover.rules import RULE_NAMES

Json = Mapping[str, Any]


def run(call: Call) -> Result:
    """Read the observation, and plan."""
    params = call.params
    facts = {entry["name"]: entry for entry in params["clusters"]}
    clusters = [_cluster(member, facts.get(member["name"])) for member in params["members"]]
    if not clusters:
        raise InputError("members: the balancer carries no endpoint.", hint="Run modelfleet.serving.endpoint first.")
    if params["min_active"] < 1:
        raise InputError(f"min_active: {params['min_active']} is no rule.", hint="Use 1 or more.")
    request = Request(params["action"], select(clusters, params["select"], "select"))
    policy = Policy(
        min_active=params["min_active"],
        required_capacity=params["required_capacity"],
        cooldown=params["cooldown"],
        versions={model["name"]: frozenset(model["versions"]) for model in params["models"] if model["versions"]},
        jurisdictions={
            model["name"]: frozenset(model["jurisdictions"]) for model in params["models"] if model["jurisdictions"]
        },
        override=frozenset(params["override"]),
    )
    return Result(values={"plan": plan(clusters, request, policy, _history(params["journal"])).as_dict()})


def _cluster(member: Json, facts: Json | None) -> Cluster:
    """Put together what the inventory, the balancer and the cluster itself say."""
    facts = facts or {}
    health = facts.get("health") or {}
    api = health.get("api") or {}
    servers = tuple(
        Server(
            server["name"],
            replicas=server["replicas"],
            ready=server["ready"],
            most=_most(server, facts),
        )
        for server in api.get("servers", [])
    )
    digests = {name: model["digests"] for server in api.get("servers", []) for name, model in server["models"].items()}
    models = {
        name: Served(
            right=model["right"],
            answered=model["answered"],
            error=model["error"],
            versions=frozenset(model["versions"]) if model["versions"] is not None else None,
            digests={int(number): digest for number, digest in digests.get(name, {}).items()},
        )
        for name, model in (health.get("edge") or {}).get("models", {}).items()
    }
    return Cluster(
        member["name"],
        state=member["state"],
        cloud=facts.get("cloud") or "",
        jurisdiction=facts.get("jurisdiction") or "",
        models=models,
        up=member.get("up"),
        servers=servers,
        capacity=facts.get("capacity"),
        replica_rate=facts.get("replica_rate"),
        rate=member.get("rate") or 0.0,
    )


def _most(server: Json, facts: Json) -> int:
    """Give how many pods a server may get, which are no more than have a volume where each has one of its own."""
    most: int = max(facts.get("maximum_replicas") or 0, server.get("max") or 0, server["replicas"])
    volumes: int | None = server.get("volumes")
    replicas: int = server["replicas"]
    return most if volumes is None else max(min(most, volumes), replicas)


def _history(journal: Json) -> History:
    """Read what ``fleet_journal_info`` returns."""
    gate, last, unfinished = (journal.get(key) or {} for key in ("gate", "last_shift", "unfinished"))
    promoted: set[str] = set()
    for entry in sorted(journal.get("runs") or [], key=lambda entry: entry["started"]):
        for move in (entry.get("plan") or {}).get("moves", []) if entry["outcome"] == "completed" else []:
            if move["before"] == "standby" and move["after"] == "active":
                promoted.add(move["cluster"])
            else:
                promoted.discard(move["cluster"])
    moves = (unfinished.get("plan") or {}).get("moves", [])
    return History(
        since_shift=last.get("seconds_ago"),
        gate=f"{gate.get('why') or 'no reason is given'} ({gate.get('who')})" if gate.get("closed") else "",
        unfinished=Unfinished(
            unfinished["run"],
            unfinished["plan"]["action"],
            {move["cluster"]: (move["before"], move["after"]) for move in moves},
        )
        if moves
        else None,
        promoted=frozenset(promoted),
    )


FEATURE = Feature(
    arguments={
        "action": {"type": "str", "choices": ["failover", "failback", "revert"], "required": True},
        "select": {"type": "list", "elements": "str", "default": []},
        "members": {"type": "list", "elements": "dict", "required": True},
        "clusters": {
            "type": "list",
            "elements": "dict",
            "default": [],
            "options": {
                "name": {"type": "str", "required": True},
                "cloud": {"type": "str"},
                "jurisdiction": {"type": "str"},
                "capacity": {"type": "float"},
                "replica_rate": {"type": "float"},
                "maximum_replicas": {"type": "int"},
                "health": {"type": "dict"},
            },
        },
        "models": {
            "type": "list",
            "elements": "dict",
            "default": [],
            "options": {
                "name": {"type": "str", "required": True},
                "versions": {"type": "list", "elements": "int", "default": []},
                "jurisdictions": {"type": "list", "elements": "str", "default": []},
            },
        },
        "journal": {"type": "dict", "default": {}},
        "min_active": {"type": "int", "default": 1},
        "required_capacity": {"type": "float", "default": 0.0},
        "cooldown": {"type": "float", "default": 0.0},
        "override": {"type": "list", "elements": "str", "choices": list(RULE_NAMES), "default": []},
    },
    run=run,
)
