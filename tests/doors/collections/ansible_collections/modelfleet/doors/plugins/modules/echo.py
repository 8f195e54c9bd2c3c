# SPDX-FileCopyrightText: The modelfleet maintainers
# SPDX-License-Identifier: GPL-3.0-or-later
"""The module door of the feature that the tests of the doors use."""

from __future__ import annotations

from ansible_collections.modelfleet.doors.plugins.module_utils._echo import FEATURE
from ansible_collections.modelfleet.serving.plugins.module_utils._call import run_as_module


def main() -> None:
    """Run the module."""
    run_as_module(FEATURE)


if __name__ == "__main__":
    main()
