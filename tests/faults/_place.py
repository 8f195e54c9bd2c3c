# SPDX-FileCopyrightText: The modelfleet maintainers
# SPDX-License-Identifier: GPL-3.0-or-later
"""A namespace in a real cluster of the local fleet, and what to put there."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ansible_collections.modelfleet.serving.plugins.module_utils._call import Call, Result
from ansible_collections.modelfleet.serving.plugins.module_utils._cluster.session import Session
from ansible_collections.modelfleet.serving.plugins.module_utils._features.bundle import FEATURE

Json = dict[str, Any]
HOME = Path(os.environ.get("MODELFLEET_HOME") or Path.home() / ".cache" / "modelfleet")
CLUSTER = "modelfleet-gcp-europe-west1"


@dataclass
class Place:
    """A namespace of its own in a real cluster."""

    session: Session
    connection: Json
    namespace: str
    image: str

    def run(self, *objects: Json, check: bool = False, progress: list[str] | None = None, **more: Any) -> Result:
        """Apply a bundle with its namespace by the module's own function."""
        space = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": self.namespace}}
        defaults = {key: spec.get("default") for key, spec in FEATURE.arguments.items()}
        given = {"name": "fault", "namespace": self.namespace, "objects": [space, *objects], "wait_timeout": 120}
        told = (progress if progress is not None else []).append
        return FEATURE.run(Call({**defaults, **self.connection, **given, **more}, check_mode=check, progress=told))

    def deployment(self, name: str = "server", **container: Any) -> Json:
        """A Deployment of one pod that does nothing, unless its container is told otherwise."""
        labels = {"app": name}
        pod: Json = {
            "terminationGracePeriodSeconds": 1,
            "containers": [{"name": "main", "image": self.image, "command": ["sleep", "3600"], **container}],
        }
        return {
            "apiVersion": "apps/v1",
            "kind": "Deployment",
            "metadata": {"name": name},
            "spec": {
                "selector": {"matchLabels": labels},
                "template": {"metadata": {"labels": labels}, "spec": pod},
            },
        }
