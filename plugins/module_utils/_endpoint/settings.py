# SPDX-FileCopyrightText: The modelfleet maintainers
# SPDX-License-Identifier: GPL-3.0-or-later
"""The settings that the clouds' balancers have alike, as a user gives them. Pure."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

from ansible_collections.modelfleet.serving.plugins.module_utils._endpoint.definition import require_port
from ansible_collections.modelfleet.serving.plugins.module_utils._endpoint.health_check import require_path
from ansible_collections.modelfleet.serving.plugins.module_utils._errors import InputError
from ansible_collections.modelfleet.serving.plugins.module_utils._names import require_host_name


def read_settings(
    params: Mapping[str, Any], balancer: str, access: Collection[str], ranges: Mapping[str, tuple[int, int]]
) -> dict[str, Any]:
    """Give the settings that were given, those checked that several balancers have.

    :param access: options that are no settings.
    :param ranges: the least and the most of numbers.
    :raises InputError: naming the option.
    """
    given = {key: value for key, value in params.items() if value is not None and key not in access}
    for key, (least, most) in ranges.items():
        if key in given and not least <= given[key] <= most:
            raise InputError(f"{balancer}.{key}: {given[key]} is out of range.", hint=f"Use {least} to {most}.")
    if given.get("health_check_port"):
        require_port(given["health_check_port"], f"{balancer}.health_check_port")
    require_path(given.get("health_check_path", ""), f"{balancer}.health_check_path")
    if given.get("health_check_host"):
        require_host_name(given["health_check_host"], f"{balancer}.health_check_host")
    if "locations" in given:
        given["locations"] = {
            str(place): _member_names(names, f"{balancer}.locations[{place}]")
            for place, names in given["locations"].items()
        }
    return given


def _member_names(names: Any, option: str) -> list[str]:
    """Check the members of a place: a name, or a list of names, the preferred first."""
    if isinstance(names, str):
        return [names]
    if not isinstance(names, list) or not names or not all(isinstance(name, str) for name in names):
        raise InputError(f"{option}: {names!r} is no list of members.", hint="Name its members, the preferred first.")
    return names
