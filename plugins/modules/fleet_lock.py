#!/usr/bin/python
# SPDX-FileCopyrightText: The modelfleet maintainers
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Take, renew or release the lock of a fleet."""

from __future__ import annotations

DOCUMENTATION = r"""
module: fleet_lock
short_description: Let one run at a time move the traffic of a fleet
description:
  - Holds a lock by Kubernetes Leases, one in each cluster. Who has those of a majority of the clusters holds the lock, so it can be
    taken while a minority of the clusters is down, and never by two at once.
  - Each time the lock is taken, its epoch rises. Give it to M(modelfleet.serving.global_endpoint), which refuses who comes with an
    older one. So a run that was stopped for long, and wakes up when another holds the lock, can do no harm.
  - No two machines' clocks are compared. When a Lease was renewed, and when it has run out, is told by the clock of its own API
    server.
  - A cluster that does not answer costs O(timeout) at most, and none of it once a majority has answered.
version_added: 0.1.0
author:
  - The modelfleet maintainers (@modelfleet)
extends_documentation_fragment:
  - modelfleet.serving.attributes
attributes:
  diff_mode:
    support: none
  idempotent:
    support: partial
    details: Holding a lock again renews it, which is a change. Releasing a lock again changes nothing.
requirements:
  - urllib3 >= 2 and PyYAML (Python packages, in the interpreter that runs the task)
notes:
  - The user needs the verbs C(get), C(create) and C(update) for C(leases) of the API group C(coordination.k8s.io), in O(namespace).
  - The variables C(K8S_AUTH_*) are not used, since they would lead to the same cluster each time.
options:
  name:
    description: Name of the endpoint whose traffic the lock is for. The Leases are called C(modelfleet-NAME).
    type: str
    required: true
  state:
    description:
      - V(held) takes the lock, or renews it when O(holder) has it already, which keeps its epoch.
      - V(released) gives it back. Clusters that do not answer are named in a warning; their Leases run out by themselves.
    type: str
    choices: [held, released]
    default: held
  holder:
    description:
      - Who holds the lock, for people, and unlike any other run, such as C(user@host) and the name of the run.
      - Who gives the same text is the same holder.
    type: str
    required: true
  clusters:
    description:
      - The clusters, all of them, always the same. A majority is one of this list.
      - Each is reached as by the options of M(modelfleet.serving.bundle) with the same names.
    type: list
    elements: dict
    required: true
    suboptions:
      name:
        description: Name of the cluster.
        type: str
        required: true
      kubeconfig:
        description: Path of a kubeconfig file, its content as a mapping, or its content as text.
        type: raw
      context:
        description: Name of the context in the kubeconfig.
        type: str
      host:
        description: URL of the API server.
        type: str
      api_key:
        description: Bearer token.
        type: str
      username:
        description: Name for basic authentication.
        type: str
      password:
        description: Password for basic authentication.
        type: str
      impersonate_user:
        description: User to act as.
        type: str
      impersonate_groups:
        description: Groups to act as a member of.
        type: list
        elements: str
      validate_certs:
        description: Whether to verify the API server's certificate. Verified by default.
        type: bool
        aliases: [verify_ssl]
      ca_cert:
        description: Path of the certificate authority's file.
        type: path
        aliases: [ssl_ca_cert]
      client_cert:
        description: Path of a client certificate.
        type: path
        aliases: [cert_file]
      client_key:
        description: Path of the client certificate's key.
        type: path
        aliases: [key_file]
      tls_server_name:
        description: Name that the API server's certificate has to bear, if it is not the one in its URL.
        type: str
      proxy:
        description: URL of a proxy on the way to the API server.
        type: str
      no_proxy:
        description: Hosts to reach without a proxy.
        type: str
      proxy_headers:
        description: Headers that the proxy is sent.
        type: dict
        suboptions:
          proxy_basic_auth:
            description: User and password for the proxy, as C(user:password).
            type: str
          basic_auth:
            description: User and password for basic authentication, as C(user:password), of proxies that want it in that header.
            type: str
          user_agent:
            description: How to introduce itself.
            type: str
  namespace:
    description:
      - Namespace of the Leases, which must exist in every cluster.
      - V(default) does, and can't be deleted. Managed clusters often let nobody write to C(kube-system).
    type: str
    default: default
  ttl:
    description:
      - Seconds after which a lock that is not renewed can be taken by another, at least 3.
      - Renew it before (another task with V(held)) when a step takes long.
    type: int
    default: 60
  wait:
    description: Seconds to keep trying while another holds the lock, or too few clusters answer. V(0) tries once.
    type: float
    default: 0
  timeout:
    description: Seconds that one cluster may take for one answer, its login included.
    type: float
    default: 3
  epoch:
    description:
      - With O(state=held), only renew the lock, and fail when it is not held with this epoch any more.
      - With O(state=released), only release Leases of this epoch.
    type: int
  above_epoch:
    description:
      - The epoch of a lock that is newly taken is above this one.
      - Give C(epoch) as M(modelfleet.serving.global_endpoint_info) returns it, so that a fleet whose clusters were all built anew,
        and begin to count at 1, is not refused for ever.
    type: int
    default: 0
  force_holder:
    description:
      - Take the lock over from exactly this holder, though it has not run out. The epoch rises.
      - For a run of which it is known that it has died.
    type: str
  allow_minority:
    description:
      - Be content with the Leases of all clusters that answer, one or more, though they are no majority.
      - This is for a fleet of two clusters of which one is dead. When the others are only cut off from here, two runs may hold the lock
        at the same time. The epoch then is what keeps the endpoint safe.
    type: bool
    default: false
