# SPDX-FileCopyrightText: The modelfleet maintainers
# SPDX-License-Identifier: GPL-3.0-or-later
"""Let the tests import the collection by its full name, from a clean clone too."""

from __future__ import annotations

import contextlib
import os
import sys
from pathlib import Path

CHECKOUT = Path(__file__).resolve().parent.parent
COLLECTIONS = CHECKOUT / "build" / "collections"

_link = COLLECTIONS / "ansible_collections" / "modelfleet" / "serving"
if not _link.exists():
    _link.parent.mkdir(parents=True, exist_ok=True)
    with contextlib.suppress(FileExistsError):  # another test worker was faster
        _link.symlink_to(os.path.relpath(CHECKOUT, _link.parent.resolve()))

sys.path.insert(0, str(COLLECTIONS))
