# SPDX-FileCopyrightText: The modelfleet maintainers
# SPDX-License-Identifier: GPL-3.0-or-later
"""The REST interface on half_plus_two, as described in TF Serving's g3doc/api_rest.md ("RESTful API").

Each test names where its expectation comes from. These need nothing of the server but the model.
"""

from __future__ import annotations

import base64
import gzip
import json

import pytest
from servers import Server

CANONICAL = {"instances": [1.0, 2.0, 5.0]}


class TestStatus:
    """api_rest.md, "Model status API"; json shape: apis/get_model_status.proto's json_name."""

    def test_lists_the_versions(self, server: Server, half: str) -> None:
        reply = server.get(f"/v1/models/{half}")
        assert reply.status == 200
        versions = reply.json["model_version_status"]
        available = [item for item in versions if item["state"] == "AVAILABLE"]
        assert available
        # tensorflow_model_server_test.py testGetStatusREST: the version is a string, an OK status has an empty message.
        assert available[0]["status"] == {"error_code": "OK", "error_message": ""}
        assert isinstance(available[0]["version"], str)

    def test_the_highest_version_comes_first(self, server: Server, half: str) -> None:
        # servable_state_monitor.h: VersionMap is ordered by std::greater.
        versions = [int(item["version"]) for item in server.get(f"/v1/models/{half}").json["model_version_status"]]
        assert versions == sorted(versions, reverse=True)

    def test_of_one_version(self, server: Server, half: str) -> None:
        version = max(server.states(half))
        reply = server.get(f"/v1/models/{half}/versions/{version}")
        assert [item["version"] for item in reply.json["model_version_status"]] == [str(version)]

    def test_unknown_model(self, server: Server) -> None:
        # get_model_status_impl.cc
        reply = server.get("/v1/models/no_such_model")
        assert (reply.status, reply.error) == (404, "Could not find any versions of model no_such_model")

    def test_unknown_version(self, server: Server, half: str) -> None:
        reply = server.get(f"/v1/models/{half}/versions/987654321")
        assert (reply.status, reply.error) == (404, f"Could not find version 987654321 of model {half}")

    def test_without_a_name(self, server: Server) -> None:
        # http_rest_api_handler.cc ProcessModelStatusRequest
        reply = server.get("/v1/models")
        assert (reply.status, reply.error) == (400, "Missing model name in request.")

    def test_is_json(self, server: Server, half: str) -> None:
        # http_rest_api_util.cc AddHeaders
        assert server.get(f"/v1/models/{half}").headers["content-type"].split(";")[0] == "application/json"


class TestMetadata:
    """api_rest.md, "Model Metadata API"."""

    def test_signatures(self, server: Server, half: str) -> None:
        reply = server.get(f"/v1/models/{half}/metadata")
        assert reply.status == 200
        document = reply.json
        assert document["model_spec"]["name"] == half
        assert document["model_spec"]["version"] in {str(version) for version in server.states(half)}
        signatures = document["metadata"]["signature_def"]["signature_def"]
        assert {"serving_default", "regress_x_to_y", "classify_x_to_y"} <= set(signatures)
        predict = signatures["serving_default"]
        assert predict["method_name"] == "tensorflow/serving/predict"
        assert predict["inputs"]["x"]["dtype"] == "DT_FLOAT"
        assert predict["inputs"]["x"]["tensor_shape"]["dim"][1]["size"] == "1"
        assert predict["inputs"]["x"]["tensor_shape"]["unknown_rank"] is False

    def test_needs_a_loaded_version(self, server: Server, half: str) -> None:
        reply = server.get(f"/v1/models/{half}/versions/987654321/metadata")
        # core/manager.h ServableRequest::DebugString, basic_manager.cc
        assert reply.status == 404
        assert reply.error == f"Servable not found for request: Specific({half}, 987654321)"


