# SPDX-FileCopyrightText: The modelfleet maintainers
# SPDX-License-Identifier: GPL-3.0-or-later
"""Where one version of a model comes from: a folder or archive of the controller, or what rclone can read. Pure."""

from __future__ import annotations

import os
import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from urllib.parse import unquote

from ansible_collections.modelfleet.serving.plugins.module_utils._errors import InputError
from ansible_collections.modelfleet.serving.plugins.module_utils._names import require_url

_ARCHIVES = {".tar": "tar", ".tar.gz": "tgz", ".tgz": "tgz", ".zip": "zip"}
_VERSION = "{version}"
_LOCAL = re.compile(r"[/.~$]")
_REMOTE_PATH = re.compile(r"([^:/]*):(.*)")
# They become part of a variable's name, in which rclone looks for them without regard to case.
_REMOTE = re.compile(r"[A-Za-z][A-Za-z0-9_]{0,62}")
_OPTION = re.compile(r"[a-z][a-z0-9_]{0,62}")


@dataclass(frozen=True)
class Source:
    """The place of one version.

    :param path: a path on the controller, or what rclone calls a path, such as ``bucket:models/iris/1``.
    :param archive: ``tar``, ``tgz`` or ``zip``; empty for a folder.
    :param url: the folder that rclone's http backend reads; empty for anything else.
    """

    path: str
    archive: str = ""
    remote: bool = False
    url: str = ""

    def __str__(self) -> str:
        return self.url + self.path.removeprefix(":http:") if self.url else self.path


def parse_source(text: str, version: int, remotes: Collection[str] | None = ()) -> Source:
    """Read the ``source`` of a model for one of its versions.

    :param remotes: the names of remotes that may be used; None when they are not known here.
    :raises InputError: for what is neither a path, a URL, nor a path in one of the remotes.
    """
    if not text.strip() or not text.isprintable():
        raise InputError(f"source: {text!r} is no place.", hint="Give a folder, an archive, a URL or REMOTE:path.")
    archive = archive_of(text)
    named = _VERSION in text
    text = text.replace(_VERSION, str(version))
    if text.startswith(("http://", "https://")):
        return _web(require_url(text, "source"), archive, "" if named or archive else str(version))
    match = None if _LOCAL.match(text) else _REMOTE_PATH.fullmatch(text)
    if match:
        if not _REMOTE.fullmatch(match[1]) or (
            remotes is not None and match[1].lower() not in {name.lower() for name in remotes}
        ):
            raise InputError(
                f"source: {text}: there is no remote {match[1]!r}.",
                hint="Describe it in remotes, or in the Secret remotes_secret; begin a local path with ./ or /.",
            )
        source = Source(text.rstrip("/"), archive, remote=True)
    else:
        source = Source(str(Path(os.path.expandvars(text)).expanduser()), archive)
    return source if named or archive else replace(source, path=_below(source.path, str(version)))


def archive_of(text: str) -> str:
    """Tell the kind of archive that a path ends in; empty for a folder."""
    return next((kind for suffix, kind in _ARCHIVES.items() if text.lower().endswith(suffix)), "")


def is_the_same_for_all(text: str) -> bool:
    """Tell whether a source is one archive, whatever the version."""
    return bool(archive_of(text)) and _VERSION not in text


def remote_variables(remotes: Mapping[str, Any]) -> dict[str, str]:
    """Give the environment in which rclone knows some remotes: https://rclone.org/docs/#environment-variables.

    :param remotes: name to the options of its backend.
    :raises InputError: for a name or an option that can't be part of a variable's name, and for a lack of ``type``.
    """
    variables: dict[str, str] = {}
    for name, options in remotes.items():
        if not isinstance(options, Mapping) or not options.get("type"):
            raise InputError(
                f"remotes: {name} has no type.", hint="Give the options of an rclone backend, with its type."
            )
        for option, value in options.items():
            if not _REMOTE.fullmatch(str(name)) or not _OPTION.fullmatch(str(option)):
                raise InputError(
                    f"remotes: {name}: {option!r} can't be set.",
                    hint="Use letters, digits and '_' in the names of remotes, and rclone's names of options.",
                )
            if isinstance(value, Mapping | list | tuple) or value is None:
                raise InputError(f"remotes: {name}: {option} is no text.", hint="Write it as in rclone.conf.")
            variable = f"RCLONE_CONFIG_{name}_{option}".upper()
            if variable in variables:
                raise InputError(f"remotes: {name} stands there more than once.", hint="Case does not matter.")
            variables[variable] = str(value).lower() if isinstance(value, bool) else str(value)
    return variables


def _web(url: str, archive: str, version: str) -> Source:
    if archive:
        folder, _slash, name = url.rpartition("/")
        return Source(f":http:{unquote(name)}", archive, remote=True, url=f"{folder}/")
    return Source(":http:", remote=True, url=f"{url}/{version}/" if version else f"{url}/")


def _below(path: str, name: str) -> str:
    return f"{path}{name}" if path.endswith((":", "/")) else f"{path}/{name}"
