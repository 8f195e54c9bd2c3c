# SPDX-FileCopyrightText: The modelfleet maintainers
# SPDX-License-Identifier: GPL-3.0-or-later
"""Answer as TensorFlow Serving's REST interface does, from a forest; Gunicorn runs it, on the port in ``PORT``."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import joblib
import numpy as np

FOREST = joblib.load(Path(__file__).with_name("forest.joblib"))
NAME = os.environ.get("MODEL_NAME", "iris_forest")
READY = {
    "model_version_status": [
        {"version": "1", "state": "AVAILABLE", "status": {"error_code": "OK", "error_message": ""}}
    ]
}


class RequestError(Exception):
    """A request that can't be answered, with its status line."""


def app(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
    """Answer one request, as WSGI has it."""
    try:
        status, answer = "200 OK", respond(environ)
    except RequestError as error:
        status, answer = error.args[0], {"error": error.args[1]}
    body = json.dumps(answer).encode()
    start_response(status, [("Content-Type", "application/json"), ("Content-Length", str(len(body)))])
    return [body]


def respond(environ: dict[str, Any]) -> Any:
    """Give the answer to a request."""
    request = environ["REQUEST_METHOD"], environ["PATH_INFO"]
    if request in (("GET", f"/v1/models/{NAME}"), ("GET", f"/v1/models/{NAME}/versions/1")):
        return READY
    if request in (("POST", f"/v1/models/{NAME}:predict"), ("POST", f"/v1/models/{NAME}/versions/1:predict")):
        body = environ["wsgi.input"].read(int(environ.get("CONTENT_LENGTH") or 0))
        return {"predictions": FOREST.predict_proba(flowers(body)).tolist()}
    raise RequestError("404 Not Found", f"There is no {' '.join(request)} here; the model is {NAME}.")


def flowers(body: bytes) -> Any:
    """Read the flowers of a request: four measurements each, in centimetres."""
    try:
        rows = np.asarray(json.loads(body)["instances"], dtype=np.float64)
    except (ValueError, TypeError, KeyError) as error:
        raise RequestError("400 Bad Request", f"The body has no instances that are numbers: {error}") from error
    if rows.ndim != 2 or rows.shape[1] != FOREST.n_features_in_ or not np.isfinite(rows).all():
        wanted = f"Each instance has {FOREST.n_features_in_} finite numbers"
        raise RequestError("400 Bad Request", f"{wanted}; the request has the shape {list(rows.shape)}.")
    return rows
