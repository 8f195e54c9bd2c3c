# SPDX-FileCopyrightText: The modelfleet maintainers
# SPDX-License-Identifier: GPL-3.0-or-later
"""The apply engine, on the small API server and on a real one: both must tell the same."""

from __future__ import annotations

import contextlib
import json
from typing import Any

import pytest
from _api_server import ApiServer
from _cluster import Cluster, actions

from ansible_collections.modelfleet.serving.plugins.module_utils._cluster.apply import apply, delete
from ansible_collections.modelfleet.serving.plugins.module_utils._cluster.applyset import PART_OF
from ansible_collections.modelfleet.serving.plugins.module_utils._cluster.changes import result_of
from ansible_collections.modelfleet.serving.plugins.module_utils._cluster.kinds import Ref, Resource
from ansible_collections.modelfleet.serving.plugins.module_utils._cluster.session import connect
from ansible_collections.modelfleet.serving.plugins.module_utils._errors import ApiError, ServingError

Json = dict[str, Any]


def test_apply_creates_then_changes_nothing(cluster: Cluster) -> None:
    objects = [cluster.config(a="1"), cluster.secret(password="p"), cluster.deployment(MODE="fast")]
    first = cluster.apply(*objects)
    assert first == {"ConfigMap config": "created", "Secret secret": "created", "Deployment server": "created"}
    versions = [cluster.live(kind, name)["metadata"]["resourceVersion"] for kind, name in map(str.split, first)]  # type: ignore[index]
    second = result_of(apply(cluster.session, cluster.bundle(*objects)))
    assert not second.changed
    assert second.diff == []
    assert {row["action"] for row in second.values["objects"]} == {"unchanged"}
    assert versions == [
        cluster.live(kind, name)["metadata"]["resourceVersion"]  # type: ignore[index]
        for kind, name in map(str.split, first)
    ]


def test_check_says_what_a_run_does_and_writes_nothing(cluster: Cluster) -> None:
    cluster.apply(cluster.config(a="1", b="2"), cluster.config("old"), cluster.deployment(MODE="fast"))
    bundle = cluster.bundle(cluster.config(a="1", c="3"), cluster.secret(x="y"), cluster.deployment("server:2"))
    before = cluster.session.find("v1", "ConfigMap", cluster.namespace)
    checked = result_of(apply(cluster.session, bundle, check=True))
    assert cluster.session.find("v1", "ConfigMap", cluster.namespace) == before
    assert cluster.live("Secret", "secret") is None
    done = result_of(apply(cluster.session, bundle))
    assert checked.changed
    assert checked.diff == done.diff
    assert checked.values == done.values
    assert {row["name"]: row["action"] for row in done.values["objects"]} == {
        "config": "updated",
        "secret": "created",
        "server": "updated",
        "old": "deleted",
    }
    again = apply(cluster.session, bundle, check=True)
    assert set(actions(again).values()) == {"unchanged"}


def test_diff_shows_only_fields_that_we_own(cluster: Cluster) -> None:
    cluster.apply(cluster.deployment(MODE="fast"))
    other = cluster.deployment()
    other["metadata"]["annotations"] = {"other/note": "kept"}
    other["spec"] = {"selector": other["spec"]["selector"], "minReadySeconds": 3, "template": other["spec"]["template"]}
    cluster.by_other(other)
    (change,) = apply(cluster.session, cluster.bundle(cluster.deployment("server:1", MODE="slow")))
    assert change.action == "updated"
    (diff,) = result_of([change]).diff
    assert "value: fast" in diff["before"]
    assert "value: slow" in diff["after"]
    for text in diff.values():
        assert "other/note" not in text
        assert "minReadySeconds" not in text
        assert "managedFields" not in text
        assert "applyset" not in text
    live = cluster.live("Deployment", "server")
    assert live is not None
    assert live["metadata"]["annotations"]["other/note"] == "kept"
    assert live["spec"]["minReadySeconds"] == 3


def test_a_field_that_left_the_manifest_leaves_the_object(cluster: Cluster) -> None:
    cluster.apply(cluster.deployment(MODE="fast", LEVEL="1"))
    assert cluster.apply(cluster.deployment(LEVEL="1")) == {"Deployment server": "updated"}
    live = cluster.live("Deployment", "server")
    assert live is not None
    assert live["spec"]["template"]["spec"]["containers"][0]["env"] == [{"name": "LEVEL", "value": "1"}]


