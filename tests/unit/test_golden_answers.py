# SPDX-FileCopyrightText: The modelfleet maintainers
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ansible_collections.modelfleet.serving.plugins.module_utils._errors import InputError
from ansible_collections.modelfleet.serving.plugins.module_utils._tfserving.golden import Golden, goldens

_JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**53), 2**53)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=8,
)


def mismatch(expected: Any, found: Any, tolerance: float = 1e-5) -> str:
    return Golden("m", "golden", {}, expected, tolerance).mismatch(found)


@given(_JSON)
@settings(max_examples=50, deadline=None)
def test_an_answer_equals_itself_over_the_wire(value: Any) -> None:
    assert mismatch(value, json.loads(json.dumps(value))) == ""


@pytest.mark.parametrize(
    ("expected", "found", "tolerance"),
    [
        ({"predictions": [2.5, 3.0, 4.5]}, {"predictions": [2.5, 3, 4.5]}, 0.0),
        ([1.0], [1.000001], 1e-5),
        ([1e6], [1e6 + 1], 1e-5),
        ([0.0], [1e-6], 1e-5),
        ([1], [1.0], 0.0),
        ([[]], [[]], 0.0),
        (None, None, 0.0),
    ],
)
def test_right_answers(expected: Any, found: Any, tolerance: float) -> None:
    assert mismatch(expected, found, tolerance) == ""


@pytest.mark.parametrize(
    ("expected", "found", "words"),
    [
        ({"predictions": [2.5, 3.0]}, {"predictions": [2.5, 3.1]}, "['predictions'][1] is 3.1, not 3.0"),
        ({"a": 1}, {"a": 1, "b": 2}, "the answer has ['a', 'b'], not ['a']"),
        ({"a": 1}, {}, "the answer has [], not ['a']"),
        ({"a": {"b": 1}}, {"a": [1]}, "['a'] has [1], not ['b']"),
        ([1, 2], [1], "the answer has 1 items, not 2"),
        ([1, 2], "12", "the answer has '12' items, not 2"),
        ([1, 2], {"0": 1}, "not 2"),
        (1, True, "the answer is True, not 1"),
        (True, 1, "the answer is 1, not True"),
        (0, False, "the answer is False, not 0"),
        (0, None, "the answer is None, not 0"),
        (None, 0, "the answer is 0, not None"),
        ("setosa", "virginica", "the answer is 'virginica', not 'setosa'"),
        (1.0, "1.0", "the answer is '1.0', not 1.0"),
        ([1.0], [float("nan")], "[0] is nan, not 1.0"),
        ([1.0], [float("inf")], "[0] is inf, not 1.0"),
        ([1e6], [1e6 + 20], "[0] is 1000020.0, not 1000000.0"),
        ([1.0], [10**400], "not 1.0"),
    ],
)
def test_wrong_answers_say_where(expected: Any, found: Any, words: str) -> None:
    assert words in mismatch(expected, found)


def test_models_are_read() -> None:
    request = {"instances": [1.0]}
    golden = {"name": "one", "request": request, "response": {"predictions": [2.5]}, "tolerance": 0.1}
    assert goldens([{"name": "m", "golden": [golden]}]) == [Golden("m", "one", request, {"predictions": [2.5]}, 0.1)]


@pytest.mark.parametrize(
    ("models", "words"),
    [
        ([], "models is empty. Name one model or more to probe."),
        (None, "models is empty. Name one model or more to probe."),
        ([{"name": "m", "golden": []}], "models: m has no golden request. Give at least one."),
        ([{"name": "m", "golden": None}], "models: m has no golden request. Give at least one."),
        ([{"name": "a/b", "golden": []}], "models.name: 'a/b' is no valid name."),
        (
            [
                {"name": "m", "golden": [{"name": "g", "request": {}, "response": {}, "tolerance": 0.0}]},
                {"name": "m", "golden": [{"name": "g", "request": {}, "response": {}, "tolerance": 0.0}]},
            ],
            "models: 'm' stands there more than once.",
        ),
    ],
)
def test_bad_models_are_refused(models: Any, words: str) -> None:
    with pytest.raises(InputError) as caught:
        goldens(models)
    assert words in str(caught.value)
