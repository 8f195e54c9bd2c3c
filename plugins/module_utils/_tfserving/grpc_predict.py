# SPDX-FileCopyrightText: The modelfleet maintainers
# SPDX-License-Identifier: GPL-3.0-or-later
"""Predict by gRPC with nothing but grpcio and protobuf.

The few messages that a Predict call needs are declared here by number and type, compatible on the wire with
tensorflow_serving/apis/{model,predict}.proto and tensorflow/core/framework/{tensor,tensor_shape}.proto. They live in a
pool of their own, so they do not clash with tensorflow-serving-api where that is installed.

As a script: ``python grpc_predict.py 127.0.0.1:8500 half_plus_two x '[1.0, 2.0, 5.0]'``.
"""

from __future__ import annotations

import json
import struct
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

try:
    import grpc
    from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

    IMPORT_ERROR: ImportError | None = None
except ImportError as missing:
    IMPORT_ERROR = missing

METHOD = "/tensorflow.serving.PredictionService/Predict"
_PACKAGE = "modelfleet.tfserving"
_FLOAT, _DOUBLE, _INT32, _STRING, _INT64, _BOOL = 1, 2, 3, 7, 9, 10
_FIELDS = {
    _FLOAT: "float_val",
    _DOUBLE: "double_val",
    _INT32: "int_val",
    4: "int_val",  # uint8
    5: "int_val",  # int16
    6: "int_val",  # int8
    _STRING: "string_val",
    _INT64: "int64_val",
    _BOOL: "bool_val",
}
_CONTENT = {_FLOAT: "f", _DOUBLE: "d", _INT32: "i", 4: "B", 5: "h", 6: "b", _INT64: "q", _BOOL: "?"}
DTYPES = {"float": _FLOAT, "double": _DOUBLE, "int32": _INT32, "string": _STRING, "int64": _INT64, "bool": _BOOL}
"""Names for the input types that can be sent; the numbers are those of tensorflow.DataType."""


class GrpcPredictError(Exception):
    """A call that failed: gRPC's status name (such as ``NOT_FOUND``) and the server's own words."""

    def __init__(self, status: str, details: str) -> None:
        super().__init__(f"{status}: {details}")
        self.status, self.details = status, details


@dataclass(frozen=True)
class Prediction:
    """An answer: the outputs by name as nested lists, and the version that gave them."""

    outputs: dict[str, Any]
    version: int


@cache
def _messages() -> tuple[Any, Any]:
    """The classes of PredictRequest and PredictResponse."""
    kind = descriptor_pb2.FieldDescriptorProto
    file = descriptor_pb2.FileDescriptorProto(name="modelfleet/tfserving.proto", package=_PACKAGE, syntax="proto3")

    def message(name: str, parent: Any = None) -> Any:
        return (file.message_type if parent is None else parent.nested_type).add(name=name)

    def add(target: Any, name: str, number: int, of: int | str, repeated: bool = False) -> None:
        label = kind.LABEL_REPEATED if repeated else kind.LABEL_OPTIONAL
        if isinstance(of, int):
            target.field.add(name=name, number=number, label=label, type=of)
        else:
            type_name = f".{_PACKAGE}.{of}"
            target.field.add(name=name, number=number, label=label, type=kind.TYPE_MESSAGE, type_name=type_name)

    def add_tensors(target: Any, name: str, number: int) -> None:
        # A map is a repeated entry of key and value.
        entry = message(f"{name.capitalize()}Entry", target)
        entry.options.map_entry = True
        add(entry, "key", 1, kind.TYPE_STRING)
        add(entry, "value", 2, "TensorProto")
        add(target, name, number, f"{target.name}.{entry.name}", repeated=True)

    shape = message("TensorShapeProto")
    add(message("Dim", shape), "size", 1, kind.TYPE_INT64)
    add(shape, "dim", 2, "TensorShapeProto.Dim", repeated=True)
    tensor = message("TensorProto")
    add(tensor, "dtype", 1, kind.TYPE_INT32)  # an enum, which is an int32 on the wire
    add(tensor, "tensor_shape", 2, "TensorShapeProto")
    add(tensor, "tensor_content", 4, kind.TYPE_BYTES)
    add(tensor, "float_val", 5, kind.TYPE_FLOAT, repeated=True)
    add(tensor, "double_val", 6, kind.TYPE_DOUBLE, repeated=True)
    add(tensor, "int_val", 7, kind.TYPE_INT32, repeated=True)
    add(tensor, "string_val", 8, kind.TYPE_BYTES, repeated=True)
    add(tensor, "int64_val", 10, kind.TYPE_INT64, repeated=True)
    add(tensor, "bool_val", 11, kind.TYPE_BOOL, repeated=True)
    # google.protobuf.Int64Value; the real spec has version and label in a oneof, which the wire does not show.
    add(message("Int64Value"), "value", 1, kind.TYPE_INT64)
    spec = message("ModelSpec")
    add(spec, "name", 1, kind.TYPE_STRING)
    add(spec, "version", 2, "Int64Value")
    add(spec, "signature_name", 3, kind.TYPE_STRING)
    add(spec, "version_label", 4, kind.TYPE_STRING)
    request = message("PredictRequest")
    add(request, "model_spec", 1, "ModelSpec")
    add_tensors(request, "inputs", 2)
    add(request, "output_filter", 3, kind.TYPE_STRING, repeated=True)
    response = message("PredictResponse")
    add_tensors(response, "outputs", 1)
    add(response, "model_spec", 2, "ModelSpec")
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    names = ("PredictRequest", "PredictResponse")
    found = (message_factory.GetMessageClass(pool.FindMessageTypeByName(f"{_PACKAGE}.{name}")) for name in names)
    return next(found), next(found)


