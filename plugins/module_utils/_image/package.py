# SPDX-FileCopyrightText: The modelfleet maintainers
# SPDX-License-Identifier: GPL-3.0-or-later
"""The Python package of Docker's makers, imported only by the one module that needs it."""

from __future__ import annotations

from typing import Any

from ansible_collections.modelfleet.serving.plugins.module_utils._package import import_package


def docker_package(module: str = "docker") -> Any:
    """Import the package, or one of its modules.

    :raises InputError: when it, or what it needs itself, is not installed.
    """
    return import_package(module, "docker")
