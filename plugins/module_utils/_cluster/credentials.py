# SPDX-FileCopyrightText: The modelfleet maintainers
# SPDX-License-Identifier: GPL-3.0-or-later
"""Who we are to an API server: what a kubeconfig's user says, and how it is renewed when it expires.

The official client's own loader would cost a second and 50 MB to import, drops impersonation and what plugins say when
they fail, and writes keys to files. ``tests/unit/test_credentials.py`` holds what is read here against it.
"""

from __future__ import annotations

import base64
import datetime
import json
import math
import os
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, TypeAlias
from urllib.parse import quote

from ansible_collections.modelfleet.serving.plugins.module_utils._cluster.kubeconfig import (
    Context,
    Json,
    explained,
    file_or_data,
    path,
    text,
)
from ansible_collections.modelfleet.serving.plugins.module_utils._errors import InputError

# A file's path, or what would stand in the file.
Pem: TypeAlias = "str | bytes"

# A plugin may refresh a token over the network; it can't ask anybody, since nobody is there.
PLUGIN_SECONDS = 60.0
# How long a token that was read from a file is taken for fresh, as in client-go: the kubelet replaces it in time.
FILE_SECONDS = 60.0
# What expires is renewed this long before.
_SKEW_SECONDS = 60.0
# Plugins with a wrong clock give what has expired already; they are not asked more often than this.
_SHORTEST_LIFE_SECONDS = 10.0


@dataclass(frozen=True)
class Login:
    """What proves to the server who we are.

    :param authorization: the header's value.
    :param renew_at: when to get a new one, by :func:`time.monotonic`.
    """

    authorization: str | None = field(default=None, repr=False)
    certificate: Pem | None = field(default=None, repr=False)
    key: Pem | None = field(default=None, repr=False)
    renew_at: float = field(default=math.inf, compare=False)


class Credentials:
    """The login of a context's user, renewed when it expires or is refused. Threads may share it.

    Files are read and a plugin is run at once.

    :raises InputError: when a file can't be read or a plugin fails, then or when it is renewed.
    """

    def __init__(self, context: Context) -> None:
        self._origin = context.origin
        self._lock = threading.Lock()
        with explained(self._origin):
            self._source = _source(context)
            self.impersonation = list(_impersonation(context.user.content))
        self._login = self._ask()

    def current(self) -> Login:
        """Give the login, a new one if the last is about to expire."""
        with self._lock:
            if time.monotonic() >= self._login.renew_at:
                self._login = self._ask()
            return self._login

    def renew(self, refused: Login) -> bool:
        """Read files and run plugins again after the server refused a login; tell whether there is another to try.

        The first of several threads that were refused renews it for all.
        """
        with self._lock:
            if self._login == refused:
                self._login = self._ask()
            return self._login != refused

    def _ask(self) -> Login:
        with explained(self._origin):
            return self._source()


def _source(context: Context) -> Callable[[], Login]:
    """Choose among a user's several ways as kubectl does: token, plugin, password; a certificate goes with each."""
    user = context.user
    certificate, key = file_or_data(user, "client-certificate"), file_or_data(user, "client-key")
    login = Login(certificate=certificate, key=key)
    token, token_file = text(user, "token"), path(user, "tokenFile")
    username, password = text(user, "username"), text(user, "password")
    if user.content.get("auth-provider"):
        return _official_source(context, login)
    if token_file:
        return lambda: _file_login(context, login, Path(token_file), token)
    if token:
        login = replace(login, authorization=_bearer(token))
    elif user.content.get("exec"):
        return lambda: _plugin_login(context, login)
    elif username or password:
        pair = f"{username or ''}:{password or ''}".encode()
        login = replace(login, authorization=f"Basic {base64.b64encode(pair).decode()}")
    return lambda: login


def _bearer(token: str) -> str:
    """Give the header's value; line ends at the end of a file are not part of the token."""
    token = token.strip()
    if not token.isascii() or not token.isprintable():
        raise ValueError("the token has characters that no token has")
    return f"Bearer {token}"


