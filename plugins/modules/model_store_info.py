#!/usr/bin/python
# SPDX-FileCopyrightText: The modelfleet maintainers
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the stores of a namespace hold."""

from __future__ import annotations

DOCUMENTATION = r"""
module: model_store_info
short_description: Read which model versions the stores of a namespace hold
description:
  - Reads the recorded versions of each store and, on demand, holds the bytes in the volume against their digests.
version_added: 0.1.0
author:
  - The modelfleet maintainers (@modelfleet)
extends_documentation_fragment:
  - modelfleet.serving.attributes.info
  - modelfleet.serving.attributes.cluster
  - modelfleet.serving.cluster
options:
  namespace:
    description: The namespace of the stores.
    type: str
    required: true
  name:
    description: Name of one store; all of them without it.
    type: str
  verify:
    description:
      - Whether to compute the digests of the files in the volume, which finds a version that was tampered with.
      - A running pod that has the store mounted at C(/models) does it, with a C(sha256sum) a file and as many at a time as it has
        processors; without one, the store counts as not verified.
    type: bool
    default: false
  wait_timeout:
    description: Seconds for verifying.
    type: int
    default: 600
"""

EXAMPLES = r"""
- name: Verify the stores
  modelfleet.serving.model_store_info:
    context: gke-europe-west1
    namespace: serving
    verify: true
"""

RETURN = r"""
stores:
  description: The stores.
  returned: success
  type: list
  elements: dict
  contains:
    name:
      description: Name of the claim.
      type: str
    phase:
      description: Phase of the claim, such as V(Bound).
      type: str
    capacity:
      description: Capacity of the volume.
      type: str
    versions:
      description: Model to version to digest.
      type: dict
    verified:
      description: Whether a pod could compute the digests. Only with O(verify).
      type: bool
    tampered:
      description: The versions whose files are not the published ones. Only with O(verify).
      type: list
      elements: dict
"""

from ansible_collections.modelfleet.serving.plugins.module_utils._call import run_as_module
from ansible_collections.modelfleet.serving.plugins.module_utils._features.model_store_info import FEATURE


def main() -> None:
    """Run the module."""
    run_as_module(FEATURE)


if __name__ == "__main__":
    main()
