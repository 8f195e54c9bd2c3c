# SPDX-FileCopyrightText: The modelfleet maintainers
# SPDX-License-Identifier: GPL-3.0-or-later
"""A server whose pods have a volume each, in a real cluster: filled, reloaded, rolled out, scaled, and under load."""

from __future__ import annotations

import time
from typing import Any

import pytest
from _lab import HOME, Lab, nothing_lost

from ansible_collections.modelfleet.serving.plugins.module_utils._cluster.kinds import Ref
from ansible_collections.modelfleet.serving.plugins.module_utils._cluster.pods import claims_of, is_ready, live_pods
from ansible_collections.modelfleet.serving.plugins.module_utils._errors import InputError

Json = dict[str, Any]
COMPONENT = {"app.kubernetes.io/component": "server"}
SMALL = {"requests": {"cpu": "20m", "memory": "128Mi"}, "limits": {"memory": "512Mi"}}


def fill(lab: Lab, *versions: int, pods: int = 0, **more: Any) -> Json:
    entry = {"name": "half_plus_two", "source": str(HOME / "models" / "half_plus_two"), "versions": list(versions)}
    own = {"per_pod": {"server": "serving", "pods": pods}} if pods else {}
    return lab.fill({**entry, **more}, **own)


def pods(lab: Lab) -> dict[str, Json]:
    return {pod["metadata"]["name"]: pod for pod in live_pods(lab.pods(**COMPONENT))}


def uids(lab: Lab) -> dict[str, str]:
    return {name: pod["metadata"]["uid"] for name, pod in pods(lab).items()}


def actions(result: Json) -> dict[str, str]:
    return {row["kind"]: row["action"] for row in result["objects"] if row["action"] != "unchanged"}


def test_each_pod_has_a_volume_of_its_own(lab: Lab) -> None:
    own = {"store_per_pod": True, "resources": SMALL}
    fill(lab, 1)
    lab.serve(1, resources=SMALL)
    filled = fill(lab, 1, pods=2)
    assert [row["claim"] for row in filled["copied"]] == ["models-serving-0", "models-serving-1"]
    assert fill(lab, 1, pods=2)["changed"] is False
    with pytest.raises(
        InputError, match=r"need 3 filled volumes, and there are 2: the claim models-serving-2 does not"
    ):
        lab.serve(1, replicas=3, **own)

    with nothing_lost(lab):  # the Deployment serves until the StatefulSet does
        checked = lab.serve(1, check=True, **own)
        done = lab.serve(1, **own)
    assert checked["objects"] == done["objects"]
    assert actions(done) == {"StatefulSet": "created", "Deployment": "deleted"}
    assert lab.serve(1, **own)["changed"] is False
    first = pods(lab)
    assert {name: claims_of(pod["spec"]) for name, pod in first.items()} == {
        "serving-0": ["models-serving-0"],
        "serving-1": ["models-serving-1"],
    }

    # A new version comes to every volume while the pods have them mounted, and is loaded without a restart.
    with nothing_lost(lab):
        fill(lab, 1, 2, pods=2)
        assert actions(lab.serve(2, **own)) == {"ConfigMap": "updated"}
    assert uids(lab) == {name: pod["metadata"]["uid"] for name, pod in first.items()}
    (server,) = lab.servers()
    assert (server["store"], server["store_per_pod"], server["replicas"]) == ("models", True, 2)
    assert all(pod["models"]["half_plus_two"]["2"] == "AVAILABLE" for pod in server["pods"])

    # What is served stays in each volume.
    emptied = fill(lab, 1, pods=2, keep=0)
    assert [(row["claim"], row["version"]) for row in emptied["spared"]] == [
        ("models-serving-0", 2),
        ("models-serving-1", 2),
    ]

    # A rollout takes one pod after the other, and each comes back to its volume.
    before = uids(lab)
    with nothing_lost(lab):
        assert actions(lab.serve(2, arguments=["--tensorflow_session_parallelism=1"], **own)) == {
            "StatefulSet": "updated"
        }
    after = uids(lab)
    assert after.keys() == before.keys()
    assert not set(after.values()) & set(before.values())
    lab.session.request("DELETE", lab.session.path(Ref.of(pods(lab)["serving-1"])), body={})
    end = time.monotonic() + 60
    while uids(lab).get("serving-1") in (None, after["serving-1"]) or not all(map(is_ready, pods(lab).values())):
        assert time.monotonic() < end, "the pod did not come back"
        time.sleep(0.2)
    assert claims_of(pods(lab)["serving-1"]["spec"]) == ["models-serving-1"]

    # More pods than volumes are refused, and there may be more when there are.
    with pytest.raises(InputError, match="3 pods of serving need 3 filled volumes, and there are 2"):
        lab.scale(replicas=3)
    fill(lab, 1, 2, pods=3)
    assert lab.scale(replicas=3)["changed"] is True
    assert len(pods(lab)) == 3
    assert lab.scale(state="restored")["changed"] is True

    with nothing_lost(lab):
        fill(lab, 1, 2)
        assert actions(lab.serve(2, resources=SMALL)) == {
            "Deployment": "created",
            "StatefulSet": "deleted",
        }
    kept = {claim["metadata"]["name"] for claim in lab.session.find("v1", "PersistentVolumeClaim", lab.namespace)}
    assert kept == {"models", "models-serving-0", "models-serving-1", "models-serving-2"}, "the volumes stay"
