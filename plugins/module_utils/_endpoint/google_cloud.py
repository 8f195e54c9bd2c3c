# SPDX-FileCopyrightText: The modelfleet maintainers
# SPDX-License-Identifier: GPL-3.0-or-later
"""Google Cloud as the global endpoint: a global external Application Load Balancer, a backend service a member.

The URL map is our mark and our lock: its description holds the definition, its weights are the shares, and Google takes
a change of it only with the fingerprint of what was read. So whatever shifts traffic is one call, and when somebody
else was faster, it is refused.

All other objects follow from the definition. What it needs is made before the URL map refers to it; what it does not
need any more is removed after. Each of these rounds begins with reading, and goes by the definition that is stored
then, so that of two writers the last one leaves everything as it should be. The URL map is the first object that is
made and the last that is deleted, so whatever a run leaves behind that was cut off, the next one finds.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping
from contextlib import AbstractContextManager, nullcontext, suppress
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

from ansible_collections.modelfleet.serving.plugins.module_utils._endpoint.balancer import (
    BalancerError,
    ChangedMeanwhileError,
    MemberHealth,
    text_diff,
)
from ansible_collections.modelfleet.serving.plugins.module_utils._endpoint.definition import Endpoint
from ansible_collections.modelfleet.serving.plugins.module_utils._endpoint.google_cloud_api import (
    Api,
    ConditionError,
    ExistsError,
    GoneError,
    InUseError,
    Operation,
)
from ansible_collections.modelfleet.serving.plugins.module_utils._endpoint.google_cloud_objects import (
    BASE,
    GROUPS,
    KINDS,
    LABELLED,
    Json,
    Place,
    Ref,
    Wanted,
    check_definition,
    decode,
    describe,
    is_checked,
    link,
    own_groups,
    reweighed,
    same,
    same_map,
    wanted_map,
    wanted_objects,
    weights,
)
from ansible_collections.modelfleet.serving.plugins.module_utils._endpoint.google_cloud_options import (
    DEFAULTS,
    RESOURCE_NAME,
)
from ansible_collections.modelfleet.serving.plugins.module_utils._endpoint.plan import (
    Observed,
    Plan,
    Traffic,
    traffic_weight,
)
from ansible_collections.modelfleet.serving.plugins.module_utils._errors import InputError

# Of 63 characters, so that the other objects' names can begin with it.
_MAP_CHARACTERS = 40
_HEALTH_SECONDS = 2.0
# Rounds until everything is as the definition says. One is enough, unless somebody else is at it as well.
_ROUNDS = 6
# What can be made ours, since its description can be changed.
_ADOPTABLE = ("healthChecks", "backendServices")


@dataclass
class _Found:
    """What Google Cloud has.

    :ivar map: the URL map, ``None`` where there is none.
    :ivar endpoint: the definition in it, ``None`` where it is not ours.
    :ivar problem: why it is not.
    :ivar objects: everything else whose name is ours.
    :ivar inside: what our network endpoint groups hold.
    """

    map: Json | None = None
    endpoint: Endpoint | None = None
    problem: str = ""
    objects: dict[Ref, Json] = field(default_factory=dict)
    inside: dict[Ref, list[Json]] = field(default_factory=dict)


class GoogleCloud:
    """The balancer behind :class:`Balancer`.

    :param access: the options by which Google Cloud is reached, and the name of the URL map.
    :param adopt: whether objects that are not ours may be taken over.
    """

    # Its checkers can only GET.
    predicts = False

    def __init__(self, access: Mapping[str, Any], adopt: bool = False) -> None:
        self._access = access
        self._adopt = adopt
        if not RESOURCE_NAME.fullmatch(access["url_map"]) or len(access["url_map"]) > _MAP_CHARACTERS:
            raise InputError(
                f"google_cloud.url_map: {access['url_map']!r} is no name of a URL map.",
                hint=f"Use lower-case letters, digits and '-', at most {_MAP_CHARACTERS}, and a letter first.",
            )
        self._api = Api(access)
        self._place = Place(self._api.project, access["url_map"])
        # What was read before the change, and what is to be.
        self._found = _Found()
        self._desired: Endpoint | None = None
        self._asked = float("-inf")

    def defaults(self) -> dict[str, Any]:
        """Give every setting with its default."""
        return dict(DEFAULTS)

    def exclusive(self) -> AbstractContextManager[None]:
        """Keep nobody out: Google refuses who comes with an old fingerprint of the URL map."""
        return nullcontext()

    def read(self) -> Observed:
        """Read the URL map, and all objects that belong to it."""
        self._api.settle(self._place.url_map)
        self._found = found = self._look()
        if found.endpoint is None:
            if found.problem and not self._adopt:
                raise BalancerError(
                    f"the URL map {self._place.url_map} {found.problem}; nothing is changed.",
                    hint="Set adopt=true to replace it, or use another name.",
                )
            return Observed()
        return self._observed(found, found.endpoint)

    def _look(self) -> _Found:
        found = _Found(map=self._api.get(self._place.map))
        if found.map is not None:
            try:
                stored = decode(found.map.get("description", ""))
                # What a version before this one has stored lacks the settings that are new.
                found.endpoint = replace(stored, settings={**DEFAULTS, **stored.settings})
            except ValueError as error:
                found.problem = str(error)
        for listed in self._api.together(partial(self._api.listed, kind, self._place.url_map) for kind in KINDS):
            found.objects |= listed
        if found.endpoint is not None:
            self._look_up_address(found, found.endpoint)
        groups = [ref for ref, body in found.objects.items() if ref.kind in GROUPS and self._is_ours(body)]
        held = self._api.together(partial(self._api.inside, ref) for ref in groups)
        found.inside = dict(zip(groups, held, strict=True))
        return found

    def _look_up_address(self, found: _Found, endpoint: Endpoint) -> None:
        """Read the address that somebody has reserved."""
        ref = self._place.address(endpoint)
        if endpoint.settings["address"] and ref not in found.objects and (body := self._api.get(ref)):
            found.objects[ref] = body

    def _is_ours(self, body: Mapping[str, Any]) -> bool:
        return bool(body.get("description") == self._place.mark)

    def _observed(self, found: _Found, endpoint: Endpoint) -> Observed:
        wanted = wanted_objects(self._place, endpoint)
        present = found.map or {}
        if same_map(wanted_map(self._place, endpoint, closed=True), present):
            return Observed(endpoint, None, ("its creation or removal was interrupted",))
        complaints = []
        body = wanted_map(self._place, endpoint)
        traffic = self._traffic(endpoint, present)
        # A weight that is not as it should be shows as the member's traffic.
        if not same_map(reweighed(body, present) if traffic else body, present):
            complaints.append("the URL map was changed by hand, or by another version")
        if names := self._missing(wanted, found):
            complaints.append(f"missing: {_names(names)}")
        if names := self._changed(wanted, found):
            complaints.append(f"changed by hand, or by another version: {_names(names)}")
        if names := self._left(wanted, found):
            complaints.append(f"left by a change that was interrupted: {_names(names)}")
        return Observed(endpoint, traffic, tuple(complaints))

    def _traffic(self, endpoint: Endpoint, present: Mapping[str, Any]) -> dict[str, Traffic] | None:
        """Give what the URL map gives each member; ``None`` where all is as it should be."""
        listed = weights(present)
        traffic = {}
        for member in endpoint.members:
            weight = listed.get(link(self._place.service(endpoint, member).link(self._place.project)), 0)
            live = Traffic(weight)
            if member.state == "standby":
                live = Traffic(weight, "active") if weight else Traffic(traffic_weight(member))
            traffic[member.name] = live
        usual = {member.name: Traffic(traffic_weight(member)) for member in endpoint.members}
        return None if traffic == usual else traffic

    def _missing(self, wanted: Wanted, found: _Found) -> list[Ref]:
        return [ref for ref in wanted.objects if ref not in found.objects]

    def _left(self, wanted: Wanted, found: _Found) -> list[Ref]:
        return [ref for ref, body in found.objects.items() if ref not in wanted.objects and self._is_ours(body)]

    def _changed(self, wanted: Wanted, found: _Found) -> list[Ref]:
        """Name the objects that are there and not as wanted, and the groups that do not hold what they should."""
        changed = []
        for ref, body in wanted.objects.items():
            present = _resolved(found, ref)
            if present is not None and not (
                same(body, present) and _is_labelled(ref, wanted, present) and _amiss(ref, wanted, found) == ([], [])
            ):
                changed.append(ref)
        return changed

    def health(self) -> dict[str, MemberHealth]:
        """Give what Google's checkers say of each member. Asks at most every few seconds."""
        time.sleep(max(0.0, self._asked + _HEALTH_SECONDS - time.monotonic()))
        self._asked = time.monotonic()
        if self._found.endpoint is None:
            self.read()
        endpoint = self._found.endpoint
        if endpoint is None or not is_checked(endpoint):
            return {}
        members = {}
        for member in endpoint.members:
            found: list[str] = []
            with suppress(GoneError):
                for group in own_groups(self._place, endpoint, member):
                    found += self._api.health(self._place.service(endpoint, member), group)
            up = "HEALTHY" in found
            reason = "" if up else f"Google's checkers say {', '.join(sorted(set(found))) or 'nothing yet'}"
            models = [model.name for model in endpoint.models]
            members[member.name] = MemberHealth(
                up, dict.fromkeys(models, up), dict.fromkeys(models, reason) if reason else {}
            )
        return members

    def addresses(self) -> list[str]:
        """Give the number of the address, once there is one."""
        endpoint = self._desired or self._found.endpoint
        ref = self._place.address(endpoint) if endpoint else self._place.map
        body = self._found.objects.get(ref)
        if body is not None and not body.get("address"):
            # It was made just now.
            body = self._api.get(ref)
        return [body["address"]] if body else []

    def errors(self) -> int | None:
        """Give nothing: Google counts in Cloud Monitoring alone."""
        return None

    def check(self, plan: Plan) -> None:
        """Refuse what a load balancer cannot say, and objects of others that are in the way."""
        if plan.desired is None:
            return
        check_definition(self._place, plan.desired)
        self._desired = plan.desired
        wanted = wanted_objects(self._place, plan.desired).objects
        if plan.desired.settings["address"]:
            self._check_address(plan.desired, wanted)
        for ref in wanted:
            present = self._found.objects.get(ref)
            if present is None or self._is_ours(present) or (self._adopt and ref.kind in _ADOPTABLE):
                continue
            raise BalancerError(
                f"{ref.name} ({ref.kind}) exists and is somebody else's; nothing is changed.",
                hint="Set adopt=true to take it over, or use another url_map."
                if ref.kind in _ADOPTABLE
                else "Delete it, or use another url_map.",
            )

    def _check_address(self, desired: Endpoint, wanted: Mapping[Ref, Json]) -> None:
        """Refuse a reserved address that cannot be had. One that is in use already is not looked at again."""
        rules = [ref for ref in wanted if ref.kind == "globalForwardingRules"]
        new = {wanted[ref]["portRange"] for ref in rules if ref not in self._found.objects}
        if not new:
            return
        self._look_up_address(self._found, desired)
        name = desired.settings["address"]
        body = self._found.objects.get(self._place.address(desired))
        if body is None or body.get("addressType") == "INTERNAL":
            raise BalancerError(
                f"google_cloud.address: there is no global external address {name} in {self._api.project}; nothing is"
                " changed.",
                hint=f"Reserve it (gcloud compute addresses create {name} --global), or correct the name.",
            )
        if self._is_ours(body):
            raise BalancerError(
                f"google_cloud.address: {name} is one that this module made, and goes again; nothing is changed.",
                hint="Reserve another one, or leave the option out.",
            )
        for user in body.get("users", ()):
            ref = Ref("globalForwardingRules", user.rpartition("/")[2])
            rule = self._api.get(ref) if same(ref.link(self._api.project), user) else None
            # Others may use other ports of it, such as a redirect from HTTP to HTTPS.
            if rule is None or (rule.get("portRange") in new and not self._is_ours(rule)):
                raise BalancerError(
                    f"google_cloud.address: {name} is in use by {link(user)}; nothing is changed.",
                    hint="Give google_cloud.ports that nobody uses there, or another address.",
                )

    def diff(self, plan: Plan) -> list[dict[str, str]]:
        """Give the change of all objects."""
        if not plan.steps:
            return []
        texts = []
        for endpoint in (plan.observed.endpoint, plan.desired):
            lines = []
            if endpoint is not None:
                wanted = wanted_objects(self._place, endpoint)
                lines = [f"urlMaps {self._place.url_map}: {describe(wanted_map(self._place, endpoint))}"]
                lines += [
                    f"{ref.kind} {ref.name}: {describe(body, wanted.inside.get(ref))}"
                    for ref, body in wanted.objects.items()
                ]
            texts.append("".join(f"{line}\n" for line in lines))
        return text_diff(f"objects of {self._place.url_map} in {self._place.project}", *texts)

    def apply(self, plan: Plan) -> None:
        """Make what is needed, change the URL map, and then remove what is not needed any more."""
        desired = plan.desired
        if desired is None:
            self._remove()
            return
        if self._found.map is None:
            # The intent, so that the next run finds what this one leaves behind when it is cut off.
            self._write(wanted_map(self._place, desired, closed=True))
            self._found.map = self._api.get(self._place.map)
        wanted = wanted_objects(self._place, desired)
        body = wanted_map(self._place, desired)
        try:
            self._make(wanted)
            if not (same_map(body, self._found.map or {}) and self._found.endpoint == desired):
                self._write(body)
        except (ConditionError, ExistsError, GoneError) as error:
            raise self._meanwhile(error) from error
        self._settle()

    def _meanwhile(self, error: BalancerError) -> ChangedMeanwhileError:
        return ChangedMeanwhileError(
            f"the URL map {self._place.url_map}, or what belongs to it, is not what was read: {error.message}",
            hint="Check what the options refer to; or somebody else changes it all the time. Run this again.",
        )

    def _write(self, body: Json) -> None:
        """Make the URL map be as given, if it still is as it was read; this shifts all traffic at once."""
        present = self._found.map
        try:
            if present is None:
                operation = self._api.insert(self._place.map, body)
            else:
                operation = self._api.change(
                    self._place.map, "update", {**body, "fingerprint": present.get("fingerprint", "")}
                )
            self._api.finish([operation])
        except (ConditionError, ExistsError, GoneError) as error:
            raise self._meanwhile(error) from error

    def _make(self, wanted: Wanted) -> None:
        """Make what a member needs before it gets traffic. Nothing is taken away."""
        found = self._found
        for kinds in (BASE[:-1], BASE[-1:]):
            self._api.finish(self._insert(wanted, found, kinds))
            self._api.finish(self._fill(wanted, found))
        # One that is there, such as that of a member which was away, must be right before it gets traffic.
        serving = {service for service, weight in weights(found.map or {}).items() if weight}
        for ref in self._changed(wanted, found):
            if ref.kind == BASE[-1] and link(ref.link(self._place.project)) not in serving:
                self._api.finish(self._correct(ref, wanted.objects[ref], found.objects[ref]))

    def _insert(self, wanted: Wanted, found: _Found, kinds: Iterable[str]) -> list[Operation]:
        """Begin to make those objects that are missing."""
        operations = []
        for ref, body in wanted.objects.items():
            if ref.kind in kinds and ref not in found.objects:
                # What is empty is for comparing.
                operations.append(self._api.insert(ref, {key: value for key, value in body.items() if value}))
                found.objects[ref] = body
        return operations

    def _fill(self, wanted: Wanted, found: _Found) -> list[Operation]:
        """Begin to put into the groups what they should hold."""
        operations = []
        for ref in wanted.inside:
            attach, other = _amiss(ref, wanted, found)
            # One in the internet has room for one.
            if attach and ref in found.objects and (ref.zone or not other):
                operations.append(self._api.change(ref, "attachNetworkEndpoints", {"networkEndpoints": attach}))
                found.inside.setdefault(ref, []).extend(attach)
        return operations

    def _settle(self) -> None:
        """Make all objects be as the stored definition says.

        It goes by what is stored now, not by what this run wanted, and again when that changed while it was at it. So
        of two writers, who writes to an object last does so by the last definition.
        """
        known = set(self._found.objects)
        failed: BalancerError | None = None
        for _round in range(_ROUNDS):
            self._found = found = self._look()
            endpoint = found.endpoint
            if endpoint is None or same_map(wanted_map(self._place, endpoint, closed=True), found.map or {}):
                # Somebody removes it.
                return
            wanted = wanted_objects(self._place, endpoint)
            # What appeared after this run began to read is somebody's who is about to use it.
            left = [ref for ref in self._left(wanted, found) if ref in known]
            missing = self._missing(wanted, found)
            if not (left or missing or self._changed(wanted, found)):
                return
            try:
                again = self._mend(wanted, found)
                self._delete(left)
            except (ConditionError, ExistsError, GoneError, InUseError) as error:
                # Somebody else is at it, too; or an option refers to something that does not exist.
                failed = error
                continue
            now = self._api.get(self._place.map)
            if not again and now is not None and now.get("fingerprint") == (found.map or {}).get("fingerprint"):
                return
        raise failed or BalancerError(
            f"the URL map {self._place.url_map} is changed all the time.", hint="Find who does, and run this again."
        )

    def _mend(self, wanted: Wanted, found: _Found) -> bool:
        """Make what is missing, and change what differs; tell whether that takes another round."""
        again = False
        for kind in KINDS:
            self._api.finish(self._insert(wanted, found, (kind,)))
            if kind == GROUPS[-1]:
                self._api.finish(self._fill(wanted, found))
        changes: list[Operation] = []
        for ref in self._changed(wanted, found):
            present = _resolved(found, ref) or {}
            attach, detach = _amiss(ref, wanted, found)
            if detach:
                again = again or bool(attach)
                changes.append(self._api.change(ref, "detachNetworkEndpoints", {"networkEndpoints": detach}))
            if not same(wanted.objects[ref], present):
                done = self._correct(ref, wanted.objects[ref], present)
                again = again or not done
                changes += done or [self._api.change(ref, "delete")]
            if not _is_labelled(ref, wanted, present):
                if "labelFingerprint" in present:
                    body = {"labels": wanted.labels, "labelFingerprint": present["labelFingerprint"]}
                    changes.append(self._api.change(ref, "setLabels", body))
                else:
                    # It was made just now.
                    again = True
        self._api.finish(changes)
        return again

    def _correct(self, ref: Ref, body: Json, present: Mapping[str, Any]) -> list[Operation]:
        """Begin to change what differs in an object; gives nothing where it has to be made anew."""

        def differs(key: str) -> bool:
            return key in body and not same(body[key], present.get(key))

        if ref.kind == "healthChecks":
            return [self._api.change(ref, "update", body)]
        if ref.kind == "backendServices":
            # What others set, such as logging or Cloud Armor, stays.
            return [self._api.change(ref, "patch", {**body, "fingerprint": present.get("fingerprint", "")})]
        if ref.kind in ("targetHttpProxies", "targetHttpsProxies"):
            operations = []
            # What it gets comes before what it loses, so that it always has a certificate.
            for key in sorted(("urlMap", "sslCertificates", "certificateMap"), key=lambda key: not body.get(key)):
                if differs(key):
                    operations.append(self._api.change(ref, f"set{key[0].upper()}{key[1:]}", {key: body[key]}))
                    self._api.finish(operations[-1:])
            return operations
        if ref.kind == "globalForwardingRules" and all(not differs(key) for key in ("IPAddress", "portRange")):
            return [self._api.change(ref, "setTarget", {"target": body["target"]})]
        return []

    def _delete(self, refs: Iterable[Ref]) -> None:
        """Delete objects, those first that refer to others."""
        gone = list(refs)
        for kind in reversed(KINDS):
            operations = []
            for ref in gone:
                if ref.kind == kind:
                    with suppress(GoneError, InUseError):
                        operations.append(self._api.change(ref, "delete"))
            with suppress(GoneError, InUseError):
                self._api.finish(operations)

    def _remove(self) -> None:
        """Send nobody anywhere, then delete everything, and the URL map last."""
        endpoint = self._found.endpoint
        if endpoint is None:
            return
        closed = wanted_map(self._place, endpoint, closed=True)
        if not same_map(closed, self._found.map or {}):
            # Nobody can use the objects from here on, and the next run knows of them.
            self._write(closed)
        self._delete(ref for ref, body in self._found.objects.items() if self._is_ours(body))
        with suppress(GoneError):
            self._api.finish([self._api.change(self._place.map, "delete")])


