# SPDX-FileCopyrightText: The modelfleet maintainers
# SPDX-License-Identifier: GPL-3.0-or-later
"""A namespace of its own for one test of the apply engine, and manifests to fill it with."""

from __future__ import annotations

import itertools
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from ansible_collections.modelfleet.serving.plugins.module_utils._cluster.apply import apply
from ansible_collections.modelfleet.serving.plugins.module_utils._cluster.bundle import Bundle
from ansible_collections.modelfleet.serving.plugins.module_utils._cluster.changes import Change
from ansible_collections.modelfleet.serving.plugins.module_utils._cluster.kinds import Ref
from ansible_collections.modelfleet.serving.plugins.module_utils._cluster.session import Session, connect

Json = dict[str, Any]
_numbers = itertools.count()


@dataclass
class Cluster:
    """A session and a namespace of its own for one test."""

    session: Session
    namespace: str

    def move(self) -> None:
        """Go on in a new namespace."""
        self.namespace = f"test-{os.getpid()}-{next(_numbers)}"
        body = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": self.namespace}}
        self.session.request("POST", "/api/v1/namespaces", body=body)

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

    def definition(self, plural: str, kind: str, *, scope: str = "Namespaced") -> Json:
        """A CRD whose objects have a number and a text."""
        properties = {"size": {"type": "integer"}, "text": {"type": "string", "default": "none"}}
        schema = {"type": "object", "properties": {"spec": {"type": "object", "properties": properties}}}
        version = {"name": "v1", "served": True, "storage": True, "schema": {"openAPIV3Schema": schema}}
        group = f"{self.namespace}.example.org"
        return {
            "apiVersion": "apiextensions.k8s.io/v1",
            "kind": "CustomResourceDefinition",
            "metadata": {"name": f"{plural}.{group}"},
            "spec": {
                "group": group,
                "scope": scope,
                "names": {"plural": plural, "kind": kind, "singular": kind.lower(), "listKind": f"{kind}List"},
                "versions": [version],
            },
        }

    def custom(self, kind: str, name: str, **spec: Any) -> Json:
        api_version = f"{self.namespace}.example.org/v1"
        return {"apiVersion": api_version, "kind": kind, "metadata": {"name": name}, "spec": spec}

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


@contextmanager
def fresh_cluster(params: Mapping[str, Any]) -> Iterator[Cluster]:
    """Connect, and make a namespace that no other test uses."""
    with connect(params) as session:
        cluster = Cluster(session, "")
        cluster.move()
        yield cluster
