# SPDX-FileCopyrightText: The modelfleet maintainers
# SPDX-License-Identifier: GPL-3.0-or-later
"""Turn what the clusters and the balancer said into one table."""

from __future__ import annotations

DOCUMENTATION = r"""
name: fleet_status
short_description: Turn what the clusters and the balancer said into one table
version_added: 0.1.0
author:
  - The modelfleet maintainers (@modelfleet)
description:
  - Joins the results of M(modelfleet.serving.model_server_info), M(modelfleet.serving.model_store_info),
    M(modelfleet.serving.model_probe) and P(modelfleet.serving.one_endpoint#filter) into rows, one a cluster and model.
  - A result that is missing or failed never stops it; the row says so.
positional: models, endpoint, servers
options:
  _input:
    description: The clusters, in the order of the table.
    type: list
    elements: dict
    required: true
    suboptions:
      inventory_hostname:
        description: Name of the cluster.
        type: str
        required: true
      cluster_cloud:
        description: Name of its cloud.
        type: str
      cluster_region:
        description: Name of its region.
        type: str
      serving_status_servers:
        description: Result of M(modelfleet.serving.model_server_info).
        type: dict
      serving_status_stores:
        description: Result of M(modelfleet.serving.model_store_info).
        type: dict
      serving_status_probe:
        description: Result of M(modelfleet.serving.model_probe).
        type: dict
  models:
    description: The catalogue.
    type: list
    elements: dict
    required: true
  endpoint:
    description: What P(modelfleet.serving.one_endpoint#filter) gives; empty where there is no endpoint to ask.
    type: dict
    default: {}
  servers:
    description:
      - The servers of the catalogue, as pairs of a name and its entries of the catalogue.
      - Without it nothing is said of other servers.
    type: list
    elements: list
    default: []
"""

EXAMPLES = r"""
- name: Show the fleet
  modelfleet.serving.show:
    text: "{{ lookup('ansible.builtin.template', 'status.txt.j2') }}"
  vars:
    status: "{{ clusters | modelfleet.serving.fleet_status(serving_models, endpoint) }}"
"""

