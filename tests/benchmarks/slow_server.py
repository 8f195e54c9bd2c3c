# SPDX-FileCopyrightText: The modelfleet maintainers
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the failover benchmark adds to each cluster, in a pod: the model ``slow``, and wrong answers for half_plus_two.

A prediction of ``slow`` takes as many seconds as its instance says, and needs no processor for that. ``half_plus_two``
is wrong by a third; it gets requests only while the benchmark leads a cluster's Service here.
"""

from __future__ import annotations

import json
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


class Handler(BaseHTTPRequestHandler):
    """The REST interface, as far as the benchmark asks it."""

    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def do_GET(self) -> None:
        """Answer the kubelet."""
        self._answer({})

    def do_POST(self) -> None:
        """Predict."""
        numbers = json.loads(self.rfile.read(int(self.headers["Content-Length"])))["instances"]
        if "/slow:" in self.path:
            time.sleep(max(numbers))
            self._answer({"predictions": numbers})
        else:
            self._answer({"predictions": [number / 3 + 2 for number in numbers]})

    def _answer(self, answer: object) -> None:
        text = json.dumps(answer).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text)

    def log_message(self, *_arguments: object) -> None:
        """Keep quiet."""


if __name__ == "__main__":
    ThreadingHTTPServer(("", 8501), Handler).serve_forever()
