# SPDX-FileCopyrightText: The modelfleet maintainers
# SPDX-License-Identifier: GPL-3.0-or-later
"""JSON request bodies to NumPy arrays and back, as TF Serving's util/json_tensor.cc does it.

Pure: needs NumPy and orjson only, never TensorFlow. Data types are the numbers of TensorFlow's `DataType` enum.
Strings are held in arrays of dtype `object` whose elements are `bytes`.
"""

from __future__ import annotations

import base64
import binascii
import dataclasses
import enum
import itertools
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import orjson

from .errors import Code, ServingError, invalid

Json = Any
Array = Any
"""A NumPy array (`object` dtype with `bytes` elements for strings)."""

DT_FLOAT, DT_DOUBLE, DT_INT32, DT_UINT8, DT_INT16, DT_INT8, DT_STRING = 1, 2, 3, 4, 5, 6, 7
DT_COMPLEX64, DT_INT64, DT_BOOL = 8, 9, 10
DT_BFLOAT16, DT_UINT16, DT_COMPLEX128, DT_HALF, DT_UINT32, DT_UINT64 = 14, 17, 18, 19, 22, 23

# Names as tensorflow::DataTypeString() prints them.
TYPE_NAMES: dict[int, str] = {
    DT_FLOAT: "float",
    DT_DOUBLE: "double",
    DT_INT32: "int32",
    DT_UINT8: "uint8",
    DT_INT16: "int16",
    DT_INT8: "int8",
    DT_STRING: "string",
    DT_COMPLEX64: "complex64",
    DT_INT64: "int64",
    DT_BOOL: "bool",
    DT_BFLOAT16: "bfloat16",
    DT_UINT16: "uint16",
    DT_COMPLEX128: "complex128",
    DT_HALF: "half",
    DT_UINT32: "uint32",
    DT_UINT64: "uint64",
}
NUMPY_TYPES: dict[int, Any] = {
    DT_FLOAT: np.float32,
    DT_DOUBLE: np.float64,
    DT_INT32: np.int32,
    DT_UINT8: np.uint8,
    DT_INT16: np.int16,
    DT_INT8: np.int8,
    DT_COMPLEX64: np.complex64,
    DT_INT64: np.int64,
    DT_BOOL: np.bool_,
    DT_UINT16: np.uint16,
    DT_COMPLEX128: np.complex128,
    DT_HALF: np.float16,
    DT_UINT32: np.uint32,
    DT_UINT64: np.uint64,
}
# The Python types that a JSON leaf may have, and for integers the range that rapidjson's IsInt() and friends accept.
_LEAVES: dict[int, frozenset[type]] = {
    DT_FLOAT: frozenset({int, float}),
    DT_DOUBLE: frozenset({int, float}),
    DT_INT32: frozenset({int}),
    DT_UINT8: frozenset({int}),
    DT_INT16: frozenset({int}),
    DT_INT8: frozenset({int}),
    DT_STRING: frozenset({str, dict}),
    DT_INT64: frozenset({int}),
    DT_BOOL: frozenset({bool}),
    DT_UINT32: frozenset({int}),
    DT_UINT64: frozenset({int}),
}
_INT32 = (-(2**31), 2**31 - 1)
_RANGES: dict[int, tuple[int, int]] = {
    DT_INT32: _INT32,
    DT_UINT8: _INT32,
    DT_INT16: _INT32,
    DT_INT8: _INT32,
    DT_INT64: (-(2**63), 2**63 - 1),
    DT_UINT32: (0, 2**32 - 1),
    DT_UINT64: (0, 2**64 - 1),
}
_DEBUG_BYTES = 256
_LIST = frozenset({list})


class Format(enum.Enum):
    """How a Predict body names its tensors, and so how the response does."""

    ROW = "instances"
    COLUMNAR = "inputs"


@dataclasses.dataclass(frozen=True)
class Input:
    """What a signature says of one input: the `DataType` number."""

    dtype: int


# ---------------------------------------------------------------------------------------------------------------------
# Parsing


