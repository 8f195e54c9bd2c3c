# SPDX-FileCopyrightText: The modelfleet maintainers
# SPDX-License-Identifier: GPL-3.0-or-later
"""The calls of Google's Compute Engine API that an endpoint needs, by Google's client library.

Credentials, retries, pages, operations that take their time, and errors for people.
"""

from __future__ import annotations

import json
import os
import queue
import random
import time
import uuid
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import Any, TypeVar

from ansible_collections.modelfleet.serving.plugins.module_utils._endpoint.balancer import BalancerError
from ansible_collections.modelfleet.serving.plugins.module_utils._endpoint.google_cloud_objects import Json, Ref
from ansible_collections.modelfleet.serving.plugins.module_utils._endpoint.google_cloud_options import AUTH_KINDS
from ansible_collections.modelfleet.serving.plugins.module_utils._errors import InputError
from ansible_collections.modelfleet.serving.plugins.module_utils._package import import_package

# What google.cloud reads, too.
_VARIABLES = {
    "project": "GCP_PROJECT",
    "auth_kind": "GCP_AUTH_KIND",
    "service_account_file": "GCP_SERVICE_ACCOUNT_FILE",
    "service_account_contents": "GCP_SERVICE_ACCOUNT_CONTENTS",
    "service_account_email": "GCP_SERVICE_ACCOUNT_EMAIL",
    "access_token": "GCP_ACCESS_TOKEN",
    "scopes": "GCP_SCOPES",
}
_SCOPES = ["https://www.googleapis.com/auth/compute"]

_T = TypeVar("_T")

# At once: a project has some thousand reads a minute.
_THREADS = 8
_ATTEMPTS = 8
_FIRST_PAUSE = 0.5
_LONGEST_PAUSE = 30.0
_POLL_SECONDS = 0.5
_PAGE = 500

# How the API's library names the object in a path.
_ARGUMENTS = {
    "urlMaps": "urlMap",
    "healthChecks": "healthCheck",
    "globalNetworkEndpointGroups": "networkEndpointGroup",
    "networkEndpointGroups": "networkEndpointGroup",
    "backendServices": "backendService",
    "globalAddresses": "address",
    "sslCertificates": "sslCertificate",
    "targetHttpProxies": "targetHttpProxy",
    "targetHttpsProxies": "targetHttpsProxy",
    "globalForwardingRules": "forwardingRule",
}
# What passes. The last is what Google says of an object that another call still works on.
_PASSING = ("rateLimitExceeded", "userRateLimitExceeded", "backendError", "internalError", "resourceNotReady")
_CONDITION = ("conditionNotMet", "CONDITION_NOT_MET")
_EXISTS = ("alreadyExists", "duplicate", "RESOURCE_ALREADY_EXISTS")
_GONE = ("notFound", "RESOURCE_NOT_FOUND")
_IN_USE = ("resourceInUseByAnotherResource", "RESOURCE_IN_USE_BY_ANOTHER_RESOURCE")
_HINTS = {
    401: "Check the credentials; an access token lasts an hour.",
    403: "Give the account the permissions that docs/google_cloud.md lists, and enable the Compute Engine API.",
    404: "Check google_cloud.project, and the names of what the options refer to.",
    413: "Use fewer members and models.",
    429: "The project has so many requests a minute; find who else uses them, and run this again.",
}


class UnsureError(BalancerError):
    """Whether the change was made is not known."""


class ConditionError(BalancerError):
    """The object is no longer as it was read."""


class ExistsError(BalancerError):
    """An object of that name exists."""


class GoneError(BalancerError):
    """An object, or one that it refers to, does not exist."""


class InUseError(BalancerError):
    """An object that others refer to cannot be deleted."""


class FailedError(BalancerError):
    """Google refused for another reason."""


class RejectedError(FailedError):
    """Google finds something wrong with the request itself."""


class Operation:
    """A change that Google works on."""

    def __init__(self, ref: Ref, name: str, method: str = "") -> None:
        self.ref = ref
        self.name = name
        self.method = method


