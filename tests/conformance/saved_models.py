# SPDX-FileCopyrightText: The modelfleet maintainers
# SPDX-License-Identifier: GPL-3.0-or-later
"""Tiny SavedModels written as protocol messages, without TensorFlow: graphs of a few operations and no variables."""

from __future__ import annotations

import shutil
import struct
from pathlib import Path
from typing import Any

from tensorflow.core.framework import graph_pb2, types_pb2
from tensorflow.core.protobuf import meta_graph_pb2
from tensorflow_serving.apis import predict_pb2, prediction_log_pb2

FLOAT, DOUBLE, INT32, INT64 = types_pb2.DT_FLOAT, types_pb2.DT_DOUBLE, types_pb2.DT_INT32, types_pb2.DT_INT64
UINT8, STRING, BOOL, HALF = types_pb2.DT_UINT8, types_pb2.DT_STRING, types_pb2.DT_BOOL, types_pb2.DT_HALF
PREDICT = "tensorflow/serving/predict"
# SavedModel has no generated module in the server's packages: field 1 is its version, field 2 its meta graphs.
_VERSION_FIELD = bytes([1 << 3, 1])
_META_GRAPH_TAG = bytes([(2 << 3) | 2])


class Graph:
    """Builds a graph node by node; each method returns the name of a tensor."""

    def __init__(self) -> None:
        self.definition = graph_pb2.GraphDef()
        self.definition.versions.producer = 1882
        self._types: dict[str, int] = {}

    def add(self, op: str, name: str, inputs: tuple[str, ...], dtype: int, attribute: str = "T") -> str:
        """A node of any operation that has one type attribute."""
        node = self.definition.node.add(name=name, op=op, input=inputs)
        node.attr[attribute].type = dtype
        self._types[name] = dtype
        return name

    def placeholder(self, name: str, dtype: int) -> str:
        """An input of any shape."""
        self.add("Placeholder", name, (), dtype, "dtype")
        self.definition.node[-1].attr["shape"].shape.unknown_rank = True
        return name

    def constant(self, name: str, value: float, dtype: int = FLOAT, *shape: int) -> str:
        """A scalar, or a tensor of this shape with one value."""
        self.add("Const", name, (), dtype, "dtype")
        tensor = self.definition.node[-1].attr["value"].tensor
        tensor.dtype = dtype
        tensor.tensor_shape.SetInParent()
        for size in shape:
            tensor.tensor_shape.dim.add().size = size
        if dtype == INT32:
            tensor.int_val.append(int(value))
        else:
            tensor.float_val.append(value)
        return name

    def cast(self, name: str, source: str, dtype: int) -> str:
        """A conversion."""
        node = self.definition.node.add(name=name, op="Cast", input=[source])
        node.attr["SrcT"].type = self._types[source]
        node.attr["DstT"].type = dtype
        self._types[name] = dtype
        return name

    def reduced(self, name: str, op: str, source: str) -> str:
        """The `Max` or the `Sum` over all of a tensor, whatever its shape."""
        all_of_it = self.add("Reshape", f"{name}_flat", (source, self.constant(f"{name}_shape", -1, INT32, 1)), FLOAT)
        self.definition.node[-1].attr["Tshape"].type = INT32
        self.add(op, name, (all_of_it, self.constant(f"{name}_axis", 0, INT32)), FLOAT)
        self.definition.node[-1].attr["Tidx"].type = INT32
        return name

    def tensor(self, name: str) -> Any:
        """The TensorInfo of a node's first output."""
        info = meta_graph_pb2.TensorInfo(name=f"{name}:0", dtype=self._types[name])
        info.tensor_shape.unknown_rank = True
        return info


def write(
    place: Path, graph: Graph, signatures: dict[str, tuple[dict[str, str], dict[str, str]]], method: str = PREDICT
) -> None:
    """Publish a SavedModel at `place` at once: written under a hidden name, then renamed."""
    meta = meta_graph_pb2.MetaGraphDef(graph_def=graph.definition)
    meta.meta_info_def.tags.append("serve")
    for name, (inputs, outputs) in signatures.items():
        signature = meta.signature_def[name]
        signature.method_name = method
        for alias, node in inputs.items():
            signature.inputs[alias].CopyFrom(graph.tensor(node))
        for alias, node in outputs.items():
            signature.outputs[alias].CopyFrom(graph.tensor(node))
    payload = meta.SerializeToString()
    place.parent.mkdir(parents=True, exist_ok=True)
    temporary = place.parent / f".{place.name}.new"
    shutil.rmtree(temporary, ignore_errors=True)
    temporary.mkdir()
    (temporary / "saved_model.pb").write_bytes(_VERSION_FIELD + _META_GRAPH_TAG + _varint(len(payload)) + payload)
    temporary.rename(place)


def affine(place: Path, slope: float, offset: float) -> None:
    """y = slope * x + offset, so that an answer tells which version gave it."""
    graph = Graph()
    x = graph.placeholder("x", FLOAT)
    scaled = graph.add("Mul", "scaled", (x, graph.constant("slope", slope)), FLOAT)
    y = graph.add("AddV2", "y", (scaled, graph.constant("offset", offset)), FLOAT)
    write(place, graph, {"serving_default": ({"x": x}, {"y": y}), "half": ({"x": x}, {"half": scaled})})


