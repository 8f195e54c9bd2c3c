# SPDX-FileCopyrightText: The modelfleet maintainers
# SPDX-License-Identifier: GPL-3.0-or-later
"""The event source model_health, asking real HTTP servers."""

from __future__ import annotations

import asyncio
import itertools
import json
import logging
import re
import time
from datetime import datetime
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml
from _edges import COLLECTION, EDA, GOLDEN, QUICK, SOURCE, Edge, Json, Watch, fleet, options, source, watching
from ansible_rulebook.validators import Validate

from ansible_collections.modelfleet.serving.plugins.module_utils._errors import InputError

SCHEMA = json.loads((SOURCE.parent / "schemas" / "model_health.json").read_text())
NAMES = ("aws", "azure", "gcp")


def told(events: list[Json]) -> list[tuple[str, str, bool]]:
    return [(event["type"], event["cluster"], event["common_cause"]) for event in events]


@pytest.mark.parametrize(
    ("mood", "words"),
    [
        ("silent", "no answer within 0.5 s"),
        ("wrong", "golden: ['predictions'][0] is 2.33"),
        ("error", "Servable not found (404)"),
        ("html", "the answer is not JSON"),
        ("gone", "no answer: Cannot connect"),
    ],
)
def test_trouble_is_told_once_and_so_is_its_end(mood: str, words: str) -> None:
    async def run() -> None:
        async with fleet(*NAMES) as edges, watching(edges, options(edges)) as watch:
            await watch.rounds(5)
            assert watch.events == []
            before = datetime.now().astimezone()
            before = before.replace(microsecond=before.microsecond // 1000 * 1000)  # as exact as an event's times
            aws = edges["aws"]
            aws.mood = mood
            if mood == "gone":
                await aws.stop()
            await watch.until(len)
            (event,) = watch.events
            others = {"azure": edges["azure"], "gcp": edges["gcp"]}
            await Watch(others).rounds(10)
            assert len(watch.events) == 1
            assert told(watch.events) == [("unhealthy", "aws", False)]
            assert (event["endpoint"], event["model"], event["unhealthy"]) == ("test", "half_plus_two", ["aws"])
            assert event["reason"].startswith("aws: half_plus_two: golden: ")
            assert words in event["reason"]
            detected, since = (datetime.fromisoformat(event[key]) for key in ("detected", "since"))
            assert before <= detected < since <= datetime.now().astimezone()

            aws.mood = "right"
            if mood == "gone":
                await aws.start()
            await watch.until(lambda events: len(events) == 2)
            await watch.rounds(5)
            assert told(watch.events)[1:] == [("healthy", "aws", False)]
            assert watch.events[1]["unhealthy"] == []

    asyncio.run(run())


def test_a_tolerance_is_a_number_also_where_yaml_takes_it_for_a_text() -> None:
    async def run() -> None:
        models = [{"name": "m", "host": None, "golden": [{**GOLDEN, "tolerance": "2e-1"}]}]
        async with fleet(*NAMES) as edges, watching(edges, {**options(edges), "models": models}) as watch:
            # A third instead of a half is within a fifth of the whole answer.
            for edge in edges.values():
                edge.mood = "wrong"
            await watch.rounds(10)
            assert watch.events == []

    asyncio.run(run())


def test_a_cluster_that_flaps_makes_no_storm() -> None:
    async def run() -> None:
        async with fleet(*NAMES) as edges, watching(edges, options(edges)) as watch:
            edges["aws"].mood = "flapping"
            await watch.rounds(40)
            assert watch.events == []
            edges["aws"].mood = "wrong"
            await watch.until(len)
            edges["aws"].mood = "flapping"
            await watch.rounds(40)
            assert told(watch.events) == [("unhealthy", "aws", False)]

    asyncio.run(run())


def test_when_none_answers_no_cluster_is_blamed_neither_then_nor_afterwards() -> None:
    async def run() -> None:
        async with fleet(*NAMES) as edges, watching(edges, options(edges, ("a", "b"))) as watch:
            await watch.rounds(4)
            # One misses first, as one always does.
            edges["azure"].mood = "silent"
            await asyncio.sleep(QUICK["timeout"])
            for edge in edges.values():
                edge.mood = "silent"
            await watch.until(lambda events: len(events) >= 3)
            assert sorted(told(watch.events)) == [("unhealthy", name, True) for name in NAMES]
            assert watch.events[0]["unhealthy"] == list(NAMES)
            assert "no cluster answers right" in watch.events[0]["reason"]
            for edge in edges.values():
                edge.mood = "right"
                await asyncio.sleep(0.02)
            await watch.until(lambda events: len(events) >= 6)
            await watch.rounds(5)
            assert sorted(told(watch.events)[3:]) == [("healthy", name, False) for name in NAMES]

    asyncio.run(run())


def test_a_bad_release_is_no_outage_and_hides_none() -> None:
    async def run() -> None:
        async with fleet(*NAMES) as edges, watching(edges, options(edges, ("a", "b"))) as watch:
            for edge in edges.values():
                edge.moods["a"] = "wrong"
            await watch.until(lambda events: len(events) == 3)
            assert sorted(told(watch.events)) == [("unhealthy", name, True) for name in NAMES]
            assert "its release is the cause" in watch.events[0]["reason"]
            assert {event["model"] for event in watch.events} == {"a"}
            edges["gcp"].mood = "silent"
            await watch.until(lambda events: len(events) == 4)
            event = watch.events[3]
            assert told([event]) == [("unhealthy", "gcp", False)]
            assert (event["model"], event["models"]) == ("b", ["a", "b"])

    asyncio.run(run())


def test_two_that_die_together_are_told_with_each_other() -> None:
    async def run() -> None:
        async with fleet(*NAMES) as edges, watching(edges, options(edges)) as watch:
            await watch.rounds(3)
            edges["aws"].mood = edges["gcp"].mood = "silent"
            await watch.until(lambda events: len(events) == 2)
            assert sorted(told(watch.events)) == [("unhealthy", "aws", False), ("unhealthy", "gcp", False)]
            assert [event["unhealthy"] for event in watch.events] == [["aws", "gcp"]] * 2

    asyncio.run(run())


def test_what_lasts_is_told_again() -> None:
    async def run() -> None:
        async with fleet(*NAMES) as edges, watching(edges, options(edges, repeat=0.3)) as watch:
            edges["aws"].mood = "wrong"
            await watch.until(lambda events: len(events) == 3)
            assert [event["repeated"] for event in watch.events] == [0, 1, 2]
            assert len({event["detected"] for event in watch.events}) == 1

    asyncio.run(run())


def test_what_a_server_says_is_no_template() -> None:
    async def run() -> None:
        async with fleet(*NAMES) as edges, watching(edges, options(edges)) as watch:
            edges["aws"].mood = "hostile"
            await watch.until(len)
            reason = watch.events[0]["reason"]
            assert "touch /tmp/taken-over" in reason
            assert reason.isprintable()
            assert not any(sign in reason for sign in ("{{", "{%", "{#"))

    asyncio.run(run())


def test_the_interval_varies() -> None:
    async def run() -> None:
        async with fleet("aws") as edges, watching(edges, options(edges, interval=0.1, jitter=0.5)):
            await Watch(edges).rounds(20)
            times = edges["aws"].asked
            pauses = [later - earlier for earlier, later in itertools.pairwise(times)]
            # One pause may seem short where the answer before it was late; all of them together may not.
            assert max(pauses) - min(pauses) > 0.02
            assert sum(pauses) / len(pauses) > 0.06

    asyncio.run(run())


def test_a_rule_engine_that_is_busy_keeps_nobody_waiting() -> None:
    async def run() -> None:
        async with fleet(*NAMES) as edges:
            full: asyncio.Queue[Json] = asyncio.Queue(1)
            full.put_nowait({})
            task = asyncio.create_task(source()["main"](full, options(edges, repeat=0.1)))
            edges["aws"].mood = "wrong"
            await Watch(edges).rounds(30)
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    asyncio.run(run())


def test_nothing_is_left_of_it_when_it_is_cancelled() -> None:
    async def run() -> None:
        async with fleet(*NAMES) as edges:
            edges["aws"].mood = "silent"
            others = asyncio.all_tasks()
            task = asyncio.create_task(source()["main"](asyncio.Queue(), options(edges, timeout=30)))
            await Watch({"gcp": edges["gcp"]}).rounds(3)
            assert edges["aws"].open >= 1
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            asked = len(edges["gcp"].asked)
            await asyncio.sleep(0.2)
            assert edges["aws"].open == 0
            assert len(edges["gcp"].asked) == asked
            assert {each for each in asyncio.all_tasks() - others if "model_health" in str(each)} == set()

    asyncio.run(run())


def write(path: Path, content: Any) -> None:
    """Write as Ansible does: the new file takes the old one's place at once."""
    new = path.with_suffix(".new")
    new.write_text(content if isinstance(content, str) else yaml.safe_dump(content))
    new.rename(path)


def test_its_file_is_read_again_when_it_changes(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    async def run() -> None:
        path = tmp_path / "model_health.yml"
        async with fleet("aws", "gcp", "new") as edges:
            old: dict[str, Edge] = {name: edges[name] for name in ("aws", "gcp")}
            write(path, options(old))
            async with watching(edges, {"config": str(path), "repeat": 3600}) as watch:
                await Watch(old).rounds(3)
                assert edges["new"].asked == []
                write(path, "clusters: []")
                while "stays in use" not in caplog.text:
                    await asyncio.sleep(0.05)
                assert "'models' is a required property" in caplog.text
                await Watch(old).rounds(3)
                write(path, options(edges))
                await watch.rounds(3)
                edges["new"].mood = "wrong"
                await watch.until(len)
                assert told(watch.events) == [("unhealthy", "new", False)]

    with caplog.at_level(logging.WARNING):
        asyncio.run(asyncio.wait_for(run(), 20))


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"clusters": []}, "clusters: [] should be non-empty"),
        ({"clusters": [{"name": "a"}]}, "'url' is a required property"),
        ({"clusters": [{"name": "a", "url": "http://u:p@h"}]}, "an address with credentials is no usable URL"),
        ({"clusters": [{"name": "a", "url": "http://h"}] * 2}, "'a' stands there more than once"),
        ({"models": [{"name": "m", "golden": []}]}, "models.0.golden: [] should be non-empty"),
        ({"models": [{"name": "../m", "golden": [GOLDEN]}]}, "'../m' is no valid name"),
        ({"models": [{"name": "m", "golden": [GOLDEN], "host": "a b"}]}, "'a b' is no valid name"),
        ({"models": [{"name": "m", "golden": [{**GOLDEN, "tolerance": "much"}]}]}, "'much' does not match"),
        ({"interval": 0}, "interval: 0 is less than or equal to the minimum of 0"),
        ({"fall": 0}, "fall: 0 is less than the minimum of 1"),
        ({"jitter": 2}, "jitter: 2 is greater than the maximum of 1"),
        ({"intervall": 1}, "'intervall' was unexpected"),
        ({"config": "/nowhere/file.yml"}, "config: /nowhere/file.yml can't be read"),
    ],
)
def test_bad_options_are_refused_before_anything_is_asked(change: Json, words: str) -> None:
    async def run() -> None:
        async with fleet("aws") as edges:
            with pytest.raises(InputError, match=re.escape(words)):
                await asyncio.wait_for(source()["main"](asyncio.Queue(), {**options(edges), **change}), 5)
            assert edges["aws"].asked == []

    asyncio.run(run())