class TestPredict:
    """api_rest.md, "Predict API"."""

    def test_row_format(self, server: Server, half: str) -> None:
        reply = server.predict(half, CANONICAL)
        assert (reply.status, reply.json) == (200, {"predictions": [2.5, 3.0, 4.5]})

    def test_text_of_the_body(self, server: Server, half: str) -> None:
        # The white space is rapidjson's PrettyWriter with single-line arrays, as api_rest.md's examples show it.
        assert server.predict(half, CANONICAL).body == b'{\n    "predictions": [2.5, 3.0, 4.5\n    ]\n}'

    def test_columnar_format(self, server: Server, half: str) -> None:
        reply = server.predict(half, {"inputs": [1.0, 2.0, 5.0]})
        assert (reply.status, reply.json) == (200, {"outputs": [2.5, 3.0, 4.5]})

    def test_columnar_format_with_names(self, server: Server, half: str) -> None:
        assert server.predict(half, {"inputs": {"x": [1.0, 2.0]}}).json == {"outputs": [2.5, 3.0]}

    def test_row_format_with_names(self, server: Server, half: str) -> None:
        assert server.predict(half, {"instances": [{"x": 1.0}, {"x": 2.0}]}).json == {"predictions": [2.5, 3.0]}

    def test_deeper_shapes(self, server: Server, half: str) -> None:
        reply = server.predict(half, {"instances": [[[1.0], [2.0]], [[3.0], [5.0]]]})
        assert reply.json == {"predictions": [[[2.5], [3.0]], [[3.5], [4.5]]]}

    def test_a_version(self, server: Server, half: str) -> None:
        version = max(server.states(half))
        assert server.predict(f"{half}/versions/{version}", CANONICAL).json == {"predictions": [2.5, 3.0, 4.5]}

    def test_signature_name(self, server: Server, half: str) -> None:
        assert server.predict(half, {"signature_name": "serving_default", **CANONICAL}).status == 200

    def test_integers_are_numbers_too(self, server: Server, half: str) -> None:
        assert server.predict(half, {"instances": [1, 2, 5]}).json == {"predictions": [2.5, 3.0, 4.5]}

    def test_whole_numbers_keep_a_decimal_point(self, server: Server, half: str) -> None:
        # json_tensor.cc WriteDecimal: "Add trailing '.0' for whole numbers".
        assert b"3.0" in server.predict(half, {"instances": [2.0]}).body

    def test_floats_have_the_digits_of_a_float(self, server: Server, half: str) -> None:
        # json_tensor.cc WriteDecimal: no noise digits from the conversion to double.
        assert server.predict(half, {"instances": [0.4]}).body.split()[2] == b"[2.2"

    @pytest.mark.parametrize(("text", "answer"), [("NaN", "NaN"), ("Infinity", "Infinity"), ("-Infinity", "-Infinity")])
    def test_not_finite_numbers(self, server: Server, half: str, text: str, answer: str) -> None:
        # api_rest.md, "JSON conformance": TF Serving extends JSON by these.
        reply = server.predict(half, f'{{"instances": [{text}]}}'.encode())
        assert reply.status == 200
        assert repr(reply.json["predictions"][0]) == repr(json.loads(answer))

    def test_large_body(self, server: Server, half: str) -> None:
        values = [float(number) for number in range(200_000)]
        reply = server.predict(half, {"instances": values})
        assert reply.json["predictions"][-1] == 199_999 / 2 + 2

    def test_compressed_body(self, server: Server, half: str) -> None:
        # util/net_http: requests with Content-Encoding gzip are taken apart.
        body = gzip.compress(json.dumps(CANONICAL).encode())
        reply = server.request("POST", f"/v1/models/{half}:predict", body, {"Content-Encoding": "gzip"})
        assert reply.json == {"predictions": [2.5, 3.0, 4.5]}


