# SPDX-FileCopyrightText: The modelfleet maintainers
# SPDX-License-Identifier: GPL-3.0-or-later
"""A model that is served by its own image, on Kubernetes. Pure.

What an image has to do is little, and in docs/images.md: listen on the port in ``PORT``, and answer the REST requests
of TF Serving, which are those of KServe's first protocol, for the model in ``MODEL_NAME``.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from ansible_collections.modelfleet.serving.plugins.module_utils._manifests.autoscaling import Autoscaling
from ansible_collections.modelfleet.serving.plugins.module_utils._manifests.common import container_security
from ansible_collections.modelfleet.serving.plugins.module_utils._manifests.names import MODEL_LABEL, REST_PORT
from ansible_collections.modelfleet.serving.plugins.module_utils._manifests.overrides import override
from ansible_collections.modelfleet.serving.plugins.module_utils._manifests.workload import Workload, workload

Json = dict[str, Any]


@dataclass(frozen=True)
class ImageServerSpec:
    """What the server of an image should be.

    :param model: the name by which clients ask for it.
    :param env: environment variables, beside ``PORT`` and ``MODEL_NAME``.
    :param arguments: arguments of the image's entrypoint.
    :param start_seconds: how long a pod may take until it answers.
    """

    name: str
    namespace: str
    image: str
    model: str
    env: dict[str, str] = field(default_factory=dict)
    arguments: tuple[str, ...] = ()
    replicas: int = 2
    autoscaling: Autoscaling | None = None
    resources: dict[str, dict[str, str]] = field(default_factory=dict)
    drain_seconds: int = 15
    start_seconds: int = 600
    overrides: dict[str, Json] = field(default_factory=dict)


def image_server(spec: ImageServerSpec) -> tuple[Json, ...]:
    """Give the objects of a server of an image."""
    objects = workload(
        Workload(
            name=spec.name,
            namespace=spec.namespace,
            container=_container(spec),
            service_ports=({"name": "rest", "port": REST_PORT, "targetPort": "rest", "appProtocol": "http"},),
            replicas=spec.replicas,
            drain_seconds=spec.drain_seconds,
            start_seconds=spec.start_seconds,
            autoscaling=spec.autoscaling,
            volumes=({"name": "tmp", "emptyDir": {}},),
            pod_labels={MODEL_LABEL: spec.model},
        )
    )
    return override(objects, spec.overrides)


def _container(spec: ImageServerSpec) -> Json:
    ready = {"httpGet": {"path": f"/v1/models/{spec.model}", "port": "rest"}, "timeoutSeconds": 5}
    # One port for all: namespaces let in that one, and pods are asked for predictions there.
    variables = {"PORT": str(REST_PORT), "MODEL_NAME": spec.model, **spec.env}
    container: Json = {
        "name": "server",
        "image": spec.image,
        "env": [{"name": name, "value": value} for name, value in variables.items()],
        "ports": [{"name": "rest", "containerPort": REST_PORT}],
        "startupProbe": {**ready, "periodSeconds": 1, "failureThreshold": spec.start_seconds},
        "readinessProbe": {**ready, "periodSeconds": 5, "failureThreshold": 2},
        "securityContext": container_security(),
        "volumeMounts": [{"name": "tmp", "mountPath": "/tmp"}],
    }
    if spec.arguments:
        container["args"] = list(spec.arguments)
    if spec.resources:
        container["resources"] = spec.resources
    return container
