# SPDX-FileCopyrightText: The modelfleet maintainers
# SPDX-License-Identifier: GPL-3.0-or-later
"""Who we are to an API server, held against the official client and proved by real servers, plugins and proxies."""

from __future__ import annotations

import base64
import ctypes
import datetime
import json
import os
import select
import signal
import ssl
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
import yaml
from _api_server import ApiServer
from _certificates import Certificates, make_certificates
from _doors import run_module
from _kubernetes import Kubernetes
from _proxy import Proxy
from test_session import inline_kubeconfig

from ansible_collections.modelfleet.serving.plugins.module_utils._cluster import credentials as credentials_module
from ansible_collections.modelfleet.serving.plugins.module_utils._cluster import kubeconfig as kubeconfig_module
from ansible_collections.modelfleet.serving.plugins.module_utils._cluster.arguments import secrets
from ansible_collections.modelfleet.serving.plugins.module_utils._cluster.credentials import Credentials
from ansible_collections.modelfleet.serving.plugins.module_utils._cluster.execute import execute
from ansible_collections.modelfleet.serving.plugins.module_utils._cluster.kubeconfig import read_context
from ansible_collections.modelfleet.serving.plugins.module_utils._cluster.session import connect
from ansible_collections.modelfleet.serving.plugins.module_utils._cluster.transport import read_server
from ansible_collections.modelfleet.serving.plugins.module_utils._cluster.wait import Deadline
from ansible_collections.modelfleet.serving.plugins.module_utils._errors import ApiError, InputError

Json = dict[str, Any]
SCRIPT = """\
#!{python}
import json, os, sys
info = json.loads(os.environ["KUBERNETES_EXEC_INFO"])
with open({log!r}, "a") as log:
    print(json.dumps([info, sys.argv[1:], os.environ.get("FLAVOUR"), sys.stdin.read()]), file=log)
{body}
print(json.dumps(
    {{"apiVersion": info["apiVersion"], "kind": "ExecCredential", "status": status}}
))
"""


def kubeconfig(
    server: str = "https://cluster.example:6443", cluster: Json | None = None, user: Json | None = None, **more: Any
) -> Json:
    return {
        "apiVersion": "v1",
        "kind": "Config",
        "current-context": "one",
        "contexts": [{"name": "one", "context": {"cluster": "c", "user": "u"}}],
        "clusters": [{"name": "c", "cluster": {"server": server, **(cluster or {})}}],
        "users": [{"name": "u", "user": user or {}}],
        **more,
    }


