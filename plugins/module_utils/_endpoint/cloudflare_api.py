# SPDX-FileCopyrightText: The modelfleet maintainers
# SPDX-License-Identifier: GPL-3.0-or-later
"""The calls of Cloudflare's API that an endpoint needs, by its SDK: credentials, retries, and errors for people."""

from __future__ import annotations

import os
import random
import re
import time
from collections.abc import Callable, Mapping
from typing import Any

from ansible_collections.modelfleet.serving.plugins.module_utils._endpoint.balancer import BalancerError
from ansible_collections.modelfleet.serving.plugins.module_utils._endpoint.cloudflare_objects import Json
from ansible_collections.modelfleet.serving.plugins.module_utils._errors import InputError
from ansible_collections.modelfleet.serving.plugins.module_utils._names import require_host_name
from ansible_collections.modelfleet.serving.plugins.module_utils._package import import_package

# What community.general.cloudflare_dns reads, and what the SDK knows itself.
_VARIABLES = {
    "api_token": ("CLOUDFLARE_TOKEN", "CLOUDFLARE_API_TOKEN"),
    "account_api_key": ("CLOUDFLARE_API_KEY",),
    "account_email": ("CLOUDFLARE_EMAIL",),
}
_ATTEMPTS = 8
_FIRST_PAUSE, _LONGEST_PAUSE = 0.5, 30.0

_HINTS = {
    400: "Correct the option that it names.",
    401: "Check api_token, or account_api_key with account_email.",
    403: "Give the token the permissions that docs/cloudflare.md lists, for this account and this zone.",
    404: "Check the zone and the account, and run this again, which goes on from what it finds.",
    429: "Cloudflare takes 1200 requests in five minutes of a user; find who else uses them, and run this again.",
}


class UnsureError(BalancerError):
    """Whether the change was made is not known."""


class GoneError(BalancerError):
    """An object does not exist."""


class ForbiddenError(BalancerError):
    """The token may not do this."""


