# SPDX-FileCopyrightText: The modelfleet maintainers
# SPDX-License-Identifier: GPL-3.0-or-later
"""From the servers' metrics pages by a real Prometheus into Kubernetes' metrics APIs, in a cluster of the local fleet.

What is documented is what runs: the scrape and the rules are those of docs/model-server.md.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from _lab import CLUSTER, HOME, Lab, run_feature

from ansible_collections.modelfleet.serving.plugins.module_utils._cluster.session import Session
from ansible_collections.modelfleet.serving.plugins.module_utils._errors import ApiError
from ansible_collections.modelfleet.serving.plugins.module_utils._features import model_image
from ansible_collections.modelfleet.serving.plugins.module_utils._manifests.common import (
    container_security,
    pod_security,
)

Json = dict[str, Any]
HERE = Path(__file__).parent
CHECKOUT = HERE.parents[1]
_NAME = "metrics-pipeline"
_APIS = {"custom.metrics.k8s.io": "v1beta2", "external.metrics.k8s.io": "v1beta1"}
_PORTS = {"prometheus": 9090, "adapter": 6443}


def documented(key: str) -> Any:
    """Give the one example of docs/model-server.md that has a key, below that key."""
    text = (CHECKOUT / "docs" / "model-server.md").read_text()
    blocks = [yaml.safe_load(block) for block in re.findall(r"^```yaml\n(.*?)^```", text, re.DOTALL | re.MULTILINE)]
    (found,) = [block[key] for block in blocks if key in block]
    return found


def go() -> str | None:
    """Find Go where roles/local_fleet finds or puts it."""
    return shutil.which("go") or shutil.which("go", path=HOME / "python" / "bin")


def build(folder: Path) -> None:
    """Put Prometheus, with what finds pods and no other of its sources, and the adapter into a folder.

    The adapter stands in for prometheus-adapter; PROMETHEUS_ADAPTER names a binary of that, where somebody has one.
    """
    command = [str(go()), "build", "-trimpath", "-tags=remove_all_sd,enable_kubernetes_sd", "-ldflags=-s -w"]
    # As roles/local_fleet builds, so that what it has compiled of the same libraries is found.
    settings = {"CGO_ENABLED": "0", "GOGC": "400", "GOFLAGS": "-buildvcs=false"}
    packages = [".", "github.com/prometheus/prometheus/cmd/prometheus"]
    subprocess.run(
        [*command, "-o", f"{folder}/", *packages],
        cwd=HERE / "metrics_adapter",
        env={**os.environ, **settings},
        check=True,
    )
    if own := os.environ.get("PROMETHEUS_ADAPTER"):
        shutil.copy(own, folder / "metrics-adapter")


def load_image(folder: Path, repository: str, **arguments: str) -> str:
    """Build an image from a folder, unless there is one of it, and load it into the cluster's node; gives its name."""
    node = f"{CLUSTER}-control-plane"
    given = {"path": str(folder), "repository": repository, "build_args": arguments}
    made = run_feature(model_image.FEATURE, {**given, "network": "host", "load_into": [node]})
    return str(made["image"])


