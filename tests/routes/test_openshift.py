# SPDX-FileCopyrightText: The modelfleet maintainers
# SPDX-License-Identifier: GPL-3.0-or-later
"""Routes of OpenShift, judged by the schema and the rules of OpenShift's own definition in a real API server.

There is no router here: that the objects are valid is all that this shows.
"""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import _kubernetes
import pytest
from _doors import run_module
from edge import HOME, Certificate

from ansible_collections.modelfleet.serving.plugins.module_utils._cluster.bundle import read_manifests

Json = dict[str, Any]
# What Go's checksum database says of it, so that nothing else is read.
MODULE = "github.com/openshift/api@v0.0.0-20260318185450-1f2fa3f09f4e"
SUM = "h1:n2fW82JRX5B/+eCULWIe06MAhJVaE8fUsvy0A0Gn9n4="
DEFINITION = "route/v1/zz_generated.crd-manifests/routes.crd.yaml"
HOST = "m.example.org"


def definition() -> list[Json]:
    """Give OpenShift's definition of Route, from its Go module."""
    go = shutil.which("go") or str(HOME / "python/bin/go")
    try:
        command = [go, "mod", "download", "-json", MODULE]
        asked = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        pytest.skip(f"no Go, or no module proxy, to get OpenShift's definition of Route by: {error}")
    answer = json.loads(asked.stdout)
    if "Error" in answer:
        pytest.skip(f"OpenShift's definition of Route can't be got: {answer['Error']}")
    assert answer["Sum"] == SUM
    return read_manifests([str(Path(answer["Dir"]) / DEFINITION)])


@pytest.fixture(scope="module")
def connection(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Json]:
    """An API server that knows Route, with the namespace of the routes."""
    objects = definition()
    folder = tmp_path_factory.mktemp("kubernetes")
    try:
        server = _kubernetes.wait_ready(folder)
        if server is None:
            pytest.skip("no binary of kube-apiserver and etcd: `make fleet` builds one")
        space = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "serving"}}
        given = {**server.connection, "name": "openshift", "namespace": "serving", "wait": False}
        made = run_module("bundle", {**given, "objects": [space, *objects]})
        assert not made.get("failed"), made
        yield server.connection
    finally:
        _kubernetes.stop(folder)


def run(connection: Json, *, check: bool = False, **options: Any) -> Json:
    given = {"model": "m", "server": "serving", "namespace": "serving", "kind": "openshift", "hostname": HOST}
    return run_module("model_route", {**connection, **given, "wait": False, **options}, check=check)


CA = Certificate.of("serving.internal").certificate
PLAIN: Json = {"grpc": False}
TLS: Json = {"tls": {"secret": "m-tls"}}
LIMITED: Json = {"timeout": 120, "rate_limit": {"requests_per_second": 5}}
REENCRYPTED: Json = {**TLS, "backend_tls": {"hostname": "serving.internal", "ca": CA}}


@pytest.mark.parametrize(
    ("name", "options", "number"),
    [
        ("plain", PLAIN, 4),
        ("tls", TLS, 6),
        ("limited", {**PLAIN, **LIMITED}, 4),
        ("tls-limited", {**TLS, **LIMITED}, 6),
        ("tls-to-the-server", REENCRYPTED, 6),
    ],
)
def test_openshift_takes_the_routes(connection: Json, name: str, options: Json, number: int) -> None:
    options = {**options, "model": name, "hostname": f"{name}.example.org"}
    foretold = run(connection, check=True, **options)
    done = run(connection, **options)
    assert not done.get("failed"), done
    assert (foretold["changed"], foretold["diff"]) == (done["changed"], done["diff"])
    assert [(row["kind"], row["action"]) for row in done["objects"]] == [("Route", "created")] * number
    assert not run(connection, **options)["changed"]
    gone = run(connection, state="absent", **options)
    assert [(row["kind"], row["action"]) for row in gone["objects"]] == [("Route", "deleted")] * number


def test_openshift_would_notice(connection: Json) -> None:
    """Its rules are in force: a certificate's authority belongs to reencryption alone."""
    wrong = {"spec": {"tls": {"termination": "edge", "destinationCACertificate": CA}}}
    result = run(connection, **PLAIN, overrides={"Route": wrong})
    assert result["failed"]
    assert "spec.tls" in result["msg"]


def test_the_wait_ends_with_the_routers_word(connection: Json) -> None:
    """No router is here, so nothing admits a Route, and the wait says so."""
    result = run(connection, **PLAIN, wait=True, wait_timeout=1)
    assert result["failed"]
    assert "no router has admitted Route serving/model-m" in result["msg"]
