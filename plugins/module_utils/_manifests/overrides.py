# SPDX-FileCopyrightText: The modelfleet maintainers
# SPDX-License-Identifier: GPL-3.0-or-later
"""A user's changes to our manifests, merged last by the rules of Kubernetes' strategic merge patch. Pure.

Rules: https://github.com/kubernetes/community/blob/master/contributors/devel/sig-api-machinery/strategic-merge-patch.md
"""

from __future__ import annotations

from typing import Any

from ansible_collections.modelfleet.serving.plugins.module_utils._errors import InputError

Json = dict[str, Any]

# patchMergeKey of the lists in the kinds that we make; any other list is replaced as a whole, as the API server does.
_MERGE_KEYS: dict[str, tuple[str, ...]] = {
    "containers": ("name",),
    "env": ("name",),
    "ephemeralContainers": ("name",),
    "hostAliases": ("ip",),
    "imagePullSecrets": ("name",),
    "initContainers": ("name",),
    "ports": ("containerPort", "port"),
    "topologySpreadConstraints": ("topologyKey",),
    "volumeDevices": ("devicePath",),
    "volumeMounts": ("mountPath",),
    "volumes": ("name",),
}


def override(objects: list[Json], patches: dict[str, Json]) -> tuple[Json, ...]:
    """Merge patches over manifests, by kind.

    :param patches: kind (such as ``Deployment``) to a partial manifest; ``$patch: delete`` in a map removes it.
    :raises InputError: for a kind that is not among the manifests, which would be ignored in silence otherwise, and
        for a changed identity, since the object would escape the bundle.
    """
    kinds = {manifest["kind"] for manifest in objects}
    unknown = sorted(patches.keys() - kinds)
    if unknown:
        raise InputError(
            f"overrides: there is no {', '.join(unknown)} to override.", hint=f"Use one of {', '.join(sorted(kinds))}."
        )
    for kind, patch in patches.items():
        if not isinstance(patch, dict):
            raise InputError(f"overrides: {kind} is no map.", hint="Give a partial manifest, such as {spec: {…}}.")
        metadata = patch.get("metadata", {})
        identity = {"apiVersion", "kind", "$patch"} & patch.keys()
        if identity or not isinstance(metadata, dict) or {"name", "namespace", "$patch"} & metadata.keys():
            raise InputError(
                f"overrides: the identity of the {kind} can't be changed.", hint="Change its other fields."
            )
    return tuple(_merge_map(manifest, patches.get(manifest["kind"], {})) for manifest in objects)


def _merge_map(original: Json, patch: Json) -> Json:
    if patch.get("$patch") == "replace":
        return {key: value for key, value in patch.items() if key != "$patch"}
    merged = dict(original)
    for key, value in patch.items():
        known = merged.get(key)
        if value is None or (isinstance(value, dict) and value.get("$patch") == "delete"):
            merged.pop(key, None)
        elif isinstance(value, dict):
            merged[key] = _merge_map(known if isinstance(known, dict) else {}, value)
        elif isinstance(value, list) and isinstance(known, list) and key in _MERGE_KEYS:
            merged[key] = _merge_list(known, value, key)
        else:
            merged[key] = value
    return merged


def _merge_list(original: list[Json], patch: list[Json], name: str) -> list[Json]:
    def identity(item: Any) -> Any:
        for key in _MERGE_KEYS[name]:
            if isinstance(item, dict) and key in item:
                return item[key]
        raise InputError(
            f"overrides: an item of {name} does not say which one it is.",
            hint=f"Give its {' or '.join(_MERGE_KEYS[name])}.",
        )

    if {"$patch": "replace"} in patch:
        return [item for item in patch if item != {"$patch": "replace"}]
    merged = list(original)
    for item in patch:
        wanted = identity(item)
        position = next((i for i, known in enumerate(merged) if identity(known) == wanted), None)
        if item.get("$patch") == "delete":
            if position is not None:
                del merged[position]
        elif position is None:
            merged.append(_merge_map({}, item))
        else:
            merged[position] = _merge_map(merged[position], item)
    return merged
