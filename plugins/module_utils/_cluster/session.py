# SPDX-FileCopyrightText: The modelfleet maintainers
# SPDX-License-Identifier: GPL-3.0-or-later
"""One API server: one kept-alive connection pool for one user, typed errors."""

from __future__ import annotations

import importlib
import inspect
import json
import random
import re
import time
import traceback
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from email.utils import parsedate_to_datetime
from pathlib import Path
from types import TracebackType
from typing import Any
from urllib.parse import urlencode

from ansible_collections.modelfleet.serving.plugins.module_utils._cluster.credentials import Credentials, Login
from ansible_collections.modelfleet.serving.plugins.module_utils._cluster.kinds import (
    Ref,
    Resource,
    builtin_resource,
    builtin_version,
)
from ansible_collections.modelfleet.serving.plugins.module_utils._cluster.kubeconfig import (
    Context,
    Entry,
    default_paths,
    read_context,
    service_account,
)
from ansible_collections.modelfleet.serving.plugins.module_utils._cluster.transport import (
    Server,
    open_pool,
    open_socket,
    read_server,
)
from ansible_collections.modelfleet.serving.plugins.module_utils._errors import (
    ApiError,
    InputError,
    ServingError,
    UnreachableError,
)
from ansible_collections.modelfleet.serving.plugins.module_utils._names import require_url

# The official client is not imported: it takes a second and 50 MB, which is most of a small task.
IMPORT_ERROR: ImportError | None = None
try:
    import urllib3

    importlib.import_module("yaml")  # which kubeconfig.py and bundle.py need
except ImportError as missing:
    IMPORT_ERROR = missing

Json = dict[str, Any]

# Whatever Retry-After says; urllib3 has learned to limit it in its second version.
_LONGEST_PAUSE: Any = {}
if not IMPORT_ERROR and "retry_after_max" in inspect.signature(urllib3.Retry).parameters:
    _LONGEST_PAUSE = {"retry_after_max": 60}
# Apply sends this many objects of a wave at once: few enough for the server's priority and fairness. A server that is
# near answers them one after another before it has shaken hands for a second connection, which costs both sides more
# than a request does.
_PARALLEL_REQUESTS = 4
_NEAR_SECONDS = 0.01
# A wait has a watch for each kind besides.
_KEPT_CONNECTIONS = 16
# 429 is answered by priority and fairness, the others by proxies and by a server that starts or stops.
_RETRIED_STATUS = (429, 502, 503, 504)
# An apply is as repeatable as the others: it says what should be, not what to do.
_REPEATABLE_METHODS = frozenset({"GET", "PATCH", "PUT", "DELETE"})
_ATTEMPTS = 4
# The one internal error that is the sender's: an object that does not fit its schema.
MALFORMED = "failed to create typed patch object"


def ignore(message: str) -> None:
    """Drop a message: for callers that have nobody to show it to."""


@dataclass(frozen=True)
class Answer:
    """What one request brought.

    :param content: ``None`` where a GET finds nothing.
    :param time: the server's own, in whole seconds; ``None`` where it does not tell.
    """

    content: Json | None
    time: datetime | None


