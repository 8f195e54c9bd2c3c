# SPDX-FileCopyrightText: The modelfleet maintainers
# SPDX-License-Identifier: GPL-3.0-or-later
"""A stand-in for Google's Compute Engine API, on a free port of 127.0.0.1.

Derived from the API's own description (the discovery document that comes with Google's client library): which calls
there are, their parameters, and the schema of each body; a field that it does not know, a wrong type, an unknown word
or a field that only Google writes is refused. Written by hand from Google's documentation: that objects that are
referred to must exist and cannot be deleted, fingerprints, request ids, operations that are done some calls later,
pages, what the parts of a load balancer need of each other, and whom it sends clients to. It is not Google Cloud: no
request ever passes through it, nobody's permissions are checked, and quotas do not exist.
"""

from __future__ import annotations

import copy
import functools
import hashlib
import ipaddress
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import googleapiclient
from googleapiclient.http import HttpRequest
from werkzeug import Request, Response

from .cloud import Cloud, CloudLab

Json = dict[str, Any]

PROJECT = "serving-1"
MAP = "models"
ZONE, OTHER_ZONE = "europe-west1-b", "europe-west1-c"
_API = "https://www.googleapis.com/compute/v1/"

_RESOURCES = (
    "urlMaps",
    "healthChecks",
    "globalNetworkEndpointGroups",
    "networkEndpointGroups",
    "backendServices",
    "globalAddresses",
    "sslCertificates",
    "targetHttpProxies",
    "targetHttpsProxies",
    "globalForwardingRules",
    "globalOperations",
    "zoneOperations",
)
_READS = ("get", "list", "aggregatedList", "listNetworkEndpoints", "getHealth")
# What a field that refers to another object may refer to.
_REFERENCES = {
    "healthChecks": ("healthChecks",),
    "group": ("networkEndpointGroups",),
    "backendService": ("backendServices",),
    "defaultService": ("backendServices",),
    "service": ("backendServices",),
    "urlMap": ("urlMaps",),
    "target": ("targetHttpProxies", "targetHttpsProxies"),
    "IPAddress": ("addresses",),
    "network": ("networks",),
    "sslCertificates": ("sslCertificates",),
    "certificateMap": ("certificateMaps",),
}
_NO_FINGERPRINT = (
    "healthChecks",
    "globalNetworkEndpointGroups",
    "networkEndpointGroups",
    "globalAddresses",
    "sslCertificates",
)
_RETRIES = ("5xx", "gateway-error", "connect-failure", "retriable-4xx", "refused-stream", "reset")
_FAULTS = {
    "throttled": (429, "rateLimitExceeded"),
    "broken": (503, "backendError"),
    "forbidden": (403, "forbidden"),
}


class RefusedError(Exception):
    """What Google answers to a call that breaks a rule."""

    def __init__(self, reason: str, message: str, status: int = 400) -> None:
        super().__init__(message)
        self.reason = reason
        self.status = status


def need(fine: Any, message: str, reason: str = "invalid", status: int = 400) -> None:
    """Refuse a call unless something is so."""
    if not fine:
        raise RefusedError(reason, message, status)


@functools.cache
def description() -> Json:
    """Give the API's own description."""
    folder = Path(googleapiclient.__file__).parent / "discovery_cache" / "documents"
    loaded: Json = json.loads((folder / "compute.v1.json").read_text())
    return loaded


@functools.cache
def routes() -> list[tuple[str, re.Pattern[str], str, Json]]:
    """Give every call: verb, path, name, and its description."""
    found = []
    for resource in _RESOURCES:
        for name, method in description()["resources"][resource]["methods"].items():
            path = re.sub(r"\\\{(\w+)\\\}", r"(?P<\1>[^/]+)", re.escape(method["path"]))
            found.append((method["httpMethod"], re.compile(path), f"{resource}.{name}", method))
    return found


