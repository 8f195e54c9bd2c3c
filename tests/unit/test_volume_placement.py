# SPDX-FileCopyrightText: The modelfleet maintainers
# SPDX-License-Identifier: GPL-3.0-or-later
"""Where a real scheduler puts the pods that fill volumes, and with them the volumes; its nodes are objects alone."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from _cluster import Cluster
from _kubernetes import Kubernetes, run_scheduler

from ansible_collections.modelfleet.serving.plugins.module_utils._cluster.kinds import Ref
from ansible_collections.modelfleet.serving.plugins.module_utils._manifests.names import claim_name
from ansible_collections.modelfleet.serving.plugins.module_utils._manifests.store import StoreSpec, loader, store

Json = dict[str, Any]
CHOSEN = "volume.kubernetes.io/selected-node"
SHARED = {"modelfleet.serving/store": "models-server"}
CLASS = f"disk-{os.getpid()}"
# Others test on the same API server at the same time: these are our scheduler, and the label of our nodes.
SCHEDULER, OURS = CLASS, {"test": CLASS}


def post(cluster: Cluster, manifest: Json) -> None:
    ref = Ref.of(manifest)
    path = cluster.session.path(Ref(ref.api_version, ref.kind, "", ref.namespace))
    cluster.session.request("POST", path, body=manifest)


@dataclass
class Place:
    """A namespace, and the nodes by their zones."""

    cluster: Cluster
    nodes: dict[str, str]

    def zones(self, names: list[str]) -> list[str]:
        """Wait until each claim has the node where its volume is to be; gives the zones of these."""
        zones, end = {node: zone for zone, node in self.nodes.items()}, time.monotonic() + 30
        while True:
            claims = self.cluster.session.find("v1", "PersistentVolumeClaim", self.cluster.namespace)
            found = {
                entry["metadata"]["name"]: entry["metadata"].get("annotations", {}).get(CHOSEN) for entry in claims
            }
            if all(found.get(name) for name in names):
                return [zones[str(found[name])] for name in names]
            events = self.cluster.session.find("v1", "Event", self.cluster.namespace)
            assert time.monotonic() < end, [event["message"] for event in events]
            time.sleep(0.1)


@pytest.fixture
def place(real: Cluster, kubernetes: Kubernetes, tmp_path: Path) -> Iterator[Place]:
    """Three nodes in as many zones, of which the first one has the most room, and a class of disks."""
    disks = {"provisioner": "disk.example.org", "volumeBindingMode": "WaitForFirstConsumer"}
    post(real, {"apiVersion": "storage.k8s.io/v1", "kind": "StorageClass", "metadata": {"name": CLASS}, **disks})
    nodes = {zone: f"{real.namespace}-{zone}" for zone in "abc"}
    for zone, node in nodes.items():
        labels = {"kubernetes.io/hostname": node, "topology.kubernetes.io/zone": zone, **OURS}
        post(real, {"apiVersion": "v1", "kind": "Node", "metadata": {"name": node, "labels": labels}})
        room = {"cpu": "100" if zone == "a" else "1", "memory": "100Gi" if zone == "a" else "1Gi", "pods": "110"}
        ready = {"conditions": [{"type": "Ready", "status": "True"}], "capacity": room, "allocatable": room}
        for part, body in (("", {"spec": {"taints": None}}), ("/status", {"status": ready})):
            content_type = "application/merge-patch+json"
            real.session.request("PATCH", f"/api/v1/nodes/{node}{part}", body=body, content_type=content_type)
        if zone != "a":
            post(real, pod(real, f"other-{zone}", node, requests={"cpu": "800m", "memory": "800Mi"}))
    with run_scheduler(kubernetes, tmp_path, SCHEDULER):
        yield Place(real, nodes)
    for node in nodes.values():
        real.session.request("DELETE", f"/api/v1/nodes/{node}", body={})
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
    ours = {"schedulerName": SCHEDULER, "nodeSelector": OURS}
    post(cluster, {**manifest, "spec": {**manifest["spec"], **ours, **more}})


def test_the_volumes_of_a_server_are_spread_over_zones(place: Place) -> None:
    # By room alone, all of them would be on one node: no volume would be left when it goes.
    for spec in specs(place.cluster, "crowded"):
        fill(place.cluster, spec, topologySpreadConstraints=[])
    assert place.zones([spec.name for spec in specs(place.cluster, "crowded")]) == ["a", "a", "a"]
    place.cluster.move()

    for spec in specs(place.cluster, "models"):
        fill(place.cluster, spec)
    assert sorted(place.zones([spec.name for spec in specs(place.cluster, "models")])) == ["a", "b", "c"]


def test_a_volume_that_comes_later_goes_where_the_server_has_no_pod(place: Place) -> None:
    for number, zone in enumerate("ab"):
        post(place.cluster, pod(place.cluster, f"server-{number}", place.nodes[zone], **SHARED))
    (*_others, third) = specs(place.cluster, "models")
    fill(place.cluster, third)
    assert place.zones([third.name]) == ["c"]


def test_what_fills_a_volume_goes_where_its_pod_is(place: Place) -> None:
    for number, zone in enumerate("cb"):
        name = f"server-{number}"
        own = {"statefulset.kubernetes.io/pod-name": name}
        post(place.cluster, pod(place.cluster, name, place.nodes[zone], **own, **SHARED))
    for spec in specs(place.cluster, "models", pods=2):
        fill(place.cluster, spec)
    assert place.zones([spec.name for spec in specs(place.cluster, "models", pods=2)]) == ["c", "b"]