class Api:
    """Compute Engine's API. The library is imported, and credentials are looked for, with the first call."""

    def __init__(self, access: Mapping[str, Any]) -> None:
        self._access = access
        self._given = {key: access[key] or os.environ.get(name) or None for key, name in _VARIABLES.items()}
        if not self._given["project"]:
            raise InputError("google_cloud.project: it is missing.", hint="Give it, or set GCP_PROJECT.")
        self.project = str(self._given["project"])
        self._made: Any = None
        self._collections: dict[str, Any] = {}
        self._identity: Any = None
        self._idle: queue.LifoQueue[Any] = queue.LifoQueue()

    def _client(self) -> Any:
        if self._made is None:
            discovery = import_package("googleapiclient.discovery", "google-api-python-client")
            url = self._access["endpoint_url"]
            options = {"api_endpoint": f"{url.rstrip('/')}/compute/v1/"} if url else None
            self._made = discovery.build(
                "compute",
                "v1",
                http=self._connection(),
                client_options=options,
                # The description of the API that comes with the library.
                static_discovery=True,
                cache_discovery=False,
            )
        return self._made

    def _connection(self) -> Any:
        """Give a connection that nobody else uses, since the library's are not for several threads."""
        with suppress(queue.Empty):
            return self._idle.get_nowait()
        http = import_package("httplib2", "httplib2").Http(
            timeout=self._access["timeout"],
            ca_certs=self._access["ca_path"],
            disable_ssl_certificate_validation=not self._access["validate_certs"],
        )
        # A redirect is nothing that this API answers.
        http.follow_redirects = False
        if self._identity is None:
            self._identity = self._credentials()
        return import_package("google_auth_httplib2", "google-auth-httplib2").AuthorizedHttp(self._identity, http=http)

    def together(self, calls: Iterable[Callable[[], _T]]) -> list[_T]:
        """Make calls that only read at the same time; gives their answers in order."""
        with ThreadPoolExecutor(_THREADS) as pool:
            return list(pool.map(lambda call: call(), calls))

    def _collection(self, kind: str) -> Any:
        if kind not in self._collections:
            # It takes the library a while to make one.
            self._collections[kind] = getattr(self._client(), kind)()
        return self._collections[kind]

    def _credentials(self) -> Any:
        kind = self._given["auth_kind"] or self._likely_kind()
        if kind not in AUTH_KINDS:
            raise InputError(f"google_cloud.auth_kind: {kind!r} is unknown.", hint=f"Use {', '.join(AUTH_KINDS)}.")
        scopes = self._given["scopes"] or _SCOPES
        if isinstance(scopes, str):
            scopes = [scope.strip() for scope in scopes.split(",")]
        errors = import_package("google.auth.exceptions", "google-auth")
        try:
            if kind == "accesstoken":
                token = self._needed("access_token", kind)
                return import_package("google.oauth2.credentials", "google-auth").Credentials(token, scopes=scopes)
            if kind == "machineaccount":
                engine = import_package("google.auth.compute_engine", "google-auth")
                return engine.Credentials(self._given["service_account_email"] or "default", scopes=scopes)
            if kind == "serviceaccount":
                account = import_package("google.oauth2.service_account", "google-auth").Credentials
                path = self._given["service_account_file"]
                if path:
                    return account.from_service_account_file(str(path), scopes=scopes)
                contents = self._needed("service_account_contents", kind)
                info = json.loads(contents) if isinstance(contents, str) else contents
                return account.from_service_account_info(info, scopes=scopes)
            return import_package("google.auth", "google-auth").default(scopes=scopes)[0]
        except (errors.GoogleAuthError, OSError, ValueError) as error:
            # A key that cannot be read must not be shown.
            what = type(error).__name__ if isinstance(error, ValueError) else str(error)
            raise BalancerError(
                f"no credentials for Google Cloud ({kind}): {what}.",
                hint="Give google_cloud.auth_kind and what it needs, as for the collection google.cloud.",
            ) from error

    def _likely_kind(self) -> str:
        if self._given["service_account_file"] or self._given["service_account_contents"]:
            return "serviceaccount"
        return "accesstoken" if self._given["access_token"] else "application"

    def _needed(self, option: str, kind: str) -> Any:
        value = self._given[option]
        if not value:
            raise InputError(f"google_cloud.{option}: auth_kind={kind} needs it.", hint="Give it.")
        return value

    def _call(self, kind: str, method: str, **params: Any) -> Json:
        """Make a call, and again while it fails in passing."""
        errors = import_package("googleapiclient.errors", "google-api-python-client")
        auth = import_package("google.auth.exceptions", "google-auth")
        broken = import_package("httplib2", "httplib2").HttpLib2Error
        attempt = 0
        while True:
            request = getattr(self._collection(kind), method)(**params)
            connection = self._connection()
            pause = 0.0
            try:
                answer: Json = request.execute(http=connection)
                self._idle.put(connection)
                return answer
            except errors.HttpError as error:
                self._idle.put(connection)
                failed: BalancerError = _refused(error)
                if not _passes(error):
                    raise failed from error
                pause = _asked_pause(error)
            except auth.TransportError as error:
                failed = UnsureError(f"Google Cloud's tokens cannot be reached: {error}.", hint="Check the network.")
            except auth.GoogleAuthError as error:
                raise BalancerError(
                    f"Google Cloud takes the credentials for nobody's: {error}.",
                    hint="Check google_cloud.auth_kind and what belongs to it; an access token lasts an hour.",
                ) from error
            except (OSError, broken) as error:
                failed = UnsureError(
                    f"Google Cloud cannot be reached: {error}.", hint="Check the network; then run this again."
                )
            attempt += 1
            if attempt >= _ATTEMPTS:
                raise failed
            own = min(_FIRST_PAUSE * 2 ** (attempt - 1), _LONGEST_PAUSE) * random.uniform(0.5, 1)
            time.sleep(max(own, min(pause, _LONGEST_PAUSE)))

    def get(self, ref: Ref) -> Json | None:
        """Give an object, ``None`` where there is none."""
        try:
            return self._call(ref.kind, "get", **self._where(ref))
        except GoneError:
            return None

    def listed(self, kind: str, prefix: str) -> dict[Ref, Json]:
        """Give the objects whose names are a prefix, or begin with it and a dash."""
        zonal = kind == "networkEndpointGroups"
        params: Json = {"project": self.project, "filter": f'name eq "{prefix}(-.*)?"', "maxResults": _PAGE}
        found: dict[Ref, Json] = {}
        while True:
            page = self._call(kind, "aggregatedList" if zonal else "list", **params)
            if zonal:
                for scope, part in page.get("items", {}).items():
                    if scope.startswith("zones/"):
                        zone = scope.removeprefix("zones/")
                        found |= {Ref(kind, entry["name"], zone): entry for entry in part.get(kind, ())}
            else:
                found |= {Ref(kind, entry["name"]): entry for entry in page.get("items", ())}
            if not page.get("nextPageToken"):
                return found
            params["pageToken"] = page["nextPageToken"]

    def settle(self, prefix: str) -> None:
        """Wait until Google has done what a run asked for that was cut off. Until then, reading does not show it.

        :param prefix: of the objects' names.
        """
        running: list[Operation] = []
        params: Json = {"project": self.project, "filter": 'status != "DONE"', "maxResults": _PAGE}
        while True:
            page = self._call("globalOperations", "aggregatedList", **params)
            for scope, part in page.get("items", {}).items():
                for entry in part.get("operations", ()):
                    name = entry.get("targetLink", "").rpartition("/")[2]
                    zone = scope.removeprefix("zones/") if scope.startswith("zones/") else ""
                    if (name == prefix or name.startswith(f"{prefix}-")) and (zone or scope == "global"):
                        running.append(Operation(Ref("", name, zone), entry["name"]))
            if not page.get("nextPageToken"):
                break
            params["pageToken"] = page["nextPageToken"]
        # Whether they succeed shows in what is read then.
        for operation in running:
            with suppress(ConditionError, ExistsError, GoneError, InUseError, FailedError):
                self._finish(operation)

    def inside(self, ref: Ref) -> list[Json]:
        """Give what a network endpoint group holds."""
        params: Json = {**self._where(ref), "maxResults": _PAGE}
        if ref.zone:
            params["body"] = {"healthStatus": "SKIP"}
        found: list[Json] = []
        while True:
            try:
                page = self._call(ref.kind, "listNetworkEndpoints", **params)
            except GoneError:
                return found
            found += [entry["networkEndpoint"] for entry in page.get("items", ())]
            if not page.get("nextPageToken"):
                return found
            params["pageToken"] = page["nextPageToken"]

    def health(self, service: Ref, group: str) -> list[str]:
        """Give what Google's checkers say of each endpoint of a group: HEALTHY, UNHEALTHY and the like.

        :param group: the address of a network endpoint group.
        """
        answer = self._call("backendServices", "getHealth", **self._where(service), body={"group": group})
        return [entry.get("healthState", "UNKNOWN") for entry in answer.get("healthStatus", ())]

    def insert(self, ref: Ref, body: Json) -> Operation:
        """Begin to make an object."""
        where = {"project": self.project, **({"zone": ref.zone} if ref.zone else {})}
        return self._begin(ref, "insert", **where, body=body)

    def change(self, ref: Ref, method: str, body: Json | None = None) -> Operation:
        """Begin to change an object.

        :param method: of the collection, such as ``patch`` or ``delete``.
        """
        where = self._where(ref)
        if method == "setLabels":
            where["resource"] = where.pop(_ARGUMENTS[ref.kind])
        return self._begin(ref, method, **where, **({} if body is None else {"body": body}))

    def _begin(self, ref: Ref, method: str, **params: Any) -> Operation:
        # By this, Google knows a call that is made again, and does not carry it out twice.
        if method != "setLabels":
            params["requestId"] = str(uuid.uuid4())
        try:
            return Operation(ref, self._call(ref.kind, method, **params)["name"], method)
        except RejectedError as error:
            raise _of_group(error, method) from error

    def finish(self, operations: Iterable[Operation]) -> None:
        """Wait until all changes are in force.

        :raises BalancerError: with the first that failed, after all have ended.
        """
        failed: BalancerError | None = None
        for operation in operations:
            try:
                self._finish(operation)
            except BalancerError as error:
                failed = failed or error
        if failed is not None:
            raise failed

    def _finish(self, operation: Operation) -> None:
        seconds = self._access["operation_timeout"]
        deadline = time.monotonic() + seconds
        params = {"project": self.project, "operation": operation.name}
        if operation.ref.zone:
            params["zone"] = operation.ref.zone
        pause = _POLL_SECONDS
        while True:
            found = self._call("zoneOperations" if operation.ref.zone else "globalOperations", "get", **params)
            if found.get("status") == "DONE":
                break
            if time.monotonic() >= deadline:
                raise UnsureError(
                    f"Google Cloud has worked on {operation.ref.name} for {seconds:g} s and is not done.",
                    hint="Run this again, which goes on from what it finds, or raise google_cloud.operation_timeout.",
                )
            time.sleep(pause)
            pause = min(pause * 1.5, 5.0)
        problems = found.get("error", {}).get("errors", ())
        if problems:
            text = "; ".join(f"{entry.get('code')}: {entry.get('message')}" for entry in problems)
            codes = {str(entry.get("code")) for entry in problems}
            failed = _typed(codes, found.get("httpErrorStatusCode", 400), text)
            raise _of_group(failed, operation.method) if isinstance(failed, RejectedError) else failed

    def _where(self, ref: Ref) -> Json:
        return {"project": self.project, _ARGUMENTS[ref.kind]: ref.name, **({"zone": ref.zone} if ref.zone else {})}


