# SPDX-FileCopyrightText: The modelfleet maintainers
# SPDX-License-Identifier: GPL-3.0-or-later
"""The arguments by which every module finds its cluster; documented in ``doc_fragments/cluster.py``."""

from __future__ import annotations

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
