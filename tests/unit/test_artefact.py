# SPDX-FileCopyrightText: The modelfleet maintainers
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import io
import os
import shutil
import subprocess
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest
from _models import no_graph, no_index, no_shard, no_variables, only_index, saved_model

from ansible_collections.modelfleet.serving.plugins.module_utils._errors import InputError
from ansible_collections.modelfleet.serving.plugins.module_utils._store.artefact import (
    DIGEST,
    archive,
    parse_listing,
    read_artefact,
    tree_digest,
)

# What the documentation of model_store gives users to compute a digest themselves.
PIPELINE = "find . -type f -print0 | LC_ALL=C sort -z | xargs -0 sha256sum | sha256sum"


def test_the_digest_is_what_standard_tools_print(tmp_path: Path) -> None:
    folder = saved_model(tmp_path / "m", 1)
    # Names whose order differs between locales, and between a path and its parts.
    for name in (
        "Z.txt",
        "a.txt",
        "ä.txt",
        "variables.x",
        "assets/a b.txt",
        "assets/a'b.txt",
        "assets.extra/x",
        "empty",
    ):
        path = folder / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(name if name != "empty" else "")
    printed = subprocess.run(["sh", "-c", PIPELINE], cwd=folder, capture_output=True, check=True, text=True).stdout
    digest = read_artefact("m", 1, str(tmp_path / "m")).digest
    assert digest == f"sha256:{printed.split()[0]}"
    assert DIGEST.fullmatch(digest)


def test_the_digest_tells_names_and_contents_apart(tmp_path: Path) -> None:
    folder = saved_model(tmp_path / "m", 1)
    digests = {read_artefact("m", 1, str(tmp_path / "m")).digest}
    (folder / "assets").mkdir()
    for name, text in (("a", "1"), ("a", "2"), ("b", "2")):
        for old in (folder / "assets").iterdir():
            old.unlink()
        (folder / "assets" / name).write_text(text)
        digests.add(read_artefact("m", 1, str(tmp_path / "m")).digest)
    assert len(digests) == 4


def test_an_artefact_knows_its_files(tmp_path: Path) -> None:
    folder = saved_model(tmp_path / "m", 7)
    artefact = read_artefact("m", 7, str(tmp_path / "m"))
    assert str(artefact) == "m version 7"
    assert set(artefact.files) == {
        "saved_model.pb",
        "variables/variables.index",
        "variables/variables.data-00000-of-00002",
        "variables/variables.data-00001-of-00002",
    }
    assert artefact.size == sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def test_real_tar_unpacks_the_archive(tmp_path: Path) -> None:
    folder = saved_model(tmp_path / "m", 1)
    (folder / "assets").mkdir()
    (folder / "assets" / ("long" * 60)).write_bytes(os.urandom(3 * 1024 * 1024 + 17))
    (folder / "empty").touch()
    artefact = read_artefact("m", 1, str(tmp_path / "m"))
    target = tmp_path / "out"
    target.mkdir()
    subprocess.run(
        ["tar", "-x", "-f", "-", "-C", target], input=b"".join(archive(artefact, artefact.files)), check=True
    )
    assert subprocess.run(["diff", "-r", folder, target], check=False).returncode == 0
    assert {path.stat().st_mode & 0o777 for path in target.rglob("*") if path.is_file()} <= {0o644, 0o640, 0o600}


def test_an_archive_holds_only_what_was_asked_for(tmp_path: Path) -> None:
    saved_model(tmp_path / "m", 1)
    artefact = read_artefact("m", 1, str(tmp_path / "m"))
    with tarfile.open(fileobj=io.BytesIO(b"".join(archive(artefact, ["saved_model.pb"])))) as tar:
        assert [(member.name, member.isreg(), member.uid) for member in tar] == [("saved_model.pb", True, 0)]


def pack(tmp_path: Path, suffix: str, prefix: str = "") -> Path:
    folder, path = tmp_path / "m" / "1", tmp_path / f"m-1.{suffix}"
    if suffix == "zip":
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as packed:
            for file in sorted(folder.rglob("*")):
                packed.write(file, f"{prefix}{file.relative_to(folder)}")
    else:
        with tarfile.open(path, "w:gz" if suffix.endswith("gz") else "w") as tar:
            tar.add(folder, prefix.rstrip("/") or ".")
    return path


@pytest.mark.parametrize("prefix", ["", "./", "export/"])
@pytest.mark.parametrize("suffix", ["tar", "tar.gz", "tgz", "zip"])
def test_an_archive_is_as_its_folder(tmp_path: Path, suffix: str, prefix: str) -> None:
    folder = saved_model(tmp_path / "m", 1, os.urandom(300_000))
    (folder / "assets").mkdir()
    (folder / "assets" / "ä b").write_text("x")
    pack(tmp_path, suffix, prefix)
    plain, packed = (read_artefact("m", 1, str(tmp_path / name)) for name in ("m", f"m-{{version}}.{suffix}"))
    assert (packed.files, packed.sizes, packed.digest) == (plain.files, plain.sizes, plain.digest)
    streamed = b"".join(archive(packed, {"assets/ä b", "variables/variables.index"}))
    with tarfile.open(fileobj=io.BytesIO(streamed)) as tar:
        contents = {member.name: tar.extractfile(member).read() for member in tar}  # type: ignore[union-attr]
    assert contents == {"assets/ä b": b"x", "variables/variables.index": b"index"}


