#!/usr/bin/python
# SPDX-FileCopyrightText: The modelfleet maintainers
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""How a cluster is, for who decides on a failover."""

from __future__ import annotations

DOCUMENTATION = r"""
module: cluster_health
short_description: Observe a cluster for a failover
description:
  - Asks the cluster's edge for the golden predictions of each model and for the versions that are loaded, and at the same time the
    cluster's API for its servers and their replicas. M(modelfleet.serving.failover_plan) decides by the answers of all clusters.
  - A cluster that is silent is a finding, not a failure. The task is never unreachable, and fails for bad input only, such as a
    kubeconfig that does not exist.
  - The whole takes no longer than O(deadline), whatever hangs.
version_added: 0.1.0
author:
  - The modelfleet maintainers (@modelfleet)
extends_documentation_fragment:
  - modelfleet.serving.attributes.info
  - modelfleet.serving.attributes.cluster
  - modelfleet.serving.cluster
options:
  edge_url:
    description: The cluster's edge, as this machine reaches it.
    type: str
    required: true
  host_header:
    description: Host header of the requests to the edge, where it tells models apart by it.
    type: str
  models:
    description: The models with their golden requests.
    type: list
    elements: dict
    required: true
    suboptions:
      name:
        description: Name of the model.
        type: str
        required: true
      golden:
        description: Its golden requests, one or more. After the first that is not answered right, the rest are not sent.
        type: list
        elements: dict
        required: true
        suboptions:
          name:
            description: Name of the request, for messages.
            type: str
            default: golden
          request:
            description: Body of the prediction request, such as C({"instances":[1.0,2.0,5.0]}).
            type: dict
            required: true
          response:
            description: The right answer, such as C({"predictions":[2.5,3.0,4.5]}).
            type: dict
            required: true
          tolerance:
            description: How far a number may be off, relative to the right one, or absolute near zero.
            type: float
            default: 1.0e-5
      versions:
        description: The versions that the catalogue lists. A model without any, such as one of an image, is not asked for its versions.
        type: list
        elements: int
        default: []
      host:
        description: Host header of its requests, where it has one of its own.
        type: str
  timeout:
    description: Seconds for one prediction.
    type: float
    default: 1.5
  namespace:
    description: The namespace of the servers.
    type: str
    required: true
  servers:
    description:
      - Names of the servers to report. One that does not exist is reported with no replicas.
      - Every server that this collection made in the namespace, unless set.
    type: list
    elements: str
  deadline:
    description: Seconds for the whole.
    type: float
    default: 3.0
"""

EXAMPLES = r"""
- name: Observe the cluster
  modelfleet.serving.cluster_health:
    context: gke-europe-west1
    edge_url: http://edge.gke-europe-west1.example.org
    namespace: serving
    servers: [serving]
    models:
      - name: half_plus_two
        versions: [1, 2]
        golden:
          - request: {instances: [1.0, 2.0, 5.0]}
            response: {predictions: [2.5, 3.0, 4.5]}
  register: health
"""

RETURN = r"""
edge:
  description: What the cluster's edge answered.
  returned: success
  type: dict
  contains:
    right:
      description: Whether every golden prediction of every model was right.
      type: bool
    models:
      description: The answers, by model.
      type: dict
      contains:
        right:
          description: Whether each golden prediction was right.
          type: bool
        answered:
          description:
            - Whether there was any prediction, right or wrong.
            - A wrong one may be the model's fault; silence, and an error in the place of a prediction, may be the cluster's.
          type: bool
        error:
          description: What was wrong; empty when nothing was.
          type: str
        versions:
          description: The versions that are loaded; null when that was not asked or not answered.
          type: list
          elements: int
        seconds:
          description: How long the slowest prediction took.
          type: float
      sample:
        half_plus_two: {"right": true, "answered": true, "error": "", "versions": [1, 2], "seconds": 0.011}
api:
  description: What the cluster's API said.
  returned: success
  type: dict
  contains:
    reachable:
      description: Whether it answered, be it with a refusal.
      type: bool
    error:
      description: Why there is nothing in RV(api.servers); empty when it was read.
      type: str
    servers:
      description: The servers.
      type: list
      elements: dict
      contains:
        name:
          description: Name.
          type: str
        replicas:
          description: How many pods there are to be.
          type: int
        ready:
          description: How many are ready.
          type: int
        min:
          description: The least number of pods that its autoscaler keeps; null without one.
          type: int
        max:
          description: The largest number of pods that its autoscaler allows; null without one.
          type: int
        volumes:
          description: How many pods there are filled volumes for, where each has one of its own; null where they share one.
          type: int
        models:
          description: The versions of each model that it is told to serve, and the digests that its store's record has.
          type: dict
          sample: {"half_plus_two": {"versions": [1], "digests": {"1": "sha256:6d9f4a…"}}}
"""

from ansible_collections.modelfleet.serving.plugins.module_utils._call import run_as_module
from ansible_collections.modelfleet.serving.plugins.module_utils._features.cluster_health import FEATURE


def main() -> None:
    """Run the module."""
    run_as_module(FEATURE)


if __name__ == "__main__":
    main()
