# SPDX-FileCopyrightText: The modelfleet maintainers
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ansible_collections.modelfleet.serving.plugins.module_utils._errors import InputError
from ansible_collections.modelfleet.serving.plugins.module_utils._names import (
    kubernetes_name,
    require_dns_label,
    require_host_name,
    require_model,
    require_unique,
    require_url,
    require_version,
    require_version_label,
)

# What faults.md lists, and their near relatives: no name of anything may be like this.
HOSTILE = [
    "",
    " ",
    "..",
    "../etc",
    "a/../b",
    "/etc/passwd",
    "name\n",
    "name\nother: 1",
    "\tname",
    "na me",
    "{{ name }}",
    "{% raw %}",
    "a;b",
    "a|b",
    "a&b",
    "$(id)",
    "`id`",
    "a'b",
    'a"b',
    "a\\b",
    "a\x00b",
    "-a",
    "a-",
    ".a",
    "a.",
    "x" * 64,
    "имя",
    "模型",
    "ｎａｍｅ",
    "a\u202eb",
    "a\u0301",
    "١٢",
    None,
    7,
    ["a"],
]
CHECKS: list[Callable[[Any, str], str]] = [require_dns_label, require_model, require_version_label]


@pytest.mark.parametrize("check", CHECKS)
@pytest.mark.parametrize("value", HOSTILE, ids=repr)
def test_hostile_names_are_refused(check: Callable[[Any, str], str], value: Any) -> None:
    with pytest.raises(InputError, match=r"^the_option: .* is no valid name\. Use ") as caught:
        check(value, "the_option")
    # The name is quoted so that a newline in it can't forge a line of the log.
    assert repr(value) in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("value", [*(value for value in HOSTILE if value != "x" * 64), "a..b", "x" * 254, "a:80", "*"])
def test_hostile_host_names_are_refused(value: Any) -> None:
    with pytest.raises(InputError, match="the_option"):
        require_host_name(value, "the_option")


@pytest.mark.parametrize("value", ["a", "serving", "a-b", "1a", "x" * 63])
def test_good_names_pass_every_check(value: str) -> None:
    for check in [*CHECKS, require_host_name]:
        assert check(value, "name") == value


def test_models_and_labels_may_have_capitals_dots_and_underscores() -> None:
    for value in ("half_plus_two", "Iris.v2", "A-b_c.D"):
        assert require_model(value, "name") == value
        assert require_version_label(value, "name") == value
        with pytest.raises(InputError):
            require_dns_label(value, "name")
    assert require_host_name("models.example.org", "host") == "models.example.org"


@pytest.mark.parametrize("value", [0, -1, 2**63])
def test_versions_outside_of_an_int64_are_refused(value: int) -> None:
    with pytest.raises(InputError, match=f"versions: {value} is no model version. Use a whole number from 1."):
        require_version(value, "versions")


def test_versions_pass() -> None:
    assert [require_version(value, "versions") for value in (1, 20240131, 2**63 - 1)] == [1, 20240131, 2**63 - 1]


@pytest.mark.parametrize(
    "value",
    [
        "",
        "host:8501",
        "ftp://host",
        "file:///etc/passwd",
        "http://",
        "http:///path",
        "http://host:port",
        "http://host:99999",
        "http://host:0",
        "http://user:secret@host",
        "http://:secret@host",
        "http://@host",
        "http://host/?q=1",
        "http://host/?",
        "http://host/#part",
        "http://host/#",
        "http://host/\nHost: other",
        "http://ho st/",
        "http://{{ host }}/",
        "http://host\\@other/",
        "http://host/\x00",
        "http://[::1",
        None,
        7,
    ],
)
def test_bad_urls_are_refused(value: Any) -> None:
    with pytest.raises(InputError, match=r"^url: .* is no usable URL\. Use the form http://host:port"):
        require_url(value, "url")


@pytest.mark.parametrize(
    ("value", "same"),
    [
        ("http://127.0.0.1:8080", "http://127.0.0.1:8080"),
        ("https://models.example.org/", "https://models.example.org"),
        ("https://example.org/edge/", "https://example.org/edge"),
        ("http://[::1]:8501", "http://[::1]:8501"),
    ],
)
def test_good_urls_lose_only_their_last_slash(value: str, same: str) -> None:
    assert require_url(value, "url") == same


def test_what_stands_twice_is_named() -> None:
    require_unique(["a", "b"], "models")
    with pytest.raises(InputError, match=r"models: 'b' stands there more than once\. Name each one once\."):
        require_unique(["a", "b", "b"], "models")


@given(st.from_regex(re.compile(r"[A-Za-z0-9]([A-Za-z0-9._-]{0,61}[A-Za-z0-9])?", re.ASCII), fullmatch=True))
@settings(max_examples=50, deadline=None)
def test_a_model_name_becomes_part_of_an_object_name(model: str) -> None:
    name = kubernetes_name(require_model(model, "model"))
    assert len(name) <= 40
    assert require_dns_label(f"model-{name}-grpc", "name")


def test_names_that_look_alike_stay_apart() -> None:
    models = ["a-b", "a_b", "A-b", "a.b", "a--b", "x" * 50, "x" * 51]
    assert len({kubernetes_name(model) for model in models}) == len(models)
    assert kubernetes_name("half-plus-two") == "half-plus-two"
    assert kubernetes_name("half_plus_two").startswith("half-plus-two-")