def _impersonation(user: Json) -> Iterator[tuple[str, str]]:
    """Give the headers by which to act as someone else, whom the server checks.

    See https://kubernetes.io/docs/reference/access-authn-authz/user-impersonation/.
    """
    headers = [("Impersonate-User", user.get("as")), ("Impersonate-Uid", user.get("as-uid"))]
    lists = {"Impersonate-Group": user.get("as-groups") or []}
    for key, values in (user.get("as-user-extra") or {}).items():
        # Percent-encoded except for what a header's name may have.
        lists[f"Impersonate-Extra-{quote(str(key).lower(), safe='!#$&*+^`|')}"] = values
    for name, values in lists.items():
        if not isinstance(values, list):
            raise ValueError(f"what {name} says is no list")
        headers += [(name, value) for value in values]
    headers = [(name, value) for name, value in headers if value]
    if headers and headers[0][0] != "Impersonate-User":
        raise ValueError("impersonation of groups, of a UID or of extra fields needs a user to impersonate")
    for name, value in headers:
        if not isinstance(value, str) or not value.isprintable() or value != value.strip():
            raise ValueError(f"what {name} says can't be sent")
        yield name, value


def _file_login(context: Context, login: Login, token_file: Path, fallback: str | None) -> Login:
    try:
        token = token_file.read_text().strip()
        words = "it is empty"
    except (OSError, UnicodeError) as error:
        token = ""
        words = getattr(error, "strerror", None) or "it is no text"
    if not token and not fallback:
        raise InputError(
            f"{context.origin}: the token file {token_file} can't be read: {words}.",
            hint="Check path and permissions.",
        )
    return replace(login, authorization=_bearer(token or fallback or ""), renew_at=time.monotonic() + FILE_SECONDS)


def _official_source(context: Context, login: Login) -> Callable[[], Login]:
    """Leave the legacy ``auth-provider`` to the official client.

    kubectl itself has only ``oidc`` left, whose refreshing takes an OAuth client; the official client brings one, and
    a second of imports, which nobody else has to pay.
    """
    provider = context.user.content["auth-provider"]
    name = provider.get("name") if isinstance(provider, dict) else None
    if name not in ("oidc", "gcp"):
        raise InputError(
            f"{context.origin}: the user's auth-provider {name!r} is not known.", hint="Use an exec plugin instead."
        )
    try:
        from kubernetes import client, config
        from kubernetes.config import kube_config
    except ImportError as error:
        raise InputError(
            f"{context.origin}: the user's auth-provider needs the Python package 'kubernetes', which is missing from "
            "the interpreter that runs this task.",
            hint="Install it there, or use an exec plugin instead.",
        ) from error
    configuration = client.Configuration()
    only = {
        "current-context": "only",
        "contexts": [{"name": "only", "context": {"cluster": "only", "user": "only"}}],
        "clusters": [{"name": "only", "cluster": {"server": "https://only"}}],
        "users": [{"name": "only", "user": {"auth-provider": provider}}],
    }

    def ask() -> Login:
        try:
            if not configuration.api_key:
                config.load_kube_config_from_dict(only, client_configuration=configuration, persist_config=False)
            value = configuration.auth_settings()["BearerToken"]["value"]  # refreshes what has expired
        except Exception as error:  # what its OAuth libraries raise has no class in common
            raise InputError(
                f"{context.origin}: the auth-provider {name} gives no token ({type(error).__name__}).",
                hint="Log in again, or use an exec plugin instead.",
            ) from error
        finally:
            # It writes the identity provider's certificate to a file; a forked worker runs no exit handler.
            kube_config._cleanup_temp_files()
        return replace(login, authorization=value, renew_at=time.monotonic() + FILE_SECONDS)

    return ask


def _plugin_login(context: Context, login: Login) -> Login:
    """Run the user's plugin.

    See https://kubernetes.io/docs/reference/access-authn-authz/authentication/#client-go-credential-plugins.
    """
    exec_ = context.user.content["exec"]
    if not isinstance(exec_, dict) or not isinstance(exec_.get("command"), str):
        raise ValueError("the user's exec names no command")
    status = _Plugin(context, exec_).run()
    token, certificate, key = (status.get(each) for each in ("token", "clientCertificateData", "clientKeyData"))
    if bool(certificate) != bool(key) or not (token or certificate):
        raise InputError(
            f"{context.origin}: the plugin {exec_['command']} gives neither a token nor a certificate with its key.",
            hint="Run it by hand to see what it gives.",
        )
    if certificate:
        login = replace(login, certificate=str(certificate).encode(), key=str(key).encode())
    if token:
        login = replace(login, authorization=_bearer(str(token)))
    expiry = status.get("expirationTimestamp")
    return replace(login, renew_at=_renew_at(str(expiry))) if expiry else login


