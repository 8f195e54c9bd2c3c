#!/usr/bin/python
# SPDX-FileCopyrightText: The modelfleet maintainers
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A model server in a cluster."""

from __future__ import annotations

DOCUMENTATION = r"""
module: model_server
short_description: Manage a TensorFlow Serving deployment
description:
  - Makes everything that a model server consists of in one call - Deployment, Service, model configuration, service account and
    disruption budget.
  - Waits until every pod says of itself that it serves every version, and fails as soon as that can't happen any more.
  - A change of O(models) alone is loaded by the running pods, without a restart.
version_added: 0.1.0
author:
  - The modelfleet maintainers (@modelfleet)
extends_documentation_fragment:
  - modelfleet.serving.attributes
  - modelfleet.serving.attributes.cluster
  - modelfleet.serving.apply
  - modelfleet.serving.cluster
options:
  name:
    description: Name of the server.
    type: str
    required: true
  namespace:
    description: The namespace of the server.
    type: str
    required: true
  state:
    description: Whether it should exist.
    type: str
    choices: [present, absent]
    default: present
  image:
    description: Image with C(/usr/bin/tensorflow_model_server), pinned by version or digest.
    type: str
    default: tensorflow/serving:2.19.1
  models:
    description: What to serve. Required with O(state=present).
    type: list
    elements: dict
    suboptions:
      name:
        description: Name of the model, which is its folder in the store.
        type: str
        required: true
      versions:
        description: The versions to serve at the same time. All of them must fit into memory.
        type: list
        elements: int
        required: true
      labels:
        description: Names for versions, such as C(stable) to V(1).
        type: dict
  store:
    description: The claim that holds the models, mounted read-only. Required with O(state=present).
    type: str
  replicas:
    description: Number of pods.
    type: int
    default: 2
  resources:
    description: Resource requests and limits of the server's container.
    type: dict
    default: {}
  arguments:
    description: Further flags of the server, such as C(--enable_batching=true).
    type: list
    elements: str
    default: []
  drain_seconds:
    description:
      - How long a pod that is told to leave keeps answering.
      - Longer than the balancer needs to notice, and than the longest request takes.
    type: int
    default: 15
  start_seconds:
    description: How long the first load of all models may take.
    type: int
    default: 600
  overrides:
    description:
      - Changes to the manifests, by kind, merged last by the rules of Kubernetes' strategic merge patch.
      - A map with C($patch) set to V(delete), or a value of V(null), removes an entry.
    type: dict
    default: {}
  wait:
    description: Whether to wait until every pod serves every version.
    type: bool
    default: true
  wait_timeout:
    description: Seconds for everything that the task waits for, together.
    type: int
    default: 600
"""

EXAMPLES = r"""
- name: Serve a model by two pods
  modelfleet.serving.model_server:
    context: gke-europe-west1
    name: serving
    namespace: serving
    store: models
    models:
      - name: half_plus_two
        versions: [1, 2]
        labels:
          stable: 1
          canary: 2

- name: The same, on nodes for serving only
  modelfleet.serving.model_server:
    context: gke-europe-west1
    name: serving
    namespace: serving
    store: models
    models:
      - name: half_plus_two
        versions: [1]
    overrides:
      Deployment:
        spec:
          template:
            spec:
              nodeSelector:
                pool: serving
"""

RETURN = r"""
objects:
  description: Every object of the bundle, with what happened to it, or would in check mode.
  returned: success, and when an object was refused
  type: list
  elements: dict
  contains:
    api_version:
      description: API version.
      type: str
    kind:
      description: Kind.
      type: str
    namespace:
      description: Namespace; null for an object outside of namespaces.
      type: str
    name:
      description: Name.
      type: str
    action:
      description:
        - One of V(created), V(updated), V(unchanged) and V(deleted).
        - When the task failed on the way, also V(failed), and V(not_applied) for what it did not come to.
      type: str
    error:
      description: Why the object was refused.
      type: str
      returned: when it was
"""

from ansible_collections.modelfleet.serving.plugins.module_utils._call import run_as_module
from ansible_collections.modelfleet.serving.plugins.module_utils._features.model_server import FEATURE


def main() -> None:
    """Run the module."""
    run_as_module(FEATURE)


if __name__ == "__main__":
    main()
