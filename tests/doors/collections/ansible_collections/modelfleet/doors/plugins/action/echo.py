# SPDX-FileCopyrightText: The modelfleet maintainers
# SPDX-License-Identifier: GPL-3.0-or-later
"""The door inside the controller of the feature that the tests of the doors use."""

from __future__ import annotations

from ansible_collections.modelfleet.doors.plugins.module_utils._echo import FEATURE
from ansible_collections.modelfleet.serving.plugins.plugin_utils._action import InProcessAction


class ActionModule(InProcessAction):
    """Run echo here when the connection is local."""

    feature = FEATURE
