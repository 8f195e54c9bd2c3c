# SPDX-FileCopyrightText: The modelfleet maintainers
# SPDX-License-Identifier: GPL-3.0-or-later
"""One loaded version of a model: Predict, Classify, Regress and MultiInference on its signatures, and its warm-up.

Source: TF Serving's servables/tensorflow (predict_util, classifier, regressor, multi_inference, saved_model_warmup).
"""

from __future__ import annotations

import struct
import threading
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from tensorflow.core.protobuf import meta_graph_pb2
from tensorflow_serving.apis import (
    classification_pb2,
    inference_pb2,
    predict_pb2,
    prediction_log_pb2,
    regression_pb2,
)

from . import json_tensors, metrics, tensor_protos
from .batching import Batching, Runner
from .errors import Code, ServingError, invalid
from .json_tensors import DT_STRING, Array
from .log import info
from .tensorflow_c import Session

DEFAULT_SIGNATURE = "serving_default"
CLASSIFY = "tensorflow/serving/classify"
REGRESS = "tensorflow/serving/regress"
PREDICT = "tensorflow/serving/predict"
_MAX_WARMUP_RECORDS = 1000


class Options:
    """What the command line says about loading and running models."""

    def __init__(
        self,
        *,
        tags: Sequence[str] = ("serve",),
        config: bytes = b"",
        warmup: bool = True,
        warmup_iterations: int = 1,
        check_method_names: bool = False,
        as_content: bool = False,
        batching: Batching | None = None,
    ) -> None:
        self.tags, self.config = tags, config
        self.warmup, self.warmup_iterations = warmup, max(warmup_iterations, 1)
        self.check_method_names, self.as_content = check_method_names, as_content
        self.batching = batching


