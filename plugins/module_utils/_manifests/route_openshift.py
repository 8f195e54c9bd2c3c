# SPDX-FileCopyrightText: The modelfleet maintainers
# SPDX-License-Identifier: GPL-3.0-or-later
"""A route by OpenShift's own Route. Pure.

The router matches a path as a whole or up to a slash, and a Route has one path, so there is one Route for each. It
speaks HTTP/2 to pods whose Service says so by its appProtocol, and to clients by TLS only.
"""

from __future__ import annotations

from typing import Any

from ansible_collections.modelfleet.serving.plugins.module_utils._manifests.route_spec import (
    GRPC_SERVICES,
    RouteSpec,
    lets_grpc_in,
    route_metadata,
)

Json = dict[str, Any]

_ROUTER = "haproxy.router.openshift.io"
# The router counts the requests of the last ten seconds.
_RATE_SECONDS = 10


def openshift_route(spec: RouteSpec) -> list[Json]:
    """Give the objects of a route of kind ``openshift``."""
    objects = [_route(spec, suffix, path, "rest") for suffix, path, _kind in spec.paths]
    if spec.grpc:
        for suffix, service in zip(("-grpc", "-grpc-status"), GRPC_SERVICES, strict=True):
            objects.append(lets_grpc_in(spec, _route(spec, suffix, f"/{service}", "grpc")))
    return objects


def _route(spec: RouteSpec, suffix: str, path: str, port: str) -> Json:
    annotations = {}
    if spec.timeout:
        annotations[f"{_ROUTER}/timeout"] = f"{spec.timeout}s"
    if spec.rate_limit:
        annotations[f"{_ROUTER}/rate-limit-connections"] = "true"
        annotations[f"{_ROUTER}/rate-limit-connections.rate-http"] = str(spec.rate_limit.per_second * _RATE_SECONDS)
    body: Json = {
        "host": spec.host,
        "path": path,
        "to": {"kind": "Service", "name": spec.server},
        "port": {"targetPort": port},
    }
    if spec.tls_secret:
        body["tls"] = {"termination": "edge", "externalCertificate": {"name": spec.tls_secret}}
        if port == "grpc" and spec.backend_tls:
            body["tls"] |= {"termination": "reencrypt", "destinationCACertificate": spec.backend_tls.ca}
    return {
        "apiVersion": "route.openshift.io/v1",
        "kind": "Route",
        "metadata": route_metadata(spec, suffix, annotations),
        "spec": body,
    }
