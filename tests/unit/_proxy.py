# SPDX-FileCopyrightText: The modelfleet maintainers
# SPDX-License-Identifier: GPL-3.0-or-later
"""A small proxy for tests: CONNECT of HTTP, and SOCKS5. Whatever is asked for, it connects to one server."""

from __future__ import annotations

import contextlib
import socket
import socketserver
import struct
import threading
from dataclasses import dataclass, field
from typing import Self


@dataclass
class Tunnel:
    """One tunnel that was asked for: its destination, and the headers or the user that came with it."""

    destination: str
    headers: dict[str, str] = field(default_factory=dict)
    user: str = ""


class Proxy:
    """The proxy; use it as a context manager.

    :param port: of the server on 127.0.0.1 that stands for every destination.
    """

    def __init__(self, port: int) -> None:
        self.tunnels: list[Tunnel] = []
        self._server = socketserver.ThreadingTCPServer(("127.0.0.1", 0), type("Handler", (_Handler,), {"proxy": self}))
        self._server.daemon_threads = True
        self._server.block_on_close = False
        self.target = ("127.0.0.1", port)
        self.address = f"127.0.0.1:{self._server.server_address[1]}"

    def __enter__(self) -> Self:
        threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()


class _Handler(socketserver.StreamRequestHandler):
    proxy: Proxy

    def handle(self) -> None:
        first = self.rfile.peek(1)[:1]  # type: ignore[attr-defined]
        self.proxy.tunnels.append(self._socks() if first == b"\x05" else self._connect())
        with socket.create_connection(self.proxy.target) as server:
            back = threading.Thread(target=_pump, args=(server, self.request), daemon=True)
            back.start()
            _pump(self.request, server)
            back.join()

    def _connect(self) -> Tunnel:
        method, destination, _version = self.rfile.readline().decode().split()
        assert method == "CONNECT"
        headers = {}
        while line := self.rfile.readline().decode().strip():
            name, _colon, value = line.partition(": ")
            headers[name.lower()] = value
        self.wfile.write(b"HTTP/1.1 200 OK\r\n\r\n")
        return Tunnel(destination, headers)

    def _socks(self) -> Tunnel:
        """Speak RFC 1928 with a user and a password (RFC 1929) and with a name that is resolved here."""
        _version, count = self.rfile.read(2)
        self.rfile.read(count)
        self.wfile.write(b"\x05\x02")
        user, password = (self.rfile.read(self.rfile.read(skip)[-1]).decode() for skip in (2, 1))
        self.wfile.write(b"\x01\x00")
        _version, _command, _reserved, kind = self.rfile.read(4)
        assert kind == 3, "an address instead of a name"
        name = self.rfile.read(self.rfile.read(1)[0]).decode()
        (port,) = struct.unpack("!H", self.rfile.read(2))
        self.wfile.write(b"\x05\x00\x00\x01\x00\x00\x00\x00\x00\x00")
        return Tunnel(f"{name}:{port}", user=f"{user}:{password}")


def _pump(source: socket.socket, sink: socket.socket) -> None:
    with contextlib.suppress(OSError):
        while data := source.recv(65536):
            sink.sendall(data)
    with contextlib.suppress(OSError):
        sink.shutdown(socket.SHUT_WR)
