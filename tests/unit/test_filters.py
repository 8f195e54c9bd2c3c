# SPDX-FileCopyrightText: The modelfleet maintainers
# SPDX-License-Identifier: GPL-3.0-or-later
"""The filters pick, kubernetes_name, one_endpoint and fleet_status."""

from __future__ import annotations

from typing import Any

import pytest
from ansible.errors import AnsibleFilterError

from ansible_collections.modelfleet.serving.plugins.filter.fleet_status import fleet_status
from ansible_collections.modelfleet.serving.plugins.filter.kubernetes_name import of_model
from ansible_collections.modelfleet.serving.plugins.filter.one_endpoint import one_endpoint
from ansible_collections.modelfleet.serving.plugins.filter.pick import pick

MODELS = [{"name": "half_plus_two", "versions": [1, 2]}]


def cluster(name: str, **results: Any) -> dict[str, Any]:
    """Give a cluster in which everything is right, but for what is given."""
    pods = [
        {
            "name": f"serving-{i}",
            "ready": True,
            "models": {"half_plus_two": {"1": "AVAILABLE", "2": "AVAILABLE"}},
            "error": "",
        }
        for i in range(2)
    ]
    server = {"name": "serving", "replicas": 2, "available_replicas": 2, "models": ["half_plus_two"], "pods": pods}
    answers = [
        {"target": f"pod serving-{i}", "model": "half_plus_two", "right": True, "error": "", "seconds": 0.01}
        for i in range(2)
    ]
    return {
        "inventory_hostname": name,
        "cluster_cloud": "gcp",
        "serving_status_servers": {"servers": [server]},
        "serving_status_stores": {
            "stores": [{"name": "models", "versions": {"half_plus_two": {"1": "sha256:a", "2": "sha256:b"}}}]
        },
        "serving_status_probe": {"results": answers},
        **results,
    }


def member(name: str, **values: Any) -> dict[str, Any]:
    """Give an active member that is up, but for what is given."""
    usual = {"state": "active", "weight": 100, "traffic": 100, "forced": "", "up": True, "models": {}, "reasons": {}}
    return {"name": name, "sessions": 0, **usual, **values}


def endpoint(*members: dict[str, Any], **values: Any) -> dict[str, Any]:
    """Give an endpoint's view of its members."""
    return {"exists": True, "members": list(members), "fail_open": [], "drift": [], "silent": [], **values}


def test_pick_keeps_the_named_keys_and_skips_absent_ones() -> None:
    assert pick([{"name": "a", "x": 1}, {"name": "b", "y": 2}], "name", "y") == [{"name": "a"}, {"name": "b", "y": 2}]


def test_pick_keeps_a_key_under_another_name() -> None:
    hosts = [{"inventory_hostname": "a", "cluster_context": "x", "name": 1}, {"inventory_hostname": "b"}]
    assert pick(hosts, name="inventory_hostname", context="cluster_context") == [
        {"name": "a", "context": "x"},
        {"name": "b"},
    ]


@pytest.mark.parametrize("entries", ["text", {"a": 1}, [1], 3])
def test_pick_refuses_what_is_no_list_of_dictionaries(entries: Any) -> None:
    with pytest.raises(AnsibleFilterError, match="list of dictionaries"):
        pick(entries, "name")


def test_pick_needs_a_key() -> None:
    with pytest.raises(AnsibleFilterError, match="one key or more"):
        pick([{"a": 1}])


def test_a_fleet_in_which_everything_is_right() -> None:
    status = fleet_status(
        [cluster("a"), cluster("b")], MODELS, endpoint(member("a"), member("b", weight=50, traffic=50))
    )
    assert status["ok"]
    assert (status["right"], status["asked"], status["reachable"]) == (4, 4, 2)
    assert [entry["traffic"]["share"] for entry in status["clusters"]] == [67, 33]
    (row,) = status["clusters"][0]["rows"]
    assert [version["version"] for version in row["versions"]] == [1, 2]
    assert row["versions"][1]["digest"] == "sha256:b"


