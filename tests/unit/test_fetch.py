# SPDX-FileCopyrightText: The modelfleet maintainers
# SPDX-License-Identifier: GPL-3.0-or-later
"""The script that pulls a version into a store, in real shells with real tools, and a stand-in for rclone alone."""

from __future__ import annotations

import io
import json
import os
import shutil
import subprocess
import tarfile
import zipfile
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from _models import no_graph, no_index, no_shard, no_variables, only_index, saved_model
from _tools import busybox_tools, full_disk, rclone

from ansible_collections.modelfleet.serving.plugins.module_utils._errors import ServingError
from ansible_collections.modelfleet.serving.plugins.module_utils._store.artefact import read_artefact
from ansible_collections.modelfleet.serving.plugins.module_utils._store.fetch import (
    FINAL,
    SCRIPT,
    arguments,
    read_report,
)
from ansible_collections.modelfleet.serving.plugins.module_utils._store.source import parse_source


@dataclass
class Lab:
    """A store, a remote place, and the script between them."""

    folder: Path
    path: str
    environment: dict[str, str] = field(default_factory=dict)

    @property
    def root(self) -> Path:
        return self.folder / "store"

    @property
    def remote(self) -> Path:
        return self.folder / "remote"

    @property
    def staging(self) -> list[Path]:
        return sorted((self.root / ".incoming").iterdir())

    def fetch(self, source: str = "r:m", version: int = 1, digest: str | None = None) -> tuple[int, Any]:
        """Give the exit code, and the report or the words of the failure."""
        report = self.folder / "report"
        report.write_text("")
        where = arguments("m", version, parse_source(source, version, ["r"]), digest, str(self.root))
        environment = {**os.environ, "PATH": self.path, "REPORT": str(report), "REMOTE": str(self.remote)}
        command = ["sh", "-c", SCRIPT, "sh", *where]
        shell = shutil.which("sh", path=self.path)
        done = subprocess.run(
            command, executable=shell, env=environment | self.environment, capture_output=True, text=True, check=False
        )
        words = report.read_text()
        return done.returncode, read_report("m", words) if done.returncode == 0 else words or done.stderr

    def digest(self, version: int = 1) -> str:
        return read_artefact("m", version, str(self.remote / "m")).digest

    def stored(self, version: int = 1) -> str | None:
        """The digest of what is published, by our own reading."""
        there = (self.root / "m" / str(version)).is_dir()
        return read_artefact("m", version, str(self.root / "m")).digest if there else None

    def copies(self) -> list[str]:
        """The commands of rclone that read content."""
        log = Path(f"{self.remote}.log")
        return [line for line in log.read_text().splitlines() if line.split()[0] in ("sync", "copyto")]


