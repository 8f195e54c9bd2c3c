# SPDX-FileCopyrightText: The modelfleet maintainers
# SPDX-License-Identifier: GPL-3.0-or-later
"""model_image with a real Docker engine: what is built, and how it gets into a registry and into a kind node."""

from __future__ import annotations

import io
import os
import tarfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from ansible_collections.modelfleet.serving.plugins.module_utils._call import Result
from ansible_collections.modelfleet.serving.plugins.module_utils._errors import InputError, ServingError

from .lab import NODE, build, engine, on_node
from .registry import PASSWORD, USER, Registry

Json = dict[str, Any]
Build = Callable[..., Result]
pytestmark = pytest.mark.skipif(engine() is None, reason="no Docker engine")
needs_node = pytest.mark.skipif(not on_node("true"), reason="no local fleet: `make fleet` makes one")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder whose image takes no base and no network; its content is of this run alone."""
    folder = tmp_path / "image"
    folder.mkdir()
    (folder / "Dockerfile").write_text("FROM scratch\nARG WORD=none\nLABEL word=$WORD\nCOPY . /data\n")
    (folder / ".dockerignore").write_text("*.log\nDockerfile\n")
    (folder / "kept.txt").write_text(f"{os.getpid()} {tmp_path}\n")
    (folder / "left.log").write_text("x\n")
    return folder


@pytest.fixture
def make(folder: Path) -> Iterator[Build]:
    """Run the feature on the folder; every image it made goes afterwards."""
    made: list[Json] = []

    def make(**more: Any) -> Result:
        arguments = {"path": str(folder), "repository": "modelfleet-test/image", **more}
        made.append(arguments)
        return build(**arguments)

    yield make
    client = engine()
    names = {arguments["repository"] for arguments in made}
    for name in names:
        for image in client.images.list(name):
            client.images.remove(image.id, force=True)


def steps(result: Result) -> list[str]:
    return [step["action"] for step in result.values["steps"]]


def files(image: str) -> list[str]:
    """List the files of an image."""
    client = engine()
    container = client.containers.create(image, command=["none"])
    try:
        stream, _stat = container.get_archive("/data")
        with tarfile.open(fileobj=io.BytesIO(b"".join(stream))) as archive:
            return sorted(archive.getnames())
    finally:
        container.remove()


def test_a_folder_is_built_once(make: Build, folder: Path) -> None:
    checked = make(check=True)
    assert (checked.changed, steps(checked)) == (True, ["build"])
    assert engine().images.list("modelfleet-test/image") == []
    done = make()
    assert done.as_dict(diff=True) == checked.as_dict(diff=True)
    assert files(done.values["image"]) == ["data", "data/.dockerignore", "data/kept.txt"]
    os.utime(folder / "kept.txt")
    (folder / "left.log").write_text("y\n")
    again = make()
    assert (again.changed, again.values["image"]) == (False, done.values["image"])
    (folder / "kept.txt").write_text("other\n")
    other = make()
    assert other.changed
    assert other.values["image"] != done.values["image"]
    assert make(state="absent").changed
    assert not make(state="absent").changed


def test_build_arguments_reach_the_build(make: Build) -> None:
    result = make(build_args={"WORD": "yes"})
    assert engine().images.get(result.values["image"]).labels["word"] == "yes"
    assert make().values["image"] != result.values["image"]


def test_a_build_that_fails_says_why(make: Build, folder: Path) -> None:
    (folder / "Dockerfile").write_text("FROM scratch\nCOPY kept.txt /\nCOPY missing.txt /\n")
    told: list[str] = []
    with pytest.raises(ServingError, match=r"the build failed: (?s:.*)missing\.txt(?s:.*)COPY missing\.txt") as failed:
        make(progress=told)
    assert any("Step 2/3 : COPY kept.txt" in line for line in failed.value.details["build_output"])
    assert any("Step 3/3" in line for line in told)
    assert engine().images.list("modelfleet-test/image") == []
    (folder / "Dockerfile").write_text("NONSENSE\n")
    with pytest.raises(ServingError, match=r"image modelfleet-test/image:\w+: .*(?i:unknown instruction).*NONSENSE"):
        make()


def test_a_registry_gets_an_image_once(make: Build) -> None:
    with Registry() as registry:
        login = {"username": USER, "password": PASSWORD}
        asked = {"repository": f"{registry.address}/team/image", "push": True, "registry_auth": login}
        checked = make(**asked, check=True)
        assert steps(checked) == ["build", "push"]
        assert not registry.manifests
        done = make(**asked)
        assert done.as_dict(diff=True) == checked.as_dict(diff=True)
        assert done.values["image"].rpartition(":")[2] in registry.manifests
        engine().images.remove(done.values["image"], force=True)
        before = len(registry.requests)
        assert not make(**asked).changed, "who has no image but the registry builds none"
        assert not any(request.startswith(("PUT", "POST")) for request in registry.requests[before:])


def test_a_registry_that_refuses_is_quoted(make: Build) -> None:
    with Registry() as registry:
        asked = {"repository": f"{registry.address}/team/image", "push": True}
        with pytest.raises(ServingError) as refused:
            make(**asked, registry_auth={"username": USER, "password": "wrong"})
        assert "could not be pushed" in str(refused.value)
        assert "Set registry_auth, or log in with `docker login`" in str(refused.value)
        assert not registry.manifests


def test_a_registry_that_does_not_answer_is_no_registry_without_the_image(make: Build) -> None:
    with pytest.raises(ServingError, match=r"its registry: .*(refused|connect)"):
        make(repository="127.0.0.1:9/team/image", push=True)


@needs_node
def test_a_node_gets_an_image_once(make: Build) -> None:
    asked = {"load_into": [NODE]}
    checked = make(**asked, check=True)
    assert steps(checked) == ["build", "load"]
    done = make(**asked)
    assert done.as_dict(diff=True) == checked.as_dict(diff=True)
    name = f"docker.io/{done.values['image']}"
    listed = ["ctr", "--namespace=k8s.io", "images", "list", "--quiet"]
    assert name in on_node(*listed).split()
    engine().images.remove(done.values["image"], force=True)
    assert not make(**asked).changed, "who has no image but the node builds none"
    gone = make(**asked, state="absent")
    assert [step["place"] for step in gone.values["steps"]] == [NODE]
    assert name not in on_node(*listed).split()


def test_a_node_that_is_none_is_named(make: Build) -> None:
    with pytest.raises(InputError, match=r"load_into: the engine has no container 'no-such-node'"):
        make(load_into=["no-such-node"])
