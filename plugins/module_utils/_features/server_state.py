# SPDX-FileCopyrightText: The modelfleet maintainers
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a cluster's API says of the model servers of a namespace, read in four requests however many there are."""

from __future__ import annotations

from dataclasses import dataclass

from ansible_collections.modelfleet.serving.plugins.module_utils._cluster.kinds import Ref
from ansible_collections.modelfleet.serving.plugins.module_utils._cluster.pods import claims_of
from ansible_collections.modelfleet.serving.plugins.module_utils._cluster.replicas import autoscaler_of
from ansible_collections.modelfleet.serving.plugins.module_utils._cluster.session import Json, Session
from ansible_collections.modelfleet.serving.plugins.module_utils._manifests.image_server import MODEL_LABEL
from ansible_collections.modelfleet.serving.plugins.module_utils._manifests.server import config_name
from ansible_collections.modelfleet.serving.plugins.module_utils._manifests.workload import OUR_SERVERS, server_selector
from ansible_collections.modelfleet.serving.plugins.module_utils._store.record import Record, read_record
from ansible_collections.modelfleet.serving.plugins.module_utils._tfserving.model_config import ServedModel, read_config


@dataclass(frozen=True)
class ServerState:
    """One server.

    :param models: what it is told to serve; of an image's model no more than the name is known.
    :param store: the claim that holds its models.
    :param record: what that claim holds, by its record.
    """

    deployment: Json
    models: tuple[ServedModel, ...]
    store: str | None
    record: Record
    autoscaler: Json | None


def read_servers(session: Session, namespace: str, name: str | None = None) -> list[ServerState]:
    """Read the servers that this collection made in a namespace, or the one named."""
    labels = {**OUR_SERVERS, **server_selector(name)} if name is not None else OUR_SERVERS
    deployments = session.find("apps/v1", "Deployment", namespace, labels=labels)
    if not deployments:
        return []
    configs = _by_name(session.find("v1", "ConfigMap", namespace, labels=labels))
    claims = _by_name(session.find("v1", "PersistentVolumeClaim", namespace))
    autoscalers = session.find("autoscaling/v2", "HorizontalPodAutoscaler", namespace)
    found = []
    for deployment in deployments:
        config = configs.get(config_name(deployment["metadata"]["name"]), {})
        models = read_config(config.get("data", {}).get("models.config", ""))
        template = deployment["spec"]["template"]
        if of_image := template["metadata"]["labels"].get(MODEL_LABEL):
            models = (ServedModel(of_image, ()),)
        store = next(iter(claims_of(template["spec"])), None)
        record = read_record(claims.get(store)) if store else {}
        autoscaler = autoscaler_of(autoscalers, Ref.of(deployment))
        found.append(ServerState(deployment, models, store, record, autoscaler))
    return found


def _by_name(objects: list[Json]) -> dict[str, Json]:
    return {entry["metadata"]["name"]: entry for entry in objects}
