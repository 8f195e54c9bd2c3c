# SPDX-FileCopyrightText: The modelfleet maintainers
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the playbook validate says of catalogues."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

Json = dict[str, Any]
CHECKOUT = Path(__file__).resolve().parents[2]
GOLDEN = [{"request": {"instances": [1.0]}, "response": {"predictions": [2.5]}}]
SAVED = {"name": "half_plus_two", "source": "/srv/m", "versions": [1], "golden": GOLDEN}
IMAGE = {"name": "churn", "image": "team/churn:1", "golden": GOLDEN}
BUILT = {"name": "forest", "build": {"path": "/srv/f", "repository": "team/forest"}, "golden": GOLDEN}


def validate(tmp_path: Path, models: list[Json], **variables: Any) -> str:
    """Run the playbook; gives what it says against the catalogue, or an empty string."""
    inventory = {"clusters": {"hosts": {"a": {}}}, "all": {"vars": {"serving_models": models, **variables}}}
    (tmp_path / "hosts.json").write_text(json.dumps(inventory))
    (tmp_path / "ansible.cfg").touch()
    done = subprocess.run(
        [sys.executable, "-m", "ansible", "playbook", "--inventory", "hosts.json", "modelfleet.serving.validate"],
        cwd=tmp_path,
        env={
            **os.environ,
            "ANSIBLE_CONFIG": str(tmp_path / "ansible.cfg"),
            "ANSIBLE_COLLECTIONS_PATH": str(CHECKOUT / "build" / "collections"),
            "ANSIBLE_STDOUT_CALLBACK": "ansible.builtin.default",
        },
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode == 0:
        return ""
    (line,) = [line for line in done.stdout.splitlines() if line.startswith("fatal: [localhost]")]
    return str(json.loads(line.partition("=> ")[2])["msg"])


@pytest.mark.ansible
@pytest.mark.parametrize(
    ("models", "variables", "words"),
    [
        ([SAVED, IMAGE, BUILT], {}, ""),
        ([IMAGE], {}, ""),
        ([{**SAVED, **IMAGE}, BUILT], {}, "It is not clear what serves churn: a model in serving_models"),
        ([{**IMAGE, **BUILT}], {}, "It is not clear what serves forest:"),
        ([{"name": "m", "golden": GOLDEN}], {}, "It is not clear what serves m:"),
        ([{"name": "m", "source": "/srv/m", "golden": GOLDEN}], {}, "It is not clear what serves m:"),
        ([{**BUILT, "build": {"path": "/srv/f"}}], {}, "missing required arguments: repository"),
        (
            [SAVED, BUILT],
            {"serving_server": "forest"},
            "which is that of a model server, too: forest. Give one of them",
        ),
    ],
)
def test_what_serves_a_model_is_clear(models: list[Json], variables: Json, words: str, tmp_path: Path) -> None:
    said = validate(tmp_path, models, **variables)
    assert words in said
    assert bool(said) == bool(words)