class Servable:
    """A loaded SavedModel. Its users are counted, so that it is freed only after the last one left."""

    def __init__(self, name: str, version: int, path: str, options: Options) -> None:
        """Load and warm up; raises ServingError with TensorFlow's own words."""
        self.name, self.version, self.path = name, version, path
        self._options = options
        self._users = 0
        self._idle = threading.Condition()
        self._closed = False
        started = time.perf_counter()
        try:
            session = Session(path, options.tags, options.config)
        except ServingError:
            metrics.LOAD_ATTEMPTS.add(path, "fail")
            raise
        graph = meta_graph_pb2.MetaGraphDef.FromString(session.meta_graph)
        # Only the signatures are needed from here on, and the rest can be large.
        session.meta_graph = b""
        self.signatures: dict[str, Any] = {}
        for key, signature in graph.signature_def.items():
            copy = meta_graph_pb2.SignatureDef()
            copy.CopyFrom(signature)
            self.signatures[key] = copy
        del graph
        metrics.LOAD_ATTEMPTS.add(path, "success")
        metrics.LOAD_LATENCY.add(path, amount=int((time.perf_counter() - started) * 1e6))
        self._session: Runner = session
        try:
            if options.batching:
                self._session = options.batching.wrap(session, path)
            if options.warmup:
                self._warm_up()
        except ServingError:
            self._session.close()
            raise

    # -- life time

    def acquire(self) -> bool:
        """Take a use of it; false if it is gone."""
        with self._idle:
            if self._closed:
                return False
            self._users += 1
            return True

    def release(self) -> None:
        """Give a use back."""
        with self._idle:
            self._users -= 1
            if not self._users:
                self._idle.notify_all()

    def close(self) -> None:
        """Wait until nobody uses it, then free it."""
        with self._idle:
            self._closed = True
            while self._users:
                self._idle.wait()
        self._session.close()

    # -- requests

    def inputs(self, signature_name: str) -> dict[str, json_tensors.Input]:
        """The inputs of a signature for the REST interface."""
        name = signature_name or DEFAULT_SIGNATURE
        signature = self.signatures.get(name)
        if signature is None:
            raise invalid(f'Serving signature name: "{name}" not found in signature def')
        return {key: json_tensors.Input(int(tensor.dtype)) for key, tensor in sorted(signature.inputs.items())}

    def predict_arrays(
        self,
        signature_name: str,
        inputs: Mapping[str, tuple[Array, int]],
        output_filter: Sequence[str] = (),
        run_options: bytes = b"",
    ) -> dict[str, Array]:
        """Predict from arrays (each with its `DataType` number) to arrays, both by the signature's names."""
        name = signature_name or DEFAULT_SIGNATURE
        signature = self.signatures.get(name)
        if signature is None:
            raise ServingError(Code.FAILED_PRECONDITION, f'Serving signature key "{name}" not found.')
        methods = (PREDICT, CLASSIFY, REGRESS)
        if self._options.check_method_names and signature.method_name not in methods:
            raise ServingError(
                Code.INTERNAL,
                f"Expected prediction signature method_name to be one of {{{', '.join(methods)}}}."
                f" Was: {signature.method_name}",
            )
        sent, wanted = sorted(inputs), sorted(signature.inputs)
        if len(sent) > len(wanted) or (len(sent) < len(wanted) and not signature.defaults):
            raise invalid(
                f"input size does not match signature: {len(sent)}!={len(wanted)} len({{{','.join(sent)}}}) !="
                f" len({{{','.join(wanted)}}}). Sent extra: {{{','.join(sorted(set(sent) - set(wanted)))}}}."
                f" Missing but required: {{{','.join(sorted(set(wanted) - set(sent)))}}}."
            )
        feeds: dict[str, tuple[Array, int]] = {}
        for alias in sent:
            if alias not in signature.inputs:
                raise invalid(
                    f"input tensor alias not found in signature: {alias}."
                    f" Inputs expected to be in the set {{{','.join(wanted)}}}."
                )
        for alias, tensor in signature.inputs.items():
            if alias in inputs:
                feeds[tensor.name] = inputs[alias]
            elif alias in signature.defaults:
                feeds[tensor.name] = tensor_protos.from_proto(signature.defaults[alias], alias)
            else:
                raise invalid(f"input tensor alias not found in request: {alias}")
        aliases = self._output_aliases(signature, output_filter)
        started = time.perf_counter()
        outputs = self._session.run(feeds, [signature.outputs[alias].name for alias in aliases], run_options)
        self._record_runtime("Predict", started)
        return dict(zip(aliases, outputs, strict=True))

    @staticmethod
    def _output_aliases(signature: Any, output_filter: Sequence[str]) -> list[str]:
        known = sorted(signature.outputs)
        for index, alias in enumerate(output_filter):
            if alias not in signature.outputs:
                raise invalid(
                    f"output tensor alias not found in signature: {alias}"
                    f" Outputs expected to be in the set {{{','.join(known)}}}."
                )
            if alias in output_filter[:index]:
                raise invalid("duplicate output tensor alias: " + alias)
        return list(output_filter) or known

    def _record_runtime(self, api: str, started: float) -> None:
        metrics.RUNTIME_LATENCY.add(self.name, api, "TF1", amount=(time.perf_counter() - started) * 1e6)

    def _model_spec(self, spec: Any, signature_name: str) -> None:
        spec.name = self.name
        spec.signature_name = signature_name or DEFAULT_SIGNATURE
        spec.version.value = self.version

    def predict(self, request: Any, run_options: bytes = b"") -> Any:
        """PredictRequest -> PredictResponse."""
        inputs = {alias: tensor_protos.from_proto(proto, alias) for alias, proto in request.inputs.items()}
        name = request.model_spec.signature_name
        outputs = self.predict_arrays(name, inputs, list(request.output_filter), run_options)
        response = predict_pb2.PredictResponse()
        self._model_spec(response.model_spec, name)
        for alias, array in outputs.items():
            tensor_protos.fill_proto(response.outputs[alias], array, as_content=self._options.as_content)
        return response

    def classify(self, request: Any, run_options: bytes = b"") -> Any:
        """ClassificationRequest -> ClassificationResponse."""
        signature = self._example_signature(request.model_spec.signature_name, CLASSIFY, "classification")
        feed, fetches = _classification_tensors(signature)
        outputs, count = self._run_examples("Classify", request.input, [feed], fetches, run_options)
        response = classification_pb2.ClassificationResponse()
        self._model_spec(response.model_spec, request.model_spec.signature_name)
        _fill_classification(signature, count, outputs, response.result)
        return response

    def regress(self, request: Any, run_options: bytes = b"") -> Any:
        """RegressionRequest -> RegressionResponse."""
        signature = self._example_signature(request.model_spec.signature_name, REGRESS, "regression")
        feed, fetches = _regression_tensors(signature)
        outputs, count = self._run_examples("Regress", request.input, [feed], fetches, run_options)
        response = regression_pb2.RegressionResponse()
        self._model_spec(response.model_spec, request.model_spec.signature_name)
        _fill_regression(signature, count, outputs, response.result)
        return response

    def multi_inference(self, request: Any, run_options: bytes = b"") -> Any:
        """MultiInferenceRequest -> MultiInferenceResponse: several signatures of one model in a single run."""
        feeds: set[str] = set()
        fetches: set[str] = set()
        names: list[str] = []
        for task in request.tasks:
            if not task.model_spec.name:
                raise invalid("Found ModelSpec with an empty model name.")
            if task.model_spec.name != self.name:
                raise invalid("All ModelSpecs in a MultiInferenceRequest must access the same model name.")
            name = task.model_spec.signature_name or DEFAULT_SIGNATURE
            if name in names:
                raise invalid(f"Duplicate evaluation of signature: {name}")
            names.append(name)
            if name not in self.signatures:
                raise invalid(f"Requested signature not found in model graph: {name}")
            feed, wanted = self._task_tensors(task.method_name, self.signatures[name])
            feeds.add(feed)
            fetches.update(wanted)
        outputs, count = self._run_examples("", request.input, sorted(feeds), sorted(fetches), run_options)
        metrics.EXAMPLE_COUNT.add(self.name, amount=count)
        response = inference_pb2.MultiInferenceResponse()
        for task, name in zip(request.tasks, names, strict=True):
            result = response.results.add()
            self._model_spec(result.model_spec, name)
            if task.method_name == CLASSIFY:
                _fill_classification(self.signatures[name], count, outputs, result.classification_result)
            else:
                _fill_regression(self.signatures[name], count, outputs, result.regression_result)
        return response

    @staticmethod
    def _task_tensors(method: str, signature: Any) -> tuple[str, list[str]]:
        if method == CLASSIFY:
            return _classification_tensors(signature)
        if method == REGRESS:
            return _regression_tensors(signature)
        raise ServingError(Code.UNIMPLEMENTED, f"Unsupported signature method_name: {method}")

    def _example_signature(self, signature_name: str, method: str, kind: str) -> Any:
        name = signature_name or DEFAULT_SIGNATURE
        signature = self.signatures.get(name)
        if signature is None:
            raise invalid(f"No signature was found with the name: {name}")
        if self._options.check_method_names and signature.method_name != method:
            raise invalid(f"Expected {kind} signature method_name to be {method}. Was: {signature.method_name}")
        return signature

    def _run_examples(
        self, api: str, source: Any, feeds: Sequence[str], fetches: Sequence[str], run_options: bytes
    ) -> tuple[dict[str, Array], int]:
        serialized = _serialized_examples(source)
        array = np.empty(len(serialized), dtype=object)
        array[:] = serialized
        started = time.perf_counter()
        outputs = self._session.run(dict.fromkeys(feeds, (array, DT_STRING)), list(fetches), run_options)
        if api:
            self._record_runtime(api, started)
        return dict(zip(fetches, outputs, strict=True)), len(serialized)

    # -- warm-up

    def _warm_up(self) -> None:
        path = Path(self.path) / "assets.extra" / "tf_serving_warmup_requests"
        if not path.exists():
            info(f"No warmup data file found at {path}")
            return
        info(f"Starting to read warmup data for model at {path}")
        started = time.perf_counter()
        count = 0
        for record in read_records(path):
            try:
                log = prediction_log_pb2.PredictionLog.FromString(record)
            except Exception:
                raise invalid(f"Failed to parse warmup record from {path}") from None
            for _ in range(self._options.warmup_iterations):
                self._replay(log)
            count += 1
            if count > _MAX_WARMUP_RECORDS:
                raise invalid(f"Number of warmup records exceeds the maximum ({_MAX_WARMUP_RECORDS}) at {path}")
        micros = int((time.perf_counter() - started) * 1e6)
        metrics.WARMUP_LATENCY.add(self.path, "OK", amount=micros)
        metrics.WARMUP_RECORDS.add(self.path, "OK", amount=count)
        info(
            f"Finished reading warmup data for model at {path}. Number of warmup records read: {count}."
            f" Elapsed time (microseconds): {micros}."
        )

    def _replay(self, log: Any) -> None:
        kind = log.WhichOneof("log_type")
        if kind == "predict_log":
            self.predict(log.predict_log.request)
        elif kind == "classify_log":
            self.classify(log.classify_log.request)
        elif kind == "regress_log":
            self.regress(log.regress_log.request)
        elif kind == "multi_inference_log":
            self.multi_inference(log.multi_inference_log.request)
        elif kind is not None:
            number = log.DESCRIPTOR.fields_by_name[kind].number
            raise ServingError(Code.UNIMPLEMENTED, f"Unsupported log_type for warmup: {number}")


