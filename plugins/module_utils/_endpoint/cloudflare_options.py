# SPDX-FileCopyrightText: The modelfleet maintainers
# SPDX-License-Identifier: GPL-3.0-or-later
"""The options of Cloudflare Load Balancing: how it is reached, and the settings that are stored with the definition."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ansible_collections.modelfleet.serving.plugins.module_utils._endpoint.settings import read_settings

POLICIES = ("weighted", "failover", "geographic")
CHECK_TYPES = ("HTTP", "HTTPS", "TCP", "NONE")
REGIONS = ("WNAM", "ENAM", "WEU", "EEU", "NSAM", "SSAM", "OC", "ME", "NAF", "SAF", "SAS", "SEAS", "NEAS")
DEFAULTS: dict[str, Any] = {
    "policy": "weighted",
    "proxied": True,
    "ttl": 30,
    "locations": {},
    "health_check_type": "HTTP",
    "health_check_port": 0,
    "health_check_path": "",
    "health_check_host": "",
    "health_check_interval": 60,
    "health_check_timeout": 5,
    "health_check_retries": 2,
    "health_check_threshold": 1,
    "health_check_regions": [],
    "health_check_validate_certs": True,
}
# How Cloudflare is reached, and which host name it is about; the rest is stored with the definition.
_ACCESS = (
    "zone",
    "record",
    "account_id",
    "api_token",
    "account_api_key",
    "account_email",
    "endpoint_url",
    "timeout",
)
_RANGES = {
    "ttl": (30, 86400),
    "health_check_interval": (5, 3600),
    "health_check_timeout": (1, 10),
    "health_check_retries": (0, 5),
    "health_check_threshold": (1, 10),
}


def arguments() -> dict[str, Any]:
    """Give the suboptions of the module's option ``cloudflare``."""
    return {
        "zone": {"type": "str", "required": True, "aliases": ["domain"]},
        "record": {"type": "str", "required": True},
        "account_id": {"type": "str"},
        "api_token": {"type": "str", "no_log": True},
        "account_api_key": {"type": "str", "aliases": ["account_api_token"], "no_log": True},
        "account_email": {"type": "str"},
        "endpoint_url": {"type": "str"},
        "timeout": {"type": "float", "default": 30.0},
        "policy": {"type": "str", "choices": list(POLICIES)},
        "proxied": {"type": "bool"},
        "ttl": {"type": "int"},
        "locations": {"type": "dict"},
        "health_check_type": {"type": "str", "choices": list(CHECK_TYPES)},
        "health_check_port": {"type": "int"},
        "health_check_path": {"type": "str"},
        "health_check_host": {"type": "str"},
        "health_check_interval": {"type": "int"},
        "health_check_timeout": {"type": "int"},
        "health_check_retries": {"type": "int"},
        "health_check_threshold": {"type": "int"},
        "health_check_regions": {"type": "list", "elements": "str", "choices": list(REGIONS)},
        "health_check_validate_certs": {"type": "bool"},
    }


def settings_from_params(params: Mapping[str, Any]) -> dict[str, Any]:
    """Check and take over what the user set of the balancer's settings.

    :raises InputError: on a value that Cloudflare would refuse in the middle of a change.
    """
    given = read_settings(params, "cloudflare", _ACCESS, _RANGES)
    if "health_check_regions" in given:
        given["health_check_regions"] = sorted(set(given["health_check_regions"]))
    return given
