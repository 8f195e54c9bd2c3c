# SPDX-FileCopyrightText: The modelfleet maintainers
# SPDX-License-Identifier: GPL-3.0-or-later
"""model_image: what names an image, and how it gets where it lacks. What a real engine does is in tests/images."""

from __future__ import annotations

import io
import os
import sys
import tarfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from _doors import run_module

from ansible_collections.modelfleet.serving.plugins.module_utils._errors import InputError
from ansible_collections.modelfleet.serving.plugins.module_utils._features import model_image
from ansible_collections.modelfleet.serving.plugins.module_utils._image.context import read_context

Json = dict[str, Any]
Run = Callable[..., Json]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder to build from."""
    folder = tmp_path / "forest"
    (folder / "code").mkdir(parents=True)
    (folder / "Dockerfile").write_text("FROM scratch\nCOPY . /\n")
    (folder / "code" / "server.py").write_text("print('forest')\n")
    (folder / "notes.txt").write_text("one\n")
    (folder / "link").symlink_to("code/server.py")
    return folder


def tag(folder: Path, **options: Any) -> str:
    return read_context(folder, "Dockerfile").digest(**options)


def archive(folder: Path) -> tarfile.TarFile:
    target = io.BytesIO()
    read_context(folder, "Dockerfile").write(target)
    return tarfile.open(fileobj=io.BytesIO(target.getvalue()))


def test_what_a_copy_has_by_chance_changes_no_tag(folder: Path) -> None:
    before = tag(folder)
    os.utime(folder / "notes.txt", (1, 1))
    (folder / "notes.txt").chmod(0o664)
    (folder / "code").chmod(0o700)
    (folder / "code" / "same.py").hardlink_to(folder / "code" / "server.py")
    (folder / "code" / "same.py").unlink()
    assert tag(folder) == before


def test_hard_links_are_files(folder: Path) -> None:
    """As they are when the folder is checked out elsewhere."""
    (folder / "copy.py").write_text((folder / "code" / "server.py").read_text())
    before = tag(folder)
    (folder / "copy.py").unlink()
    (folder / "copy.py").hardlink_to(folder / "code" / "server.py")
    assert tag(folder) == before


CHANGES: dict[str, Callable[[Path], Any]] = {
    "other content": lambda folder: (folder / "notes.txt").write_text("two\n"),
    "another file": lambda folder: (folder / "more.txt").write_text(""),
    "another folder": lambda folder: (folder / "empty").mkdir(),
    "another name": lambda folder: (folder / "notes.txt").rename(folder / "note.txt"),
    "a file less": lambda folder: (folder / "notes.txt").unlink(),
    "executable": lambda folder: (folder / "notes.txt").chmod(0o755),
    "another Dockerfile": lambda folder: (folder / "Dockerfile").write_text("FROM scratch\n"),
    "another link": lambda folder: ((folder / "link").unlink(), (folder / "link").symlink_to("notes.txt")),
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES.keys())
def test_what_matters_changes_the_tag(change: Callable[[Path], Any], folder: Path) -> None:
    before = tag(folder)
    change(folder)
    assert tag(folder) != before


def test_the_options_of_the_build_change_the_tag(folder: Path) -> None:
    tags = [
        tag(folder),
        tag(folder, build_args={"BASE": "a"}),
        tag(folder, build_args={"BASE": "b"}),
        tag(folder, build_args={"BASE": "b"}, platform="linux/arm64"),
    ]
    assert len(set(tags)) == len(tags)


def test_what_is_ignored_does_not_count(folder: Path) -> None:
    (folder / ".dockerignore").write_text("# a comment\n\n*\n!code\ncode/*.pyc\nDockerfile\n")
    names = archive(folder).getnames()
    assert names == [".dockerignore", "Dockerfile", "code", "code/server.py"], "the Dockerfile is always there"
    before = tag(folder)
    (folder / "notes.txt").write_text("two\n")
    (folder / "code" / "server.pyc").write_text("x")
    assert tag(folder) == before
    (folder / "code" / "server.py").write_text("other")
    assert tag(folder) != before


def test_the_archive_has_what_the_folder_has(folder: Path) -> None:
    (folder / "code" / "server.py").chmod(0o700)
    os.mkfifo(folder / "pipe")
    found = archive(folder)
    server = found.getmember("code/server.py")
    content = found.extractfile(server)
    assert content is not None
    assert content.read() == b"print('forest')\n"
    assert (server.mode, server.uid, server.uname) == (0o755, 0, "")
    assert found.getmember("notes.txt").mode == 0o644
    assert found.getmember("link").linkname == "code/server.py"
    assert "pipe" not in found.getnames(), "Docker leaves out what is no file either"


def test_a_file_that_can_not_be_read_is_named(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    context = read_context(folder, "Dockerfile")
    (folder / "notes.txt").unlink()
    with pytest.raises(InputError, match=r"path: .*/notes\.txt can't be put into an archive: No such file"):
        context.digest()


@pytest.mark.parametrize(
    ("more", "words"),
    [
        ({"path": "/nowhere"}, "path: /nowhere is no folder. Give the folder with the Dockerfile."),
        ({"dockerfile": "Containerfile"}, "Containerfile is no file in "),
        ({"dockerfile": "/etc/passwd"}, "dockerfile: /etc/passwd is no file in "),
        ({"dockerfile": "../forest/Dockerfile"}, "is no file in "),
        ({"repository": "forest:1"}, "repository: 'forest:1' is no name of a repository. Use the form"),
        ({"repository": "Team/Forest Fire"}, "repository: 'Team/Forest Fire' is no name of a repository."),
        ({"repository": ""}, "repository: '' is no name of a repository."),
        ({"load_into": ["a", "a"]}, "load_into: 'a' stands there more than once."),
        ({"timeout": 0}, "timeout: 0 is no time."),
        ({"registry_auth": {"username": "me"}}, "missing required arguments: password"),
        ({"docker_host": "unix:///nowhere/docker.sock"}, "The Docker engine at unix:///nowhere/docker.sock does not"),
        ({"docker_host": "nowhere"}, "The Docker engine at nowhere does not answer: "),
    ],
    ids=str,
)
def test_bad_input(more: Json, words: str, folder: Path) -> None:
    failed = run_module("model_image", {"path": str(folder), "repository": "team/forest", **more})
    assert failed["failed"] is True
    assert words in failed["msg"]
    assert not failed.get("changed")
    assert "exception" not in failed


@pytest.mark.parametrize(
    "repository", ["forest", "team/forest", "localhost:5000/forest", "registry.example.com/a/b-c_d"]
)
def test_names_of_repositories(repository: str) -> None:
    assert model_image._REPOSITORY.fullmatch(repository)


def test_a_missing_package_is_named(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in sys.modules if name.partition(".")[0] == "docker"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "docker", None)
    failed = run_module("model_image", {"path": str(folder), "repository": "team/forest"})
    assert failed["failed"] is True
    assert "The Python package 'docker' is missing from the interpreter that runs this task." in failed["msg"]
    assert "pip install docker" in failed["msg"]


@dataclass
class Fake:
    """An engine that keeps what it is told.

    :param places: where images are: the engine, the registry, and nodes.
    """

    places: set[str]
    calls: list[str] = field(default_factory=list)

    def has(self, image: str) -> bool:
        return "engine" in self.places

    def registry_has(self, image: str) -> bool:
        return "registry" in self.places

    def node_has(self, node: str, image: str) -> bool:
        return node in self.places

    def _act(self, call: str, place: str) -> None:
        self.calls.append(call)
        self.places.add(place)

    def build(self, image: str, *_: Any, **__: Any) -> None:
        self._act("build", "engine")

    def pull(self, image: str, platform: str | None) -> None:
        self._act("pull", "engine")

    def push(self, image: str) -> None:
        assert "engine" in self.places
        self._act("push", "registry")

    @contextmanager
    def saved(self, image: str) -> Iterator[io.BytesIO]:
        assert "engine" in self.places
        self.calls.append("save")
        yield io.BytesIO()

    def load(self, archive: io.BytesIO, image: str, node: str) -> None:
        self._act(f"load {node}", node)

    def remove(self, image: str) -> None:
        self.calls.append("remove")
        self.places.discard("engine")

    def remove_from_node(self, image: str, node: str) -> None:
        self.calls.append(f"remove {node}")
        self.places.discard(node)


NODES = {"load_into": ["a", "b"]}
# What is asked for, where the image is, and what has to be done.
PLANS: list[tuple[Json, set[str], list[str]]] = [
    ({}, set(), ["build"]),
    ({}, {"engine"}, []),
    ({"push": True}, set(), ["build", "push"]),
    ({"push": True}, {"engine"}, ["push"]),
    ({"push": True}, {"registry"}, []),
    (NODES, set(), ["build", "save", "load a", "load b"]),
    (NODES, {"engine"}, ["save", "load a", "load b"]),
    (NODES, {"engine", "a"}, ["save", "load b"]),
    (NODES, {"a", "b"}, []),
    ({"push": True, **NODES}, {"registry", "a"}, ["pull", "save", "load b"]),
    ({"push": True, **NODES}, {"a"}, ["build", "push", "save", "load b"]),
    ({"push": True, **NODES}, {"a", "b"}, ["build", "push"]),
    ({"state": "absent"}, {"engine", "registry"}, ["remove"]),
    ({"state": "absent", **NODES}, {"engine", "b"}, ["remove", "remove b"]),
    ({"state": "absent", **NODES}, set(), []),
]


@pytest.mark.parametrize(("asked", "there", "calls"), PLANS)
def test_an_image_gets_where_it_lacks(
    asked: Json, there: set[str], calls: list[str], folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = Fake(set(there))

    @contextmanager
    def connect(*_: Any) -> Iterator[Fake]:
        yield engine

    monkeypatch.setattr(model_image, "connect", connect)

    def run(check: bool = False) -> Json:
        return run_module("model_image", {"path": str(folder), "repository": "team/forest", **asked}, check=check)

    checked = run(check=True)
    assert engine.calls == []
    done = run()
    assert engine.calls == calls
    for key in ("changed", "image", "steps"):
        assert checked[key] == done[key]
    assert checked.get("diff") == done.get("diff")
    assert done["changed"] is bool(calls)
    again = run()
    assert again["changed"] is False
    assert engine.calls == calls
    assert again["image"] == done["image"]
