# SPDX-FileCopyrightText: The modelfleet maintainers
# SPDX-License-Identifier: GPL-3.0-or-later
"""A cluster's edge for the tests with a real HAProxy: the REST answers of half_plus_two, on 127.0.0.1.

Stopped by SIGSTOP it behaves like a paused cluster: the kernel still takes connections, and nobody answers. A file
named by the second argument holds its mood: ``right``, ``wrong``, ``500`` or ``slow SECONDS [N]``, for every answer or
every Nth. With a third one, a file with certificate and key, it speaks TLS.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import ssl
import sys
from pathlib import Path

turns = itertools.count(1)


async def read_chunks(reader: asyncio.StreamReader) -> bytes:
    """Read a body whose length was not told before."""
    body = b""
    while size := int(await reader.readline(), 16):
        body += await reader.readexactly(size)
        await reader.readline()
    await reader.readline()
    return body


async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Answer the requests of one connection."""
    try:
        while line := await reader.readline():
            path = line.split()[1].decode()
            length, chunked = 0, False
            while (header := await reader.readline()) not in (b"\r\n", b""):
                name, _unused, value = header.partition(b":")
                if name.lower() == b"content-length":
                    length = int(value)
                chunked |= name.lower() == b"transfer-encoding"
            body = await (read_chunks(reader) if chunked else reader.readexactly(length))
            mood = Path(sys.argv[2]).read_text().split()
            if mood[0] == "slow" and next(turns) % int(mood[2] if len(mood) > 2 else 1) == 0:
                await asyncio.sleep(float(mood[1]))
            status = "500 Broken" if mood[0] == "500" else "200 OK"
            answer = {"path": path, "port": int(sys.argv[1]), "bytes": len(body)}
            if path.endswith(":predict") and body:
                numbers = json.loads(body)["instances"]
                half = 3 if mood[0] == "wrong" else 2
                answer = {"predictions": [number / half + 2 for number in numbers[:3]]}
            text = json.dumps(answer, indent=4).encode()
            head = f"HTTP/1.1 {status}\r\nContent-Type: application/json\r\nX-Port: {sys.argv[1]}\r\n"
            writer.write(f"{head}Content-Length: {len(text)}\r\n\r\n".encode() + text)
            await writer.drain()
    except (ConnectionError, asyncio.IncompleteReadError):
        pass
    finally:
        writer.close()


async def main() -> None:
    """Serve until killed."""
    tls = None
    if len(sys.argv) > 3:
        tls = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        tls.load_cert_chain(sys.argv[3])
    server = await asyncio.start_server(handle, "127.0.0.1", int(sys.argv[1]), limit=4 * 1024 * 1024, ssl=tls)
    print("ready", flush=True)
    await server.serve_forever()


asyncio.run(main())