def test_prune_removes_what_left_the_bundle_and_nothing_else(cluster: Cluster) -> None:
    foreign = cluster.config("foreign", a="1")
    cluster.session.request("POST", f"/api/v1/namespaces/{cluster.namespace}/configmaps", body=foreign)
    apply(cluster.session, cluster.bundle(cluster.config("neighbour"), name="neighbour"))
    cluster.apply(cluster.config("stays"), cluster.config("goes"), cluster.deployment())
    assert cluster.apply(cluster.config("stays")) == {
        "ConfigMap stays": "unchanged",
        "ConfigMap goes": "deleted",
        "Deployment server": "deleted",
    }
    for name in ("foreign", "neighbour", "stays"):
        assert cluster.live("ConfigMap", name) is not None
    assert cluster.live("ConfigMap", "goes") is None
    assert cluster.apply(cluster.config("stays")) == {"ConfigMap stays": "unchanged"}


def test_prune_finds_what_a_cut_off_run_left(cluster: Cluster) -> None:
    cluster.apply(cluster.config("stays"))
    # A run that was killed in the middle of a bundle with a Deployment has recorded the kind and nothing more.
    wrong = cluster.deployment()
    wrong["spec"]["template"]["spec"]["containers"] = []
    wrong["metadata"]["namespace"] = "no-such-namespace"
    with pytest.raises(ApiError):
        cluster.apply(cluster.config("stays"), cluster.secret(a="b"), wrong)
    assert cluster.live("Secret", "secret") is not None
    assert cluster.apply(cluster.config("stays")) == {"ConfigMap stays": "unchanged", "Secret secret": "deleted"}


def test_delete_removes_the_bundle_and_its_record(cluster: Cluster) -> None:
    bundle = cluster.bundle(cluster.config("ours"), cluster.deployment())
    apply(cluster.session, bundle)
    cluster.session.request(
        "POST", f"/api/v1/namespaces/{cluster.namespace}/configmaps", body=cluster.config("foreign")
    )
    checked = delete(cluster.session, cluster.bundle(), check=True)
    assert cluster.live("ConfigMap", "ours") is not None
    done = delete(cluster.session, cluster.bundle())
    assert actions(checked) == actions(done) == {"ConfigMap ours": "deleted", "Deployment server": "deleted"}
    names = {item["metadata"]["name"] for item in cluster.session.find("v1", "ConfigMap", cluster.namespace)}
    assert names - {"kube-root-ca.crt"} == {"foreign"}
    assert delete(cluster.session, cluster.bundle()) == []


def test_secrets_never_show_in_a_diff(cluster: Cluster) -> None:
    cluster.apply(cluster.secret(password="hunter2", user="kept"))
    for change in (
        apply(cluster.session, cluster.bundle(cluster.secret(password="hunter3", user="kept")), check=True),
        apply(cluster.session, cluster.bundle(cluster.secret(password="hunter3", user="kept"))),
        delete(cluster.session, cluster.bundle()),
    ):
        text = json.dumps(result_of(change).as_dict(diff=True))
        assert "hidden, before" in text
        for word in ("hunter2", "hunter3", "kept", "aHVudGVyMg==", "aHVudGVyMw==", "a2VwdA=="):
            assert word not in text


def test_a_conflict_names_the_manager_and_forces_only_when_asked(cluster: Cluster) -> None:
    cluster.apply(cluster.config(a="1"))
    cluster.by_other(cluster.config(a="2"), "autoscaler")
    with pytest.raises(ApiError) as caught:
        cluster.apply(cluster.config(a="1"))
    assert caught.value.status == 409
    assert "autoscaler" in str(caught.value)
    assert "force_conflicts" in str(caught.value)
    live = cluster.live("ConfigMap", "config")
    assert live is not None
    assert live["data"] == {"a": "2"}
    assert cluster.apply(cluster.config(a="1"), force=True) == {"ConfigMap config": "updated"}
    live = cluster.live("ConfigMap", "config")
    assert live is not None
    assert live["data"] == {"a": "1"}


