# SPDX-FileCopyrightText: The modelfleet maintainers
# SPDX-License-Identifier: GPL-3.0-or-later
"""One API server that fails in every way: what is retried, what is said, and what is left behind."""

from __future__ import annotations

import base64
import json
import os
import re
import socket
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import yaml
from _api_server import ApiServer
from _certificates import Certificates, make_certificates
from _doors import run_module
from cryptography.hazmat.primitives import serialization

from ansible_collections.modelfleet.serving.plugins.module_utils._cluster.apply import apply
from ansible_collections.modelfleet.serving.plugins.module_utils._cluster.arguments import secrets
from ansible_collections.modelfleet.serving.plugins.module_utils._cluster.bundle import Bundle
from ansible_collections.modelfleet.serving.plugins.module_utils._cluster.kinds import Ref
from ansible_collections.modelfleet.serving.plugins.module_utils._cluster.session import connect
from ansible_collections.modelfleet.serving.plugins.module_utils._errors import (
    ApiError,
    InputError,
    ServingError,
    UnreachableError,
)

Json = dict[str, Any]
SPACE = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "serving"}}
CONFIG = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "c", "namespace": "serving"}, "data": {}}
BUNDLE = Bundle("test", "serving", (SPACE, CONFIG))


@pytest.fixture(autouse=True)
def backoff(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Let neither urllib3 nor us sleep between attempts, but keep what would have been slept."""
    slept: list[float] = []
    module = "ansible_collections.modelfleet.serving.plugins.module_utils._cluster.session.time"
    monkeypatch.setattr(module, SimpleNamespace(sleep=slept.append, monotonic=time.monotonic))
    monkeypatch.setattr("urllib3.util.retry.time", SimpleNamespace(sleep=slept.append, time=time.time))
    return slept


def apply_to(api: ApiServer) -> set[str]:
    with connect({"host": api.url}) as session:
        return {change.action for change in apply(session, BUNDLE)}


@pytest.mark.parametrize("status", [429, 500, 502, 503, 504])
@pytest.mark.parametrize("method", ["GET", "PATCH"])
def test_what_passes_is_retried(api: ApiServer, method: str, status: int) -> None:
    api.put("namespaces", SPACE)
    api.fail(method, "configmaps/c", status, times=2)
    assert apply_to(api) == {"updated", "created"}
    assert [request.method for request in api.requests if request.path.endswith("/c")].count(method) == 3


@pytest.mark.parametrize("method", ["GET", "PATCH"])
def test_a_connection_that_breaks_is_retried(api: ApiServer, method: str) -> None:
    api.fail(method, "configmaps/c", None, times=2)
    assert apply_to(api) == {"created"}


def test_the_server_says_how_long_to_back_off(api: ApiServer, backoff: list[float]) -> None:
    api.fail("PATCH", "configmaps/c", 429, headers={"Retry-After": "7"})
    assert apply_to(api) == {"created"}
    assert backoff == [7]


def test_the_server_does_not_say_that_without_limit(api: ApiServer, backoff: list[float]) -> None:
    api.fail("PATCH", "configmaps/c", 429, headers={"Retry-After": "7200"})
    assert apply_to(api) == {"created"}
    assert backoff == [60]


def test_an_error_that_stays_is_quoted(api: ApiServer) -> None:
    api.fail("PATCH", "configmaps/c", 500, reason="InternalError", message="etcdserver: leader changed", times=99)
    words = rf"cluster {api.url}: PATCH .*/configmaps/c: etcdserver: leader changed \(500 InternalError\)"
    with pytest.raises(ApiError, match=words) as caught:
        apply_to(api)
    actions = {row["kind"]: row["action"] for row in caught.value.details["objects"]}
    assert actions == {"Namespace": "created", "ConfigMap": "failed"}


@pytest.mark.parametrize(
    ("status", "reason", "message", "hint"),
    [
        (401, "Unauthorized", "Unauthorized", "The credentials are missing, wrong or expired."),
        (403, "Forbidden", 'configmaps "c" is forbidden: exceeded quota: serving', "permission"),
        (400, "", 'admission webhook "policy" denied the request: no', ""),
        (422, "Invalid", "ConfigMap is invalid", ""),
        (500, "InternalError", "failed to create typed patch object: .data.x: field not declared in schema", ""),
    ],
)
def test_a_refusal_is_not_retried_and_given_verbatim(
    api: ApiServer, status: int, reason: str, message: str, hint: str
) -> None:
    api.put("namespaces", SPACE)
    api.fail("PATCH", "configmaps/c", status, reason=reason, message=message, times=99)
    with pytest.raises(ApiError) as caught:
        apply_to(api)
    assert message in str(caught.value)
    assert hint in caught.value.hint
    assert [request.method for request in api.requests if request.path.endswith("/c")] == ["GET", "PATCH"]


OVERTAKEN = "the object has been modified; please apply your changes to the latest version and try again"
PASSING = [(409, "Conflict", OVERTAKEN), (500, "InternalError", "etcdserver: leader changed")]


@pytest.mark.parametrize(("status", "reason", "message"), PASSING)
def test_what_may_pass_is_repeated_and_given_up_in_time(
    api: ApiServer, backoff: list[float], status: int, reason: str, message: str
) -> None:
    api.fail("PATCH", "configmaps/c", status, reason=reason, message=message, times=2)
    assert apply_to(api) == {"created"}
    first, second = backoff  # growing, with jitter
    assert 0.2 <= first <= 0.6
    assert 0.4 <= second <= 1.2
    api.remove("configmaps", "c")
    api.fail("PATCH", "configmaps/c", status, reason=reason, message=message, times=99)
    with pytest.raises(ApiError, match=message):
        apply_to(api)


@pytest.mark.parametrize(("status", "reason", "message"), PASSING)
def test_what_must_not_be_repeated_is_not(api: ApiServer, status: int, reason: str, message: str) -> None:
    api.fail("POST", "/namespaces", status, reason=reason, message=message)
    with connect({"host": api.url}) as session, pytest.raises(ApiError, match=message):
        session.request("POST", "/api/v1/namespaces", body=SPACE)
    assert len(api.requests) == 1


def test_a_deletion_that_someone_else_finished_is_fine(api: ApiServer) -> None:
    apply_to(api)
    api.fail("DELETE", "configmaps/c", 404, reason="NotFound")
    with connect({"host": api.url}) as session:
        changes = apply(session, Bundle("test", "serving", (SPACE,)))
    assert [change.action for change in changes] == ["unchanged", "deleted"]


def test_an_answer_that_is_no_status_is_quoted(api: ApiServer) -> None:
    """A proxy in between speaks its own language."""
    api.pod_answer = lambda *_: (400, b"<html>bad gateway</html>")
    with connect({"host": api.url}) as session, pytest.raises(ApiError, match=r"<html>bad gateway</html> \(400\)"):
        session.request("GET", "/api/v1/namespaces/a/pods/b/proxy/")


def closed_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def test_an_unreachable_cluster_is_not_a_failed_one() -> None:
    host = f"http://127.0.0.1:{closed_port()}"
    result = run_module("serving_namespace", {"host": host, "name": "serving"})
    assert result["unreachable"] is True
    assert "failed" not in result
    assert result["changed"] is False
    assert f"no answer from {host}" in result["msg"]
    assert "Connection refused" in result["msg"]
    assert "Check its address" in result["msg"]


def test_a_slow_cluster_is_unreachable_in_time(api: ApiServer) -> None:
    api.fail("GET", "/namespaces/serving", 200, delay=0.4, times=9)
    with (
        connect({"host": api.url, "request_timeout": 0.05}) as session,
        pytest.raises(UnreachableError, match="timed out"),
    ):
        session.get(Ref("v1", "Namespace", "serving"))


@pytest.mark.parametrize(("delay", "worth"), [(0.0, 1), (0.05, 4)])
def test_more_connections_are_for_distant_servers(api: ApiServer, delay: float, worth: int) -> None:
    api.fail("GET", "/namespaces/serving", 200, delay=delay, times=9)
    with connect({"host": api.url}) as session:
        for _unused in range(3):
            session.get(Ref("v1", "Namespace", "serving"))
        assert session.parallel_requests == worth


def test_the_token_is_sent(api: ApiServer) -> None:
    with connect({"host": api.url, "api_key": "abc"}) as session:
        session.find("v1", "Namespace")
    assert api.requests[-1].headers["authorization"] == "Bearer abc"


@pytest.fixture
def certificates(tmp_path: Path) -> Certificates:
    return make_certificates(tmp_path / "certificates")


def inline_kubeconfig(url: str, certificates: Certificates) -> Json:
    def encoded(path: Path) -> str:
        return base64.b64encode(path.read_bytes()).decode()

    user = {
        "client-certificate-data": encoded(certificates.client),
        "client-key-data": encoded(certificates.client_key),
        "token": "inline-token",
    }
    return {
        "apiVersion": "v1",
        "kind": "Config",
        "current-context": "here",
        "contexts": [{"name": "here", "context": {"cluster": "one", "user": "me"}}],
        "clusters": [
            {"name": "one", "cluster": {"server": url, "certificate-authority-data": encoded(certificates.ca)}}
        ],
        "users": [{"name": "me", "user": user}],
    }


def test_inline_certificates_are_used(tmp_path: Path, certificates: Certificates) -> None:
    with ApiServer(tmp_path, certificates.server_context()) as api:
        kubeconfig = inline_kubeconfig(api.url, certificates)
        with connect({"kubeconfig": kubeconfig}) as session:
            assert session.find("v1", "Namespace") == []
        (tmp_path / "kubeconfig").write_text(yaml.safe_dump(kubeconfig))
        with connect({"kubeconfig": str(tmp_path / "kubeconfig"), "context": "here"}) as session:
            assert session.name == "here"
            assert session.find("v1", "Namespace") == []
    assert {request.headers["authorization"] for request in api.requests} == {"Bearer inline-token"}


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        ("context", "kubeconfig has no context 'there'. It has the contexts here."),
        ("key", "its certificates or its proxy can't be used: "),
        ("no certificate", "a client key is given without its certificate"),
        ("encrypted key", "the client key is encrypted"),
        ("authority", "certificate-authority-data is no base64"),
        ("proxy", "the proxy is no URL of the form http://host:port"),
    ],
)
def test_a_session_that_can_not_begin_says_why(certificates: Certificates, spoil: str, words: str) -> None:
    kubeconfig = inline_kubeconfig("https://127.0.0.1:1", certificates)
    user = kubeconfig["users"][0]["user"]
    params: Json = {"kubeconfig": kubeconfig}
    if spoil == "context":
        params["context"] = "there"
    if spoil == "key":
        user["client-key-data"] = base64.b64encode(b"no key").decode()
    if spoil == "no certificate":
        del user["client-certificate-data"]
    if spoil == "encrypted key":
        user["client-key-data"] = base64.b64encode(encrypted(certificates.client_key)).decode()
    if spoil == "authority":
        kubeconfig["clusters"][0]["cluster"]["certificate-authority-data"] = "not base64!"
    if spoil == "proxy":
        params["proxy"] = "nonsense://me:hush@proxy"
    with pytest.raises(InputError, match=re.escape(words)) as caught:
        connect(params)
    assert caught.value.hint
    assert "hush" not in str(caught.value)


def encrypted(key: Path) -> bytes:
    private = serialization.load_pem_private_key(key.read_bytes(), None)
    return private.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.BestAvailableEncryption(b"pass")
    )


@pytest.mark.filterwarnings("ignore::urllib3.exceptions.InsecureRequestWarning")
def test_an_expired_certificate_is_named(tmp_path: Path) -> None:
    certificates = make_certificates(tmp_path / "expired", server_expired=True)
    with ApiServer(tmp_path, certificates.server_context()) as api:
        params = {
            "host": api.url,
            "ca_cert": str(certificates.ca),
            "client_cert": str(certificates.client),
            "client_key": str(certificates.client_key),
        }
        with connect(params) as session, pytest.raises(UnreachableError, match=r"certificate has expired.*certificate"):
            session.find("v1", "Namespace")
        with connect({**params, "validate_certs": False}) as session:
            assert session.find("v1", "Namespace") == []


@pytest.mark.parametrize(
    ("params", "words"),
    [
        ({"kubeconfig": "/nowhere/config"}, "kubeconfig /nowhere/config can't be read: No such file or directory."),
        ({"kubeconfig": "{here}/binary"}, "binary is no kubeconfig."),
        ({"kubeconfig": "{here}/list"}, "list is no kubeconfig."),
        ({"kubeconfig": "{here}/empty"}, "empty"),
        ({"kubeconfig": {}}, "kubeconfig has no current context."),
        ({"kubeconfig": ["a"]}, "kubeconfig takes a path, a mapping or text, not list."),
        ({"kubeconfig": "apiVersion: v1\nusers: [{user: {token: hush}}]\n"}, "users has an entry that is none."),
        ({"kubeconfig": "token: hush\n: ["}, "kubeconfig is no kubeconfig."),
        ({"kubeconfig": "hush\x00"}, "kubeconfig is no path."),
        ({"context": "there"}, "The user has no kubeconfig."),
        ({}, "Can't connect to a cluster: "),
        ({"host": "127.0.0.1:6443"}, "host: '127.0.0.1:6443' is no usable URL."),
        ({"host": "https://me:hush@server"}, "host: an address with credentials is no usable URL."),
        ({"host": "https://server", "ca_cert": "/nowhere/ca"}, "certificates or its proxy can't be used"),
        ({"host": "https://server", "request_timeout": -1.0}, "request_timeout: -1 is no time."),
    ],
)
def test_a_wrong_connection_is_explained(tmp_path: Path, params: Json, words: str) -> None:
    (tmp_path / "binary").write_bytes(b"\xff\xfe\x00")
    (tmp_path / "list").write_text("- a")
    (tmp_path / "empty").write_text("")
    if isinstance(params.get("kubeconfig"), str):
        params = {**params, "kubeconfig": params["kubeconfig"].replace("{here}", str(tmp_path))}
    with pytest.raises(InputError) as caught:
        connect(params)
    assert words in str(caught.value)
    assert caught.value.hint or "takes a path" in str(caught.value)
    assert "hush" not in str(caught.value)


@pytest.mark.parametrize("token", ["hush\nhush", "hush\N{EURO SIGN}"])
def test_a_token_that_no_header_can_carry_is_not_quoted(api: ApiServer, token: str) -> None:
    result = run_module("serving_namespace", {"host": api.url, "api_key": token, "name": "serving"})
    assert result["failed"] is True
    assert "the token has characters that no token has" in result["msg"]
    assert "hush" not in json.dumps(result)
    assert api.requests == []


def test_the_variables_of_awx_connect(api: ApiServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("K8S_AUTH_HOST", api.url)
    monkeypatch.setenv("K8S_AUTH_API_KEY", "from-awx")
    monkeypatch.setenv("K8S_AUTH_VERIFY_SSL", "false")
    result = run_module("serving_namespace", {"name": "serving"})
    assert result["changed"] is True
    assert api.requests[0].headers["authorization"] == "Bearer from-awx"
    assert "from-awx" not in json.dumps(result)
    assert result["invocation"]["module_args"]["validate_certs"] is False


def test_the_kubeconfig_of_the_user_may_be_several_files(
    api: ApiServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "one").write_text(
        yaml.safe_dump({"clusters": [{"name": "a", "cluster": {"server": api.url}}], "users": [], "contexts": []})
    )
    context = {"contexts": [{"name": "x", "context": {"cluster": "a"}}], "current-context": "x"}
    (tmp_path / "two").write_text(yaml.safe_dump({**context, "clusters": [], "users": []}))
    both = f"{tmp_path}/one{os.pathsep}{tmp_path}/two"
    monkeypatch.setenv("KUBECONFIG", both)
    with connect({}) as session:
        assert session.find("v1", "Namespace") == []


def test_what_is_secret_in_a_kubeconfig(certificates: Certificates) -> None:
    kubeconfig = inline_kubeconfig("https://server", certificates)
    kubeconfig["users"] += [
        {"name": "a", "user": {"username": "u", "password": "pw"}},
        {"name": "b", "user": {"exec": {"command": "aws", "env": [{"name": "KEY", "value": "env-secret"}]}}},
        {"name": "c", "user": {"exec": {"command": "aws", "env": None}}},
        {"name": "d", "user": {"auth-provider": {"name": "oidc", "config": {"refresh-token": "rt"}}}},
        {"name": "e", "user": None},
        None,
    ]
    key = base64.b64encode(certificates.client_key.read_bytes()).decode()
    assert secrets({"kubeconfig": kubeconfig}) == {"inline-token", key, "pw", "env-secret", "rt"}
    for harmless in (None, "~/.kube/config", {}, {"users": None}, {"users": "x"}, ["a"]):
        assert secrets({"kubeconfig": harmless}) == set()


@pytest.mark.parametrize("name", ["serving", "../bad"])
def test_no_result_shows_a_secret(tmp_path: Path, certificates: Certificates, name: str) -> None:
    with ApiServer(tmp_path, certificates.server_context()) as api:
        kubeconfig = inline_kubeconfig(api.url, certificates)
        # A given token replaces the kubeconfig's user, with its certificate.
        identity = {"client_cert": str(certificates.client), "client_key": str(certificates.client_key)}
        arguments = {"kubeconfig": kubeconfig, "api_key": "given-token", "name": name, **identity}
        shown = json.dumps(run_module("serving_namespace", arguments))
        refused = json.dumps(run_module("serving_namespace", {**arguments, "state": "nonsense"}))
    assert "Bearer given-token" in {request.headers["authorization"] for request in api.requests} or name == "../bad"
    for text in (shown, refused):
        assert "https://127.0.0.1" in text, "the rest of the kubeconfig may be seen"
        for secret in (*secrets({"kubeconfig": kubeconfig}), "given-token"):
            assert secret not in text


def test_errors_are_typed() -> None:
    assert issubclass(ApiError, ServingError)
    assert str(ServingError("What.", hint="Next.")) == "What. Next."
    assert str(ServingError("What.")) == "What."
