# SPDX-FileCopyrightText: The modelfleet maintainers
# SPDX-License-Identifier: GPL-3.0-or-later
"""Turn a model's name into one that Kubernetes takes."""

from __future__ import annotations

DOCUMENTATION = r"""
name: kubernetes_name
short_description: Turn a model's name into one that Kubernetes takes
version_added: 0.1.0
author:
  - The modelfleet maintainers (@modelfleet)
description:
  - Returns the name in lower case with C(-) in the place of other characters, at most 40 characters long.
  - A name that has to be changed gets four digits of its digest, so that two models never get the same one.
options:
  _input:
    description: The name of a model.
    type: str
    required: true
"""

EXAMPLES = r"""
- name: Probe the server of a model that has an image of its own
  modelfleet.serving.model_probe:
    namespace: serving
    server: "{{ 'iris_forest' | modelfleet.serving.kubernetes_name }}"
    models: "{{ serving_models | modelfleet.serving.pick('name', 'golden') }}"
"""

RETURN = r"""
_value:
  description: The name for Kubernetes.
  type: str
  sample: iris-forest-0254
"""

from collections.abc import Callable
from typing import Any

from ansible.errors import AnsibleFilterError

from ansible_collections.modelfleet.serving.plugins.module_utils._errors import InputError
from ansible_collections.modelfleet.serving.plugins.module_utils._names import kubernetes_name, require_model


def of_model(name: Any) -> str:
    """Give the name for Kubernetes; a name that is none of a model is refused."""
    try:
        return kubernetes_name(require_model(name, "modelfleet.serving.kubernetes_name"))
    except InputError as error:
        raise AnsibleFilterError(str(error)) from error


class FilterModule:
    """The filters of this file."""

    def filters(self) -> dict[str, Callable[..., Any]]:
        """Name the filters."""
        return {"kubernetes_name": of_model}
