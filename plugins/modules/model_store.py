#!/usr/bin/python
# SPDX-FileCopyrightText: The modelfleet maintainers
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The volume of a cluster's models."""

from __future__ import annotations

DOCUMENTATION = r"""
module: model_store
short_description: Manage the volume that holds a cluster's models
description:
  - Makes a PersistentVolumeClaim and fills it with model versions from folders on the machine that runs the task.
  - A version is copied to a folder that no server looks at, verified there by the digest of every file, flushed, and published by one
    rename. A copy that was cut off is continued by the next run, file by file.
  - A published version never changes; other files under the same number are refused.
  - The digests of the published versions are kept in the claim's annotation C(modelfleet.serving/versions).
  - Versions that are not listed stay in the store.
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
    description: Name of the claim.
    type: str
    required: true
  namespace:
    description: The namespace of the claim.
    type: str
    required: true
  state:
    description:
      - Whether it should exist.
      - V(absent) deletes the claim, and with most storage classes the volume.
    type: str
    choices: [present, absent]
    default: present
  size:
    description: Capacity to ask for.
    type: str
    default: 10Gi
  access_modes:
    description: Access modes of the claim.
    type: list
    elements: str
    default: [ReadWriteOnce]
  storage_class:
    description: Storage class; the cluster's default without it.
    type: str
  image:
    description:
      - Image of the pod that writes to the store.
      - Any will do that has a POSIX shell, tar, find, sort, xargs, sync and sha256sum.
    type: str
    default: busybox:1.37.0
  models:
    description: The models and versions that the store should hold. Required with O(state=present).
    type: list
    elements: dict
    suboptions:
      name:
        description: Name of the model.
        type: str
        required: true
      source:
        description: Folder on the machine that runs the task that holds one SavedModel folder a version, named by its number.
        type: path
        required: true
      versions:
        description: The versions to copy.
        type: list
        elements: int
        required: true
      digests:
        description:
          - Version to the digest that its files must have, as C(sha256:) and 64 hexadecimal digits.
          - It is what C(find . -type f -print0 | LC_ALL=C sort -z | xargs -0 sha256sum | sha256sum) prints in the version's folder.
        type: dict
  overrides:
    description:
      - Changes to the manifests, by kind, merged last by the rules of Kubernetes' strategic merge patch.
      - A map with C($patch) set to V(delete), or a value of V(null), removes an entry.
    type: dict
    default: {}
  wait_timeout:
    description: Seconds for copying, with the start of the pod that writes.
    type: int
    default: 600
"""

EXAMPLES = r"""
- name: Fill the store
  modelfleet.serving.model_store:
    context: gke-europe-west1
    name: models
    namespace: serving
    size: 20Gi
    models:
      - name: half_plus_two
        source: /srv/models/half_plus_two
        versions: [1, 2]
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
versions:
  description: Model to version to digest, of everything that the store holds, or would hold.
  returned: when O(state=present)
  type: dict
  sample: {"half_plus_two": {"1": "sha256:…"}}
copied:
  description: The versions that were copied, or would be.
  returned: when O(state=present)
  type: list
  elements: dict
  sample: [{"model": "half_plus_two", "version": 1, "digest": "sha256:…", "bytes": 12345}]
"""

from ansible_collections.modelfleet.serving.plugins.module_utils._call import run_as_module
from ansible_collections.modelfleet.serving.plugins.module_utils._features.model_store import FEATURE


def main() -> None:
    """Run the module."""
    run_as_module(FEATURE)


if __name__ == "__main__":
    main()