def validate(schema: Json, value: Any, where: str, method: str) -> None:
    """Hold a value against a schema of the API's description.

    :param method: the call's id, since some fields are required by some calls alone.
    """
    if "$ref" in schema:
        schema = description()["schemas"][schema["$ref"]]
    need(not schema.get("readOnly"), f"{where}: only Google writes this")
    kind = schema.get("type")
    if kind == "object":
        need(isinstance(value, dict), f"{where}: no object")
        properties = schema.get("properties", {})
        for key, entry in value.items():
            known = properties.get(key) or schema.get("additionalProperties")
            need(known, f"{where}: unknown field {key}")
            validate(known, entry, f"{where}.{key}", method)
        for key, entry in properties.items():
            if method in entry.get("annotations", {}).get("required", ()):
                need(key in value, f"{where}: {key} is missing", "required")
    elif kind == "array":
        need(isinstance(value, list), f"{where}: no list")
        for number, entry in enumerate(value):
            validate(schema["items"], entry, f"{where}[{number}]", method)
    elif kind == "boolean":
        need(isinstance(value, bool), f"{where}: neither true nor false")
    elif kind == "integer":
        need(isinstance(value, int) and not isinstance(value, bool), f"{where}: no whole number")
        low = 0 if schema.get("format") == "uint32" else -(2**31)
        need(low <= value < 2**32, f"{where}: out of range")
    elif kind == "number":
        need(isinstance(value, int | float) and not isinstance(value, bool), f"{where}: no number")
    else:
        need(isinstance(value, str), f"{where}: no text")
        need("enum" not in schema or value in schema["enum"], f"{where}: {value} is none of {schema.get('enum')}")
        need("pattern" not in schema or re.fullmatch(schema["pattern"], value), f"{where}: {value} does not match")
        if schema.get("format") in ("int64", "uint64"):
            need(re.fullmatch(r"-?\d+", value), f"{where}: no number in a text")


def gke_group(zone: str) -> str:
    """Give the path of a group that GKE made."""
    return f"projects/{PROJECT}/zones/{zone}/networkEndpointGroups/k8s1-models"


def canonical(text: str) -> str:
    """Give an address of an object without what can be left out."""
    return re.sub(r"^.*?(?=projects/)", "", text)


def references(body: Any, field: str = "") -> list[tuple[str, str]]:
    """Give every reference to an object in a body, with its field."""
    if isinstance(body, dict):
        return [entry for key, value in body.items() for entry in references(value, key)]
    if isinstance(body, list):
        return [entry for value in body for entry in references(value, field)]
    if field in _REFERENCES and isinstance(body, str) and "/" in body:
        return [(field, canonical(body))]
    return []


def fingerprint(body: Any) -> str:
    """Give the fingerprint of an object, or of its labels."""
    return hashlib.sha256(json.dumps(body, sort_keys=True).encode()).hexdigest()[:11] + "="


