# SPDX-FileCopyrightText: The modelfleet maintainers
# SPDX-License-Identifier: GPL-3.0-or-later
"""Servers that scale by metrics of their own: from real predictions by a real Prometheus to a real autoscaler."""

from __future__ import annotations

from typing import Any

import pytest
from _lab import HOME, Lab, nothing_lost
from pipeline import CHECKOUT, Pipeline, autoscaler, documented, eventually, load_image

from ansible_collections.modelfleet.serving.plugins.module_utils._cluster import readiness
from ansible_collections.modelfleet.serving.plugins.module_utils._features import image_server, model_server

Json = dict[str, Any]
SMALL = {"requests": {"cpu": "20m", "memory": "128Mi"}, "limits": {"memory": "512Mi"}}
METRIC = "tensorflow_serving_requests_per_second"
# An autoscaler looks every 15 seconds, and a rate takes its time to rise.
SECONDS = 90


def by_requests(a_second: int, low: int, high: int) -> Json:
    """The documented autoscaler, for fewer requests and pods."""
    scaling: Json = documented("autoscaling")
    (metric,) = scaling["metrics"]
    assert metric["pods"]["metric"]["name"] == METRIC
    metric["pods"]["target"]["averageValue"] = str(a_second)
    return {**scaling, "min_replicas": low, "max_replicas": high}


def fill(lab: Lab, pods: int = 0) -> None:
    entry = {"name": "half_plus_two", "source": str(HOME / "models" / "half_plus_two"), "versions": [1]}
    lab.fill(entry, **({"per_pod": {"server": "serving", "pods": pods}} if pods else {}))


def server(lab: Lab) -> Json:
    (found,) = lab.servers()
    return found


def scaled_to(lab: Lab, pods: int) -> bool:
    found = server(lab)
    return bool(found["replicas"] == found["available_replicas"] == pods)


def test_without_a_metrics_api_a_server_serves_and_the_user_is_told(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(readiness, "_METRICS_SECONDS", 0)
    fill(lab)
    scaling = by_requests(5, 2, 3)
    lab.serve(1, autoscaling=scaling, resources=SMALL)
    (warning,) = lab.warnings
    assert f"HorizontalPodAutoscaler {lab.namespace}/serving can't scale: nothing in the cluster serves" in warning
    assert "custom.metrics.k8s.io" in warning
    assert scaled_to(lab, 2)
    fault = eventually(lambda: server(lab)["autoscaling"]["fault"], seconds=SECONDS)
    assert fault.startswith("FailedGetPodsMetric: "), fault
    assert METRIC in fault


@pytest.mark.slow  # two minutes, and at first some four more for building Prometheus
def test_a_server_scales_by_its_requests(lab: Lab, pipeline: Pipeline, monkeypatch: pytest.MonkeyPatch) -> None:
    fill(lab)
    wanted: Json = {"autoscaling": by_requests(5, 1, 3), "resources": SMALL}
    lab.serve(1, **wanted)
    assert lab.warnings == []
    read = eventually(lambda: autoscaler(lab, "serving")["status"].get("currentMetrics"), seconds=SECONDS)
    assert (read[0]["pods"]["metric"]["name"], read[0]["pods"]["current"]) == (METRIC, {"averageValue": "0"})
    assert list(pipeline.of_pods(lab.namespace, METRIC).values()) == ["0"], "probes are no load"
    with nothing_lost(lab):
        eventually(lambda: scaled_to(lab, 3), seconds=SECONDS)
        (read,) = autoscaler(lab, "serving")["status"]["currentMetrics"]
        assert read["pods"]["current"]["averageValue"] != "0"
        latencies = pipeline.of_pods(lab.namespace, "tensorflow_serving_latency_milliseconds")
        assert latencies
        assert "0" not in latencies.values()

        # A rerun leaves the autoscaler's number alone.
        assert lab.serve(1, check=True, **wanted)["changed"] is False
        assert lab.serve(1, **wanted)["changed"] is False
        assert scaled_to(lab, 3)
        assert server(lab)["autoscaling"] == {"min_replicas": 1, "max_replicas": 3, "desired_replicas": 3, "fault": ""}

    # Without its metrics it keeps its pods, and says why.
    pipeline.break_off()
    monkeypatch.setattr(readiness, "_METRICS_SECONDS", 0)
    fault = eventually(lambda: server(lab)["autoscaling"]["fault"], seconds=SECONDS)
    assert fault.startswith("FailedGetPodsMetric: "), fault
    assert lab.serve(1, **wanted)["changed"] is False
    (warning,) = lab.warnings
    assert f"HorizontalPodAutoscaler {lab.namespace}/serving does not scale: FailedGetPodsMetric: " in warning
    assert scaled_to(lab, 3)
    # A failover can raise it all the same.
    assert lab.scale(replicas=4)["changed"] is True
    assert scaled_to(lab, 4)

    lab.run(model_server.FEATURE, {"name": "serving", "state": "absent", "wait_timeout": 60})
    assert lab.servers() == []
    left = lab.session.request("GET", f"/apis/autoscaling/v2/namespaces/{lab.namespace}/horizontalpodautoscalers")
    assert left["items"] == []


@pytest.mark.slow
def test_an_image_and_pods_with_volumes_of_their_own_scale_too(lab: Lab, pipeline: Pipeline) -> None:
    folder = CHECKOUT / "roles" / "local_fleet" / "files" / "iris_forest"
    forest: Json = {
        "name": "forest",
        "model": "iris_forest",
        "image": load_image(folder, "modelfleet/iris-forest", BASE=(HOME / "python_image").read_text().strip()),
        "resources": {"requests": {"cpu": "20m", "memory": "128Mi"}},
        # It has no metrics itself, so by what the other server is asked.
        "autoscaling": {
            "min_replicas": 1,
            "max_replicas": 2,
            "metrics": [
                {
                    "type": "External",
                    "external": {
                        "metric": {"name": "tensorflow_serving_all_requests_per_second"},
                        "target": {"type": "AverageValue", "averageValue": "5"},
                    },
                }
            ],
        },
        "wait_timeout": 120,
    }
    fill(lab, pods=3)
    wanted: Json = {"store_per_pod": True, "autoscaling": by_requests(5, 2, 3), "resources": SMALL}
    lab.serve(1, **wanted)
    lab.run(image_server.FEATURE, forest)
    assert counts(lab) == {"forest": 1, "serving": 2}
    with nothing_lost(lab):
        eventually(lambda: counts(lab) == {"forest": 2, "serving": 3}, seconds=SECONDS)
        assert lab.serve(1, **wanted)["changed"] is False
        assert lab.run(image_server.FEATURE, forest)["changed"] is False
        assert counts(lab) == {"forest": 2, "serving": 3}
    assert {pod["name"] for pod in lab.servers()[1]["pods"]} == {"serving-0", "serving-1", "serving-2"}
    assert lab.warnings == []


def counts(lab: Lab) -> dict[str, int]:
    """Give how many pods each server has, as far as all of them are available."""
    return {row["name"]: row["replicas"] for row in lab.servers() if row["replicas"] == row["available_replicas"]}