class TestPredictErrors:
    """api_rest.md, "Errors"; texts: util/json_tensor.cc and http_rest_api_handler.cc."""

    def test_unknown_model(self, server: Server) -> None:
        reply = server.predict("no_such_model", CANONICAL)
        assert (reply.status, reply.error) == (404, "Servable not found for request: Latest(no_such_model)")

    def test_unknown_version(self, server: Server, half: str) -> None:
        reply = server.predict(f"{half}/versions/9", CANONICAL)
        assert (reply.status, reply.error) == (404, f"Servable not found for request: Specific({half}, 9)")

    def test_unknown_label(self, server: Server, half: str) -> None:
        # server_core.cc GetModelVersionForLabel
        reply = server.predict(f"{half}/labels/nobody", CANONICAL)
        assert (reply.status, reply.error) == (400, "Unrecognized servable version label: nobody")

    def test_unknown_signature(self, server: Server, half: str) -> None:
        reply = server.predict(half, {"signature_name": "nothing", **CANONICAL})
        assert (reply.status, reply.error) == (400, 'Serving signature name: "nothing" not found in signature def')

    def test_empty_body(self, server: Server, half: str) -> None:
        reply = server.predict(half, b"")
        assert (reply.status, reply.error) == (400, "JSON Parse error: The document is empty")

    def test_not_json(self, server: Server, half: str) -> None:
        reply = server.predict(half, b"what")
        assert reply.status == 400
        assert reply.error.startswith("JSON Parse error: Invalid value. at offset: ")

    def test_not_an_object(self, server: Server, half: str) -> None:
        reply = server.predict(half, [1, 2])
        assert reply.status == 400
        assert reply.error.endswith("Is not object")

    def test_neither_key(self, server: Server, half: str) -> None:
        reply = server.predict(half, {"x": [1.0]})
        assert (reply.status, reply.error) == (400, "Missing 'inputs' or 'instances' key")

    def test_both_keys(self, server: Server, half: str) -> None:
        reply = server.predict(half, {"inputs": [1.0], "instances": [1.0]})
        assert reply.status == 400
        assert "one of 'inputs' or 'instances' keys to exist" in reply.error

    def test_no_instances(self, server: Server, half: str) -> None:
        reply = server.predict(half, {"instances": []})
        assert reply.status == 400
        assert "No values in 'instances' array" in reply.error

    def test_instances_not_a_list(self, server: Server, half: str) -> None:
        reply = server.predict(half, {"instances": 1.0})
        assert reply.status == 400
        assert "Expecting 'instances' to be an list/array" in reply.error

    def test_wrong_type(self, server: Server, half: str) -> None:
        reply = server.predict(half, {"instances": ["one"]})
        assert reply.status == 400
        assert 'JSON Value: "one" Type: String is not of expected type: float' in reply.error
        assert reply.error.startswith("Failed to process element: 0 of 'instances' list. Error: INVALID_ARGUMENT: ")

    def test_boolean_is_no_number(self, server: Server, half: str) -> None:
        assert "JSON Value: true Type: True is not" in server.predict(half, {"instances": [True]}).error

    def test_instances_of_different_sizes(self, server: Server, half: str) -> None:
        reply = server.predict(half, {"instances": [[1.0, 2.0], [3.0]]})
        assert reply.status == 400
        assert "Failed to process element: 1" in reply.error
        assert "Expecting tensor size: 2 but got: 1" in reply.error

    def test_ragged_inputs(self, server: Server, half: str) -> None:
        reply = server.predict(half, {"inputs": [[1.0, 2.0], [3.0]]})
        assert reply.error == "Encountered list at unexpected size: 1 at level: 1 expected size: 2"

    def test_unknown_input(self, server: Server, half: str) -> None:
        reply = server.predict(half, {"instances": [{"z": 1.0}]})
        assert reply.status == 400
        assert "JSON object: does not have named input: z" in reply.error

    def test_missing_input(self, server: Server, half: str) -> None:
        assert server.predict(half, {"inputs": {"z": 1.0}}).error == "Missing named input: x in 'inputs' object."

    def test_signature_name_not_a_string(self, server: Server, half: str) -> None:
        reply = server.predict(half, {"signature_name": 5, **CANONICAL})
        assert reply.status == 400
        assert reply.error.endswith("'signature_name' key must be a string value.")


class TestPaths:
    """http_rest_api_util.cc: the two regular expressions, and http_server.cc for what matches neither."""

    @pytest.mark.parametrize(
        "path", ["/v1/models/{half}:explain", "/v1/models/{half}", "/v1/", "/v1/models/{half}/1:predict"]
    )
    def test_malformed(self, server: Server, half: str, path: str) -> None:
        path = path.format(half=half)
        reply = server.post(path, CANONICAL)
        assert (reply.status, reply.error) == (400, f"Malformed request: POST {path}")

    def test_malformed_get(self, server: Server, half: str) -> None:
        path = f"/v1/models/{half}:predict"
        assert server.get(path).error == f"Malformed request: GET {path}"

    def test_other_methods(self, server: Server, half: str) -> None:
        reply = server.request("PUT", f"/v1/models/{half}")
        assert (reply.status, reply.error) == (400, f"Malformed request: PUT /v1/models/{half}")

    def test_outside_of_the_api(self, server: Server) -> None:
        assert server.get("/nothing/here").status == 404

    def test_case_does_not_count(self, server: Server, half: str) -> None:
        assert server.post(f"/V1/Models/{half}:Predict", CANONICAL).status == 200

    def test_names_are_decoded(self, server: Server, half: str) -> None:
        # http_rest_api_util.cc DecodeArg
        encoded = half.replace("_", "%5F")
        assert server.predict(encoded, CANONICAL).status == 200

    def test_version_out_of_range(self, server: Server, half: str) -> None:
        reply = server.get(f"/v1/models/{half}/versions/99999999999999999999")
        assert (reply.status, reply.error) == (400, "Failed to convert version: 99999999999999999999 to numeric.")


