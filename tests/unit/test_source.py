# SPDX-FileCopyrightText: The modelfleet maintainers
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import pytest

from ansible_collections.modelfleet.serving.plugins.module_utils._errors import InputError
from ansible_collections.modelfleet.serving.plugins.module_utils._store.source import (
    Source,
    parse_source,
    remote_variables,
)


@pytest.mark.parametrize(
    ("text", "source", "shown"),
    [
        ("/srv/m", Source("/srv/m/7"), "/srv/m/7"),
        ("models/m/", Source("models/m/7"), "models/m/7"),
        ("./a:b", Source("a:b/7"), "a:b/7"),
        ("/srv/m-{version}.tar.gz", Source("/srv/m-7.tar.gz", "tgz"), "/srv/m-7.tar.gz"),
        ("/srv/m.TAR", Source("/srv/m.TAR", "tar"), "/srv/m.TAR"),
        ("/srv/{version}/export", Source("/srv/7/export"), "/srv/7/export"),
        ("S3:bucket/m/", Source("S3:bucket/m/7", remote=True), "S3:bucket/m/7"),
        ("s3:", Source("s3:7", remote=True), "s3:7"),
        ("s3:b/m-{version}.zip", Source("s3:b/m-7.zip", "zip", remote=True), "s3:b/m-7.zip"),
        ("s3:b/{version}/export/", Source("s3:b/7/export", remote=True), "s3:b/7/export"),
        ("http://h:80/m/", Source(":http:", remote=True, url="http://h:80/m/7/"), "http://h:80/m/7/"),
        ("https://h/{version}/m", Source(":http:", remote=True, url="https://h/7/m/"), "https://h/7/m/"),
        (
            "https://h/a%20b/m%20{version}.tgz",
            Source(":http:m 7.tgz", "tgz", remote=True, url="https://h/a%20b/"),
            "https://h/a%20b/m 7.tgz",
        ),
    ],
)
def test_a_source_is_read(text: str, source: Source, shown: str) -> None:
    found = parse_source(text, 7, ["s3"])
    assert found == source
    assert str(found) == shown


def test_a_local_path_knows_the_user_and_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/someone")
    assert parse_source("~/m", 1).path == "/home/someone/m/1"
    assert parse_source("$HOME/m", 1).path == "/home/someone/m/1"


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "is no place"),
        ("a\nb", "is no place"),
        ("gs:bucket", "there is no remote 'gs'"),
        (":local:/etc", "there is no remote ''"),
        ("s3,env_auth=true:bucket", "there is no remote 's3,env_auth=true'"),
        ("https://user:password@h/m", "an address with credentials"),
        ("https://h/m?token=x", "is no usable URL"),
    ],
)
def test_what_is_no_source_is_refused(text: str, words: str) -> None:
    with pytest.raises(InputError) as caught:
        parse_source(text, 1, ["s3"])
    assert words in str(caught.value)
    assert "password" not in str(caught.value)


def test_remotes_of_a_secret_are_not_known_here() -> None:
    assert parse_source("any:bucket", 1, None).remote
    with pytest.raises(InputError, match="no remote 'a-b'"):
        parse_source("a-b:bucket", 1, None)


def test_remotes_become_variables() -> None:
    remotes = {"aws": {"type": "s3", "env_auth": True, "chunk_size": 5}, "Web": {"type": "http"}}
    assert remote_variables(remotes) == {
        "RCLONE_CONFIG_AWS_TYPE": "s3",
        "RCLONE_CONFIG_AWS_ENV_AUTH": "true",
        "RCLONE_CONFIG_AWS_CHUNK_SIZE": "5",
        "RCLONE_CONFIG_WEB_TYPE": "http",
    }


@pytest.mark.parametrize(
    ("remotes", "words"),
    [
        ({"a": {"provider": "AWS"}}, "a has no type"),
        ({"a": "s3"}, "a has no type"),
        ({"a-b": {"type": "s3"}}, "a-b: 'type' can't be set"),
        ({"a": {"type": "s3", "x=y": "1"}}, "'x=y' can't be set"),
        ({"a": {"type": "s3", "x": None}}, "a: x is no text"),
        ({"a": {"type": "s3"}, "A": {"type": "s3"}}, "more than once"),
    ],
)
def test_what_can_be_no_remote_is_refused(remotes: dict[str, object], words: str) -> None:
    with pytest.raises(InputError, match=words):
        remote_variables(remotes)