def read_records(path: Path) -> list[bytes]:
    """The records of a TFRecord file, whose checksums are verified by length only (a torn file is DATA_LOSS)."""
    data = path.read_bytes()
    records = []
    offset = 0
    while offset < len(data):
        # Length (8 bytes), its checksum (4), the record, its checksum (4).
        if offset + 12 > len(data):
            raise ServingError(Code.DATA_LOSS, f"truncated record at {offset}. {_NOT_RECORDS}")
        (length,) = struct.unpack_from("<Q", data, offset)
        end = offset + 12 + length + 4
        if end > len(data):
            raise ServingError(Code.DATA_LOSS, f"corrupted record at {offset}. {_NOT_RECORDS}")
        records.append(data[offset + 12 : offset + 12 + length])
        offset = end
    return records


_NOT_RECORDS = "Please verify your warmup data is in TFRecord format."


def _serialized_examples(source: Any) -> list[bytes]:
    kind = source.WhichOneof("kind")
    if kind == "example_list":
        serialized = [example.SerializeToString() for example in source.example_list.examples]
    elif kind == "example_list_with_context":
        # Serialized messages joined are a merged message: the context's features come first.
        context = source.example_list_with_context.context.SerializeToString()
        serialized = [context + item.SerializeToString() for item in source.example_list_with_context.examples]
    else:
        serialized = []
    if not serialized:
        raise invalid("Input is empty.")
    return serialized