def test_the_documentation_says_what_the_schema_says() -> None:
    jsonschema.Draft202012Validator.check_schema(SCHEMA)
    loaded = source()
    documented = yaml.safe_load(loaded["DOCUMENTATION"])["options"]
    types = {"string": "str", "number": "float", "integer": "int", "boolean": "bool", "array": "list"}
    assert {key: (entry["type"], entry.get("default")) for key, entry in documented.items()} == {
        key: (types[entry["type"]], entry.get("default")) for key, entry in SCHEMA["properties"].items()
    }
    for example in yaml.safe_load(loaded["EXAMPLES"]):
        jsonschema.validate(example["modelfleet.serving.model_health"], SCHEMA)


def test_a_golden_request_means_what_it_means_to_model_probe() -> None:
    ours = SCHEMA["properties"]["models"]["items"]["properties"]["golden"]["items"]
    probe = yaml.safe_load(
        (COLLECTION / "plugins/modules/model_probe.py").read_text().split('DOCUMENTATION = r"""')[1].split('"""')[0]
    )["options"]["models"]["suboptions"]["golden"]["suboptions"]
    assert {key: entry.get("default") for key, entry in ours["properties"].items()} == {
        key: entry.get("default") for key, entry in probe.items()
    }
    assert set(ours["required"]) == {key for key, entry in probe.items() if entry.get("required")}