def test_an_unreachable_cluster_is_a_row() -> None:
    dead = {
        "inventory_hostname": "b",
        "serving_status_servers": {"unreachable": True, "msg": "no answer\nmore"},
        "serving_status_stores": {"skipped": True},
    }
    status = fleet_status(
        [cluster("a"), dead], MODELS, endpoint(member("a"), member("b", state="drained", traffic=0, up=False))
    )
    assert status["problems"] == ["b is unreachable: no answer"]
    assert not status["clusters"][1]["reachable"]
    assert status["clusters"][0]["traffic"]["share"] == 100


def test_a_cluster_that_was_never_asked_is_unreachable() -> None:
    status = fleet_status([{"inventory_hostname": "a"}], MODELS)
    assert status["problems"] == ["a is unreachable: it was not asked"]


def test_a_cluster_without_the_model() -> None:
    status = fleet_status(
        [cluster("a", serving_status_servers={"servers": []}, serving_status_probe={"results": []})], MODELS
    )
    assert status["problems"] == ["a: half_plus_two: it is not deployed."]


def test_a_wrong_prediction_and_a_missing_version() -> None:
    bad = cluster("a")
    bad["serving_status_probe"]["results"][1].update(right=False, error="3.1 instead of 2.5")
    bad["serving_status_servers"]["servers"][0]["pods"][0]["models"]["half_plus_two"]["2"] = "LOADING"
    status = fleet_status([bad], MODELS)
    assert status["problems"] == [
        "a: half_plus_two: version 2 is available in 1 of 2 pods.",
        "a: half_plus_two: 1 of 2 predictions are not right. pod serving-1: 3.1 instead of 2.5",
    ]


def test_an_autoscaler_that_does_not_scale() -> None:
    bad = cluster("a")
    scaling = {"min_replicas": 2, "max_replicas": 4, "desired_replicas": 2, "fault": "FailedGetPodsMetric: no metric x"}
    bad["serving_status_servers"]["servers"][0]["autoscaling"] = scaling
    told = "a: the autoscaler of serving does not scale: FailedGetPodsMetric: no metric x."
    assert fleet_status([bad], MODELS)["problems"] == [told]
    assert fleet_status([cluster("a")], MODELS)["problems"] == []


def test_a_name_for_kubernetes() -> None:
    assert of_model("forest") == "forest"
    assert of_model("iris_forest") == "iris-forest-0254"
    for wrong in ("a/b", None, ["forest"]):
        with pytest.raises(AnsibleFilterError, match="is no valid name"):
            of_model(wrong)


def test_a_tampered_version() -> None:
    stores = cluster("a")["serving_status_stores"]
    stores["stores"][0]["tampered"] = [{"model": "half_plus_two", "version": 2, "published": "x", "found": "y"}]
    status = fleet_status([cluster("a", serving_status_stores=stores)], MODELS)
    assert status["problems"] == ["a: half_plus_two: version 2 in the store models is not the published one."]


@pytest.mark.parametrize(
    ("answer", "problem"),
    [
        ({"failed": True, "msg": "no answer from the socket"}, "The endpoint: no answer from the socket"),
        ({"exists": False}, "The endpoint does not exist yet."),
        (
            endpoint(member("a", up=False, reasons={"half_plus_two": "L4TOUT"})),
            "a: the balancer finds it down (half_plus_two: L4TOUT).",
        ),
        (endpoint(member("a", forced="maintenance")), "a: someone forced it at the balancer (maintenance)."),
        (
            endpoint(member("a"), fail_open=["half_plus_two"]),
            "half_plus_two: its check fails in every cluster, so the balancer sends requests without regard to checks.",
        ),
    ],
)
def test_what_is_wrong_with_the_endpoint(answer: dict[str, Any], problem: str) -> None:
    assert fleet_status([cluster("a")], MODELS, answer)["problems"] == [problem]


