# SPDX-FileCopyrightText: The modelfleet maintainers
# SPDX-License-Identifier: GPL-3.0-or-later
"""Where a real scheduler puts the pods that fill volumes, and with them the volumes; its nodes are objects alone."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from _cluster import Cluster
from _kubernetes import Kubernetes, run_scheduler

from ansible_collections.modelfleet.serving.plugins.module_utils._cluster.kinds import Ref
from ansible_collections.modelfleet.serving.plugins.module_utils._manifests.store import (
    StoreSpec,
    claim_name,
    loader,
    store,
)

Json = dict[str, Any]
CHOSEN = "volume.kubernetes.io/selected-node"
CLASS = f"disk-{os.getpid()}"


def post(cluster: Cluster, manifest: Json) -> None:
    ref = Ref.of(manifest)
    path = cluster.session.path(Ref(ref.api_version, ref.kind, "", ref.namespace))
    cluster.session.request("POST", path, body=manifest)


@pytest.fixture
def place(real: Cluster, kubernetes: Kubernetes, tmp_path: Path) -> Iterator[Cluster]:
    """Three nodes in as many zones, of which the first one has the most room, and a class of disks."""
    provisioner = {"provisioner": "disk.example.org", "volumeBindingMode": "WaitForFirstConsumer"}
    post(
        real,
        {"apiVersion": "storage.k8s.io/v1", "kind": "StorageClass", "metadata": {"name": CLASS}, **provisioner},
    )
    for zone in "abc":
        labels = {"kubernetes.io/hostname": f"node-{zone}", "topology.kubernetes.io/zone": zone}
        post(real, {"apiVersion": "v1", "kind": "Node", "metadata": {"name": f"node-{zone}", "labels": labels}})
        path = f"/api/v1/nodes/node-{zone}"
        room = {"cpu": "100" if zone == "a" else "1", "memory": "100Gi" if zone == "a" else "1Gi", "pods": "110"}
        ready = {"conditions": [{"type": "Ready", "status": "True"}], "capacity": room, "allocatable": room}
        for part, body in (("", {"spec": {"taints": None}}), ("/status", {"status": ready})):
            content_type = "application/merge-patch+json"
            real.session.request("PATCH", path + part, body=body, content_type=content_type)
        if zone != "a":
            post(real, pod(real, f"other-{zone}", f"node-{zone}", requests={"cpu": "800m", "memory": "800Mi"}))
    with run_scheduler(kubernetes, tmp_path):
        yield real
    for zone in "abc":
        real.session.request("DELETE", f"/api/v1/nodes/node-{zone}", body={})
    real.session.request("DELETE", f"/apis/storage.k8s.io/v1/storageclasses/{CLASS}", body={})


def pod(cluster: Cluster, name: str, node: str, requests: Json | None = None, **labels: str) -> Json:
    container = {"name": "x", "image": "x:1", "resources": {"requests": requests or {}}}
    metadata = {**cluster.named(name), "labels": labels}
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": metadata,
        "spec": {"nodeName": node, "containers": [container]},
    }


def specs(cluster: Cluster, store_name: str, pods: int = 3) -> list[StoreSpec]:
    return [
        StoreSpec(
            claim_name(store_name, "server", number),
            cluster.namespace,
            "1Gi",
            "busybox",
            storage_class=CLASS,
            pod=f"server-{number}",
        )
        for number in range(pods)
    ]


def fill(cluster: Cluster, spec: StoreSpec, **more: Any) -> None:
    for manifest in store(spec):
        post(cluster, manifest)
    manifest = loader(spec, seconds=600)
    post(cluster, {**manifest, "spec": {**manifest["spec"], **more}})


def chosen(cluster: Cluster, names: list[str]) -> dict[str, str]:
    """Wait until each claim has the node whose volume it is to be; gives these."""
    end = time.monotonic() + 30
    while True:
        claims = cluster.session.find("v1", "PersistentVolumeClaim", cluster.namespace)
        found = {entry["metadata"]["name"]: entry["metadata"].get("annotations", {}).get(CHOSEN) for entry in claims}
        if all(found.get(name) for name in names):
            return {name: str(found[name]) for name in names}
        assert time.monotonic() < end, json.dumps(cluster.session.find("v1", "Event", cluster.namespace))
        time.sleep(0.1)


def test_the_volumes_of_a_server_are_spread_over_zones(place: Cluster) -> None:
    # By room alone, all of them would be on one node: no volume would be left when it goes.
    for spec in specs(place, "crowded"):
        fill(place, spec, topologySpreadConstraints=[])
    names = [spec.name for spec in specs(place, "crowded")]
    assert set(chosen(place, names).values()) == {"node-a"}
    place.move()

    for spec in specs(place, "models"):
        fill(place, spec)
    names = [spec.name for spec in specs(place, "models")]
    assert sorted(chosen(place, names).values()) == ["node-a", "node-b", "node-c"]


def test_a_volume_that_comes_later_goes_where_the_server_has_no_pod(place: Cluster) -> None:
    shared = {"modelfleet.serving/store": "models-server"}
    for number, node in enumerate(("node-a", "node-b")):
        post(place, pod(place, f"server-{number}", node, **shared))
    (*_others, third) = specs(place, "models")
    fill(place, third)
    assert chosen(place, [third.name]) == {third.name: "node-c"}


def test_what_fills_a_volume_goes_where_its_pod_is(place: Cluster) -> None:
    for number, node in enumerate(("node-c", "node-b")):
        name = f"server-{number}"
        own = {"statefulset.kubernetes.io/pod-name": name, "modelfleet.serving/store": "models-server"}
        post(place, pod(place, name, node, **own))
    for spec in specs(place, "models", pods=2):
        fill(place, spec)
    names = [spec.name for spec in specs(place, "models", pods=2)]
    assert list(chosen(place, names).values()) == ["node-c", "node-b"]
