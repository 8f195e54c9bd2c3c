# SPDX-FileCopyrightText: The modelfleet maintainers
# SPDX-License-Identifier: GPL-3.0-or-later
"""What is claimed of DNS, with real name servers; skipped where none is installed."""

from __future__ import annotations

import contextlib
import random
import shutil
import signal
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from ansible_collections.modelfleet.serving.plugins.module_utils._endpoint import rfc2136
from ansible_collections.modelfleet.serving.plugins.module_utils._endpoint.balancer import BalancerError
from ansible_collections.modelfleet.serving.plugins.module_utils._endpoint.plan import RefusedError
from ansible_collections.modelfleet.serving.plugins.module_utils._errors import InputError

from .lab import GOLDEN, Writer, drain, stop, toggle_together

pytest.importorskip("dns", reason="dnspython is not installed")

import dns.query

from .dns_lab import ADDRESSES, DEFINITION, RECORD, SECRETS, ZONE, Calls, DNSLab, unused_port

pytestmark = pytest.mark.skipif(not shutil.which("named"), reason="named is not installed (Debian's bind9)")


@pytest.fixture
def lab(tmp_path: Path) -> Iterator[DNSLab]:
    lab = DNSLab(tmp_path)
    try:
        yield lab
    finally:
        lab.close()


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> Calls:
    return count(monkeypatch)


def count(monkeypatch: pytest.MonkeyPatch, cut: int | None = None, after: bool = False) -> Calls:
    calls = Calls(cut, after)
    monkeypatch.setattr(dns.query, "tcp", calls)
    return calls


def test_life(lab: DNSLab, calls: Calls) -> None:
    assert lab.info()["exists"] is False
    assert lab.run(check=True).changed
    assert lab.ask("primary") == {}
    assert set(calls.kinds) == {"QUERY"}
    assert lab.run().changed
    assert lab.ask("primary") == dict.fromkeys(ADDRESSES.values(), 2)
    assert lab.ask("secondary") == lab.ask("primary"), "a change is done when every server has it"
    assert calls.kinds["UPDATE"] == 1
    second = lab.run()
    assert not second.changed
    assert second.diff == []
    assert second.values["addresses"] == lab.info()["addresses"] == [RECORD]

    # A later run of the whole definition leaves it drained.
    change = drain("a", wait=True)
    checked = lab.run(check=True, **change)
    assert checked.diff[1]["before"].count(f"{RECORD}. 2 A ") == 3
    assert checked.diff[1]["after"] == f"{RECORD}. 2 A 192.0.2.2\n{RECORD}. 2 A 192.0.2.3\n"
    assert lab.states()["a"] == ("active", 100)
    assert calls.kinds["UPDATE"] == 1
    done = lab.run(**change)
    assert [step["action"] for step in done.values["steps"]] == ["drain"]
    assert calls.kinds["UPDATE"] == 2
    assert not lab.run(**change).changed
    assert not lab.run().changed
    assert calls.kinds["UPDATE"] == 2, "no change only reads"
    assert (lab.published("primary"), lab.published("secondary")) == ("bc", "bc")
    assert lab.states() == {"a": ("drained", 0), "b": ("active", 100), "c": ("active", 100)}

    # Fail over to a standby and back, in one transaction each.
    lab.run(**drain("b", "standby"))
    assert lab.published() == "c"
    lab.run(**{**drain("b"), "members": [{"name": "b", "state": "active"}, {"name": "c", "state": "drained"}]})
    assert lab.published() == "b"
    lab.run(**{**drain("b"), "members": [{"name": name, "state": "active"} for name in "ac"]})
    assert lab.published() == "abc"

    # Members come and go, and their addresses may be of either kind.
    members = [{"name": "a", "address": "192.0.2.1"}, {"name": "d", "address": "2001:DB8:0::4"}]
    assert lab.run(members=members).changed
    assert not lab.run(members=members).changed
    assert (lab.ask("primary"), lab.ask("primary", kind="AAAA")) == ({"192.0.2.1": 2}, {"2001:db8::4": 2})
    assert lab.run(members=members, rfc2136={"ttl": 60}).changed
    assert (lab.ask("primary"), lab.ask("primary", kind="AAAA")) == ({"192.0.2.1": 60}, {"2001:db8::4": 60})

    assert lab.run(state="absent").changed
    assert not lab.run(state="absent").changed
    assert lab.info()["exists"] is False
    assert [lab.ask("secondary", *what) for what in ((RECORD, "A"), (RECORD, "AAAA"), (DEFINITION, "TXT"))] == [
        {},
        {},
        {},
    ]
    assert lab.ask("primary", f"other.{ZONE}") == {"192.0.2.99": 300}


