# SPDX-FileCopyrightText: The modelfleet maintainers
# SPDX-License-Identifier: GPL-3.0-or-later
"""The configuration's text, read back by protobuf's own parser of the text format."""

from __future__ import annotations

from typing import Any

import pytest
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory, text_format
from hypothesis import given
from hypothesis import strategies as st

from ansible_collections.modelfleet.serving.plugins.module_utils._errors import InputError
from ansible_collections.modelfleet.serving.plugins.module_utils._tfserving.model_config import (
    ServedModel,
    config_text,
    read_config,
    served_models,
    steps,
)

_STRING, _INT64, _UINT32, _MESSAGE = 9, 3, 13, 11
_OPTIONAL, _REPEATED = 1, 3


def _server_config_class() -> Any:
    """Build ModelServerConfig from the parts of tensorflow_serving's protos that we write, names and numbers theirs."""
    file = descriptor_pb2.FileDescriptorProto(name="config.proto", package="t", syntax="proto3")

    def message(name: str, *fields: tuple[str, int, int, int, str]) -> Any:
        made = file.message_type.add(name=name)
        for field_name, number, kind, label, type_name in fields:
            made.field.add(name=field_name, number=number, type=kind, label=label, type_name=type_name or None)
        return made

    message("Specific", ("versions", 1, _INT64, _REPEATED, ""))
    message("Latest", ("num_versions", 1, _UINT32, _OPTIONAL, ""))
    message("All")
    message(
        "ServableVersionPolicy",
        ("latest", 100, _MESSAGE, _OPTIONAL, ".t.Latest"),
        ("all", 101, _MESSAGE, _OPTIONAL, ".t.All"),
        ("specific", 102, _MESSAGE, _OPTIONAL, ".t.Specific"),
    )
    config = message(
        "ModelConfig",
        ("name", 1, _STRING, _OPTIONAL, ""),
        ("base_path", 2, _STRING, _OPTIONAL, ""),
        ("model_platform", 4, _STRING, _OPTIONAL, ""),
        ("model_version_policy", 7, _MESSAGE, _OPTIONAL, ".t.ServableVersionPolicy"),
        ("version_labels", 8, _MESSAGE, _REPEATED, ".t.ModelConfig.VersionLabelsEntry"),
    )
    entry = config.nested_type.add(name="VersionLabelsEntry")
    entry.field.add(name="key", number=1, type=_STRING, label=_OPTIONAL)
    entry.field.add(name="value", number=2, type=_INT64, label=_OPTIONAL)
    entry.options.map_entry = True
    message("ModelConfigList", ("config", 1, _MESSAGE, _REPEATED, ".t.ModelConfig"))
    message("ModelServerConfig", ("model_config_list", 1, _MESSAGE, _OPTIONAL, ".t.ModelConfigList"))
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return message_factory.GetMessageClass(pool.FindMessageTypeByName("t.ModelServerConfig"))


def test_the_text_says_what_was_asked_for() -> None:
    models = (ServedModel("half_plus_two", (1, 2), {"stable": 1, "canary": 2}), ServedModel("iris.v-1", (2**63 - 1,)))
    text = config_text(models, "/models")
    config = text_format.Parse(text, _server_config_class()()).model_config_list.config
    assert [
        (
            entry.name,
            entry.base_path,
            entry.model_platform,
            tuple(entry.model_version_policy.specific.versions),
            dict(entry.version_labels),
        )
        for entry in config
    ] == [
        ("half_plus_two", "/models/half_plus_two", "tensorflow", (1, 2), {"stable": 1, "canary": 2}),
        ("iris.v-1", "/models/iris.v-1", "tensorflow", (2**63 - 1,), {}),
    ]
    assert read_config(text) == models


def test_versions_may_be_left_to_what_the_store_holds() -> None:
    models = (
        ServedModel("newest", policy="latest", num_versions=2, labels={"stable": 1}),
        ServedModel("every", policy="all"),
    )
    text = config_text(models, "/models")
    newest, every = text_format.Parse(text, _server_config_class()()).model_config_list.config
    assert newest.model_version_policy.latest.num_versions == 2
    assert every.model_version_policy.HasField("all")
    assert read_config(text) == models


def test_the_text_does_not_depend_on_the_order_of_labels() -> None:
    one = ServedModel("m", (1, 2), {"a": 1, "b": 2})
    other = ServedModel("m", (1, 2), {"b": 2, "a": 1})
    assert config_text([one], "/models") == config_text([other], "/models")


def test_models_are_read() -> None:
    params = [
        {"name": "m", "versions": [2, 1], "labels": {"stable": "1"}},
        {"name": "n", "versions": [3], "labels": None},
    ]
    assert served_models(params) == (ServedModel("m", (1, 2), {"stable": 1}), ServedModel("n", (3,)))
    assert served_models([{"name": "m", "versions": [1, 2], "labels": {"old": 1}, "version_policy": "all"}]) == (
        ServedModel("m", (), {"old": 1}, "all"),
    )


