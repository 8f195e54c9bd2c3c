# SPDX-FileCopyrightText: The modelfleet maintainers
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the tests of the doors need: a place to run playbooks in, and a real OpenSSH server to run modules behind."""

from __future__ import annotations

import getpass
import json
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

Json = dict[str, Any]
CHECKOUT = Path(__file__).resolve().parents[2]
HERE = Path(__file__).parent
LOCAL = {"ansible_connection": "local"}
# Debian keeps it out of the path of users.
SSHD = shutil.which("sshd", path=f"{os.environ['PATH']}:/usr/sbin:/usr/local/sbin")


@dataclass
class Played:
    """What one run of a playbook left behind.

    :param results: host and task to result, with ``ended`` as ``ok``, ``failed`` or ``unreachable``.
    """

    code: int
    results: dict[tuple[str, str], Json]
    output: str
    folder: Path

    def everything(self) -> str:
        """All that somebody could read afterwards: what was shown, recorded, and left in temporary folders."""
        return "\n".join([self.output, (self.folder / "record").read_text(), *map(_text, self.left())])

    def left(self) -> list[Path]:
        """Give the files that were left in temporary folders."""
        return [path for path in (self.folder / "tmp").rglob("*") if path.is_file()]


def _text(path: Path) -> str:
    return path.read_text(errors="replace")


def environment(folder: Path) -> dict[str, str]:
    """Give the environment for a run of Ansible that touches nothing outside of a folder."""
    (folder / "tmp").mkdir(exist_ok=True)
    (folder / "ansible.cfg").touch()
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("ANSIBLE_", "K8S_AUTH"))}
    return kept | {
        "ANSIBLE_INJECT_INVOCATION": "true",
        "ANSIBLE_CONFIG": str(folder / "ansible.cfg"),
        "ANSIBLE_COLLECTIONS_PATH": f"{CHECKOUT / 'build' / 'collections'}:{HERE / 'collections'}",
        "ANSIBLE_CALLBACK_PLUGINS": str(HERE / "callback"),
        "ANSIBLE_CALLBACKS_ENABLED": "record",
        "ANSIBLE_LOCAL_TEMP": str(folder / "tmp"),
        "ANSIBLE_REMOTE_TEMP": str(folder / "tmp"),
        "RECORD_FILE": str(folder / "record"),
        **private(folder),
    }


def private(folder: Path) -> dict[str, str]:
    """Give the variables that keep a process off the user's own files."""
    return {"HOME": str(folder), "TMPDIR": str(folder / "tmp"), "KUBECONFIG": str(folder / "no-kubeconfig")}


def write(folder: Path, plays: list[Json], hosts: Mapping[str, Json]) -> None:
    """Write a playbook and its inventory; in YAML, which knows dates and keys that are numbers."""
    (folder / "play.yml").write_text(yaml.safe_dump(plays, sort_keys=False))
    (folder / "hosts.yml").write_text(yaml.safe_dump({"all": {"hosts": dict(hosts)}}))


def play(folder: Path, plays: list[Json], hosts: Mapping[str, Json], *arguments: str, **variables: str) -> Played:
    """Run a playbook to its end."""
    write(folder, plays, hosts)
    done = subprocess.run(
        command(*arguments),
        cwd=folder,
        env=environment(folder) | variables,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    output = done.stdout + done.stderr
    assert (folder / "record").exists(), output
    entries = [json.loads(line) for line in (folder / "record").read_text().splitlines()]
    results = {(entry["host"], entry["task"]): {**entry["result"], "ended": entry["ended"]} for entry in entries}
    assert len(results) == len(entries), "tasks have names of their own"
    return Played(done.returncode, results, output, folder)


def command(*arguments: str) -> list[str]:
    """Give the command that runs the playbook of a folder, with the ansible-core of these tests."""
    return [sys.executable, "-m", "ansible", "playbook", "--inventory", "hosts.yml", *arguments, "play.yml"]


def other_python(folder: Path) -> str:
    """Make another interpreter that has the same packages."""
    other = folder / "other-python"
    other.write_text(f'#!/bin/sh\nexec {sys.executable} "$@"\n')
    other.chmod(0o755)
    return str(other)


@contextmanager
def ssh_server(folder: Path, variables: Mapping[str, str]) -> Iterator[Json]:
    """Run sshd on 127.0.0.1 as this user, with keys of its own; gives the variables of a host behind it.

    :param variables: the environment of its sessions.
    """
    # The paths of control sockets must be short.
    place = Path(tempfile.mkdtemp(prefix="ssh-"))
    for key in ("host", "user"):
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", place / key], check=True)
    shutil.copy(place / "user.pub", place / "authorized_keys")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    (place / "known_hosts").write_text(f"[127.0.0.1]:{port} {(place / 'host.pub').read_text()}")
    settings = {
        "Port": port,
        "ListenAddress": "127.0.0.1",
        "HostKey": place / "host",
        "AuthorizedKeysFile": place / "authorized_keys",
        "AuthenticationMethods": "publickey",
        "PermitRootLogin": "prohibit-password",
        "StrictModes": "no",  # the folder for temporary files is writable by everybody
        "UsePAM": "no",
        "PidFile": "none",
        "MaxSessions": 50,
        "Subsystem": "sftp internal-sftp",
        "SetEnv": " ".join(f"{name}={value}" for name, value in variables.items()),
    }
    (place / "sshd_config").write_text("".join(f"{name} {value}\n" for name, value in settings.items()))
    if os.geteuid() == 0:
        Path("/run/sshd").mkdir(mode=0o755, exist_ok=True)  # as Debian's service does before it starts sshd
    with open(place / "log", "wb") as log:
        server = subprocess.Popen([str(SSHD), "-D", "-e", "-f", place / "sshd_config"], stdout=log, stderr=log)
    try:
        _wait_for_banner(port, place / "log")
        yield {
            "ansible_connection": "ssh",
            "ansible_host": "127.0.0.1",
            "ansible_port": port,
            "ansible_user": getpass.getuser(),
            "ansible_ssh_private_key_file": str(place / "user"),
            # -F: no settings of the user. The shared connection ends by itself, soon after its last task.
            "ansible_ssh_args": f"-F none -o UserKnownHostsFile={place}/known_hosts -o IdentitiesOnly=yes"
            f" -o ControlMaster=auto -o ControlPersist=10s -o ControlPath={place}/%C",
        }
    finally:
        for socket_ in (path for path in place.iterdir() if path.is_socket()):
            subprocess.run(
                ["ssh", "-F", "none", "-O", "exit", "-S", socket_, "127.0.0.1"], capture_output=True, check=False
            )
        server.terminate()
        server.wait(10)
        shutil.rmtree(place)


def _wait_for_banner(port: int, log: Path) -> None:
    end = time.monotonic() + 10
    while True:
        try:
            with socket.create_connection(("127.0.0.1", port), 5) as probe:
                assert probe.recv(4) == b"SSH-"
                return
        except OSError as error:
            if time.monotonic() > end:
                raise RuntimeError(f"sshd does not answer: {error}\n{log.read_text()}") from error
            time.sleep(0.05)