def test_a_refused_object_is_reported_with_what_was_applied(cluster: Cluster) -> None:
    wrong = cluster.deployment()
    wrong["metadata"]["namespace"] = "no-such-namespace"
    later: Json = {"apiVersion": "admissionregistration.k8s.io/v1", "kind": "ValidatingWebhookConfiguration"}
    later["metadata"] = {"name": "later"}
    cluster.session.define({(later["apiVersion"], later["kind"]): Resource("validatingwebhookconfigurations", False)})
    with pytest.raises(ServingError) as caught:
        cluster.apply(later, cluster.config(), cluster.secret(a="b"), wrong)
    assert caught.value.details["changed"] is True
    rows = {row["name"]: row for row in caught.value.details["objects"]}
    assert {name: row["action"] for name, row in rows.items()} == {
        "config": "created",
        "secret": "created",
        "server": "failed",
        "later": "not_applied",
    }
    words = 'namespaces "no-such-namespace" not found'
    assert words in rows["server"]["error"]
    assert words in str(caught.value)


def test_check_in_a_namespace_that_the_bundle_makes(cluster: Cluster) -> None:
    cluster.namespace += "-new"
    own = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": cluster.namespace}}
    bundle = cluster.bundle(own, cluster.config(a="1"), cluster.deployment())
    checked = apply(cluster.session, bundle, check=True)
    assert set(actions(checked).values()) == {"created"}
    assert cluster.session.get(Ref("v1", "Namespace", cluster.namespace)) is None
    assert actions(checked) == actions(apply(cluster.session, bundle))


def test_check_in_a_namespace_that_another_task_makes(cluster: Cluster) -> None:
    cluster.namespace += "-later"
    assert cluster.apply(cluster.config(a="1"), cluster.deployment(), check=True) == {
        "ConfigMap config": "created",
        "Deployment server": "created",
    }
    with pytest.raises(ApiError, match="not found"):
        cluster.apply(cluster.config(a="1"))


def test_an_object_that_someone_made_before_is_taken_over(cluster: Cluster) -> None:
    path = f"/api/v1/namespaces/{cluster.namespace}/configmaps"
    cluster.session.request("POST", path, body=cluster.config(a="1", theirs="kept"))
    (change,) = apply(cluster.session, cluster.bundle(cluster.config(b="2")))
    assert change.action == "updated"
    live = cluster.live("ConfigMap", "config")
    assert live is not None
    assert live["data"] == {"a": "1", "theirs": "kept", "b": "2"}


def test_kinds_are_found_or_named_as_missing(cluster: Cluster) -> None:
    assert cluster.session.get(Ref("example.org/v1", "Thing", "x", cluster.namespace)) is None
    assert cluster.session.find("example.org/v1", "Thing", cluster.namespace) == []
    assert cluster.session.find("apps/v1", "Thing", cluster.namespace) == []
    assert cluster.session.api_version("example.org", "Thing") is None
    thing = {"apiVersion": "example.org/v1", "kind": "Thing", "metadata": cluster.named("x")}
    with pytest.raises(ApiError) as caught:
        cluster.apply(thing)
    assert "Thing" in str(caught.value)
    assert "CRD" in str(caught.value)


def test_a_claim_that_shrank_its_kinds_survives_a_missing_crd(api: ApiServer) -> None:
    with connect({"host": api.url}) as session:
        cluster = Cluster(session, "serving")
        api.put("namespaces", {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "serving"}})
        cluster.apply(cluster.config())
        parent = next(item for item in api.find("configmaps") if item["metadata"]["name"] == "applyset-test")
        annotations = parent["metadata"]["annotations"]
        annotations["applyset.kubernetes.io/contains-group-kinds"] += ",Gone.example.org"
        api.put("configmaps", parent)
        assert cluster.apply(cluster.config()) == {"ConfigMap config": "unchanged"}


def test_an_object_that_is_taken_over_as_it_was_is_a_change(cluster: Cluster) -> None:
    path = f"/api/v1/namespaces/{cluster.namespace}/configmaps"
    cluster.session.request("POST", path, body=cluster.config(a="1"))
    (change,) = apply(cluster.session, cluster.bundle(cluster.config(a="1")))
    assert change.action == "updated", "it belongs to the bundle from now on, and goes with it"
    (diff,) = result_of([change]).diff
    assert PART_OF not in diff["before"]
    assert PART_OF in diff["after"]
    assert cluster.apply(cluster.config(a="1")) == {"ConfigMap config": "unchanged"}


