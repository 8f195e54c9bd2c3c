# SPDX-FileCopyrightText: The modelfleet maintainers
# SPDX-License-Identifier: GPL-3.0-or-later
"""AWS Route 53 as the global endpoint: a record set a member that takes traffic, a health check a member and model.

``_modelfleet.RECORD`` is a TXT record with the definition, the ids of the health checks in use, and a nonce. It is our
mark and our lock: every change is one batch, a transaction, that deletes exactly the TXT record that was read. When
somebody else was faster, Route 53 refuses the whole batch.

Health checks are outside of that transaction. So they are made before the batch that uses them, and deleted after the
batch that does not. One that is not in the TXT record is never used, only deleted, and only after a batch that has
replaced the TXT record: so no writer can delete what another one is about to use. The TXT record is the first thing
that is made and the last that is deleted, so whatever a run leaves behind that was cut off, the next one finds.
"""

from __future__ import annotations

import json
import secrets
import time
from collections.abc import Iterable, Mapping
from contextlib import AbstractContextManager, nullcontext, suppress
from typing import Any

from ansible_collections.modelfleet.serving.plugins.module_utils._endpoint.balancer import (
    BalancerError,
    ChangedMeanwhileError,
    MemberHealth,
    text_diff,
)
from ansible_collections.modelfleet.serving.plugins.module_utils._endpoint.definition import (
    Endpoint,
)
from ansible_collections.modelfleet.serving.plugins.module_utils._endpoint.dns_records import (
    LABEL,
    TYPES,
    record_of,
)
from ansible_collections.modelfleet.serving.plugins.module_utils._endpoint.plan import (
    Observed,
    Plan,
    Traffic,
    traffic_weight,
)
from ansible_collections.modelfleet.serving.plugins.module_utils._endpoint.route53_api import Api, UnsureError
from ansible_collections.modelfleet.serving.plugins.module_utils._endpoint.route53_options import DEFAULTS
from ansible_collections.modelfleet.serving.plugins.module_utils._endpoint.route53_records import (
    NEW,
    Checks,
    Json,
    Mark,
    all_of,
    changes,
    check_definition,
    decode,
    describe,
    encode,
    reference_prefix,
    same_check,
    wanted_checks,
    wanted_records,
)
from ansible_collections.modelfleet.serving.plugins.module_utils._errors import InputError
from ansible_collections.modelfleet.serving.plugins.module_utils._names import require_host_name

# The account's requests are for all who use it.
_HEALTH_SECONDS = 5.0


