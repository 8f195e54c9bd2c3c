#!/usr/bin/python
# SPDX-FileCopyrightText: The modelfleet maintainers
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the journal of failovers says."""

from __future__ import annotations

DOCUMENTATION = r"""
module: fleet_journal_info
short_description: Read the journal of failovers
description:
  - Reads a journal, holds it against its checksums, and puts the entries of each run together.
  - A journal that is not there yet is an empty one. A damaged one is an error that says how to recover it.
version_added: 0.1.0
author:
  - The modelfleet maintainers (@modelfleet)
extends_documentation_fragment:
  - modelfleet.serving.attributes.info
options:
  path:
    description: The journal.
    type: path
    required: true
seealso:
  - module: modelfleet.serving.fleet_journal
"""

EXAMPLES = r"""
- name: Look at the failovers of the past
  modelfleet.serving.fleet_journal_info:
    path: ~/.local/state/modelfleet/models.journal
  register: journal
"""

RETURN = r"""
entries:
  description: All entries, oldest first.
  returned: success
  type: list
  elements: dict
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
    checksum:
      description: SHA-256 of the entry.
      type: str
runs:
  description: The runs, oldest first.
  returned: success
  type: list
  elements: dict
  contains:
    run:
      description: Name of the run.
      type: str
    who:
      description: Who ran it.
      type: str
    why:
      description: Why.
      type: str
    epoch:
      description: Epoch of the fleet lock.
      type: int
    action:
      description: V(failover), V(failback) or V(revert).
      type: str
    started:
      description: When it started.
      type: str
    ended:
      description: When it ended; V(null) while it has no outcome.
      type: str
    outcome:
      description: V(completed), V(reverted), V(abandoned), V(refused), V(failed) or V(unfinished). A failed run is not over.
      type: str
    reason:
      description: The plan, or the failure, in one sentence.
      type: str
    seconds:
      description: Seconds by phase, with C(detect), C(decide), C(scale), C(shift), C(verify) and C(whole), as far as they are known.
      type: dict
    lost:
      description: Requests that the balancer answered with a server error from the plan to the end; V(null) where that is not known.
      type: int
    plan:
      description: The plan; V(null) when it was refused.
      type: dict
    holder:
      description: How the run held the fleet lock.
      type: str
    process:
      description: The process that ran it, with C(host), C(pid) and C(started); V(null) where that is not known.
      type: dict
unfinished:
  description:
    - The last run that meant to move traffic and has no outcome; V(null) without one. It has the keys of RV(runs).
    - C(alive) tells whether its process still runs; V(null) where that can't be told.
  returned: success
  type: dict
last_shift:
  description: The last time that traffic moved or was about to; V(null) without one.
  returned: success
  type: dict
  contains:
    seconds_ago:
      description: How long ago.
      type: float
    run:
      description: In which run.
      type: str
gate:
  description: Whether an operator keeps traffic from moving.
  returned: success
  type: dict
  contains:
    closed:
      description: Whether it is closed.
      type: bool
    who:
      description: Who closed or opened it.
      type: str
    why:
      description: Why.
      type: str
    since:
      description: When; V(null) when nobody ever did.
      type: str
last:
  description: Checksum of the last entry that is no refusal; empty without one.
  returned: success
  type: str
now:
  description: The time of reading, on the machine that has the journal.
  returned: success
  type: str
me:
  description: User and host that read it.
  returned: success
  type: str
"""

from ansible_collections.modelfleet.serving.plugins.module_utils._call import run_as_module
from ansible_collections.modelfleet.serving.plugins.module_utils._features.fleet_journal_info import FEATURE


def main() -> None:
    """Run the module."""
    run_as_module(FEATURE)


if __name__ == "__main__":
    main()
