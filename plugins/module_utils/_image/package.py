# SPDX-FileCopyrightText: The modelfleet maintainers
# SPDX-License-Identifier: GPL-3.0-or-later
"""The Python package of Docker's makers, imported only by the one module that needs it."""

from __future__ import annotations

import importlib
import traceback
from typing import Any

from ansible_collections.modelfleet.serving.plugins.module_utils._errors import InputError


def docker_package(module: str = "docker") -> Any:
    """Import the package, or one of its modules.

    :raises InputError: when it, or what it needs itself, is not installed.
    """
    try:
        return importlib.import_module(module)
    except ImportError as missing:
        package = (missing.name or "docker").partition(".")[0]
        raise InputError(
            f"The Python package {package!r} is missing from the interpreter that runs this task.",
            hint=f"Install it there: pip install {package}",
            details={"exception": "".join(traceback.format_exception(missing))},
        ) from missing
