# SPDX-FileCopyrightText: The modelfleet maintainers
# SPDX-License-Identifier: GPL-3.0-or-later
"""DNS as the global endpoint: the addresses of the active members, at any server that takes updates (RFC 2136, TSIG).

Two names of one zone carry an endpoint. The record that clients resolve holds the addresses (A, AAAA) of the active
members, or the host name (CNAME) of the only one. ``_modelfleet.RECORD`` holds the definition as a TXT record, which is
also our mark: it has a name of its own, since beside a CNAME nothing may stand, and since others use TXT, too.

A change is one UPDATE message, which the server carries out completely or not at all. Its prerequisites are that all
of these records are still exactly what was read, so no lock is needed: who was overtaken reads again.

Everything is asked by TCP, since a definition is larger than a datagram.
"""

from __future__ import annotations

import base64
import ipaddress
import socket
import time
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

from ansible_collections.modelfleet.serving.plugins.module_utils._endpoint.balancer import (
    BalancerError,
    ChangedMeanwhileError,
    MemberHealth,
    others,
    text_diff,
)
from ansible_collections.modelfleet.serving.plugins.module_utils._endpoint.definition import (
    Endpoint,
    Member,
    require_address,
    require_port,
)
from ansible_collections.modelfleet.serving.plugins.module_utils._endpoint.dns_records import (
    LABEL,
    TYPES,
    record_of,
    strings,
)
from ansible_collections.modelfleet.serving.plugins.module_utils._endpoint.plan import (
    Observed,
    Plan,
    Traffic,
    traffic_weight,
)
from ansible_collections.modelfleet.serving.plugins.module_utils._endpoint.refusals import (
    check_jurisdictions,
    check_models,
    check_own_addresses,
)
from ansible_collections.modelfleet.serving.plugins.module_utils._endpoint.rfc2136_options import DEFAULTS
from ansible_collections.modelfleet.serving.plugins.module_utils._endpoint.stored import OWNERSHIP, unpack
from ansible_collections.modelfleet.serving.plugins.module_utils._errors import InputError
from ansible_collections.modelfleet.serving.plugins.module_utils._names import require_host_name
from ansible_collections.modelfleet.serving.plugins.module_utils._package import import_package

# A message has 64 KiB, with the old definition and the new one in it.
_DEFINITION_BYTES = 28 * 1024
_POLL_SECONDS = 0.1

# What an answer's code means here, and what to do.
_CODES = {
    "REFUSED": "The server's policy does not let this key do that (update-policy, allow-update, allow-query in BIND).",
    "NOTAUTH": "Check the zone's name, and that this server is the zone's primary; a secondary takes no updates.",
    "NOTZONE": "Check that rfc2136.zone is the zone that holds the record, not one above or below it.",
    "NOTIMP": "The server takes no updates by RFC 2136. Turn them on, or use another server.",
    "SERVFAIL": "The server's log says why; a zone that is frozen, or a folder that it cannot write to, is usual.",
    "FORMERR": "The server's log says why.",
}


