# SPDX-FileCopyrightText: The modelfleet maintainers
# SPDX-License-Identifier: GPL-3.0-or-later
"""TF Serving's model configuration: what a server is told to serve. Pure.

Format: the text form of ``ModelServerConfig``, tensorflow_serving/config/model_server_config.proto.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from ansible_collections.modelfleet.serving.plugins.module_utils._errors import InputError
from ansible_collections.modelfleet.serving.plugins.module_utils._names import (
    require_model,
    require_unique,
    require_version,
    require_version_label,
)


@dataclass(frozen=True)
class ServedModel:
    """One model of a server.

    :param versions: the versions to serve at the same time; TF Serving's policy ``specific``, the safe one.
    :param labels: names for versions, such as ``{"stable": 1}``.
    """

    name: str
    versions: tuple[int, ...]
    labels: dict[str, int] = field(default_factory=dict)


def served_models(params: Iterable[dict[str, Any]] | None) -> tuple[ServedModel, ...]:
    """Read the ``models`` option.

    :raises InputError: for bad or repeated names and versions, and for a label of a version that is not served.
    """
    models = []
    for entry in params or ():
        name = require_model(entry["name"], "models.name")
        versions = tuple(sorted(require_version(version, f"models: {name}") for version in entry["versions"]))
        if not versions:
            raise InputError(f"models: {name} has no version to serve.", hint="List one or more in versions.")
        require_unique([str(version) for version in versions], f"models: {name}: versions")
        # The values of a dict come as the user wrote them: 1 or "1".
        served = {str(version): version for version in versions}
        labels = {}
        for label, version in (entry.get("labels") or {}).items():
            require_version_label(label, f"models: {name}: labels")
            if str(version) not in served:
                raise InputError(
                    f"models: {name}: the label {label!r} is for version {version}, which is not served.",
                    hint=f"Use one of {', '.join(served)}.",
                )
            labels[label] = served[str(version)]
        models.append(ServedModel(name, versions, labels))
    if not models:
        raise InputError("models is empty.", hint="Name one model or more; use state: absent to remove the server.")
    require_unique([model.name for model in models], "models")
    return tuple(models)


def config_text(models: Iterable[ServedModel], base_path: str) -> str:
    """Write the configuration file of a server.

    :param base_path: the folder that holds one folder a model.
    """
    lines = ["model_config_list {"]
    for model in models:
        lines += ["  config {", f'    name: "{model.name}"', f'    base_path: "{base_path}/{model.name}"']
        lines += ['    model_platform: "tensorflow"', "    model_version_policy {", "      specific {"]
        lines += [f"        versions: {version}" for version in model.versions]
        lines += ["      }", "    }"]
        for label, version in sorted(model.labels.items()):
            lines += ["    version_labels {", f'      key: "{label}"', f"      value: {version}", "    }"]
        lines += ["  }"]
    return "\n".join([*lines, "}", ""])


def configured_models(text: str) -> list[str]:
    """Read the names of the models from a configuration that :func:`config_text` wrote."""
    return re.findall(r'^    name: "([^"]+)"$', text, re.MULTILINE)


def configured_versions(text: str) -> list[tuple[str, set[int] | None]]:
    """Read each model's folder and versions from a configuration that :func:`config_text` wrote.

    The versions are None where the server chooses them itself.
    """
    found: list[tuple[str, set[int] | None]] = []
    for block in text.split("\n  config {")[1:]:
        path = re.search(r'^    base_path: "([^"]+)"$', block, re.MULTILINE)
        versions = {int(number) for number in re.findall(r"^ +versions: (\d+)$", block, re.MULTILINE)}
        if path:
            found.append((path[1], versions or None))
    return found
