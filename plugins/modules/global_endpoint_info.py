#!/usr/bin/python
# SPDX-FileCopyrightText: The modelfleet maintainers
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Tell what an endpoint is and who carries its traffic."""

from __future__ import annotations

DOCUMENTATION = r"""
module: global_endpoint_info
short_description: Tell who carries the traffic of a global endpoint
description:
  - Reads the definition of the endpoint from the balancer, and the balancer's own view of each member.
  - Needs nothing from the clusters.
version_added: 0.1.0
author:
  - The modelfleet maintainers (@modelfleet)
extends_documentation_fragment:
  - modelfleet.serving.attributes.info
  - modelfleet.serving.attributes.endpoint
  - modelfleet.serving.endpoint
seealso:
  - module: modelfleet.serving.global_endpoint
"""

EXAMPLES = r"""
- name: Look at the endpoint
  modelfleet.serving.global_endpoint_info:
    haproxy:
      config_path: /srv/haproxy/haproxy.cfg
      master: 127.0.0.1:9998
  register: endpoint

- name: Look at an endpoint that is a DNS record
  modelfleet.serving.global_endpoint_info:
    balancer: rfc2136
    rfc2136:
      server: ns1.example.org
      zone: example.org
      record: models.example.org
      key_name: modelfleet
      key_secret: "{{ vaulted_dns_key }}"
  register: endpoint

- name: Nobody may have changed it by hand
  ansible.builtin.assert:
    that: endpoint.drift | length == 0
"""

RETURN = r"""
exists:
  description: Whether the balancer carries an endpoint of ours.
  returned: success
  type: bool
addresses:
  description:
    - Where clients go. The name of the record with O(balancer=rfc2136), O(balancer=route53) and O(balancer=cloudflare), the name
      under C(trafficmanager.net) with O(balancer=traffic_manager), and the IP address with O(balancer=google_cloud).
    - Empty with O(balancer=haproxy), which does not know by which name or address clients find its machine, and when there is
      no endpoint.
  returned: success
  type: list
  elements: str
  sample: [models.example.org]
endpoint:
  description: The stored definition, as M(modelfleet.serving.global_endpoint) returns it; V(null) when there is none.
  returned: success
  type: dict
epoch:
  description: The highest epoch of the fleet lock under which the definition was changed, 0 without one.
  returned: success
  type: int
digest:
  description: Digest of the definition, for O(modelfleet.serving.global_endpoint#module:if_digest). Empty when there is none.
  returned: success
  type: str
members:
  description: The members, by name.
  returned: success
  type: list
  elements: dict
  contains:
    name:
      description: Name of the cluster.
      type: str
    address:
      description: Address of its edge.
      type: str
    port:
      description: Port of its edge.
      type: int
    weight:
      description: Its share when it takes traffic.
      type: int
    state:
      description: V(active), V(standby) or V(drained).
      type: str
    traffic:
      description: The weight in force; 0 for a drained member.
      type: int
    forced:
      description: What someone set by hand, such as V(maintenance), or V(standby, weight 100) of a member that is none.
      type: str
    up:
      description: Whether the health check of every model passes; V(null) where the balancer checks nobody.
      type: bool
    models:
      description: Whether the health check passes, by model.
      type: dict
    reasons:
      description: The balancer's own words, by model that fails.
      type: dict
    sessions:
      description: Requests that the member is working on; V(null) where the balancer does not see them.
      type: int
    rate:
      description:
        - Requests that the balancer sent it in the last second, of all models and by REST and gRPC; null where the balancer does not
          tell. Health checks are not among them.
      type: float
active:
  description: Names of the members that take traffic, by the definition.
  returned: success
  type: list
  elements: str
fail_open:
  description: Models whose health check fails on every member that could take traffic. They are served unchecked.
  returned: success
  type: list
  elements: str
drift:
  description: What a run of M(modelfleet.serving.global_endpoint) without any change would mend, with C(action), C(subject), C(reason).
  returned: success
  type: list
  elements: dict
errors:
  description: Answers of 500 and above that clients got since the balancer started; V(null) where it does not tell, or has no endpoint.
  returned: success
  type: int
"""

from ansible_collections.modelfleet.serving.plugins.module_utils._call import run_as_module
from ansible_collections.modelfleet.serving.plugins.module_utils._features.global_endpoint_info import FEATURE


def main() -> None:
    """Run the module."""
    run_as_module(FEATURE)


if __name__ == "__main__":
    main()
