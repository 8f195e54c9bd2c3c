#!/usr/bin/python
# SPDX-FileCopyrightText: The modelfleet maintainers
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A model server in a cluster."""

from __future__ import annotations

DOCUMENTATION = r"""
module: model_server
short_description: Manage a TensorFlow Serving deployment
description:
  - Makes everything that a model server consists of in one call - Deployment or StatefulSet, Service, model configuration, service account,
    disruption budget and autoscaler.
  - Waits until every pod says of itself that it serves every version by every label, and fails as soon as that can't happen any
    more.
  - A change of O(models) alone is loaded by the running pods, without a restart, in three steps. What is new is loaded beside the
    old, then the labels move, then the old is unloaded; each step is proved on every pod before the next.
  - A version that can't be loaded leaves everything as it was, and the error quotes the server.
  - The store's access mode decides where the pods run. The pods of a V(ReadWriteOnce) volume share a node; those of a
    V(ReadWriteMany) or V(ReadOnlyMany) volume are spread over nodes and zones. V(ReadWriteOncePod) is refused, since a rollout
    needs two pods. With O(store_per_pod), each pod has a volume of its own.
  - The image must have C(/bin/bash), as the official one has, by which the probes ask for predictions.
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
    description: Name of the server.
    type: str
    required: true
  namespace:
    description: The namespace of the server.
    type: str
    required: true
  state:
    description: Whether it should exist.
    type: str
    choices: [present, absent]
    default: present
  image:
    description: Image with C(/usr/bin/tensorflow_model_server), pinned by version or digest.
    type: str
    default: tensorflow/serving:2.19.1
  models:
    description: What to serve. Required with O(state=present).
    type: list
    elements: dict
    suboptions:
      name:
        description: Name of the model, which is its folder in the store.
        type: str
        required: true
      versions:
        description:
          - The versions to serve at the same time. All of them must fit into memory.
          - Required with O(models[].version_policy=specific); by another policy these are only what O(models[].labels) may name.
        type: list
        elements: int
      version_policy:
        description:
          - Which versions of the store to serve - those of O(models[].versions), the newest ones, or V(all).
          - By V(latest) and V(all) whatever is put into the store is served at once, before anybody has asked it anything.
        type: str
        choices: [specific, latest, all]
        default: specific
      num_versions:
        description: How many of the newest versions to serve with O(models[].version_policy=latest).
        type: int
        default: 1
      labels:
        description: Names for versions, such as C(stable) to V(1).
        type: dict
      golden:
        description:
          - Requests with their right answers. A pod takes no traffic before it has answered the first of them with success.
          - One of more than 64 KiB is left to M(modelfleet.serving.model_probe), which also compares the answers.
        type: list
        elements: dict
        default: []
        suboptions:
          name:
            description: What to call it in messages.
            type: str
            default: golden
          request:
            description: The body of the request.
            type: dict
            required: true
          response:
            description: The right answer.
            type: dict
            required: true
          tolerance:
            description: How far a number may be off, relative to the right one, or absolute near zero.
            type: float
            default: 1.0e-05
  retain:
    description:
      - Names of models that stay as they are where this server serves them now, although O(models) does not have them.
      - For models that another server takes over, until their routes lead to that one. RV(retained) says which they were; to let them
        go, run the task again without this option.
    type: list
    elements: str
    default: []
  store:
    description: The claim that holds the models, mounted read-only. Required with O(state=present).
    type: str
  store_per_pod:
    description:
      - Give each pod a volume of its own, which M(modelfleet.serving.model_store) has filled with its option C(per_pod) for this server. The
        pods are those of a StatefulSet then, and run on any node that can mount their volume.
      - Every pod that there may be needs its volume before, filled with the same; with O(autoscaling), O(autoscaling.max_replicas) of them.
      - A rollout replaces one pod after another, each of which leaves before its successor comes. So fewer than two pods are refused.
      - Setting it for a server that runs, or taking it away again, loses no request. The new pods are ready before the old ones go.
    type: bool
    default: false
  replicas:
    description: Number of pods. With O(autoscaling) the autoscaler decides, and a run never resets what it has set.
    type: int
    default: 2
  autoscaling:
    description:
      - Let a HorizontalPodAutoscaler set the number of pods.
      - Taking it away again gives the number of O(replicas).
    type: dict
    suboptions:
      min_replicas:
        description: At least that many.
        type: int
        default: 2
      max_replicas:
        description: At most that many.
        type: int
        required: true
      cpu:
        description: Percent of the CPU requests that the pods should use on average.
        type: int
      memory:
        description: Percent of the memory requests that the pods should use on average.
        type: int
      metrics:
        description:
          - Further metrics, such as latency, queue length or GPU use, as C(spec.metrics) of a HorizontalPodAutoscaler has them.
          - The cluster needs an adapter that serves them by the metrics API.
        type: list
        elements: dict
        default: []
      behavior:
        description: How fast to scale, as C(spec.behavior) of a HorizontalPodAutoscaler has it.
        type: dict
        default: {}
  resources:
    description: Resource requests and limits of the server's container.
    type: dict
    default: {}
  batching:
    description: Merge requests that come at the same time into one run of the model.
    type: dict
    suboptions:
      max_batch_size:
        description: Rows of one run at most.
        type: int
        default: 32
      batch_timeout_micros:
        description: Microseconds that a request may wait for others.
        type: int
        default: 1000
      num_batch_threads:
        description: Runs at the same time; the number of CPUs without it.
        type: int
      max_enqueued_batches:
        description: When more than that many wait, requests are refused.
        type: int
        default: 100
      allowed_batch_sizes:
        description: Batches are padded up to one of these sizes; the last one is O(batching.max_batch_size).
        type: list
        elements: int
        default: []
  grpc_tls:
    description:
      - Serve gRPC by TLS. REST stays plain, since TensorFlow Serving has no TLS for it.
      - The server reads the certificate when a pod starts, so a run that finds a renewed one replaces the pods, as in
        any rollout.
    type: dict
    suboptions:
      secret:
        description: Name of a Secret with C(tls.crt) and C(tls.key), and for O(grpc_tls.verify_clients) also C(ca.crt).
        type: str
        required: true
      verify_clients:
        description: Whether clients must show a certificate of that authority.
        type: bool
        default: false
  arguments:
    description: Further flags of the server, such as C(--tensorflow_session_parallelism=4).
    type: list
    elements: str
    default: []
  drain_seconds:
    description:
      - How long a pod that is told to leave keeps answering.
      - Longer than the balancer needs to notice, and than the longest request takes.
    type: int
    default: 15
  start_seconds:
    description: How long the first load of all models may take.
    type: int
    default: 600
  rest_timeout_seconds:
    description: Seconds after which the server gives up a request by REST.
    type: int
    default: 30
  overrides:
    description:
      - Changes to the manifests, by kind, merged last by the rules of Kubernetes' strategic merge patch.
      - A map with C($patch) set to V(delete), or a value of V(null), removes an entry.
    type: dict
    default: {}
  wait:
    description:
      - Whether to wait until every pod serves every version.
      - Without it a changed configuration is given to the pods as a whole, and not in steps.
    type: bool
    default: true
  wait_timeout:
    description: Seconds for everything that the task waits for, together.
    type: int
    default: 600
