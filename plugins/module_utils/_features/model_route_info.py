# SPDX-FileCopyrightText: The modelfleet maintainers
# SPDX-License-Identifier: GPL-3.0-or-later
"""Where the routes of a namespace begin: hosts, and the addresses of the edge that serves them."""

from __future__ import annotations

from typing import Any

from ansible_collections.modelfleet.serving.plugins.module_utils._call import Call, Feature, Result
from ansible_collections.modelfleet.serving.plugins.module_utils._cluster.arguments import cluster_arguments
from ansible_collections.modelfleet.serving.plugins.module_utils._cluster.kinds import Ref
from ansible_collections.modelfleet.serving.plugins.module_utils._cluster.session import Json, Session, connect
from ansible_collections.modelfleet.serving.plugins.module_utils._manifests.names import MODEL_LABEL
from ansible_collections.modelfleet.serving.plugins.module_utils._names import require_dns_label

_OURS = {"app.kubernetes.io/managed-by": "modelfleet", "app.kubernetes.io/component": "route"}
_GATEWAY = "gateway.networking.k8s.io/v1"


def run(call: Call) -> Result:
    """Read the routes of a namespace."""
    namespace = require_dns_label(call.params["namespace"], "namespace")
    with connect(call.params, call.warn) as session:
        found = [
            *session.find("networking.k8s.io/v1", "Ingress", namespace, labels=_OURS),
            *session.find(_GATEWAY, "HTTPRoute", namespace, labels=_OURS),
            *session.find("route.openshift.io/v1", "Route", namespace, labels=_OURS),
        ]
        gateways: dict[Ref, list[str]] = {}
        routes = [_route(session, live, gateways) for live in found]
    addresses = {address: None for entry in routes for address in entry["addresses"]}
    return Result(values={"routes": routes, "addresses": list(addresses)})


def _route(session: Session, live: Json, gateways: dict[Ref, list[str]]) -> dict[str, Any]:
    spec = live["spec"]
    hosts = [spec.get("host"), *spec.get("hostnames", []), *(rule.get("host") for rule in spec.get("rules", []))]
    return {
        "kind": live["kind"],
        "name": live["metadata"]["name"],
        "model": live["metadata"]["labels"].get(MODEL_LABEL),
        "hosts": [host for host in hosts if host],
        "addresses": _addresses(session, live, gateways),
    }


def _addresses(session: Session, live: Json, gateways: dict[Ref, list[str]]) -> list[str]:
    """Give what the controller has written into the status of a route, or of its Gateways."""
    status = live.get("status") or {}
    if live["kind"] == "Ingress":
        points = status.get("loadBalancer", {}).get("ingress", [])
        return [address for point in points if (address := point.get("ip") or point.get("hostname"))]
    if live["kind"] == "Route":
        points = status.get("ingress", [])
        return [point["routerCanonicalHostname"] for point in points if point.get("routerCanonicalHostname")]
    addresses: list[str] = []
    for parent in live["spec"].get("parentRefs", []):
        ref = Ref(_GATEWAY, "Gateway", parent["name"], parent.get("namespace", live["metadata"]["namespace"]))
        if ref not in gateways:
            gateway = session.get(ref) or {}
            gateways[ref] = [entry["value"] for entry in (gateway.get("status") or {}).get("addresses", [])]
        addresses += gateways[ref]
    return addresses


FEATURE = Feature(
    arguments={**cluster_arguments(), "namespace": {"type": "str", "required": True}},
    run=run,
)
