# SPDX-FileCopyrightText: The modelfleet maintainers
# SPDX-License-Identifier: GPL-3.0-or-later
"""Real name servers: a primary, a secondary and a caching resolver, on free ports of 127.0.0.1."""

from __future__ import annotations

import base64
import signal
import socket
import subprocess
import time
from collections import Counter
from pathlib import Path
from typing import Any

import dns.message
import dns.opcode
import dns.query
import dns.rcode
import dns.rdatatype
import dns.tsigkeyring
import dns.update

from ansible_collections.modelfleet.serving.plugins.module_utils._call import Call, Result
from ansible_collections.modelfleet.serving.plugins.module_utils._features import global_endpoint, global_endpoint_info

from .lab import GOLDEN, complete, free_ports, stop

ZONE = "example.test"
RECORD = f"models.{ZONE}"
DEFINITION = f"_modelfleet.{RECORD}"
# Documentation's addresses: nobody connects to them here.
ADDRESSES = {"a": "192.0.2.1", "b": "192.0.2.2", "c": "192.0.2.3"}
SECRETS = {name: base64.b64encode(name.encode() * 4).decode() for name in ("endpoint", "stranger")}

_OPTIONS = """
options {{
    directory "{folder}";
    listen-on port {port} {{ 127.0.0.1; }};
    listen-on-v6 {{ none; }};
    pid-file none;
    session-keyfile none;
    managed-keys-directory "{folder}";
    dnssec-validation no;
    notify-delay 0;
    {more}
}};
controls {{ }};
"""
_PRIMARY = """
zone "{zone}" {{
    type primary;
    file "zone";
    notify explicit;
    also-notify {{ 127.0.0.1 port {secondary}; }};
    {policy}
}};
"""
# The least that the module needs.
POLICY = f"""
    update-policy {{
        grant endpoint name {RECORD} A AAAA CNAME;
        grant endpoint name {DEFINITION} TXT;
    }};
"""
_SECONDARY = """
zone "{zone}" {{
    type secondary;
    file "copy";
    primaries {{ 127.0.0.1 port {primary}; }};
    allow-notify {{ 127.0.0.1; }};
}};
"""
_RESOLVER = """
zone "{zone}" {{ type forward; forward only; forwarders {{ 127.0.0.1 port {secondary}; }}; }};
"""
_ZONE = f"""\
$TTL 300
@ SOA ns.{ZONE}. hostmaster.{ZONE}. 1 300 60 86400 1
@ NS ns.{ZONE}.
@ TXT "the zone's own"
ns A 127.0.0.1
other A 192.0.2.99
*.wild A 192.0.2.98
"""


