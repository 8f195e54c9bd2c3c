# SPDX-FileCopyrightText: The modelfleet maintainers
# SPDX-License-Identifier: GPL-3.0-or-later
"""A model server in a cluster, serving the versions it should."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Collection, Iterable, Mapping
from dataclasses import replace
from typing import Any

from ansible_collections.modelfleet.serving.plugins.module_utils._call import Call, Feature, Result
from ansible_collections.modelfleet.serving.plugins.module_utils._cluster.apply import apply, apply_ahead, foretell
from ansible_collections.modelfleet.serving.plugins.module_utils._cluster.arguments import (
    apply_arguments,
    cluster_arguments,
    wait_arguments,
)
from ansible_collections.modelfleet.serving.plugins.module_utils._cluster.bundle import Bundle
from ansible_collections.modelfleet.serving.plugins.module_utils._cluster.changes import Change, result_of
from ansible_collections.modelfleet.serving.plugins.module_utils._cluster.kinds import Ref
from ansible_collections.modelfleet.serving.plugins.module_utils._cluster.pods import (
    claims_of,
    is_passing,
    is_ready,
    live_pods,
    pods_of,
)
from ansible_collections.modelfleet.serving.plugins.module_utils._cluster.raised import read_raised
from ansible_collections.modelfleet.serving.plugins.module_utils._cluster.readiness import wait_ready
from ansible_collections.modelfleet.serving.plugins.module_utils._cluster.session import Json, Session, connect
from ansible_collections.modelfleet.serving.plugins.module_utils._cluster.wait import Deadline
from ansible_collections.modelfleet.serving.plugins.module_utils._errors import ApiError, InputError, ServingError
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
from ansible_collections.modelfleet.serving.plugins.module_utils._manifests.names import (
    REST_PORT,
    claim_name,
    config_name,
    server_selector,
)
from ansible_collections.modelfleet.serving.plugins.module_utils._manifests.server import (
    GrpcTls,
    ServerSpec,
    golden_in,
    interim_config,
    server,
)
from ansible_collections.modelfleet.serving.plugins.module_utils._manifests.store import POD_LABEL, require_one_pod
from ansible_collections.modelfleet.serving.plugins.module_utils._names import require_dns_label
from ansible_collections.modelfleet.serving.plugins.module_utils._store.own import require_filled
from ansible_collections.modelfleet.serving.plugins.module_utils._store.record import read_sizes
from ansible_collections.modelfleet.serving.plugins.module_utils._tfserving.golden import GOLDEN_OPTIONS
from ansible_collections.modelfleet.serving.plugins.module_utils._tfserving.memory import require_memory
from ansible_collections.modelfleet.serving.plugins.module_utils._tfserving.model_config import (
    SERVED_OPTIONS,
    config_text,
    read_config,
    served_models,
)
from ansible_collections.modelfleet.serving.plugins.module_utils._tfserving.parameters import (
    BATCHING_OPTION,
    read_batching,
)
from ansible_collections.modelfleet.serving.plugins.module_utils._tfserving.reload import (
    Models,
    bring_to,
    loaded_models,
    wait_served,
)
from ansible_collections.modelfleet.serving.plugins.module_utils._tfserving.rest import Transport, pod_transport

_CONFIG_ANNOTATION = "modelfleet.serving/models-config"
# Where there is no claim yet, which happens in check mode: what model_store gives by default.
_DEFAULT_CLAIM: Json = {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "10Gi"}}}
# A StatefulSet labels its pods with its name, a hyphen and ten characters more.
_LONGEST_NAME = 52


def run(call: Call) -> Result:
    """Make a model server be as asked, or be gone."""
    params = call.params
    name = require_dns_label(params["name"], "name")
    namespace = require_dns_label(params["namespace"], "namespace")
    deadline = Deadline.after(params["wait_timeout"])
    if params["state"] == "absent":
        return remove(call, name, namespace, deadline)
    require_replicas(params["replicas"])
    tls = params["grpc_tls"]
    given: dict[str, Any] = {
        "name": name,
        "namespace": namespace,
        "image": params["image"],
        "models": served_models(params["models"]),
        "store": require_dns_label(params["store"], "store"),
        "golden": {entry["name"]: entry["golden"][0]["request"] for entry in params["models"] if entry["golden"]},
        "replicas": params["replicas"],
        "autoscaling": read_autoscaling(params["autoscaling"], params["resources"]),
        "resources": params["resources"],
        "batching": read_batching(params["batching"]),
        "grpc_tls": tls and GrpcTls(require_dns_label(tls["secret"], "grpc_tls.secret"), tls["verify_clients"]),
        "arguments": tuple(params["arguments"]),
        "drain_seconds": params["drain_seconds"],
        "start_seconds": params["start_seconds"],
        "rest_timeout_seconds": params["rest_timeout_seconds"],
        "overrides": params["overrides"],
    }
    own = params["store_per_pod"]
    # What is wrong with it is said before the first call.
    asked = ServerSpec(**given, claim=_DEFAULT_CLAIM if own else None)
    server(asked)
    if own:
        _require_several(asked)
    with connect(params, call.warn) as session:
        if asked.grpc_tls:
            asked = replace(asked, grpc_tls=_certified(call, session, asked.grpc_tls, namespace))
        claim = _own_claim(session, asked, call.check_mode) if own else _claim(session, given, call.check_mode)
        spec = _placed(session, asked, claim)
        config = _config(session, spec)
        configured = read_config(config.get("models.config", ""))
        retained = _retained(session, spec, configured, params["retain"])
        spec = _with(spec, retained, configured, config)
        limit = (spec.resources.get("limits") or {}).get("memory")
        require_memory(configured, spec.models, read_sizes(claim), limit)
        bundle = Bundle(bundle_name(name), namespace, server(spec))
        workload = Ref("apps/v1", "StatefulSet" if own else "Deployment", name, namespace)
        replicas = None if spec.autoscaling else spec.replicas
        if call.check_mode:
            changes = apply_server(call, session, bundle, workload, replicas, deadline)
            return _told(result_of(changes), retained)
        before = _reload(call, session, bundle, spec, configured, deadline) if params["wait"] else None
        if own:
            _require_another(session, bundle, workload)
        changes = apply_server(call, session, bundle, workload, replicas, deadline)
        if any(change.action == "updated" and change.ref.kind == "ConfigMap" for change in changes):
            _announce(session, spec, spec.models)
        # What was done step by step is told as one change.
        told = (before if before and before.ref == change.ref else change for change in changes)
        result = _told(result_of(told), retained)
        if params["wait"]:
            objects = wait_ready(session, bundle, deadline, call.progress)
            warn_of_scaling(call, session, objects)
            pods = [pod for pod in pods_of(objects.get(workload), objects.values()) if is_ready(pod)]
            wait_served(session, _transports(session, pods), spec.models, deadline, call.progress)
        return result


def _claim(session: Session, given: Mapping[str, Any], check: bool) -> Json | None:
    """Read the claim of the store; None where a task before this one may be about to make it.

    :raises InputError: when there is no such store.
    """
    ref = Ref("v1", "PersistentVolumeClaim", given["store"], given["namespace"])
    claim = session.get(ref)
    if claim is None and not check:
        raise InputError(
            f"cluster {session.name}: there is no {ref} to serve from.",
            hint="Make it by modelfleet.serving.model_store first, or correct store.",
        )
    pod = ((claim or {}).get("metadata", {}).get("labels") or {}).get(POD_LABEL)
    if pod is not None:
        raise InputError(
            f"cluster {session.name}: {ref} is for the pod {pod} alone.",
            hint="Name a store that was made without per_pod, or set store_per_pod for that server.",
        )
    return claim


def _certified(call: Call, session: Session, tls: GrpcTls, namespace: str) -> GrpcTls:
    """Add the digest of the certificates, so that a rollout follows when they were renewed.

    :raises InputError: when the Secret is not there or lacks a key, for which the pods would wait.
    """
    ref = Ref("v1", "Secret", tls.secret, namespace)
    try:
        secret = session.get(ref)
    except ApiError as error:
        if error.status != 403:
            raise
        call.warn(
            f"cluster {session.name}: {ref} may not be read, so pods are not replaced when its certificate is renewed."
        )
        return tls
    if secret is None and call.check_mode:  # a task before this one may be about to make it
        return tls
    data = (secret or {}).get("data") or {}
    certificates = ["tls.crt", *(["ca.crt"] if tls.verify_clients else [])]
    if missing := [key for key in (*certificates, "tls.key") if not data.get(key)]:
        lacks = f"has no {', '.join(missing)}" if secret else "is not there"
        raise InputError(
            f"cluster {session.name}: grpc_tls.secret: {ref} {lacks}.",
            hint="Make it in that namespace, by cert-manager for example, or correct the name.",
        )
    # Not the key: what the certificate is, everybody may know.
    public = json.dumps([data[key] for key in certificates])
    return replace(tls, digest=hashlib.sha256(public.encode()).hexdigest()[:16])


def _require_several(spec: ServerSpec) -> None:
    """Refuse what a server whose pods have a volume each can't be."""
    least = spec.autoscaling.min_replicas if spec.autoscaling else spec.replicas
    if least < 2:
        raise InputError(
            f"store_per_pod: with {least} pod, each rollout would leave nobody to answer, since a pod's successor "
            "waits for its volume.",
            hint="Have 2 pods or more. One pod with a store that is not its own is replaced without a gap.",
        )
    if len(spec.name) > _LONGEST_NAME:
        raise InputError(
            f"name: {spec.name} is too long for a server with a volume a pod.", hint=f"Use {_LONGEST_NAME} characters."
        )