"""

EXAMPLES = r"""
- name: Serve a model by two pods
  modelfleet.serving.model_server:
    context: gke-europe-west1
    name: serving
    namespace: serving
    store: models
    models:
      - name: half_plus_two
        versions: [1, 2]
        labels:
          stable: 1
          canary: 2

- name: Scale by the load, and batch what comes at the same time
  modelfleet.serving.model_server:
    context: gke-europe-west1
    name: serving
    namespace: serving
    store: models
    models:
      - name: half_plus_two
        versions: [2]
        golden:
          - request: {instances: [1.0, 2.0, 5.0]}
            response: {predictions: [2.5, 3.0, 4.5]}
    resources:
      requests: {cpu: "2", memory: 4Gi}
      limits: {memory: 4Gi}
    batching:
      max_batch_size: 64
    autoscaling:
      max_replicas: 20
      cpu: 70

- name: Serve gRPC by TLS, to clients with a certificate only
  modelfleet.serving.model_server:
    context: gke-europe-west1
    name: serving
    namespace: serving
    store: models
    models:
      - name: half_plus_two
        versions: [2]
    grpc_tls:
      secret: serving-tls
      verify_clients: true

- name: Let each of three pods have a disk of its own, which model_store has filled with per_pod
  modelfleet.serving.model_server:
    context: gke-europe-west1
    name: serving
    namespace: serving
    store: models
    store_per_pod: true
    replicas: 3
    models:
      - name: half_plus_two
        versions: [1, 2]

- name: Two versions, on nodes for serving only
  modelfleet.serving.model_server:
    context: gke-europe-west1
    name: serving
    namespace: serving
    store: models
    models:
      - name: half_plus_two
        versions: [1]
    overrides:
      Deployment:
        spec:
          template:
            spec:
              nodeSelector:
                pool: serving
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
retained:
  description: Names of the models that are not in O(models) and were kept by O(retain).
  returned: success and O(state=present)
  type: list
  elements: str
"""

from ansible_collections.modelfleet.serving.plugins.module_utils._call import run_as_module
from ansible_collections.modelfleet.serving.plugins.module_utils._features.model_server import FEATURE


def main() -> None:
    """Run the module."""
    run_as_module(FEATURE)


if __name__ == "__main__":
    main()
