# SPDX-FileCopyrightText: The modelfleet maintainers
# SPDX-License-Identifier: GPL-3.0-or-later
"""The arguments by which a module finds its balancer; documented in ``doc_fragments/endpoint.py``."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from ansible_collections.modelfleet.serving.plugins.module_utils._endpoint import (
    cloudflare,
    google_cloud,
    haproxy,
    rfc2136,
    route53,
    traffic_manager,
)
from ansible_collections.modelfleet.serving.plugins.module_utils._endpoint.balancer import Balancer
from ansible_collections.modelfleet.serving.plugins.module_utils._errors import InputError


class _Kind(NamedTuple):
    """A balancer: the options of its own, the settings among them that last, and what opens it."""

    arguments: Callable[[], dict[str, Any]]
    settings: Callable[[Mapping[str, Any]], dict[str, Any]]
    open: Callable[[Mapping[str, Any], bool], Balancer]


# By the value of the option `balancer`, which is also the name of the option with a balancer's own options.
_BALANCERS = {
    "cloudflare": _Kind(cloudflare.arguments, cloudflare.settings_from_params, cloudflare.Cloudflare),
    "google_cloud": _Kind(google_cloud.arguments, google_cloud.settings_from_params, google_cloud.GoogleCloud),
    "haproxy": _Kind(haproxy.arguments, haproxy.settings_from_params, haproxy.HAProxy),
    "rfc2136": _Kind(rfc2136.arguments, rfc2136.settings_from_params, rfc2136.RFC2136),
    "route53": _Kind(route53.arguments, route53.settings_from_params, route53.Route53),
    "traffic_manager": _Kind(
        traffic_manager.arguments, traffic_manager.settings_from_params, traffic_manager.TrafficManager
    ),
}


def endpoint_arguments() -> dict[str, Any]:
    """Give a fresh copy of the arguments."""
    kinds: dict[str, dict[str, Any]] = {
        name: {"type": "dict", "options": kind.arguments()} for name, kind in _BALANCERS.items()
    }
    # The only one that can be reached without options.
    kinds["haproxy"]["apply_defaults"] = True
    return {"balancer": {"type": "str", "choices": list(_BALANCERS), "default": "haproxy"}, **kinds}


def open_balancer(params: Mapping[str, Any], adopt: bool = False) -> Balancer:
    """Give the balancer that the arguments name; nothing is called yet."""
    return _BALANCERS[params["balancer"]].open(_own(params), adopt)


def given_settings(params: Mapping[str, Any]) -> dict[str, Any]:
    """Give the balancer's settings that the user set, checked.

    :raises InputError: on a value that the balancer must never see.
    """
    return _BALANCERS[params["balancer"]].settings(_own(params))


def _own(params: Mapping[str, Any]) -> Mapping[str, Any]:
    name = params["balancer"]
    own: Mapping[str, Any] | None = params[name]
    if own is None:
        raise InputError(f"{name}: its options are missing.", hint=f"balancer={name} needs to know how it is reached.")
    return own
