# SPDX-FileCopyrightText: The modelfleet maintainers
# SPDX-License-Identifier: GPL-3.0-or-later
"""The options of Azure Traffic Manager: how it is reached, and the settings that are stored with the definition."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ansible_collections.modelfleet.serving.plugins.module_utils._endpoint.settings import read_settings

POLICIES = {"weighted": "Weighted", "performance": "Performance", "geographic": "Geographic"}
CHECK_TYPES = ("HTTP", "HTTPS", "TCP", "NONE")
AUTH_SOURCES = ("auto", "cli", "credential_file", "env", "msi")
DEFAULTS: dict[str, Any] = {
    "policy": "weighted",
    "ttl": 30,
    "locations": {},
    "health_check_type": "HTTP",
    "health_check_port": 0,
    "health_check_path": "",
    "health_check_host": "",
    "health_check_interval": 10,
    "health_check_timeout": 5,
    "health_check_threshold": 3,
}
# How Traffic Manager is reached, and which profiles it is about; the rest is stored with the definition.
_ACCESS = (
    "resource_group",
    "profile_name",
    "relative_name",
    "subscription_id",
    "client_id",
    "secret",
    "tenant",
    "ad_user",
    "password",
    "profile",
    "auth_source",
    "cloud_environment",
    "endpoint_url",
    "timeout",
)
_LARGEST_TTL = 2**31 - 1
_RANGES = {"ttl": (0, _LARGEST_TTL), "health_check_timeout": (5, 10), "health_check_threshold": (1, 10)}


def arguments() -> dict[str, Any]:
    """Give the suboptions of the module's option ``traffic_manager``."""
    return {
        "resource_group": {"type": "str", "required": True},
        "profile_name": {"type": "str", "required": True},
        "relative_name": {"type": "str"},
        "subscription_id": {"type": "str"},
        "client_id": {"type": "str"},
        "secret": {"type": "str", "no_log": True},
        "tenant": {"type": "str"},
        "ad_user": {"type": "str"},
        "password": {"type": "str", "no_log": True},
        "profile": {"type": "str"},
        "auth_source": {"type": "str", "choices": list(AUTH_SOURCES)},
        "cloud_environment": {"type": "str"},
        "endpoint_url": {"type": "str"},
        "timeout": {"type": "float", "default": 30.0},
        "policy": {"type": "str", "choices": list(POLICIES)},
        "ttl": {"type": "int"},
        "locations": {"type": "dict"},
        "health_check_type": {"type": "str", "choices": list(CHECK_TYPES)},
        "health_check_port": {"type": "int"},
        "health_check_path": {"type": "str"},
        "health_check_host": {"type": "str"},
        "health_check_interval": {"type": "int", "choices": [10, 30]},
        "health_check_timeout": {"type": "int"},
        "health_check_threshold": {"type": "int"},
    }


def settings_from_params(params: Mapping[str, Any]) -> dict[str, Any]:
    """Check and take over what the user set of the balancer's settings.

    :raises InputError: on a value that Traffic Manager would refuse in the middle of a change.
    """
    return read_settings(params, "traffic_manager", _ACCESS, _RANGES)
