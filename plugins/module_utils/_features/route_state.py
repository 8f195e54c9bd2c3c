# SPDX-FileCopyrightText: The modelfleet maintainers
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a cluster says of a route: who serves it, and whether it is in force."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from ansible_collections.modelfleet.serving.plugins.module_utils._cluster.kinds import Ref
from ansible_collections.modelfleet.serving.plugins.module_utils._cluster.session import Json, Session
from ansible_collections.modelfleet.serving.plugins.module_utils._cluster.wait import Deadline, Kind, wait_until
from ansible_collections.modelfleet.serving.plugins.module_utils._errors import ApiError, WaitError
from ansible_collections.modelfleet.serving.plugins.module_utils._manifests.route_controllers import (
    ROUTER,
    Controller,
)
from ansible_collections.modelfleet.serving.plugins.module_utils._manifests.route_spec import (
    RouteSpec,
    route_name,
)

_GATEWAY = "gateway.networking.k8s.io/v1"
_IS_DEFAULT = "ingressclass.kubernetes.io/is-default-class"


def route_bundle(model: str) -> str:
    """Give the name of the bundle of a model's route."""
    return f"route-{route_name(model)}"


def find_controller(session: Session, spec: RouteSpec) -> Controller:
    """Find who serves a route, by the class of its Ingress or Gateway.

    A user who may not read classes still gets a route, by what every controller understands.
    """
    if spec.kind == "openshift":
        return ROUTER
    try:
        return _by_gateway(session, spec.gateway) if spec.kind == "gateway" else _by_class(session, spec.ingress_class)
    except ApiError as error:
        if error.status != 403:
            raise
        return Controller(unknown=f"nobody knows who serves this route: {error.message.rstrip('.')}")


def _by_class(session: Session, name: str | None) -> Controller:
    found = [
        entry
        for entry in session.find("networking.k8s.io/v1", "IngressClass")
        if entry["metadata"]["name"] == name
        or (not name and (entry["metadata"].get("annotations") or {}).get(_IS_DEFAULT) == "true")
    ]
    if len(found) == 1:
        return Controller(str(found[0].get("spec", {}).get("controller", "")))
    what = f"no IngressClass {name}" if name else "no IngressClass that is the default" if not found else "two defaults"
    return Controller(unknown=f"the cluster {session.name} has {what}, so nobody knows who serves this route")


def _by_gateway(session: Session, gateway: tuple[str, str]) -> Controller:
    namespace, name = gateway
    live = session.get(Ref(_GATEWAY, "Gateway", name, namespace))
    if live is None:
        return Controller(unknown=f"the cluster {session.name} has no Gateway {namespace}/{name}")
    class_name = live["spec"]["gatewayClassName"]
    of_class = session.get(Ref(_GATEWAY, "GatewayClass", class_name))
    if of_class is None:
        return Controller(unknown=f"the cluster {session.name} has no GatewayClass {class_name}")
    features = of_class.get("status", {}).get("supportedFeatures", [])
    # Until version 1.2 of the Gateway API, a feature was its name alone.
    names = frozenset(str(entry["name"] if isinstance(entry, dict) else entry) for entry in features)
    return Controller(of_class["spec"]["controllerName"], names)


def wait_accepted(
    session: Session,
    objects: tuple[Json, ...],
    labels: Mapping[str, str],
    deadline: Deadline,
    progress: Callable[[str], None],
) -> None:
    """Wait until each object that has a status of its own is in force.

    An Ingress has none that says whether its controller took it: only a request shows that.
    """
    refs = [ref for ref in map(Ref.of, objects) if ref.kind in _JUDGES]
    if not refs:
        return
    kinds = [Kind(*kind, labels) for kind in {(ref.api_version, ref.kind, ref.namespace): None for ref in refs}]

    def judge(found: dict[Ref, Json]) -> str:
        return next((text for ref in refs if (text := _missing(session, ref, found.get(ref)))), "")

    wait_until(session, kinds, judge, deadline, progress)


def _missing(session: Session, ref: Ref, live: Json | None) -> str:
    return f"{ref} does not exist yet" if live is None else _JUDGES[ref.kind](session, ref, live)


def _http_route(session: Session, ref: Ref, live: Json) -> str:
    """Say why an HTTPRoute is not in force; ``""`` when its Gateway has accepted this generation of it.

    :raises WaitError: when the Gateway has refused it.
    """
    parents = live.get("status", {}).get("parents", [])
    for parent in parents:
        for condition in parent["conditions"]:
            if condition.get("observedGeneration", 0) < live["metadata"]["generation"]:
                return f"the gateway has not seen the last change of {ref}"
            if condition["type"] == "Accepted" and condition["status"] == "False":
                raise WaitError(
                    f"cluster {session.name}: the gateway refused {ref}: {_words(condition)}.",
                    hint="Check the gateway's listeners, and which namespaces and routes they allow.",
                )
            # The Service may only just have been made.
            if condition["type"] == "ResolvedRefs" and condition["status"] != "True":
                return f"the gateway can't find what {ref} leads to: {_words(condition)}"
    return "" if parents else f"no gateway has answered for {ref}: check gateway.name and gateway.namespace"


def _openshift_route(session: Session, ref: Ref, live: Json) -> str:
    """Say why an OpenShift Route is not in force; ``""`` when a router has admitted it."""
    refused = ""
    for ingress in live.get("status", {}).get("ingress", []):
        for condition in ingress.get("conditions", []):
            if condition["type"] == "Admitted" and condition["status"] == "True":
                return ""
            if condition["type"] == "Admitted" and condition["status"] == "False":
                refused = _words(condition)
    if refused:
        raise WaitError(
            f"cluster {session.name}: OpenShift's router refused {ref}: {refused}.",
            hint="Check the host, which one namespace may hold, and that the router may read the Secret of tls.",
        )
    return f"no router has admitted {ref}"


def _words(condition: Json) -> str:
    return f"{condition.get('reason', '')}: {condition.get('message', '')}".strip(": ").rstrip(".")


_JUDGES: dict[str, Callable[[Session, Ref, Json], str]] = {"HTTPRoute": _http_route, "Route": _openshift_route}