@pytest.fixture(params=["gnu", "busybox"])
def lab(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Lab:
    path = os.environ["PATH"]
    if request.param == "busybox":
        if not shutil.which("busybox"):
            pytest.skip("no busybox on this machine; the local fleet's image fetches with its own")
        path = str(busybox_tools(tmp_path))
    elif not shutil.which("unzip"):
        tools = tmp_path / "unzip"
        tools.mkdir()
        if shutil.which("busybox"):
            (tools / "unzip").symlink_to(str(shutil.which("busybox")))
        path += f":{tools}"
    monkeypatch.setenv("PATH", f"{rclone(tmp_path / 'rclone').parent}:{path}")
    lab = Lab(tmp_path, os.environ["PATH"])
    saved_model(lab.remote / "m", 1, b"weights" * 10_000)
    saved_model(lab.remote / "m", 2, b"others" * 10_000)
    (lab.remote / "m" / "1" / "assets").mkdir()
    for name in ("a b.txt", "ä.txt", "Z", "it's $HOME"):
        (lab.remote / "m" / "1" / "assets" / name).write_text(name)
    lab.root.mkdir()
    return lab


def pack(lab: Lab, name: str, prefix: str = "", version: int = 1) -> Path:
    """Make an archive of a version as users do."""
    folder, path = lab.remote / "m" / str(version), lab.remote / name
    if name.endswith(".zip"):
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
            for file in sorted(folder.rglob("*")):
                archive.write(file, f"{prefix}{file.relative_to(folder)}")
    else:
        with tarfile.open(path, "w:gz" if name.endswith("gz") else "w") as tar:
            tar.add(folder, prefix.rstrip("/") or ".")
    return path


def test_a_version_is_fetched_and_reported(lab: Lab) -> None:
    code, report = lab.fetch()
    assert code == 0, report
    assert report.digest == lab.digest() == lab.stored()
    assert report.size == read_artefact("m", 1, str(lab.remote / "m")).size
    assert lab.staging == []
    assert lab.fetch(version=2)[0] == 0
    assert lab.stored(2) == lab.digest(2)


@pytest.mark.parametrize("prefix", ["", "./", "export/"])
@pytest.mark.parametrize("suffix", ["tar", "tar.gz", "tgz", "zip"])
def test_an_archive_is_unpacked(lab: Lab, suffix: str, prefix: str) -> None:
    pack(lab, f"m-1.{suffix}", prefix)
    code, report = lab.fetch(f"r:m-{{version}}.{suffix}", digest=lab.digest())
    assert code == 0, report
    assert lab.stored() == lab.digest()
    assert lab.staging == []


def test_the_declared_digest_counts(lab: Lab) -> None:
    code, words = lab.fetch(digest="sha256:" + "0" * 64)
    assert code == FINAL
    assert f"the files at r:m/1 have the digest {lab.digest()}, not sha256:000" in words
    assert lab.stored() is None
    assert lab.staging == [], "wrong files are not a beginning of the right ones"
    assert lab.fetch(digest=lab.digest())[0] == 0


def test_what_is_published_already_is_found(lab: Lab) -> None:
    lab.fetch()
    before = lab.copies()
    assert lab.fetch(digest=lab.digest())[0] == 0
    assert lab.copies() == before, "its digest is enough"
    code, report = lab.fetch()
    assert (code, report.digest) == (0, lab.digest())
    assert lab.staging == []
    (lab.remote / "m" / "1" / "assets" / "Z").write_text("other")
    for digest in (None, lab.digest()):
        code, words = lab.fetch(digest=digest)
        assert code == FINAL
        assert "it is in the store already with other files: sha256:" in words
    assert lab.stored() != lab.digest()


def test_a_copy_that_was_cut_is_continued(lab: Lab) -> None:
    lab.environment = {"RCLONE_FAULT": "cut"}
    code, words = lab.fetch()
    assert code == 1
    assert "the connection broke" in words
    assert lab.stored() is None
    (staging,) = lab.staging
    (staging / "assets.extra").mkdir()
    (staging / "assets.extra" / "strange.partial").write_text("half")
    first = next(path for path in staging.rglob("*") if path.is_file() and "partial" not in path.name)
    before = first.stat().st_ino
    lab.environment = {}
    assert lab.fetch()[0] == 0
    assert lab.stored() == lab.digest()
    published = lab.root / "m" / "1" / first.relative_to(staging)
    assert published.stat().st_ino == before, "what had arrived was not copied again"


@pytest.mark.parametrize("command", ["lsf", "sync"])
def test_a_source_that_is_not_there_today_is_tried_again(lab: Lab, command: str) -> None:
    lab.environment = {"RCLONE_FAULT": command}
    code, words = lab.fetch()
    assert code not in (0, FINAL)
    assert "the source is not there today" in words


@pytest.mark.parametrize("source", ["r:none", "r:none-{version}.zip"])
def test_a_source_that_does_not_exist_is_final(lab: Lab, source: str) -> None:
    code, words = lab.fetch(source)
    assert code == FINAL
    assert "m version 1: there is nothing at r:none" in words


def _binary_graph(folder: Path) -> None:
    shutil.rmtree(folder / "variables")
    (folder / "saved_model.pb").write_bytes(b"\x00\x01graph\x00save/RestoreV2\x00\xff")


@pytest.mark.parametrize("archive", ["", "tgz", "zip"])
@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (no_graph, "it is no SavedModel: saved_model.pb is missing. Export it"),
        (no_variables, "it is an incomplete SavedModel: its variables"),
        (no_index, "it is an incomplete SavedModel"),
        (no_shard, "it is an incomplete SavedModel"),
        (only_index, "it is an incomplete SavedModel"),
        (_binary_graph, "it is an incomplete SavedModel"),
    ],
)
def test_what_is_no_whole_saved_model_is_refused(
    lab: Lab, spoil: Callable[[Path], None], words: str, archive: str
) -> None:
    spoil(lab.remote / "m" / "1")
    if archive:
        pack(lab, f"m.{archive}")
    code, found = lab.fetch(f"r:m.{archive}" if archive else "r:m")
    assert code == FINAL
    assert found.startswith(f"m version 1: {words}")
    assert lab.stored() is None
    if not archive:
        assert lab.copies() == [], "nothing was copied"
    assert lab.staging == []


