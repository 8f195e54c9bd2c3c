# SPDX-FileCopyrightText: The modelfleet maintainers
# SPDX-License-Identifier: GPL-3.0-or-later
"""The volume that holds the models of a cluster, and the short-lived pod that fills it. Pure."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import Any

from ansible_collections.modelfleet.serving.plugins.module_utils._errors import InputError
from ansible_collections.modelfleet.serving.plugins.module_utils._manifests.common import (
    container_security,
    metadata,
    pod_security,
    spread,
)
from ansible_collections.modelfleet.serving.plugins.module_utils._manifests.overrides import override

Json = dict[str, Any]

MODELS_PATH = "/models"
# Every pod that mounts a store bears its name, so that pods which must share a node find each other.
STORE_LABEL = "modelfleet.serving/store"
# Kubernetes gives it to each pod of a StatefulSet; of the volume of one pod, the claim and all that mounts it bear it.
POD_LABEL = "statefulset.kubernetes.io/pod-name"
ACCESS_MODES = frozenset({"ReadWriteOnce", "ReadOnlyMany", "ReadWriteMany", "ReadWriteOncePod"})
# The kinds of what is there for a while only, and no part of the bundle.
_PASSING = frozenset({"Job", "Pod"})


@dataclass(frozen=True)
class StoreSpec:
    """What a model store should be.

    :param size: capacity asked for, such as ``10Gi``.
    :param image: any image with a POSIX shell, tar, find, df, xargs, sync and sha256sum; busybox will do.
    :param remotes: what rclone has to know to read from remotes, as variables of its environment.
    :param remotes_secret: a Secret of the user's with such variables.
    :param overrides: by kind; those of ``Pod`` and ``Job`` are for the loader and for the jobs that fetch.
    :param pod: the pod of a StatefulSet that the volume is for; ``name`` is as :func:`claim_name` has it then.
    """

    name: str
    namespace: str
    size: str
    image: str
    access_modes: tuple[str, ...] = ("ReadWriteOnce",)
    storage_class: str | None = None
    remotes: dict[str, str] = field(default_factory=dict)
    remotes_secret: str | None = None
    overrides: dict[str, Json] = field(default_factory=dict)
    pod: str | None = None

    @property
    def pod_labels(self) -> dict[str, str]:
        """What each pod that mounts it for a while is labelled with, as the server's pods are."""
        if self.pod is None:
            return {STORE_LABEL: self.name}
        return {STORE_LABEL: self.name.rpartition("-")[0], POD_LABEL: self.pod}


def store(spec: StoreSpec) -> tuple[Json, ...]:
    """Give the claim of the store, and the Secret with what its remotes need."""
    claim: Json = {
        "accessModes": list(spec.access_modes),
        "resources": {"requests": {"storage": spec.size}},
    }
    if spec.storage_class is not None:
        claim["storageClassName"] = spec.storage_class
    own = metadata(spec.name, spec.namespace, "store", spec.name)
    if spec.pod is not None:
        own["labels"][POD_LABEL] = spec.pod
    objects: list[Json] = [{"apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": own, "spec": claim}]
    if spec.remotes:
        secret = metadata(remotes_name(spec.name), spec.namespace, "store", spec.name)
        objects.append({"apiVersion": "v1", "kind": "Secret", "metadata": secret, "stringData": spec.remotes})
    return override(objects, {kind: patch for kind, patch in spec.overrides.items() if kind not in _PASSING})


def remotes_name(store_name: str) -> str:
    """Give the name of the Secret with what a store's remotes need."""
    return f"{store_name}-remotes"


def require_access_modes(modes: Collection[str]) -> tuple[str, ...]:
    """Check the access modes of a claim.

    :raises InputError: for what Kubernetes does not know, and for what it does not combine.
    """
    unknown = sorted(set(modes) - ACCESS_MODES)
    if unknown or not modes:
        raise InputError(
            f"access_modes: {', '.join(unknown) or 'there is none'}.", hint=f"Use {', '.join(sorted(ACCESS_MODES))}."
        )
    if "ReadWriteOncePod" in modes and set(modes) != {"ReadWriteOncePod"}:
        raise InputError("access_modes: ReadWriteOncePod goes with no other mode.", hint="Name it alone, or leave it.")
    return tuple(modes)


def shares_nodes(access_modes: Collection[str]) -> bool:
    """Tell whether pods on different nodes can mount a volume at once."""
    return not {"ReadWriteMany", "ReadOnlyMany"}.isdisjoint(access_modes)


def require_one_pod(access_modes: Collection[str]) -> None:
    """Refuse a volume a pod where one would do.

    :raises InputError: for access modes by which pods on any node can share a volume.
    """
    if shares_nodes(access_modes):
        raise InputError(
            f"A volume a pod is of no use with {', '.join(access_modes)}: pods on all nodes can share one volume.",
            hint="Let them share it, which is the default, or use ReadWriteOnce.",
        )


def placement(pod_labels: Mapping[str, str], access_modes: Collection[str]) -> Json:
    """Give the affinity of a pod that mounts a store: a volume of one node draws all its pods there.

    The scheduler does not look at access modes; a pod on another node would wait for the volume for ever. A pod that is
    the first of its label is let onto any node.

    :param pod_labels: what all pods that mount the volume are labelled with.
    """
    if shares_nodes(access_modes):
        return {}
    term = {"labelSelector": {"matchLabels": dict(pod_labels)}, "topologyKey": "kubernetes.io/hostname"}
    return {"podAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": [term]}}


def place(spec: StoreSpec) -> Json:
    """Give where a pod that fills a store may run, as parts of its ``spec``."""
    if spec.pod is None:
        return {"affinity": placement(spec.pod_labels, spec.access_modes)}
    # Most volumes come into being where their first pod is, which is one that fills them: so these are spread as the
    # server's pods shall be.
    shared = {key: value for key, value in spec.pod_labels.items() if key != POD_LABEL}
    own = {POD_LABEL: spec.pod}
    return {"affinity": placement(own, spec.access_modes), "topologySpreadConstraints": spread(shared)}


def loader(spec: StoreSpec, *, seconds: int) -> Json:
    """Give the pod through which the controller writes to the store.

    :param seconds: the pod ends by itself after that, so that a controller which died leaves nothing running.
    """
    own = metadata(f"{spec.name}-loader", spec.namespace, "loader", spec.name)
    own["labels"] |= spec.pod_labels
    pod = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": own,
        "spec": {
            "restartPolicy": "Never",
            "activeDeadlineSeconds": seconds,
            # A shell as PID 1 has no handler for SIGTERM and would be waited for.
            "terminationGracePeriodSeconds": 0,
            "automountServiceAccountToken": False,
            "enableServiceLinks": False,
            **place(spec),
            "securityContext": pod_security(),
            "containers": [
                {
                    "name": "loader",
                    "image": spec.image,
                    "command": ["sleep", str(seconds)],
                    "resources": {"requests": {"cpu": "50m", "memory": "32Mi"}},
                    "securityContext": container_security(),
                    "volumeMounts": [{"name": "store", "mountPath": MODELS_PATH}],
                }
            ],
            "volumes": [{"name": "store", "persistentVolumeClaim": {"claimName": spec.name}}],
        },
    }
    (patched,) = override([pod], {kind: patch for kind, patch in spec.overrides.items() if kind == "Pod"})
    return patched
