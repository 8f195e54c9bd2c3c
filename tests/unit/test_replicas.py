# SPDX-FileCopyrightText: The modelfleet maintainers
# SPDX-License-Identifier: GPL-3.0-or-later
"""How a Deployment's number of replicas goes from us to an autoscaler and back, on a real API server."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import _kubernetes
import pytest
from _cluster import Cluster, actions, fresh_cluster

from ansible_collections.modelfleet.serving.plugins.module_utils._call import Call
from ansible_collections.modelfleet.serving.plugins.module_utils._cluster.kinds import Ref
from ansible_collections.modelfleet.serving.plugins.module_utils._cluster.wait import Deadline
from ansible_collections.modelfleet.serving.plugins.module_utils._errors import InputError, ServingError
from ansible_collections.modelfleet.serving.plugins.module_utils._features.server_bundle import apply_server
from ansible_collections.modelfleet.serving.plugins.module_utils._manifests.autoscaling import (
    Autoscaling,
    autoscaler,
    read_autoscaling,
)

Json = dict[str, Any]


@pytest.fixture
def real(kubernetes: _kubernetes.Kubernetes) -> Iterator[Cluster]:
    with fresh_cluster(kubernetes.connection) as cluster:
        yield cluster


def serve(cluster: Cluster, replicas: int | None) -> dict[str, str]:
    """Apply as a feature does: with so many replicas, or with an autoscaler."""
    deployment = cluster.deployment()
    objects = [deployment]
    if replicas is None:
        del deployment["spec"]["replicas"]
        objects.append(autoscaler(Autoscaling(2, 9, cpu=50), "server", cluster.named("server")))
    else:
        deployment["spec"]["replicas"] = replicas
    ref = Ref.of(deployment)

    def applied(check: bool) -> dict[str, str]:
        call = Call({"force_conflicts": False, "wait": True}, check_mode=check)
        bundle = cluster.bundle(*objects)
        return actions(apply_server(call, cluster.session, bundle, ref, replicas, Deadline.after(60)))

    checked, done = applied(True), applied(False)
    assert checked == done, "check mode says what a run does"
    return done


def scale(cluster: Cluster, replicas: int) -> None:
    """Write the number as the controller of an autoscaler does."""
    scale_by(cluster.session.request, cluster, replicas)


def scale_by(request: Callable[..., Any], cluster: Cluster, replicas: int) -> None:
    path = f"/apis/apps/v1/namespaces/{cluster.namespace}/deployments/server/scale"
    found = request("GET", path)
    found["spec"]["replicas"] = replicas
    request("PUT", path, query={"fieldManager": "kube-controller-manager"}, body=found)


def count(cluster: Cluster) -> int:
    live = cluster.live("Deployment", "server")
    assert live is not None
    return int(live["spec"]["replicas"])


def test_the_number_goes_to_the_autoscaler_and_back(real: Cluster) -> None:
    serve(real, 3)
    assert serve(real, None) == {"Deployment server": "unchanged", "HorizontalPodAutoscaler server": "created"}
    assert count(real) == 3, "it does not fall to one when nobody says it any more"
    scale(real, 7)
    assert set(serve(real, None).values()) == {"unchanged"}
    assert count(real) == 7, "a rerun leaves the autoscaler's number alone"
    assert serve(real, 2) == {"Deployment server": "updated", "HorizontalPodAutoscaler server": "deleted"}
    assert count(real) == 2
    assert real.live("HorizontalPodAutoscaler", "server") is None, "it is gone, and not only marked"
    # Nobody else holds the number after that.
    assert serve(real, 2) == {"Deployment server": "unchanged"}
    assert serve(real, 4) == {"Deployment server": "updated"}
    assert count(real) == 4


def test_the_autoscalers_last_word_does_not_stand(real: Cluster, monkeypatch: pytest.MonkeyPatch) -> None:
    serve(real, None)
    send = real.session.request

    def request(method: str, path: str, **more: Any) -> Any:
        if method == "DELETE" and "horizontalpodautoscalers" in path and "dryRun" not in str(more):
            scale_by(send, real, 7)
        return send(method, path, **more)

    monkeypatch.setattr(real.session, "request", request)
    serve(real, 2)
    assert count(real) == 2
    # A run that was cut off right then left this.
    scale_by(send, real, 7)
    serve(real, 3)
    assert count(real) == 3


def test_anothers_autoscaler_is_refused(real: Cluster) -> None:
    real.by_other(autoscaler(Autoscaling(2, 9, cpu=50), "server", real.named("server")))
    deployment = real.deployment()
    del deployment["spec"]["replicas"]
    real.apply(deployment)
    scale(real, 5)
    with pytest.raises(ServingError, match="sets how many pods"):
        serve(real, 2)
    assert count(real) == 5


REQUESTS = {"requests": {"cpu": "1"}}


def params(**more: Any) -> Json:
    return {"min_replicas": 2, "max_replicas": 4, "cpu": None, "memory": None, "metrics": [], "behavior": {}, **more}


def test_autoscaling_is_read() -> None:
    assert read_autoscaling(None, {}) is None
    assert read_autoscaling(params(cpu=50), REQUESTS) == Autoscaling(2, 4, cpu=50)
    assert read_autoscaling(params(memory=50), {"limits": {"memory": "1Gi"}}) == Autoscaling(2, 4, memory=50)
    pods = {"type": "Pods", "pods": {}}
    assert read_autoscaling(params(metrics=[pods]), {}) == Autoscaling(2, 4, metrics=(pods,))


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ({"cpu": 50, "max_replicas": 1}, "from 2 to 1 replicas is no range"),
        ({"cpu": 50, "min_replicas": 0}, "from 0 to 4 replicas is no range"),
        ({"cpu": 0}, "autoscaling.cpu: 0 is no percentage"),
        ({"memory": 50}, "request no memory. Set resources.requests.memory"),
        ({"metrics": [{"type": "Latency"}]}, "'Latency' is no type of metric"),
        ({}, "nothing to scale by"),
    ],
)
def test_what_no_autoscaler_could_act_on_is_refused(wrong: Json, words: str) -> None:
    with pytest.raises(InputError) as caught:
        read_autoscaling(params(**wrong), REQUESTS)
    assert words in str(caught.value)