@pytest.mark.parametrize("path", sorted((EDA / "rulebooks").glob("*.yml")), ids=lambda path: path.stem)
def test_the_rulebooks_are_valid_and_give_the_source_what_it_knows(path: Path) -> None:
    rulebook = yaml.safe_load(path.read_text())
    Validate.rulebook(rulebook)
    (given,) = [source["modelfleet.serving.model_health"] for play in rulebook for source in play["sources"]]
    assert set(given) <= set(SCHEMA["properties"])


def test_a_silent_cluster_is_asked_on_but_not_by_more_than_confirm_it() -> None:
    async def run() -> None:
        async with fleet(*NAMES) as edges, watching(edges, options(edges, timeout=2.0)) as watch:
            edges["aws"].mood = "silent"
            # Before the first of them is given up.
            await watch.until(lambda _: edges["aws"].open == QUICK["fall"], 1.5)
            await watch.until(len)
            assert told(watch.events) == [("unhealthy", "aws", False)]
            assert edges["aws"].most_open == QUICK["fall"]

    asyncio.run(run())


def test_it_is_as_quick_as_its_options_say() -> None:
    """Three answers in a row, one interval apart."""

    async def run() -> None:
        async with fleet(*NAMES) as edges, watching(edges, options(edges, interval=0.1, jitter=0)) as watch:
            await watch.rounds(3)
            start = time.monotonic()
            edges["aws"].mood = "wrong"
            await watch.until(len)
            # Whatever else the machine does; it takes a third of a second where it does nothing.
            assert 0.2 <= time.monotonic() - start < 5

    asyncio.run(run())
