# SPDX-FileCopyrightText: The modelfleet maintainers
# SPDX-License-Identifier: GPL-3.0-or-later
"""Log lines on stderr in TF Serving's form."""

from __future__ import annotations

import os
import sys
import time

_VLOG = int(os.environ.get("TF_CPP_MAX_VLOG_LEVEL", "0") or 0)


def _write(level: str, message: str) -> None:
    now = time.time()
    stamp = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(now)) + f".{int(now * 1e6) % 1000000:06d}"
    sys.stderr.write(f"{stamp}: {level} {message}\n")
    sys.stderr.flush()


def info(message: str) -> None:
    """What happened."""
    _write("I", message)


def warning(message: str) -> None:
    """What may be a mistake."""
    _write("W", message)


def error(message: str) -> None:
    """What failed."""
    _write("E", message)


def verbose(message: str) -> None:
    """What only a developer wants to see; shown with TF_CPP_MAX_VLOG_LEVEL=1 or more."""
    if _VLOG:
        _write("I", message)
