# SPDX-FileCopyrightText: The modelfleet maintainers
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a cluster's API says of the model servers of a namespace, read in five requests however many there are."""

from __future__ import annotations

from dataclasses import dataclass

from ansible_collections.modelfleet.serving.plugins.module_utils._cluster.autoscalers import autoscaler_of
from ansible_collections.modelfleet.serving.plugins.module_utils._cluster.kinds import Ref
from ansible_collections.modelfleet.serving.plugins.module_utils._cluster.pods import claims_of
from ansible_collections.modelfleet.serving.plugins.module_utils._cluster.session import Json, Session
from ansible_collections.modelfleet.serving.plugins.module_utils._manifests.names import (
    MODEL_LABEL,
    OUR_SERVERS,
    claim_name,
    config_name,
    server_selector,
)
from ansible_collections.modelfleet.serving.plugins.module_utils._store.own import common, filled
from ansible_collections.modelfleet.serving.plugins.module_utils._store.record import Record, read_record
from ansible_collections.modelfleet.serving.plugins.module_utils._tfserving.model_config import ServedModel, read_config


@dataclass(frozen=True)
class ServerState:
    """One server.

    :param workload: the Deployment or StatefulSet that makes its pods.
    :param models: what it is told to serve; of an image's model no more than the name is known.
    :param store: the claim that holds its models; for pods that have a volume each, what the claims' names begin with.
    :param record: what that claim holds, by its record; of several, what all of them hold.
    :param volumes: how many pods with a volume of their own there can be; None where they share one, or need none.
    """

    workload: Json
    models: tuple[ServedModel, ...]
    store: str | None
    record: Record
    autoscaler: Json | None
    volumes: int | None = None


def read_servers(session: Session, namespace: str, name: str | None = None) -> list[ServerState]:
    """Read the servers that this collection made in a namespace, or the one named."""
    labels = {**OUR_SERVERS, **server_selector(name)} if name is not None else OUR_SERVERS
    kinds = ("Deployment", "StatefulSet")
    workloads = [live for kind in kinds for live in session.find("apps/v1", kind, namespace, labels=labels)]
    if not workloads:
        return []
    # Where one takes over from the other, the one that serves by more pods stands for the server.
    workloads.sort(key=_ready)
    configs = _by_name(session.find("v1", "ConfigMap", namespace, labels=labels))
    claims = _by_name(session.find("v1", "PersistentVolumeClaim", namespace))
    autoscalers = session.find("autoscaling/v2", "HorizontalPodAutoscaler", namespace)
    found = []
    for name, workload in sorted(_by_name(workloads).items()):
        config = configs.get(config_name(name), {})
        models = read_config(config.get("data", {}).get("models.config", ""))
        template = workload["spec"]["template"]
        if of_image := template["metadata"]["labels"].get(MODEL_LABEL):
            models = (ServedModel(of_image, ()),)
        store = next(iter(claims_of(template["spec"])), None)
        record = read_record(claims.get(store)) if store else {}
        volumes = None
        if templates := workload["spec"].get("volumeClaimTemplates"):
            store = templates[0]["metadata"]["name"]
            volumes, _why = filled(claims, store, name, models)
            numbers = range(workload["spec"].get("replicas", 1))
            record = common(read_record(claims.get(claim_name(store, name, number))) for number in numbers)
        autoscaler = autoscaler_of(autoscalers, Ref.of(workload))
        found.append(ServerState(workload, models, store, record, autoscaler, volumes))
    return found


def _ready(workload: Json) -> int:
    number: int = (workload.get("status") or {}).get("readyReplicas", 0)
    return number


def _by_name(objects: list[Json]) -> dict[str, Json]:
    return {entry["metadata"]["name"]: entry for entry in objects}
