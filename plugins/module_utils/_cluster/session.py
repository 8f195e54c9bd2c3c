# SPDX-FileCopyrightText: The modelfleet maintainers
# SPDX-License-Identifier: GPL-3.0-or-later
"""One API server: authentication by the official client, one kept-alive connection pool, typed errors."""

from __future__ import annotations

import json
import os
import ssl
import traceback
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any
from urllib.parse import urlencode

from ansible_collections.modelfleet.serving.plugins.module_utils._cluster.kinds import (
    Ref,
    Resource,
    builtin_resource,
    builtin_version,
)
from ansible_collections.modelfleet.serving.plugins.module_utils._errors import (
    ApiError,
    InputError,
    ServingError,
    UnreachableError,
)
from ansible_collections.modelfleet.serving.plugins.module_utils._names import require_url

try:
    import urllib3
    import yaml
    from kubernetes import client as kubernetes_client
    from kubernetes import config as kubernetes_config
    from kubernetes.config import kube_config
    from kubernetes.stream import ws_client
except ImportError:
    IMPORT_ERROR: str | None = traceback.format_exc()
else:
    IMPORT_ERROR = None

Json = dict[str, Any]

# Apply runs this many objects of a wave at once; the pool keeps as many connections.
PARALLEL_REQUESTS = 4
# 500 is answered by webhooks and by an etcd that changes its leader; 429 by priority and fairness.
_RETRIED_STATUS = (429, 500, 502, 503, 504)
_REPEATABLE_METHODS = frozenset({"GET", "PATCH", "PUT", "DELETE"})


class Session:
    """The connection to one cluster. Use it as a context manager, so that no credential file is left behind.

    :param name: how messages call this cluster.
    :param configuration: the official client's configuration, with its refresh hook for expiring tokens.
    :param timeout: seconds for one request, to connect and to read each.
    """

    def __init__(self, name: str, configuration: Any, timeout: float) -> None:
        self.name = name
        self.configuration = configuration
        self._timeout = timeout
        self._discovered: dict[str, dict[str, Resource]] = {}
        self._pool = _connection_pool(configuration)

    def __enter__(self) -> Session:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the connections and remove the certificate files that the official client wrote."""
        self._pool.clear()
        # A forked worker leaves by os._exit and runs no exit handler, so the client's own clean-up never runs there.
        kube_config._cleanup_temp_files()

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
        response = self._send(method, path, query=query, data=data, content_type=content_type)
        if response.status >= 400:
            raise _api_error(self.name, method, path, response.status, response.data)
        answer: Json = json.loads(response.data)
        return answer

    def pod_request(
        self, namespace: str, pod: str, port: int, method: str, path: str, body: bytes | None = None
    ) -> tuple[int, bytes]:
        """Send a plain HTTP request to a pod through the API server, which needs no way into the cluster but its own.

        :returns: the pod's status code and body; 503 also where the API server can't reach the pod.
        """
        where = f"/api/v1/namespaces/{namespace}/pods/{pod}:{port}/proxy{path}"
        response = self._send(method, where, data=body, retries=False)
        return response.status, response.data

    def execute(self, namespace: str, pod: str, command: list[str], container: str) -> Any:
        """Start a command in a container; gives the official client's stream with binary channels."""
        query = [("container", container), ("stdin", "true"), ("stdout", "true"), ("stderr", "true")]
        query += [("command", word) for word in command]
        url = f"{self.configuration.host}/api/v1/namespaces/{namespace}/pods/{pod}/exec?{urlencode(query)}"
        headers = {name.lower(): value for name, value in self._headers().items()}
        try:
            return ws_client.WSClient(
                self.configuration, ws_client.get_websocket_url(url), headers, capture_all=False, binary=True
            )
        except Exception as error:  # the websocket library raises a family of its own, and OSError, and ssl.SSLError
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
        known = builtin_resource(api_version, kind)
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

    def _headers(self) -> dict[str, str]:
        """Give the headers of a request; asks the refresh hook, which renews a token that has expired."""
        headers = {"Accept": "application/json", "User-Agent": "modelfleet.serving"}
        token = self.configuration.auth_settings().get("BearerToken")
        if token and token["value"]:
            value = token["value"]
            if not value.isascii() or not value.isprintable():
                # Python's own message would quote it.
                raise InputError(
                    f"cluster {self.name}: its token has a line break in it, or another sign that no token has.",
                    hint="Check where it comes from; the filter trim removes a line break at the end.",
                )
            headers["Authorization"] = value if " " in value else f"Bearer {value}"
        return headers

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
        retries: bool = True,
    ) -> Any:
        headers = self._headers()
        if data is not None:
            headers["Content-Type"] = content_type
        url = f"{self.configuration.host}{path}" + (f"?{urlencode(query)}" if query else "")
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
        )
        try:
            return self._pool.request(
                method,
                url,
                headers=headers,
                body=data,
                preload_content=not stream,
                retries=policy if retries else False,
                timeout=urllib3.Timeout(connect=min(10.0, self._timeout), read=read_timeout or self._timeout),
            )
        except urllib3.exceptions.HTTPError as error:
            raise self._unreachable(error) from error

    def _unreachable(self, error: Exception) -> UnreachableError:
        cause = getattr(error, "reason", None) or error
        return UnreachableError(
            f"cluster {self.name}: no answer from {self.configuration.host}: {cause}.",
            hint="Check its address, the network between, and its certificate.",
        )