def test_dns_has_no_view_of_the_members(lab: DNSLab) -> None:
    lab.run()
    info = lab.info()
    assert [(member["up"], member["sessions"], member["rate"]) for member in info["members"]] == [
        (None, None, None)
    ] * 3
    assert (info["fail_open"], info["errors"], info["drift"]) == ([], None, [])


def test_a_host_name_is_carried_alone(lab: DNSLab, calls: Calls) -> None:
    members = [
        {"name": "a", "address": f"edge-a.{ZONE}", "state": "active"},
        {"name": "b", "address": f"edge-b.{ZONE}", "state": "standby"},
    ]
    lab.run(members=members)
    assert lab.ask("primary", kind="CNAME") == {f"edge-a.{ZONE}.": 2}
    assert not lab.run(members=members).changed
    with pytest.raises(InputError, match="can stand for one host name only"):
        lab.run(**drain("b", "active"))
    lab.run(**{**drain("a"), "members": [{"name": "a", "state": "drained"}, {"name": "b", "state": "active"}]})
    assert lab.ask("primary", kind="CNAME") == {f"edge-b.{ZONE}.": 2}
    # From a name to addresses and back, each in one transaction.
    before = calls.kinds["UPDATE"]
    lab.run()
    assert lab.published() == "bc"
    lab.run(members=members)
    assert (lab.ask("secondary", kind="CNAME"), calls.kinds["UPDATE"] - before) == ({f"edge-a.{ZONE}.": 2}, 2)