class Session:
    """The connection to one cluster; use it as a context manager.

    Threads may share it, processes may not: two that write to one TLS connection break it. Ansible forks a worker for
    each task, so a session lasts for one task.

    :param name: how messages call this cluster.
    :param timeout: seconds for one request, to connect and to read each.
    :param warn: is told each warning that the server sends along with its answers, once.
    """

    def __init__(
        self, name: str, server: Server, credentials: Credentials, timeout: float, warn: Callable[[str], None]
    ) -> None:
        self.name = name
        self.server = server
        self._credentials = credentials
        self._timeout = timeout
        self._warn = warn
        self._warned: set[str] = set()
        self._round_trip = float("inf")
        self._discovered: dict[str, dict[str, Resource]] = {}
        self._defined: dict[tuple[str, str], Resource] = {}
        self._login = credentials.current()
        self._pool = self._open_pool(self._login)

    def __enter__(self) -> Session:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    @property
    def parallel_requests(self) -> int:
        """How many requests are worth sending at once, by the quickest answer so far."""
        return 1 if self._round_trip < _NEAR_SECONDS else _PARALLEL_REQUESTS

    def close(self) -> None:
        """Close the connections."""
        self._pool.clear()

    def get(self, ref: Ref) -> Json | None:
        """Read one object; None where it, its namespace or its kind does not exist."""
        try:
            return self.request("GET", self.path(ref))
        except ApiError as error:
            if error.status == 404:
                return None
            raise

    def find(
        self, api_version: str, kind: str, namespace: str | None = None, *, labels: Mapping[str, str] | None = None
    ) -> list[Json]:
        """List the objects of a kind; empty where the kind does not exist in the cluster."""
        return self.find_with_version(api_version, kind, namespace, labels=labels)[0]

    def find_with_version(
        self, api_version: str, kind: str, namespace: str | None = None, *, labels: Mapping[str, str] | None = None
    ) -> tuple[list[Json], str]:
        """List the objects of a kind, with the resource version from which a watch continues."""
        try:
            answer = self.request("GET", self.path(Ref(api_version, kind, "", namespace)), query=_selected(labels))
        except ApiError as error:
            if error.status == 404:
                return [], ""
            raise
        # The items of a list carry neither apiVersion nor kind.
        items = [{"apiVersion": api_version, "kind": kind, **item} for item in answer["items"]]
        return items, answer["metadata"]["resourceVersion"]

    def watch(
        self,
        api_version: str,
        kind: str,
        namespace: str | None,
        *,
        labels: Mapping[str, str] | None = None,
        version: str,
        seconds: float,
    ) -> Iterator[Json]:
        """Stream the watch events after a resource version; ends when the server or the time ends it.

        :param seconds: how long the server keeps the watch open.
        :raises ApiError: with status 410 when the resource version is too old, and a new list is due.
        """
        query = {
            **_selected(labels),
            "watch": "1",
            "allowWatchBookmarks": "true",
            "resourceVersion": version,
            "timeoutSeconds": str(max(1, int(seconds))),
        }
        path = self.path(Ref(api_version, kind, "", namespace))
        response = self._send("GET", path, query=query, stream=True, read_timeout=seconds + 5)
        try:
            if response.status >= 400:
                raise _api_error(self.name, "watch", path, response.status, response.read())
            rest = b""
            for chunk in response.stream(None, decode_content=True):
                *lines, rest = (rest + chunk).split(b"\n")
                for line in lines:
                    event = json.loads(line)
                    if event["type"] == "ERROR":
                        raise _api_error(self.name, "watch", path, int(event["object"].get("code", 500)), line)
                    yield event
        except urllib3.exceptions.HTTPError as error:
            raise self._unreachable(error) from error
        finally:
            response.close()

    def request(
        self,
        method: str,
        path: str,
        *,
        query: Mapping[str, str] | None = None,
        body: Json | None = None,
        content_type: str = "application/json",
    ) -> Json:
        """Send one request to the API server and give its JSON answer.

        :raises ApiError: when the server answers with an error; the message carries the server's own words.
        :raises UnreachableError: when it does not answer.
        """
        data = json.dumps(body).encode() if body is not None else None
        for attempt in range(1, _ATTEMPTS + 1):
            started = time.monotonic()
            response = self._send(method, path, query=query, data=data, content_type=content_type)
            self._round_trip = min(self._round_trip, time.monotonic() - started)
            if response.status < 400:
                break
            error = _api_error(self.name, method, path, response.status, response.data)
            if method not in _REPEATABLE_METHODS or not _may_pass(error) or attempt == _ATTEMPTS:
                raise error
            time.sleep(random.uniform(0.1, 0.3) * 2**attempt)
        answer: Json = json.loads(response.data)
        return answer

    def request_once(self, method: str, path: str, *, body: Json | None = None, seconds: float) -> Answer:
        """Send one request a single time, for what can't wait, and for what must not be done twice unseen.

        :param seconds: for all of it.
        :raises ApiError: when the server answers with an error.
        :raises UnreachableError: when it does not answer in time. What was to be written may be written all the same.
        """
        data = json.dumps(body).encode() if body is not None else None
        try:
            response = self._send(method, path, data=data, retries=False, within=seconds)
        except UnreachableError as error:
            if isinstance(error.__cause__, urllib3.exceptions.TimeoutError):
                error.message = f"cluster {self.name}: no answer from {self.server.url} in {seconds:.1f} s."
            raise
        found = not (method == "GET" and response.status == 404)
        try:
            content = json.loads(response.data) if found and response.status < 400 else None
        except ValueError:  # a proxy's page
            content = None
        if found and content is None:
            raise _api_error(self.name, method, path, response.status, response.data)
        try:
            date = parsedate_to_datetime(response.headers.get("Date", ""))
        except ValueError:
            date = None
        # Without a zone it would not compare; HTTP knows GMT alone.
        return Answer(content, date if date and date.tzinfo else None)

    def pod_request(
        self, namespace: str, pod: str, port: int, method: str, path: str, body: bytes | None = None
    ) -> tuple[int, bytes]:
        """Send a plain HTTP request to a pod through the API server, which needs no way into the cluster but its own.

        :returns: the pod's status code and body; 503 also where the API server can't reach the pod.
        """
        where = f"/api/v1/namespaces/{namespace}/pods/{pod}:{port}/proxy{path}"
        response = self._send(method, where, data=body, retries=False)
        return response.status, response.data

    def pod_log(self, namespace: str, pod: str) -> str:
        """Read the last line that a pod has written; empty where there is none, or the user may not see it."""
        response = self._send("GET", f"/api/v1/namespaces/{namespace}/pods/{pod}/log", query={"tailLines": "1"})
        text: str = response.data.decode(errors="replace") if response.status == 200 else ""
        return text.strip()

    def execute(self, namespace: str, pod: str, command: list[str], container: str) -> Any:
        """Start a command in a container; gives the websocket, which carries its streams as channels."""
        # Not the official client's websocket, which sends no impersonation: the command would run as someone else.
        try:
            import websocket
        except ImportError as error:
            raise InputError(
                "The Python package 'websocket-client', by which commands run in pods and a store is filled, is "
                "missing from the interpreter that runs this task.",
                hint="Install it there: pip install websocket-client",
            ) from error

        query = [("container", container), ("stdin", "true"), ("stdout", "true"), ("stderr", "true")]
        query += [("command", word) for word in command]
        url = f"{self.server.url}/api/v1/namespaces/{namespace}/pods/{pod}/exec?{urlencode(query)}"

        def start(login: Login) -> Any:
            headers = self._headers(login)
            headers.discard("Accept")  # JSON is not what a command answers
            return websocket.create_connection(
                url.replace("http", "ws", 1),
                socket=open_socket(self._pool, self.server, min(10.0, self._timeout)),
                timeout=self._timeout,
                # This library encodes headers as UTF-8, urllib3 as Latin-1.
                header=[f"{name}: {value}".encode("latin-1").decode() for name, value in headers.items()],
                subprotocols=["v5.channel.k8s.io", "v4.channel.k8s.io"],
                redirect_limit=0,  # with the credentials
            )

        login = self._log_in()
        try:
            try:
                return start(login)
            except websocket.WebSocketBadStatusException as error:
                if error.status_code != 401 or not self._credentials.renew(login):
                    raise
            return start(self._log_in())
        except websocket.WebSocketBadStatusException as error:
            answer = error.resp_body or b""
            raise _api_error(self.name, "run in pod", f"{namespace}/{pod}", error.status_code, answer) from error
        except (OSError, urllib3.exceptions.HTTPError, websocket.WebSocketException) as error:
            raise ServingError(
                f"cluster {self.name}: can't run a command in pod {namespace}/{pod}: {error}.",
                hint="Check that the user may create pods/exec.",
            ) from error

    def path(self, ref: Ref) -> str:
        """Give the URL path of an object, or of its collection when the name is empty."""
        resource = self.resource(ref.api_version, ref.kind)
        root = "/api/v1" if ref.api_version == "v1" else f"/apis/{ref.api_version}"
        scope = f"/namespaces/{ref.namespace}" if resource.namespaced and ref.namespace else ""
        return f"{root}{scope}/{resource.plural}" + (f"/{ref.name}" if ref.name else "")

    def resource(self, api_version: str, kind: str) -> Resource:
        """Find a kind's plural and scope: known for Kubernetes' own kinds, discovered for those of CRDs."""
        known = builtin_resource(api_version, kind) or self._defined.get((api_version, kind))
        if known:
            return known
        if api_version not in self._discovered:
            self._discovered[api_version] = self._discover(api_version)
        try:
            return self._discovered[api_version][kind]
        except KeyError:
            raise ApiError(
                f"cluster {self.name}: it has no kind {kind} in {api_version}.",
                status=404,
                reason="NotFound",
                hint="Install the CRD that brings it.",
            ) from None

    def define(self, kinds: Mapping[tuple[str, str], Resource]) -> None:
        """Take in kinds, by API version and name, that the server may learn of only in the course of this session."""
        self._defined.update(kinds)

    def serves(self, api_version: str, kind: str) -> bool:
        """Ask the server whether it has a kind by now."""
        return kind in self._discover(api_version)

    def _discover(self, api_version: str) -> dict[str, Resource]:
        try:
            answer = self.request("GET", f"/apis/{api_version}")
        except ApiError as error:
            if error.status == 404:
                return {}
            raise
        return {
            entry["kind"]: Resource(entry["name"], entry["namespaced"])
            for entry in answer["resources"]
            if "/" not in entry["name"]
        }

    def api_version(self, group: str, kind: str) -> str | None:
        """Find the version by which to speak of a kind; None where the server does not know the group."""
        known = builtin_version(group, kind)
        if known:
            return known
        try:
            answer = self.request("GET", f"/apis/{group}")
        except ApiError as error:
            if error.status == 404:
                return None
            raise
        version: str = answer["preferredVersion"]["groupVersion"]
        return version

    def _log_in(self) -> Login:
        """Give the login for a request: the last one, or a new one where it has expired."""
        login = self._credentials.current()
        if (login.certificate, login.key) != (self._login.certificate, self._login.key):
            # A connection speaks for the certificate that it began with. Other threads end what they have begun.
            self._pool = self._open_pool(login)
        self._login = login
        return login

    def _headers(self, login: Login) -> Any:
        """Give the headers of a request; a multidict, since one may impersonate several groups."""
        headers = urllib3.HTTPHeaderDict({"Accept": "application/json", "User-Agent": "modelfleet.serving"})
        if login.authorization:
            headers["Authorization"] = login.authorization
        for name, value in self._credentials.impersonation:
            headers.add(name, value.encode().decode("latin-1"))  # as urllib3 encodes headers; servers read UTF-8
        return headers

    def _open_pool(self, login: Login) -> Any:
        try:
            return open_pool(self.server, login, _KEPT_CONNECTIONS)
        except (OSError, ValueError, urllib3.exceptions.HTTPError) as error:  # ssl.SSLError is an OSError
            raise InputError(
                f"cluster {self.name}: its certificates or its proxy can't be used: {error}.",
                hint="Check ca_cert, client_cert, client_key and proxy, or the same in the kubeconfig.",
            ) from error

    def _send(
        self,
        method: str,
        path: str,
        *,
        query: Mapping[str, str] | None = None,
        data: bytes | None = None,
        content_type: str = "application/json",
        stream: bool = False,
        read_timeout: float | None = None,
        within: float | None = None,
        retries: bool = True,
        renews: bool = True,
    ) -> Any:
        login = self._log_in()
        headers = self._headers(login)
        if data is not None:
            headers["Content-Type"] = content_type
        url = f"{self.server.url}{path}" + (f"?{urlencode(query)}" if query else "")
        policy = urllib3.Retry(
            total=5,
            connect=2,
            read=2,
            status_forcelist=_RETRIED_STATUS,
            allowed_methods=_REPEATABLE_METHODS,
            backoff_factor=0.2,
            backoff_jitter=0.3,
            backoff_max=5,
            raise_on_status=False,
            **_LONGEST_PAUSE,
        )
        try:
            response = self._pool.request(
                method,
                url,
                headers=headers,
                body=data,
                preload_content=not stream,
                retries=policy if retries else False,
                timeout=urllib3.Timeout(
                    total=within, connect=min(10.0, self._timeout), read=read_timeout or self._timeout
                ),
            )
        except urllib3.exceptions.HTTPError as error:
            raise self._unreachable(error) from error
        if response.status == 401 and renews and self._credentials.renew(login):
            response.close()
            return self._send(
                method,
                path,
                query=query,
                data=data,
                content_type=content_type,
                stream=stream,
                read_timeout=read_timeout,
                within=within,
                retries=retries,
                renews=False,
            )
        self._pass_on_warnings(response)
        return response

    def _pass_on_warnings(self, response: Any) -> None:
        """Tell what the server says beside its answer: that an API will go, that a policy would bar a pod.

        Each is ``299 - "words"``: https://kubernetes.io/blog/2020/09/03/warnings/.
        """
        for value in response.headers.getlist("Warning"):
            for words in re.findall(r'299 \S+ "((?:[^"\\]|\\.)*)"', value):
                if words not in self._warned:
                    self._warned.add(words)
                    self._warn(f"cluster {self.name}: " + re.sub(r"\\(.)", r"\1", words))

    def _unreachable(self, error: Exception) -> UnreachableError:
        cause = getattr(error, "reason", None) or error
        return UnreachableError(
            f"cluster {self.name}: no answer from {self.server.url}: {cause}.",
            hint="Check its address, the network between, and its certificate.",
        )


