# SPDX-FileCopyrightText: The modelfleet maintainers
# SPDX-License-Identifier: GPL-3.0-or-later
"""The names, labels and ports by which a server, and what belongs to it, are found in a cluster. Pure."""

from __future__ import annotations

from ansible_collections.modelfleet.serving.plugins.module_utils._manifests.common import selector

COMPONENT = "server"
# By which every server of ours is found, whatever its name.
OUR_SERVERS = {"app.kubernetes.io/managed-by": "modelfleet", "app.kubernetes.io/component": COMPONENT}
# By which a reader of the cluster knows what an image serves; a route carries the same label.
MODEL_LABEL = "modelfleet.serving/model"

GRPC_PORT = 8500
REST_PORT = 8501


def server_selector(server_name: str) -> dict[str, str]:
    """Give the labels by which the pods of a server are found."""
    return selector(COMPONENT, server_name)


def config_name(server_name: str) -> str:
    """Give the name of the ConfigMap that tells a server what to serve."""
    return f"{server_name}-models"


def claim_name(store_name: str, server: str, number: int) -> str:
    """Give the name of the claim of one pod of a server whose pods have a volume each, as a StatefulSet names it."""
    return f"{shared_name(store_name, server)}-{number}"


def shared_name(store_name: str, server: str) -> str:
    """Give what the names of these claims have in common."""
    return f"{store_name}-{server}"
