# SPDX-FileCopyrightText: The modelfleet maintainers
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the servers of a namespace are told to serve from a store."""

from __future__ import annotations

from ansible_collections.modelfleet.serving.plugins.module_utils._cluster.pods import (
    claims_of,
    mounts,
    own_claims,
)
from ansible_collections.modelfleet.serving.plugins.module_utils._cluster.session import Json, Session
from ansible_collections.modelfleet.serving.plugins.module_utils._manifests.names import OUR_SERVERS, config_name
from ansible_collections.modelfleet.serving.plugins.module_utils._store.collect import Use
from ansible_collections.modelfleet.serving.plugins.module_utils._tfserving.model_config import read_config

_WORKLOADS = ("Deployment", "StatefulSet")


def served(session: Session, namespace: str, claim: str) -> list[Use]:
    """Give what each server is told to serve, but for the servers whose workloads surely mount other claims."""
    elsewhere: dict[str, bool] = {}
    for kind in _WORKLOADS:
        for workload in session.find("apps/v1", kind, namespace, labels=OUR_SERVERS):
            others = bool(claims_of(workload["spec"]["template"]["spec"]) or own_claims(workload))
            server = _instance(workload)
            elsewhere[server] = elsewhere.get(server, True) and others and not mounts(workload, claim)
    uses = []
    for config in session.find("v1", "ConfigMap", namespace, labels=OUR_SERVERS):
        server = _instance(config)
        if config["metadata"]["name"] != config_name(server) or elsewhere.get(server, False):
            continue
        models = read_config(config.get("data", {}).get("models.config", ""))
        # By another policy than the specific one, the server chooses by itself.
        uses += [Use(server, model.name, model.versions or None) for model in models]
    return uses


def _instance(manifest: Json) -> str:
    name: str = manifest["metadata"]["labels"].get("app.kubernetes.io/instance", "")
    return name
