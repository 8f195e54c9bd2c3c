# SPDX-FileCopyrightText: The modelfleet maintainers
# SPDX-License-Identifier: GPL-3.0-or-later
"""Traefik's own objects, by which it takes what neither Ingress nor the Gateway API has words for. Pure.

Its provider ``kubernetescrd`` has to be on, and its CRDs installed, which its Helm chart does.
"""

from __future__ import annotations

from typing import Any

from ansible_collections.modelfleet.serving.plugins.module_utils._manifests.names import REST_PORT
from ansible_collections.modelfleet.serving.plugins.module_utils._manifests.route_spec import (
    BackendTls,
    RouteSpec,
    authority,
    route_metadata,
)

Json = dict[str, Any]

GROUP = "traefik.io"
_VERSION = f"{GROUP}/v1alpha1"
# A pod that is gone must not hold a request for long: the next one gets it.
_DIAL_TIMEOUT = "3s"


def rest_middlewares(spec: RouteSpec) -> list[Json]:
    """Give the Middlewares of REST requests.

    A limit of the body makes Traefik take in a request whole before it passes it on.
    """
    made = []
    if spec.max_body_size:
        made.append(_object(spec, "Middleware", "-body", {"buffering": {"maxRequestBodyBytes": spec.max_body_size}}))
    return made + grpc_middlewares(spec)


def grpc_middlewares(spec: RouteSpec) -> list[Json]:
    """Give the Middlewares of gRPC calls, whose size TF Serving does not limit either."""
    if not spec.rate_limit:
        return []
    per_second = spec.rate_limit.per_second
    limit = {"average": per_second, "burst": spec.rate_limit.burst or per_second}
    return [_object(spec, "Middleware", "-rate", {"rateLimit": limit})]


def rest_transport(spec: RouteSpec) -> Json:
    """Give the ServersTransport that ends a REST request whose answer does not begin in time."""
    timeouts = {"dialTimeout": _DIAL_TIMEOUT, "responseHeaderTimeout": f"{spec.timeout}s"}
    return _object(spec, "ServersTransport", "", {"forwardingTimeouts": timeouts})


def rest_service(spec: RouteSpec) -> Json:
    """Give what leads a Gateway's REST requests to the server by that ServersTransport."""
    service = {"name": spec.server, "port": REST_PORT, "serversTransport": spec.name}
    return _object(spec, "TraefikService", "", {"weighted": {"services": [service]}})


def grpc_transport(spec: RouteSpec, backend: BackendTls) -> list[Json]:
    """Give the ServersTransport that verifies a server which speaks TLS, and the authority it is verified by."""
    certificates = authority(spec, backend.ca)
    body = {
        "forwardingTimeouts": {"dialTimeout": _DIAL_TIMEOUT},
        "serverName": backend.hostname,
        "rootCAs": [{"configMap": certificates["metadata"]["name"]}],
    }
    return [_object(spec, "ServersTransport", "-grpc", body), certificates]


def reference(manifest: Json) -> str:
    """Give the name by which an annotation speaks of one of these objects."""
    metadata = manifest["metadata"]
    return f"{metadata['namespace']}-{metadata['name']}@kubernetescrd"


def _object(spec: RouteSpec, kind: str, suffix: str, body: Json) -> Json:
    return {"apiVersion": _VERSION, "kind": kind, "metadata": route_metadata(spec, suffix), "spec": body}
