# SPDX-FileCopyrightText: The modelfleet maintainers
# SPDX-License-Identifier: GPL-3.0-or-later
"""Keep some keys of each dictionary in a list, under their own or other names."""

from __future__ import annotations

DOCUMENTATION = r"""
name: pick
short_description: Keep only some keys of each dictionary in a list, under their own or other names
version_added: 0.1.0
author:
  - The modelfleet maintainers (@modelfleet)
description:
  - Returns a copy of the list in which each dictionary has only the keys that are named.
  - A key that a dictionary lacks is skipped, so that the receiver's own default applies.
  - The variables of hosts are such dictionaries, too.
positional: keys
options:
  _input:
    description: The dictionaries.
    type: list
    elements: dict
    required: true
  keys:
    description: One or more keys to keep, each as an argument of its own.
    type: list
    elements: str
  renamed:
    description:
      - Keys to keep under another name, each as a keyword of its own, C(new='old').
      - One key is needed at least, here or in O(keys).
    type: dict
"""

EXAMPLES = r"""
- name: Give a module only what it takes of the catalogue
  ansible.builtin.debug:
    msg: "{{ serving_models | modelfleet.serving.pick('name', 'versions') }}"
  vars:
    serving_models:
      - {name: half_plus_two, versions: [1, 2], source: /srv/models/half_plus_two}

- name: Give a module the clusters as the inventory describes them
  ansible.builtin.debug:
    msg: >-
      {{ groups['clusters'] | map('extract', hostvars)
         | modelfleet.serving.pick(name='inventory_hostname', context='cluster_context') }}
"""

RETURN = r"""
_value:
  description: The dictionaries with the named keys only.
  type: list
  elements: dict
  sample: [{"name": "half_plus_two", "versions": [1, 2]}]
"""

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from ansible.errors import AnsibleFilterError


def pick(entries: Iterable[Mapping[str, Any]], *keys: str, **renamed: str) -> list[dict[str, Any]]:
    """Give each dictionary with the named keys only, in the order of the names.

    :param renamed: the old key of each new one.
    """
    wanted = {key: key for key in keys} | renamed
    if not wanted:
        raise AnsibleFilterError("modelfleet.serving.pick needs one key or more to keep.")
    if isinstance(entries, str | Mapping) or not isinstance(entries, Iterable):
        raise AnsibleFilterError("modelfleet.serving.pick takes a list of dictionaries.")
    result = []
    for position, entry in enumerate(entries):
        if not isinstance(entry, Mapping):
            raise AnsibleFilterError(
                f"modelfleet.serving.pick takes a list of dictionaries, and entry {position} is not one."
            )
        result.append({new: entry[old] for new, old in wanted.items() if old in entry})
    return result


class FilterModule:
    """The filters of this file."""

    def filters(self) -> dict[str, Callable[..., Any]]:
        """Name the filters."""
        return {"pick": pick}
