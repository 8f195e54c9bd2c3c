# SPDX-FileCopyrightText: The modelfleet maintainers
# SPDX-License-Identifier: GPL-3.0-or-later
"""The way to a model from the cluster's edge: Ingress, or the Gateway API's HTTPRoute. Pure."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal

from ansible_collections.modelfleet.serving.plugins.module_utils._manifests.common import metadata
from ansible_collections.modelfleet.serving.plugins.module_utils._manifests.overrides import override
from ansible_collections.modelfleet.serving.plugins.module_utils._manifests.server import GRPC_PORT, REST_PORT
from ansible_collections.modelfleet.serving.plugins.module_utils._manifests.workload import server_selector
from ansible_collections.modelfleet.serving.plugins.module_utils._names import kubernetes_name

Json = dict[str, Any]

_GRPC_SERVICES = ("tensorflow.serving.PredictionService", "tensorflow.serving.ModelService")
# Path prefixes match whole segments, and ":predict" is part of the last one, so these are named one by one. Portable:
# both kinds of match are in the core of Ingress and of the Gateway API, unlike regular expressions.
_VERBS = ("predict", "classify", "regress")
# How each ingress controller is told to speak HTTP/2 without TLS to a Service.
_H2C_SERVICE_ANNOTATIONS = {"traefik.ingress.kubernetes.io/service.serversscheme": "h2c"}


@dataclass(frozen=True)
class RouteSpec:
    """What a route should be.

    :param server: the model server, whose Service takes the requests.
    :param host: the host name that requests must carry; without it, any.
    :param grpc: whether gRPC is let in too. A gRPC call does not show its model to a proxy, so with several servers
        behind one edge each needs a host of its own.
    :param gateway: namespace and name of the Gateway, for kind ``gateway``.
    """

    model: str
    server: str
    namespace: str
    kind: Literal["ingress", "gateway"]
    host: str | None = None
    grpc: bool = True
    ingress_class: str | None = None
    gateway: tuple[str, str] = ("", "")
    annotations: dict[str, str] = field(default_factory=dict)
    overrides: dict[str, Json] = field(default_factory=dict)


def route(spec: RouteSpec) -> tuple[Json, ...]:
    """Give the objects of a route."""
    objects = _http_route(spec) if spec.kind == "gateway" else _ingresses(spec)
    return override(objects, spec.overrides)


def route_name(model: str) -> str:
    """Give the name of the objects of a model's route."""
    return f"model-{kubernetes_name(model)}"


def _metadata(spec: RouteSpec, suffix: str = "") -> Json:
    own = metadata(route_name(spec.model) + suffix, spec.namespace, "route", route_name(spec.model))
    own["labels"]["modelfleet.serving/model"] = spec.model
    if spec.annotations:
        own["annotations"] = dict(spec.annotations)
    return own


def _http_route(spec: RouteSpec) -> list[Json]:
    namespace, name = spec.gateway
    path = f"/v1/models/{spec.model}"
    matches = [{"path": {"type": "PathPrefix", "value": path}}]
    matches += [{"path": {"type": "Exact", "value": f"{path}:{verb}"}} for verb in _VERBS]
    rules = [{"matches": matches, "backendRefs": [{"name": spec.server, "port": REST_PORT}]}]
    if spec.grpc:
        # No GRPCRoute: on one listener and host, the Gateway API lets an HTTPRoute shut it out (HostnameConflict). To a
        # gateway, gRPC is HTTP/2, and the Service's appProtocol says that its pods speak that.
        calls = [{"path": {"type": "PathPrefix", "value": f"/{service}"}} for service in _GRPC_SERVICES]
        rules.append({"matches": calls, "backendRefs": [{"name": spec.server, "port": GRPC_PORT}]})
    body: Json = {"parentRefs": [{"namespace": namespace, "name": name}], "rules": rules}
    if spec.host:
        body["hostnames"] = [spec.host]
    return [
        {
            "apiVersion": "gateway.networking.k8s.io/v1",
            "kind": "HTTPRoute",
            "metadata": _metadata(spec),
            "spec": body,
        }
    ]


def _ingresses(spec: RouteSpec) -> list[Json]:
    path = f"/v1/models/{spec.model}"
    paths = [(path, "Prefix"), *((f"{path}:{verb}", "Exact") for verb in _VERBS)]
    objects = [_ingress(spec, "", spec.server, "rest", paths)]
    if spec.grpc:
        backend = f"{route_name(spec.model)}-grpc"
        calls = [(f"/{service}", "Prefix") for service in _GRPC_SERVICES]
        own = _metadata(spec, "-grpc")
        own["annotations"] = {**own.get("annotations", {}), **_H2C_SERVICE_ANNOTATIONS}
        objects += [
            _ingress(spec, "-grpc", backend, "grpc", calls),
            # Ingress controllers take the protocol from the Service, so gRPC needs one of its own.
            {
                "apiVersion": "v1",
                "kind": "Service",
                "metadata": own,
                "spec": {
                    "selector": server_selector(spec.server),
                    "ports": [{"name": "grpc", "port": GRPC_PORT, "targetPort": "grpc"}],
                },
            },
        ]
    return objects


def _ingress(spec: RouteSpec, suffix: str, service: str, port: str, paths: list[tuple[str, str]]) -> Json:
    backend = {"service": {"name": service, "port": {"name": port}}}
    rule: Json = {"http": {"paths": [{"path": path, "pathType": kind, "backend": backend} for path, kind in paths]}}
    if spec.host:
        rule["host"] = spec.host
    body: Json = {"rules": [rule]}
    if spec.ingress_class:
        body["ingressClassName"] = spec.ingress_class
    return {
        "apiVersion": "networking.k8s.io/v1",
        "kind": "Ingress",
        "metadata": _metadata(spec, suffix),
        "spec": body,
    }
