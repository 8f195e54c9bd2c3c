# SPDX-FileCopyrightText: The modelfleet maintainers
# SPDX-License-Identifier: GPL-3.0-or-later
"""What model_server and image_server have in common: one name is one server, whichever serves it."""

from __future__ import annotations

from ansible_collections.modelfleet.serving.plugins.module_utils._call import Call, Result
from ansible_collections.modelfleet.serving.plugins.module_utils._cluster.apply import delete
from ansible_collections.modelfleet.serving.plugins.module_utils._cluster.applyset import ApplySet
from ansible_collections.modelfleet.serving.plugins.module_utils._cluster.bundle import Bundle
from ansible_collections.modelfleet.serving.plugins.module_utils._cluster.changes import Change, result_of
from ansible_collections.modelfleet.serving.plugins.module_utils._cluster.readiness import wait_gone
from ansible_collections.modelfleet.serving.plugins.module_utils._cluster.session import Session, connect
from ansible_collections.modelfleet.serving.plugins.module_utils._cluster.wait import Deadline
from ansible_collections.modelfleet.serving.plugins.module_utils._errors import InputError


def bundle_name(server: str) -> str:
    """Give the name of a server's bundle."""
    return f"server-{server}"


def remove(call: Call, server: str, namespace: str, deadline: Deadline) -> Result:
    """Delete a server with everything around it, and wait until it is gone if that was asked for."""
    with connect(call.params, call.warn) as session:
        return result_of(delete_bundle(call, session, Bundle(bundle_name(server), namespace, ()), deadline))


def delete_bundle(call: Call, session: Session, bundle: Bundle, deadline: Deadline) -> list[Change]:
    """Delete a bundle, and wait until it is gone if that was asked for."""
    changes = delete(session, bundle, check=call.check_mode)
    if call.params["wait"] and not call.check_mode:
        labels = ApplySet(bundle.name, bundle.namespace).member_labels
        wait_gone(session, [change.ref for change in changes], labels, deadline, call.progress)
    return changes


def require_replicas(replicas: int | None) -> int:
    """Check a number of pods."""
    if replicas is None or replicas < 1:
        raise InputError(f"replicas: {replicas} is too few.", hint="Use 1 or more, or state: absent.")
    return replicas
