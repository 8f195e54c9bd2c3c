# SPDX-FileCopyrightText: The modelfleet maintainers
# SPDX-License-Identifier: GPL-3.0-or-later
"""The health checks of a balancer that can only GET: what they ask for."""

from __future__ import annotations

from collections.abc import Iterable

from ansible_collections.modelfleet.serving.plugins.module_utils._endpoint.definition import Model
from ansible_collections.modelfleet.serving.plugins.module_utils._errors import InputError

# Stands for the model's name in a path.
MODEL = "{model}"


def path_of(path: str, model: str) -> str:
    """Give the path that tells of a model.

    :param path: the user's; empty for the model's metadata, which takes a loaded model, and proves no prediction.
    """
    return (path or f"/v1/models/{MODEL}/metadata").replace(MODEL, model)


def is_one_path(path: str, models: Iterable[Model]) -> bool:
    """Tell whether one path tells of all models, for a balancer that asks for no more than one."""
    return len({path_of(path, model.name) for model in models}) <= 1


def require_path(path: str, option: str) -> str:
    """Check the path that a user gave.

    :raises InputError: on what no balancer takes.
    """
    if path and not (path.startswith("/") and path.isascii() and path.isprintable() and len(path) <= 255):
        raise InputError(
            f"{option}: {path!r} is no path.",
            hint=f"Use at most 255 characters, such as '/healthz' or '/healthz/{MODEL}'.",
        )
    return path
