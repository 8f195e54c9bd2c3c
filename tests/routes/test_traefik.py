# SPDX-FileCopyrightText: The modelfleet maintainers
# SPDX-License-Identifier: GPL-3.0-or-later
"""Routes by Ingress and by the Gateway API, judged by requests through the fleet's real Traefik."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from _doors import run_module
from edge import Certificate, Edge, Json, call, eventually, rest


def made(result: Json) -> Json:
    assert not result.get("failed"), result
    return result


def host(edge: Edge, name: str) -> str:
    """A host of its own for each test and kind, since all share one edge."""
    return f"{name}-{edge.kind}.{edge.namespace}.example.org"


def served(name: str, path: str) -> tuple[int, Json]:
    return 200, {"server": name, "path": path, "received": 0}


def test_one_host_for_all_models(edge: Edge) -> None:
    name = host(edge, "all")
    for model, server in (("first", "alpha"), ("second", "beta"), ("first.one", "delta")):
        made(edge.route(model, server, hostname=name))
    for model, server in (("first", "alpha"), ("second", "beta"), ("first.one", "delta")):
        for path in (f"/v1/models/{model}", f"/v1/models/{model}/versions/2:predict", f"/v1/models/{model}:predict"):
            eventually(lambda path=path: rest(name, path), served(server, path))
    eventually(lambda: rest(name, "/v1/models/third:predict")[0], 404)
    eventually(lambda: rest("elsewhere.example.org", "/v1/models/first:predict")[0], 404)
    assert not call(name).endswith(" 1"), "gRPC was not let in"
    for model in ("first", "second", "first.one"):
        made(edge.remove(model))
    eventually(lambda: rest(name, "/v1/models/first")[0], 404)


def test_a_host_a_model_with_grpc(edge: Edge) -> None:
    hosts = {"alpha": host(edge, "a"), "beta": host(edge, "b")}
    for server, name in hosts.items():
        made(edge.route(f"model-of-{server}", server, hostname=name, grpc=True))
    for server, name in hosts.items():
        eventually(lambda name=name: call(name), f"{server} 1")
        path = f"/v1/models/model-of-{server}:predict"
        eventually(lambda name=name, path=path: rest(name, path), served(server, path))
    assert call(hosts["alpha"], b"x" * 10_000_000) == "alpha 10000000"

    refused = edge.route("intruder", "beta", hostname=hosts["alpha"], grpc=True)
    assert "already leads to the server alpha" in refused["msg"]
    assert "hostname of their own" in refused["msg"]
    assert made(edge.route("intruder", "beta", hostname=hosts["alpha"]))["changed"], "REST shows its model"
    assert made(edge.route("sister", "alpha", hostname=hosts["alpha"], grpc=True))["changed"]
    for model in ("model-of-alpha", "model-of-beta", "intruder", "sister"):
        made(edge.remove(model))


def test_tls_ends_at_the_edge(edge: Edge, tmp_path: Path) -> None:
    name = host(edge, "tls")
    certificate = Certificate.of(name)
    more: Json = {"tls": {"secret": "edge-tls"}}
    objects = [certificate.secret("edge-tls")]
    if edge.kind == "gateway":
        more = {"gateway": {"name": "tls", "section": "secure"}}
        # By TLS on the port that is published; one Traefik serves it and plain HTTP there.
        listener = {
            "name": "secure",
            "protocol": "HTTPS",
            "port": 80,
            "tls": {"certificateRefs": [{"name": "edge-tls"}]},
        }
        gateway = {"gatewayClassName": "traefik", "listeners": [listener]}
        objects.append(
            {
                "apiVersion": "gateway.networking.k8s.io/v1",
                "kind": "Gateway",
                "metadata": {"name": "tls"},
                "spec": gateway,
            }
        )
    made(edge.apply("tls", *objects))
    made(edge.route("m", hostname=name, grpc=True, **more))
    path = "/v1/models/m:predict"
    eventually(lambda: rest(name, path, trusted=certificate, folder=tmp_path), served("alpha", path))
    eventually(lambda: call(name, trusted=certificate), "alpha 1")
    assert rest(name, path)[0] == 404, "not without TLS"
    made(edge.remove("m"))
    made(edge.apply("tls"))


def test_a_large_body_passes_and_a_larger_one_is_refused(edge: Edge) -> None:
    name, path = host(edge, "size"), "/v1/models/m:predict"
    made(edge.route("m", hostname=name, max_body_size="12Mi", grpc=True))
    eventually(lambda: rest(name, path, b"x" * 10_000_000)[1].get("received"), 10_000_000)
    assert rest(name, path, b"x" * (12 * 2**20))[0] == 200
    assert rest(name, path, b"x" * (12 * 2**20 + 1))[0] == 413
    # It is for REST only. The Ingress of gRPC is another one, which may come a moment later.
    eventually(lambda: call(name, b"x" * 13 * 2**20), f"alpha {13 * 2**20}")
    made(edge.remove("m"))


def test_a_slow_answer_is_cut_off(edge: Edge) -> None:
    name, path = host(edge, "slow"), "/v1/models/m:predict"
    made(edge.route("m", hostname=name, timeout=2))
    eventually(lambda: rest(name, path), served("alpha", path))
    assert rest(name, path, b"{}", **{"X-Sleep": "1"})[0] == 200
    started = time.monotonic()
    assert rest(name, path, b"{}", **{"X-Sleep": "6"})[0] == 504
    assert 1.5 < time.monotonic() - started < 4
    made(edge.remove("m"))


def test_too_many_requests_are_refused(edge: Edge) -> None:
    name, path = host(edge, "rate"), "/v1/models/m:predict"
    made(edge.route("m", hostname=name, rate_limit={"requests_per_second": 2, "burst": 4}, grpc=True))
    eventually(lambda: rest(name, path)[0], 200)
    time.sleep(3)  # until all that may come at once may come again
    with ThreadPoolExecutor(4) as pool:
        answers = [status for status, _body in pool.map(lambda _number: rest(name, path), range(16))]
    assert set(answers) == {200, 429}
    assert 4 <= answers.count(200) <= 8
    calls = [call(name) for _number in range(16)]
    assert set(calls) == {"alpha 1", "UNAVAILABLE"}, "gRPC's word for 429"
    made(edge.remove("m"))


def test_a_server_that_has_tls_for_grpc(edge: Edge, delta: Certificate) -> None:
    name = host(edge, "backend")
    made(edge.route("m", "delta", hostname=name, grpc=True))
    eventually(lambda: rest(name, "/v1/models/m"), served("delta", "/v1/models/m"))
    assert not call(name).startswith("delta"), "without TLS, it does not answer"
    verified = {"hostname": "delta.internal", "ca": delta.certificate}
    made(edge.route("m", "delta", hostname=name, grpc=True, backend_tls=verified))
    eventually(lambda: call(name), "delta 1")
    assert rest(name, "/v1/models/m")[0] == 200
    made(edge.route("m", "delta", hostname=name, grpc=True, backend_tls={**verified, "hostname": "other.internal"}))
    eventually(lambda: call(name).startswith("delta"), False)
    made(edge.remove("m"))


def test_one_bundle_that_check_mode_foretells(edge: Edge) -> None:
    limits: Json = {"timeout": 30, "max_body_size": "1Gi", "rate_limit": {"requests_per_second": 9}}
    given: Json = {"hostname": host(edge, "bundle"), "grpc": True}
    steps: list[Json] = [limits, {**limits, "timeout": 31}, {}]
    found = []
    for more in steps:
        foretold = made(edge.route("m", check=True, **given, **more))
        done = made(edge.route("m", **given, **more))
        assert (foretold["changed"], foretold["diff"]) == (done["changed"], done["diff"])
        again = made(edge.route("m", **given, **more))
        assert not again["changed"]
        found.append({f"{row['kind']} {row['action']}" for row in done["objects"]})
    assert {"Middleware created", "ServersTransport created"} <= found[0]
    assert {"Middleware unchanged", "ServersTransport updated"} <= found[1]
    assert {"Middleware deleted", "ServersTransport deleted"} <= found[2]
    foretold, done = made(edge.remove("m", check=True)), made(edge.remove("m"))
    assert foretold["diff"] == done["diff"]
    assert not made(edge.remove("m"))["changed"]


def test_the_address_of_the_edge(edge: Edge) -> None:
    """As the controller has written it: the fleet's Traefik, with nothing in front, calls itself localhost."""
    name = host(edge, "address")
    made(edge.route("addressed", hostname=name))

    def found() -> list[Json]:
        answer = made(run_module("model_route_info", {**edge.connection, "namespace": edge.namespace}))
        return [entry for entry in answer["routes"] if entry["model"] == "addressed"]

    wanted = {"hosts": [name], "addresses": ["localhost"], "model": "addressed"}
    eventually(lambda: [{key: entry[key] for key in wanted} for entry in found()], [wanted])
    made(edge.remove("addressed"))
    eventually(found, [])
