# SPDX-FileCopyrightText: The modelfleet maintainers
# SPDX-License-Identifier: GPL-3.0-or-later
"""Send predictions until a file is gone, and count: ``load.py URL PREFIX``.

Runs as long as ``PREFIX.run`` exists; ``PREFIX.json`` holds the numbers of requests sent, lost and wrong.
"""

from __future__ import annotations

import json
import sys
import time
import urllib.request
from pathlib import Path

url, prefix = sys.argv[1:]
body = json.dumps({"instances": [1.0, 2.0, 5.0]}).encode()
running, report = Path(f"{prefix}.run"), Path(f"{prefix}.json")
sent = lost = wrong = 0
slowest = 0.0
first_error = ""
report.unlink(missing_ok=True)
while running.exists():
    start = time.monotonic()
    sent += 1
    try:
        with urllib.request.urlopen(urllib.request.Request(url, body), timeout=30) as answer:
            wrong += json.load(answer) != {"predictions": [2.5, 3.0, 4.5]}
    except (OSError, ValueError) as error:
        lost += 1
        first_error = first_error or str(error)
    slowest = max(slowest, time.monotonic() - start)
    counts = {"sent": sent, "lost": lost, "wrong": wrong, "slowest": slowest, "first_error": first_error}
    partial = report.with_suffix(".partial")
    partial.write_text(json.dumps(counts))
    partial.replace(report)
    time.sleep(0.02)
