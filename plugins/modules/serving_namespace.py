#!/usr/bin/python
# SPDX-FileCopyrightText: The modelfleet maintainers
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A namespace to serve models from."""

from __future__ import annotations

DOCUMENTATION = r"""
module: serving_namespace
short_description: Manage a namespace to serve models from
description:
  - Makes a namespace with its guard rails in one call - Pod Security level, quota, default requests, and a network policy that lets
    in nothing but the serving ports.
  - What an earlier run made and this one does not ask for is removed; nothing else ever is.
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
    description: Name of the namespace.
    type: str
    required: true
  state:
    description:
      - Whether it should exist.
      - With V(absent), a namespace that existed before this collection came to it is emptied of what the collection put into it, and
        stays.
    type: str
    choices: [present, absent]
    default: present
  labels:
    description: Further labels of the namespace.
    type: dict
    default: {}
  annotations:
    description: Annotations of the namespace.
    type: dict
    default: {}
  pod_security:
    description: The Pod Security level that its pods must meet.
    type: str
    choices: [restricted, baseline, privileged]
    default: restricted
  quota:
    description: Hard limits of a ResourceQuota, such as C(pods) or C(requests.memory). None by default.
    type: dict
    default: {}
  default_requests:
    description: What a container without resource requests of its own asks for. Nothing by default.
    type: dict
    default: {}
  isolate:
    description: Whether a network policy lets in nothing but the serving ports 8500 and 8501.
    type: bool
    default: true
  overrides:
    description:
      - Changes to the manifests, by kind, merged last by the rules of Kubernetes' strategic merge patch.
      - A map with C($patch) set to V(delete), or a value of V(null), removes an entry.
    type: dict
    default: {}
  wait:
    description: Whether to wait until a deleted namespace is gone.
    type: bool
    default: true
  wait_timeout:
    description: Seconds for everything that the task waits for, together.
    type: int
    default: 120
"""

EXAMPLES = r"""
- name: Make the namespace
  modelfleet.serving.serving_namespace:
    context: gke-europe-west1
    name: serving
    quota:
      pods: "20"

- name: Remove it with everything in it
  modelfleet.serving.serving_namespace:
    context: gke-europe-west1
    name: serving
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
from ansible_collections.modelfleet.serving.plugins.module_utils._features.serving_namespace import FEATURE


def main() -> None:
    """Run the module."""
    run_as_module(FEATURE)


if __name__ == "__main__":
    main()
