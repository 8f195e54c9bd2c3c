# SPDX-FileCopyrightText: The modelfleet maintainers
# SPDX-License-Identifier: GPL-3.0-or-later
"""What every balancer that is DNS has alike: members' records, and the definition as strings of TXT.

The definition has a name of its own, since beside a CNAME nothing may stand, and since others use TXT, too.
"""

from __future__ import annotations

import ipaddress
from typing import Any

from ansible_collections.modelfleet.serving.plugins.module_utils._endpoint.definition import (
    Member,
)
from ansible_collections.modelfleet.serving.plugins.module_utils._endpoint.stored import pack, split

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
