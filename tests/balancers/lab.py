# SPDX-FileCopyrightText: The modelfleet maintainers
# SPDX-License-Identifier: GPL-3.0-or-later
"""A real HAProxy in front of small backends, all on free ports of 127.0.0.1 and all ended by :meth:`Lab.close`."""

from __future__ import annotations

import http.client
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol

from ansible_collections.modelfleet.serving.plugins.module_utils._call import Call, Result
from ansible_collections.modelfleet.serving.plugins.module_utils._endpoint.haproxy_config import OWNERSHIP
from ansible_collections.modelfleet.serving.plugins.module_utils._features import global_endpoint, global_endpoint_info

GOLDEN = {"request": {"instances": [1.0, 2.0, 5.0]}, "response": {"predictions": [2.5, 3.0, 4.5]}, "tolerance": 1e-3}


class Cut(BaseException):
    """The end of the process, wherever it is."""


def free_ports(count: int) -> list[int]:
    """Find ports that nobody uses at this moment."""
    sockets = [socket.socket() for _unused in range(count)]
    try:
        for entry in sockets:
            entry.bind(("127.0.0.1", 0))
        return [entry.getsockname()[1] for entry in sockets]
    finally:
        for entry in sockets:
            entry.close()


def stop(process: subprocess.Popen[Any]) -> None:
    """Stop a process of ours, as ``docker pause`` does; its SIGCONT lets it go on."""
    process.send_signal(signal.SIGSTOP)
    # A signal is only sent by now; each thread stops once it sees it, and may answer until then.
    os.waitid(os.P_PID, process.pid, os.WSTOPPED)