class TestClassifyAndRegress:
    """api_rest.md, "Classify and Regress API"; tensorflow_model_server_test.py testClassifyREST, testRegressREST."""

    def test_classify(self, server: Server, half: str) -> None:
        body = {"signature_name": "classify_x_to_y", "examples": [{"x": 2.0}, {"x": [5.0]}]}
        reply = server.post(f"/v1/models/{half}:classify", body)
        assert (reply.status, reply.json) == (200, {"results": [[["", 3.0]], [["", 4.5]]]})

    def test_regress(self, server: Server, half: str) -> None:
        body = {"signature_name": "regress_x_to_y", "examples": [{"x": 2.0}, {"x": 5.0}]}
        reply = server.post(f"/v1/models/{half}:regress", body)
        assert (reply.status, reply.json) == (200, {"results": [3.0, 4.5]})

    def test_another_signature(self, server: Server, half: str) -> None:
        body = {"signature_name": "regress_x_to_y2", "examples": [{"x": 2.0}]}
        assert server.post(f"/v1/models/{half}:regress", body).json == {"results": [4.0]}

    def test_context(self, server: Server, half: str) -> None:
        body = {"signature_name": "regress_x_to_y", "context": {"x": 2.0}, "examples": [{}, {"x": 5.0}]}
        assert server.post(f"/v1/models/{half}:regress", body).json == {"results": [3.0, 4.5]}

    def test_wrong_kind_of_feature(self, server: Server, half: str) -> None:
        # json_tensor.cc AddValueToFeature takes a whole number for an int64; the model wants a float.
        reply = server.post(f"/v1/models/{half}:regress", {"signature_name": "regress_x_to_y", "examples": [{"x": 2}]})
        assert reply.status == 400
        assert "Data types don't match" in reply.error

    def test_mixed_kinds_in_a_feature(self, server: Server, half: str) -> None:
        body = {"signature_name": "regress_x_to_y", "examples": [{"x": [2.0, "two"]}]}
        reply = server.post(f"/v1/models/{half}:regress", body)
        assert reply.error == "Unexpected element type in feature: x expecting type: float"

    def test_no_examples(self, server: Server, half: str) -> None:
        reply = server.post(f"/v1/models/{half}:regress", {"signature_name": "regress_x_to_y"})
        assert reply.status == 400
        assert "key 'examples' is expected and was not found" in reply.error

    def test_unknown_signature(self, server: Server, half: str) -> None:
        # regressor.cc GetRegressionSignatureDef
        reply = server.post(f"/v1/models/{half}:regress", {"signature_name": "nothing", "examples": [{"x": 2.0}]})
        assert (reply.status, reply.error) == (400, "No signature was found with the name: nothing")

    def test_a_predict_signature_cannot_classify(self, server: Server, half: str) -> None:
        reply = server.post(f"/v1/models/{half}:classify", {"examples": [{"x": 2.0}]})
        assert reply.status == 400

    def test_null_in_a_feature(self, server: Server, half: str) -> None:
        body = {"signature_name": "regress_x_to_y", "examples": [{"x": [None]}]}
        reply = server.post(f"/v1/models/{half}:regress", body)
        assert reply.error == "Feature: x has element with unexpected JSON type: Null"