def _own_claim(session: Session, spec: ServerSpec, check: bool) -> Json | None:
    """Read the claims of a server whose pods have a volume each; gives the first, which is as the others are.

    :returns: None where a task before this one may be about to make it.
    :raises InputError: when volumes are missing, are not filled, differ, are others', or need not be one a pod.
    """
    found = session.find("v1", "PersistentVolumeClaim", spec.namespace)
    claims = {entry["metadata"]["name"]: entry for entry in found}
    pods = max(spec.autoscaling.max_replicas if spec.autoscaling else spec.replicas, _raised(session, spec))
    if not check:
        require_filled(session.name, claims, spec.store, spec.name, pods, spec.models)
    names = [claim_name(spec.store, spec.name, number) for number in range(pods)]
    for pod in live_pods(session.find("v1", "Pod", spec.namespace)):
        for name in set(claims_of(pod["spec"])).intersection(names):
            if name != f"{spec.store}-{pod['metadata']['name']}" and not is_passing(pod):
                raise InputError(
                    f"cluster {session.name}: {Ref.of(pod)} mounts PersistentVolumeClaim {spec.namespace}/{name}, "
                    f"which is for a pod of {spec.name}.",
                    hint="Remove it, or use another store.",
                )
    return claims.get(names[0])


def _require_another(session: Session, bundle: Bundle, workload: Ref) -> None:
    """Refuse a rollout that would begin with the only pod that serves: a StatefulSet takes the last of its pods first.

    :raises ServingError: with the pod.
    """
    live = session.get(workload)
    pods = live_pods(session.find("v1", "Pod", workload.namespace, labels=server_selector(workload.name)))
    ready = [pod["metadata"]["name"] for pod in pods if is_ready(pod)]
    if live is None or ready != [f"{workload.name}-{live['spec'].get('replicas', 1) - 1}"]:
        return
    for change in apply(session, bundle, check=True, force=True):
        templates = [(owned or {}).get("spec", {}).get("template") for owned in (change.before, change.after)]
        if change.ref == workload and templates[0] != templates[1]:
            raise ServingError(
                f"cluster {session.name}: of {workload}, only the pod {ready[0]} is ready, and a rollout would begin "
                "with it.",
                hint="See why the others are not ready, and run again when one of them is.",
            )


