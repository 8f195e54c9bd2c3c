# SPDX-FileCopyrightText: The modelfleet maintainers
# SPDX-License-Identifier: GPL-3.0-or-later
"""A namespace in a real cluster of the local fleet, with a store to fill."""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from ansible.module_utils.common.arg_spec import ArgumentSpecValidator

from ansible_collections.modelfleet.serving.plugins.module_utils._call import Call, Feature
from ansible_collections.modelfleet.serving.plugins.module_utils._cluster.execute import PodShell
from ansible_collections.modelfleet.serving.plugins.module_utils._cluster.kinds import Ref
from ansible_collections.modelfleet.serving.plugins.module_utils._cluster.pods import is_ready
from ansible_collections.modelfleet.serving.plugins.module_utils._cluster.session import Session, connect
from ansible_collections.modelfleet.serving.plugins.module_utils._cluster.wait import Deadline, Kind, wait_until
from ansible_collections.modelfleet.serving.plugins.module_utils._errors import ApiError, ServingError
from ansible_collections.modelfleet.serving.plugins.module_utils._features import (
    model_server,
    model_server_info,
    model_store,
    model_store_info,
    server_scale,
)
from ansible_collections.modelfleet.serving.plugins.module_utils._manifests.store import StoreSpec, loader

Json = dict[str, Any]
HOME = Path(os.environ.get("MODELFLEET_HOME") or Path.home() / ".cache" / "modelfleet")
CLUSTER = "modelfleet-gcp-europe-west1"
BUCKET_PYTHON = Path(__file__).resolve().parents[2] / "build" / "stores" / "python" / "bin" / "python"


@dataclass
class Lab:
    """A namespace of its own in a real cluster, which takes only pods at the restricted level.

    :param warnings: of all runs, in their order.
    """

    session: Session
    connection: Json
    namespace: str
    image: str
    warnings: list[str] = field(default_factory=list)

    def fill(self, *models: Json, check: bool = False, progress: list[str] | None = None, **more: Any) -> Json:
        """Run model_store by its own function."""
        given = {"name": "models", "size": "100Mi", "image": self.image, "models": list(models), "wait_timeout": 120}
        return self.run(model_store.FEATURE, {**given, **more}, check, progress)

    def serve(self, *versions: int, check: bool = False, progress: list[str] | None = None, **more: Any) -> Json:
        """Run model_server by its own function, for half_plus_two."""
        golden = json.loads((HOME / "models" / "half_plus_two" / "golden.json").read_text())
        given = {
            "name": "serving",
            "image": self.image,
            "store": "models",
            "models": [{"name": "half_plus_two", "versions": list(versions), "golden": golden}],
            "drain_seconds": 5,
            "wait_timeout": 120,
        }
        return self.run(model_server.FEATURE, {**given, **more}, check, progress)

    def servers(self) -> list[Json]:
        """Give what model_server_info says."""
        found: list[Json] = self.run(model_server_info.FEATURE, {})["servers"]
        return found

    def scale(self, **given: Any) -> Json:
        """Run server_scale."""
        return self.run(server_scale.FEATURE, {"name": "serving", "wait_timeout": 60, **given})

    def info(self) -> Json:
        """Give what model_store_info says of the store, verified."""
        (store,) = self.run(model_store_info.FEATURE, {"verify": True})["stores"]
        found: Json = store
        return found

    def run(self, feature: Feature, given: Json, check: bool = False, progress: list[str] | None = None) -> Json:
        """Run a feature by its own function in the namespace."""
        params = {**self.connection, "namespace": self.namespace, **given}
        return run_feature(feature, params, check, progress, self.warnings)

    def make(self, manifest: Json) -> Json:
        """Make an object as it is."""
        where = Ref.of(manifest)
        return self.session.request(
            "POST", self.session.path(Ref(where.api_version, where.kind, "", self.namespace)), body=manifest
        )

    def mount(self) -> PodShell:
        """Give a shell in a pod that has the store mounted, as a server has it."""
        spec = StoreSpec("models", self.namespace, "100Mi", self.image)
        pod = loader(spec, seconds=600)
        pod["metadata"] |= {"name": "reader", "labels": {"app": "reader"}}
        pod["spec"].pop("affinity")
        if self.session.get(Ref.of(pod)) is None:
            self.make(pod)
        self._ready("reader")
        return PodShell(self.session, self.namespace, "reader", "loader", Deadline.after(600))

    def _ready(self, name: str) -> Json:
        """Wait until a pod is ready; its label ``app`` is its name."""
        ref = Ref("v1", "Pod", name, self.namespace)

        def judge(objects: dict[Ref, Json]) -> str:
            return "" if ref in objects and is_ready(objects[ref]) else f"{ref} is not ready"

        kinds = [Kind("v1", "Pod", self.namespace, {"app": name})]
        return wait_until(self.session, kinds, judge, Deadline.after(60))[ref]

    def jobs(self) -> list[Json]:
        return self.session.find("batch/v1", "Job", self.namespace)

    def pods(self, **labels: str) -> list[Json]:
        return self.session.find("v1", "Pod", self.namespace, labels=labels)


