#!/usr/bin/python
# SPDX-FileCopyrightText: The modelfleet maintainers
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The way to a model from a cluster's edge."""

from __future__ import annotations

DOCUMENTATION = r"""
module: model_route
short_description: Manage the way to a model from a cluster's edge
description:
  - Opens REST, and gRPC if asked, to one model by an Ingress, by an HTTPRoute of the Gateway API, or by Routes of OpenShift.
  - REST requests are told apart by the model's name in their path, on one host or on a host a model.
  - What Ingress and the Gateway API have no words for is said in the words of the controller, which is found by its class. What
    a controller can't be told is refused.
  - Waits until the gateway or OpenShift's router has accepted the route. An Ingress has no such status; use
    M(modelfleet.serving.model_probe) for it.
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
  model:
    description: Name of the model.
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
  server:
    description: Name of the model server. Required with O(state=present).
    type: str
  moving:
    description:
      - Names of other models whose routes are about to lead to O(server), too.
      - Their gRPC may still lead to another server by the same host, which is refused otherwise. Until it does not, both servers
        must serve all of these models.
    type: list
    elements: str
    default: []
  grpc:
    description:
      - Whether to let in gRPC too.
      - A gRPC call does not show its model to a proxy. Where several servers share an edge, give the models of each an
        O(hostname) of their own. A second server for the same host is refused where its route is in the same namespace.
      - ingress-nginx and OpenShift's router take gRPC from clients by TLS only. For the latter, O(tls) is required with it.
    type: bool
    default: true
  timeout:
    description:
      - Seconds that the answer to a REST request may take; the controller's own limit without it, but 60 seconds with
        O(kind=openshift), whose router waits for 30 only.
      - A gRPC call carries a deadline of its own. ingress-nginx and OpenShift's router are told this time for gRPC too.
    type: int
  max_body_size:
    description:
      - How large the body of a REST request may be, in bytes or with a unit, such as V(64Mi); the controller's own limit
        without it, but V(64Mi) with ingress-nginx, which takes 1 MB only.
      - Traefik takes in a request whole before it passes it on where this is set.
    type: str
  rate_limit:
    description:
      - How many requests one client address may send, as the edge sees it. Behind a balancer, that is the balancer's address.
      - Controllers count requests by path, so predictions, other calls and gRPC are counted each by itself.
      - Traefik answers 429 to what is too much, ingress-nginx 503, and OpenShift's router closes the connection.
    type: dict
    suboptions:
      requests_per_second:
        description: How many, on average.
        type: int
        required: true
      burst:
        description:
          - How many may come at once; O(rate_limit.requests_per_second) without it.
          - ingress-nginx takes multiples of O(rate_limit.requests_per_second) only, so this is rounded up. OpenShift's router
            has no burst.
        type: int
  backend_tls:
    description: Speak TLS to a server that has TLS for gRPC, which TF Serving has by C(--ssl_config_file), and verify it.
    type: dict
    suboptions:
      hostname:
        description: The name in the server's certificate.
        type: str
        required: true
      ca:
        description: The certificates of the authority that signed it, as PEM.
        type: str
        required: true
  overrides:
    description:
      - Changes to the manifests, by kind, merged last by the rules of Kubernetes' strategic merge patch.
      - A map with C($patch) set to V(delete), or a value of V(null), removes an entry.
    type: dict
    default: {}
  wait:
    description: Whether to wait until the gateway or the router has accepted the route.
    type: bool
    default: true
  wait_timeout:
    description: Seconds for everything that the task waits for, together.
    type: int
    default: 60
"""

EXAMPLES = r"""
- name: Open a model by Ingress
  modelfleet.serving.model_route:
    context: gke-europe-west1
    namespace: serving
    model: half_plus_two
    server: serving
    ingress_class: traefik

- name: Open it by the Gateway API, on a host of its own
  modelfleet.serving.model_route:
    context: gke-europe-west1
    namespace: serving
    model: half_plus_two
    server: serving
    kind: gateway
    gateway:
      name: edge
      namespace: traefik
    hostname: half-plus-two.models.example.org

- name: Open a model of large images by TLS, to a few requests of each client
  modelfleet.serving.model_route:
    context: gke-europe-west1
    namespace: serving
    model: segmentation
    server: serving
    ingress_class: traefik
    hostname: segmentation.models.example.org
    tls:
      secret: models-example-org
    max_body_size: 100Mi
    timeout: 120
    rate_limit:
      requests_per_second: 5
      burst: 20
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
from ansible_collections.modelfleet.serving.plugins.module_utils._features.model_route import FEATURE


def main() -> None:
    """Run the module."""
    run_as_module(FEATURE)


if __name__ == "__main__":
    main()