def _raised(session: Session, spec: ServerSpec) -> int:
    """Give to how many pods the server is raised for a while, which no apply lowers."""
    kinds = (("apps/v1", "Deployment"), ("apps/v1", "StatefulSet"), ("autoscaling/v2", "HorizontalPodAutoscaler"))
    raises = [read_raised(session.get(Ref(*kind, spec.name, spec.namespace))) for kind in kinds]
    return max((number for raised in raises if raised for number in raised.to.values()), default=0)


def _placed(session: Session, spec: ServerSpec, claim: Json | None) -> ServerSpec:
    """Give the server with what its store says of where its pods may run."""
    if spec.claim is None:
        return replace(spec, access_modes=_access_modes(session, claim))
    live = session.get(Ref("apps/v1", "StatefulSet", spec.name, spec.namespace))
    templates = ((live or {}).get("spec") or {}).get("volumeClaimTemplates") or []
    if live is not None and [template["metadata"]["name"] for template in templates] != [spec.store]:
        others = ", ".join(template["metadata"]["name"] for template in templates) or "none"
        raise InputError(
            f"cluster {session.name}: {Ref.of(live)} has volumes of the store {others}, and Kubernetes lets no "
            f"StatefulSet take others, such as those of {spec.store}.",
            hint="Make a server of another name, or let this one share a volume in between, without store_per_pod.",
        )
    body = (claim or {}).get("spec") or _DEFAULT_CLAIM
    require_one_pod(body["accessModes"])
    if templates:  # they can't be changed, and matter no more where the claims exist
        return replace(spec, claim=templates[0]["spec"])
    kept = ("accessModes", "resources", "storageClassName")
    return replace(spec, claim={key: body[key] for key in kept if key in body})