class Api:
    """Cloudflare's API. The library is imported, and credentials are looked for, with the first call."""

    def __init__(self, access: Mapping[str, Any]) -> None:
        self._access = access
        self._made: Any = None
        self._account = ""
        self._zone = ""

    def _client(self) -> Any:
        if self._made is None:
            cloudflare = import_package("cloudflare", "cloudflare")
            given = self._credentials()
            client = cloudflare.Cloudflare(
                # One rule for tries, which knows what must not be done twice.
                max_retries=0,
                timeout=self._access["timeout"],
                base_url=self._access["endpoint_url"],
                api_token="",
            )
            # Set here, since what is not given to the constructor is taken from the environment, and mixed.
            client.api_token = given.get("api_token")
            client.api_key, client.api_email = given.get("account_api_key"), given.get("account_email")
            client.user_service_key = None
            self._made = client
        return self._made

    def _credentials(self) -> dict[str, str]:
        """Give a token, or a key with its e-mail address: from the options, or else from the environment."""
        environment = {
            key: next((os.environ[name] for name in names if os.environ.get(name)), None)
            for key, names in _VARIABLES.items()
        }
        for source in ({key: self._access[key] for key in _VARIABLES}, environment):
            if source["api_token"]:
                if source is not environment and source["account_api_key"]:
                    raise InputError(
                        "cloudflare: api_token and account_api_key exclude each other.",
                        hint="Give the one that you mean.",
                    )
                return {"api_token": source["api_token"]}
            if source["account_api_key"]:
                email = source["account_email"] or environment["account_email"]
                if not email:
                    raise InputError(
                        "cloudflare: account_api_key needs account_email.", hint="Give it, or use an api_token."
                    )
                return {"account_api_key": source["account_api_key"], "account_email": email}
        raise InputError(
            "cloudflare: there are no credentials.",
            hint="Give api_token, or set CLOUDFLARE_API_TOKEN; or account_api_key with account_email.",
        )

    def _call(self, function: Callable[[], Any], done: Callable[[], Any] | None = None) -> Any:
        """Call until there is an answer that will not change.

        :param done: asked after a try that failed, and after the pause. It gives the answer when that was carried out
            after all, and ``None`` when not. Without it, the call can be made twice.
        """
        library = import_package("cloudflare", "cloudflare")
        pause = _FIRST_PAUSE
        for turn in range(1, _ATTEMPTS + 1):
            try:
                return function()
            except library.RateLimitError as error:
                problem: BalancerError = _refused(error)
                wait = _retry_after(error)
            except library.InternalServerError as error:
                problem, wait = UnsureError(f"Cloudflare failed: {_words(error)}.", hint=_AGAIN), _retry_after(error)
            except library.APIConnectionError as error:
                problem, wait = (
                    UnsureError(
                        f"Cloudflare cannot be reached: {error.__cause__ or error}.",
                        hint="Check the network and endpoint_url; then run this again.",
                    ),
                    None,
                )
            except library.APIStatusError as error:
                raise _refused(error) from error
            except (library.CloudflareError, AttributeError, ValueError) as error:
                # The SDK takes the page of a proxy that wants a login for an answer, and stumbles over it.
                raise BalancerError(
                    f"what answers is not Cloudflare's API ({error}).", hint="Check endpoint_url, and proxies."
                ) from error
            if turn < _ATTEMPTS:
                time.sleep(wait or pause * random.uniform(0.75, 1.25))
                pause = min(2 * pause, _LONGEST_PAUSE)
            if done is not None:
                answer = done()
                if answer is not None:
                    return answer
        raise problem

    def _list(self, function: Callable[[], Any]) -> list[Json]:
        """Give a list. Cloudflare pages none of these but by name, where one page is more than there can be."""
        page = self._call(function)
        return [_plain(entry) for entry in page.result or ()]

    def zone(self, wanted: str) -> tuple[str, str]:
        """Find a zone by id or name; gives id and name. From here on, its account is known."""
        zones = self._client().zones
        if re.fullmatch(r"[0-9a-f]{32}", wanted):
            found = _plain(self._call(lambda: zones.get(zone_id=wanted)))
        else:
            name = require_host_name(wanted.removesuffix(".").lower(), "cloudflare.zone")
            listed = [zone for zone in self._list(lambda: zones.list(name=name)) if zone["name"] == name]
            if not listed:
                raise BalancerError(
                    f"Cloudflare has no zone {name} for these credentials.",
                    hint="Check the name, and that the token may read the zone.",
                )
            if len(listed) > 1:
                raise InputError(
                    f"cloudflare.zone: {len(listed)} accounts have a zone {name}.", hint="Give the zone's id."
                )
            found = listed[0]
        self._zone = found["id"]
        self._account = self._access["account_id"] or (found.get("account") or {}).get("id") or ""
        if not self._account:
            raise InputError(
                f"cloudflare: the account of the zone {found['name']} is not known.", hint="Give account_id."
            )
        return found["id"], found["name"]

    def records(self, name: str) -> list[Json]:
        """Give the DNS records of a name that a load balancer would hide."""
        listed = self._list(
            lambda: self._client().dns.records.list(zone_id=self._zone, name={"exact": name}, per_page=100)
        )
        return [entry for entry in listed if entry.get("type") in ("A", "AAAA", "CNAME")]

    def load_balancer(self, name: str) -> Json | None:
        """Find the load balancer of a host name."""
        listed = self._list(lambda: self._client().load_balancers.list(zone_id=self._zone))
        return next((entry for entry in listed if entry.get("name") == name), None)

    def read_load_balancer(self, identifier: str) -> Json | None:
        """Give a load balancer as it is now."""
        try:
            return _plain(self._call(lambda: self._client().load_balancers.get(identifier, zone_id=self._zone)))
        except GoneError:
            return None

    def create_load_balancer(self, body: Json, done: Callable[[], Json | None]) -> Json:
        """Make a load balancer."""
        return self._written(lambda: self._client().load_balancers.create(zone_id=self._zone, **body), done)

    def update_load_balancer(self, identifier: str, body: Json, done: Callable[[], Json | None]) -> Json:
        """Write all of a load balancer."""
        return self._written(lambda: self._client().load_balancers.update(identifier, zone_id=self._zone, **body), done)

    def delete_load_balancer(self, identifier: str) -> None:
        """Delete a load balancer, if it is there."""
        self._delete(lambda: self._client().load_balancers.delete(identifier, zone_id=self._zone))

    def pools(self, prefix: str) -> list[Json]:
        """Give the pools whose names begin so."""
        listed = self._list(lambda: self._client().load_balancers.pools.list(account_id=self._account))
        return [entry for entry in listed if str(entry.get("name")).startswith(prefix)]

    def create_pool(self, body: Json) -> Json:
        """Make a pool. Regions cannot be said there; they take a second call."""
        pools, regions = self._client().load_balancers.pools, body.get("check_regions")
        first = {key: value for key, value in body.items() if key != "check_regions"}

        def find() -> Json | None:
            return next((pool for pool in self.pools(body["name"]) if pool["name"] == body["name"]), None)

        try:
            made = self._written(lambda: pools.create(account_id=self._account, **first), find)
        except BalancerError:
            # Another run may have made it meanwhile.
            found = find()
            if found is None:
                raise
            return self.update_pool(found["id"], body)
        return self.update_pool(made["id"], body) if regions else made

    def update_pool(self, identifier: str, body: Json) -> Json:
        """Write all of a pool."""
        pools = self._client().load_balancers.pools
        return self._written(lambda: pools.update(identifier, account_id=self._account, **body))

    def delete_pool(self, identifier: str) -> None:
        """Delete a pool, if it is there."""
        self._delete(lambda: self._client().load_balancers.pools.delete(identifier, account_id=self._account))

    def pool_health(self, identifier: str) -> Json:
        """Give what Cloudflare's data centers found last."""
        health = self._client().load_balancers.pools.health
        return _plain(self._call(lambda: health.get(identifier, account_id=self._account)))

    def monitors(self) -> list[Json]:
        """Give all monitors of the account: they have no names."""
        return self._list(lambda: self._client().load_balancers.monitors.list(account_id=self._account))

    def create_monitor(self, body: Json) -> Json:
        """Make a monitor."""
        monitors = self._client().load_balancers.monitors
        return self._written(
            lambda: monitors.create(account_id=self._account, **_monitor(body)),
            lambda: next((entry for entry in self.monitors() if entry.get("description") == body["description"]), None),
        )

    def update_monitor(self, identifier: str, body: Json) -> Json:
        """Write all of a monitor."""
        monitors = self._client().load_balancers.monitors
        return self._written(lambda: monitors.update(identifier, account_id=self._account, **_monitor(body)))

    def delete_monitor(self, identifier: str) -> None:
        """Delete a monitor, if it is there."""
        self._delete(lambda: self._client().load_balancers.monitors.delete(identifier, account_id=self._account))

    def _written(self, function: Callable[[], Any], done: Callable[[], Json | None] | None = None) -> Json:
        answer = self._call(function, done)
        return answer if isinstance(answer, dict) else _plain(answer)

    def _delete(self, function: Callable[[], Any]) -> None:
        try:
            self._call(function)
        except GoneError:
            # Also by a try before, whose answer was lost.
            return


