# SPDX-FileCopyrightText: The modelfleet maintainers
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the benchmark applies: the objects of bundle.yaml, in the form in which each way takes them."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

Json = dict[str, Any]

HERE = Path(__file__).resolve().parent
LABEL = "app.kubernetes.io/part-of=modelfleet-benchmark"
CHANGED_IMAGE = "tensorflow/serving:2.19.1"


def objects(namespace: str, *, changed: bool = False) -> list[Json]:
    """Give the 12 objects for one namespace; ``changed`` has one field that differs, the server's image."""
    documents: list[Json] = list(yaml.safe_load_all((HERE / "bundle.yaml").read_text()))
    for document in documents:
        metadata = document["metadata"]
        metadata["name" if document["kind"] == "Namespace" else "namespace"] = namespace
        for subject in document.get("subjects", []):
            subject["namespace"] = namespace
        if changed and document["kind"] == "Deployment":
            document["spec"]["template"]["spec"]["containers"][0]["image"] = CHANGED_IMAGE
    return documents


def write(folder: Path, manifests: list[Json]) -> Path:
    """Write the objects as one file, as one file an object, and as a Helm chart; give the folder."""
    for path in (folder / "objects", folder / "chart" / "templates"):
        path.mkdir(parents=True, exist_ok=True)
    (folder / "bundle.yaml").write_text(yaml.safe_dump_all(manifests, sort_keys=False))
    (folder / "chart" / "Chart.yaml").write_text("apiVersion: v2\nname: benchmark\nversion: 1.0.0\n")
    for manifest in manifests:
        text = yaml.safe_dump(manifest, sort_keys=False)
        for path in (folder / "objects", folder / "chart" / "templates"):
            (path / f"{manifest['kind'].lower()}.yaml").write_text(text)
    return folder


@dataclass(frozen=True)
class Fleet:
    """Inventory hosts over the real clusters, which take turns."""

    kubeconfig: Path
    inventory: Path
    contexts: tuple[str, ...]
    folder: Path

    @staticmethod
    def make(folder: Path, clusters: Path, hosts: int, namespace: str = "") -> Fleet:
        """Write a kubeconfig with a context a host, and an inventory.

        :param clusters: the kubeconfig of the real clusters.
        :param namespace: with it, each host has a namespace of its own that begins so, and its bundle.
        """
        folder.mkdir(parents=True, exist_ok=True)
        kubeconfig = yaml.safe_load(clusters.read_text())
        real = kubeconfig["contexts"]
        names = tuple(f"host-{number:03}" for number in range(1, hosts + 1))
        kubeconfig["contexts"] = [
            {"name": name, "context": real[number % len(real)]["context"]} for number, name in enumerate(names)
        ]
        kubeconfig["current-context"] = names[0]
        fleet = Fleet(folder / "kubeconfig", folder / "hosts.json", names, folder)
        fleet.kubeconfig.touch(mode=0o600)
        fleet.kubeconfig.write_text(yaml.safe_dump(kubeconfig))
        variables: dict[str, Json] = {name: {"context": name} for name in names}
        if namespace:
            for name, host in variables.items():
                host["bundle_namespace"] = f"{namespace}-{name}"
                host["bundle"] = str(write(folder / name, objects(host["bundle_namespace"])))
        fleet.inventory.write_text(
            json.dumps(
                {
                    "clusters": {
                        "hosts": variables,
                        "vars": {
                            "ansible_connection": "local",
                            "ansible_python_interpreter": "{{ ansible_playbook_python }}",
                            "kubeconfig": str(fleet.kubeconfig),
                        },
                    }
                },
                indent=1,
            )
        )
        return fleet


def differences(wanted: Any, found: Any, path: str = "") -> Iterator[str]:
    """Name what of ``wanted`` is not so in ``found``, which may have more fields: the server's defaults."""
    if isinstance(wanted, Mapping) and isinstance(found, Mapping):
        for key, value in wanted.items():
            yield from differences(value, found.get(key), f"{path}.{key}")
    elif isinstance(wanted, list) and isinstance(found, list) and len(wanted) == len(found):
        for number, (one, other) in enumerate(zip(wanted, found, strict=True)):
            yield from differences(one, other, f"{path}[{number}]")
    elif wanted != found:
        yield f"{path}: {json.dumps(found)} and not {json.dumps(wanted)}"


def key(manifest: Json) -> tuple[str, str]:
    """Give what tells an object from the others of its namespace."""
    return manifest["kind"], manifest["metadata"]["name"]
