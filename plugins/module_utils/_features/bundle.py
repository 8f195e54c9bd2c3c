# SPDX-FileCopyrightText: The modelfleet maintainers
# SPDX-License-Identifier: GPL-3.0-or-later
"""Any objects that belong together, applied in one call."""

from __future__ import annotations

from ansible_collections.modelfleet.serving.plugins.module_utils._call import Call, Feature, Result
from ansible_collections.modelfleet.serving.plugins.module_utils._cluster.apply import apply, delete
from ansible_collections.modelfleet.serving.plugins.module_utils._cluster.applyset import ApplySet
from ansible_collections.modelfleet.serving.plugins.module_utils._cluster.arguments import (
    apply_arguments,
    cluster_arguments,
    wait_arguments,
)
from ansible_collections.modelfleet.serving.plugins.module_utils._cluster.bundle import (
    Bundle,
    manifests,
    read_manifests,
)
from ansible_collections.modelfleet.serving.plugins.module_utils._cluster.changes import result_of
from ansible_collections.modelfleet.serving.plugins.module_utils._cluster.readiness import wait_gone, wait_ready
from ansible_collections.modelfleet.serving.plugins.module_utils._cluster.session import connect
from ansible_collections.modelfleet.serving.plugins.module_utils._cluster.wait import Deadline
from ansible_collections.modelfleet.serving.plugins.module_utils._errors import InputError
from ansible_collections.modelfleet.serving.plugins.module_utils._names import require_dns_label


def run(call: Call) -> Result:
    """Make a bundle be as asked, or be gone."""
    params = call.params
    name = require_dns_label(params["name"], "name")
    namespace = require_dns_label(params["namespace"], "namespace")
    deadline = Deadline.after(params["wait_timeout"])
    # A name of its own, so that no bundle of another module is meant.
    given = read_manifests(params["src"]) if params["src"] else params["objects"]
    bundle = Bundle(f"bundle-{name}", namespace, manifests(given or ()))
    labels = ApplySet(bundle.name, namespace).member_labels
    present = params["state"] == "present"
    if present and not bundle.objects:
        raise InputError(
            f"The bundle {name} has no objects.", hint="Use state: absent to remove what was applied as this bundle."
        )
    with connect(params, call.warn) as session:
        if present:
            force = params["force_conflicts"]
            changes = apply(session, bundle, check=call.check_mode, force=force, deadline=deadline)
        else:
            changes = delete(session, bundle, check=call.check_mode)
        if params["wait"] and not call.check_mode:
            gone = [change.ref for change in changes if change.action == "deleted"]
            wait_gone(session, gone, labels, deadline, call.progress)
            if present:
                wait_ready(session, bundle, deadline, call.progress)
        return result_of(changes)


FEATURE = Feature(
    arguments={
        **cluster_arguments(),
        **apply_arguments(),
        **wait_arguments(300),
        "name": {"type": "str", "required": True},
        "namespace": {"type": "str", "required": True},
        "objects": {"type": "list", "elements": "raw"},
        "src": {"type": "list", "elements": "path"},
    },
    run=run,
    constraints={
        "mutually_exclusive": [("objects", "src")],
        "required_if": [("state", "present", ["objects", "src"], True)],
    },
)
