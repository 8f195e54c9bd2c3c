# SPDX-FileCopyrightText: The modelfleet maintainers
# SPDX-License-Identifier: GPL-3.0-or-later
"""A namespace with servers in a cluster of the local fleet, and requests that come to them by its real edge."""

from __future__ import annotations

import base64
import datetime
import json
import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc
import urllib3
from _doors import run_module
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from ansible_collections.modelfleet.serving.plugins.module_utils._manifests.names import server_selector

Json = dict[str, Any]
HOME = Path(os.environ.get("MODELFLEET_HOME") or Path.home() / ".cache" / "modelfleet")
CLUSTER = "modelfleet-aws-eu-west-1"
# Where this machine reaches the cluster's edge; inventories/local says the same.
ADDRESS, PORT = "127.0.0.1", 8082
# Traefik takes up changes at most every two seconds.
_SECONDS = 20.0
_PREDICT = "/tensorflow.serving.PredictionService/Predict"


@dataclass(frozen=True)
class Certificate:
    """A self-signed certificate and its key, as PEM."""

    certificate: str
    key: str

    @classmethod
    def of(cls, host: str) -> Certificate:
        """Make one for a host name."""
        key = ec.generate_private_key(ec.SECP256R1())
        name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, host)])
        now = datetime.datetime.now(datetime.UTC)
        made = (
            x509.CertificateBuilder()
            .subject_name(name)
            .issuer_name(name)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - datetime.timedelta(days=1))
            .not_valid_after(now + datetime.timedelta(days=1))
            .add_extension(x509.SubjectAlternativeName([x509.DNSName(host)]), critical=False)
            .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
            .sign(key, hashes.SHA256())
        )
        text = key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
        return cls(made.public_bytes(serialization.Encoding.PEM).decode(), text.decode())

    def secret(self, name: str) -> Json:
        """Give the Secret that holds both."""
        data = {"tls.crt": self.certificate, "tls.key": self.key}
        encoded = {key: base64.b64encode(text.encode()).decode() for key, text in data.items()}
        return {
            "apiVersion": "v1",
            "kind": "Secret",
            "type": "kubernetes.io/tls",
            "metadata": {"name": name},
            "data": encoded,
        }


@dataclass(frozen=True)
class Edge:
    """A namespace behind a real edge.

    :param kind: of the routes to make.
    :param gateway: options of the routes that this kind needs.
    """

    connection: Json
    namespace: str
    kind: str
    more: Json

    def apply(self, name: str, *objects: Json, **options: Any) -> Json:
        """Apply objects as a bundle; an empty one removes it."""
        given = {"objects": list(objects)} if objects else {"state": "absent"}
        return run_module("bundle", {**self.connection, "name": name, "namespace": self.namespace, **given, **options})

    def route(self, model: str, server: str = "alpha", *, check: bool = False, **options: Any) -> Json:
        """Make a route by the module."""
        given = {"model": model, "server": server, "namespace": self.namespace, "kind": self.kind, "grpc": False}
        return run_module("model_route", {**self.connection, **given, **self.more, **options}, check=check)

    def remove(self, model: str, *, check: bool = False) -> Json:
        """Remove a route by the module."""
        given = {"model": model, "namespace": self.namespace, "state": "absent"}
        return run_module("model_route", {**self.connection, **given}, check=check)


def rest(
    host: str,
    path: str,
    body: bytes | None = None,
    *,
    trusted: Certificate | None = None,
    folder: Path | None = None,
    seconds: float = 30,
    **headers: str,
) -> tuple[int, Json]:
    """Send a REST request to the edge; gives the status and, where it is a server's, the answer.

    :param trusted: speak TLS, and accept this certificate only; it is written to the folder.
    """
    pool: Any
    if trusted and folder:
        (folder / "trusted.pem").write_text(trusted.certificate)
        authority = str(folder / "trusted.pem")
        pool = urllib3.HTTPSConnectionPool(
            ADDRESS, PORT, ca_certs=authority, server_hostname=host, assert_hostname=host
        )
    else:
        pool = urllib3.HTTPConnectionPool(ADDRESS, PORT)
    with pool:
        method = "GET" if body is None else "POST"
        sent = {"Host": host, **headers}
        answer = pool.request(method, path, body=body, headers=sent, retries=False, timeout=seconds)
    return answer.status, json.loads(answer.data) if answer.status == 200 else {}


