# SPDX-FileCopyrightText: The modelfleet maintainers
# SPDX-License-Identifier: GPL-3.0-or-later
"""A stand-in for the part of Azure Resource Manager that is Traffic Manager, on a free port of 127.0.0.1.

What a request may hold comes from the models of Azure's own SDK: fields, types, enumerations, and what is read-only.
The rest are rules that Azure documents in words: ranges, what belongs to which routing method, what has to be unique,
what tags may be, how endpoints are chosen, and what their status is. It has no lock and no ETag, as the real one.

It is not Azure: it was written by its documentation alone, and knows neither permissions nor the time that a change
takes to reach all name servers. That a profile in use by another cannot be deleted is a guess on the safe side.

Tokens are only sent by TLS, so it has a certificate. It gives them itself, as the managed identity of App Service.
"""

from __future__ import annotations

import copy
import datetime
import ipaddress
import json
import re
import tempfile
import threading
import time
import types
import typing
from collections.abc import Callable, Iterator
from enum import Enum
from pathlib import Path
from typing import Any

from azure.mgmt.trafficmanager import models
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from werkzeug import Request, Response
from werkzeug.serving import make_server

from ansible_collections.modelfleet.serving.plugins.module_utils._endpoint import traffic_manager_api

from .cloud import Cloud, CloudLab, Quiet

SUBSCRIPTION, GROUP = "00000000-0000-0000-0000-000000000001", "serving"
FRONT, POOL = "models", "models-pool"
DOMAIN = "trafficmanager.net"
TOKEN = "testing"
IDENTITY = "/msi/token"
# What shows that one is on the machine whose identity it is.
HEADER = "here"

_PROVIDER = "providers/Microsoft.Network"
_TYPE = "Microsoft.Network/trafficManagerProfiles"
_PATH = re.compile(
    rf"/subscriptions/([^/]+)/resourceGroups/([^/]+)/{_PROVIDER}/trafficManagerProfiles/([^/]+)", re.IGNORECASE
)
_NAME_CHECK = f"/subscriptions/{SUBSCRIPTION}/{_PROVIDER}/checkTrafficManagerNameAvailabilityV2"
_REGIONS = {"westeurope": "West Europe", "northeurope": "North Europe", "eastus": "East US"}
_STATUS = ("endpointMonitorStatus", "profileMonitorStatus")
_ERRORS = {
    "throttled": (429, "TooManyRequests"),
    "broken": (500, "InternalServerError"),
    "forbidden": (403, "AuthorizationFailed"),
    "group": (404, "ResourceGroupNotFound"),
}


class RefusedError(Exception):
    """What Azure answers to a request that breaks a rule."""

    def __init__(self, message: str, status: int = 400, code: str = "BadRequest") -> None:
        super().__init__(message)
        self.status, self.code = status, code


def misfits(value: Any, wanted: Any, where: str) -> Iterator[str]:
    """Tell what in a value is not as the SDK's models say.

    :param wanted: a type as the models annotate it.
    """
    if typing.get_origin(wanted) in (typing.Union, types.UnionType):
        kinds = [kind for kind in typing.get_args(wanted) if kind is not types.NoneType]
        enum = next((kind for kind in kinds if isinstance(kind, type) and issubclass(kind, Enum)), None)
        if enum is not None:
            if value not in {entry.value for entry in enum}:
                yield f"{where}: {value!r} is none of {[entry.value for entry in enum]}"
            return
        yield from misfits(value, kinds[0], where)
    elif typing.get_origin(wanted) is list:
        if not isinstance(value, list):
            yield f"{where}: {value!r} is no list"
            return
        for number, entry in enumerate(value):
            yield from misfits(entry, typing.get_args(wanted)[0], f"{where}[{number}]")
    elif typing.get_origin(wanted) is dict:
        if not isinstance(value, dict) or not all(isinstance(text, str) for text in (*value, *value.values())):
            yield f"{where}: {value!r} is no mapping of texts"
    elif isinstance(wanted, type) and wanted.__module__.startswith("azure."):
        if not isinstance(value, dict):
            yield f"{where}: {value!r} is no {wanted.__name__}"
            return
        hints = typing.get_type_hints(wanted, localns={"_models": models})
        # A model knows its fields from its first instance on.
        fields = {field._rest_name: (name, field) for name, field in wanted()._attr_to_rest_field.items()}
        for key, entry in value.items():
            if key not in fields:
                yield f"{where}: there is no field {key}"
            elif key in _STATUS or fields[key][1]._visibility == ["read"]:
                yield f"{where}.{key} is Azure's own"
            else:
                yield from misfits(entry, hints[fields[key][0]], f"{where}.{key}")
    elif not isinstance(value, wanted) or isinstance(value, bool):
        yield f"{where}: {value!r} is no {wanted.__name__}"


