# SPDX-FileCopyrightText: The modelfleet maintainers
# SPDX-License-Identifier: GPL-3.0-or-later
"""A prober: it answers GET by real predictions, for balancers that can ask no other way. Pure.

It is a stock HAProxy. Its health checks make the predictions, and what it answers is whether they pass.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from typing import Any

from ansible_collections.modelfleet.serving.plugins.module_utils._endpoint.definition import Golden
from ansible_collections.modelfleet.serving.plugins.module_utils._endpoint.haproxy_check import http_check
from ansible_collections.modelfleet.serving.plugins.module_utils._manifests.common import container_security, metadata
from ansible_collections.modelfleet.serving.plugins.module_utils._manifests.names import REST_PORT
from ansible_collections.modelfleet.serving.plugins.module_utils._manifests.overrides import override
from ansible_collections.modelfleet.serving.plugins.module_utils._manifests.route import route
from ansible_collections.modelfleet.serving.plugins.module_utils._manifests.route_spec import RouteSpec
from ansible_collections.modelfleet.serving.plugins.module_utils._manifests.workload import Workload, workload

Json = dict[str, Any]

COMPONENT = "prober"
_READY_PATH = "/ready"
_CONFIG_PATH = "/config"
# Room for headers and answers beside the longest request, as in the balancer's own file.
_BUFFER_RESERVE = 16 * 1024
# Of several pods, one may leave a moment before the edge knows.
_DRAIN_SECONDS = 5


@dataclass(frozen=True)
class ProbedModel:
    """A model, the server that has it, and what to ask it.

    :param golden: without it, the model's metadata is asked for.
    :param timeout: seconds that an answer may take.
    """

    name: str
    server: str
    golden: Golden | None
    timeout: float


@dataclass(frozen=True)
class ProberSpec:
    """What a prober should be.

    :param image: any image with HAProxy 2.6 or later.
    :param interval: seconds between two predictions of a model.
    :param fall: how many in a row must fail.
    :param cluster_domain: the domain of the cluster's DNS.
    :param route: how it is reached from the edge.
    """

    name: str
    namespace: str
    image: str
    models: tuple[ProbedModel, ...]
    route: RouteSpec
    interval: float = 2.0
    fall: int = 2
    cluster_domain: str = "cluster.local"
    replicas: int = 2
    resources: dict[str, dict[str, str]] = field(default_factory=dict)
    overrides: dict[str, Json] = field(default_factory=dict)


def prober(spec: ProberSpec) -> tuple[Json, ...]:
    """Give the objects of a prober."""
    config = prober_config(spec)
    own = metadata(f"{spec.name}-config", spec.namespace, COMPONENT, spec.name)
    objects = workload(
        Workload(
            name=spec.name,
            namespace=spec.namespace,
            component=COMPONENT,
            container=_container(spec, config),
            service_ports=({"name": "rest", "port": REST_PORT, "targetPort": "rest", "appProtocol": "http"},),
            replicas=spec.replicas,
            drain_seconds=_DRAIN_SECONDS,
            start_seconds=60,
            volumes=({"name": "config", "configMap": {"name": own["name"]}},),
        )
    )
    file = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": own, "data": {"haproxy.cfg": config}}
    return (*override([file, *objects], spec.overrides), *route(spec.route))


def prober_config(spec: ProberSpec) -> str:
    """Give HAProxy's configuration."""
    path = spec.route.prefix
    checks = {model.name: http_check(model.name, model.golden, model.server) for model in spec.models}
    longest = max(len(line) for lines in checks.values() for line in lines)
    up = {name: f"{{ nbsrv(model.{name}) gt 0 }}" for name in checks}
    told = {name: f'"{name}": %[nbsrv(model.{name}),bool,iif(true,false)]' for name in checks}
    report = ", ".join(told.values())
    lines = [
        "global",
        "    log stdout format raw local0",
        f"    tune.bufsize {longest + _BUFFER_RESERVE}",
        "",
        "defaults",
        "    mode http",
        "    log global",
        "    timeout connect 1s",
        "    timeout client 10s",
        "    timeout server 10s",
        "",
        "resolvers cluster",
        "    parse-resolv-conf",
        "    hold valid 1s",
        "",
        "frontend prober",
        f"    bind :::{REST_PORT} v4v6",
        f"    http-request return status 200 if {{ path {_READY_PATH} }}",
    ]
    answer = "content-type application/json lf-string"
    for name, condition in up.items():
        own, one = f"{{ path {path}/{name} }}", f"{{{told[name]}}}"
        lines.append(f"    http-request return status 200 {answer} '{one}' if {own} {condition}")
        lines.append(f"    http-request return status 503 {answer} '{one}' if {own}")
    every = " ".join(up.values())
    lines += [
        f"    http-request return status 200 {answer} '{{{report}}}' if {{ path {path} }} {every}",
        f"    http-request return status 503 {answer} '{{{report}}}' if {{ path {path} }}",
        f"    http-request return status 404 {answer} '{{{report}}}'",
    ]
    for model in spec.models:
        address = f"{model.server}.{spec.namespace}.svc.{spec.cluster_domain}:{REST_PORT}"
        lines += [
            "",
            f"backend model.{model.name}",
            f"    timeout check {round(model.timeout * 1000)}ms",
            *(f"    {line}" for line in checks[model.name]),
            f"    server any {address} check inter {round(spec.interval * 1000)}ms fall {spec.fall} rise 1"
            " resolvers cluster init-addr libc,none",
        ]
    return "\n".join(lines) + "\n"


def _container(spec: ProberSpec, config: str) -> Json:
    ready = {"httpGet": {"path": _READY_PATH, "port": "rest"}, "timeoutSeconds": 2}
    container: Json = {
        "name": "haproxy",
        "image": spec.image,
        "command": ["haproxy", "-db", "-f", f"{_CONFIG_PATH}/haproxy.cfg"],
        # HAProxy does not look at its file again: another one takes other pods.
        "env": [{"name": "CONFIG", "value": hashlib.sha256(config.encode()).hexdigest()}],
        "ports": [{"name": "rest", "containerPort": REST_PORT}],
        # It takes every model for right until it has asked, so it is asked later.
        "readinessProbe": {**ready, "initialDelaySeconds": round(spec.interval * spec.fall + 1), "periodSeconds": 5},
        "securityContext": container_security(),
        "volumeMounts": [{"name": "config", "mountPath": _CONFIG_PATH, "readOnly": True}],
    }
    if spec.resources:
        container["resources"] = spec.resources
    return container


__all__ = ["COMPONENT", "ProbedModel", "ProberSpec", "prober", "prober_config"]
