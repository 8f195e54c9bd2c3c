# SPDX-FileCopyrightText: The modelfleet maintainers
# SPDX-License-Identifier: GPL-3.0-or-later
"""The door of serving_prober inside the controller's process."""

from __future__ import annotations

from ansible_collections.modelfleet.serving.plugins.module_utils._features.serving_prober import FEATURE
from ansible_collections.modelfleet.serving.plugins.plugin_utils._action import InProcessAction


class ActionModule(InProcessAction):
    """Run serving_prober here when the connection is local."""

    feature = FEATURE
