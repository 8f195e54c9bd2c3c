# SPDX-FileCopyrightText: The modelfleet maintainers
# SPDX-License-Identifier: GPL-3.0-or-later
"""What answers a balancer's GET by real predictions, in a cluster."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from ansible_collections.modelfleet.serving.plugins.module_utils._call import Call, Feature, Result
from ansible_collections.modelfleet.serving.plugins.module_utils._cluster.apply import apply
from ansible_collections.modelfleet.serving.plugins.module_utils._cluster.arguments import (
    apply_arguments,
    cluster_arguments,
    wait_arguments,
)
from ansible_collections.modelfleet.serving.plugins.module_utils._cluster.bundle import Bundle
from ansible_collections.modelfleet.serving.plugins.module_utils._cluster.changes import result_of
from ansible_collections.modelfleet.serving.plugins.module_utils._cluster.readiness import wait_ready
from ansible_collections.modelfleet.serving.plugins.module_utils._cluster.session import connect
from ansible_collections.modelfleet.serving.plugins.module_utils._cluster.wait import Deadline
from ansible_collections.modelfleet.serving.plugins.module_utils._endpoint.definition import read_golden
from ansible_collections.modelfleet.serving.plugins.module_utils._endpoint.health_check import require_path
from ansible_collections.modelfleet.serving.plugins.module_utils._errors import InputError
from ansible_collections.modelfleet.serving.plugins.module_utils._features.route_options import (
    ENTRANCE_OPTIONS,
    read_entrance,
)
from ansible_collections.modelfleet.serving.plugins.module_utils._features.route_state import (
    find_controller,
    wait_accepted,
)
from ansible_collections.modelfleet.serving.plugins.module_utils._features.server_bundle import (
    delete_bundle,
    require_replicas,
)
from ansible_collections.modelfleet.serving.plugins.module_utils._manifests.common import selector
from ansible_collections.modelfleet.serving.plugins.module_utils._manifests.prober import (
    ProbedModel,
    ProberSpec,
    prober,
)
from ansible_collections.modelfleet.serving.plugins.module_utils._manifests.route_spec import RouteSpec
from ansible_collections.modelfleet.serving.plugins.module_utils._names import (
    require_dns_label,
    require_host_name,
    require_model,
    require_unique,
)
from ansible_collections.modelfleet.serving.plugins.module_utils._tfserving.golden import GOLDEN_OPTIONS

# A path of whole segments, which every kind of route can match, and HAProxy's file can hold.
_PATH = re.compile(r"(/[A-Za-z0-9._~-]+)+")


def run(call: Call) -> Result:
    """Make a prober be as asked, or be gone."""
    params = call.params
    name = require_dns_label(params["name"], "name")
    namespace = require_dns_label(params["namespace"], "namespace")
    bundle_name = f"prober-{name}"
    deadline = Deadline.after(params["wait_timeout"])
    if params["state"] == "absent":
        with connect(params, call.warn) as session:
            return result_of(delete_bundle(call, session, Bundle(bundle_name, namespace, ()), deadline))
    spec = _spec(params, name, namespace)
    with connect(params, call.warn) as session:
        spec = replace(spec, route=replace(spec.route, controller=find_controller(session, spec.route)))
        bundle = Bundle(bundle_name, namespace, prober(spec))
        changes = apply(session, bundle, check=call.check_mode, force=params["force_conflicts"], deadline=deadline)
        if params["wait"] and not call.check_mode:
            wait_ready(session, bundle, deadline, call.progress)
            wait_accepted(session, bundle.objects, selector("route", spec.route.name), deadline, call.progress)
        return result_of(changes)


def _spec(params: Mapping[str, Any], name: str, namespace: str) -> ProberSpec:
    """Read what was asked for, and refuse what can't be before anything is called."""
    require_replicas(params["replicas"])
    if not params["image"]:
        raise InputError(f"image: {params['image']!r} is no image.", hint="Name one with HAProxy, and its tag.")
    if not 0.5 <= params["interval"] <= 60:
        raise InputError(f"interval: {params['interval']:g} is out of range.", hint="Use 0.5 to 60 seconds.")
    if not 1 <= params["fall"] <= 10:
        raise InputError(f"fall: {params['fall']} is out of range.", hint="Use 1 to 10.")
    path = require_path(params["path"], "path")
    if not _PATH.fullmatch(path):
        raise InputError(f"path: {path!r} can't be matched in every kind of route.", hint="Use one such as '/healthz'.")
    if not params["models"]:
        raise InputError("models is empty.", hint="Name one model or more to probe, or use state=absent.")
    require_unique([entry["name"] for entry in params["models"]], "models")
    models = tuple(map(_model, params["models"]))
    return ProberSpec(
        name=name,
        namespace=namespace,
        image=params["image"],
        models=models,
        interval=params["interval"],
        fall=params["fall"],
        cluster_domain=require_host_name(params["cluster_domain"], "cluster_domain"),
        replicas=params["replicas"],
        resources=params["resources"],
        overrides=params["overrides"],
        route=RouteSpec(
            **read_entrance(params, namespace),
            model="",
            server=name,
            namespace=namespace,
            grpc=False,
            prefix=path,
        ),
    )


def _model(entry: Mapping[str, Any]) -> ProbedModel:
    if not 0 < entry["timeout"] <= 3600:
        raise InputError(
            f"models.timeout: {entry['timeout']:g} is out of range.", hint="Use seconds, more than 0, at most 3600."
        )
    golden = read_golden(entry["golden"], "models")
    server = require_dns_label(entry["server"], "models.server")
    return ProbedModel(require_model(entry["name"], "models.name"), server, golden, entry["timeout"])


FEATURE = Feature(
    arguments={
        **cluster_arguments(),
        **apply_arguments(),
        **wait_arguments(120),
        "name": {"type": "str", "default": "prober"},
        "namespace": {"type": "str", "required": True},
        "image": {"type": "str", "default": "haproxy:3.2"},
        "models": {
            "type": "list",
            "elements": "dict",
            "options": {
                "name": {"type": "str", "required": True},
                "server": {"type": "str", "required": True},
                "golden": {**GOLDEN_OPTIONS["golden"], "required": False},
                "timeout": {"type": "float", "default": 5.0},
            },
        },
        "path": {"type": "str", "default": "/healthz"},
        "interval": {"type": "float", "default": 2.0},
        "fall": {"type": "int", "default": 2},
        "cluster_domain": {"type": "str", "default": "cluster.local"},
        "replicas": {"type": "int", "default": 2},
        "resources": {"type": "dict", "default": {}},
        **ENTRANCE_OPTIONS,
        "overrides": {"type": "dict", "default": {}},
    },
    run=run,
    constraints={"required_if": [("state", "present", ["models"]), ("kind", "gateway", ["gateway"])]},
)