def connect(params: Mapping[str, Any], warn: Callable[[str], None] = ignore) -> Session:
    """Open a session from a module's parameters (see :func:`arguments.cluster_arguments`).

    Explicit parameters win over the kubeconfig; without either, the kubeconfig of the user or the service account of
    the pod this runs in is used, as ``kubectl`` does.

    :raises InputError: when the configuration can't be used; says which file or context.
    """
    context, server = _read_target(params)
    timeout = params.get("request_timeout") or 30.0
    return Session(_name(params, server), server, Credentials(context), timeout, warn)


def require_connection(params: Mapping[str, Any]) -> str:
    """Check a module's connection parameters, and what they lead to on this machine; nothing is called.

    :returns: how messages call the cluster.
    :raises InputError: as :func:`connect` does before it logs in.
    """
    return _name(params, _read_target(params)[1])


def _name(params: Mapping[str, Any], server: Server) -> str:
    return params.get("context") or server.url


def _read_target(params: Mapping[str, Any]) -> tuple[Context, Server]:
    _require_packages()
    timeout = params.get("request_timeout") or 0.0
    if timeout < 0:
        raise InputError(f"request_timeout: {timeout:g} is no time.", hint="Give seconds, such as 30.")
    context = _with_parameters(_find_context(params), params)
    return context, read_server(context, params.get("no_proxy"), params.get("proxy_headers") or {})