seealso:
  - module: modelfleet.serving.global_endpoint
  - module: modelfleet.serving.global_endpoint_info
"""

EXAMPLES = r"""
- name: Move traffic under the lock
  block:
    - name: Take the lock
      modelfleet.serving.fleet_lock: &lock
        name: models
        holder: "{{ lookup('ansible.builtin.pipe', 'hostname') }} run 17"
        clusters:
          - {name: gcp-europe-west1, context: gke}
          - {name: aws-eu-west-1, context: eks}
          - {name: azure-westeurope, context: aks}
        namespace: serving
        above_epoch: "{{ endpoint.epoch }}"
      register: lock

    - name: Drain a cluster
      modelfleet.serving.global_endpoint:
        name: models
        exclusive_members: false
        members:
          - {name: aws-eu-west-1, state: drained}
        epoch: "{{ lock.epoch }}"
        if_digest: "{{ endpoint.digest }}"

  always:
    - name: Release the lock
      modelfleet.serving.fleet_lock:
        <<: *lock
        epoch: "{{ lock.epoch | default(omit) }}"
        state: released
"""

RETURN = r"""
held:
  description: Whether O(holder) holds the lock now. In check mode, whether it would.
  returned: always
  type: bool
epoch:
  description: The epoch of the lock; with O(state=released), the one that was released. 0 when it is not held.
  returned: always
  type: int
holder:
  description: Who holds the lock, or the most Leases. Empty when nobody does.
  returned: always
  type: str
clusters:
  description: The clusters, in the order of O(clusters).
  returned: always
  type: list
  elements: dict
  contains:
    name:
      description: Name of the cluster.
      type: str
    held:
      description: Whether O(holder) has its Lease.
      type: bool
    holder:
      description: Who has it. Empty when nobody does, or it did not answer.
      type: str
    error:
      description: Why its Lease could not be had. Empty when all went well.
      type: str
expires_seconds:
  description: After so many seconds, others can take the lock unless it is renewed. 0 when it is not held.
  returned: always
  type: float
"""

from ansible_collections.modelfleet.serving.plugins.module_utils._call import run_as_module
from ansible_collections.modelfleet.serving.plugins.module_utils._features.fleet_lock import FEATURE


def main() -> None:
    """Run the module."""
    run_as_module(FEATURE)


if __name__ == "__main__":
    main()