V1, V2 = ServedModel("m", (1,), {"stable": 1}), ServedModel("m", (2,), {"stable": 2})
OTHER = ServedModel("other", (1,))


@pytest.mark.parametrize(
    ("current", "wanted", "expected"),
    [
        ([V1], [V1], []),
        ([V1, OTHER], [OTHER, V1], []),
        # Loaded beside, labels moved, the old unloaded.
        (
            [V1],
            [V2],
            [[ServedModel("m", (1, 2), {"stable": 1})], [ServedModel("m", (1, 2), {"stable": 2})], [V2]],
        ),
        # Nothing to move, nothing to unload.
        ([V1], [ServedModel("m", (1, 2), {"stable": 1})], [[ServedModel("m", (1, 2), {"stable": 1})]]),
        # A label back to a version that is still served.
        (
            [ServedModel("m", (1, 2), {"stable": 2})],
            [ServedModel("m", (1, 2), {"stable": 1})],
            [[ServedModel("m", (1, 2), {"stable": 1})]],
        ),
        # A model that comes, one that goes.
        ([V1], [OTHER], [[OTHER, V1], [OTHER]]),
        ([V1], [ServedModel("m", policy="latest")], [[ServedModel("m", policy="latest")]]),
    ],
)
def test_the_steps_to_another_configuration(current: Any, wanted: Any, expected: Any) -> None:
    assert [list(step) for step in steps(current, wanted)] == expected


MODEL = st.builds(
    lambda name, versions, labels: ServedModel(
        name, tuple(sorted(versions)), {label: sorted(versions)[at % len(versions)] for label, at in labels.items()}
    ),
    st.sampled_from("abc"),
    st.sets(st.integers(1, 4), min_size=1),
    st.dictionaries(st.sampled_from(["stable", "canary"]), st.integers(0, 9)),
)
MODELS = st.lists(MODEL, unique_by=lambda model: model.name, max_size=3)


@given(MODELS, MODELS.filter(bool))
def test_no_step_breaks_what_is_served(current: list[ServedModel], wanted: list[ServedModel]) -> None:
    """No label leads to a version that is not loaded yet, and no version leaves before its successor has come."""
    before = {model.name: model for model in current}
    last = {model.name: model for model in wanted}
    path = [{model.name: model for model in step} for step in steps(current, wanted)]
    assert (path[-1] if path else before) == last
    for step in path:
        for name, model in step.items():
            old = before.get(name)
            assert set(model.labels.values()) <= set(model.versions)
            if old is not None:
                moved = {label: version for label, version in model.labels.items() if old.labels.get(label) != version}
                assert set(moved.values()) <= set(old.versions)
                # What leaves is not what a label still leads to, and all that stays to the end is there already.
                if not set(old.versions) <= set(model.versions):
                    assert set(model.versions) <= set(old.versions)
                    assert model == last[name]
        for name in before.keys() - step.keys():
            assert name not in last
            assert all(step.get(other) == model for other, model in last.items())
        before = step


@pytest.mark.parametrize(
    ("models", "words"),
    [
        ([], "models is empty. Name one model or more"),
        (None, "models is empty. Name one model or more"),
        ([{"name": "../m", "versions": [1]}], "models.name: '../m' is no valid name"),
        ([{"name": 'm" base_path: "/etc', "versions": [1]}], "is no valid name"),
        ([{"name": "m", "versions": []}], "models: m has no version to serve. List one or more"),
        ([{"name": "m", "versions": [1, 1]}], "models: m: versions: '1' stands there more than once"),
        ([{"name": "m", "versions": [0]}], "models: m: 0 is no model version"),
        ([{"name": "m", "versions": [1]}, {"name": "m", "versions": [2]}], "models: 'm' stands there more than once"),
        (
            [{"name": "m", "versions": [1], "labels": {"stable": 2}}],
            "'stable' is for version 2, which is not served. Use",
        ),
        ([{"name": "m", "versions": [1], "labels": {"stable": "latest"}}], "'stable' is for version latest"),
        ([{"name": "m", "versions": [1], "labels": {"stable": None}}], "'stable' is for version None"),
        ([{"name": "m", "versions": [1], "labels": {'x" }': 1}}], "models: m: labels: 'x\" }' is no valid name"),
        ([{"name": "m", "versions": [1], "labels": {1: 1, "1": 1}}], "models: m: labels: 1 is no valid name"),
    ],
)
def test_bad_models_are_refused(models: Any, words: str) -> None:
    with pytest.raises(InputError) as caught:
        served_models(models)
    assert words in str(caught.value)
    assert caught.value.hint
