# SPDX-FileCopyrightText: The modelfleet maintainers
# SPDX-License-Identifier: GPL-3.0-or-later
"""The arguments by which every module finds its cluster; documented in ``doc_fragments/cluster.py``."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from typing import Any

from ansible.module_utils.basic import env_fallback

from ansible_collections.modelfleet.serving.plugins.module_utils._cluster.kubeconfig import is_text, parse

# Options of rclone's backends that say where something is and of which kind, not who may read it.
_PUBLIC_OPTIONS = frozenset(
    {
        "account",
        "auth",
        "auth_url",
        "domain",
        "env_auth",
        "host",
        "port",
        "project_number",
        "provider",
        "region",
        "type",
    }
    | {"vendor"}
)


def _from_environment(name: str, **spec: Any) -> dict[str, Any]:
    """Give an argument that AWX's Kubernetes credential, or a user's shell, can set by ``K8S_AUTH_*``."""
    return {**spec, "fallback": (env_fallback, [f"K8S_AUTH_{name}"])}


def cluster_arguments() -> dict[str, Any]:
    """Give a fresh copy of the connection arguments, spelled as those of ``kubernetes.core``."""
    return {
        "kubeconfig": _from_environment("KUBECONFIG", type="raw"),
        "context": _from_environment("CONTEXT", type="str"),
        "host": _from_environment("HOST", type="str"),
        "api_key": _from_environment("API_KEY", type="str", no_log=True),
        "username": _from_environment("USERNAME", type="str"),
        "password": _from_environment("PASSWORD", type="str", no_log=True),
        "impersonate_user": _from_environment("IMPERSONATE_USER", type="str"),
        "impersonate_groups": _from_environment("IMPERSONATE_GROUPS", type="list", elements="str"),
        "validate_certs": _from_environment("VERIFY_SSL", type="bool", aliases=["verify_ssl"]),
        "ca_cert": _from_environment("SSL_CA_CERT", type="path", aliases=["ssl_ca_cert"]),
        "client_cert": _from_environment("CERT_FILE", type="path", aliases=["cert_file"]),
        "client_key": _from_environment("KEY_FILE", type="path", no_log=False, aliases=["key_file"]),
        "tls_server_name": _from_environment("TLS_SERVER_NAME", type="str"),
        "proxy": _from_environment("PROXY", type="str"),
        "no_proxy": _from_environment("NO_PROXY", type="str"),
        "proxy_headers": {
            "type": "dict",
            "apply_defaults": True,  # so that the variables count when the option is not set
            "options": {
                "proxy_basic_auth": _from_environment("PROXY_HEADERS_PROXY_BASIC_AUTH", type="str", no_log=True),
                "basic_auth": _from_environment("PROXY_HEADERS_BASIC_AUTH", type="str", no_log=True),
                "user_agent": _from_environment("PROXY_HEADERS_USER_AGENT", type="str"),
            },
        },
        "request_timeout": {"type": "float", "default": 30.0},
    }


def clusters_argument() -> dict[str, Any]:
    """Give the argument of a module that talks to several clusters: their names, each with its connection arguments.

    No variable of the environment counts here: it would lead to the same cluster each time.
    """
    options = {name: spec for name, spec in cluster_arguments().items() if name != "request_timeout"}
    return {
        "type": "list",
        "elements": "dict",
        "required": True,
        "options": {"name": {"type": "str", "required": True}, **_without_environment(options)},
    }


def _without_environment(arguments: Mapping[str, Any]) -> dict[str, Any]:
    plain = {}
    for name, spec in arguments.items():
        plain[name] = {key: value for key, value in spec.items() if key not in ("fallback", "apply_defaults")}
        if "options" in spec:
            plain[name]["options"] = _without_environment(spec["options"])
    return plain


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
    """Find what must not be shown of a kubeconfig's content, of rclone's remotes, and of the URLs of proxies.

    A path is no secret. The clusters of :func:`clusters_argument` are looked through, too.

    :param params: a module's parameters, with or without what the variables of the environment say.
    """

    def given(name: str) -> Any:
        return params.get(name) or os.environ.get(f"K8S_AUTH_{name.upper()}")

    kubeconfig = given("kubeconfig")
    found: list[Any] = [_password(given("proxy")), *_remotes_secrets(params.get("remotes"))]
    if is_text(kubeconfig):
        found.append(kubeconfig)
        try:
            kubeconfig = parse(kubeconfig)
        except (ValueError, NameError):  # no YAML, or no parser for it
            kubeconfig = None
    if isinstance(kubeconfig, Mapping):
        for user in _entries(kubeconfig, "user"):
            found.extend(_user_secrets(user))
        found.extend(_password(cluster.get("proxy-url")) for cluster in _entries(kubeconfig, "cluster"))
    hidden = {text for text in found if isinstance(text, str) and text}
    clusters = params.get("clusters")
    for cluster in clusters if isinstance(clusters, list) else []:
        if isinstance(cluster, Mapping):
            hidden |= secrets(cluster)
    return hidden


def _remotes_secrets(remotes: Any) -> Iterator[str]:
    """Give the values of rclone's options that may be secret: all but those of which it is known that they are not."""
    if is_text(remotes):
        yield str(remotes)
    for options in remotes.values() if isinstance(remotes, Mapping) else []:
        for name, value in options.items() if isinstance(options, Mapping) else []:
            if name in ("url", "endpoint"):
                yield _password(value)
            elif name not in _PUBLIC_OPTIONS and not isinstance(value, bool) and str(value) not in ("true", "false"):
                yield str(value)


def _entries(kubeconfig: Mapping[str, Any], kind: str) -> Iterator[Mapping[str, Any]]:
    entries = kubeconfig.get(f"{kind}s")
    for entry in entries if isinstance(entries, list) else []:
        if isinstance(entry, Mapping) and isinstance(entry.get(kind), Mapping):
            yield entry[kind]


def _password(url: Any) -> str:
    """Give the password in a URL as it stands there."""
    user = str(url or "").rpartition("@")[0].rpartition("/")[2]
    return user.partition(":")[2]


def _user_secrets(user: Mapping[str, Any]) -> Iterator[Any]:
    yield from (user.get(key) for key in ("token", "password", "client-key-data"))
    exec_, provider = user.get("exec"), user.get("auth-provider")
    if isinstance(exec_, Mapping):
        yield from (entry.get("value") for entry in exec_.get("env") or [])
    if isinstance(provider, Mapping):
        yield from (provider.get("config") or {}).values()