def _classification_tensors(signature: Any) -> tuple[str, list[str]]:
    if len(signature.inputs) != 1:
        raise invalid("Expected one input Tensor.")
    if len(signature.outputs) not in (1, 2):
        raise invalid(f"Expected one or two output Tensors, found {len(signature.outputs)}")
    if "inputs" not in signature.inputs:
        raise invalid(f"No classification inputs found in SignatureDef: {signature}")
    fetches = [signature.outputs[key].name for key in ("classes", "scores") if key in signature.outputs]
    if not fetches:
        raise invalid(
            'Expected classification signature outputs to contain at least one of "classes" or "scores".'
            f" Signature was: {signature}"
        )
    return str(signature.inputs["inputs"].name), fetches


def _regression_tensors(signature: Any) -> tuple[str, list[str]]:
    if len(signature.inputs) != 1:
        raise invalid("Expected one input Tensor.")
    if len(signature.outputs) != 1:
        raise invalid("Expected one output Tensor.")
    if "inputs" not in signature.inputs:
        raise invalid(f"No regression inputs found in SignatureDef: {signature}")
    if "outputs" not in signature.outputs:
        raise invalid(f"No regression outputs found in SignatureDef: {signature}")
    return str(signature.inputs["inputs"].name), [str(signature.outputs["outputs"].name)]


def _shape_text(array: Array) -> str:
    return "[" + ",".join(map(str, array.shape)) + "]"


def _matrix(array: Array, what: str, count: int, strings: bool) -> None:
    if array.ndim != 2:
        raise invalid(f"Expected Tensor shape: [batch_size num_classes] but got {_shape_text(array)}")
    if (array.dtype == object) != strings or (not strings and array.dtype != np.float32):
        raise invalid(f"Expected {what} Tensor of {'DT_STRING' if strings else 'DT_FLOAT'}. Got: {array.dtype}")
    if array.shape[0] != count:
        raise invalid(f"Expected {what} output batch size of {count}. Got: {array.shape[0]}")


def _fill_classification(signature: Any, count: int, outputs: Mapping[str, Array], result: Any) -> None:
    classes = outputs[signature.outputs["classes"].name] if "classes" in signature.outputs else None
    scores = outputs[signature.outputs["scores"].name] if "scores" in signature.outputs else None
    if classes is not None:
        _matrix(classes, "classes", count, strings=True)
    if scores is not None:
        _matrix(scores, "scores", count, strings=False)
    if classes is not None and scores is not None and classes.shape[1] != scores.shape[1]:
        raise invalid(
            f"Tensors class and score should match in dim_size(1). Got {classes.shape[1]} vs. {scores.shape[1]}"
        )
    width = (classes if classes is not None else scores).shape[1]  # type: ignore[union-attr]
    for row in range(count):
        item = result.classifications.add()
        for column in range(width):
            found = item.classes.add()
            if classes is not None:
                found.label = classes[row, column].decode("utf-8", "replace")
            if scores is not None:
                found.score = float(scores[row, column])


def _fill_regression(signature: Any, count: int, outputs: Mapping[str, Array], result: Any) -> None:
    array = outputs[signature.outputs["outputs"].name]
    if not (array.ndim == 1 or (array.ndim == 2 and array.shape[1] == 1)):
        raise invalid(
            "Expected output Tensor shape to be either [batch_size] or [batch_size, 1] but got " + _shape_text(array)
        )
    if array.shape[0] != count:
        raise invalid(f"Input batch size did not match output batch size: {count} vs. {array.shape[0]}")
    if array.dtype != np.float32:
        raise invalid(f"Expected output Tensor of DT_FLOAT.  Got: {array.dtype}")
    for value in array.ravel().tolist():
        result.regressions.add().value = value
