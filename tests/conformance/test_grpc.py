# SPDX-FileCopyrightText: The modelfleet maintainers
# SPDX-License-Identifier: GPL-3.0-or-later
"""The gRPC interface: PredictionService, ModelService and health. Source of each expectation: see the test."""

from __future__ import annotations

from typing import Any

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from servers import Server
from tensorflow.core.framework import types_pb2
from tensorflow_serving.apis import (
    classification_pb2,
    get_model_metadata_pb2,
    get_model_status_pb2,
    inference_pb2,
    model_management_pb2,
    predict_pb2,
    regression_pb2,
)


def predict_request(model: str, values: list[float], key: str = "x", **spec: Any) -> Any:
    """A PredictRequest with one float vector."""
    request = predict_pb2.PredictRequest()
    request.model_spec.name = model
    if "version" in spec:
        request.model_spec.version.value = spec.pop("version")
    for name, value in spec.items():
        setattr(request.model_spec, name, value)
    tensor = request.inputs[key]
    tensor.dtype = types_pb2.DT_FLOAT
    tensor.tensor_shape.dim.add().size = len(values)
    tensor.float_val.extend(values)
    return request


def with_example(request: Any, value: float) -> Any:
    """Add a tf.Example with the feature `x`."""
    example = request.input.example_list.examples.add()
    example.features.feature["x"].float_list.value.append(value)
    return request


class TestPredict:
    """tensorflow_model_server_test_base.py VerifyPredictRequest; predict_util.cc."""

    def test_answer_and_model_spec(self, server: Server, half: str) -> None:
        response = server.prediction.Predict(predict_request(half, [1.0, 2.0, 5.0]), timeout=10)
        output = response.outputs["y"]
        assert list(output.float_val) == [2.5, 3.0, 4.5]
        assert output.dtype == types_pb2.DT_FLOAT
        assert [dim.size for dim in output.tensor_shape.dim] == [3]
        assert response.model_spec.name == half
        assert response.model_spec.signature_name == "serving_default"
        assert response.model_spec.version.value in server.states(half)

    def test_tensor_content(self, server: Server, half: str) -> None:
        request = predict_request(half, [])
        tensor = request.inputs["x"]
        tensor.tensor_shape.dim[0].size = 2
        tensor.tensor_content = b"\0\0\x80\x3f\0\0\0\x40"  # 1.0 and 2.0, the least significant byte first
        assert list(server.prediction.Predict(request, timeout=10).outputs["y"].float_val) == [2.5, 3.0]

    def test_one_value_for_all(self, server: Server, half: str) -> None:
        # tensor.proto: a single value stands for all elements of the shape.
        request = predict_request(half, [2.0])
        request.inputs["x"].tensor_shape.dim[0].size = 3
        assert list(server.prediction.Predict(request, timeout=10).outputs["y"].float_val) == [3.0, 3.0, 3.0]

    def test_unknown_model(self, server: Server) -> None:
        with pytest.raises(grpc.RpcError) as caught:
            server.prediction.Predict(predict_request("no_such_model", [1.0]), timeout=10)
        assert caught.value.code() is grpc.StatusCode.NOT_FOUND
        assert caught.value.details() == "Servable not found for request: Latest(no_such_model)"

    def test_no_model_spec(self, server: Server) -> None:
        with pytest.raises(grpc.RpcError) as caught:
            server.prediction.Predict(predict_pb2.PredictRequest(), timeout=10)
        assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT

    def test_unknown_signature(self, server: Server, half: str) -> None:
        with pytest.raises(grpc.RpcError) as caught:
            server.prediction.Predict(predict_request(half, [1.0], signature_name="nothing"), timeout=10)
        assert caught.value.code() is grpc.StatusCode.FAILED_PRECONDITION
        assert caught.value.details() == 'Serving signature key "nothing" not found.'

    def test_missing_input(self, server: Server, half: str) -> None:
        request = predict_pb2.PredictRequest()
        request.model_spec.name = half
        with pytest.raises(grpc.RpcError) as caught:
            server.prediction.Predict(request, timeout=10)
        assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT
        assert caught.value.details().startswith("input size does not match signature: 0!=1")
        assert "Missing but required: {x}." in caught.value.details()

    def test_wrong_type(self, server: Server, half: str) -> None:
        request = predict_request(half, [])
        request.inputs["x"].dtype = types_pb2.DT_INT32
        request.inputs["x"].int_val.append(1)
        request.inputs["x"].tensor_shape.dim[0].size = 1
        with pytest.raises(grpc.RpcError) as caught:
            server.prediction.Predict(request, timeout=10)
        assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT

    def test_unknown_output(self, server: Server, half: str) -> None:
        request = predict_request(half, [1.0])
        request.output_filter.append("z")
        with pytest.raises(grpc.RpcError) as caught:
            server.prediction.Predict(request, timeout=10)
        assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT
        assert caught.value.details().startswith("output tensor alias not found in signature: z")

    def test_output_filter(self, own: Server) -> None:
        request = predict_request("several", [1.0], key="a")
        tensor = request.inputs["b"]
        tensor.dtype = types_pb2.DT_INT32
        tensor.tensor_shape.dim.add().size = 1
        tensor.int_val.append(2)
        assert set(own.prediction.Predict(request, timeout=10).outputs) == {"sum", "twice"}
        request.output_filter.append("twice")
        assert set(own.prediction.Predict(request, timeout=10).outputs) == {"twice"}

    def test_half_precision(self, own: Server) -> None:
        request = predict_request("identities", [], signature_name="half")
        tensor = request.inputs["x"]
        tensor.dtype = types_pb2.DT_HALF
        tensor.half_val.append(0x3E00)  # 1.5
        tensor.tensor_shape.dim[0].size = 1
        output = own.prediction.Predict(request, timeout=10).outputs["y"]
        assert (output.dtype, list(output.half_val)) == (types_pb2.DT_HALF, [0x3E00])

    def test_message_of_64_megabytes(self, server: Server, half: str) -> None:
        # server.cc: SetMaxMessageSize(int32 max), not gRPC's default of 4 MB.
        request = predict_request(half, [])
        request.inputs["x"].tensor_shape.dim[0].size = 17_000_000
        request.inputs["x"].tensor_content = bytes(4 * 17_000_000)
        response = server.prediction.Predict(request, timeout=60)
        assert response.outputs["y"].tensor_shape.dim[0].size == 17_000_000

    def test_deadline(self, own: Server) -> None:
        request = predict_pb2.PredictRequest()
        request.model_spec.name = "slow"
        tensor = request.inputs["n"]
        tensor.dtype = types_pb2.DT_INT32
        tensor.tensor_shape.SetInParent()
        tensor.int_val.append(1000)
        with pytest.raises(grpc.RpcError) as caught:
            own.prediction.Predict(request, timeout=0.3)
        assert caught.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED


