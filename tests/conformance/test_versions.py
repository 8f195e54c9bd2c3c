# SPDX-FileCopyrightText: The modelfleet maintainers
# SPDX-License-Identifier: GPL-3.0-or-later
"""Versions that come and go, labels, policies and reloading: serving_config.md and the sources that each test names."""

from __future__ import annotations

import shutil
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest
import saved_models
from conftest import FLAGS, config
from google.protobuf import text_format
from servers import Server, running, wait_until
from tensorflow_serving.apis import model_management_pb2

ONE = {"instances": [1.0]}


def answer(server: Server, model: str = "conformance") -> float:
    """What a model says of 1.0: its slope and offset, added."""
    reply = server.predict(model, ONE)
    assert reply.status == 200, reply.body
    return float(reply.json["predictions"][0])


@pytest.fixture
def fresh(server: Server, versions: Path) -> Iterator[Path]:
    """The base path of `conformance` with only version 1 in it (y = x + 10), before and after a test."""
    yield versions
    for path in versions.iterdir():
        if path.name != "1":
            shutil.rmtree(path)
    if not (versions / "1").exists():
        saved_models.affine(versions / "1", 1.0, 10.0)
    server.until(lambda: [v for v, state in server.states("conformance").items() if state == "AVAILABLE"] == [1])


class TestPolling:
    """file_system_storage_path_source.cc, availability_preserving_policy.cc; default policy: the latest version."""

    def test_a_new_version_replaces_the_old(self, server: Server, fresh: Path) -> None:
        failures: list[Any] = []
        stop = threading.Event()

        def ask() -> None:
            # Its own connection: availability is preserved, so no request may fail while the versions change.
            own = Server(server.host, server.rest_port, server.grpc_port)
            while not stop.is_set():
                reply = own.predict("conformance", ONE)
                if reply.status != 200 or reply.json["predictions"][0] not in (11.0, 21.0):
                    failures.append((reply.status, reply.body))
            own.close()

        thread = threading.Thread(target=ask)
        thread.start()
        try:
            saved_models.affine(fresh / "2", 1.0, 20.0)
            server.until(lambda: server.states("conformance") == {2: "AVAILABLE", 1: "END"})
            assert answer(server) == 21.0
        finally:
            stop.set()
            thread.join()
        assert failures == []
        # The old version is gone, which a request for it says; its status stays known.
        reply = server.predict("conformance/versions/1", ONE)
        assert (reply.status, reply.error) == (404, "Servable not found for request: Specific(conformance, 1)")

    def test_going_back_by_removal(self, server: Server, fresh: Path) -> None:
        saved_models.affine(fresh / "7", 1.0, 70.0)
        server.until(lambda: server.states("conformance").get(7) == "AVAILABLE")
        shutil.rmtree(fresh / "7")
        server.until(lambda: server.states("conformance").get(7) == "END")
        assert answer(server) == 11.0

    def test_a_broken_version_leaves_the_old_one(self, server: Server, fresh: Path) -> None:
        # loader_harness.cc: the state ends with the load's own error; saved_model/loader.cc for its text.
        saved_models.broken(fresh / "8")
        server.until(lambda: server.states("conformance").get(8) == "END")
        status = server.get("/v1/models/conformance/versions/8").json["model_version_status"][0]["status"]
        assert status["error_code"] == "NOT_FOUND"
        assert status["error_message"].startswith(
            "Could not find SavedModel .pb or .pbtxt at supplied export directory"
        )
        assert answer(server) == 11.0

    def test_a_version_whose_warm_up_fails_leaves_the_old_one(self, server: Server, fresh: Path) -> None:
        # saved_model_warmup_util.cc: the load fails with the request's own error.
        saved_models.affine(fresh / "hidden", 1.0, 90.0)
        saved_models.warm_up(fresh / "hidden", [saved_models.predict_record(signature="nothing")])
        (fresh / "hidden").rename(fresh / "6")
        server.until(lambda: server.states("conformance").get(6) == "END")
        status = server.get("/v1/models/conformance/versions/6").json["model_version_status"][0]["status"]
        assert status["error_code"] == "FAILED_PRECONDITION"
        assert 'Serving signature key "nothing" not found.' in status["error_message"]
        assert answer(server) == 11.0

    def test_only_numbers_are_versions(self, server: Server, fresh: Path) -> None:
        for name in ("9.tmp", ".9", "v9", "9x"):
            saved_models.affine(fresh / name, 1.0, 90.0)
        # A number that follows shows that the others were looked at.
        saved_models.affine(fresh / "00010", 1.0, 100.0)
        server.until(lambda: server.states("conformance").get(10) == "AVAILABLE")
        assert 9 not in server.states("conformance")
        assert answer(server) == 101.0

    def test_an_empty_base_path_unloads_the_model(self, server: Server, fresh: Path) -> None:
        # PollFileSystemForServable: a base path that exists and has no version emits an empty list.
        shutil.rmtree(fresh / "1")
        server.until(lambda: set(server.states("conformance").values()) == {"END"})
        reply = server.predict("conformance", ONE)
        assert (reply.status, reply.error) == (404, "Servable not found for request: Latest(conformance)")

    def test_a_missing_base_path_keeps_what_is_loaded(self, server: Server, fresh: Path) -> None:
        # PollFileSystemForServable fails, and nothing is emitted for any model.
        hidden = fresh.with_name("hidden")
        fresh.rename(hidden)
        try:
            threading.Event().wait(2.5)
            assert answer(server) == 11.0
        finally:
            hidden.rename(fresh)


