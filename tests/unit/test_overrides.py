# SPDX-FileCopyrightText: The modelfleet maintainers
# SPDX-License-Identifier: GPL-3.0-or-later
"""Each rule that the documentation of strategic merge patch states, and what must be refused.

https://github.com/kubernetes/community/blob/master/contributors/devel/sig-api-machinery/strategic-merge-patch.md
"""

from __future__ import annotations

import copy
from typing import Any

import pytest

from ansible_collections.modelfleet.serving.plugins.module_utils._errors import InputError
from ansible_collections.modelfleet.serving.plugins.module_utils._manifests.overrides import override

Json = dict[str, Any]

POD: Json = {
    "apiVersion": "v1",
    "kind": "Pod",
    "metadata": {"name": "a", "labels": {"one": "1", "two": "2"}},
    "spec": {
        "nodeSelector": {"disk": "ssd", "zone": "a"},
        "tolerations": [{"key": "gpu"}],
        "containers": [
            {
                "name": "server",
                "image": "server:1",
                "args": ["--a", "--b"],
                "env": [{"name": "A", "value": "1"}, {"name": "B", "value": "2"}],
                "ports": [{"containerPort": 8500, "name": "grpc"}, {"containerPort": 8501, "name": "rest"}],
            }
        ],
        "volumes": [{"name": "tmp", "emptyDir": {}}],
    },
}


def merged(patch: Json, manifest: Json = POD) -> Json:
    before = copy.deepcopy(manifest)
    (result,) = override([manifest], {manifest["kind"]: patch})
    assert manifest == before, "the manifest itself must not change"
    return result


def container(patch: Json) -> Json:
    (result,) = merged({"spec": {"containers": [{"name": "server", **patch}]}})["spec"]["containers"]
    return dict(result)


def test_maps_merge_and_null_removes() -> None:
    result = merged({"metadata": {"labels": {"two": None, "three": "3"}}})
    assert result["metadata"] == {"name": "a", "labels": {"one": "1", "three": "3"}}
    assert result["spec"] == POD["spec"]


def test_a_map_is_replaced_or_deleted_by_directive() -> None:
    assert merged({"spec": {"nodeSelector": {"$patch": "replace", "disk": "hdd"}}})["spec"]["nodeSelector"] == {
        "disk": "hdd"
    }
    assert "nodeSelector" not in merged({"spec": {"nodeSelector": {"$patch": "delete"}}})["spec"]


def test_keyed_lists_merge_by_their_key() -> None:
    result = container({"image": "server:2", "env": [{"name": "B", "value": "3"}, {"name": "C", "value": "4"}]})
    assert result["image"] == "server:2"
    assert result["args"] == ["--a", "--b"]
    assert result["env"] == [
        {"name": "A", "value": "1"},
        {"name": "B", "value": "3"},
        {"name": "C", "value": "4"},
    ]
    assert container({"ports": [{"containerPort": 8501, "name": "http"}]})["ports"] == [
        {"containerPort": 8500, "name": "grpc"},
        {"containerPort": 8501, "name": "http"},
    ]


def test_items_of_keyed_lists_are_deleted_by_directive() -> None:
    result = container({"env": [{"name": "A", "$patch": "delete"}, {"name": "absent", "$patch": "delete"}]})
    assert result["env"] == [{"name": "B", "value": "2"}]


def test_a_keyed_list_is_replaced_by_directive() -> None:
    result = container({"env": [{"name": "Z", "value": "9"}, {"$patch": "replace"}]})
    assert result["env"] == [{"name": "Z", "value": "9"}]


def test_other_lists_are_replaced() -> None:
    assert container({"args": ["--c"]})["args"] == ["--c"]
    assert merged({"spec": {"tolerations": []}})["spec"]["tolerations"] == []


def test_new_items_and_new_maps_are_added_without_nulls_and_directives() -> None:
    result = merged({"spec": {"containers": [{"name": "sidecar", "image": "x"}], "affinity": {"a": None, "b": {}}}})
    assert [item["name"] for item in result["spec"]["containers"]] == ["server", "sidecar"]
    assert result["spec"]["affinity"] == {"b": {}}


def test_ports_of_a_service_merge_by_port() -> None:
    service = {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": "a"},
        "spec": {"ports": [{"port": 8500, "name": "grpc"}, {"port": 8501, "name": "rest"}]},
    }
    result = merged({"spec": {"type": "NodePort", "ports": [{"port": 8501, "nodePort": 30000}]}}, service)
    assert result["spec"]["ports"] == [
        {"port": 8500, "name": "grpc"},
        {"port": 8501, "name": "rest", "nodePort": 30000},
    ]


@pytest.mark.parametrize(
    ("patches", "words"),
    [
        ({"Deployment": {}}, "there is no Deployment to override. Use one of Pod."),
        ({"pod": {}}, "there is no pod to override"),
        ({"Pod": {"kind": "Job"}}, "the identity of the Pod can't be changed"),
        ({"Pod": {"apiVersion": "v2"}}, "the identity of the Pod can't be changed"),
        ({"Pod": {"metadata": {"name": "b"}}}, "the identity of the Pod can't be changed"),
        ({"Pod": {"metadata": {"namespace": "kube-system"}}}, "the identity of the Pod can't be changed"),
        ({"Pod": {"metadata": None}}, "the identity of the Pod can't be changed"),
        ({"Pod": {"metadata": {"$patch": "replace"}}}, "the identity of the Pod can't be changed"),
        ({"Pod": {"metadata": {"$patch": "delete"}}}, "the identity of the Pod can't be changed"),
        ({"Pod": {"$patch": "delete"}}, "the identity of the Pod can't be changed"),
        ({"Pod": {"$patch": "replace", "spec": {}}}, "the identity of the Pod can't be changed"),
        ({"Pod": None}, "Pod"),
        ({"Pod": "spec"}, "Pod"),
        ({"Pod": {"spec": {"containers": [{"image": "x"}]}}}, "containers"),
        ({"Pod": {"spec": {"containers": ["server"]}}}, "containers"),
        ({"Pod": {"spec": {"volumes": [{"emptyDir": {}}]}}}, "volumes"),
    ],
)
def test_what_would_escape_or_be_ignored_is_refused(patches: dict[str, Any], words: str) -> None:
    with pytest.raises(InputError) as caught:
        override([POD], patches)
    assert str(caught.value).startswith("overrides: ")
    assert words in str(caught.value)
    assert caught.value.hint
