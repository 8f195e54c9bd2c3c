# SPDX-FileCopyrightText: The modelfleet maintainers
# SPDX-License-Identifier: GPL-3.0-or-later
"""The volumes of a server whose pods have one each: whether they hold what it serves, and all of them the same."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from ansible_collections.modelfleet.serving.plugins.module_utils._cluster.session import Json
from ansible_collections.modelfleet.serving.plugins.module_utils._errors import InputError
from ansible_collections.modelfleet.serving.plugins.module_utils._manifests.names import claim_name
from ansible_collections.modelfleet.serving.plugins.module_utils._store.record import Record, read_record
from ansible_collections.modelfleet.serving.plugins.module_utils._tfserving.model_config import ServedModel


def common(records: Iterable[Record]) -> Record:
    """Give what all of some records have, with the same digest."""
    first, *others = [*records] or [{}]
    found = {
        model: {
            version: digest
            for version, digest in versions.items()
            if all(other.get(model, {}).get(version) == digest for other in others)
        }
        for model, versions in first.items()
    }
    return {model: versions for model, versions in found.items() if versions}


def lacking(record: Record, reference: Record, models: Iterable[ServedModel]) -> str:
    """Say what a volume lacks for a pod to serve what the others do; ``""`` when it lacks nothing.

    :param reference: what the volume of the first pod holds.
    """
    for model in models:
        held, wanted = record.get(model.name, {}), reference.get(model.name, {})
        if not held:
            return f"holds nothing of {model.name}"
        # What the server chooses by itself depends on all that is there.
        chosen = sorted(held.keys() | wanted.keys(), key=int)
        for version in map(str, model.versions) if model.policy == "specific" else chosen:
            if version not in held:
                return f"lacks {model.name} version {version}"
            if version in wanted and held[version] != wanted[version]:
                return f"holds other files of {model.name} version {version}"
            if version not in wanted:
                return f"holds {model.name} version {version}, which the others lack"
    return ""


def filled(claims: Mapping[str, Json], store: str, server: str, models: Iterable[ServedModel]) -> tuple[int, str]:
    """Count the pods that there can be, by the volumes from the first one on that hold what the server serves.

    :param claims: the claims of the namespace by their names.
    :returns: beside their number, why the next one does not count.
    """
    models, number = tuple(models), 0
    reference = read_record(claims.get(claim_name(store, server, 0)))
    while True:
        name = claim_name(store, server, number)
        if name not in claims:
            return number, f"{name} does not exist"
        if text := lacking(read_record(claims[name]), reference, models):
            return number, f"{name} {text}"
        number += 1


def require_filled(
    cluster: str, claims: Mapping[str, Json], store: str, server: str, pods: int, models: Iterable[ServedModel]
) -> None:
    """Refuse more pods than there are volumes for: another one would get an empty volume, and never be ready.

    :raises InputError: with the first volume that is missing, and why.
    """
    number, why = filled(claims, store, server, models)
    if number < pods:
        raise InputError(
            f"cluster {cluster}: {pods} pods of {server} need {pods} filled volumes, and there are {number}: "
            f"the claim {why}.",
            hint=f"Fill them by modelfleet.serving.model_store first, with name: {store} and per_pod of this server.",
        )