class TestLabels:
    """serving_config.md, "Assigning String Labels to Model Versions"; server_core.cc UpdateModelVersionLabelMap."""

    def test_predict_by_label(self, own: Server) -> None:
        assert own.predict("half_plus_two/labels/stable", ONE).json == {"predictions": [2.5]}
        assert own.predict("half_plus_two/labels/canary", ONE).json == {"predictions": [2.5]}

    def test_metadata_by_label_tells_the_version(self, own: Server) -> None:
        document = own.get("/v1/models/half_plus_two/labels/stable/metadata").json
        assert document["model_spec"]["version"] == "1"

    def test_status_ignores_the_label(self, own: Server) -> None:
        # get_model_status_impl.cc looks at the version only.
        assert own.get("/v1/models/half_plus_two/labels/nobody").status == 200


def reload(server: Server, text: str) -> None:
    """HandleReloadConfigRequest with a configuration in text form."""
    request = model_management_pb2.ReloadConfigRequest()
    text_format.Parse(text, request.config)
    response = server.management.HandleReloadConfigRequest(request, timeout=20)
    assert response.status.error_code == 0


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("reload")
    for version, offset in ((1, 10.0), (2, 20.0), (3, 30.0)):
        saved_models.affine(root / "m" / str(version), 1.0, offset)
    saved_models.affine(root / "other" / "1", 1.0, 50.0)
    return root


@pytest.fixture(scope="module")
def reloadable(
    request: pytest.FixtureRequest, own: Server, place: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Server]:
    (place / "models.config").write_text(config({"m": place / "m"}))
    flags = ["--max_num_load_retries=0", f"--model_config_file={place}/models.config"]
    command = request.config.getoption("--server-command")
    with running(command, place, flags, tmp_path_factory.mktemp("log") / "server.log") as server:
        yield server


class TestReload:
    """model_service_impl.cc HandleReloadConfigRequest, server_core.cc ReloadConfig. On a server of their own."""

    def test_all_of_it_in_order(self, reloadable: Server, place: Path) -> None:
        server, base = reloadable, {"m": place / "m"}
        assert server.states("m") == {3: "AVAILABLE"}

        # A new name is waited for; the old ones stay.
        reload(server, config(base | {"other": place / "other"}))
        assert answer(server, "other") == 51.0
        # What is not listed is unloaded.
        reload(server, config(base))
        wait_until(lambda: server.predict("other", ONE).status == 404)

        # Version policies: specific, all, latest with a number.
        reload(server, config(base, {"m": "model_version_policy { specific { versions: 1 versions: 2 } }"}))
        wait_until(lambda: server.states("m") == {3: "END", 2: "AVAILABLE", 1: "AVAILABLE"})
        assert answer(server, "m/versions/1") == 11.0
        assert answer(server, "m") == 21.0
        reload(server, config(base, {"m": "model_version_policy { all {} }"}))
        wait_until(lambda: server.states("m") == {3: "AVAILABLE", 2: "AVAILABLE", 1: "AVAILABLE"})
        reload(server, config(base, {"m": "model_version_policy { latest { num_versions: 2 } }"}))
        wait_until(lambda: server.states("m") == {3: "AVAILABLE", 2: "AVAILABLE", 1: "END"})

        # Labels only for what is available, unless the flag allows it.
        both = "model_version_policy { latest { num_versions: 2 } }"
        reload(server, config(base, {"m": both + ' version_labels { key: "stable" value: 2 }'}))
        assert answer(server, "m/labels/stable") == 21.0
        with pytest.raises(grpc.RpcError) as caught:
            reload(server, config(base, {"m": both + ' version_labels { key: "stable" value: 1 }'}))
        assert caught.value.code() is grpc.StatusCode.FAILED_PRECONDITION
        assert caught.value.details() == (
            "Request to assign label to version 1 of model m, which is not currently available for inference"
        )
        assert answer(server, "m/labels/stable") == 21.0
        reload(server, config(base, {"m": both + ' version_labels { key: "stable" value: 3 }'}))
        assert answer(server, "m/labels/stable") == 31.0

    def test_the_same_name_twice(self, reloadable: Server, place: Path) -> None:
        text = config({"m": place / "m"})
        entry = text.splitlines()[1]
        with pytest.raises(grpc.RpcError) as caught:
            reload(reloadable, f"model_config_list {{ {entry} {entry} }}")
        assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT
        assert caught.value.details() == "Illegal to list model m multiple times in config list"

    def test_relative_base_path(self, reloadable: Server) -> None:
        with pytest.raises(grpc.RpcError) as caught:
            reload(reloadable, config({"m": Path("relative")}))
        assert "to have an absolute path or URI; got base_path()=relative" in caught.value.details()

    def test_unknown_platform(self, reloadable: Server, place: Path) -> None:
        text = config({"new": place / "m"}).replace('"tensorflow"', '"torch"')
        with pytest.raises(grpc.RpcError) as caught:
            reload(reloadable, text)
        assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT
        # Bring back what the failed call left half-way.
        reload(reloadable, config({"m": place / "m"}))

    def test_a_new_model_that_is_broken(self, reloadable: Server, place: Path) -> None:
        saved_models.broken(place / "bad" / "1")
        with pytest.raises(grpc.RpcError) as caught:
            reload(reloadable, config({"m": place / "m", "bad": place / "bad"}))
        assert caught.value.code() is grpc.StatusCode.UNKNOWN
        assert "did not become available" in caught.value.details()
        assert reloadable.predict("m", ONE).status == 200
        reload(reloadable, config({"m": place / "m"}))

    def test_specific_version_that_is_not_there(self, reloadable: Server, place: Path) -> None:
        # AspireSpecificVersions emits what it found, nothing: the model is unloaded.
        reload(reloadable, config({"m": place / "m"}, {"m": "model_version_policy { specific { versions: 77 } }"}))
        wait_until(lambda: reloadable.predict("m", ONE).status == 404)
        reload(reloadable, config({"m": place / "m"}))
        wait_until(lambda: reloadable.predict("m", ONE).status == 200)


