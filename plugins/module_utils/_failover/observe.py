# SPDX-FileCopyrightText: The modelfleet maintainers
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a cluster's edge answers, asked for everything at once and within one deadline."""

from __future__ import annotations

import copy
import threading
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

from ansible_collections.modelfleet.serving.plugins.module_utils._cluster.wait import Deadline
from ansible_collections.modelfleet.serving.plugins.module_utils._errors import ServingError
from ansible_collections.modelfleet.serving.plugins.module_utils._tfserving.golden import Golden
from ansible_collections.modelfleet.serving.plugins.module_utils._tfserving.probe import ask
from ansible_collections.modelfleet.serving.plugins.module_utils._tfserving.rest import Transport, model_status

Json = dict[str, Any]
Job = Callable[[], None]

# A busy edge is not to be made busier by those who watch it.
_AT_ONCE = 8


@dataclass(frozen=True)
class Question:
    """A model to ask a cluster's edge for.

    :param goldens: its golden requests; those after the first wrong answer are not sent.
    :param versions: whether to ask which versions are loaded.
    """

    model: str
    send: Transport
    goldens: tuple[Golden, ...]
    versions: bool


class EdgeView:
    """What an edge has answered up to now, by model."""

    def __init__(self, url: str, questions: Iterable[Question], deadline: Deadline) -> None:
        self._questions = list(questions)
        self._rows: dict[str, Json] = {
            question.model: {
                "right": False,
                "answered": False,
                "error": f"{url}: no answer within {deadline.seconds:g} s.",
                "versions": None,
                "seconds": deadline.seconds,
            }
            for question in self._questions
        }

    def jobs(self) -> list[Job]:
        """Give what there is to ask, the predictions first."""

        def job(work: Callable[[Question, Json], None], question: Question) -> Job:
            return lambda: work(question, self._rows[question.model])

        return [
            *(job(_ask_predictions, question) for question in self._questions),
            *(job(_ask_versions, question) for question in self._questions if question.versions),
        ]

    def as_dict(self) -> Json:
        """Give the answers, with what did not come in time as silence."""
        models = copy.deepcopy(self._rows)
        return {"right": all(row["right"] for row in models.values()), "models": models}


def _ask_predictions(question: Question, row: Json) -> None:
    seconds = 0.0
    error = ""
    for golden in question.goldens:
        verdict = ask(question.send, golden)
        seconds = max(seconds, verdict.seconds)
        row["answered"] = row["answered"] or verdict.answered
        error = f"{golden.name}: {verdict.error}" if verdict.error else ""
        if error:
            break
    # In one step: the reader may come at any moment.
    row.update(error=error, seconds=seconds, right=not error)


def _ask_versions(question: Question, row: Json) -> None:
    """Ask which versions are loaded; None stays where nobody knows the model."""
    try:
        known = model_status(question.send, question.model)
    except ServingError:
        return
    if known:
        row["versions"] = sorted(version for version, state in known.items() if state["state"] == "AVAILABLE")


def run_until(deadline: Deadline, *groups: list[Job]) -> None:
    """Do all jobs side by side, and return when they are done or the time is over, whichever comes first.

    Each group has its own threads, so that one that hangs delays no other. What is not done then is left alone: a
    thread of :mod:`concurrent.futures` would keep the process from ending.

    :raises Exception: the first that a job has raised.
    """
    done = threading.Semaphore(0)
    raised: list[Exception] = []

    def work(waiting: list[Job], lock: threading.Lock) -> None:
        while True:
            with lock:
                if not waiting:
                    return
                job = waiting.pop(0)
            try:
                job()
            except Exception as error:  # raised below, where somebody hears it
                raised.append(error)
            done.release()

    for group in groups:
        waiting, lock = list(group), threading.Lock()
        for _number in range(min(len(group), _AT_ONCE)):
            threading.Thread(target=work, args=(waiting, lock), daemon=True).start()
    for _job in range(sum(map(len, groups))):
        if not done.acquire(timeout=deadline.left):
            break
    if raised:
        raise raised[0]