class TestExamples:
    """tensorflow_model_server_test.py testClassify, testRegress and testMultiInference."""

    def test_classify(self, server: Server, half: str) -> None:
        request = with_example(classification_pb2.ClassificationRequest(), 2.0)
        request.model_spec.name, request.model_spec.signature_name = half, "classify_x_to_y"
        response = server.prediction.Classify(request, timeout=10)
        assert [item.score for item in response.result.classifications[0].classes] == [3.0]
        assert response.model_spec.signature_name == "classify_x_to_y"

    def test_regress(self, server: Server, half: str) -> None:
        request = with_example(regression_pb2.RegressionRequest(), 2.0)
        request.model_spec.name, request.model_spec.signature_name = half, "regress_x_to_y"
        response = server.prediction.Regress(request, timeout=10)
        assert [item.value for item in response.result.regressions] == [3.0]

    def test_empty_input(self, server: Server, half: str) -> None:
        request = regression_pb2.RegressionRequest()
        request.model_spec.name, request.model_spec.signature_name = half, "regress_x_to_y"
        with pytest.raises(grpc.RpcError) as caught:
            server.prediction.Regress(request, timeout=10)
        assert (caught.value.code(), caught.value.details()) == (
            grpc.StatusCode.INVALID_ARGUMENT,
            "Input is empty.",
        )

    def test_multi_inference(self, server: Server, half: str) -> None:
        request = with_example(inference_pb2.MultiInferenceRequest(), 2.0)
        for kind in ("regress", "classify"):
            task = request.tasks.add(method_name=f"tensorflow/serving/{kind}")
            task.model_spec.name, task.model_spec.signature_name = half, f"{kind}_x_to_y"
        response = server.prediction.MultiInference(request, timeout=10)
        assert response.results[0].regression_result.regressions[0].value == 3.0
        assert response.results[1].classification_result.classifications[0].classes[0].score == 3.0
        assert response.results[1].model_spec.signature_name == "classify_x_to_y"