def _access_modes(session: Session, claim: Json | None) -> tuple[str, ...]:
    """Give how the store can be mounted, which decides where the pods may run.

    :raises InputError: for a store that a rollout would wait for without end.
    """
    claim = claim or {"spec": _DEFAULT_CLAIM}
    modes = tuple(claim["spec"]["accessModes"])
    if modes == ("ReadWriteOncePod",):
        raise InputError(
            f"cluster {session.name}: {Ref.of(claim)} is for one pod only (ReadWriteOncePod), and a rollout needs two.",
            hint="Use ReadWriteOnce, for pods on one node, ReadWriteMany, for pods on several, or store_per_pod.",
        )
    return modes


def _config(session: Session, spec: ServerSpec) -> Mapping[str, str]:
    """Give the files of the server's ConfigMap as they were written last; none where there is no server."""
    live = session.get(Ref("v1", "ConfigMap", config_name(spec.name), spec.namespace)) or {}
    files: Mapping[str, str] = live.get("data") or {}
    return files


def _retained(session: Session, spec: ServerSpec, configured: Models, names: Collection[str]) -> Models:
    """Give the models that are to stay although the server need not serve them, as far as its pods have loaded them.

    What answers nobody has nothing to lose, and must not hold up the rest.
    """
    wanted = {model.name for model in spec.models}
    leaving = [model for model in configured if model.name in names and model.name not in wanted]
    return loaded_models(leaving, _running(session, spec)) if leaving else ()


def _with(spec: ServerSpec, retained: Models, configured: Models, config: Mapping[str, str]) -> ServerSpec:
    """Give a server that serves these models too, with the probes and in the places that they have."""
    if not retained:
        return spec
    places = {model.name: place for place, model in enumerate(configured)}
    models = sorted((*spec.models, *retained), key=lambda model: places.get(model.name, len(places)))
    found = {model.name: golden_in(config, model.name) for model in retained}
    golden = {name: request for name, request in found.items() if request is not None}
    return replace(spec, models=tuple(models), golden={**spec.golden, **golden})