def parse_object(body: bytes) -> dict[str, Json]:
    """Parse a request body, which must hold a JSON object. `NaN`, `Infinity` and trailing text are accepted."""
    if not body:
        raise invalid("JSON Parse error: The document is empty")
    try:
        document = orjson.loads(body)
    except ValueError:
        # Not plain JSON: the few extensions TF Serving accepts (NaN, Infinity, trailing text), or an error to explain.
        document = _parse_lenient(body)
    if not isinstance(document, dict):
        raise invalid(f"JSON Value: {debug_string(document)} Is not object")
    return document


def _parse_lenient(body: bytes) -> Json:
    text = body.decode("utf-8", "surrogateescape")
    start = len(text) - len(text.lstrip(" \t\r\n"))
    if start == len(text):
        raise invalid("JSON Parse error: The document is empty. at offset: 0")
    try:
        return json.JSONDecoder().raw_decode(text, start)[0]
    except json.JSONDecodeError as error:
        reason = {
            "Expecting ',' delimiter": "Missing a comma or } after an object member.",
            "Expecting ':' delimiter": "Missing a colon after a name of object member.",
            "Expecting property name enclosed in double quotes": "Missing a name for object member.",
        }.get(error.msg, "Invalid value.")
        raise invalid(f"JSON Parse error: {reason} at offset: {error.pos}") from None
    except RecursionError:
        raise invalid("JSON Parse error: Terminate parsing due to Handler error. at offset: 0") from None


def debug_string(value: Json) -> str:
    """A value as JSON for an error message, cut after 256 bytes."""
    text = "".join(itertools.islice(_pretty(value, 0), _DEBUG_BYTES))
    return text[:_DEBUG_BYTES]


def _pretty(value: Json, depth: int) -> Iterable[str]:
    # A generator, so that a large document is not written out only to be cut.
    if isinstance(value, dict) and value:
        pad = "    " * (depth + 1)
        yield "{"
        for index, (key, item) in enumerate(value.items()):
            yield (",\n" if index else "\n") + pad + json.dumps(key, ensure_ascii=False) + ": "
            yield from _pretty(item, depth + 1)
        yield "\n" + "    " * depth + "}"
    elif isinstance(value, list) and value:
        yield "["
        for index, item in enumerate(value):
            if index:
                yield ", "
            yield from _pretty(item, depth + 1)
        yield "]"
    else:
        yield json.dumps(value, ensure_ascii=False)


def type_string(value: Json) -> str:
    """The name of a value's JSON type as rapidjson's types are printed."""
    if value is None:
        return "Null"
    if value is True:
        return "True"
    if value is False:
        return "False"
    names: dict[type, str] = {dict: "Object", list: "Array", str: "String"}
    return names.get(type(value), "Number")


def is_base64(value: Json) -> bool:
    """Whether a value is `{"b64": "..."}` and nothing more."""
    return isinstance(value, dict) and len(value) == 1 and isinstance(value.get("b64"), str)


def decode_base64(value: Json) -> bytes:
    """The bytes of a `{"b64": "..."}` object."""
    if not is_base64(value):
        raise invalid(f"JSON Value: {debug_string(value)} not formatted correctly for base64 data")
    text = value["b64"]
    try:
        # absl::Base64Unescape takes text without its padding.
        return base64.b64decode(text + "=" * (-len(text) % 4), validate=True)
    except (binascii.Error, ValueError):
        raise invalid("Unable to base64 decode") from None


def _type_error(value: Json, dtype: int) -> ServingError:
    name = TYPE_NAMES.get(dtype, str(dtype))
    return invalid(f"JSON Value: {debug_string(value)} Type: {type_string(value)} is not of expected type: {name}")


