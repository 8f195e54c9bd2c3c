# SPDX-FileCopyrightText: The modelfleet maintainers
# SPDX-License-Identifier: GPL-3.0-or-later
"""The objects that should exist for one thing, checked before the first call."""

from __future__ import annotations

import base64
import contextlib
import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any, ClassVar

from ansible_collections.modelfleet.serving.plugins.module_utils._cluster.kinds import Ref, Resource
from ansible_collections.modelfleet.serving.plugins.module_utils._errors import InputError
from ansible_collections.modelfleet.serving.plugins.module_utils._names import require_dns_label

with contextlib.suppress(ImportError):  # explained by session.connect
    import yaml

Json = dict[str, Any]

_API_VERSION = re.compile(r"([a-z0-9]([-a-z0-9.]{0,251}[a-z0-9])?/)?v[a-z0-9]{1,62}")
_KIND = re.compile(r"[A-Za-z][A-Za-z0-9]{0,62}")
# A name becomes part of a URL. What more a kind asks of its names (RBAC allows colons), the server says.
_NAME = re.compile(r"(?!\.{1,2}\Z)[A-Za-z0-9._:-]{1,253}")


@dataclass(frozen=True)
class Bundle:
    """Everything that should exist for one thing, such as one model server.

    :param name: unique in its namespace; a name such as ``server-serving`` says what the bundle is for.
    :param namespace: where the bundle's record lives, and each object that names no other.
    :param objects: the manifests; an empty tuple means that nothing of the bundle should exist.
    """

    name: str
    namespace: str
    objects: tuple[Json, ...]


def read_manifests(paths: Iterable[str]) -> list[Any]:
    """Read the documents of YAML files.

    :raises InputError: naming the file and the line, without what stands there.
    """
    found: list[Any] = []
    for path in paths:
        try:
            with open(path, "rb") as file:
                found += yaml.load_all(file, Loader=_loader())
        except OSError as error:
            raise InputError(
                f"src: {path} can't be read: {error.strerror}.", hint="Check path and permissions."
            ) from error
        except (yaml.YAMLError, UnicodeError) as error:
            line = getattr(getattr(error, "problem_mark", None), "line", None)
            where = f"{path}, line {line + 1}," if line is not None else path
            raise InputError(f"src: {where} is no valid YAML.", hint="Correct the file.") from None
    return found


def _loader() -> Any:
    """Give a loader that leaves dates as the text they are, as kubectl does; in C where that has been built."""

    class Loader(getattr(yaml, "CSafeLoader", yaml.SafeLoader)):  # type: ignore[misc]
        yaml_implicit_resolvers: ClassVar[Any] = {
            first: [entry for entry in resolvers if entry[0] != "tag:yaml.org,2002:timestamp"]
            for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
        }

    return Loader


def manifests(given: Iterable[Any]) -> tuple[Json, ...]:
    """Check manifests that a user wrote: empty documents are left out, and a ``List`` stands for its items.

    :raises InputError: for what is no manifest, with its position.
    """
    found = [
        _checked(manifest, f"objects: number {number}")
        for number, entry in enumerate(given, 1)
        for manifest in _items(entry)
    ]
    seen = set()
    for ref in map(Ref.of, found):
        if ref.identity in seen:
            raise InputError(f"objects: {ref} stands there more than once.", hint="Give each object once.")
        seen.add(ref.identity)
    return tuple(found)


def _items(entry: Any) -> Iterator[Any]:
    if isinstance(entry, dict) and entry.get("kind") == "List" and isinstance(entry.get("items"), list):
        yield from entry["items"]
    elif entry is not None:
        yield entry


def _checked(manifest: Any, where: str) -> Json:
    if not isinstance(manifest, dict):
        raise InputError(
            f"{where} is no manifest but {type(manifest).__name__}.",
            hint="Give mappings; the filter from_yaml_all makes them of a file's text.",
        )
    for key, pattern in (("apiVersion", _API_VERSION), ("kind", _KIND)):
        if not isinstance(manifest.get(key), str) or not pattern.fullmatch(manifest[key]):
            raise InputError(f"{where}: {key} {manifest.get(key)!r} is not valid.", hint="Correct the manifest.")
    metadata = manifest.get("metadata")
    name = metadata.get("name") if isinstance(metadata, dict) else None
    if not isinstance(metadata, dict) or not isinstance(name, str) or not _NAME.fullmatch(name):
        raise InputError(
            f"{where}: the {manifest['kind']} has no valid metadata.name: {name!r}.",
            hint="Name each object; generateName would make another one in each run.",
        )
    if metadata.get("namespace") is not None:
        require_dns_label(metadata["namespace"], f"{where}: metadata.namespace")
    return manifest


def members(bundle: Bundle, resource: Callable[[str, str], Resource]) -> list[Json]:
    """Give the objects of a bundle as they are applied: each in its namespace, and Secrets as the server writes them.

    :param resource: finds a kind's place in the API, by API version and kind.
    """
    found = []
    for manifest in bundle.objects:
        metadata = {key: value for key, value in manifest["metadata"].items() if key != "namespace"}
        if resource(manifest["apiVersion"], manifest["kind"]).namespaced:
            metadata["namespace"] = manifest["metadata"].get("namespace") or bundle.namespace
        found.append({**_readable(manifest), "metadata": metadata})
    return found


def definitions(objects: Iterable[Json]) -> dict[tuple[str, str], Resource]:
    """Give the kinds, by API version, that the CRDs among some manifests bring."""
    found = {}
    for manifest in objects:
        if manifest["kind"] == "CustomResourceDefinition":
            spec = manifest.get("spec") or {}
            names = spec.get("names") or {}
            for version in spec.get("versions") or ():
                if version.get("served") and {"kind", "plural"} <= names.keys():
                    api_version = f"{spec.get('group')}/{version.get('name')}"
                    resource = Resource(names["plural"], spec.get("scope") == "Namespaced")
                    found[api_version, names["kind"]] = resource
    return found


def _readable(manifest: Json) -> Json:
    """Write a Secret as the server will: it never gives ``stringData`` back, so a change of it would go unseen."""
    if "stringData" not in manifest:
        return manifest
    encoded = {
        key: base64.b64encode(str(text).encode()).decode() for key, text in (manifest["stringData"] or {}).items()
    }
    rest = {key: value for key, value in manifest.items() if key != "stringData"}
    return {**rest, "data": {**(manifest.get("data") or {}), **encoded}}
