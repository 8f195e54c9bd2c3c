# SPDX-FileCopyrightText: The modelfleet maintainers
# SPDX-License-Identifier: GPL-3.0-or-later
"""The filter one_endpoint."""

from __future__ import annotations

DOCUMENTATION = r"""
name: one_endpoint
author:
  - The modelfleet maintainers (@modelfleet)
version_added: 0.1.0
short_description: Join what several balancers of one endpoint say
description:
  - Several HAProxies may carry one endpoint, each with a file of its own. This joins what they were found to do into
    one view, in the form that M(modelfleet.serving.global_endpoint_info) gives.
  - The definition is that of the latest epoch. A member is up where all find it up. Counts are summed.
positional: _input
options:
  _input:
    description:
      - Result of M(modelfleet.serving.global_endpoint_info) in a loop whose items are hosts of the inventory. Hosts
        that could not be asked are left out.
    type: dict
    required: true
  optional:
    description: When no host could be asked, give the failure as a result, in place of failing.
    type: bool
    default: false
"""

EXAMPLES = r"""
- name: Ask the balancers
  modelfleet.serving.global_endpoint_info:
  loop: [edge-1.example.org, edge-2.example.org]
  delegate_to: "{{ item }}"
  ignore_errors: true
  ignore_unreachable: true
  register: asked

- name: Show who is drained
  ansible.builtin.debug:
    msg: "{{ (asked | modelfleet.serving.one_endpoint).members | selectattr('state', 'eq', 'drained') }}"
"""

RETURN = r"""
_value:
  description:
    - The joined view, in the form of M(modelfleet.serving.global_endpoint_info), with the following beside it.
    - Its C(drift) names the hosts whose definition is another than that of the latest epoch, too.
  type: dict
  contains:
    hosts:
      description: The hosts that answered and know the same members, as dictionaries with C(name) and C(digest).
      type: list
      elements: dict
    silent:
      description: The hosts that could not be asked, as dictionaries with C(name) and C(reason).
      type: list
      elements: dict
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from ansible.errors import AnsibleFilterError


def one_endpoint(asked: Mapping[str, Any], optional: bool = False) -> dict[str, Any]:
    """Join the results of a loop over the hosts."""
    if asked.get("skipped"):
        return dict(asked)
    by_host = {result[result["ansible_loop_var"]]: result for result in asked.get("results", [])}
    if not by_host:
        raise AnsibleFilterError("modelfleet.serving.one_endpoint takes the result of a task with a loop over hosts.")
    silent = [{"name": host, "reason": _reason(result)} for host, result in by_host.items() if not _answered(result)]
    views = {host: result for host, result in by_host.items() if _answered(result)}
    if not views:
        words = "; ".join(f"{entry['name']}: {entry['reason']}" for entry in silent)
        if optional:
            return {"failed": True, "msg": words}
        raise AnsibleFilterError(f"No host of the endpoint's balancer could be asked: {words}")
    # The first of those with the latest epoch: who holds the fleet lock writes, whoever is behind was away.
    leader = max(views, key=lambda host: (views[host]["exists"], views[host]["epoch"]))
    latest = views[leader]
    names = {member["name"] for member in latest["members"]}
    return {
        **{key: value for key, value in latest.items() if key not in ("ansible_loop_var", latest["ansible_loop_var"])},
        "addresses": sorted({address for view in views.values() for address in view["addresses"]}),
        "members": [_member(member, list(views.values())) for member in latest["members"]],
        "fail_open": sorted({model for view in views.values() for model in view["fail_open"]}),
        "drift": [step for view in views.values() for step in view["drift"]] + _behind(views, leader),
        "errors": _sum([view["errors"] for view in views.values() if view["exists"]]),
        "hosts": [
            {"name": host, "digest": view["digest"]}
            for host, view in views.items()
            if {member["name"] for member in view["members"]} == names
        ],
        "silent": silent,
    }


def _answered(result: Mapping[str, Any]) -> bool:
    return not result.get("failed") and not result.get("unreachable")


def _reason(result: Mapping[str, Any]) -> str:
    return " ".join(str(result.get("msg") or "it gave no reason").split())


def _member(member: Mapping[str, Any], views: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Join what each balancer says of a member; what is wrong at one of them is told."""
    found = [entry for view in views for entry in view["members"] if entry["name"] == member["name"]]
    down = [entry for entry in found if entry["up"] is False]
    return {
        **(down[0] if down else member),
        **{key: member[key] for key in ("address", "port", "weight", "state", "traffic")},
        "forced": next((entry["forced"] for entry in found if entry["forced"]), ""),
        "sessions": _sum([entry["sessions"] for entry in found]),
        "rate": _sum([entry["rate"] for entry in found]),
    }


def _behind(views: Mapping[str, Mapping[str, Any]], leader: str) -> list[dict[str, str]]:
    latest = views[leader]
    return [
        {
            "action": "mend",
            "subject": host,
            "reason": f"it is not that of {leader} (its epoch is {view['epoch']}, there {latest['epoch']}); run"
            " modelfleet.serving.endpoint",
        }
        for host, view in views.items()
        if view["digest"] != latest["digest"]
    ]


def _sum(values: Sequence[Any]) -> Any:
    """Add up what is known; ``None`` where one is not."""
    return None if any(value is None for value in values) else sum(values)


class FilterModule:
    """The filters of this file."""

    def filters(self) -> dict[str, Callable[..., Any]]:
        """Name the filters."""
        return {"one_endpoint": one_endpoint}
