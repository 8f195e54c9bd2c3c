# SPDX-FileCopyrightText: The modelfleet maintainers
# SPDX-License-Identifier: GPL-3.0-or-later
"""The certificate of a server's gRPC port: missing, there, and renewed under load."""

from __future__ import annotations

import base64
import ssl
import sys
from pathlib import Path
from typing import Any

import pytest
from _lab import HOME, Lab, nothing_lost, on_node

from ansible_collections.modelfleet.serving.plugins.module_utils._cluster.pods import is_ready, live_pods
from ansible_collections.modelfleet.serving.plugins.module_utils._errors import InputError

sys.path.append(str(Path(__file__).resolve().parents[1] / "unit"))

from _certificates import make_certificates

Json = dict[str, Any]
TLS = {"grpc_tls": {"secret": "serving-tls"}, "resources": {"limits": {"memory": "512Mi"}}}


def certificate(folder: Path) -> tuple[Json, str]:
    """Make a Secret with a new certificate; gives that, too, as DER in base64."""
    made = make_certificates(folder)
    pem = made.server.read_text()
    content = {"tls.crt": pem, "tls.key": made.server.with_suffix(".key").read_text()}
    data = {key: base64.b64encode(text.encode()).decode() for key, text in content.items()}
    secret = {"apiVersion": "v1", "kind": "Secret", "type": "kubernetes.io/tls", "metadata": {"name": "serving-tls"}}
    end = "-----END CERTIFICATE-----"
    return {**secret, "data": data}, base64.b64encode(ssl.PEM_cert_to_DER_cert(pem.partition(end)[0] + end)).decode()


def shown(lab: Lab) -> set[str]:
    """Give the certificates that the ready pods show to clients of gRPC."""
    pods = live_pods(lab.pods(**{"app.kubernetes.io/component": "server"}))
    addresses = [pod["status"]["podIP"] for pod in pods if is_ready(pod)]
    ask = "openssl s_client -connect $0:8500 -alpn h2 </dev/null 2>/dev/null | openssl x509 -outform DER | base64 -w 0"
    return {on_node("sh", "-c", ask, address) for address in addresses}


def test_a_renewed_certificate_is_rolled_out(lab: Lab, tmp_path: Path) -> None:
    lab.fill({"name": "half_plus_two", "source": str(HOME / "models" / "half_plus_two"), "versions": [1]})
    with pytest.raises(InputError, match=r"grpc_tls.secret: Secret \S+/serving-tls is not there"):
        lab.serve(1, **TLS)
    old, first = certificate(tmp_path / "old")
    lab.make({**old, "data": {"tls.crt": old["data"]["tls.crt"]}, "type": "Opaque"})
    with pytest.raises(InputError, match=r"serving-tls has no tls.key"):
        lab.serve(1, **TLS)
    path = f"/api/v1/namespaces/{lab.namespace}/secrets/serving-tls"
    lab.session.request("DELETE", path)
    lab.make(old)
    lab.serve(1, **TLS)
    assert shown(lab) == {first}
    assert lab.serve(1, **TLS)["changed"] is False

    new, second = certificate(tmp_path / "new")
    lab.session.request("PATCH", path, body={"data": new["data"]}, content_type="application/merge-patch+json")
    with nothing_lost(lab):
        foretold = lab.serve(1, check=True, **TLS)
        done = lab.serve(1, **TLS)
    assert foretold["objects"] == done["objects"]
    assert [row["kind"] for row in done["objects"] if row["action"] == "updated"] == ["Deployment"]
    assert shown(lab) == {second}