def _reasons(error: Any) -> set[str]:
    """Give the short words by which Google says what is wrong."""
    try:
        return {str(entry["reason"]) for entry in json.loads(error.content)["error"]["errors"]}
    except (KeyError, TypeError, ValueError):
        return set()


def _passes(error: Any) -> bool:
    status = int(error.resp.status)
    return status == 429 or status >= 500 or bool(_reasons(error) & set(_PASSING))


def _asked_pause(error: Any) -> float:
    try:
        return float(error.resp.get("retry-after", 0))
    except ValueError:
        return 0.0


def _refused(error: Any) -> BalancerError:
    status = int(error.resp.status)
    if status >= 500:
        return UnsureError(f"Google Cloud failed: {error.reason} (status {status}).", hint="Run this again.")
    return _typed(_reasons(error), status, str(error.reason))


def _of_group(error: RejectedError, method: str) -> BalancerError:
    """Tell a group that is not as it was read from a request that is wrong: groups have no fingerprints."""
    if method in ("attachNetworkEndpoints", "detachNetworkEndpoints"):
        return ConditionError(error.message, hint=error.hint)
    return error


def _typed(codes: set[str], status: int, text: str) -> BalancerError:
    """Give the error that tells what it means here."""
    kind: type[BalancerError] = RejectedError if status == 400 else FailedError
    if status == 412 or codes & set(_CONDITION):
        kind = ConditionError
    elif status == 409 or codes & set(_EXISTS):
        kind = ExistsError
    elif codes & set(_IN_USE):
        kind = InUseError
    elif status == 404 or codes & set(_GONE):
        kind = GoneError
    return kind(f"Google Cloud refused: {text} (status {status}).", hint=_HINTS.get(status, "Correct what it names."))


__all__ = [
    "Api",
    "ConditionError",
    "ExistsError",
    "GoneError",
    "InUseError",
    "Operation",
    "UnsureError",
]