def test_a_name_beside_other_data_is_refused(lab: DNSLab) -> None:
    # The server would ignore the CNAME without a word, and the endpoint would have no address.
    lab.stop("primary")
    lab.start("primary", "allow-update { key endpoint; };")
    lab.run()
    lab.by_hand(f"add {RECORD}. 300 TXT else")
    with pytest.raises(InputError, match=r"has other records \(TXT\)"):
        lab.run(members=[{"name": "a", "address": f"edge-a.{ZONE}"}])
    assert lab.published() == "abc"
    with pytest.raises(InputError, match="the zone itself, which cannot be a CNAME"):
        lab.run(members=[{"name": "a", "address": f"edge-a.{ZONE}"}], rfc2136={"record": ZONE})
    # Addresses stand beside everything.
    lab.run(rfc2136={"record": ZONE})
    assert sorted(lab.ask("secondary", ZONE)) == sorted(ADDRESSES.values())


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"weight": 50}, r"different weights \(a 50, b 100, c 100\).*haproxy"),
        ({"port": 8080}, r"different ports \(a 8080, b 80, c 80\).*haproxy"),
        ({"address": "192.0.2.2"}, "a and b have one address"),
        ({"address": "fe80::1%eth0"}, "known on one machine alone"),
        ({"address": RECORD}, "the address of the endpoint itself"),
        ({"address": f"other.{ZONE}"}, "one host name only"),
    ],
)
def test_what_dns_cannot_say_of_members_is_refused(
    lab: DNSLab, calls: Calls, changed: dict[str, Any], message: str
) -> None:
    members = lab.params()["members"]
    members[0] = {**members[0], **changed}
    for check in (True, False):
        with pytest.raises(InputError, match=message):
            lab.run(check=check, members=members)
    assert calls.kinds["UPDATE"] == 0


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"timeout": 1.0}, "has a timeout.*haproxy"),
        ({"try_timeout": 1.0}, "has a timeout.*haproxy"),
        (
            {"host": "elsewhere.example.org"},
            f"know the model half_plus_two as .*, and clients ask for {RECORD}.*haproxy",
        ),
    ],
)
def test_what_dns_cannot_say_of_models_is_refused(lab: DNSLab, changed: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        lab.run(models=[{"name": "half_plus_two", **changed}])
    assert lab.run(models=[{"name": "half_plus_two", "host": RECORD}]).changed


def test_what_may_not_be_served_everywhere(lab: DNSLab, calls: Calls) -> None:
    places = {"a": "eu", "b": "eu", "c": "us"}
    members = [{**member, "jurisdiction": places[member["name"]]} for member in lab.params()["members"]]
    models = [{"name": "half_plus_two", "jurisdictions": ["eu"]}]
    with pytest.raises(InputError, match=r"c \(us\) would get requests for half_plus_two.*haproxy"):
        lab.run(members=members, models=models)
    assert calls.kinds["UPDATE"] == 0
    lab.run(members=[*members[:2], {**members[2], "state": "drained"}], models=models)
    assert lab.published() == "ab"
    with pytest.raises(InputError, match=r"c \(us\) would get requests for half_plus_two"):
        lab.run(**drain("c", "active"))
    assert lab.published() == "ab"


def test_a_large_definition_comes_back_whole(lab: DNSLab) -> None:
    # Names without a pattern, so that it does not shrink.
    numbers = random.Random(1)

    def noise(count: int) -> list[dict[str, Any]]:
        return [{"name": f"m{numbers.getrandbits(200):x}"} for _unused in range(count)]

    models = noise(500)
    lab.run(models=models)
    assert not lab.run(models=models).changed
    assert lab.run(**drain("a", models=models)).changed
    assert {entry["name"] for entry in lab.info()["endpoint"]["models"]} == {entry["name"] for entry in models}
    with pytest.raises(InputError, match=r"the definition has \d+ bytes, and 28672 fit"):
        lab.run(models=noise(1000))


def test_golden_requests_are_not_published(lab: DNSLab) -> None:
    models = [{"name": "iris", "golden": [GOLDEN]}]
    lab.run(models=models)
    assert lab.info()["endpoint"]["models"][0]["golden"] is None
    assert not lab.run(models=models).changed


@pytest.mark.parametrize("after", [False, True])
def test_a_run_may_be_cut_at_every_call(lab: DNSLab, monkeypatch: pytest.MonkeyPatch, after: bool) -> None:
    lab.run()
    with monkeypatch.context() as patch:
        calls = count(patch)
        lab.run(**drain("a"))
    number = calls.kinds.total()
    assert number > 10
    lab.run(**drain("a", "active"))
    seen = set()
    for cut in range(number):
        with monkeypatch.context() as patch:
            count(patch, cut, after)
            with contextlib.suppress(Calls.CutError):
                lab.run(**drain("a"))
        # Whatever was cut: the old members or the new ones, and the definition says the same.
        seen.add(lab.published())
        assert lab.published() in ("abc", "bc")
        assert lab.info()["drift"] == []
        lab.run(**drain("a"))
        assert (lab.published(), lab.states()["a"]) == ("bc", ("drained", 0))
        lab.run(**drain("a", "active"))
    assert seen == {"abc", "bc"}


def test_the_first_run_and_the_last_may_be_cut_at_every_call(lab: DNSLab, monkeypatch: pytest.MonkeyPatch) -> None:
    for state, ends in (("present", "abc"), ("absent", "")):
        for cut in range(40):
            with monkeypatch.context() as patch:
                count(patch, cut, after=True)
                try:
                    lab.run(state=state)
                    break
                except Calls.CutError:
                    pass
            assert lab.info()["exists"] is bool(lab.published())
            lab.run(state=state)
            assert lab.published() == ends
            lab.run(state="absent" if state == "present" else "present")
        lab.run(state=state)


def test_drift_by_hand_is_seen_and_mended(lab: DNSLab) -> None:
    lab.run(members=[*lab.params()["members"], {"name": "d", "address": "192.0.2.4", "state": "standby"}])
    lab.by_hand(
        f"delete {RECORD}. A",
        *(f"add {RECORD}. 7 A {address}" for address in ("192.0.2.1", "192.0.2.3", "192.0.2.4", "192.0.2.5")),
    )
    assert [step["reason"] for step in lab.info()["drift"]] == [
        "weight 0 was set by hand; active, weight 100 is wanted",
        "active was set by hand; standby, weight 100 is wanted",
        f"A 192.0.2.5 of {RECORD}. is no member's",
        f"A of {RECORD}. lives for 7 s",
    ]
    assert lab.states()["b"] == ("active", 0)
    mended = lab.run(**drain("a", "active"))
    assert {step["action"] for step in mended.values["steps"]} == {"mend"}
    assert lab.ask("primary") == dict.fromkeys(ADDRESSES.values(), 2)
    assert lab.info()["drift"] == []


@pytest.mark.parametrize("line", [f"add {RECORD}. 300 A 192.0.2.99", f"add {DEFINITION}. 300 TXT mine"])
def test_foreign_records_are_left_alone(lab: DNSLab, line: str) -> None:
    lab.by_hand(line)
    for call in (lab.run, lab.info, lambda: lab.run(check=True), lambda: lab.run(state="absent")):
        with pytest.raises(BalancerError, match=f"{RECORD}. is not managed by this collection"):
            call()
    kept = lab.ask("primary") or lab.ask("primary", DEFINITION, "TXT")
    assert list(kept) in (["192.0.2.99"], ['"mine"'])
    assert lab.run(adopt=True).changed
    assert lab.published() == "abc"
    assert not lab.run().changed


def test_a_damaged_definition_is_not_overwritten(lab: DNSLab) -> None:
    lab.run()
    lab.by_hand(f"delete {DEFINITION}. TXT", f'add {DEFINITION}. 2 TXT "{rfc2136.OWNERSHIP}" "AAAA"')
    with pytest.raises(BalancerError, match="is damaged"):
        lab.run()
    assert lab.run(adopt=True).changed


def test_a_wildcard_is_told(lab: DNSLab) -> None:
    with pytest.raises(BalancerError, match="A wildcard may be what is found"):
        lab.run(rfc2136={"record": f"models.wild.{ZONE}"})


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"key_name": "stranger", "key_secret": SECRETS["stranger"]}, "answers REFUSED to the update.*update-policy"),
        ({"key_name": "nobody"}, r"does not know this key \(BADKEY\).*key_name"),
        ({"key_algorithm": "hmac-sha512"}, r"BADKEY"),
        ({"key_secret": SECRETS["stranger"]}, r"do not have the same key \(PeerBadSignature\)"),
        ({"key_name": None, "key_secret": None}, "answers REFUSED to the update"),
        ({"zone": "test", "record": "models.test"}, "answers REFUSED when it is asked for TXT"),
        ({"zone": f"below.{ZONE}", "record": f"models.below.{ZONE}"}, "answers NOTAUTH to the update.*rfc2136|NOTAUTH"),
        ({"record": f"other2.{ZONE}"}, "answers REFUSED to the update"),
        ({"record": f"other2.{ZONE}", "zone": "example.org"}, "does not lie in the zone"),
        ({"key_secret": None}, "one is missing"),
        ({"key_secret": "no secret"}, "no key in base64"),
        ({"port": unused_port()}, "cannot be reached by TCP"),
        ({"server": "no-such-host.invalid"}, "cannot be reached by TCP"),
        ({"server": "a b"}, "server: 'a b' is no"),
        ({"name_servers": ["127.0.0.1:x"]}, r"name_servers\[0\]: '127.0.0.1:x' is no server"),
        ({"timeout": 0.0}, "timeout: 0.0 is out of range"),
        ({"ttl": 0}, "ttl: 0 is out of range"),
    ],
)
def test_a_server_that_refuses_is_quoted(lab: DNSLab, changed: dict[str, Any], message: str) -> None:
    with pytest.raises((BalancerError, InputError), match=message) as error:
        lab.run(rfc2136=changed)
    assert not any(secret in str(error.value) for secret in (*SECRETS.values(), "no secret"))
    assert lab.ask("primary") == {}


