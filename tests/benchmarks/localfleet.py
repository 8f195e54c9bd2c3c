# SPDX-FileCopyrightText: The modelfleet maintainers
# SPDX-License-Identifier: GPL-3.0-or-later
"""The local fleet under faults: what breaks one of its clusters, what mends it, and its endpoint.

The benchmark of failovers and the tests of faults use it. Everything is done on this machine, by Docker and by the
collection's own functions.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ansible.module_utils.common.arg_spec import ArgumentSpecValidator

CHECKOUT = Path(__file__).resolve().parents[2]
if str(CHECKOUT / "build" / "collections") not in sys.path:
    sys.path.insert(0, str(CHECKOUT / "build" / "collections"))

from ansible_collections.modelfleet.serving.plugins.module_utils._call import Call, Feature  # noqa: E402
from ansible_collections.modelfleet.serving.plugins.module_utils._features import (  # noqa: E402
    bundle,
    global_endpoint,
    global_endpoint_info,
)

Json = dict[str, Any]

HOME = Path(os.environ.get("MODELFLEET_HOME") or Path.home() / ".cache" / "modelfleet")
URL = "http://127.0.0.1:8080"
ENDPOINT = "local"
HAPROXY = {
    "config_path": str(HOME / "haproxy" / "haproxy.cfg"),
    "master": "127.0.0.1:9998",
    "validate_command": ["docker", "exec", "-i", "modelfleet-endpoint", "haproxy", "-c", "-f", "/dev/stdin"],
}
CLUSTERS = ("aws-eu-west-1", "azure-westeurope", "gcp-europe-west1")
EDGES = {"gcp-europe-west1": 8081, "aws-eu-west-1": 8082, "azure-westeurope": 8083}
NAMESPACE = "serving"
HALF_PLUS_TWO = "/v1/models/half_plus_two:predict"
REQUEST, RESPONSE = {"instances": [1.0, 2.0, 5.0]}, {"predictions": [2.5, 3.0, 4.5]}
# The size of the slow fault. A cluster without any load takes 0.2 of a processor; with a quarter of that, it still
# answers, seconds late. With 0.15, how late depended on the load, and on the machine.
SLOW_CPUS = 0.05


class FleetError(Exception):
    """The fleet is not what a fault needs it to be."""


def run(feature: Feature, given: Mapping[str, Any]) -> Json:
    """Run a feature as its module does."""
    validated = ArgumentSpecValidator(feature.arguments).validate(dict(given))
    if validated.error_messages:
        raise ValueError("; ".join(validated.error_messages))
    result: Json = json.loads(json.dumps(feature.run(Call(validated.validated_parameters)).as_dict(diff=False)))
    return result


def node(cluster: str) -> str:
    """Name a cluster's node, a container."""
    return f"modelfleet-{cluster}-control-plane"


def command(*words: str, check: bool = True) -> str:
    """Run a command and give what it prints."""
    done = subprocess.run(words, capture_output=True, text=True, check=False, timeout=60)
    if check and done.returncode:
        raise FleetError(f"{' '.join(words)}: {done.stderr.strip() or done.stdout.strip()}")
    return done.stdout.strip()


def predicts(url: str, timeout: float = 1.0) -> bool:
    """Tell whether an endpoint or an edge predicts right."""
    try:
        with urllib.request.urlopen(
            urllib.request.Request(url + HALF_PLUS_TWO, json.dumps(REQUEST).encode()), timeout=timeout
        ) as answer:
            return bool(json.load(answer) == RESPONSE)
    except (OSError, ValueError):
        return False


def until(function: Callable[[], bool], seconds: float, what: str, pause: float = 0.1) -> None:
    """Ask until the answer is yes.

    :raises FleetError: when the time is over.
    """
    end = time.monotonic() + seconds
    while not function():
        if time.monotonic() > end:
            raise FleetError(f"After {seconds:g} s: {what}")
        time.sleep(pause)


class Endpoint:
    """The fleet's HAProxy."""

    def info(self) -> Json:
        """Give its definition and its view of the members."""
        return run(global_endpoint_info.FEATURE, {"haproxy": {key: HAPROXY[key] for key in ("config_path", "master")}})

    def change(self, **changed: Any) -> Json:
        """Change it; what is not given stays."""
        given = {"name": ENDPOINT, "exclusive_members": False, "wait": False, "haproxy": HAPROXY}
        return run(global_endpoint.FEATURE, {**given, **changed})

    def activate(self) -> None:
        """Let every cluster take traffic, without the checks of a failback."""
        self.change(members=[{"name": name, "state": "active"} for name in CLUSTERS])

    def down(self) -> list[str]:
        """Name the active members that it finds down."""
        members = self.info()["members"]
        return [member["name"] for member in members if member["state"] == "active" and not member["up"]]

    def healthy(self, seconds: float = 300.0) -> None:
        """Wait until every cluster has been up and right for some seconds in a row."""
        since = time.monotonic()
        end = since + seconds
        while time.monotonic() - since < 5:
            wrong = [name for name in CLUSTERS if not predicts(f"http://127.0.0.1:{EDGES[name]}")]
            if wrong or self.down():
                since = time.monotonic()
            if time.monotonic() > end:
                raise FleetError(f"After {seconds:g} s the endpoint finds {self.down()} down, and {wrong} are wrong.")
            time.sleep(0.5)


def models_as_options(endpoint: Json) -> list[Json]:
    """Turn the models of a stored definition into options of the module."""
    return [{**model, "golden": [model["golden"]] if model["golden"] else None} for model in endpoint["models"]]


@dataclass(frozen=True)
class Fault:
    """What goes wrong with a cluster, and what ends it.

    :param begin: makes it happen.
    :param end: what sets it right again; also where it has not begun.
    """

    begin: Callable[[str], None]
    end: Callable[[str], None]


