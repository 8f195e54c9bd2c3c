# SPDX-FileCopyrightText: The modelfleet maintainers
# SPDX-License-Identifier: GPL-3.0-or-later
"""The volume of a cluster's models, filled with the versions that should be there."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ansible_collections.modelfleet.serving.plugins.module_utils._call import Call, Feature, Result
from ansible_collections.modelfleet.serving.plugins.module_utils._cluster.apply import apply, delete
from ansible_collections.modelfleet.serving.plugins.module_utils._cluster.arguments import (
    apply_arguments,
    cluster_arguments,
)
from ansible_collections.modelfleet.serving.plugins.module_utils._cluster.bundle import Bundle
from ansible_collections.modelfleet.serving.plugins.module_utils._cluster.changes import result_of
from ansible_collections.modelfleet.serving.plugins.module_utils._cluster.helpers import remove_jobs
from ansible_collections.modelfleet.serving.plugins.module_utils._cluster.kinds import Ref
from ansible_collections.modelfleet.serving.plugins.module_utils._cluster.session import Session, connect
from ansible_collections.modelfleet.serving.plugins.module_utils._cluster.wait import Deadline
from ansible_collections.modelfleet.serving.plugins.module_utils._manifests.common import selector
from ansible_collections.modelfleet.serving.plugins.module_utils._manifests.store import (
    StoreSpec,
    require_access_modes,
    store,
)
from ansible_collections.modelfleet.serving.plugins.module_utils._names import require_dns_label
from ansible_collections.modelfleet.serving.plugins.module_utils._store.collect import surplus, user_of
from ansible_collections.modelfleet.serving.plugins.module_utils._store.fill import Filling, Work
from ansible_collections.modelfleet.serving.plugins.module_utils._store.record import (
    UNKNOWN,
    Record,
    read_record,
    record_diff,
    with_version,
    without,
)
from ansible_collections.modelfleet.serving.plugins.module_utils._store.served import served
from ansible_collections.modelfleet.serving.plugins.module_utils._store.source import remote_variables
from ansible_collections.modelfleet.serving.plugins.module_utils._store.wanted import not_recorded, read_wanted


def run(call: Call) -> Result:
    """Make a store exist with the versions asked for, or be gone."""
    params = call.params
    name = require_dns_label(params["name"], "name")
    namespace = require_dns_label(params["namespace"], "namespace")
    deadline = Deadline.after(params["wait_timeout"])
    if params["state"] == "absent":
        with connect(params, call.warn) as session:
            changes = delete(session, Bundle(f"store-{name}", namespace, ()), check=call.check_mode)
            if not call.check_mode:
                remove_jobs(session, namespace, selector("fetch", name))  # which hold the claim
            return result_of(changes)
    remotes = params["remotes"]
    spec = StoreSpec(
        name=name,
        namespace=namespace,
        size=params["size"],
        image=params["image"],
        access_modes=require_access_modes(params["access_modes"]),
        storage_class=params["storage_class"],
        remotes=remote_variables(remotes),
        remotes_secret=_secret_name(params["remotes_secret"]),
        overrides=params["overrides"],
    )
    wanted = read_wanted(params["models"], None if spec.remotes_secret else remotes)
    with connect(params, call.warn) as session:
        ref = Ref("v1", "PersistentVolumeClaim", name, namespace)
        before = read_record(session.get(ref))
        gone, spared = _surplus(session, spec, before, params)
        work = Work(not_recorded(wanted, before), gone, before)
        filling = Filling(call, session, spec, params["fetch_image"], deadline)
        filling.require_writable(work)
        bundle = Bundle(f"store-{name}", namespace, store(spec))
        result = result_of(apply(session, bundle, check=call.check_mode, force=params["force_conflicts"]))
        after, copied = _foretold(work) if call.check_mode else filling.do(work)
        if after != before:
            result.changed = True
            result.diff.append(record_diff(ref, before, after))
        result.values |= {
            "versions": after,
            "copied": copied,
            "collected": [{"model": m, "version": v, "digest": before[m][str(v)]} for m, v in gone],
            "spared": [{"model": model, "version": version, "server": server} for model, version, server in spared],
        }
        return result


def _secret_name(name: str | None) -> str | None:
    return None if name is None else require_dns_label(name, "remotes_secret")


def _surplus(
    session: Session, spec: StoreSpec, record: Record, params: Mapping[str, Any]
) -> tuple[list[tuple[str, int]], list[tuple[str, int, str]]]:
    """Give the versions to let go of, and those that a server needs, with its name."""
    versions = surplus(record, params["models"])
    uses = served(session, spec.namespace, spec.name) if versions else []
    users = {(model, version): user_of(model, version, uses) for model, version in versions}
    spared = [(*version, server) for version, server in users.items() if server is not None]
    return [version for version, server in users.items() if server is None], spared


def _foretold(work: Work) -> tuple[Record, list[dict[str, Any]]]:
    """Say what check mode can say of the versions to come: only a copy tells the digest that nobody has declared."""
    after, copied = without(work.record, work.gone), []
    for entry in work.left:
        after = with_version(after, entry.model, entry.version, entry.digest or UNKNOWN)
        size = entry.artefact.size if entry.artefact else None
        copied.append({"model": entry.model, "version": entry.version, "digest": entry.digest, "bytes": size})
    return after, copied


FEATURE = Feature(
    arguments={
        **cluster_arguments(),
        **apply_arguments(),
        "wait_timeout": {"type": "int", "default": 600},
        "name": {"type": "str", "required": True},
        "namespace": {"type": "str", "required": True},
        "size": {"type": "str", "default": "10Gi"},
        "access_modes": {
            "type": "list",
            "elements": "str",
            "choices": ["ReadWriteOnce", "ReadOnlyMany", "ReadWriteMany", "ReadWriteOncePod"],
            "default": ["ReadWriteOnce"],
        },
        "storage_class": {"type": "str"},
        "image": {"type": "str", "default": "busybox:1.37.0"},
        "fetch_image": {"type": "str", "default": "rclone/rclone:1.76.0"},
        # What is secret in it is hidden value by value (see arguments.secrets), since "s3" and "true" are not.
        "remotes": {"type": "dict", "default": {}},
        "remotes_secret": {"type": "str", "no_log": False},
        "models": {
            "type": "list",
            "elements": "dict",
            "options": {
                "name": {"type": "str", "required": True},
                "source": {"type": "str", "required": True},
                "versions": {"type": "list", "elements": "int", "required": True},
                "digests": {"type": "dict"},
                "keep": {"type": "int"},
            },
        },
        "overrides": {"type": "dict", "default": {}},
    },
    run=run,
    constraints={"required_if": [("state", "present", ["models"])]},
)