def test_a_server_that_fails_is_told(lab: DNSLab) -> None:
    # It cannot write its journal.
    (lab.folder / "primary" / "zone.jnl").mkdir()
    with pytest.raises(BalancerError, match=r"answers SERVFAIL to the update; nothing was changed.*log says why"):
        lab.run()
    assert lab.ask("primary") == {}
    (lab.folder / "primary" / "zone.jnl").rmdir()
    assert lab.run().changed


def test_a_clock_that_differs_is_told(lab: DNSLab, monkeypatch: pytest.MonkeyPatch) -> None:
    now = time.time
    with monkeypatch.context() as patch:
        patch.setattr(time, "time", lambda: now() - 3600)
        with pytest.raises(BalancerError, match=r"the clocks differ \(BADTIME\).*NTP"):
            lab.run()


def test_a_resolver_is_no_authority(lab: DNSLab) -> None:
    with pytest.raises(BalancerError, match="is not authoritative for"):
        lab.run(rfc2136={"port": lab.ports["resolver"], "key_name": None, "key_secret": None})


def test_a_secondary_takes_no_update(lab: DNSLab) -> None:
    with pytest.raises(BalancerError, match=r"answers (NOTAUTH|REFUSED) to the update"):
        lab.run(rfc2136={"port": lab.ports["secondary"]})


