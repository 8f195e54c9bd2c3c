# SPDX-FileCopyrightText: The modelfleet maintainers
# SPDX-License-Identifier: GPL-3.0-or-later
"""A server under test: how to start one, and how to talk to it."""

from __future__ import annotations

import contextlib
import dataclasses
import http.client
import json
import os
import shlex
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import grpc
from tensorflow_serving.apis import model_service_pb2_grpc, prediction_service_pb2_grpc

START_TIMEOUT = 60.0
HERE = Path(__file__).resolve().parent
OURS = HERE.parents[1] / "roles" / "local_fleet" / "files" / "prediction_server"
DEFAULT_COMMAND = f"{shlex.quote(os.sys.executable)} -m prediction_server"  # type: ignore[attr-defined]


@dataclasses.dataclass(frozen=True)
class Reply:
    """A REST response."""

    status: int
    body: bytes
    headers: dict[str, str]

    @property
    def json(self) -> Any:
        """The body as JSON."""
        return json.loads(self.body)

    @property
    def error(self) -> str:
        """The text of a failure."""
        return str(self.json["error"])


@dataclasses.dataclass
class Server:
    """Where a server listens. `process` and `log` are there only if the suite started it."""

    host: str
    rest_port: int
    grpc_port: int
    models: Path | None = None
    process: subprocess.Popen[bytes] | None = None
    log: Path | None = None
    _channel: Any = None
    _connection: http.client.HTTPConnection | None = None

    def request(
        self, method: str, path: str, body: bytes | None = None, headers: dict[str, str] | None = None
    ) -> Reply:
        """One request over a kept connection."""
        for attempt in range(2):
            if self._connection is None:
                self._connection = http.client.HTTPConnection(self.host, self.rest_port, timeout=60)
            try:
                self._connection.request(method, path, body, headers or {})
                response = self._connection.getresponse()
                return Reply(response.status, response.read(), {k.lower(): v for k, v in response.getheaders()})
            except (http.client.HTTPException, ConnectionError):
                self._connection.close()
                self._connection = None
                if attempt:
                    raise
        raise AssertionError

    def get(self, path: str) -> Reply:
        """GET."""
        return self.request("GET", path)

    def post(self, path: str, document: Any) -> Reply:
        """POST of a JSON document, or of bytes as they are."""
        body = document if isinstance(document, bytes) else json.dumps(document).encode()
        return self.request("POST", path, body)

    def predict(self, model: str, document: Any) -> Reply:
        """POST to a model's predict method; `model` may have `/versions/1` or `/labels/stable` after its name."""
        return self.post(f"/v1/models/{model}:predict", document)

    @property
    def channel(self) -> Any:
        """A gRPC channel that takes messages of any size."""
        if self._channel is None:
            limits = [("grpc.max_receive_message_length", -1), ("grpc.max_send_message_length", -1)]
            self._channel = grpc.insecure_channel(f"{self.host}:{self.grpc_port}", options=limits)
        return self._channel

    @property
    def prediction(self) -> Any:
        """The stub of PredictionService."""
        return prediction_service_pb2_grpc.PredictionServiceStub(self.channel)

    @property
    def management(self) -> Any:
        """The stub of ModelService."""
        return model_service_pb2_grpc.ModelServiceStub(self.channel)

    def states(self, model: str) -> dict[int, str]:
        """The state of each version of a model, by REST; empty if there is no such model."""
        reply = self.get(f"/v1/models/{model}")
        if reply.status == 404:
            return {}
        return {int(item["version"]): item["state"] for item in reply.json["model_version_status"]}

    def until(self, condition: Callable[[], Any], timeout: float = 20.0) -> None:
        """Wait until a condition holds."""
        wait_until(condition, timeout)

    def close(self) -> None:
        """Let go of the connections and end the process that was started."""
        if self._connection:
            self._connection.close()
        if self._channel:
            self._channel.close()
        if self.process and self.process.poll() is None:
            # The original has no handler for SIGTERM, and in a container nothing else ends it.
            self.process.kill()
            self.process.wait(10)


def wait_until(condition: Callable[[], Any], timeout: float = 20.0) -> None:
    """Poll a condition every 50 ms."""
    deadline = time.monotonic() + timeout
    while not condition():
        assert time.monotonic() < deadline, f"not within {timeout} s"
        time.sleep(0.05)


def free_ports(number: int) -> list[int]:
    """Ports that are free on the loopback address, all different."""
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _unused in range(number)]
        for item in sockets:
            item.bind(("127.0.0.1", 0))
        return [int(item.getsockname()[1]) for item in sockets]


def launch(command: str, models: Path, flags: list[str], log: Path) -> Server:
    """Start a server without waiting for it; `{models}` in the command stands for the models' directory."""
    rest_port, grpc_port = free_ports(2)
    environment = os.environ | {"PREDICTION_SERVER_HOST": "127.0.0.1", "PYTHONDONTWRITEBYTECODE": ""}
    environment["PYTHONPATH"] = f"{OURS}{os.pathsep}{environment.get('PYTHONPATH', '')}"
    arguments = [*shlex.split(command.replace("{models}", str(models))), f"--port={grpc_port}"]
    with log.open("wb") as stream:
        process = subprocess.Popen(
            [*arguments, f"--rest_api_port={rest_port}", *flags], stdout=stream, stderr=stream, env=environment
        )
    return Server("127.0.0.1", rest_port, grpc_port, models, process, log)


def listening(server: Server) -> bool:
    """Whether its REST port answers."""
    try:
        socket.create_connection((server.host, server.rest_port), 1).close()
    except OSError:
        return False
    return True


@contextlib.contextmanager
def running(command: str, models: Path, flags: list[str], log: Path) -> Iterator[Server]:
    """A server that listens, ended after the block."""
    server = launch(command, models, flags, log)
    try:
        deadline = time.monotonic() + START_TIMEOUT
        while not listening(server):
            assert server.process is not None
            assert server.process.poll() is None, f"the server ended:\n{log.read_text()}"
            assert time.monotonic() < deadline, f"the server does not listen:\n{log.read_text()}"
            time.sleep(0.05)
        yield server
    finally:
        server.close()
