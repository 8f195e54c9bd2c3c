#!/usr/bin/python
# SPDX-FileCopyrightText: The modelfleet maintainers
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Where the routes of a namespace begin."""

from __future__ import annotations

DOCUMENTATION = r"""
module: model_route_info
short_description: Read where the routes of a namespace begin
description:
  - Reads the routes that M(modelfleet.serving.model_route) and M(modelfleet.serving.serving_prober) have made, with their hosts and
    the addresses of the edge that serves them.
  - The addresses are those that the ingress controller, the gateway or OpenShift's router has written into the status. One that
    writes none, as a controller without a load balancer in front may do, has to be told to.
version_added: 0.1.0
author:
  - The modelfleet maintainers (@modelfleet)
extends_documentation_fragment:
  - modelfleet.serving.attributes.info
  - modelfleet.serving.attributes.cluster
  - modelfleet.serving.cluster
options:
  namespace:
    description: The namespace of the routes.
    type: str
    required: true
"""

EXAMPLES = r"""
- name: Find the address of the cluster's edge
  modelfleet.serving.model_route_info:
    context: gke-europe-west1
    namespace: serving
  register: edge

- name: Show it
  ansible.builtin.debug:
    msg: "{{ edge.addresses | first }}"
"""

RETURN = r"""
addresses:
  description: The addresses of all routes, IP addresses and host names, each once.
  returned: success
  type: list
  elements: str
  sample: [203.0.113.10]
routes:
  description: The routes, one entry for each object that a controller serves.
  returned: success
  type: list
  elements: dict
  contains:
    kind:
      description: V(Ingress), V(HTTPRoute) or V(Route).
      type: str
    name:
      description: Name of the object.
      type: str
    model:
      description: The model that it leads to; null for the route of a prober.
      type: str
    hosts:
      description: The host names that requests must carry; empty where any will do.
      type: list
      elements: str
    addresses:
      description: The addresses of the edge that serves it.
      type: list
      elements: str
"""

from ansible_collections.modelfleet.serving.plugins.module_utils._call import run_as_module
from ansible_collections.modelfleet.serving.plugins.module_utils._features.model_route_info import FEATURE


def main() -> None:
    """Run the module."""
    run_as_module(FEATURE)


if __name__ == "__main__":
    main()
