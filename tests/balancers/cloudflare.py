# SPDX-FileCopyrightText: The modelfleet maintainers
# SPDX-License-Identifier: GPL-3.0-or-later
"""Cloudflare Load Balancing's API on a free port of 127.0.0.1.

What a request may hold is taken from the parameter types of Cloudflare's own SDK, which is generated from Cloudflare's
schema: fields, types, enumerations, what is required; any other field is refused. What only Cloudflare's reference and
documentation say is added by hand in :meth:`Cloudflare._rules`: ranges, names, references that must exist, objects in
use that cannot be deleted. PUT replaces an object. :meth:`Cloudflare.shares` steers as Cloudflare documents.

It is not Cloudflare. The codes of its errors, and the limits that Cloudflare does not publish, are guesses; plans,
quotas, permissions, how fast a change reaches the data centers, and what a weight of 0 means when nothing else is
healthy (``zero`` tries both) are unknown.
"""

from __future__ import annotations

import copy
import datetime
import json
import re
import secrets
from collections.abc import Callable, Iterator
from typing import Annotated, Any, Literal, Union, get_args, get_origin, get_type_hints

import typing_extensions
from cloudflare.types import load_balancers as types
from werkzeug import Request, Response

from ansible_collections.modelfleet.serving.plugins.module_utils._endpoint.cloudflare_api import Api
from ansible_collections.modelfleet.serving.plugins.module_utils._endpoint.stored import OWNERSHIP

from .cloud import Cloud, CloudLab

ACCOUNT, ZONE_ID = "0a" * 16, "0b" * 16
ZONE, RECORD = "example.org", "models.example.org"
TOKEN = "testing"

_ID = "[0-9a-f]{32}"
_LB = f"zones/({_ID})/load_balancers"
_ACCOUNT_LB = f"accounts/({_ID})/load_balancers"
_OPERATIONS = (
    ("GET", r"zones", "ListZones"),
    ("GET", rf"zones/({_ID})", "GetZone"),
    ("GET", rf"zones/({_ID})/dns_records", "ListRecords"),
    ("GET", _LB, "ListLoadBalancers"),
    ("POST", _LB, "CreateLoadBalancer"),
    ("GET", rf"{_LB}/({_ID})", "GetLoadBalancer"),
    ("PUT", rf"{_LB}/({_ID})", "UpdateLoadBalancer"),
    ("DELETE", rf"{_LB}/({_ID})", "DeleteLoadBalancer"),
    *(
        entry
        for path, name in (("pools", "Pool"), ("monitors", "Monitor"))
        for entry in (
            ("GET", f"{_ACCOUNT_LB}/{path}", f"List{name}s"),
            ("POST", f"{_ACCOUNT_LB}/{path}", f"Create{name}"),
            ("PUT", rf"{_ACCOUNT_LB}/{path}/({_ID})", f"Update{name}"),
            ("DELETE", rf"{_ACCOUNT_LB}/{path}/({_ID})", f"Delete{name}"),
        )
    ),
    ("GET", rf"{_ACCOUNT_LB}/pools/({_ID})/health", "GetPoolHealth"),
)
_BODIES: dict[str, Any] = {
    "CreateLoadBalancer": types.LoadBalancerCreateParams,
    "UpdateLoadBalancer": types.LoadBalancerUpdateParams,
    "CreatePool": types.PoolCreateParams,
    "UpdatePool": types.PoolUpdateParams,
    "CreateMonitor": types.MonitorCreateParams,
    "UpdateMonitor": types.MonitorUpdateParams,
}
_QUERIES = {"ListZones": {"name", "page", "per_page"}, "ListRecords": {"name.exact", "page", "per_page"}}
_ERRORS = {"throttled": (429, 10000), "forbidden": (403, 10000), "broken": (500, 1000)}
# What Cloudflare gives to what was not said.
_DEFAULTS: dict[str, dict[str, Any]] = {
    "LoadBalancer": {
        "description": "",
        "enabled": True,
        "proxied": False,
        "session_affinity": "none",
        "steering_policy": "off",
        "region_pools": {},
        "country_pools": {},
        "pop_pools": {},
        "rules": [],
        "networks": ["cloudflare"],
        "adaptive_routing": {"failover_across_pools": False},
        "location_strategy": {"mode": "pop", "prefer_ecs": "proximity"},
        "random_steering": {"default_weight": 1},
    },
    "Pool": {
        "description": "",
        "enabled": True,
        "minimum_origins": 1,
        "check_regions": None,
        "networks": ["cloudflare"],
    },
    "Monitor": {
        "description": "",
        "method": "GET",
        "path": "/",
        "type": "http",
        "interval": 60,
        "timeout": 5,
        "retries": 2,
    }
    | {"consecutive_up": 0, "consecutive_down": 0, "header": {}, "follow_redirects": False, "allow_insecure": False},
}


