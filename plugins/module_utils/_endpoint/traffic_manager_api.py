# SPDX-FileCopyrightText: The modelfleet maintainers
# SPDX-License-Identifier: GPL-3.0-or-later
"""The calls of Azure's API that an endpoint needs, by its SDK: credentials, retries, and errors for people."""

from __future__ import annotations

import configparser
import logging
import os
import warnings
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from ansible_collections.modelfleet.serving.plugins.module_utils._endpoint.balancer import BalancerError
from ansible_collections.modelfleet.serving.plugins.module_utils._endpoint.traffic_manager_options import AUTH_SOURCES
from ansible_collections.modelfleet.serving.plugins.module_utils._endpoint.traffic_manager_profiles import Json
from ansible_collections.modelfleet.serving.plugins.module_utils._errors import InputError
from ansible_collections.modelfleet.serving.plugins.module_utils._package import import_package

# As azure.azcollection names them, and azure-identity.
_VARIABLES = {
    "subscription_id": ("AZURE_SUBSCRIPTION_ID",),
    "client_id": ("AZURE_CLIENT_ID",),
    "secret": ("AZURE_SECRET", "AZURE_CLIENT_SECRET"),
    "tenant": ("AZURE_TENANT", "AZURE_TENANT_ID"),
    "ad_user": ("AZURE_AD_USER",),
    "password": ("AZURE_PASSWORD",),
}
# As what people sign in where no client_id is given: Azure's own command line, which every tenant knows.
_CLI_CLIENT = "04b07795-8ddb-461a-bbee-02f9e1bf7b46"
# By the names that azure.azcollection has for them: the SDK's name, where tokens come from, and the domain of profiles.
_CLOUDS = {
    "AzureCloud": ("AZURE_PUBLIC_CLOUD", "AZURE_PUBLIC_CLOUD", "trafficmanager.net"),
    "AzureChinaCloud": ("AZURE_CHINA_CLOUD", "AZURE_CHINA", "trafficmanager.cn"),
    "AzureUSGovernment": ("AZURE_US_GOVERNMENT", "AZURE_GOVERNMENT", "usgovtrafficmanager.net"),
}
_CREDENTIAL_FILE = "~/.azure/credentials"

# A subscription has some hundred writes an hour to spare, of all who use it.
_ATTEMPTS = 6
_BACKOFF_SECONDS = 0.8
_BUSY = (408, 429, 500, 502, 503, 504)

# What an error means here, and what to do.
_CODES = {
    "AuthorizationFailed": "Give the account the permissions that docs/traffic_manager.md lists.",
    "InvalidAuthenticationToken": "Check the credentials, and the clock of this machine.",
    "ExpiredAuthenticationToken": "Sign in anew, and check the clock of this machine.",
    "ResourceGroupNotFound": "Make the resource group, or correct traffic_manager.resource_group.",
    "SubscriptionNotFound": "Correct traffic_manager.subscription_id; the credentials may be those of another tenant.",
    "MissingSubscriptionRegistration": "Register the resource provider Microsoft.Network in the subscription.",
    "ScopeLocked": "Somebody has locked the resource or its group. Remove the lock first.",
    "RequestDisallowedByPolicy": "A policy of the subscription forbids it; the message names the policy.",
    "TooManyRequests": "The subscription is throttled; find who else uses it, and run this again.",
}


class BusyError(BalancerError):
    """Azure did not answer, or was not able to; whether a change was made is not known.

    :ivar pause: seconds after which Azure wants to be asked again; ``None`` where it does not say.
    """

    pause: float | None = None


class ForbiddenError(BalancerError):
    """The account has no permission."""


