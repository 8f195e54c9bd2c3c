# SPDX-FileCopyrightText: The modelfleet maintainers
# SPDX-License-Identifier: GPL-3.0-or-later
"""The REST interface. Source: TF Serving's model_servers/http_server.cc, http_rest_api_handler.cc and _util.cc."""

from __future__ import annotations

import asyncio
import dataclasses
import json
import re
import time
import urllib.parse
from collections.abc import Callable
from concurrent.futures import Executor
from typing import Any, ClassVar

from aiohttp import web
from google.protobuf import json_format
from tensorflow.core.protobuf import config_pb2
from tensorflow_serving.apis import (
    classification_pb2,
    get_model_metadata_pb2,
    get_model_status_pb2,
    model_pb2,
    regression_pb2,
)

from . import json_tensors, metrics
from .core import Core
from .errors import HTTP_STATUS, Code, ServingError, invalid
from .log import verbose

_PREDICTION = re.compile(
    r"/v1/models/([^/:]+)(?:(?:/versions/(\d+))|(?:/labels/([^/:]+)))?:(classify|regress|predict)",
    re.IGNORECASE | re.ASCII,
)
_STATUS = re.compile(
    r"/v1/models(?:/([^/:]+))?(?:(?:/versions/(\d+))|(?:/labels/([^/:]+)))?(?:/(metadata))?",
    re.IGNORECASE | re.ASCII,
)
_API = re.compile(r"/v1/.*", re.IGNORECASE)
_METRICS_PATH = "/monitoring/prometheus/metrics"
_CORS = {
    "Access-Control-Allow-Origin": "*",
    "Access-Control-Allow-Methods": "POST, GET",
    "Access-Control-Allow-Headers": "Content-Type",
}
# The interface is HTTP/1.1 with bodies as large as gRPC's: the size of a signed 32-bit number.
_MAX_BODY = 2**31 - 1


@dataclasses.dataclass
class Options:
    """What the command line says about the REST interface."""

    timeout_ms: int = 30000
    cors: bool = False
    metrics_path: str | None = None


def parse_path(method: str, path: str) -> tuple[Any, str, str]:
    """The ModelSpec, the method (`predict`, ...) and the subresource (`metadata`) of a path.

    Raises INVALID_ARGUMENT for anything else.
    """
    spec = model_pb2.ModelSpec()
    pattern = {"POST": _PREDICTION, "GET": _STATUS}.get(method)
    match = pattern.fullmatch(path) if pattern else None
    if match is None:
        raise invalid(f"Malformed request: {method} {path}")
    name, version, label, last = match.groups()
    spec.name = urllib.parse.unquote(name or "")
    if version:
        if int(version) >= 2**63:
            raise invalid(f"Failed to convert version: {version} to numeric.")
        spec.version.value = int(version)
    if label:
        spec.version_label = urllib.parse.unquote(label)
    action = (last or "").lower()
    return (spec, action, "") if method == "POST" else (spec, "", action)


