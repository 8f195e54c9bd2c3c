# SPDX-FileCopyrightText: The modelfleet maintainers
# SPDX-License-Identifier: GPL-3.0-or-later
"""TF Serving's REST interface, over whatever way leads to it: a URL, or a pod behind its API server.

Interface: https://www.tensorflow.org/tfx/serving/api_rest
"""

from __future__ import annotations

import http.client
import json
from collections.abc import Callable
from typing import Any
from urllib.error import HTTPError, URLError

from ansible.module_utils.urls import open_url

from ansible_collections.modelfleet.serving.plugins.module_utils._cluster.session import Session
from ansible_collections.modelfleet.serving.plugins.module_utils._errors import ServingError, UnreachableError

# Method, path and body in; status code and body out. Raises UnreachableError when nobody answers.
Transport = Callable[[str, str, "bytes | None"], tuple[int, bytes]]


def url_transport(url: str, *, timeout: float, host: str | None = None, validate_certs: bool = True) -> Transport:
    """Reach a server by a URL.

    :param timeout: seconds for one request.
    :param host: the Host header, for an edge that tells models apart by it.
    """

    def send(method: str, path: str, body: bytes | None) -> tuple[int, bytes]:
        headers = {"Content-Type": "application/json", **({"Host": host} if host else {})}
        try:
            response = open_url(
                url + path, data=body, method=method, headers=headers, timeout=timeout, validate_certs=validate_certs
            )
            return response.status, response.read()
        except HTTPError as error:
            return error.code, error.read()
        except (URLError, OSError, http.client.HTTPException) as error:
            cause = getattr(error, "reason", None) or error
            raise UnreachableError(f"{url}: no answer: {cause}.", hint="Check its address and that it runs.") from error

    return send


def pod_transport(session: Session, namespace: str, pod: str, port: int) -> Transport:
    """Reach a pod through its cluster's API server."""

    def send(method: str, path: str, body: bytes | None) -> tuple[int, bytes]:
        return session.pod_request(namespace, pod, port, method, path, body)

    return send


def model_status(send: Transport, model: str) -> dict[int, dict[str, str]]:
    """Ask which versions of a model a server has.

    :returns: version to ``state`` (``AVAILABLE``, ``LOADING``…) and ``error`` (the server's words, or ``""``); empty
        when the server does not know the model.
    """
    status, body = send("GET", f"/v1/models/{model}", None)
    if status == 404:
        return {}
    answer = _json(status, body)
    if status != 200:
        raise ServingError(f"model {model}: its status can't be read: {_words(answer, body)} ({status}).")
    return {
        int(entry["version"]): {
            "state": entry["state"],
            "error": entry.get("status", {}).get("error_message", ""),
        }
        for entry in answer.get("model_version_status", [])
    }


def labelled_version(send: Transport, model: str, label: str) -> int | None:
    """Ask which version a label leads to; None where it leads nowhere yet."""
    status, body = send("GET", f"/v1/models/{model}/labels/{label}/metadata", None)
    if status != 200:
        return None
    return int(_json(status, body)["model_spec"]["version"])


def predict(send: Transport, model: str, request: Any, version: int | None = None) -> Any:
    """Ask a model for predictions.

    :param request: the body, such as ``{"instances": [1.0, 2.0, 5.0]}``.
    :returns: the answer, such as ``{"predictions": [2.5, 3.0, 4.5]}``.
    :raises ServingError: with the server's own words when it answers with an error.
    """
    path = f"/v1/models/{model}" + (f"/versions/{version}" if version is not None else "") + ":predict"
    status, body = send("POST", path, json.dumps(request).encode())
    answer = _json(status, body)
    if status != 200:
        raise ServingError(f"{_words(answer, body)} ({status})")
    return answer


def _json(status: int, body: bytes) -> Any:
    try:
        return json.loads(body)
    except ValueError:
        if status == 200:
            raise ServingError(f"the answer is not JSON: {body[:200]!r}") from None
        return None


def _words(answer: Any, body: bytes) -> str:
    """Give what the server said of an error: TF Serving's ``error``, the API server's ``message``, or the body."""
    if isinstance(answer, dict):
        return str(answer.get("error") or answer.get("message") or answer)
    return body.decode(errors="replace").strip()[:200] or "empty answer"