def _check_leaf(value: Json, dtype: int) -> None:
    allowed = _LEAVES.get(dtype)
    if allowed is None:
        if isinstance(value, dict):
            raise _type_error(value, dtype)
        raise ServingError(
            Code.UNIMPLEMENTED,
            f"Conversion of JSON Value: {debug_string(value)} to type: {TYPE_NAMES.get(dtype, dtype)}",
        )
    if type(value) is dict and dtype == DT_STRING:
        decode_base64(value)
        return
    if type(value) not in allowed:
        raise _type_error(value, dtype)
    if dtype in _RANGES:
        low, high = _RANGES[dtype]
        if not low <= value <= high:
            raise _type_error(value, dtype)


def _shape(value: Json) -> list[int]:
    """The shape that the first elements have, which all others must follow."""
    shape: list[int] = []
    while isinstance(value, list):
        shape.append(len(value))
        if not value:
            break
        value = value[0]
    return shape


def _explain(value: Json, shape: Sequence[int], level: int, dtype: int) -> int:
    """Walk `value` to raise the error that FillTensorProto() gives; returns the number of leaves if there is none."""
    if not isinstance(value, list):
        if level != len(shape):
            raise invalid(
                f"JSON Value: {debug_string(value)} found at incorrect level: {level + 1}"
                f" in the JSON DOM. Expected at level: {len(shape)}"
            )
        _check_leaf(value, dtype)
        return 1
    if level >= len(shape):
        raise invalid(f"Encountered list at unexpected level: {level} expected < {len(shape)}")
    if len(value) != shape[level]:
        raise invalid(
            f"Encountered list at unexpected size: {len(value)} at level: {level} expected size: {shape[level]}"
        )
    return sum(_explain(item, shape, level + 1, dtype) for item in value)


def _leaves_to_array(leaves: list[Json], shape: Sequence[int], dtype: int) -> Array:
    """Leaves of already checked JSON types to an array; raises ValueError or OverflowError if one is out of range."""
    if dtype == DT_STRING:
        array = np.empty(len(leaves), dtype=object)
        array[:] = [
            leaf.encode("utf-8", "surrogateescape") if isinstance(leaf, str) else decode_base64(leaf) for leaf in leaves
        ]
        return array.reshape(shape)
    if dtype in (DT_INT8, DT_UINT8, DT_INT16):
        # Taken as int32 and narrowed without a check, like TensorProto's int_val.
        return np.array(leaves, dtype=np.int32).astype(NUMPY_TYPES[dtype]).reshape(shape)
    with np.errstate(over="ignore"):
        return np.array(leaves, dtype=NUMPY_TYPES[dtype]).reshape(shape)


def dense(value: Json, dtype: int) -> Array:
    """A nested list (or one leaf) to an array of the shape its first elements show; raises in TF Serving's words."""
    shape = _shape(value)
    fast = _flatten(value, shape)
    allowed = _LEAVES.get(dtype)
    if fast is not None and allowed is not None and set(map(type, fast)) <= allowed:
        try:
            return _leaves_to_array(fast, shape, dtype)
        except (OverflowError, ValueError):
            pass
    _explain(value, shape, 0, dtype)
    # Nothing to complain about can only mean an empty tensor of a type that has no JSON form.
    if not fast and dtype in NUMPY_TYPES:
        return np.empty(shape, dtype=NUMPY_TYPES[dtype])
    raise _type_error(value, dtype)


def _flatten(value: Json, shape: Sequence[int]) -> list[Json] | None:
    """All leaves in order if `value` is a full rectangle of `shape`, else None. A pass per level, not per element."""
    if not shape:
        return [value]
    row: list[Json] = value
    for size in shape[1:]:
        if not set(map(type, row)) <= _LIST or set(map(len, row)) - {size}:
            return None
        row = list(itertools.chain.from_iterable(row))
    if list in set(map(type, row)):
        return None
    return row


# ---------------------------------------------------------------------------------------------------------------------
# Requests


def signature_name(document: Mapping[str, Json]) -> str:
    """The optional `signature_name` of a body, or an empty string."""
    if "signature_name" not in document:
        return ""
    name = document["signature_name"]
    if not isinstance(name, str):
        raise invalid(
            f"JSON Value: {debug_string(document)} not formatted correctly."
            " 'signature_name' key must be a string value."
        )
    return name


