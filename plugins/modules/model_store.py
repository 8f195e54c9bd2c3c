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
  - Makes a PersistentVolumeClaim and fills it with model versions.
  - What lies at a URL or in an object store goes straight from there to the volume, by a Job with C(rclone) in the cluster. Only what
    lies on the machine that runs the task is sent from there, through a pod.
  - A version has to be a whole SavedModel, which is looked at before anything is copied. It is copied to a folder that no server looks
    at, verified there by the digest of every file, flushed, and published by one rename. A copy that was cut off is continued by the
    next run, file by file; a Job that still runs is waited for.
  - A published version never changes; other files under the same number are refused.
  - The digests of the published versions are kept in the claim's annotation C(modelfleet.serving/versions).
  - Versions that are not listed stay in the store, unless O(models[].keep) says otherwise.
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
    description:
      - Access modes of the claim. They decide where the pods that use it may run.
      - V(ReadWriteOnce) draws all of them to one node, unless there is O(per_pod). V(ReadWriteMany) lets them run anywhere.
      - To a claim that is V(ReadOnlyMany) alone nothing can be written, and to one that is V(ReadWriteOncePod) nothing while a server has it
        mounted; both are refused.
    type: list
    elements: str
    choices: [ReadWriteOnce, ReadOnlyMany, ReadWriteMany, ReadWriteOncePod]
    default: [ReadWriteOnce]
  storage_class:
    description: Storage class; the cluster's default without it.
    type: str
  image:
    description:
      - Image of the pod through which the task itself writes to the store.
      - Any will do that has a POSIX shell, tar, find, df, xargs, sync and sha256sum.
    type: str
    default: busybox:1.37.0
  fetch_image:
    description:
      - Image of the Jobs that fetch from remote sources.
      - Any will do that has rclone, a POSIX shell and the usual tools of busybox or GNU, awk and unzip among them.
    type: str
    default: rclone/rclone:1.76.0
  remotes:
    description:
      - Where sources of the form C(REMOTE:path) are, as remote name to the options of an rclone backend, see U(https://rclone.org/overview/).
      - They go to a Secret beside the claim, and from there to the environment of the Jobs. Passwords of backends that want them obscured
        have to be given so, by C(rclone obscure).
      - Values are hidden in results, but for those of options such as V(type) and V(region), which are no secrets.
    type: dict
    default: {}
  remotes_secret:
    description:
      - A Secret in the same namespace that you keep, with the variables by which rclone knows remotes, such as C(RCLONE_CONFIG_MYS3_TYPE); see
        U(https://rclone.org/docs/#environment-variables).
      - With it, the names of remotes are not checked.
    type: str
  per_pod:
    description:
      - Make one volume for each pod of a server, instead of one for all of its pods. For storage that only one node can mount, such as the
        disks of a cloud, and pods on several nodes or in several zones.
      - The claims are called as O(name), the server and a number from 0, such as C(models-serving-0), and all of them get the same. Their
        pods are spread over nodes and zones while they fill them, so the volumes are too.
      - The server takes them by O(modelfleet.serving.model_server#module:store_per_pod).
      - Claims beyond O(per_pod.pods) stay as they are. With O(state=absent), so many are deleted.
      - Refused for access modes by which pods on all nodes can share one volume.
    type: dict
    suboptions:
      server:
        description: Name of the server.
        type: str
        required: true
      pods:
        description: How many pods the server may have, those of its autoscaler and of a failover included.
        type: int
        required: true
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
        description:
          - The folder that holds one SavedModel folder a version, named by its number; or an archive of one version, by a name that ends in
            C(.tar), C(.tar.gz), C(.tgz) or C(.zip), with the files at its root or in its one folder.
          - V({version}) in it stands for the version's number; then it is the version's own folder or archive.
          - It is a path on the machine that runs the task; an C(http://) or C(https://) URL, whose folders have to be listed by the server;
            or C(REMOTE:path) with a name of O(remotes).
          - A web server that leaves files out of its lists goes unnoticed where the rest is a whole SavedModel; declare O(models[].digests).
        type: str
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
          - Without it, what is at a remote source is taken, and not looked at again once it has been published.
        type: dict
      keep:
        description:
          - How many of the newest versions that are not listed stay in the store; older ones go, after all others have been copied.
          - A version that a model server of the namespace serves from this store never goes, see RV(spared).
          - Without it, all of them stay.
        type: int
  overrides:
    description:
      - Changes to the manifests, by kind, merged last by the rules of Kubernetes' strategic merge patch.
      - V(Job) is for those that fetch, V(Pod) for the one that the task writes through.
      - A map with C($patch) set to V(delete), or a value of V(null), removes an entry.
    type: dict
    default: {}
  wait_timeout:
    description: Seconds for copying, with the start of the pods that write.
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

- name: Fill a disk for each of three pods
  modelfleet.serving.model_store:
    context: gke-europe-west1
    name: models
    namespace: serving
    per_pod:
      server: serving
      pods: 3
    models:
      - name: half_plus_two
        source: /srv/models/half_plus_two
        versions: [1, 2]

- name: Fetch from a bucket and from a web server, and let old versions go
  modelfleet.serving.model_store:
    context: gke-europe-west1
    name: models
    namespace: serving
    size: 200Gi
    remotes:
      aws:
        type: s3
        provider: AWS
        region: eu-west-1
        access_key_id: "{{ models_key_id }}"
        secret_access_key: "{{ models_key }}"
    models:
      - name: ranking
        source: aws:company-models/ranking
        versions: [41, 42]
        keep: 2
      - name: iris
        source: https://models.example.org/iris-{version}.tar.gz
        versions: [1]
        digests:
          1: sha256:1f0f0b9e3b0f2f4d5b3a0c7f6d1e9a8b7c6d5e4f3a2b1c0d9e8f7a6b5c4d3e2f
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
  description:
    - Model to version to digest, of everything that the store holds, or would hold. With O(per_pod), what all of its volumes do.
    - In check mode, the digest of a version from a remote source that declares none is V(known when it is copied).
  returned: when O(state=present)
  type: dict
  sample: {"half_plus_two": {"1": "sha256:…"}}
copied:
  description:
    - The versions that were copied, or would be, into which claim.
    - In check mode, the bytes of a version from a remote source are null, and so is its digest unless it is declared.
  returned: when O(state=present)
  type: list
  elements: dict
  sample: [{"claim": "models", "model": "half_plus_two", "version": 1, "digest": "sha256:…", "bytes": 12345}]
collected:
  description: The versions that went by O(models[].keep), or would.
  returned: when O(state=present)
  type: list
  elements: dict
  sample: [{"claim": "models", "model": "ranking", "version": 38, "digest": "sha256:…"}]
spared:
  description: The versions that would have gone by O(models[].keep), but for the server that serves them.
  returned: when O(state=present)
  type: list
  elements: dict
  sample: [{"claim": "models", "model": "ranking", "version": 39, "server": "serving"}]
"""

from ansible_collections.modelfleet.serving.plugins.module_utils._call import run_as_module
from ansible_collections.modelfleet.serving.plugins.module_utils._features.model_store import FEATURE


def main() -> None:
    """Run the module."""
    run_as_module(FEATURE)


if __name__ == "__main__":
    main()