@pytest.fixture(autouse=True)
def _no_proxies(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in list(os.environ):
        if name.lower().endswith("_proxy"):
            monkeypatch.delenv(name)


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    return make_certificates(tmp_path_factory.mktemp("certificates") / "pem")


class Plugin:
    """A credential plugin that keeps what it was told.

    :param body: statements that set ``status``, and see ``info``, ``sys`` and ``os``.
    """

    def __init__(self, folder: Path, body: str, name: str = "plugin") -> None:
        self.path = folder / name
        self._log = folder / f"{name}.log"
        body = textwrap.dedent(body)
        self.path.write_text(SCRIPT.format(python=sys.executable, log=str(self._log), body=body))
        self.path.chmod(0o755)

    @property
    def runs(self) -> list[list[Any]]:
        """Give what each run saw: its information, arguments, variable FLAVOUR, and standard input."""
        return [json.loads(line) for line in self._log.read_text().splitlines()] if self._log.exists() else []

    def user(self, **more: Any) -> Json:
        """Give a kubeconfig's user of this plugin."""
        version = "client.authentication.k8s.io/v1"
        return {"exec": {"apiVersion": version, "command": str(self.path), "interactiveMode": "Never", **more}}


COUNTER = """\
import pathlib
count = len(pathlib.Path(__file__ + ".log").read_text().splitlines())
"""


# What the official client makes of the same kubeconfig.


def read_pem(pem: str | bytes | None) -> bytes | None:
    return Path(pem).read_bytes() if isinstance(pem, str) else pem


def ours(given: Any, context: str | None) -> Json:
    found = read_context(given, context)
    server, login = read_server(found, None, {}), Credentials(found).current()
    return {
        "host": server.url,
        "authorization": login.authorization,
        "authority": read_pem(server.authority),
        "certificate": read_pem(login.certificate),
        "key": read_pem(login.key),
        "verify": server.verify,
        "server name": server.name,
        "proxy": server.proxy,
    }


def theirs(given: Any, context: str | None) -> Json:
    from kubernetes import client, config
    from kubernetes.config import kube_config

    configuration = client.Configuration()
    settings = {"context": context, "client_configuration": configuration, "persist_config": False}
    if isinstance(given, dict):
        config.load_kube_config_from_dict(given, **settings)
    else:
        config.load_kube_config(given, **settings)
    try:
        return {
            "host": configuration.host,
            "authorization": configuration.auth_settings().get("BearerToken", {}).get("value"),
            "authority": read_pem(configuration.ssl_ca_cert),
            "certificate": read_pem(configuration.cert_file),
            "key": read_pem(configuration.key_file),
            "verify": configuration.verify_ssl,
            "server name": configuration.tls_server_name,
            "proxy": configuration.proxy,
        }
    finally:
        kube_config._cleanup_temp_files()


def encoded(path: Path) -> str:
    return base64.b64encode(path.read_bytes()).decode()


def _id_token() -> str:
    """Make an OpenID Connect token that is good for an hour."""
    claims = {"exp": int(time.time()) + 3600}
    parts = [base64.urlsafe_b64encode(json.dumps(part).encode()).decode().rstrip("=") for part in ({}, claims)]
    return ".".join([*parts, "c2lnbmF0dXJl"])


TABLE: dict[str, Callable[[Path, Certificates], Any]] = {
    "token": lambda *_: kubeconfig(user={"token": "abc"}),
    "no user": lambda *_: kubeconfig(contexts=[{"name": "one", "context": {"cluster": "c"}}]),
    "empty user": lambda *_: kubeconfig(),
    "token file": lambda *_: kubeconfig(user={"tokenFile": "token"}),
    "absolute token file": lambda folder, _: kubeconfig(user={"tokenFile": str(folder / "token")}),
    "password": lambda *_: kubeconfig(user={"username": "me", "password": "pass:word"}),
    "token before password": lambda *_: kubeconfig(user={"token": "abc", "username": "me", "password": "p"}),
    "certificate data": lambda _, pem: kubeconfig(
        user={"client-certificate-data": encoded(pem.client), "client-key-data": encoded(pem.client_key)}
    ),
    "certificate files": lambda _, pem: kubeconfig(
        user={"client-certificate": str(pem.client), "client-key": str(pem.client_key)}
    ),
    "relative certificate files": lambda *_: kubeconfig(
        cluster={"certificate-authority": "../other/ca.pem"},
        user={"client-certificate": "./client.pem", "client-key": "client.key"},
    ),
    "data before file": lambda _, pem: kubeconfig(
        cluster={"certificate-authority": "nowhere", "certificate-authority-data": encoded(pem.ca)}
    ),
    "certificate and token": lambda _, pem: kubeconfig(
        user={"client-certificate": str(pem.client), "client-key": str(pem.client_key), "token": "abc"}
    ),
    "authority data": lambda _, pem: kubeconfig(cluster={"certificate-authority-data": encoded(pem.ca)}),
    "not verified": lambda *_: kubeconfig(cluster={"insecure-skip-tls-verify": True}),
    "server name": lambda *_: kubeconfig(cluster={"tls-server-name": "other.example"}),
    "proxy": lambda *_: kubeconfig(cluster={"proxy-url": "http://proxy.example:3128"}),
    "path and slash": lambda *_: kubeconfig("https://gateway.example/k8s/clusters/c-1/"),
    "plain http": lambda *_: kubeconfig("http://cluster.example:8080", user={"token": "abc"}),
    "plugin's token": lambda folder, _: kubeconfig(user=Plugin(folder, "status = {'token': 'from-plugin'}").user()),
    "plugin's token, beta": lambda folder, _: kubeconfig(
        user=Plugin(folder, "status = {'token': info['apiVersion']}").user(
            apiVersion="client.authentication.k8s.io/v1beta1"
        )
    ),
    "plugin's certificate": lambda folder, pem: kubeconfig(
        user=Plugin(
            folder,
            f"""\
            status = {{
                "clientCertificateData": open({str(pem.client)!r}).read(),
                "clientKeyData": open({str(pem.client_key)!r}).read(),
            }}
            """,
        ).user()
    ),
    "plugin with arguments": lambda folder, _: kubeconfig(
        user=Plugin(folder, "status = {'token': sys.argv[2] + os.environ['FLAVOUR']}").user(
            args=["--as", "x"], env=[{"name": "FLAVOUR", "value": "sweet"}]
        )
    ),
    "plugin told of the cluster": lambda folder, pem: kubeconfig(
        cluster={
            "certificate-authority-data": encoded(pem.ca),
            "tls-server-name": "n",
            "extensions": [{"name": "client.authentication.k8s.io/exec", "extension": {"audience": "us"}}],
        },
        user=Plugin(
            folder,
            """\
            cluster = info["spec"]["cluster"]
            keys = ("server", "certificate-authority-data", "tls-server-name", "config")
            status = {"token": "".join(json.dumps(cluster[key]) for key in keys).replace(" ", "")}
            """,
        ).user(provideClusterInfo=True),
    ),
    "token before plugin": lambda folder, _: kubeconfig(
        user={"token": "abc", **Plugin(folder, "status = {'token': 'from-plugin'}").user()}
    ),
    "plugin before password": lambda folder, _: kubeconfig(
        user={"username": "me", "password": "p", **Plugin(folder, "status = {'token': 'from-plugin'}").user()}
    ),
    "OpenID Connect": lambda *_: kubeconfig(
        user={"auth-provider": {"name": "oidc", "config": {"id-token": _id_token()}}}
    ),
}


@pytest.mark.parametrize("form", ["file", "mapping", "text"])
@pytest.mark.parametrize("name", TABLE)
def test_a_kubeconfig_means_what_the_official_client_makes_of_it(
    tmp_path: Path, certificates: Certificates, monkeypatch: pytest.MonkeyPatch, name: str, form: str
) -> None:
    folder = tmp_path / "folder"
    folder.mkdir()
    (folder / "token").write_text("from-file")
    (tmp_path / "other").symlink_to(certificates.ca.parent)
    for pem in (certificates.client, certificates.client_key):
        (folder / pem.name).symlink_to(pem)
    content = TABLE[name](folder, certificates)
    path = folder / "config"
    path.write_text(yaml.safe_dump(content))
    monkeypatch.chdir(folder if form != "file" else tmp_path)
    given = {"file": str(path), "mapping": content, "text": path.read_text()}[form]
    # The official client takes no text.
    assert ours(given, None) == theirs(content if form == "text" else given, None)


def test_contexts_of_merged_files_mean_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A name that two files define is that of the first; paths are relative to the file they stand in."""
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    (tmp_path / "b" / "token").write_text("token-of-b")
    first = kubeconfig("https://a.example", user={"token": "abc"})
    second = kubeconfig("https://other.example", user={"token": "other"})
    second["clusters"].append({"name": "d", "cluster": {"server": "https://b.example"}})
    second["users"].append({"name": "v", "user": {"tokenFile": "token"}})
    second["contexts"].append({"name": "two", "context": {"cluster": "d", "user": "v"}})
    second["contexts"].append({"name": "mixed", "context": {"cluster": "c", "user": "v"}})
    del second["current-context"]
    for name, content in (("a", first), ("b", second)):
        (tmp_path / name / "config").write_text(yaml.safe_dump(content))
    joined = os.pathsep.join([f"{tmp_path}/a/config", f"{tmp_path}/missing", f"{tmp_path}/b/config"])
    for context in (None, "one", "two", "mixed"):
        assert ours(joined, context) == theirs(joined, context)
    assert ours(joined, "two")["authorization"] == "Bearer token-of-b"
    monkeypatch.setenv("KUBECONFIG", joined)
    assert ours(None, "mixed") == theirs(joined, "mixed")


def test_the_first_file_names_the_current_context(tmp_path: Path) -> None:
    """As in kubectl; the official client takes the last."""
    for name in ("one", "two"):
        content = kubeconfig(f"https://{name}.example", contexts=[{"name": name, "context": {"cluster": name}}])
        content["clusters"][0]["name"] = name
        (tmp_path / name).write_text(yaml.safe_dump({**content, "current-context": name}))
    assert ours(f"{tmp_path}/one{os.pathsep}{tmp_path}/two", None)["host"] == "https://one.example"


def test_paths_are_expanded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "config").write_text(yaml.safe_dump(kubeconfig(user={"token": "abc"})))
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("WHERE", str(tmp_path))
    for path in ("~/config", "$WHERE/config", "${WHERE}/config"):
        assert ours(path, None)["authorization"] == "Bearer abc"
    (tmp_path / ".kube").mkdir()
    (tmp_path / "config").rename(tmp_path / ".kube/config")
    monkeypatch.delenv("KUBECONFIG")
    assert ours(None, None)["authorization"] == "Bearer abc"


def test_a_token_file_wins_as_in_kubectl(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where it can't be read, the token beside it is used. The official client never reads it then."""
    (tmp_path / "token").write_text("from-file\n")
    monkeypatch.chdir(tmp_path)
    assert ours(kubeconfig(user={"token": "abc", "tokenFile": "token"}), None)["authorization"] == "Bearer from-file"
    assert ours(kubeconfig(user={"token": "abc", "tokenFile": "nowhere"}), None)["authorization"] == "Bearer abc"


@pytest.mark.parametrize(
    ("content", "context", "words"),
    [
        (kubeconfig(), "three", "has no context 'three'. It has the contexts one."),
        (kubeconfig(contexts=None), "three", "has no context 'three'. It has no contexts."),
        ({"contexts": kubeconfig()["contexts"]}, None, "has no current context. Name one in context. It has the"),
        (kubeconfig(clusters=[]), None, "context one has no cluster 'c'."),
        (kubeconfig(users=[]), None, "context one has no user 'u'."),
        (kubeconfig(users="hush"), None, "is no kubeconfig: users is no list."),
        (kubeconfig(users=[{"name": "u", "user": "hush"}]), None, "users has an entry that is none."),
        (kubeconfig(user={"token": ["hush"]}), None, "context one: token is no text."),
        (kubeconfig(user={"token": "hush\nhush"}), None, "the token has characters that no token has."),
        (kubeconfig(user={"tokenFile": "/nowhere/token"}), None, "the token file /nowhere/token can't be read: No"),
        (kubeconfig(user={"tokenFile": "/dev/null"}), None, "the token file /dev/null can't be read: it is empty."),
        (kubeconfig(user={"client-key-data": "hush!"}), None, "client-key-data is no base64."),
        (kubeconfig(user={"exec": ["hush"]}), None, "context one: the user's exec names no command."),
        (kubeconfig(user={"exec": {"command": "true", "env": ["hush"]}}), None, "has a cluster or a user that is none"),
        (kubeconfig(user={"as-groups": ["hush"]}), None, "needs a user to impersonate."),
        (kubeconfig(user={"as": "me", "as-groups": "hush"}), None, "what Impersonate-Group says is no list."),
        (kubeconfig(user={"as": "hush\r\nX: y"}), None, "what Impersonate-User says can't be sent."),
        (
            kubeconfig(user={"auth-provider": {"name": "azure"}}),
            None,
            "auth-provider 'azure' is not known. Use an",
        ),
        (kubeconfig(user={"auth-provider": {"name": "oidc", "config": {}}}), None, "the auth-provider oidc gives no"),
        (kubeconfig("cluster.example:6443"), None, "context one: server: 'cluster.example:6443' is no usable URL."),
        (kubeconfig(cluster={"proxy-url": "ftp://me:hush@p"}), None, "the proxy is no URL of the form"),
    ],
)
def test_what_is_wrong_is_named_and_not_quoted(tmp_path: Path, content: Json, context: str | None, words: str) -> None:
    path = tmp_path / "config"
    path.write_text(yaml.safe_dump(content))
    with pytest.raises(InputError) as caught:
        connect({"kubeconfig": str(path), "context": context})
    assert words in str(caught.value)
    assert str(caught.value).startswith(f"kubeconfig {path}")
    assert caught.value.hint
    assert "hush" not in str(caught.value)


# Plugins.


def whoami(api: ApiServer) -> str | None:
    return api.requests[-1].headers.get("authorization")


def test_a_plugin_is_told_what_the_protocol_says(
    api: ApiServer, tmp_path: Path, certificates: Certificates, monkeypatch: pytest.MonkeyPatch
) -> None:
    plugin = Plugin(tmp_path, "status = {'token': 'from-plugin'}")
    user = plugin.user(
        command="./plugin", args=["get", "token"], env=[{"name": "FLAVOUR", "value": "sweet"}], provideClusterInfo=True
    )
    cluster = {
        "certificate-authority": str(certificates.ca),
        "extensions": [{"name": "client.authentication.k8s.io/exec", "extension": {"audience": "us"}}],
    }
    (tmp_path / "config").write_text(yaml.safe_dump(kubeconfig(api.url, cluster, user)))
    monkeypatch.chdir("/")  # the command is relative to the kubeconfig
    with connect({"kubeconfig": str(tmp_path / "config")}) as session:
        session.find("v1", "Namespace")
        session.find("v1", "Namespace")
    assert whoami(api) == "Bearer from-plugin"
    info = {
        "apiVersion": "client.authentication.k8s.io/v1",
        "kind": "ExecCredential",
        "spec": {
            "interactive": False,
            "cluster": {
                "server": api.url,
                "certificate-authority-data": encoded(certificates.ca),
                "config": {"audience": "us"},
            },
        },
    }
    assert plugin.runs == [[info, ["get", "token"], "sweet", ""]]


def test_a_plugin_is_found_on_the_path(api: ApiServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plugin = Plugin(tmp_path, "status = {'token': 'from-path'}", "fleet-login")
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    with connect({"kubeconfig": kubeconfig(api.url, user=plugin.user(command="fleet-login"))}) as session:
        session.find("v1", "Namespace")
    assert whoami(api) == "Bearer from-path"


@pytest.mark.parametrize(
    ("body", "more", "words"),
    [
        ("print('out-hush'); sys.exit('not logged in')", {}, "plugin failed with code 1: not logged in."),
        ("print('out-hush'); sys.exit(3)", {}, "plugin failed with code 3: no message."),
        ("print('out-hush'); status = {}", {}, "plugin gives no ExecCredential with a status."),
        ("status = {}", {}, "plugin gives neither a token nor a certificate with its key."),
        ("status = {'clientCertificateData': 'hush'}", {}, "gives neither a token nor a certificate with its key."),
        ("status = 'hush'", {}, "plugin gives no ExecCredential with a status."),
        ("info['apiVersion'] = 'v9'; status = {'token': 'hush'}", {}, "plugin answers in v9, not in client.auth"),
        ("status = {'token': 'hush', 'expirationTimestamp': 'soon'}", {}, "context one: Invalid isoformat string: "),
        ("", {"command": "/nowhere/plugin"}, "the plugin /nowhere/plugin can't be run: No such file or directory."),
        ("", {"command": "no-such", "installHint": "Ask us.\n"}, "can't be run: No such file or directory. Ask us."),
        ("", {"interactiveMode": "Always"}, "plugin asks on a terminal, and there is none."),
        ("import time; time.sleep(60)", {}, "plugin took over 0.5 s."),
    ],
)
def test_a_plugin_that_fails_is_quoted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, body: str, more: Json, words: str
) -> None:
    if "sleep" in body:
        monkeypatch.setattr(credentials_module, "PLUGIN_SECONDS", 0.5)
    began = time.monotonic()
    with pytest.raises(InputError) as caught:
        connect({"kubeconfig": kubeconfig(user=Plugin(tmp_path, body).user(**more))})
    assert words in str(caught.value)
    assert caught.value.hint
    assert "hush" not in str(caught.value)
    assert time.monotonic() - began < 30


def test_what_a_plugin_started_ends_with_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Else a child that holds its standard output open would hold the task."""
    monkeypatch.setattr(credentials_module, "PLUGIN_SECONDS", 3)
    body = f"""\
    import subprocess
    child = subprocess.Popen(["sleep", "60"])
    open({str(tmp_path / "child")!r}, "w").write(str(child.pid))
    child.wait()
    """
    with pytest.raises(InputError, match="took over 3 s"):
        connect({"kubeconfig": kubeconfig(user=Plugin(tmp_path, body).user())})
    state = Path(f"/proc/{(tmp_path / 'child').read_text()}/stat")
    end = time.monotonic() + 5
    while state.exists() and state.read_text().rpartition(")")[2].split()[0] != "Z":
        assert time.monotonic() < end
        time.sleep(0.01)


# Renewal.


def in_seconds(seconds: float) -> str:
    return (datetime.datetime.now(datetime.UTC) + datetime.timedelta(seconds=seconds)).isoformat()


@pytest.mark.parametrize(
    ("expires", "after", "renewed"),
    [
        (3600, 3500, False),
        (3600, 3545, True),  # a minute before
        (30, 14, False),
        (30, 16, True),  # half of what there was
        (-5, 9, False),
        (-5, 11, True),  # a clock is wrong: not with each request
        (None, 1e6, False),
    ],
)
def test_what_expires_is_renewed_before(
    api: ApiServer,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    expires: float | None,
    after: float,
    renewed: bool,
) -> None:
    expiry = f", 'expirationTimestamp': {in_seconds(expires)!r}" if expires is not None else ""
    plugin = Plugin(tmp_path, COUNTER + f"status = {{'token': f'token-{{count}}'{expiry}}}")
    with connect({"kubeconfig": kubeconfig(api.url, user=plugin.user())}) as session:
        session.find("v1", "Namespace")
        assert whoami(api) == "Bearer token-1"
        now = time.monotonic()
        monkeypatch.setattr("time.monotonic", lambda: now + after)
        session.find("v1", "Namespace")
    assert whoami(api) == ("Bearer token-2" if renewed else "Bearer token-1")


def test_a_refused_login_is_renewed_once_and_the_request_repeated(api: ApiServer, tmp_path: Path) -> None:
    plugin = Plugin(tmp_path, COUNTER + "status = {'token': f'token-{count}'}")
    with connect({"kubeconfig": kubeconfig(api.url, user=plugin.user())}) as session:
        api.fail("POST", "namespaces", 401)
        body = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "a"}}
        assert session.request("POST", "/api/v1/namespaces", body=body)["metadata"]["name"] == "a"
        assert [request.headers["authorization"] for request in api.requests] == ["Bearer token-1", "Bearer token-2"]
        api.fail("GET", "namespaces", 401, times=2)
        with pytest.raises(ApiError, match="401"):
            session.find("v1", "Namespace")
    assert len(plugin.runs) == 3


def test_a_login_that_does_not_change_is_not_tried_twice(api: ApiServer, tmp_path: Path) -> None:
    token = tmp_path / "token"
    token.write_text("one")
    for user in ({"token": "abc"}, {"tokenFile": str(token)}, {}):
        api.requests.clear()
        api.fail("GET", "namespaces", 401)
        with (
            connect({"kubeconfig": kubeconfig(api.url, user=user)}) as session,
            pytest.raises(ApiError, match="credentials are missing, wrong or expired"),
        ):
            session.find("v1", "Namespace")
        assert len(api.requests) == 1


def test_threads_renew_together(api: ApiServer, tmp_path: Path) -> None:
    plugin = Plugin(tmp_path, COUNTER + "status = {'token': f'token-{count}'}")
    credentials = Credentials(read_context(kubeconfig(api.url, user=plugin.user()), None))
    refused, answers = credentials.current(), []
    threads = [threading.Thread(target=lambda: answers.append(credentials.renew(refused))) for _unused in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert answers == [True] * 4
    assert len(plugin.runs) == 2


def test_a_token_file_is_read_again(api: ApiServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    token = tmp_path / "token"
    token.write_text("one\n")
    with connect({"kubeconfig": kubeconfig(api.url, user={"tokenFile": str(token)})}) as session:
        token.write_text("two\n")
        session.find("v1", "Namespace")
        assert whoami(api) == "Bearer one"
        api.fail("GET", "namespaces", 401)
        session.find("v1", "Namespace")
        assert whoami(api) == "Bearer two", "after it was refused"
        token.write_text("three\n")
        now = time.monotonic()
        monkeypatch.setattr("time.monotonic", lambda: now + 61)
        session.find("v1", "Namespace")
        assert whoami(api) == "Bearer three", "after a minute"


def test_a_plugin_renews_its_certificate(tmp_path: Path, certificates: Certificates) -> None:
    """Connections that began with the old one are not used again."""
    other = certificates.server  # of the same authority
    body = COUNTER + textwrap.dedent(
        f"""\
        pem = [None, {str(certificates.client)!r}, {str(other)!r}][count]
        status = {{
            "clientCertificateData": open(pem).read(),
            "clientKeyData": open(pem.replace(".pem", ".key")).read(),
        }}
        """
    )
    with ApiServer(tmp_path, certificates.server_context()) as api:
        cluster = {"certificate-authority": str(certificates.ca)}
        params = {"kubeconfig": kubeconfig(api.url, cluster, Plugin(tmp_path, body).user())}
        with connect(params) as session:
            session.find("v1", "Namespace")
            api.fail("GET", "namespaces", 401)
            session.find("v1", "Namespace")
    first, refused, repeated = (request.certificate for request in api.requests)
    assert first == refused == ssl.PEM_cert_to_DER_cert(certificates.client.read_text())
    assert repeated == ssl.PEM_cert_to_DER_cert(other.read_text().partition("-----BEGIN PRIVATE")[0])


def test_the_service_account_of_the_pod(
    tmp_path: Path, certificates: Certificates, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(kubeconfig_module, "SERVICE_ACCOUNT", tmp_path)
    (tmp_path / "token").write_text("one")
    (tmp_path / "ca.crt").symlink_to(certificates.ca)
    context = certificates.server_context()
    context.verify_mode = ssl.CERT_NONE
    with ApiServer(tmp_path, context) as api:
        monkeypatch.setenv("KUBERNETES_SERVICE_HOST", "127.0.0.1")
        monkeypatch.setenv("KUBERNETES_SERVICE_PORT", str(urlsplit(api.url).port))
        with connect({}) as session:
            session.find("v1", "Namespace")
            (tmp_path / "token").write_text("two")
            api.fail("GET", "namespaces", 401)
            session.find("v1", "Namespace")
    assert [request.headers["authorization"] for request in api.requests] == ["Bearer one", "Bearer one", "Bearer two"]
    monkeypatch.setenv("KUBERNETES_SERVICE_HOST", "fd00::1")
    with connect({}) as session:
        assert session.server.url == f"https://[fd00::1]:{urlsplit(api.url).port}"


# Parameters.


def test_parameters_win(api: ApiServer, tmp_path: Path) -> None:
    """A given identity replaces the kubeconfig's user, whose plugin is not even run."""
    plugin = Plugin(tmp_path, "status = {'token': 'from-plugin'}")
    given = {"kubeconfig": kubeconfig("https://nowhere.example", user=plugin.user()), "host": api.url}
    for params, authorization in (
        ({"api_key": "given"}, "Bearer given"),
        ({"username": "me", "password": "pä:ss"}, f"Basic {base64.b64encode('me:pä:ss'.encode()).decode()}"),
    ):
        with connect({**given, **params}) as session:
            session.find("v1", "Namespace")
        assert whoami(api) == authorization
    assert plugin.runs == []


def test_a_given_authority_is_asked_although_the_kubeconfig_asks_none(
    tmp_path: Path, certificates: Certificates
) -> None:
    other = make_certificates(tmp_path / "other")
    given = {"kubeconfig": kubeconfig(cluster={"insecure-skip-tls-verify": True}), "ca_cert": str(other.ca)}
    with connect(given) as session:
        assert session.server.verify
        assert session.server.authority == str(other.ca)
    with connect({**given, "validate_certs": False}) as session:
        assert not session.server.verify


def test_another_is_impersonated(api: ApiServer) -> None:
    user = {
        "token": "abc",
        "as": "jané",
        "as-uid": "7",
        "as-groups": ["a", "b"],
        "as-user-extra": {"Example.org/Reason": ["x", "y"]},
    }
    given = {"kubeconfig": kubeconfig(api.url, user=user)}
    for params, expected in (
        (
            {},
            {
                "impersonate-user": ["jané"],
                "impersonate-uid": ["7"],
                "impersonate-group": ["a", "b"],
                "impersonate-extra-example.org%2freason": ["x", "y"],
            },
        ),
        ({"impersonate_user": "joe"}, {"impersonate-user": ["joe"]}),
        (
            {"impersonate_user": "joe", "impersonate_groups": ["c", "d"]},
            {"impersonate-user": ["joe"], "impersonate-group": ["c", "d"]},
        ),
        ({"api_key": "def"}, {}),
    ):
        with connect({**given, **params}) as session:
            session.find("v1", "Namespace")
            assert api.requests[-1].impersonation == expected
            execute(session, "serving", "pod", "main", ["true"], deadline=Deadline.after(10))
            assert api.requests[-1].impersonation == expected, "commands run as the same user"


def test_the_variables_of_the_environment(
    tmp_path: Path, certificates: Certificates, monkeypatch: pytest.MonkeyPatch
) -> None:
    context = certificates.server_context()
    context.verify_mode = ssl.CERT_NONE
    with ApiServer(tmp_path, context) as api, Proxy(urlsplit(api.url).port or 0) as proxy:
        for name, value in {
            "HOST": "https://cluster.example",
            "USERNAME": "me",
            "PASSWORD": "hush-password",
            "SSL_CA_CERT": str(certificates.ca),
            "TLS_SERVER_NAME": "127.0.0.1",
            "IMPERSONATE_USER": "joe",
            "IMPERSONATE_GROUPS": "a,b",
            "PROXY": f"http://user:hush-in-url@{proxy.address}",
            "PROXY_HEADERS_PROXY_BASIC_AUTH": "user:hush-proxy",
            "PROXY_HEADERS_USER_AGENT": "fleet/1.0",
            "NO_PROXY": "other.example",
        }.items():
            monkeypatch.setenv(f"K8S_AUTH_{name}", value)
        result = run_module("serving_namespace", {"name": "serving"})
        assert result["changed"] is True
        refused = run_module("serving_namespace", {"name": "serving", "state": "nonsense"})
    assert refused["failed"] is True
    assert whoami(api) == f"Basic {base64.b64encode(b'me:hush-password').decode()}"
    assert api.requests[-1].impersonation == {"impersonate-user": ["joe"], "impersonate-group": ["a", "b"]}
    tunnel = proxy.tunnels[0]
    assert tunnel.destination == "cluster.example:443"
    assert tunnel.headers["proxy-authorization"] == f"Basic {base64.b64encode(b'user:hush-proxy').decode()}"
    assert tunnel.headers["user-agent"] == "fleet/1.0"
    for shown in (result, refused):
        assert "hush" not in json.dumps(shown)
        assert shown["invocation"]["module_args"]["proxy_headers"]["user_agent"] == "fleet/1.0"


@pytest.mark.parametrize("door", ["argument", "environment"])
def test_the_text_of_a_kubeconfig_is_a_secret(
    tmp_path: Path, certificates: Certificates, monkeypatch: pytest.MonkeyPatch, door: str
) -> None:
    with ApiServer(tmp_path, certificates.server_context()) as api:
        content = inline_kubeconfig(api.url, certificates)
        text = yaml.safe_dump(content)
        arguments: Json = {"name": "serving"}
        if door == "argument":
            arguments["kubeconfig"] = text
        else:
            monkeypatch.setenv("K8S_AUTH_KUBECONFIG", text)
        shown = run_module("serving_namespace", arguments)
        refused = run_module("serving_namespace", {**arguments, "state": "nonsense"})
    assert shown["changed"] is True
    assert refused["failed"] is True
    for result in (shown, refused):
        for secret in ("inline-token", content["users"][0]["user"]["client-key-data"], "current-context"):
            assert secret not in json.dumps(result)
    found = secrets(arguments)
    assert {text, "inline-token", content["users"][0]["user"]["client-key-data"]} <= found


def test_passwords_of_proxies_are_secrets() -> None:
    content = kubeconfig(cluster={"proxy-url": "http://me:one@proxy"})
    assert secrets({"kubeconfig": content, "proxy": "socks5://me:tw%20o@proxy:1080"}) == {"one", "tw%20o"}
    assert secrets({"proxy": "http://me@proxy"}) == secrets({"proxy": "http://proxy"}) == set()
    assert secrets({"kubeconfig": "hush: ["}) == set(), "a path, if a strange one"
    assert secrets({"kubeconfig": "hush: [\n"}) == {"hush: [\n"}


# The way there.


@pytest.fixture
def behind_proxy(tmp_path: Path, certificates: Certificates) -> Iterator[tuple[ApiServer, Proxy, Json]]:
    """An API server that is known to the proxy alone, by the name cluster.example."""
    with ApiServer(tmp_path, certificates.server_context()) as api, Proxy(urlsplit(api.url).port or 0) as proxy:
        content = inline_kubeconfig("https://cluster.example:6443", certificates)
        content["clusters"][0]["cluster"]["tls-server-name"] = "127.0.0.1"
        yield api, proxy, content


@pytest.mark.parametrize("door", ["option", "kubeconfig", "HTTPS_PROXY", "https_proxy", "ALL_PROXY", "no scheme"])
def test_a_proxy_is_used(
    behind_proxy: tuple[ApiServer, Proxy, Json], monkeypatch: pytest.MonkeyPatch, door: str
) -> None:
    _url, proxy, content = behind_proxy
    params: Json = {"kubeconfig": content}
    url = f"http://me:p%40ss@{proxy.address}"
    if door == "option":
        params["proxy"] = url
    elif door == "kubeconfig":
        content["clusters"][0]["cluster"]["proxy-url"] = url
        monkeypatch.setenv("HTTPS_PROXY", "http://127.0.0.1:1")
        monkeypatch.setenv("NO_PROXY", "*")  # of kubectl's, it concerns the environment's proxies alone
    elif door == "no scheme":
        monkeypatch.setenv("HTTPS_PROXY", url.removeprefix("http://"))
    else:
        monkeypatch.setenv(door, url)
    with connect(params) as session:
        assert session.find("v1", "Namespace") == []
        session.find("v1", "Namespace")
        output = execute(session, "serving", "pod", "main", ["cat"], deadline=Deadline.after(10), stdin=[b"through"])
    assert output == b"through"
    assert [tunnel.destination for tunnel in proxy.tunnels] == ["cluster.example:6443"] * 2, "one for the command"
    for tunnel in proxy.tunnels:
        assert tunnel.headers["proxy-authorization"] == f"Basic {base64.b64encode(b'me:p@ss').decode()}"
    assert "me:" not in str(session.server)


@pytest.mark.parametrize("scheme", ["socks5", "socks5h"])
def test_a_socks_proxy_resolves_names(behind_proxy: tuple[ApiServer, Proxy, Json], scheme: str) -> None:
    _url, proxy, content = behind_proxy
    with connect({"kubeconfig": content, "proxy": f"{scheme}://me:p%40ss@{proxy.address}"}) as session:
        assert session.find("v1", "Namespace") == []
        output = execute(session, "serving", "pod", "main", ["cat"], deadline=Deadline.after(10), stdin=[b"through"])
    assert output == b"through"
    assert [(tunnel.destination, tunnel.user) for tunnel in proxy.tunnels] == [("cluster.example:6443", "me:p@ss")] * 2


def test_a_plain_server_is_reached_through_a_tunnel_for_commands(api: ApiServer) -> None:
    with (
        Proxy(urlsplit(api.url).port or 0) as proxy,
        connect({"host": "http://cluster.example:8080", "proxy": f"http://{proxy.address}"}) as session,
    ):
        output = execute(session, "serving", "pod", "main", ["cat"], deadline=Deadline.after(10), stdin=[b"x"])
    assert output == b"x"
    assert [tunnel.destination for tunnel in proxy.tunnels] == ["cluster.example:8080"]


@pytest.mark.parametrize(
    ("host", "no_proxy", "used"),
    [
        ("https://cluster.example", "", True),
        ("https://cluster.example", "other.example, .example.org", True),
        ("https://cluster.example", "cluster.example", False),
        ("https://cluster.example", "other, .example", False),
        ("https://cluster.example:6443", "example:6443", False),
        ("https://cluster.example", "*", False),
        ("https://10.1.2.3", "10.0.0.0/8", False),
        ("https://10.1.2.3", "10.1.2.3", False),
        ("https://11.1.2.3", "10.0.0.0/8", True),
        ("https://[fd00::1]:6443", "fd00::/8", False),
    ],
)
@pytest.mark.parametrize("door", ["option", "environment"])
def test_no_proxy(monkeypatch: pytest.MonkeyPatch, host: str, no_proxy: str, used: bool, door: str) -> None:
    params = {"host": host}
    if door == "option":
        params |= {"proxy": "http://proxy.example", "no_proxy": no_proxy}
    else:
        monkeypatch.setenv("HTTPS_PROXY", "http://proxy.example")
        monkeypatch.setenv("NO_PROXY", no_proxy)
    with connect(params) as session:
        assert session.server.proxy == ("http://proxy.example" if used else None)


@pytest.mark.parametrize("host", ["https://127.0.0.1:1", "https://localhost:1", "https://[::1]:1"])
def test_a_proxy_of_the_environment_is_not_for_this_machine(monkeypatch: pytest.MonkeyPatch, host: str) -> None:
    """As in kubectl: a cluster on this machine is reached whatever stands in HTTPS_PROXY."""
    monkeypatch.setenv("HTTPS_PROXY", "http://proxy.example")
    with connect({"host": host}) as session:
        assert session.server.proxy is None
    with connect({"host": host, "proxy": "http://proxy.example"}) as session:
        assert session.server.proxy == "http://proxy.example"


# What is imported, and what is left behind.

COLLECTIONS = str(Path(kubeconfig_module.__file__).parents[6])
CONNECTED = """\
import json, sys, time
from ansible_collections.modelfleet.serving.plugins.module_utils._cluster.session import connect
from ansible_collections.modelfleet.serving.plugins.module_utils._cluster.execute import execute
from ansible_collections.modelfleet.serving.plugins.module_utils._cluster.wait import Deadline
with connect(json.loads(sys.stdin.readline())) as session:
    assert session.find("v1", "Namespace") == []
    assert execute(session, "a", "b", "c", ["echo", "hello"], deadline=Deadline.after(10)) == b"hello\\n"
    print(json.dumps([name for name in sys.modules if name.partition(".")[0] in ("kubernetes", "requests")]))
    sys.stdout.flush()
    sys.stdin.readline()
"""


def connected(params: Json, environment: dict[str, str] | None = None) -> subprocess.Popen[str]:
    """Start a process that is connected and has run a command when it prints its first line."""
    process = subprocess.Popen(
        [sys.executable, "-c", CONNECTED],
        env={**os.environ, "PYTHONPATH": COLLECTIONS, **(environment or {})},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdin
    process.stdin.write(json.dumps(params) + "\n")
    process.stdin.flush()
    return process


def test_the_official_client_is_not_imported(tmp_path: Path, certificates: Certificates) -> None:
    with (
        ApiServer(tmp_path, certificates.server_context()) as api,
        connected({"kubeconfig": inline_kubeconfig(api.url, certificates)}) as process,
    ):
        output, _errors = process.communicate("\n", timeout=60)
    assert json.loads(output) == []


def test_a_killed_process_leaves_no_file_and_never_made_one(tmp_path: Path, certificates: Certificates) -> None:
    folder = tmp_path / "tmp"
    folder.mkdir()
    libc = ctypes.CDLL(None, use_errno=True)
    watch = libc.inotify_init1(os.O_NONBLOCK)
    in_create, in_moved_to = 0x100, 0x80
    assert libc.inotify_add_watch(watch, os.fsencode(folder), in_create | in_moved_to) >= 0
    with ApiServer(tmp_path, certificates.server_context()) as api:
        places = dict.fromkeys(("TMPDIR", "HOME"), str(folder))
        with connected({"kubeconfig": inline_kubeconfig(api.url, certificates)}, places) as process:
            assert process.stdout
            assert json.loads(process.stdout.readline()) == []
            process.send_signal(signal.SIGKILL)
    assert process.returncode == -signal.SIGKILL
    assert {request.headers["authorization"] for request in api.requests} == {"Bearer inline-token"}
    assert select.select([watch], [], [], 0)[0] == [], "a file was made there"
    (folder / "proof").touch()
    assert select.select([watch], [], [], 5)[0] == [watch], "the watch sees what is made"
    os.close(watch)


def test_where_memory_has_no_path_a_file_lasts_as_long_as_it_is_read(
    tmp_path: Path, certificates: Certificates, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delattr(os, "memfd_create")
    folder = tmp_path / "tmp"
    folder.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(folder))
    seen: list[int] = []
    load = ssl.SSLContext.load_cert_chain

    def watched(context: ssl.SSLContext, certificate: str, *more: Any, **others: Any) -> None:
        seen.extend(path.stat().st_mode & 0o777 for path in folder.iterdir())
        load(context, certificate, *more, **others)

    with ApiServer(tmp_path, certificates.server_context()) as api:
        monkeypatch.setattr(ssl.SSLContext, "load_cert_chain", watched)
        with connect({"kubeconfig": inline_kubeconfig(api.url, certificates)}) as session:
            assert list(folder.iterdir()) == []
            assert session.find("v1", "Namespace") == []
    assert seen == [0o600, 0o600]


@pytest.mark.parametrize(
    ("missing", "package"),
    [("urllib3", "urllib3"), ("yaml", "PyYAML"), ("websocket", "websocket-client"), ("socks", "PySocks")],
)
def test_a_missing_package_is_named(api: ApiServer, missing: str, package: str) -> None:
    script = f"import sys; sys.modules[{missing!r}] = None\n" + CONNECTED
    params = {"host": api.url, "proxy": "socks5://127.0.0.1:1"} if missing == "socks" else {"host": api.url}
    process = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", script],
        env={**os.environ, "PYTHONPATH": COLLECTIONS},
        input=json.dumps(params) + "\n\n",
        capture_output=True,
        text=True,
        check=False,
    )
    assert "InputError: The " in process.stderr
    assert f"'{package}'" in process.stderr
    assert f"pip install {package}" in process.stderr


def test_a_missing_official_client_is_named_for_whom_it_matters(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "kubernetes", None)
    user = {"auth-provider": {"name": "oidc", "config": {"id-token": _id_token()}}}
    with pytest.raises(InputError, match="auth-provider needs the Python package 'kubernetes'"):
        connect({"kubeconfig": kubeconfig(user=user)})


# The real API server.


def review(params: Json) -> Json:
    """Ask the server who we are to it."""
    body = {"apiVersion": "authentication.k8s.io/v1", "kind": "SelfSubjectReview"}
    with connect(params) as session:
        answer = session.request("POST", "/apis/authentication.k8s.io/v1/selfsubjectreviews", body=body)
    user: Json = answer["status"]["userInfo"]
    return user


def test_a_real_server_knows_us(kubernetes: Kubernetes, tmp_path: Path) -> None:
    pem = kubernetes.clients
    cluster = {"certificate-authority-data": encoded(kubernetes.ca)}
    by_certificate = {
        "client-certificate-data": encoded(pem / "client.pem"),
        "client-key-data": encoded(pem / "client.key"),
    }
    plugin = Plugin(
        tmp_path,
        f"""\
        status = {{
            "clientCertificateData": open({str(pem / "client.pem")!r}).read(),
            "clientKeyData": open({str(pem / "client.key")!r}).read(),
        }}
        """,
    )
    for user, name in (
        ({"token": kubernetes.token}, "admin"),
        (by_certificate, "client"),
        (plugin.user(), "client"),
        ({**by_certificate, "token": kubernetes.token}, "client"),  # it believes a certificate before a token
    ):
        assert review({"kubeconfig": kubeconfig(kubernetes.url, cluster, user)})["username"] == name
    given = {"kubeconfig": kubeconfig(kubernetes.url, cluster, by_certificate), "api_key": kubernetes.token}
    assert review(given)["username"] == "admin", "which is why a given token replaces the certificate"


def test_a_real_server_is_asked_again_with_a_new_token(kubernetes: Kubernetes, tmp_path: Path) -> None:
    plugin = Plugin(tmp_path, COUNTER + f"status = {{'token': ['', 'expired', {kubernetes.token!r}][count]}}")
    cluster = {"certificate-authority": str(kubernetes.ca)}
    assert review({"kubeconfig": kubeconfig(kubernetes.url, cluster, plugin.user())})["username"] == "admin"
    assert len(plugin.runs) == 2


def test_a_real_server_lets_us_impersonate(kubernetes: Kubernetes) -> None:
    user = {
        "token": kubernetes.token,
        "as": "jané",
        "as-uid": "7",
        "as-groups": ["a", "b"],
        "as-user-extra": {"example.org/reason": ["x", "y"]},
    }
    cluster = {"certificate-authority": str(kubernetes.ca)}
    assert review({"kubeconfig": kubeconfig(kubernetes.url, cluster, user)}) == {
        "username": "jané",
        "uid": "7",
        "groups": ["a", "b", "system:authenticated"],
        "extra": {"example.org/reason": ["x", "y"]},
    }
    given = {**kubernetes.connection, "impersonate_user": "jané", "impersonate_groups": ["a"]}
    with connect(given) as session, pytest.raises(ApiError, match=r'User "jané" cannot') as caught:
        session.execute("default", "pod", ["true"], "main")
    assert caught.value.status == 403