class DNSLab:
    """The servers and the module in front of them; the members are a, b and c."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.ports = dict(zip(("primary", "secondary", "resolver"), free_ports(3), strict=True))
        self.servers: dict[str, subprocess.Popen[bytes]] = {}
        # What else is to end with the lab.
        self.backends: dict[str, subprocess.Popen[str]] = {}
        (folder / "primary").mkdir()
        (folder / "primary" / "zone").write_text(_ZONE)
        for name in self.ports:
            self.start(name)

    def start(self, name: str, policy: str = POLICY) -> None:
        """Start a server on what its folder holds, and wait until it answers."""
        folder = self.folder / name
        folder.mkdir(exist_ok=True)
        keys = "".join(
            f'key {key} {{ algorithm hmac-sha256; secret "{secret}"; }};\n' for key, secret in SECRETS.items()
        )
        zone = {"primary": _PRIMARY, "secondary": _SECONDARY, "resolver": _RESOLVER}[name]
        more = "recursion yes; minimal-responses yes;" if name == "resolver" else "recursion no;"
        (folder / "named.conf").write_text(
            keys
            + _OPTIONS.format(folder=folder, port=self.ports[name], more=more)
            + zone.format(zone=ZONE, policy=policy, **self.ports)
        )
        with (folder / "log").open("ab") as log:
            self.servers[name] = subprocess.Popen(
                ["named", "-g", "-n", "1", "-c", str(folder / "named.conf")], stdout=log, stderr=log
            )
        for _unused in range(300):
            try:
                if self.ask(name, ZONE, "SOA", timeout=0.1):
                    return
            except OSError:
                pass
            time.sleep(0.02)
        raise RuntimeError((folder / "log").read_text())

    def stop(self, name: str) -> None:
        """End a server."""
        server = self.servers.pop(name)
        server.send_signal(signal.SIGCONT)
        server.kill()
        server.wait()

    def pause(self, name: str) -> None:
        """Stop a server so that connections are still taken, and nobody answers."""
        stop(self.servers[name])

    def resume(self, name: str) -> None:
        """Let it go on."""
        self.servers[name].send_signal(signal.SIGCONT)

    def close(self) -> None:
        """End every process that was started here."""
        for process in self.backends.values():
            process.kill()
            process.wait()
        for name in list(self.servers):
            self.stop(name)

    def ask(self, name: str, record: str = RECORD, kind: str = "A", timeout: float = 1) -> dict[str, int]:
        """Ask a server as a client's resolver does, by UDP and then by TCP; gives time to live by value."""
        query = dns.message.make_query(record, kind)
        try:
            # What comes late to a question that had this port before is no answer.
            answer, _tcp = dns.query.udp_with_fallback(
                query, "127.0.0.1", port=self.ports[name], timeout=timeout, ignore_unexpected=True
            )
        except (dns.exception.Timeout, EOFError) as error:
            raise OSError(str(error)) from error
        return {
            rdata.to_text(): rrset.ttl
            for rrset in answer.answer
            if rrset.rdtype == dns.rdatatype.from_text(kind)
            for rdata in rrset
        }

    def published(self, name: str = "primary") -> str:
        """Name the members whose addresses a server answers."""
        answered = self.ask(name)
        known = {address: member for member, address in ADDRESSES.items()}
        return "".join(sorted(known.get(address, "?") for address in answered))

    def by_hand(self, *lines: str, key: str = "endpoint") -> None:
        """Change the zone as a person with nsupdate would: 'add NAME TTL TYPE VALUE' or 'delete NAME TYPE'."""
        update = dns.update.UpdateMessage(ZONE, keyring=dns.tsigkeyring.from_text({key: ("hmac-sha256", SECRETS[key])}))
        for line in lines:
            verb, name, *rest = line.split(maxsplit=4)
            if verb == "add":
                update.add(dns.name.from_text(name), int(rest[0]), rest[1], rest[2])
            else:
                update.delete(dns.name.from_text(name), rest[0])
        answer = dns.query.tcp(update, "127.0.0.1", port=self.ports["primary"], timeout=5)
        assert answer.rcode() == dns.rcode.NOERROR, answer

    def params(self, **changed: Any) -> dict[str, Any]:
        """Give a task's options as Ansible would, after the argument spec."""
        given = {
            "balancer": "rfc2136",
            "name": "models",
            "members": [{"name": name, "address": address} for name, address in ADDRESSES.items()],
            "models": [{"name": "half_plus_two", "golden": [GOLDEN]}],
            **changed,
        }
        given["rfc2136"] = {
            "server": "127.0.0.1",
            "port": self.ports["primary"],
            "zone": ZONE,
            "record": RECORD,
            "name_servers": [f"127.0.0.1:{self.ports[name]}" for name in ("primary", "secondary")],
            "key_name": "endpoint",
            "key_secret": SECRETS["endpoint"],
            "ttl": 2,
            **changed.get("rfc2136", {}),
        }
        return complete(global_endpoint.FEATURE.arguments, given)

    def run(self, check: bool = False, **changed: Any) -> Result:
        """Run the feature behind the module global_endpoint."""
        return global_endpoint.FEATURE.run(Call(self.params(**changed), check_mode=check))

    def info(self, **changed: Any) -> dict[str, Any]:
        """Run the feature behind the module global_endpoint_info."""
        params = self.params(**changed)
        arguments = global_endpoint_info.FEATURE.arguments
        return global_endpoint_info.FEATURE.run(Call({name: params[name] for name in arguments})).values

    def states(self) -> dict[str, tuple[str, int]]:
        """Give state and weight in force of each member."""
        return {member["name"]: (member["state"], member["traffic"]) for member in self.info()["members"]}


class Calls:
    """Counts what is sent to the name servers by TCP, and can cut a run off: before a call, or before its answer."""

    class CutError(BaseException):
        """The process ends here."""

    def __init__(self, cut: int | None = None, after: bool = False) -> None:
        self.kinds: Counter[str] = Counter()
        self._tcp = dns.query.tcp
        self._cut, self._after = cut, after

    def __call__(self, message: dns.message.Message, *args: Any, **more: Any) -> dns.message.Message:
        """Stand in for ``dns.query.tcp``."""
        number = self.kinds.total()
        if number == self._cut and not self._after:
            raise self.CutError
        self.kinds[dns.opcode.to_text(message.opcode())] += 1
        answer = self._tcp(message, *args, **more)
        if number == self._cut:
            raise self.CutError
        return answer


def unused_port() -> int:
    """Give a port at which nobody listens."""
    with socket.socket() as entry:
        entry.bind(("127.0.0.1", 0))
        port: int = entry.getsockname()[1]
        return port
