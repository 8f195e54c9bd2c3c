# SPDX-FileCopyrightText: The modelfleet maintainers
# SPDX-License-Identifier: GPL-3.0-or-later
"""A namespace to serve models from."""

from __future__ import annotations

from dataclasses import replace

from ansible_collections.modelfleet.serving.plugins.module_utils._call import Call, Feature, Result
from ansible_collections.modelfleet.serving.plugins.module_utils._cluster.apply import apply, delete
from ansible_collections.modelfleet.serving.plugins.module_utils._cluster.arguments import (
    apply_arguments,
    cluster_arguments,
    wait_arguments,
)
from ansible_collections.modelfleet.serving.plugins.module_utils._cluster.bundle import Bundle
from ansible_collections.modelfleet.serving.plugins.module_utils._cluster.changes import result_of
from ansible_collections.modelfleet.serving.plugins.module_utils._cluster.kinds import Ref
from ansible_collections.modelfleet.serving.plugins.module_utils._cluster.readiness import wait_gone
from ansible_collections.modelfleet.serving.plugins.module_utils._cluster.session import Json, connect
from ansible_collections.modelfleet.serving.plugins.module_utils._cluster.wait import Deadline
from ansible_collections.modelfleet.serving.plugins.module_utils._manifests.namespace import (
    CREATED,
    NamespaceSpec,
    namespace,
)
from ansible_collections.modelfleet.serving.plugins.module_utils._names import require_dns_label


def run(call: Call) -> Result:
    """Make a serving namespace be as asked, or be gone."""
    params = call.params
    name = require_dns_label(params["name"], "name")
    ref = Ref("v1", "Namespace", name)
    deadline = Deadline.after(params["wait_timeout"])
    spec = NamespaceSpec(
        name=name,
        labels=params["labels"],
        annotations=params["annotations"],
        pod_security=params["pod_security"],
        quota={key: str(value) for key, value in params["quota"].items()},
        default_requests={key: str(value) for key, value in params["default_requests"].items()},
        isolate=params["isolate"],
        overrides=params["overrides"],
    )
    namespace(spec)  # refuses bad overrides before the first call
    with connect(params, call.warn) as session:

        def make(objects: tuple[Json, ...]) -> Result:
            bundle = Bundle("namespace", name, objects)
            return result_of(apply(session, bundle, check=call.check_mode, force=params["force_conflicts"]))

        live = session.get(ref)
        if live is not None and live["metadata"].get("deletionTimestamp") and not call.check_mode:
            # Neither may a new one be filled while the old one leaves, nor is it gone yet.
            wait_gone(session, [ref], {"kubernetes.io/metadata.name": name}, deadline, call.progress)
            live = None
        ours = live is None or live["metadata"].get("annotations", {}).get(CREATED) == "true"
        spec = replace(spec, created=ours)
        if params["state"] == "present":
            return make(namespace(spec))
        if live is None:
            return Result()
        if not ours:
            call.warn(
                f"cluster {session.name}: the namespace {name} was there before this collection, so only what the "
                "collection put into it is removed."
            )
            # An apply without objects prunes all of them but the namespace, which is not ours to delete.
            return make(tuple(manifest for manifest in namespace(spec) if manifest["kind"] == "Namespace"))
        result = result_of(delete(session, Bundle("namespace", name, ()), check=call.check_mode))
        if params["wait"] and not call.check_mode:
            wait_gone(session, [ref], {"kubernetes.io/metadata.name": name}, deadline, call.progress)
        return result


FEATURE = Feature(
    arguments={
        **cluster_arguments(),
        **apply_arguments(),
        **wait_arguments(120),
        "name": {"type": "str", "required": True},
        "labels": {"type": "dict", "default": {}},
        "annotations": {"type": "dict", "default": {}},
        "pod_security": {"type": "str", "choices": ["restricted", "baseline", "privileged"], "default": "restricted"},
        "quota": {"type": "dict", "default": {}},
        "default_requests": {"type": "dict", "default": {}},
        "isolate": {"type": "bool", "default": True},
        "overrides": {"type": "dict", "default": {}},
    },
    run=run,
)