class Api:
    """Traffic Manager's API. The SDK is imported, and credentials are looked for, with the first call."""

    def __init__(self, access: Mapping[str, Any]) -> None:
        self._access = access
        self._made: Any = None
        self.subscription = ""
        self.domain = ""

    def connect(self) -> None:
        """Find the subscription and the credentials; nothing is called yet."""
        if self._made is not None:
            return
        trafficmanager = import_package("azure.mgmt.trafficmanager", "azure-mgmt-trafficmanager")
        core = import_package("azure.core", "azure-core")
        cloud = self._access["cloud_environment"] or os.environ.get("AZURE_CLOUD_ENVIRONMENT") or "AzureCloud"
        if cloud not in _CLOUDS:
            raise InputError(
                f"traffic_manager.cloud_environment: {cloud!r} is no cloud.", hint=f"Use one of {', '.join(_CLOUDS)}."
            )
        # Its warnings would go to the terminal, past Ansible.
        logging.getLogger("azure").addHandler(logging.NullHandler())
        given = _given(self._access)
        subscription = given["subscription_id"]
        if not subscription:
            raise InputError(
                "traffic_manager.subscription_id: no subscription is given.",
                hint="Set it, or AZURE_SUBSCRIPTION_ID; 'az account show' tells it.",
            )
        name, authority, self.domain = _CLOUDS[cloud]
        self._made = trafficmanager.TrafficManagerManagementClient(
            subscription_id=subscription,
            base_url=self._access["endpoint_url"],
            cloud_setting=core.AzureClouds[name],
            connection_timeout=self._access["timeout"],
            read_timeout=self._access["timeout"],
            retry_total=_ATTEMPTS,
            retry_status=_ATTEMPTS,
            retry_backoff_factor=_BACKOFF_SECONDS,
            **_authentication(given, authority),
        )
        self.subscription = subscription

    def _call(self, operation: Callable[..., Any], *args: Any, **more: Any) -> Any:
        errors = import_package("azure.core.exceptions", "azure-core")
        try:
            return operation(*args, **more)
        except errors.ClientAuthenticationError as error:
            raise BalancerError(
                f"Azure does not accept the credentials: {_words(error)}.",
                hint="Give client_id, secret and tenant, set AZURE_CLIENT_ID, AZURE_SECRET and AZURE_TENANT, or sign in"
                " with 'az login'.",
            ) from error
        except errors.HttpResponseError as error:
            code = _code(error)
            kinds: dict[int | None, type[BalancerError]] = {**dict.fromkeys(_BUSY, BusyError), 403: ForbiddenError}
            refused = kinds.get(error.status_code, BalancerError)(
                f"Azure refused: {_words(error)}.",
                hint=_CODES.get(code, "Run this again, which goes on from what it finds."),
            )
            if isinstance(refused, BusyError):
                with suppress(AttributeError, KeyError, ValueError):
                    refused.pause = float(error.response.headers["Retry-After"])
            raise refused from error
        except errors.AzureError as error:
            raise BusyError(
                f"Azure cannot be reached: {error}.",
                hint="Check the network, cloud_environment and endpoint_url; then run this again.",
            ) from error

    def profile(self, name: str) -> Json | None:
        """Give a profile as Azure has it; ``None`` where there is none."""
        self.connect()
        errors = import_package("azure.core.exceptions", "azure-core")

        def get() -> Json | None:
            try:
                found: Json = self._made.profiles.get(self._access["resource_group"], name).as_dict()
            except errors.ResourceNotFoundError as error:
                # That the group or the subscription is missing is no answer to the question.
                if _code(error) in ("ResourceGroupNotFound", "SubscriptionNotFound", "InvalidSubscriptionId"):
                    raise
                return None
            return found

        found: Json | None = self._call(get)
        return found

    def put(self, name: str, profile: Json) -> None:
        """Replace a profile with all its endpoints, or make it. Tried once."""
        self.connect()
        operation = self._made.profiles.create_or_update
        self._call(operation, self._access["resource_group"], name, profile, retry_total=0)

    def delete(self, name: str) -> None:
        """Delete a profile, if it is there."""
        self.connect()
        errors = import_package("azure.core.exceptions", "azure-core")

        def delete() -> None:
            with suppress(errors.ResourceNotFoundError):
                self._made.profiles.delete(self._access["resource_group"], name)

        self._call(delete)

    def taken(self, label: str) -> str:
        """Tell why a label cannot become the name that clients ask for; empty when it can."""
        self.connect()
        wanted = {"name": label, "type": "Microsoft.Network/trafficManagerProfiles"}
        try:
            answer = self._call(self._made.profiles.check_traffic_manager_name_availability_v2, wanted)
        except ForbiddenError:
            # It only tells earlier what Azure will say anyway, so nobody needs this permission.
            return ""
        return "" if answer.name_available else str(answer.message or answer.reason or "somebody else has it")


def _code(error: Any) -> str:
    return str(getattr(getattr(error, "error", None), "code", None) or "")


def _words(error: Any) -> str:
    """Give an error's own words in one line."""
    message = getattr(getattr(error, "error", None), "message", None)
    said = f"{_code(error)}: {message}" if message else str(error.message)
    return " ".join(said.split()).removesuffix(".")


