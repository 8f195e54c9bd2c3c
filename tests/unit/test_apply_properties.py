# SPDX-FileCopyrightText: The modelfleet maintainers
# SPDX-License-Identifier: GPL-3.0-or-later
"""What holds for any bundle, tried with random ones on a real API server; the small one merges lists too simply."""

from __future__ import annotations

import contextlib
import itertools
from typing import Any

from _cluster import Cluster
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ansible_collections.modelfleet.serving.plugins.module_utils._call import Result
from ansible_collections.modelfleet.serving.plugins.module_utils._cluster.apply import apply, delete
from ansible_collections.modelfleet.serving.plugins.module_utils._cluster.bundle import Bundle
from ansible_collections.modelfleet.serving.plugins.module_utils._cluster.changes import result_of
from ansible_collections.modelfleet.serving.plugins.module_utils._cluster.kinds import Ref

Json = dict[str, Any]

names = st.sampled_from(["a", "b", "c"])
texts = st.text(st.sampled_from("abé \n'\":"), max_size=6)
data = st.dictionaries(names, texts, max_size=3)
notes = st.dictionaries(st.sampled_from(["example.org/x", "example.org/y"]), texts, max_size=2)
cpu = st.sampled_from(["500m", "0.5", "1", "1000m"])
memory = st.sampled_from(["1Gi", "1024Mi", "512Mi"])


@st.composite
def containers(draw: st.DrawFn, name: str) -> Json:
    container: Json = {"name": name, "image": draw(st.sampled_from(["server:1", "server:2"]))}
    if env := draw(st.permutations(["MODE", "LEVEL", "NOTE"]).map(lambda order: order[: len(order) - 1])):
        container["env"] = [{"name": key, "value": draw(texts)} for key in env]
    if draw(st.booleans()):
        container["resources"] = {"requests": {"cpu": draw(cpu), "memory": draw(memory)}}
    if draw(st.booleans()):
        container["ports"] = [{"containerPort": port} for port in draw(st.lists(st.integers(80, 82), unique=True))]
    return container


@st.composite
def manifests(draw: st.DrawFn) -> Json:
    kind = draw(st.sampled_from(["ConfigMap", "Secret", "Service", "Deployment", "Role", "HorizontalPodAutoscaler"]))
    metadata: Json = {"name": draw(names)}
    if annotations := draw(notes):
        metadata["annotations"] = annotations
    manifest: Json = {"apiVersion": "v1", "kind": kind, "metadata": metadata}
    if kind == "ConfigMap":
        manifest["data"] = draw(data)
    elif kind == "Secret":
        manifest["stringData"] = draw(data)
    elif kind == "Service":
        ports = draw(st.lists(st.sampled_from([80, 443, 8500]), min_size=1, unique=True))
        manifest["spec"] = {
            "selector": {"app": draw(names)},
            "ports": [
                {"name": f"p{port}", "port": port, "targetPort": draw(st.sampled_from([1, 2]))} for port in ports
            ],
        }
    elif kind == "Deployment":
        order = draw(st.permutations(["x", "y"]))
        pod: Json = {"containers": [draw(containers(name)) for name in order[: draw(st.integers(1, 2))]]}
        labels = {"app": metadata["name"]}
        manifest["apiVersion"] = "apps/v1"
        manifest["spec"] = {
            "selector": {"matchLabels": labels},
            "template": {"metadata": {"labels": labels}, "spec": pod},
        }
        if draw(st.booleans()):
            manifest["spec"]["replicas"] = draw(st.integers(0, 3))
    elif kind == "Role":
        manifest["apiVersion"] = "rbac.authorization.k8s.io/v1"
        verbs = draw(st.lists(st.sampled_from(["get", "list", "watch"]), min_size=1, unique=True))
        manifest["rules"] = [{"apiGroups": [""], "resources": ["pods"], "verbs": verbs}]
    else:
        manifest["apiVersion"] = "autoscaling/v2"
        metric = {"name": "cpu", "target": {"type": "AverageValue", "averageValue": draw(cpu)}}
        manifest["spec"] = {
            "scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": draw(names)},
            "maxReplicas": draw(st.integers(1, 3)),
            "metrics": [{"type": "Resource", "resource": metric}],
        }
    return manifest


bundles = st.lists(manifests(), max_size=6, unique_by=lambda manifest: (manifest["kind"], manifest["metadata"]["name"]))


def foretold(real: Cluster, bundle: Bundle) -> Result:
    """Apply a bundle, in check mode first; gives what both said."""
    checked = result_of(apply(real.session, bundle, check=True))
    done = result_of(apply(real.session, bundle))
    assert checked.as_dict(diff=True) == done.as_dict(diff=True)
    return done


