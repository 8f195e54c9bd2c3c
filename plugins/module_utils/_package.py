# SPDX-FileCopyrightText: The modelfleet maintainers
# SPDX-License-Identifier: GPL-3.0-or-later
"""Python packages that only some features need: imported when they are, so that nobody else has to install them."""

from __future__ import annotations

import importlib
import traceback
from typing import Any

from ansible_collections.modelfleet.serving.plugins.module_utils._errors import InputError


def import_package(module: str, installed_as: str) -> Any:
    """Import a package, or one of its modules.

    :param installed_as: the name that pip knows the package by.
    :raises InputError: when it, or what it needs itself, is not installed.
    """
    try:
        return importlib.import_module(module)
    except ImportError as missing:
        package = (missing.name or module).partition(".")[0]
        if package == module.partition(".")[0]:
            package = installed_as
        raise InputError(
            f"The Python package {package!r} is missing from the interpreter that runs this task.",
            hint=f"Install it there: pip install {package}",
            details={"exception": "".join(traceback.format_exception(missing))},
        ) from missing
