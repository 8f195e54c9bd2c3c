# SPDX-FileCopyrightText: The modelfleet maintainers
# SPDX-License-Identifier: GPL-3.0-or-later
"""The door of model_route_info inside the controller's process."""

from __future__ import annotations

from ansible_collections.modelfleet.serving.plugins.module_utils._features.model_route_info import FEATURE
from ansible_collections.modelfleet.serving.plugins.plugin_utils._action import InProcessAction


class ActionModule(InProcessAction):
    """Run model_route_info here when the connection is local."""

    feature = FEATURE
