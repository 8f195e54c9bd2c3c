# SPDX-FileCopyrightText: The modelfleet maintainers
# SPDX-License-Identifier: GPL-3.0-or-later
"""A route by Ingress, in the words of the controller that serves its class. Pure."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any

from ansible_collections.modelfleet.serving.plugins.module_utils._manifests import route_traefik as traefik
from ansible_collections.modelfleet.serving.plugins.module_utils._manifests.names import REST_PORT, server_selector
from ansible_collections.modelfleet.serving.plugins.module_utils._manifests.route_controllers import NGINX, TRAEFIK
from ansible_collections.modelfleet.serving.plugins.module_utils._manifests.route_spec import (
    GRPC_SERVICES,
    RouteSpec,
    grpc_service,
    lets_grpc_in,
    route_metadata,
)

Json = dict[str, Any]

_TRAEFIK = "traefik.ingress.kubernetes.io"
_NGINX = "nginx.ingress.kubernetes.io"


@dataclass
class _Words:
    """What a controller is told beside the Ingresses: annotations of each, the Services they name, further objects."""

    rest: dict[str, str] = field(default_factory=dict)
    grpc: dict[str, str] = field(default_factory=dict)
    rest_service: str = ""
    grpc_service: str = ""
    objects: list[Json] = field(default_factory=list)


def ingress_route(spec: RouteSpec) -> list[Json]:
    """Give the objects of a route of kind ``ingress``."""
    words = _nginx(spec) if spec.controller.name == NGINX else _traefik(spec)
    paths = [(path, kind) for _suffix, path, kind in spec.paths]
    objects = [_ingress(spec, "", words.rest, (words.rest_service or spec.server, "rest"), paths)]
    if spec.grpc:
        calls = [(f"/{service}", "Prefix") for service in GRPC_SERVICES]
        backend = (words.grpc_service or spec.server, "grpc")
        objects.append(lets_grpc_in(spec, _ingress(spec, "-grpc", words.grpc, backend, calls)))
    return objects + words.objects


def _traefik(spec: RouteSpec) -> _Words:
    """Say it to Traefik, and to a controller nobody knows, for which an annotation of Traefik's means nothing."""
    words = _Words()
    if spec.tls_secret and spec.controller.name == TRAEFIK:
        words.rest[f"{_TRAEFIK}/router.tls"] = words.grpc[f"{_TRAEFIK}/router.tls"] = "true"
    rest, grpc = traefik.rest_middlewares(spec), traefik.grpc_middlewares(spec)
    for told, middlewares in ((words.rest, rest), (words.grpc, grpc)):
        if middlewares:
            told[f"{_TRAEFIK}/router.middlewares"] = ",".join(map(traefik.reference, middlewares))
    words.objects += rest
    # It takes from a Service how to speak to the pods, so what is said of REST or gRPC alone needs its own Service.
    if spec.timeout:
        transport = traefik.rest_transport(spec)
        service = _rest_service(spec, {f"{_TRAEFIK}/service.serverstransport": traefik.reference(transport)})
        words.rest_service = service["metadata"]["name"]
        words.objects += [transport, service]
    if spec.grpc:
        speaks = {f"{_TRAEFIK}/service.serversscheme": "h2c"}
        if spec.backend_tls:
            transport, certificates = traefik.grpc_transport(spec, spec.backend_tls)
            speaks = {
                f"{_TRAEFIK}/service.serversscheme": "https",
                f"{_TRAEFIK}/service.serverstransport": traefik.reference(transport),
            }
            words.objects += [transport, certificates]
        service = grpc_service(spec, speaks)
        words.grpc_service = service["metadata"]["name"]
        words.objects.append(service)
    return words


def _nginx(spec: RouteSpec) -> _Words:
    both: dict[str, str] = {}
    if spec.max_body_size:
        both[f"{_NGINX}/proxy-body-size"] = str(spec.max_body_size)
    if spec.timeout:
        both[f"{_NGINX}/proxy-read-timeout"] = both[f"{_NGINX}/proxy-send-timeout"] = str(spec.timeout)
    if spec.rate_limit:
        per_second = spec.rate_limit.per_second
        both[f"{_NGINX}/limit-rps"] = str(per_second)
        # It takes the burst as a multiple only.
        multiple = math.ceil((spec.rate_limit.burst or per_second) / per_second)
        both[f"{_NGINX}/limit-burst-multiplier"] = str(multiple)
    return _Words(rest=both, grpc={**both, f"{_NGINX}/backend-protocol": "GRPC"})


def _rest_service(spec: RouteSpec, annotations: dict[str, str]) -> Json:
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": route_metadata(spec, "-rest", annotations),
        "spec": {
            "selector": server_selector(spec.server),
            "ports": [{"name": "rest", "port": REST_PORT, "targetPort": "rest"}],
        },
    }


def _ingress(
    spec: RouteSpec, suffix: str, annotations: dict[str, str], backend: tuple[str, str], paths: list[tuple[str, str]]
) -> Json:
    service, port = backend
    target = {"service": {"name": service, "port": {"name": port}}}
    rule: Json = {"http": {"paths": [{"path": path, "pathType": kind, "backend": target} for path, kind in paths]}}
    body: Json = {"rules": [rule]}
    if spec.host:
        rule["host"] = spec.host
    if spec.ingress_class:
        body["ingressClassName"] = spec.ingress_class
    if spec.tls_secret:
        body["tls"] = [{"secretName": spec.tls_secret, **({"hosts": [spec.host]} if spec.host else {})}]
    return {
        "apiVersion": "networking.k8s.io/v1",
        "kind": "Ingress",
        "metadata": route_metadata(spec, suffix, annotations),
        "spec": body,
    }
