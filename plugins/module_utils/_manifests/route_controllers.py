# SPDX-FileCopyrightText: The modelfleet maintainers
# SPDX-License-Identifier: GPL-3.0-or-later
"""The controllers of routes: what each one can do, and where it allows less than image models need. Pure.

The words by which each one is told are in the file of its kind of route.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ansible_collections.modelfleet.serving.plugins.module_utils._errors import InputError

TRAEFIK = "Traefik"
NGINX = "ingress-nginx"
OPENSHIFT = "OpenShift's router"
# By what an IngressClass or a GatewayClass calls its controller.
_NAMES = {
    "traefik.io/ingress-controller": TRAEFIK,
    "traefik.io/gateway-controller": TRAEFIK,
    "k8s.io/ingress-nginx": NGINX,
}
_CAN: Mapping[tuple[str, str], frozenset[str]] = {
    ("ingress", TRAEFIK): frozenset({"timeout", "max_body_size", "rate_limit", "backend_tls"}),
    ("ingress", NGINX): frozenset({"timeout", "max_body_size", "rate_limit"}),
    ("gateway", TRAEFIK): frozenset({"timeout", "max_body_size", "rate_limit"}),
    ("openshift", OPENSHIFT): frozenset({"timeout", "rate_limit", "backend_tls"}),
}
# What the Gateway API has words for, and how a GatewayClass says that it heeds them.
_FEATURES = {"timeout": "HTTPRouteRequestTimeout", "backend_tls": "BackendTLSPolicy"}
# Where a controller's own limit would cut off what is usual for images: nginx takes 1 MB, OpenShift waits 30 seconds.
_DEFAULTS: Mapping[tuple[str, str], dict[str, int]] = {
    ("ingress", NGINX): {"max_body_size": 64 * 2**20},
    ("openshift", OPENSHIFT): {"timeout": 60},
}


@dataclass(frozen=True)
class Controller:
    """Who serves a route.

    :param own_name: what its class calls it, such as ``traefik.io/ingress-controller``; empty where nobody knows.
    :param features: what its GatewayClass says that it supports.
    :param unknown: why nobody knows, in words.
    """

    own_name: str = ""
    features: frozenset[str] = frozenset()
    unknown: str = ""

    @property
    def name(self) -> str:
        """The name that people know it by."""
        return _NAMES.get(self.own_name, self.own_name)


ROUTER = Controller(OPENSHIFT)


def require_able(kind: str, controller: Controller, asked: list[str]) -> None:
    """Refuse what was asked for and can't be had from this controller.

    :param asked: the names of the options that were set.
    :raises InputError: naming the option, the controller, and those that can.
    """
    able = _CAN.get((kind, controller.name), frozenset())
    if kind == "gateway":
        able |= {option for option, feature in _FEATURES.items() if feature in controller.features}
    for option in asked:
        if option in able:
            continue
        can = sorted(f"{name} ({known})" for (known, name), options in _CAN.items() if option in options)
        if option in _FEATURES:
            can.append(f"any Gateway whose GatewayClass lists {_FEATURES[option]} in status.supportedFeatures")
        who = f"{controller.name} can't be told it for kind {kind}" if controller.name else controller.unknown
        raise InputError(
            f"{option}: {who}.", hint=f"Leave it out, or say it in annotations. Who can be told: {', '.join(can)}."
        )


def defaults(kind: str, controller: Controller) -> dict[str, Any]:
    """Give the options to set where they are not, since the controller's own limits are too low."""
    return _DEFAULTS.get((kind, controller.name), {})
