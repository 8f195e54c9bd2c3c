# SPDX-FileCopyrightText: The modelfleet maintainers
# SPDX-License-Identifier: GPL-3.0-or-later
"""The arguments by which every module finds its cluster; documented in ``doc_fragments/cluster.py``."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from ansible.module_utils.basic import env_fallback


def _from_environment(name: str, **spec: Any) -> dict[str, Any]:
    """Give an argument that AWX's Kubernetes credential, or a user's shell, can set by ``K8S_AUTH_*``."""
    return {**spec, "fallback": (env_fallback, [f"K8S_AUTH_{name}"])}


def cluster_arguments() -> dict[str, Any]:
    """Give a fresh copy of the connection arguments."""
    return {
        "kubeconfig": _from_environment("KUBECONFIG", type="raw"),
        "context": _from_environment("CONTEXT", type="str"),
        "host": _from_environment("HOST", type="str"),
        "api_key": _from_environment("API_KEY", type="str", no_log=True),
        "validate_certs": _from_environment("VERIFY_SSL", type="bool", aliases=["verify_ssl"]),
        "ca_cert": _from_environment("SSL_CA_CERT", type="path", aliases=["ssl_ca_cert"]),
        "client_cert": _from_environment("CERT_FILE", type="path", aliases=["cert_file"]),
        "client_key": _from_environment("KEY_FILE", type="path", no_log=False, aliases=["key_file"]),
        "proxy": _from_environment("PROXY", type="str"),
        "request_timeout": {"type": "float", "default": 30.0},
    }


def wait_arguments(default_timeout: int) -> dict[str, Any]:
    """Give the arguments of a module that can wait for what it changed.

    :param default_timeout: seconds for everything that one task waits for, together.
    """
    return {
        "wait": {"type": "bool", "default": True},
        "wait_timeout": {"type": "int", "default": default_timeout},
    }


def apply_arguments() -> dict[str, Any]:
    """Give the arguments of a module that applies a bundle."""
    return {
        "state": {"type": "str", "choices": ["present", "absent"], "default": "present"},
        "force_conflicts": {"type": "bool", "default": False},
    }


def secrets(params: Mapping[str, Any]) -> set[str]:
    """Find what must not be shown of a kubeconfig that was given as a mapping; a path to one is no secret."""
    kubeconfig = params.get("kubeconfig")
    if isinstance(kubeconfig, str):
        return {kubeconfig} if "\n" in kubeconfig else set()  # the text of one, given by mistake
    if not isinstance(kubeconfig, Mapping):
        return set()
    users = kubeconfig.get("users")
    return {
        text
        for entry in (users if isinstance(users, list) else [])
        if isinstance(entry, Mapping) and isinstance(entry.get("user"), Mapping)
        for text in _user_secrets(entry["user"])
        if isinstance(text, str) and text
    }


def _user_secrets(user: Mapping[str, Any]) -> Iterator[Any]:
    yield from (user.get(key) for key in ("token", "password", "client-key-data"))
    exec_, provider = user.get("exec"), user.get("auth-provider")
    if isinstance(exec_, Mapping):
        yield from (entry.get("value") for entry in exec_.get("env") or [])
    if isinstance(provider, Mapping):
        yield from (provider.get("config") or {}).values()
