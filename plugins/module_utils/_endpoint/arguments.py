# SPDX-FileCopyrightText: The modelfleet maintainers
# SPDX-License-Identifier: GPL-3.0-or-later
"""The arguments by which a module finds its balancer; documented in ``doc_fragments/endpoint.py``."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ansible_collections.modelfleet.serving.plugins.module_utils._endpoint import haproxy
from ansible_collections.modelfleet.serving.plugins.module_utils._endpoint.balancer import Balancer


def endpoint_arguments() -> dict[str, Any]:
    """Give a fresh copy of the arguments."""
    return {
        "balancer": {"type": "str", "choices": ["haproxy"], "default": "haproxy"},
        "haproxy": {"type": "dict", "apply_defaults": True, "options": haproxy.arguments()},
    }


def open_balancer(params: Mapping[str, Any], adopt: bool = False) -> Balancer:
    """Give the balancer that the arguments name; nothing is called yet."""
    return haproxy.HAProxy(params["haproxy"], adopt)


def given_settings(params: Mapping[str, Any]) -> dict[str, Any]:
    """Give the balancer's settings that the user set, checked.

    :raises InputError: on a value that the balancer must never see.
    """
    return haproxy.settings_from_params(params["haproxy"])
