# SPDX-FileCopyrightText: The modelfleet maintainers
# SPDX-License-Identifier: GPL-3.0-or-later
"""The collection's own gRPC client speaks to a real server: its hand-declared messages are compatible on the wire."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from typing import Any

import pytest
from servers import Server


@pytest.fixture(scope="module")
def client() -> Any:
    """plugins/module_utils/_tfserving/grpc_predict.py, without the rest of the collection."""
    path = Path(__file__).resolve().parents[2] / "plugins" / "module_utils" / "_tfserving" / "grpc_predict.py"
    spec = importlib.util.spec_from_file_location("grpc_predict", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize(
    ("values", "answer"), [([1.0, 2.0, 5.0], [2.5, 3.0, 4.5]), ([[1.0], [2.0]], [[2.5], [3.0]]), (2.0, 3.0), ([], [])]
)
def test_shapes(client: Any, server: Server, half: str, values: Any, answer: Any) -> None:
    found = client.predict(f"{server.host}:{server.grpc_port}", half, {"x": values})
    assert found.outputs == {"y": answer}
    assert found.version in server.states(half)


def test_errors(client: Any, server: Server, half: str) -> None:
    address = f"{server.host}:{server.grpc_port}"
    with pytest.raises(client.GrpcPredictError) as caught:
        client.predict(address, half, {"x": [1.0]}, version=9)
    assert (caught.value.status, caught.value.details) == (
        "NOT_FOUND",
        f"Servable not found for request: Specific({half}, 9)",
    )
    with pytest.raises(client.GrpcPredictError) as caught:
        client.predict(address, half, {"x": [1.0]}, label="nobody")
    assert caught.value.status == "INVALID_ARGUMENT"
    with pytest.raises(client.GrpcPredictError) as caught:
        client.predict("127.0.0.1:1", half, {"x": [1.0]}, timeout=2)
    assert caught.value.status in ("UNAVAILABLE", "DEADLINE_EXCEEDED")
    with pytest.raises(ValueError, match="same length"):
        client.predict(address, half, {"x": [[1.0], [1.0, 2.0]]})


def test_strings_and_integers(client: Any, own: Server) -> None:
    address = f"{own.host}:{own.grpc_port}"
    assert client.predict(address, "texts", {"text": ["grün", ""]}, dtype="string").outputs["plain"] == [
        "grün".encode(),
        b"",
    ]
    found = client.predict(address, "identities", {"x": [[1, -(2**40)]]}, dtype="int64", signature="int64")
    assert found.outputs == {"y": [[1, -(2**40)]]}