def _renew_at(expiry: str) -> float:
    moment = datetime.datetime.fromisoformat(expiry)
    now = datetime.datetime.now(datetime.UTC)
    left = (moment.replace(tzinfo=moment.tzinfo or datetime.UTC) - now).total_seconds()
    return time.monotonic() + max(left - _SKEW_SECONDS, left / 2, _SHORTEST_LIFE_SECONDS)


@dataclass(frozen=True)
class _Plugin:
    context: Context
    exec_: Json

    @property
    def name(self) -> str:
        return f"{self.context.origin}: the plugin {self.exec_['command']}"

    def run(self) -> Json:
        """Run it and give the status that it answers with."""
        command: str = self.exec_["command"]
        if self.exec_.get("interactiveMode") == "Always":
            raise InputError(f"{self.name} asks on a terminal, and there is none.", hint="Use another way to log in.")
        if "/" in command:  # as in client-go; any other is looked for on PATH
            command = str(self.context.user.folder.absolute() / command)
        variables = {str(each["name"]): str(each["value"]) for each in self.exec_.get("env") or []}
        try:
            # Not run_command, which only a module has.
            process = subprocess.Popen(  # pylint: disable=ansible-bad-function
                [command, *map(str, self.exec_.get("args") or [])],
                env={**os.environ, **variables, "KUBERNETES_EXEC_INFO": json.dumps(self._info())},
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                start_new_session=True,
            )
        except OSError as error:
            raise InputError(
                f"{self.name} can't be run: {error.strerror}.",
                hint=str(self.exec_.get("installHint") or "Install it where this task runs.").strip(),
            ) from error
        with process:
            try:
                output, errors = process.communicate(timeout=PLUGIN_SECONDS)
            except BaseException as error:
                os.killpg(process.pid, signal.SIGKILL)  # what it started, too: it would hold the pipes open
                if isinstance(error, subprocess.TimeoutExpired):
                    raise InputError(
                        f"{self.name} took over {PLUGIN_SECONDS:g} s.", hint="Run it by hand to see what it waits for."
                    ) from None
                raise
        if process.returncode:
            words = errors.decode(errors="replace").strip()[-2000:] or "no message"
            raise InputError(
                f"{self.name} failed with code {process.returncode}: {words.rstrip('.')}.",
                hint="Run it by hand where this task runs.",
            )
        return self._status(output)

    def _info(self) -> Json:
        """Give what the plugin is told."""
        spec: Json = {"interactive": False}
        if self.exec_.get("provideClusterInfo"):
            cluster = self.context.cluster
            names = ("server", "tls-server-name", "insecure-skip-tls-verify", "proxy-url", "disable-compression")
            spec["cluster"] = {name: cluster.content[name] for name in names if cluster.content.get(name)}
            authority = file_or_data(cluster, "certificate-authority")
            if authority:
                data = authority if isinstance(authority, bytes) else Path(authority).read_bytes()
                spec["cluster"]["certificate-authority-data"] = base64.b64encode(data).decode()
            for extension in cluster.content.get("extensions") or []:
                if extension.get("name") == "client.authentication.k8s.io/exec":
                    spec["cluster"]["config"] = extension.get("extension")
        return {"apiVersion": self.exec_.get("apiVersion"), "kind": "ExecCredential", "spec": spec}

    def _status(self, output: bytes) -> Json:
        """Read its answer, which no message quotes: it is the secret itself."""
        wanted = self.exec_.get("apiVersion")
        try:
            answer: Any = json.loads(output)
            version, status = answer["apiVersion"], answer["status"]
        except (ValueError, KeyError, TypeError):
            version, status = None, None
        if not isinstance(status, dict):
            raise InputError(f"{self.name} gives no ExecCredential with a status.", hint="Run it by hand to see.")
        if version != wanted:
            raise InputError(
                f"{self.name} answers in {version}, not in {wanted}.", hint="Correct apiVersion in the kubeconfig."
            )
        return status
