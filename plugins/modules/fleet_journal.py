#!/usr/bin/python
# SPDX-FileCopyrightText: The modelfleet maintainers
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Write one event into the journal of failovers."""

from __future__ import annotations

DOCUMENTATION = r"""
module: fleet_journal
short_description: Write an event into the journal of failovers
description:
  - Appends one line and has it on disk before it returns, so that whatever is done next is known to have been intended.
  - Each line holds the checksum of the line before it, and a small file beside the journal holds the last one. A line that was changed,
    taken out or cut off is found, and then nothing is written until O(recover=true) is given.
  - A last line without its end, which a run leaves that dies while it writes, is put aside with a warning.
version_added: 0.1.0
author:
  - The modelfleet maintainers (@modelfleet)
extends_documentation_fragment:
  - modelfleet.serving.attributes
attributes:
  diff_mode:
    support: none
  idempotent:
    details: The same event of the same run with the same data is written once. An event is new when another one came between.
options:
  path:
    description: The journal. Its folder is made when it is missing.
    type: path
    required: true
  endpoint:
    description: Name of the endpoint. A journal belongs to one.
    type: str
    required: true
  event:
    description: What happened.
    type: str
    choices: [intent, scaled, shifted, completed, failed, reverted, abandoned, refused, gate_closed, gate_opened]
  run:
    description: Name of the run.
    type: str
    default: ""
  epoch:
    description: Epoch of the fleet lock.
    type: int
    default: 0
  who:
    description: Who does it. The user and the host that run the module, unless given.
    type: str
  why:
    description: Why it is done, for people.
    type: str
    default: ""
  data:
    description: What else is to be kept, such as the plan.
    type: dict
    default: {}
  if_last:
    description:
      - What RV(modelfleet.serving.fleet_journal_info#module:last) was when the decision was taken.
      - Nothing is written when the journal has gone on since.
    type: str
  recover:
    description: Keep the sound entries of a damaged journal, and put the damaged file aside. A sound journal stays as it is.
    type: bool
    default: false
seealso:
  - module: modelfleet.serving.fleet_journal_info
"""

EXAMPLES = r"""
- name: Nothing may be moved today
  modelfleet.serving.fleet_journal:
    path: ~/.local/state/modelfleet/models.journal
    endpoint: models
    event: gate_closed
    why: the provider works on the network until noon
"""

RETURN = r"""
entry:
  description: The entry as it was written, or the last one where it says the same already.
  returned: success
  type: dict
  contains:
    number:
      description: Its place, from 1.
      type: int
    time:
      description: When it was written, UTC, ISO 8601.
      type: str
    endpoint:
      description: Name of the endpoint.
      type: str
    run:
      description: Name of the run.
      type: str
    event:
      description: What happened.
      type: str
    epoch:
      description: Epoch of the fleet lock that the run held; 0 without one.
      type: int
    who:
      description: Who ran it.
      type: str
    why:
      description: Why.
      type: str
    data:
      description: What else is known.
      type: dict
    before:
      description: SHA-256 of the entry before.
      type: str
last:
  description: Checksum of the last entry that is no refusal, for O(if_last).
  returned: when O(event) is given
  type: str
"""

from ansible_collections.modelfleet.serving.plugins.module_utils._call import run_as_module
from ansible_collections.modelfleet.serving.plugins.module_utils._features.fleet_journal import FEATURE


def main() -> None:
    """Run the module."""
    run_as_module(FEATURE)


if __name__ == "__main__":
    main()
