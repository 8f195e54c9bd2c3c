# SPDX-FileCopyrightText: The modelfleet maintainers
# SPDX-License-Identifier: GPL-3.0-or-later
"""Bring versions into a store and let go of others, by a job that fetches or a pod to write through."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from ansible_collections.modelfleet.serving.plugins.module_utils._call import Call
from ansible_collections.modelfleet.serving.plugins.module_utils._cluster.helpers import job_report, pod_shell
from ansible_collections.modelfleet.serving.plugins.module_utils._cluster.kinds import Ref
from ansible_collections.modelfleet.serving.plugins.module_utils._cluster.pods import claims_of, is_passing
from ansible_collections.modelfleet.serving.plugins.module_utils._cluster.session import Session
from ansible_collections.modelfleet.serving.plugins.module_utils._cluster.wait import Deadline
from ansible_collections.modelfleet.serving.plugins.module_utils._errors import InputError, ServingError
from ansible_collections.modelfleet.serving.plugins.module_utils._manifests.fetch import FetchSpec, fetch
from ansible_collections.modelfleet.serving.plugins.module_utils._manifests.store import MODELS_PATH, StoreSpec, loader
from ansible_collections.modelfleet.serving.plugins.module_utils._store.collect import empty, hide
from ansible_collections.modelfleet.serving.plugins.module_utils._store.fetch import Fetched, read_report
from ansible_collections.modelfleet.serving.plugins.module_utils._store.publish import publish
from ansible_collections.modelfleet.serving.plugins.module_utils._store.record import (
    Record,
    read_record,
    read_sizes,
    with_version,
    without,
    write_record,
)
from ansible_collections.modelfleet.serving.plugins.module_utils._store.wanted import Wanted, require_same

# A helper that outlives the controller by this is stopped.
_SPARE_SECONDS = 60


@dataclass(frozen=True)
class Work:
    """What is to be done.

    :param left: the versions that the store lacks.
    :param gone: the versions to let go of, once the others are there.
    :param record: what the store holds.
    """

    left: list[Wanted]
    gone: list[tuple[str, int]]
    record: Record


@dataclass(frozen=True)
class Filling:
    """Does it, on one store; what was published stays recorded on a failure.

    :param fetch_image: an image with rclone; see fetch.py.
    """

    call: Call
    session: Session
    spec: StoreSpec
    fetch_image: str
    deadline: Deadline

    @property
    def _claim(self) -> Ref:
        return Ref("v1", "PersistentVolumeClaim", self.spec.name, self.spec.namespace)

    def require_writable(self, work: Work) -> None:
        """Refuse what the access modes do not allow, since a pod that can't mount its volume waits for ever."""
        if not work.left and not work.gone:
            return
        modes = self.spec.access_modes
        if set(modes) == {"ReadOnlyMany"}:
            raise InputError(
                f"{self._claim} is ReadOnlyMany alone, so nothing can be written to it.",
                hint="Add ReadWriteMany or ReadWriteOnce to access_modes, as far as the storage class has them.",
            )
        if "ReadWriteOncePod" in modes:
            for pod in self.session.find("v1", "Pod", self.spec.namespace):
                if _mounts(pod, self.spec.name):
                    raise ServingError(
                        f"cluster {self.session.name}: {self._claim} is ReadWriteOncePod and mounted by "
                        f"{Ref.of(pod)}, so no other pod can write to it.",
                        hint="Use ReadWriteOnce or ReadWriteMany, or remove the server before its store is changed.",
                    )

    def do(self, work: Work) -> tuple[Record, list[dict[str, Any]]]:
        """Do it; gives the store's record and what was copied."""
        record = work.record
        done: dict[str, Fetched] = {}
        for entry in work.left:
            if entry.artefact is None:
                done[str(entry)], record = self._fetch(entry)
        if work.gone or len(done) < len(work.left):
            manifest = loader(self.spec, seconds=int(self.deadline.seconds) + _SPARE_SECONDS)
            with pod_shell(self.session, manifest, self.deadline, self.call.progress) as shell:
                for entry in work.left:
                    if entry.artefact is not None:
                        self.call.progress(f"{self._claim}: {entry}, {entry.artefact.size / 1e6:.1f} MB")
                        publish(shell, entry.artefact, MODELS_PATH)
                        done[str(entry)] = Fetched(entry.artefact.digest, entry.artefact.size)
                        record = self._recorded(entry, done[str(entry)])
                for model, version in work.gone:
                    self.call.progress(f"{self._claim}: {model} version {version} goes")
                    # The record first: should this run end here, a version must not seem to be there.
                    claim = self.session.get(self._claim)
                    record = without(read_record(claim), [(model, version)])
                    write_record(self.session, self._claim, record, read_sizes(claim))
                    hide(shell, MODELS_PATH, model, version)
                if work.gone:
                    empty(shell, MODELS_PATH)
        found = [(entry, done[str(entry)]) for entry in work.left]
        return record, [
            {"model": entry.model, "version": entry.version, "digest": fetched.digest, "bytes": fetched.size}
            for entry, fetched in found
        ]

    def _fetch(self, entry: Wanted) -> tuple[Fetched, Record]:
        claim = self.session.get(self._claim) or {"metadata": {"uid": ""}}
        spec = FetchSpec(
            store=self.spec,
            model=entry.model,
            version=entry.version,
            source=entry.source,
            digest=entry.digest,
            claim_uid=claim["metadata"]["uid"],
            image=self.fetch_image,
            seconds=int(self.deadline.seconds) + _SPARE_SECONDS,
        )
        self.call.progress(f"{self._claim}: {entry} from {entry.source}")
        with job_report(self.session, fetch(spec), self.deadline, self.call.progress) as words:
            fetched = read_report(entry, words)
            if entry.digest is not None:
                require_same(entry, entry.digest, fetched.digest)
            return fetched, self._recorded(entry, fetched)

    def _recorded(self, entry: Wanted, fetched: Fetched) -> Record:
        """Record a version, beside what another run may have recorded meanwhile."""
        claim = self.session.get(self._claim)
        record = with_version(read_record(claim), entry.model, entry.version, fetched.digest)
        sizes = read_sizes(claim)
        sizes.setdefault(entry.model, {})[str(entry.version)] = fetched.size
        write_record(self.session, self._claim, record, sizes)
        return record


def _mounts(pod: dict[str, Any], claim: str) -> bool:
    """Tell whether a pod that is none of our helpers has a claim mounted, or is about to."""
    return claim in claims_of(pod["spec"]) and not is_passing(pod)