def several(place: Path) -> None:
    """Two inputs, `a` float and `b` int32, and two outputs: `sum` float and `twice` int32."""
    graph = Graph()
    a, b = graph.placeholder("a", FLOAT), graph.placeholder("b", INT32)
    total = graph.add("AddV2", "sum", (a, graph.cast("b_float", b, FLOAT)), FLOAT)
    twice = graph.add("AddV2", "twice", (b, b), INT32)
    write(place, graph, {"serving_default": ({"a": a, "b": b}, {"sum": total, "twice": twice})})


def texts(place: Path) -> None:
    """A string input whose output comes back as text (`plain`), or as base64 because its name ends in `_bytes`."""
    graph = Graph()
    text = graph.placeholder("text", STRING)
    same = graph.add("Identity", "same", (text,), STRING)
    write(
        place,
        graph,
        {"serving_default": ({"text": text}, {"plain": same}), "binary": ({"text": text}, {"raw_bytes": same})},
    )


def identities(place: Path) -> None:
    """A signature for each type, named like it, that gives back its input `x` as `y`."""
    graph = Graph()
    signatures = {}
    for name, dtype in {
        "float": FLOAT, "double": DOUBLE, "int32": INT32, "int64": INT64, "uint8": UINT8, "bool": BOOL, "half": HALF,
    }.items():  # fmt: skip
        x = graph.placeholder(f"{name}_x", dtype)
        signatures[name] = ({"x": x}, {"y": graph.add("Identity", f"{name}_y", (x,), dtype)})
    signatures["serving_default"] = signatures["float"]
    write(place, graph, signatures)


def _products(graph: Graph, n: str) -> str:
    """A number that takes 60 products of matrices of n rows and columns: seconds for n = 2000."""
    pair = graph.definition.node.add(name="pair", op="Pack", input=[n, n])
    pair.attr["T"].type, pair.attr["N"].i = INT32, 2
    matrix = graph.definition.node.add(name="matrix", op="Fill", input=["pair", graph.constant("value", 1e-3)])
    matrix.attr["T"].type, matrix.attr["index_type"].type = FLOAT, INT32
    last = "matrix"
    for step in range(60):
        last = graph.add("MatMul", f"product_{step}", (last, "matrix"), FLOAT)
    return graph.reduced("largest_product", "Max", last)


def slow(place: Path) -> None:
    """y = a chain of 60 products of matrices of n rows and columns, where `n` is the input: seconds for n = 2000."""
    graph = Graph()
    n = graph.placeholder("n", INT32)
    write(place, graph, {"serving_default": ({"n": n}, {"y": _products(graph, n)})})


def counting(place: Path) -> None:
    """y = for each row of `x`, how many rows the run had. A large x takes long: 60 products of matrices of x rows."""
    graph = Graph()
    x = graph.placeholder("x", FLOAT)
    n = graph.cast("n", graph.reduced("largest", "Max", x), INT32)
    zero = graph.add("Mul", "zero", (_products(graph, n), graph.constant("nothing", 0.0)), FLOAT)
    ones = graph.add(
        "AddV2", "ones", (graph.add("Mul", "zeros", (x, "nothing"), FLOAT), graph.constant("one", 1.0)), FLOAT
    )
    count = graph.add("AddV2", "count", (graph.reduced("rows", "Sum", ones), zero), FLOAT)
    y = graph.add("AddV2", "y", ("zeros", count), FLOAT)
    write(place, graph, {"serving_default": ({"x": x}, {"y": y}), "count": ({"x": x}, {"count": count})})


def broken(place: Path) -> None:
    """A directory named like a version, without a model in it."""
    (place / "variables").mkdir(parents=True)


def predict_record(signature: str = "serving_default") -> bytes:
    """A warm-up record: a Predict request with the scalar 1.0 as `x`."""
    request = predict_pb2.PredictRequest()
    request.model_spec.name, request.model_spec.signature_name = "m", signature
    request.inputs["x"].dtype = FLOAT
    request.inputs["x"].tensor_shape.SetInParent()
    request.inputs["x"].float_val.append(1.0)
    log = prediction_log_pb2.PredictionLog(predict_log=prediction_log_pb2.PredictLog(request=request))
    return bytes(log.SerializeToString())


def warm_up(place: Path, records: list[bytes]) -> None:
    """Put warm-up records into a model that is not published yet, or was."""
    directory = place / "assets.extra"
    directory.mkdir()
    # TFRecord: the length, its masked checksum, the record, its masked checksum.
    data = b"".join(
        header + struct.pack("<I", _masked_crc(header)) + record + struct.pack("<I", _masked_crc(record))
        for record in records
        for header in [struct.pack("<Q", len(record))]
    )
    (directory / "tf_serving_warmup_requests").write_bytes(data)


def _masked_crc(data: bytes) -> int:
    crc = 0xFFFFFFFF
    for byte in data:
        crc ^= byte
        for _unused in range(8):
            crc = (crc >> 1) ^ (0x82F63B78 & -(crc & 1))
    crc ^= 0xFFFFFFFF
    return (((crc >> 15) | (crc << 17)) + 0xA282EAD8) & 0xFFFFFFFF


def _varint(value: int) -> bytes:
    out = bytearray()
    while value > 0x7F:
        out.append((value & 0x7F) | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)
