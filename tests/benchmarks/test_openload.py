# SPDX-FileCopyrightText: The modelfleet maintainers
# SPDX-License-Identifier: GPL-3.0-or-later
"""The load keeps its moments while a server hangs, and its sums say what that did."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from openload import RIGHT, WRONG, Sample, Stream, load, outcome, quantile

HANGS = 1.0


class Server(ThreadingHTTPServer):
    """Answers at once, or, for one second, at the end of it."""

    until = 0.0
    sizes: set[int]


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        server = self.server
        assert isinstance(server, Server)
        body = self.rfile.read(int(self.headers["Content-Length"]))
        server.sizes.add(len(body))
        time.sleep(max(0.0, server.until - time.monotonic()))
        text = json.dumps(json.loads(body)).encode() if self.path != "/broken" else b"{}"
        self.send_response(200 if self.path != "/lost" else 503)
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text)

    def log_message(self, *_arguments: object) -> None:
        pass


@pytest.fixture
def server() -> Iterator[Server]:
    server = Server(("127.0.0.1", 0), Handler)
    server.sizes = set()
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


def test_a_hanging_server_thins_out_nothing(server: Server, tmp_path: Path) -> None:
    kinds = [Stream("/", 50, {"x": [1.0]}, {"x": [1.0]}, size=500), Stream("/broken", 5, {}, {"y": 1})]
    with load(f"http://127.0.0.1:{server.server_port}", kinds, tmp_path, 30) as running:
        time.sleep(1.5)
        hung = time.monotonic()
        server.until = hung + HANGS
        time.sleep(2)
        samples = running.stop()
    assert server.sizes == {500, 2}
    fast = [sample for sample in samples if sample.stream == 0]
    assert {sample.outcome for sample in fast} == {RIGHT}
    assert {sample.outcome for sample in samples if sample.stream == 1} == {WRONG}
    while_hung = [sample for sample in fast if hung <= sample.at < hung + HANGS]
    assert len(while_hung) == pytest.approx(50 * HANGS, abs=2)
    # Each waited for the rest of the second, and not for its turn.
    for sample in while_hung:
        assert sample.seconds >= hung + HANGS - sample.at - 0.05
    found = outcome(fast, kinds, hung)
    assert (found.lost, found.wrong) == (0, 0)
    # Those that waited longer than what was usual before, which depends on the machine.
    assert HANGS - found.limit_seconds - 0.1 < found.affected_seconds < HANGS


def test_errors_are_lost(server: Server, tmp_path: Path) -> None:
    kinds = [Stream("/lost", 20, {}, {})]
    with load(f"http://127.0.0.1:{server.server_port}", kinds, tmp_path, 0.5) as running:
        time.sleep(1)
        samples = running.stop()
    assert samples
    assert all(sample.lost and "503" in sample.outcome for sample in samples)


def test_the_load_goes_nowhere_else(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"not on 127\.0\.0\.1"), load("http://192.0.2.1", [], tmp_path):
        pass


def test_what_an_answer_takes_anyway_is_not_slow() -> None:
    kinds = [Stream("/", 1, {}, {}), Stream("/", 1, {}, {}, honest=5.0)]
    before = [Sample(0, second, 0.1, RIGHT) for second in range(10)]
    after = [Sample(1, 10.5, 5.2, RIGHT), Sample(0, 11.0, 0.2, RIGHT), Sample(0, 10.2, 0.5, RIGHT)]
    found = outcome(before + after, kinds, 10.0)
    assert found.limit_seconds == pytest.approx(0.3)
    assert (found.affected, found.affected_seconds) == (1, pytest.approx(0.2))
    # A request in flight at the fault counts as hit by it, and is affected before it began.
    held = outcome([*before, Sample(0, 9.9, 2.0, RIGHT)], kinds, 10.0)
    assert (held.affected, held.affected_seconds, held.slowest_seconds) == (1, 0.0, 2.0)


def test_quantiles() -> None:
    assert [quantile([3, 1, 2], share) for share in (0.0, 0.5, 1.0)] == [1, 2, 3]
