# SPDX-FileCopyrightText: The modelfleet maintainers
# SPDX-License-Identifier: GPL-3.0-or-later
"""--enable_batching: concurrent requests run as one. The model tells how many rows its run had.

Source: serving/batching/README.md, batching/batching_session.cc and TensorFlow's
core/kernels/batching_util/shared_batch_scheduler.h, unless a test says otherwise.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import grpc
import pytest
import saved_models
from servers import Server, launch
from tensorflow_serving.apis import predict_pb2

LONG = 30_000_000
"""A time to wait, in microseconds, that no test can afford: what is answered before was not waited for."""
BUSY = 900.0
"""The value for which the model computes for a second or so."""


def parameters(
    size: int = 4,
    wait: int = LONG,
    threads: int = 1,
    enqueued: int = 100,
    allowed: tuple[int, ...] = (),
    more: str = "",
) -> str:
    """A BatchingParameters file."""
    return "\n".join(
        [
            f"max_batch_size {{ value: {size} }}",
            f"batch_timeout_micros {{ value: {wait} }}",
            f"num_batch_threads {{ value: {threads} }}",
            f"max_enqueued_batches {{ value: {enqueued} }}",
            *[f"allowed_batch_sizes: {number}" for number in allowed],
            more,
        ]
    )


@pytest.fixture
def batching(start: Any, tmp_path: Path) -> Callable[..., AbstractContextManager[Server]]:
    """Starts a server that batches: `with batching(parameters(...), flags...) as server`."""
    saved_models.counting(tmp_path / "m" / "1")

    def starter(text: str, *flags: str) -> Any:
        (tmp_path / "batching").write_text(text)
        return start([*single(tmp_path), f"--batching_parameters_file={tmp_path}/batching", *flags])

    return starter


def single(place: Path) -> list[str]:
    """The flags for one model that is batched."""
    return ["--model_name=m", f"--model_base_path={place}/m", "--max_num_load_retries=0", "--enable_batching=true"]


def ask(server: Server, *values: float, shape: tuple[int, ...] | None = None) -> Any:
    """Send a Predict request without waiting for its answer."""
    request = predict_pb2.PredictRequest()
    request.model_spec.name = "m"
    request.inputs["x"].dtype = 1
    for dimension in shape or (len(values),):
        request.inputs["x"].tensor_shape.dim.add().size = dimension
    request.inputs["x"].float_val.extend(values)
    return server.prediction.Predict.future(request, timeout=60)


def rows(future: Any) -> list[float]:
    """The answer: for each row, how many rows its run had."""
    return list(future.result().outputs["y"].float_val)


def refusal(future: Any) -> tuple[grpc.StatusCode, str]:
    """How a request failed."""
    with pytest.raises(grpc.RpcError) as caught:
        future.result()
    return caught.value.code(), caught.value.details()


def busy(server: Server) -> Any:
    """A request that keeps the one batch thread occupied: it is sent, and taken from the queue."""
    future = ask(server, BUSY)
    time.sleep(0.3)
    assert not future.done(), "the model is too fast for this test"
    return future


class TestMerging:
    def test_a_full_batch_runs_at_once(self, batching: Any) -> None:
        with batching(parameters()) as server:
            started = time.monotonic()
            futures = [ask(server, 1.0), ask(server, 1.0, 1.0), ask(server, 1.0)]
            assert [rows(future) for future in futures] == [[4.0], [4.0, 4.0], [4.0]]
            assert time.monotonic() - started < LONG / 1e6 / 2

    def test_both_interfaces_share_a_batch(self, batching: Any) -> None:
        with batching(parameters(size=2)) as server:
            future = ask(server, 1.0)
            assert server.predict("m", {"instances": [1.0]}).json == {"predictions": [2.0]}
            assert rows(future) == [2.0]

    def test_a_batch_that_is_not_full_waits_for_its_time(self, batching: Any) -> None:
        with batching(parameters(wait=300_000)) as server:
            started = time.monotonic()
            assert rows(ask(server, 1.0)) == [1.0]
            assert 0.3 <= time.monotonic() - started < 5

    def test_by_default_nothing_waits(self, start: Any, tmp_path: Path) -> None:
        # batch_timeout_micros is 0: what comes while the threads are occupied is merged.
        saved_models.counting(tmp_path / "m" / "1")
        with start(single(tmp_path)) as server:
            assert rows(ask(server, 1.0)) == [1.0]

    def test_what_waits_for_a_thread_is_merged(self, batching: Any) -> None:
        with batching(parameters(wait=0)) as server:
            first = busy(server)
            futures = [ask(server, 1.0) for _unused in range(3)]
            assert rows(first) == [1.0]
            assert [rows(future) for future in futures] == [[3.0]] * 3

    def test_batches_are_filled_up_to_an_allowed_size(self, batching: Any) -> None:
        # RoundToLowestAllowedBatchSize(); what fills up is not in the answer.
        with batching(parameters(size=8, wait=300_000, allowed=(2, 4, 8))) as server:
            assert rows(ask(server, 1.0, 1.0, 1.0)) == [4.0, 4.0, 4.0]

    def test_signatures_have_batches_of_their_own(self, batching: Any) -> None:
        with batching(parameters(size=2, wait=300_000)) as server:
            future = ask(server, 1.0)
            # An output without rows cannot be divided.
            reply = server.predict("m", {"signature_name": "count", "inputs": [1.0]})
            assert (reply.status, reply.error) == (400, "Batched output tensor has 0 dimensions")
            assert rows(future) == [1.0]

    def test_a_large_request_is_split_if_that_is_enabled(self, batching: Any) -> None:
        more = "enable_large_batch_splitting { value: true } max_execution_batch_size { value: 4 }"
        with batching(parameters(size=8, wait=300_000, more=more)) as server:
            assert rows(ask(server, *[1.0] * 6)) == [4.0] * 4 + [2.0] * 2


class TestRefusals:
    def test_too_many_rows(self, batching: Any) -> None:
        with batching(parameters()) as server:
            assert refusal(ask(server, *[1.0] * 5)) == (
                grpc.StatusCode.INVALID_ARGUMENT,
                "Task size 5 is larger than maximum input batch size 4",
            )
            assert server.predict("m", {"instances": [1.0] * 5}).status == 400

    def test_no_rows(self, batching: Any) -> None:
        # batching_util.h ComputeTensorBatchSize().
        with batching(parameters()) as server:
            reply = server.predict("m", {"inputs": 1.0})
            assert reply.status == 400
            assert reply.error == "Batching Run() input tensors must have at least one dimension"

    def test_inputs_with_different_rows(self, batching: Any, start: Any, tmp_path: Path) -> None:
        saved_models.several(tmp_path / "several" / "1")
        flags = [f"--model_base_path={tmp_path}/several", "--model_name=several", "--enable_batching"]
        with start(flags) as server:
            reply = server.predict("several", {"inputs": {"a": [1.0], "b": [1, 2]}})
            assert reply.status == 400
            assert reply.error == "Batching Run() input tensors must have equal 0th-dimension size"

    def test_a_full_queue(self, batching: Any) -> None:
        with batching(parameters(size=1, enqueued=1)) as server:
            first = busy(server)
            second = ask(server, 1.0)
            time.sleep(0.1)
            text = (
                "The batch scheduling queue to which this task was submitted is full; currently 1 batches enqueued and"
                " max_enqueued_batches is 1"
            )
            assert refusal(ask(server, 1.0)) == (grpc.StatusCode.UNAVAILABLE, text)
            # http_rest_api_util.cc: UNAVAILABLE is 503.
            reply = server.predict("m", {"instances": [1.0]})
            assert (reply.status, reply.error) == (503, text)
            assert (rows(first), rows(second)) == ([1.0], [1.0])

    def test_shapes_that_cannot_be_merged(self, batching: Any) -> None:
        # A failure is that of the whole batch.
        with batching(parameters(size=2)) as server:
            futures = [ask(server, 1.0, 1.0, shape=(1, 2)), ask(server, 1.0, 1.0, 1.0, shape=(1, 3))]
            for future in futures:
                code, text = refusal(future)
                assert code is grpc.StatusCode.FAILED_PRECONDITION
                assert text.startswith(
                    "Tensors with name 'x:0' from different tasks have different shapes and padding is turned off."
                )

    def test_shapes_that_are_padded(self, batching: Any) -> None:
        with batching(parameters(size=2, more="pad_variable_length_inputs: true")) as server:
            futures = [ask(server, 1.0, 1.0, shape=(1, 2)), ask(server, 1.0, 1.0, 1.0, shape=(1, 3))]
            # Both have three columns in the run, and in the answer.
            assert [rows(future) for future in futures] == [[6.0] * 3] * 2

    def test_a_request_that_waited_too_long(self, batching: Any) -> None:
        with batching(parameters(wait=600_000), "--rest_api_timeout_in_ms=200") as server:
            reply = server.predict("m", {"instances": [1.0]})
            assert (reply.status, reply.error) == (429, "Run() timeout exceeded while waiting in batching queue")

    @pytest.mark.parametrize(
        ("text", "said"),
        [
            (
                parameters(allowed=(2,)),
                "Last entry in allowed_batch_sizes must match max_batch_size; last entry was 2; expected 4",
            ),
            (parameters(threads=0), "num_batch_threads must be positive; was 0"),
            (parameters(enqueued=0), "max_enqueued_batches must be positive; was 0"),
            ("max_batch_size: 4", "Invalid protobuf file: '"),
        ],
        ids=["allowed sizes", "no threads", "no queue", "no parameters"],
    )
    def test_parameters_that_start_no_server(
        self, request: pytest.FixtureRequest, start: Any, tmp_path: Path, text: str, said: str
    ) -> None:
        # bundle_factory_util.cc WrapSessionForBatching(), shared_batch_scheduler.h Create() and AddQueue().
        saved_models.counting(tmp_path / "m" / "1")
        (tmp_path / "batching").write_text(text)
        command = request.config.getoption("--server-command")
        flags = [*single(tmp_path), f"--batching_parameters_file={tmp_path}/batching"]
        server = launch(command, tmp_path, flags, tmp_path / "server.log")
        try:
            assert server.process is not None
            assert server.process.wait(30) != 0
            assert said in (tmp_path / "server.log").read_text()
        finally:
            server.close()


class TestPerModel:
    """--enable_per_model_batching_parameters: bundle_factory_util.cc GetPerModelBatchingParams()."""

    @pytest.fixture
    def server(self, batching: Any, tmp_path: Path) -> Iterator[Server]:
        with batching(
            parameters(), "--enable_per_model_batching_parameters=true", "--file_system_poll_wait_seconds=1"
        ) as found:
            yield found

    def test_a_model_says_by_itself(self, server: Server, tmp_path: Path) -> None:
        # Version 1 has no file, and is not batched.
        assert rows(ask(server, 1.0)) == [1.0]
        saved_models.counting(tmp_path / "hidden")
        (tmp_path / "hidden" / "batching_params.pbtxt").write_text(parameters(size=2))
        (tmp_path / "hidden").rename(tmp_path / "m" / "2")
        server.until(lambda: server.states("m") == {2: "AVAILABLE", 1: "END"})
        assert [rows(future) for future in [ask(server, 1.0), ask(server, 1.0)]] == [[2.0], [2.0]]


def test_metrics(batching: Any, tmp_path: Path) -> None:
    (tmp_path / "monitoring").write_text('prometheus_config { enable: true path: "/numbers" }')
    with batching(parameters(size=2), f"--monitoring_config_file={tmp_path}/monitoring") as server:
        for future in [ask(server, 1.0), ask(server, 1.0)]:
            assert rows(future) == [2.0]
        # monitoring_config.proto: the path replaces the usual one.
        assert server.get("/monitoring/prometheus/metrics").status == 404
        text = server.get("/numbers").body.decode()
    assert "# TYPE :tensorflow:serving:batching_session:queuing_latency histogram" in text
    assert ':tensorflow:serving:batching_session:queuing_latency_bucket{thread_pool_name="",le="100"}' in text
    assert ':tensorflow:serving:batching_session:queuing_latency_count{thread_pool_name=""} 2' in text
    assert ":tensorflow:serving:batching_session:wrapped_run_count{} 1" in text
    assert ':tensorflow:serving:request_count{model_name="m",status="OK"} 2' in text


def test_a_version_goes_only_when_its_requests_are_answered(batching: Any, tmp_path: Path) -> None:
    """A request holds its version, also while it waits for its batch: none is lost when another version comes."""
    with batching(
        parameters(wait=3_000_000), "--file_system_poll_wait_seconds=1", "--enable_model_warmup=false"
    ) as server:
        future = ask(server, 1.0)
        saved_models.counting(tmp_path / "m" / "2")
        server.until(lambda: server.states("m").get(2) == "AVAILABLE")
        assert rows(future) == [1.0]
        assert future.result().model_spec.version.value == 1
        server.until(lambda: server.states("m") == {2: "AVAILABLE", 1: "END"})