def test_an_object_of_another_bundle_is_refused_or_taken_when_asked(cluster: Cluster) -> None:
    apply(cluster.session, cluster.bundle(cluster.config(a="1"), name="first"))
    second = cluster.bundle(cluster.config(a="1"), name="second")
    for check in (True, False):
        with pytest.raises(ServingError, match=r"config belongs to another bundle, .*applyset-first\."):
            apply(cluster.session, second, check=check)
    assert actions(apply(cluster.session, second, force=True)) == {"ConfigMap config": "updated"}
    assert delete(cluster.session, cluster.bundle(name="first")) == []
    assert cluster.live("ConfigMap", "config") is not None


def test_a_label_that_was_copied_makes_no_object_ours(cluster: Cluster) -> None:
    cluster.apply(cluster.config("ours"), cluster.config("goes"))
    ours = cluster.live("ConfigMap", "ours")
    assert ours is not None
    copy = cluster.config("copy", a="1")
    copy["metadata"]["labels"] = ours["metadata"]["labels"]
    cluster.session.request("POST", f"/api/v1/namespaces/{cluster.namespace}/configmaps", body=copy)
    assert cluster.apply(cluster.config("ours")) == {"ConfigMap ours": "unchanged", "ConfigMap goes": "deleted"}
    delete(cluster.session, cluster.bundle())
    assert cluster.live("ConfigMap", "copy") is not None


def test_objects_in_other_namespaces_are_pruned_too(cluster: Cluster) -> None:
    other = f"{cluster.namespace}-other"
    space = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": other}}
    away = cluster.config("away", a="1")
    away["metadata"]["namespace"] = other
    cluster.apply(space, away, cluster.config("here"))
    assert cluster.apply(space, cluster.config("here")) == {
        f"Namespace {other}": "unchanged",
        "ConfigMap here": "unchanged",
        "ConfigMap away": "deleted",
    }
    assert actions(delete(cluster.session, cluster.bundle())) == {
        "ConfigMap here": "deleted",
        f"Namespace {other}": "deleted",
    }


def test_objects_without_a_namespace_go_to_that_of_the_bundle(cluster: Cluster) -> None:
    manifest = cluster.config("plain")
    del manifest["metadata"]["namespace"]
    assert cluster.apply(manifest) == {"ConfigMap plain": "created"}
    assert cluster.live("ConfigMap", "plain") is not None


def test_nothing_is_searched_for_when_no_member_left(cluster: Cluster, monkeypatch: pytest.MonkeyPatch) -> None:
    cluster.apply(cluster.config("a"), cluster.config("b"))
    with monkeypatch.context() as patched:
        patched.setattr(cluster.session, "find", lambda *_args, **_labels: pytest.fail("a search"))
        cluster.apply(cluster.config("a"), cluster.config("b", x="1"))
    assert cluster.apply(cluster.config("a"))["ConfigMap b"] == "deleted"


def test_drift_is_seen_and_mended(cluster: Cluster) -> None:
    objects = (cluster.config("config", a="1"), cluster.config("gone", a="1"))
    cluster.apply(*objects)
    cluster.session.request("DELETE", f"/api/v1/namespaces/{cluster.namespace}/configmaps/gone")
    patch = {"data": {"a": None}}
    path = f"/api/v1/namespaces/{cluster.namespace}/configmaps/config"
    cluster.session.request("PATCH", path, body=patch, content_type="application/merge-patch+json")
    wanted = {"ConfigMap config": "updated", "ConfigMap gone": "created"}
    assert cluster.apply(*objects, check=True) == wanted
    assert cluster.apply(*objects) == wanted
    live = cluster.live("ConfigMap", "config")
    assert live is not None
    assert live["data"] == {"a": "1"}