@pytest.mark.parametrize("suffix", ["tar", "zip"])
@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("../saved_model.pb", "which is not below its root"),
        ("/etc/passwd", "which is not below its root"),
        ("assets//x", "which is not below its root"),
        ("saved_model.pb", "holds saved_model.pb twice"),
        ("a\\b", "can't be used"),
        ("LINK", "is neither a file nor a folder"),
    ],
)
@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_members_that_are_no_plain_files_are_refused(tmp_path: Path, suffix: str, name: str, words: str) -> None:
    saved_model(tmp_path / "m", 1)
    path = pack(tmp_path, suffix)
    if suffix == "zip":
        with zipfile.ZipFile(path, "a") as packed:
            info = zipfile.ZipInfo(name)
            info.create_system = 3
            info.external_attr = (0o120777 if name == "LINK" else 0o100644) << 16
            packed.writestr(info, "content")
    else:
        with tarfile.open(path, "a") as tar:
            member = tarfile.TarInfo(name)
            if name == "LINK":
                member.type, member.linkname = tarfile.SYMTYPE, "/etc/passwd"
            tar.addfile(member)
    with pytest.raises(InputError) as caught:
        read_artefact("m", 1, str(path))
    assert words in str(caught.value)
    assert str(caught.value).startswith("m version 1: ")


@pytest.mark.parametrize("suffix", ["tar", "tgz", "zip"])
def test_a_broken_archive_is_refused(tmp_path: Path, suffix: str) -> None:
    saved_model(tmp_path / "m", 1, os.urandom(100_000))
    path = pack(tmp_path, suffix)
    path.write_bytes(path.read_bytes()[:100_000])
    with pytest.raises(InputError, match=r"m version 1: .*m-1\..* can't be read"):
        read_artefact("m", 1, str(path))
    path.unlink()
    with pytest.raises(InputError, match="there is no archive"):
        read_artefact("m", 1, str(path))


def test_a_listing_is_read_back() -> None:
    digest = "0" * 64
    assert parse_listing(b"") == {}
    assert parse_listing(f"{digest}  ./a b/c\u2028d\n{digest}  ./e\n".encode()) == {"a b/c\u2028d": digest, "e": digest}
    assert tree_digest({}) != tree_digest({"a": digest})


def _link_file(folder: Path) -> None:
    (folder / "passwd").symlink_to("/etc/passwd")


def _link_folder(folder: Path) -> None:
    (folder / "assets").symlink_to("/etc")


def _link_dangling(folder: Path) -> None:
    (folder / "assets").symlink_to("nowhere")


def _fifo(folder: Path) -> None:
    os.mkfifo(folder / "pipe")


def _device(folder: Path) -> None:
    try:
        os.mknod(folder / "device", 0o600 | 0o020000, os.makedev(1, 3))
    except PermissionError:
        pytest.skip("only root makes devices")


def _newline(folder: Path) -> None:
    (folder / "a\nb").touch()


def _backslash(folder: Path) -> None:
    (folder / "a\\b").touch()


def _not_unicode(folder: Path) -> None:
    (Path(os.fsdecode(os.fsencode(folder) + b"/\xff"))).touch()


def _empty(folder: Path) -> None:
    shutil.rmtree(folder)
    folder.mkdir()


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (_link_file, "passwd is neither a file nor a folder. Links and devices are not copied"),
        (_link_folder, "assets is neither a file nor a folder"),
        (_link_dangling, "assets is neither a file nor a folder"),
        (_fifo, "pipe is neither a file nor a folder"),
        (_device, "device is neither a file nor a folder"),
        (_newline, r"the file name 'a\nb' can't be used. Rename it."),
        (_backslash, r"the file name 'a\\b' can't be used. Rename it."),
        (_not_unicode, "can't be used. Rename it."),
        (no_graph, "is no SavedModel: saved_model.pb is missing. Export it"),
        (_empty, "is no SavedModel: saved_model.pb is missing. Export it"),
        (
            no_variables,
            "is an incomplete SavedModel: its variables are missing or incomplete. Copy or",
        ),
        (no_index, "is an incomplete SavedModel"),
        (no_shard, "is an incomplete SavedModel"),
        (only_index, "is an incomplete SavedModel"),
        (shutil.rmtree, "there is no folder"),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_what_is_no_whole_plain_saved_model_is_refused(
    tmp_path: Path, spoil: Callable[[Path], None], words: str
) -> None:
    spoil(saved_model(tmp_path / "m", 1))
    with pytest.raises(InputError) as caught:
        read_artefact("m", 1, str(tmp_path / "m"))
    assert str(caught.value).startswith("m version 1: ")
    assert words in str(caught.value)


def test_a_model_without_variables_is_whole(tmp_path: Path) -> None:
    folder = saved_model(tmp_path / "m", 1)
    shutil.rmtree(folder / "variables")
    (folder / "saved_model.pb").write_bytes(b"a graph of constants")
    assert set(read_artefact("m", 1, str(tmp_path / "m")).files) == {"saved_model.pb"}
