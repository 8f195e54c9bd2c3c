# SPDX-FileCopyrightText: The modelfleet maintainers
# SPDX-License-Identifier: GPL-3.0-or-later
"""TF Serving's model configuration: what a server is told to serve, and by which steps it gets there. Pure.

Format: the text form of ``ModelServerConfig``, tensorflow_serving/config/model_server_config.proto.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from ansible_collections.modelfleet.serving.plugins.module_utils._errors import InputError
from ansible_collections.modelfleet.serving.plugins.module_utils._names import (
    require_model,
    require_unique,
    require_version,
    require_version_label,
)

Policy = Literal["specific", "latest", "all"]

# The module options of one model of a server.
SERVED_OPTIONS: dict[str, Any] = {
    "name": {"type": "str", "required": True},
    "versions": {"type": "list", "elements": "int"},
    "version_policy": {"type": "str", "choices": ["specific", "latest", "all"], "default": "specific"},
    "num_versions": {"type": "int", "default": 1},
    "labels": {"type": "dict"},
}


@dataclass(frozen=True)
class ServedModel:
    """One model of a server.

    :param versions: the versions to serve at the same time, by the policy ``specific``, the safe one.
    :param labels: names for versions, such as ``{"stable": 1}``.
    :param policy: ``latest`` serves the newest of what the store holds, ``all`` everything; ``versions`` is empty then.
    :param num_versions: how many of the newest, for ``latest``.
    """

    name: str
    versions: tuple[int, ...] = ()
    labels: dict[str, int] = field(default_factory=dict)
    policy: Policy = "specific"
    num_versions: int = 1


def served_models(params: Iterable[dict[str, Any]] | None) -> tuple[ServedModel, ...]:
    """Read the ``models`` option (see :data:`SERVED_OPTIONS`).

    :raises InputError: for bad or repeated names and versions, for a label of a version that is not served, and for
        versions beside a policy that does not take them.
    """
    models = []
    for entry in params or ():
        name = require_model(entry["name"], "models.name")
        policy: Policy = entry.get("version_policy") or "specific"
        versions = tuple(sorted(require_version(version, f"models: {name}") for version in entry.get("versions") or ()))
        if policy == "specific" and not versions:
            raise InputError(
                f"models: {name} has no version to serve.",
                hint="List one or more in versions, or set version_policy to latest or all.",
            )
        # The catalogue lists the versions that the store gets; by another policy the server finds them there.
        if policy != "specific":
            known, versions = versions, ()
        else:
            known = versions
        number = entry.get("num_versions") or 1
        if number < 1:
            raise InputError(f"models: {name}: num_versions: {number} is too few.", hint="Use 1 or more.")
        require_unique([str(version) for version in known], f"models: {name}: versions")
        models.append(ServedModel(name, versions, _labels(name, entry, known), policy, number))
    if not models:
        raise InputError("models is empty.", hint="Name one model or more; use state: absent to remove the server.")
    require_unique([model.name for model in models], "models")
    return tuple(models)


def _labels(name: str, entry: Mapping[str, Any], versions: tuple[int, ...]) -> dict[str, int]:
    # The values of a dict come as the user wrote them: 1 or "1".
    served = {str(version): version for version in versions}
    labels = {}
    for label, version in (entry.get("labels") or {}).items():
        require_version_label(label, f"models: {name}: labels")
        if str(version) not in served:
            raise InputError(
                f"models: {name}: the label {label!r} is for version {version}, which is not served.",
                hint=f"Use one of {', '.join(served)}." if served else "List it in versions.",
            )
        labels[label] = served[str(version)]
    return labels


def config_text(models: Iterable[ServedModel], base_path: str) -> str:
    """Write the configuration file of a server.

    :param base_path: the folder that holds one folder a model.
    """
    lines = ["model_config_list {"]
    for model in models:
        lines += ["  config {", f'    name: "{model.name}"', f'    base_path: "{base_path}/{model.name}"']
        lines += ['    model_platform: "tensorflow"', "    model_version_policy {", f"      {model.policy} {{"]
        if model.policy == "latest":
            lines.append(f"        num_versions: {model.num_versions}")
        lines += [f"        versions: {version}" for version in model.versions]
        lines += ["      }", "    }"]
        for label, version in sorted(model.labels.items()):
            lines += ["    version_labels {", f'      key: "{label}"', f"      value: {version}", "    }"]
        lines += ["  }"]
    return "\n".join([*lines, "}", ""])


def read_config(text: str) -> tuple[ServedModel, ...]:
    """Read a configuration that :func:`config_text` wrote."""
    return tuple(map(_read_model, text.split("  config {\n")[1:]))


def _read_model(text: str) -> ServedModel:
    def values(pattern: str) -> list[str]:
        return re.findall(rf"^ +{pattern}$", text, re.MULTILINE)

    policy: Any = values(r"(specific|latest|all) \{")[0]
    return ServedModel(
        values('name: "([^"]+)"')[0],
        tuple(int(version) for version in values(r"versions: (\d+)")),
        dict(zip(values('key: "([^"]+)"'), map(int, values(r"value: (\d+)")), strict=True)),
        policy,
        int([*values(r"num_versions: (\d+)"), "1"][0]),
    )


def steps(current: Iterable[ServedModel], wanted: Iterable[ServedModel]) -> list[tuple[ServedModel, ...]]:
    """Give the configurations by which running servers come from one to another, the last one being the wanted one.

    First everything new is loaded beside the old, then the labels move, then the old is unloaded: a label never leads
    to a version that is not loaded, which a server refuses, and no version leaves before its successor answers.

    :param current: what is loaded, without what has failed to load.
    """
    before, after = ({model.name: model for model in models} for models in (current, wanted))
    beside, moved = [], []
    for new in after.values():
        old = before.get(new.name)
        if old is None or old.policy != "specific" or new.policy != "specific":
            # A server loads what is new before it unloads the old by itself; only labels need more than that.
            beside.append(new)
            moved.append(new)
        else:
            versions = tuple(sorted({*old.versions, *new.versions}))
            labels = {label: version for label, version in old.labels.items() if version in versions}
            beside.append(replace(new, versions=versions, labels=labels))
            moved.append(replace(new, versions=versions))
    leaving = [model for name, model in before.items() if name not in after]
    beside += leaving
    moved += leaving
    found: list[tuple[ServedModel, ...]] = []
    for step in (tuple(beside), tuple(moved), tuple(after.values())):
        if _as_set(step) != _as_set(found[-1] if found else before.values()):
            found.append(step)
    return found


def _as_set(models: Iterable[ServedModel]) -> dict[str, ServedModel]:
    return {model.name: model for model in models}
