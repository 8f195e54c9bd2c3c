# SPDX-FileCopyrightText: The modelfleet maintainers
# SPDX-License-Identifier: GPL-3.0-or-later
"""Azure Traffic Manager as the global endpoint: a profile that routes among the active members, and one before it.

Each profile is written as a whole, with all its endpoints, which is one transaction. The pool's tags hold the
definition, so whatever moves traffic among the active members is one write that says so, too. The front is written
before the pool where it gets a standby member that the pool loses, and after the pool for all else: a member is in both
for a moment, and never in none.

Azure has no lock and no condition for a write. So a profile is read once more right before it is written, and a while
after: who finds that another one was there in between decides anew. What that leaves open is a writer who is held up
between reading and writing for longer than the others wait.
"""

from __future__ import annotations

import re
import secrets
import time
from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext
from typing import Any

from ansible_collections.modelfleet.serving.plugins.module_utils._endpoint.balancer import (
    BalancerError,
    ChangedMeanwhileError,
    MemberHealth,
    text_diff,
)
from ansible_collections.modelfleet.serving.plugins.module_utils._endpoint.definition import Endpoint
from ansible_collections.modelfleet.serving.plugins.module_utils._endpoint.plan import (
    Observed,
    Plan,
    Traffic,
    traffic_weight,
)
from ansible_collections.modelfleet.serving.plugins.module_utils._endpoint.traffic_manager_api import (
    Api,
    BusyError,
)
from ansible_collections.modelfleet.serving.plugins.module_utils._endpoint.traffic_manager_options import DEFAULTS
from ansible_collections.modelfleet.serving.plugins.module_utils._endpoint.traffic_manager_profiles import (
    POOL_ENDPOINT,
    Json,
    Mark,
    Names,
    built_on,
    check_definition,
    decode,
    describe,
    differences,
    endpoints_of,
    marked,
    names_of,
    nonce_of,
    tags_of,
    theirs,
    wanted_front,
    wanted_pool,
    without_status,
)
from ansible_collections.modelfleet.serving.plugins.module_utils._errors import InputError
from ansible_collections.modelfleet.serving.plugins.module_utils._names import require_dns_label

_ATTEMPTS = 6
_LONGEST_PAUSE = 60.0
# How long another writer may need between his last look and his write.
_SETTLE_SECONDS = 1.5
# The subscription's requests are for all who use it.
_HEALTH_SECONDS = 5.0
_UP = ("Online", "Unmonitored")
_WORDS = {
    "Degraded": "its health check fails",
    "CheckingEndpoint": "no result of its health check yet",
    "Inactive": "the profile is disabled",
    "Disabled": "somebody has disabled it",
}


