# SPDX-FileCopyrightText: The modelfleet maintainers
# SPDX-License-Identifier: GPL-3.0-or-later
"""Edges of clusters on 127.0.0.1, and the event source as ansible-rulebook runs it."""

from __future__ import annotations

import asyncio
import contextlib
import runpy
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

from aiohttp import web

Json = dict[str, Any]

COLLECTION = Path(__file__).resolve().parents[2] / "build/collections/ansible_collections/modelfleet/serving"
EDA = COLLECTION / "extensions" / "eda"
SOURCE = EDA / "plugins" / "event_source" / "model_health.py"
GOLDEN = {"request": {"instances": [1.0, 2.0, 5.0]}, "response": {"predictions": [2.5, 3.0, 4.5]}}
# Fast, so that a test takes a second; what ansible-rulebook's users get is in the schema.
QUICK: Json = {"interval": 0.03, "timeout": 0.5, "fall": 3, "rise": 5}
HOSTILE = "{{ lookup('pipe', 'touch /tmp/taken-over') }} {% set a = 1 %}\n{# gone"


class Edge:
    """One cluster's edge; ``mood`` is how all its models answer, ``moods`` how single ones do."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.mood = "right"
        self.moods: dict[str, str] = {}
        self.asked: list[float] = []
        # Requests that wait for their answer, now and at most.
        self.open = self.most_open = 0
        self.url = ""
        self._runner: web.AppRunner | None = None
        self._port = 0

    async def start(self) -> None:
        app = web.Application()
        app.router.add_post("/v1/models/{model}:predict", self._predict)
        self._runner = web.AppRunner(app, handler_cancellation=True, shutdown_timeout=0.1)
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", self._port).start()
        self._port = self._runner.addresses[0][1]
        self.url = f"http://127.0.0.1:{self._port}"

    async def stop(self) -> None:
        if self._runner:
            await self._runner.cleanup()
            self._runner = None

    async def _predict(self, request: web.Request) -> web.Response:
        self.asked.append(time.monotonic())
        mood = self.moods.get(request.match_info["model"], self.mood)
        if mood == "flapping":
            # Two wrong, two right, and so on.
            mood = "wrong" if len(self.asked) % 4 < 2 else "right"
        if mood == "silent":
            self.open += 1
            self.most_open = max(self.most_open, self.open)
            try:
                await asyncio.sleep(60)
            finally:
                self.open -= 1
        if mood == "error":
            return web.json_response({"error": "Servable not found"}, status=404)
        if mood == "hostile":
            return web.json_response({"error": HOSTILE}, status=500)
        if mood == "html":
            return web.Response(text="<html>Welcome</html>", content_type="text/html")
        numbers = (await request.json())["instances"]
        return web.json_response({"predictions": [number / (3 if mood == "wrong" else 2) + 2 for number in numbers]})


class Watch:
    """The running event source, and what it has told."""

    def __init__(self, edges: dict[str, Edge]) -> None:
        self.edges = edges
        self.events: list[Json] = []

    async def until(self, what: Callable[[list[Json]], Any], seconds: float = 10.0) -> None:
        """Wait for events."""
        deadline = time.monotonic() + seconds
        while not what(self.events):
            assert time.monotonic() < deadline, f"not within {seconds} s: {self.events}"
            await asyncio.sleep(0.01)

    async def rounds(self, count: int) -> None:
        """Wait until each edge that can be asked was asked so often."""
        before = {edge: len(edge.asked) for edge in self.edges.values()}
        deadline = time.monotonic() + 10
        while any(len(edge.asked) - asked < count for edge, asked in before.items()):
            assert time.monotonic() < deadline, "the edges are not asked"
            await asyncio.sleep(0.01)


def source() -> Json:
    """Load the event source by its path, as ansible-rulebook does."""
    return runpy.run_path(str(SOURCE))


def options(edges: dict[str, Edge], models: tuple[str, ...] = ("half_plus_two",), **more: Any) -> Json:
    return {
        "endpoint": "test",
        "clusters": [{"name": edge.name, "url": edge.url} for edge in edges.values()],
        "models": [{"name": name, "golden": [GOLDEN]} for name in models],
        **QUICK,
        **more,
    }


@contextlib.asynccontextmanager
async def fleet(*names: str) -> AsyncIterator[dict[str, Edge]]:
    edges = {name: Edge(name) for name in names}
    for edge in edges.values():
        await edge.start()
    try:
        yield edges
    finally:
        for edge in edges.values():
            await edge.stop()


@contextlib.asynccontextmanager
async def watching(edges: dict[str, Edge], args: Json) -> AsyncIterator[Watch]:
    """Run the event source over a queue as ansible-rulebook's, which holds one event."""
    queue: asyncio.Queue[Json] = asyncio.Queue(1)
    watch = Watch(edges)

    async def take() -> None:
        while True:
            watch.events.append(await queue.get())

    tasks = [asyncio.create_task(source()["main"](queue, args)), asyncio.create_task(take())]
    try:
        yield watch
        assert not tasks[0].done(), tasks[0]
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
