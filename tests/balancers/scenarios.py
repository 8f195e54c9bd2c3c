# SPDX-FileCopyrightText: The modelfleet maintainers
# SPDX-License-Identifier: GPL-3.0-or-later
"""The same scenarios for every cloud's balancer. A test file derives a class from :class:`Scenarios`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar

import pytest

from ansible_collections.modelfleet.serving.plugins.module_utils._endpoint.balancer import BalancerError
from ansible_collections.modelfleet.serving.plugins.module_utils._endpoint.plan import RefusedError
from ansible_collections.modelfleet.serving.plugins.module_utils._errors import InputError

from .cloud import CloudLab
from .lab import Cut

MODELS = [{"name": "iris"}, {"name": "half_plus_two"}]
THIRDS = {"a": 0.333333, "b": 0.333333, "c": 0.333333}


def cut_calls(monkeypatch: pytest.MonkeyPatch, lab: CloudLab) -> Callable[[int], None]:
    """Give what sets how many calls are left until the process ends, just after the last of them."""
    owner, name = lab.call()
    call = getattr(owner, name)
    left = 10**6

    def counted(*args: Any, **options: Any) -> Any:
        nonlocal left
        if left <= 0:
            raise Cut
        left -= 1
        answer = call(*args, **options)
        if left == 0:
            raise Cut
        return answer

    def allow(calls: int) -> None:
        nonlocal left
        left = calls

    monkeypatch.setattr(owner, name, counted)
    return allow


def make_clients_once(monkeypatch: pytest.MonkeyPatch, api: Any) -> None:
    """Make the client once for a test of many runs, since that takes longer than all calls of one.

    :param api: the class that makes it.
    """
    clients: dict[str, Any] = {}
    make = api._client

    def client(self: Any) -> Any:
        url = self._access["endpoint_url"]
        if url not in clients:
            clients[url] = make(self)
        return clients[url]

    monkeypatch.setattr(api, "_client", client)


def failover(lab: CloudLab, leave: str, enter: str, **more: Any) -> Any:
    """Drain one member and activate another in one run, as the role failover does."""
    members = [{"name": leave, "state": "drained"}, {"name": enter, "state": "active"}]
    return lab.run(members=members, exclusive_members=False, models=None, **more)


# What a run may be cut off in, by a first state (none, all, or a standby) and what is then done.
CUTS: dict[str, Callable[[CloudLab], Any]] = {
    "create": lambda lab: lab.run(models=MODELS, wait=False),
    "drain": lambda lab: lab.change("a", "drained", wait=False),
    "failover": lambda lab: failover(lab, "a", "c", wait=False),
    "canary": lambda lab: lab.change("a", weight=10, wait=False),
    "add and remove": lambda lab: lab.run(members=lab.members("bcd"), wait=False),
    "models": lambda lab: lab.run(members=None, models=[{"name": "half_plus_two"}], wait=False),
    "teardown": lambda lab: lab.remove(),
}


class Scenarios:
    """What each balancer must pass. A subclass has a fixture ``lab``, a :class:`CloudLab`.

    :cvar most_drain_writes: how many calls a drain or a failback may write.
    :cvar shift: the operation that moves traffic.
    :cvar faults: operations of a creation that are to fail once.
    :cvar keeps_others_out: whether the API itself refuses who was overtaken.
    :cvar standby: the balancer's settings under which members can stand by.
    :cvar several: models that one endpoint can have.
    """

    most_drain_writes: ClassVar[int] = 1
    shift: ClassVar[str]
    faults: ClassVar[tuple[str, ...]]
    keeps_others_out: ClassVar[bool] = True
    standby: ClassVar[dict[str, Any]] = {}
    several: ClassVar[list[dict[str, Any]]] = MODELS

    def with_standby(self, lab: CloudLab) -> dict[str, Any]:
        """Give the module's option by which members can stand by."""
        return {lab.balancer: self.standby} if self.standby else {}

    def test_life(self, lab: CloudLab) -> None:
        cloud = lab.cloud
        foretold = lab.run(check=True, models=self.several)
        assert foretold.changed
        assert lab.info()["exists"] is False
        assert cloud.writes() == []
        done = lab.run(models=self.several)
        assert done.diff == foretold.diff
        assert done.values["addresses"] == [lab.front]
        # An address that the cloud gives is not known before.
        assert foretold.values["addresses"] == ([] if lab.front[0].isdigit() else [lab.front])
        assert done.values == {**foretold.values, "addresses": [lab.front]}
        assert lab.shares() == THIRDS
        assert lab.settled()["addresses"] == [lab.front]

        # A run without a change only reads.
        cloud.calls.clear()
        again = lab.run(models=self.several, wait=False)
        assert (again.changed, again.diff) == (False, [])
        assert again.values == {**done.values, "steps": []}
        assert cloud.calls != []
        assert cloud.writes() == []

        # A drain is a write or two, and stays through a later run of the whole definition.
        foretold = lab.run(
            check=True, members=[{"name": "a", "state": "drained"}], exclusive_members=False, models=None
        )
        cloud.calls.clear()
        done = lab.change("a", "drained")
        assert done.diff == foretold.diff
        assert [step["action"] for step in done.values["steps"]] == ["drain"]
        assert 1 <= len(cloud.writes()) <= self.most_drain_writes
        assert lab.shares() == {"b": 0.5, "c": 0.5}
        assert not lab.change("a", "drained").changed
        assert not lab.run(models=self.several).changed
        assert cloud.writes() == []
        lab.settled()

        # Failback, too.
        lab.change("a", "active")
        assert 1 <= len(cloud.writes()) <= self.most_drain_writes
        assert lab.shares() == THIRDS

        # A member more, two fewer.
        lab.run(members=lab.members("d"), exclusive_members=False, models=None)
        assert lab.shares() == dict.fromkeys("abcd", 0.25)
        lab.settled()
        lab.run(members=[{"name": name} for name in "bd"], models=None)
        assert lab.shares() == {"b": 0.5, "d": 0.5}
        lab.settled()

        cloud.leaving = True
        assert lab.remove(check=True).changed
        assert lab.remove().changed
        assert cloud.ours() == []
        assert lab.info()["addresses"] == lab.remove().values["addresses"] == []
        cloud.calls.clear()
        assert not lab.remove().changed
        assert cloud.writes() == []

    def test_a_canary_by_weights(self, lab: CloudLab) -> None:
        first, second = lab.members("ab")
        lab.run(members=[first, {**second, "weight": 1}])
        for weight in (1, 10, 50, 100):
            lab.cloud.calls.clear()
            lab.change("b", weight=weight)
            writes = len(lab.cloud.writes())
            assert (writes > 0) == (weight != 1)
            assert writes <= self.most_drain_writes
            assert lab.shares() == pytest.approx({"a": 100 / (100 + weight), "b": weight / (100 + weight)}, abs=1e-5)
        lab.settled()

    def test_a_standby_takes_over(self, lab: CloudLab) -> None:
        cloud = lab.cloud
        lab.run(members=lab.members("abc", b="standby", c="drained"), **self.with_standby(lab))
        assert lab.shares() == {"a": 1}
        cloud.sick = {lab.address("a")}
        assert lab.shares() == {"b": 1}, "with no controller alive"
        assert [member["up"] for member in lab.info()["members"]][:2] == [False, True]
        # None is drained by it, not even when all fail.
        cloud.sick = {lab.address(name) for name in "abc"}
        assert cloud.shares() != {}
        cloud.sick = set()
        cloud.calls.clear()
        failover(lab, "a", "b")
        assert 1 <= len(cloud.writes()) <= self.most_drain_writes
        assert lab.shares() == {"b": 1}
        lab.settled()

    def test_what_may_not_be_served_everywhere(self, lab: CloudLab) -> None:
        places = {"a": "eu", "b": "eu", "c": "us"}
        members = [{**member, "jurisdiction": places[member["name"]]} for member in lab.members("abc")]
        models = [{"name": "iris", "jurisdictions": ["eu"]}]
        for check in (True, False):
            with pytest.raises(InputError, match=r"c \(us\) would get requests for iris") as refused:
                lab.run(check, members=members, models=models)
            assert "takes such jurisdictions: haproxy" in refused.value.hint
        assert lab.cloud.writes() == []
        members[2]["state"] = "drained"
        lab.run(members=members, models=models)
        assert lab.shares() == {"a": 0.5, "b": 0.5}
        # Nor does a failover bring it back.
        for act in (lambda: lab.change("c", "active"), lambda: failover(lab, "a", "c")):
            with pytest.raises(InputError, match=r"c \(us\) would get requests for iris"):
                act()
        assert lab.shares() == {"a": 0.5, "b": 0.5}
        lab.settled()

    def test_two_shifts_at_once(self, lab: CloudLab) -> None:
        if not self.keeps_others_out:
            pytest.skip("this API keeps nobody out, which its page in docs says")
        lab.run()
        lab.meanwhile(lambda: lab.change("b", "drained", wait=False), self.shift)
        lab.change("a", "drained")
        assert lab.drained() == {"a", "b"}
        assert lab.shares() == {"c": 1}
        lab.settled()

    def test_the_rules_hold_against_who_is_faster(self, lab: CloudLab) -> None:
        lab.run()
        lab.change("c", "active", epoch=5)
        with pytest.raises(RefusedError, match="rule epoch"):
            lab.change("c", "drained", epoch=4)
        assert lab.info()["epoch"] == 5
        seen = lab.info()["digest"]
        lab.change("b", weight=9)
        with pytest.raises(RefusedError, match="rule if_digest"):
            lab.change("b", "drained", if_digest=seen)
        lab.change("c", "drained")
        lab.change("b", "drained")
        if self.keeps_others_out:
            # The last but one, drained at the same time as the last.
            lab.change("b", "active")
            lab.meanwhile(lambda: lab.change("b", "drained", wait=False), self.shift)
        with pytest.raises(RefusedError, match="rule min_active"):
            lab.change("a", "drained")
        assert lab.shares() == {"a": 1}
        lab.settled()

    def test_what_is_not_ours_is_left_alone(self, lab: CloudLab) -> None:
        lab.foreign()
        lab.cloud.writes()
        for act in (lab.run, lab.remove):
            with pytest.raises(BalancerError, match="adopt"):
                act()
        with pytest.raises(BalancerError, match="adopt=true"):
            lab.info()
        assert lab.cloud.writes() == []
        lab.run(adopt=True)
        assert lab.shares() == THIRDS
        lab.settled()

    @pytest.mark.parametrize("code", ["throttled", "broken", "lost"])
    def test_what_passes_is_tried_again(self, lab: CloudLab, code: str) -> None:
        lab.cloud.faults = [(operation, code) for operation in self.faults]
        lab.run()
        assert lab.cloud.faults == []
        assert lab.shares() == THIRDS
        lab.settled()
        # The call that counts, too.
        lab.cloud.faults = [(self.shift, code)]
        lab.change("a", "drained")
        assert lab.cloud.faults == []
        assert lab.shares() == {"b": 0.5, "c": 0.5}
        lab.settled()

    def test_what_is_forbidden_is_told(self, lab: CloudLab) -> None:
        lab.run()
        lab.cloud.faults = [(self.shift, "forbidden")] * 2
        with pytest.raises(BalancerError, match=r"permissions that docs/\w+\.md lists"):
            lab.change("a", "drained")
        lab.cloud.faults = []
        assert lab.shares() == THIRDS
        lab.settled()

    @pytest.mark.parametrize("scenario", CUTS)
    def test_cut_after_every_call(self, lab: CloudLab, monkeypatch: pytest.MonkeyPatch, scenario: str) -> None:
        def first() -> None:
            if scenario == "failover":
                # Where all of a kind share alike, one more stays active.
                states = {"b": "drained"} if self.standby else {}
                lab.run(members=lab.members("abc", c="standby", **states), wait=False, **self.with_standby(lab))
            elif scenario != "create":
                lab.run(wait=False)

        cut_everywhere(lab, monkeypatch, first, lambda: CUTS[scenario](lab), leaving=scenario == "teardown")

    def test_a_teardown_after_a_cut_creation_leaves_nothing(
        self, lab: CloudLab, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        lab.cloud.leaving = True
        allow, restore = cut_calls(monkeypatch, lab), lab.cloud.snapshot()
        number = 0
        finished = False
        while not finished:
            number += 1
            restore()
            allow(number)
            try:
                lab.run(wait=False)
                finished = True
            except Cut:
                pass
            allow(10**6)
            lab.remove()
            assert lab.cloud.ours() == [], f"after a cut at call {number}"
        assert number > 3, "no call was counted"


def cut_everywhere(
    lab: CloudLab,
    monkeypatch: pytest.MonkeyPatch,
    first: Callable[[], Any],
    act: Callable[[], Any],
    leaving: bool = False,
) -> None:
    """Do something again and again, each time cut off one call later, and assert that the next run finishes it.

    :param first: makes what is there before.
    :param leaving: whether the endpoint may go.
    """
    cloud, allow = lab.cloud, cut_calls(monkeypatch, lab)
    first()
    cloud.leaving = leaving
    restore = cloud.snapshot()
    act()
    wanted = (lab.shares(), len(cloud.ours()))
    number = 0
    finished = False
    while not finished:
        number += 1
        restore()
        served = lab.shares()
        allow(number)
        try:
            act()
            finished = True
        except Cut:
            pass
        allow(10**6)
        if served and not leaving:
            assert lab.shares(), f"nobody is served after a cut at call {number}"
        act()
        assert (lab.shares(), len(cloud.ours())) == wanted, f"after a cut at call {number}"
        assert not act().changed
        if leaving:
            assert cloud.ours() == []
        else:
            lab.settled()
        assert cloud.problems == []
    assert number > 3, "no call was counted"