def predict_inputs(
    document: Mapping[str, Json], get_inputs: Callable[[str], Mapping[str, Input]]
) -> tuple[str, dict[str, Array], Format]:
    """The signature name, the tensors and the format of a Predict body.

    `get_inputs` gives the inputs of a signature by their names and raises if there is no such model or signature.
    Row format: arrays have the shape [number of instances, *shape of one instance].
    """
    name = signature_name(document)
    inputs = get_inputs(name)
    if not inputs:
        raise invalid(f"Failed to get input map for signature: {name or 'DEFAULT'}")
    if "instances" in document:
        if "inputs" in document:
            raise invalid(
                f"JSON Value: {debug_string(document)} Not formatted correctly expecting only"
                " one of 'inputs' or 'instances' keys to exist "
            )
        instances = document["instances"]
        if not isinstance(instances, list):
            raise invalid(f"JSON Value: {debug_string(document)} Expecting 'instances' to be an list/array")
        if not instances:
            raise invalid(f"JSON Value: {debug_string(document)} No values in 'instances' array")
        return name, _from_instances(instances, inputs), Format.ROW
    if "inputs" in document:
        return name, _from_inputs(document["inputs"], inputs), Format.COLUMNAR
    raise invalid("Missing 'inputs' or 'instances' key")


def _is_named(value: Json) -> bool:
    return isinstance(value, dict) and not is_base64(value)


def _from_instances(instances: list[Json], inputs: Mapping[str, Input]) -> dict[str, Array]:
    if not isinstance(instances[0], dict) and len(inputs) > 1:
        raise invalid(
            "instances is a plain list, but expecting list of objects as multiple "
            "input tensors required as per tensorinfo_map"
        )
    if _is_named(instances[0]):
        return _from_named_instances(instances, inputs)
    name, info = next(iter(inputs.items()))
    for index, item in enumerate(instances):
        if type(item) is dict and _is_named(item):
            raise invalid(f"Expecting value/list but got object at item {index} of input list")
    column = _column(instances, info.dtype)
    if column is None:
        _explain_column(instances, info.dtype, "")
        column = dense(instances, info.dtype)
    return {name: column}


def _from_named_instances(instances: list[Json], inputs: Mapping[str, Input]) -> dict[str, Array]:
    names = set(inputs)
    for index, item in enumerate(instances):
        if not _is_named(item):
            raise invalid(f"Expecting object but got list at item {index} of input list")
        for key in item:
            if key not in inputs:
                raise invalid(
                    f"Failed to process element: {index} key: {key} of 'instances' list. Error: "
                    f"INVALID_ARGUMENT: JSON object: does not have named input: {key}"
                )
        if set(item) != names:
            raise invalid(
                f"Failed to process element: {index} of 'instances' list. JSON object: {debug_string(item)}"
                f" keys must be equal to: {','.join(sorted(names))}"
            )
    result: dict[str, Array] = {}
    for name, info in inputs.items():
        values = [item[name] for item in instances]
        column = _column(values, info.dtype)
        if column is None:
            _explain_column(values, info.dtype, f" key: {name}")
            column = dense(values, info.dtype)
        result[name] = column
    return result


def _column(values: list[Json], dtype: int) -> Array | None:
    """The instances' values of one input as one array, or None if something is wrong (to be explained slowly)."""
    try:
        return dense(values, dtype)
    except ServingError:
        return None


def _explain_column(values: list[Json], dtype: int, where: str) -> None:
    first: tuple[int, list[int]] | None = None
    for index, value in enumerate(values):
        shape = _shape(value)
        try:
            size = _explain(value, shape, 0, dtype)
            if first is None:
                first = (size, shape)
            elif size != first[0]:
                raise invalid(f"Expecting tensor size: {first[0]} but got: {size}")
            elif shape != first[1]:
                raise invalid(f"Expecting shape {_shape_text(first[1])} but got: {_shape_text(shape)}")
        except ServingError as error:
            raise invalid(f"Failed to process element: {index}{where} of 'instances' list. Error: {error}") from None


