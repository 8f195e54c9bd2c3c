# SPDX-FileCopyrightText: The modelfleet maintainers
# SPDX-License-Identifier: GPL-3.0-or-later
"""The options of Google Cloud: how it is reached, and the settings that are stored with the definition."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from ansible_collections.modelfleet.serving.plugins.module_utils._endpoint.definition import require_port
from ansible_collections.modelfleet.serving.plugins.module_utils._endpoint.settings import read_settings
from ansible_collections.modelfleet.serving.plugins.module_utils._errors import InputError
from ansible_collections.modelfleet.serving.plugins.module_utils._names import require_host_name, require_unique

PROTOCOLS = ("HTTP", "HTTPS", "HTTP2", "H2C")
CHECK_TYPES = ("HTTP", "HTTPS", "HTTP2", "TCP")
AUTH_KINDS = ("application", "machineaccount", "serviceaccount", "accesstoken")
DEFAULTS: dict[str, Any] = {
    "zones": {},
    "negs": {},
    "network": "",
    "protocol": "HTTP",
    "retries": 2,
    "address": "",
    "ports": [],
    "certificates": [],
    "certificate_map": "",
    "domains": [],
    "labels": {},
    "health_check_type": "HTTP",
    "health_check_port": 0,
    "health_check_path": "",
    "health_check_host": "",
    "health_check_interval": 5,
    "health_check_threshold": 2,
}
# How Google Cloud is reached, and which load balancer it is about; the rest is stored with the definition.
_ACCESS = (
    "url_map",
    "project",
    "auth_kind",
    "service_account_file",
    "service_account_contents",
    "service_account_email",
    "access_token",
    "scopes",
    "endpoint_url",
    "ca_path",
    "validate_certs",
    "timeout",
    "operation_timeout",
)
RESOURCE_NAME = re.compile(r"[a-z]([-a-z0-9]{0,61}[a-z0-9])?")
_GROUP = re.compile(r"(https://\S+/)?projects/[^/\s]+/zones/[^/\s]+/networkEndpointGroups/[^/\s]+")
_LABEL = re.compile(r"[a-z0-9_-]{0,63}")
_RANGES = {"retries": (0, 10), "health_check_interval": (1, 300), "health_check_threshold": (1, 10)}


def arguments() -> dict[str, Any]:
    """Give the suboptions of the module's option ``google_cloud``."""
    return {
        "url_map": {"type": "str", "required": True},
        "project": {"type": "str"},
        "auth_kind": {"type": "str", "choices": list(AUTH_KINDS)},
        "service_account_file": {"type": "path"},
        "service_account_contents": {"type": "jsonarg", "no_log": True},
        "service_account_email": {"type": "str"},
        "access_token": {"type": "str", "no_log": True},
        "scopes": {"type": "list", "elements": "str"},
        "endpoint_url": {"type": "str"},
        "ca_path": {"type": "path"},
        "validate_certs": {"type": "bool", "default": True},
        "timeout": {"type": "float", "default": 20.0},
        "operation_timeout": {"type": "float", "default": 300.0},
        "zones": {"type": "dict"},
        "negs": {"type": "dict"},
        "network": {"type": "str"},
        "protocol": {"type": "str", "choices": list(PROTOCOLS)},
        "retries": {"type": "int"},
        "address": {"type": "str"},
        "ports": {"type": "list", "elements": "int"},
        "certificates": {"type": "list", "elements": "str"},
        "certificate_map": {"type": "str"},
        "domains": {"type": "list", "elements": "str"},
        "labels": {"type": "dict"},
        "health_check_type": {"type": "str", "choices": list(CHECK_TYPES)},
        "health_check_port": {"type": "int"},
        "health_check_path": {"type": "str"},
        "health_check_host": {"type": "str"},
        "health_check_interval": {"type": "int"},
        "health_check_threshold": {"type": "int"},
    }


def settings_from_params(params: Mapping[str, Any]) -> dict[str, Any]:
    """Check and take over what the user set of the balancer's settings.

    :raises InputError: on a value that Google Cloud would refuse in the middle of a change.
    """
    given = read_settings(params, "google_cloud", _ACCESS, _RANGES)
    given = {key: _texts(value) if key in ("zones", "labels") else value for key, value in given.items()}
    if given.get("address") and not RESOURCE_NAME.fullmatch(given["address"]):
        raise InputError(
            f"google_cloud.address: {given['address']!r} is no name of an address.",
            hint="Give the name under which a global address is reserved, not the number.",
        )
    if "ports" in given:
        require_unique([str(port) for port in given["ports"]], "google_cloud.ports")
        # Their order means nothing.
        given["ports"] = sorted(require_port(port, "google_cloud.ports") for port in given["ports"])
    if "domains" in given:
        require_unique(given["domains"], "google_cloud.domains")
        given["domains"] = sorted(require_host_name(name, "google_cloud.domains") for name in given["domains"])
    for member, zone in given.get("zones", {}).items():
        if not RESOURCE_NAME.fullmatch(zone):
            raise InputError(
                f"google_cloud.zones[{member}]: {zone!r} is no zone.", hint="Use a name such as europe-west1-b."
            )
    for member, groups in given.get("negs", {}).items():
        if not isinstance(groups, list) or not groups or not all(_GROUP.fullmatch(str(text)) for text in groups):
            raise InputError(
                f"google_cloud.negs[{member}]: {groups!r} is no list of network endpoint groups.",
                hint="Give the address (selfLink) of each, with its project and zone.",
            )
    for key, value in given.get("labels", {}).items():
        if not (key[:1].isalpha() and _LABEL.fullmatch(key) and _LABEL.fullmatch(value)):
            raise InputError(
                f"google_cloud.labels: {key}={value} is no label.",
                hint="Use lower-case letters, digits, '-' and '_', at most 63, and a letter first.",
            )
    return given


def _texts(entries: Mapping[Any, Any]) -> dict[str, str]:
    return {str(key): str(value) for key, value in entries.items()}