def problems_of(value: Any, kind: Any, where: str = "") -> Iterator[str]:
    """Say what is wrong with a value, by a type of the SDK's parameters."""
    origin, given = get_origin(kind), get_args(kind)
    if origin in (typing_extensions.Required, typing_extensions.NotRequired, Annotated):
        yield from problems_of(value, given[0], where)
    elif typing_extensions.is_typeddict(kind):
        yield from _object_problems(value, kind, where)
    elif origin is Literal:
        if value not in given:
            yield f"{where}: {value!r} is none of {given}"
    elif origin is Union:
        found = [list(problems_of(value, each, where)) for each in given]
        if all(found):
            yield from found[0]
    elif origin is dict:
        if isinstance(value, dict):
            for key, entry in value.items():
                yield from problems_of(entry, given[1], f"{where}.{key}")
        else:
            yield f"{where}: no object"
    elif origin is not None:
        # List, Iterable, and the SDK's sequence that is no text.
        if isinstance(value, list):
            for number, entry in enumerate(value):
                yield from problems_of(entry, given[0], f"{where}[{number}]")
        else:
            yield f"{where}: no list"
    else:
        yield from _scalar_problems(value, kind, where)


def _scalar_problems(value: Any, kind: Any, where: str) -> Iterator[str]:
    number = isinstance(value, (int, float)) and not isinstance(value, bool)
    right = {
        type(None): value is None,
        bool: isinstance(value, bool),
        str: isinstance(value, str),
        float: number,
        int: number and int(value) == value,
    }
    if not right[kind]:
        yield f"{where}: {value!r} is no {kind.__name__}"


def _fields(kind: Any) -> dict[str, tuple[Any, bool]]:
    """Give type and whether it is required, by the field's name in the API."""
    fields = {}
    for name, hint in get_type_hints(kind, include_extras=True).items():
        required = get_origin(hint) is typing_extensions.Required
        inner = get_args(hint)[0] if required else hint
        alias = next((entry.alias for entry in get_args(inner)[1:] if getattr(entry, "alias", None)), None)
        fields[alias or name] = (inner, required)
    return fields


def _object_problems(value: Any, kind: Any, where: str) -> Iterator[str]:
    if not isinstance(value, dict):
        yield f"{where}: no object"
        return
    fields = _fields(kind)
    for name in ("account_id", "zone_id"):
        # They are in the path.
        fields.pop(name, None)
    yield from (f"{where}.{name}: unknown field" for name in value.keys() - fields.keys())
    for name, (hint, required) in fields.items():
        if name in value:
            yield from problems_of(value[name], hint, f"{where}.{name}")
        elif required:
            yield f"{where}.{name}: required"


class RefusedError(Exception):
    """What Cloudflare answers to a request that it does not take."""

    def __init__(self, status: int, code: int, message: str) -> None:
        super().__init__(message)
        self.status, self.code = status, code