class Lab:
    """HAProxy, three backends named a, b and c, and the module in front of them."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.port, self.master, *self.members = free_ports(5)
        self.config = folder / "haproxy.cfg"
        self.backends: dict[str, subprocess.Popen[str]] = {}
        for name, port in zip("abc", self.members, strict=True):
            self.mood(name, "right")
            self.start(name, port)
        self.config.write_text(
            f"{OWNERSHIP}\ndefaults\n mode http\n timeout client 1s\nfrontend none\n bind abns@none\n"
        )
        self.haproxy = self.start_haproxy()

    def start_haproxy(self) -> subprocess.Popen[bytes]:
        """Start HAProxy on the configuration that is there."""
        self.log = (self.folder / "haproxy.log").open("ab")
        process = subprocess.Popen(
            ["haproxy", "-W", "-db", "-S", f"127.0.0.1:{self.master}", "-f", str(self.config)],
            stdout=self.log,
            stderr=self.log,
        )
        for _unused in range(200):
            try:
                socket.create_connection(("127.0.0.1", self.master), 1).close()
                return process
            except OSError:
                time.sleep(0.02)
        process.kill()
        raise RuntimeError((self.folder / "haproxy.log").read_text())

    def start(self, name: str, port: int, *certificate: str) -> None:
        """Start a backend and wait until it listens.

        :param certificate: file with certificate and key, for one that speaks TLS.
        """
        script = Path(__file__).with_name("backend.py")
        process = subprocess.Popen(
            [sys.executable, str(script), str(port), str(self.folder / name), *certificate],
            stdout=subprocess.PIPE,
            text=True,
        )
        assert process.stdout is not None
        process.stdout.readline()
        self.backends[name] = process

    def mood(self, name: str, mood: str) -> None:
        """Set how a backend answers."""
        (self.folder / name).write_text(mood)

    def pause(self, name: str) -> None:
        """Stop a backend: connections are still taken, and nobody answers."""
        stop(self.backends[name])

    def resume(self, name: str) -> None:
        """Let it go on."""
        self.backends[name].send_signal(signal.SIGCONT)

    def cut(self, name: str) -> list[socket.socket]:
        """Make a backend like one behind a cut network: new connections are neither taken nor refused.

        Gives the sockets that have to stay open for that.
        """
        backend = self.backends[name]
        backend.kill()
        backend.wait()
        port = self.members["abc".index(name)]
        # A queue of one that is full: the kernel drops what else comes.
        listener = socket.create_server(("127.0.0.1", port), backlog=0)
        fillers = [socket.socket() for _unused in range(3)]
        for filler in fillers:
            filler.setblocking(False)
            filler.connect_ex(("127.0.0.1", port))
        return [listener, *fillers]

    def close(self) -> None:
        """End every process that was started here."""
        for process in [self.haproxy, *self.backends.values()]:
            process.send_signal(signal.SIGCONT)
            process.terminate()
        for process in [self.haproxy, *self.backends.values()]:
            try:
                process.wait(5)
            except subprocess.TimeoutExpired:
                process.kill()
        self.log.close()

    def params(self, **changed: Any) -> dict[str, Any]:
        """Give a task's options as Ansible would, after the argument spec."""
        members = [
            {"name": name, "address": "127.0.0.1", "port": port} for name, port in zip("abc", self.members, strict=True)
        ]
        given = {
            "name": "models",
            "members": members,
            "models": [{"name": "half_plus_two", "golden": [GOLDEN]}],
            "wait_timeout": 5,
            **changed,
        }
        given["haproxy"] = {
            "config_path": str(self.config),
            "master": f"127.0.0.1:{self.master}",
            "bind": f"127.0.0.1:{self.port}",
            "stats_bind": "",
            "check_timeout": 0.25,
            **changed.get("haproxy", {}),
        }
        return complete(global_endpoint.FEATURE.arguments, given)

    def run(self, check: bool = False, **changed: Any) -> Result:
        """Run the feature behind the module global_endpoint."""
        return global_endpoint.FEATURE.run(Call(self.params(**changed), check_mode=check))

    def info(self) -> dict[str, Any]:
        """Run the feature behind the module global_endpoint_info."""
        arguments = global_endpoint_info.FEATURE.arguments
        return global_endpoint_info.FEATURE.run(
            Call(
                complete(
                    arguments,
                    {"haproxy": {key: self.params()["haproxy"][key] for key in arguments["haproxy"]["options"]}},
                )
            )
        ).values

    def runtime(self, command: str) -> str:
        """Do what a person would do by hand on the worker's command line."""
        with socket.create_connection(("127.0.0.1", self.master), 2) as connection:
            connection.sendall(f"@1 {command}; quit\n".encode())
            return b"".join(iter(lambda: connection.recv(65536), b"")).decode()

    def predict(
        self,
        size: int = 0,
        path: str = "/v1/models/half_plus_two:predict",
        connection: http.client.HTTPConnection | None = None,
        chunked: bool = False,
    ) -> tuple[int, Any, str]:
        """Send one prediction; give status, answer and the port of the backend that gave it.

        :param connection: one to keep alive; without it, a new one.
        :param chunked: send the body without telling its length before.
        """
        own = connection or self.connect()
        body = {**GOLDEN["request"], "padding": "x" * size} if size else GOLDEN["request"]
        text = json.dumps(body)
        try:
            own.request(
                "POST",
                path,
                iter([text.encode()]) if chunked else text,
                {"Content-Type": "application/json"},
                encode_chunked=chunked,
            )
            response = own.getresponse()
            return response.status, json.loads(response.read()), response.headers.get("X-Port", "")
        finally:
            if connection is None:
                own.close()

    def answering(self, **more: Any) -> set[str]:
        """Give the ports of the backends that predictions reach: of three, one is missed once in millions of times."""
        return {self.predict(**more)[2] for _unused in range(40)}

    def connect(self) -> http.client.HTTPConnection:
        """Give a connection to the endpoint, opened by its first request."""
        return http.client.HTTPConnection("127.0.0.1", self.port, timeout=10)


def complete(arguments: dict[str, Any], given: dict[str, Any]) -> dict[str, Any]:
    """Fill in the defaults of an argument spec, as far as these tests need it."""
    params = {}
    for name, spec in arguments.items():
        value = given.get(name, spec.get("default"))
        if value is not None and "options" in spec:
            if spec["type"] == "list":
                value = [complete(spec["options"], entry) for entry in value]
            else:
                value = complete(spec["options"], value)
        params[name] = value
    return params