def state(real: Cluster, *bundles_: list[Json]) -> dict[str, Json]:
    """Give what is in the namespace of the kinds of some bundles, as a client writes it."""
    found = {}
    for api_version, kind in {(entry["apiVersion"], entry["kind"]) for bundle in bundles_ for entry in bundle}:
        for manifest in real.session.find(api_version, kind, real.namespace):
            metadata = {key: manifest["metadata"].get(key) for key in ("labels", "annotations")}
            rest = {key: value for key, value in manifest.items() if key not in ("metadata", "status")}
            # Addresses are the server's choice, and differ when a Service is made anew.
            rest.get("spec", {}).pop("clusterIP", None)
            rest.get("spec", {}).pop("clusterIPs", None)
            if not manifest["metadata"]["name"].startswith(("applyset-", "kube-root-ca")):
                found[f"{kind} {manifest['metadata']['name']}"] = {**rest, "metadata": metadata}
    return found


def wait_emptied(real: Cluster, bundle: list[Json]) -> None:
    """Finish what no garbage collector is there to finish: objects that are deleted in the foreground."""
    for api_version, kind in {(entry["apiVersion"], entry["kind"]) for entry in bundle}:
        for manifest in real.session.find(api_version, kind, real.namespace):
            if manifest["metadata"].get("deletionTimestamp"):
                path, body = real.session.path(Ref.of(manifest)), {"metadata": {"finalizers": None}}
                real.session.request("PATCH", path, body=body, content_type="application/merge-patch+json")


examples = settings(
    max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)


@examples
@given(bundle=bundles)
def test_a_second_apply_changes_nothing(real: Cluster, bundle: list[Json]) -> None:
    real.move()
    first = foretold(real, real.bundle(*bundle))
    assert first.changed is bool(bundle)
    assert {row["action"] for row in first.values["objects"]} <= {"created"}
    before = state(real, bundle)
    again = foretold(real, real.bundle(*bundle))
    assert not again.changed
    assert again.diff == []
    assert state(real, bundle) == before


@examples
@given(one=bundles, other=bundles)
def test_there_and_back_ends_as_it_began(real: Cluster, one: list[Json], other: list[Json]) -> None:
    real.move()
    foretold(real, real.bundle(*one))
    before = state(real, one, other)
    for bundle in (other, one):
        changed = foretold(real, real.bundle(*bundle))
        wait_emptied(real, [*one, *other])
        # Whatever was said to be unchanged is, and nothing more than was said has changed.
        assert changed.changed is bool(changed.diff)
    assert state(real, one, other) == before


class Cut(BaseException):
    """The run is killed."""


@examples
@given(one=bundles, other=bundles, requests=st.integers(1, 30))
def test_a_run_that_is_cut_off_leaves_nothing_behind(
    real: Cluster, one: list[Json], other: list[Json], requests: int
) -> None:
    real.move()
    apply(real.session, real.bundle(*one))
    before = state(real, one, other)
    left = itertools.count(requests, -1)
    send = real.session.request

    def sent(*arguments: Any, **more: Any) -> Json:
        if next(left) <= 0:
            raise Cut
        return send(*arguments, **more)

    real.session.request = sent  # type: ignore[method-assign]
    try:
        with contextlib.suppress(Cut):
            apply(real.session, real.bundle(*other))
    finally:
        real.session.request = send  # type: ignore[method-assign]
    wait_emptied(real, [*one, *other])
    foretold(real, real.bundle(*one))
    wait_emptied(real, [*one, *other])
    assert state(real, one, other) == before


@examples
@given(bundle=bundles)
def test_a_deletion_leaves_nothing(real: Cluster, bundle: list[Json]) -> None:
    real.move()
    foretold(real, real.bundle(*bundle))
    checked = result_of(delete(real.session, real.bundle(), check=True))
    done = result_of(delete(real.session, real.bundle()))
    assert checked.as_dict(diff=True) == done.as_dict(diff=True)
    wait_emptied(real, bundle)
    assert state(real, bundle) == {}
    assert delete(real.session, real.bundle()) == []


@examples
@given(bundle=bundles)
def test_a_new_namespace_is_foretold(real: Cluster, bundle: list[Json]) -> None:
    real.move()
    space = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": f"{real.namespace}-new"}}
    done = foretold(real, Bundle("test", f"{real.namespace}-new", (space, *bundle)))
    assert {row["action"] for row in done.values["objects"]} == {"created"}


def test_the_order_of_the_manifests_does_not_matter(real: Cluster) -> None:
    objects = [real.config("a"), real.secret(x="1"), real.deployment()]
    real.apply(*objects)
    assert set(real.apply(*reversed(objects)).values()) == {"unchanged"}
