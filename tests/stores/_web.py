# SPDX-FileCopyrightText: The modelfleet maintainers
# SPDX-License-Identifier: GPL-3.0-or-later
"""A plain web server on this machine that the pods of the local fleet can reach."""

from __future__ import annotations

import json
import subprocess
import threading
import time
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import IO, Any, Self

_BLOCK = 64 * 1024


def gateway() -> str:
    """Give this machine's address on the network of the fleet's nodes."""
    command = ["docker", "network", "inspect", "kind"]
    (network,) = json.loads(subprocess.run(command, capture_output=True, check=True).stdout)
    return next(entry["Gateway"] for entry in network["IPAM"]["Config"] if ":" not in entry["Subnet"])


class Web:
    """Serves a folder, with lists of its folders; use it as a context manager.

    :param pause: seconds for each 64 KiB of an answer.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.pause = 0.0
        self.read: list[str] = []
        self._http = ThreadingHTTPServer((gateway(), 0), partial(_Handler, self, directory=str(folder)))
        self._http.daemon_threads = True
        self._http.block_on_close = False
        self.url = f"http://{gateway()}:{self._http.server_port}"

    def __enter__(self) -> Self:
        threading.Thread(target=self._http.serve_forever, args=(0.05,), daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._http.shutdown()
        self._http.server_close()


class _Handler(SimpleHTTPRequestHandler):
    def __init__(self, web: Web, *arguments: Any, **more: Any) -> None:
        self.web = web
        super().__init__(*arguments, **more)

    def do_GET(self) -> None:
        if not self.path.endswith("/"):
            self.web.read.append(self.path)
        super().do_GET()

    def copyfile(self, source: Any, outputfile: IO[bytes]) -> None:
        """Send a file, as slowly as the test wants it."""
        while block := source.read(_BLOCK):
            outputfile.write(block)
            time.sleep(self.web.pause)

    def log_message(self, *_: object) -> None:
        """Stay silent."""
