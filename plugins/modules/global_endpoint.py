#!/usr/bin/python
# SPDX-FileCopyrightText: The modelfleet maintainers
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""One address in front of many clusters."""

from __future__ import annotations

DOCUMENTATION = r"""
module: global_endpoint
short_description: Put one address in front of the models of many clusters
description:
  - Puts any number of clusters, its members, behind one address for REST and gRPC, and moves traffic between them.
  - HAProxy judges each cluster by a real prediction, several times a second, and needs nobody to fail over; when every check of
    a model fails, it serves the model unchecked rather than not at all.
  - With O(balancer=rfc2136) the address is a DNS record. DNS judges nobody, so a failover is a change of this module, by a
    person or by the automatic failover.
  - With O(balancer=google_cloud) the address is that of a load balancer, whose weights and definition are in one URL map. Google
    judges members that it reaches by private connections, and others stand in for one that fails. It judges none in the internet.
  - The definition is kept at the balancer itself, so a task can change a part of it, and nothing else has to be stored.
  - Changes of traffic (O(members[].weight) and O(members[].state)) are made without a reload of HAProxy, and every change of a
    DNS record is one transaction.
  - Anything that is left out keeps its present value. In particular, a later run of the whole definition does not undo a failover.
version_added: 0.1.0
author:
  - The modelfleet maintainers (@modelfleet)
extends_documentation_fragment:
  - modelfleet.serving.attributes
  - modelfleet.serving.attributes.endpoint
  - modelfleet.serving.endpoint
