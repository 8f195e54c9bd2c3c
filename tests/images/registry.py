# SPDX-FileCopyrightText: The modelfleet maintainers
# SPDX-License-Identifier: GPL-3.0-or-later
"""A small image registry on 127.0.0.1, with a password: what an engine needs of it to push, look and pull.

Interface: https://github.com/opencontainers/distribution-spec/blob/main/spec.md
"""

from __future__ import annotations

import base64
import hashlib
import json
import re
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any
from urllib.parse import parse_qs, urlsplit

USER, PASSWORD = "me", "password-that-nobody-may-see"
_LOGIN = "Basic " + base64.b64encode(f"{USER}:{PASSWORD}".encode()).decode()


class Registry:
    """Runs in a thread; use it as a context manager.

    :ivar blobs: digest to content.
    :ivar manifests: tag or digest to media type and content; one repository is enough here.
    :ivar requests: methods and paths, in order.
    """

    def __init__(self) -> None:
        self.blobs: dict[str, bytes] = {}
        self.manifests: dict[str, tuple[str, bytes]] = {}
        self.uploads: dict[str, bytes] = {}
        self.requests: list[str] = []
        registry = self

        class Handler(_Handler):
            store = registry

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.address = f"127.0.0.1:{self._server.server_port}"

    def __enter__(self) -> Registry:
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.shutdown()
        self._server.server_close()


def _digest(content: bytes) -> str:
    return "sha256:" + hashlib.sha256(content).hexdigest()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    store: Registry

    def do_GET(self) -> None:
        self.store.requests.append(f"{self.command} {self.path}")
        if self.headers.get("Authorization") != _LOGIN:
            self._error(401, "UNAUTHORIZED", "authentication required", {"WWW-Authenticate": 'Basic realm="test"'})
            return
        path = urlsplit(self.path).path
        if path == "/v2/":
            self._answer(200, b"{}")
        elif found := re.fullmatch(r"/v2/.+/blobs/(sha256:\w+)", path):
            content = self.store.blobs.get(found[1])
            if content is None:
                self._error(404, "BLOB_UNKNOWN", "blob unknown")
            else:
                self._answer(200, content, {"Docker-Content-Digest": found[1]})
        elif found := re.fullmatch(r"/v2/.+/manifests/(.+)", path):
            if found[1] not in self.store.manifests:
                self._error(404, "MANIFEST_UNKNOWN", "manifest unknown")
                return
            kind, content = self.store.manifests[found[1]]
            self._answer(200, content, {"Content-Type": kind, "Docker-Content-Digest": _digest(content)})
        else:
            self._error(404, "UNSUPPORTED", "not found")

    def do_HEAD(self) -> None:
        self.do_GET()

    def do_POST(self) -> None:
        """Begin an upload, or take one whole; every change asks for the login before."""
        if not self._known():
            return
        name = f"upload-{len(self.store.uploads)}"
        self.store.uploads[name] = b""
        place = urlsplit(self.path).path.rstrip("/") + "/" + name
        self._answer(202, b"", {"Location": place, "Docker-Upload-UUID": name, "Range": "0-0"})

    def do_PATCH(self) -> None:
        if not self._known():
            return
        place = urlsplit(self.path).path
        name = place.rpartition("/")[2]
        self.store.uploads[name] += self._body()
        size = len(self.store.uploads[name])
        self._answer(202, b"", {"Location": place, "Docker-Upload-UUID": name, "Range": f"0-{size - 1}"})

    def do_PUT(self) -> None:
        if not self._known():
            return
        parts = urlsplit(self.path)
        body, name = self._body(), parts.path.rpartition("/")[2]
        if "/manifests/" in parts.path:
            self.store.manifests[name] = self.store.manifests[_digest(body)] = (self.headers["Content-Type"], body)
            self._answer(201, b"", {"Docker-Content-Digest": _digest(body), "Location": parts.path})
            return
        content = self.store.uploads.pop(name) + body
        (wanted,) = parse_qs(parts.query)["digest"]
        assert _digest(content) == wanted
        self.store.blobs[wanted] = content
        self._answer(201, b"", {"Docker-Content-Digest": wanted, "Location": parts.path})

    def _known(self) -> bool:
        self.store.requests.append(f"{self.command} {self.path}")
        if self.headers.get("Authorization") == _LOGIN:
            return True
        self._body()
        self._error(401, "UNAUTHORIZED", "authentication required", {"WWW-Authenticate": 'Basic realm="test"'})
        return False

    def _body(self) -> bytes:
        if self.headers.get("Transfer-Encoding") != "chunked":
            return self.rfile.read(int(self.headers.get("Content-Length") or 0))
        content = b""
        while size := int(self.rfile.readline(), 16):
            content += self.rfile.read(size)
            self.rfile.readline()
        self.rfile.readline()
        return content

    def _error(self, status: int, code: str, message: str, headers: dict[str, str] | None = None) -> None:
        self._answer(status, json.dumps({"errors": [{"code": code, "message": message}]}).encode(), headers)

    def _answer(self, status: int, content: bytes, headers: dict[str, str] | None = None) -> None:
        self.send_response(status)
        for name, value in {"Content-Type": "application/json", **(headers or {})}.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)

    def log_message(self, *_: Any) -> None:
        """Stay silent."""
