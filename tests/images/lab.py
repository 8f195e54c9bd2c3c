# SPDX-FileCopyrightText: The modelfleet maintainers
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the tests of images need: the engine, a node of the local fleet, and the feature itself."""

from __future__ import annotations

import functools
import os
from pathlib import Path
from typing import Any

import docker
from ansible.module_utils.common.arg_spec import ArgumentSpecValidator

from ansible_collections.modelfleet.serving.plugins.module_utils._call import Call, Result
from ansible_collections.modelfleet.serving.plugins.module_utils._features.model_image import FEATURE

CHECKOUT = Path(__file__).resolve().parents[2]
HOME = Path(os.environ.get("MODELFLEET_HOME") or Path.home() / ".cache" / "modelfleet")
CLUSTER = "modelfleet-gcp-europe-west1"
NODE = f"{CLUSTER}-control-plane"


@functools.cache
def engine() -> Any:
    """Give a client of the engine; None where there is none."""
    try:
        return docker.from_env(timeout=600)
    except docker.errors.DockerException:
        return None


def on_node(*command: str) -> str:
    """Run a command in the node; gives what it says, or an empty string where there is no such node."""
    try:
        node = engine().containers.get(NODE)
    except (AttributeError, docker.errors.NotFound):
        return ""
    result = node.exec_run(list(command))
    assert result.exit_code == 0, result.output
    return str(result.output.decode()) or "done"


def build(*, check: bool = False, progress: list[str] | None = None, **arguments: Any) -> Result:
    """Run model_image by its own function."""
    validated = ArgumentSpecValidator(FEATURE.arguments).validate(arguments)
    assert not validated.error_messages
    told = (progress if progress is not None else []).append
    return FEATURE.run(Call(validated.validated_parameters, check_mode=check, progress=told))
