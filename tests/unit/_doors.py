# SPDX-FileCopyrightText: The modelfleet maintainers
# SPDX-License-Identifier: GPL-3.0-or-later
"""Run a feature by its module's own door, arguments and result as JSON, without paying for a new interpreter."""

from __future__ import annotations

import contextlib
import importlib
import io
import json
from typing import Any

from ansible.module_utils.common.parameters import PASS_VARS
from ansible.module_utils.testing import patch_module_args

from ansible_collections.modelfleet.serving.plugins.module_utils._call import Feature

MODULES = (
    "bundle",
    "cluster_health",
    "image_server",
    "model_probe",
    "model_route",
    "model_route_info",
    "model_server",
    "model_server_info",
    "model_store",
    "model_store_info",
    "server_scale",
    "serving_namespace",
    "serving_prober",
    "serving_prune",
)


def feature(module: str) -> Feature:
    """Give the feature behind a module."""
    path = f"ansible_collections.modelfleet.serving.plugins.module_utils._features.{module}"
    found: Feature = importlib.import_module(path).FEATURE
    return found


def run_module(module: str, arguments: dict[str, Any], *, check: bool = False, diff: bool = True) -> dict[str, Any]:
    """Run a module in this process; gives what it printed."""
    path = f"ansible_collections.modelfleet.serving.plugins.modules.{module}"
    modes = {"_ansible_check_mode": check, "_ansible_diff": diff}
    if "inject_invocation" in PASS_VARS:  # since ansible-core 2.21, a module returns its arguments on demand only
        modes["_ansible_inject_invocation"] = True
    output = io.StringIO()
    main = importlib.import_module(path).main
    with (
        patch_module_args({**arguments, **modes}),
        contextlib.redirect_stdout(output),
        contextlib.suppress(SystemExit),
    ):
        main()
    result: dict[str, Any] = json.loads(output.getvalue())
    return result