RETURN = r"""
_value:
  description: The table.
  type: dict
  contains:
    ok:
      description: Whether nothing is wrong.
      type: bool
    problems:
      description: What is wrong, in sentences, without repetition.
      type: list
      elements: str
    leftovers:
      description: What the clusters serve beside the catalogue, in sentences. Nothing is wrong because of it.
      type: list
      elements: str
    clusters:
      description:
        - The clusters with their C(rows), one a model, their C(traffic), and C(error) where one could not be asked.
      type: list
      elements: dict
    right:
      description: Number of golden predictions that were right.
      type: int
    asked:
      description: Number of golden predictions that were asked for.
      type: int
    reachable:
      description: Number of clusters that answered.
      type: int
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any


def fleet_status(
    clusters: Sequence[Mapping[str, Any]],
    models: Sequence[Mapping[str, Any]],
    endpoint: Mapping[str, Any] | None = None,
    servers: Sequence[tuple[str, Sequence[Mapping[str, Any]]]] = (),
) -> dict[str, Any]:
    """Join the results into the table that the templates print."""
    problems: list[str] = []
    traffic = _traffic(endpoint or {}, problems)
    homes = {model["name"]: server for server, entries in servers for model in entries}
    table = [_cluster(cluster, models, homes, traffic, problems) for cluster in clusters]
    problems += _differences(table)
    rows = [row for entry in table for row in entry["rows"]]
    return {
        "ok": not problems,
        "problems": problems,
        "leftovers": _leftovers(clusters, homes) if homes else [],
        "clusters": table,
        "right": sum(row["right"] for row in rows),
        "asked": sum(row["asked"] for row in rows),
        "reachable": sum(entry["reachable"] for entry in table),
    }


def _failure(result: Mapping[str, Any] | None) -> str:
    """Give why a result is none, or an empty string."""
    if not result:
        return "it was not asked"
    if result.get("unreachable") or result.get("failed"):
        return str(result.get("msg") or "it gave no reason")
    return ""


def _first_line(text: str) -> str:
    return (text.strip().splitlines() or [""])[0]


def _traffic(endpoint: Mapping[str, Any], problems: list[str]) -> dict[str, dict[str, Any]]:
    """Give what the balancer says of each member, with its share of the traffic in percent."""
    if not endpoint or endpoint.get("skipped"):
        return {}
    if why := _failure(endpoint):
        problems.append(f"The endpoint: {_first_line(why)}")
        return {}
    if not endpoint.get("exists"):
        problems.append("The endpoint does not exist yet.")
        return {}
    members = endpoint["members"]
    # Where the balancer asks nobody, up is not known, and traffic goes to all active members.
    # Standby members carry traffic only when no active one can.
    able = [member for member in members if member["up"] is not False and member["traffic"]]
    carrying = [member for member in able if member["state"] == "active"] or able
    total = sum(member["traffic"] for member in carrying)
    result = {}
    for member in members:
        share = round(100 * member["traffic"] / total) if member in carrying else 0
        reasons = [f"{model}: {reason}" for model, reason in member["reasons"].items()]
        if member["up"] is False:
            reasons = reasons or [f"{model}: its check fails" for model, right in member["models"].items() if not right]
        row = {key: member[key] for key in ("state", "weight", "up", "forced", "sessions")}
        result[member["name"]] = {**row, "share": share, "reason": "; ".join(reasons)}
        if member["state"] != "drained" and member["up"] is False:
            said = f" ({'; '.join(reasons)})" if reasons else ""
            problems.append(f"{member['name']}: the balancer finds it down{said}.")
        if member["forced"]:
            problems.append(f"{member['name']}: someone forced it at the balancer ({member['forced']}).")
    problems += [
        f"{model}: its check fails in every cluster, so the balancer sends requests without regard to checks."
        for model in endpoint["fail_open"]
    ]
    problems += [f"{host['name']}: the balancer could not be asked: {host['reason']}" for host in endpoint["silent"]]
    problems += [
        f"{step['subject']}: the balancer differs from its definition: {step['reason']}." for step in endpoint["drift"]
    ]
    return result


def _cluster(
    cluster: Mapping[str, Any],
    models: Sequence[Mapping[str, Any]],
    homes: Mapping[str, str],
    traffic: Mapping[str, Mapping[str, Any]],
    problems: list[str],
) -> dict[str, Any]:
    name = cluster["inventory_hostname"]
    found = cluster.get("serving_status_servers")
    error = _failure(found)
    unreachable = not found or bool(found.get("unreachable"))
    entry: dict[str, Any] = {
        "name": name,
        "cloud": cluster.get("cluster_cloud") or "",
        "region": cluster.get("cluster_region") or "",
        "reachable": not unreachable,
        "error": _first_line(error),
        "traffic": dict(traffic[name]) if name in traffic else None,
        "rows": [],
    }
    if error:
        problems.append(f"{name} {'is unreachable' if unreachable else 'could not be asked'}: {entry['error']}")
        return entry
    servers = (found or {}).get("servers", [])
    served = {model: server for server in servers for model in server["models"]}
    # Of several servers, that of the catalogue counts.
    served |= {model: server for server in servers for model in server["models"] if homes.get(model) == server["name"]}
    for server in servers:
        problems += [
            f"{name}: pod {pod['name']} could not be asked: {_first_line(pod['error'])}"
            for pod in server["pods"]
            if pod["error"]
        ]
        if fault := (server.get("autoscaling") or {}).get("fault"):
            problems.append(f"{name}: the autoscaler of {server['name']} does not scale: {_first_line(fault)}.")
    probe, stores = cluster.get("serving_status_probe") or {}, cluster.get("serving_status_stores") or {}
    wanted = {model["name"]: model for model in models}
    for model in [*wanted, *(other for other in served if other not in wanted)]:
        row = _row(model, wanted.get(model), served.get(model), probe, stores)
        problems += [f"{name}: {model}: {problem}" for problem in row["problems"]]
        entry["rows"].append(row)
    return entry


def _leftovers(clusters: Sequence[Mapping[str, Any]], homes: Mapping[str, str]) -> list[str]:
    """Say what the clusters serve beside the catalogue, and how to end it."""
    found = []
    for cluster in clusters:
        for server in (cluster.get("serving_status_servers") or {}).get("servers", []):
            who, models = f"{cluster['inventory_hostname']}: the server {server['name']}", server["models"]
            if server["name"] not in homes.values():
                serves = f" ({', '.join(models)})" if models else ""
                found.append(f"{who}{serves} is not in the catalogue. Deploy with serving_prune=true to remove it.")
                continue
            found += [
                f"{who} still serves {model}, which the catalogue has on {homes[model]}. Deploy again to end it."
                for model in models
                if homes.get(model, server["name"]) != server["name"]
            ]
    return found


def _row(
    model: str,
    wanted: Mapping[str, Any] | None,
    server: Mapping[str, Any] | None,
    probe: Mapping[str, Any],
    stores: Mapping[str, Any],
) -> dict[str, Any]:
    problems: list[str] = []
    pods = server["pods"] if server else []
    digests = _digests(model, stores)
    to_serve = _to_serve(wanted or {})
    states: dict[int, list[str]] = {version: [] for version in to_serve}
    for pod in pods:
        for version, state in pod["models"].get(model, {}).items():
            states.setdefault(int(version), []).append(state)
    versions = []
    for version, found in sorted(states.items()):
        available = found.count("AVAILABLE")
        expected = version in to_serve
        # An old version that is being unloaded is listed by the server for a while.
        if expected or available:
            versions.append(
                {
                    "version": version,
                    "pods": available,
                    "ok": not expected or (available == len(pods) > 0),
                    "digest": digests.get(str(version), ""),
                }
            )
        if server and expected and available < len(pods):
            problems.append(f"version {version} is available in {available} of {len(pods)} pods.")
    for label, version in (server or {}).get("labels", {}).get(model, {}).items():
        elsewhere = [pod["name"] for pod in pods if pod.get("labels", {}).get(model, {}).get(label) != version]
        if elsewhere:
            problems.append(f"the label {label} does not lead to version {version} in pod {elsewhere[0]}.")
    answers = [answer for answer in _answers(probe) if answer["model"] == model]
    wrong = [answer for answer in answers if not answer["right"]]
    if server is None:
        problems.append("it is not deployed.")
    else:
        if server["available_replicas"] < server["replicas"]:
            problems.append(f"{server['available_replicas']} of {server['replicas']} pods are ready.")
        if wanted and not answers:
            problems.append(f"no prediction was made: {_first_line(_failure(probe)) or 'there is no pod to ask'}.")
    if wrong:
        first = _first_line(wrong[0]["error"])
        problems.append(f"{len(wrong)} of {len(answers)} predictions are not right. {wrong[0]['target']}: {first}")
    problems += [
        f"version {entry['version']} in the store {store['name']} is not the published one."
        for store in stores.get("stores", [])
        for entry in store.get("tampered", [])
        if entry["model"] == model
    ]
    return {
        "model": model,
        "wanted": wanted is not None,
        "deployed": server is not None,
        "versions": versions,
        "ready": server["available_replicas"] if server else 0,
        "replicas": server["replicas"] if server else 0,
        "right": len(answers) - len(wrong),
        "asked": len(answers),
        "slowest": max((answer["seconds"] for answer in answers), default=0.0),
        "problems": problems,
    }


def _to_serve(wanted: Mapping[str, Any]) -> list[int]:
    """Give the versions that an entry of the catalogue wants served."""
    versions = sorted(int(version) for version in wanted.get("versions", []))
    return versions[-wanted.get("num_versions", 1) :] if wanted.get("version_policy") == "latest" else versions


def _answers(probe: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """Give the answers of a probe, or of several: a loop over the servers has a result for each."""
    return [
        answer
        for result in probe.get("results", [])
        for answer in (_answers(result) if "model" not in result else [result])
    ]


def _differences(table: Sequence[Mapping[str, Any]]) -> list[str]:
    """Say where clusters serve different versions of a model, or other files under the same version."""
    served: dict[str, dict[tuple[int, ...], list[str]]] = {}
    digests: dict[tuple[str, int], dict[str, list[str]]] = {}
    for cluster in table:
        for row in cluster["rows"]:
            if not row["deployed"]:
                continue
            versions = tuple(version["version"] for version in row["versions"] if version["pods"])
            served.setdefault(row["model"], {}).setdefault(versions, []).append(cluster["name"])
            for version in row["versions"]:
                if version["digest"]:
                    same = digests.setdefault((row["model"], version["version"]), {})
                    same.setdefault(version["digest"], []).append(cluster["name"])
    found = []
    for model, by_versions in served.items():
        if len(by_versions) > 1:
            parts = [
                f"{', '.join(map(str, versions)) or 'none'} in {', '.join(names)}"
                for versions, names in by_versions.items()
            ]
            found.append(f"{model}: the clusters serve different versions: {'; '.join(parts)}.")
    for (model, version), by_digest in digests.items():
        if len(by_digest) > 1:
            parts = [f"{digest} in {', '.join(names)}" for digest, names in by_digest.items()]
            found.append(f"{model}: version {version} has different files: {'; '.join(parts)}.")
    return found


def _digests(model: str, stores: Mapping[str, Any]) -> dict[str, str]:
    """Give version to digest, as the stores' records have them."""
    return {
        version: digest
        for store in stores.get("stores", [])
        for version, digest in store["versions"].get(model, {}).items()
    }


class FilterModule:
    """The filters of this file."""

    def filters(self) -> dict[str, Callable[..., Any]]:
        """Name the filters."""
        return {"fleet_status": fleet_status}
