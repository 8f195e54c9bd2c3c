# SPDX-FileCopyrightText: The modelfleet maintainers
# SPDX-License-Identifier: GPL-3.0-or-later
"""Stores of a real cluster: filled from real servers, cut off, too small, tampered with, and emptied of what is old."""

from __future__ import annotations

import json
import shutil
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from _lab import BUCKET_PYTHON, Lab, object_store, on_node
from _web import Web, gateway

from ansible_collections.modelfleet.serving.plugins.module_utils._cluster.kinds import Ref
from ansible_collections.modelfleet.serving.plugins.module_utils._errors import ServingError, WaitError
from ansible_collections.modelfleet.serving.plugins.module_utils._manifests.server import ServerSpec, server
from ansible_collections.modelfleet.serving.plugins.module_utils._store.artefact import read_artefact
from ansible_collections.modelfleet.serving.plugins.module_utils._tfserving.model_config import ServedModel

Json = dict[str, Any]
MIB = 1024 * 1024


def saved_model(base: Path, version: int, shard_bytes: int = 200_000, shards: int = 2) -> str:
    """Make one version of a model that looks whole; gives its digest."""
    folder = base / str(version) / "variables"
    folder.mkdir(parents=True)
    (folder.parent / "saved_model.pb").write_bytes(b"graph with save/RestoreV2 in it")
    (folder / "variables.index").write_bytes(b"index")
    for shard in range(shards):
        content = bytes([version, shard]) * (shard_bytes // 2)
        (folder / f"variables.data-{shard:05}-of-{shards:05}").write_bytes(content)
    return read_artefact(base.name, version, str(base)).digest


def within(seconds: float, condition: Callable[[], Any]) -> Any:
    """Wait until something is there."""
    end = time.monotonic() + seconds
    while not (found := condition()):
        assert time.monotonic() < end, "it did not come in time"
        time.sleep(0.1)
    return found


def model(source: str, *versions: int, **more: Any) -> Json:
    return {"name": "m", "source": source, "versions": list(versions), **more}


def test_a_web_server_is_a_source(lab: Lab, web: Web) -> None:
    digests = {str(version): saved_model(web.folder / "m", version) for version in (1, 2)}
    archive = web.folder / "packed" / "m-3"
    shutil.make_archive(str(archive), "gztar", web.folder / "m" / "1")
    checked = lab.fill(model(f"{web.url}/m", 1, 2, digests=digests), check=True)
    done = lab.fill(model(f"{web.url}/m", 1, 2, digests=digests))
    assert done["versions"] == {"m": digests}
    for part in ("changed", "diff", "versions", "objects", "collected", "spared"):
        assert checked[part] == done[part]
    assert [row["bytes"] for row in done["copied"]] == [400_036, 400_036]
    assert lab.jobs() == []
    web.read.clear()
    again = lab.fill(model(f"{web.url}/m", 1, 2, digests=digests))
    assert again["changed"] is False
    assert web.read == []
    packed = lab.fill(model(f"{web.url}/packed/m-{{version}}.tar.gz", 3))
    assert packed["versions"]["m"] == {**digests, "3": digests["1"]}
    lab.mount()
    assert (lab.info()["verified"], lab.info()["tampered"]) == (True, [])


def test_an_object_store_is_a_source(lab: Lab, tmp_path: Path) -> None:
    if not BUCKET_PYTHON.exists():
        pytest.skip("no object store: `make stores` installs one")
    folder = tmp_path / "bucket"
    digests = {str(version): saved_model(folder / "m", version) for version in (1, 2)}
    shutil.make_archive(str(folder / "m-2"), "zip", folder / "m" / "2")
    with object_store(gateway(), folder) as remote:
        checked = lab.fill(model("s3:models/m", 1), remotes={"s3": remote}, check=True)
        done = lab.fill(model("s3:models/m", 1), remotes={"s3": remote})
        assert checked["objects"] == done["objects"]
        assert done["versions"] == {"m": {"1": digests["1"]}}
        assert not any(remote[key] in json.dumps(done) for key in ("access_key_id", "secret_access_key"))
        wrong = {**remote, "secret_access_key": "another"}
        once = {"Job": {"spec": {"backoffLimit": 0}}}
        with pytest.raises(ServingError, match=r"Job .*/models-fetch-.* has failed: .*403"):
            lab.fill(model("s3:models/m", 1, 2), remotes={"s3": wrong}, overrides=once)
        with pytest.raises(ServingError, match=r"m version 3: there is nothing at s3:models/m/3"):
            lab.fill(model("s3:models/m", 1, 3), remotes={"s3": remote})
        # The same by a Secret that someone else keeps; the one of the bundle goes.
        data = {f"RCLONE_CONFIG_KEPT_{name}".upper(): value for name, value in remote.items()}
        metadata = {"name": "kept", "namespace": lab.namespace}
        lab.make({"apiVersion": "v1", "kind": "Secret", "metadata": metadata, "stringData": data})
        both = lab.fill(model("kept:models/m-{version}.zip", 2), remotes_secret="kept")
        assert both["versions"] == {"m": digests}
        assert [row["action"] for row in both["objects"] if row["kind"] == "Secret"] == ["deleted"]


@pytest.mark.slow
def test_a_job_that_loses_its_pod_goes_on(lab: Lab, web: Web) -> None:
    digest = saved_model(web.folder / "m", 1, 2 * MIB, shards=6)
    web.pause = 0.15
    result: Json = {}
    told: list[str] = []
    run = threading.Thread(target=lambda: result.update(lab.fill(model(f"{web.url}/m", 1), progress=told)), daemon=True)
    run.start()
    within(60, lambda: len([path for path in web.read if ".data-" in path]) > 4)  # four at a time: one has arrived
    (pod,) = [pod for pod in lab.pods() if "-fetch-" in pod["metadata"]["name"]]
    lab.session.request("DELETE", lab.session.path(Ref.of(pod)), body={})  # as a drain of its node does
    run.join(90)
    assert result["versions"] == {"m": {"1": digest}}
    counts = [web.read.count(path) for path in set(web.read) if ".data-" in path]
    assert min(counts) == 1, "what had arrived was not fetched again"
    assert max(counts) > 1, "what had not was"
    assert any("MiB" in line and "%" in line for line in told), told


def test_a_run_that_is_cut_off_is_gone_on_with(lab: Lab, web: Web) -> None:
    digest = saved_model(web.folder / "m", 1, 2 * MIB)
    web.pause = 0.4
    with pytest.raises(WaitError, match=r"waited 8 s: Job .*/models-fetch-"):
        lab.fill(model(f"{web.url}/m", 1), wait_timeout=8)
    (job,) = lab.jobs()
    web.pause = 0.0
    seen: list[str] = []
    result = lab.fill(model(f"{web.url}/m", 1), progress=seen)
    assert result["versions"] == {"m": {"1": digest}}
    assert lab.jobs() == []
    assert web.read.count("/m/1/variables/variables.data-00000-of-00002") == 1, f"by the same {job['metadata']['name']}"


def test_what_is_wrong_with_a_source_ends_the_task(lab: Lab, web: Web) -> None:
    saved_model(web.folder / "m", 1)
    saved_model(web.folder / "m", 2)
    (web.folder / "m" / "2" / "variables" / "variables.data-00001-of-00002").unlink()
    wrong = "sha256:" + "0" * 64
    started = time.monotonic()
    for models, words in (
        (model(f"{web.url}/m", 1, digests={1: wrong}), f"m version 1: the files at .* have the digest .*, not {wrong}"),
        (model(f"{web.url}/m", 2), "m version 2: it is an incomplete SavedModel"),
        (model(f"{web.url}/none", 1), "m version 1: there is nothing at http"),
    ):
        with pytest.raises(ServingError, match=f"Job .*models-fetch-.* has failed: {words}"):
            lab.fill(models)
    assert time.monotonic() - started < 60, "none of it is tried again"
    assert not [path for path in web.read if path.startswith("/m/2/")], "nothing of a broken model was copied"
    assert lab.mount()("find /models -mindepth 2").decode().split() == []


def test_tampering_is_found(lab: Lab, tmp_path: Path) -> None:
    digests = {str(version): saved_model(tmp_path / "m", version) for version in (1, 2, 3)}
    lab.fill(model(str(tmp_path / "m"), 1, 2, 3))
    shell = lab.mount()
    assert lab.info()["tampered"] == []
    shell("printf X | dd of=/models/m/1/variables/variables.data-00000-of-00002 bs=1 seek=7 conv=notrunc 2>/dev/null")
    shell("rm -r /models/m/3")
    found = lab.info()["tampered"]
    assert [(row["version"], row["published"]) for row in found] == [(1, digests["1"]), (3, digests["3"])]
    assert found[0]["found"] not in (None, digests["1"])
    assert found[1]["found"] is None


@pytest.fixture
def small_volume(lab: Lab) -> Iterator[str]:
    """A volume of 16 MiB; gives its place on the node."""
    place = f"/mnt/{lab.namespace}"
    on_node("mkdir", "-p", place)
    on_node("mount", "-t", "tmpfs", "-o", "size=16m,uid=1000,mode=0700", "tmpfs", place)
    volume = {
        "apiVersion": "v1",
        "kind": "PersistentVolume",
        "metadata": {"name": lab.namespace},
        "spec": {
            "capacity": {"storage": "100Mi"},
            "accessModes": ["ReadWriteOnce"],
            "persistentVolumeReclaimPolicy": "Retain",
            "storageClassName": "",
            "claimRef": {"name": "models", "namespace": lab.namespace},
            "hostPath": {"path": place},
        },
    }
    lab.session.request("POST", "/api/v1/persistentvolumes", body=volume)
    yield place
    lab.session.request("DELETE", f"/api/v1/namespaces/{lab.namespace}", body={})
    lab.session.request("DELETE", f"/api/v1/persistentvolumes/{lab.namespace}", body={})
    on_node("umount", "--lazy", place)


@pytest.mark.parametrize("remote", [True, False])
def test_a_full_volume_leaves_what_is_published(lab: Lab, web: Web, small_volume: str, remote: bool) -> None:
    # Of six files, rclone takes room for four at a time when it begins with them.
    digests = {str(version): saved_model(web.folder / "m", version, MIB // 2, shards=6) for version in (1, 2)}
    saved_model(web.folder / "m", 3, 10 * MIB)
    source = f"{web.url}/m" if remote else str(web.folder / "m")
    lab.fill(model(source, 1), storage_class="")
    with pytest.raises(
        ServingError, match=r"m version 3.* needs (20|21\.0) MB more, and the store has only 1[0-9.]+ MB left"
    ):
        lab.fill(model(source, 1, 3), storage_class="")
    if remote:
        # Full only after it has begun.
        web.pause = 0.5
        failed: list[ServingError] = []

        def fill() -> None:
            try:
                lab.fill(model(source, 1, 2), storage_class="", overrides={"Job": {"spec": {"backoffLimit": 0}}})
            except ServingError as error:
                failed.append(error)

        run = threading.Thread(target=fill, daemon=True)
        run.start()
        within(60, lambda: [path for path in web.read if path.startswith("/m/2/variables/variables.data")])
        on_node("sh", "-c", f"dd if=/dev/zero of={small_volume}/filler bs=1M 2>/dev/null || true")
        run.join(90)
        assert failed, "it had no room"
        assert "no space left" in str(failed[0]) or "MB left" in str(failed[0])
        on_node("rm", f"{small_volume}/filler")
        web.pause = 0.0
    done = lab.fill(model(source, 1, 2), storage_class="")
    assert done["versions"] == {"m": digests}
    lab.mount()
    assert lab.info()["tampered"] == []


def test_old_versions_go_but_not_one_that_is_served(lab: Lab, tmp_path: Path) -> None:
    digests = {str(version): saved_model(tmp_path / "m", version) for version in (1, 2, 3, 4)}
    source = str(tmp_path / "m")
    lab.fill(model(source, 1, 2, 3, 4))
    spec = ServerSpec("serving", lab.namespace, lab.image, (ServedModel("m", (1,)),), "models")
    (config,) = [manifest for manifest in server(spec) if manifest["kind"] == "ConfigMap"]
    lab.make(config)
    checked = lab.fill(model(source, 4, keep=1), check=True)
    done = lab.fill(model(source, 4, keep=1))
    assert checked == done
    assert done["collected"] == [{"claim": "models", "model": "m", "version": 2, "digest": digests["2"]}]
    assert done["spared"] == [{"claim": "models", "model": "m", "version": 1, "server": "serving"}]
    assert done["versions"]["m"].keys() == {"1", "3", "4"}
    shell = lab.mount()
    assert shell("ls /models/m").decode().split() == ["1", "3", "4"]
    lab.session.request("DELETE", lab.session.path(Ref.of(config)), body={})
    assert [row["version"] for row in lab.fill(model(source, 4, keep=1))["collected"]] == [1]
    assert shell("ls -A /models /models/m").decode().split().count("1") == 0
    assert lab.info()["tampered"] == []
    assert lab.fill(model(source, 4, keep=1))["changed"] is False
