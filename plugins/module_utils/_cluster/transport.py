# SPDX-FileCopyrightText: The modelfleet maintainers
# SPDX-License-Identifier: GPL-3.0-or-later
"""The way to an API server: TLS and proxies. No credential is ever written to a disk."""

from __future__ import annotations

import contextlib
import ipaddress
import os
import socket
import ssl
import tempfile
import urllib.request
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

from ansible_collections.modelfleet.serving.plugins.module_utils._cluster.credentials import Login, Pem
from ansible_collections.modelfleet.serving.plugins.module_utils._cluster.kubeconfig import (
    Context,
    explained,
    file_or_data,
    text,
)
from ansible_collections.modelfleet.serving.plugins.module_utils._errors import InputError
from ansible_collections.modelfleet.serving.plugins.module_utils._names import require_url

with contextlib.suppress(ImportError):  # explained by session.connect
    import urllib3


@dataclass(frozen=True)
class Server:
    """Where an API server is and how to know that it is the right one.

    :param authority: whose certificates to trust; those that the system trusts by default.
    :param name: the name in its certificate, if it is not the one in the URL.
    :param proxy: the URL of the proxy to use, without credentials.
    :param proxy_headers: what the proxy is told, as arguments of :func:`urllib3.util.make_headers`.
    """

    url: str
    authority: Pem | None = field(default=None, repr=False)
    verify: bool = True
    name: str | None = None
    proxy: str | None = None
    proxy_headers: Mapping[str, str] = field(default_factory=dict, repr=False)


def read_server(context: Context, no_proxy: str | None, proxy_headers: Mapping[str, str | None]) -> Server:
    """Read a context's cluster, and find the proxy on the way to it.

    :param no_proxy: hosts to reach without a proxy, instead of what ``NO_PROXY`` says.
    :raises InputError: when it can't be read, or the address is none.
    """
    cluster = context.cluster
    with explained(context.origin):
        url = require_url(text(cluster, "server") or "", f"{context.origin}: server")
        headers = {name: value for name, value in proxy_headers.items() if value}
        proxy = _choose_proxy(url, text(cluster, "proxy-url"), no_proxy)
        if proxy:
            proxy, user = _split_proxy(proxy)
            if user:
                headers.setdefault("proxy_basic_auth", user)
        return Server(
            url,
            file_or_data(cluster, "certificate-authority"),
            verify=not cluster.content.get("insecure-skip-tls-verify"),
            name=text(cluster, "tls-server-name"),
            proxy=proxy,
            proxy_headers=headers,
        )


def open_pool(server: Server, login: Login, size: int) -> Any:
    """Make a pool of connections, whose TLS context has read all certificates already."""
    settings: dict[str, Any] = {"maxsize": size, "num_pools": 2}
    if server.url.startswith("https:"):
        settings["ssl_context"] = _tls_context(server, login)
        if server.name:
            settings["server_hostname"] = server.name
    if not server.proxy:
        return urllib3.PoolManager(**settings)
    if server.proxy.startswith("socks"):
        try:
            from urllib3.contrib.socks import SOCKSProxyManager
        except ImportError as error:
            raise InputError(
                f"The proxy {server.proxy} needs the Python package 'PySocks', which is missing from the interpreter "
                "that runs this task.",
                hint="Install it there: pip install PySocks",
            ) from error
        user, _colon, password = server.proxy_headers.get("proxy_basic_auth", "").partition(":")
        return SOCKSProxyManager(server.proxy, username=user or None, password=password or None, **settings)
    if server.proxy.startswith("https:"):
        settings["proxy_ssl_context"] = ssl.create_default_context()
    return urllib3.ProxyManager(
        server.proxy, proxy_headers=urllib3.util.make_headers(**server.proxy_headers), **settings
    )


def open_socket(pool: Any, server: Server, timeout: float) -> socket.socket:
    """Open a connection of its own for a websocket, by the same TLS context and proxy as any request.

    :raises OSError: or an exception of urllib3, when there is no connection.
    """
    connections = pool.connection_from_url(server.url)
    connection = connections._new_conn()  # has no public name, but has been there since urllib3's beginnings
    connection.timeout = timeout
    if connections.proxy:  # an HTTP proxy; connections through a SOCKS proxy need nothing more
        url = urllib3.util.parse_url(server.url)
        port = url.port or (443 if url.scheme == "https" else 80)
        connection.set_tunnel(url.host, port, headers=connections.proxy_headers, scheme=connections.proxy.scheme)
    connection.connect()
    return connection.sock  # type: ignore[no-any-return]


