# SPDX-FileCopyrightText: The modelfleet maintainers
# SPDX-License-Identifier: GPL-3.0-or-later
"""TensorProto messages to NumPy arrays and back. Source: tensorflow/core/framework/tensor.proto."""

from __future__ import annotations

from typing import Any

import numpy as np

from .errors import invalid
from .json_tensors import (
    DT_BFLOAT16,
    DT_BOOL,
    DT_COMPLEX64,
    DT_COMPLEX128,
    DT_DOUBLE,
    DT_FLOAT,
    DT_HALF,
    DT_INT8,
    DT_INT16,
    DT_INT32,
    DT_INT64,
    DT_STRING,
    DT_UINT8,
    DT_UINT16,
    DT_UINT32,
    DT_UINT64,
    NUMPY_TYPES,
    Array,
)
from .tensorflow_c import BFLOAT16

_FIELDS: dict[int, str] = {
    DT_FLOAT: "float_val",
    DT_DOUBLE: "double_val",
    DT_INT32: "int_val",
    DT_UINT8: "int_val",
    DT_INT16: "int_val",
    DT_INT8: "int_val",
    DT_UINT16: "int_val",
    DT_STRING: "string_val",
    DT_COMPLEX64: "scomplex_val",
    DT_INT64: "int64_val",
    DT_BOOL: "bool_val",
    DT_COMPLEX128: "dcomplex_val",
    DT_HALF: "half_val",
    DT_BFLOAT16: "half_val",
    DT_UINT32: "uint32_val",
    DT_UINT64: "uint64_val",
}
_NUMBERS = {np.dtype(kind): number for number, kind in NUMPY_TYPES.items()} | {BFLOAT16: DT_BFLOAT16}
_PACKED_TAGS = {DT_FLOAT: (5 << 3) | 2, DT_DOUBLE: (6 << 3) | 2}
"""Fields whose packed encoding is the array's own bytes, so that they need no loop: number and wire type 2."""


def from_proto(proto: Any, alias: str) -> tuple[Array, int]:
    """A TensorProto's values and its `DataType` number. Too few values repeat the last one, as TensorFlow does."""
    dtype = int(proto.dtype)
    if dtype not in _FIELDS or proto.tensor_shape.unknown_rank:
        raise invalid(f"tensor parsing error: {alias}")
    shape = tuple(dim.size for dim in proto.tensor_shape.dim)
    if any(size < 0 for size in shape):
        raise invalid(f"tensor parsing error: {alias}")
    count = int(np.prod(shape, dtype=np.int64))
    kind = BFLOAT16 if dtype == DT_BFLOAT16 else NUMPY_TYPES.get(dtype)
    if dtype != DT_STRING and proto.tensor_content:
        if len(proto.tensor_content) != count * np.dtype(kind).itemsize:
            raise invalid(f"tensor parsing error: {alias}")
        return np.frombuffer(proto.tensor_content, dtype=kind).reshape(shape), dtype
    values = getattr(proto, _FIELDS[dtype])
    if dtype == DT_STRING:
        flat = np.empty(len(values), dtype=object)
        flat[:] = list(values)
    elif dtype in (DT_HALF, DT_BFLOAT16):
        flat = np.array(values, dtype=np.uint16).view(kind)
    elif dtype in (DT_COMPLEX64, DT_COMPLEX128):
        flat = np.array(values, dtype=np.float32 if dtype == DT_COMPLEX64 else np.float64).view(kind)
    elif dtype in (DT_INT8, DT_UINT8, DT_INT16, DT_UINT16):
        flat = np.array(values, dtype=np.int32).astype(kind)
    else:
        flat = np.array(values, dtype=kind)
    if len(flat) < count:
        fill = flat[-1] if len(flat) else (b"" if dtype == DT_STRING else np.zeros((), dtype=kind)[()])
        padded = np.empty(count, dtype=flat.dtype)
        padded[: len(flat)] = flat
        padded[len(flat) :] = fill
        flat = padded
    elif len(flat) > count:
        flat = flat[:count]
    return flat.reshape(shape), dtype


def fill_proto(proto: Any, array: Array, *, as_content: bool = False) -> None:
    """Write an array into an empty TensorProto, in typed fields or (`as_content`) as raw bytes."""
    dtype = DT_STRING if array.dtype == object else _NUMBERS[array.dtype]
    proto.dtype = dtype
    # The field must be present even for a scalar, whose shape has no dimensions.
    proto.tensor_shape.SetInParent()
    for size in array.shape:
        proto.tensor_shape.dim.add().size = size
    if dtype == DT_STRING:
        proto.string_val.extend(array.ravel().tolist())
    elif as_content:
        proto.tensor_content = np.ascontiguousarray(array).tobytes()
    elif dtype in _PACKED_TAGS:
        payload = np.ascontiguousarray(array).tobytes()
        if payload:
            proto.MergeFromString(bytes([_PACKED_TAGS[dtype]]) + _varint(len(payload)) + payload)
    elif dtype in (DT_HALF, DT_BFLOAT16):
        proto.half_val.extend(np.ascontiguousarray(array).view(np.uint16).ravel().tolist())
    elif dtype in (DT_COMPLEX64, DT_COMPLEX128):
        parts = np.ascontiguousarray(array).view(np.float32 if dtype == DT_COMPLEX64 else np.float64)
        getattr(proto, _FIELDS[dtype]).extend(parts.ravel().tolist())
    else:
        getattr(proto, _FIELDS[dtype]).extend(array.ravel().tolist())


def _varint(value: int) -> bytes:
    out = bytearray()
    while value > 0x7F:
        out.append((value & 0x7F) | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)
