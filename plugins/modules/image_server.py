#!/usr/bin/python
# SPDX-FileCopyrightText: The modelfleet maintainers
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A model that is served by its own image, in a cluster."""

from __future__ import annotations

DOCUMENTATION = r"""
module: image_server
short_description: Deploy a model that has an image of its own
description:
  - Serves a model that is no SavedModel, such as one of scikit-learn, by an image that answers its requests.
  - Makes everything that a server consists of in one call - Deployment, Service, service account, disruption budget and autoscaler -
    and waits until every pod is ready, as M(modelfleet.serving.model_server) does. Routes, probes and the global endpoint work as
    they do for TensorFlow Serving.
  - The image listens on the port in the environment variable E(PORT), which is 8501, and serves the model that E(MODEL_NAME) names.
    It answers C(GET /v1/models/NAME) with 200 when it is ready, and C(POST /v1/models/NAME:predict) as TensorFlow Serving's REST
    interface and KServe's first protocol do.
  - It runs as any user but root, with a root file system that is read-only and a writable C(/tmp), and has the command C(sleep).
version_added: 0.1.0
author:
  - The modelfleet maintainers (@modelfleet)
extends_documentation_fragment:
  - modelfleet.serving.attributes
  - modelfleet.serving.attributes.cluster
  - modelfleet.serving.apply
  - modelfleet.serving.cluster
seealso:
  - module: modelfleet.serving.model_image
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
    description: The image, pinned by version, digest or content. Required with O(state=present).
    type: str
  model:
    description: Name of the model, by which clients ask for it. Required with O(state=present).
    type: str
  env:
    description: Environment variables of the container, beside E(PORT) and E(MODEL_NAME).
    type: dict
    default: {}
  arguments:
    description: Arguments of the image's entrypoint, such as C(--http_port=8501).
    type: list
    elements: str
    default: []
  replicas:
    description: Number of pods.
    type: int
    default: 2
  autoscaling:
    description:
      - Lets the number of pods follow the load, by a HorizontalPodAutoscaler. O(replicas) does not count then.
    type: dict
    suboptions:
      min_replicas:
        description: Pods at least.
        type: int
        default: 2
      max_replicas:
        description: Pods at most.
        type: int
        required: true
      cpu:
        description: Percent of the requested CPU that the pods should use on average.
        type: int
      memory:
        description: The same for memory.
        type: int
      metrics:
        description: Further metrics, as C(spec.metrics) of C(autoscaling/v2) has them.
        type: list
        elements: dict
        default: []
      behavior:
        description: How fast to scale, as C(spec.behavior) of C(autoscaling/v2) has it.
        type: dict
        default: {}
  resources:
    description: Resource requests and limits of the container.
    type: dict
    default: {}
  drain_seconds:
    description:
      - How long a pod that is told to leave keeps answering.
      - Longer than the balancer needs to notice, and than the longest request takes.
    type: int
    default: 15
  start_seconds:
    description: How long a pod may take until it is ready for the first time.
    type: int
    default: 600
  overrides:
    description:
      - Changes to the manifests, by kind, merged last by the rules of Kubernetes' strategic merge patch.
      - A map with C($patch) set to V(delete), or a value of V(null), removes an entry.
    type: dict
    default: {}
  wait:
    description: Whether to wait until every pod is ready.
    type: bool
    default: true
  wait_timeout:
    description: Seconds for everything that the task waits for, together.
    type: int
    default: 600
"""

EXAMPLES = r"""
- name: Serve a forest by two pods
  modelfleet.serving.image_server:
    context: gke-europe-west1
    name: iris-forest
    namespace: serving
    model: iris_forest
    image: registry.example.com/team/iris-forest:3f1c0e7a52d84b96
    resources:
      requests: {cpu: 100m, memory: 256Mi}

- name: Serve it by KServe's own image for scikit-learn, from a private registry
  modelfleet.serving.image_server:
    context: gke-europe-west1
    name: churn
    namespace: serving
    model: churn
    image: registry.example.com/team/churn:1
    arguments: [--model_name=churn, --http_port=8501]
    overrides:
      ServiceAccount:
        imagePullSecrets:
          - name: registry
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
from ansible_collections.modelfleet.serving.plugins.module_utils._features.image_server import FEATURE


def main() -> None:
    """Run the module."""
    run_as_module(FEATURE)


if __name__ == "__main__":
    main()