def _tls_context(server: Server, login: Login) -> ssl.SSLContext:
    if server.verify:
        context = _trusting(server.authority)
        # Cluster certificate authorities are often older than the stricter checks that Python 3.13 turned on.
        context.verify_flags &= ~ssl.VERIFY_X509_STRICT
        # As kubectl does: what is given is trusted, also if it is itself signed by someone else.
        context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
    else:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    if login.key and not login.certificate:
        raise ValueError("a client key is given without its certificate")
    if login.certificate:
        # A file of a certificate may hold its key, too.
        with _as_path(login.certificate) as certificate, _as_path(login.key or login.certificate) as key:
            context.load_cert_chain(certificate, key, password=_no_password)
    return context


def _trusting(authority: Pem | None) -> ssl.SSLContext:
    if isinstance(authority, bytes):
        return ssl.create_default_context(cadata=authority.decode("ascii", "ignore"))  # what is not ASCII is comments
    if authority:
        _require_readable(authority)
    return ssl.create_default_context(cafile=authority)


def _no_password() -> str:
    """Stand in for OpenSSL's question on the terminal, which nobody would answer."""
    raise ValueError("the client key is encrypted, and nobody is here to give its password")


def _require_readable(path: str) -> None:
    open(path, "rb").close()  # what OpenSSL raises names no file


@contextlib.contextmanager
def _as_path(pem: Pem) -> Iterator[str]:
    """Give a path for what Python's ssl module can read from a path only."""
    if not isinstance(pem, bytes):
        _require_readable(pem)
        yield pem
    elif hasattr(os, "memfd_create") and Path("/proc/self/fd").is_dir():
        # Memory, not a file: a worker that is killed at this very moment leaves nothing behind.
        with open(os.memfd_create("pem"), "wb") as memory:
            memory.write(pem)
            memory.flush()
            yield f"/proc/self/fd/{memory.fileno()}"
    else:  # not on Linux
        with tempfile.NamedTemporaryFile() as file:  # readable by its owner alone
            file.write(pem)
            file.flush()
            yield file.name


def _choose_proxy(url: str, given: str | None, no_proxy: str | None) -> str | None:
    """Find the proxy for a URL as kubectl does; a given one wins over the environment's."""
    # Not getproxies: on macOS it asks a framework that crashes in forked workers.
    environment = urllib.request.getproxies_environment()
    parts = urlsplit(url)
    if not given:
        given = environment.get(parts.scheme) or environment.get("all")
        no_proxy = environment.get("no") if no_proxy is None else no_proxy
        if _is_loopback(parts.hostname or ""):
            return None
    return None if not given or _bypasses(parts.hostname or "", parts.netloc, no_proxy or "") else given


def _is_loopback(host: str) -> bool:
    address = _address(host)
    return address.is_loopback if address else host == "localhost"


def _bypasses(host: str, netloc: str, no_proxy: str) -> bool:
    """Tell whether a host is in a list of names, domains, addresses, networks, each perhaps with a port."""
    if urllib.request.proxy_bypass_environment(netloc, {"no": no_proxy}):  # type: ignore[attr-defined]
        return True
    address = _address(host)
    for rule in no_proxy.split(","):
        with contextlib.suppress(ValueError):
            if address and address in ipaddress.ip_network(rule.strip(), strict=False):
                return True
    return False


def _address(host: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        return ipaddress.ip_address(host)
    except ValueError:
        return None


def _split_proxy(given: str) -> tuple[str, str]:
    """Split a proxy's URL into one without credentials, which messages may show, and user:password."""
    try:
        parts = urlsplit(given if "://" in given else f"http://{given}")
        host, port = parts.hostname, parts.port
    except ValueError:
        host, port = None, None
    if not host or parts.scheme not in ("http", "https", "socks5", "socks5h", "socks4", "socks4a"):
        raise ValueError("the proxy is no URL of the form http://host:port, https://… or socks5://…")
    # As in kubectl, the proxy resolves the name: behind a bastion, this side often can't.
    scheme = {"socks5": "socks5h", "socks4": "socks4a"}.get(parts.scheme, parts.scheme)
    where = f"[{host}]" if ":" in host else host
    credentials = ":".join(unquote(each or "") for each in (parts.username, parts.password)) if parts.username else ""
    return f"{scheme}://{where}" + (f":{port}" if port else ""), credentials