class Cloudflare(Cloud):
    """An account with one zone.

    :ivar objects: load balancers, pools and monitors, by kind and id.
    :ivar records: DNS records of the zone.
    :ivar zero: what happens when only pools without a share are healthy, which is not documented: ``fallback`` is that
        the fallback pool takes over, ``equal`` that they share.
    :ivar health_by_center: whether findings are by the name of the data center, as in Cloudflare's examples, or not, as
        in its reference.
    :ivar longest: characters of a description that are kept.
    :ivar credentials: those of the last request.
    """

    def __init__(self) -> None:
        self.objects: dict[str, dict[str, dict[str, Any]]] = {"LoadBalancer": {}, "Pool": {}, "Monitor": {}}
        self.records: list[dict[str, Any]] = []
        self.zones = [{"id": ZONE_ID, "name": ZONE, "account": {"id": ACCOUNT, "name": "account"}}]
        self.zero = "fallback"
        self.health_by_center = True
        self.longest = 10**6
        self.credentials: tuple[str | None, ...] = ()
        self._changes = 0
        super().__init__()

    def operation(self, request: Request) -> str:
        """Name the operation that a request is."""
        return self._route(request)[0]

    def _route(self, request: Request) -> tuple[str, tuple[str, ...]]:
        path = request.path.removeprefix("/client/v4/")
        for method, pattern, name in _OPERATIONS:
            found = re.fullmatch(pattern, path)
            if found and method == request.method:
                return name, found.groups()
        self.problems.append(f"unknown operation: {request.method} {request.path}")
        return "Unknown", ()

    def is_read(self, operation: str) -> bool:
        """Tell whether an operation changes nothing."""
        return operation.startswith(("List", "Get"))

    def refuse(self, code: str) -> Response:
        """Give Cloudflare's answer to a fault."""
        status, number = _ERRORS[code]
        response = self._error(status, number, "as the test asks")
        if code == "throttled":
            response.headers["Retry-After"] = "0.01"
        return response

    @staticmethod
    def _error(status: int, code: int, message: str) -> Response:
        body = {"success": False, "errors": [{"code": code, "message": message}], "messages": [], "result": None}
        return _json(body, status)

    def answer(self, request: Request) -> Response:
        """Carry a request out."""
        name, groups = self._route(request)
        try:
            self._authenticate(request)
            if unknown := set(request.args) - _QUERIES.get(name, set()):
                raise RefusedError(400, 1002, f"unknown parameters: {sorted(unknown)}")
            if groups and groups[0] not in (ACCOUNT, *(zone["id"] for zone in self.zones)):
                raise RefusedError(403, 9109, "no such account or zone")
            result = self._carry_out(name, groups, request)
        except RefusedError as error:
            return self._error(error.status, error.code, str(error))
        body: dict[str, Any] = {"success": True, "errors": [], "messages": [], "result": result}
        if isinstance(result, list):
            body["result_info"] = {"page": 1, "per_page": 20, "count": len(result), "total_count": len(result)}
        return _json(body, 200)

    def _authenticate(self, request: Request) -> None:
        names = ("Authorization", "X-Auth-Key", "X-Auth-Email")
        self.credentials = tuple(request.headers.get(name) for name in names)
        if self.credentials not in ((f"Bearer {TOKEN}", None, None), (None, TOKEN, "me@example.org")):
            raise RefusedError(401, 10000, "Authentication error")

    def _carry_out(self, name: str, groups: tuple[str, ...], request: Request) -> Any:
        if name == "ListZones":
            return self._page([zone for zone in self.zones if zone["name"] == request.args["name"]], request)
        if name == "GetZone":
            return next(zone for zone in self.zones if zone["id"] == groups[0])
        if name == "ListRecords":
            return self._page([entry for entry in self.records if entry["name"] == request.args["name.exact"]], request)
        if name == "GetPoolHealth":
            return self._health(groups[1])
        found = re.fullmatch(r"(List|Get|Create|Update|Delete)(LoadBalancer|Pool|Monitor)s?", name)
        if found is None:
            raise RefusedError(404, 7003, "no route")
        verb, kind = found.groups()
        objects = self.objects[kind]
        if verb == "List":
            return list(objects.values())
        identifier = secrets.token_hex(16) if verb == "Create" else groups[1]
        if verb != "Create" and identifier not in objects:
            raise RefusedError(404, 1001, "object not found")
        if verb == "Delete":
            self._check_unused(identifier)
            del objects[identifier]
            return {"id": identifier}
        if verb != "Get":
            self._put(kind, identifier, request.get_json(), _BODIES[name])
        return objects[identifier]

    @staticmethod
    def _page(entries: list[Any], request: Request) -> list[Any]:
        size, page = int(float(request.args.get("per_page", 20))), int(float(request.args.get("page", 1)))
        return entries[size * (page - 1) : size * page]

    def _put(self, kind: str, identifier: str, body: Any, schema: Any) -> None:
        problems = list(problems_of(body, schema)) or list(self._rules(kind, identifier, body))
        if problems:
            self.problems += [f"refused: {problem}" for problem in problems]
            raise RefusedError(400, 1002, f"{'; '.join(problems)}: validation failed")
        self.put(kind, identifier, body)

    def put(self, kind: str, identifier: str, body: dict[str, Any]) -> None:
        """Write an object, without looking at it."""
        old = self.objects[kind].get(identifier, {})
        self._changes += 1
        now = (
            datetime.datetime(2026, 1, 1, tzinfo=datetime.UTC) + datetime.timedelta(seconds=self._changes)
        ).isoformat()
        entry = {**_DEFAULTS[kind], **copy.deepcopy(body), "id": identifier, "modified_on": now}
        entry["created_on"] = old.get("created_on", now)
        entry["description"] = entry["description"][: self.longest]
        if kind == "LoadBalancer":
            entry["zone_name"] = ZONE
        self.objects[kind][identifier] = entry

    def change(self, kind: str, identifier: str, **fields: Any) -> None:
        """Change an object by hand."""
        self.put(kind, identifier, {**self.objects[kind][identifier], **fields})

    def _rules(self, kind: str, identifier: str, body: dict[str, Any]) -> Iterator[str]:
        """Say what breaks a rule that the types do not say, by Cloudflare's documentation."""
        others = [entry for key, entry in self.objects[kind].items() if key != identifier]
        if kind == "Monitor":
            yield from self._monitor_rules(body)
        elif kind == "Pool":
            if not re.fullmatch(r"[A-Za-z0-9_-]+", body.get("name", "")):
                yield "name: only letters, digits, hyphens and underscores"
            if body.get("name") in {entry["name"] for entry in others}:
                yield "name: there is such a pool"
            if body.get("monitor") and body["monitor"] not in self.objects["Monitor"]:
                yield "monitor: does not exist"
            if not body.get("origins"):
                yield "origins: at least one"
            for origin in body.get("origins") or ():
                if not 0 <= origin.get("weight", 1) <= 1 or not origin.get("address"):
                    yield "origins: weight or address"
                if not 0 <= origin.get("port", 0) <= 65535:
                    yield "origins: port"
        else:
            name = body.get("name", "")
            if name != ZONE and not name.endswith(f".{ZONE}"):
                yield "name: is not in the zone"
            if name in {entry["name"] for entry in others}:
                yield "name: there is such a load balancer"
            yield from self._steering_rules(body)

    @staticmethod
    def _monitor_rules(body: dict[str, Any]) -> Iterator[str]:
        kind = body.get("type", "http")
        if body.get("method") not in (("GET", "HEAD") if kind in ("http", "https") else ("connection_established",)):
            yield f"method: {body.get('method')} does not go with {kind}"
        if kind in ("tcp", "udp_icmp", "smtp") and not body.get("port"):
            yield "port: required"
        for name in ("path", "header", "expected_codes", "expected_body", "follow_redirects", "allow_insecure"):
            if name in body and kind not in ("http", "https"):
                yield f"{name}: only for HTTP and HTTPS"
        if not 15 <= body.get("interval", 60) <= 3600:
            yield "interval: 15 to 3600"
        if body.get("interval", 60) < body.get("timeout", 5) * (body.get("retries", 2) + 1):
            yield "interval: shorter than all tries"

    def _steering_rules(self, body: dict[str, Any]) -> Iterator[str]:
        named = {*body.get("default_pools", ()), body.get("fallback_pool")}
        if not body.get("default_pools"):
            yield "default_pools: at least one"
        for field, pattern in (
            ("region_pools", "[A-Z]{2,4}"),
            ("country_pools", "[A-Z]{2}"),
            ("pop_pools", "[A-Z]{3}"),
        ):
            for code, pools in body.get(field, {}).items():
                named |= set(pools)
                if not re.fullmatch(pattern, code) or not pools:
                    yield f"{field}.{code}: not known, or empty"
        steering = body.get("random_steering", {})
        named |= set(steering.get("pool_weights", {}))
        for weight in (steering.get("default_weight", 1), *steering.get("pool_weights", {}).values()):
            if not 0 <= weight <= 1 or abs(weight * 100 - round(weight * 100)) > 1e-9:
                yield "random_steering: 0 to 1, in steps of 0.01"
        if unknown := named - set(self.objects["Pool"]):
            yield f"pools that do not exist: {unknown}"

    def _check_unused(self, identifier: str) -> None:
        users = [
            entry["id"]
            for entries in self.objects.values()
            for entry in entries.values()
            if entry["id"] != identifier and identifier in repr(entry)
        ]
        if users:
            self.problems.append(f"{identifier} was to be deleted and is in use")
            raise RefusedError(412, 1005, f"object is referenced by other objects ({', '.join(users)})")

    def _health(self, identifier: str) -> dict[str, Any]:
        pool = self.objects["Pool"].get(identifier)
        if pool is None:
            raise RefusedError(404, 1001, "object not found")
        if not pool.get("monitor"):
            return {"pool_id": identifier, "pop_health": {}}
        healthy = self._well(identifier)
        reason = "No failures" if healthy else "Response code mismatch error"
        found = {
            "failure_reason": reason,
            "healthy": healthy,
            "response_code": 200 if healthy else 503,
            "rtt": "12.1ms",
        }
        if not self.health_by_center:
            return {"pool_id": identifier, "pop_health": {"healthy": healthy, "origins": [{"ip": found}]}}
        report = {"healthy": healthy, "origins": [{"192.0.2.1": found}]}
        return {"pool_id": identifier, "pop_health": {"Amsterdam, NL": report, "Paris, FR": report}}

    def _well(self, identifier: str) -> bool:
        pool = self.objects["Pool"][identifier]
        return bool(pool["enabled"]) and (not pool.get("monitor") or pool["origins"][0]["address"] not in self.sick)

    def shares(self, place: tuple[str, str] = ("", "")) -> dict[str, float]:
        """Give the share of the clients that each address gets.

        :param place: country and region of the clients.
        """
        found = [
            entry for entry in self.objects["LoadBalancer"].values() if entry["name"] == RECORD and entry["enabled"]
        ]
        if not found:
            return {}
        pools = self._steer(found[0], place) or {found[0]["fallback_pool"]: 1.0}
        total = sum(pools.values())
        return {self.objects["Pool"][pool]["origins"][0]["address"]: share / total for pool, share in pools.items()}

    def _steer(self, entry: dict[str, Any], place: tuple[str, str]) -> dict[str, float]:
        pools = entry["default_pools"]
        if entry["steering_policy"] == "geo":
            country, region = place
            pools = entry["country_pools"].get(country) or entry["region_pools"].get(region) or pools
        well = [pool for pool in pools if self._well(pool)]
        if entry["steering_policy"] != "random":
            return {well[0]: 1.0} if well else {}
        steering = entry["random_steering"]
        weights = {pool: steering.get("pool_weights", {}).get(pool, steering["default_weight"]) for pool in well}
        if self.zero == "equal" and not any(weights.values()):
            return dict.fromkeys(well, 1.0)
        return {pool: weight for pool, weight in weights.items() if weight}

    def snapshot(self) -> Callable[[], None]:
        """Remember everything there is; gives what brings it back."""
        saved = copy.deepcopy(self.objects)

        def restore() -> None:
            self.objects = copy.deepcopy(saved)

        return restore

    def ours(self) -> list[str]:
        """Name every object with our mark."""
        return [
            f"{kind} {entry.get('name', entry['description'])}"
            for kind, entries in self.objects.items()
            for entry in entries.values()
            if entry["description"].startswith(OWNERSHIP)
        ]

    @property
    def load_balancer(self) -> dict[str, Any]:
        """Give the load balancer of the endpoint."""
        return next(entry for entry in self.objects["LoadBalancer"].values() if entry["name"] == RECORD)

    def pool(self, member: str) -> dict[str, Any]:
        """Give the pool of a member."""
        return next(entry for entry in self.objects["Pool"].values() if entry["origins"][0]["name"] == member)