class Rest:
    """The request handler; inference runs in `executor`, so that the event loop stays free."""

    def __init__(self, core: Core, executor: Executor, options: Options) -> None:
        self._core, self._executor, self._options = core, executor, options
        timeout = config_pb2.RunOptions(timeout_in_ms=max(options.timeout_ms, 0))
        self._run_options = timeout.SerializeToString()

    def server(self) -> web.Server:
        """The aiohttp server object to listen with."""

        def make_request(
            message: Any, payload: Any, protocol: Any, writer: Any, task: Any, **_: Any
        ) -> web.BaseRequest:
            loop = asyncio.get_running_loop()
            return web.BaseRequest(message, payload, protocol, writer, task, loop, client_max_size=_MAX_BODY)

        return web.Server(
            self.handle, request_factory=make_request, access_log=None, keepalive_timeout=600, tcp_keepalive=True
        )

    async def handle(self, request: web.BaseRequest) -> web.StreamResponse:
        """Answer one request."""
        path = request.raw_path.partition("?")[0]
        if path.startswith("http://"):  # the absolute form that proxies may send
            path = urllib.parse.urlsplit(path).path
        if path == self._options.metrics_path:
            return web.Response(body=metrics.page(), content_type="text/plain")
        if not _API.fullmatch(path):
            return web.Response(status=404, text="Not Found", content_type="text/html")
        started = time.perf_counter()
        body = await request.read()
        if request.method == "OPTIONS":
            code, output, name, action = self._preflight(request.headers.get("Origin", ""))
        else:
            loop = asyncio.get_running_loop()
            code, output, name, action = await loop.run_in_executor(
                self._executor, self._process, request.method, path, body
            )
        if code is Code.OK:
            micros = (time.perf_counter() - started) * 1e6
            metrics.REQUEST_LATENCY.add(name, action, "REST", amount=micros)
        metrics.REQUEST_COUNT.add(name, code.name)
        response = web.Response(status=HTTP_STATUS[code], body=output, content_type="application/json")
        if self._options.cors:
            response.headers.update(_CORS)
        return response

    @staticmethod
    def _preflight(origin: str) -> tuple[Code, bytes, str, str]:
        if re.search(r"https?://", origin):
            return Code.OK, b"", "", ""
        return Code.FAILED_PRECONDITION, b"", "", ""

    def _process(self, method: str, path: str, body: bytes) -> tuple[Code, bytes, str, str]:
        name = action = ""
        try:
            spec, action, resource = parse_path(method, path)
            name = spec.name
            if action:
                return Code.OK, self._infer[action](self, spec, body), name, action
            if not name:
                raise invalid("Missing model name in request.")
            output = self._metadata(spec) if resource else self._status(spec)
            return Code.OK, output, name, action
        except ServingError as error:
            verbose(f"Error Processing HTTP/REST request: {method} {path} Error: {error}")
            return error.code, json_tensors.error_response(error.message), name, action
        except Exception as problem:
            return Code.INTERNAL, json_tensors.error_response(f"{type(problem).__name__}: {problem}"), name, action

    def _predict(self, spec: Any, body: bytes) -> bytes:
        document = json_tensors.parse_object(body)
        with self._core.servable(spec) as servable:
            name, arrays, form = json_tensors.predict_inputs(document, servable.inputs)
            del document
            types = servable.inputs(name)
            inputs = {alias: (array, types[alias].dtype) for alias, array in arrays.items()}
            outputs = servable.predict_arrays(name, inputs, run_options=self._run_options)
        return json_tensors.predict_response(outputs, form)

    def _classify(self, spec: Any, body: bytes) -> bytes:
        request = classification_pb2.ClassificationRequest(model_spec=spec)
        _fill_examples(request, body)
        with self._core.servable(spec) as servable:
            result = servable.classify(request, self._run_options).result
        rows = [[(item.label, item.score) for item in row.classes] for row in result.classifications]
        return json_tensors.classify_response(rows)

    def _regress(self, spec: Any, body: bytes) -> bytes:
        request = regression_pb2.RegressionRequest(model_spec=spec)
        _fill_examples(request, body)
        with self._core.servable(spec) as servable:
            result = servable.regress(request, self._run_options).result
        return json_tensors.regress_response([item.value for item in result.regressions])

    _infer: ClassVar[dict[str, Callable[[Rest, Any, bytes], bytes]]] = {
        "predict": _predict,
        "classify": _classify,
        "regress": _regress,
    }

    def _status(self, spec: Any) -> bytes:
        response = self._core.status(get_model_status_pb2.GetModelStatusRequest(model_spec=spec))
        text: str = json_format.MessageToJson(response, indent=1, always_print_fields_with_no_presence=True)
        return (text + "\n").encode()

    def _metadata(self, spec: Any) -> bytes:
        request = get_model_metadata_pb2.GetModelMetadataRequest(model_spec=spec, metadata_field=["signature_def"])
        response = self._core.metadata(request)
        signatures = get_model_metadata_pb2.SignatureDefMap()
        response.metadata["signature_def"].Unpack(signatures)

        def as_dict(message: Any) -> Any:
            return json_format.MessageToDict(
                message, preserving_proto_field_name=True, always_print_fields_with_no_presence=True
            )

        document = {
            "model_spec": as_dict(response.model_spec),
            "metadata": {"signature_def": as_dict(signatures)},
        }
        return (json.dumps(document, indent=1) + "\n").encode()


def _fill_examples(request: Any, body: bytes) -> None:
    """Put the signature name, context and examples of a JSON body into a Classify or Regress request."""
    document = json_tensors.parse_object(body)
    request.model_spec.signature_name = json_tensors.signature_name(document)
    context, items = json_tensors.examples(document)
    if context is None:
        target = request.input.example_list.examples
    else:
        _fill_example(request.input.example_list_with_context.context, context)
        target = request.input.example_list_with_context.examples
    for item in items:
        _fill_example(target.add(), item)


def _fill_example(example: Any, features: dict[str, json_tensors.Feature]) -> None:
    for name, feature in features.items():
        entry = example.features.feature[name]
        if feature.kind:
            getattr(entry, feature.kind + "_list").value.extend(feature.values)
