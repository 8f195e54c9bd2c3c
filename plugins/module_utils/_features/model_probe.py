# SPDX-FileCopyrightText: The modelfleet maintainers
# SPDX-License-Identifier: GPL-3.0-or-later
"""Ask for the golden predictions, at a URL or at every pod of a server, and hold the answers against the right ones."""

from __future__ import annotations

from contextlib import ExitStack
from typing import Any

from ansible_collections.modelfleet.serving.plugins.module_utils._call import Call, Feature, Result
from ansible_collections.modelfleet.serving.plugins.module_utils._cluster.arguments import cluster_arguments
from ansible_collections.modelfleet.serving.plugins.module_utils._cluster.pods import live_pods
from ansible_collections.modelfleet.serving.plugins.module_utils._cluster.session import connect
from ansible_collections.modelfleet.serving.plugins.module_utils._cluster.wait import Deadline, poll_until
from ansible_collections.modelfleet.serving.plugins.module_utils._errors import InputError, WaitError
from ansible_collections.modelfleet.serving.plugins.module_utils._manifests.names import REST_PORT, server_selector
from ansible_collections.modelfleet.serving.plugins.module_utils._names import (
    require_dns_label,
    require_host_name,
    require_url,
)
from ansible_collections.modelfleet.serving.plugins.module_utils._tfserving.golden import (
    GOLDEN_OPTIONS,
    Golden,
    goldens,
)
from ansible_collections.modelfleet.serving.plugins.module_utils._tfserving.probe import ask
from ansible_collections.modelfleet.serving.plugins.module_utils._tfserving.rest import (
    Transport,
    pod_transport,
    url_transport,
)

_POLL_SECONDS = 0.5


def run(call: Call) -> Result:
    """Probe until every answer is right, or the time is over."""
    params = call.params
    wanted = goldens(params["models"])
    if params["timeout"] <= 0:
        raise InputError(f"timeout: {params['timeout']:g} is no time.", hint="Give seconds, such as 5.")
    deadline = Deadline.after(params["wait_timeout"])
    with ExitStack() as stack:
        find_targets = _targets(call, stack)
        results: list[dict[str, Any]] = []

        def wrong() -> str:
            results[:] = [_probe(name, send, golden) for name, send in find_targets().items() for golden in wanted]
            return "" if results and all(row["right"] for row in results) else _summary(results)

        healthy = not poll_until(wrong, deadline, _POLL_SECONDS, call.progress)
    if not healthy and params["fail_on_wrong"]:
        raise WaitError(_summary(results), details={"healthy": healthy, "results": results})
    return Result(values={"healthy": healthy, "results": results})


def _targets(call: Call, stack: ExitStack) -> Any:
    """Give a function that finds what to probe at this moment: name to the way there."""
    params = call.params
    if params["url"] is not None:
        url = require_url(params["url"], "url")
        host = require_host_name(params["host_header"], "host_header") if params["host_header"] is not None else None
        send = url_transport(
            url, timeout=params["timeout"], host=host, validate_certs=params["validate_certs"] is not False
        )
        return lambda: {url: send}
    namespace = require_dns_label(params["namespace"], "namespace")
    labels = server_selector(require_dns_label(params["server"], "server"))
    session = stack.enter_context(connect({**params, "request_timeout": params["timeout"]}, call.warn))

    def find() -> dict[str, Transport]:
        pods = live_pods(session.find("v1", "Pod", namespace, labels=labels))
        names = [pod["metadata"]["name"] for pod in pods]
        return {f"pod {name}": pod_transport(session, namespace, name, REST_PORT) for name in names}

    return find


def _probe(target: str, send: Transport, golden: Golden) -> dict[str, Any]:
    verdict = ask(send, golden)
    return {
        "target": target,
        "model": golden.model,
        "golden": golden.name,
        "right": verdict.right,
        "error": verdict.error,
        "seconds": verdict.seconds,
    }


def _summary(results: list[dict[str, Any]]) -> str:
    if not results:
        return "There is no pod to probe. Check the names of the server and its namespace."
    wrong = [row for row in results if not row["right"]]
    first = wrong[0]
    return (
        f"{len(wrong)} of {len(results)} golden predictions are not right. "
        f"{first['target']}: model {first['model']}: {first['golden']}: {first['error']}"
    )


FEATURE = Feature(
    arguments={
        **cluster_arguments(),
        "models": {"type": "list", "elements": "dict", "required": True, "options": GOLDEN_OPTIONS},
        "url": {"type": "str"},
        "host_header": {"type": "str"},
        "server": {"type": "str"},
        "namespace": {"type": "str"},
        "timeout": {"type": "float", "default": 5.0},
        "wait_timeout": {"type": "int", "default": 0},
        "fail_on_wrong": {"type": "bool", "default": True},
    },
    run=run,
    constraints={
        "required_one_of": [("url", "server")],
        "mutually_exclusive": [("url", "server")],
        "required_by": {"server": ["namespace"], "host_header": ["url"]},
    },
)
