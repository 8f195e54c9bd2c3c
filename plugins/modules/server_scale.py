#!/usr/bin/python
# SPDX-FileCopyrightText: The modelfleet maintainers
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""More replicas of a server for a while."""

from __future__ import annotations

DOCUMENTATION = r"""
module: server_scale
short_description: Raise the replicas of a server for a while
description:
  - Raises how many pods a server has at least, such as before a failover brings it the traffic of another cluster, and waits until
    they are ready. Gives back afterwards what there was before.
  - Where the server has an autoscaler, that keeps deciding; its C(minReplicas) is raised, and its C(maxReplicas) if that is lower.
    Otherwise the C(replicas) of the Deployment or StatefulSet are.
  - What there was before is noted on the raised object. Until it is restored, M(modelfleet.serving.model_server),
    M(modelfleet.serving.image_server) and M(modelfleet.serving.bundle) do not lower what is raised, and do not report it as a change.
    What they would set meanwhile goes into the note, and is what is given back.
  - More pods than there are filled volumes for are refused, where each pod of the server has one of its own.
  - If the pods can't be had, such as for want of nodes or by a quota, the task fails with the reason, and the raise is undone.
version_added: 0.1.0
author:
  - The modelfleet maintainers (@modelfleet)
extends_documentation_fragment:
  - modelfleet.serving.attributes
  - modelfleet.serving.attributes.cluster
  - modelfleet.serving.cluster
options:
  name:
    description: Name of the server.
    type: str
    required: true
  namespace:
    description: The namespace of the server.
    type: str
    required: true
  state:
    description:
      - V(raised) makes sure that there are at least O(replicas). It never lowers anything.
      - V(restored) ends a raise, if there is one.
    type: str
    choices: [raised, restored]
    default: raised
  replicas:
    description: The least number of pods. Required with O(state=raised).
    type: int
  reason:
    description: Why it is raised, for people who look at the object.
    type: str
    default: ""
  wait:
    description: Whether to wait until the pods of a raise are ready. Without it, pods that can't be had are not noticed.
    type: bool
    default: true
  wait_timeout:
    description: Seconds for everything that the task waits for, together.
    type: int
    default: 300
notes:
  - An autoscaler looks about every 15 seconds, so a raise takes that much longer where there is one.
seealso:
  - module: modelfleet.serving.failover_plan
"""

EXAMPLES = r"""
- name: Make room for the traffic of another cluster
  modelfleet.serving.server_scale:
    context: gke-europe-west1
    namespace: serving
    name: serving
    replicas: 6
    reason: failover from aws-eu-west-1

- name: Give it back
  modelfleet.serving.server_scale:
    context: gke-europe-west1
    namespace: serving
    name: serving
    state: restored
"""

RETURN = r"""
replicas:
  description: The least number of pods that the server is to have now.
  returned: success
  type: int
raised:
  description: The raise in force; null without one. In C(to) are the least values of the raised fields, in C(before) what they were.
  returned: success
  type: dict
  sample: {"to": {"replicas": 6}, "before": {"replicas": 2}, "reason": "failover from aws-eu-west-1"}
objects:
  description: The objects that the task looked at to change, with what happened to each.
  returned: success
  type: list
  elements: dict
  sample: [{"api_version": "apps/v1", "kind": "Deployment", "namespace": "serving", "name": "serving", "action": "updated"}]
"""

from ansible_collections.modelfleet.serving.plugins.module_utils._call import run_as_module
from ansible_collections.modelfleet.serving.plugins.module_utils._features.server_scale import FEATURE


def main() -> None:
    """Run the module."""
    run_as_module(FEATURE)


if __name__ == "__main__":
    main()