class AnyLab(Protocol):
    """What the tests of all balancers share: a folder, processes that end with the lab, and a task's options."""

    folder: Path
    backends: dict[str, subprocess.Popen[str]]

    def params(self, **changed: Any) -> dict[str, Any]:
        """Give a task's options."""


def drain(name: str, state: str = "drained", **more: Any) -> dict[str, Any]:
    """Give the options that change one member."""
    members = [{"name": name, "state": state}]
    return {"members": members, "exclusive_members": False, "models": None, "wait": False, **more}


class Writer:
    """Another process that is about to run the module, and does when it is told."""

    def __init__(self, lab: AnyLab, *, inside: bool = False, **changed: Any) -> None:
        self._gate = lab.folder / f"gate-{id(self)}"
        self._gate.touch()
        command = [sys.executable, str(Path(__file__).with_name("writer.py")), str(self._gate)]
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
        self.process = subprocess.Popen(
            command + ["inside"] * inside, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment
        )
        lab.backends[f"writer {self.process.pid}"] = self.process  # so that it ends with the lab
        assert self.process.stdin
        assert self.process.stdout
        self.process.stdin.write(json.dumps(lab.params(**changed)) + "\n")
        self.process.stdin.flush()
        assert self.process.stdout.readline() == "ready\n"

    def go(self) -> str:
        """Let it run, also when it was stopped; gives its outcome."""
        self._gate.unlink(missing_ok=True)
        self.process.send_signal(signal.SIGCONT)
        return self.process.communicate(timeout=30)[0].strip()


class Load:
    """Requests in threads while something happens: at most so many a second, and it ends by itself.

    :param rate: requests a second, all threads together.
    :param keep: whether each thread keeps its connection for the next request.
    """

    def __init__(
        self, lab: Lab, seconds: float, rate: float, size: int = 0, threads: int = 8, keep: bool = False
    ) -> None:
        self.results: list[tuple[float, float, str]] = []
        self._end = time.monotonic() + seconds
        self._pause = threads / rate
        self._lab, self._size, self._keep = lab, size, keep
        self.threads = [threading.Thread(target=self._run, args=(turn / rate,)) for turn in range(threads)]
        for thread in self.threads:
            thread.start()

    def _run(self, wait: float) -> None:
        time.sleep(wait)
        connection = self._lab.connect()
        while (start := time.monotonic()) < self._end:
            if not self._keep:
                connection.close()
            try:
                status, answer, _unused = self._lab.predict(self._size, connection=connection)
                right = answer.get("predictions") == [2.5, 3.0, 4.5]
                outcome = ("right" if right else "wrong") if status == 200 else f"{status} {answer}"
            except (OSError, http.client.HTTPException) as error:
                outcome = repr(error)
                connection.close()
            taken = time.monotonic() - start
            self.results.append((start, taken, outcome))
            time.sleep(max(0.0, self._pause - taken))
        connection.close()

    def wait(self) -> list[tuple[float, float, str]]:
        """Give (start, seconds, outcome) of each request when all are done."""
        for thread in self.threads:
            thread.join()
        return self.results

    def lost(self) -> list[str]:
        """Give the outcomes of the requests that had no right answer."""
        return [outcome for _unused, _unused, outcome in self.wait() if outcome != "right"]


def toggle_together(toggle: Callable[[str, str], object], turns: int) -> list[Exception]:
    """Drain and return the members a and b again and again, both at once; give what failed.

    :param toggle: changes one member's state.
    """
    errors: list[Exception] = []

    def change(name: str) -> None:
        try:
            for turn in range(turns):
                toggle(name, "active" if turn % 2 else "drained")
        except Exception as error:
            errors.append(error)

    threads = [threading.Thread(target=change, args=(name,)) for name in "ab"]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return errors
