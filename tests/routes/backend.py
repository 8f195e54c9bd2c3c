# SPDX-FileCopyrightText: The modelfleet maintainers
# SPDX-License-Identifier: GPL-3.0-or-later
"""What stands behind the routes under test: says who it is, counts what it got, and waits as long as it is told.

Runs in the image of the prediction server: ``backend.py NAME``. With a certificate in /tls, it speaks TLS for gRPC, as
TF Serving does.
"""

from __future__ import annotations

import json
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import grpc

NAME = sys.argv[1]


class Rest(BaseHTTPRequestHandler):
    """Answers any path."""

    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        self._answer(0)

    def do_POST(self) -> None:
        self._answer(len(self.rfile.read(int(self.headers["Content-Length"]))))

    def _answer(self, received: int) -> None:
        time.sleep(float(self.headers.get("X-Sleep", "0")))
        body = json.dumps({"server": NAME, "path": self.path, "received": received}).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


class Calls(grpc.GenericRpcHandler):
    """Answers any call by the server's name and the size of what it got."""

    def service(self, handler_call_details: Any) -> Any:
        return grpc.unary_unary_rpc_method_handler(lambda request, context: f"{NAME} {len(request)}".encode())


server = grpc.server(ThreadPoolExecutor(4), [Calls()], options=[("grpc.max_receive_message_length", -1)])
certificate = Path("/tls/tls.crt")
if certificate.exists():
    pair = (Path("/tls/tls.key").read_bytes(), certificate.read_bytes())
    server.add_secure_port("0.0.0.0:8500", grpc.ssl_server_credentials([pair]))
else:
    server.add_insecure_port("0.0.0.0:8500")
server.start()
ThreadingHTTPServer(("0.0.0.0", 8501), Rest).serve_forever()
