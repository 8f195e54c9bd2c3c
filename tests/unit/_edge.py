# SPDX-FileCopyrightText: The modelfleet maintainers
# SPDX-License-Identifier: GPL-3.0-or-later
"""A cluster's edge on loopback, real HTTP, that answers as it is told."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Self

VERSIONS = {"model_version_status": [{"version": "2", "state": "AVAILABLE"}, {"version": "1", "state": "LOADING"}]}


class Edge:
    """A cluster's edge: answers each model as told."""

    def __init__(self) -> None:
        self.predictions: dict[str, Callable[[], tuple[int, Any]]] = {}
        self.status: tuple[int, Any] = (200, VERSIONS)
        self.hosts: list[str] = []
        self.asked: list[str] = []
        edge = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                edge.asked.append(self.path)
                self.answer(*edge.status)

            def do_POST(self) -> None:
                edge.hosts.append(self.headers["Host"])
                self.rfile.read(int(self.headers["Content-Length"]))
                model = self.path.removeprefix("/v1/models/").removesuffix(":predict")
                self.answer(*edge.predictions.get(model, lambda: (200, {"predictions": [2.5]}))())

            def answer(self, status: int, content: Any) -> None:
                body = content if isinstance(content, bytes) else json.dumps(content).encode()
                self.send_response(status)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_: object) -> None:
                """Stay silent."""

            # Headers and body go out in two writes.
            disable_nagle_algorithm = True
            protocol_version = "HTTP/1.1"

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        self.server.block_on_close = False
        self.url = f"http://127.0.0.1:{self.server.server_port}"

    def __enter__(self) -> Self:
        threading.Thread(target=self.server.serve_forever, args=(0.02,), daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self.server.shutdown()
        self.server.server_close()
