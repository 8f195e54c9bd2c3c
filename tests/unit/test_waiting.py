# SPDX-FileCopyrightText: The modelfleet maintainers
# SPDX-License-Identifier: GPL-3.0-or-later
"""Waiting: how a watch goes on through what disturbs it, and what a person sees of it."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import _kubernetes
import pytest
from _api_server import ApiServer

from ansible_collections.modelfleet.serving.plugins.module_utils._cluster import wait
from ansible_collections.modelfleet.serving.plugins.module_utils._cluster.kinds import Ref
from ansible_collections.modelfleet.serving.plugins.module_utils._cluster.session import Session, connect
from ansible_collections.modelfleet.serving.plugins.module_utils._cluster.wait import (
    Deadline,
    Kind,
    poll_until,
    wait_until,
)
from ansible_collections.modelfleet.serving.plugins.module_utils._errors import ApiError, ServingError, WaitError

Json = dict[str, Any]
SPACE = "serving"
PODS = Kind("v1", "Pod", SPACE, {"app": "server"})


@pytest.fixture
def session(api: ApiServer) -> Iterator[Session]:
    with connect({"host": api.url}) as session:
        yield session


def pod(name: str) -> Json:
    metadata = {"name": name, "namespace": SPACE, "labels": {"app": "server"}}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": metadata}


def names_until(api: ApiServer, session: Session, wanted: set[str], seconds: float = 5) -> set[str]:
    def judge(objects: dict[Ref, Json]) -> str:
        names = {ref.name for ref in objects}
        return "" if names == wanted else f"found {sorted(names)}"

    return {ref.name for ref in wait_until(session, [PODS], judge, Deadline.after(seconds))}


def soon(action: Any, *arguments: Any) -> None:
    threading.Timer(0.1, action, arguments).start()


def test_a_wait_follows_what_is_added_changed_and_removed(api: ApiServer, session: Session) -> None:
    api.put("pods", pod("a"))
    foreign = pod("x")
    foreign["metadata"]["labels"] = {"app": "other"}
    api.put("pods", foreign)
    soon(api.put, "pods", pod("b"))
    assert names_until(api, session, {"a", "b"}) == {"a", "b"}
    soon(api.remove, "pods", "a")
    assert names_until(api, session, {"b"}) == {"b"}
    assert [request.method for request in api.requests].count("GET") == 2, "it watched and did not poll"


def test_a_wait_goes_on_through_a_watch_that_is_too_old_or_ends(api: ApiServer, session: Session) -> None:
    api.fail("WATCH", "/pods", 410, reason="Expired", message="too old resource version")
    api.fail("WATCH", "/pods", None)
    soon(api.put, "pods", pod("a"))
    assert names_until(api, session, {"a"}) == {"a"}


def test_a_wait_goes_on_after_an_error_event_in_the_stream(api: ApiServer, session: Session) -> None:
    status = {"kind": "Status", "code": 410, "reason": "Expired", "message": "too old"}
    api.fail("WATCH", "/pods", 200, message="", stream=[{"type": "ERROR", "object": status}])
    soon(api.put, "pods", pod("a"))
    assert names_until(api, session, {"a"}) == {"a"}


def test_a_wait_that_may_not_watch_says_so_soon(
    api: ApiServer, session: Session, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(wait, "_WARM_UP_SECONDS", 0.5)
    api.fail("WATCH", "/pods", 403, reason="Forbidden", message="user can't watch pods", times=9)
    start = time.monotonic()
    with pytest.raises(ApiError, match=r"user can't watch pods .403 Forbidden.*Give this user the permission"):
        names_until(api, session, {"a"}, seconds=20)
    assert time.monotonic() - start < 5


def test_a_wait_that_may_not_list_says_so_at_once(api: ApiServer, session: Session) -> None:
    api.fail("GET", "/pods", 403, reason="Forbidden", message="user can't list pods", times=9)
    with pytest.raises(ApiError, match="user can't list pods"):
        names_until(api, session, {"a"}, seconds=20)
    assert len(api.requests) == 1


def test_a_server_that_restarts_refuses_for_a_moment(api: ApiServer, session: Session) -> None:
    api.fail("WATCH", "/pods", 403, reason="Forbidden", message="user can't watch pods", times=2)
    threading.Timer(1.0, api.put, ("pods", pod("a"))).start()
    assert names_until(api, session, {"a"}) == {"a"}


def test_a_server_that_stays_away_is_said_to_be(
    api: ApiServer, session: Session, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(wait, "_OUTAGE_SECONDS", 0.5)
    monkeypatch.setattr("urllib3.util.retry.time", SimpleNamespace(sleep=lambda _seconds: None, time=time.time))
    for method in ("GET", "WATCH"):
        api.fail(method, "/pods", 503, message="shutting down", times=999)
    with pytest.raises(ApiError, match="shutting down"):
        names_until(api, session, {"a"}, seconds=30)


def test_a_wait_ends_at_its_deadline_with_what_is_missing(api: ApiServer, session: Session) -> None:
    api.put("pods", pod("a"))
    with pytest.raises(WaitError, match=r"waited 0\.3 s: found \['a'\]\. Raise wait_timeout"):
        names_until(api, session, {"b"}, seconds=0.3)


def test_a_judge_can_end_a_wait(api: ApiServer, session: Session) -> None:
    def judge(objects: dict[Ref, Json]) -> str:
        raise WaitError("never")

    with pytest.raises(WaitError, match="never"):
        wait_until(session, [PODS], judge, Deadline.after(5))


def test_a_server_that_answers_too_late_does_not_hold_a_wait(api: ApiServer, session: Session) -> None:
    api.fail("GET", "/pods", 200, delay=3.0)
    start = time.monotonic()
    with pytest.raises(ServingError, match="no answer from the cluster yet"):
        names_until(api, session, {"a"}, seconds=0.2)
    assert time.monotonic() - start < 2


def test_a_watch_goes_on_where_it_ended(api: ApiServer, session: Session, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(wait, "_WATCH_SECONDS", 1.0)
    api.put("pods", pod("a"))
    threading.Timer(1.5, api.put, ("pods", pod("b"))).start()
    assert names_until(api, session, {"a", "b"}) == {"a", "b"}
    methods = [request.method for request in api.requests]
    assert methods.count("GET") == 1, "it listed once"
    watches = [request for request in api.requests if request.method == "WATCH"]
    assert len(watches) == 2
    assert {request.query["allowWatchBookmarks"] for request in watches} == {"true"}


def test_a_bookmark_moves_the_watch_on(api: ApiServer, session: Session) -> None:
    bookmark = {"type": "BOOKMARK", "object": {"kind": "Pod", "metadata": {"resourceVersion": "4711"}}}
    api.fail("WATCH", "/pods", 200, stream=[bookmark])
    api.fail("WATCH", "/pods", 200, stream=[{"type": "ADDED", "object": with_version(pod("a"))}])
    assert names_until(api, session, {"a"}) == {"a"}
    watches = [request for request in api.requests if request.method == "WATCH"]
    assert watches[1].query["resourceVersion"] == "4711"


def with_version(manifest: Json) -> Json:
    manifest["metadata"]["resourceVersion"] = "4712"
    return manifest


def test_a_kind_that_need_not_be_seen_is_left_out(api: ApiServer, session: Session) -> None:
    api.fail("GET", "/events", 403, reason="Forbidden", message="no events for you", times=9)
    kinds = [PODS, Kind("v1", "Event", SPACE, {}, optional=True)]
    api.put("pods", pod("a"))
    objects = wait_until(session, kinds, lambda found: "" if found else "nothing", Deadline.after(5))
    assert [ref.kind for ref in objects] == ["Pod"]


def test_progress_is_told_when_it_changes(api: ApiServer, session: Session, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(wait, "_QUIET_SECONDS", 0.2)
    told: list[str] = []
    for number, name in enumerate("abcd"):
        # The last three come at once: a person is told where it rests.
        threading.Timer(1.0 if number == 0 else 2.0, api.put, ("pods", pod(name))).start()

    def judge(objects: dict[Ref, Json]) -> str:
        return "" if len(objects) == 5 else f"{len(objects)} of 5"

    threading.Timer(3.0, api.put, ("pods", pod("e"))).start()
    wait_until(session, [PODS], judge, Deadline.after(10), told.append)
    assert told[0] == "0 of 5"
    assert told[-1] == "4 of 5"
    assert len(told) == len(set(told)) <= 4, "not each of what came at once"


def test_a_wait_that_is_over_soon_says_nothing(api: ApiServer, session: Session) -> None:
    told: list[str] = []
    soon(api.put, "pods", pod("a"))
    wait_until(session, [PODS], lambda found: "" if found else "nothing", Deadline.after(10), told.append)
    assert told == []


def test_what_can_not_be_watched_is_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(wait, "_QUIET_SECONDS", 0.05)
    answers = ["three", "two", "two", "two", ""]
    told: list[str] = []
    assert poll_until(lambda: answers.pop(0), Deadline.after(5), 0.1, told.append) == ""
    assert answers == []
    assert told == ["two"], "once, and not in the first moment"
    assert poll_until(lambda: "never", Deadline.after(0.2), 0.05) == "never"


@pytest.mark.kubernetes
def test_a_wait_outlives_a_restart_of_a_real_server(tmp_path: Path) -> None:
    """With a server of its own, since others use the shared one."""
    try:
        server = _kubernetes.wait_ready(tmp_path)
        if server is None:
            pytest.skip("no binary of kube-apiserver and etcd: `make fleet` builds one")
        with connect(server.connection) as session:
            kind = Kind("v1", "ConfigMap", "default", {})
            killed = False

            def judge(objects: dict[Ref, Json]) -> str:
                nonlocal killed
                if not killed:
                    killed = True
                    _kubernetes.kill_server(tmp_path)
                    threading.Thread(target=make).start()
                return "" if any(ref.name == "late" for ref in objects) else "it is not there"

            def make() -> None:
                _kubernetes.wait_ready(tmp_path)
                with connect(server.connection) as other:
                    body = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "late"}}
                    other.request("POST", "/api/v1/namespaces/default/configmaps", body=body)

            wait_until(session, [kind], judge, Deadline.after(90))
        assert killed
    finally:
        _kubernetes.stop(tmp_path)
