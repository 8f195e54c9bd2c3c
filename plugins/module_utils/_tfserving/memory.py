# SPDX-FileCopyrightText: The modelfleet maintainers
# SPDX-License-Identifier: GPL-3.0-or-later
"""Whether the models of a server fit into its memory, also while a new version is loaded beside the old. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from decimal import Decimal

from ansible_collections.modelfleet.serving.plugins.module_utils._errors import InputError
from ansible_collections.modelfleet.serving.plugins.module_utils._tfserving.model_config import ServedModel, steps

# A loaded version takes about so much of what its files do.
_MEMORY_PER_BYTE = Decimal("1.2")
_QUANTITY = re.compile(r"([+]?[0-9.]+(?:[eE][+-]?[0-9]+)?)(|m|k|M|G|T|P|E|Ki|Mi|Gi|Ti|Pi|Ei)")


def require_memory(
    current: Iterable[ServedModel],
    wanted: Iterable[ServedModel],
    sizes: Mapping[str, Mapping[str, int]],
    limit: str | None,
) -> None:
    """Refuse versions that can't all be loaded at the time when most of them are.

    :param sizes: model to version to the bytes of its files; what is not known counts as nothing.
    :param limit: the container's memory limit, as Kubernetes writes it; without one, or with one that is no quantity,
        there is nothing to hold the sizes against.
    :raises InputError: with what is needed, and for which versions.
    """
    available = _bytes(limit)
    wanted = tuple(wanted)
    for step in (wanted, *steps(current, wanted)):
        loaded = [(model.name, version) for model in step for version in _versions(model, sizes)]
        needed = _MEMORY_PER_BYTE * sum(sizes.get(name, {}).get(str(version), 0) for name, version in loaded)
        if available is not None and needed > available:
            listed = ", ".join(f"{name} {version}" for name, version in loaded)
            raise InputError(
                f"resources.limits.memory: {limit} is too little for {listed} at the same time: they take about "
                f"{needed / 2**20:.0f}Mi, beside what the server needs itself.",
                hint="Raise the limit, serve fewer versions at a time, or give a model a server of its own.",
            )


def _versions(model: ServedModel, sizes: Mapping[str, Mapping[str, int]]) -> list[int]:
    if model.policy == "specific":
        return list(model.versions)
    known = sorted(map(int, sizes.get(model.name, {})))
    # The one after the newest is loaded before the oldest goes.
    return known if model.policy == "all" else known[-model.num_versions - 1 :]


def _bytes(quantity: str | None) -> Decimal | None:
    match = _QUANTITY.fullmatch(str(quantity))
    if match is None:
        return None
    number, unit = match.groups()
    if unit == "m":
        return Decimal(number) / 1000
    base, power = (1024, "KMGTPE") if unit.endswith("i") else (1000, "kMGTPE")
    factor: int = base ** (power.index(unit[0]) + 1 if unit else 0)
    return Decimal(number) * factor
