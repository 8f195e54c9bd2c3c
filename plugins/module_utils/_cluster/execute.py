# SPDX-FileCopyrightText: The modelfleet maintainers
# SPDX-License-Identifier: GPL-3.0-or-later
"""Run a command in a container, with its input, output and exit code."""

from __future__ import annotations

from collections.abc import Iterable

from ansible_collections.modelfleet.serving.plugins.module_utils._cluster.session import Session
from ansible_collections.modelfleet.serving.plugins.module_utils._cluster.wait import Deadline
from ansible_collections.modelfleet.serving.plugins.module_utils._errors import ServingError, WaitError

_STDIN, _STDOUT, _STDERR = 0, 1, 2
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
    :raises WaitError: when it has not ended by the deadline.
    """
    stream = session.execute(namespace, pod, command, container)
    try:
        output: list[bytes] = []
        errors: list[bytes] = []

        def drain(seconds: float) -> None:
            stream.update(timeout=seconds)
            for channel, kept in ((_STDOUT, output), (_STDERR, errors)):
                data = stream.read_channel(channel)
                if data:
                    kept.append(data)

        for block in stdin:
            for start in range(0, len(block), CHUNK_BYTES):
                stream.write_channel(_STDIN, block[start : start + CHUNK_BYTES])
                drain(0)
        stream.close_channel(_STDIN)
        while stream.is_open():
            if not deadline.left:
                raise WaitError(
                    f"cluster {session.name}: pod {namespace}/{pod}: {command[0]} took over {deadline.seconds:g} s.",
                    hint="Raise wait_timeout if it only needs longer.",
                )
            drain(min(1.0, deadline.left))
        drain(0)
        code = stream.returncode
        if code != 0:
            words = b"".join(errors).decode(errors="replace").strip() or "no message"
            raise ServingError(
                f"cluster {session.name}: pod {namespace}/{pod}: {command[0]} failed with code {code}: {words}."
            )
        return b"".join(output)
    finally:
        stream.close()
