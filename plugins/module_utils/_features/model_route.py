# SPDX-FileCopyrightText: The modelfleet maintainers
# SPDX-License-Identifier: GPL-3.0-or-later
"""The way to a model from a cluster's edge."""

from __future__ import annotations

from ansible_collections.modelfleet.serving.plugins.module_utils._call import Call, Feature, Result
from ansible_collections.modelfleet.serving.plugins.module_utils._cluster.apply import apply, delete
from ansible_collections.modelfleet.serving.plugins.module_utils._cluster.arguments import (
    apply_arguments,
    cluster_arguments,
    wait_arguments,
)
from ansible_collections.modelfleet.serving.plugins.module_utils._cluster.bundle import Bundle
from ansible_collections.modelfleet.serving.plugins.module_utils._cluster.changes import result_of
from ansible_collections.modelfleet.serving.plugins.module_utils._cluster.kinds import Ref
from ansible_collections.modelfleet.serving.plugins.module_utils._cluster.session import Json, Session, connect
from ansible_collections.modelfleet.serving.plugins.module_utils._cluster.wait import Deadline, Kind, wait_until
from ansible_collections.modelfleet.serving.plugins.module_utils._errors import WaitError
from ansible_collections.modelfleet.serving.plugins.module_utils._manifests.common import selector
from ansible_collections.modelfleet.serving.plugins.module_utils._manifests.route import (
    RouteSpec,
    route,
    route_name,
)
from ansible_collections.modelfleet.serving.plugins.module_utils._names import (
    require_dns_label,
    require_host_name,
    require_model,
)


def run(call: Call) -> Result:
    """Make a route be as asked, or be gone."""
    params = call.params
    model = require_model(params["model"], "model")
    namespace = require_dns_label(params["namespace"], "namespace")
    bundle_name = f"route-{route_name(model)}"
    if params["state"] == "absent":
        with connect(params, call.warn) as session:
            return result_of(delete(session, Bundle(bundle_name, namespace, ()), check=call.check_mode))
    gateway = params["gateway"] or {}
    spec = RouteSpec(
        model=model,
        server=require_dns_label(params["server"], "server"),
        namespace=namespace,
        kind=params["kind"],
        host=require_host_name(params["hostname"], "hostname") if params["hostname"] else None,
        grpc=params["grpc"],
        ingress_class=params["ingress_class"],
        gateway=(
            require_dns_label(gateway.get("namespace") or namespace, "gateway.namespace"),
            require_dns_label(gateway["name"], "gateway.name") if gateway else "",
        ),
        annotations=params["annotations"],
        overrides=params["overrides"],
    )
    with connect(params, call.warn) as session:
        bundle = Bundle(bundle_name, namespace, route(spec))
        changes = apply(session, bundle, check=call.check_mode, force=params["force_conflicts"])
        if params["wait"] and spec.kind == "gateway" and not call.check_mode:
            # An Ingress has no status that says whether its controller took it: only a request shows that.
            _wait_accepted(call, session, spec)
        return result_of(changes)


def _wait_accepted(call: Call, session: Session, spec: RouteSpec) -> None:
    deadline = Deadline.after(call.params["wait_timeout"])
    labels = selector("route", route_name(spec.model))
    routes = [Ref.of(manifest) for manifest in route(spec)]
    kinds = [Kind(ref.api_version, ref.kind, spec.namespace, labels) for ref in routes]

    def judge(objects: dict[Ref, Json]) -> str:
        return next((text for ref in routes if (text := _not_accepted(session, ref, objects.get(ref)))), "")

    wait_until(session, kinds, judge, deadline, call.progress)


def _not_accepted(session: Session, ref: Ref, live: Json | None) -> str:
    """Say why a route is not in force; ``""`` when its Gateway has accepted this generation of it.

    :raises WaitError: when the Gateway has refused it.
    """
    if live is None:
        return f"{ref} does not exist yet"
    parents = live.get("status", {}).get("parents", [])
    for parent in parents:
        for condition in parent["conditions"]:
            if condition.get("observedGeneration", 0) < live["metadata"]["generation"]:
                return f"the gateway has not seen the last change of {ref}"
            words = f"{condition['reason']}: {condition.get('message', '')}".rstrip(": ")
            if condition["type"] == "Accepted" and condition["status"] == "False":
                raise WaitError(
                    f"cluster {session.name}: the gateway refused {ref}: {words}.",
                    hint="Check the gateway's listeners, and which namespaces and routes they allow.",
                )
            # The Service may only just have been made.
            if condition["type"] == "ResolvedRefs" and condition["status"] != "True":
                return f"the gateway can't find what {ref} leads to: {words}"
    return "" if parents else f"no gateway has answered for {ref}: check gateway.name and gateway.namespace"


FEATURE = Feature(
    arguments={
        **cluster_arguments(),
        **apply_arguments(),
        **wait_arguments(60),
        "model": {"type": "str", "required": True},
        "namespace": {"type": "str", "required": True},
        "server": {"type": "str"},
        "kind": {"type": "str", "choices": ["ingress", "gateway"], "default": "ingress"},
        # Not "host": that is the address of the cluster's API server.
        "hostname": {"type": "str"},
        "grpc": {"type": "bool", "default": True},
        "ingress_class": {"type": "str"},
        "gateway": {
            "type": "dict",
            "options": {"name": {"type": "str", "required": True}, "namespace": {"type": "str"}},
        },
        "annotations": {"type": "dict", "default": {}},
        "overrides": {"type": "dict", "default": {}},
    },
    run=run,
    constraints={"required_if": [("state", "present", ["server"]), ("kind", "gateway", ["gateway"])]},
)
