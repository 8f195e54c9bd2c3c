# SPDX-FileCopyrightText: The modelfleet maintainers
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which versions a store holds, with their digests: an annotation of its claim, which goes with the volume."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any, TypeAlias, cast

from ansible.module_utils.common.yaml import yaml_dump

from ansible_collections.modelfleet.serving.plugins.module_utils._cluster.kinds import Ref
from ansible_collections.modelfleet.serving.plugins.module_utils._cluster.session import Json, Session

RECORD = "modelfleet.serving/versions"
# Beside it, by which a server knows what it will need to load them.
SIZES = "modelfleet.serving/bytes"
# A field manager of its own, so that applying the claim never takes the record away.
_MANAGER = "modelfleet-store"
# What check mode says of a digest that only the copy will tell.
UNKNOWN = "known when it is copied"

Record: TypeAlias = "dict[str, dict[str, str]]"
Sizes: TypeAlias = "dict[str, dict[str, int]]"


def read_record(claim: Json | None) -> Record:
    """Read which versions a claim's volume holds, with their digests: model to version to digest."""
    text = (claim or {}).get("metadata", {}).get("annotations", {}).get(RECORD)
    return cast(Record, json.loads(text)) if text else {}


def read_sizes(claim: Json | None) -> Sizes:
    """Read the bytes of the versions: model to version to the bytes of its files."""
    text = (claim or {}).get("metadata", {}).get("annotations", {}).get(SIZES)
    return cast(Sizes, json.loads(text)) if text else {}


def with_version(record: Record, model: str, version: int, digest: str) -> Record:
    """Give the record with one version more."""
    return {**record, model: {**record.get(model, {}), str(version): digest}}


def without(record: Record, gone: Iterable[tuple[str, int]]) -> Record:
    """Give the record without some versions; a model without any is left out."""
    names = {(model, str(version)) for model, version in gone}
    left = {
        model: {version: digest for version, digest in versions.items() if (model, version) not in names}
        for model, versions in record.items()
    }
    return {model: versions for model, versions in left.items() if versions}


def write_record(session: Session, claim: Ref, record: Record, sizes: Sizes) -> None:
    """Put a record onto its claim, with the sizes of what it holds."""
    sizes = {
        model: {version: sizes[model][version] for version in versions if version in sizes[model]}
        for model, versions in record.items()
        if model in sizes
    }
    body: dict[str, Any] = {
        "apiVersion": claim.api_version,
        "kind": claim.kind,
        "metadata": {
            "name": claim.name,
            "namespace": claim.namespace,
            "annotations": {RECORD: json.dumps(record, sort_keys=True), SIZES: json.dumps(sizes, sort_keys=True)},
        },
    }
    query = {"fieldManager": _MANAGER}
    session.request("PATCH", session.path(claim), query=query, body=body, content_type="application/apply-patch+yaml")


def record_diff(claim: Ref, before: Record, after: Record) -> dict[str, str]:
    """Give Ansible's diff of a record."""
    header = f"versions in {claim}"
    return {
        "before_header": header,
        "after_header": header,
        "before": yaml_dump(before) if before else "",
        "after": yaml_dump(after) if after else "",
    }