class TestConfigFile:
    """serving_config.md, "Reloading Model Server Configuration"; tensorflow_model_server_test.py."""

    def test_polling(self, start: Any, tmp_path: Path) -> None:
        saved_models.affine(tmp_path / "a" / "1", 1.0, 10.0)
        saved_models.affine(tmp_path / "b" / "1", 1.0, 20.0)
        file = tmp_path / "models.config"
        file.write_text(config({"a": tmp_path / "a"}))
        with start([*FLAGS, f"--model_config_file={file}", "--model_config_file_poll_wait_seconds=1"]) as server:
            assert answer(server, "a") == 11.0
            file.write_text("model_config_list { broken")
            threading.Event().wait(1.5)
            # A file that cannot be read changes nothing.
            assert answer(server, "a") == 11.0
            file.write_text(config({"b": tmp_path / "b"}))
            server.until(lambda: server.predict("b", ONE).status == 200)
            server.until(lambda: server.predict("a", ONE).status == 404)

    def test_a_label_moves_in_two_steps(self, start: Any, tmp_path: Path) -> None:
        """serving_config.md: a label may name only what is loaded, so first the version, then the label."""
        for version, offset in ((1, 10.0), (2, 20.0)):
            saved_models.affine(tmp_path / "m" / str(version), 1.0, offset)
        file = tmp_path / "models.config"

        def write(versions: str, label: int) -> None:
            # A file that is renamed into place is never seen half.
            text = f"model_version_policy {{ specific {{ {versions} }} }}"
            text += f' version_labels {{ key: "stable" value: {label} }}'
            (tmp_path / "next").write_text(config({"m": tmp_path / "m"}, {"m": text}))
            (tmp_path / "next").rename(file)

        write("versions: 1", 1)
        with start([*FLAGS, f"--model_config_file={file}", "--model_config_file_poll_wait_seconds=1"]) as server:
            assert answer(server, "m/labels/stable") == 11.0
            # server_core.cc UpdateModelVersionLabelMap(): a label in use does not move to what is not loaded, whatever
            # the flag says, and all of the new configuration is refused.
            write("versions: 1 versions: 2", 2)
            refusal = "Request to assign label to version 2 of model m, which is not currently available for inference"
            server.until(lambda: refusal in server.log.read_text())
            assert answer(server, "m/labels/stable") == 11.0
            assert server.states("m") == {1: "AVAILABLE"}
            write("versions: 1 versions: 2", 1)
            server.until(lambda: server.states("m") == {2: "AVAILABLE", 1: "AVAILABLE"})
            assert answer(server, "m/labels/stable") == 11.0
            write("versions: 1 versions: 2", 2)
            server.until(lambda: answer(server, "m/labels/stable") == 21.0)
            # Only now may the old version go.
            write("versions: 2", 2)
            server.until(lambda: server.states("m") == {2: "AVAILABLE", 1: "END"})
            assert answer(server, "m/labels/stable") == 21.0