@dataclass
class Pipeline:
    """Prometheus and the adapter in one pod.

    :param servers: a regular expression of the namespaces whose servers Prometheus asks.
    """

    session: Session
    namespace: str
    image: str
    servers: str

    def start(self) -> None:
        """Make everything, and wait until the metrics APIs answer."""
        for manifest in self._objects():
            self.session.request("POST", _collection(manifest), body=manifest)
        for group, version in _APIS.items():
            eventually(lambda path=f"/apis/{group}/{version}": self._answers(path), seconds=60)

    def stop(self) -> None:
        """Remove everything; the APIs first, since one that does not answer holds up every namespace that is to go."""
        for manifest in reversed(self._objects()):
            try:
                self.session.request("DELETE", f"{_collection(manifest)}/{manifest['metadata']['name']}", body={})
            except ApiError as error:
                if error.status != 404:
                    raise

    def break_off(self) -> None:
        """Take the adapter away, as when its node fails, and leave the APIs registered."""
        path = f"/apis/apps/v1/namespaces/{self.namespace}/deployments/{_NAME}"
        self.session.request("DELETE", path, body={"propagationPolicy": "Foreground"})
        eventually(lambda: not self._answers("/apis/custom.metrics.k8s.io/v1beta2"), seconds=60)

    def of_pods(self, namespace: str, metric: str) -> dict[str, str]:
        """Give a metric of each server's pod in a namespace, as an autoscaler asks for it."""
        path = f"/apis/custom.metrics.k8s.io/v1beta2/namespaces/{namespace}/pods/*/{metric}"
        answer = self.session.request("GET", path, query={"labelSelector": "app.kubernetes.io/component=server"})
        return {item["describedObject"]["name"]: item["value"] for item in answer["items"]}

    def _answers(self, path: str) -> bool:
        try:
            self.session.request_once("GET", path, seconds=5)
        except ApiError:
            return False
        return True

    def _objects(self) -> list[Json]:
        account = {"kind": "ServiceAccount", "name": _NAME, "namespace": self.namespace}
        watched = [{"apiGroups": [""], "resources": ["pods", "namespaces"], "verbs": ["get", "list", "watch"]}]
        return [
            _manifest("v1", "ServiceAccount", self.namespace),
            _manifest("v1", "ConfigMap", self.namespace, data=self._files()),
            _manifest("rbac.authorization.k8s.io/v1", "ClusterRole", rules=watched),
            _bound("ClusterRoleBinding", _NAME, account),
            # To ask the API server who is calling.
            _bound("ClusterRoleBinding", "system:auth-delegator", account, name=f"{_NAME}-auth"),
            _bound("RoleBinding", "extension-apiserver-authentication-reader", account, namespace="kube-system"),
            _manifest("apps/v1", "Deployment", self.namespace, spec=self._deployment()),
            _manifest(
                "v1",
                "Service",
                self.namespace,
                spec={"selector": {"app": _NAME}, "ports": [{"port": 443, "targetPort": "adapter"}]},
            ),
            *(self._api(group, version) for group, version in _APIS.items()),
        ]

    def _api(self, group: str, version: str) -> Json:
        spec = {
            "group": group,
            "version": version,
            "service": {"name": _NAME, "namespace": self.namespace},
            "insecureSkipTLSVerify": True,
            "groupPriorityMinimum": 100,
            "versionPriority": 100,
        }
        return _manifest("apiregistration.k8s.io/v1", "APIService", name=f"{version}.{group}", spec=spec)

    def _files(self) -> dict[str, str]:
        scrapes = documented("scrape_configs")
        # Sooner than a user needs it, and only what is the test's.
        for scrape in scrapes:
            mine = {"source_labels": ["__meta_kubernetes_namespace"], "regex": self.servers, "action": "keep"}
            scrape["relabel_configs"].append(mine)
        settings = {"global": {"scrape_interval": "2s", "scrape_timeout": "2s"}, "scrape_configs": scrapes}
        rules = {"rules": documented("rules"), "externalRules": documented("externalRules")}
        return {"prometheus.yml": json.dumps(settings), "adapter.yml": json.dumps(rules)}

    def _deployment(self) -> Json:
        files, data = {"name": "files", "mountPath": "/files"}, {"name": "data", "mountPath": "/data"}
        commands = {
            "prometheus": ["/prometheus", "--config.file=/files/prometheus.yml", "--storage.tsdb.path=/data"],
            "adapter": [
                "/metrics-adapter",
                "--config=/files/adapter.yml",
                "--prometheus-url=http://127.0.0.1:9090",
                "--metrics-relist-interval=5s",
                "--secure-port=6443",
                "--cert-dir=/data/certificates",
            ],
        }
        containers = [
            {
                "name": name,
                "image": self.image,
                "imagePullPolicy": "IfNotPresent",
                "command": command,
                "ports": [{"name": name, "containerPort": _PORTS[name]}],
                "resources": {"requests": {"cpu": "10m", "memory": "64Mi"}, "limits": {"memory": "512Mi"}},
                "securityContext": container_security(),
                "volumeMounts": [files, data],
            }
            for name, command in commands.items()
        ]
        volumes = [{"name": "files", "configMap": {"name": _NAME}}, {"name": "data", "emptyDir": {}}]
        spec = {
            "serviceAccountName": _NAME,
            "securityContext": pod_security(),
            "containers": containers,
            "volumes": volumes,
        }
        template = {"metadata": {"labels": {"app": _NAME}}, "spec": spec}
        return {"selector": {"matchLabels": {"app": _NAME}}, "template": template}


def _manifest(api_version: str, kind: str, namespace: str | None = None, *, name: str = _NAME, **more: Any) -> Json:
    metadata = {"name": name, **({"namespace": namespace} if namespace else {})}
    return {"apiVersion": api_version, "kind": kind, "metadata": metadata, **more}


def _bound(kind: str, role: str, account: Json, *, name: str = _NAME, namespace: str | None = None) -> Json:
    reference = {
        "apiGroup": "rbac.authorization.k8s.io",
        "kind": "Role" if namespace else "ClusterRole",
        "name": role,
    }
    more = {"roleRef": reference, "subjects": [account]}
    return _manifest("rbac.authorization.k8s.io/v1", kind, namespace, name=name, **more)


def _collection(manifest: Json) -> str:
    root = "/api/v1" if manifest["apiVersion"] == "v1" else f"/apis/{manifest['apiVersion']}"
    namespace = manifest["metadata"].get("namespace")
    return f"{root}{f'/namespaces/{namespace}' if namespace else ''}/{manifest['kind'].lower()}s"


def eventually(ask: Callable[[], Any], *, seconds: float) -> Any:
    """Ask until the answer is something; a controller takes up what has changed in its own time."""
    end = time.monotonic() + seconds
    while not (answer := ask()):
        assert time.monotonic() < end, f"not after {seconds:g} s"
        time.sleep(0.5)
    return answer


def autoscaler(lab: Lab, name: str) -> Json:
    """Read the autoscaler of a server."""
    path = f"/apis/autoscaling/v2/namespaces/{lab.namespace}/horizontalpodautoscalers/{name}"
    return lab.session.request("GET", path)
