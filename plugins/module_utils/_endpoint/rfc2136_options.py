# SPDX-FileCopyrightText: The modelfleet maintainers
# SPDX-License-Identifier: GPL-3.0-or-later
"""The options of DNS by RFC 2136: how the server is reached, and the settings that are stored with the definition."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ansible_collections.modelfleet.serving.plugins.module_utils._errors import InputError

DEFAULTS: dict[str, Any] = {"ttl": 30}
# How the server is reached and which record it is about; the rest is stored with the definition.
_ACCESS = (
    "server",
    "port",
    "zone",
    "record",
    "name_servers",
    "key_name",
    "key_secret",
    "key_algorithm",
    "timeout",
    "propagation_timeout",
)
_ALGORITHMS = ("hmac-sha1", "hmac-sha224", "hmac-sha256", "hmac-sha384", "hmac-sha512")


def arguments() -> dict[str, Any]:
    """Give the suboptions of the module's option ``rfc2136``."""
    return {
        "server": {"type": "str", "required": True},
        "port": {"type": "int", "default": 53},
        "zone": {"type": "str", "required": True},
        "record": {"type": "str", "required": True},
        "name_servers": {"type": "list", "elements": "str"},
        "key_name": {"type": "str"},
        "key_secret": {"type": "str", "no_log": True},
        "key_algorithm": {"type": "str", "choices": list(_ALGORITHMS), "default": "hmac-sha256"},
        "timeout": {"type": "float", "default": 3.0},
        "propagation_timeout": {"type": "float", "default": 15.0},
        "ttl": {"type": "int"},
    }


def settings_from_params(params: Mapping[str, Any]) -> dict[str, Any]:
    """Check and take over what the user set of the balancer's settings.

    :raises InputError: on a value that no server should see.
    """
    given = {key: value for key, value in params.items() if value is not None and key not in _ACCESS}
    if "ttl" in given and not 1 <= given["ttl"] <= 86400:
        raise InputError(f"rfc2136.ttl: {given['ttl']} is out of range.", hint="Use 1 to 86400 seconds.")
    return given
