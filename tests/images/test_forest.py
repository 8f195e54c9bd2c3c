# SPDX-FileCopyrightText: The modelfleet maintainers
# SPDX-License-Identifier: GPL-3.0-or-later
"""The example of a model with an image of its own: a random forest, from its folder to right answers in a cluster."""

from __future__ import annotations

import json
import os
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from typing import Any

import pytest
from ansible.module_utils.common.arg_spec import ArgumentSpecValidator

from ansible_collections.modelfleet.serving.plugins.module_utils._call import Call, Result
from ansible_collections.modelfleet.serving.plugins.module_utils._features import (
    image_server,
    model_probe,
    model_server_info,
    serving_namespace,
)

from .lab import CHECKOUT, CLUSTER, HOME, NODE, build, engine

Json = dict[str, Any]
FILES = CHECKOUT / "roles" / "local_fleet" / "files"
GOLDEN = json.loads((FILES / "iris_forest" / "golden.json").read_text())
MODELS = [{"name": "iris_forest", "golden": GOLDEN}]
pytestmark = pytest.mark.skipif(
    not (HOME / "python_image").exists() or engine() is None, reason="no local fleet: `make fleet` makes one"
)

# By the same book as train.py, from another copy of the data, and without the server.
TRAIN_ANEW = """
import csv, json, sys
from sklearn.ensemble import RandomForestClassifier
given = json.load(sys.stdin)
rows = [list(row.values()) for row in csv.DictReader(given["data"].splitlines())]
names = ["setosa", "versicolor", "virginica"]
forest = RandomForestClassifier(n_estimators=50, min_samples_leaf=2, random_state=20)
forest.fit([[float(x) for x in row[:4]] for row in rows], [names.index(row[4]) for row in rows])
print(json.dumps([forest.predict_proba(request["instances"]).tolist() for request in given["requests"]]))
"""


@pytest.fixture(scope="module")
def image() -> str:
    """The image as the local fleet builds it, and has it already where the site playbook ran."""
    base = (HOME / "python_image").read_text().strip()
    made = build(
        path=str(FILES / "iris_forest"),
        repository="modelfleet/iris-forest",
        build_args={"BASE": base},
        network="host",
        load_into=[NODE],
    )
    return str(made.values["image"])


def test_the_image_is_modest(image: str) -> None:
    assert engine().images.get(image).attrs["Size"] < 500e6


def test_the_golden_answers_are_those_of_another_training(image: str) -> None:
    given = {"data": (FILES / "models" / "iris.csv").read_text(), "requests": [entry["request"] for entry in GOLDEN]}
    script = f"import io, sys\nsys.stdin = io.StringIO({json.dumps(json.dumps(given))})\n{TRAIN_ANEW}"
    said = engine().containers.run(
        image, ["env/bin/python", "-c", script], remove=True, network_mode="none", read_only=True
    )
    assert json.loads(said) == [entry["response"]["predictions"] for entry in GOLDEN]


@pytest.fixture
def url(image: str) -> Iterator[str]:
    """The server alone, as a pod of the restricted level runs it."""
    container = engine().containers.run(
        image,
        detach=True,
        read_only=True,
        user="1000:1000",
        cap_drop=["ALL"],
        tmpfs={"/tmp": ""},
        environment={"PORT": "8501", "MODEL_NAME": "other_name"},
        ports={"8501/tcp": ("127.0.0.1", None)},
    )
    try:
        for _attempt in range(100):
            container.reload()
            ports = container.ports.get("8501/tcp")
            if ports and _status(f"http://127.0.0.1:{ports[0]['HostPort']}/v1/models/other_name") == 200:
                break
            time.sleep(0.3)
        else:
            pytest.fail(container.logs().decode())
        yield f"http://127.0.0.1:{ports[0]['HostPort']}"
        start = time.monotonic()
        container.stop(timeout=20)
        assert time.monotonic() - start < 15, "it ends when it is asked to"
        assert container.wait()["StatusCode"] == 0
    finally:
        container.remove(force=True)


def _status(url: str, body: bytes | None = None) -> int:
    return _ask(url, body)[0]


def _ask(url: str, body: bytes | None = None) -> tuple[int, Any]:
    try:
        with urllib.request.urlopen(url, body, timeout=5) as response:
            return response.status, json.load(response)
    except urllib.error.HTTPError as error:
        return error.code, json.load(error)
    except OSError:
        return 0, None


def test_bad_requests_get_an_answer(url: str) -> None:
    predict = f"{url}/v1/models/other_name:predict"
    assert _ask(predict, json.dumps(GOLDEN[0]["request"]).encode()) == (200, GOLDEN[0]["response"])
    for body in (b"", b"no json", b"[]", b'{"rows": []}', b'{"instances": [["a", "b", "c", "d"]]}'):
        status, answer = _ask(predict, body)
        assert (status, "no instances that are numbers" in answer["error"]) == (400, True), body
    for body in (b'{"instances": []}', b'{"instances": [1, 2, 3, 4]}', b'{"instances": [[1, 2, NaN, 4]]}'):
        status, answer = _ask(predict, body)
        assert (status, "4 finite numbers" in answer["error"]) == (400, True), body
    assert _status(f"{url}/v1/models/iris_forest") == 404
    assert _status(f"{url}/v1/models/other_name/versions/2:predict", b"{}") == 404


@pytest.fixture
def connection() -> Iterator[Json]:
    """A new namespace in a cluster; it is removed afterwards, without waiting for it."""
    cluster = {"kubeconfig": str(HOME / "kubeconfig"), "context": f"kind-{CLUSTER}"}
    space = f"image-{os.getpid()}"
    run(serving_namespace, **cluster, name=space)
    yield {**cluster, "namespace": space}
    run(serving_namespace, **cluster, name=space, state="absent", wait=False)


def run(feature: Any, check: bool = False, **arguments: Any) -> Result:
    validated = ArgumentSpecValidator(feature.FEATURE.arguments).validate(arguments)
    assert not validated.error_messages
    result: Result = feature.FEATURE.run(Call(validated.validated_parameters, check_mode=check))
    return result


def test_a_cluster_serves_the_forest(image: str, connection: Json) -> None:
    server = {**connection, "name": "forest", "image": image, "model": "iris_forest", "wait_timeout": 120}
    checked = run(image_server, check=True, **server)
    done = run(image_server, **server)
    assert checked.as_dict(diff=True) == done.as_dict(diff=True)
    assert done.changed
    probed = run(model_probe, **connection, server="forest", models=MODELS)
    assert probed.values["healthy"]
    assert len(probed.values["results"]) == 2 * len(GOLDEN), "two pods"
    assert not run(image_server, **server).changed
    (found,) = run(model_server_info, **connection).values["servers"]
    assert [pod["models"] for pod in found["pods"]] == [{"iris_forest": {"1": "AVAILABLE"}}] * 2
    assert run(image_server, **connection, name="forest", state="absent", wait_timeout=120).changed
    assert run(model_server_info, **connection).values["servers"] == []
