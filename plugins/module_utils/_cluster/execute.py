# SPDX-FileCopyrightText: The modelfleet maintainers
# SPDX-License-Identifier: GPL-3.0-or-later
"""Run a command in a container, with its input, output and exit code."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable

from ansible_collections.modelfleet.serving.plugins.module_utils._cluster.session import Session
from ansible_collections.modelfleet.serving.plugins.module_utils._cluster.wait import Deadline
from ansible_collections.modelfleet.serving.plugins.module_utils._errors import (
    ServingError,
    UnreachableError,
    WaitError,
)

with contextlib.suppress(ImportError):  # they come with the Kubernetes client, whose absence the session explains
    import websocket
    import yaml

_STDIN, _STDOUT, _STDERR, _STATUS = 0, 1, 2, 3
# Below the 1 MiB at which some proxies between us and the kubelet close a websocket.
CHUNK_BYTES = 512 * 1024


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
    try:
        output: list[bytes] = []
        errors: list[bytes] = []

        def exchange(seconds: float) -> None:
            if not deadline.left:
                raise WaitError(
                    f"{where} took over {deadline.seconds:g} s.", hint="Raise wait_timeout if it only needs longer."
                )
            # Without it, a connection that died silently would hold a write for as long as TCP likes.
            stream.sock.settimeout(deadline.left)
            stream.update(timeout=min(seconds, deadline.left))
            for channel, kept in ((_STDOUT, output), (_STDERR, errors)):
                data = stream.read_channel(channel)
                if data:
                    kept.append(data)

        for block in stdin:
            for start in range(0, len(block), CHUNK_BYTES):
                exchange(0)
                stream.write_channel(_STDIN, block[start : start + CHUNK_BYTES])
        stream.close_channel(_STDIN)
        while stream.is_open():
            exchange(1.0)
        status = yaml.safe_load(stream.read_channel(_STATUS))
    except (OSError, websocket.WebSocketException) as error:
        raise UnreachableError(f"{where}: the connection broke: {error}.", hint="Run again to continue.") from error
    finally:
        stream.close()
    if not isinstance(status, dict):
        raise UnreachableError(f"{where}: the connection ended before the command.", hint="Run again to continue.")
    if status.get("status") != "Success":
        words = b"".join(errors).decode(errors="replace").strip() or status.get("message") or "no message"
        causes = (status.get("details") or {}).get("causes") or []
        code = next((f" with code {cause['message']}" for cause in causes if cause.get("reason") == "ExitCode"), "")
        raise ServingError(f"{where} failed{code}: {words}.")
    return b"".join(output)