def _told(result: Result, retained: Models) -> Result:
    return replace(result, values={**result.values, "retained": [model.name for model in retained]})


def _reload(
    call: Call, session: Session, bundle: Bundle, spec: ServerSpec, configured: Models, deadline: Deadline
) -> Change | None:
    """Bring the pods that run to the new configuration, except for its last step, which the apply makes.

    :param configured: what they were told to serve last.
    :returns: what the apply would have done to the configuration before; None where there was no step.
    """
    if not configured or configured == spec.models:
        return None
    running = _running(session, spec)
    if not running:
        return None
    current = loaded_models(configured, running)
    force = call.params["force_conflicts"]
    # What is another's, the apply itself refuses.
    before = foretell(session, bundle, interim_config(spec, spec.models, spec.models))

    def write(models: Models) -> None:
        apply_ahead(session, bundle, interim_config(spec, models, current), force=force)
        _announce(session, spec, models)

    bring_to(session, running, current, spec.models, write, deadline, call.progress)
    return before


def _announce(session: Session, spec: ServerSpec, models: Models) -> None:
    """Let the running pods see a new configuration at once.

    The kubelet refreshes a mounted ConfigMap about once a minute, and also whenever the pod itself changes: so the
    pods get an annotation.
    """
    digest = hashlib.sha256(config_text(models, "").encode()).hexdigest()[:16]
    patch = {"metadata": {"annotations": {_CONFIG_ANNOTATION: digest}}}
    for pod in session.find("v1", "Pod", spec.namespace, labels=server_selector(spec.name)):
        session.request("PATCH", session.path(Ref.of(pod)), body=patch, content_type="application/merge-patch+json")


def _running(session: Session, spec: ServerSpec) -> dict[str, Transport]:
    pods = session.find("v1", "Pod", spec.namespace, labels=server_selector(spec.name))
    return _transports(session, [pod for pod in live_pods(pods) if is_ready(pod)])


def _transports(session: Session, pods: Iterable[Json]) -> dict[str, Transport]:
    names = sorted((pod["metadata"]["namespace"], pod["metadata"]["name"]) for pod in pods)
    return {pod: pod_transport(session, namespace, pod, REST_PORT) for namespace, pod in names}


FEATURE = Feature(
    arguments={
        **cluster_arguments(),
        **apply_arguments(),
        **wait_arguments(600),
        "name": {"type": "str", "required": True},
        "namespace": {"type": "str", "required": True},
        "image": {"type": "str", "default": "tensorflow/serving:2.19.1"},
        "models": {
            "type": "list",
            "elements": "dict",
            "options": {
                **SERVED_OPTIONS,
                "golden": {**GOLDEN_OPTIONS["golden"], "required": False, "default": []},
            },
        },
        "retain": {"type": "list", "elements": "str", "default": []},
        "store": {"type": "str"},
        "store_per_pod": {"type": "bool", "default": False},
        "replicas": {"type": "int", "default": 2},
        "autoscaling": AUTOSCALING_OPTION,
        "resources": {"type": "dict", "default": {}},
        "batching": BATCHING_OPTION,
        "grpc_tls": {
            "type": "dict",
            "options": {
                "secret": {"type": "str", "required": True, "no_log": False},
                "verify_clients": {"type": "bool", "default": False},
            },
        },
        "arguments": {"type": "list", "elements": "str", "default": []},
        "drain_seconds": {"type": "int", "default": 15},
        "start_seconds": {"type": "int", "default": 600},
        "rest_timeout_seconds": {"type": "int", "default": 30},
        "overrides": {"type": "dict", "default": {}},
    },
    run=run,
    constraints={"required_if": [("state", "present", ["models", "store"])]},
)
