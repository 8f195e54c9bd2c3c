# SPDX-FileCopyrightText: The modelfleet maintainers
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a route should be, and what the kinds of routes share: names, labels and paths. Pure."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal

from ansible_collections.modelfleet.serving.plugins.module_utils._manifests.common import metadata
from ansible_collections.modelfleet.serving.plugins.module_utils._manifests.names import (
    GRPC_PORT,
    MODEL_LABEL,
    server_selector,
)
from ansible_collections.modelfleet.serving.plugins.module_utils._manifests.route_controllers import Controller
from ansible_collections.modelfleet.serving.plugins.module_utils._names import kubernetes_name

Json = dict[str, Any]

GRPC_SERVICES = ("tensorflow.serving.PredictionService", "tensorflow.serving.ModelService")
# Path prefixes match whole segments, and ":predict" is part of the last one, so these are named one by one. Portable:
# both kinds of match are in the core of Ingress, of the Gateway API and of OpenShift, unlike regular expressions.
VERBS = ("predict", "classify", "regress")
# On what lets gRPC in: the server that it leads to.
GRPC_SERVER = "modelfleet.serving/grpc-server"


@dataclass(frozen=True)
class RateLimit:
    """How many requests one client address may send.

    :param burst: how many may come at once; as many as in a second without it.
    """

    per_second: int
    burst: int | None = None


@dataclass(frozen=True)
class BackendTls:
    """How the controller verifies a server that itself speaks TLS, which TF Serving does for gRPC only.

    :param hostname: the name in the server's certificate.
    :param ca: the certificates of the authority that signed it, as PEM.
    """

    hostname: str
    ca: str


@dataclass(frozen=True)
class RouteSpec:
    """What a route should be.

    :param model: the model that it leads to; empty for a route that leads to no model, which has a ``prefix``.
    :param server: the model server, whose Service takes the requests.
    :param host: the host name that requests must carry; without it, any.
    :param grpc: whether gRPC is let in too. A gRPC call does not show its model to a proxy, so with several servers
        behind one edge each needs a host of its own.
    :param gateway: namespace and name of the Gateway, for kind ``gateway``.
    :param section: the listener of the Gateway; all of its listeners without it.
    :param tls_secret: the Secret with the host's certificate and key.
    :param timeout: seconds that an answer may take; the controller's own without it.
    :param max_body_size: bytes that the body of a REST request may have; the controller's own without it.
    :param prefix: what the path of every request begins with that is let in, in place of those for a model.
    :param controller: who will serve the route, which decides how the rest is said.
    """

    model: str
    server: str
    namespace: str
    kind: Literal["ingress", "gateway", "openshift"]
    host: str | None = None
    grpc: bool = True
    ingress_class: str | None = None
    gateway: tuple[str, str] = ("", "")
    section: str | None = None
    tls_secret: str | None = None
    timeout: int | None = None
    max_body_size: int | None = None
    rate_limit: RateLimit | None = None
    backend_tls: BackendTls | None = None
    annotations: dict[str, str] = field(default_factory=dict)
    overrides: dict[str, Json] = field(default_factory=dict)
    controller: Controller = field(default_factory=Controller)
    prefix: str = ""

    @property
    def name(self) -> str:
        """The name of the route's objects, to which some add what they are for."""
        return route_name(self.model) if self.model else self.server

    @property
    def paths(self) -> tuple[tuple[str, str, str], ...]:
        """What REST requests ask for: a suffix for names, the path, and whether it is a prefix of others."""
        if self.prefix:
            return (("", self.prefix, "Prefix"),)
        path = f"/v1/models/{self.model}"
        return (("", path, "Prefix"), *((f"-{verb}", f"{path}:{verb}", "Exact") for verb in VERBS))


def route_name(model: str) -> str:
    """Give the name of the objects of a model's route."""
    return f"model-{kubernetes_name(model)}"


def route_metadata(spec: RouteSpec, suffix: str = "", annotations: dict[str, str] | None = None) -> Json:
    """Give the metadata of an object of a route; what the user says in an annotation wins over what we would."""
    own = metadata(spec.name + suffix, spec.namespace, "route", spec.name)
    if spec.model:
        own["labels"][MODEL_LABEL] = spec.model
    if every := {**(annotations or {}), **spec.annotations}:
        own["annotations"] = every
    return own


def lets_grpc_in(spec: RouteSpec, manifest: Json) -> Json:
    """Mark an object that lets gRPC in, so that a route to another server can be told of it."""
    manifest["metadata"]["labels"][GRPC_SERVER] = spec.server
    return manifest


def grpc_service(spec: RouteSpec, annotations: dict[str, str]) -> Json:
    """Give a Service for gRPC alone, for a controller that takes from a Service how to speak to its pods."""
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": route_metadata(spec, "-grpc", annotations),
        "spec": {
            "selector": server_selector(spec.server),
            "ports": [{"name": "grpc", "port": GRPC_PORT, "targetPort": "grpc"}],
        },
    }


def authority(spec: RouteSpec, ca: str) -> Json:
    """Give the ConfigMap with the authority that a server's certificate is verified by."""
    return {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": route_metadata(spec, "-ca"),
        "data": {"ca.crt": ca},
    }


def entrance(manifest: Json) -> tuple[str | None, frozenset[tuple[str, str]]]:
    """Give the host and the Gateways by which requests come to a route; the host is None where any will do."""
    spec, namespace = manifest["spec"], manifest["metadata"].get("namespace", "")
    hosts = [spec.get("host"), *spec.get("hostnames", []), *(rule.get("host") for rule in spec.get("rules", []))]
    parents = ((parent.get("namespace", namespace), parent["name"]) for parent in spec.get("parentRefs", []))
    return next(filter(None, hosts), None), frozenset(parents)