def test_a_model_without_variables_is_whole(lab: Lab) -> None:
    no_variables(lab.remote / "m" / "1")
    (lab.remote / "m" / "1" / "saved_model.pb").write_bytes(b"a graph of constants")
    assert lab.fetch()[0] == 0
    assert lab.stored() == lab.digest()


@pytest.mark.parametrize("archive", ["", "tar"])
def test_a_volume_that_is_too_small_is_told_before(
    lab: Lab, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, archive: str
) -> None:
    if archive:
        pack(lab, "m.tar")
    full_disk(tmp_path, monkeypatch, kibibytes=20)
    lab.path = os.environ["PATH"]
    code, words = lab.fetch("r:m.tar" if archive else "r:m")
    assert code == FINAL
    assert "m version 1: it needs 0 MB more, and the store has only 0 MB left. Raise size" in words
    assert lab.copies() == []
    assert lab.stored() is None


def _member(tar: tarfile.TarFile, name: str, **more: Any) -> None:
    member = tarfile.TarInfo(name)
    for key, value in more.items():
        setattr(member, key, value)
    data = b"" if "type" in more else b"content"
    member.size = len(data)
    tar.addfile(member, io.BytesIO(data))


@pytest.mark.parametrize(
    ("name", "more", "words"),
    [
        ("../../m/2/saved_model.pb", {}, "cannot be used"),
        ("/models/m/2/saved_model.pb", {}, "cannot be used"),
        ("assets/../../x", {}, "cannot be used"),
        ("assets/link", {"type": tarfile.SYMTYPE, "linkname": "/etc/passwd"}, "neither a file nor a folder"),
        ("assets/hard", {"type": tarfile.LNKTYPE, "linkname": "./saved_model.pb"}, "neither a file nor a folder"),
        ("assets/pipe", {"type": tarfile.FIFOTYPE}, "neither a file nor a folder"),
        ("assets/null", {"type": tarfile.CHRTYPE, "devmajor": 1, "devminor": 3}, "neither a file nor a folder"),
    ],
)
def test_members_that_are_no_plain_files_are_refused(lab: Lab, name: str, more: dict[str, Any], words: str) -> None:
    lab.fetch(version=2)
    path = pack(lab, "m.tar")
    with tarfile.open(path, "a") as tar:
        _member(tar, name, **more)
    code, found = lab.fetch("r:m.tar")
    assert code == FINAL
    assert words in found
    assert lab.stored() is None
    assert lab.stored(2) == lab.digest(2)
    assert lab.staging == []


@pytest.mark.parametrize("name", ["../../m/2/saved_model.pb", "/models/m/2/saved_model.pb", "assets/../../x"])
def test_names_in_a_zip_that_lead_out_of_it_are_refused(lab: Lab, name: str) -> None:
    lab.fetch(version=2)
    path = pack(lab, "m.zip")
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr(name, "content")
    code, found = lab.fetch("r:m.zip")
    assert code == FINAL
    assert "cannot be used" in found
    assert lab.stored(2) == lab.digest(2)
    assert lab.staging == []


def test_a_link_in_a_zip_is_refused(lab: Lab) -> None:
    path = pack(lab, "m.zip")
    with zipfile.ZipFile(path, "a") as archive:
        info = zipfile.ZipInfo("assets/link")
        info.external_attr = 0o120777 << 16
        info.create_system = 3
        archive.writestr(info, "/etc/passwd")
    code, found = lab.fetch("r:m.zip")
    assert code == FINAL
    assert "neither a file nor a folder" in found
    assert lab.staging == []


@pytest.mark.parametrize("suffix", ["tar", "tgz", "zip"])
def test_a_broken_archive_is_refused(lab: Lab, suffix: str) -> None:
    path = pack(lab, f"m.{suffix}")
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    code, found = lab.fetch(f"r:m.{suffix}")
    assert code == FINAL
    assert "is broken" in found or "is missing" in found or "incomplete" in found
    assert lab.stored() is None
    assert lab.staging == []


def test_words_that_are_no_report_are_quoted() -> None:
    for words in ("", "half a rep", "[]", json.dumps({"digest": "sha256:0", "bytes": 1})):
        with pytest.raises(ServingError, match="m version 1: the job that fetched it left no report"):
            read_report("m version 1", words)
