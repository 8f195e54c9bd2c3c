# SPDX-FileCopyrightText: The modelfleet maintainers
# SPDX-License-Identifier: GPL-3.0-or-later
"""The conformance suite's options and servers. README.md tells how to run it."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import saved_models
from servers import DEFAULT_COMMAND, Server, running

FLAGS = [
    "--file_system_poll_wait_seconds=1",
    "--max_num_load_retries=0",
    "--allow_version_labels_for_unavailable_models=true",
    "--enable_grpc_healthcheck_service",
]


def pytest_addoption(parser: pytest.Parser) -> None:
    """The suite's own options."""
    group = parser.getgroup("conformance")
    group.addoption("--server", default="", help="host:rest_port:grpc_port of a running server that has half_plus_two")
    group.addoption("--server-command", default=DEFAULT_COMMAND, help="starts a server; {models} is its directory")
    group.addoption("--models-dir", default="", help="with --server: where its model 'conformance' has its base path")
    group.addoption("--half-plus-two", default="half_plus_two", help="the name of that model at the server")


@pytest.fixture(scope="session")
def exported() -> Path:
    """The models that the local fleet exported with TensorFlow."""
    path = Path(os.environ.get("CONFORMANCE_MODELS", ""))
    if not (path / "half_plus_two").is_dir():
        pytest.fail("CONFORMANCE_MODELS does not name the directory of the exported models; see README.md")
    return path


def config(models: dict[str, Path], extra: dict[str, str] | None = None) -> str:
    """A ModelServerConfig in text form; `extra` adds lines to a model's entry."""
    entries = "".join(
        f'  config {{ name: "{name}" base_path: "{path}" model_platform: "tensorflow"'
        f" {(extra or {}).get(name, '')} }}\n"
        for name, path in models.items()
    )
    return f"model_config_list {{\n{entries}}}\n"


@pytest.fixture(scope="session")
def server(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """The server under test: the one of --server, or one started here with all the suite's models."""
    address = request.config.getoption("--server")
    if address:
        host, rest_port, grpc_port = address.rsplit(":", 2)
        found = Server(host, int(rest_port), int(grpc_port))
        yield found
        found.close()
        return
    exported = request.getfixturevalue("exported")
    root = tmp_path_factory.mktemp("models")
    saved_models.affine(root / "conformance" / "1", 1.0, 10.0)
    saved_models.several(root / "several" / "1")
    saved_models.texts(root / "texts" / "1")
    saved_models.identities(root / "identities" / "1")
    saved_models.slow(root / "slow" / "1")
    models = {name: root / name for name in ("conformance", "several", "texts", "identities", "slow")}
    models |= {"half_plus_two": exported / "half_plus_two", "iris": exported / "iris"}
    (root / "models.config").write_text(
        config(models, {"half_plus_two": "model_version_policy { specific { versions: 1 versions: 2 } }"
                        ' version_labels { key: "stable" value: 1 } version_labels { key: "canary" value: 2 }'})
    )  # fmt: skip
    (root / "monitoring.config").write_text("prometheus_config { enable: true }")
    flags = [*FLAGS, f"--model_config_file={root}/models.config", f"--monitoring_config_file={root}/monitoring.config"]
    command = request.config.getoption("--server-command")
    with running(command, root, flags, tmp_path_factory.mktemp("log") / "server.log") as found:
        yield found


@pytest.fixture(scope="session")
def own(request: pytest.FixtureRequest, server: Server) -> Server:
    """The same server, for tests that need the suite's own models and configuration."""
    if server.process is None:
        pytest.skip("needs a server that the suite starts itself (run without SERVER)")
    return server


@pytest.fixture
def start(request: pytest.FixtureRequest, tmp_path: Path) -> Any:
    """Starts further servers: `with start(flags) as server`."""
    if request.config.getoption("--server"):
        pytest.skip("needs a server that the suite starts itself (run without SERVER)")
    command = request.config.getoption("--server-command")

    def starter(flags: list[str], models: Path = tmp_path) -> Any:
        return running(command, models, flags, tmp_path / "server.log")

    return starter


@pytest.fixture
def versions(request: pytest.FixtureRequest, server: Server) -> Path:
    """The base path of the model `conformance`, whose versions a test may add and remove. It starts with version 1."""
    directory = request.config.getoption("--models-dir")
    if server.models is not None:
        return server.models / "conformance"
    if not directory:
        pytest.skip("needs the server's model directory (--models-dir)")
    return Path(directory) / "conformance"


@pytest.fixture(scope="session")
def half(request: pytest.FixtureRequest) -> str:
    """The name of half_plus_two at the server."""
    return str(request.config.getoption("--half-plus-two"))