def connect(params: Mapping[str, Any]) -> Session:
    """Open a session from a module's parameters (see :func:`arguments.cluster_arguments`).

    Explicit parameters win over the kubeconfig; without either, the kubeconfig of the user or the service account of
    the pod this runs in is used, as ``kubectl`` does.

    :raises InputError: when the configuration can't be used; says which file or context.
    """
    if IMPORT_ERROR:
        raise InputError(
            "The Python package 'kubernetes' is missing from the interpreter that runs this task.",
            hint="Install it there: pip install kubernetes",
            details={"exception": IMPORT_ERROR},
        )
    timeout = params.get("request_timeout") or 30.0
    if timeout < 0:
        raise InputError(f"request_timeout: {timeout:g} is no time.", hint="Give seconds, such as 30.")
    host = require_url(params["host"], "host") if params.get("host") else None
    context = params.get("context")
    configuration = kubernetes_client.Configuration()
    try:
        _configure(configuration, params.get("kubeconfig"), context, host)
        _override(configuration, params, host)
        return Session(context or configuration.host, configuration, timeout)
    except kubernetes_config.ConfigException as error:
        raise _no_session(f"Can't connect to a cluster: {str(error).rstrip('.')}.") from error
    except (OSError, ValueError, urllib3.exceptions.HTTPError) as error:
        # ssl.SSLError is an OSError, and what base64 and the proxy's address can be wrong in are ValueErrors.
        name = context or configuration.host
        raise _no_session(f"cluster {name}: its certificates or its proxy can't be used: {error}.") from error
    except InputError:
        kube_config._cleanup_temp_files()
        raise


def _no_session(message: str) -> InputError:
    kube_config._cleanup_temp_files()
    return InputError(
        message,
        hint="Give kubeconfig and context, or host and api_key; check ca_cert, client_cert, client_key and proxy.",
    )


def _configure(configuration: Any, kubeconfig: Any, context: str | None, host: str | None) -> None:
    """Read the kubeconfig that was given, or else the user's own, or else the pod's service account."""
    if isinstance(kubeconfig, dict):
        kubernetes_config.load_kube_config_from_dict(
            kubeconfig, context=context, client_configuration=configuration, persist_config=False
        )
    elif kubeconfig or context:
        _load_kubeconfig_file(kubeconfig, context, configuration)
    elif not host:
        if any(Path(path).expanduser().exists() for path in _users_kubeconfig().split(os.pathsep)):
            _load_kubeconfig_file(None, None, configuration)
        else:
            kubernetes_config.load_incluster_config(client_configuration=configuration)