def call(host: str, message: bytes = b"x", *, trusted: Certificate | None = None) -> str:
    """Make a gRPC call by the edge; gives the answer, or the name of the error's code."""
    options = [
        ("grpc.default_authority", host),
        ("grpc.ssl_target_name_override", host),
        ("grpc.max_receive_message_length", -1),
    ]
    target = f"{ADDRESS}:{PORT}"
    if trusted:
        credentials = grpc.ssl_channel_credentials(trusted.certificate.encode())
        channel = grpc.secure_channel(target, credentials, options=options)
    else:
        channel = grpc.insecure_channel(target, options=options)
    with channel:
        try:
            return bytes(channel.unary_unary(_PREDICT)(message, timeout=15)).decode()
        except grpc.RpcError as error:
            return str(error.code().name)


def eventually(ask: Callable[[], Any], wanted: Any) -> None:
    """Ask until the answer is the wanted one: a controller takes up what has changed in its own time."""
    end = time.monotonic() + _SECONDS
    answer: Any = None
    while time.monotonic() < end:
        try:
            answer = ask()
        except (urllib3.exceptions.HTTPError, OSError) as error:
            answer = repr(error)
        if answer == wanted:
            return
        time.sleep(0.2)
    raise AssertionError(f"after {_SECONDS:g} s {answer!r}, not {wanted!r}")


def servers(image: str, certificate: Certificate) -> list[Json]:
    """Give two servers, as the module model_server would name and label them, and a third that has TLS for gRPC."""
    code = (Path(__file__).parent / "backend.py").read_text()
    objects: list[Json] = [
        {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "backend"}, "data": {"backend.py": code}},
        certificate.secret("delta-tls"),
    ]
    for name in ("alpha", "beta", "delta"):
        objects += _server(name, image)
    return objects


def _server(name: str, image: str) -> list[Json]:
    labels = server_selector(name)
    volumes: list[Json] = [{"name": "backend", "configMap": {"name": "backend"}}]
    mounts = [{"name": "backend", "mountPath": "/backend"}]
    if name == "delta":
        volumes.append({"name": "tls", "secret": {"secretName": "delta-tls"}})
        mounts.append({"name": "tls", "mountPath": "/tls"})
    container = {
        "name": "main",
        "image": image,
        "command": ["python3", "/backend/backend.py", name],
        "env": [{"name": "PYTHONPATH", "value": "/opt/prediction_server/site"}],
        "ports": [{"name": "grpc", "containerPort": 8500}, {"name": "rest", "containerPort": 8501}],
        "readinessProbe": {"httpGet": {"path": "/", "port": "rest"}, "periodSeconds": 1},
        "volumeMounts": mounts,
    }
    pod = {"terminationGracePeriodSeconds": 1, "containers": [container], "volumes": volumes}
    template = {"metadata": {"labels": labels}, "spec": pod}
    ports = [
        {"name": "grpc", "port": 8500, "targetPort": "grpc", "appProtocol": "kubernetes.io/h2c"},
        {"name": "rest", "port": 8501, "targetPort": "rest"},
    ]
    return [
        {
            "apiVersion": "apps/v1",
            "kind": "Deployment",
            "metadata": {"name": name},
            "spec": {"selector": {"matchLabels": labels}, "template": template},
        },
        {
            "apiVersion": "v1",
            "kind": "Service",
            "metadata": {"name": name},
            "spec": {"selector": labels, "ports": ports},
        },
    ]