class RFC2136:
    """The balancer behind :class:`Balancer`.

    :param access: the options by which the server is reached, and the record's name.
    :param adopt: whether records that are not ours may be replaced.
    """

    predicts = False

    def __init__(self, access: Mapping[str, Any], adopt: bool = False) -> None:
        self._dns = _library()
        zone, record = (_domain(access[key], f"rfc2136.{key}") for key in ("zone", "record"))
        if not f".{record}".endswith(f".{zone}"):
            raise InputError(
                f"rfc2136.record: {record!r} does not lie in the zone {zone!r}.",
                hint=f"Use a complete name, such as models.{zone}.",
            )
        self._zone, self._record = self._name(zone), self._name(record)
        self._definition = self._name(require_length(f"{LABEL}.{record}"))
        self._port: int = require_port(access["port"], "rfc2136.port")
        server = require_address(access["server"], "rfc2136.server")
        self._primary = _Server(self._dns, server, ((server, self._port),), access["timeout"], self._keyring(access))
        self._timeout: float = access["timeout"]
        self._patience: float = access["propagation_timeout"]
        for key in ("timeout", "propagation_timeout"):
            if not 0 < access[key] <= 3600:
                raise InputError(f"rfc2136.{key}: {access[key]} is out of range.", hint="Use seconds, more than 0.")
        self._given: list[tuple[str, tuple[tuple[str, int], ...]]] | None = None
        if access["name_servers"] is not None:
            self._given = [
                (entry, (_host_and_port(entry, self._port, f"rfc2136.name_servers[{index}]"),))
                for index, entry in enumerate(access["name_servers"])
            ]
        self._adopt = adopt
        self._found: dict[str, Any] = {}

    def _keyring(self, access: Mapping[str, Any]) -> Any:
        name, secret = access["key_name"], access["key_secret"]
        if (name is None) != (secret is None):
            raise InputError("rfc2136: of key_name and key_secret, one is missing.", hint="Give both, or none.")
        if name is None:
            return None
        try:
            base64.b64decode(secret, validate=True)
            return self._dns.tsigkeyring.from_text({name: (access["key_algorithm"], secret)})
        except (ValueError, self._dns.exception.DNSException):
            # The error may quote what it was given.
            raise InputError(
                "rfc2136.key_secret: this is no key in base64, or key_name is no name.",
                hint="Copy both as tsig-keygen printed them.",
            ) from None

    def _name(self, text: str) -> Any:
        return self._dns.name.from_text(text)

    def defaults(self) -> dict[str, Any]:
        """Give every setting with its default."""
        return dict(DEFAULTS)

    def exclusive(self) -> AbstractContextManager[None]:
        """Keep nobody out: the server itself refuses a change of what was changed meanwhile."""
        return nullcontext()

    def read(self) -> Observed:
        """Ask the primary for the addresses and the definition."""
        with self._primary.connection() as ask:
            self._found = {kind: ask(self._owner(kind), kind) for kind in ("TXT", *TYPES)}
        complaints: list[str] = []
        endpoint = self._stored()
        if endpoint is None:
            return Observed()
        live = self._live()
        wanted = addresses(endpoint)
        known = {record_of(member) for member in endpoint.members}
        for kind, value in sorted(live - wanted - known):
            complaints.append(f"{kind} {value} of {self._record} is no member's")
        for kind in TYPES:
            ttl = self._found[kind].ttl if self._found[kind] else None
            if ttl not in (None, endpoint.settings["ttl"]):
                complaints.append(f"{kind} of {self._record} lives for {ttl} s")
        traffic = {member.name: _traffic(member, record_of(member) in live) for member in endpoint.members}
        return Observed(endpoint, traffic, tuple(complaints))

    def _owner(self, kind: str) -> Any:
        return self._definition if kind == "TXT" else self._record

    def _live(self) -> set[tuple[str, str]]:
        """Give type and value of each record that clients get."""
        return {(kind, _text(kind, rdata)) for kind in TYPES for rdata in self._found[kind] or ()}

    def _stored(self) -> Endpoint | None:
        found = self._found["TXT"]
        problem = ""
        if found:
            try:
                return decode([string for rdata in found for string in rdata.strings])
            except ValueError as error:
                problem = f"the TXT record {self._definition} {error}"
        elif live := sorted(self._live()):
            problem = f"{self._record} has {live[0][0]} {live[0][1]}, and {self._definition} has no mark of ours"
        if problem and not self._adopt:
            raise BalancerError(
                f"{self._record} is not managed by this collection and is left alone: {problem}.",
                hint="Set adopt=true to replace it, or use another rfc2136.record. A wildcard may be what is found.",
            )
        return None

    def health(self) -> dict[str, MemberHealth]:
        """Give nothing: DNS asks no member."""
        return {}

    def addresses(self) -> list[str]:
        """Give the name of the record."""
        return [str(self._record).rstrip(".")]

    def errors(self) -> None:
        """Give nothing: no request passes through DNS."""

    def check(self, plan: Plan) -> None:
        """Refuse what DNS cannot say."""
        if plan.desired is None or not plan.steps:
            return
        check_definition(plan.desired, str(self._record).rstrip("."))
        if any(kind == "CNAME" for kind, _value in addresses(plan.desired)):
            self._check_alone()

    def _check_alone(self) -> None:
        """Refuse a CNAME beside other data: the server would ignore it silently, and leave no address at all."""
        if self._record == self._zone:
            raise InputError(
                f"rfc2136.record: {self._record} is the zone itself, which cannot be a CNAME.",
                hint="Give the member's IP address, or use a name below.",
            )
        if self._found["CNAME"]:
            return
        with self._primary.connection() as ask:
            found = ask(self._record, "ANY")
        beside = sorted(found - {*TYPES, "RRSIG", "NSEC", "NSEC3"})
        if beside:
            raise InputError(
                f"{self._record} has other records ({', '.join(beside)}), beside which a CNAME cannot stand.",
                hint="Give the member's IP address, or use another rfc2136.record.",
            )

    def diff(self, plan: Plan) -> list[dict[str, str]]:
        """Give the change of the record, as in a zone's file."""
        before, after = (
            "".join(
                f"{self._record} {rrset.ttl} {kind} {rdata}\n"
                for kind in TYPES
                if (rrset := entries[kind])
                for rdata in sorted(rdata.to_text() for rdata in rrset)
            )
            for entries in (self._found, self._wanted(plan))
        )
        return text_diff(f"DNS {self._record}", before, after) if plan.steps else []

    def apply(self, plan: Plan) -> None:
        """Send one UPDATE, and wait until every server that answers has it."""
        wanted = self._wanted(plan)
        update = self._dns.update.UpdateMessage(self._zone)
        for kind, found in self._found.items():
            if found:
                update.present(self._owner(kind), *found)
            else:
                update.absent(self._owner(kind), kind)
        changed = [kind for kind, found in self._found.items() if not _same(found, wanted[kind])]
        # Deleted first: the server ignores a CNAME beside addresses, and addresses beside a CNAME.
        for kind in changed:
            if self._found[kind]:
                update.delete(self._owner(kind), kind)
        for kind in changed:
            if wanted[kind]:
                update.add(self._owner(kind), wanted[kind])
        self._primary.update(update)
        self._wait(wanted)

    def _wanted(self, plan: Plan) -> dict[str, Any]:
        """Give the record sets of a plan, by type; ``None`` where there is to be none."""
        wanted: dict[str, Any] = dict.fromkeys(("TXT", *TYPES))
        endpoint = plan.desired
        if endpoint is None:
            return wanted
        texts: dict[str, list[str]] = {}
        for kind, value in sorted(addresses(endpoint)):
            texts.setdefault(kind, []).append(value)
        for kind, values in texts.items():
            wanted[kind] = self._dns.rdataset.from_text("IN", kind, endpoint.settings["ttl"], *values)
        strings = " ".join(f'"{string.decode()}"' for string in encode(endpoint))
        # Nobody but this module asks for it; what it says is as old as the addresses.
        wanted["TXT"] = self._dns.rdataset.from_text("IN", "TXT", endpoint.settings["ttl"], strings)
        return wanted

    def _wait(self, wanted: Mapping[str, Any]) -> None:
        """Wait until no server answers the old records.

        A server that does not answer is not waited for: who asks it gets no old address either.
        """
        with self._primary.connection() as ask:
            serial = ask(self._zone, "SOA")[0].serial
            servers = self._name_servers(ask)
        deadline = time.monotonic() + self._patience

        def watch(server: _Server) -> str:
            while True:
                try:
                    with server.connection() as ask:
                        found = {kind: ask(self._owner(kind), kind) for kind in wanted}
                        # One that is further on has our change, and somebody else's after it.
                        if all(_same(found[kind], wanted[kind]) for kind in wanted) or _reached(
                            ask(self._zone, "SOA"), serial
                        ):
                            return ""
                except BalancerError as error:
                    return error.message
                if time.monotonic() >= deadline:
                    return "old"
                time.sleep(_POLL_SECONDS)

        if not servers:
            return
        with ThreadPoolExecutor(max_workers=len(servers)) as pool:
            outcomes = dict(zip((server.label for server in servers), pool.map(watch, servers), strict=True))
        old = [label for label, outcome in outcomes.items() if outcome == "old"]
        if old:
            raise BalancerError(
                f"{self._record} is changed at the primary, and after {self._patience:g} s {', '.join(old)} still"
                f" answers what was before.",
                hint="Look at the zone transfer (notify, allow-transfer) in the servers' logs; or name the servers that"
                " count by rfc2136.name_servers.",
            )
        if all(outcomes.values()):
            raise BalancerError(
                f"{self._record} is changed at the primary, and no name server of {self._zone} answers:"
                f" {'; '.join(outcomes.values())}",
                hint="Name the servers that count by rfc2136.name_servers.",
            )

    def _name_servers(self, ask: Callable[[Any, str], Any]) -> list[_Server]:
        """Give the servers that clients' resolvers ask: those given, or those that the zone names."""
        given = self._given
        if given is None:
            given = []
            for rdata in ask(self._zone, "NS") or ():
                host = rdata.target.to_text(omit_final_dot=True)
                # A zone may name servers inside itself, which nobody but its own servers knows yet.
                inside = rdata.target.is_subdomain(self._zone)
                found = (
                    [entry.to_text() for kind in ("A", "AAAA") for entry in ask(rdata.target, kind) or ()]
                    if inside
                    else []
                )
                given.append((host, tuple((address, self._port) for address in found or [host])))
        # Not signed: a secondary has its own keys, or none.
        return [_Server(self._dns, label, places, self._timeout, None) for label, places in given]


