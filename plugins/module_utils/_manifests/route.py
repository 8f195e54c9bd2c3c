# SPDX-FileCopyrightText: The modelfleet maintainers
# SPDX-License-Identifier: GPL-3.0-or-later
"""The way to a model from the cluster's edge: one file a kind of route, and what they share in route_spec. Pure."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ansible_collections.modelfleet.serving.plugins.module_utils._manifests.overrides import override
from ansible_collections.modelfleet.serving.plugins.module_utils._manifests.route_gateway import gateway_route
from ansible_collections.modelfleet.serving.plugins.module_utils._manifests.route_ingress import ingress_route
from ansible_collections.modelfleet.serving.plugins.module_utils._manifests.route_openshift import openshift_route
from ansible_collections.modelfleet.serving.plugins.module_utils._manifests.route_spec import RouteSpec

Json = dict[str, Any]

_KINDS: dict[str, Callable[[RouteSpec], list[Json]]] = {
    "ingress": ingress_route,
    "gateway": gateway_route,
    "openshift": openshift_route,
}


def route(spec: RouteSpec) -> tuple[Json, ...]:
    """Give the objects of a route."""
    return override(_KINDS[spec.kind](spec), spec.overrides)