class TestTypes:
    """api_rest.md, "JSON mapping" and "Encoding binary values", on models of the suite."""

    def test_several_inputs_and_outputs_by_row(self, own: Server) -> None:
        reply = own.predict("several", {"instances": [{"a": 1.5, "b": 2}, {"a": 2.5, "b": 3}]})
        assert reply.json == {"predictions": [{"sum": 3.5, "twice": 4}, {"sum": 5.5, "twice": 6}]}

    def test_several_inputs_and_outputs_by_column(self, own: Server) -> None:
        reply = own.predict("several", {"inputs": {"a": [1.5, 2.5], "b": [2, 3]}})
        assert reply.json == {"outputs": {"sum": [3.5, 5.5], "twice": [4, 6]}}

    def test_scalars_by_column(self, own: Server) -> None:
        assert own.predict("several", {"inputs": {"a": 1.5, "b": 2}}).json == {"outputs": {"sum": 3.5, "twice": 4}}

    def test_scalars_have_no_rows(self, own: Server) -> None:
        assert own.predict("conformance", {"inputs": 1.0}).json == {"outputs": 11.0}

    def test_plain_list_for_several_inputs(self, own: Server) -> None:
        reply = own.predict("several", {"instances": [1.0]})
        assert reply.status == 400
        assert reply.error.startswith("instances is a plain list, but expecting list of objects")

    def test_missing_key(self, own: Server) -> None:
        reply = own.predict("several", {"instances": [{"a": 1.0}]})
        assert reply.status == 400
        assert "keys must be equal to: a,b" in reply.error

    def test_fraction_for_an_integer(self, own: Server) -> None:
        reply = own.predict("several", {"inputs": {"a": 1.0, "b": 2.0}})
        assert (reply.status, reply.error) == (400, "JSON Value: 2.0 Type: Number is not of expected type: int32")

    @pytest.mark.parametrize(
        ("name", "values"),
        [
            ("float", [0.5, -1.25]),
            ("double", [0.1, 1e300]),
            ("int32", [-1, 2**31 - 1]),
            ("int64", [2**53 + 1, -(2**62)]),
            ("uint8", [0, 255]),
            ("bool", [True, False]),
        ],
    )
    def test_each_type(self, own: Server, name: str, values: list[object]) -> None:
        reply = own.predict("identities", {"signature_name": name, "instances": values})
        assert (reply.status, reply.json) == (200, {"predictions": values})

    def test_integer_out_of_range(self, own: Server) -> None:
        reply = own.predict("identities", {"signature_name": "int32", "inputs": [2**31]})
        assert reply.error == "JSON Value: 2147483648 Type: Number is not of expected type: int32"

    def test_type_without_a_json_form(self, own: Server) -> None:
        reply = own.predict("identities", {"signature_name": "half", "inputs": [1.0]})
        assert (reply.status, reply.error) == (501, "Conversion of JSON Value: 1.0 to type: half")

    def test_text(self, own: Server) -> None:
        assert own.predict("texts", {"instances": ["grün", ""]}).json == {"predictions": ["grün", ""]}

    def test_base64_in(self, own: Server) -> None:
        value = {"b64": base64.b64encode("grün".encode()).decode()}
        assert own.predict("texts", {"instances": [value, "x"]}).json == {"predictions": ["grün", "x"]}
        assert own.predict("texts", {"inputs": value}).json == {"outputs": "grün"}

    def test_base64_out(self, own: Server) -> None:
        # Outputs whose name ends in _bytes are binary.
        value = {"b64": base64.b64encode(bytes(range(256))).decode()}
        assert own.predict("texts", {"signature_name": "binary", "instances": [value]}).json == {"predictions": [value]}

    def test_long_texts(self, own: Server) -> None:
        values = ["x" * size for size in (21, 22, 23, 24, 100_000)]
        assert own.predict("texts", {"instances": values}).json == {"predictions": values}

    def test_bad_base64(self, own: Server) -> None:
        assert own.predict("texts", {"inputs": [{"b64": "?"}]}).error == "Unable to base64 decode"

    def test_object_that_is_not_base64(self, own: Server) -> None:
        reply = own.predict("texts", {"inputs": [{"b64": "eA==", "more": 1}]})
        assert reply.error.endswith("not formatted correctly for base64 data")

    def test_a_keras_model(self, own: Server) -> None:
        rows = own.predict("iris", {"instances": [[5.1, 3.5, 1.4, 0.2], [6.3, 3.3, 6.0, 2.5]]}).json["predictions"]
        assert [row.index(max(row)) for row in rows] == [0, 2]

    def test_error_of_the_runtime(self, own: Server) -> None:
        # The run's own failure: columns that cannot be multiplied with the model's matrix.
        reply = own.predict("iris", {"instances": [[5.1, 3.5]]})
        assert reply.status == 400
        assert "atrix" in reply.error or "ncompatible" in reply.error


class TestMetrics:
    """serving_config.md, "Monitoring configuration"; util/prometheus_exporter.cc for the form."""

    def test_page(self, own: Server) -> None:
        own.predict("half_plus_two", CANONICAL)
        own.predict("half_plus_two/versions/9", CANONICAL)
        reply = own.get("/monitoring/prometheus/metrics")
        assert reply.status == 200
        assert reply.headers["content-type"].split(";")[0] == "text/plain"
        text = reply.body.decode()
        assert "# TYPE :tensorflow:serving:request_count counter" in text
        assert ':tensorflow:serving:request_count{model_name="half_plus_two",status="OK"}' in text
        assert ':tensorflow:serving:request_count{model_name="half_plus_two",status="NOT_FOUND"}' in text
        labels = 'model_name="half_plus_two",API="predict",entrypoint="REST"'
        assert f":tensorflow:serving:request_latency_count{{{labels}}}" in text
        assert f':tensorflow:serving:request_latency_bucket{{{labels},le="10"}}' in text
        assert 'le="+Inf"' in text
