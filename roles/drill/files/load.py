# SPDX-FileCopyrightText: The modelfleet maintainers
# SPDX-License-Identifier: GPL-3.0-or-later
"""A light load of golden predictions, for drills and the demo; nothing but Python's standard library.

``load.py run`` sends golden requests at a steady rate over connections that stay open, until the phase file says
``stop`` or the time is over, and writes one JSON line a request. ``load.py watch`` follows these lines for a while, and
ends at once when more than so many requests were lost or answered wrong. ``load.py report`` sums the lines up by phase,
and with ``--timeline`` by second.

A request counts for the phase and the second that its begin falls into. Times are seconds.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import math
import ssl
import sys
import time
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

# It shows whether users are served; it is no benchmark, and must not become the trouble that it looks for.
MAXIMUM_RATE = 100
MAXIMUM_SECONDS = 900
REQUEST_TIMEOUT = 30.0
WORKERS = 32


class Connection:
    """One HTTP/1.1 connection that is opened when needed. It never sends a request twice."""

    def __init__(self, url: str) -> None:
        address = urlsplit(url)
        tls = address.scheme == "https"
        self._host, self._port = address.hostname or "", address.port or (443 if tls else 80)
        self._authority, self._prefix = address.netloc, address.path.rstrip("/")
        self._tls = ssl.create_default_context() if tls else None
        self._reader: asyncio.StreamReader | None = None
        self._writer: asyncio.StreamWriter | None = None

    async def post(self, path: str, body: bytes) -> tuple[int, bytes]:
        """Send one request and give the status and the body of its answer."""
        if self._writer is None:
            self._reader, self._writer = await asyncio.open_connection(self._host, self._port, ssl=self._tls)
        assert self._reader is not None
        head = f"POST {self._prefix}{path} HTTP/1.1\r\nHost: {self._authority}\r\nContent-Type: application/json\r\n"
        self._writer.write(f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body)
        await self._writer.drain()
        status = int((await self._reader.readuntil(b"\r\n")).split()[1])
        headers: dict[str, str] = {}
        while (line := await self._reader.readuntil(b"\r\n")) != b"\r\n":
            name, _unused, value = line.decode("latin-1").partition(":")
            headers[name.strip().lower()] = value.strip().lower()
        if "chunked" in headers.get("transfer-encoding", ""):
            answer = b""
            while size := int((await self._reader.readuntil(b"\r\n")).split(b";")[0], 16):
                answer += (await self._reader.readexactly(size + 2))[:size]
            await self._reader.readuntil(b"\r\n")
        else:
            answer = await self._reader.readexactly(int(headers["content-length"]))
        if headers.get("connection") == "close":
            self.close()
        return status, answer

    def close(self) -> None:
        """Close it; the next request opens a new one."""
        if self._writer is not None:
            self._writer.close()
        self._reader = self._writer = None


def matches(expected: Any, found: Any, tolerance: float) -> bool:
    """Compare as the module model_probe does: relative to the right number, or absolute near zero."""
    if isinstance(expected, dict):
        return (
            isinstance(found, dict)
            and expected.keys() == found.keys()
            and all(matches(expected[key], found[key], tolerance) for key in expected)
        )
    if isinstance(expected, list):
        return (
            isinstance(found, list)
            and len(expected) == len(found)
            and all(matches(left, right, tolerance) for left, right in zip(expected, found, strict=True))
        )
    if isinstance(expected, (int, float)) and not isinstance(expected, bool):
        return isinstance(found, (int, float)) and math.isclose(expected, found, rel_tol=tolerance, abs_tol=tolerance)
    return bool(expected == found)


async def run(arguments: argparse.Namespace) -> None:
    """Send requests until the phase file says stop."""
    if not arguments.anywhere and urlsplit(arguments.url).hostname not in ("127.0.0.1", "localhost"):
        sys.exit(f"{arguments.url} is not on 127.0.0.1, and this load goes nowhere else without --anywhere.")
    cases = [
        (model["name"], json.dumps(golden["request"]).encode(), golden["response"], golden.get("tolerance", 1e-5))
        for model in json.loads(Path(arguments.models).read_text())
        for golden in model["golden"]
    ]
    phase_file = Path(arguments.phase)
    pause = 1 / min(arguments.rate, MAXIMUM_RATE)
    began = time.monotonic()
    end = began + min(arguments.seconds, MAXIMUM_SECONDS)
    turns = iter(range(10**9))

    with Path(arguments.output).open("w") as output:

        async def work() -> None:
            connection = Connection(arguments.url)
            while True:
                turn = next(turns)
                # Each turn has its moment, so that slow answers do not thin out the load.
                await asyncio.sleep(max(0.0, began + turn * pause - time.monotonic()))
                phase = phase_file.read_text().strip()
                if phase == "stop" or time.monotonic() > end:
                    break
                model, body, right, tolerance = cases[turn % len(cases)]
                start = time.monotonic()
                try:
                    status, text = await asyncio.wait_for(
                        connection.post(f"/v1/models/{model}:predict", body), REQUEST_TIMEOUT
                    )
                    outcome = f"status {status}"
                    if status == 200:
                        outcome = "right" if matches(right, json.loads(text), tolerance) else "wrong"
                except (OSError, ValueError, EOFError, asyncio.LimitOverrunError) as error:
                    connection.close()
                    outcome = f"{type(error).__name__} {error}".strip()
                line = {"at": time.time(), "phase": phase, "model": model, "outcome": outcome}
                output.write(json.dumps({**line, "seconds": round(time.monotonic() - start, 4)}) + "\n")
                output.flush()
            connection.close()

        await asyncio.gather(*(work() for _unused in range(WORKERS)))


def rows(output: str) -> list[dict[str, Any]]:
    """Read the requests that have ended; the last line may still be in the writing."""
    path = Path(output)
    text = path.read_text() if path.exists() else ""
    return [json.loads(line) for line in text[: text.rfind("\n") + 1].splitlines()]


def add(sums: dict[str, Any], row: dict[str, Any]) -> None:
    """Count one request."""
    lost = row["outcome"] not in ("right", "wrong")
    sums["sent"] += 1
    sums["lost"] += lost
    sums["wrong"] += row["outcome"] == "wrong"
    sums["slowest"] = max(sums["slowest"], row["seconds"])
    if lost:
        sums["errors"] = sorted({*sums["errors"], row["outcome"]})


def empty(**names: Any) -> dict[str, Any]:
    """Give sums that nothing was added to."""
    return {**names, "sent": 0, "lost": 0, "wrong": 0, "slowest": 0.0, "errors": []}


def watch(arguments: argparse.Namespace) -> None:
    """Follow the load, and end early when users are hurt."""
    end = time.monotonic() + arguments.seconds
    while True:
        total = empty()
        for row in rows(arguments.output):
            add(total, row)
        hurt = total["lost"] > arguments.most_lost or total["wrong"] > arguments.most_wrong
        if hurt or time.monotonic() > end:
            break
        time.sleep(0.2)
    print(json.dumps({**total, "hurt": hurt}))


def report(arguments: argparse.Namespace) -> None:
    """Print the sums by phase as JSON, in the order in which the phases came, and the total as the last."""
    found = rows(arguments.output)
    total = empty(phase="total")
    phases: dict[str, dict[str, Any]] = {}
    for row in found:
        add(total, row)
        add(phases.setdefault(row["phase"], empty(phase=row["phase"])), row)
    sums = [*phases.values(), *([total] if found else [])]
    if not arguments.timeline:
        print(json.dumps(sums))
        return
    seconds: dict[int, dict[str, Any]] = {}
    for row in found:
        add(seconds.setdefault(int(row["at"]), empty(at=int(row["at"]))), row)
    print(json.dumps({"phases": sums, "seconds": [seconds[at] for at in sorted(seconds)]}))


def main() -> None:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    commands = parser.add_subparsers(required=True)
    running = commands.add_parser("run")
    running.add_argument("--url", required=True)
    running.add_argument("--models", required=True, help="JSON file, a list of models with name and golden")
    running.add_argument("--phase", required=True, help="file that holds the name of the phase, or stop")
    running.add_argument("--rate", type=float, default=20.0, help="requests a second")
    running.add_argument("--seconds", type=float, default=300.0)
    running.add_argument("--anywhere", action="store_true", help="send to another machine than this one, too")
    running.set_defaults(do=lambda arguments: asyncio.run(run(arguments)))
    watching = commands.add_parser("watch")
    watching.add_argument("--seconds", type=float, required=True)
    watching.add_argument("--most-lost", type=int, default=0, help="requests that may be lost")
    watching.add_argument("--most-wrong", type=int, default=0, help="answers that may be wrong")
    watching.set_defaults(do=watch)
    reporting = commands.add_parser("report")
    reporting.add_argument("--timeline", action="store_true", help="sums by second, too")
    reporting.set_defaults(do=report)
    for command in (running, watching, reporting):
        command.add_argument("--output", required=True, help="file of JSON lines")
    arguments = parser.parse_args()
    arguments.do(arguments)


if __name__ == "__main__":
    main()