def _fill(tensor: Any, values: Any, dtype: int) -> None:
    """Write nested lists of one shape into a TensorProto; raises ValueError if they are ragged."""
    shape: list[int] = []
    flat = [values]
    while flat and isinstance(flat[0], Sequence) and not isinstance(flat[0], str | bytes):
        sizes = {len(item) if isinstance(item, Sequence) and not isinstance(item, str | bytes) else -1 for item in flat}
        if len(sizes) != 1:
            raise ValueError("the lists of an input must all have the same length")
        shape.append(sizes.pop())
        flat = [item for row in flat for item in row]
    tensor.dtype = dtype
    tensor.tensor_shape.SetInParent()
    for size in shape:
        tensor.tensor_shape.dim.add().size = size
    if dtype == _STRING:
        flat = [item.encode() if isinstance(item, str) else item for item in flat]
    getattr(tensor, _FIELDS[dtype]).extend(flat)


def _read(tensor: Any) -> Any:
    """A TensorProto as nested lists (a plain value for a scalar); strings are bytes."""
    if tensor.dtype not in _FIELDS:
        raise GrpcPredictError("UNIMPLEMENTED", f"an output has the data type {tensor.dtype}, which is not read here")
    shape = [dim.size for dim in tensor.tensor_shape.dim]
    if tensor.tensor_content:
        code = _CONTENT[tensor.dtype]
        values = list(
            struct.unpack(f"<{len(tensor.tensor_content) // struct.calcsize('<' + code)}{code}", tensor.tensor_content)
        )
    else:
        values = list(getattr(tensor, _FIELDS[tensor.dtype]))
    for size in reversed(shape[1:]):
        values = [values[start : start + size] for start in range(0, len(values), size)] if size else [[]] * shape[0]
    return values if shape else values[0]


def predict(
    address: str,
    model: str,
    inputs: Mapping[str, Any],
    *,
    dtype: str = "float",
    version: int | None = None,
    label: str | None = None,
    signature: str = "",
    timeout: float = 10.0,
    authority: str | None = None,
    root_certificates: bytes | None = None,
) -> Prediction:
    """Ask a server at ``host:port`` for one prediction.

    :param inputs: nested lists by the signature's names, all of the type ``dtype`` (a key of DTYPES).
    :param timeout: seconds for the whole call, the connection included.
    :param authority: the host name to ask for, where an ingress routes by it.
    :param root_certificates: PEM; with it the connection is TLS.
    :raises GrpcPredictError: with the server's status, or UNAVAILABLE or DEADLINE_EXCEEDED.
    """
    if IMPORT_ERROR is not None:
        raise IMPORT_ERROR
    request_class, response_class = _messages()
    request = request_class()
    request.model_spec.name = model
    request.model_spec.signature_name = signature
    if version is not None:
        request.model_spec.version.value = version
    elif label is not None:
        request.model_spec.version_label = label
    for name, values in inputs.items():
        _fill(request.inputs[name], values, DTYPES[dtype])
    options: list[tuple[str, Any]] = [
        ("grpc.max_receive_message_length", -1),
        ("grpc.max_send_message_length", -1),
        # One call, one connection: nothing is shared with, or left for, another.
        ("grpc.use_local_subchannel_pool", 1),
    ]
    if authority:
        options.append(("grpc.default_authority", authority))
    if root_certificates:
        channel = grpc.secure_channel(address, grpc.ssl_channel_credentials(root_certificates), options)
    else:
        channel = grpc.insecure_channel(address, options)
    with channel:
        call = channel.unary_unary(
            METHOD, request_serializer=request_class.SerializeToString, response_deserializer=response_class.FromString
        )
        try:
            response = call(request, timeout=timeout)
        except grpc.RpcError as error:
            raise GrpcPredictError(error.code().name, error.details() or "") from None
    outputs = {name: _read(tensor) for name, tensor in response.outputs.items()}
    return Prediction(outputs, response.model_spec.version.value)


def main() -> None:
    """``ADDRESS MODEL INPUT JSON-VALUES``; prints the outputs and the version as JSON."""
    address, model, name, values = sys.argv[1:5]
    answer = predict(address, model, {name: json.loads(values)})
    sys.stdout.write(json.dumps({"outputs": answer.outputs, "version": answer.version}) + "\n")


if __name__ == "__main__":
    main()
