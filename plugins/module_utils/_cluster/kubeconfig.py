# SPDX-FileCopyrightText: The modelfleet maintainers
# SPDX-License-Identifier: GPL-3.0-or-later
"""Read kubeconfigs as kubectl does: files, several files merged, a mapping, or YAML text. Nothing here connects.

What a kubeconfig may say is described at https://kubernetes.io/docs/reference/config-api/kubeconfig.v1/. No message
quotes what stands in one.
"""

from __future__ import annotations

import base64
import binascii
import contextlib
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ansible_collections.modelfleet.serving.plugins.module_utils._errors import InputError

with contextlib.suppress(ImportError):  # explained by session.connect
    import yaml

Json = dict[str, Any]

# Where every pod finds its own credentials, unless its specification says otherwise.
SERVICE_ACCOUNT = Path("/var/run/secrets/kubernetes.io/serviceaccount")


@dataclass(frozen=True)
class Entry:
    """A named cluster, user or context.

    :param folder: what its relative paths are relative to: the folder of its file.
    """

    content: Json = field(repr=False)
    folder: Path


@dataclass(frozen=True)
class Context:
    """A context with its cluster and user.

    :param origin: how messages call it: the file and the context.
    """

    origin: str
    cluster: Entry
    user: Entry


@contextlib.contextmanager
def explained(origin: str) -> Iterator[None]:
    """Turn what is wrong with an entry's values into an error that names the entry and quotes nothing.

    :raises InputError: for what the caller raises as OSError or ValueError, or runs into on an entry of another shape.
    """
    hint = "Correct the kubeconfig, or what is given beside it."
    try:
        yield
    except (OSError, ValueError) as error:
        raise InputError(f"{origin}: {error}.", hint=hint) from error
    except (TypeError, LookupError, AttributeError) as error:
        raise InputError(f"{origin} has a cluster or a user that is none.", hint=hint) from error


def is_text(kubeconfig: Any) -> bool:
    """Tell whether a kubeconfig is given as YAML or JSON text; else a string is a path."""
    return isinstance(kubeconfig, str) and ("\n" in kubeconfig or kubeconfig.lstrip().startswith("{"))


def parse(text: str | bytes) -> Any:
    """Parse YAML.

    :raises ValueError: without what it was that could not be parsed.
    """
    try:
        # The parser in C, where it has been built, is ten times as fast. It takes no subclass of str, as Ansible's are.
        data = text.encode() if isinstance(text, str) else text
        return yaml.load(data, Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader))
    except (yaml.YAMLError, UnicodeError):
        raise ValueError("no YAML") from None


def default_paths() -> list[Path]:
    """Give the kubeconfig files of the user that exist: of ``KUBECONFIG``, or else the one in the home directory."""
    return [path for path in _paths(os.environ.get("KUBECONFIG") or "~/.kube/config") if path.exists()]


def read_context(kubeconfig: Any, name: str | None) -> Context:
    """Find a context with its cluster and its user.

    :param kubeconfig: a mapping, text, or one path or more joined by ``os.pathsep``; by default the user's own.
    :param name: the context; by default the current one.
    :raises InputError: when there is no such context, or the kubeconfig can't be used.
    """
    origin, sources = _read(kubeconfig)
    contexts, clusters, users = (_merged(sources, section) for section in ("contexts", "clusters", "users"))
    known = f"It has the contexts {', '.join(sorted(contexts))}." if contexts else "It has no contexts."
    if not name:
        current = (content.get("current-context") for _name, content, _folder in sources)
        name = next((str(each) for each in current if each), None)
        if not name:
            raise InputError(f"{origin} has no current context.", hint=f"Name one in context. {known}")
    if name not in contexts:
        raise InputError(f"{origin} has no context {name!r}.", hint=known)
    origin = f"{origin}, context {name}"
    context = contexts[name].content
    cluster, user = str(context.get("cluster") or ""), str(context.get("user") or "")
    if cluster not in clusters:
        raise InputError(f"{origin} has no cluster {cluster!r}.", hint="Check the cluster that the context names.")
    if user and user not in users:
        raise InputError(f"{origin} has no user {user!r}.", hint="Check the user that the context names.")
    return Context(origin, clusters[cluster], users[user] if user else Entry({}, clusters[cluster].folder))


