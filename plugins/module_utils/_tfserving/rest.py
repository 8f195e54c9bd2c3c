# SPDX-FileCopyrightText: The modelfleet maintainers
# SPDX-License-Identifier: GPL-3.0-or-later
"""TF Serving's REST interface, over whatever way leads to it: a URL, or a pod behind its API server.

Interface: https://www.tensorflow.org/tfx/serving/api_rest
"""

from __future__ import annotations

import http.client
import json
import ssl
from collections.abc import Callable
from typing import Any
from urllib.error import HTTPError, URLError
from urllib.parse import urlsplit
from urllib.request import HTTPSHandler, Request, build_opener

from ansible_collections.modelfleet.serving.plugins.module_utils._cluster.session import Session
from ansible_collections.modelfleet.serving.plugins.module_utils._errors import ServingError, UnreachableError
from ansible_collections.modelfleet.serving.plugins.module_utils._tfserving.answer import (
    read_json,
    read_prediction,
    words,
)

# Method, path and body in; status code and body out. Raises UnreachableError when nobody answers.
Transport = Callable[[str, str, "bytes | None"], tuple[int, bytes]]


def url_transport(url: str, *, timeout: float, host: str | None = None, validate_certs: bool = True) -> Transport:
    """Reach a server by a URL.

    :param timeout: seconds for one request.
    :param host: the Host header, for an edge that tells models apart by it.
    """
    # One for all requests, and not open_url: reading the system's certificate authorities takes ten times as long as a
    # prediction.
    opener = build_opener(HTTPSHandler(context=_tls_context(url, validate_certs)))

    def send(method: str, path: str, body: bytes | None) -> tuple[int, bytes]:
        headers = {"Content-Type": "application/json", **({"Host": host} if host else {})}
        try:
            with opener.open(Request(url + path, body, headers, method=method), timeout=timeout) as response:
                return response.status, response.read()
        except HTTPError as error:
            return error.code, error.read()
        except (URLError, OSError, http.client.HTTPException) as error:
            cause = getattr(error, "reason", None) or error
            raise UnreachableError(f"{url}: no answer: {cause}.", hint="Check its address and that it runs.") from error

    return send


def kept_transport(url: str, *, timeout: float, host: str | None = None, validate_certs: bool = True) -> Transport:
    """Reach a server by one connection that is kept for the next request, as a balancer does; for one thread.

    Proxies that the environment names are not used.
    """
    parts = urlsplit(url)
    context = _tls_context(url, validate_certs)
    connection: http.client.HTTPConnection
    if context and parts.scheme == "https":
        connection = http.client.HTTPSConnection(parts.hostname or "", parts.port, timeout=timeout, context=context)
    else:
        connection = http.client.HTTPConnection(parts.hostname or "", parts.port, timeout=timeout)

    def send(method: str, path: str, body: bytes | None) -> tuple[int, bytes]:
        headers = {"Content-Type": "application/json", **({"Host": host} if host else {})}
        try:
            connection.request(method, parts.path + path, body, headers)
            response = connection.getresponse()
            return response.status, response.read()
        except (OSError, http.client.HTTPException) as error:
            connection.close()
            raise UnreachableError(f"{url}: no answer: {error}.", hint="Check its address and that it runs.") from error

    return send


def _tls_context(url: str, validate_certs: bool) -> ssl.SSLContext | None:
    """Give whom to trust; None for a URL without TLS, for which reading the authorities is not worth the time."""
    if validate_certs:
        return ssl.create_default_context() if url.startswith("https:") else None
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


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
    answer = read_json(status, body)
    if status != 200:
        raise ServingError(f"model {model}: its status can't be read: {words(answer, body)} ({status}).")
    try:
        return {
            int(entry["version"]): {
                "state": entry["state"],
                "error": entry.get("status", {}).get("error_message", ""),
            }
            for entry in answer.get("model_version_status", [])
        }
    except (AttributeError, KeyError, TypeError, ValueError):
        raise ServingError(f"model {model}: its status is none: {body[:200]!r}.") from None


def labelled_version(send: Transport, model: str, label: str) -> int | None:
    """Ask which version a label leads to; None where it leads nowhere yet."""
    status, body = send("GET", f"/v1/models/{model}/labels/{label}/metadata", None)
    if status != 200:
        return None
    return int(read_json(status, body)["model_spec"]["version"])


def predict(send: Transport, model: str, request: Any, version: int | None = None) -> Any:
    """Ask a model for predictions.

    :param request: the body, such as ``{"instances": [1.0, 2.0, 5.0]}``.
    :returns: the answer, such as ``{"predictions": [2.5, 3.0, 4.5]}``.
    :raises ServingError: with the server's own words when it answers with an error.
    """
    path = f"/v1/models/{model}" + (f"/versions/{version}" if version is not None else "") + ":predict"
    status, body = send("POST", path, json.dumps(request).encode())
    return read_prediction(status, body)