def _shape_text(shape: Sequence[int]) -> str:
    return "[" + ",".join(map(str, shape)) + "]"


def _from_inputs(value: Json, inputs: Mapping[str, Input]) -> dict[str, Array]:
    if not _is_named(value):
        if len(inputs) > 1:
            raise invalid(
                "inputs is a plain value/list, but expecting an object as multiple "
                "input tensors required as per tensorinfo_map"
            )
        name, info = next(iter(inputs.items()))
        return {name: dense(value, info.dtype)}
    result: dict[str, Array] = {}
    for name, info in inputs.items():
        if name not in value:
            raise invalid(f"Missing named input: {name} in 'inputs' object.")
        result[name] = dense(value[name], info.dtype)
    return result


@dataclasses.dataclass(frozen=True)
class Feature:
    """One feature of an Example: `kind` is `bytes`, `float`, `int64` or empty if it has no values."""

    kind: str
    values: list[Any]


def examples(document: Mapping[str, Json]) -> tuple[dict[str, Feature] | None, list[dict[str, Feature]]]:
    """The optional context and the examples of a Classify or Regress body."""
    context = _example(document["context"]) if "context" in document else None
    if "examples" not in document:
        raise invalid(
            f"JSON Value: {debug_string(document)} When method is classify, key 'examples'"
            " is expected and was not found"
        )
    items = document["examples"]
    if not isinstance(items, list):
        raise invalid(f"JSON Value: {debug_string(document)} Expecting 'examples' value to be an list/array")
    if not items:
        raise invalid(f"JSON Value: {debug_string(document)} 'examples' value is an empty array")
    return context, [_example(item) for item in items]


def _example(value: Json) -> dict[str, Feature]:
    if not isinstance(value, dict):
        raise invalid(f"Example must be JSON object but got JSON {type_string(value)}")
    return {name: _feature(name, item if isinstance(item, list) else [item]) for name, item in value.items()}


def _feature(name: str, values: list[Json]) -> Feature:
    kind = found = ""
    item: Any
    result: list[Any] = []
    for value in values:
        if isinstance(value, bool):
            found, item = "int64", int(value)
        elif isinstance(value, str):
            found, item = "bytes", value.encode("utf-8", "surrogateescape")
        elif is_base64(value):
            found, item = "bytes", value
        elif isinstance(value, float):
            found, item = "float", value
        elif isinstance(value, int):
            found, item = "int64", value
        else:
            raise invalid(f"Feature: {name} has element with unexpected JSON type: {type_string(value)}")
        if kind and found != kind:
            raise invalid(f"Unexpected element type in feature: {name} expecting type: {kind}")
        if isinstance(item, dict):
            item = decode_base64(item)
        if found == "int64" and item >= 2**63:
            raise invalid(f"Feature: {name} has uint64_t element. Only int64_t is supported.")
        kind = found
        result.append(item)
    return Feature(kind, result)


# ---------------------------------------------------------------------------------------------------------------------
# Responses

_ORJSON_TYPES = frozenset(
    np.dtype(name).char
    for name in ("float32", "float64", "int8", "int16", "int32", "int64", "uint8", "uint32", "uint64", "bool")
)
_PRINTABLE = frozenset(
    {DT_FLOAT, DT_DOUBLE, DT_INT32, DT_INT16, DT_INT8, DT_UINT8, DT_STRING, DT_INT64, DT_BOOL, DT_UINT32, DT_UINT64}
)


def _plain(name: str, array: Array) -> Json:
    """An array as lists of plain values. Floats keep the digits that their own precision has."""
    if array.dtype == object:
        as_bytes = name.endswith("_bytes")

        def leaf(item: bytes) -> Json:
            if as_bytes:
                return {"b64": base64.b64encode(item).decode()}
            return item.decode("utf-8", "surrogateescape")

        flat = np.empty(array.size, dtype=object)
        flat[:] = [leaf(item) for item in array.ravel()]
        return flat.reshape(array.shape).tolist()
    if array.dtype == np.float32:
        # The shortest digits that give the same float32, not those of its double.
        flat = np.array([float(str(item)) for item in array.ravel()], dtype=np.float64)
        return flat.reshape(array.shape).tolist()
    return array.tolist()


