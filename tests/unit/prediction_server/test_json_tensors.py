# SPDX-FileCopyrightText: The modelfleet maintainers
# SPDX-License-Identifier: GPL-3.0-or-later
"""JSON bodies to tensors and back. Texts of errors: TF Serving's util/json_tensor.cc."""

from __future__ import annotations

import json
from typing import Any

import pytest

np = pytest.importorskip("numpy")
pytest.importorskip("orjson")

from prediction_server import json_tensors as jt  # noqa: E402
from prediction_server.errors import Code, ServingError  # noqa: E402

X = {"x": jt.Input(jt.DT_FLOAT)}


def inputs(document: Any, signature: dict[str, jt.Input] = X) -> dict[str, Any]:
    """The tensors of a Predict body as (shape, values)."""
    _unused, arrays, _unused = jt.predict_inputs(document, lambda _unused: signature)
    return {name: (array.shape, array.ravel().tolist()) for name, array in arrays.items()}


def failure(document: Any, signature: dict[str, jt.Input] = X) -> str:
    """The text of a refused Predict body."""
    with pytest.raises(ServingError) as caught:
        jt.predict_inputs(document, lambda _: signature)
    return caught.value.message


@pytest.mark.parametrize(
    ("body", "shape"),
    [
        ({"inputs": 1.0}, ()),
        ({"inputs": [1.0]}, (1,)),
        ({"inputs": []}, (0,)),
        ({"inputs": [[], []]}, (2, 0)),
        ({"inputs": [[1.0, 2.0], [3.0, 4.0]]}, (2, 2)),
        ({"inputs": {"x": [[[1.0]]]}}, (1, 1, 1)),
        ({"instances": [1.0, 2.0]}, (2,)),
        ({"instances": [[1.0], [2.0]]}, (2, 1)),
        ({"instances": [{"x": [1.0, 2.0]}]}, (1, 2)),
        ({"instances": [{"x": 1.0}]}, (1,)),
    ],
)
def test_shapes(body: Any, shape: tuple[int, ...]) -> None:
    assert inputs(body)["x"][0] == shape


def test_scalars_keep_no_dimension() -> None:
    assert jt.dense(5, jt.DT_INT32).shape == ()


def test_several_inputs() -> None:
    signature = {"a": jt.Input(jt.DT_FLOAT), "b": jt.Input(jt.DT_INT64)}
    body = {"instances": [{"a": 0.5, "b": [1, 2]}, {"a": 1.5, "b": [3, 4]}]}
    assert inputs(body, signature) == {"a": ((2,), [0.5, 1.5]), "b": ((2, 2), [1, 2, 3, 4])}


@pytest.mark.parametrize(
    ("dtype", "value", "name"),
    [
        (jt.DT_FLOAT, True, "float"),
        (jt.DT_FLOAT, "1", "float"),
        (jt.DT_FLOAT, None, "float"),
        (jt.DT_FLOAT, {"b64": "eA=="}, "float"),
        (jt.DT_INT32, 1.0, "int32"),
        (jt.DT_INT32, 2**31, "int32"),
        (jt.DT_INT64, 2**63, "int64"),
        (jt.DT_UINT32, -1, "uint32"),
        (jt.DT_BOOL, 1, "bool"),
        (jt.DT_STRING, 1, "string"),
    ],
)
def test_wrong_types(dtype: int, value: Any, name: str) -> None:
    with pytest.raises(ServingError) as caught:
        jt.dense([value], dtype)
    assert caught.value.code is Code.INVALID_ARGUMENT
    assert caught.value.message.endswith(f"is not of expected type: {name}")


def test_types_without_json() -> None:
    with pytest.raises(ServingError) as caught:
        jt.dense([1.5], jt.DT_HALF)
    assert (caught.value.code, caught.value.message) == (
        Code.UNIMPLEMENTED,
        "Conversion of JSON Value: 1.5 to type: half",
    )


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ({"inputs": [1.0, [2.0]]}, "Encountered list at unexpected level: 1 expected < 1"),
        ({"inputs": [[1.0], 2.0]}, "JSON Value: 2.0 found at incorrect level: 2 in the JSON DOM. Expected at level: 2"),
        ({"inputs": [[1.0, 2.0], [3.0]]}, "Encountered list at unexpected size: 1 at level: 1 expected size: 2"),
        (
            {"instances": [[[1.0], [2.0]], [[1.0, 2.0]]]},
            "Failed to process element: 1 of 'instances' list. Error: INVALID_ARGUMENT:"
            " Expecting shape [2,1] but got: [1,2]",
        ),
        ({"instances": [1.0, {"x": 1.0}]}, "Expecting value/list but got object at item 1 of input list"),
        ({"instances": [{"x": 1.0}, 1.0]}, "Expecting object but got list at item 1 of input list"),
        ({}, "Missing 'inputs' or 'instances' key"),
    ],
)
def test_shapes_that_do_not_fit(body: Any, message: str) -> None:
    assert failure(body) == message