class _Server:
    """One name server.

    :param places: addresses and ports at which it may be found; the first that answers is taken.
    :param timeout: seconds for one answer.
    :param keyring: the key that signs every message and every answer; ``None`` for none.
    """

    def __init__(self, dns: Any, label: str, places: Sequence[tuple[str, int]], timeout: float, keyring: Any) -> None:
        self.label = label
        self._dns, self._places, self._timeout, self._keyring = dns, places, timeout, keyring

    @contextmanager
    def connection(self) -> Iterator[Callable[[Any, str], Any]]:
        """Give a function that asks for a name and a type over one connection.

        It gives the record set, ``None`` without one; for ``ANY`` the names of the types that there are.
        """
        with self._connect() as stream:

            def ask(name: Any, kind: str) -> Any:
                query = self._dns.message.make_query(name, kind)
                query.flags &= ~self._dns.flags.RD
                answer = self._exchange(stream, query)
                code = self._dns.rcode.to_text(answer.rcode())
                if code not in ("NOERROR", "NXDOMAIN"):
                    raise self._error(f"answers {code} when it is asked for {kind} {name}", _CODES.get(code, ""))
                if not answer.flags & self._dns.flags.AA:
                    raise self._error(
                        f"is not authoritative for {name}",
                        "Name a server that has the zone itself, not a resolver, and check rfc2136.zone.",
                    )
                if kind == "ANY":
                    return {self._dns.rdatatype.to_text(rrset.rdtype) for rrset in answer.answer if rrset.name == name}
                wanted = self._dns.rdatatype.from_text(kind)
                found = answer.get_rrset(answer.answer, name, self._dns.rdataclass.IN, wanted)
                return found.to_rdataset() if found else None

            yield ask

    def update(self, message: Any) -> None:
        """Send an UPDATE.

        :raises ChangedMeanwhileError: when a prerequisite does not hold.
        """
        with self._connect() as stream:
            answer = self._exchange(stream, message)
        code = self._dns.rcode.to_text(answer.rcode())
        if code in ("NXRRSET", "YXRRSET", "NXDOMAIN", "YXDOMAIN"):
            raise ChangedMeanwhileError(
                f"the records at {self.label} are no longer what was read ({code}); nothing was changed.",
                hint="Somebody else changes them all the time, or a wildcard stands in for them. Run this again.",
            )
        if code != "NOERROR":
            raise self._error(f"answers {code} to the update; nothing was changed", _CODES.get(code, ""))

    def _connect(self) -> socket.socket:
        problems = []
        for place in self._places:
            try:
                stream = socket.create_connection(place, self._timeout)
            except OSError as error:
                problems.append(f"{place[0]} port {place[1]}: {error}")
                continue
            # As dnspython wants it.
            stream.setblocking(False)
            return stream
        raise self._error(
            f"cannot be reached by TCP ({'; '.join(problems)})",
            "Check the address, the port and the firewall: DNS needs TCP, too.",
        )

    def _exchange(self, stream: socket.socket, message: Any) -> Any:
        dns = self._dns
        if self._keyring is not None:
            message.use_tsig(self._keyring)
        try:
            answer = dns.query.tcp(message, self.label, timeout=self._timeout, sock=stream)
        except dns.exception.Timeout:
            updating = isinstance(message, dns.update.UpdateMessage)
            raise self._error(
                f"does not answer within {self._timeout:g} s"
                + ("; whether it made the change is not known" if updating else ""),
                "Run this again, which goes on from what it finds.",
            ) from None
        except dns.tsig.PeerBadKey:
            raise self._error(
                "does not know this key (BADKEY)",
                "Check rfc2136.key_name and key_algorithm, and that the server has that key.",
            ) from None
        except dns.tsig.PeerBadTime:
            raise self._error(
                "finds that the clocks differ (BADTIME)", "Set the clock of this machine, or of the server (NTP)."
            ) from None
        except (
            dns.tsig.PeerError,
            dns.tsig.BadSignature,
            dns.tsig.BadKey,
            dns.tsig.BadAlgorithm,
            dns.tsig.BadTime,
        ) as error:
            raise self._error(
                f"and this task do not have the same key ({type(error).__name__})", "Check rfc2136.key_secret."
            ) from None
        except (OSError, EOFError, dns.exception.DNSException) as error:
            raise self._error(
                f"gave no usable answer: {error or type(error).__name__}",
                "The server's log may say why. Run this again.",
            ) from error
        if self._keyring is not None and not answer.had_tsig and answer.rcode() == dns.rcode.NOERROR:
            raise self._error(
                "did not sign its answer, so it may be somebody else's", "Check that the server has this key."
            )
        return answer

    def _error(self, problem: str, hint: str) -> BalancerError:
        return BalancerError(f"the name server {self.label} {problem}.", hint=hint)


