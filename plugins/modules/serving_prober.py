#!/usr/bin/python
# SPDX-FileCopyrightText: The modelfleet maintainers
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What answers a balancer's GET by real predictions, in a cluster."""

from __future__ import annotations

DOCUMENTATION = r"""
module: serving_prober
short_description: Manage what answers a balancer's GET by real predictions
description:
  - Most clouds' balancers can only C(GET), which proves no prediction. A prober in the cluster makes golden predictions all the
    time, and answers C(GET) with 200 while they are right, and with 503 while they are not.
  - At O(path) it answers for all O(models) together, and below it, as in C(/healthz/iris), for one. The body says for each whether
    it is right. Any other path is answered with 404.
  - It is a stock HAProxy with health checks, behind a route of its own. It asks the servers' Services, from inside of the cluster;
    what comes by the edge shows that the edge works, too.
version_added: 0.1.0
author:
  - The modelfleet maintainers (@modelfleet)
extends_documentation_fragment:
  - modelfleet.serving.attributes
  - modelfleet.serving.attributes.cluster
  - modelfleet.serving.apply
  - modelfleet.serving.cluster
  - modelfleet.serving.entrance
options:
  name:
    description: Name of its objects. No model server may have the same.
    type: str
    default: prober
  namespace:
    description: The namespace of the servers.
    type: str
    required: true
  state:
    description: Whether it should exist.
    type: str
    choices: [present, absent]
    default: present
  image:
    description: An image with HAProxy, 2.6 or later.
    type: str
    default: haproxy:3.2
  models:
    description: What to predict. Required with O(state=present).
    type: list
    elements: dict
    suboptions:
      name:
        description: Name of the model.
        type: str
        required: true
      server:
        description: Name of the server that has it.
        type: str
        required: true
      golden:
        description:
          - Golden requests of the model, whose right answers are known. The first is asked.
          - Without any, the model is asked for its metadata, which needs a loaded one.
        type: list
        elements: dict
        suboptions:
          name:
            description: Name of the request, for people.
            type: str
            default: golden
          request:
            description: Body of the prediction request.
            type: dict
            required: true
          response:
            description: The right answer. An object in it may have four keys at most, since their order is not known.
            type: dict
            required: true
          tolerance:
            description:
              - How far a number may be off, relative to the right one, or absolute near zero.
              - HAProxy compares text, by decimal places. It takes every number within the tolerance, and none beyond twice that.
            type: float
            default: 1.0e-05
      timeout:
        description: Seconds that the answer may take, 3600 at most.
        type: float
        default: 5.0
  path:
    description: The path at which it answers.
    type: str
    default: /healthz
  interval:
    description: Seconds between two predictions of a model, by each of its pods; 0.5 to 60.
    type: float
    default: 2.0
  fall:
    description: How many predictions in a row have to fail; 1 to 10. One that is right is enough to be well again.
    type: int
    default: 2
  cluster_domain:
    description: The domain of the cluster's DNS.
    type: str
    default: cluster.local
  replicas:
    description: How many pods. With one, the cluster looks sick to its balancer whenever that one moves.
    type: int
    default: 2
  resources:
    description: C(requests) and C(limits) of each pod.
    type: dict
    default: {}
  overrides:
    description:
      - Changes to the manifests, by kind, merged last by the rules of Kubernetes' strategic merge patch.
      - A map with C($patch) set to V(delete), or a value of V(null), removes an entry.
    type: dict
    default: {}
  wait:
    description: Whether to wait until its pods are ready, and the gateway or the router has accepted its route.
    type: bool
    default: true
  wait_timeout:
    description: Seconds for everything that the task waits for, together.
    type: int
    default: 120
"""

EXAMPLES = r"""
- name: Let the cluster's edge answer GET /healthz by predictions
  modelfleet.serving.serving_prober:
    context: gke-europe-west1
    namespace: serving
    ingress_class: traefik
    models:
      - name: half_plus_two
        server: serving
        golden:
          - request: {instances: [1.0, 2.0, 5.0]}
            response: {predictions: [2.5, 3.0, 4.5]}

- name: Take it away
  modelfleet.serving.serving_prober:
    context: gke-europe-west1
    namespace: serving
    state: absent
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
from ansible_collections.modelfleet.serving.plugins.module_utils._features.serving_prober import FEATURE


def main() -> None:
    """Run the module."""
    run_as_module(FEATURE)


if __name__ == "__main__":
    main()