def test_binary_values() -> None:
    signature = {"x": jt.Input(jt.DT_STRING)}
    assert inputs({"instances": [{"b64": "AP8="}, "ü"]}, signature)["x"] == ((2,), [b"\x00\xff", "ü".encode()])
    # Without padding, as absl takes it.
    assert inputs({"inputs": {"b64": "AP8"}}, signature)["x"] == ((), [b"\x00\xff"])
    assert failure({"inputs": {"b64": "!"}}, signature) == "Unable to base64 decode"


def test_lenient_json() -> None:
    assert jt.parse_object(b'{"a": NaN, "b": -Infinity} and more')["b"] == float("-inf")
    with pytest.raises(ServingError, match="JSON Parse error: Missing a comma or }"):
        jt.parse_object(b'{"a": 1 "b": 2}')
    with pytest.raises(ServingError, match="Is not object"):
        jt.parse_object(b"[1]")


def test_deep_nesting_is_refused_not_fatal() -> None:
    body = b'{"inputs": ' + b"[" * 100_000 + b"]" * 100_000 + b"}"
    with pytest.raises(ServingError):
        jt.predict_inputs(jt.parse_object(body), lambda _: X)


def test_long_values_are_cut_in_messages() -> None:
    assert len(jt.debug_string(["x" * 50] * 1000)) == 256


def row(**outputs: Any) -> Any:
    """The predictions of a row-format response."""
    return json.loads(jt.predict_response(outputs, jt.Format.ROW))["predictions"]


def test_response_rows() -> None:
    assert row(y=np.array([[1, 2], [3, 4]], np.int32)) == [[1, 2], [3, 4]]
    assert row(y=np.array([0.1, 1e10], np.float32)) == [0.1, 1e10]
    both = row(a=np.array([1.5, 2.5], np.float32), b=np.array([[1], [2]], np.int64))
    assert both == [{"a": 1.5, "b": [1]}, {"a": 2.5, "b": [2]}]


def test_response_text_is_that_of_the_original() -> None:
    body = jt.predict_response({"y": np.array([2.5, 3.0, 4.5], np.float32)}, jt.Format.ROW)
    assert body == b'{\n    "predictions": [2.5, 3.0, 4.5\n    ]\n}'


def test_response_without_batch() -> None:
    with pytest.raises(ServingError, match="Tensor name: y has no shape information "):
        jt.predict_response({"y": np.float32(1.0)}, jt.Format.ROW)
    uneven = {"a": np.zeros(2, np.float32), "b": np.zeros(3, np.float32)}
    with pytest.raises(ServingError, match="inconsistent batch size: 3 expecting: 2"):
        jt.predict_response(uneven, jt.Format.ROW)


def test_response_strings() -> None:
    values = np.array([b"a,b", "ü".encode()], dtype=object)
    assert row(y=values) == ["a,b", "ü"]
    assert row(y_bytes=values) == [{"b64": "YSxi"}, {"b64": "w7w="}]
    both = row(y=values, z=np.array([1, 2], np.int32))
    assert both == [{"y": "a,b", "z": 1}, {"y": "ü", "z": 2}]


def test_response_numbers_that_are_not_finite() -> None:
    body = jt.predict_response({"y": np.array([np.nan, np.inf, 0.1], np.float32)}, jt.Format.COLUMNAR)
    assert body.split(b": ")[1].split(b"\n")[0] == b"[NaN, Infinity, 0.1]"


def test_response_types_without_json() -> None:
    with pytest.raises(ServingError, match="Failed to write JSON value for tensor type: half"):
        jt.predict_response({"y": np.zeros(2, np.float16)}, jt.Format.ROW)


def test_examples() -> None:
    context, items = jt.examples({"context": {"c": "t"}, "examples": [{"a": [1.0, 2.0], "b": 3, "d": True}]})
    assert context == {"c": jt.Feature("bytes", [b"t"])}
    assert items[0]["a"] == jt.Feature("float", [1.0, 2.0])
    assert items[0]["b"] == jt.Feature("int64", [3])
    assert items[0]["d"] == jt.Feature("int64", [1])
    with pytest.raises(ServingError, match="Example must be JSON object but got JSON Array"):
        jt.examples({"examples": [[]]})


def test_results() -> None:
    assert json.loads(jt.classify_response([[("cat", 0.1), ("dog", 0.9)]])) == {
        "results": [[["cat", 0.1], ["dog", 0.9]]]
    }
    assert json.loads(jt.regress_response([0.1])) == {"results": [0.1]}
