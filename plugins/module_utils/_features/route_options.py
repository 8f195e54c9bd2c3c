# SPDX-FileCopyrightText: The modelfleet maintainers
# SPDX-License-Identifier: GPL-3.0-or-later
"""The options that say where in a cluster's edge a route begins, whatever it leads to."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ansible_collections.modelfleet.serving.plugins.module_utils._errors import InputError
from ansible_collections.modelfleet.serving.plugins.module_utils._names import require_dns_label, require_host_name

ENTRANCE_OPTIONS: dict[str, Any] = {
    "kind": {"type": "str", "choices": ["ingress", "gateway", "openshift"], "default": "ingress"},
    # Not "host": that is the address of the cluster's API server.
    "hostname": {"type": "str"},
    "ingress_class": {"type": "str"},
    "gateway": {
        "type": "dict",
        "options": {
            "name": {"type": "str", "required": True},
            "namespace": {"type": "str"},
            "section": {"type": "str"},
        },
    },
    # The name of a Secret is none.
    "tls": {"type": "dict", "options": {"secret": {"type": "str", "required": True, "no_log": False}}},
    "annotations": {"type": "dict", "default": {}},
}


def read_entrance(params: Mapping[str, Any], namespace: str) -> dict[str, Any]:
    """Give the fields of a :class:`RouteSpec` that the options of :data:`ENTRANCE_OPTIONS` say.

    :raises InputError: where they do not go together.
    """
    gateway = params["gateway"] or {}
    kind, tls = params["kind"], params["tls"]
    if kind == "gateway" and tls:
        raise InputError(
            "tls: with kind gateway, TLS ends at a listener of the Gateway, which has the certificate.",
            hint="Leave it out, and name that listener in gateway.section.",
        )
    if kind == "openshift" and not params["hostname"]:
        raise InputError(
            "hostname: OpenShift would make up a host for each of the Routes, one a path.", hint="Give one for all."
        )
    return {
        "kind": kind,
        "host": require_host_name(params["hostname"], "hostname") if params["hostname"] else None,
        "ingress_class": params["ingress_class"],
        "gateway": (
            require_dns_label(gateway.get("namespace") or namespace, "gateway.namespace"),
            require_dns_label(gateway["name"], "gateway.name") if gateway else "",
        ),
        "section": require_dns_label(gateway["section"], "gateway.section") if gateway.get("section") else None,
        "tls_secret": require_host_name(tls["secret"], "tls.secret") if tls else None,
        "annotations": params["annotations"],
    }
