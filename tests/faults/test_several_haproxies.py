# SPDX-FileCopyrightText: The modelfleet maintainers
# SPDX-License-Identifier: GPL-3.0-or-later
"""The playbooks on the real fleet behind two HAProxies, each on a machine of its own that is reached by ssh."""

from __future__ import annotations

import getpass
import json
import os
import shutil
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from _behind import Behind, client
from _fleet import AWS, AZURE, CLUSTERS, GCP, Fleet, cluster_addresses, docker, node, until

from ansible_collections.modelfleet.serving.plugins.module_utils._endpoint.haproxy import HAProxy

SSHD = shutil.which("sshd", path=f"{os.environ['PATH']}:/usr/sbin")
pytestmark = [
    pytest.mark.slow,  # three and a half minutes
    pytest.mark.skipif(SSHD is None, reason="sshd is not installed (Debian's openssh-server)"),
    pytest.mark.skipif(not shutil.which("haproxy"), reason="haproxy is not installed"),
    pytest.mark.skipif(os.geteuid() != 0, reason="only root may run what chroot runs"),
]

ALL = sorted(CLUSTERS)
OPTIONS: dict[str, Any] = {"master": "/etc/haproxy/master.sock", "bind": "*:80", "check_timeout": 0.25}


class Machine:
    """A container on the clusters' network that runs sshd and HAProxy, both from this machine's own file system.

    :param home: what it has as ``/etc/haproxy``.
    :param keys: the folder with keys for ssh.
    """

    def __init__(self, name: str, home: Path, keys: Path, image: str) -> None:
        self.name, self.home = name, home
        home.mkdir()
        # sshd wants its folder, and HAProxy a configuration to begin with.
        Path("/run/sshd").mkdir(mode=0o755, exist_ok=True)
        (home / "haproxy.cfg").write_text(
            "defaults\n timeout client 5s\nlisten nothing\n bind 127.0.0.1:1\n mode http\n"
        )
        settings = {
            "Port": 22,
            "HostKey": keys / "host",
            "AuthorizedKeysFile": keys / "user.pub",
            "AuthenticationMethods": "publickey",
            "PermitRootLogin": "prohibit-password",
            "StrictModes": "no",
            "UsePAM": "no",
            "PidFile": "none",
            "Subsystem": "sftp internal-sftp",
        }
        (home / "sshd_config").write_text("".join(f"{key} {value}\n" for key, value in settings.items()))
        balancer = f"haproxy -W -S {OPTIONS['master']} -f /etc/haproxy/haproxy.cfg"
        both = f"{balancer} & exec {SSHD} -D -e -f /etc/haproxy/sshd_config"
        ssh, self.port = _free_ports()
        docker(
            *("create", "--network", "kind", "--name", self.container, "--entrypoint", "chroot"),
            *("--volume", "/:/machine", "--volume", f"{home}:/machine/etc/haproxy"),
            *("--publish", f"127.0.0.1:{ssh}:22", "--publish", f"127.0.0.1:{self.port}:80"),
            *(image, "/machine", "/bin/sh", "-c", both),
        )
        self._ssh, self._keys = ssh, keys

    @property
    def container(self) -> str:
        """The container's name."""
        return f"modelfleet-test-{self.name}-{os.getpid()}"

    def variables(self) -> dict[str, Any]:
        """Give the variables of the inventory's host."""
        return {
            "ansible_connection": "ssh",
            "ansible_host": "127.0.0.1",
            "ansible_port": self._ssh,
            "ansible_user": getpass.getuser(),
            "ansible_ssh_private_key_file": str(self._keys / "user"),
            "ansible_ssh_args": "-F none -o StrictHostKeyChecking=no -o UserKnownHostsFile=/dev/null -o LogLevel=ERROR"
            " -o IdentitiesOnly=yes",
            "ansible_python_interpreter": sys.executable,
        }

    def start(self) -> None:
        """Let it come up, and wait until both answer."""
        (self.home / "master.sock").unlink(missing_ok=True)
        docker("start", self.container)
        until(lambda: b"SSH-" in self._greeting(), f"{self.name}: sshd does not answer", 20)
        until(lambda: (self.home / "master.sock").is_socket() and self.answers(), f"{self.name}: HAProxy does not", 20)

    def _greeting(self) -> bytes:
        command = ["ssh-keyscan", "-T", "1", "-p", str(self._ssh), "127.0.0.1"]
        return subprocess.run(command, capture_output=True, check=False).stderr

    def answers(self) -> bool:
        """Tell whether HAProxy answers."""
        try:
            self.balancer().health()
        except Exception:  # whatever is wrong, it is not there yet
            return False
        return True

    def balancer(self) -> HAProxy:
        """Give the balancer, as this machine reaches it."""
        access = {"config_path": str(self.home / "haproxy.cfg"), "master": str(self.home / "master.sock")}
        return HAProxy({**access, "timeout": 5.0, "validate_command": None})

    def active(self) -> list[str]:
        """Name the members that HAProxy sends requests to."""
        found = self.balancer().read()
        assert found.complaints == ()
        return sorted(name for name, traffic in (found.traffic or {}).items() if traffic.weight)

    def stop(self) -> None:
        """End it as a machine does whose power fails."""
        docker("kill", self.container)

    def remove(self) -> None:
        """Remove the container."""
        docker("rm", "--force", self.container)