def test_standby_members_carry_the_traffic_when_no_active_one_can() -> None:
    status = fleet_status(
        [cluster("a"), cluster("b")], MODELS, endpoint(member("a", up=False), member("b", state="standby"))
    )
    assert [entry["traffic"]["share"] for entry in status["clusters"]] == [0, 100]


def test_clusters_that_differ_are_named() -> None:
    other = {"stores": [{"versions": {"half_plus_two": {"1": "sha256:a", "2": "sha256:c"}}}]}
    status = fleet_status([cluster("a"), cluster("b", serving_status_stores=other)], MODELS)
    assert status["problems"] == [
        "half_plus_two: version 2 has different files: sha256:b in a; sha256:c in b.",
    ]
    behind = cluster("b")
    for pod in behind["serving_status_servers"]["servers"][0]["pods"]:
        pod["models"] = {"half_plus_two": {"1": "AVAILABLE", "2": "LOADING"}}
    status = fleet_status([cluster("a"), behind], MODELS)
    assert "half_plus_two: the clusters serve different versions: 1, 2 in a; 1 in b." in status["problems"]


def test_a_label_that_leads_elsewhere_is_named() -> None:
    wrong = cluster("a")
    (server,) = wrong["serving_status_servers"]["servers"]
    server["labels"] = {"half_plus_two": {"stable": 2}}
    for pod, version in zip(server["pods"], (2, 1), strict=True):
        pod["labels"] = {"half_plus_two": {"stable": version}}
    status = fleet_status([wrong], MODELS)
    assert status["problems"] == ["a: half_plus_two: the label stable does not lead to version 2 in pod serving-1."]


def test_several_servers_are_probed_each_by_itself() -> None:
    one = cluster("a")
    one["serving_status_probe"] = {"results": [one["serving_status_probe"], {"results": []}]}
    status = fleet_status([one], MODELS)
    assert (status["ok"], status["right"], status["asked"]) == (True, 2, 2)


@pytest.mark.parametrize(("policy", "served"), [("latest", [2]), ("all", [1, 2]), ("specific", [1, 2])])
def test_the_policy_says_which_versions_should_be_served(policy: str, served: list[int]) -> None:
    one = cluster("a")
    for pod in one["serving_status_servers"]["servers"][0]["pods"]:
        pod["models"] = {"half_plus_two": {str(version): "AVAILABLE" for version in served}}
    assert fleet_status([one], [{**MODELS[0], "version_policy": policy}])["ok"]


def test_what_is_served_beside_the_catalogue_is_told_and_not_wrong() -> None:
    def server(name: str, *models: str) -> dict[str, Any]:
        pods = [{"name": name, "ready": True, "models": {model: {"9": "AVAILABLE"} for model in models}, "error": ""}]
        return {"name": name, "replicas": 1, "available_replicas": 1, "models": list(models), "pods": pods}

    entry = cluster("a")
    entry["serving_status_servers"]["servers"] += [
        server("old", "half_plus_two", "other"),
        server("second", "half_plus_two", "iris"),
        server("third"),
    ]
    models = [*MODELS, {"name": "iris", "versions": [9]}]
    entry["serving_status_probe"]["results"].append(
        {"target": "pod second", "model": "iris", "right": True, "error": "", "seconds": 0.01}
    )
    groups = [("serving", models[:1]), ("second", models[1:])]
    status = fleet_status([entry, {"inventory_hostname": "b"}], models, endpoint(member("a")), groups)
    remove = "is not in the catalogue. Deploy with serving_prune=true to remove it."
    assert status["leftovers"] == [
        f"a: the server old (half_plus_two, other) {remove}",
        "a: the server second still serves half_plus_two, which the catalogue has on serving. Deploy again to end it.",
        f"a: the server third {remove}",
    ]
    assert status["problems"] == ["b is unreachable: it was not asked"]
    first = status["clusters"][0]["rows"][0]
    assert [version["version"] for version in first["versions"]] == [1, 2], "the catalogue's server is the row's"
    assert fleet_status([entry], models)["leftovers"] == []


