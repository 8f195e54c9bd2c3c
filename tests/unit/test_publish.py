# SPDX-FileCopyrightText: The modelfleet maintainers
# SPDX-License-Identifier: GPL-3.0-or-later
"""Publishing by the shell scripts that run in a store's pod, here in a real shell on a temporary folder."""

from __future__ import annotations

import os
import shutil
import subprocess
import time
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from _models import saved_model
from _tools import busybox_tools, executable, full_disk

from ansible_collections.modelfleet.serving.plugins.module_utils._errors import ServingError
from ansible_collections.modelfleet.serving.plugins.module_utils._store.artefact import Artefact, read_artefact
from ansible_collections.modelfleet.serving.plugins.module_utils._store.collect import empty, hide
from ansible_collections.modelfleet.serving.plugins.module_utils._store.publish import publish, read_digests


@dataclass
class LocalShell:
    """A shell of this machine; counts what it was sent, and cuts the transfer where told."""

    cut_after: int | None = None
    flip: bool = False
    sent: int = 0
    scripts: list[str] = field(default_factory=list)

    def __call__(self, script: str, *arguments: str, stdin: object = ()) -> bytes:
        self.scripts.append(script)
        assert isinstance(stdin, Iterable)
        data = b"".join(stdin)
        if data and self.cut_after is not None:
            data = data[: self.cut_after]
        if self.flip:
            data = data.replace(b"weights", b"weightz")
        self.sent += len(data)
        done = subprocess.run(["sh", "-c", script, "sh", *arguments], input=data, capture_output=True, check=False)
        if done.returncode or (data and self.cut_after is not None):
            raise ServingError(f"failed: {done.stderr.decode()}")
        return done.stdout


@dataclass
class Store:
    """A store on this machine, and the source of a model."""

    root: Path
    source: Path

    def artefact(self, version: int = 1) -> Artefact:
        return read_artefact("m", version, str(self.source / "m"))

    def publish(self, shell: LocalShell | None = None, version: int = 1) -> LocalShell:
        shell = shell or LocalShell()
        publish(shell, self.artefact(version), str(self.root))
        return shell

    def digest(self, version: int = 1) -> str | None:
        return read_digests(LocalShell(), str(self.root), [("m", version)]).get(("m", version))

    @property
    def published(self) -> list[str]:
        return sorted(path.name for path in (self.root / "m").glob("*"))

    @property
    def staging(self) -> Path:
        (folder,) = (self.root / ".incoming").iterdir()
        return folder


@pytest.fixture
def store(tmp_path: Path) -> Store:
    saved_model(tmp_path / "source" / "m", 1, b"weights" * 10_000)
    saved_model(tmp_path / "source" / "m", 2, b"others" * 10_000)
    (tmp_path / "root").mkdir()
    return Store(tmp_path / "root", tmp_path / "source")


def test_a_version_arrives_whole(store: Store) -> None:
    store.publish()
    store.publish(version=2)
    for version in (1, 2):
        left, right = store.root / "m" / str(version), store.source / "m" / str(version)
        assert subprocess.run(["diff", "-r", left, right], check=False).returncode == 0
        assert store.digest(version) == store.artefact(version).digest
    assert list((store.root / ".incoming").iterdir()) == []


def test_a_published_version_is_not_touched(store: Store) -> None:
    store.publish()
    before = {path: path.stat().st_mtime_ns for path in store.root.rglob("*")}
    shell = store.publish()
    assert shell.sent == 0
    assert len(shell.scripts) == 1
    assert {path: path.stat().st_mtime_ns for path in store.root.rglob("*")} == before


def test_other_files_under_the_same_number_are_refused(store: Store) -> None:
    store.publish()
    (store.source / "m" / "1" / "assets").mkdir()
    (store.source / "m" / "1" / "assets" / "new").write_text("new")
    with pytest.raises(ServingError, match=r"m version 1 is in the store already .*A published version never changes"):
        store.publish()
    assert not (store.root / "m" / "1" / "assets").exists()


@pytest.mark.parametrize("cut", [100, 50_000, 100_000, 140_000])
def test_a_copy_that_was_cut_is_not_seen_and_is_continued(store: Store, cut: int) -> None:
    with pytest.raises(ServingError):
        store.publish(LocalShell(cut_after=cut))
    assert store.published == []
    whole = {name for name in store.artefact().files if (store.staging / name).is_file()}
    shell = store.publish()
    assert store.published == ["1"]
    assert store.digest() == store.artefact().digest
    if cut > 50_000:
        assert whole, "some file had arrived"
        assert shell.sent < 145_000, "what had arrived was not sent again"


