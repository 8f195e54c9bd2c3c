# SPDX-FileCopyrightText: The modelfleet maintainers
# SPDX-License-Identifier: GPL-3.0-or-later
"""Documentation of the arguments of modules that apply a bundle, in ``module_utils/_cluster/arguments.py``."""

from __future__ import annotations


class ModuleDocFragment:
    """The options of every module that applies a bundle."""

    DOCUMENTATION = r"""
notes:
  - Objects are applied by the server (server-side apply, field manager C(modelfleet)), several at once, in the order of
    their dependencies. Only fields that this module sets are compared, shown in a diff, and mended.
  - An object that stands as it was last applied is not sent again. The record of that is kept beside the objects, in a
    ConfigMap.
  - In check mode the server says what would happen, by its dry run. For a namespace that does not exist yet it is asked
    in the namespace C(default), where quotas and policies may be others.
  - What an earlier run applied and this one does not is deleted, found by the labels of an ApplySet. Nothing else is.
options:
  force_conflicts:
    description:
      - Whether to take over fields that another field manager owns, and objects of another bundle of this collection.
      - Without it, the task fails and names the manager.
    type: bool
    default: false
"""
