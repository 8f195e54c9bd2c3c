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
  - Opens REST, and gRPC if asked, to one model by an Ingress or by an HTTPRoute of the Gateway API.
  - REST requests are told apart by the model's name in their path, on one host or on a host a model.
  - Waits until the gateway has accepted the route. An Ingress has no such status; use M(modelfleet.serving.model_probe) for it.
version_added: 0.1.0
author:
  - The modelfleet maintainers (@modelfleet)
extends_documentation_fragment:
  - modelfleet.serving.attributes
  - modelfleet.serving.attributes.cluster
  - modelfleet.serving.apply
  - modelfleet.serving.cluster
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
  kind:
    description: Whether to use Ingress or the Gateway API.
    type: str
    choices: [ingress, gateway]
    default: ingress
  hostname:
    description: Host name that requests must carry; any without it.
    type: str
  grpc:
    description:
      - Whether to let in gRPC too.
      - A gRPC call does not show its model to a proxy. Where several servers share an edge, give each model an O(hostname) of its own.
      - With O(kind=ingress), this is tested with Traefik; other controllers may need annotations of their own.
    type: bool
    default: true
  ingress_class:
    description: Ingress class, for O(kind=ingress); the cluster's default without it.
    type: str
  gateway:
    description: The Gateway to attach to. Required with O(kind=gateway).
    type: dict
    suboptions:
      name:
        description: Name of the Gateway.
        type: str
        required: true
      namespace:
        description: Its namespace; O(namespace) without it.
        type: str
  annotations:
    description: Annotations of the objects, for the controller.
    type: dict
    default: {}
  overrides:
    description:
      - Changes to the manifests, by kind, merged last by the rules of Kubernetes' strategic merge patch.
      - A map with C($patch) set to V(delete), or a value of V(null), removes an entry.
    type: dict
    default: {}
  wait:
    description: Whether to wait until the gateway has accepted the route.
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
