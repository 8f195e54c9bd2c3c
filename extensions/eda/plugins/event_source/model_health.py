# SPDX-FileCopyrightText: The modelfleet maintainers
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Ask clusters for golden predictions, and tell when that changes for good."""

from __future__ import annotations

DOCUMENTATION = r"""
---
short_description: Ask clusters for golden predictions, and tell when one stops answering right.
description:
  - An ansible-rulebook event source plugin that asks every cluster's edge for golden predictions, several times a second, and
    tells confirmed changes.
  - An event is flat. Its C(type) is C(unhealthy) or C(healthy). C(cluster), C(model), C(models), C(reason), C(unhealthy)
    (all clusters that are) and C(common_cause) say what is wrong, C(detected) when the first wrong answer came and C(since)
    when that was confirmed, both in ISO 8601, and C(repeated) how often it was told before.
  - C(common_cause) is true where moving traffic does not help. No cluster answers right, or most clusters answer the same
    model wrong, which is its release. A controller that is cut off sees no cluster answer right.
  - Needs what ansible-rulebook itself brings, and the collection in its place, C(ansible_collections/modelfleet/serving).
options:
  config:
    description:
      - Path of a YAML file with any of the other options, as the playbook C(modelfleet.serving.automation) writes it.
      - When the file changes, it is read again. One that is not valid leaves everything as it was, and an error is logged.
    type: str
  endpoint:
    description:
      - Name of the global endpoint, for the events.
    type: str
    default: ""
  clusters:
    description:
      - The clusters, each with C(name) and C(url), where its edge listens. Required, here or in the file.
    type: list
    elements: dict
  models:
    description:
      - The models, each with C(name), C(golden) as the catalogue has it, and C(host) for an edge that tells models apart by the
        Host header. Required, here or in the file.
    type: list
    elements: dict
  interval:
    description:
      - Seconds from one round of a model's golden requests to the next, in each cluster.
    type: float
    default: 0.5
  jitter:
    description:
      - The part of the interval by which it varies at random.
    type: float
    default: 0.1
  timeout:
    description:
      - Seconds for one answer.
    type: float
    default: 1.5
  fall:
    description:
      - So many wrong rounds in a row make a model wrong.
    type: int
    default: 3
  rise:
    description:
      - So many right rounds in a row make a model right again.
    type: int
    default: 5
  repeat:
    description:
      - Seconds after which a cluster that stays unhealthy is told again, so that a failover that was refused is tried again.
    type: float
    default: 60
  validate_certs:
    description:
      - Whether an edge's certificate must be valid.
    type: bool
    default: true
"""

EXAMPLES = r"""
- modelfleet.serving.model_health:
    config: /etc/modelfleet/model_health.yml

