# SPDX-FileCopyrightText: The modelfleet maintainers
# SPDX-License-Identifier: GPL-3.0-or-later
"""A route by the Gateway API's HTTPRoute. Pure."""

from __future__ import annotations

from typing import Any

from ansible_collections.modelfleet.serving.plugins.module_utils._manifests import route_traefik as traefik
from ansible_collections.modelfleet.serving.plugins.module_utils._manifests.names import GRPC_PORT, REST_PORT
from ansible_collections.modelfleet.serving.plugins.module_utils._manifests.route_controllers import TRAEFIK
from ansible_collections.modelfleet.serving.plugins.module_utils._manifests.route_spec import (
    GRPC_SERVICES,
    RouteSpec,
    authority,
    grpc_service,
    lets_grpc_in,
    route_metadata,
)

Json = dict[str, Any]

_API = "gateway.networking.k8s.io"


def gateway_route(spec: RouteSpec) -> list[Json]:
    """Give the objects of a route of kind ``gateway``."""
    rest, objects = _rest(spec)
    rules = [rest]
    if spec.grpc:
        grpc, more = _grpc(spec)
        rules.append(grpc)
        objects += more
    namespace, name = spec.gateway
    parent = {"namespace": namespace, "name": name, **({"sectionName": spec.section} if spec.section else {})}
    body: Json = {"parentRefs": [parent], "rules": rules}
    if spec.host:
        body["hostnames"] = [spec.host]
    made = {"apiVersion": f"{_API}/v1", "kind": "HTTPRoute", "metadata": route_metadata(spec), "spec": body}
    return [lets_grpc_in(spec, made) if spec.grpc else made, *objects]


def _rest(spec: RouteSpec) -> tuple[Json, list[Json]]:
    types = {"Prefix": "PathPrefix"}
    matches = [{"path": {"type": types.get(kind, kind), "value": path}} for _suffix, path, kind in spec.paths]
    middlewares = traefik.rest_middlewares(spec)
    rule: Json = {"matches": matches, **_filters(middlewares)}
    if spec.timeout and spec.controller.name == TRAEFIK:
        # Of the Gateway API's own timeouts it knows nothing.
        service = traefik.rest_service(spec)
        backend = {"group": traefik.GROUP, "kind": service["kind"], "name": service["metadata"]["name"]}
        return {**rule, "backendRefs": [backend]}, [*middlewares, service, traefik.rest_transport(spec)]
    if spec.timeout:
        rule["timeouts"] = {"request": f"{spec.timeout}s"}
    return {**rule, "backendRefs": [{"name": spec.server, "port": REST_PORT}]}, middlewares


def _grpc(spec: RouteSpec) -> tuple[Json, list[Json]]:
    # No GRPCRoute: on one listener and host, the Gateway API lets an HTTPRoute shut it out (HostnameConflict). To a
    # gateway, gRPC is HTTP/2, and the Service's appProtocol says that its pods speak that.
    matches = [{"path": {"type": "PathPrefix", "value": f"/{service}"}} for service in GRPC_SERVICES]
    rule: Json = {"matches": matches, **_filters(traefik.grpc_middlewares(spec))}
    if not spec.backend_tls:
        return {**rule, "backendRefs": [{"name": spec.server, "port": GRPC_PORT}]}, []
    # A Service of its own, because the server's says that gRPC comes without TLS.
    service, certificates = grpc_service(spec, {}), authority(spec, spec.backend_tls.ca)
    name = service["metadata"]["name"]
    policy = {
        "apiVersion": f"{_API}/v1",
        "kind": "BackendTLSPolicy",
        "metadata": route_metadata(spec, "-grpc"),
        "spec": {
            "targetRefs": [{"group": "", "kind": "Service", "name": name}],
            "validation": {
                "hostname": spec.backend_tls.hostname,
                "caCertificateRefs": [{"group": "", "kind": "ConfigMap", "name": certificates["metadata"]["name"]}],
            },
        },
    }
    return {**rule, "backendRefs": [{"name": name, "port": GRPC_PORT}]}, [service, certificates, policy]


def _filters(middlewares: list[Json]) -> Json:
    references = [
        {"group": traefik.GROUP, "kind": entry["kind"], "name": entry["metadata"]["name"]} for entry in middlewares
    ]
    return {"filters": [{"type": "ExtensionRef", "extensionRef": one} for one in references]} if references else {}
