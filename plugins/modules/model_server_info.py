#!/usr/bin/python
# SPDX-FileCopyrightText: The modelfleet maintainers
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the model servers of a namespace serve."""

from __future__ import annotations

DOCUMENTATION = r"""
module: model_server_info
short_description: Read what the model servers of a namespace serve
description:
  - Reads the servers that this collection made, and asks each of their pods which versions it serves.
version_added: 0.1.0
author:
  - The modelfleet maintainers (@modelfleet)
extends_documentation_fragment:
  - modelfleet.serving.attributes.info
  - modelfleet.serving.attributes.cluster
  - modelfleet.serving.cluster
options:
  namespace:
    description: The namespace of the servers.
    type: str
    required: true
  name:
    description: Name of one server; all of them without it.
    type: str
"""

EXAMPLES = r"""
- name: See what is served
  modelfleet.serving.model_server_info:
    context: gke-europe-west1
    namespace: serving
  register: served
"""

RETURN = r"""
servers:
  description: The servers.
  returned: success
  type: list
  elements: dict
  contains:
    name:
      description: Name.
      type: str
    image:
      description: Image of the server's container.
      type: str
    store:
      description: The claim that holds its models. Where each pod has one of its own, what the names of these begin with.
      type: str
    store_per_pod:
      description: Whether each pod has a volume of its own.
      type: bool
    replicas:
      description: Number of pods asked for.
      type: int
    available_replicas:
      description: Number of pods that are available.
      type: int
    models:
      description: Names of the models it is configured to serve.
      type: list
      elements: str
    labels:
      description: Which version each label of a model should lead to.
      type: dict
      sample: {"half_plus_two": {"stable": 1}}
    digests:
      description: Digest of each version of its models, as the store's record has it.
      type: dict
      sample: {"half_plus_two": {"1": "sha256:6d9f4a…"}}
    autoscaling:
      description:
        - Between how many pods its autoscaler keeps it, and how many that wants now; null without one.
        - Its C(fault) says why it does not scale, as when a metric is missing, once that has lasted for a minute.
      type: dict
      sample: {"min_replicas": 2, "max_replicas": 20, "desired_replicas": 3, "fault": ""}
    pods:
      description:
        - Its pods, with whether each is ready, the state of each version of each model, the version that each label leads to, and
          why it could not be asked.
      type: list
      elements: dict
      sample:
        - name: serving-6d5-x2k
          ready: true
          models: {"half_plus_two": {"1": "AVAILABLE"}}
          labels: {"half_plus_two": {"stable": 1}}
          error: ""
"""

from ansible_collections.modelfleet.serving.plugins.module_utils._call import run_as_module
from ansible_collections.modelfleet.serving.plugins.module_utils._features.model_server_info import FEATURE


def main() -> None:
    """Run the module."""
    run_as_module(FEATURE)


if __name__ == "__main__":
    main()
