# SPDX-FileCopyrightText: The modelfleet maintainers
# SPDX-License-Identifier: GPL-3.0-or-later
"""Another writer: a process of its own that runs the module, to be stopped and continued.

Standard input: the module's complete parameters as one line of JSON. Before it changes anything, it waits for a file
to go away whose path is its first argument; with a second one it waits in the middle of its change instead, when all
is checked and nothing written. Standard output: ``ready``, then the outcome.
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path
from typing import Any

from ansible_collections.modelfleet.serving.plugins.module_utils._call import Call
from ansible_collections.modelfleet.serving.plugins.module_utils._endpoint import haproxy, rfc2136
from ansible_collections.modelfleet.serving.plugins.module_utils._endpoint.balancer import Balancer
from ansible_collections.modelfleet.serving.plugins.module_utils._endpoint.plan import Plan
from ansible_collections.modelfleet.serving.plugins.module_utils._errors import ServingError
from ansible_collections.modelfleet.serving.plugins.module_utils._features.global_endpoint import FEATURE

BALANCERS: dict[str, Any] = {"haproxy": haproxy.HAProxy, "rfc2136": rfc2136.RFC2136}


def pause() -> None:
    """Say that this point is reached, and wait until the file is gone."""
    print("ready", flush=True)
    while Path(sys.argv[1]).exists():
        time.sleep(0.01)


def main() -> None:
    """Run once."""
    params = json.loads(sys.stdin.readline())
    if len(sys.argv) > 2:
        balancer = BALANCERS[params["balancer"]]
        apply = balancer.apply

        def late(self: Balancer, plan: Plan) -> None:
            balancer.apply = apply  # once
            pause()
            apply(self, plan)

        balancer.apply = late
    else:
        pause()
    try:
        FEATURE.run(Call(params))
        print("done", flush=True)
    except ServingError as error:
        print(str(error), flush=True)


if __name__ == "__main__":
    main()
