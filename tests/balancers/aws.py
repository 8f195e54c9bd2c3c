# SPDX-FileCopyrightText: The modelfleet maintainers
# SPDX-License-Identifier: GPL-3.0-or-later
"""Route 53 by moto's server, on a free port of 127.0.0.1, and held to the rules by which AWS takes or refuses a change.

moto takes changes that AWS refuses: it deletes what was there once, creates what is there, does a part of a batch, and
knows no rules for groups of records, nor those of CallerReference. :class:`Aws` does these calls by AWS's documented
rules, on moto's own records and health checks. It also plays name server and health checker: :meth:`Aws.shares`
answers as AWS documents that its name servers do. Neither is AWS.
"""

from __future__ import annotations

import copy
import re
from collections import Counter
from collections.abc import Callable
from typing import Any

from botocore.client import BaseClient
from moto.core.exceptions import ServiceException
from moto.moto_server.werkzeug_app import DomainDispatcherApplication, create_backend_app
from moto.route53 import models, responses
from werkzeug import Request, Response

from .cloud import Cloud, CloudLab

ACCOUNT, PARTITION = "123456789012", "aws"
ZONE, RECORD = "example.org", "models.example.org"

_OPERATIONS = (
    ("GET", r"hostedzonesbyname", "ListHostedZonesByName"),
    ("GET", r"hostedzone/[^/]+/rrset/?", "ListResourceRecordSets"),
    ("POST", r"hostedzone/[^/]+/rrset/?", "ChangeResourceRecordSets"),
    ("GET", r"hostedzone/[^/]+", "GetHostedZone"),
    ("GET", r"healthcheck", "ListHealthChecks"),
    ("POST", r"healthcheck", "CreateHealthCheck"),
    ("DELETE", r"healthcheck/[^/]+", "DeleteHealthCheck"),
    ("GET", r"healthcheck/[^/]+/status", "GetHealthCheckStatus"),
    ("POST", r"tags/healthcheck/[^/]+", "ChangeTagsForResource"),
    ("GET", r"change/[^/]+", "GetChange"),
)
_ERRORS = {
    "throttled": ("Throttling", 400),
    "busy": ("PriorRequestNotComplete", 400),
    "forbidden": ("AccessDenied", 403),
    "broken": ("InternalFailure", 500),
}


class RefusedError(ServiceException):
    """What AWS answers to a change that breaks a rule."""


def key(entry: dict[str, Any]) -> tuple[str, str, str]:
    """Give what tells a record set from all others."""
    return entry["Name"].rstrip("."), entry["Type"], entry.get("SetIdentifier", "")


def as_api(record: models.RecordSet) -> dict[str, Any]:
    """Give moto's record set as it came in."""
    fields = {
        "Name": record.name,
        "Type": record.type,
        "TTL": record.ttl and int(record.ttl),
        "SetIdentifier": record.set_identifier,
        "Weight": None if record.weight is None else int(record.weight),
        "Region": record.region,
        "Failover": record.failover,
        "GeoLocation": record.geo_location,
        "HealthCheckId": record.health_check_id,
        "Values": sorted(record.records),
    }
    return {name: value for name, value in fields.items() if value is not None}


def value_of(entry: dict[str, Any]) -> str:
    """Give the address that a record set answers."""
    return str(entry["Values"][0]).rstrip(".")


def policy(entry: dict[str, Any]) -> str:
    """Name the routing policy of a record set."""
    return next((name for name in ("Weight", "Region", "Failover", "GeoLocation") if name in entry), "simple")


