# SPDX-FileCopyrightText: The modelfleet maintainers
# SPDX-License-Identifier: GPL-3.0-or-later
"""The apply engine on a real API server: defaults, conversion, definitions, other controllers, and kubectl."""

from __future__ import annotations

import copy
import os
import subprocess
import threading
from pathlib import Path
from typing import Any

import _kubernetes
import pytest
import yaml
from _cluster import Cluster, actions

from ansible_collections.modelfleet.serving.plugins.module_utils._cluster import apply as engine
from ansible_collections.modelfleet.serving.plugins.module_utils._cluster.apply import apply, delete
from ansible_collections.modelfleet.serving.plugins.module_utils._cluster.applyset import PART_OF, ApplySet
from ansible_collections.modelfleet.serving.plugins.module_utils._cluster.changes import result_of
from ansible_collections.modelfleet.serving.plugins.module_utils._cluster.kinds import Ref
from ansible_collections.modelfleet.serving.plugins.module_utils._cluster.session import connect
from ansible_collections.modelfleet.serving.plugins.module_utils._errors import ApiError, WaitError

Json = dict[str, Any]


def autoscaler(cluster: Cluster, api_version: str = "autoscaling/v2") -> Json:
    target = {"apiVersion": "apps/v1", "kind": "Deployment", "name": "server"}
    return {
        "apiVersion": api_version,
        "kind": "HorizontalPodAutoscaler",
        "metadata": cluster.named("server"),
        "spec": {"scaleTargetRef": target, "minReplicas": 2, "maxReplicas": 5},
    }


def scaled(cluster: Cluster, replicas: int) -> None:
    """Write replicas as the controller of an autoscaler does."""
    path = f"/apis/apps/v1/namespaces/{cluster.namespace}/deployments/server/scale"
    scale = cluster.session.request("GET", path)
    scale["spec"]["replicas"] = replicas
    cluster.session.request("PUT", path, query={"fieldManager": "kube-controller-manager"}, body=scale)


def test_an_autoscalers_replicas_never_count(real: Cluster) -> None:
    deployment = real.deployment()
    del deployment["spec"]["replicas"]
    objects = (deployment, autoscaler(real))
    real.apply(*objects)
    scaled(real, 4)
    unchanged = {"Deployment server": "unchanged", "HorizontalPodAutoscaler server": "unchanged"}
    assert real.apply(*objects, check=True) == unchanged
    assert real.apply(*objects) == unchanged
    live = real.live("Deployment", "server")
    assert live is not None
    assert live["spec"]["replicas"] == 4


def test_replicas_that_another_took_are_a_named_conflict(real: Cluster) -> None:
    real.apply(real.deployment())
    scaled(real, 4)
    for check in (True, False):
        with pytest.raises(ApiError, match=r'"kube-controller-manager".*\.spec\.replicas') as caught:
            real.apply(real.deployment(), check=check)
        assert caught.value.conflict
    assert real.apply(real.deployment(), force=True) == {"Deployment server": "updated"}


def test_anothers_status_never_counts(real: Cluster) -> None:
    real.apply(real.deployment())
    path = f"/apis/apps/v1/namespaces/{real.namespace}/deployments/server/status"
    status = {"status": {"replicas": 2, "observedGeneration": 1}}
    real.session.request("PATCH", path, body=status, content_type="application/merge-patch+json")
    assert real.apply(real.deployment()) == {"Deployment server": "unchanged"}


def test_what_the_server_writes_otherwise_is_foretold_so(real: Cluster) -> None:
    """Quantities are normalised and defaults filled in, also where the namespace does not exist yet."""
    deployment = real.deployment()
    resources = {"requests": {"cpu": "1000m", "memory": "1024Mi"}}
    deployment["spec"]["template"]["spec"]["containers"][0]["resources"] = resources
    quota = {"apiVersion": "v1", "kind": "ResourceQuota", "metadata": real.named("quota")}
    quota["spec"] = {"hard": {"requests.cpu": "2000m"}}
    old = real.namespace
    real.namespace = f"{old}-new"
    objects = [copy.deepcopy(manifest) for manifest in (deployment, quota)]
    for manifest in objects:
        manifest["metadata"]["namespace"] = real.namespace
    space = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": real.namespace}}
    checked = result_of(apply(real.session, real.bundle(space, *objects), check=True))
    done = result_of(apply(real.session, real.bundle(space, *objects)))
    assert checked.diff == done.diff
    assert checked.values == done.values
    assert "cpu: '1'" in "".join(entry["after"] for entry in done.diff)
    assert not result_of(apply(real.session, real.bundle(space, *objects))).changed