def kind_of(target: str) -> str:
    """Name the type of record that an endpoint answers."""
    try:
        return f"IPv{ipaddress.ip_address(target).version}"
    except ValueError:
        return "name"


class Azure(Cloud):
    """A subscription with one resource group.

    :ivar profiles: what is there by its name in small letters, without what Azure adds.
    :ivar taken: names in the domain that somebody else has.
    :ivar unasked: addresses that no health check has reached yet.
    """

    def __init__(self) -> None:
        self.profiles: dict[str, dict[str, Any]] = {}
        self.taken: set[str] = set()
        self.unasked: set[str] = set()
        self._folder = tempfile.TemporaryDirectory()
        self.certificate, key = certify(Path(self._folder.name))
        super().__init__()
        self._tls = make_server(
            "127.0.0.1", 0, self._serve, True, request_handler=Quiet, ssl_context=(str(self.certificate), str(key))
        )
        self._tls_thread = threading.Thread(target=self._tls.serve_forever)
        self._tls_thread.start()

    def close(self) -> None:
        """End both servers."""
        self._tls.shutdown()
        self._tls_thread.join()
        self._tls.server_close()
        super().close()
        self._folder.cleanup()

    @property
    def secure_url(self) -> str:
        """Give the address of the API."""
        return f"https://127.0.0.1:{self._tls.port}"

    def install(self, monkeypatch: Any) -> None:
        """Be the identity of this machine, and let its certificate be trusted."""
        for names in traffic_manager_api._VARIABLES.values():
            for name in names:
                monkeypatch.delenv(name, raising=False)
        for name in ("AZURE_PROFILE", "AZURE_CLOUD_ENVIRONMENT", "ANSIBLE_AZURE_AUTH_SOURCE"):
            monkeypatch.delenv(name, raising=False)
        monkeypatch.setenv("IDENTITY_ENDPOINT", f"{self.url}{IDENTITY}")
        monkeypatch.setenv("IDENTITY_HEADER", HEADER)
        monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(self.certificate))

    def operation(self, request: Request) -> str:
        """Name the operation that a request is."""
        if request.path == IDENTITY:
            return "Token"
        if request.method == "POST":
            return "CheckNameAvailability"
        return {"GET": "Get", "PUT": "CreateOrUpdate", "DELETE": "Delete"}[request.method]

    def is_read(self, operation: str) -> bool:
        """Tell whether an operation changes nothing."""
        return operation in ("Get", "CheckNameAvailability", "Token")

    def ours(self) -> list[str]:
        """Name every profile."""
        return list(self.profiles)

    def snapshot(self) -> Callable[[], None]:
        """Remember all profiles."""
        saved = copy.deepcopy(self.profiles)

        def restore() -> None:
            self.profiles = copy.deepcopy(saved)

        return restore

    def refuse(self, code: str) -> Response:
        """Give Azure's answer to a fault."""
        status, word = _ERRORS[code]
        return self._error(status, word, "as the test asks")

    @staticmethod
    def _error(status: int, code: str, message: str) -> Response:
        response = _json({"error": {"code": code, "message": message}}, status)
        if status == 429:
            response.headers["Retry-After"] = "0"
        return response

    def answer(self, request: Request) -> Response:
        """Carry a request out."""
        try:
            return self._answer(request)
        except RefusedError as error:
            return self._error(error.status, error.code, str(error))

    def _answer(self, request: Request) -> Response:
        if request.path == IDENTITY:
            known = request.headers.get("X-IDENTITY-HEADER") == HEADER
            if not known or request.args.get("resource") != "https://management.azure.com":
                raise RefusedError("No identity.", 400, "BadRequest")
            until = str(int(time.time()) + 3600)
            answer = {"access_token": TOKEN, "expires_on": until, "token_type": "Bearer"}
            return _json({**answer, "resource": request.args["resource"]}, 200)
        if request.scheme != "https" or request.headers.get("Authorization") != f"Bearer {TOKEN}":
            raise RefusedError("Authentication failed.", 401, "AuthenticationFailed")
        if set(request.args) != {"api-version"} or not re.fullmatch(r"20\d\d-\d\d-\d\d", request.args["api-version"]):
            raise RefusedError("The api-version query parameter (?api-version=) is required for all requests.")
        if request.path == _NAME_CHECK:
            return self._available(request.get_json())
        found = _PATH.fullmatch(request.path)
        if found is None:
            raise RefusedError(f"No route for {request.path}", 404, "NotFound")
        subscription, group, name = found.groups()
        if subscription != SUBSCRIPTION:
            raise RefusedError(f"The subscription '{subscription}' could not be found.", 404, "SubscriptionNotFound")
        if group.lower() != GROUP:
            raise RefusedError(f"Resource group '{group}' could not be found.", 404, "ResourceGroupNotFound")
        if request.method == "PUT":
            made = name.lower() not in self.profiles
            self.put(name, request.get_json())
            return _json(self.shown(name), 201 if made else 200)
        if request.method == "DELETE":
            if name.lower() not in self.profiles:
                return Response(status=204)
            self._delete(name)
            return _json({"boolean": True}, 200)
        if name.lower() not in self.profiles:
            raise RefusedError(f"The Resource '{_TYPE}/{name}' was not found.", 404, "ResourceNotFound")
        return _json(self.shown(name), 200)

    def _available(self, body: Any) -> Response:
        wrong = list(misfits(body, models.CheckTrafficManagerRelativeDnsNameAvailabilityParameters, "body"))
        if wrong or body["type"] != _TYPE:
            raise RefusedError(str(wrong))
        there = body["name"].lower() in self._labels("")
        answer = {"name": body["name"], "type": _TYPE, "nameAvailable": not there}
        if there:
            answer |= {"reason": "AlreadyExists", "message": "Domain name is already in use. Please choose another."}
        return _json(answer, 200)

    def _labels(self, but: str) -> set[str]:
        """Give all names in the domain but that of one profile."""
        ours = {
            entry["properties"]["dnsConfig"]["relativeName"].lower()
            for name, entry in self.profiles.items()
            if name != but.lower()
        }
        return ours | self.taken

    def put(self, name: str, body: Any) -> None:
        """Write a profile, also as somebody else.

        :raises RefusedError: on what Azure would not take.
        """
        wrong = list(misfits(body, models.Profile, "profile"))
        wrong = wrong or [*self._wrong_profile(name, body), *self._wrong_tags(body.get("tags", {}))]
        if wrong:
            raise RefusedError("; ".join(wrong))
        label = body["properties"]["dnsConfig"]["relativeName"]
        if label.lower() in self._labels(name):
            raise RefusedError("Domain name is already in use.", 409, "Conflict")
        entry = copy.deepcopy(body)
        entry["name"] = name
        for number, endpoint in enumerate(entry["properties"].setdefault("endpoints", []), 1):
            # Azure's own defaults.
            endpoint["properties"] = {"weight": 1, "priority": number, **endpoint["properties"]}
            location = endpoint["properties"].get("endpointLocation")
            if location:
                endpoint["properties"]["endpointLocation"] = _REGIONS[location.lower().replace(" ", "")]
        self.profiles[name.lower()] = entry

    def _wrong_profile(self, name: str, body: dict[str, Any]) -> Iterator[str]:
        if not re.fullmatch(r"[A-Za-z0-9]([A-Za-z0-9.-]{0,61}[A-Za-z0-9])?", name):
            yield f"the profile's name {name}"
        if body.get("location") != "global":
            yield "the location has to be global"
        properties = body.get("properties", {})
        for key in ("trafficRoutingMethod", "dnsConfig", "monitorConfig"):
            if key not in properties:
                yield f"{key} is missing"
                return
        dns = properties["dnsConfig"]
        if not re.fullmatch(r"[A-Za-z0-9]([A-Za-z0-9-]{0,61}[A-Za-z0-9])?", dns.get("relativeName", "")):
            yield f"the relativeName {dns.get('relativeName')}"
        before = self.profiles.get(name.lower())
        if before and before["properties"]["dnsConfig"]["relativeName"] != dns.get("relativeName"):
            yield "the relativeName cannot be changed"
        if not 0 <= dns.get("ttl", -1) < 2**31:
            yield f"the ttl {dns.get('ttl')}"
        yield from self._wrong_monitor(properties["monitorConfig"])
        yield from self._wrong_endpoints(name, properties)

    @staticmethod
    def _wrong_monitor(monitor: dict[str, Any]) -> Iterator[str]:
        if "protocol" not in monitor or not 1 <= monitor.get("port", 0) <= 65535:
            yield "protocol and port are needed"
            return
        http = monitor["protocol"] != "TCP"
        path = monitor.get("path")
        if http != bool(path) or (http and not path.startswith("/")):
            yield f"the path {path} with {monitor['protocol']}"
        if not http and (monitor.get("customHeaders") or monitor.get("expectedStatusCodeRanges")):
            yield "headers and status codes are for HTTP"
        if len(monitor.get("customHeaders", [])) > 8 or len(monitor.get("expectedStatusCodeRanges", [])) > 8:
            yield "at most eight headers and ranges"
        interval, timeout = monitor.get("intervalInSeconds", 30), monitor.get("timeoutInSeconds")
        if interval not in (10, 30):
            yield f"the interval {interval}"
        if timeout is not None and not 5 <= timeout <= (9 if interval == 10 else 10):
            yield f"the timeout {timeout} with the interval {interval}"
        if not 0 <= monitor.get("toleratedNumberOfFailures", 3) <= 9:
            yield "tolerated failures"

    def _wrong_endpoints(self, name: str, properties: dict[str, Any]) -> Iterator[str]:
        endpoints = properties.get("endpoints", [])
        method = properties["trafficRoutingMethod"]
        if len(endpoints) > 200:
            yield "at most 200 endpoints"
        for key in ("name", "target", "priority"):
            seen = [entry.get(key) if key == "name" else entry["properties"].get(key) for entry in endpoints]
            given = [str(value).lower() for value in seen if value is not None]
            if len(set(given)) < len(given):
                yield f"one {key} twice"
            if key == "priority" and 0 < len(given) < len(endpoints):
                yield "a priority for all, or for none"
        kinds = {kind_of(entry["properties"]["target"]) for entry in endpoints if "target" in entry["properties"]}
        if len(kinds) > 1:
            yield f"endpoints of different types {sorted(kinds)}"
        places: list[str] = []
        for entry in endpoints:
            given = entry["properties"]
            yield from self._wrong_endpoint(name, entry)
            for key in ("weight", "priority"):
                if not 1 <= given.get(key, 1) <= 1000:
                    yield f"the {key} {given[key]}"
            if method == "Performance":
                region = given.get("endpointLocation", "").lower().replace(" ", "")
                if region not in _REGIONS:
                    yield f"the location {region!r} of {entry['name']}"
            if method == "Geographic":
                if not given.get("geoMapping"):
                    yield f"no region is mapped to {entry['name']}"
                places += given.get("geoMapping", [])
        if len(set(places)) < len(places):
            yield "one region is mapped twice"
        yield from (
            f"the region {place}" for place in places if not re.fullmatch(r"WORLD|GEO-[A-Z]{2}|[A-Z]{2}(-\w+)?", place)
        )

    def _wrong_endpoint(self, profile: str, entry: dict[str, Any]) -> Iterator[str]:
        kind = str(entry.get("type", "")).rpartition("/")[2]
        if not entry.get("name") or kind not in ("externalEndpoints", "nestedEndpoints"):
            yield f"name or type of an endpoint: {entry}"
            return
        given = entry["properties"]
        if kind == "nestedEndpoints":
            child = str(given.get("targetResourceId", "")).rpartition("/")[2].lower()
            if given.get("targetResourceId", "").lower() != self.id(child).lower() or child not in self.profiles:
                yield f"the profile {child} does not exist"
            elif child == profile.lower():
                yield "a loop"
            if "target" in given or given.get("minChildEndpoints", 1) < 1:
                yield "target or minChildEndpoints of a nested endpoint"
            return
        target = given.get("target")
        if not target or "targetResourceId" in given or "minChildEndpoints" in given:
            yield f"an external endpoint has a target alone: {given}"
        elif kind_of(target) != "name" and not ipaddress.ip_address(target).is_global:
            yield f"the reserved address {target}"
        elif target.endswith(f".{DOMAIN}"):
            yield "a profile is a nested endpoint"

    @staticmethod
    def _wrong_tags(tags: dict[str, str]) -> Iterator[str]:
        if len(tags) > 50 or len({name.lower() for name in tags}) < len(tags):
            yield "at most 50 tags, each once"
        for name, value in tags.items():
            if len(name) > 512 or len(value) > 256 or re.search(r"[<>%&\\?/#: ]|^[0-9]", name):
                yield f"the tag {name}"
            if name.lower().startswith(("microsoft", "azure", "windows")):
                yield f"the reserved tag {name}"

    def _delete(self, name: str) -> None:
        for other, entry in self.profiles.items():
            for endpoint in entry["properties"]["endpoints"]:
                if endpoint["properties"].get("targetResourceId", "").lower().endswith(f"/{name.lower()}"):
                    raise RefusedError(f"{name} is an endpoint of {other}", 409, "Conflict")
        del self.profiles[name.lower()]

    @staticmethod
    def id(name: str) -> str:
        """Give the id of a profile."""
        return f"/subscriptions/{SUBSCRIPTION}/resourceGroups/{GROUP}/{_PROVIDER}/trafficManagerProfiles/{name}"

    def shown(self, name: str) -> dict[str, Any]:
        """Give a profile as Azure does."""
        entry = copy.deepcopy(self.profiles[name.lower()])
        properties = entry["properties"]
        properties["dnsConfig"]["fqdn"] = f"{properties['dnsConfig']['relativeName']}.{DOMAIN}"
        properties["monitorConfig"]["profileMonitorStatus"] = "Online"
        for endpoint in properties["endpoints"]:
            endpoint["id"] = f"{self.id(entry['name'])}/{endpoint['type'].rpartition('/')[2]}/{endpoint['name']}"
            endpoint["properties"]["endpointMonitorStatus"] = self._status(properties, endpoint)
        return {"id": self.id(entry["name"]), "type": _TYPE, **entry}

    def endpoint(self, profile: str, name: str) -> dict[str, Any]:
        """Give an endpoint's properties, to be changed by hand."""
        entries = self.profiles[profile]["properties"]["endpoints"]
        found: dict[str, Any] = next(entry["properties"] for entry in entries if entry["name"] == name)
        return found

    def _status(self, properties: dict[str, Any], endpoint: dict[str, Any]) -> str:
        given = endpoint["properties"]
        if given.get("endpointStatus", "Enabled") == "Disabled":
            return "Disabled"
        if properties.get("profileStatus", "Enabled") == "Disabled":
            return "Inactive"
        if given.get("alwaysServe") == "Enabled":
            return "Unmonitored"
        if "targetResourceId" in given:
            child = self.profiles[given["targetResourceId"].rpartition("/")[2].lower()]["properties"]
            within = [self._status(child, entry) for entry in child["endpoints"]]
            if all(status in ("Disabled", "Stopped", "Inactive") for status in within):
                return "Stopped"
            needed = given.get("minChildEndpoints", 1)
            if sum(status in ("Online", "Unmonitored") for status in within) >= needed:
                return "Online"
            checking = sum(status in ("Online", "Unmonitored", "CheckingEndpoint") for status in within)
            return "CheckingEndpoint" if checking >= needed else "Degraded"
        if given["target"] in self.sick:
            return "Degraded"
        return "CheckingEndpoint" if given["target"] in self.unasked else "Online"

    def shares(self, place: str = "", region: str = "") -> dict[str, float]:
        """Give the share of the clients that each address gets.

        :param place: the country that they ask from.
        :param region: the Azure region that is nearest to them.
        """
        return self._answers(FRONT, place, region) if FRONT in self.profiles else {}

    def _answers(self, name: str, place: str, region: str) -> dict[str, float]:
        properties = self.profiles[name]["properties"]
        statuses = [(entry["properties"], self._status(properties, entry)) for entry in properties["endpoints"]]
        eligible = [(given, status) for given, status in statuses if status not in ("Disabled", "Inactive", "Stopped")]
        well = [given for given, status in eligible if status != "Degraded"] or [given for given, _status in eligible]
        method = properties["trafficRoutingMethod"]
        if method == "Priority":
            well = sorted(well, key=lambda given: given["priority"])[:1]
        elif method == "Performance":
            near = [given for given in well if given["endpointLocation"] == _REGIONS.get(region)]
            well = near or well
        elif method == "Geographic":
            # Healthy or not: a region is mapped to one endpoint alone.
            wider = [place, *(["GEO-EU"] if place in ("DE", "FR") else []), "WORLD"]
            mapped = [given for step in wider for given, _status in eligible if step in given["geoMapping"]]
            well = mapped[:1]
        weights = [given["weight"] if method == "Weighted" else 1 for given in well]
        shares: dict[str, float] = {}
        for given, weight in zip(well, weights, strict=True):
            child = str(given.get("targetResourceId", "")).rpartition("/")[2].lower()
            within = self._answers(child, place, region) if child else {given["target"]: 1.0}
            for address, share in within.items():
                shares[address] = shares.get(address, 0.0) + share * weight / sum(weights)
        return shares