def _fast(array: Array) -> bool:
    if array.dtype.char not in _ORJSON_TYPES or not array.size or not array.ndim:
        return False
    return array.dtype.kind != "f" or bool(np.isfinite(array).all())


def _array_json(name: str, array: Array) -> bytes:
    if _fast(array):
        text: bytes = orjson.dumps(np.ascontiguousarray(array), option=orjson.OPT_SERIALIZE_NUMPY)
        return text.replace(b",", b", ")
    return _dumps(_plain(name, array))


def _dumps(value: Json) -> bytes:
    # NaN and Infinity are written as such, and bytes that are not UTF-8 as they are: so does TF Serving.
    return json.dumps(value, ensure_ascii=False).encode("utf-8", "surrogateescape")


def _check_printable(outputs: Mapping[str, Array]) -> None:
    if not outputs:
        raise invalid("Cannot convert empty tensor map to JSON")
    for array in outputs.values():
        if array.dtype != object and array.dtype.char not in _ORJSON_TYPES:
            names = {np.dtype(kind).char: TYPE_NAMES[number] for number, kind in NUMPY_TYPES.items()}
            kind = names.get(array.dtype.char, str(array.dtype))
            raise invalid(f"Failed to write JSON value for tensor type: {kind}")


def predict_response(outputs: Mapping[str, Array], form: Format) -> bytes:
    """The body of a Predict response. A single output stands alone, several are objects of their names.

    The white space is that of TF Serving in row format, so that a balancer's plain string check works on both.
    """
    if form is Format.COLUMNAR:
        _check_printable(outputs)
        parts = [(name, _array_json(name, array)) for name, array in outputs.items()]
        if len(parts) == 1:
            return b'{\n    "outputs": ' + parts[0][1] + b"\n}"
        body = b",\n".join(b"        " + _dumps(name) + b": " + text for name, text in parts)
        return b'{\n    "outputs": {\n' + body + b"\n    }\n}"

    batch = -1
    for name, array in outputs.items():
        if not array.ndim:
            raise invalid(f"Tensor name: {name} has no shape information ")
        if batch >= 0 and batch != array.shape[0]:
            raise invalid(f"Tensor name: {name} has inconsistent batch size: {array.shape[0]} expecting: {batch}")
        batch = array.shape[0]
    _check_printable(outputs)
    if len(outputs) == 1:
        name, array = next(iter(outputs.items()))
        text = _array_json(name, array)
        return b'{\n    "predictions": ' + text[:-1] + (b"\n    ]\n}" if batch else b"]\n}")
    rows = []
    for index in range(batch):
        items = (
            b"            " + _dumps(name) + b": " + _array_json(name, array[index, ...])
            for name, array in outputs.items()
        )
        rows.append(b"        {\n" + b",\n".join(items) + b"\n        }")
    inner = b"\n" + b",\n".join(rows) + b"\n    " if rows else b""
    return b'{\n    "predictions": [' + inner + b"]\n}"


def classify_response(rows: Sequence[Sequence[tuple[str, float]]]) -> bytes:
    """The body of a Classify response: for each example a list of [label, score] pairs. Scores are float32."""
    if not rows:
        raise invalid("Cannot convert empty ClassificationResults to JSON")
    return _dumps({"results": [[[label, _short(score)] for label, score in row] for row in rows]})


def regress_response(values: Sequence[float]) -> bytes:
    """The body of a Regress response: one float32 for each example."""
    if not values:
        raise invalid("Cannot convert empty RegressionResults to JSON")
    return _dumps({"results": [_short(value) for value in values]})


def _short(value: float) -> float:
    return float(str(np.float32(value)))


def error_response(message: str) -> bytes:
    """The body of every failed request."""
    return json.dumps({"error": message}, indent=4, ensure_ascii=False).encode("utf-8", "surrogateescape")