def test_a_fault_is_foretold_where_the_namespace_does_not_exist_yet(real: Cluster) -> None:
    wrong = real.deployment()
    wrong["spec"]["template"]["spec"]["containers"][0]["image"] = ""
    real.namespace += "-new"
    wrong["metadata"]["namespace"] = real.namespace
    with pytest.raises(
        ApiError, match=rf'/namespaces/{real.namespace}/deployments/server: Deployment.apps "server" is'
    ):
        real.apply(wrong, check=True)


def test_a_misspelled_field_is_refused(real: Cluster) -> None:
    wrong = real.deployment()
    wrong["spec"]["replica"] = 3
    for check in (True, False):
        with pytest.raises(ApiError, match=r"spec\.replica\b"):
            real.apply(wrong, check=check)
    real.namespace += "-new"
    wrong["metadata"]["namespace"] = real.namespace
    with pytest.raises(ApiError, match=r"spec\.replica\b"):
        real.apply(wrong, check=True)


def test_the_order_of_a_list_counts(real: Cluster) -> None:
    first = real.deployment()
    pod = first["spec"]["template"]["spec"]
    pod["initContainers"] = [{"name": name, "image": "init"} for name in ("fetch", "check")]
    second = copy.deepcopy(first)
    second["spec"]["template"]["spec"]["initContainers"].reverse()
    real.apply(first)
    assert real.apply(second, check=True) == {"Deployment server": "updated"}
    assert real.apply(second) == {"Deployment server": "updated"}
    assert real.apply(second) == {"Deployment server": "unchanged"}
    live = real.live("Deployment", "server")
    assert live is not None
    assert [entry["name"] for entry in live["spec"]["template"]["spec"]["initContainers"]] == ["check", "fetch"]


def test_another_version_of_an_api_is_the_same_object(real: Cluster) -> None:
    old = autoscaler(real, "autoscaling/v1")
    goes = real.config("goes")
    real.apply(old, goes)
    assert real.apply(old) == {"HorizontalPodAutoscaler server": "unchanged", "ConfigMap goes": "deleted"}
    assert real.session.get(Ref("autoscaling/v2", "HorizontalPodAutoscaler", "server", real.namespace)) is not None
    assert real.apply(autoscaler(real)) == {"HorizontalPodAutoscaler server": "unchanged"}


def test_a_bundle_may_bring_a_definition_with_its_objects(real: Cluster) -> None:
    widget = real.custom("Widget", "one", size=3)
    bundle = real.bundle(widget, real.definition("widgets", "Widget"))
    checked = result_of(apply(real.session, bundle, check=True))
    done = result_of(apply(real.session, bundle))
    assert checked.values == done.values
    assert [entry["after"] for entry in checked.diff] == [entry["after"] for entry in done.diff]
    assert [row["action"] for row in done.values["objects"]] == ["created", "created"]
    assert not result_of(apply(real.session, bundle)).changed
    # The objects go before their definition, and what is gone with it is no error.
    gone = actions(delete(real.session, real.bundle()))
    assert list(gone) == ["Widget one", f"CustomResourceDefinition widgets.{real.namespace}.example.org"]


def test_a_definition_of_the_whole_cluster(real: Cluster) -> None:
    widget = real.custom("Widget", "one", size=3)
    bundle = real.bundle(real.definition("widgets", "Widget", scope="Cluster"), widget)
    assert set(actions(apply(real.session, bundle, check=True)).values()) == {"created"}
    assert set(actions(apply(real.session, bundle)).values()) == {"created"}
    assert set(actions(apply(real.session, bundle)).values()) == {"unchanged"}
    delete(real.session, real.bundle())


def test_an_object_that_was_made_anew_is_not_deleted(real: Cluster) -> None:
    real.apply(real.config("stays"), real.config("goes"))
    stale = real.live("ConfigMap", "goes")
    assert stale is not None
    path = f"/api/v1/namespaces/{real.namespace}/configmaps/goes"
    real.session.request("DELETE", path)
    real.by_other(real.config("goes", theirs="1"))
    real.session.find = lambda *_args, **_more: [stale]  # type: ignore[method-assign]
    with pytest.raises(ApiError, match=r"the UID in the precondition .* does not match"):
        real.apply(real.config("stays"))
    assert real.live("ConfigMap", "goes") is not None


