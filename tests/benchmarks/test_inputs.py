# SPDX-FileCopyrightText: The modelfleet maintainers
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the benchmark compares is one valid bundle, whichever way it is applied."""

from __future__ import annotations

import importlib.metadata
from pathlib import Path
from typing import Any

import inputs
import kubernetes_validate
import pytest
import yaml


def _load(*paths: Path) -> list[dict[str, Any]]:
    return [manifest for path in paths for manifest in yaml.safe_load_all(path.read_text())]


def _sorted(manifests: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return sorted(manifests, key=inputs.key)


def test_the_bundle_is_twelve_valid_objects_of_one_namespace() -> None:
    manifests = inputs.objects("bench")
    assert len({manifest["kind"] for manifest in manifests}) == len(manifests) == 12
    for manifest in manifests:
        kubernetes_validate.validate(manifest, "1.36", strict=True)
        metadata = manifest["metadata"]
        assert metadata["name" if manifest["kind"] == "Namespace" else "namespace"] == "bench"
        name, _equals, value = inputs.LABEL.partition("=")
        assert metadata["labels"][name] == value, "else it is neither checked nor cleaned up"


def test_one_field_changes() -> None:
    before, after = inputs.objects("bench"), inputs.objects("bench", changed=True)
    differences = [text for pair in zip(before, after, strict=True) for text in inputs.differences(*pair)]
    assert len(differences) == 1
    assert inputs.CHANGED_IMAGE in differences[0]


def test_every_way_takes_the_same_objects(tmp_path: Path) -> None:
    manifests = inputs.objects("bench")
    folder = inputs.write(tmp_path, manifests)
    whole = _load(folder / "bundle.yaml")
    assert whole == manifests
    assert _sorted(_load(*folder.glob("objects/*"))) == _sorted(manifests)
    assert _sorted(_load(*folder.glob("chart/templates/*"))) == _sorted(manifests)


def test_the_play_of_a_task_an_object_applies_each_in_the_bundles_order() -> None:
    (play,) = yaml.safe_load((inputs.HERE / "playbooks" / "k8s_task_per_object.yml").read_text())
    files = [Path(task["kubernetes.core.k8s"]["src"]).name for task in play["tasks"]]
    assert files == [f"{manifest['kind'].lower()}.yaml" for manifest in inputs.objects("bench")]


@pytest.mark.parametrize("wrong", [{"a": 2}, {}, {"a": 1, "b": [1]}, {"a": 1, "b": {}}])
def test_a_difference_is_found(wrong: dict[str, Any]) -> None:
    assert list(inputs.differences({"a": 1, "b": [1, 2]}, wrong))


def test_the_servers_defaults_are_no_difference() -> None:
    assert not list(inputs.differences({"a": [{"b": 1}]}, {"a": [{"b": 1, "c": 2}], "d": 3}))


def test_hosts_take_turns_on_the_clusters(tmp_path: Path) -> None:
    clusters = tmp_path / "clusters"
    contexts = [{"name": name, "context": {"cluster": name, "user": name}} for name in ("one", "two")]
    clusters.write_text(yaml.safe_dump({"contexts": contexts}))
    fleet = inputs.Fleet.make(tmp_path / "fleet", clusters, 3, "bench")
    made = yaml.safe_load(fleet.kubeconfig.read_text())["contexts"]
    assert [context["context"]["cluster"] for context in made] == ["one", "two", "one"]
    assert fleet.kubeconfig.stat().st_mode & 0o077 == 0
    hosts = yaml.safe_load(fleet.inventory.read_text())["clusters"]["hosts"]
    for name, host in hosts.items():
        assert host["context"] == name
        assert _load(Path(host["bundle"], "bundle.yaml")) == inputs.objects(host["bundle_namespace"])


def test_the_benchmark_has_the_ansible_core_that_the_tests_have() -> None:
    lock = (inputs.HERE / "requirements.lock").read_text()
    assert f"ansible-core=={importlib.metadata.version('ansible-core')} " in lock
