#!/usr/bin/python
# SPDX-FileCopyrightText: The modelfleet maintainers
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Print a text; the action plugin of the same name does it."""

from __future__ import annotations

DOCUMENTATION = r"""
module: show
short_description: Print a text as it is
description:
  - Prints a text of one or more lines to the controller's output, without quotes or escapes.
  - Use it for tables and reports that people read.
version_added: 0.1.0
author:
  - The modelfleet maintainers (@modelfleet)
attributes:
  action:
    description: Indicates this has a corresponding action plugin so some parts of the options can be executed on the controller.
    support: full
  async:
    description: Can be run with the C(async) keyword.
    support: none
  check_mode:
    description: Can run in check mode and tell what would change, without changing it.
    support: full
    details: It prints in check mode too.
  diff_mode:
    description: Returns what changed, or would change, object by object, in diff mode.
    support: N/A
    details: This module changes nothing.
  idempotent:
    description: A second run without changes in between changes nothing.
    support: full
    details: This module changes nothing.
options:
  text:
    description: The text.
    type: str
    required: true
"""

EXAMPLES = r"""
- name: Print a table
  modelfleet.serving.show:
    text: "{{ lookup('ansible.builtin.template', 'table.txt.j2') }}"
"""

RETURN = r"""
text:
  description: The text, without line breaks at its end.
  returned: success
  type: str
"""