def test_a_balancer_that_asks_nobody_finds_nobody_down() -> None:
    members = [member("a", up=None, sessions=None), member("b", up=None, sessions=None, state="drained", traffic=0)]
    status = fleet_status([cluster("a"), cluster("b")], MODELS, endpoint(*members))
    assert status["problems"] == []
    assert [(found["traffic"]["up"], found["traffic"]["share"]) for found in status["clusters"]] == [
        (None, 100),
        (None, 0),
    ]


def told(host: str, *members: dict[str, Any], **values: Any) -> dict[str, Any]:
    """Give what one of several balancers said, as an item of a loop's result."""
    usual = {"address": f"{host}.example.org", "port": 80, "rate": 1.0}
    listed = [{**usual, **member} for member in members]
    view = {"addresses": [], "epoch": 1, "digest": "a", "errors": 2, "endpoint": {}}
    return {"ansible_loop_var": "host", "host": host, **endpoint(*listed, **{**view, **values})}


def test_several_balancers_are_one_endpoint() -> None:
    one = told("one", member("a", sessions=1), member("b", up=None, sessions=None))
    two = told("two", member("a", sessions=2, up=False, reasons={"m": "wrong"}), member("b"), fail_open=["m"])
    found = one_endpoint({"results": [one, two]})
    assert [found[key] for key in ("exists", "epoch", "digest", "errors", "fail_open")] == [True, 1, "a", 4, ["m"]]
    assert found["hosts"] == [{"name": "one", "digest": "a"}, {"name": "two", "digest": "a"}]
    assert (found["drift"], found["silent"]) == ([], [])
    a, b = found["members"]
    assert [a[key] for key in ("up", "reasons", "sessions", "rate")] == [False, {"m": "wrong"}, 3, 2.0]
    assert (b["up"], b["sessions"]) == (None, None)
    assert "host" not in found


def test_the_latest_epoch_counts() -> None:
    drained = {"state": "drained", "weight": 100, "traffic": 0}
    old = told("old", member("a"), member("b"))
    new = told("new", member("a", **drained), member("b"), epoch=2, digest="b")
    none = told("none", exists=False, epoch=0, digest="", errors=None)
    for results in ([old, new, none], [none, new, old]):
        found = one_endpoint({"results": results})
        assert [entry["state"] for entry in found["members"]] == ["drained", "active"]
        # Who knows other members can't be told their states.
        assert {entry["name"] for entry in found["hosts"]} == {"old", "new"}
        assert {entry["name"]: entry["digest"] for entry in found["hosts"]} == {"old": "a", "new": "b"}
        reasons = {step["subject"]: step["reason"] for step in found["drift"]}
        assert reasons.keys() == {"old", "none"}
        assert reasons["old"].startswith("it is not that of new (its epoch is 1, there 2)")
        assert found["errors"] == 4


def test_a_balancer_that_cannot_be_asked_is_left_out() -> None:
    failed = {"ansible_loop_var": "host", "host": "one", "failed": True, "msg": "no answer"}
    away = {"ansible_loop_var": "host", "host": "two", "unreachable": True, "msg": "Failed to connect:\n  refused"}
    found = one_endpoint({"results": [failed, away, told("three", member("a"))]})
    assert found["hosts"] == [{"name": "three", "digest": "a"}]
    assert found["silent"] == [
        {"name": "one", "reason": "no answer"},
        {"name": "two", "reason": "Failed to connect: refused"},
    ]
    problems = fleet_status([cluster("a")], MODELS, found)["problems"]
    assert "one: the balancer could not be asked: no answer" in problems
    with pytest.raises(
        AnsibleFilterError, match="No host of the endpoint's balancer could be asked: one: no answer; two"
    ):
        one_endpoint({"results": [failed, away]})
    assert one_endpoint({"results": [failed]}, optional=True) == {"failed": True, "msg": "one: no answer"}
    assert one_endpoint({"skipped": True}) == {"skipped": True}
    with pytest.raises(AnsibleFilterError, match="a loop over hosts"):
        one_endpoint({"failed": True, "msg": "?"})