options:
  name:
    description: Name of the endpoint. A HAProxy carries one, and so does a DNS record.
    type: str
    required: true
  state:
    description:
      - Whether the endpoint exists.
      - A HAProxy without an endpoint answers every request with status 503. A DNS record without one is gone.
    type: str
    choices: [present, absent]
    default: present
  members:
    description: The clusters. An empty list is an error.
    type: list
    elements: dict
    suboptions:
      name:
        description: Name of the cluster.
        type: str
        required: true
      address:
        description: Host name or IP address of the cluster's edge, as the balancer reaches it. Required for a new member.
        type: str
      port:
        description: TCP port of the cluster's edge, for REST and gRPC (HTTP/2 without TLS). V(80) for a new member.
        type: int
      weight:
        description: Share of the traffic relative to the other members, 1 to 255. V(100) for a new member.
        type: int
      state:
        description:
          - V(active) takes traffic, V(standby) only while no active member can, and V(drained) none.
          - A drained member finishes the requests that it has, is still checked, and stays drained when the balancer restarts.
          - At Google Cloud, a standby member also takes a part of the share of any one member that fails.
          - A DNS record holds the active members alone. A standby member waits there for a failover, which makes it active.
          - V(active) for a new member.
        type: str
        choices: [active, standby, drained]
      jurisdiction:
        description: Where the cluster's data stays, such as V(eu).
        type: str
  exclusive_members:
    description: Whether members that O(members) does not list are removed. With V(false), only the listed ones are changed.
    type: bool
    default: true
  models:
    description: The models, all of them. An empty list is an error.
    type: list
    elements: dict
    suboptions:
      name:
        description: Name of the model.
        type: str
        required: true
      golden:
        description:
          - Golden requests of the model, whose right answers are known. The first is the health check.
          - Without any, a cluster is healthy for the model when it answers the model's metadata.
        type: list
        elements: dict
        suboptions:
          name:
            description: Name of the request, for people.
            type: str
            default: golden
          request:
            description: Body of the prediction request.
            type: dict
            required: true
          response:
            description: The right answer. An object in it may have four keys at most, since their order is not known.
            type: dict
            required: true
          tolerance:
            description:
              - How far a number may be off, relative to the right one, or absolute near zero.
              - HAProxy compares text, by decimal places. It takes every number within the tolerance, and none beyond twice that.
            type: float
            default: 1.0e-5
      timeout:
        description: Seconds that an honest prediction of this model may take; after that, another member is asked.
        type: float
        default: 5.0
      try_timeout:
        description:
          - For a model that is usually faster than O(models[].timeout), the seconds after which a request that has no answer is
            given to another member. After two such tries it gets O(models[].timeout), so a slow but honest prediction is not lost.
          - A silent member then costs a request this time, and not that until the health checks have found it.
          - When both tries end in vain for more than a tenth of the requests and ten a second, the members are slow, and
            further requests are tried once, patiently. Only what may be repeated is tried so.
          - Use some three times what nearly all predictions take. Without it, there is one patient try.
        type: float
      host:
        description: Host name by which the clusters' edges know the model, where several servers share an edge.
        type: str
      jurisdictions:
        description:
          - Where the model may be served, by O(members[].jurisdiction); anywhere, when empty.
          - HAProxy gives a request for it to no other member, not even when all its health checks fail.
          - Of the other balancers, each gives every member requests for every model, so they refuse a member that is not
            drained and lies elsewhere.
        type: list
        elements: str
        default: []
  min_active:
    description:
      - Safety rule. A change that would leave fewer active members than this is refused.
      - An endpoint that has fewer already may keep what it has. It can never be left with none, and no model with
        O(models[].jurisdictions) without one of its own.
    type: int
    default: 1
  epoch:
    description:
      - Epoch of the fleet lock (RV(modelfleet.serving.fleet_lock#module:epoch)) that this change is made under. It is kept with the
        definition.
      - Safety rule. A change with a lower epoch than the kept one is refused, since another run has taken the lock meanwhile.
      - Without it, the kept one stays and refuses nothing.
    type: int
  if_digest:
    description:
      - Safety rule. The change is refused unless the digest of the stored definition is this one, as
        M(modelfleet.serving.global_endpoint_info) returned it when the change was decided.
      - An empty text means that there was no endpoint.
    type: str
  adopt:
    description: Whether a configuration that was not made by this module may be replaced.
    type: bool
    default: false
  wait:
    description: Whether to wait until the balancer itself finds every active member up. DNS finds nobody down.
    type: bool
    default: true
  wait_timeout:
    description: Seconds to wait.
    type: int
    default: 60
seealso:
  - module: modelfleet.serving.fleet_lock
  - module: modelfleet.serving.global_endpoint_info
  - module: modelfleet.serving.model_probe
"""

EXAMPLES = r"""
- name: Put two clusters behind HAProxy
  modelfleet.serving.global_endpoint:
    name: models
    members:
      - name: gke-europe-west1
        address: 192.0.2.10
      - name: eks-eu-west-1
        address: edge.eu-west-1.example.org
        weight: 50
    models:
      - name: half_plus_two
        golden:
          - request: {instances: [1.0, 2.0, 5.0]}
            response: {predictions: [2.5, 3.0, 4.5]}

- name: Move traffic away from one of them
  modelfleet.serving.global_endpoint:
    name: models
    exclusive_members: false
    members:
      - name: gke-europe-west1
        state: drained

- name: Use a HAProxy in a container
  modelfleet.serving.global_endpoint:
    name: models
    haproxy:
      config_path: /srv/haproxy/haproxy.cfg
      master: 127.0.0.1:9998
      stats_bind: "*:8404"
      resolvers: [127.0.0.11:53]
      validate_command: [docker, exec, -i, endpoint, haproxy, -c, -f, /dev/stdin]
    members: "{{ members }}"
    models: "{{ models }}"

- name: Use a DNS record at any name server that takes updates
  modelfleet.serving.global_endpoint:
    name: models
    balancer: rfc2136
    rfc2136:
      server: ns1.example.org
      zone: example.org
      record: models.example.org
      key_name: modelfleet
      key_secret: "{{ vaulted_dns_key }}"
      ttl: 10
    members:
      - name: gke-europe-west1
        address: 192.0.2.10
      - name: eks-eu-west-1
        address: 198.51.100.20
        state: standby
    models: "{{ models }}"

- name: Put the clusters behind a name in AWS Route 53
  modelfleet.serving.global_endpoint:
    name: models
    balancer: route53
    route53:
      hosted_zone: example.org
      record: models.example.org
      profile: dns
    members:
      - name: gke-europe-west1
        address: gke.edge.example.org
      - name: eks-eu-west-1
        address: eks.edge.example.org
        weight: 10
    models: "{{ models }}"
    wait_timeout: 120  # Route 53's health checkers take a while to report

- name: Put the clusters behind a load balancer of Google Cloud
  modelfleet.serving.global_endpoint:
    name: models
    balancer: google_cloud
    google_cloud:
      project: serving-1
      url_map: models
      network: hybrid
      zones:
        gke-europe-west1: europe-west1-b
        eks-eu-west-1: europe-west1-b
      certificates: [models-example-org]
      health_check_path: /healthz
    members:
      - name: gke-europe-west1
        address: 10.1.0.5
      - name: eks-eu-west-1
        address: 10.2.0.5
        state: standby
    models: "{{ models }}"
    wait_timeout: 300  # a new load balancer takes minutes

- name: Let each continent be answered by the clusters that may serve it
  modelfleet.serving.global_endpoint:
    name: models
    balancer: route53
    route53:
      hosted_zone: example.org
      record: models.example.org
      policy: geolocation
      locations:
        "continent:EU": [gke-europe-west1, eks-eu-west-1]
        "*": [eks-us-east-1, gke-europe-west1]
    members: "{{ members }}"
    models: "{{ models }}"

- name: Put the clusters behind a name at Cloudflare, one of them in reserve
  modelfleet.serving.global_endpoint:
    name: models
    balancer: cloudflare
    cloudflare:
      zone: example.org
      record: models.example.org
      api_token: "{{ vaulted_cloudflare_token }}"
      health_check_path: /healthz
    members:
      - name: gke-europe-west1
        address: gke.edge.example.org
      - name: eks-eu-west-1
        address: eks.edge.example.org
        state: standby
    models: "{{ models }}"
    wait_timeout: 180  # Cloudflare checks once a minute by default

- name: Put the clusters behind a name in Azure Traffic Manager, with one in reserve
  modelfleet.serving.global_endpoint:
    name: models
    balancer: traffic_manager
    traffic_manager:
      resource_group: serving
      profile_name: models-example  # clients ask models-example.trafficmanager.net
      health_check_path: /healthz
    members:
      - name: gke-europe-west1
        address: gke.edge.example.org
      - name: eks-eu-west-1
        address: eks.edge.example.org
        weight: 50
      - name: aks-westeurope
        address: aks.edge.example.org
        state: standby
    models: "{{ models }}"
    wait_timeout: 120  # Traffic Manager's probes take a while to report
"""

RETURN = r"""
addresses:
  description:
    - Where clients go. The name of the record with O(balancer=rfc2136), O(balancer=route53) and O(balancer=cloudflare), the name
      under C(trafficmanager.net) with O(balancer=traffic_manager), and the IP address with O(balancer=google_cloud).
    - Empty with O(balancer=haproxy), which does not know by which name or address clients find its machine, when there is
      no endpoint, and in check mode before Google has given an address.
  returned: success
  type: list
  elements: str
  sample: [models.example.org]
endpoint:
  description: The whole definition, as it is stored; V(null) when there is none.
  returned: success
  type: dict
  contains:
    name:
      description: Name of the endpoint.
      type: str
    members:
      description: The members, by name, each with name, address, port, weight, state and jurisdiction.
      type: list
      elements: dict
    models:
      description: The models, by name, each with name, golden, timeout, try_timeout, host and jurisdictions.
      type: list
      elements: dict
    settings:
      description: The settings of the balancer.
      type: dict
epoch:
  description: The epoch that is kept with the definition, 0 without one.
  returned: success
  type: int
digest:
  description: Digest of the definition without its epoch, for O(if_digest) of a later task. Empty when there is none.
  returned: success
  type: str
active:
  description: Names of the members that take traffic.
  returned: success
  type: list
  elements: str
steps:
  description: What was changed, or would be, and why.
  returned: success
  type: list
  elements: dict
  contains:
    action:
      description: One of C(create), C(delete), C(add), C(remove), C(move), C(weigh), C(activate), C(stand_by), C(drain), C(models),
        C(settings), C(mend), C(fence).
      type: str
    subject:
      description: The member, or the endpoint.
      type: str
    reason:
      description: Why.
      type: str
rule:
  description: The safety rule that refused the change, V(min_active), V(epoch) or V(if_digest).
  returned: when a safety rule refused
  type: str
  sample: min_active
"""

from ansible_collections.modelfleet.serving.plugins.module_utils._call import run_as_module
from ansible_collections.modelfleet.serving.plugins.module_utils._features.global_endpoint import FEATURE


def main() -> None:
    """Run the module."""
    run_as_module(FEATURE)


if __name__ == "__main__":
    main()
