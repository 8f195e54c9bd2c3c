# SPDX-FileCopyrightText: The modelfleet maintainers
# SPDX-License-Identifier: GPL-3.0-or-later
"""The calls of Route 53's API that an endpoint needs, by boto3: credentials, retries, pages, and errors for people."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping
from contextlib import suppress
from typing import Any

from ansible_collections.modelfleet.serving.plugins.module_utils._endpoint.balancer import BalancerError
from ansible_collections.modelfleet.serving.plugins.module_utils._endpoint.route53_records import Json
from ansible_collections.modelfleet.serving.plugins.module_utils._errors import InputError
from ansible_collections.modelfleet.serving.plugins.module_utils._names import require_host_name
from ansible_collections.modelfleet.serving.plugins.module_utils._package import import_package

# What amazon.aws reads beside the variables that boto3 knows itself.
_VARIABLES = {
    "access_key": ("AWS_ACCESS_KEY", "EC2_ACCESS_KEY"),
    "secret_key": ("AWS_SECRET_KEY", "EC2_SECRET_KEY"),
    "session_token": ("EC2_SECURITY_TOKEN",),
    "region": ("AWS_REGION", "EC2_REGION"),
    "endpoint_url": ("AWS_URL", "EC2_URL"),
}

# An account has five requests a second, of all who use it.
_ATTEMPTS = 10
_PENDING_SECONDS = 1.0
# Route 53 finds an endpoint healthy when more than this share of its checkers does.
_HEALTHY_SHARE = 0.18

# What an error means here, and what to do.
_CODES = {
    "AccessDenied": "Give the account the permissions that docs/route53.md lists.",
    "AccessDeniedException": "Give the account the permissions that docs/route53.md lists.",
    "InvalidClientTokenId": "Check the access key; temporary ones need session_token, too.",
    "SignatureDoesNotMatch": "Check the secret key, and the clock of this machine.",
    "RequestExpired": "Set the clock of this machine (NTP).",
    "ExpiredToken": "Get new temporary credentials.",
    "NoSuchHostedZone": "Check route53.hosted_zone, and that the credentials are those of its account.",
    "TooManyHealthChecks": "Ask AWS for a higher quota (200 health checks an account by default), or remove some.",
    "Throttling": "An account has five requests a second; find who else uses them, and run this again.",
    "PriorRequestNotComplete": "Route 53 still works on another change. Run this again.",
}


class UnsureError(BalancerError):
    """Whether the change was made is not known."""


class GoneError(BalancerError):
    """A health check or a change does not exist."""


class Api:
    """Route 53's API. The library is imported, and credentials are looked for, with the first call."""

    def __init__(self, access: Mapping[str, Any]) -> None:
        self._access = access
        self._made: Any = None

    def _client(self) -> Any:
        if self._made is None:
            boto3 = import_package("boto3", "boto3")
            config = import_package("botocore.config", "boto3").Config(
                # Throttling, PriorRequestNotComplete, 5xx and lost connections.
                retries={"mode": "standard", "total_max_attempts": _ATTEMPTS},
                connect_timeout=self._access["timeout"],
                read_timeout=self._access["timeout"],
            )
            given = {key: self._access[key] or self._from_environment(key) for key in _VARIABLES}
            session = boto3.session.Session(
                aws_access_key_id=given["access_key"],
                aws_secret_access_key=given["secret_key"],
                aws_session_token=given["session_token"],
                profile_name=self._access["profile"],
                region_name=given["region"],
            )
            verify = (self._access["aws_ca_bundle"] or None) if self._access["validate_certs"] else False
            self._made = session.client(
                "route53",
                # Route 53 is one for the world, and is signed for this region.
                region_name=session.region_name or "us-east-1",
                endpoint_url=given["endpoint_url"],
                verify=verify,
                config=config,
            )
        return self._made

    def _from_environment(self, key: str) -> str | None:
        secret = ("access_key", "secret_key", "session_token")
        if key in secret and any(self._access[option] for option in ("profile", *secret)):
            # What is asked for is not mixed with what happens to be in the environment.
            return None
        return next((os.environ[name] for name in _VARIABLES[key] if os.environ.get(name)), None)

    def _call(self, operation: str, **params: Any) -> Any:
        if self._access["profile"] and (self._access["access_key"] or self._access["secret_key"]):
            raise InputError("route53: profile and access_key exclude each other.", hint="Give the one that you mean.")
        errors = import_package("botocore.exceptions", "boto3")
        try:
            return getattr(self._client(), operation)(**params)
        except errors.ClientError as error:
            code = error.response.get("Error", {}).get("Code", "")
            status = error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 500)
            if code in ("NoSuchHealthCheck", "NoSuchChange"):
                raise GoneError(f"Route 53: {error}") from error
            raise (UnsureError if status >= 500 else BalancerError)(
                f"Route 53 refused: {error}.",
                hint=_CODES.get(code, "Run this again, which goes on from what it finds."),
            ) from error
        except (errors.NoCredentialsError, errors.PartialCredentialsError, errors.ProfileNotFound) as error:
            raise BalancerError(
                f"no credentials for AWS: {error}.",
                hint="Give access_key and secret_key, or profile, or set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY.",
            ) from error
        except errors.ParamValidationError as error:
            raise BalancerError(f"Route 53 would refuse: {error}.", hint="Correct the option that it names.") from error
        except errors.BotoCoreError as error:
            raise UnsureError(
                f"Route 53 cannot be reached: {error}.",
                hint="Check the network, endpoint_url and aws_ca_bundle; then run this again.",
            ) from error

    def zone(self, wanted: str) -> tuple[str, str]:
        """Find a hosted zone by id or name; gives id and name."""
        if "." in wanted.removesuffix("."):
            name = require_host_name(wanted.removesuffix(".").lower(), "route53.hosted_zone")
            listed = self._call("list_hosted_zones_by_name", DNSName=f"{name}.", MaxItems="100")["HostedZones"]
            found = [zone for zone in listed if zone["Name"] == f"{name}."]
            public = [zone for zone in found if not zone.get("Config", {}).get("PrivateZone")]
            if len(public) > 1:
                raise InputError(
                    f"route53.hosted_zone: {len(public)} public zones are called {name}"
                    f" ({', '.join(sorted(_identifier(zone['Id']) for zone in public))}).",
                    hint="Give the id of the one that is delegated to.",
                )
            if not found:
                raise BalancerError(
                    f"this account has no hosted zone {name}.",
                    hint="Check the name, and that the credentials are those of its account.",
                )
            zone = public[0] if public else found[0]
        else:
            zone = self._call("get_hosted_zone", Id=wanted)["HostedZone"]
        if zone.get("Config", {}).get("PrivateZone"):
            raise InputError(
                f"route53.hosted_zone: {wanted} is a private zone, which only some networks see, and whose members"
                f" Route 53's health checkers cannot reach.",
                hint="Use a public zone.",
            )
        return _identifier(zone["Id"]), zone["Name"].removesuffix(".")

    def records(self, zone: str, name: str) -> list[Json]:
        """Give the record sets of one name."""
        start: Json = {"StartRecordName": f"{name}."}
        found: list[Json] = []
        while True:
            page = self._call("list_resource_record_sets", HostedZoneId=zone, **start)
            for entry in page["ResourceRecordSets"]:
                if entry["Name"].lower() != f"{name}.":
                    # They are sorted by name.
                    return found
                found.append(entry)
            if not page.get("IsTruncated"):
                return found
            start = {"StartRecordName": page["NextRecordName"], "StartRecordType": page["NextRecordType"]}
            if "NextRecordIdentifier" in page:
                start["StartRecordIdentifier"] = page["NextRecordIdentifier"]

    def checks(self, prefix: str) -> dict[str, Json]:
        """Give the configuration of our health checks by id."""
        found: dict[str, Json] = {}
        marker: Json = {}
        while True:
            page = self._call("list_health_checks", MaxItems="100", **marker)
            for entry in page["HealthChecks"]:
                if entry["CallerReference"].startswith(prefix):
                    found[entry["Id"]] = entry["HealthCheckConfig"]
            if not page.get("IsTruncated"):
                return found
            marker = {"Marker": page["NextMarker"]}

    def create_check(self, reference: str, config: Json) -> str:
        """Make a health check and give its id. Asked twice with one reference, Route 53 makes one."""
        created = self._call("create_health_check", CallerReference=reference, HealthCheckConfig=config)
        return str(created["HealthCheck"]["Id"])

    def tag(self, check: str, tags: Mapping[str, str]) -> None:
        """Set tags of a health check."""
        self._call(
            "change_tags_for_resource",
            ResourceType="healthcheck",
            ResourceId=check,
            AddTags=[{"Key": key, "Value": value[:256]} for key, value in tags.items()],
        )

    def delete_check(self, check: str) -> None:
        """Delete a health check, if it is there."""
        with suppress(GoneError):
            self._call("delete_health_check", HealthCheckId=check)

    def verdict(self, check: str) -> str:
        """Give why a health check fails, by what its checkers found last; empty when it passes."""
        try:
            answer = self._call("get_health_check_status", HealthCheckId=check)
        except GoneError:
            return "the health check does not exist"
        reports = [entry["StatusReport"]["Status"] for entry in answer["HealthCheckObservations"]]
        if not reports:
            return "no health checker has reported yet"
        bad = [report for report in reports if not report.startswith("Success")]
        if len(reports) - len(bad) > _HEALTHY_SHARE * len(reports):
            return ""
        return f"{len(bad)} of {len(reports)} checkers: {bad[0]}"

    def change(self, zone: str, batch: list[Json]) -> str:
        """Change record sets, all or none; gives the id of the change."""
        comment = "modelfleet.serving.global_endpoint"
        answer = self._call(
            "change_resource_record_sets", HostedZoneId=zone, ChangeBatch={"Comment": comment, "Changes": batch}
        )
        return _identifier(answer["ChangeInfo"]["Id"])

    def wait(self, change: str, record: str) -> None:
        """Wait until all of Route 53's name servers have a change."""
        seconds = self._access["propagation_timeout"]
        deadline = time.monotonic() + seconds
        while self._call("get_change", Id=change)["ChangeInfo"]["Status"] != "INSYNC":
            if time.monotonic() >= deadline:
                raise BalancerError(
                    f"{record} is changed, and after {seconds:g} s not all of Route 53's name servers have it.",
                    hint="They will get it; look at the AWS Health Dashboard, and raise route53.propagation_timeout.",
                )
            time.sleep(_PENDING_SECONDS)


def _identifier(path: str) -> str:
    """Give an id without the kind that Route 53 puts before it."""
    return path.rsplit("/", 1)[-1]