def _require_packages() -> None:
    if IMPORT_ERROR:
        package = {"yaml": "PyYAML"}.get(IMPORT_ERROR.name or "", IMPORT_ERROR.name)
        raise InputError(
            f"The Python package {package!r} is missing from the interpreter that runs this task.",
            hint=f"Install it there: pip install {package}",
            details={"exception": "".join(traceback.format_exception(IMPORT_ERROR))},
        )


def _find_context(params: Mapping[str, Any]) -> Context:
    """Read the kubeconfig that was given, or else the user's own, or else the pod's service account."""
    kubeconfig, context = params.get("kubeconfig"), params.get("context")
    if kubeconfig not in (None, "") or context:
        return read_context(kubeconfig, context)
    if params.get("host"):
        return Context("host", Entry({}, Path()), Entry({}, Path()))
    if default_paths():
        return read_context(None, None)
    account = service_account()
    if account:
        return account
    raise InputError(
        "Can't connect to a cluster: none is given, the user has no kubeconfig, and this runs in no pod.",
        hint="Give kubeconfig and context, or host and api_key.",
    )


def _with_parameters(context: Context, params: Mapping[str, Any]) -> Context:
    """Put explicitly given parameters over what the kubeconfig says, in its own words."""

    def given(**names: str) -> dict[str, Any]:
        return {name.replace("_", "-"): params[key] for name, key in names.items() if params.get(key)}

    cluster = dict(context.cluster.content)
    if params.get("ca_cert"):
        # Who names an authority wants it asked, whatever the kubeconfig leaves out.
        for key in ("certificate-authority-data", "insecure-skip-tls-verify"):
            cluster.pop(key, None)
        cluster["certificate-authority"] = str(Path(params["ca_cert"]).absolute())
    if params.get("validate_certs") is not None:
        cluster["insecure-skip-tls-verify"] = not params["validate_certs"]
    if params.get("host"):
        cluster["server"] = require_url(params["host"], "host")
    cluster.update(given(tls_server_name="tls_server_name", proxy_url="proxy"))

    user = context.user.content
    if any(params.get(key) for key in ("api_key", "username", "client_cert")):
        # Not beside the kubeconfig's user: servers believe a certificate before a token.
        user = {}
    user = user | given(token="api_key", username="username", password="password")
    for key, parameter in (("client-certificate", "client_cert"), ("client-key", "client_key")):
        if params.get(parameter):
            user.pop(f"{key}-data", None)
            user[key] = str(Path(params[parameter]).absolute())
    if params.get("impersonate_user"):
        user = {key: value for key, value in user.items() if not key.startswith("as-")}
    user.update(given(**{"as": "impersonate_user", "as_groups": "impersonate_groups"}))
    return replace(context, cluster=replace(context.cluster, content=cluster), user=replace(context.user, content=user))


