# SPDX-FileCopyrightText: The modelfleet maintainers
# SPDX-License-Identifier: GPL-3.0-or-later
"""A real etcd and kube-apiserver on loopback, without a kubelet: what server-side apply is, only it can say."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from _certificates import make_certificates
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

_TOKEN = "unit-test-token"
_ADDRESS = "127.0.0.1"


@dataclass(frozen=True)
class Kubernetes:
    """How to reach the server as its administrator.

    :param clients: a folder with the certificate of a user ``client`` who may do nothing, and its key.
    """

    url: str
    token: str
    ca: Path
    clients: Path

    @property
    def connection(self) -> dict[str, str]:
        """The connection arguments of a module."""
        return {"host": self.url, "api_key": self.token, "ca_cert": str(self.ca)}


def find_binaries() -> tuple[Path, Path] | None:
    """Find etcd and kube-apiserver, or the one binary that the local fleet builds for both."""
    etcd, server = shutil.which("etcd"), shutil.which("kube-apiserver")
    if etcd and server:
        return Path(etcd), Path(server)
    home = Path(os.environ.get("MODELFLEET_HOME") or Path.home() / ".cache" / "modelfleet")
    built = sorted(home.glob("bin/*/kubernetes"), key=lambda path: path.stat().st_mtime)
    return (built[-1], built[-1]) if built else None


def start(folder: Path) -> None:
    """Start both unless another test worker has; does not wait for them."""
    binaries = find_binaries()
    with open(folder / "lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if binaries is None or (folder / "started.json").exists():
            return
        etcd_port, server_port = _free_port(), _free_port()
        peer = f"http://{_ADDRESS}:{_free_port()}"
        key = rsa.generate_private_key(65537, 2048)
        (folder / "service-account.key").write_bytes(
            key.private_bytes(
                serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
            )
        )
        (folder / "tokens.csv").write_text(f"{_TOKEN},admin,admin,system:masters\n")
        make_certificates(folder / "clients")
        etcd_url = f"http://{_ADDRESS}:{etcd_port}"
        etcd = [
            f"--data-dir={folder}/etcd-data",
            f"--listen-client-urls={etcd_url}",
            f"--advertise-client-urls={etcd_url}",
            f"--listen-peer-urls={peer}",
            f"--initial-advertise-peer-urls={peer}",
            f"--initial-cluster=default={peer}",
            "--unsafe-no-fsync",
            "--log-level=error",
        ]
        server = [
            f"--etcd-servers={etcd_url}",
            f"--cert-dir={folder}",
            f"--bind-address={_ADDRESS}",
            f"--advertise-address={_ADDRESS}",
            f"--secure-port={server_port}",
            "--service-account-issuer=https://localhost",
            f"--service-account-key-file={folder}/service-account.key",
            f"--service-account-signing-key-file={folder}/service-account.key",
            f"--token-auth-file={folder}/tokens.csv",
            f"--client-ca-file={folder}/clients/ca.pem",
            "--authorization-mode=RBAC",
            "--service-cluster-ip-range=10.0.0.0/16",
            # Without controllers nobody makes the tokens that this plugin waits for.
            "--disable-admission-plugins=ServiceAccount",
            "--endpoint-reconciler-type=none",
            "--enable-priority-and-fairness=false",
        ]
        processes = [
            _start(binaries[0], "etcd", etcd, folder),
            _start(binaries[1], "kube-apiserver", server, folder),
        ]
        (folder / "started.json").write_text(
            json.dumps(
                {
                    "url": f"https://{_ADDRESS}:{server_port}",
                    "processes": [one.pid for one in processes],
                    "server": [str(binaries[1]), server],
                }
            )
        )


def wait_ready(folder: Path, seconds: float = 60) -> Kubernetes | None:
    """Wait until the server answers; None where there is no binary."""
    start(folder)
    if not (folder / "started.json").exists():
        return None
    import ssl
    from urllib.error import URLError
    from urllib.request import Request, urlopen

    url = json.loads((folder / "started.json").read_text())["url"]
    end = time.monotonic() + seconds
    while True:
        try:
            context = ssl.create_default_context(cafile=folder / "apiserver.crt")
            # The default namespace comes last, after roles and priorities.
            request = Request(f"{url}/api/v1/namespaces/default", headers={"Authorization": f"Bearer {_TOKEN}"})
            urlopen(request, context=context, timeout=5).close()
            return Kubernetes(url, _TOKEN, folder / "apiserver.crt", folder / "clients")
        except (URLError, OSError) as error:
            if time.monotonic() > end:
                log = (folder / "kube-apiserver.log").read_text()[-2000:]
                raise RuntimeError(f"kube-apiserver did not start in {seconds:g} s: {error}\n{log}") from error
            time.sleep(0.1)


@contextlib.contextmanager
def run_scheduler(server: Kubernetes, folder: Path, name: str) -> Iterator[None]:
    """Run a kube-scheduler for a server that runs, and there for the pods that name it."""
    binary = shutil.which("kube-scheduler")
    if binary is None:
        found = find_binaries()
        if found is None or found[1].name == "kube-apiserver":
            pytest.skip("no binary of kube-scheduler: `make fleet` builds one")
        binary = str(found[1])
    cluster = {"server": server.url, "certificate-authority": str(server.ca)}
    config = {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": "c", "cluster": cluster}],
        "users": [{"name": "u", "user": {"token": server.token}}],
        "contexts": [{"name": "x", "context": {"cluster": "c", "user": "u"}}],
        "current-context": "x",
    }
    (folder / "kubeconfig.json").write_text(json.dumps(config))
    scheduler = {
        "apiVersion": "kubescheduler.config.k8s.io/v1",
        "kind": "KubeSchedulerConfiguration",
        "clientConnection": {"kubeconfig": str(folder / "kubeconfig.json")},
        "leaderElection": {"leaderElect": False},
        "profiles": [{"schedulerName": name}],
    }
    (folder / "scheduler.json").write_text(json.dumps(scheduler))
    arguments = [f"--config={folder}/scheduler.json", "--secure-port=0"]
    process = _start(Path(binary), "kube-scheduler", arguments, folder)
    try:
        yield
    finally:
        process.kill()
        process.wait()


def kill_server(folder: Path) -> None:
    """Kill the API server and start it again, with what etcd holds; does not wait for it."""
    started = json.loads((folder / "started.json").read_text())
    os.kill(started["processes"][1], signal.SIGKILL)
    with contextlib.suppress(ChildProcessError):
        os.waitpid(started["processes"][1], 0)
    binary, arguments = started["server"]
    started["processes"][1] = _start(Path(binary), "kube-apiserver", arguments, folder).pid
    (folder / "started.json").write_text(json.dumps(started))


def stop(folder: Path) -> None:
    """Stop both, if they were started."""
    if (folder / "started.json").exists():
        for process in reversed(json.loads((folder / "started.json").read_text())["processes"]):
            os.kill(process, signal.SIGKILL)


def _start(binary: Path, name: str, arguments: list[str], folder: Path) -> subprocess.Popen[bytes]:
    link = folder / name
    if not link.exists():
        link.symlink_to(binary)
    with open(folder / f"{name}.log", "wb") as log:
        return subprocess.Popen([link, *arguments], stdout=log, stderr=log, start_new_session=True)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind((_ADDRESS, 0))
        return int(probe.getsockname()[1])
