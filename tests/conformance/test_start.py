# SPDX-FileCopyrightText: The modelfleet maintainers
# SPDX-License-Identifier: GPL-3.0-or-later
"""Flags, start-up and what a server does when it cannot start: main.cc and server.cc unless a test says otherwise."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import grpc
import pytest
import saved_models
from conftest import config
from grpc_health.v1 import health_pb2, health_pb2_grpc
from servers import DEFAULT_COMMAND, OURS, Server, launch, listening, wait_until

ONE = {"instances": [1.0]}


@pytest.fixture
def launched(request: pytest.FixtureRequest, start: Any, tmp_path: Path) -> Any:
    """Starts a server that need not come up, and ends it after the test."""
    servers: list[Server] = []

    def starter(flags: list[str]) -> Server:
        command = request.config.getoption("--server-command")
        servers.append(launch(command, tmp_path, flags, tmp_path / f"server{len(servers)}.log"))
        return servers[-1]

    yield starter
    for server in servers:
        server.close()


def ended(server: Server) -> str:
    """The log of a server after it gave up with the exit code -1."""
    assert server.process is not None
    assert server.log is not None
    assert server.process.wait(30) == 255
    return server.log.read_text()


def test_single_model(start: Any, tmp_path: Path, exported: Path) -> None:
    """--model_name with --model_base_path; no metrics page and no health service unless asked for; a broken copy."""
    shutil.copytree(exported / "half_plus_two", tmp_path / "m")
    # saved_model/loader.cc RunRestore: without variables there is nothing to restore, and the load succeeds.
    shutil.rmtree(tmp_path / "m" / "2" / "variables")
    # Its warm-up record would find out.
    shutil.rmtree(tmp_path / "m" / "2" / "assets.extra")
    with start(
        ["--model_name=m", f"--model_base_path={tmp_path}/m", "--max_num_load_retries=0", "--unknown=1"]
    ) as server:
        assert server.states("m") == {2: "AVAILABLE"}
        reply = server.predict("m", ONE)
        assert reply.status == 400
        assert "FAILED_PRECONDITION" not in reply.error
        assert server.get("/monitoring/prometheus/metrics").status == 404
        with pytest.raises(grpc.RpcError) as caught:
            health_pb2_grpc.HealthStub(server.channel).Check(health_pb2.HealthCheckRequest(), timeout=10)
        assert caught.value.code() is grpc.StatusCode.UNIMPLEMENTED
        # command_line_flags.cc leaves unknown flags; main.cc names the first and goes on.
        assert server.log is not None
        assert "unknown argument: --unknown=1" in server.log.read_text()


def test_timeout_and_cors(start: Any, tmp_path: Path) -> None:
    """--rest_api_timeout_in_ms (DEADLINE_EXCEEDED is 504) and --rest_api_enable_cors_support."""
    saved_models.slow(tmp_path / "slow" / "1")
    flags = ["--model_name=slow", f"--model_base_path={tmp_path}/slow", "--rest_api_timeout_in_ms=200"]
    with start([*flags, "--rest_api_enable_cors_support=true"]) as server:
        assert server.predict("slow", {"inputs": 8}).status == 200
        assert server.predict("slow", {"inputs": 1000}).status == 504
        reply = server.request("OPTIONS", "/v1/models/slow:predict", None, {"Origin": "http://example.org"})
        assert reply.status == 200
        assert reply.headers["access-control-allow-origin"] == "*"
        assert reply.headers["access-control-allow-methods"] == "POST, GET"


def test_listens_only_after_the_first_load(launched: Any, tmp_path: Path) -> None:
    """server.cc BuildAndStart waits for the models; an empty base path is waited for without end."""
    base = tmp_path / "m"
    base.mkdir()
    server = launched(["--model_name=m", f"--model_base_path={base}"])
    time.sleep(3)
    assert server.process.poll() is None
    assert not listening(server)
    saved_models.affine(base / "1", 1.0, 10.0)
    wait_until(lambda: listening(server))
    assert server.predict("m", ONE).json == {"predictions": [11.0]}


def test_gives_up_when_a_model_cannot_be_loaded(launched: Any, tmp_path: Path) -> None:
    """load_servables_fast.cc: the text; retries are counted by --max_num_load_retries."""
    saved_models.broken(tmp_path / "m" / "1")
    flags = ["--max_num_load_retries=1", "--load_retry_interval_micros=1000"]
    text = ended(launched(["--model_name=m", f"--model_base_path={tmp_path}/m", *flags]))
    assert (
        "1 servable(s) did not become available: {{{name: m version: 1} due to error: NOT_FOUND: Could not find" in text
    )
    assert "Failed to start server. Error: UNKNOWN: " in text


def test_a_load_is_tried_again(launched: Any, tmp_path: Path) -> None:
    """retrier.cc: --max_num_load_retries attempts after the first, --load_retry_interval_micros apart."""
    saved_models.broken(tmp_path / "m" / "1")
    flags = ["--max_num_load_retries=10", "--load_retry_interval_micros=500000"]
    server = launched(["--model_name=m", f"--model_base_path={tmp_path}/m", *flags])
    wait_until(lambda: "Retrying of Loading servable: {name: m version: 1} retry: 1" in server.log.read_text())
    saved_models.affine(tmp_path / "whole", 1.0, 10.0)
    (tmp_path / "whole" / "saved_model.pb").rename(tmp_path / "m" / "1" / "saved_model.pb")
    wait_until(lambda: listening(server))
    assert server.predict("m", ONE).json == {"predictions": [11.0]}


def test_labels_at_start_need_the_flag(launched: Any, tmp_path: Path) -> None:
    """serving_config.md: labels of models that are not there yet need
    --allow_version_labels_for_unavailable_models."""
    saved_models.affine(tmp_path / "m" / "1", 1.0, 10.0)
    (tmp_path / "c").write_text(config({"m": tmp_path / "m"}, {"m": 'version_labels { key: "stable" value: 1 }'}))
    text = ended(launched([f"--model_config_file={tmp_path}/c"]))
    assert "Request to assign label to version 1 of model m, which is not currently available for inference" in text


@pytest.mark.parametrize(
    ("flags", "text"),
    [
        ([], "Both server_options.model_base_path and server_options.model_config_file are empty!"),
        (
            ["--model_base_path=/m", "--batching_parameters_file=/x"],
            "server_options.batching_parameters_file is set without setting",
        ),
        (["--model_config_file={tmp_path}/bad"], "Error parsing text-format tensorflow.serving.ModelServerConfig"),
        (["--file_system_poll_wait_seconds=often"], "usage"),
        (["--help"], "usage"),
    ],
    ids=["nothing to serve", "batching", "bad config file", "bad number", "help"],
)
def test_refused(launched: Any, tmp_path: Path, flags: list[str], text: str) -> None:
    """What the server says before it ends."""
    (tmp_path / "bad").write_text("improperly formatted file!\n")
    assert text in ended(launched([flag.format(tmp_path=tmp_path) for flag in flags]))


def test_warm_up(start: Any, launched: Any, tmp_path: Path) -> None:
    """saved_model_warmup_util.cc: records are replayed at load, and one that fails makes the load fail."""

    for name, signature in (("good", "serving_default"), ("bad", "nothing")):
        saved_models.affine(tmp_path / name / "1", 1.0, 10.0)
        saved_models.warm_up(tmp_path / name / "1", [saved_models.predict_record(signature)] * 2)
    with start(["--model_name=m", f"--model_base_path={tmp_path}/good"]) as server:
        assert server.log is not None
        assert "Number of warmup records read: 2" in server.log.read_text()
    text = ended(launched(["--model_name=m", f"--model_base_path={tmp_path}/bad", "--max_num_load_retries=0"]))
    assert 'Serving signature key "nothing" not found.' in text


def test_the_libraries_may_be_loaded_before_the_rest_is_imported(request: pytest.FixtureRequest) -> None:
    """A slow disk or a busy processor decides which thread is first; each order must work."""
    if request.config.getoption("--server-command") != DEFAULT_COMMAND:
        pytest.skip("of our own server")
    program = "from prediction_server import tensorflow_c as c; c.library(); from prediction_server import rest, rpc"
    environment = os.environ | {"PYTHONPATH": f"{OURS}{os.pathsep}{os.environ.get('PYTHONPATH', '')}"}
    loaded = subprocess.run(
        [sys.executable, "-c", program], env=environment, capture_output=True, text=True, check=False
    )
    assert loaded.returncode == 0, loaded.stderr
