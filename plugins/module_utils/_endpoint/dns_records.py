# SPDX-FileCopyrightText: The modelfleet maintainers
# SPDX-License-Identifier: GPL-3.0-or-later
"""What every balancer that is DNS has alike: members' records, the definition as strings of TXT, what DNS cannot say.

The definition has a name of its own, since beside a CNAME nothing may stand, and since others use TXT, too.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable
from typing import Any

from ansible_collections.modelfleet.serving.plugins.module_utils._endpoint.balancer import others
from ansible_collections.modelfleet.serving.plugins.module_utils._endpoint.definition import (
    DEFAULT_MODEL_TIMEOUT,
    Member,
    Model,
)
from ansible_collections.modelfleet.serving.plugins.module_utils._endpoint.stored import pack, split
from ansible_collections.modelfleet.serving.plugins.module_utils._errors import InputError

# The first string of our TXT record is OWNERSHIP, the others are the definition.
LABEL = "_modelfleet"
TYPES = ("A", "AAAA", "CNAME")

_STRING_BYTES = 255


def strings(stored: dict[str, Any]) -> list[str]:
    """Give something as strings that a TXT record can hold; joined, they are what ``stored.unpack`` takes."""
    return split(pack(stored), _STRING_BYTES)


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
