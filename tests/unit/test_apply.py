# SPDX-FileCopyrightText: The modelfleet maintainers
# SPDX-License-Identifier: GPL-3.0-or-later
"""The apply engine, on the small API server and on a real one: both must tell the same."""

from __future__ import annotations

import itertools
import json
import os
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest
from _api_server import ApiServer

from ansible_collections.modelfleet.serving.plugins.module_utils._cluster.apply import (
    Bundle,
    Change,
    apply,
    delete,
    result_of,
)
from ansible_collections.modelfleet.serving.plugins.module_utils._cluster.kinds import Ref
from ansible_collections.modelfleet.serving.plugins.module_utils._cluster.session import Session, connect
from ansible_collections.modelfleet.serving.plugins.module_utils._errors import ApiError, ServingError

Json = dict[str, Any]
_numbers = itertools.count()


@dataclass
class Cluster:
    """A session and a namespace of its own for one test."""

    session: Session
    namespace: str

    def config(self, name: str = "config", **data: str) -> Json:
        return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": self.named(name), "data": data}

    def secret(self, **data: str) -> Json:
        return {"apiVersion": "v1", "kind": "Secret", "metadata": self.named("secret"), "stringData": data}

    def deployment(self, image: str = "server:1", **env: str) -> Json:
        container: Json = {"name": "server", "image": image}
        if env:
            container["env"] = [{"name": name, "value": value} for name, value in env.items()]
        labels = {"app": "server"}
        return {
            "apiVersion": "apps/v1",
            "kind": "Deployment",
            "metadata": self.named("server"),
            "spec": {
                "replicas": 2,
                "selector": {"matchLabels": labels},
                "template": {"metadata": {"labels": labels}, "spec": {"containers": [container]}},
            },
        }

    def named(self, name: str) -> Json:
        return {"name": name, "namespace": self.namespace}

    def bundle(self, *objects: Json, name: str = "test") -> Bundle:
        return Bundle(name, self.namespace, objects)

    def apply(self, *objects: Json, **options: bool) -> dict[str, str]:
        """Apply a bundle; gives what happened to each object, by kind and name."""
        return actions(apply(self.session, self.bundle(*objects), **options))

    def live(self, kind: str, name: str) -> Json | None:
        api_version = "apps/v1" if kind == "Deployment" else "v1"
        return self.session.get(Ref(api_version, kind, name, self.namespace))

    def by_other(self, manifest: Json, manager: str = "other") -> None:
        """Apply an object as another field manager."""
        path = self.session.path(Ref.of(manifest))
        query = {"fieldManager": manager, "force": "true"}
        content_type = "application/apply-patch+yaml"
        self.session.request("PATCH", path, query=query, body=manifest, content_type=content_type)


def actions(changes: list[Change]) -> dict[str, str]:
    return {f"{change.ref.kind} {change.ref.name}": change.action for change in changes}


@pytest.fixture(params=["small", "real"])
def cluster(request: pytest.FixtureRequest) -> Iterator[Cluster]:
    if request.param == "real":
        params = request.getfixturevalue("kubernetes").connection
    else:
        params = {"host": request.getfixturevalue("api").url}
    with connect(params) as session:
        cluster = Cluster(session, f"test-{os.getpid()}-{next(_numbers)}")
        body = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": cluster.namespace}}
        session.request("POST", "/api/v1/namespaces", body=body)
        yield cluster


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
    with pytest.raises(ServingError) as caught:
        cluster.apply(cluster.config(), cluster.secret(a="b"), wrong)
    details = caught.value.details
    space = cluster.namespace
    assert details["applied"] == [f"ConfigMap {space}/config", f"Secret {space}/secret"]
    assert details["not_applied"] == ["Deployment no-such-namespace/server"]
    assert details["changed"] is True
    assert 'namespaces "no-such-namespace" not found' in str(caught.value)


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