def _free_ports() -> list[int]:
    """Give two ports that are free now."""
    with socket.socket() as one, socket.socket() as two:
        for probe in (one, two):
            probe.bind(("127.0.0.1", 0))
        return [probe.getsockname()[1] for probe in (one, two)]


@pytest.fixture
def machines(fleet: Fleet, tmp_path: Path) -> Iterator[list[Machine]]:
    for key in ("host", "user"):
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", tmp_path / key], check=True)
    image = docker("inspect", "--format", "{{.Config.Image}}", node(AWS))
    machines = [Machine(name, tmp_path / name, tmp_path, image) for name in ("edge-1", "edge-2")]
    try:
        for machine in machines:
            machine.start()
        yield machines
    finally:
        for machine in machines:
            machine.remove()


@pytest.fixture
def behind(fleet: Fleet, machines: list[Machine], tmp_path: Path) -> Iterator[Behind]:
    hosts = {machine.name: machine.variables() for machine in machines}
    (tmp_path / "edges.json").write_text(json.dumps({"edges": {"hosts": hosts}}))
    # What an address that moves between the machines does, or a name with both addresses.
    with client(lambda: ("127.0.0.1", next(machine.port for machine in machines if machine.answers()))) as url:
        behind = Behind(fleet, "pair", "haproxy", OPTIONS, cluster_addresses(), url, machines[0].active)
        behind.variables["serving_endpoint"]["hosts"] = sorted(hosts)
        try:
            yield behind
        finally:
            behind.forget()


def test_one_of_two_is_away_while_traffic_moves(behind: Behind, machines: list[Machine], tmp_path: Path) -> None:
    one, two = machines
    inventory = ("--inventory", "inventories/local", "--inventory", str(tmp_path / "edges.json"))

    def run(playbook: str, code: int | None = 0, **variables: Any) -> str:
        return behind.run(playbook, *inventory, code=code, **variables)

    def active() -> list[list[str]]:
        return [machine.active() for machine in machines]

    assert "is not managed by this collection" in run("endpoint", code=None)
    assert "changed=1" in run("endpoint", global_endpoint_adopt=True)
    assert active() == [ALL, ALL]
    assert "changed=0" in run("endpoint")

    two.stop()
    text = run("failover", failover_from=AWS)
    assert "edge-2 could not be asked, and has what it had" in text
    assert one.active() == sorted([AZURE, GCP])
    two.start()
    assert two.active() == ALL
    behind_it = "edge-2: the balancer differs from its definition: it is not that of edge-1 (its epoch is 0, there 1)"
    assert behind_it in run("status", serving_status_page="")

    # The next move brings it in step.
    run("failover", failover_from=AZURE)
    assert active() == [[GCP], [GCP]]

    # And so does a run of the whole definition, whichever of them was away.
    one.stop()
    run("failback")
    one.start()
    assert active() == [[GCP], ALL]
    assert "changed=1" in run("endpoint")
    assert active() == [ALL, ALL]
    assert "changed=0" in run("endpoint")

    one.stop()
    two.stop()
    text = run("failover", code=None, failover_from=AWS)
    assert "No host of the endpoint's balancer could be asked: edge-1:" in text