class TestMetadata:
    """get_model_metadata_impl.cc; tensorflow_model_server_test.py testGetModelMetadata."""

    def test_signatures(self, server: Server, half: str) -> None:
        request = get_model_metadata_pb2.GetModelMetadataRequest(metadata_field=["signature_def"])
        request.model_spec.name = half
        response = server.prediction.GetModelMetadata(request, timeout=10)
        assert response.model_spec.name == half
        signatures = get_model_metadata_pb2.SignatureDefMap()
        assert response.metadata["signature_def"].Unpack(signatures)
        assert "serving_default" in signatures.signature_def

    @pytest.mark.parametrize(
        ("fields", "message"),
        [
            ([], "GetModelMetadataRequest must specify at least one metadata_field"),
            (["graph"], "Metadata field graph is not supported"),
        ],
    )
    def test_fields(self, server: Server, half: str, fields: list[str], message: str) -> None:
        request = get_model_metadata_pb2.GetModelMetadataRequest(metadata_field=fields)
        request.model_spec.name = half
        with pytest.raises(grpc.RpcError) as caught:
            server.prediction.GetModelMetadata(request, timeout=10)
        assert (caught.value.code(), caught.value.details()) == (grpc.StatusCode.INVALID_ARGUMENT, message)


class TestManagement:
    """model_service_impl.cc, get_model_status_impl.cc."""

    def test_status(self, server: Server, half: str) -> None:
        request = get_model_status_pb2.GetModelStatusRequest()
        request.model_spec.name = half
        states = server.management.GetModelStatus(request, timeout=10).model_version_status
        available = get_model_status_pb2.ModelVersionStatus.AVAILABLE
        assert any(item.state == available and item.status.error_code == 0 for item in states)

    def test_status_of_an_unknown_model(self, server: Server) -> None:
        request = get_model_status_pb2.GetModelStatusRequest()
        request.model_spec.name = "no_such_model"
        with pytest.raises(grpc.RpcError) as caught:
            server.management.GetModelStatus(request, timeout=10)
        assert caught.value.code() is grpc.StatusCode.NOT_FOUND

    def test_status_without_a_model_spec(self, server: Server) -> None:
        with pytest.raises(grpc.RpcError) as caught:
            server.management.GetModelStatus(get_model_status_pb2.GetModelStatusRequest(), timeout=10)
        assert (caught.value.code(), caught.value.details()) == (
            grpc.StatusCode.INVALID_ARGUMENT,
            "Missing ModelSpec",
        )

    def test_reload_needs_a_list_of_models(self, server: Server) -> None:
        with pytest.raises(grpc.RpcError) as caught:
            server.management.HandleReloadConfigRequest(model_management_pb2.ReloadConfigRequest(), timeout=10)
        assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT
        assert "Only ModelConfigList is currently supported" in caught.value.details()


class TestHealth:
    """server.cc: the services are ModelService and PredictionService, and "" is gRPC's own default."""

    @pytest.mark.parametrize("service", ["", "ModelService", "PredictionService"])
    def test_serving(self, own: Server, service: str) -> None:
        stub = health_pb2_grpc.HealthStub(own.channel)
        response = stub.Check(health_pb2.HealthCheckRequest(service=service), timeout=10)
        assert response.status == health_pb2.HealthCheckResponse.SERVING

    def test_unknown_service(self, own: Server) -> None:
        with pytest.raises(grpc.RpcError) as caught:
            health_pb2_grpc.HealthStub(own.channel).Check(health_pb2.HealthCheckRequest(service="x"), timeout=10)
        assert caught.value.code() is grpc.StatusCode.NOT_FOUND