class Route53:
    """The balancer behind :class:`Balancer`.

    :param access: the options by which Route 53 is reached, the hosted zone and the record.
    :param adopt: whether records that are not ours may be replaced.
    """

    predicts = False

    def __init__(self, access: Mapping[str, Any], adopt: bool = False) -> None:
        self._access = access
        self._adopt = adopt
        self._record = require_host_name(access["record"].removesuffix(".").lower(), "route53.record")
        self._mark_name = f"{LABEL}.{self._record}"
        if len(self._mark_name) > 253:
            raise InputError(f"route53.record: {self._record} is too long.", hint="Use a shorter name.")
        self._api = Api(access)
        self._zone = self._zone_name = ""
        # What was read last, as Route 53 gave it.
        self._mark_record: Json | None = None
        self._mark: Mark | None = None
        self._records: list[Json] = []
        self._other_types: set[str] = set()
        self._owned: dict[str, Json] = {}
        # The same before it was changed, for the diff.
        self._before: tuple[list[Json], Mark | None] = ([], None)
        self._asked = float("-inf")

    def defaults(self) -> dict[str, Any]:
        """Give every setting with its default."""
        return dict(DEFAULTS)

    def exclusive(self) -> AbstractContextManager[None]:
        """Keep nobody out: Route 53 refuses the batch of who comes second."""
        return nullcontext()

    def read(self) -> Observed:
        """Read the definition, the records and the health checks."""
        if not self._zone:
            self._zone, self._zone_name = self._api.zone(self._access["hosted_zone"])
            if self._record != self._zone_name and not self._record.endswith(f".{self._zone_name}"):
                raise InputError(
                    f"route53.record: {self._record} is not in the zone {self._zone_name}.",
                    hint="Give the complete name, or another hosted_zone.",
                )
        self._mark_record, self._mark, problem = self._read_mark()
        found = self._api.records(self._zone, self._record)
        self._records = [entry for entry in found if entry["Type"] in TYPES]
        self._other_types = {entry["Type"] for entry in found} - set(TYPES)
        self._owned = self._api.checks(reference_prefix(self._zone, self._record))
        self._before = (self._records, self._mark)
        if self._mark is None:
            foreign = [problem] if problem else []
            if self._records:
                foreign.append(f"{self._record} has records that were made by hand or by another tool")
            if foreign and not self._adopt:
                raise BalancerError(
                    f"{' and '.join(foreign)}; nothing is changed.",
                    hint="Set adopt=true to replace them, or use another record.",
                )
            return Observed()
        return self._observed(self._mark)

    def _read_mark(self) -> tuple[Json | None, Mark | None, str]:
        """Give the TXT record, what it holds, and what is wrong with it."""
        found = next(
            (entry for entry in self._api.records(self._zone, self._mark_name) if entry["Type"] == "TXT"), None
        )
        if found is None:
            return None, None, ""
        try:
            return found, decode([value["Value"] for value in found.get("ResourceRecords", ())]), ""
        except ValueError as error:
            return found, None, f"the TXT record {self._mark_name} {error}"

    def _observed(self, mark: Mark) -> Observed:
        endpoint = mark.endpoint
        complaints = []
        checks = self._usable(endpoint, mark)
        changed = sorted(name for name, usable in checks.items() if usable is None)
        if changed:
            complaints.append(f"health checks of {', '.join(changed)} are missing, or were changed by hand")
        left = set(self._owned) - mark.used()
        if left:
            complaints.append(f"{len(left)} health checks are left by a change that was interrupted")
        wanted = wanted_records(endpoint, self._record, {name: known.record for name, known in mark.checks.items()})
        if not self._records:
            return Observed(endpoint, None, (*complaints, "its records are missing"))
        traffic = None
        if endpoint.settings["policy"] == "weighted":
            traffic = self._traffic(endpoint)
        shown = {(record_of(member)[0], member.name) for member in endpoint.members} if traffic else set()
        differ = self._differences(wanted, shown)
        if differ:
            complaints.append(f"records were changed by hand, or by another version ({', '.join(sorted(differ))})")
        return Observed(endpoint, traffic, tuple(complaints))

    def _differences(self, wanted: list[Json], shown: set[tuple[str, str]]) -> set[str]:
        """Name the records that are not as wanted.

        :param shown: those whose weight, or absence, shows as a member's traffic already.
        """
        found, expected = ({_key(entry): entry for entry in entries} for entries in (self._records, wanted))
        differ = set()
        for key in found.keys() | expected.keys():
            have, want = found.get(key), expected.get(key)
            told = key in shown and (have is None or want is None or _without_weight(have) == _without_weight(want))
            if have != want and not told:
                differ.add(key[1] or self._record)
        return differ

    def _usable(self, endpoint: Endpoint, mark: Mark) -> dict[str, Checks | None]:
        """Give the health checks in use by member; ``None`` for those of a member that are not as wanted."""
        usable: dict[str, Checks | None] = {}
        for member in endpoint.members:
            wanted = wanted_checks(endpoint, self._record, member)
            if not wanted:
                continue
            known = mark.checks.get(member.name)
            usable[member.name] = known if known and self._fits(known, wanted) else None
        return usable

    def _fits(self, known: Checks, wanted: Mapping[str, Json]) -> bool:
        if set(known.models) != set(wanted) or not known.ids() <= set(self._owned):
            return False
        if not all(same_check(self._owned[known.models[model]], config) for model, config in wanted.items()):
            return False
        leaves = set(known.models.values())
        if len(leaves) == 1:
            return known.record in leaves
        return same_check(self._owned[known.record], all_of(sorted(leaves)))

    def _traffic(self, endpoint: Endpoint) -> dict[str, Traffic]:
        """Give what the records give each member; other than wanted only where somebody changed them by hand."""
        weights = {_key(entry): entry.get("Weight", 0) for entry in self._records}
        traffic = {}
        for member in endpoint.members:
            found = weights.get((record_of(member)[0], member.name))
            live = Traffic(traffic_weight(member))
            if member.state == "active":
                live = Traffic(found or 0)
            elif member.state == "standby" and found != 0:
                live = Traffic(found, "active") if found else Traffic(0, "drained")
            elif member.state == "drained" and found is not None:
                live = Traffic(found, "" if found else "standby")
            traffic[member.name] = live
        return traffic

    def health(self) -> dict[str, MemberHealth]:
        """Give what Route 53's checkers found last, of each member by model. Asks at most every few seconds."""
        time.sleep(max(0.0, self._asked + _HEALTH_SECONDS - time.monotonic()))
        self._asked = time.monotonic()
        if self._mark is None:
            self.read()
        members = {}
        for name, checks in (self._mark.checks if self._mark else {}).items():
            found = {entry: self._api.verdict(entry) for entry in sorted(set(checks.models.values()))}
            models = {model: not found[entry] for model, entry in checks.models.items()}
            reasons = {model: found[entry] for model, entry in checks.models.items() if found[entry]}
            members[name] = MemberHealth(all(models.values()), models, reasons)
        return members

    def addresses(self) -> list[str]:
        """Give the name of the record."""
        return [self._record]

    def errors(self) -> int | None:
        """Give nothing: no answer passes through DNS."""
        return None

    def check(self, plan: Plan) -> None:
        """Refuse what records in Route 53 cannot say."""
        if plan.desired is None:
            return
        check_definition(plan.desired, self._record, self._zone_name)
        cname = any(entry["Type"] == "CNAME" for entry in self._after(plan.desired))
        if cname and self._other_types:
            raise InputError(
                f"route53: {self._record} has records of the type {', '.join(sorted(self._other_types))}, beside which"
                f" no host name can stand (CNAME).",
                hint="Give the members' IP addresses, or use another record.",
            )

    def diff(self, plan: Plan) -> list[dict[str, str]]:
        """Give the change of the records and of the health checks."""
        if not plan.steps:
            return []
        before = self._before[0]
        after = self._after(plan.desired) if plan.desired else []
        texts = []
        for entries, endpoint in ((before, plan.observed.endpoint), (after, plan.desired)):
            lines = [describe(entry) for entry in entries]
            for member in endpoint.members if endpoint else ():
                wanted = wanted_checks(endpoint, self._record, member) if endpoint else {}
                lines += [
                    f"health check of {member.name} for {model}: {json.dumps(config, sort_keys=True)}"
                    for model, config in wanted.items()
                ]
            texts.append("".join(f"{line}\n" for line in lines))
        return text_diff(f"records of {self._record}", *texts)

    def _after(self, desired: Endpoint) -> list[Json]:
        """Give the records as they will be, as far as that is known before."""
        mark = self._before[1]
        usable = self._usable(desired, mark) if mark else {}
        ids = {}
        for member in desired.members:
            if wanted_checks(desired, self._record, member):
                known = usable.get(member.name)
                ids[member.name] = known.record if known else NEW
        return wanted_records(desired, self._record, ids)

    def apply(self, plan: Plan) -> None:
        """Make the health checks, change all records in one transaction, wait, and delete what nobody uses."""
        if plan.desired is None:
            self._remove()
            return
        if self._mark is None:
            # The intent, so that the next run finds what this one leaves behind when it is cut off.
            self._write(Mark(plan.desired), self._records)
        made: list[str] = []
        try:
            mark = Mark(plan.desired, self._make_checks(plan.desired, made))
            ids = {name: checks.record for name, checks in mark.checks.items()}
            change = self._write(mark, wanted_records(plan.desired, self._record, ids))
        except UnsureError:
            raise
        except BalancerError:
            # Nobody uses these, and nobody will.
            with suppress(BalancerError):
                self._delete(reversed(made))
            raise
        self._api.wait(change, self._record)
        # Only now, since until then some name server may still go by an old one.
        self._delete(set(self._owned) - mark.used())

    def _make_checks(self, desired: Endpoint, made: list[str]) -> dict[str, Checks]:
        """Give the health checks of all members, and make those that are not there.

        :param made: gets the ids of those that are made.
        """
        usable = self._usable(desired, self._mark) if self._mark else {}
        checks = {}
        for member in desired.members:
            wanted = wanted_checks(desired, self._record, member)
            known = usable.get(member.name)
            if known is not None:
                checks[member.name] = known
            elif wanted:
                checks[member.name] = self._make(desired.name, member.name, wanted, made)
        return checks

    def _make(self, endpoint: str, member: str, wanted: Mapping[str, Json], made: list[str]) -> Checks:
        known = self._mark.checks.get(member) if self._mark else None
        models: dict[str, str] = {}
        for model, config in wanted.items():
            same = next((models[other] for other in models if wanted[other] == config), None)
            old = known.models.get(model, "") if known else ""
            if same is None and old in self._owned and same_check(self._owned[old], config):
                same = old
            models[model] = same or self._create(endpoint, member, model, config, made)
        leaves = set(models.values())
        if len(leaves) == 1:
            return Checks(leaves.pop(), models)
        return Checks(self._create(endpoint, member, "all models", all_of(sorted(leaves)), made), models)

    def _create(self, endpoint: str, member: str, model: str, config: Json, made: list[str]) -> str:
        reference = reference_prefix(self._zone, self._record) + secrets.token_hex(12)
        created = self._api.create_check(reference, config)
        made.append(created)
        # Its mark is the reference; these are for people, who see Name in the console, and for the bill.
        self._api.tag(
            created,
            {
                "Name": f"{self._record} {member} {model}",
                "modelfleet:endpoint": endpoint,
                "modelfleet:record": self._record,
                "modelfleet:member": member,
            },
        )
        return created

    def _write(self, mark: Mark, records: list[Json]) -> str:
        """Make the records and the definition be as given, in one transaction; gives the id of the change.

        :raises ChangedMeanwhileError: when they are no longer as they were read.
        """
        mark = Mark(mark.endpoint, mark.checks, secrets.token_hex(8))
        txt = {
            "Name": f"{self._mark_name}.",
            "Type": "TXT",
            # Nobody needs an old one.
            "TTL": 0,
            "ResourceRecords": [{"Value": value} for value in encode(mark)],
        }
        before = [*self._records, *([self._mark_record] if self._mark_record else [])]
        change = self._change(changes(before, [*records, txt]), txt)
        self._mark, self._mark_record, self._records = mark, txt, list(records)
        return change

    def _change(self, batch: list[Json], txt: Json | None) -> str:
        """Send a batch. An answer that was lost is made up for: the definition tells whether it was carried out.

        :param txt: the definition afterwards.
        """
        old = self._mark_record
        try:
            return self._api.change(self._zone, batch)
        except BalancerError as error:
            try:
                now, moved = self._read_mark()[0], self._moved()
            except BalancerError as silence:
                raise UnsureError(f"{error.message} {silence.message}", hint=silence.hint) from error
            if _values(now) == _values(txt) != _values(old):
                # It was the second try that failed. To learn when all name servers have it, it is written once more.
                again = {"Action": "UPSERT", "ResourceRecordSet": txt} if txt else None
                return self._api.change(self._zone, [again]) if again else ""
            if _values(now) != _values(old) or moved:
                raise ChangedMeanwhileError(
                    f"the records of {self._record} are no longer what was read; nothing was changed.",
                    hint="Somebody else changes them all the time. Run this again.",
                ) from error
            raise

    def _moved(self) -> bool:
        found = [entry for entry in self._api.records(self._zone, self._record) if entry["Type"] in TYPES]
        return found != self._records

    def _remove(self) -> None:
        """Take the records away, then the health checks, and the definition last."""
        if self._mark is None:
            return
        if self._owned:
            # Nobody can use the health checks from here on, and the next run knows of them.
            self._api.wait(self._write(Mark(self._mark.endpoint), []), self._record)
            self._delete(self._owned)
        before = [*self._records, *([self._mark_record] if self._mark_record else [])]
        change = self._change(changes(before, []), None)
        self._mark = self._mark_record = None
        self._records = []
        if change:
            self._api.wait(change, self._record)

    def _delete(self, checks: Iterable[str]) -> None:
        """Delete health checks, those first that refer to others."""
        for entry in sorted(checks, key=lambda entry: self._owned.get(entry, {}).get("Type") != "CALCULATED"):
            self._api.delete_check(entry)


def _values(record: Json | None) -> set[str]:
    return {entry["Value"] for entry in (record or {}).get("ResourceRecords", ())}


def _key(record: Json) -> tuple[str, str]:
    return record["Type"], record.get("SetIdentifier", "")


def _without_weight(entry: Json) -> Json:
    return {key: value for key, value in entry.items() if key != "Weight"}


__all__ = ["Route53"]
