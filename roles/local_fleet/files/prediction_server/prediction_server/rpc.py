# SPDX-FileCopyrightText: The modelfleet maintainers
# SPDX-License-Identifier: GPL-3.0-or-later
"""The gRPC interface. Source: TF Serving's model_servers/prediction_service_impl.cc and model_service_impl.cc."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from concurrent.futures import Executor
from typing import Any

import grpc
import grpc.aio
from grpc_health.v1 import health_pb2, health_pb2_grpc
from tensorflow.core.protobuf import config_pb2
from tensorflow_serving.apis import (
    model_management_pb2,
    model_service_pb2_grpc,
    prediction_service_pb2_grpc,
)

from . import metrics
from .core import Core
from .errors import Code, ServingError, invalid
from .log import error, info, verbose

_STATUS_CODES = {code.value[0]: code for code in grpc.StatusCode}
_MESSAGE_LIMIT = 1024


async def _abort(context: Any, problem: ServingError) -> None:
    message = problem.message
    if len(message) > _MESSAGE_LIMIT:
        message = message[:_MESSAGE_LIMIT] + "...TRUNCATED"
    await context.abort(_STATUS_CODES[int(problem.code)], message)


def _run_options(context: Any) -> bytes:
    """RunOptions that end a run when the caller has stopped waiting."""
    remaining = context.time_remaining()
    if remaining is None or remaining > 2**31:
        return b""
    return bytes(config_pb2.RunOptions(timeout_in_ms=max(int(remaining * 1000), 1)).SerializeToString())


class _Service:
    def __init__(self, core: Core, executor: Executor) -> None:
        self._core, self._executor = core, executor

    async def _call(self, function: Callable[..., Any], request: Any, *arguments: Any) -> Any:
        return await asyncio.get_running_loop().run_in_executor(self._executor, function, request, *arguments)


class PredictionService(_Service, prediction_service_pb2_grpc.PredictionServiceServicer):
    """Predict, Classify, Regress, MultiInference and GetModelMetadata."""

    async def _infer(self, api: str, method: str, request: Any, context: Any) -> Any:
        started = time.perf_counter()
        name = request.model_spec.name

        def work() -> Any:
            with self._core.servable(request.model_spec) as servable:
                return getattr(servable, method)(request, _run_options(context))

        code = Code.OK
        try:
            response = await asyncio.get_running_loop().run_in_executor(self._executor, work)
        except ServingError as problem:
            code = problem.code
            verbose(f"{api} failed: {problem}")
            await _abort(context, problem)
        else:
            metrics.REQUEST_LATENCY.add(name, api, "GRPC", amount=(time.perf_counter() - started) * 1e6)
            return response
        finally:
            metrics.REQUEST_COUNT.add(name, code.name)

    async def Predict(self, request: Any, context: Any) -> Any:  # noqa: N802
        """Run a signature on tensors."""
        return await self._infer("Predict", "predict", request, context)

    async def Classify(self, request: Any, context: Any) -> Any:  # noqa: N802
        """Run a classification signature on examples."""
        return await self._infer("Classify", "classify", request, context)

    async def Regress(self, request: Any, context: Any) -> Any:  # noqa: N802
        """Run a regression signature on examples."""
        return await self._infer("Regress", "regress", request, context)

    async def MultiInference(self, request: Any, context: Any) -> Any:  # noqa: N802
        """Run several signatures of one model on the same examples."""

        def work() -> Any:
            if not request.tasks:
                raise invalid("Inference request must have at least one task")
            with self._core.servable(request.tasks[0].model_spec) as servable:
                return servable.multi_inference(request, _run_options(context))

        try:
            return await self._call(work_of(work), None)
        except ServingError as problem:
            await _abort(context, problem)

    async def GetModelMetadata(self, request: Any, context: Any) -> Any:  # noqa: N802
        """The signatures of a loaded version."""
        try:
            return await self._call(self._core.metadata, request)
        except ServingError as problem:
            await _abort(context, problem)


def work_of(function: Callable[[], Any]) -> Callable[[Any], Any]:
    """A function of one argument, which it ignores."""
    return lambda _: function()


class ModelService(_Service, model_service_pb2_grpc.ModelServiceServicer):
    """GetModelStatus and HandleReloadConfigRequest."""

    async def GetModelStatus(self, request: Any, context: Any) -> Any:  # noqa: N802
        """The states of a model's versions."""
        try:
            return self._core.status(request)
        except ServingError as problem:
            await _abort(context, problem)

    async def HandleReloadConfigRequest(self, request: Any, context: Any) -> Any:  # noqa: N802
        """Replace the configuration. A failure is the call's own status."""
        before = _counters(request.metric_names)
        try:
            kind = request.config.WhichOneof("config")
            if kind != "model_config_list":
                raise invalid(
                    "ServerModelConfig type not supported by HandleReloadConfigRequest."
                    " Only ModelConfigList is currently supported"
                )
            for index, model in enumerate(request.config.model_config_list.config):
                info(
                    f"\nConfig entry\n\tindex : {index}\n\tpath : {model.base_path}\n\tname : {model.name}"
                    f"\n\tplatform : {model.model_platform}"
                )
            # In a thread of its own: it may wait for a load of minutes, which must not hold up predictions.
            await asyncio.to_thread(self._core.reload, request.config)
        except ServingError as problem:
            error(f"ReloadConfig failed: {problem.message}")
            await _abort(context, problem)
        response = model_management_pb2.ReloadConfigResponse()
        response.status.error_code = 0
        for name, value in _counters(request.metric_names).items():
            response.metric.add(name=name, int64_value_increase=value - before[name])
        return response


def _counters(names: Any) -> dict[str, int]:
    known = {metric.name: metric for metric in metrics.ALL if isinstance(metric, metrics.Counter)}
    return {name: known[name].first() if name in known else 0 for name in names}


class Health(health_pb2_grpc.HealthServicer):
    """The standard health service. It speaks of the services, not of models: always SERVING, like the original."""

    _services = frozenset({"", "ModelService", "PredictionService"})

    async def Check(self, request: Any, context: Any) -> Any:  # noqa: N802
        """Whether a service is there."""
        if request.service not in self._services:
            await context.abort(grpc.StatusCode.NOT_FOUND, "")
        return health_pb2.HealthCheckResponse(status=health_pb2.HealthCheckResponse.SERVING)

    async def Watch(self, request: Any, context: Any) -> Any:  # noqa: N802
        """The same, as a stream that stays open."""
        known = request.service in self._services
        status = health_pb2.HealthCheckResponse.SERVING if known else health_pb2.HealthCheckResponse.SERVICE_UNKNOWN
        await context.write(health_pb2.HealthCheckResponse(status=status))
        await asyncio.Event().wait()


def server(core: Core, executor: Executor, *, health: bool, arguments: list[tuple[str, Any]]) -> Any:
    """A gRPC server without ports yet. Messages may be as large as the protocol allows."""
    options = [("grpc.max_receive_message_length", -1), ("grpc.max_send_message_length", -1), *arguments]
    result = grpc.aio.server(options=options)
    prediction_service_pb2_grpc.add_PredictionServiceServicer_to_server(PredictionService(core, executor), result)
    model_service_pb2_grpc.add_ModelServiceServicer_to_server(ModelService(core, executor), result)
    if health:
        health_pb2_grpc.add_HealthServicer_to_server(Health(), result)
    return result
