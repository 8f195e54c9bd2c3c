# SPDX-FileCopyrightText: The modelfleet maintainers
# SPDX-License-Identifier: GPL-3.0-or-later
"""Send predictions until a file is gone, and count: ``load.py URL PREFIX CLIENTS``.

Runs as long as ``PREFIX.run`` exists, but no longer than 20 minutes, with so many clients at once; ``PREFIX.json``
holds the numbers of requests sent, lost and wrong.
"""

from __future__ import annotations

import json
import sys
import threading
import time
import urllib.request
from datetime import datetime
from pathlib import Path
from typing import Any

url, prefix, clients = sys.argv[1:]
body = json.dumps({"instances": [1.0, 2.0, 5.0]}).encode()
running, report = Path(f"{prefix}.run"), Path(f"{prefix}.json")
counts: dict[str, Any] = {"sent": 0, "lost": 0, "wrong": 0, "slowest": 0.0, "first_error": ""}
counting = threading.Lock()
# A scenario that was killed takes the file away no more.
end = time.monotonic() + 20 * 60


def send() -> None:
    """Send one prediction after another."""
    while running.exists() and time.monotonic() < end:
        start = time.monotonic()
        wrong, error = False, ""
        try:
            with urllib.request.urlopen(urllib.request.Request(url, body), timeout=30) as answer:
                wrong = json.load(answer) != {"predictions": [2.5, 3.0, 4.5]}
        except (OSError, ValueError) as failure:
            error = f"{failure} at {datetime.now():%H:%M:%S}"
        with counting:
            counts["sent"] += 1
            counts["lost"] += bool(error)
            counts["wrong"] += wrong
            counts["slowest"] = max(counts["slowest"], time.monotonic() - start)
            counts["first_error"] = counts["first_error"] or error
            partial = report.with_suffix(".partial")
            partial.write_text(json.dumps(counts))
            partial.replace(report)
        time.sleep(0.02)


report.unlink(missing_ok=True)
for _number in range(int(clients)):
    threading.Thread(target=send).start()
