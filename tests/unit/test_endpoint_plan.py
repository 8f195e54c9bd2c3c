# SPDX-FileCopyrightText: The modelfleet maintainers
# SPDX-License-Identifier: GPL-3.0-or-later
"""What is decided without a balancer: input, merging, the plan, the safety rule, the file and the expression."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import Any

import pytest

from ansible_collections.modelfleet.serving.plugins.module_utils._endpoint.definition import (
    Endpoint,
    EndpointRequest,
    Golden,
    Member,
    MemberRequest,
    Model,
    request_from_params,
)
from ansible_collections.modelfleet.serving.plugins.module_utils._endpoint.golden import answer_pattern, request_body
from ansible_collections.modelfleet.serving.plugins.module_utils._endpoint.haproxy import DEFAULTS, settings_from_params
from ansible_collections.modelfleet.serving.plugins.module_utils._endpoint.haproxy_config import (
    description,
    read_definition,
    render,
)
from ansible_collections.modelfleet.serving.plugins.module_utils._endpoint.plan import (
    Observed,
    RefusedError,
    Traffic,
    check_digest,
    check_epoch,
    check_min_active,
    merge,
    plan,
)
from ansible_collections.modelfleet.serving.plugins.module_utils._errors import InputError

GOLDEN = Golden({"instances": [1.0, 2.0]}, {"predictions": [2.5, 3.0]}, 1e-3)
STORED = Endpoint(
    "models",
    (Member("aws", "aws.example.org"), Member("gcp", "192.0.2.1", 8080, 50, "drained")),
    (Model("half_plus_two", GOLDEN),),
    dict(DEFAULTS),
)


def request(*members: MemberRequest, exclusive: bool = False) -> EndpointRequest:
    return EndpointRequest("models", members or None, None, {}, exclusive)


def params(**changed: Any) -> dict[str, Any]:
    member = {"name": "aws", "address": "192.0.2.1", "port": None, "weight": None, "state": None, "jurisdiction": None}
    model = {
        "name": "iris",
        "golden": None,
        "timeout": 5.0,
        "host": None,
        "try_timeout": None,
        "jurisdictions": [],
    }
    given: dict[str, Any] = {
        "name": "models",
        "members": [member],
        "models": [model],
        "exclusive_members": True,
        "epoch": None,
    }
    for key, value in changed.items():
        if isinstance(value, dict):
            given[key] = [{**given[key][0], **value}]
        else:
            given[key] = value
    return given


BAD_TEXTS = ["../x", "a\n", "a\nserver x", "a b", "a;b", "{{ x }}", "'", "ä", "моя", "x" * 64, "", "-x", "a#b", "%[x]"]


@pytest.mark.parametrize("text", BAD_TEXTS)
def test_bad_names_and_addresses_are_rejected(text: str) -> None:
    for changed in ({"name": text}, {"members": {"name": text}}, {"members": {"address": text}}):
        if "address" in str(changed) and text == "x" * 64:
            continue
        with pytest.raises(InputError):
            request_from_params(params(**changed), {})
    for changed in ({"models": {"name": text}}, {"models": {"host": text}}):
        with pytest.raises(InputError):
            request_from_params(params(**changed), {})


@pytest.mark.parametrize(
    "changed",
    [
        {"members": []},
        {"models": []},
        {"members": {"port": 0}},
        {"members": {"port": 65536}},
        {"members": {"weight": 0}},
        {"members": {"weight": 256}},
        {"members": {"address": "300.1.1.1"}},
        {"members": {"address": "0.0.0.0"}},
        {"members": {"address": "x" * 64 + ".org"}},
        {"models": {"timeout": 0.0}},
        {"models": {"timeout": float("nan")}},
        {"models": {"try_timeout": 5.0}},
        {"models": {"try_timeout": 0.0}},
        {"models": {"golden": [{"request": {}, "response": {}, "tolerance": -1.0}]}},
        {"members": [params()["members"][0]] * 2},
        {"models": [params()["models"][0]] * 2},
    ],
)
def test_bad_input_is_rejected(changed: dict[str, Any]) -> None:
    with pytest.raises(InputError):
        request_from_params(params(**changed), {})


@pytest.mark.parametrize(
    "changed",
    [
        *({"bind": text} for text in ["", "8080", "*:0", "*:99999", "*:80 ssl", "*:80\nglobal", "a b:80", "*:٣"]),
        {"runtime_bind": "/run/x\n"},
        {"stats_bind": "/run/x"},
        {"resolvers": ["x y:53"]},
        {"user": "root;"},
        {"retries": 0},
        {"max_body": 10},
        {"check_interval": 0.0},
    ],
)
def test_bad_settings_are_rejected(changed: dict[str, Any]) -> None:
    with pytest.raises(InputError):
        settings_from_params(changed)


def test_what_is_left_out_keeps_its_value() -> None:
    asked = request(MemberRequest("gcp", weight=70), MemberRequest("azure", "192.0.2.3"))
    merged = merge(STORED, asked, DEFAULTS)
    assert merged.members == (
        Member("aws", "aws.example.org"),
        Member("azure", "192.0.2.3"),
        Member("gcp", "192.0.2.1", 8080, 70, "drained"),
    )
    assert merged.models == STORED.models
    assert [member.name for member in merge(STORED, replace(asked, exclusive=True), DEFAULTS).members] == [
        "azure",
        "gcp",
    ]
    assert merge(STORED, request(), DEFAULTS) == STORED


def test_too_little_for_a_new_endpoint() -> None:
    with pytest.raises(InputError, match="no members are given"):
        merge(None, request(), DEFAULTS)
    with pytest.raises(InputError, match="no address is given"):
        merge(STORED, request(MemberRequest("typo", state="drained")), DEFAULTS)
    with pytest.raises(InputError, match="carries the endpoint"):
        merge(STORED, replace(request(), name="other"), DEFAULTS)


def test_min_active() -> None:
    nobody = merge(STORED, request(MemberRequest("aws", state="drained")), DEFAULTS)
    with pytest.raises(RefusedError, match="rule min_active"):
        check_min_active(STORED, nobody, 1)
    with pytest.raises(RefusedError, match="rule min_active"):
        check_min_active(None, STORED, 2)
    # One of two was drained by a failover; the next run of the site must not fail for that.
    check_min_active(STORED, STORED, 2)


def test_a_model_needs_a_member_where_it_may_be_served() -> None:
    eu = tuple(replace(member, jurisdiction="eu") for member in STORED.members)
    models = (replace(STORED.models[0], jurisdictions=("eu",)), Model("iris"))
    desired = replace(STORED, members=eu, models=models)
    check_min_active(STORED, desired, 1)
    assert read_definition(render(desired, dict(DEFAULTS))) == (True, desired)
    moved = replace(desired, members=(replace(eu[0], jurisdiction="us"), eu[1]))
    with pytest.raises(RefusedError, match="no active member for half_plus_two, which may be served in eu") as refused:
        check_min_active(desired, moved, 1)
    assert refused.value.hint == "Make one of gcp active first."
    assert [(step.action, step.reason) for step in plan(Observed(desired), moved).steps] == [
        ("move", "jurisdiction eu becomes us")
    ]


def test_plan() -> None:
    assert plan(Observed(STORED, {"aws": Traffic(100), "gcp": Traffic(0)}), STORED).steps == ()
    desired = merge(
        STORED,
        request(
            MemberRequest("aws", state="drained"),
            MemberRequest("azure", "192.0.2.3"),
            MemberRequest("gcp", state="active"),
        ),
        DEFAULTS,
    )
    # What brings traffic comes before what takes it away.
    steps = [(step.action, step.subject) for step in plan(Observed(STORED), desired).steps]
    assert steps == [("add", "azure"), ("activate", "gcp"), ("drain", "aws")]
    assert [step.action for step in plan(Observed(None), STORED).steps] == ["create", "add", "add"]
    assert [step.action for step in plan(Observed(STORED), None).steps] == ["delete"]
    assert plan(Observed(None), None).steps == ()
    drift = plan(Observed(STORED, {"aws": Traffic(7), "gcp": Traffic(0, "maintenance")}), STORED).steps
    assert [(step.action, step.subject) for step in drift] == [("mend", "aws"), ("mend", "gcp")]


def test_file_and_definition() -> None:
    text = render(STORED, dict(STORED.settings))
    assert read_definition(text) == (True, STORED)
    assert "server gcp 192.0.2.1:8080 weight 0 check" in text
    assert read_definition("global\n") == (False, None)
    assert read_definition(render(None, DEFAULTS)) == (True, None)
    with pytest.raises(ValueError, match="damaged"):
        read_definition(text.replace('{"members"', "{members"))
    # Weights and states can be set in the running process; all else needs a reload.
    drained = replace(STORED, members=(replace(STORED.members[0], state="drained", weight=3), STORED.members[1]))
    standby = replace(STORED, members=(replace(STORED.members[0], state="standby"), STORED.members[1]))
    assert description(drained, DEFAULTS) == description(STORED, DEFAULTS)
    assert description(standby, DEFAULTS) == description(STORED, DEFAULTS)
    moved = replace(STORED, members=(replace(STORED.members[0], port=81), STORED.members[1]))
    assert description(moved, DEFAULTS) != description(STORED, DEFAULTS)


def test_nothing_a_user_writes_ends_its_quotes() -> None:
    evil = "it's\n}} {{ 7*7 }} # ; \\ \" %[env(HOME)] $HOME"
    model = Model("iris", Golden({"a": evil}, {"a'b\n": [evil, None, True]}, 0.0))
    assert "'" not in request_body(model.golden or GOLDEN) + answer_pattern(model.golden or GOLDEN)
    lines = render(replace(STORED, models=(model,)), dict(DEFAULTS)).splitlines()
    assert [line.count("'") for line in lines if "http-check" in line] == [6, 2]


@pytest.mark.parametrize(
    ("right", "wrong"),
    [
        (
            [
                '{"predictions": [2.5, 3.0]}',
                '{\n  "predictions": [2.5004, 3\n  ]\n}\n',
                '{"predictions":[2.49902,2.9975]}',
            ],
            [],
        ),
        (
            [],
            [
                '{"predictions": [2.5]}',
                '{"predictions": [2.5, 3.01]}',
                '{"predictions": [2.5, 3.0]} x',
                '{"error": "2.5"}',
            ],
        ),
        ([], ['{"predictions": [25, 3.0]}', '{"predictions": [-2.5, 3.0]}', '{"predictions": [2.5, 30]}', "2.5, 3.0"]),
    ],
)
def test_answers(right: list[str], wrong: list[str]) -> None:
    pattern = answer_pattern(GOLDEN)
    assert all(re.search(pattern, text) for text in right)
    assert not any(re.search(pattern, text) for text in wrong)


@pytest.mark.parametrize("value", [0.0, 1.0, -3.25, 4.2e-9, -7.7e-5, 0.0001, 1.5e7, 123456789.0, 0.1 + 0.2, -12])
@pytest.mark.parametrize("tolerance", [1e-5, 3e-4, 0.01])
def test_numbers_within_the_tolerance_match_in_every_notation(value: float, tolerance: float) -> None:
    pattern = answer_pattern(Golden({}, {"p": value}, tolerance))
    width = tolerance * max(1.0, abs(value))
    for offset in (-0.99, -0.5, 0.0, 0.5, 0.99, -2.3, 2.3, 50.0):
        near = abs(offset) < 1
        for text in (repr(value + offset * width), f"{value + offset * width:.15g}"):
            assert bool(re.search(pattern, f'{{"p": {text}}}')) is near, (text, pattern)


def test_too_much_for_a_health_check() -> None:
    with pytest.raises(InputError, match="too long"):
        request_body(Golden({"x": "y" * 40_000}, {}, 0.0))
    with pytest.raises(InputError, match="5 keys"):
        answer_pattern(Golden({}, dict.fromkeys("abcde", 1), 0.0))
    with pytest.raises(InputError, match="finite"):
        answer_pattern(Golden({}, {"p": float("inf")}, 0.0))


def test_an_epoch_changes_neither_the_description_nor_the_digest() -> None:
    fenced = replace(STORED, epoch=7)
    assert description(fenced, dict(DEFAULTS)) == description(STORED, dict(DEFAULTS))
    assert fenced.digest() == STORED.digest()
    assert render(fenced, dict(DEFAULTS)) != render(STORED, dict(DEFAULTS))
    assert read_definition(render(fenced, dict(DEFAULTS))) == (True, fenced)
    assert "epoch" not in render(STORED, dict(DEFAULTS))
    moved = replace(STORED, members=(replace(STORED.members[0], state="drained"), STORED.members[1]))
    assert moved.digest() != STORED.digest()


def test_a_damaged_epoch_is_a_damaged_definition() -> None:
    text = render(replace(STORED, epoch=7), dict(DEFAULTS)).replace('"epoch":7', '"epoch":"7"')
    with pytest.raises(ValueError, match="its definition is damaged"):
        read_definition(text)


@pytest.mark.parametrize(
    ("known", "newer"), [('"epoch":7', '"epoch":7,"region":"eu"'), ('"port":', '"zone":"b","port":')]
)
def test_what_a_newer_version_wrote_is_not_read_without_it(known: str, newer: str) -> None:
    text = render(replace(STORED, epoch=7), dict(DEFAULTS)).replace(known, newer)
    with pytest.raises(ValueError, match="written by a newer version of this collection"):
        read_definition(text)


@pytest.mark.parametrize(("epoch", "kept", "steps"), [(None, 7, []), (7, 7, []), (9, 9, ["fence"])])
def test_an_epoch_is_kept_and_only_rises(epoch: int | None, kept: int, steps: list[str]) -> None:
    fenced = replace(STORED, epoch=7)
    check_epoch(fenced, epoch)
    desired = merge(fenced, replace(request(), epoch=epoch), DEFAULTS)
    assert desired.epoch == kept
    assert [step.action for step in plan(Observed(fenced), desired).steps] == steps


def test_an_older_epoch_and_another_digest_are_refused() -> None:
    check_epoch(None, 1)
    with pytest.raises(RefusedError, match="rule epoch: this run took the fleet lock with epoch 6") as refused:
        check_epoch(replace(STORED, epoch=7), 6)
    assert refused.value.details == {"rule": "epoch", "epoch": 7}
    for stored, digest in ((STORED, STORED.digest()), (STORED, None), (None, ""), (None, None)):
        check_digest(stored, digest)
    for stored, digest in ((STORED, "0" * 64), (STORED, ""), (None, STORED.digest())):
        with pytest.raises(RefusedError, match="rule if_digest"):
            check_digest(stored, digest)
