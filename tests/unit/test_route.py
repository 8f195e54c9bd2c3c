# SPDX-FileCopyrightText: The modelfleet maintainers
# SPDX-License-Identifier: GPL-3.0-or-later
"""A route in the words of each controller, what can't be said to it, and who is asked. Requests are in tests/routes."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest
from _api_server import ApiServer, Fault
from _cluster import Cluster
from _doors import run_module

from ansible_collections.modelfleet.serving.plugins.module_utils._cluster.apply import apply
from ansible_collections.modelfleet.serving.plugins.module_utils._cluster.bundle import Bundle
from ansible_collections.modelfleet.serving.plugins.module_utils._cluster.kinds import Resource
from ansible_collections.modelfleet.serving.plugins.module_utils._cluster.session import Session, connect
from ansible_collections.modelfleet.serving.plugins.module_utils._cluster.wait import Deadline
from ansible_collections.modelfleet.serving.plugins.module_utils._errors import ApiError, InputError, WaitError
from ansible_collections.modelfleet.serving.plugins.module_utils._features.route_state import (
    find_controller,
    wait_accepted,
)
from ansible_collections.modelfleet.serving.plugins.module_utils._manifests.route import route
from ansible_collections.modelfleet.serving.plugins.module_utils._manifests.route_controllers import (
    Controller,
    defaults,
    require_able,
)
from ansible_collections.modelfleet.serving.plugins.module_utils._manifests.route_spec import (
    BackendTls,
    RateLimit,
    RouteSpec,
)

Json = dict[str, Any]

TRAEFIK = Controller("traefik.io/ingress-controller")
TRAEFIK_GATEWAY = Controller("traefik.io/gateway-controller")
NGINX = Controller("k8s.io/ingress-nginx")
ENVOY = Controller("gateway.envoyproxy.io/gatewayclass-controller", frozenset({"HTTPRouteRequestTimeout"}))
PLAIN = RouteSpec("m", "serving", "team", "ingress", host="m.example.org")
LIMITED = replace(PLAIN, timeout=90, max_body_size=2**20, rate_limit=RateLimit(5, 12))
CA = "-----BEGIN CERTIFICATE-----\n"


@pytest.fixture
def session(api: ApiServer) -> Iterator[Session]:
    with connect({"host": api.url}) as session:
        yield session


def named(objects: tuple[Json, ...]) -> dict[str, Json]:
    return {f"{manifest['kind']} {manifest['metadata']['name']}": manifest for manifest in objects}


def annotations(manifest: Json, prefix: str) -> dict[str, str]:
    found = manifest["metadata"].get("annotations", {})
    return {key.removeprefix(f"{prefix}/"): value for key, value in found.items()}


def test_a_plain_route_needs_nothing_of_traefiks_own() -> None:
    objects = named(route(replace(PLAIN, controller=TRAEFIK)))
    assert set(objects) == {"Ingress model-m", "Ingress model-m-grpc", "Service model-m-grpc"}
    assert "annotations" not in objects["Ingress model-m"]["metadata"]


def test_traefik_by_ingress() -> None:
    objects = named(route(replace(LIMITED, controller=TRAEFIK, tls_secret="cert")))
    prefix = "traefik.ingress.kubernetes.io"
    rest, grpc = objects["Ingress model-m"], objects["Ingress model-m-grpc"]
    assert annotations(rest, prefix) == {
        "router.tls": "true",
        "router.middlewares": "team-model-m-body@kubernetescrd,team-model-m-rate@kubernetescrd",
    }
    assert annotations(grpc, prefix) == {
        "router.tls": "true",
        "router.middlewares": "team-model-m-rate@kubernetescrd",
    }
    assert rest["spec"]["tls"] == [{"secretName": "cert", "hosts": ["m.example.org"]}]
    backends = {path["backend"]["service"]["name"] for path in rest["spec"]["rules"][0]["http"]["paths"]}
    assert backends == {"model-m-rest"}
    service = objects["Service model-m-rest"]
    assert annotations(service, prefix) == {"service.serverstransport": "team-model-m@kubernetescrd"}
    timeouts = objects["ServersTransport model-m"]["spec"]["forwardingTimeouts"]
    assert timeouts == {"dialTimeout": "3s", "responseHeaderTimeout": "90s"}
    assert objects["Middleware model-m-body"]["spec"] == {"buffering": {"maxRequestBodyBytes": 2**20}}
    assert objects["Middleware model-m-rate"]["spec"] == {"rateLimit": {"average": 5, "burst": 12}}


def test_traefik_by_the_gateway_api() -> None:
    spec = replace(LIMITED, kind="gateway", gateway=("edge", "main"), section="secure", controller=TRAEFIK_GATEWAY)
    objects = named(route(spec))
    body = objects["HTTPRoute model-m"]["spec"]
    assert body["parentRefs"] == [{"namespace": "edge", "name": "main", "sectionName": "secure"}]
    rest, grpc = body["rules"]
    assert [one["extensionRef"]["name"] for one in rest["filters"]] == ["model-m-body", "model-m-rate"]
    assert [one["extensionRef"]["name"] for one in grpc["filters"]] == ["model-m-rate"]
    assert "timeouts" not in rest, "which Traefik does not heed"
    assert rest["backendRefs"] == [{"group": "traefik.io", "kind": "TraefikService", "name": "model-m"}]
    (service,) = objects["TraefikService model-m"]["spec"]["weighted"]["services"]
    assert service == {"name": "serving", "port": 8501, "serversTransport": "model-m"}
    assert {"Middleware model-m-body", "Middleware model-m-rate", "ServersTransport model-m"} <= objects.keys()


def test_another_gateway_takes_the_gateway_apis_words() -> None:
    spec = replace(PLAIN, kind="gateway", gateway=("edge", "main"), timeout=90, controller=ENVOY)
    (manifest,) = route(spec)
    assert [rule.get("timeouts") for rule in manifest["spec"]["rules"]] == [{"request": "90s"}, None]
    tls = named(route(replace(spec, backend_tls=BackendTls("serving.internal", CA))))
    policy = tls["BackendTLSPolicy model-m-grpc"]["spec"]
    assert policy["targetRefs"][0]["name"] == "model-m-grpc"
    assert policy["validation"]["hostname"] == "serving.internal"
    assert tls["ConfigMap model-m-ca"]["data"] == {"ca.crt": CA}
    assert "appProtocol" not in tls["Service model-m-grpc"]["spec"]["ports"][0]
    assert tls["HTTPRoute model-m"]["spec"]["rules"][1]["backendRefs"] == [{"name": "model-m-grpc", "port": 8500}]


def test_nginx() -> None:
    objects = named(route(replace(LIMITED, controller=NGINX, annotations={"a/b": "c"})))
    assert set(objects) == {"Ingress model-m", "Ingress model-m-grpc"}
    rest = annotations(objects["Ingress model-m"], "nginx.ingress.kubernetes.io")
    assert rest == {
        "a/b": "c",
        "proxy-body-size": str(2**20),
        "proxy-read-timeout": "90",
        "proxy-send-timeout": "90",
        "limit-rps": "5",
        "limit-burst-multiplier": "3",
    }
    grpc = annotations(objects["Ingress model-m-grpc"], "nginx.ingress.kubernetes.io")
    assert grpc == {**rest, "backend-protocol": "GRPC"}


def test_openshift() -> None:
    spec = replace(PLAIN, kind="openshift", tls_secret="cert", timeout=60, rate_limit=RateLimit(5))
    objects = named(route(spec))
    paths = {name.removeprefix("Route model-m"): manifest["spec"]["path"] for name, manifest in objects.items()}
    assert paths == {
        "": "/v1/models/m",
        "-predict": "/v1/models/m:predict",
        "-classify": "/v1/models/m:classify",
        "-regress": "/v1/models/m:regress",
        "-grpc": "/tensorflow.serving.PredictionService",
        "-grpc-status": "/tensorflow.serving.ModelService",
    }
    for manifest in objects.values():
        assert manifest["spec"]["host"] == "m.example.org"
        assert manifest["spec"]["tls"] == {"termination": "edge", "externalCertificate": {"name": "cert"}}
        assert annotations(manifest, "haproxy.router.openshift.io") == {
            "timeout": "60s",
            "rate-limit-connections": "true",
            "rate-limit-connections.rate-http": "50",
        }
    verified = named(route(replace(spec, backend_tls=BackendTls("serving.internal", CA))))
    assert verified["Route model-m"]["spec"]["tls"]["termination"] == "edge", "TF Serving has TLS for gRPC only"
    assert verified["Route model-m-grpc"]["spec"]["tls"]["termination"] == "reencrypt"
    assert verified["Route model-m-grpc"]["spec"]["tls"]["destinationCACertificate"] == CA


def test_the_users_annotation_wins() -> None:
    spec = replace(LIMITED, controller=NGINX, annotations={"nginx.ingress.kubernetes.io/proxy-body-size": "9m"})
    assert route(spec)[0]["metadata"]["annotations"]["nginx.ingress.kubernetes.io/proxy-body-size"] == "9m"


@pytest.mark.parametrize(
    ("kind", "controller", "option", "words"),
    [
        ("ingress", Controller("haproxy.org/c"), "timeout", "timeout: haproxy.org/c can't be told it for kind ingress"),
        ("ingress", Controller(unknown="nobody knows"), "rate_limit", "rate_limit: nobody knows."),
        ("ingress", NGINX, "backend_tls", "backend_tls: ingress-nginx can't"),
        ("gateway", ENVOY, "max_body_size", "max_body_size: gateway.envoyproxy.io/"),
        ("gateway", TRAEFIK_GATEWAY, "backend_tls", "GatewayClass lists BackendTLSPolicy in status.supportedFeatures"),
        ("openshift", Controller("OpenShift's router"), "max_body_size", "Who can be told: Traefik (gateway), Traefik"),
    ],
)
def test_what_a_controller_cannot_be_told(kind: str, controller: Controller, option: str, words: str) -> None:
    require_able(kind, controller, [])
    with pytest.raises(InputError) as caught:
        require_able(kind, controller, [option])
    assert words in str(caught.value)
    assert "Leave it out" in str(caught.value)


def test_what_it_can_be_told() -> None:
    require_able("ingress", TRAEFIK, ["timeout", "max_body_size", "rate_limit", "backend_tls"])
    require_able("ingress", NGINX, ["timeout", "max_body_size", "rate_limit"])
    require_able("gateway", ENVOY, ["timeout"])
    features = frozenset({"BackendTLSPolicy"})
    require_able("gateway", replace(TRAEFIK_GATEWAY, features=features), ["rate_limit", "backend_tls"])


def test_limits_that_are_too_low_for_images_are_raised_only() -> None:
    assert defaults("ingress", NGINX) == {"max_body_size": 64 * 2**20}
    assert defaults("ingress", TRAEFIK) == defaults("ingress", Controller()) == defaults("gateway", ENVOY) == {}


def ingress_class(name: str, controller: str, default: bool = False) -> Json:
    metadata: Json = {"name": name}
    if default:
        metadata["annotations"] = {"ingressclass.kubernetes.io/is-default-class": "true"}
    spec = {"controller": controller}
    return {"apiVersion": "networking.k8s.io/v1", "kind": "IngressClass", "metadata": metadata, "spec": spec}


def test_the_controller_of_an_ingress_is_that_of_its_class(session: Session, api: ApiServer) -> None:
    def found(name: str | None = None) -> Controller:
        return find_controller(session, replace(PLAIN, ingress_class=name))

    assert "no IngressClass that is the default" in found().unknown
    api.put("ingressclasses", ingress_class("traefik", "traefik.io/ingress-controller", default=True))
    api.put("ingressclasses", ingress_class("nginx", "k8s.io/ingress-nginx"))
    assert found() == TRAEFIK
    assert found("nginx") == NGINX
    assert "has no IngressClass other" in found("other").unknown
    api.put("ingressclasses", ingress_class("nginx", "k8s.io/ingress-nginx", default=True))
    assert "two defaults" in found().unknown
    api.faults.append(Fault("GET", "ingressclasses", 403, message="may not list", times=9))
    assert "may not list" in found().unknown


GATEWAY_API = "gateway.networking.k8s.io/v1"


@pytest.mark.parametrize("features", [["BackendTLSPolicy"], [{"name": "BackendTLSPolicy"}]])
def test_the_controller_of_a_gateway_is_that_of_its_class(
    session: Session, api: ApiServer, features: list[Any]
) -> None:
    session.define({(GATEWAY_API, "Gateway"): Resource("gateways", True)})
    session.define({(GATEWAY_API, "GatewayClass"): Resource("gatewayclasses", False)})
    spec = replace(PLAIN, kind="gateway", gateway=("edge", "main"))
    assert "has no Gateway edge/main" in find_controller(session, spec).unknown
    body = {"gatewayClassName": "fast"}
    metadata = {"name": "main", "namespace": "edge"}
    api.put("gateways", {"apiVersion": GATEWAY_API, "kind": "Gateway", "metadata": metadata, "spec": body})
    assert "has no GatewayClass fast" in find_controller(session, spec).unknown
    made: Json = {"apiVersion": GATEWAY_API, "kind": "GatewayClass", "metadata": {"name": "fast"}}
    made |= {"spec": {"controllerName": "example.org/c"}, "status": {"supportedFeatures": features}}
    api.put("gatewayclasses", made)
    assert find_controller(session, spec) == Controller("example.org/c", frozenset({"BackendTLSPolicy"}))


def test_no_second_server_gets_the_grpc_of_a_host(api: ApiServer) -> None:
    api.put("namespaces", {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "serving"}})

    def run(model: str, server: str, hostname: str | None, *, check: bool = False, **more: Any) -> Json:
        given = {"model": model, "namespace": "serving", "server": server, "hostname": hostname, **more}
        return run_module("model_route", {"host": api.url, **given}, check=check)

    assert run("a", "one", "m.example.org")["changed"]
    for check in (True, False):
        writes = len(api.writes())
        refused = run("b", "two", "m.example.org", check=check)
        assert refused["failed"]
        words = "gRPC for m.example.org already leads to the server one, by Ingress serving/model-a-grpc"
        assert words in refused["msg"]
        assert len(api.writes()) == writes
    assert "failed" not in run("b", "two", "m.example.org", grpc=False)
    assert "failed" not in run("b", "two", "other.example.org")
    assert "failed" not in run("c", "one", "m.example.org")
    assert "failed" not in run("a", "one", "m.example.org"), "nor is it shut out by itself"
    assert "failed" not in run("d", "two", None)
    assert "any host already leads to the server two" in run("e", "one", None)["msg"]
    assert "failed" not in run("d", "three", None), "a model may move with its gRPC"
    # All the models of a host move to another server, one after the other.
    assert "by Ingress serving/model-c-grpc" in run("a", "three", "m.example.org")["msg"]
    assert run("a", "three", "m.example.org", moving=["a", "c"])["changed"]
    assert "by Ingress serving/model-a-grpc" in run("f", "one", "m.example.org", moving=["c"])["msg"]
    assert run("c", "three", "m.example.org", moving=["a", "c"])["changed"]


def test_a_definition_that_is_missing_is_named(real: Cluster) -> None:
    """In check mode too, and before anything is written."""
    body = ingress_class(f"traefik-{real.namespace}", "traefik.io/ingress-controller")
    real.session.request("POST", "/apis/networking.k8s.io/v1/ingressclasses", body=body)
    spec = replace(PLAIN, namespace=real.namespace, ingress_class=body["metadata"]["name"])
    spec = replace(spec, controller=find_controller(real.session, spec), max_body_size=1)
    assert spec.controller == TRAEFIK
    for check in (True, False):
        with pytest.raises(ApiError, match=r"no kind Middleware in traefik\.io/v1alpha1") as caught:
            apply(real.session, Bundle("route", real.namespace, route(spec)), check=check)
        assert "Install the CRD that brings it" in str(caught.value)
    assert real.session.find("networking.k8s.io/v1", "Ingress", real.namespace) == []


def admitted(*statuses: tuple[str, str]) -> Json:
    ingress = [
        {"conditions": [{"type": "Admitted", "status": status, "reason": reason, "message": "why"}]}
        for status, reason in statuses
    ]
    metadata = {"name": "model-m", "namespace": "serving", "labels": {"a": "b"}}
    status = {"ingress": ingress}
    return {"apiVersion": "route.openshift.io/v1", "kind": "Route", "metadata": metadata, "status": status}


def test_a_route_of_openshift_is_there_when_a_router_admits_it(session: Session, api: ApiServer) -> None:
    session.define({("route.openshift.io/v1", "Route"): Resource("routes", True)})

    def wait(seconds: float) -> None:
        wait_accepted(session, (admitted(),), {"a": "b"}, Deadline.after(seconds), lambda words: None)

    with pytest.raises(WaitError, match="Route serving/model-m does not exist yet"):
        wait(0.3)
    api.put("routes", admitted())
    with pytest.raises(WaitError, match="no router has admitted Route serving/model-m"):
        wait(0.3)
    api.put("routes", admitted(("False", "HostAlreadyClaimed")))
    with pytest.raises(WaitError, match="router refused Route serving/model-m: HostAlreadyClaimed: why"):
        wait(9)
    api.put("routes", admitted(("False", "HostAlreadyClaimed"), ("True", "")))
    wait(9)