class Aws(Cloud):
    """An account with one public zone.

    :ivar pending: how many times a change is still pending.
    """

    def __init__(self) -> None:
        self.pending = 0
        self._references: dict[str, Any] = {}
        models.route53_backends.reset()
        self.backend = models.route53_backends[ACCOUNT][PARTITION]
        zone = self.backend.create_hosted_zone(
            f"{ZONE}.", private_zone=False, caller_reference="zone", vpcid=None, vpcregion=None
        )
        self.zone_id = zone.resource_id
        self._app = DomainDispatcherApplication(create_backend_app)
        super().__init__()

    def install(self, monkeypatch: Any) -> None:
        """Put AWS's rules into moto."""
        backend = models.Route53Backend
        monkeypatch.setattr(backend, "change_resource_record_sets", lambda _backend, _zone, batch: self._change(batch))
        create, delete = backend.create_health_check, backend.delete_health_check

        def create_once(own: Any, caller_reference: str, health_check_args: dict[str, Any]) -> Any:
            known = self._references.get(caller_reference)
            if known is None:
                made = create(own, caller_reference, health_check_args)
                self._references[caller_reference] = known = (health_check_args, made)
            if known[0] != health_check_args or known[1].id not in own.health_checks:
                raise RefusedError("HealthCheckAlreadyExists", "The caller reference was used before.")
            return known[1]

        def delete_unused(own: Any, check: str) -> None:
            if check not in own.health_checks:
                raise RefusedError("NoSuchHealthCheck", f"A health check with id {check} does not exist.")
            if check in {entry.get("HealthCheckId") for entry in self.records()}:
                self.problems.append(f"the health check {check} was deleted and is in use")
            delete(own, check)

        def get_change(own: Any) -> Any:
            return self._get_change(own)

        def get_status(own: Any) -> Any:
            return self._status(own)

        monkeypatch.setattr(backend, "create_health_check", create_once)
        monkeypatch.setattr(backend, "delete_health_check", delete_unused)
        monkeypatch.setattr(responses.Route53, "get_change", get_change)
        monkeypatch.setattr(responses.Route53, "get_health_check_status", get_status)

    def operation(self, request: Request) -> str:
        """Name the operation that a request is."""
        path = request.path.removeprefix("/2013-04-01/")
        return next(
            name for method, pattern, name in _OPERATIONS if method == request.method and re.fullmatch(pattern, path)
        )

    def is_read(self, operation: str) -> bool:
        """Tell whether an operation changes nothing."""
        return operation.startswith(("List", "Get"))

    def answer(self, request: Request) -> Response:
        """Let moto carry a request out."""
        return Response.from_app(self._app, request.environ)

    def refuse(self, code: str) -> Response:
        """Give AWS's answer to a fault."""
        word, status = _ERRORS[code]
        body = (
            f"<ErrorResponse><Error><Type>Sender</Type><Code>{word}</Code><Message>as the test asks</Message></Error>"
            "<RequestId>1</RequestId></ErrorResponse>"
        )
        return Response(body, status, content_type="text/xml")

    def ours(self) -> list[str]:
        """Name every record and every health check."""
        return [str(key(entry)) for entry in self.records()] + list(self.backend.health_checks)

    def snapshot(self) -> Callable[[], None]:
        """Remember everything there is; gives what brings it back."""
        zone = self.backend.get_hosted_zone(self.zone_id)
        saved = (list(zone.rrsets), dict(self.backend.health_checks), copy.deepcopy(self.backend.resource_tags))
        references = dict(self._references)

        def restore() -> None:
            zone.rrsets, self.backend.health_checks = list(saved[0]), dict(saved[1])
            self.backend.resource_tags = copy.deepcopy(saved[2])
            self._references = dict(references)

        return restore

    def _get_change(self, own: Any) -> Any:
        status = "PENDING" if self.pending else "INSYNC"
        self.pending = max(0, self.pending - 1)
        info = {"Id": own._get_param("Id"), "Status": status, "SubmittedAt": "2026-01-01T00:00:00Z"}
        return responses.ActionResult({"ChangeInfo": info})

    def _status(self, own: Any) -> Any:
        check = self.backend.get_health_check(own._get_param("HealthCheckId"))
        if check.type_ == "CALCULATED":
            raise RefusedError("InvalidInput", "Not for calculated health checks.")
        words = "Failure: HTTP Status Code: 503" if not self._passes(check.id) else "Success: HTTP Status Code: 200"
        report = {"Status": words, "CheckedTime": "2026-01-01T00:00:00Z"}
        seen = [{"Region": "us-east-1", "IPAddress": "127.0.0.1", "StatusReport": report}]
        return responses.ActionResult({"HealthCheckObservations": seen})

    def _passes(self, check: str) -> bool:
        found = self.backend.health_checks.get(check)
        if found is None:
            return False
        if found.type_ == "CALCULATED":
            return sum(map(self._passes, found.children)) >= int(found.health_threshold)
        return not {found.ip_address, found.fqdn, found.resource_path} & self.sick

    def records(self) -> list[dict[str, Any]]:
        """Give all record sets of the zone but its own."""
        zone = self.backend.get_hosted_zone(self.zone_id)
        return [as_api(entry) for entry in zone.rrsets if entry.type not in ("NS", "SOA")]

    def put(self, **entry: Any) -> None:
        """Write a record as somebody else."""
        self._change([{"Action": "UPSERT", "ResourceRecordSet": {"Name": f"{RECORD}.", "TTL": 60, **entry}}])

    def remove(self, identifier: str) -> None:
        """Delete a record as somebody else."""
        zone = self.backend.get_hosted_zone(self.zone_id)
        zone.rrsets = [entry for entry in zone.rrsets if entry.set_identifier != identifier]

    def _change(self, batch: list[dict[str, Any]]) -> None:
        zone = self.backend.get_hosted_zone(self.zone_id)
        now = {key(as_api(entry)): entry for entry in zone.rrsets}
        problems = []
        characters = count = 0
        for change in batch:
            entry, action = change["ResourceRecordSet"], change["Action"]
            twice = 2 if action == "UPSERT" else 1
            values = [value["Value"] for value in entry["ResourceRecords"]]
            characters += twice * sum(map(len, values))
            count += twice * len(values)
            if any(len(value) > 4000 for value in values):
                problems.append("a value is too long")
            if entry["Type"] == "TXT":
                broken = [value for value in values if not re.fullmatch(r'"[^"]{0,255}"( "[^"]{0,255}")*', value)]
                problems += [f"InvalidCharacterString: {value[:20]}" for value in broken]
            name = f"[name='{entry['Name']}', type='{entry['Type']}', set-identifier='{entry.get('SetIdentifier')}']"
            record = models.RecordSet({**entry, "ResourceRecords": values})
            if action == "DELETE":
                found = now.pop(key(entry), None)
                if found is None:
                    problems.append(f"Tried to delete resource record set {name} but it was not found")
                elif as_api(found) != as_api(record):
                    problems.append(f"Tried to delete {name} but the values provided do not match the current values")
                continue
            if action == "CREATE" and key(entry) in now:
                problems.append(f"Tried to create resource record set {name} but it already exists")
            check = entry.get("HealthCheckId")
            if check and check not in self.backend.health_checks:
                raise RefusedError("NoSuchHealthCheck", f"The specified health check does not exist: {check}")
            now[key(entry)] = record
        if count > 1000 or characters > 32_000:
            problems.append("Number of records or characters exceeded")
        problems += self._group_problems([as_api(entry) for entry in now.values()])
        if problems:
            raise RefusedError("InvalidChangeBatch", str(problems))
        zone.rrsets = list(now.values())

    @staticmethod
    def _group_problems(entries: list[dict[str, Any]]) -> list[str]:
        problems = []
        by_name: dict[str, set[str]] = {}
        groups: dict[tuple[str, str], list[dict[str, Any]]] = {}
        for entry in entries:
            name, kind, _unused = key(entry)
            by_name.setdefault(name, set()).add(kind)
            groups.setdefault((name, kind), []).append(entry)
        for name, kinds in by_name.items():
            if "CNAME" in kinds and (len(kinds) > 1 or name == ZONE):
                problems.append(f"RRSet of type CNAME with DNS name {name} conflicts with other records")
        for (name, kind), group in groups.items():
            policies = {policy(entry) for entry in group}
            if len(policies) > 1:
                problems.append(f"{name} {kind} has several routing policies")
            if policies == {"simple"} and len(group) > 1:
                problems.append(f"{name} {kind} is there twice")
            if policies == {"Weight"} and len({entry["TTL"] for entry in group}) > 1:
                problems.append(f"{name} {kind} has different TTLs")
            for field in ("Region", "Failover", "GeoLocation"):
                places = Counter(str(entry[field]) for entry in group if field in entry)
                if any(number > 1 for number in places.values()):
                    problems.append(f"{name} {kind} has one {field} twice")
            problems += ["Weight is out of range" for entry in group if not 0 <= entry.get("Weight", 0) <= 255]
        return problems

    def shares(self, place: dict[str, str] | None = None) -> dict[str, float]:
        """Give the answers and how often each is given, by the documented rules of AWS's name servers.

        :param place: the geographic location of who asks.
        """
        entries = [entry for entry in self.records() if key(entry)[0] == RECORD and entry["Type"] != "TXT"]
        well = [entry for entry in entries if self._well(entry)] or entries
        kind = policy(entries[0]) if entries else ""
        if kind == "Weight":
            # Records of weight 0 answer when no other is healthy; all unhealthy count as all healthy.
            chosen = [entry for entry in well if entry["Weight"]]
            if not chosen:
                chosen = [{**entry, "Weight": 1} for entry in well]
            total = sum(entry["Weight"] for entry in chosen)
            return {value_of(entry): entry["Weight"] / total for entry in chosen}
        if kind == "Failover":
            role = {entry["Failover"]: entry for entry in entries}
            first, second = role.get("PRIMARY"), role.get("SECONDARY")
            entry = second if second and self._well(second) and not (first and self._well(first)) else first or second
            return {value_of(entry): 1.0} if entry else {}
        if kind == "GeoLocation":
            wanted = place or {}
            steps: list[dict[str, str]] = [{"CountryCode": "*"}]
            if "ContinentCode" in wanted:
                steps.insert(0, {"ContinentCode": wanted["ContinentCode"]})
            if "CountryCode" in wanted:
                steps.insert(0, {"CountryCode": wanted["CountryCode"]})
            for step in steps:
                found = [entry for entry in well if entry["GeoLocation"] == step]
                if found:
                    return {value_of(found[0]): 1.0}
            return {}
        return {value_of(entry): 1.0 / len(well) for entry in well}

    def _well(self, entry: dict[str, Any]) -> bool:
        check = entry.get("HealthCheckId")
        return not check or self._passes(check)


