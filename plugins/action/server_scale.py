# SPDX-FileCopyrightText: The modelfleet maintainers
# SPDX-License-Identifier: GPL-3.0-or-later
"""The door of server_scale inside the controller's process."""

from __future__ import annotations

from ansible_collections.modelfleet.serving.plugins.module_utils._features.server_scale import FEATURE
from ansible_collections.modelfleet.serving.plugins.plugin_utils._action import InProcessAction


class ActionModule(InProcessAction):
    """Run server_scale here when the connection is local."""

    feature = FEATURE
