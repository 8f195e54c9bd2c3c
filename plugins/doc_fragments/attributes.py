# SPDX-FileCopyrightText: The modelfleet maintainers
# SPDX-License-Identifier: GPL-3.0-or-later
"""The attributes that the modules of this collection share."""

from __future__ import annotations


class ModuleDocFragment:
    """How the modules behave as tasks."""

    DOCUMENTATION = r"""
attributes:
  check_mode:
    description: Can run in check mode and tell what would change, without changing it.
    support: full
  diff_mode:
    description: Returns what changed, or would change, object by object, in diff mode.
    support: full
  idempotent:
    description: A second run without changes in between changes nothing.
    support: full
  async:
    description: Can be run with the C(async) keyword.
    support: none
"""

    INFO = r"""
attributes:
  check_mode:
    description: Can run in check mode and tell what would change, without changing it.
    support: full
    details: This module only reads.
  diff_mode:
    description: Returns what changed, or would change, object by object, in diff mode.
    support: N/A
    details: This module only reads.
  idempotent:
    description: A second run without changes in between changes nothing.
    support: full
    details: This module only reads.
  async:
    description: Can be run with the C(async) keyword.
    support: none
"""

    CLUSTER = r"""
options: {}
attributes:
  action_group:
    description: Use C(group/modelfleet.serving.cluster) in C(module_defaults) to set the connection options once.
    support: full
    membership: modelfleet.serving.cluster
"""

    ENDPOINT = r"""
options: {}
attributes:
  action_group:
    description: Use C(group/modelfleet.serving.endpoint) in C(module_defaults) to set the balancer options once.
    support: full
    membership: modelfleet.serving.endpoint
"""