class AwsLab(CloudLab):
    """The module in front of :class:`Aws`."""

    balancer = "route53"
    cloud: Aws

    def access(self) -> dict[str, Any]:
        """Give the options by which the zone is reached."""
        return {
            "hosted_zone": ZONE,
            "record": RECORD,
            "access_key": "testing",
            "secret_key": "testing",
            "endpoint_url": self.cloud.url,
        }

    @property
    def front(self) -> str:
        """Give the name that clients ask for."""
        return RECORD

    @staticmethod
    def call() -> tuple[type, str]:
        """Give what each call of the API goes through."""
        return BaseClient, "_make_api_call"

    def foreign(self) -> None:
        """Put a record at the endpoint's name."""
        self.cloud.put(Type="A", ResourceRecords=[{"Value": "9.9.9.9"}])

    def settled(self) -> dict[str, Any]:
        """Assert that nothing is left to do, that nothing is left behind, and that nothing bad ever was."""
        info = super().settled()
        checks, tags = self.cloud.backend.health_checks, self.cloud.backend.resource_tags
        used = {entry["HealthCheckId"] for entry in self.cloud.records() if "HealthCheckId" in entry}
        used |= {child for check in used for child in checks[check].children or ()}
        # A member without a record is still checked.
        bare = {member["name"] for member in info["members"]} - {tags[check]["modelfleet:member"] for check in used}
        assert {check for check in checks if tags[check]["modelfleet:member"] not in bare} == used
        return info
