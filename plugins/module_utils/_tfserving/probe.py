# SPDX-FileCopyrightText: The modelfleet maintainers
# SPDX-License-Identifier: GPL-3.0-or-later
"""Ask one golden request, and judge the answer."""

from __future__ import annotations

import time
from dataclasses import dataclass

from ansible_collections.modelfleet.serving.plugins.module_utils._errors import ServingError
from ansible_collections.modelfleet.serving.plugins.module_utils._tfserving.answer import is_prediction
from ansible_collections.modelfleet.serving.plugins.module_utils._tfserving.golden import Golden
from ansible_collections.modelfleet.serving.plugins.module_utils._tfserving.rest import Transport, predict


@dataclass(frozen=True)
class Verdict:
    """How a golden request was answered.

    :param error: what was wrong; ``""`` when nothing was.
    :param answered: whether there was a prediction, right or wrong.
    """

    error: str
    answered: bool
    seconds: float

    @property
    def right(self) -> bool:
        """Tell whether it was answered right."""
        return not self.error


def ask(send: Transport, golden: Golden) -> Verdict:
    """Send a golden request. What goes wrong is a verdict, not an error."""
    start = time.monotonic()
    answered = False
    try:
        answer = predict(send, golden.model, golden.request)
        answered = is_prediction(answer)
        error = golden.mismatch(answer)
    except ServingError as failure:
        error = str(failure)
    return Verdict(error, answered, round(time.monotonic() - start, 4))