class Google(Cloud):
    """A project.

    :ivar objects: every object by its path, as it was written.
    :ivar delay: how many calls later an operation is done.
    :ivar page: how many objects a page has.
    """

    def __init__(self) -> None:
        self.objects: dict[str, Json] = {}
        self.delay = 2
        self.page = 20
        # Operations by name: how many calls they take, what they do then, and on which object.
        self._operations: dict[str, list[Any]] = {}
        self._requests: dict[str, tuple[str, str]] = {}
        self._count = 0
        for path in (
            "global/networks/default",
            "global/sslCertificates/site",
            "locations/global/certificateMaps/sites",
        ):
            self.objects[f"projects/{PROJECT}/{path}"] = {"name": path.rsplit("/", 1)[-1]}
        # What GKE makes of a Service: a group of pods.
        for number, zone in enumerate((ZONE, OTHER_ZONE)):
            self.objects[f"projects/{PROJECT}/zones/{zone}"] = {"name": zone}
            self.objects[gke_group(zone)] = {
                "name": "k8s1-models",
                "networkEndpointType": "GCE_VM_IP_PORT",
                "_inside": [{"ipAddress": f"10.8.{number}.{pod}", "port": 8501} for pod in (1, 2)],
            }
        super().__init__()

    # The call itself.

    def _route(self, request: Request) -> tuple[str, Json, dict[str, str]]:
        path = request.path.removeprefix("/compute/v1/")
        for verb, pattern, name, method in routes():
            match = pattern.fullmatch(path)
            if verb == request.method and match:
                return name, method, match.groupdict()
        return "unknown", {}, {}

    def operation(self, request: Request) -> str:
        return self._route(request)[0]

    def is_read(self, operation: str) -> bool:
        return operation.partition(".")[2] in _READS

    def refuse(self, code: str) -> Response:
        status, reason = _FAULTS[code]
        response = self._error(status, reason, "as the test asks")
        if code == "throttled":
            response.headers["Retry-After"] = "0"
        return response

    @staticmethod
    def _error(status: int, reason: str, message: str) -> Response:
        errors = [{"message": message, "domain": "global", "reason": reason}]
        body = {"error": {"code": status, "message": message, "errors": errors}}
        return Response(json.dumps(body), status, content_type="application/json")

    def answer(self, request: Request) -> Response:
        name, method, path = self._route(request)
        self._tick()
        try:
            need(name != "unknown", f"no such call: {request.method} {request.path}", "notFound", 404)
            need(request.headers.get("Authorization") == "Bearer token", "who are you?", "authError", 401)
            query = self._query(method, path, request)
            body = None
            if "request" in method:
                body = request.get_json()
                validate(method["request"], body, "resource", method["id"])
            else:
                need(not request.get_data(), "no body is expected")
            need(path["project"] == PROJECT, "no such project", "notFound", 404)
            if "zone" in path:
                need(f"projects/{PROJECT}/zones/{path['zone']}" in self.objects, "no such zone", "notFound", 404)
            answer = self._do(name, path, query, body)
        except RefusedError as error:
            return self._error(error.status, error.reason, str(error))
        return Response(json.dumps(answer), content_type="application/json")

    @staticmethod
    def _query(method: Json, path: dict[str, str], request: Request) -> dict[str, str]:
        known = {**description()["parameters"], **method["parameters"]}
        query = dict(request.args.items())
        for key, value in {**query, **path}.items():
            need(key in known, f"unknown parameter {key}")
            pattern = known[key].get("pattern")
            need(not pattern or re.fullmatch(pattern, value), f"{key}: {value} does not match")
        need(query.get("alt", "json") == "json", "only JSON is spoken here")
        if "requestId" in query:
            need(re.fullmatch(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", query["requestId"]), "requestId: no UUID")
        return query

    def _do(self, name: str, path: dict[str, str], query: dict[str, str], body: Any) -> Any:
        resource, _unused, method = name.partition(".")
        if name == "globalOperations.aggregatedList":
            return self._running(query)
        if resource.endswith("Operations"):
            return self._operation(path["operation"])
        kind = {
            "globalNetworkEndpointGroups": "networkEndpointGroups",
            "globalAddresses": "addresses",
            "globalForwardingRules": "forwardingRules",
        }.get(resource, resource)
        where = f"projects/{PROJECT}/{'zones/' + path['zone'] if 'zone' in path else 'global'}/{kind}/"
        if method in ("list", "aggregatedList"):
            return self._list(resource, kind, method, query)
        identifier = next((value for key, value in path.items() if key not in ("project", "zone")), "")
        key = where + (identifier or body["name"])
        if method == "get":
            return self._shown(resource, key)
        if method == "listNetworkEndpoints":
            self._require(key)
            held = self.objects[key].get("_inside", [])
            return {"items": [{"networkEndpoint": entry} for entry in held]}
        if method == "getHealth":
            return self._health(key, body)
        return self._change(resource, method, key, query, body)

    # What is there.

    def _require(self, key: str) -> None:
        need(key in self.objects, f"The resource '{key}' was not found", "notFound", 404)

    def _shown(self, resource: str, key: str) -> Json:
        self._require(key)
        stored = self.objects[key]
        shown = {name: value for name, value in stored.items() if not name.startswith("_")}
        shown = copy.deepcopy(shown)
        if resource not in _NO_FINGERPRINT:
            shown["fingerprint"] = fingerprint(shown)
        if resource == "globalForwardingRules":
            shown["IPAddress"] = self.objects[canonical(stored["IPAddress"])]["address"]
        if resource in ("globalForwardingRules", "globalAddresses"):
            shown["labelFingerprint"] = fingerprint(stored.get("labels", {}))
        if resource == "globalAddresses":
            used = [
                _API + rule for rule, body in self._kind("forwardingRules").items() if (key in str(references(body)))
            ]
            shown |= {"status": "IN_USE", "users": used} if used else {"status": "RESERVED"}
        if kind := {"urlMaps": "urlMap", "backendServices": "backendService"}.get(resource):
            shown["kind"] = f"compute#{kind}"
        if resource.endswith("etworkEndpointGroups"):
            shown["size"] = len(stored.get("_inside", []))
        if resource == "backendServices":
            # Google fills in defaults.
            shown.setdefault("sessionAffinity", "NONE")
            for backend in shown.get("backends", []):
                if "balancingMode" in backend:
                    backend.setdefault("capacityScaler", 1.0)
        for text in ("healthChecks", "sslCertificates"):
            if shown.get(text) == []:
                del shown[text]
        return {**shown, "selfLink": _API + key, "id": str(int(fingerprint(key)[:8], 16))}

    def _list(self, resource: str, kind: str, method: str, query: dict[str, str]) -> Json:
        pattern = ".*"
        if "filter" in query:
            match = re.fullmatch(r'name eq "(.*)"', query["filter"])
            need(match, f"filter: {query['filter']} is not understood")
            pattern = match[1] if match else ""
        zonal = method == "aggregatedList"
        scope = r"(?:zones/[^/]+|global)" if zonal else "global"
        path = re.compile(rf"projects/{PROJECT}/{scope}/{kind}/({pattern})")
        keys = sorted(key for key in self.objects if path.fullmatch(key))
        start = int(query.get("pageToken", "0"))
        page = keys[start : start + min(self.page, int(query.get("maxResults", "500")))]
        answer: Json = {"kind": "compute#list"}
        if start + len(page) < len(keys):
            answer["nextPageToken"] = str(start + len(page))
        if not zonal:
            return {**answer, **({"items": [self._shown(resource, key) for key in page]} if page else {})}
        scopes: Json = {f"zones/{ZONE}": {"warning": {"code": "NO_RESULTS_ON_PAGE"}}}
        for key in page:
            part = scopes.setdefault(key.removeprefix(f"projects/{PROJECT}/").rpartition(f"/{kind}/")[0], {})
            part.setdefault(kind, []).append(self._shown(resource, key))
            part.pop("warning", None)
        return {**answer, "items": scopes}

    def _health(self, key: str, body: Json) -> Json:
        self._require(key)
        service = self.objects[key]
        need(service.get("healthChecks"), "The backend service has no health check")
        group = canonical(body["group"])
        need(group in {canonical(entry["group"]) for entry in service["backends"]}, "no backend of the service")
        if not self._is_live(key):
            return {"kind": "compute#backendServiceGroupHealth"}
        states = [
            {**entry, "healthState": "UNHEALTHY" if entry["ipAddress"] in self.sick else "HEALTHY"}
            for entry in self.objects[group].get("_inside", [])
        ]
        return {"kind": "compute#backendServiceGroupHealth", "healthStatus": states}

    # What is changed.

    def _tick(self) -> None:
        for operation in self._operations.values():
            operation[0] -= 1
            if operation[0] == 0:
                operation[1]()
                operation[1] = operation[2] = None

    def _operation(self, name: str) -> Json:
        need(name in self._operations, "no such operation", "notFound", 404)
        done = self._operations[name][0] <= 0
        return {"name": name, "status": "DONE" if done else "RUNNING", "progress": 100 if done else 0}

    def _running(self, query: dict[str, str]) -> Json:
        need(query.get("filter") == 'status != "DONE"', "filter: not understood")
        scopes: Json = {"global": {}}
        for name, (_left, act, key) in self._operations.items():
            if act is not None:
                scope = key.split("/")[2:4] if "/zones/" in key else ["global"]
                part = scopes.setdefault("/".join(scope), {}).setdefault("operations", [])
                part.append({"name": name, "status": "RUNNING", "targetLink": _API + key})
        return {"items": scopes}

    def _begin(self, key: str, act: Callable[[], None]) -> Json:
        self._count += 1
        name = f"operation-{self._count}"
        self._operations[name] = [self.delay, act, key]
        return {"kind": "compute#operation", "name": name, "status": "RUNNING", "targetLink": _API + key}

    def _change(self, resource: str, method: str, key: str, query: dict[str, str], body: Any) -> Json:
        if (request := query.get("requestId")) in self._requests:
            before, name = self._requests[request]
            need(before == f"{method} {key}", "requestId: it was used for another call")
            return {"kind": "compute#operation", "name": name, "status": "RUNNING"}
        busy = {operation[2] for operation in self._operations.values()}
        if method == "insert":
            known = key in self.objects or key in busy
            need(not known, f"The resource '{key}' already exists", "alreadyExists", 409)
        else:
            self._require(key)
            need(key not in busy, f"The resource '{key}' is not ready", "resourceNotReady")
        act = getattr(self, f"_{method}")(resource, key, body)
        answer = self._begin(key, act)
        if request:
            self._requests[request] = (f"{method} {key}", answer["name"])
        return answer

    def _insert(self, resource: str, key: str, body: Json) -> Callable[[], None]:
        need(body.get("name"), "resource.name is missing", "required")
        if resource == "globalAddresses":
            body = {**body, "address": f"203.0.113.{len(self.objects) % 250 + 1}"}
        self._check(resource, key, body)
        return lambda: self.objects.update({key: body})

    def _update(self, resource: str, key: str, body: Json) -> Callable[[], None]:
        given = body.pop("fingerprint", None)
        if resource not in _NO_FINGERPRINT:
            found = self._shown(resource, key)["fingerprint"]
            need(given == found, "Invalid fingerprint.", "conditionNotMet", 412)
        for field in ("name", "type"):
            need(body.get(field) == self.objects[key].get(field), f"resource.{field} cannot be changed")
        self._check(resource, key, body)
        return lambda: self.objects.update({key: body})

    def _patch(self, resource: str, key: str, body: Json) -> Callable[[], None]:
        return self._update(resource, key, {**self.objects[key], **body})

    def _delete(self, _resource: str, key: str, _body: Any) -> Callable[[], None]:
        for other, stored in self.objects.items():
            used = key in {link for _field, link in references(stored)}
            need(not used, f"'{key}' is already being used by '{other}'", "resourceInUseByAnotherResource")
        return lambda: self.objects.__delitem__(key)

    def _set(self, resource: str, key: str, **fields: Any) -> Callable[[], None]:
        body = {**self.objects[key], **fields}
        self._check(resource, key, body)
        return lambda: self.objects.update({key: body})

    def _setUrlMap(self, resource: str, key: str, body: Json) -> Callable[[], None]:  # noqa: N802
        return self._set(resource, key, **body)

    _setSslCertificates = _setCertificateMap = _setTarget = _setUrlMap  # noqa: N815

    def _setLabels(self, resource: str, key: str, body: Json) -> Callable[[], None]:  # noqa: N802
        found = fingerprint(self.objects[key].get("labels", {}))
        need(body.get("labelFingerprint") == found, "Labels fingerprint is old.", "conditionNotMet", 412)
        return self._set(resource, key, labels=body["labels"])

    def _attachNetworkEndpoints(self, resource: str, key: str, body: Json) -> Callable[[], None]:  # noqa: N802
        held, given = self.objects[key].get("_inside", []), body["networkEndpoints"]
        kind = self.objects[key]["networkEndpointType"]
        for entry in given:
            need(entry not in held, "the endpoint is attached already")
            need(1 <= entry.get("port", 0) <= 65535, "an endpoint needs a port")
            fields = {"fqdn", "port"} if kind == "INTERNET_FQDN_PORT" else {"ipAddress", "port"}
            need(set(entry) == fields, f"an endpoint of {kind} has {fields}")
            if kind == "INTERNET_IP_PORT":
                need(ipaddress.IPv4Address(entry["ipAddress"]).is_global, "no public address")
        need(resource == "networkEndpointGroups" or len(held + given) == 1, "an internet NEG has one endpoint")
        return self._set(resource, key, _inside=held + given)

    def _detachNetworkEndpoints(self, resource: str, key: str, body: Json) -> Callable[[], None]:  # noqa: N802
        held, given = self.objects[key].get("_inside", []), body["networkEndpoints"]
        for entry in given:
            need(entry in held, "the endpoint is not attached")
        return self._set(resource, key, _inside=[entry for entry in held if entry not in given])

    # The rules.

    def _check(self, resource: str, key: str, body: Json) -> None:
        need(len(body.get("description", "")) <= 2048, "resource.description is too long")
        for field, path in references(body):
            need(path in self.objects, f"The resource '{path}' was not found", "notFound", 404)
            need(path.split("/")[-2] in _REFERENCES[field], f"{field}: {path} is none of {_REFERENCES[field]}")
        rule = getattr(self, f"_check_{resource}", None)
        if rule:
            rule(key, body)

    def _check_healthChecks(self, _key: str, body: Json) -> None:  # noqa: N802
        kinds = [field for field in body if field.endswith("HealthCheck")]
        need(kinds == [f"{body.get('type', '').lower()}HealthCheck"], "type and health check do not match")
        need(1 <= body.get("checkIntervalSec", 5) <= 300, "checkIntervalSec is out of range")
        need(1 <= body.get("timeoutSec", 5) <= body.get("checkIntervalSec", 5), "timeoutSec is out of range")
        for field in ("healthyThreshold", "unhealthyThreshold"):
            need(1 <= body.get(field, 2) <= 10, f"{field} is out of range")
        config = body[kinds[0]]
        fixed = config.get("portSpecification") == "USE_FIXED_PORT"
        need(fixed == ("port" in config), "portSpecification and port do not match")

    def _check_globalNetworkEndpointGroups(self, _key: str, body: Json) -> None:  # noqa: N802
        need(body.get("networkEndpointType") in ("INTERNET_FQDN_PORT", "INTERNET_IP_PORT"), "not a global type")
        need("network" not in body, "a global NEG has no network")

    def _check_networkEndpointGroups(self, _key: str, body: Json) -> None:  # noqa: N802
        need(body.get("networkEndpointType") == "NON_GCP_PRIVATE_IP_PORT", "not a type that is known here")

    def _check_backendServices(self, _key: str, body: Json) -> None:  # noqa: N802
        need(body.get("loadBalancingScheme") == "EXTERNAL_MANAGED", "another kind of load balancer")
        groups = [canonical(entry["group"]) for entry in body.get("backends", [])]
        need(len(set(groups)) == len(groups), "a backend is there twice")
        kinds = {self.objects[group]["networkEndpointType"] for group in groups}
        for entry in body.get("backends", []):
            need(entry["group"].startswith("https://www.googleapis.com/"), "backend.group needs the whole URL")
        if any(kind.startswith("INTERNET") for kind in kinds):
            need(len(groups) == 1, "an internet NEG is the only backend of its service")
            need(not body.get("healthChecks"), "Health checks are not allowed for services with an internet NEG")
            need("outlierDetection" not in body, "Outlier detection is not supported")
            extra = body["backends"][0].keys() - {"group", "description"}
            need(not extra, f"an internet NEG has no {extra}")
            return
        need(len(body.get("healthChecks", [])) == 1, "a service with zonal NEGs needs one health check")
        for entry in body["backends"]:
            need(entry.get("balancingMode") == "RATE", "a zonal NEG needs balancingMode RATE")
            need(sum(key in entry for key in ("maxRate", "maxRatePerEndpoint")) == 1, "RATE needs a rate")

    def _check_urlMaps(self, _key: str, body: Json) -> None:  # noqa: N802
        self._check_route(body, "default")
        matchers = {matcher["name"]: matcher for matcher in body.get("pathMatchers", [])}
        named = [rule["pathMatcher"] for rule in body.get("hostRules", [])]
        need(sorted(named) == sorted(matchers), "hostRules and pathMatchers do not match")
        hosts = [host for rule in body.get("hostRules", []) for host in rule["hosts"]]
        need(len(set(hosts)) == len(hosts), "a host has two hostRules")
        for name in matchers:
            need(re.fullmatch(r"[a-z]([-a-z0-9]{0,61}[a-z0-9])?", name), f"a pathMatcher has the name {name}")
        for matcher in matchers.values():
            self._check_route(matcher, "default")
            rules = matcher.get("routeRules", [])
            priorities = [rule["priority"] for rule in rules]
            need(priorities == sorted(set(priorities)), "routeRules need rising priorities")
            for rule in rules:
                self._check_route(rule, "")
                for match in rule["matchRules"]:
                    path = [match[key] for key in ("fullPathMatch", "prefixMatch") if key in match]
                    need(len(path) == 1 and re.fullmatch(r"/[^?#]{0,1023}", path[0]), "matchRules: no path")

    @staticmethod
    def _check_route(body: Json, prefix: str) -> None:
        def field(name: str) -> str:
            return prefix + name[0].upper() + name[1:] if prefix else name

        action = body.get(field("routeAction"), {})
        goals = [body.get(field("service")), body.get(field("urlRedirect")), action.get("weightedBackendServices")]
        need(sum(goal is not None for goal in goals) == 1, "exactly one of service, redirect and weights is needed")
        shares = [entry["weight"] for entry in action.get("weightedBackendServices", [])]
        need(all(0 <= weight <= 1000 for weight in shares), "a weight is out of range")
        need(not shares or sum(shares) > 0, "all weights are 0")
        policy = action.get("retryPolicy", {"numRetries": 1})
        need(policy["numRetries"] > 0, "numRetries must be more than 0")
        need(set(policy.get("retryConditions", [])) <= set(_RETRIES), "an unknown retryCondition")
        for span in (action.get("timeout"), policy.get("perTryTimeout")):
            need(span is None or int(span["seconds"]) + span.get("nanos", 0) > 0, "a timeout of 0")
            need(span is None or 0 <= span.get("nanos", 0) <= 999_999_999, "nanos are out of range")
        rewrite = action.get("urlRewrite", {}).get("hostRewrite", "x")
        need(1 <= len(rewrite) <= 255, "hostRewrite is out of range")

    def _check_sslCertificates(self, key: str, body: Json) -> None:  # noqa: N802
        need(key not in self.objects, "a certificate cannot be changed")
        need(body.get("type") == "MANAGED", "only managed ones are made here")
        need(1 <= len(body["managed"]["domains"]) <= 100, "1 to 100 domains are needed")

    def _check_targetHttpsProxies(self, _key: str, body: Json) -> None:  # noqa: N802
        need(body.get("sslCertificates") or body.get("certificateMap"), "an HTTPS proxy needs a certificate")
        need(len(body.get("sslCertificates", [])) <= 15, "a proxy takes 15 certificates")

    def _check_globalForwardingRules(self, key: str, body: Json) -> None:  # noqa: N802
        need(body.get("loadBalancingScheme") == "EXTERNAL_MANAGED", "another kind of load balancer")
        need(body.get("IPAddress") and body.get("target") and body.get("portRange"), "something is missing", "required")
        need("labels" not in body or key in self.objects, "labels are set by setLabels")
        low, _unused, high = body["portRange"].partition("-")
        need(low == high and 1 <= int(low) <= 65535, "a proxy listens on one port")
        for other, stored in self.objects.items():
            address = canonical(str(stored.get("IPAddress")))
            taken = (address, stored.get("portRange")) == (canonical(body["IPAddress"]), body["portRange"])
            need(other == key or not taken, "the address and port are in use")

    # Whom clients reach.

    def _kind(self, kind: str) -> dict[str, Json]:
        return {key: stored for key, stored in self.objects.items() if key.split("/")[-2] == kind}

    def _maps(self) -> list[Json]:
        """Give the URL maps that a forwarding rule leads to."""
        proxies = [self.objects[canonical(rule["target"])] for rule in self._kind("forwardingRules").values()]
        return [self.objects[canonical(proxy["urlMap"])] for proxy in proxies]

    def _is_live(self, service: str) -> bool:
        return any(service in {link for _field, link in references(found)} for found in self._maps())

    def shares(self, path: str = "/v1/models/iris:predict") -> dict[str, float]:
        for found in self._maps():
            action = route(found, path)
            weighed = action.get("weightedBackendServices", [])
            total = sum(entry["weight"] for entry in weighed)
            shares: dict[str, float] = {}
            for entry in weighed:
                if not entry["weight"]:
                    continue
                for address, part in self._served(self.objects[canonical(entry["backendService"])]).items():
                    shares[address] = shares.get(address, 0.0) + part * entry["weight"] / total
            return shares
        return {}

    def _served(self, service: Json) -> dict[str, float]:
        """Give who serves the requests of a backend service: the healthy ones, preferred groups first."""
        for preference in ("PREFERRED", "DEFAULT"):
            able = []
            for entry in service["backends"]:
                if entry.get("preference", "DEFAULT") != preference:
                    continue
                for held in self.objects[canonical(entry["group"])].get("_inside", []):
                    address = held.get("ipAddress") or held["fqdn"]
                    if not service.get("healthChecks") or address not in self.sick:
                        able.append(address)
            if able:
                return dict.fromkeys(able, 1 / len(able))
        return {}

    def ours(self) -> list[str]:
        return [key for key, stored in self.objects.items() if "modelfleet" in stored.get("description", "")]

    def snapshot(self) -> Callable[[], None]:
        saved = copy.deepcopy(self.objects)

        def restore() -> None:
            self.objects = copy.deepcopy(saved)
            self._operations.clear()
            self._requests.clear()

        return restore

    def find(self, name: str, kind: str) -> Json:
        """Give an object as it is stored, to look at or to change as somebody else."""
        return self._kind(kind)[next(key for key in self._kind(kind) if re.fullmatch(name, key.rsplit("/", 1)[-1]))]

    def forget(self, name: str, kind: str) -> None:
        """Delete an object as somebody else."""
        del self.objects[next(key for key in self._kind(kind) if re.fullmatch(name, key.rsplit("/", 1)[-1]))]


def route(found: Json, path: str, host: str = "") -> Json:
    """Give what a URL map does with a request."""
    matchers = {matcher["name"]: matcher for matcher in found.get("pathMatchers", [])}
    named = {name: matchers[rule["pathMatcher"]] for rule in found.get("hostRules", []) for name in rule["hosts"]}
    if matcher := named.get(host) or named.get("*"):
        for rule in matcher.get("routeRules", []):
            for match in rule["matchRules"]:
                full, prefix = match.get("fullPathMatch"), match.get("prefixMatch")
                if path == full or (prefix and path.startswith(prefix)):
                    return dict(rule["routeAction"])
        return dict(matcher["defaultRouteAction"])
    return dict(found.get("defaultRouteAction", {}))


class GoogleLab(CloudLab):
    """The module in front of :class:`Google`; members are reached through private connections, and checked."""

    balancer = "google_cloud"
    cloud: Google

    def access(self) -> dict[str, Any]:
        return {
            "url_map": MAP,
            "project": PROJECT,
            "auth_kind": "accesstoken",
            "access_token": "token",
            "endpoint_url": self.cloud.url,
            "zones": dict.fromkeys("abcd", ZONE),
            "health_check_path": "/healthz",
        }

    @property
    def front(self) -> str:
        rules = list(self.cloud._kind("forwardingRules").values())
        return str(self.cloud.objects[canonical(rules[0]["IPAddress"])]["address"])

    @staticmethod
    def call() -> tuple[type, str]:
        return HttpRequest, "execute"

    @staticmethod
    def address(name: str) -> str:
        return f"10.0.0.{'abcd'.index(name) + 1}"

    def foreign(self) -> None:
        path = f"projects/{PROJECT}/global/urlMaps/{MAP}"
        redirect = {"hostRedirect": "example.net", "redirectResponseCode": "FOUND"}
        self.cloud.objects[path] = {"name": MAP, "description": "by hand", "defaultUrlRedirect": redirect}


class InternetLab(GoogleLab):
    """Members that are reached through the internet, whom Google does not check."""

    def access(self) -> dict[str, Any]:
        return {key: value for key, value in super().access().items() if key not in ("zones", "health_check_path")}

    @staticmethod
    def address(name: str) -> str:
        return f"{name}.edge.example.net"