def test_a_slow_server_is_not_waited_for_long(lab: DNSLab) -> None:
    lab.run()
    lab.pause("primary")
    start = time.monotonic()
    with pytest.raises(BalancerError, match=r"does not answer within 0.5 s"):
        lab.run(**drain("a", rfc2136={"timeout": 0.5}))
    assert time.monotonic() - start < 2
    lab.resume("primary")
    assert lab.run(**drain("a")).changed


def test_an_update_without_an_answer_is_gone_on_with(lab: DNSLab, monkeypatch: pytest.MonkeyPatch) -> None:
    lab.run()
    send = dns.query.tcp

    def silent(message: Any, *args: Any, **more: Any) -> Any:
        answer = send(message, *args, **more)
        if isinstance(message, dns.update.UpdateMessage):
            raise dns.exception.Timeout
        return answer

    with monkeypatch.context() as patch:
        patch.setattr(dns.query, "tcp", silent)
        with pytest.raises(BalancerError, match="whether it made the change is not known"):
            lab.run(**drain("a"))
    assert lab.published() == "bc"
    assert not lab.run(**drain("a")).changed


def test_an_unsigned_answer_is_not_believed(lab: DNSLab, monkeypatch: pytest.MonkeyPatch) -> None:
    send = dns.query.tcp

    def forged(message: Any, *args: Any, **more: Any) -> Any:
        answer = send(message, *args, **more)
        answer.tsig = None
        return answer

    monkeypatch.setattr(dns.query, "tcp", forged)
    with pytest.raises(BalancerError, match="did not sign its answer"):
        lab.run()


def test_a_server_that_is_behind_is_told(lab: DNSLab) -> None:
    lab.run()
    (lab.folder / "secondary" / "named.conf").write_text(
        (lab.folder / "secondary" / "named.conf")
        .read_text()
        .replace("type secondary", "type primary")
        .replace(f"primaries {{ 127.0.0.1 port {lab.ports['primary']}; }};", "")
        .replace("allow-notify { 127.0.0.1; };", "masterfile-format raw;")
    )
    lab.servers["secondary"].send_signal(signal.SIGHUP)
    time.sleep(0.5)
    old = f"after 0.5 s 127.0.0.1:{lab.ports['secondary']} still answers what was before"
    with pytest.raises(BalancerError, match=old):
        lab.run(**drain("a", rfc2136={"propagation_timeout": 0.5}))
    assert (lab.published("primary"), lab.published("secondary")) == ("bc", "abc")


def test_a_dead_name_server_holds_nothing_up(lab: DNSLab) -> None:
    # It may lie in the cloud that is left.
    lab.run()
    lab.stop("secondary")
    start = time.monotonic()
    assert lab.run(**drain("a")).changed
    assert time.monotonic() - start < 2
    with pytest.raises(BalancerError, match=r"no name server of example\.test\. answers"):
        lab.run(**drain("a", "active", rfc2136={"name_servers": [f"127.0.0.1:{lab.ports['secondary']}"]}))


def test_the_zones_own_name_servers_are_asked(lab: DNSLab, monkeypatch: pytest.MonkeyPatch) -> None:
    # ns.example.test, which only the zone itself knows, at the same port.
    calls = count(monkeypatch)
    lab.run(rfc2136={"name_servers": []})
    without = calls.kinds["QUERY"]
    lab.run(state="absent", rfc2136={"name_servers": []})
    before = calls.kinds["QUERY"]
    lab.run(rfc2136={"name_servers": None})
    # NS, its A and AAAA, and at least one look at the four record sets.
    assert calls.kinds["QUERY"] - before >= without + 3 + 4


def test_an_epoch_fences(lab: DNSLab) -> None:
    lab.run()
    assert lab.run(**drain("a", epoch=5)).values["epoch"] == 5
    assert not lab.run(**drain("a", epoch=5)).changed
    with pytest.raises(RefusedError, match="rule epoch: this run took the fleet lock with epoch 4"):
        lab.run(**drain("b", epoch=4))
    assert [step["action"] for step in lab.run(**drain("a", epoch=6)).values["steps"]] == ["fence"]
    with pytest.raises(RefusedError, match="rule epoch"):
        lab.run(**drain("b", epoch=5))
    assert lab.info()["epoch"] == 6
    assert lab.states()["b"] == ("active", 100)