- modelfleet.serving.model_health:
    endpoint: models
    clusters:
      - {name: gke-europe-west1, url: http://gke-europe-west1.edge.example.org}
      - {name: eks-eu-central-1, url: http://eks-eu-central-1.edge.example.org}
    models:
      - name: half_plus_two
        golden:
          - request: {instances: [1.0, 2.0, 5.0]}
            response: {predictions: [2.5, 3.0, 4.5]}
    interval: 1
    fall: 5
"""

import asyncio
import json
import logging
import random
import sys
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import aiohttp
import jsonschema
import yaml

# ansible-rulebook runs this file by its path, and Ansible's own loader of collections is not there.
_HERE = Path(__file__).absolute()
if _HERE.parents[6].name == "ansible_collections":
    sys.path.append(str(_HERE.parents[7]))
    import ansible_collections

    # The package ansible brings an ansible_collections of its own, which knows no other places.
    if str(_HERE.parents[6]) not in list(ansible_collections.__path__):
        ansible_collections.__path__.append(str(_HERE.parents[6]))

from ansible_collections.modelfleet.serving.plugins.module_utils._errors import InputError, ServingError
from ansible_collections.modelfleet.serving.plugins.module_utils._failover.health import Answer, Health, Patience
from ansible_collections.modelfleet.serving.plugins.module_utils._names import (
    require_host_name,
    require_unique,
    require_url,
)
from ansible_collections.modelfleet.serving.plugins.module_utils._tfserving.answer import is_prediction, read_prediction
from ansible_collections.modelfleet.serving.plugins.module_utils._tfserving.golden import Golden, goldens

Json = dict[str, Any]

_SCHEMA = json.loads((_HERE.parent / "schemas" / "model_health.json").read_text())
# What arguments and file must be together.
_WHOLE = {**_SCHEMA, "anyOf": [{}], "required": ["clusters", "models"]}
_LOOK_FOR_CHANGES_SECONDS = 1.0
_log = logging.getLogger("modelfleet.serving.model_health")


async def main(queue: asyncio.Queue[Any], args: Json) -> None:
    """Watch until cancelled."""
    path = Path(args["config"]) if args.get("config") else None
    stamp = _stamp(path)
    options = _options(args, path)
    while True:
        watching = asyncio.create_task(_watch(queue, options))
        changing = asyncio.create_task(_changed(args, path, stamp))
        try:
            await asyncio.wait((watching, changing), return_when=asyncio.FIRST_COMPLETED)
            # The watch never ends by itself: this raises what ended it.
            if watching.done():
                watching.result()
            stamp, options = changing.result()
        finally:
            watching.cancel()
            changing.cancel()
            await asyncio.gather(watching, changing, return_exceptions=True)


def _stamp(path: Path | None) -> tuple[int, int]:
    """Give what changes when the file does; a missing file is caught when it is read."""
    try:
        status = path.stat() if path else None
    except OSError:
        status = None
    return (status.st_mtime_ns, status.st_ino) if status else (0, 0)


async def _changed(args: Json, path: Path | None, stamp: tuple[int, int]) -> tuple[tuple[int, int], Json]:
    """Wait until the file has changed, and is valid."""
    while True:
        await asyncio.sleep(_LOOK_FOR_CHANGES_SECONDS)
        if (newer := _stamp(path)) == stamp:
            continue
        stamp = newer
        try:
            options = _options(args, path)
        except InputError as error:
            _log.error("%s What was read before stays in use.", error)
        else:
            _log.warning("%s has changed, and is in use.", path)
            return stamp, options


def _options(args: Json, path: Path | None) -> Json:
    """Put together arguments, file and defaults.

    :raises InputError: for what the schema does not allow.
    """
    # ansible-rulebook may add these.
    given = {key: value for key, value in args.items() if key not in ("config", "feedback", "eda_feedback_queue")}
    try:
        read = yaml.safe_load(path.read_text()) if path else {}
    except (OSError, UnicodeError, yaml.YAMLError) as error:
        raise InputError(
            f"config: {path} can't be read: {error}.", hint="The playbook modelfleet.serving.automation writes it."
        ) from None
    if not isinstance(read, dict):
        raise InputError(f"config: {path} is no mapping of options.")
    options = {**read, **given}
    try:
        jsonschema.validate(options, _WHOLE)
    except jsonschema.ValidationError as error:
        place = ".".join(str(part) for part in error.absolute_path)
        raise InputError(
            f"{f'{path}: ' if path else ''}{f'{place}: ' if place else ''}{error.message}.",
            hint="See the documentation of the event source model_health.",
        ) from None
    defaults = {key: entry["default"] for key, entry in _SCHEMA["properties"].items() if "default" in entry}
    options = {**defaults, **options}
    for cluster in options["clusters"]:
        require_url(cluster["url"], f"clusters: {cluster['name']}: url")
    require_unique([cluster["name"] for cluster in options["clusters"]], "clusters")
    for model in options["models"]:
        if model.get("host") is not None:
            require_host_name(model["host"], f"models: {model['name']}: host")
        # The same defaults as model_probe has.
        model["golden"] = [
            {"name": "golden", **golden, "tolerance": float(golden.get("tolerance", 1e-5))}
            for golden in model["golden"]
        ]
    goldens(options["models"])
    return options


async def _watch(queue: asyncio.Queue[Any], options: Json) -> None:
    patience = Patience(
        fall=options["fall"],
        rise=options["rise"],
        repeat=options["repeat"],
        # As long as it takes to confirm that a silent cluster is one.
        hearing=options["fall"] * options["interval"] * (1 + options["jitter"]) + options["timeout"],
    )
    clusters, models = options["clusters"], options["models"]
    health = Health(
        options["endpoint"],
        [cluster["name"] for cluster in clusters],
        [model["name"] for model in models],
        patience,
        _text,
    )
    # Nobody who asks waits for a rule engine that is busy.
    events: asyncio.Queue[Json] = asyncio.Queue()
    # A new connection each time, as a new client makes one.
    connector = aiohttp.TCPConnector(limit=0, force_close=True, ssl=options["validate_certs"])
    timeout = aiohttp.ClientTimeout(total=options["timeout"])
    async with (
        aiohttp.ClientSession(connector=connector, timeout=timeout, trust_env=True) as session,
        asyncio.TaskGroup() as group,
    ):
        for cluster in clusters:
            for model in models:
                group.create_task(_ask_on(session, cluster, model, options, health, events))
        while True:
            await queue.put(await events.get())


def _text(moment: float) -> str:
    """Give a moment of the monotonic clock in ISO 8601."""
    wall = time.time() - (time.monotonic() - moment)
    return datetime.fromtimestamp(wall, tz=UTC).isoformat(timespec="milliseconds")


async def _ask_on(
    session: aiohttp.ClientSession,
    cluster: Json,
    model: Json,
    options: Json,
    health: Health,
    events: asyncio.Queue[Json],
) -> None:
    """Ask one model of one cluster, for ever.

    The next round does not wait for the answer of this one, or a silent cluster would be confirmed a timeout a round
    later. No more are on their way than confirm it, and they are heard in the order in which they were asked.
    """
    interval, jitter, fall = options["interval"], options["jitter"], options["fall"]
    url, host, wanted = cluster["url"].rstrip("/"), model.get("host"), goldens([model])
    under_way = asyncio.Semaphore(fall)
    rounds: asyncio.Queue[asyncio.Task[Answer]] = asyncio.Queue()

    async def hear() -> None:
        while True:
            answer = await (await rounds.get())
            under_way.release()
            for event in health.hear(cluster["name"], model["name"], answer):
                events.put_nowait(event)

    await asyncio.sleep(random.uniform(0, interval))
    async with asyncio.TaskGroup() as group:
        group.create_task(hear())
        while True:
            await under_way.acquire()
            asked = time.monotonic()
            rounds.put_nowait(group.create_task(_round(session, url, host, wanted, options["timeout"])))
            pause = interval * random.uniform(1 - jitter, 1 + jitter)
            await asyncio.sleep(max(0.0, asked + pause - time.monotonic()))


async def _round(
    session: aiohttp.ClientSession, url: str, host: str | None, wanted: list[Golden], timeout: float
) -> Answer:
    """Ask the golden requests up to the first that is answered wrong."""
    asked = time.monotonic()
    answered = False
    for golden in wanted:
        error = ""
        try:
            async with session.post(
                f"{url}/v1/models/{golden.model}:predict",
                json=golden.request,
                headers={"Host": host} if host else None,
                allow_redirects=False,
            ) as response:
                answer = read_prediction(response.status, await response.read())
            answered = answered or is_prediction(answer)
            error = golden.mismatch(answer)
        except ServingError as failure:
            error = str(failure)
        except TimeoutError:
            error = f"{url}: no answer within {timeout:g} s"
        except (aiohttp.ClientError, OSError, ValueError) as failure:
            error = f"{url}: no answer: {failure}"
        if error:
            return Answer(asked, time.monotonic(), f"{golden.name}: {error}", answered)
    return Answer(asked, time.monotonic(), "", True)
