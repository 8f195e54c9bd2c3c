# SPDX-FileCopyrightText: The modelfleet maintainers
# SPDX-License-Identifier: GPL-3.0-or-later
"""--ssl_config_file: server.cc BuildServerCredentialsFromSSLConfigFile(), ssl_config.proto. gRPC alone is encrypted."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import grpc
import pytest
import saved_models
import trustme
from servers import Server
from tensorflow_serving.apis import predict_pb2, prediction_service_pb2_grpc


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    """Who signs the server's certificate, and those of its clients."""
    return trustme.CA()


def pem(certificate: trustme.LeafCert) -> tuple[bytes, bytes]:
    """A certificate's key and chain."""
    return certificate.private_key_pem.bytes(), b"".join(part.bytes() for part in certificate.cert_chain_pems)


@pytest.fixture
def secure(start: Any, tmp_path: Path, authority: trustme.CA) -> Any:
    """Starts a server with a certificate for `localhost`: `with secure(more lines of its SSLConfig) as server`."""
    saved_models.affine(tmp_path / "m" / "1", 1.0, 10.0)

    def starter(more: str = "") -> Any:
        key, chain = (json.dumps(part.decode()) for part in pem(authority.issue_cert("localhost")))
        (tmp_path / "ssl").write_text(f"server_key: {key}\nserver_cert: {chain}\n{more}\n")
        return start(["--model_name=m", f"--model_base_path={tmp_path}/m", f"--ssl_config_file={tmp_path}/ssl"])

    return starter


def predict(server: Server, credentials: Any) -> list[float]:
    """Ask by gRPC; `credentials` is None for a channel that is not encrypted."""
    address = f"{server.host}:{server.grpc_port}"
    options = [("grpc.ssl_target_name_override", "localhost")]
    channel = (
        grpc.secure_channel(address, credentials, options) if credentials else grpc.insecure_channel(address, options)
    )
    request = predict_pb2.PredictRequest()
    request.model_spec.name = "m"
    request.inputs["x"].dtype = 1
    request.inputs["x"].tensor_shape.dim.add().size = 1
    request.inputs["x"].float_val.append(1.0)
    with channel:
        response = prediction_service_pb2_grpc.PredictionServiceStub(channel).Predict(request, timeout=5)
    return list(response.outputs["y"].float_val)


def refused(server: Server, credentials: Any) -> bool:
    """Whether the server lets no request through."""
    with pytest.raises(grpc.RpcError) as caught:
        predict(server, credentials)
    return caught.value.code() is grpc.StatusCode.UNAVAILABLE


def test_tls(secure: Any, authority: trustme.CA) -> None:
    roots = authority.cert_pem.bytes()
    with secure() as server:
        assert predict(server, grpc.ssl_channel_credentials(roots)) == [11.0]
        # A client's certificate is not asked for.
        assert predict(server, grpc.ssl_channel_credentials(roots, *pem(trustme.CA().issue_cert("client")))) == [11.0]
        assert refused(server, None)
        assert refused(server, grpc.ssl_channel_credentials(trustme.CA().cert_pem.bytes()))
        # REST stays as it is.
        assert server.predict("m", {"instances": [1.0]}).json == {"predictions": [11.0]}


def test_clients_have_to_show_a_certificate(secure: Any, authority: trustme.CA) -> None:
    roots = authority.cert_pem.bytes()
    clients = trustme.CA()
    with secure(f"custom_ca: {json.dumps(clients.cert_pem.bytes().decode())}\nclient_verify: true") as server:
        assert predict(server, grpc.ssl_channel_credentials(roots, *pem(clients.issue_cert("client")))) == [11.0]
        assert refused(server, grpc.ssl_channel_credentials(roots))
        assert refused(server, grpc.ssl_channel_credentials(roots, *pem(authority.issue_cert("client"))))
