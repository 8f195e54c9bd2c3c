# SPDX-FileCopyrightText: The modelfleet maintainers
# SPDX-License-Identifier: GPL-3.0-or-later
"""The way to a model from a cluster's edge."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from dataclasses import replace
from typing import Any

from ansible_collections.modelfleet.serving.plugins.module_utils._call import Call, Feature, Result
from ansible_collections.modelfleet.serving.plugins.module_utils._cluster.apply import apply, delete
from ansible_collections.modelfleet.serving.plugins.module_utils._cluster.arguments import (
    apply_arguments,
    cluster_arguments,
    wait_arguments,
)
from ansible_collections.modelfleet.serving.plugins.module_utils._cluster.bundle import Bundle
from ansible_collections.modelfleet.serving.plugins.module_utils._cluster.changes import result_of
from ansible_collections.modelfleet.serving.plugins.module_utils._cluster.session import Json, Session, connect
from ansible_collections.modelfleet.serving.plugins.module_utils._cluster.wait import Deadline
from ansible_collections.modelfleet.serving.plugins.module_utils._errors import InputError
from ansible_collections.modelfleet.serving.plugins.module_utils._features.route_options import (
    ENTRANCE_OPTIONS,
    read_entrance,
)
from ansible_collections.modelfleet.serving.plugins.module_utils._features.route_state import (
    find_controller,
    route_bundle,
    wait_accepted,
)
from ansible_collections.modelfleet.serving.plugins.module_utils._manifests.common import selector
from ansible_collections.modelfleet.serving.plugins.module_utils._manifests.names import MODEL_LABEL
from ansible_collections.modelfleet.serving.plugins.module_utils._manifests.route import route
from ansible_collections.modelfleet.serving.plugins.module_utils._manifests.route_controllers import (
    defaults,
    require_able,
)
from ansible_collections.modelfleet.serving.plugins.module_utils._manifests.route_spec import (
    GRPC_SERVER,
    BackendTls,
    RateLimit,
    RouteSpec,
    entrance,
)
from ansible_collections.modelfleet.serving.plugins.module_utils._names import (
    require_dns_label,
    require_host_name,
    require_model,
)

# What a controller may be unable to do, or have to be told in its own words.
_WISHES = ("timeout", "max_body_size", "rate_limit", "backend_tls")
_SIZE = re.compile(r"([0-9]{1,15})(|k|M|G|Ki|Mi|Gi)")
_UNITS = {"": 1, "k": 10**3, "M": 10**6, "G": 10**9, "Ki": 2**10, "Mi": 2**20, "Gi": 2**30}


def run(call: Call) -> Result:
    """Make a route be as asked, or be gone."""
    params = call.params
    model = require_model(params["model"], "model")
    namespace = require_dns_label(params["namespace"], "namespace")
    bundle_name = route_bundle(model)
    deadline = Deadline.after(params["wait_timeout"])
    if params["state"] == "absent":
        with connect(params, call.warn) as session:
            return result_of(delete(session, Bundle(bundle_name, namespace, ()), check=call.check_mode))
    spec = _spec(params, model, namespace)
    with connect(params, call.warn) as session:
        spec = _for_its_controller(session, spec)
        objects = route(spec)
        _refuse_grpc_of_another(session, spec, objects, {model, *params["moving"]})
        bundle = Bundle(bundle_name, namespace, objects)
        changes = apply(session, bundle, check=call.check_mode, force=params["force_conflicts"])
        if params["wait"] and not call.check_mode:
            wait_accepted(session, objects, selector("route", spec.name), deadline, call.progress)
        return result_of(changes)


def _spec(params: Mapping[str, Any], model: str, namespace: str) -> RouteSpec:
    """Read what was asked for, and refuse what can't be before anything is called."""
    spec = RouteSpec(
        **read_entrance(params, namespace),
        model=model,
        server=require_dns_label(params["server"], "server"),
        namespace=namespace,
        grpc=params["grpc"],
        timeout=_positive(params["timeout"], "timeout") if params["timeout"] is not None else None,
        max_body_size=_bytes(params["max_body_size"]),
        rate_limit=_rate_limit(params["rate_limit"]),
        backend_tls=_backend_tls(params["backend_tls"]),
        overrides=params["overrides"],
    )
    if spec.backend_tls and not spec.grpc:
        raise InputError(
            "backend_tls: TF Serving speaks TLS for gRPC only, which grpc shuts out.", hint="Leave one of them out."
        )
    if spec.kind == "openshift":
        _require_openshift(spec)
    return spec


