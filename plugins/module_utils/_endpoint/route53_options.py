# SPDX-FileCopyrightText: The modelfleet maintainers
# SPDX-License-Identifier: GPL-3.0-or-later
"""The options of AWS Route 53: how it is reached, and the settings that are stored with the definition."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ansible_collections.modelfleet.serving.plugins.module_utils._endpoint.settings import read_settings

POLICIES = ("weighted", "failover", "latency", "geolocation")
CHECK_TYPES = ("HTTP", "HTTPS", "TCP", "NONE")
DEFAULTS: dict[str, Any] = {
    "policy": "weighted",
    "ttl": 30,
    "locations": {},
    "health_check_type": "HTTP",
    "health_check_port": 0,
    "health_check_path": "",
    "health_check_host": "",
    "health_check_interval": 10,
    "health_check_threshold": 3,
}
# How Route 53 is reached, and which record it is about; the rest is stored with the definition.
_ACCESS = (
    "hosted_zone",
    "record",
    "access_key",
    "secret_key",
    "session_token",
    "profile",
    "region",
    "endpoint_url",
    "aws_ca_bundle",
    "validate_certs",
    "timeout",
    "propagation_timeout",
)
_RANGES = {"ttl": (0, 86400), "health_check_threshold": (1, 10)}


def arguments() -> dict[str, Any]:
    """Give the suboptions of the module's option ``route53``."""
    return {
        "hosted_zone": {"type": "str", "required": True},
        "record": {"type": "str", "required": True},
        "access_key": {"type": "str", "aliases": ["aws_access_key_id", "aws_access_key"], "no_log": False},
        "secret_key": {"type": "str", "aliases": ["aws_secret_access_key", "aws_secret_key"], "no_log": True},
        "session_token": {"type": "str", "aliases": ["aws_session_token"], "no_log": True},
        "profile": {"type": "str", "aliases": ["aws_profile"]},
        "region": {"type": "str", "aliases": ["aws_region"]},
        "endpoint_url": {"type": "str", "aliases": ["aws_endpoint_url"]},
        "aws_ca_bundle": {"type": "path"},
        "validate_certs": {"type": "bool", "default": True},
        "timeout": {"type": "float", "default": 10.0},
        "propagation_timeout": {"type": "float", "default": 120.0},
        "policy": {"type": "str", "choices": list(POLICIES)},
        "ttl": {"type": "int"},
        "locations": {"type": "dict"},
        "health_check_type": {"type": "str", "choices": list(CHECK_TYPES)},
        "health_check_port": {"type": "int"},
        "health_check_path": {"type": "str"},
        "health_check_host": {"type": "str"},
        "health_check_interval": {"type": "int", "choices": [10, 30]},
        "health_check_threshold": {"type": "int"},
    }


def settings_from_params(params: Mapping[str, Any]) -> dict[str, Any]:
    """Check and take over what the user set of the balancer's settings.

    :raises InputError: on a value that Route 53 would refuse in the middle of a change.
    """
    return read_settings(params, "route53", _ACCESS, _RANGES)
