# SPDX-FileCopyrightText: The modelfleet maintainers
# SPDX-License-Identifier: GPL-3.0-or-later
"""An image built from a folder, named by its content, where it is needed: in a registry, in nodes, or in the engine."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from ansible_collections.modelfleet.serving.plugins.module_utils._call import Call, Feature, Result
from ansible_collections.modelfleet.serving.plugins.module_utils._errors import InputError
from ansible_collections.modelfleet.serving.plugins.module_utils._image.context import Context, read_context
from ansible_collections.modelfleet.serving.plugins.module_utils._image.engine import Engine, connect
from ansible_collections.modelfleet.serving.plugins.module_utils._names import require_unique

# https://pkg.go.dev/github.com/distribution/reference, without tag and digest.
_COMPONENT = r"[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*"
_REPOSITORY = re.compile(rf"(?:[A-Za-z0-9][A-Za-z0-9.-]*(?::[0-9]+)?/)?{_COMPONENT}(?:/{_COMPONENT})*")
ENGINE, REGISTRY = "engine", "registry"


def run(call: Call) -> Result:
    """Have an image where it is wanted, or nowhere."""
    params = call.params
    if not _REPOSITORY.fullmatch(params["repository"]):
        raise InputError(
            f"repository: {params['repository']!r} is no name of a repository.",
            hint="Use the form registry.example.com/team/forest, without a tag: that is made from the content.",
        )
    if params["timeout"] < 1:
        raise InputError(f"timeout: {params['timeout']} is no time.", hint="Give seconds, such as 1200.")
    require_unique(params["load_into"], "load_into")
    build_args = _texts(params["build_args"])
    context = read_context(Path(params["path"]), params["dockerfile"])
    tag = context.digest(build_args=build_args, platform=params["platform"])
    image = f"{params['repository']}:{tag}"
    with connect(params["docker_host"], params["timeout"], params["registry_auth"], call.progress) as engine:
        if params["state"] == "absent":
            return _remove(call, engine, image)
        lacking = [place for place in _places(params) if not _has(engine, image, place)]
        steps = _steps(engine, image, lacking, params["push"])
        if not call.check_mode:
            _take(engine, image, context, steps, params, build_args)
        return _result(image, steps, lacking, ("absent", "present"))


def _places(params: Mapping[str, Any]) -> list[str]:
    """Name where the image is wanted; the engine that builds it need not keep it when it is wanted elsewhere."""
    wanted = [*([REGISTRY] if params["push"] else []), *params["load_into"]]
    return wanted or [ENGINE]


def _has(engine: Engine, image: str, place: str) -> bool:
    if place == ENGINE:
        return engine.has(image)
    return engine.registry_has(image) if place == REGISTRY else engine.node_has(place, image)


def _steps(engine: Engine, image: str, lacking: list[str], push: bool) -> list[tuple[str, str]]:
    """Say how the image gets where it lacks: pairs of an action and a place."""
    if not lacking:
        return []
    steps = []
    if not engine.has(image):
        in_registry = push and REGISTRY not in lacking
        steps.append(("pull" if in_registry else "build", ENGINE))
    steps += [("push" if place == REGISTRY else "load", place) for place in lacking if place != ENGINE]
    return steps


def _take(
    engine: Engine,
    image: str,
    context: Context,
    steps: list[tuple[str, str]],
    params: Mapping[str, Any],
    build_args: dict[str, str],
) -> None:
    actions = {action for action, _place in steps}
    if "build" in actions:
        engine.build(image, context, build_args=build_args, platform=params["platform"], network=params["network"])
    if "pull" in actions:
        engine.pull(image, params["platform"])
    if "push" in actions:
        engine.push(image)
    if nodes := [place for action, place in steps if action == "load"]:
        with engine.saved(image) as archive:
            for node in nodes:
                engine.load(archive, image, node)


def _remove(call: Call, engine: Engine, image: str) -> Result:
    """Remove the image from the engine and the nodes; no registry lets an image be removed by its name."""
    holding = [place for place in (ENGINE, *call.params["load_into"]) if _has(engine, image, place)]
    steps = [("remove", place) for place in holding]
    if not call.check_mode:
        for place in holding:
            if place == ENGINE:
                engine.remove(image)
            else:
                engine.remove_from_node(image, place)
    return _result(image, steps, holding, ("present", "absent"))


def _result(image: str, steps: list[tuple[str, str]], places: Iterable[str], states: tuple[str, str]) -> Result:
    before, after = ("".join(f"{place}: {state}\n" for place in places) for state in states)
    return Result(
        changed=bool(steps),
        diff=[{"before_header": image, "after_header": image, "before": before, "after": after}] if steps else [],
        values={"image": image, "steps": [{"action": action, "place": place} for action, place in steps]},
    )


def _texts(build_args: Mapping[str, Any]) -> dict[str, str]:
    """Give build arguments as a Dockerfile takes them: YAML has numbers, truth values and nulls, it has only texts."""
    return {
        name: value if isinstance(value, str) else json.dumps(value)
        for name, value in build_args.items()
        if value is not None
    }


FEATURE = Feature(
    arguments={
        "path": {"type": "path", "required": True},
        "repository": {"type": "str", "required": True},
        "state": {"type": "str", "choices": ["present", "absent"], "default": "present"},
        "dockerfile": {"type": "str", "default": "Dockerfile"},
        "build_args": {"type": "dict", "default": {}},
        "platform": {"type": "str"},
        "network": {"type": "str"},
        "push": {"type": "bool", "default": False},
        "registry_auth": {
            "type": "dict",
            "options": {
                "username": {"type": "str", "required": True},
                "password": {"type": "str", "required": True, "no_log": True},
            },
        },
        "load_into": {"type": "list", "elements": "str", "default": []},
        "docker_host": {"type": "str"},
        "timeout": {"type": "int", "default": 1200},
    },
    run=run,
)
