# SPDX-FileCopyrightText: The modelfleet maintainers
# SPDX-License-Identifier: GPL-3.0-or-later
"""The volume of a cluster's models, filled with the versions that should be there."""

from __future__ import annotations

from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
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
from ansible_collections.modelfleet.serving.plugins.module_utils._errors import InputError, ServingError
from ansible_collections.modelfleet.serving.plugins.module_utils._manifests.common import selector
from ansible_collections.modelfleet.serving.plugins.module_utils._manifests.names import claim_name
from ansible_collections.modelfleet.serving.plugins.module_utils._manifests.store import (
    StoreSpec,
    require_access_modes,
    require_one_pod,
    store,
)
from ansible_collections.modelfleet.serving.plugins.module_utils._names import require_dns_label
from ansible_collections.modelfleet.serving.plugins.module_utils._store.collect import surplus, user_of
from ansible_collections.modelfleet.serving.plugins.module_utils._store.fill import Filling, Work
from ansible_collections.modelfleet.serving.plugins.module_utils._store.own import common
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
from ansible_collections.modelfleet.serving.plugins.module_utils._store.wanted import (
    Wanted,
    not_recorded,
    read_wanted,
)

# Volumes that are filled at the same time. Their pods are there together, so the scheduler spreads them.
_AT_ONCE = 8
# It is the value of a label, too.
_LONGEST_NAME = 63


@dataclass(frozen=True)
class _Volume:
    """One claim, with what is to be done to it.

    :param spared: the versions that stay for a server's sake, with its name.
    """

    filling: Filling
    work: Work
    spared: list[tuple[str, int, str]]

    @property
    def ref(self) -> Ref:
        return Ref("v1", "PersistentVolumeClaim", self.filling.spec.name, self.filling.spec.namespace)

    @property
    def bundle(self) -> Bundle:
        return _bundle(self.ref.name, self.filling.spec.namespace, store(self.filling.spec))


def run(call: Call) -> Result:
    """Make a store exist with the versions asked for, or be gone."""
    params = call.params
    namespace = require_dns_label(params["namespace"], "namespace")
    claims = _claims(params)
    deadline = Deadline.after(params["wait_timeout"])
    if params["state"] == "absent":
        with connect(params, call.warn) as session:
            changes = [
                change
                for name in claims
                for change in delete(session, _bundle(name, namespace, ()), check=call.check_mode)
            ]
            if not call.check_mode:
                for name in claims:
                    remove_jobs(session, namespace, selector("fetch", name))  # which hold the claim
            return result_of(changes)
    remotes = params["remotes"]
    modes = require_access_modes(params["access_modes"])
    if params["per_pod"]:
        require_one_pod(modes)
    specs = [
        StoreSpec(
            name=name,
            namespace=namespace,
            size=params["size"],
            image=params["image"],
            access_modes=modes,
            storage_class=params["storage_class"],
            remotes=remote_variables(remotes),
            remotes_secret=_secret_name(params["remotes_secret"]),
            overrides=params["overrides"],
            pod=pod,
        )
        for name, pod in claims.items()
    ]
    wanted = read_wanted(params["models"], None if params["remotes_secret"] else remotes)
    with connect(params, call.warn) as session:
        fillings = [Filling(call, session, spec, params["fetch_image"], deadline) for spec in specs]
        volumes = [_volume(filling, wanted, params) for filling in fillings]
        for volume in volumes:
            volume.filling.require_writable(volume.work)
        force = params["force_conflicts"]
        changes = [
            change for volume in volumes for change in apply(session, volume.bundle, check=call.check_mode, force=force)
        ]
        result = result_of(changes)
        outcomes = [_foretold(volume.work) for volume in volumes] if call.check_mode else _fill(volumes)
        for volume, (after, _copied) in zip(volumes, outcomes, strict=True):
            if after != volume.work.record:
                result.changed = True
                result.diff.append(record_diff(volume.ref, volume.work.record, after))
        result.values |= {
            "versions": common(after for after, _copied in outcomes),
            "copied": [
                {"claim": volume.ref.name, **row}
                for volume, (_after, copied) in zip(volumes, outcomes, strict=True)
                for row in copied
            ],
            "collected": [
                {"claim": volume.ref.name, "model": m, "version": v, "digest": volume.work.record[m][str(v)]}
                for volume in volumes
                for m, v in volume.work.gone
            ],
            "spared": [
                {"claim": volume.ref.name, "model": model, "version": version, "server": server}
                for volume in volumes
                for model, version, server in volume.spared
            ],
        }
        return result


def _bundle(claim: str, namespace: str, objects: tuple[dict[str, Any], ...]) -> Bundle:
    return Bundle(f"store-{claim}", namespace, objects)


def _claims(params: Mapping[str, Any]) -> dict[str, str | None]:
    """Give the names of the claims, with the pod that each is for where a server's pods have one each."""
    name, own = require_dns_label(params["name"], "name"), params["per_pod"]
    if not own:
        return {name: None}
    server, pods = require_dns_label(own["server"], "per_pod.server"), own["pods"]
    if pods < 1:
        raise InputError(f"per_pod.pods: {pods} is too few.", hint="Use 1 or more.")
    names = [claim_name(name, server, number) for number in range(pods)]
    if len(names[-1]) > _LONGEST_NAME:
        raise InputError(
            f"per_pod: the claim {names[-1]} would have a name of {len(names[-1])} characters.",
            hint=f"Shorten name or per_pod.server; {_LONGEST_NAME} characters are allowed.",
        )
    return {claim: f"{server}-{number}" for number, claim in enumerate(names)}


def _volume(filling: Filling, wanted: list[Wanted], params: Mapping[str, Any]) -> _Volume:
    session, spec = filling.session, filling.spec
    claim = session.get(Ref("v1", "PersistentVolumeClaim", spec.name, spec.namespace))
    before = read_record(claim)
    gone, spared = _surplus(session, spec, before, params)
    return _Volume(filling, Work(not_recorded(wanted, before), gone, before), spared)


def _fill(volumes: list[_Volume]) -> list[tuple[Record, list[dict[str, Any]]]]:
    """Fill the volumes, several of them at once; one that fails does not keep the others from what can be done.

    :raises ServingError: the first, when all have been tried.
    """

    def attempt(volume: _Volume) -> tuple[Record, list[dict[str, Any]]] | ServingError:
        try:
            return volume.filling.do(volume.work)
        except ServingError as error:
            if len(volumes) > 1:
                error.message = f"{volume.ref}: {error.message}"
            return error

    if len(volumes) == 1:  # needs no thread
        outcomes = [attempt(volumes[0])]
    else:
        with ThreadPoolExecutor(min(len(volumes), _AT_ONCE)) as pool:
            outcomes = list(pool.map(attempt, volumes))
    done = []
    for outcome in outcomes:
        if isinstance(outcome, ServingError):
            raise outcome
        done.append(outcome)
    return done


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
        "per_pod": {
            "type": "dict",
            "options": {
                "server": {"type": "str", "required": True},
                "pods": {"type": "int", "required": True},
            },
        },
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
