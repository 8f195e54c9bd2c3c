# SPDX-FileCopyrightText: The modelfleet maintainers
# SPDX-License-Identifier: GPL-3.0-or-later
"""Bring running servers to another configuration without a restart, proved by what each pod says of itself."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping

from ansible_collections.modelfleet.serving.plugins.module_utils._cluster.session import Session
from ansible_collections.modelfleet.serving.plugins.module_utils._cluster.wait import Deadline, poll_until, too_late
from ansible_collections.modelfleet.serving.plugins.module_utils._errors import ServingError, WaitError
from ansible_collections.modelfleet.serving.plugins.module_utils._tfserving.model_config import ServedModel, steps
from ansible_collections.modelfleet.serving.plugins.module_utils._tfserving.rest import (
    Transport,
    labelled_version,
    model_status,
)

# TF Serving has no way to be watched, so its status is polled.
_POLL_SECONDS = 0.3

Models = tuple[ServedModel, ...]


def loaded_models(configured: Iterable[ServedModel], pods: Mapping[str, Transport]) -> Models:
    """Give what a configuration has brought into service: without the versions that no pod has loaded.

    A version that can't be loaded must not be carried on: it would hold up whatever comes after it.
    """
    found = []
    for model in configured:
        statuses = [model_status(send, model.name) for send in pods.values()]
        available = {
            version for status in statuses for version, state in status.items() if state["state"] == "AVAILABLE"
        }
        versions = tuple(version for version in model.versions if version in available)
        if versions or (model.policy != "specific" and available):
            labels = {label: version for label, version in model.labels.items() if version in available}
            found.append(ServedModel(model.name, versions, labels, model.policy, model.num_versions))
    return tuple(found)


def bring_to(
    session: Session,
    pods: Mapping[str, Transport],
    current: Models,
    wanted: Models,
    write: Callable[[Models], None],
    deadline: Deadline,
    progress: Callable[[str], None],
) -> None:
    """Go through the steps to a configuration and prove each on every pod, but for a last one that only unloads.

    :param write: puts a configuration where the pods find it.
    :raises WaitError: when a version can't be loaded or the time is over; what was served before then still is, and the
        configuration is as it was.
    """
    path = steps(current, wanted)
    for step in path[:-1] or path:
        write(step)
        try:
            wait_served(session, pods, step, deadline, progress)
        except ServingError as error:
            write(current)
            error.hint = f"{error.hint} The configuration of before is in force again, and nothing else was changed."
            raise


def wait_served(
    session: Session,
    pods: Mapping[str, Transport],
    models: Iterable[ServedModel],
    deadline: Deadline,
    progress: Callable[[str], None],
) -> None:
    """Wait until every pod serves every version by every label, and no other, by its own word.

    :raises WaitError: when a version can't be loaded, with the server's words; or at the deadline.
    """
    for pod, send in pods.items():
        for model in models:

            def missing(pod: str = pod, model: ServedModel = model, send: Transport = send) -> str:
                text = _not_available(session, model, model_status(send, model.name), pod)
                return text or _wrong_label(model, send, pod)

            if text := poll_until(missing, deadline, _POLL_SECONDS, progress):
                raise too_late(session, text, deadline)


def _not_available(session: Session, model: ServedModel, status: dict[int, dict[str, str]], pod: str) -> str:
    """Say which version a pod does not serve yet; ``""`` when it serves all, and no other."""
    # What the server finds by itself is known when it has found it.
    expected = model.versions or _found(model, status)
    if not expected:
        return f"pod {pod}: model {model.name} has no version yet"
    for version in expected:
        state = status.get(version, {"state": "UNKNOWN", "error": ""})
        if state["state"] == "END" and state["error"]:
            raise WaitError(
                f"cluster {session.name}: pod {pod}: model {model.name} version {version} can't be loaded: "
                f"{state['error'].rstrip('.')}.",
                hint="The versions that were served before still are. Check the files of this one.",
            )
        if state["state"] != "AVAILABLE":
            return f"pod {pod}: model {model.name} version {version} is {state['state']}"
    for version, state in status.items():
        if version not in expected and state["state"] != "END":
            return f"pod {pod}: model {model.name} version {version} is still {state['state']}"
    return ""


def _found(model: ServedModel, status: dict[int, dict[str, str]]) -> list[int]:
    """Give the versions that the policy ``latest`` or ``all`` makes of what the server has seen."""
    seen = sorted(
        (version for version, state in status.items() if state["state"] != "END" or state["error"]), reverse=True
    )
    return seen[: model.num_versions] if model.policy == "latest" else seen


def _wrong_label(model: ServedModel, send: Transport, pod: str) -> str:
    for label, version in model.labels.items():
        found = labelled_version(send, model.name, label)
        if found != version:
            return (
                f"pod {pod}: model {model.name}: the label {label} leads to {found or 'nothing'}, not to {version} yet"
            )
    return ""
