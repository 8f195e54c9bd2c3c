# SPDX-FileCopyrightText: The modelfleet maintainers
# SPDX-License-Identifier: GPL-3.0-or-later
"""What every balancer that is DNS has alike: members' records, the definition as strings of TXT, what DNS cannot say.

The definition has a name of its own, since beside a CNAME nothing may stand, and since others use TXT, too.
"""

from __future__ import annotations

import base64
import ipaddress
import json
import zlib
from collections.abc import Iterable
from typing import Any

from ansible_collections.modelfleet.serving.plugins.module_utils._endpoint.balancer import others
from ansible_collections.modelfleet.serving.plugins.module_utils._endpoint.definition import (
    DEFAULT_MODEL_TIMEOUT,
    Member,
    Model,
)
from ansible_collections.modelfleet.serving.plugins.module_utils._errors import InputError

# The first string of our TXT record, for whoever looks at the zone. The others are the definition.
OWNERSHIP = "Managed by modelfleet.serving.global_endpoint"
LABEL = "_modelfleet"
TYPES = ("A", "AAAA", "CNAME")

_STRING_BYTES = 255
# What is unpacked at most: anybody may have written the record.
_UNPACKED_BYTES = 4 * 1024 * 1024


def pack(stored: dict[str, Any]) -> list[str]:
    """Give something as strings that a TXT record can hold."""
    text = json.dumps(stored, separators=(",", ":"), sort_keys=True)
    packed = base64.b64encode(zlib.compress(text.encode(), 9)).decode()
    return [packed[start : start + _STRING_BYTES] for start in range(0, len(packed), _STRING_BYTES)]


def unpack(packed: str | bytes) -> Any:
    """Read back what :func:`pack` gave, its strings joined.

    :raises ValueError, zlib.error: when it is something else.
    """
    unpacking = zlib.decompressobj()
    return json.loads(unpacking.decompress(base64.b64decode(packed, validate=True), _UNPACKED_BYTES))


def record_of(member: Member) -> tuple[str, str]:
    """Give type and value of a member's record."""
    try:
        address = ipaddress.ip_address(member.address)
    except ValueError:
        return "CNAME", f"{member.address}."
    return ("A" if address.version == 4 else "AAAA"), str(address)


def check_models(models: Iterable[Model], record: str, balancer: str) -> None:
    """Refuse of models what DNS cannot say.

    :raises InputError: naming the balancers that can.
    """
    for model in models:
        # The default is what nobody asked for.
        if model.try_timeout is not None or model.timeout != DEFAULT_MODEL_TIMEOUT:
            raise InputError(
                f"{balancer}: the model {model.name} has a timeout. No request passes through DNS, so none is given to"
                " another member.",
                hint=f"Leave out timeout and try_timeout{others('timeouts')}",
            )
        if model.host not in (None, record):
            raise InputError(
                f"{balancer}: the clusters know the model {model.name} as {model.host}, and clients ask for {record}.",
                hint=f"Give the clusters' routes the host {record}{others('hosts')}",
            )