def _source(access: Mapping[str, Any]) -> str:
    source: str = access["auth_source"] or os.environ.get("ANSIBLE_AZURE_AUTH_SOURCE") or "auto"
    return source


def _given(access: Mapping[str, Any]) -> dict[str, str | None]:
    """Give subscription and credentials, from one source: what is asked for is not mixed with what happens to be there.

    The subscription is no secret, and is taken from wherever it is.
    """
    source = _source(access)
    if source not in AUTH_SOURCES:
        raise InputError(
            f"ANSIBLE_AZURE_AUTH_SOURCE: {source!r} is no source.", hint=f"Use one of {', '.join(AUTH_SOURCES)}."
        )
    options = {key: access[key] for key in _VARIABLES}
    variables = {
        key: next((os.environ[name] for name in names if os.environ.get(name)), None)
        for key, names in _VARIABLES.items()
    }
    filed = _from_file(access) if source in ("auto", "credential_file") else dict.fromkeys(_VARIABLES)
    chosen = {"env": [variables], "credential_file": [filed], "auto": [options, variables, filed]}.get(
        source, [options]
    )
    if source == "auto" and access["profile"]:
        chosen = [options, filed]
    named = ("client_id", "secret", "ad_user", "password")
    given = next((entry for entry in chosen if any(entry[key] for key in named)), chosen[0])
    subscriptions = (options, given, variables, filed)
    subscription = next((entry["subscription_id"] for entry in subscriptions if entry["subscription_id"]), None)
    return {**given, "subscription_id": subscription, "source": source}


def _from_file(access: Mapping[str, Any]) -> dict[str, str | None]:
    """Read the file that azure.azcollection knows."""
    section = access["profile"] or os.environ.get("AZURE_PROFILE") or "default"
    parser = configparser.ConfigParser(interpolation=None)
    try:
        parser.read(Path(_CREDENTIAL_FILE).expanduser())
    except configparser.Error as error:
        raise InputError(f"{_CREDENTIAL_FILE}: {error}", hint="Correct the file.") from error
    if not parser.has_section(section):
        if access["profile"] or _source(access) == "credential_file":
            raise InputError(
                f"{_CREDENTIAL_FILE} has no profile {section!r}.", hint="Correct traffic_manager.profile, or the file."
            )
        return dict.fromkeys(_VARIABLES)
    return {key: parser.get(section, key, fallback=None) for key in _VARIABLES}


def _authentication(given: Mapping[str, str | None], authority: str) -> dict[str, Any]:
    """Give the client's arguments for signing in."""
    identity = import_package("azure.identity", "azure-identity")
    return {"credential": _credential(identity, given, getattr(identity.AzureAuthorityHosts, authority))}


def _credential(identity: Any, given: Mapping[str, str | None], authority: str) -> Any:
    source = given["source"]
    client, secret, tenant = (given[key] for key in ("client_id", "secret", "tenant"))
    if source == "cli":
        return identity.AzureCliCredential(tenant_id=tenant or "")
    if source == "msi":
        return identity.ManagedIdentityCredential(client_id=client)
    if given["ad_user"] or given["password"]:
        return _of_a_person(identity, given, authority)
    if client and secret and tenant:
        return identity.ClientSecretCredential(tenant, client, secret, authority=authority)
    if secret or source in ("env", "credential_file"):
        missing = [key for key in ("client_id", "secret", "tenant") if not given[key]]
        raise InputError(
            f"traffic_manager: {', '.join(missing)} are missing for a service principal.",
            hint="Give client_id, secret and tenant together, by options, environment or file.",
        )
    # The identity of a machine or a pod, and that of people who have signed in.
    more = {"managed_identity_client_id": client} if client else {}
    return identity.DefaultAzureCredential(authority=authority, **more)


def _of_a_person(identity: Any, given: Mapping[str, str | None], authority: str) -> Any:
    user, password = given["ad_user"], given["password"]
    if not (user and password) or given["secret"]:
        raise InputError(
            "traffic_manager: ad_user and password go together, and not with secret.",
            hint="Give those of one account, by options, environment or file.",
        )
    with warnings.catch_warnings():
        # Microsoft has deprecated it, since it knows no second factor; AWX's credential still offers it.
        warnings.simplefilter("ignore", DeprecationWarning)
        return identity.UsernamePasswordCredential(
            given["client_id"] or _CLI_CLIENT,
            user,
            password,
            tenant_id=given["tenant"] or "organizations",
            authority=authority,
        )


__all__ = ["Api", "BusyError"]