def _require_openshift(spec: RouteSpec) -> None:
    if spec.grpc and not spec.tls_secret:
        raise InputError(
            "grpc: OpenShift's router takes HTTP/2 from clients by TLS only, with a certificate of the route's own.",
            hint="Give tls.secret, or set grpc to false.",
        )
    if spec.rate_limit and spec.rate_limit.burst:
        raise InputError(
            "rate_limit.burst: OpenShift's router counts the requests of ten seconds, and knows no burst.",
            hint="Leave it out.",
        )


def _positive(value: int, option: str) -> int:
    if value < 1:
        raise InputError(f"{option}: {value} is too few.", hint="Use 1 or more, or leave it out.")
    return value


def _bytes(value: str | None) -> int | None:
    if value is None:
        return None
    match = _SIZE.fullmatch(value)
    if not match or not int(match[1]):
        raise InputError(f"max_body_size: {value!r} is no size.", hint="Use bytes, or a number with Ki, Mi or Gi.")
    return int(match[1]) * _UNITS[match[2]]


def _rate_limit(given: Mapping[str, Any] | None) -> RateLimit | None:
    if not given:
        return None
    return RateLimit(
        _positive(given["requests_per_second"], "rate_limit.requests_per_second"),
        _positive(given["burst"], "rate_limit.burst") if given["burst"] is not None else None,
    )


def _backend_tls(given: Mapping[str, Any] | None) -> BackendTls | None:
    if not given:
        return None
    if "-----BEGIN CERTIFICATE-----" not in given["ca"]:
        raise InputError("backend_tls.ca holds no certificate.", hint="Give the text of a PEM file.")
    return BackendTls(require_host_name(given["hostname"], "backend_tls.hostname"), given["ca"])


def _for_its_controller(session: Session, spec: RouteSpec) -> RouteSpec:
    """Find who serves the route, refuse what that one can't do, and raise its limits where they are too low."""
    controller = find_controller(session, spec)
    require_able(spec.kind, controller, [wish for wish in _WISHES if getattr(spec, wish)])
    raised = {option: value for option, value in defaults(spec.kind, controller).items() if not getattr(spec, option)}
    return replace(spec, controller=controller, **raised)


def _refuse_grpc_of_another(
    session: Session, spec: RouteSpec, objects: tuple[Json, ...], moving: Collection[str]
) -> None:
    """Refuse to let gRPC in where it already leads to another server.

    A gRPC call does not show its model to a proxy, so one of the two servers would get calls for the other's models.

    :param moving: the models whose routes are about to lead to the same server, wherever they lead now.
    """
    doors = [manifest for manifest in objects if GRPC_SERVER in manifest["metadata"]["labels"]]
    for door in doors[:1]:
        routes = {"app.kubernetes.io/component": "route"}
        for live in session.find(door["apiVersion"], door["kind"], spec.namespace, labels=routes):
            told = live["metadata"]["labels"]
            other = spec.server if told.get(MODEL_LABEL) in moving else told.get(GRPC_SERVER, spec.server)
            if other != spec.server and entrance(live) == entrance(door):
                raise InputError(
                    f"cluster {session.name}: gRPC for {spec.host or 'any host'} already leads to the server {other}, "
                    f"by {live['kind']} {spec.namespace}/{live['metadata']['name']}, and a gRPC call does not show its "
                    f"model, so it can't lead to {spec.server} too.",
                    hint="Give each server's models a hostname of their own, or set grpc to false. A route whose model "
                    f"is served no more goes by model_route (model={told.get(MODEL_LABEL)}, state=absent).",
                )


FEATURE = Feature(
    arguments={
        **cluster_arguments(),
        **apply_arguments(),
        **wait_arguments(60),
        "model": {"type": "str", "required": True},
        "namespace": {"type": "str", "required": True},
        "server": {"type": "str"},
        "moving": {"type": "list", "elements": "str", "default": []},
        **ENTRANCE_OPTIONS,
        "grpc": {"type": "bool", "default": True},
        # Not "request_timeout": that is for requests to the API server.
        "timeout": {"type": "int"},
        "max_body_size": {"type": "str"},
        "rate_limit": {
            "type": "dict",
            "options": {"requests_per_second": {"type": "int", "required": True}, "burst": {"type": "int"}},
        },
        "backend_tls": {
            "type": "dict",
            "options": {"hostname": {"type": "str", "required": True}, "ca": {"type": "str", "required": True}},
        },
        "overrides": {"type": "dict", "default": {}},
    },
    run=run,
    constraints={"required_if": [("state", "present", ["server"]), ("kind", "gateway", ["gateway"])]},
)
