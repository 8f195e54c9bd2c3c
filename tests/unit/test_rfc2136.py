# SPDX-FileCopyrightText: The modelfleet maintainers
# SPDX-License-Identifier: GPL-3.0-or-later
"""What of the balancer rfc2136 is decided without a name server; tests/balancers has the rest, with real ones."""

from __future__ import annotations

import base64
import sys
import zlib
from dataclasses import replace

import pytest

from ansible_collections.modelfleet.serving.plugins.module_utils._endpoint.definition import (
    Endpoint,
    Golden,
    Member,
    Model,
)
from ansible_collections.modelfleet.serving.plugins.module_utils._endpoint.rfc2136 import (
    OWNERSHIP,
    RFC2136,
    _host_and_port,
    _reached,
    addresses,
    check_definition,
    decode,
    encode,
)
from ansible_collections.modelfleet.serving.plugins.module_utils._errors import InputError

ENDPOINT = Endpoint(
    "models",
    (
        Member("a", "192.0.2.1"),
        Member("b", "2001:db8::1"),
        Member("c", "192.0.2.3", state="standby"),
        Member("d", "d.example.org", state="drained"),
    ),
    (Model("iris", Golden({"instances": ["ä", 1.5]}, {"predictions": [0.1]}, 1e-5)),),
    {"ttl": 30},
    epoch=7,
)


def test_the_record_holds_the_active_members_alone() -> None:
    assert addresses(ENDPOINT) == {("A", "192.0.2.1"), ("AAAA", "2001:db8::1")}
    check_definition(ENDPOINT, "models.example.org")


def test_a_definition_comes_back_from_its_strings() -> None:
    strings = encode(ENDPOINT)
    assert strings[0] == OWNERSHIP.encode()
    assert max(len(string) for string in strings) <= 255
    assert decode(strings) == ENDPOINT


@pytest.mark.parametrize(
    ("strings", "message"),
    [
        ([b"v=spf1 -all"], "somebody else's"),
        ([OWNERSHIP.encode()], "damaged"),
        (encode(ENDPOINT)[:-1], "damaged"),
        ([*encode(ENDPOINT)[:1], b"!"], "damaged"),
        ([OWNERSHIP.encode(), base64.b64encode(zlib.compress(b"[]"))], "damaged"),
        # A thousand times as large when it is unpacked.
        ([OWNERSHIP.encode(), base64.b64encode(zlib.compress(b" " * 50_000_000))], "damaged"),
    ],
)
def test_what_is_no_definition_is_told(strings: list[bytes], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        decode(strings)


def test_several_host_names_may_wait_but_not_be_active() -> None:
    members = tuple(Member(name, f"{name}.example.org", state="standby") for name in "bc")
    check_definition(replace(ENDPOINT, members=(Member("a", "a.example.org"), *members)), "models.example.org")
    with pytest.raises(InputError, match="one host name only"):
        check_definition(
            replace(ENDPOINT, members=(Member("a", "192.0.2.1"), replace(members[0], state="active"))), "x"
        )


@pytest.mark.parametrize(
    ("text", "place"),
    [
        ("ns1.example.org", ("ns1.example.org", 53)),
        ("ns1.example.org:5353", ("ns1.example.org", 5353)),
        ("192.0.2.1:54", ("192.0.2.1", 54)),
        ("2001:db8::1", ("2001:db8::1", 53)),
        ("[2001:db8::1]:54", ("2001:db8::1", 54)),
    ],
)
def test_servers_are_read(text: str, place: tuple[str, int]) -> None:
    assert _host_and_port(text, 53, "servers") == place


@pytest.mark.parametrize("text", ["", "ns1:", "ns1:0", "ns1:99999", "ns1:x", "a b", "[::1]:x", "ns1:٣", "300.1.1.1"])
def test_what_is_no_server_is_rejected(text: str) -> None:
    with pytest.raises(InputError):
        _host_and_port(text, 53, "servers")


def test_serial_numbers_begin_anew() -> None:
    class Soa:
        serial = 3

    assert _reached([Soa], 3)
    assert _reached([Soa], 2**32 - 2)
    assert not _reached([Soa], 4)
    assert not _reached(None, 3)


def test_a_missing_library_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in sys.modules if name.partition(".")[0] == "dns"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "dns", None)
    with pytest.raises(InputError, match=r"package 'dnspython' is missing.*pip install dnspython"):
        RFC2136({})
