# SPDX-FileCopyrightText: The modelfleet maintainers
# SPDX-License-Identifier: GPL-3.0-or-later
"""The projection to owned fields, on managedFields as a real API server (1.36) wrote them."""

from __future__ import annotations

from typing import Any

import pytest

from ansible_collections.modelfleet.serving.plugins.module_utils._cluster.fields import owned_fields, project, union

# Written by server-side apply of a Service, then a kubectl edit, then a status update.
SERVICE: dict[str, Any] = {
    "apiVersion": "v1",
    "kind": "Service",
    "metadata": {
        "name": "web",
        "namespace": "default",
        "uid": "0f2c",
        "labels": {"app": "web", "team": "vision"},
        "finalizers": ["a.example.org/x", "b.example.org/y"],
        "managedFields": [
            {
                "manager": "modelfleet",
                "operation": "Apply",
                "apiVersion": "v1",
                "fieldsType": "FieldsV1",
                "fieldsV1": {
                    "f:metadata": {"f:finalizers": {'v:"a.example.org/x"': {}}, "f:labels": {"f:app": {}}},
                    "f:spec": {
                        "f:ports": {
                            'k:{"port":8500,"protocol":"TCP"}': {".": {}, "f:name": {}, "f:port": {}},
                            'k:{"port":8501,"protocol":"TCP"}': {".": {}, "f:name": {}, "f:port": {}},
                        },
                        "f:selector": {},
                    },
                },
            },
            {
                "manager": "kubectl-edit",
                "operation": "Update",
                "apiVersion": "v1",
                "fieldsType": "FieldsV1",
                "fieldsV1": {"f:metadata": {"f:labels": {"f:team": {}}}, "f:spec": {"f:sessionAffinity": {}}},
            },
            {
                "manager": "modelfleet",
                "operation": "Apply",
                "subresource": "status",
                "apiVersion": "v1",
                "fieldsType": "FieldsV1",
                "fieldsV1": {"f:status": {"f:loadBalancer": {}}},
            },
        ],
    },
    "spec": {
        "clusterIP": "10.0.0.7",
        "sessionAffinity": "None",
        "selector": {"app": "web"},
        "ports": [
            {"name": "grpc", "port": 8500, "protocol": "TCP", "targetPort": 8500},
            {"name": "rest", "port": 8501, "protocol": "TCP", "targetPort": 8501},
            {"name": "other", "port": 9000, "protocol": "TCP", "targetPort": 9000},
        ],
    },
    "status": {"loadBalancer": {}},
}


def test_only_owned_fields_remain() -> None:
    assert project(SERVICE, owned_fields(SERVICE, "modelfleet")) == {
        "metadata": {"labels": {"app": "web"}, "finalizers": ["a.example.org/x"]},
        "spec": {
            "selector": {"app": "web"},
            "ports": [{"name": "grpc", "port": 8500}, {"name": "rest", "port": 8501}],
        },
    }


def test_an_update_or_a_status_is_not_what_we_applied() -> None:
    assert owned_fields(SERVICE, "kubectl-edit") == {}
    assert owned_fields(None, "modelfleet") == {}
    assert owned_fields({"metadata": {"name": "a"}}, "modelfleet") == {}
    only_status = {"metadata": {"managedFields": [SERVICE["metadata"]["managedFields"][2]]}}
    assert owned_fields(only_status, "modelfleet") == {}


def test_a_key_field_with_a_default_may_be_missing() -> None:
    value = {"ports": [{"port": 80}]}
    assert project(value, {"f:ports": {'k:{"port":80,"protocol":"TCP"}': {"f:port": {}}}}) == value


@pytest.mark.parametrize(
    ("value", "fields", "left"),
    [
        ({"a": 1, "b": 2}, {}, {"a": 1, "b": 2}),
        ({"a": 1, "b": 2}, {"f:a": {}}, {"a": 1}),
        ({"a": 1}, {"f:a": {}, "f:gone": {}}, {"a": 1}),
        ({"a": {"b": 1}}, {"f:a": {".": {}}}, {"a": {}}),
        ({"a": {"b": 1}}, {"f:a": {".": {}, "f:b": {}}}, {"a": {"b": 1}}),
        ({"a": [3, 1, 2]}, {"f:a": {"v:1": {}, "v:2": {}}}, {"a": [1, 2]}),
        ({"a": [1, 2]}, {"f:a": {}}, {"a": [1, 2]}),
        ({"a": None}, {"f:a": {"f:b": {}}}, {"a": None}),
        ({"f:a": 1, "a": 2}, {"f:f:a": {}}, {"f:a": 1}),
        ({"a": {"x.y/z": "1"}}, {"f:a": {"f:x.y/z": {}}}, {"a": {"x.y/z": "1"}}),
    ],
)
def test_each_form_of_field_set(value: Any, fields: dict[str, Any], left: Any) -> None:
    assert project(value, fields) == left


def test_a_union_has_what_either_has() -> None:
    left = {"f:a": {"f:b": {}}, "f:c": {"f:d": {}}, "f:e": {}}
    right = {"f:a": {"f:x": {}}, "f:c": {}, "f:e": {"f:f": {}}, "f:z": {}}
    assert union(left, right) == {"f:a": {"f:b": {}, "f:x": {}}, "f:c": {}, "f:e": {}, "f:z": {}}
    assert union(left, right) == {key: union(right, left)[key] for key in union(left, right)}
    assert left == {"f:a": {"f:b": {}}, "f:c": {"f:d": {}}, "f:e": {}}
