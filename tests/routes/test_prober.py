# SPDX-FileCopyrightText: The modelfleet maintainers
# SPDX-License-Identifier: GPL-3.0-or-later
"""The prober, in a real cluster and judged by requests through the fleet's real edge."""

from __future__ import annotations

from typing import Any

import urllib3
from _doors import run_module
from edge import ADDRESS, PORT, Edge, Json, eventually

# What the server alpha answers to a request of five bytes, `{"a":1}` in HAProxy's own layout being seven.
REQUEST = {"a": 1}


def golden(server: str, model: str) -> list[Json]:
    response = {"server": server, "path": f"/v1/models/{model}:predict", "received": 7}
    return [{"request": REQUEST, "response": response}]


def prober(edge: Edge, *, check: bool = False, **options: Any) -> Json:
    given = {"namespace": edge.namespace, "kind": edge.kind, "image": "haproxy:2.6", "replicas": 1, "interval": 0.5}
    return run_module("serving_prober", {**edge.connection, **given, **edge.more, **options}, check=check)


def asked(host: str, path: str) -> tuple[int, str]:
    with urllib3.HTTPConnectionPool(ADDRESS, PORT) as pool:
        answer = pool.request("GET", path, headers={"Host": host}, retries=False, timeout=5)
    return answer.status, answer.data.decode()


def test_get_is_answered_by_predictions(edge: Edge) -> None:
    host = f"prober-{edge.kind}.{edge.namespace}.example.org"
    right = {"name": "first", "server": "alpha", "golden": golden("alpha", "first")}
    # It answers, and not what it should.
    wrong = {"name": "second", "server": "beta", "golden": golden("alpha", "second")}
    plain = {"name": "third", "server": "beta"}
    options: Json = {"hostname": host, "models": [right, wrong, plain]}
    foretold = prober(edge, check=True, **options)
    assert "objects" in foretold, foretold
    made = prober(edge, **options)
    assert "objects" in made, made
    assert made["objects"] == foretold["objects"]
    assert {entry["action"] for entry in made["objects"]} == {"created"}
    assert not prober(edge, **options)["changed"]

    both = '{"first": true, "second": false, "third": true}'
    eventually(lambda: asked(host, "/healthz"), (503, both))
    assert asked(host, "/healthz/first") == (200, '{"first": true}')
    assert asked(host, "/healthz/second") == (503, '{"second": false}')
    assert asked(host, "/healthz/third") == (200, '{"third": true}')
    assert asked(host, "/healthz/fourth") == (404, both)
    assert asked(host, "/v1/models/first")[0] == 404, "nothing else is let in"

    options["models"] = [right, {**wrong, "golden": golden("beta", "second")}]
    assert prober(edge, **options)["changed"]
    # A pod that was replaced answers until the edge has noticed.
    eventually(lambda: asked(host, "/healthz"), (200, '{"first": true, "second": true}'))

    # A server that is not there.
    options["models"] = [right, {"name": "lost", "server": "nobody"}]
    prober(edge, **options)
    eventually(lambda: asked(host, "/healthz"), (503, '{"first": true, "lost": false}'))

    assert prober(edge, state="absent")["changed"]
    eventually(lambda: asked(host, "/healthz")[0], 404)
    assert not prober(edge, state="absent")["changed"]
