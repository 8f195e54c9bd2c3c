# SPDX-FileCopyrightText: The modelfleet maintainers
# SPDX-License-Identifier: GPL-3.0-or-later
"""The servers and routes that a namespace has beyond those it should, and how they leave without losing a request."""

from __future__ import annotations

import time
from collections.abc import Iterable

from ansible_collections.modelfleet.serving.plugins.module_utils._call import Call, Feature, Result
from ansible_collections.modelfleet.serving.plugins.module_utils._cluster.apply import bundles
from ansible_collections.modelfleet.serving.plugins.module_utils._cluster.arguments import (
    cluster_arguments,
    wait_arguments,
)
from ansible_collections.modelfleet.serving.plugins.module_utils._cluster.bundle import Bundle
from ansible_collections.modelfleet.serving.plugins.module_utils._cluster.changes import result_of
from ansible_collections.modelfleet.serving.plugins.module_utils._cluster.session import connect
from ansible_collections.modelfleet.serving.plugins.module_utils._cluster.wait import Deadline
from ansible_collections.modelfleet.serving.plugins.module_utils._errors import InputError
from ansible_collections.modelfleet.serving.plugins.module_utils._features.route_state import route_bundle
from ansible_collections.modelfleet.serving.plugins.module_utils._features.server_bundle import (
    bundle_name,
    delete_bundle,
)
from ansible_collections.modelfleet.serving.plugins.module_utils._names import require_dns_label, require_model


def run(call: Call) -> Result:
    """Remove the routes of other models, and then the other servers."""
    params = call.params
    namespace = require_dns_label(params["namespace"], "namespace")
    routes = {route_bundle(require_model(name, "models")) for name in _some(params["models"], "models")}
    servers = {bundle_name(require_dns_label(name, "servers")) for name in _some(params["servers"], "servers")}
    with connect(params, call.warn) as session:
        found = bundles(session, namespace)
        other_routes = [name for name in found if name.startswith(route_bundle("")) and name not in routes]
        other_servers = [name for name in found if name.startswith(bundle_name("")) and name not in servers]
        deadline = Deadline.after(params["wait_timeout"])
        changes = [
            change
            for name in other_routes
            for change in delete_bundle(call, session, Bundle(name, namespace, ()), deadline)
        ]
        if other_servers and not call.check_mode:
            # Balancers take a moment to notice that a route is gone, or leads to another server since this run.
            call.progress(f"{params['drain_seconds']} s for requests that are still on their way")
            time.sleep(max(0, params["drain_seconds"]))
            deadline = Deadline.after(params["wait_timeout"])
        for name in other_servers:
            changes += delete_bundle(call, session, Bundle(name, namespace, ()), deadline)
        result = result_of(changes)
        result.values["servers"] = [name.removeprefix(bundle_name("")) for name in other_servers]
        return result


def _some(names: Iterable[str], option: str) -> list[str]:
    names = list(names)
    if not names:
        raise InputError(
            f"{option} is empty.",
            hint=f"Name one {option[:-1]} or more to stay; use serving_namespace with state: absent to remove all.",
        )
    return names


FEATURE = Feature(
    arguments={
        **cluster_arguments(),
        **wait_arguments(120),
        "namespace": {"type": "str", "required": True},
        "models": {"type": "list", "elements": "str", "required": True},
        "servers": {"type": "list", "elements": "str", "required": True},
        "drain_seconds": {"type": "int", "default": 15},
    },
    run=run,
)