def addresses(endpoint: Endpoint) -> set[tuple[str, str]]:
    """Give type and value of each record that the endpoint has to have: those of the active members."""
    return {record_of(member) for member in endpoint.members if member.state == "active"}


def check_definition(endpoint: Endpoint, record: str) -> None:
    """Refuse what a record cannot say.

    :raises InputError: naming the balancers that can.
    """
    for what, reason in (
        ("weight", "DNS gives every address an equal share"),
        ("port", "DNS carries no port"),
    ):
        if len({getattr(member, what) for member in endpoint.members}) > 1:
            each = ", ".join(f"{member.name} {getattr(member, what)}" for member in endpoint.members)
            raise InputError(
                f"rfc2136: the members have different {what}s ({each}), and {reason}.",
                hint=f"Give all members one {what}{others(f'{what}s')}",
            )
    check_models(endpoint.models, record, "rfc2136")
    check_jurisdictions(endpoint, "rfc2136")
    _check_addresses(endpoint, record)
    size = sum(len(string) for string in encode(endpoint))
    if size > _DEFINITION_BYTES:
        raise InputError(
            f"rfc2136: the definition has {size} bytes, and {_DEFINITION_BYTES} fit into the zone.",
            hint=f"Use fewer models or members{others('large definitions')}",
        )