def _json(body: Any, status: int) -> Response:
    return Response(json.dumps(body), status, content_type="application/json")


def certify(folder: Path) -> tuple[Path, Path]:
    """Make a certificate of 127.0.0.1, and its key."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "127.0.0.1")])
    now = datetime.datetime.now(datetime.UTC)
    certificate = (
        x509.CertificateBuilder()
        .issuer_name(name)
        .subject_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now)
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]), False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), True)
        .sign(key, hashes.SHA256())
    )
    files = folder / "certificate.pem", folder / "key.pem"
    files[0].write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    files[1].write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    return files


class AzureLab(CloudLab):
    """The module in front of :class:`Azure`."""

    balancer = "traffic_manager"
    cloud: Azure

    def access(self) -> dict[str, Any]:
        """Give the options by which the profiles are reached."""
        return {
            "resource_group": GROUP,
            "profile_name": FRONT,
            "subscription_id": SUBSCRIPTION,
            "auth_source": "msi",
            "endpoint_url": self.cloud.secure_url,
        }

    @property
    def front(self) -> str:
        """Give the name that clients ask for."""
        return f"{FRONT}.trafficmanager.net"

    @staticmethod
    def call() -> tuple[type, str]:
        """Give what each call of the API goes through."""
        return traffic_manager_api.Api, "_call"

    def foreign(self) -> None:
        """Make a profile of the name by hand."""
        self.cloud.put(FRONT, by_hand("models"))


def by_hand(label: str) -> dict[str, Any]:
    """Give a profile as the portal makes it."""
    return {
        "location": "global",
        "tags": {"cost-center": "7"},
        "properties": {
            "profileStatus": "Enabled",
            "trafficRoutingMethod": "Weighted",
            "dnsConfig": {"relativeName": label, "ttl": 60},
            "monitorConfig": {"protocol": "HTTP", "port": 80, "path": "/"},
            "endpoints": [
                {"name": "old", "type": f"{_TYPE}/externalEndpoints", "properties": {"target": "a.edge.example.net"}}
            ],
        },
    }