def _json(body: Any, status: int) -> Response:
    return Response(json.dumps(body), status, content_type="application/json")


class CloudflareLab(CloudLab):
    """The module in front of :class:`Cloudflare`."""

    balancer = "cloudflare"
    cloud: Cloudflare

    def access(self) -> dict[str, Any]:
        """Give the options by which the zone is reached, and a path that tells of all models."""
        return {
            "zone": ZONE,
            "record": RECORD,
            "api_token": TOKEN,
            "endpoint_url": f"{self.cloud.url}/client/v4",
            "health_check_path": "/healthz",
        }

    @property
    def front(self) -> str:
        """Give the name that clients ask for."""
        return RECORD

    @staticmethod
    def call() -> tuple[type, str]:
        """Give what each call of the API goes through."""
        return Api, "_call"

    def foreign(self) -> None:
        """Put a load balancer at the endpoint's name."""
        monitor, pool = "1" * 32, "2" * 32
        origin = {"name": "x", "address": "9.9.9.9", "enabled": True}
        self.cloud.put("Monitor", monitor, {"description": "by hand"})
        self.cloud.put("Pool", pool, {"name": "by-hand", "origins": [origin], "monitor": monitor})
        self.cloud.put("LoadBalancer", "3" * 32, {"name": RECORD, "default_pools": [pool], "fallback_pool": pool})

    def settled(self) -> dict[str, Any]:
        """Assert also that nothing is left behind."""
        info = super().settled()
        used = {entry["pool"] for entry in self._uses()}
        assert used == {key for key, entry in self.cloud.objects["Pool"].items() if entry["name"] != "by-hand"}
        return info

    def _uses(self) -> list[dict[str, str]]:
        info = self.info()
        return [{"member": entry["name"], "pool": self.cloud.pool(entry["name"])["id"]} for entry in info["members"]]