def _check_addresses(endpoint: Endpoint, record: str) -> None:
    check_own_addresses(endpoint, "rfc2136", record)
    published = addresses(endpoint)
    names = sorted(value.rstrip(".") for kind, value in published if kind == "CNAME")
    if names and len(published) > 1:
        raise InputError(
            f"rfc2136: {names[0]} is a host name. A DNS name can stand for one host name only (CNAME), with no other"
            f" address beside it, and {len(published)} members are active.",
            hint="Give the members' IP addresses, let one alone be active and the others stand by"
            + others("host names"),
        )


def encode(endpoint: Endpoint) -> list[bytes]:
    """Give the strings of the TXT record."""
    return [string.encode() for string in (OWNERSHIP, *strings(endpoint.stored()))]


def decode(strings: Iterable[bytes]) -> Endpoint:
    """Read back what :func:`encode` gave.

    :raises ValueError: saying what it is instead.
    """
    mark, *chunks = strings
    if mark != OWNERSHIP.encode():
        raise ValueError("is somebody else's")
    try:
        return Endpoint.from_dict(unpack(b"".join(chunks)))
    except (KeyError, TypeError, ValueError, zlib.error) as error:
        raise ValueError(f"is damaged ({error!r})") from error


def require_length(name: str) -> str:
    """Check that a name is short enough to be one."""
    if len(name) > 253:
        raise InputError(f"rfc2136.record: {name} is too long.", hint="A complete name has 253 characters at most.")
    return name


