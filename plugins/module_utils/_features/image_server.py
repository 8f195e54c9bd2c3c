# SPDX-FileCopyrightText: The modelfleet maintainers
# SPDX-License-Identifier: GPL-3.0-or-later
"""A model that is served by its own image, in a cluster."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from ansible_collections.modelfleet.serving.plugins.module_utils._call import Call, Feature, Result
from ansible_collections.modelfleet.serving.plugins.module_utils._cluster.arguments import (
    apply_arguments,
    cluster_arguments,
    wait_arguments,
)
from ansible_collections.modelfleet.serving.plugins.module_utils._cluster.bundle import Bundle
from ansible_collections.modelfleet.serving.plugins.module_utils._cluster.changes import result_of
from ansible_collections.modelfleet.serving.plugins.module_utils._cluster.kinds import Ref
from ansible_collections.modelfleet.serving.plugins.module_utils._cluster.readiness import wait_ready
from ansible_collections.modelfleet.serving.plugins.module_utils._cluster.session import connect
from ansible_collections.modelfleet.serving.plugins.module_utils._cluster.wait import Deadline
from ansible_collections.modelfleet.serving.plugins.module_utils._errors import InputError
from ansible_collections.modelfleet.serving.plugins.module_utils._features.server_bundle import (
    apply_server,
    bundle_name,
    remove,
    require_replicas,
    warn_of_scaling,
)
from ansible_collections.modelfleet.serving.plugins.module_utils._manifests.autoscaling import (
    AUTOSCALING_OPTION,
    read_autoscaling,
)
from ansible_collections.modelfleet.serving.plugins.module_utils._manifests.image_server import (
    ImageServerSpec,
    image_server,
)
from ansible_collections.modelfleet.serving.plugins.module_utils._names import require_dns_label, require_model

_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_OURS = ("PORT", "MODEL_NAME")


def run(call: Call) -> Result:
    """Make the server of an image be as asked, or be gone."""
    params = call.params
    name = require_dns_label(params["name"], "name")
    namespace = require_dns_label(params["namespace"], "namespace")
    deadline = Deadline.after(params["wait_timeout"])
    if params["state"] == "absent":
        return remove(call, name, namespace, deadline)
    require_replicas(params["replicas"])
    if not params["image"]:  # a variable that is empty or null by mistake
        raise InputError(f"image: {params['image']!r} is no image.", hint="Name it, with its tag or digest.")
    spec = ImageServerSpec(
        name=name,
        namespace=namespace,
        image=params["image"],
        model=require_model(params["model"], "model"),
        env=_variables(params["env"]),
        arguments=tuple(params["arguments"]),
        replicas=params["replicas"],
        autoscaling=read_autoscaling(params["autoscaling"], params["resources"]),
        resources=params["resources"],
        drain_seconds=params["drain_seconds"],
        start_seconds=params["start_seconds"],
        overrides=params["overrides"],
    )
    with connect(params, call.warn) as session:
        bundle = Bundle(bundle_name(name), namespace, image_server(spec))
        workload = Ref("apps/v1", "Deployment", name, namespace)
        replicas = None if spec.autoscaling else spec.replicas
        changes = apply_server(call, session, bundle, workload, replicas, deadline)
        if params["wait"] and not call.check_mode:
            warn_of_scaling(call, session, wait_ready(session, bundle, deadline, call.progress))
        return result_of(changes)


def _variables(env: Mapping[str, Any]) -> dict[str, str]:
    """Read the ``env`` option; a truth value or a number would not be the text that its writer sees."""
    for name, value in env.items():
        if not _VARIABLE.fullmatch(name):
            raise InputError(f"env: {name!r} is no name of a variable.", hint="Use letters, digits and '_'.")
        if name in _OURS:
            raise InputError(f"env: {name} is set by this module.", hint="Leave it out.")
        if not isinstance(value, str):
            raise InputError(f"env: the value of {name}, {value!r}, is no text.", hint="Put it in quotes.")
    return dict(env)


FEATURE = Feature(
    arguments={
        **cluster_arguments(),
        **apply_arguments(),
        **wait_arguments(600),
        "name": {"type": "str", "required": True},
        "namespace": {"type": "str", "required": True},
        "image": {"type": "str"},
        "model": {"type": "str"},
        "env": {"type": "dict", "default": {}},
        "arguments": {"type": "list", "elements": "str", "default": []},
        "replicas": {"type": "int", "default": 2},
        "autoscaling": AUTOSCALING_OPTION,
        "resources": {"type": "dict", "default": {}},
        "drain_seconds": {"type": "int", "default": 15},
        "start_seconds": {"type": "int", "default": 600},
        "overrides": {"type": "dict", "default": {}},
    },
    run=run,
    constraints={"required_if": [("state", "present", ["image", "model"])]},
)
