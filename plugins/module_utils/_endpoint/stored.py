# SPDX-FileCopyrightText: The modelfleet maintainers
# SPDX-License-Identifier: GPL-3.0-or-later
"""The definition as text, for a balancer that has room for words alone. Pure."""

from __future__ import annotations

import base64
import json
import zlib
from typing import Any

# What marks something as ours, for whoever looks at it.
OWNERSHIP = "Managed by modelfleet.serving.global_endpoint"
# What is unpacked at most: anybody may have written it.
_UNPACKED_BYTES = 4 * 1024 * 1024


def pack(stored: dict[str, Any]) -> str:
    """Give something as printable ASCII without spaces or quotes."""
    text = json.dumps(stored, separators=(",", ":"), sort_keys=True)
    return base64.b64encode(zlib.compress(text.encode(), 9)).decode()


def unpack(packed: str | bytes) -> Any:
    """Read back what :func:`pack` gave.

    :raises ValueError, zlib.error: when it is something else.
    """
    unpacking = zlib.decompressobj()
    return json.loads(unpacking.decompress(base64.b64decode(packed, validate=True), _UNPACKED_BYTES))


def split(packed: str, size: int) -> list[str]:
    """Give a long text in parts of at most so many characters."""
    return [packed[start : start + size] for start in range(0, len(packed), size)]