def _domain(value: str, option: str) -> str:
    return require_host_name(value.removesuffix("."), option)


def _host_and_port(value: str, port: int, option: str) -> tuple[str, int]:
    """Read ``HOST``, ``HOST:PORT``, an IPv6 address, or ``[IPV6]:PORT``."""
    host, colon, digits = value.rpartition(":")
    if not colon or (":" in host and not host.startswith("[")):
        return require_address(value, option), port
    if not (digits.isascii() and digits.isdigit()):
        raise InputError(f"{option}: {value!r} is no server.", hint="Use HOST or HOST:PORT.")
    return require_address(host.removeprefix("[").removesuffix("]"), option), require_port(int(digits), option)


def _text(kind: str, rdata: Any) -> str:
    # An IPv6 address can be written in several ways.
    return str(rdata.target) if kind == "CNAME" else str(ipaddress.ip_address(rdata.address))


def _traffic(member: Member, published: bool) -> Traffic:
    """Give what a member gets; other than wanted only where somebody changed the record by hand."""
    if published == (member.state == "active"):
        return Traffic(traffic_weight(member))
    if member.state == "standby":
        return Traffic(member.weight, "active")
    return Traffic(member.weight if published else 0)


def _same(found: Any, wanted: Any) -> bool:
    """Tell whether two record sets are alike, with their times to live."""
    if not found or not wanted:
        return not found and not wanted
    return bool(found == wanted and found.ttl == wanted.ttl)


def _reached(soa: Any, serial: int) -> bool:
    """Tell whether a zone is at a serial number or behind it, in the arithmetic of RFC 1982."""
    return bool(soa) and (soa[0].serial - serial) % 2**32 < 2**31


def _library() -> Any:
    """Import dnspython, which this balancer alone needs."""
    for module in ("flags", "message", "query", "rcode", "tsig", "tsigkeyring", "update"):
        import_package(f"dns.{module}", "dnspython")
    return import_package("dns", "dnspython")


__all__ = ["OWNERSHIP", "RFC2136"]