def service_account() -> Context | None:
    """Give the context of the pod that this runs in; None outside of one."""
    host, port = os.environ.get("KUBERNETES_SERVICE_HOST"), os.environ.get("KUBERNETES_SERVICE_PORT")
    if not host or not port or not (SERVICE_ACCOUNT / "token").exists():
        return None
    server = f"https://[{host}]:{port}" if ":" in host else f"https://{host}:{port}"
    return Context(
        "the service account of this pod",
        Entry({"server": server, "certificate-authority": "ca.crt"}, SERVICE_ACCOUNT),
        Entry({"tokenFile": "token"}, SERVICE_ACCOUNT),
    )


def text(entry: Entry, key: str) -> str | None:
    """Give a value that must be a string; None without one."""
    value = entry.content.get(key)
    if value is not None and not isinstance(value, str):
        raise ValueError(f"{key} is no text")
    return value or None


def path(entry: Entry, key: str) -> str | None:
    """Give the absolute path that a key names."""
    value = text(entry, key)
    return os.path.normpath(entry.folder.absolute() / value) if value else None


def file_or_data(entry: Entry, key: str) -> str | bytes | None:
    """Give the path that a key names, or what ``key-data`` holds, which wins."""
    data = text(entry, f"{key}-data")
    if not data:
        return path(entry, key)
    try:
        return base64.b64decode("".join(data.split()), validate=True)
    except binascii.Error:
        raise ValueError(f"{key}-data is no base64") from None


def _read(kubeconfig: Any) -> tuple[str, list[tuple[str, Json, Path]]]:
    """Give what messages call it, and name, content and folder of each file."""
    if isinstance(kubeconfig, Mapping):
        return "kubeconfig", [("kubeconfig", dict(kubeconfig), Path())]
    if is_text(kubeconfig):
        return "kubeconfig", [("kubeconfig", _parsed("kubeconfig", kubeconfig), Path())]
    if kubeconfig and not isinstance(kubeconfig, str):
        raise InputError(f"kubeconfig takes a path, a mapping or text, not {type(kubeconfig).__name__}.")
    if kubeconfig and not kubeconfig.isprintable():
        # Not quoted: whatever it is, it may hold a secret.
        raise InputError("kubeconfig is no path.", hint="Give a path, or a mapping by the filter from_yaml.")
    paths = _paths(kubeconfig) if kubeconfig else default_paths()
    if not paths:
        raise InputError("The user has no kubeconfig.", hint="Give kubeconfig, or host and api_key.")
    # Of several files, kubectl passes over those that do not exist.
    found = [each for each in paths if each.exists()] or paths[:1]
    sources = []
    for each in found:
        name = f"kubeconfig {each}"
        try:
            data = each.read_bytes()
        except OSError as error:
            raise InputError(f"{name} can't be read: {error.strerror}.", hint="Check path and permissions.") from error
        sources.append((name, _parsed(name, data), each.parent))
    return f"kubeconfig {os.pathsep.join(map(str, found))}", sources


def _paths(joined: str) -> list[Path]:
    return [
        Path(os.path.expandvars(os.path.expanduser(each)))  # noqa: PTH111 -- Path would raise for an unknown user
        for each in joined.split(os.pathsep)
        if each
    ]


def _parsed(name: str, data: str | bytes) -> Json:
    try:
        content = parse(data)
    except ValueError:
        content = data
    if content is None:  # an empty file
        return {}
    if not isinstance(content, dict):
        raise InputError(f"{name} is no kubeconfig.", hint="Check its YAML.")
    return content


def _merged(sources: list[tuple[str, Json, Path]], section: str) -> dict[str, Entry]:
    """Give the entries of a section by name; an entry of an earlier file wins whole, as in kubectl."""
    merged: dict[str, Entry] = {}
    for name, content, folder in sources:
        entries = content.get(section) or []
        if not isinstance(entries, list):
            raise InputError(f"{name} is no kubeconfig: {section} is no list.", hint="Check its YAML.")
        for each in entries:
            # The sections' entries are {name: ..., cluster: {...}}, with the section's name in the singular.
            inner = each.get(section[:-1]) if isinstance(each, dict) else None
            if not isinstance(each, dict) or "name" not in each or not isinstance(inner or {}, dict):
                raise InputError(f"{name} is no kubeconfig: {section} has an entry that is none.", hint="Check it.")
            merged.setdefault(str(each["name"]), Entry(inner or {}, folder))
    return merged
