# SPDX-FileCopyrightText: The modelfleet maintainers
# SPDX-License-Identifier: GPL-3.0-or-later
"""Names are checked before the first call, and turned into Kubernetes names the same way everywhere. Pure."""

from __future__ import annotations

import hashlib
import re
from urllib.parse import urlsplit

from ansible_collections.modelfleet.serving.plugins.module_utils._errors import InputError

_DNS_LABEL = re.compile(r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?")
_HOST_NAME = re.compile(r"(?=.{1,253}\Z)[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?(\.[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?)*")
# A model's name is a folder, part of a URL path, and a string in the server's text configuration.
_MODEL = re.compile(r"[A-Za-z0-9]([A-Za-z0-9._-]{0,61}[A-Za-z0-9])?")
_MODEL_LABEL = re.compile(r"[A-Za-z0-9]([A-Za-z0-9._-]{0,61}[A-Za-z0-9])?")


def require_dns_label(value: str, option: str) -> str:
    """Check the name of a namespace, service or other object (RFC 1123 label, at most 63 characters)."""
    return _require(_DNS_LABEL, value, option, "lower-case letters, digits and '-', at most 63 characters")


def require_host_name(value: str, option: str) -> str:
    """Check a DNS host name (at most 253 characters)."""
    return _require(_HOST_NAME, value, option, "a DNS name such as models.example.org, at most 253 characters")


def require_model(value: str, option: str) -> str:
    """Check the name of a model."""
    return _require(_MODEL, value, option, "letters, digits, '.', '_' and '-', at most 63 characters")


def require_version_label(value: str, option: str) -> str:
    """Check the label of a model version, such as ``stable``."""
    return _require(_MODEL_LABEL, value, option, "letters, digits, '.', '_' and '-', at most 63 characters")


def require_version(value: int, option: str) -> int:
    """Check the number of a model version: what TF Serving takes for the name of a version's folder."""
    if not 0 < value < 2**63:
        raise InputError(f"{option}: {value} is no model version.", hint="Use a whole number from 1.")
    return value


def require_url(value: str, option: str) -> str:
    """Check an http or https URL without credentials, query or fragment."""
    text = str(value)
    try:
        parts = urlsplit(text)
        fine = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        fine = False
    if not fine or "@" in text or not text.isprintable() or re.search(r"[\s\\{}\"'<>?#]", text):
        shown = "an address with credentials" if "@" in text else repr(value)
        raise InputError(
            f"{option}: {shown} is no usable URL.",
            hint="Use the form http://host:port or https://host:port, without credentials or a query.",
        )
    return text.rstrip("/")


def require_unique(values: list[str], option: str) -> None:
    """Check that a list names nothing twice."""
    for value in values:
        if values.count(value) > 1:
            raise InputError(f"{option}: {value!r} stands there more than once.", hint="Name each one once.")


def kubernetes_name(model: str) -> str:
    """Turn a model's name into a part of an object's name, at most 40 characters.

    A name that has to be changed gets four digits of its digest, so that ``a_b`` and ``a-b`` stay two.
    """
    plain = re.sub(r"[^a-z0-9]+", "-", model.lower()).strip("-")
    if plain == model and len(plain) <= 40:
        return plain
    return f"{plain[:35].rstrip('-')}-{hashlib.sha256(model.encode()).hexdigest()[:4]}"


def _require(pattern: re.Pattern[str], value: str, option: str, wanted: str) -> str:
    # fullmatch: with match and '$', a trailing newline would pass. Ansible lets an explicit null pass for any type.
    if not isinstance(value, str) or not pattern.fullmatch(value):
        raise InputError(f"{option}: {value!r} is no valid name.", hint=f"Use {wanted}.")
    return value