def _selected(labels: Mapping[str, str] | None) -> dict[str, str]:
    """Give the query of a label selector; empty without labels."""
    return {"labelSelector": ",".join(f"{key}={value}" for key, value in labels.items())} if labels else {}


def _may_pass(error: ApiError) -> bool:
    """Tell whether an error that stands in the answer alone may be gone the next time.

    500 is also what webhooks and an etcd that changes its leader answer. A conflict that names no field means that
    others wrote to the object faster than the server could merge.
    """
    if error.status == 500:
        return MALFORMED not in error.message
    return error.status == 409 and "please apply your changes to the latest version" in error.message


def _api_error(cluster: str, method: str, path: str, status: int, data: bytes) -> ApiError:
    """Turn the server's Status object into an error that quotes it."""
    try:
        answer = json.loads(data)
        answer = answer.get("object", answer)
        words, reason = answer.get("message") or "", answer.get("reason") or ""
        causes = answer.get("details", {}).get("causes", [])
    except (ValueError, AttributeError):
        words, reason, causes = data.decode(errors="replace")[:500], "", []
    hints = {
        401: "The credentials are missing, wrong or expired.",
        403: "Give this user the permission that the message names.",
    }
    hint = hints.get(status, "")
    conflict = any(cause.get("reason") == "FieldManagerConflict" for cause in causes)
    if conflict:
        hint = "Leave the field to that manager, or set force_conflicts to take it over."
    return ApiError(
        f"cluster {cluster}: {method} {path}: {words or 'no message'} ({status}{f' {reason}' if reason else ''}).",
        status=status,
        reason=reason,
        conflict=conflict,
        hint=hint,
    )
