# SPDX-FileCopyrightText: The modelfleet maintainers
# SPDX-License-Identifier: GPL-3.0-or-later
"""Run a command in a container, with its input, output and exit code."""

from __future__ import annotations

import contextlib
import json
import selectors
import ssl
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from ansible_collections.modelfleet.serving.plugins.module_utils._cluster.session import Session
from ansible_collections.modelfleet.serving.plugins.module_utils._cluster.wait import Deadline
from ansible_collections.modelfleet.serving.plugins.module_utils._errors import (
    ServingError,
    UnreachableError,
    WaitError,
)

with contextlib.suppress(ImportError):  # explained by Session.execute
    import websocket

_STDIN, _STDOUT, _STDERR, _STATUS, _CLOSE = 0, 1, 2, 3, 255
# Below the 1 MiB at which some proxies between us and the kubelet close a websocket.
CHUNK_BYTES = 512 * 1024


@dataclass(frozen=True)
class PodShell:
    """Runs scripts in a container; see :func:`execute` for what it raises."""

    session: Session
    namespace: str
    pod: str
    container: str
    deadline: Deadline

    def __call__(self, script: str, *arguments: str, stdin: Iterable[bytes] = ()) -> bytes:
        """Run a script and give what it wrote to standard output."""
        command = ["sh", "-c", script, "sh", *arguments]
        where = (self.session, self.namespace, self.pod, self.container)
        return execute(*where, command, deadline=self.deadline, stdin=stdin)


def execute(
    session: Session,
    namespace: str,
    pod: str,
    container: str,
    command: list[str],
    *,
    deadline: Deadline,
    stdin: Iterable[bytes] = (),
) -> bytes:
    """Run a command and give what it wrote to standard output.

    :param stdin: sent as it comes; chunks of any size.
    :raises ServingError: when the command fails, with what it wrote to standard error.
    :raises UnreachableError: when the connection ends before the command does.
    :raises WaitError: when it has not ended by the deadline.
    """
    stream = session.execute(namespace, pod, command, container)
    where = f"cluster {session.name}: pod {namespace}/{pod}: {command[0]}"
    channels = _Channels(stream)

    def receive(seconds: float) -> None:
        if not deadline.left:
            raise WaitError(
                f"{where} took over {deadline.seconds:g} s.", hint="Raise wait_timeout if it only needs longer."
            )
        # Without it, a connection that died silently would hold a write for as long as TCP likes.
        stream.settimeout(deadline.left)
        channels.receive(min(seconds, deadline.left))

    try:
        for block in stdin:
            for start in range(0, len(block), CHUNK_BYTES):
                receive(0)
                channels.send(_STDIN, block[start : start + CHUNK_BYTES])
        channels.close(_STDIN)
        while channels.open:
            receive(1.0)
    except (OSError, websocket.WebSocketException) as error:
        with contextlib.suppress(OSError, websocket.WebSocketException):
            channels.receive(0)  # a command that fails before it has read all says why, and the server hangs up
        if channels.status() is None:
            raise UnreachableError(f"{where}: the connection broke: {error}.", hint="Run again to continue.") from error
    finally:
        stream.close()
    status = channels.status()
    if not isinstance(status, dict):
        raise UnreachableError(f"{where}: the connection ended before the command.", hint="Run again to continue.")
    if status.get("status") != "Success":
        words = channels.received[_STDERR].decode(errors="replace").strip() or status.get("message") or "no message"
        causes = (status.get("details") or {}).get("causes") or []
        code = next((f" with code {cause['message']}" for cause in causes if cause.get("reason") == "ExitCode"), "")
        raise ServingError(f"{where} failed{code}: {words}.")
    return bytes(channels.received[_STDOUT])


class _Channels:
    """The streams of a command in one websocket: the first byte of each message is its channel.

    See https://github.com/kubernetes/enhancements/tree/master/keps/sig-api-machinery/4006-transition-spdy-to-websockets.
    """

    def __init__(self, stream: Any) -> None:
        self.received: defaultdict[int, bytearray] = defaultdict(bytearray)
        self.open = True
        self._stream = stream

    def send(self, channel: int, data: bytes) -> None:
        self._stream.send_binary(bytes([channel]) + data)

    def close(self, channel: int) -> None:
        """Close one stream; servers before version 5 of the protocol can't."""
        if self._stream.subprotocol == "v5.channel.k8s.io":
            self.send(_CLOSE, bytes([channel]))

    def receive(self, seconds: float) -> None:
        """Take what has come; wait some seconds for it if nothing has."""
        while self.open and self._readable(seconds):
            kind, frame = self._stream.recv_data_frame(control_frame=True)
            if kind == websocket.ABNF.OPCODE_CLOSE:
                self.open = False
            elif kind == websocket.ABNF.OPCODE_BINARY and frame.data:
                self.received[frame.data[0]] += frame.data[1:]
            seconds = 0

    def _readable(self, seconds: float) -> bool:
        if self._stream.sock is None:  # the library has closed it, after an error
            return False
        if isinstance(self._stream.sock, ssl.SSLSocket) and self._stream.sock.pending():
            return True  # decrypted together with the frame before
        with selectors.DefaultSelector() as selector:  # select() knows the first 1024 descriptors only
            selector.register(self._stream.sock, selectors.EVENT_READ)
            return bool(selector.select(seconds))

    def status(self) -> Any:
        """Give how the command ended; None if the server did not say."""
        try:
            return json.loads(self.received[_STATUS])
        except ValueError:
            return None
