# SPDX-FileCopyrightText: The modelfleet maintainers
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a server's answer says, whatever way it came. Pure."""

from __future__ import annotations

import json
from typing import Any

from ansible_collections.modelfleet.serving.plugins.module_utils._errors import ServingError


def read_prediction(status: int, body: bytes) -> Any:
    """Read the answer to a request for predictions.

    :returns: the answer, such as ``{"predictions": [2.5, 3.0, 4.5]}``.
    :raises ServingError: with the server's own words when it answers with an error.
    """
    answer = read_json(status, body)
    if status != 200:
        raise ServingError(f"{words(answer, body)} ({status})")
    return answer


def is_prediction(answer: Any) -> bool:
    """Tell whether an answer holds predictions, by row or by column; anything else that says 200 is no model server."""
    return isinstance(answer, dict) and ("predictions" in answer or "outputs" in answer)


def read_json(status: int, body: bytes) -> Any:
    """Read a JSON body; an error's body may be anything, and is ``None`` then."""
    try:
        return json.loads(body)
    except ValueError:
        if status == 200:
            raise ServingError(f"the answer is not JSON: {body[:200]!r}") from None
        return None


def words(answer: Any, body: bytes) -> str:
    """Give what the server said of an error: TF Serving's ``error``, the API server's ``message``, or the body."""
    if isinstance(answer, dict):
        return str(answer.get("error") or answer.get("message") or answer)
    return body.decode(errors="replace").strip()[:200] or "empty answer"
