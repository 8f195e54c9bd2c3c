# SPDX-FileCopyrightText: The modelfleet maintainers
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

from typing import Any

import pytest

from ansible_collections.modelfleet.serving.plugins.module_utils._store.collect import Use, surplus, user_of

RECORD = {"m": {str(version): f"digest {version}" for version in (1, 2, 9, 10, 11)}, "n": {"1": "digest"}}


def entry(*versions: int, **more: Any) -> dict[str, Any]:
    return {"name": "m", "versions": list(versions), "keep": None, **more}


@pytest.mark.parametrize(
    ("listed", "keep", "gone"),
    [
        ([11], None, []),
        ([11], 0, [10, 9, 2, 1]),
        ([11], 1, [9, 2, 1]),
        ([2], 2, [9, 1]),
        ([11], 4, []),
        ([11], 9, []),
        ([12], 1, [10, 9, 2, 1]),
    ],
)
def test_the_newest_that_are_not_listed_stay(listed: list[int], keep: int | None, gone: list[int]) -> None:
    assert surplus(RECORD, [entry(*listed, keep=keep)]) == [("m", version) for version in gone]


def test_a_model_that_is_not_in_the_store_has_nothing_to_go() -> None:
    assert surplus({}, [entry(1, keep=0)]) == []


def test_what_a_server_uses_is_found() -> None:
    uses = [Use("a", "m", {1, 2}), Use("b", "n", None)]
    assert user_of("m", 2, uses) == "a"
    assert user_of("m", 3, uses) is None
    assert user_of("n", 3, uses) == "b", "a server that chooses by itself may choose any"