class TrafficManager:
    """The balancer behind :class:`Balancer`.

    :param access: the options by which Traffic Manager is reached, and the profile.
    :param adopt: whether profiles that are not ours may be replaced.
    """

    # A health check is a GET.
    predicts = False

    def __init__(self, access: Mapping[str, Any], adopt: bool = False) -> None:
        self._adopt = adopt
        self._group = access["resource_group"]
        self._name = access["profile_name"]
        # Also of the group, since both become a part of the address.
        if not re.fullmatch(r"[\w().-]{0,89}[\w()-]", self._group):
            raise InputError(
                f"traffic_manager.resource_group: {self._group!r} is no name of a resource group.",
                hint="Use letters, digits, '-', '_', '.' and parentheses, 90 at most.",
            )
        if not re.fullmatch(r"[A-Za-z0-9]([A-Za-z0-9.-]{0,56}[A-Za-z0-9])?", self._name):
            raise InputError(
                f"traffic_manager.profile_name: {self._name!r} is no name of a profile.",
                hint="Use letters, digits, '-' and '.', 58 at most, since the second profile is called NAME-pool.",
            )
        label = access["relative_name"] or self._name.lower()
        self._label = require_dns_label(label, "traffic_manager.relative_name")
        self._api = Api(access)
        # What was read last, as Azure gave it.
        self._front: Json | None = None
        self._pool: Json | None = None
        self._mark: Mark | None = None
        # The same before it was changed, for the diff.
        self._before: tuple[Json | None, Json | None] = (None, None)
        self._asked = float("-inf")

    def defaults(self) -> dict[str, Any]:
        """Give every setting with its default."""
        return dict(DEFAULTS)

    def exclusive(self) -> AbstractContextManager[None]:
        """Keep nobody out: who comes second finds it, and decides anew."""
        return nullcontext()

    @property
    def _at(self) -> Names:
        self._api.connect()
        return names_of(self._api.subscription, self._group, self._name, self._label)

    def read(self) -> Observed:
        """Read both profiles."""
        names = self._at
        self._front, self._pool = self._api.profile(names.front), self._api.profile(names.pool)
        self._before = (self._front, self._pool)
        self._mark = None
        foreign = []
        if self._pool is not None:
            try:
                self._mark = decode(self._pool)
            except ValueError as error:
                foreign.append(f"the profile {names.pool} {error}")
        if self._front is not None and not marked(self._front):
            foreign.append(f"the profile {names.front} was made by hand or by another tool")
        elif self._front is not None and self._pool is None:
            foreign.append(f"the profile {names.front} has lost {names.pool}, which held the definition")
        if foreign and not self._adopt:
            raise BalancerError(
                f"{' and '.join(foreign)}; nothing is changed.",
                hint="Set adopt=true to replace it, or use another profile_name.",
            )
        return self._observed(self._mark.endpoint) if self._mark else Observed()

    def _observed(self, endpoint: Endpoint) -> Observed:
        names = self._at
        traffic = self._traffic(endpoint)
        differ = {
            f"{names.pool}: {name}"
            for name in differences(self._pool or {}, wanted_pool(endpoint, self._named()), traffic)
        }
        if self._front is None:
            return Observed(endpoint, traffic, (f"the profile {names.front} is missing",))
        differ |= {
            f"{names.front}: {name}"
            for name in differences(self._front, wanted_front(endpoint, self._named()), traffic)
        }
        complaints = []
        if differ:
            listed = ", ".join(sorted(differ))
            complaints.append(f"profiles were changed by hand, by another version, or not to the end ({listed})")
        return Observed(endpoint, traffic, tuple(complaints))

    def _named(self) -> Names:
        """Give the names, with the label that the pool has: it was adopted, or made for another name of the front."""
        names = self._at
        found = (self._pool or {}).get("properties", {}).get("dnsConfig", {}).get("relativeName")
        return Names(names.front, names.pool, names.pool_id, names.front_label, found or names.pool_label)

    def _traffic(self, endpoint: Endpoint) -> dict[str, Traffic]:
        """Give what each member gets; other than wanted only where somebody changed it by hand."""
        pool, front = endpoints_of(self._pool), endpoints_of(self._front)
        weighted = endpoint.settings["policy"] == "weighted"
        traffic = {}
        for member in endpoint.members:
            found = (front if member.state == "standby" and member.name not in pool else pool).get(member.name)
            live = Traffic(traffic_weight(member))
            if found is not None:
                enabled = str(found["properties"].get("endpointStatus")).lower() == "enabled"
                weight = found["properties"].get("weight") or 0 if weighted and member.name in pool else member.weight
                if not enabled and member.state != "drained":
                    live = Traffic(0, "disabled")
                elif enabled and member.state == "drained":
                    live = Traffic(weight, "enabled")
                elif enabled and member.state == "active":
                    live = Traffic(weight)
            traffic[member.name] = live
        return traffic

    def health(self) -> dict[str, MemberHealth]:
        """Give what Traffic Manager found last, of each member. Asks at most every few seconds.

        It does not check a drained member, and would send it requests as soon as it is enabled, until the first check
        has failed.
        """
        time.sleep(max(0.0, self._asked + _HEALTH_SECONDS - time.monotonic()))
        self._asked = time.monotonic()
        names = self._at
        if self._mark is None:
            self.read()
        else:
            self._front, self._pool = self._api.profile(names.front), self._api.profile(names.pool)
        if self._mark is None or self._mark.endpoint.settings["health_check_type"] == "NONE":
            return {}
        endpoint = self._mark.endpoint
        found = {**endpoints_of(self._front), **endpoints_of(self._pool)}
        members = {}
        for member in endpoint.members:
            if member.state == "drained" or member.name not in found:
                members[member.name] = MemberHealth(up=True)
                continue
            status = str(found[member.name]["properties"].get("endpointMonitorStatus") or "CheckingEndpoint")
            up = status in _UP
            models = {model.name: up for model in endpoint.models}
            words = f"{status}: {_WORDS[status]}" if status in _WORDS else status
            members[member.name] = MemberHealth(up, models, {} if up else dict.fromkeys(models, words))
        return members

    def addresses(self) -> list[str]:
        """Give the name that Traffic Manager answers for, which a CNAME of your own may lead to."""
        return [f"{self._at.front_label}.{self._api.domain}"]

    def errors(self) -> int | None:
        """Give nothing: no answer passes through DNS."""
        return None

    def check(self, plan: Plan) -> None:
        """Refuse what profiles of Traffic Manager cannot say."""
        if plan.desired is None:
            return
        names = self._at
        check_definition(plan.desired, f"{names.front_label}.{self._api.domain}", theirs(self._pool))
        if self._front is None:
            reason = self._api.taken(names.front_label)
            if reason:
                raise InputError(
                    f"traffic_manager.relative_name: {names.front_label}.{self._api.domain} cannot be had: {reason}",
                    hint="Use another name.",
                )
            return
        found = self._front["properties"].get("dnsConfig", {}).get("relativeName", "")
        if found.lower() != names.front_label:
            raise InputError(
                f"traffic_manager.relative_name: the profile {names.front} has the name {found}, and clients ask for"
                " it.",
                hint=f"Use relative_name={found}, or another profile_name.",
            )

    def diff(self, plan: Plan) -> list[dict[str, str]]:
        """Give the change of the profiles."""
        if not plan.steps:
            return []
        names = self._named()
        after: tuple[Json | None, Json | None] = (None, None)
        if plan.desired is not None:
            after = (wanted_front(plan.desired, names), wanted_pool(plan.desired, names))
        texts = [
            "".join(f"{line}\n" for line in [*describe(front, names.front), *describe(pool, names.pool)])
            for front, pool in (self._before, after)
        ]
        return text_diff(f"profiles {names.front} and {names.pool}", *texts)

    def apply(self, plan: Plan) -> None:
        """Write the profiles that change, and wait until nobody can have overtaken it."""
        if plan.desired is None:
            self._remove()
            return
        desired, names = plan.desired, self._named()
        pool, front = wanted_pool(desired, names), wanted_front(desired, names)
        waiting = endpoints_of(front).keys() - {POOL_ENDPOINT}
        leaving = waiting & endpoints_of(self._pool).keys() - endpoints_of(self._front).keys()
        if self._front is not None and marked(self._front) and leaving:
            # Who leaves the pool to stand by does so before; who stood by stays until the pool has him.
            stays = [entry for name, entry in endpoints_of(self._front).items() if name != POOL_ENDPOINT]
            self._front = self._put(names.front, self._front, wanted_front(desired, names, stays))
        stored = self._mark.endpoint.stored() if self._mark else None
        if self._pool is None or stored != desired.stored() or differences(self._pool, pool):
            self._pool = self._put(names.pool, self._pool, pool, desired)
        if self._front is None or differences(self._front, front):
            self._front = self._put(names.front, self._front, front)
        self._mark = Mark(desired, nonce_of(self._pool))
        self._settle({names.front: nonce_of(self._front), names.pool: nonce_of(self._pool)})

    def _put(self, name: str, before: Json | None, profile: Json, endpoint: Endpoint | None = None) -> Json:
        """Replace a profile, if it is still as it was read; gives it as Azure then has it.

        Whether a write was carried out is not told by its answer, which may be lost, but by reading.

        :param endpoint: the definition, for the pool.
        :raises ChangedMeanwhileError: when somebody else has changed it.
        """
        nonce = secrets.token_hex(8)
        wanted = {**profile, "tags": tags_of(before, nonce, endpoint)}
        failures: list[BusyError] = []
        pause = 0.0
        for turn in range(_ATTEMPTS + 1):
            time.sleep(pause)
            now = self._api.profile(name)
            if now is not None and nonce_of(now) == nonce:
                return now
            if without_status(now) != without_status(before):
                raise _changed(name) from (failures[-1] if failures else None)
            if turn == _ATTEMPTS:
                break
            pause = _SETTLE_SECONDS * turn
            try:
                self._api.put(name, wanted)
            except BusyError as error:
                failures.append(error)
                pause = min(error.pause or pause, _LONGEST_PAUSE)
        if failures:
            raise failures[-1]
        raise BalancerError(f"Azure takes the profile {name}, and does not have it.", hint="Run this again.")

    def _settle(self, nonces: Mapping[str, str]) -> None:
        """Find out, when no other writer can be on his way any more, whether what was written is still there."""
        time.sleep(_SETTLE_SECONDS)
        for name, nonce in nonces.items():
            if not built_on(self._api.profile(name), nonce):
                raise _changed(name)

    def _remove(self) -> None:
        """Delete the front, and the pool with the definition last."""
        if self._mark is None:
            return
        names = self._at
        for name, found in ((names.front, self._front), (names.pool, self._pool)):
            if found is None or not marked(found):
                continue
            now = self._api.profile(name)
            if without_status(now) != without_status(found):
                raise _changed(name)
            self._api.delete(name)
        self._front = self._pool = self._mark = None


def _changed(name: str) -> ChangedMeanwhileError:
    return ChangedMeanwhileError(
        f"the profile {name} is no longer what was read, or what was written; somebody else was there.",
        hint="Somebody else changes it all the time. Run this again.",
    )


__all__ = ["TrafficManager"]