_AGAIN = "Run this again, which goes on from what it finds."


def _plain(model: Any) -> Json:
    """Give one of the SDK's models as Cloudflare gave it, with what the SDK does not know."""
    return dict(model.to_dict(mode="json", warnings=False))


def _monitor(body: Json) -> Json:
    """Give a monitor in the words of the SDK, where the timeout of the call has the same name."""
    return {("load_balancer_monitor_timeout" if key == "timeout" else key): value for key, value in body.items()}


def _words(error: Any) -> str:
    """Give Cloudflare's own words: the codes and messages of its answer."""
    told = [
        f"{entry.get('message')} (code {entry.get('code')})"
        for entry in (error.body.get("errors") or () if isinstance(error.body, dict) else ())
        if isinstance(entry, dict)
    ]
    return f"HTTP {error.status_code}: {'; '.join(told) or error.message}"


def _refused(error: Any) -> BalancerError:
    kind = {403: ForbiddenError, 404: GoneError}.get(error.status_code, BalancerError)
    return kind(f"Cloudflare refused: {_words(error)}.", hint=_HINTS.get(error.status_code, _AGAIN))


def _retry_after(error: Any) -> float | None:
    """Give the seconds that Cloudflare asks to wait."""
    try:
        return min(max(0.0, float(error.response.headers.get("retry-after", ""))), _LONGEST_PAUSE * 10)
    except ValueError:
        return None
