# SPDX-FileCopyrightText: The modelfleet maintainers
# SPDX-License-Identifier: GPL-3.0-or-later
"""How a cluster is, for who decides on a failover: what its edge answers, and what its API says of its servers."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from ansible_collections.modelfleet.serving.plugins.module_utils._call import Call, Feature, Result
from ansible_collections.modelfleet.serving.plugins.module_utils._cluster.arguments import cluster_arguments
from ansible_collections.modelfleet.serving.plugins.module_utils._cluster.autoscalers import bounds
from ansible_collections.modelfleet.serving.plugins.module_utils._cluster.session import connect, require_connection
from ansible_collections.modelfleet.serving.plugins.module_utils._cluster.wait import Deadline
from ansible_collections.modelfleet.serving.plugins.module_utils._errors import ApiError, InputError, ServingError
from ansible_collections.modelfleet.serving.plugins.module_utils._failover.observe import EdgeView, Question, run_until
from ansible_collections.modelfleet.serving.plugins.module_utils._features.server_state import ServerState, read_servers
from ansible_collections.modelfleet.serving.plugins.module_utils._names import (
    require_dns_label,
    require_host_name,
    require_unique,
    require_url,
)
from ansible_collections.modelfleet.serving.plugins.module_utils._store.record import Record
from ansible_collections.modelfleet.serving.plugins.module_utils._tfserving.golden import GOLDEN_OPTIONS, goldens
from ansible_collections.modelfleet.serving.plugins.module_utils._tfserving.model_config import ServedModel
from ansible_collections.modelfleet.serving.plugins.module_utils._tfserving.rest import url_transport

Json = dict[str, Any]


def run(call: Call) -> Result:
    """Ask edge and API at the same time. Only bad input fails; a cluster that is silent is a finding."""
    params = call.params
    url = require_url(params["edge_url"], "edge_url")
    namespace = require_dns_label(params["namespace"], "namespace")
    servers = params["servers"]
    for name in servers or ():
        require_dns_label(name, "servers")
    require_unique(servers or [], "servers")
    for option in ("timeout", "deadline"):
        if params[option] <= 0:
            raise InputError(f"{option}: {params[option]:g} is no time.", hint="Give seconds, such as 3.")
    questions = _questions(params, url)
    name = require_connection(params)

    deadline = Deadline.after(params["deadline"])
    edge = EdgeView(url, questions, deadline)
    silence = f"cluster {name}: no answer within {deadline.seconds:g} s."
    api: Json = {"reachable": False, "error": silence, "servers": []}

    def ask_api() -> None:
        # In one step: the reader may come at any moment.
        api.update(_ask_api(call, namespace, servers, deadline))

    run_until(deadline, [ask_api], edge.jobs())
    return Result(values={"edge": edge.as_dict(), "api": dict(api)})


def _questions(params: Mapping[str, Any], url: str) -> list[Question]:
    wanted = goldens(params["models"])
    timeout = min(params["timeout"], params["deadline"])
    questions = []
    for entry in params["models"]:
        host = entry["host"] if entry["host"] is not None else params["host_header"]
        if host is not None:
            require_host_name(host, "models.host" if entry["host"] is not None else "host_header")
        send = url_transport(url, timeout=timeout, host=host, validate_certs=params["validate_certs"] is not False)
        of_model = tuple(golden for golden in wanted if golden.model == entry["name"])
        questions.append(Question(entry["name"], send, of_model, versions=bool(entry["versions"])))
    return questions


def _ask_api(call: Call, namespace: str, names: list[str] | None, deadline: Deadline) -> Json:
    """Read the servers; what goes wrong, a plugin that gets no token from its cloud included, is told, not raised."""
    timeout = min(call.params["request_timeout"] or deadline.seconds, deadline.seconds)
    try:
        with connect({**call.params, "request_timeout": timeout}, call.warn) as session:
            found = {state.workload["metadata"]["name"]: state for state in read_servers(session, namespace)}
    except ServingError as error:
        # A proxy in front of a server that is away answers with 502 to 504.
        answered = isinstance(error, ApiError) and error.status < 500
        return {"reachable": answered, "error": str(error), "servers": []}
    rows = [_server(name, found.get(name)) for name in (names if names is not None else found)]
    return {"reachable": True, "error": "", "servers": rows}


def _server(name: str, state: ServerState | None) -> Json:
    """Give what is known of a server; one that does not exist has no pods."""
    if state is None:
        return {"name": name, "replicas": 0, "ready": 0, "min": None, "max": None, "volumes": None, "models": {}}
    low, high = bounds(state.autoscaler) if state.autoscaler else (None, None)
    return {
        "name": name,
        "replicas": state.workload["spec"]["replicas"],
        "ready": (state.workload.get("status") or {}).get("readyReplicas", 0),
        "min": low,
        "max": high,
        "volumes": state.volumes,
        "models": {
            model.name: {
                "versions": _served(model, state.record),
                "digests": state.record.get(model.name, {}),
            }
            for model in state.models
        },
    }


def _served(model: ServedModel, record: Record) -> list[int]:
    """Give the versions that a server is told to serve; by a policy, these follow from what its store holds."""
    if model.policy == "specific":
        return list(model.versions)
    held = sorted(_numbers(record.get(model.name, {})))
    return held[-model.num_versions :] if model.policy == "latest" else held


def _numbers(versions: Iterable[str]) -> list[int]:
    return [int(version) for version in versions]


_MODEL = GOLDEN_OPTIONS | {"versions": {"type": "list", "elements": "int", "default": []}, "host": {"type": "str"}}

FEATURE = Feature(
    arguments={
        **cluster_arguments(),
        "edge_url": {"type": "str", "required": True},
        "host_header": {"type": "str"},
        "models": {"type": "list", "elements": "dict", "required": True, "options": _MODEL},
        "timeout": {"type": "float", "default": 1.5},
        "namespace": {"type": "str", "required": True},
        "servers": {"type": "list", "elements": "str"},
        "deadline": {"type": "float", "default": 3.0},
    },
    run=run,
)