def run_feature(
    feature: Feature,
    params: Json,
    check: bool = False,
    progress: list[str] | None = None,
    warnings: list[str] | None = None,
) -> Json:
    """Run a feature by its own function."""
    validated = ArgumentSpecValidator(feature.arguments).validate(params)
    assert not validated.error_messages, validated.error_messages
    told, warned = ((words if words is not None else []).append for words in (progress, warnings))
    call = Call(validated.validated_parameters, check_mode=check, warn=warned, progress=told)
    return feature.run(call).as_dict(diff=True)


_numbers = itertools.count()


@contextmanager
def new_lab(name: str) -> Iterator[Lab]:
    """Make a namespace whose name begins with this; it is removed afterwards, without waiting for it."""
    kubeconfig = HOME / "kubeconfig"
    if not kubeconfig.exists():
        pytest.skip("no local fleet: `make fleet` makes one")
    connection = {"kubeconfig": str(kubeconfig), "context": f"kind-{CLUSTER}"}
    with connect({**connection, "request_timeout": 10.0}) as session:
        image = (HOME / "server_image").read_text().strip()
        lab = Lab(session, connection, f"{name}-{os.getpid()}-{next(_numbers)}", image)
        labels = {"pod-security.kubernetes.io/enforce": "restricted"}
        space = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": lab.namespace, "labels": labels}}
        session.request("POST", "/api/v1/namespaces", body=space)
        try:
            yield lab
        finally:
            with contextlib.suppress(ApiError):  # a volume of the test's may have had to go with it
                session.request("DELETE", f"/api/v1/namespaces/{lab.namespace}", body={})


def on_node(*command: str) -> str:
    """Run a command on the cluster's node."""
    node = ["docker", "exec", f"{CLUSTER}-control-plane", *command]
    return subprocess.run(node, capture_output=True, check=True, text=True).stdout


@contextmanager
def object_store(address: str, folder: Path) -> Iterator[Json]:
    """Serve a folder as the bucket ``models``; gives the options of a remote for it. See bucket.py."""
    command = [str(BUCKET_PYTHON), str(Path(__file__).with_name("bucket.py")), address, str(folder)]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    ) as process:
        assert process.stdin
        assert process.stdout
        keys: Json = {}
        while not keys:
            line = process.stdout.readline()
            assert line, "the object store ended before it said its keys"
            keys = json.loads(line) if line.startswith("{") else {}
        try:
            yield {"type": "s3", "provider": "Other", **keys}
        finally:
            process.stdin.close()


@contextmanager
def nothing_lost(lab: Lab) -> Iterator[None]:
    """Ask the Service for up to twenty predictions a second, of which none may fail.

    By the API server on 127.0.0.1, which takes any pod that is ready.
    """
    path = f"/api/v1/namespaces/{lab.namespace}/services/serving:rest/proxy/v1/models/half_plus_two:predict"
    stop, lost, right = threading.Event(), [], 0

    def ask() -> None:
        nonlocal right
        while not stop.wait(0.05):
            try:
                answer = lab.session.request("POST", path, body={"instances": [1.0]})
            except ServingError as error:
                lost.append(str(error))
                continue
            if answer == {"predictions": [2.5]}:
                right += 1
            else:
                lost.append(str(answer))

    thread = threading.Thread(target=ask)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()
    assert lost == []
    assert right > 20
