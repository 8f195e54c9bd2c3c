# SPDX-FileCopyrightText: The modelfleet maintainers
# SPDX-License-Identifier: GPL-3.0-or-later
"""Bad input to every module: refused before any call, by a message with the thing, the cause and the next step."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import pytest
from _api_server import ApiServer
from _doors import MODULES, feature, run_module
from _models import saved_model

from ansible_collections.modelfleet.serving.plugins.module_utils._cluster.arguments import cluster_arguments

Json = dict[str, Any]

GOLDEN = {"request": {"instances": [1.0]}, "response": {"predictions": [2.5]}}
CONFIG = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "c"}}
# Arguments by which each module would go to the server.
GOOD: dict[str, Json] = {
    "serving_namespace": {"name": "serving"},
    "model_store": {
        "name": "models",
        "namespace": "serving",
        "models": [{"name": "m", "source": "{source}", "versions": [1]}],
    },
    "model_store_info": {"namespace": "serving", "name": "models"},
    "model_server": {
        "name": "server",
        "namespace": "serving",
        "store": "models",
        "wait": False,
        "models": [{"name": "m", "versions": [1]}],
    },
    "model_server_info": {"namespace": "serving", "name": "server"},
    "image_server": {"name": "forest", "namespace": "serving", "image": "forest:1", "model": "forest", "wait": False},
    "model_route": {"model": "m", "namespace": "serving", "server": "server", "hostname": "models.example.org"},
    "model_route_info": {"namespace": "serving"},
    "model_probe": {"models": [{"name": "m", "golden": [GOLDEN]}], "server": "server", "namespace": "serving"},
    "cluster_health": {
        "edge_url": "http://127.0.0.1:1",
        "models": [{"name": "m", "golden": [GOLDEN]}],
        "namespace": "serving",
    },
    "server_scale": {"name": "server", "namespace": "serving", "replicas": 4, "wait": False},
    "serving_prober": {
        "namespace": "serving",
        "models": [{"name": "m", "server": "server", "golden": [GOLDEN]}],
        "hostname": "models.example.org",
        "wait": False,
    },
    "serving_prune": {"namespace": "serving", "models": ["m"], "servers": ["server"], "drain_seconds": 0},
    "bundle": {"name": "more", "namespace": "serving", "wait": False, "objects": [CONFIG]},
}
# Where each module takes the name of something.
NAMES = [
    ("bundle", ("name",)),
    ("bundle", ("namespace",)),
    ("serving_namespace", ("name",)),
    ("model_store", ("name",)),
    ("model_store", ("namespace",)),
    ("model_store", ("models", 0, "name")),
    ("model_store_info", ("namespace",)),
    ("model_store_info", ("name",)),
    ("model_server", ("name",)),
    ("model_server", ("namespace",)),
    ("model_server", ("store",)),
    ("model_server", ("models", 0, "name")),
    ("image_server", ("name",)),
    ("image_server", ("namespace",)),
    ("image_server", ("model",)),
    ("model_server_info", ("namespace",)),
    ("model_server_info", ("name",)),
    ("model_route", ("model",)),
    ("model_route", ("namespace",)),
    ("model_route", ("server",)),
    ("model_route", ("hostname",)),
    ("model_route_info", ("namespace",)),
    ("model_probe", ("server",)),
    ("model_probe", ("namespace",)),
    ("model_probe", ("models", 0, "name")),
    ("serving_prober", ("name",)),
    ("serving_prober", ("namespace",)),
    ("serving_prober", ("hostname",)),
    ("serving_prober", ("models", 0, "name")),
    ("serving_prober", ("models", 0, "server")),
    ("serving_prober", ("cluster_domain",)),
    ("serving_prune", ("namespace",)),
    ("server_scale", ("name",)),
    ("server_scale", ("namespace",)),
    ("cluster_health", ("namespace",)),
    ("cluster_health", ("models", 0, "name")),
    ("cluster_health", ("models", 0, "host")),
    ("cluster_health", ("host_header",)),
]
HOSTILE = ["../x", "x\ny", "{{ x }}", "x;y", "x" * 64 + "/", "x" * 254, "имя", ""]


def changed(arguments: Json, path: tuple[Any, ...], value: Any) -> Json:
    result = copy.deepcopy(arguments)
    place: Any = result
    for step in path[:-1]:
        place = place[step]
    place[path[-1]] = value
    return result


@pytest.fixture
def source(tmp_path: Path) -> Path:
    return saved_model(tmp_path / "source", 1).parent


def run(module: str, arguments: Json, api: ApiServer, source: Path, **modes: bool) -> Json:
    text = json.dumps({"host": api.url, **arguments}).replace("{source}", str(source))
    return run_module(module, json.loads(text), **modes)


def refused(module: str, arguments: Json, api: ApiServer, source: Path) -> str:
    """Run a module with input that it must refuse without a call; gives its message."""
    result = run(module, arguments, api, source)
    assert result.get("failed") is True, result
    assert not result.get("changed")
    assert "exception" not in result, "a traceback is no message"
    assert api.requests == []
    return str(result["msg"])


@pytest.mark.parametrize("module", MODULES)
def test_good_input_reaches_the_server(module: str, api: ApiServer, source: Path) -> None:
    """Without this, the tests below could pass for a wrong reason."""
    run(module, GOOD[module], api, source, check=True)
    assert api.requests
    assert not api.writes()


@pytest.mark.parametrize(("module", "path"), NAMES)
@pytest.mark.parametrize("value", HOSTILE, ids=ascii)
def test_hostile_names(module: str, path: tuple[Any, ...], value: str, api: ApiServer, source: Path) -> None:
    if (path[-1], value) == ("hostname", ""):
        return  # no host: the same as leaving it out
    message = refused(module, changed(GOOD[module], path, value), api, source)
    assert repr(value) in message
    assert "is no valid name. Use " in message
    assert ".".join(part for part in path if isinstance(part, str)) in message
    assert "\n" not in message


@pytest.mark.parametrize(("module", "path"), NAMES)
def test_a_null_name_is_refused_or_left_out(module: str, path: tuple[Any, ...], api: ApiServer, source: Path) -> None:
    """A variable that is null by mistake must not become something else, or a traceback."""
    if path[-1] in ("host", "hostname", "host_header") or (module, path) in [
        ("model_store_info", ("name",)),
        ("model_server_info", ("name",)),
    ]:
        return  # optional
    message = refused(module, changed(GOOD[module], path, None), api, source)
    assert str(path[-1]) in message or "null" in message


def model(**more: Any) -> Json:
    return {"models": [{"name": "m", "versions": [1], **more}]}


TWICE = [{"name": "m", "versions": [1]}, {"name": "m", "versions": [2]}]
CASES: list[tuple[str, Json, str]] = [
    *((module, {"models": []}, "models is empty. Name one model") for module in MODULES if "models" in GOOD[module]),
    *((module, {"models": None}, "models") for module in MODULES if "models" in GOOD[module]),
    ("model_server", {"models": TWICE}, "models: 'm' stands there more than once. Name each one once."),
    ("model_server", model(versions=[]), "models: m has no version to serve. List one or more in versions, or set"),
    ("model_server", model(versions=[1, 1]), "models: m: versions: '1' stands there more than once."),
    ("model_server", model(versions=[0]), "models: m: 0 is no model version. Use a whole number from 1."),
    ("model_server", model(versions=["one"]), "versions"),
    (
        "model_server",
        model(labels={"stable": 9}),
        "the label 'stable' is for version 9, which is not served. Use one of 1.",
    ),
    ("model_server", model(labels={"a b": 1}), "models: m: labels: 'a b' is no valid name."),
    ("model_server", {"replicas": 0}, "replicas: 0 is too few. Use 1 or more, or state: absent."),
    ("model_server", {"overrides": {"Job": {}}}, "overrides: there is no Job to override. Use one of "),
    ("model_server", {"overrides": {"Service": {"metadata": {"namespace": "x"}}}}, "identity of the Service can't be"),
    ("image_server", {"replicas": 0}, "replicas: 0 is too few. Use 1 or more, or state: absent."),
    *(("image_server", {"image": image}, f"image: {image!r} is no image. Name it") for image in (None, "")),
    ("image_server", {"env": {"A-B": "x"}}, "env: 'A-B' is no name of a variable."),
    ("image_server", {"env": {"PORT": "80"}}, "env: PORT is set by this module. Leave it out."),
    ("image_server", {"env": {"THREADS": 4}}, "env: the value of THREADS, 4, is no text. Put it in quotes."),
    ("image_server", {"autoscaling": {"max_replicas": 4, "cpu": 70}}, "Set resources.requests.cpu."),
    ("image_server", {"overrides": {"ConfigMap": {}}}, "overrides: there is no ConfigMap to override. Use one of "),
    ("model_server", {"state": "gone"}, "value of state must be one of: present, absent, got: gone"),
    ("model_server", {"replica": 1}, "replica. Supported parameters include"),
    ("model_store", {"models": [{**TWICE[0], "source": "{source}"}] * 2}, "models: 'm' stands there more than once."),
    ("model_store", model(source="{source}", versions=[]), "models: m has no version to copy. List one or more"),
    ("model_store", model(source="{source}", versions=[1, 1]), "models: m: versions: '1' stands there more than once."),
    ("model_store", model(source="{source}", versions=[-1]), "models: m: -1 is no model version."),
    ("model_store", model(source="{source}", versions=[3]), "m version 3: there is no folder"),
    ("model_store", model(source="/nowhere"), "m version 1: there is no folder /nowhere/1. source is the folder that"),
    ("model_store", model(source="{source}", digests={1: "sha256:" + "0" * 64}), f"not sha256:{'0' * 64}. Nothing was"),
    ("model_store", model(source="{source}", digests={1: "md5:0"}), "'md5:0' is no digest. Use sha256: and 64"),
    ("model_store", model(source="{source}", digests={2: "sha256:0"}), "digests names version 2, which is not to be"),
    ("model_probe", {"models": [{"name": "m", "golden": []}]}, "models: m has no golden request. Give at least one."),
    ("model_probe", {"models": [{"name": "m", "golden": [GOLDEN]}] * 2}, "models: 'm' stands there more than once."),
    ("model_probe", {"models": [{"name": "m", "golden": [{"request": {}}]}]}, "missing required arguments: response"),
    ("model_probe", {"url": "http://127.0.0.1:1"}, "mutually exclusive: url|server"),
    ("model_probe", {"server": None}, "server"),
    ("model_probe", {"timeout": 0}, "timeout: 0 is no time. Give seconds"),
    ("cluster_health", {"models": [{"name": "m", "golden": []}]}, "models: m has no golden request. Give at least"),
    ("server_scale", {"replicas": 0}, "replicas: 0 is too few. Use 1 or more"),
    ("server_scale", {"replicas": None}, "replicas: None is too few. Use 1 or more"),
    ("cluster_health", {"edge_url": "edge"}, "edge_url: 'edge' is no usable URL. Use the form"),
    ("cluster_health", {"servers": ["../a"]}, "servers: '../a' is no valid name."),
    ("cluster_health", {"servers": ["a", "a"]}, "servers: 'a' stands there more than once. Name each one once."),
    ("cluster_health", {"timeout": 0}, "timeout: 0 is no time. Give seconds"),
    ("cluster_health", {"deadline": -1}, "deadline: -1 is no time. Give seconds"),
    ("cluster_health", {"request_timeout": -1}, "request_timeout: -1 is no time. Give seconds"),
    ("model_route", {"kind": "gateway"}, "kind is gateway but all of the following are missing: gateway"),
    ("model_route", {"kind": "gateway", "gateway": {"name": "a/b"}}, "gateway.name: 'a/b' is no valid name."),
    (
        "model_route",
        {"kind": "gateway", "gateway": {"name": "a", "namespace": "a.b"}},
        "gateway.namespace: 'a.b' is no",
    ),
    ("model_route", {"hostname": "*"}, "hostname: '*' is no valid name."),
    ("model_route", {"kind": "gateway", "gateway": {"name": "a", "section": "a.b"}}, "gateway.section: 'a.b' is no"),
    ("model_route", {"tls": {"secret": "A"}}, "tls.secret: 'A' is no valid name."),
    ("model_route", {"tls": {}}, "missing required arguments: secret found in tls"),
    (
        "model_route",
        {"kind": "gateway", "gateway": {"name": "a"}, "tls": {"secret": "a"}},
        "tls: with kind gateway, TLS ends at a listener of the Gateway, which has the certificate. Leave it out, and",
    ),
    ("model_route", {"timeout": 0}, "timeout: 0 is too few. Use 1 or more, or leave it out."),
    *(
        ("model_route", {"max_body_size": size}, f"max_body_size: {size!r} is no size. Use bytes, or a number with Ki")
        for size in ("", "0", "64MB", "-1", "1.5Gi", " 1", "1\n")
    ),
    (
        "model_route",
        {"rate_limit": {"requests_per_second": 0}},
        "rate_limit.requests_per_second: 0 is too few. Use 1",
    ),
    ("model_route", {"rate_limit": {"requests_per_second": 1, "burst": 0}}, "rate_limit.burst: 0 is too few."),
    ("model_route", {"rate_limit": {"burst": 1}}, "arguments: requests_per_second found in rate_limit"),
    ("model_route", {"backend_tls": {"hostname": "a", "ca": "a.pem"}}, "backend_tls.ca holds no certificate. Give the"),
    (
        "model_route",
        {"backend_tls": {"hostname": "A", "ca": "-----BEGIN CERTIFICATE-----"}},
        "backend_tls.hostname: 'A' is no valid name.",
    ),
    (
        "model_route",
        {"backend_tls": {"hostname": "a", "ca": "-----BEGIN CERTIFICATE-----"}, "grpc": False},
        "backend_tls: TF Serving speaks TLS for gRPC only, which grpc shuts out. Leave one of them out.",
    ),
    ("model_route", {"kind": "openshift", "hostname": None}, "hostname: OpenShift would make up a host for each"),
    ("model_route", {"kind": "openshift"}, "grpc: OpenShift's router takes HTTP/2 from clients by TLS only"),
    (
        "model_route",
        {"kind": "openshift", "grpc": False, "rate_limit": {"requests_per_second": 1, "burst": 1}},
        "rate_limit.burst: OpenShift's router counts the requests of ten seconds, and knows no burst. Leave it out.",
    ),
    ("bundle", {"objects": []}, "The bundle more has no objects. Use state: absent to remove"),
    ("bundle", {"src": ["x"]}, "parameters are mutually exclusive: objects|src"),
    ("bundle", {"objects": [None]}, "The bundle more has no objects."),
    ("bundle", {"objects": None}, "The bundle more has no objects."),
    ("bundle", {"objects": ["kind: ConfigMap"]}, "objects: number 1 is no manifest but str. Give mappings"),
    ("bundle", {"objects": [CONFIG, [CONFIG]]}, "objects: number 2 is no manifest but list."),
    ("bundle", {"objects": [{**CONFIG, "kind": "a/b"}]}, "objects: number 1: kind 'a/b' is not valid."),
    ("bundle", {"objects": [{"kind": "ConfigMap"}]}, "objects: number 1: apiVersion None is not valid."),
    ("bundle", {"objects": [{**CONFIG, "apiVersion": "v1/../.."}]}, "apiVersion 'v1/../..' is not valid."),
    ("bundle", {"objects": [{**CONFIG, "metadata": {"generateName": "c-"}}]}, "has no valid metadata.name: None. Name"),
    ("bundle", {"objects": [{**CONFIG, "metadata": None}]}, "the ConfigMap has no valid metadata.name: None."),
    *(
        ("bundle", {"objects": [{**CONFIG, "metadata": {"name": name}}]}, f"no valid metadata.name: {name!r}.")
        for name in ("../x", "a?b", "a%2fb", "..", "x" * 254, 7)
    ),
    (
        "bundle",
        {"objects": [{**CONFIG, "metadata": {"name": "c", "namespace": "a/b"}}]},
        "objects: number 1: metadata.namespace: 'a/b' is no valid name.",
    ),
    ("bundle", {"objects": [CONFIG, {"kind": "List", "items": [CONFIG]}]}, "ConfigMap c stands there more than once."),
    ("serving_prober", {"path": "healthz"}, "path: 'healthz' is no path."),
    ("serving_prober", {"path": "/a b"}, "path: '/a b' can't be matched in every kind of route."),
    ("serving_prober", {"path": "/x}"}, "can't be matched in every kind of route."),
    ("serving_prober", {"interval": 0}, "interval: 0 is out of range. Use 0.5 to 60 seconds"),
    ("serving_prober", {"fall": 0}, "fall: 0 is out of range"),
    ("serving_prober", {"replicas": 0}, "replicas: 0 is too few"),
    ("serving_prober", {"image": ""}, "image: '' is no image"),
    ("serving_prune", {"servers": []}, "servers is empty. Name one server or more to stay"),
    ("serving_prune", {"servers": [None]}, "servers: '' is no valid name"),
    ("serving_prune", {"models": ["../m"]}, "models: '../m' is no valid name"),
    ("serving_namespace", {"pod_security": "none"}, "value of pod_security must be one of"),
    ("serving_namespace", {"overrides": {"Namespace": {"$patch": "delete"}}}, "identity of the Namespace can't be"),
    *(
        (module, {"host": "127.0.0.1:6443"}, "host: '127.0.0.1:6443' is no usable URL. Use the form")
        for module in MODULES
    ),
    *((module, {"kubeconfig": "/nowhere"}, "kubeconfig /nowhere can't be read: No such file") for module in MODULES),
]


@pytest.mark.parametrize(("module", "more", "words"), CASES, ids=[f"{c[0]}: {ascii(c[1])[:50]}" for c in CASES])
def test_bad_values(module: str, more: Json, words: str, api: ApiServer, source: Path) -> None:
    assert words in refused(module, {**GOOD[module], **more}, api, source)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (None, "can't be read: No such file or directory. Check"),
        ("a: [1\nb: hush", ", line 2, is no valid YAML. Correct the file."),
        ("{a: 1} hush", ", line 1, is no valid YAML."),
        ("hush", "objects: number 1 is no manifest but str."),
        ("---\n---\n", "The bundle more has no objects."),
    ],
)
def test_bad_files(text: str | None, words: str, api: ApiServer, source: Path) -> None:
    file = source / "bundle.yml"
    if text is not None:
        file.write_text(text)
    message = refused("bundle", {"name": "more", "namespace": "serving", "src": [str(file)]}, api, source)
    assert words in message
    assert "hush" not in message.replace(str(file), "")


def test_a_file_is_read_as_kubectl_reads_it(api: ApiServer, source: Path) -> None:
    """A date is a text, and a number none."""
    (source / "a.yml").write_text(
        "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: a}\ndata: {day: 2026-01-02}\n---\n"
    )
    (source / "b.yml").write_text("apiVersion: v1\nkind: ConfigMap\nmetadata: {name: b}\ndata: {day: '7'}\n")
    api.put("namespaces", {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "serving"}})
    files = [str(source / name) for name in ("a.yml", "b.yml")]
    result = run("bundle", {"name": "more", "namespace": "serving", "src": files, "wait": False}, api, source)
    assert [row["action"] for row in result["objects"]] == ["created", "created"]
    found = {manifest["metadata"]["name"]: manifest.get("data") for manifest in api.find("configmaps")}
    assert (found["a"], found["b"]) == ({"day": "2026-01-02"}, {"day": "7"})


@pytest.mark.parametrize("url", ["ftp://a", "127.0.0.1:8501", "http://a:b@c", "http://a/?b", "http://a/\nb", ""])
def test_bad_urls_of_a_probe(url: str, api: ApiServer, source: Path) -> None:
    arguments = {"models": GOOD["model_probe"]["models"], "url": url}
    message = refused("model_probe", arguments, api, source)
    assert message.startswith("url: ")
    assert "is no usable URL. Use the form http://host:port" in message


@pytest.mark.parametrize("link", ["file", "folder"])
def test_links_in_a_model(link: str, api: ApiServer, source: Path) -> None:
    (source / "1" / "assets").symlink_to("/etc/passwd" if link == "file" else "/etc")
    message = refused("model_store", GOOD["model_store"], api, source)
    assert "m version 1: " in message
    assert "assets is neither a file nor a folder. Links and devices are not copied" in message


@pytest.mark.parametrize(
    "module",
    [module for module in MODULES if "absent" in feature(module).arguments.get("state", {}).get("choices", [])],
)
def test_absent_needs_no_more_than_the_name(module: str, api: ApiServer, source: Path) -> None:
    """Nothing there is not an error, and an empty list of models is not needed for it."""
    keys = {"name", "namespace", "model"} & GOOD[module].keys()
    result = run(module, {key: GOOD[module][key] for key in keys} | {"state": "absent"}, api, source)
    assert result["changed"] is False
    assert "failed" not in result
    assert not api.writes()


@pytest.mark.parametrize("module", MODULES)
def test_every_module_finds_its_cluster_in_the_same_way(module: str) -> None:
    """No option of a module may hide one of the connection."""
    arguments = feature(module).arguments
    connection = cluster_arguments()
    # A fallback is a function and its arguments: equal functions are the same ones.
    assert {name: arguments[name] for name in connection} == connection
