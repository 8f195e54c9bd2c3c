# SPDX-FileCopyrightText: The modelfleet maintainers
# SPDX-License-Identifier: GPL-3.0-or-later
"""A feature that does what a test asks of it: warn, fail, take time, and give back what it was given."""

from __future__ import annotations

import os
import sys
import time
from typing import Any

from ansible_collections.modelfleet.serving.plugins.module_utils._call import Call, Feature, Result
from ansible_collections.modelfleet.serving.plugins.module_utils._cluster.arguments import cluster_arguments
from ansible_collections.modelfleet.serving.plugins.module_utils._errors import ServingError, UnreachableError


def run(call: Call) -> Result:
    """Do it."""
    params = call.params
    for text in params["progress"]:
        call.progress(text)
        time.sleep(params["seconds"])
    for text in params["warnings"]:
        call.warn(text)
    values: dict[str, Any] = {
        "value": params["value"],
        "type": type(params["value"]).__name__,
        "tuple": (1, {2: "two"}),
        "secret": f"<{params['secret']}>",
        "environment": {name: os.environ.get(name) for name in params["variables"]},
        "door": "action" if "ansible.executor.task_executor" in sys.modules else "module",
        "process": os.getpid(),
        "prefix": sys.prefix,
    }
    if params["end"] == "failed":
        raise ServingError(f"It failed with {params['secret']}.", hint="Ask for success.", details=values)
    if params["end"] == "unreachable":
        raise UnreachableError("Nobody answers.", details=values)
    if params["end"] == "crash":
        raise LookupError("a mistake in the code")
    return Result(changed=params["end"] == "changed", values=values)


OURS = {"version": "9.0.0", "collection_name": "modelfleet.doors"}
FEATURE = Feature(
    arguments={
        **cluster_arguments(),
        "value": {"type": "raw"},
        "size": {"type": "int", "aliases": ["length", "width"], "deprecated_aliases": [{"name": "length", **OURS}]},
        "colour": {"type": "str", "removed_in_version": "9.0.0", "removed_from_collection": "modelfleet.doors"},
        "secret": {"type": "str", "no_log": True, "default": ""},
        "warnings": {"type": "list", "elements": "str", "default": []},
        "variables": {"type": "list", "elements": "str", "default": []},
        "progress": {"type": "list", "elements": "str", "default": []},
        "seconds": {"type": "float", "default": 0.0},
        "end": {"type": "str", "choices": ["ok", "changed", "failed", "unreachable", "crash"], "default": "ok"},
    },
    run=run,
    constraints={"required_if": [("end", "changed", ["value"])]},
)