def test_a_flipped_byte_is_not_published_and_mended_by_the_next_run(store: Store) -> None:
    with pytest.raises(ServingError) as caught:
        store.publish(LocalShell(flip=True))
    assert "variables/variables.data-00000-of-00002, variables/variables.data-00001-of-00002" in str(caught.value)
    assert "saved_model.pb" not in str(caught.value)
    assert "Nothing was published; run again" in str(caught.value)
    assert store.published == []
    store.publish()
    assert store.published == ["1"]


def test_strange_files_in_the_way_are_removed_first(store: Store) -> None:
    with pytest.raises(ServingError):
        store.publish(LocalShell(cut_after=50_000))
    (store.staging / "variables").mkdir(exist_ok=True)
    for name in ("-rf", "variables/with space", "variables/$(touch gone)", "it's"):
        (store.staging / name).write_text("strange")
    store.publish()
    assert {str(path.relative_to(store.root / "m" / "1")) for path in (store.root / "m" / "1").rglob("*")} == {
        "variables",
        *store.artefact().files,
    }


def test_a_strange_file_that_stays_is_named(store: Store) -> None:
    with pytest.raises(ServingError):
        store.publish(LocalShell(cut_after=50_000))
    # sha256sum escapes such a name, so that removing it by the listing misses it.
    (store.staging / "odd\nname").write_text("strange")
    with pytest.raises(ServingError, match=r"differs from the source: .*odd") as caught:
        store.publish()
    assert "saved_model.pb" not in str(caught.value)
    assert store.published == []


def test_too_little_room_is_told_before_anything_is_sent(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    full_disk(tmp_path, monkeypatch, kibibytes=100)
    shell = LocalShell()
    with pytest.raises(
        ServingError, match=r"m version 1 needs 0\.1 MB more, and the store has only 0\.1 MB left\. Nothing"
    ):
        store.publish(shell)
    assert shell.sent == 0
    full_disk(tmp_path, monkeypatch, kibibytes=200)
    store.publish(shell)


def test_a_copy_that_is_published_takes_away_what_others_have_left(store: Store) -> None:
    incoming = store.root / ".incoming"
    for name, days in (("m-1-0123456789ab", 0), ("m-1-2-0123456789ab", 0), ("m-2-0123456789ab", 0), ("x-1-y", 3)):
        (incoming / name / "variables").mkdir(parents=True)
        os.utime(incoming / name, (time.time() - days * 86400,) * 2)
    store.publish()
    assert sorted(path.name for path in incoming.iterdir()) == ["m-1-2-0123456789ab", "m-2-0123456789ab"]


def test_a_version_goes_as_a_whole(store: Store) -> None:
    store.publish()
    store.publish(version=2)
    (store.root / ".trash" / "m-1" / "left").mkdir(parents=True)
    hide(LocalShell(), str(store.root), "m", 1)
    assert store.published == ["2"]
    assert (store.root / ".trash" / "m-1" / "saved_model.pb").exists()
    hide(LocalShell(), str(store.root), "m", 1)
    empty(LocalShell(), str(store.root))
    assert store.published == ["2"]
    assert not (store.root / ".trash").exists()


def test_many_versions_are_read_at_once(store: Store) -> None:
    for version in (1, 2):
        store.publish(version=version)
    shell = LocalShell()
    found = read_digests(shell, str(store.root), [("m", 1), ("m", 2), ("m", 3), ("other", 1)])
    assert found == {("m", version): store.artefact(version).digest for version in (1, 2)}
    assert len(shell.scripts) == 1


def test_a_file_that_can_not_be_read_is_no_digest(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store.publish()
    broken = executable(tmp_path / "broken" / "sha256sum", "exit 1")
    monkeypatch.setenv("PATH", f"{broken.parent}:{os.environ['PATH']}")
    with pytest.raises(ServingError):
        store.digest()


def test_an_empty_folder_of_that_number_is_replaced(store: Store) -> None:
    (store.root / "m" / "1").mkdir(parents=True)
    assert store.digest() is None
    store.publish()
    assert store.digest() == store.artefact().digest


def test_a_store_that_can_not_be_written_says_so(store: Store) -> None:
    (store.root / ".incoming").write_text("a file where a folder should be")
    with pytest.raises(ServingError, match=r"\.incoming"):
        store.publish()
    assert store.published == []


def test_a_folder_that_is_not_there_has_no_digest(store: Store) -> None:
    assert store.digest(7) is None


def test_tampering_changes_the_digest(store: Store) -> None:
    store.publish()
    (store.root / "m" / "1" / "saved_model.pb").write_bytes(b"other graph")
    assert store.digest() != store.artefact().digest


@pytest.mark.skipif(not shutil.which("busybox"), reason="no busybox on this machine; molecule publishes with its image")
def test_busybox_understands_the_scripts(store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(busybox_tools(tmp_path)))
    with pytest.raises(ServingError):
        store.publish(LocalShell(cut_after=50_000))
    store.publish()
    assert store.digest() == store.artefact().digest