def writes(cluster: Cluster, *objects: Json, check: bool = False) -> list[str]:
    """Apply a bundle; gives the objects that were sent for it."""
    sent: list[str] = []
    send = cluster.session.request

    def request(method: str, path: str, **more: Any) -> Json:
        if method != "GET":
            sent.append(path.rpartition("/")[2])
        return send(method, path, **more)

    cluster.session.request = request  # type: ignore[method-assign]
    try:
        cluster.apply(*objects, check=check)
    finally:
        cluster.session.request = send  # type: ignore[method-assign]
    return sorted(sent)


def test_what_stands_as_it_was_applied_is_not_sent_again(cluster: Cluster) -> None:
    objects = [cluster.config(a="1"), cluster.secret(x="1"), cluster.deployment()]
    cluster.apply(*objects)
    # A short secret could be guessed from a fingerprint, so there is none.
    assert writes(cluster, *objects, check=True) == ["secret"]
    assert writes(cluster, *objects) == ["secret"]
    cluster.by_other({**cluster.config(theirs="1")})
    assert writes(cluster, *objects) == ["secret"], "another's field is not ours"
    assert writes(cluster, cluster.config(a="2"), *objects[1:]) == ["applyset-test", "config", "secret"]
    patch = {"data": {"a": "3"}}
    path = f"/api/v1/namespaces/{cluster.namespace}/configmaps/config"
    cluster.session.request("PATCH", path, body=patch, content_type="application/merge-patch+json")
    with contextlib.suppress(ApiError):  # on a real server, who changed it owns it now
        assert writes(cluster, cluster.config(a="2"), *objects[1:]) == ["config", "secret"]


def test_a_record_that_was_spoilt_is_not_believed(cluster: Cluster) -> None:
    cluster.apply(cluster.config("stays"), cluster.config("goes"))
    path = f"/api/v1/namespaces/{cluster.namespace}/configmaps/applyset-test"
    for spoilt in ("no JSON", "[]"):
        patch = {"data": {"applied": spoilt}}
        cluster.session.request("PATCH", path, body=patch, content_type="application/merge-patch+json")
        assert writes(cluster, cluster.config("stays"), cluster.config("goes"), check=True) == ["goes", "stays"]


def test_a_secret_leaves_no_fingerprint(cluster: Cluster) -> None:
    cluster.apply(cluster.config(a="1"), cluster.secret(pin="1234"))
    parent = cluster.live("ConfigMap", "applyset-test")
    assert parent is not None
    applied = json.loads(parent["data"]["applied"])
    assert applied.pop(f"Secret/{cluster.namespace}/secret") == ""
    assert [len(fingerprint) for fingerprint in applied.values()] == [32]


def reached(error: ServingError) -> dict[str, str]:
    return {row["name"]: row["action"] for row in error.details["objects"]}


def test_a_record_that_can_not_be_written_is_told_with_what_was_done(api: ApiServer) -> None:
    with connect({"host": api.url}) as session:
        cluster = Cluster(session, "serving")
        space = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "serving"}}
        api.fail("PATCH", "applyset-test", 403, reason="Forbidden", message="no more config maps")
        with pytest.raises(ApiError, match="no more config maps") as caught:
            cluster.apply(space, cluster.config())
        assert reached(caught.value) == {"serving": "created", "config": "not_applied"}
        assert caught.value.details["changed"] is True
        assert cluster.apply(space, cluster.config())["ConfigMap config"] == "created"


def test_a_refused_deletion_is_told_with_what_was_applied(api: ApiServer) -> None:
    with connect({"host": api.url}) as session:
        cluster = Cluster(session, "serving")
        api.put("namespaces", {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "serving"}})
        cluster.apply(cluster.config("stays"), cluster.config("goes"), cluster.deployment())
        api.fail("DELETE", "configmaps/goes", 403, reason="Forbidden", message="you may not", times=2)
        with pytest.raises(ApiError, match="you may not") as caught:
            cluster.apply(cluster.config("stays"))
        assert reached(caught.value) == {"stays": "unchanged", "server": "deleted", "goes": "failed"}
        with pytest.raises(ApiError, match="you may not") as caught:
            delete(session, cluster.bundle())
        assert reached(caught.value) == {"stays": "deleted", "goes": "failed"}
        assert actions(delete(session, cluster.bundle())) == {"ConfigMap goes": "deleted"}
