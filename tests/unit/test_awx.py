# SPDX-FileCopyrightText: The modelfleet maintainers
# SPDX-License-Identifier: GPL-3.0-or-later
"""The survey for AWX asks for what the role takes."""

from __future__ import annotations

import json
from pathlib import Path

import yaml

CHECKOUT = Path(__file__).resolve().parents[2]


def test_the_survey_asks_for_what_the_role_takes() -> None:
    survey = json.loads((CHECKOUT / "extensions/awx/failover_survey.json").read_text())
    specs = yaml.safe_load((CHECKOUT / "roles/failover/meta/argument_specs.yml").read_text())
    options = specs["argument_specs"]["main"]["options"]
    for question in survey["spec"]:
        option = options[question["variable"]]
        if question["type"] == "multiselect":
            assert question["choices"] == option["choices"]
        assert not question["required"]
    # AWX refuses a survey without these.
    assert {"name", "description", "spec"} <= set(survey)
