#!/usr/bin/python
# SPDX-FileCopyrightText: The modelfleet maintainers
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What is left in a namespace of servers and routes that the catalogue does not have any more."""

from __future__ import annotations

DOCUMENTATION = r"""
module: serving_prune
short_description: Remove model servers and routes that are not wanted any more
description:
  - Removes from a namespace the routes of all models but those in O(models), and then, when no balancer sends requests there any
    more, all servers but those in O(servers).
  - Only removes what M(modelfleet.serving.model_route), M(modelfleet.serving.model_server) and M(modelfleet.serving.image_server)
    have made. Stores, and what M(modelfleet.serving.bundle) or anybody else has made, stay.
  - The routes of the models in O(models) must lead to the servers in O(servers) already. See what would go in check mode first.
version_added: 0.1.0
author:
  - The modelfleet maintainers (@modelfleet)
extends_documentation_fragment:
  - modelfleet.serving.attributes
  - modelfleet.serving.attributes.cluster
  - modelfleet.serving.cluster
options:
  namespace:
    description: The namespace.
    type: str
    required: true
  models:
    description: Names of the models whose routes stay. An empty list is refused.
    type: list
    elements: str
    required: true
  servers:
    description: Names of the servers that stay. An empty list is refused.
    type: list
    elements: str
    required: true
  drain_seconds:
    description: Seconds between the routes and the servers, in which balancers notice that routes are gone or lead elsewhere.
    type: int
    default: 15
  wait:
    description: Whether to wait until all of it is gone.
    type: bool
    default: true
  wait_timeout:
    description: Seconds for everything that the task waits for, together, beside O(drain_seconds).
    type: int
    default: 120
"""

EXAMPLES = r"""
- name: Leave one server with two models
  modelfleet.serving.serving_prune:
    context: gke-europe-west1
    namespace: serving
    servers: [serving]
    models: [half_plus_two, iris]
"""

RETURN = r"""
servers:
  description: Names of the servers that were removed, or would be in check mode.
  returned: success
  type: list
  elements: str
objects:
  description: Every object that was removed, or would be in check mode.
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
      description: V(deleted), or V(failed) for an object that could not be.
      type: str
    error:
      description: Why the object was refused.
      type: str
      returned: when it was
"""

from ansible_collections.modelfleet.serving.plugins.module_utils._call import run_as_module
from ansible_collections.modelfleet.serving.plugins.module_utils._features.serving_prune import FEATURE


def main() -> None:
    """Run the module."""
    run_as_module(FEATURE)


if __name__ == "__main__":
    main()