def _users_kubeconfig() -> str:
    """Give the paths of the user's own kubeconfig.

    The client reads the variable when it is imported, which is before the controller sets a task's environment.
    """
    return os.environ.get("KUBECONFIG") or "~/.kube/config"


def _load_kubeconfig_file(path: Any, context: str | None, configuration: Any) -> None:
    if path and not isinstance(path, str):
        raise InputError(f"kubeconfig takes a path or a mapping, not {type(path).__name__}.")
    if path and not path.isprintable():
        # Not quoted: it may be the text of a kubeconfig.
        raise InputError("kubeconfig is no path.", hint="Give a path, or a mapping by the filter from_yaml.")
    resolved = os.path.expandvars(str(Path(path).expanduser())) if path else None
    name = f"kubeconfig {resolved or 'of the user'}" + (f", context {context}" if context else "")
    try:
        if resolved:
            open(resolved, "rb").close()  # the client's own message names no file
        kubernetes_config.load_kube_config(
            config_file=resolved or _users_kubeconfig(),
            context=context,
            client_configuration=configuration,
            persist_config=False,
        )
    except kubernetes_config.ConfigException as error:
        raise kubernetes_config.ConfigException(f"{name}: {error}") from error
    except OSError as error:
        raise InputError(f"{name} can't be read: {error.strerror}.", hint="Check path and permissions.") from error
    except (yaml.YAMLError, UnicodeError, AttributeError, TypeError) as error:
        raise InputError(f"{name} is no kubeconfig.", hint="Check its YAML.") from error


def _override(configuration: Any, params: Mapping[str, Any], host: str | None) -> None:
    """Put explicitly given parameters over what the kubeconfig says."""
    for parameter, attribute in (
        ("validate_certs", "verify_ssl"),
        ("ca_cert", "ssl_ca_cert"),
        ("client_cert", "cert_file"),
        ("client_key", "key_file"),
        ("proxy", "proxy"),
    ):
        if params.get(parameter) is not None:
            setattr(configuration, attribute, params[parameter])
    configuration.host = host or configuration.host.rstrip("/")
    if params.get("api_key"):
        configuration.api_key = {"BearerToken": f"Bearer {params['api_key']}"}
        configuration.refresh_api_key_hook = None


def _connection_pool(configuration: Any) -> Any:
    """Make the pool over a TLS context that has read its certificates already."""
    context = ssl.create_default_context(cafile=configuration.ssl_ca_cert or None)
    # Cluster certificate authorities are often older than the stricter checks that Python 3.13 turned on.
    context.verify_flags &= ~getattr(ssl, "VERIFY_X509_STRICT", 0)
    if not configuration.verify_ssl:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    if configuration.cert_file:
        context.load_cert_chain(configuration.cert_file, configuration.key_file)
    settings: dict[str, Any] = {"ssl_context": context, "maxsize": PARALLEL_REQUESTS, "num_pools": 2}
    if configuration.tls_server_name:
        settings["server_hostname"] = configuration.tls_server_name
    if configuration.proxy:
        return urllib3.ProxyManager(configuration.proxy, **settings)
    return urllib3.PoolManager(**settings)


def _selected(labels: Mapping[str, str] | None) -> dict[str, str]:
    """Give the query of a label selector; empty without labels."""
    return {"labelSelector": ",".join(f"{key}={value}" for key, value in labels.items())} if labels else {}


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
    if any(cause.get("reason") == "FieldManagerConflict" for cause in causes):
        hint = "Leave the field to that manager, or set force_conflicts to take it over."
    return ApiError(
        f"cluster {cluster}: {method} {path}: {words or 'no message'} ({status}{f' {reason}' if reason else ''}).",
        status=status,
        reason=reason,
        hint=hint,
    )