def test_what_is_being_deleted_is_made_anew(real: Cluster, monkeypatch: pytest.MonkeyPatch) -> None:
    """Applied to the old one, it would be gone a moment later."""
    held = real.config("held")
    held["metadata"]["finalizers"] = ["example.org/held"]
    real.apply(held)
    old = real.live("ConfigMap", "held")
    assert old is not None
    path = f"/api/v1/namespaces/{real.namespace}/configmaps/held"
    real.session.request("DELETE", path)
    assert real.apply(real.config("held"), check=True) == {"ConfigMap held": "created"}
    monkeypatch.setattr(engine, "_GONE_SECONDS", 0.1)
    with pytest.raises(WaitError, match=r"held is still being deleted, held by example\.org/held"):
        real.apply(real.config("held"))
    monkeypatch.undo()
    patch = {"metadata": {"finalizers": None}}
    release = threading.Timer(
        0.5, lambda: real.session.request("PATCH", path, body=patch, content_type="application/merge-patch+json")
    )
    release.start()
    assert real.apply(real.config("held")) == {"ConfigMap held": "created"}
    release.join()
    new = real.live("ConfigMap", "held")
    assert new is not None
    assert new["metadata"]["uid"] != old["metadata"]["uid"]
    assert "deletionTimestamp" not in new["metadata"]


def test_what_is_being_deleted_is_not_deleted_again(real: Cluster) -> None:
    """A finalizer may hold it for long, and a Service stays until the garbage collector has seen it."""
    held = real.config("leaves")
    held["metadata"]["finalizers"] = ["example.org/held"]
    real.apply(held, real.config("stays"))
    assert real.apply(real.config("stays")) == {"ConfigMap leaves": "deleted", "ConfigMap stays": "unchanged"}
    assert real.live("ConfigMap", "leaves") is not None
    # One more to apply and one less, so that the members are looked through.
    assert real.apply(real.config("other"), check=True) == {"ConfigMap stays": "deleted", "ConfigMap other": "created"}
    assert real.apply(real.config("other")) == {"ConfigMap stays": "deleted", "ConfigMap other": "created"}
    path = f"/api/v1/namespaces/{real.namespace}/configmaps/leaves"
    patch = {"metadata": {"finalizers": None}}
    real.session.request("PATCH", path, body=patch, content_type="application/merge-patch+json")


def test_what_the_server_warns_of_is_passed_on_once(real: Cluster, kubernetes: _kubernetes.Kubernetes) -> None:
    labels = {"metadata": {"labels": {"pod-security.kubernetes.io/warn": "restricted"}}}
    path = f"/api/v1/namespaces/{real.namespace}"
    real.session.request("PATCH", path, body=labels, content_type="application/merge-patch+json")
    warned: list[str] = []
    with connect(kubernetes.connection, warned.append) as session:
        for image in ("server:1", "server:2"):
            apply(session, real.bundle(real.deployment(image)))
    assert len(warned) == 1
    assert 'would violate PodSecurity "restricted:latest": allowPrivilegeEscalation != false' in warned[0]


@pytest.fixture
def kubectl(kubernetes: _kubernetes.Kubernetes, tmp_path: Path) -> Any:
    """Run the real kubectl, which the local fleet builds into the same binary."""
    binaries = _kubernetes.find_binaries()
    assert binaries is not None, "the API server runs"
    program = tmp_path / "kubectl"
    program.symlink_to(binaries[1])
    connection = ["--server", kubernetes.url, "--token", kubernetes.token, "--certificate-authority", kubernetes.ca]

    def run(*arguments: str, stdin: str = "") -> subprocess.CompletedProcess[str]:
        environment = {**os.environ, "KUBECTL_APPLYSET": "true", "HOME": str(tmp_path)}
        command = [program, *connection, *arguments]
        return subprocess.run(command, input=stdin, capture_output=True, text=True, env=environment, check=False)

    return run


def test_kubectl_understands_our_sets(real: Cluster, kubectl: Any) -> None:
    real.apply(real.config("stays", a="1"), real.config("goes"), real.deployment())
    applyset = ApplySet("test", real.namespace)
    listed = kubectl("get", "configmaps", "-n", real.namespace, "-l", f"{PART_OF}={applyset.id}", "-o", "name")
    assert set(listed.stdout.split()) == {"configmap/stays", "configmap/goes"}, listed.stderr
    rest = yaml.safe_dump(real.config("stays", a="1"))
    prune = ["apply", "-n", real.namespace, "--server-side", "--field-manager=modelfleet", "--prune"]
    prune += [f"--applyset=configmaps/{applyset.parent.name}", "-f", "-"]
    refused = kubectl(*prune, stdin=rest)
    assert 'managed by tooling "modelfleet"' in refused.stderr
    assert real.live("ConfigMap", "goes") is not None
    # Handed over to kubectl, the set is one that it accepts: its id, kinds and members are as the specification says.
    handed = ["annotate", "configmap", applyset.parent.name, "-n", real.namespace, "--overwrite"]
    assert kubectl(*handed, "applyset.kubernetes.io/tooling=kubectl/v1.36").returncode == 0
    pruned = kubectl(*prune, stdin=rest)
    assert pruned.returncode == 0, pruned.stderr
    assert "configmap/goes pruned" in pruned.stdout
    assert "deployment.apps/server pruned" in pruned.stdout
    assert real.live("ConfigMap", "stays") is not None