def test_a_change_that_was_decided_by_an_older_definition_is_refused(lab: DNSLab) -> None:
    assert lab.info()["digest"] == ""
    lab.run(if_digest="")
    seen = lab.info()["digest"]
    after = lab.run(**drain("a", if_digest=seen)).values["digest"]
    assert after == lab.info()["digest"] != seen
    with pytest.raises(RefusedError, match="rule if_digest"):
        lab.run(**drain("b", if_digest=seen))
    assert lab.run(**drain("b", if_digest=after)).changed
    with pytest.raises(RefusedError, match="rule min_active"):
        lab.run(**drain("c"))


def test_a_run_that_is_stopped_in_the_middle_decides_anew(lab: DNSLab) -> None:
    lab.run()
    stalled = Writer(lab, inside=True, **drain("a", epoch=1))
    stop(stalled.process)
    assert lab.run(**drain("b", epoch=2)).changed
    assert "refused by the rule epoch" in stalled.go()
    assert lab.published() == "ac"
    # Without an epoch, both changes are made.
    stalled = Writer(lab, inside=True, **drain("a"))
    lab.run(**drain("b", "active"))
    assert stalled.go() == "done"
    assert lab.published() == "bc"


def test_of_two_who_decided_alike_one_is_refused(lab: DNSLab) -> None:
    lab.run()
    seen = lab.info()["digest"]
    writers = [Writer(lab, inside=True, **drain(name, if_digest=seen)) for name in "ab"]
    assert writers[0].go() == "done"
    assert "rule if_digest" in writers[1].go()
    assert lab.published() == "bc"


def test_two_who_would_take_the_last_two_leave_one(lab: DNSLab) -> None:
    assert lab.run().changed
    lab.run(**drain("c"))
    writers = [Writer(lab, inside=True, **drain(name)) for name in "ab"]
    assert writers[0].go() == "done"
    assert "rule min_active" in writers[1].go()
    assert lab.published() == "b"


def test_two_writers_at_once_lose_no_change(lab: DNSLab) -> None:
    lab.run()
    assert toggle_together(lambda name, state: lab.run(**drain(name, state)), 6) == []
    assert lab.published("primary") == lab.published("secondary") == "abc"
    assert lab.info()["drift"] == []


def test_somebody_who_never_stops_is_told(lab: DNSLab, monkeypatch: pytest.MonkeyPatch) -> None:
    lab.run()
    send = dns.query.tcp
    turns = iter(range(1000))

    def busy(message: Any, *args: Any, **more: Any) -> Any:
        if isinstance(message, dns.update.UpdateMessage):
            with monkeypatch.context() as patch:
                patch.setattr(dns.query, "tcp", send)
                lab.by_hand(f"add {RECORD}. 2 A 198.51.100.{next(turns)}")
        return send(message, *args, **more)

    monkeypatch.setattr(dns.query, "tcp", busy)
    with pytest.raises(BalancerError, match="no longer what was read"):
        lab.run(**drain("a"))
    assert next(turns) == 10


@pytest.mark.parametrize("ttl", [2, 4])
def test_a_shift_takes_the_time_to_live_and_a_second(lab: DNSLab, ttl: int) -> None:
    """Clients that resolve all the time, through a resolver that caches, as most do."""
    lab.run(rfc2136={"ttl": ttl})
    last: dict[str, float] = {}
    empty: list[float] = []
    done = threading.Event()

    def resolve() -> None:
        while not done.is_set():
            answered = lab.published("resolver")
            last[answered] = time.monotonic()
            if not answered:
                empty.append(time.monotonic())
            time.sleep(0.01)

    client = threading.Thread(target=resolve)
    client.start()
    try:
        # The worst moment: the resolver has just asked. Its whole seconds count down.
        while lab.ask("resolver")[ADDRESSES["a"]] == ttl:
            time.sleep(0.01)
        while lab.ask("resolver")[ADDRESSES["a"]] < ttl:
            time.sleep(0.01)
        start = time.monotonic()
        lab.run(**drain("a", rfc2136={"ttl": ttl}))
        applied = time.monotonic() - start
        time.sleep(ttl + 1.5)
    finally:
        done.set()
        client.join()
    assert set(last) == {"abc", "bc"}
    assert empty == []
    assert last["abc"] - start < ttl + 1
    assert applied < 1
