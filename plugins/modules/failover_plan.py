#!/usr/bin/python
# SPDX-FileCopyrightText: The modelfleet maintainers
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a failover would do, and why."""

from __future__ import annotations

DOCUMENTATION = r"""
module: failover_plan
short_description: Decide which traffic moves, and what the safety rules say
description:
  - From what was observed and what is asked for, works out which members of an endpoint change their state, which servers need more
    replicas before, and what each safety rule says of it.
  - It calls nothing and changes nothing. The roles of this collection carry the plan out.
  - Without O(select), a failover leaves the active clusters that answer wrong to the controller and that the balancer does not find
    up. A model that most clusters answer wrong is a bad release, and no cluster is left because of it.
version_added: 0.1.0
author:
  - The modelfleet maintainers (@modelfleet)
extends_documentation_fragment:
  - modelfleet.serving.attributes.info
options:
  action:
    description:
      - V(failover) moves traffic away from clusters, V(failback) returns it to clusters that are drained.
      - V(revert) undoes the moves of the run that the journal shows as unfinished.
    type: str
    choices: [failover, failback, revert]
    required: true
  select:
    description: Names of the clusters to leave or to return to, or of their clouds.
    type: list
    elements: str
    default: []
  members:
    description: The members of the endpoint, as RV(modelfleet.serving.global_endpoint_info#module:members) gives them.
    type: list
    elements: dict
    required: true
  clusters:
    description: What is known of the clusters beside the balancer. A member that is missing here counts as not asked.
    type: list
    elements: dict
    default: []
    suboptions:
      name:
        description: Name of the cluster, which is that of its member.
        type: str
        required: true
      cloud:
        description: The cloud that it lies in.
        type: str
      jurisdiction:
        description: Where its data stays.
        type: str
      capacity:
        description: Requests a second that it takes with all its replicas.
        type: float
      replica_rate:
        description: Requests a second that one of its replicas takes. Counts where O(clusters[].capacity) is not given.
        type: float
      maximum_replicas:
        description: So many replicas a server of it may be given.
        type: int
      health:
        description: What the module M(modelfleet.serving.cluster_health) returned for it.
        type: dict
  models:
    description: The models of the catalogue.
    type: list
    elements: dict
    default: []
    suboptions:
      name:
        description: Name of the model.
        type: str
        required: true
      versions:
        description: The versions that are to be served.
        type: list
        elements: int
        default: []
      jurisdictions:
        description: Where it may be served; anywhere, when empty.
        type: list
        elements: str
        default: []
  journal:
    description: What the module M(modelfleet.serving.fleet_journal_info) returned.
    type: dict
    default: {}
  min_active:
    description: Rule C(min_active), so many members must stay active. The last one is never taken away.
    type: int
    default: 1
  required_capacity:
    description:
      - Rule C(capacity), requests a second that the remaining clusters must take together.
      - What the balancer carries at this moment counts where it is more.
    type: float
    default: 0.0
  cooldown:
    description: Rule C(cooldown), seconds that must pass after a shift.
    type: float
    default: 0.0
  override:
    description: Names of the rules to pass over.
    type: list
    elements: str
    choices: [gate, cooldown, min_active, target_healthy, version, jurisdiction, capacity]
    default: []
seealso:
  - module: modelfleet.serving.global_endpoint
"""

EXAMPLES = r"""
- name: Ask the balancer
  modelfleet.serving.global_endpoint_info:
  register: endpoint

- name: See what leaving a cloud would mean
  modelfleet.serving.failover_plan:
    action: failover
    select: [aws]
    members: "{{ endpoint.members }}"
    clusters:
      - {name: aws-eu-west-1, cloud: aws, capacity: 300}
      - {name: gcp-europe-west1, cloud: gcp, capacity: 400}
    required_capacity: 350
  register: evacuation
"""

RETURN = r"""
plan:
  description: The plan.
  returned: success
  type: dict
  contains:
    action:
      description: What was asked for.
      type: str
    status:
      description: V(go), V(nothing) when all is as asked, or V(refused).
      type: str
    reason:
      description: The whole in one sentence.
      type: str
    moves:
      description: Changes of a member's state, with C(cluster), C(before), C(after) and C(reason); those that bring traffic first.
      type: list
      elements: dict
    raises:
      description: Replicas that servers need before, with C(cluster), C(server), C(replicas) and C(reason).
      type: list
      elements: dict
    targets:
      description: The clusters that carry the traffic afterwards.
      type: list
      elements: str
    verdicts:
      description: What each safety rule says, with C(rule), C(holds), C(reason), C(overridden) and C(final).
      type: list
      elements: dict
    notes:
      description: What else the observation shows.
      type: list
      elements: str
    resumes:
      description: The interrupted run that this plan finishes.
      type: str
    abandons:
      description: The interrupted run that this plan replaces.
      type: str
"""

from ansible_collections.modelfleet.serving.plugins.module_utils._call import run_as_module
from ansible_collections.modelfleet.serving.plugins.module_utils._features.failover_plan import FEATURE


def main() -> None:
    """Run the module."""
    run_as_module(FEATURE)


if __name__ == "__main__":
    main()
