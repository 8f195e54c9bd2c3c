# SPDX-FileCopyrightText: The modelfleet maintainers
# SPDX-License-Identifier: GPL-3.0-or-later
"""The arguments by which a module finds its balancer; documented in ``doc_fragments/endpoint.py``."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from ansible_collections.modelfleet.serving.plugins.module_utils._endpoint import (
    cloudflare_options,
    google_cloud_options,
    haproxy,
    rfc2136_options,
    route53_options,
    traffic_manager_options,
)
from ansible_collections.modelfleet.serving.plugins.module_utils._endpoint.balancer import Balancer
from ansible_collections.modelfleet.serving.plugins.module_utils._errors import InputError


class _Kind(NamedTuple):
    """A balancer: the options of its own, the settings among them that last, and what opens it."""

    arguments: Callable[[], dict[str, Any]]
    settings: Callable[[Mapping[str, Any]], dict[str, Any]]
    open: Callable[[Mapping[str, Any], bool], Balancer]


# A balancer takes longer to import than to ask whether it is the one, so beside the usual one only that is imported.


def _cloudflare(access: Mapping[str, Any], adopt: bool) -> Balancer:
    from ansible_collections.modelfleet.serving.plugins.module_utils._endpoint.cloudflare import Cloudflare

    return Cloudflare(access, adopt)


def _google_cloud(access: Mapping[str, Any], adopt: bool) -> Balancer:
    from ansible_collections.modelfleet.serving.plugins.module_utils._endpoint.google_cloud import GoogleCloud

    return GoogleCloud(access, adopt)


def _rfc2136(access: Mapping[str, Any], adopt: bool) -> Balancer:
    from ansible_collections.modelfleet.serving.plugins.module_utils._endpoint.rfc2136 import RFC2136

    return RFC2136(access, adopt)


def _route53(access: Mapping[str, Any], adopt: bool) -> Balancer:
    from ansible_collections.modelfleet.serving.plugins.module_utils._endpoint.route53 import Route53

    return Route53(access, adopt)


def _traffic_manager(access: Mapping[str, Any], adopt: bool) -> Balancer:
    from ansible_collections.modelfleet.serving.plugins.module_utils._endpoint.traffic_manager import TrafficManager

    return TrafficManager(access, adopt)


# By the value of the option `balancer`, which is also the name of the option with a balancer's own options.
_BALANCERS = {
    name: _Kind(options.arguments, options.settings_from_params, opened)
    for name, options, opened in (
        ("cloudflare", cloudflare_options, _cloudflare),
        ("google_cloud", google_cloud_options, _google_cloud),
        ("haproxy", haproxy, haproxy.HAProxy),
        ("rfc2136", rfc2136_options, _rfc2136),
        ("route53", route53_options, _route53),
        ("traffic_manager", traffic_manager_options, _traffic_manager),
    )
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
