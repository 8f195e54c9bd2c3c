#!/usr/bin/python
# SPDX-FileCopyrightText: The modelfleet maintainers
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Any objects that belong together, applied in one call."""

from __future__ import annotations

DOCUMENTATION = r"""
module: bundle
short_description: Apply Kubernetes objects that belong together, in one call
description:
  - Makes a cluster hold exactly the objects of a bundle, whatever their kinds, and waits until all of them are ready.
  - A bundle may bring its own namespaces, and custom resources together with their definitions.
  - What left the bundle since the last run is deleted; the order of the objects does not matter.
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
    description: Name of the bundle, unique in its namespace. The bundle is known by it from one run to the next.
    type: str
    required: true
  namespace:
    description:
      - The namespace of the bundle's record, and of each object that names no other.
      - It need not exist if it is among the objects.
    type: str
    required: true
  state:
    description: Whether the bundle should exist.
    type: str
    choices: [present, absent]
    default: present
  objects:
    description:
      - The manifests, as mappings. A C(List) stands for its items, and empty documents are left out.
      - Either this or O(src) is required when O(state=present). An empty list is an error, not a deletion.
    type: list
    elements: raw
  src:
    description:
      - Paths of YAML files with the manifests, on the machine that the task runs on.
      - Sooner done than O(objects) with a lookup, since Ansible need not look through the manifests for templates.
    type: list
    elements: path
  wait:
    description:
      - Whether to wait until every object is ready, and until what was deleted is gone.
      - Workloads are ready when their rollout is complete, jobs when they have ended well, claims when they are bound or wait for
        their first pod, load balancers when they have an address, definitions when they are established, and anything else when its
        controller has seen the last change and its conditions do not say otherwise.
      - The task fails at once when waiting is of no use, such as for an image that can't be pulled or a quota that is exceeded.
    type: bool
    default: true
  wait_timeout:
    description: Seconds for everything that the task waits for, together.
    type: int
    default: 300
seealso:
  - module: kubernetes.core.k8s
    description: Manages single objects.
"""

EXAMPLES = r"""
- name: Apply what stands in a file
  modelfleet.serving.bundle:
    context: gke-europe-west1
    name: monitoring
    namespace: serving
    src: files/monitoring.yml

- name: Apply a template, with the namespace it needs
  modelfleet.serving.bundle:
    context: gke-europe-west1
    name: cache
    namespace: cache
    objects: "{{ [namespace] + (lookup('ansible.builtin.template', 'cache.yml.j2') | ansible.builtin.from_yaml_all) }}"
    wait_timeout: 600
  vars:
    namespace:
      apiVersion: v1
      kind: Namespace
      metadata:
        name: cache

- name: Remove all of it again
  modelfleet.serving.bundle:
    context: gke-europe-west1
    name: monitoring
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
from ansible_collections.modelfleet.serving.plugins.module_utils._features.bundle import FEATURE


def main() -> None:
    """Run the module."""
    run_as_module(FEATURE)


if __name__ == "__main__":
    main()
