# SPDX-FileCopyrightText: The modelfleet maintainers
# SPDX-License-Identifier: GPL-3.0-or-later
"""The Job that pulls one version from its source into a store. Pure."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass

from ansible_collections.modelfleet.serving.plugins.module_utils._manifests.common import (
    container_security,
    labels,
    pod_security,
)
from ansible_collections.modelfleet.serving.plugins.module_utils._manifests.overrides import override
from ansible_collections.modelfleet.serving.plugins.module_utils._manifests.store import (
    MODELS_PATH,
    Json,
    StoreSpec,
    place,
    remotes_name,
)
from ansible_collections.modelfleet.serving.plugins.module_utils._store.fetch import FINAL, SCRIPT, arguments
from ansible_collections.modelfleet.serving.plugins.module_utils._store.source import Source

# A job that has ended is there to be read by the next run, should this one have been cut off.
_KEPT_SECONDS = 3600


@dataclass(frozen=True)
class FetchSpec:
    """One version to fetch.

    :param digest: what its files must have; None takes what is there.
    :param claim_uid: of the claim that the store is: what was fetched into another one of this name does not count.
    :param seconds: the job is stopped after that, so that a controller which died leaves nothing running for long.
    """

    store: StoreSpec
    model: str
    version: int
    source: Source
    digest: str | None
    claim_uid: str
    image: str
    seconds: int


def fetch(spec: FetchSpec) -> Json:
    """Give the Job; its name tells what it fetches, so that whoever wants the same finds it."""
    store = spec.store
    own = {**labels("fetch", store.name), **store.pod_labels}
    owner = {"apiVersion": "v1", "kind": "PersistentVolumeClaim", "name": store.name, "uid": spec.claim_uid}
    job = {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": {
            "name": _name(spec),
            "namespace": store.namespace,
            "labels": own,
            "ownerReferences": [owner],
        },
        "spec": {
            "backoffLimit": 3,
            "activeDeadlineSeconds": spec.seconds,
            "ttlSecondsAfterFinished": _KEPT_SECONDS,
            "podFailurePolicy": {
                "rules": [
                    # A node that is drained is no failure, and what can't be mended is not tried again.
                    {"action": "Ignore", "onPodConditions": [{"type": "DisruptionTarget", "status": "True"}]},
                    {"action": "FailJob", "onExitCodes": {"operator": "In", "values": [FINAL]}},
                ]
            },
            "template": {"metadata": {"labels": own}, "spec": _pod(spec)},
        },
    }
    (patched,) = override([job], {kind: patch for kind, patch in store.overrides.items() if kind == "Job"})
    return patched


def _name(spec: FetchSpec) -> str:
    content = [spec.claim_uid, spec.model, spec.version, str(spec.source), spec.digest, spec.image]
    short = spec.store.name[:40].rstrip("-")
    return f"{short}-fetch-{hashlib.sha256(json.dumps(content).encode()).hexdigest()[:10]}"


def _pod(spec: FetchSpec) -> Json:
    store = spec.store
    environment = {
        "REPORT": "/dev/termination-log",
        "RCLONE_CONFIG": "/notfound",  # rclone's own word for no file
        "RCLONE_CACHE_DIR": "/tmp",
        "HOME": "/tmp",
        "GOMEMLIMIT": "768MiB",
        **({"RCLONE_HTTP_URL": spec.source.url} if spec.source.url else {}),
    }
    secrets = [remotes_name(store.name)] if store.remotes else []
    secrets += [store.remotes_secret] if store.remotes_secret else []
    where = arguments(spec.model, spec.version, spec.source, spec.digest, MODELS_PATH)
    container = {
        "name": "fetch",
        "image": spec.image,
        "command": ["sh", "-c", SCRIPT, "sh", *where],
        "env": [{"name": name, "value": value} for name, value in environment.items()],
        "envFrom": [{"secretRef": {"name": name}} for name in secrets],
        "terminationMessagePolicy": "FallbackToLogsOnError",
        "resources": {"requests": {"cpu": "100m", "memory": "128Mi"}, "limits": {"memory": "1Gi"}},
        "securityContext": container_security(),
        "volumeMounts": [{"name": "store", "mountPath": MODELS_PATH}, {"name": "tmp", "mountPath": "/tmp"}],
    }
    return {
        "restartPolicy": "Never",
        # A shell as PID 1 has no handler for SIGTERM and would be waited for. With no grace at all, a pod that is
        # evicted would be gone by force, and its job would wait for it to end.
        "terminationGracePeriodSeconds": 1,
        "automountServiceAccountToken": False,
        "enableServiceLinks": False,
        **place(store),
        "securityContext": pod_security(),
        "containers": [container],
        "volumes": [
            {"name": "store", "persistentVolumeClaim": {"claimName": store.name}},
            {"name": "tmp", "emptyDir": {}},
        ],
    }