def _names(refs: Iterable[Ref]) -> str:
    return ", ".join(sorted(f"{ref.name} ({ref.kind})" for ref in refs))


def _resolved(found: _Found, ref: Ref) -> Json | None:
    """Give an object as it was sent: of an address, Google shows the number in place of the name."""
    present = found.objects.get(ref)
    if present is None or ref.kind != "globalForwardingRules":
        return present
    for other, body in found.objects.items():
        if other.kind == "globalAddresses" and body.get("address") and body["address"] == present.get("IPAddress"):
            return {**present, "IPAddress": body.get("selfLink", "")}
    return present


def _is_labelled(ref: Ref, wanted: Wanted, present: Mapping[str, Any]) -> bool:
    return ref.kind not in LABELLED or bool((present.get("labels") or {}) == wanted.labels)


def _amiss(ref: Ref, wanted: Wanted, found: _Found) -> tuple[list[Json], list[Json]]:
    """Give what a group lacks, and what it should not hold."""
    if ref not in wanted.inside:
        return [], []
    content = wanted.inside[ref]
    entries = found.inside.get(ref, [])
    lacks = [content] if content and not any(same(content, entry) for entry in entries) else []
    more: list[Json] = [
        {key: entry[key] for key in ("ipAddress", "fqdn", "port") if key in entry}
        for entry in entries
        if not (content and same(content, entry))
    ]
    return lacks, more


__all__ = ["GoogleCloud"]