def _in_node(cluster: str, script: str, check: bool = True) -> None:
    command("docker", "exec", node(cluster), "sh", "-c", script, check=check)


def _select(instance: str) -> Callable[[str], None]:
    patch = json.dumps({"spec": {"selector": {"app.kubernetes.io/instance": instance}}})

    def lead(cluster: str) -> None:
        kubectl = f"kubectl --kubeconfig /etc/kubernetes/admin.conf --namespace {NAMESPACE}"
        _in_node(cluster, f"{kubectl} patch service serving --patch '{patch}'")

    return lead


_CUT = "iptables --wait --table raw --{} PREROUTING --in-interface eth0 --jump DROP"

FAULTS = {
    # Every process stops; the kernel still takes connections.
    "pause": Fault(
        lambda cluster: command("docker", "pause", node(cluster)) and None,
        lambda cluster: command("docker", "unpause", node(cluster), check=False) and None,
    ),
    # Every process of the cluster gets SIGKILL, and its address is gone.
    "kill": Fault(
        lambda cluster: command("docker", "kill", node(cluster)) and None,
        lambda cluster: command("docker", "start", node(cluster)) and None,
    ),
    # Every packet to the node is dropped, and nobody is told.
    "cut": Fault(
        lambda cluster: _in_node(cluster, _CUT.format("append")),
        lambda cluster: _in_node(cluster, f"while {_CUT.format('delete')}; do :; done 2>&1", check=False),
    ),
    # The cluster has hardly any processor left.
    "slow": Fault(
        lambda cluster: command("docker", "update", "--cpus", str(SLOW_CPUS), node(cluster)) and None,
        lambda cluster: command("docker", "update", "--cpus", str(os.cpu_count()), node(cluster)) and None,
    ),
    # The model's Service leads to a server that answers other numbers.
    "wrong": Fault(_select("failover-benchmark"), _select("serving")),
}


@contextmanager
def fault(name: str, cluster: str) -> Iterator[float]:
    """Have a fault in a cluster, and give its moment; afterwards it ends, and the fleet is whole again."""
    try:
        # Docker's own time before the signal counts for the fault, and not against anybody.
        began = time.monotonic()
        FAULTS[name].begin(cluster)
        yield began
    finally:
        FAULTS[name].end(cluster)


@contextmanager
def slow_model(endpoint: Endpoint) -> Iterator[None]:
    """Have the model ``slow`` in every cluster and at the endpoint, beside the others; afterwards it is gone."""
    image = (HOME / "server_image").read_text().strip()
    before = models_as_options(endpoint.info()["endpoint"])
    name = "failover-benchmark"
    connection = {"kubeconfig": str(HOME / "kubeconfig"), "name": name, "namespace": NAMESPACE, "wait_timeout": 120}
    try:
        for cluster in CLUSTERS:
            context = {"context": f"kind-modelfleet-{cluster}"}
            run(bundle.FEATURE, {**connection, **context, "objects": _slow_objects(name, image)})
        golden = {"request": {"instances": [0.0]}, "response": {"predictions": [0.0]}}
        slow = {"name": "slow", "golden": [golden], "timeout": 15.0}
        endpoint.change(models=[model for model in before if model["name"] != "slow"] + [slow])
        yield
    finally:
        endpoint.change(models=[model for model in before if model["name"] != "slow"])
        for cluster in CLUSTERS:
            context = {"context": f"kind-modelfleet-{cluster}"}
            run(bundle.FEATURE, {**connection, **context, "objects": _slow_objects(name, image), "state": "absent"})


def _slow_objects(name: str, image: str) -> list[Json]:
    labels = {"app.kubernetes.io/component": "server", "app.kubernetes.io/instance": name}
    program = Path(__file__).with_name("slow_server.py").read_text()
    metadata = {"name": name, "namespace": NAMESPACE}
    container = {
        "name": "server",
        "image": image,
        "command": ["python3", "/program/slow_server.py"],
        # Both names, since the Service of the real servers asks for them.
        "ports": [{"name": "rest", "containerPort": 8501}, {"name": "grpc", "containerPort": 8500}],
        "readinessProbe": {"httpGet": {"path": "/", "port": 8501}, "periodSeconds": 2, "timeoutSeconds": 5},
        "volumeMounts": [{"name": "program", "mountPath": "/program"}],
        "securityContext": {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}},
    }
    pod = {
        "metadata": {"labels": labels},
        "spec": {
            "securityContext": {"runAsNonRoot": True, "runAsUser": 65534, "seccompProfile": {"type": "RuntimeDefault"}},
            "containers": [container],
            "volumes": [{"name": "program", "configMap": {"name": name}}],
        },
    }
    paths = [
        {"path": path, "pathType": kind, "backend": {"service": {"name": name, "port": {"number": 8501}}}}
        for path, kind in (("/v1/models/slow", "Prefix"), ("/v1/models/slow:predict", "Exact"))
    ]
    return [
        {"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, "data": {"slow_server.py": program}},
        {
            "apiVersion": "apps/v1",
            "kind": "Deployment",
            "metadata": metadata,
            "spec": {"selector": {"matchLabels": labels}, "template": pod},
        },
        {
            "apiVersion": "v1",
            "kind": "Service",
            "metadata": metadata,
            "spec": {"selector": labels, "ports": [{"port": 8501}]},
        },
        {
            "apiVersion": "networking.k8s.io/v1",
            "kind": "Ingress",
            "metadata": metadata,
            "spec": {"ingressClassName": "traefik", "rules": [{"http": {"paths": paths}}]},
        },
    ]
