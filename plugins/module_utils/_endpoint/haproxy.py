# SPDX-FileCopyrightText: The modelfleet maintainers
# SPDX-License-Identifier: GPL-3.0-or-later
"""HAProxy as the global endpoint: its configuration file for what lasts, its master process for what is now.

HAProxy runs with ``-W -S ADDRESS``: through the master's command line every process is reached, also those that a
reload left behind with long connections. No other way in is needed.

Found out with HAProxy 2.6.12: ``reload`` gives no verdict, it closes the connection; ``show proc`` then counts
``[failed: N]``, and the old workers keep serving. Why a configuration was rejected stands on standard error alone, so
it is asked from ``haproxy -c`` before anything is written. A failed reload ends with the next successful one. After a
start and a reload the master executes itself anew: its command line, which may have answered already, then refuses or
resets connections for some milliseconds.
"""

from __future__ import annotations

import csv
import difflib
import fcntl
import io
import os
import re
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from ansible_collections.modelfleet.serving.plugins.module_utils._endpoint.balancer import BalancerError, MemberHealth
from ansible_collections.modelfleet.serving.plugins.module_utils._endpoint.definition import (
    Endpoint,
    require_address,
    require_port,
)
from ansible_collections.modelfleet.serving.plugins.module_utils._endpoint.haproxy_config import (
    OWNERSHIP,
    STANDBY,
    check_everybody_serves,
    check_tls_names,
    description,
    read_definition,
    render,
    servers_of,
    without_lookups,
)
from ansible_collections.modelfleet.serving.plugins.module_utils._endpoint.plan import (
    Observed,
    Plan,
    Traffic,
    traffic_weight,
)
from ansible_collections.modelfleet.serving.plugins.module_utils._errors import InputError
from ansible_collections.modelfleet.serving.plugins.module_utils._names import require_host_name

# What can be written into the configuration; the options of the module have no defaults of their own, since an option
# that is left out keeps its stored value.
DEFAULTS: dict[str, Any] = {
    "bind": "*:8080",
    "certificate": "",
    "member_tls": False,
    "member_ca": "/etc/ssl/certs/ca-certificates.crt",
    "member_tls_name": "",
    "stats_bind": "127.0.0.1:8404",
    "runtime_bind": "",
    "user": "",
    "group": "",
    "resolvers": [],
    "connect_timeout": 1.0,
    "check_interval": 0.25,
    "check_timeout": 0.5,
    "retries": 3,
    "max_body": 1024 * 1024,
    "max_connections": 1000,
}
# How this module reaches HAProxy, which says nothing about the endpoint.
_ACCESS = ("config_path", "master", "validate_command", "timeout")

# How long a master may be away while it executes itself anew.
_AWAY_SECONDS = 1.0

# Bits of a server's administrative state: what a person forced. The others follow from tracking and name resolution.
_FORCED = {0x01: "maintenance", 0x08: "drain"}


def arguments() -> dict[str, Any]:
    """Give the suboptions of the module's option ``haproxy``."""
    return {
        "config_path": {"type": "path", "default": "/etc/haproxy/haproxy.cfg"},
        "master": {"type": "str", "default": "/run/haproxy-master.sock"},
        "validate_command": {"type": "list", "elements": "str"},
        "timeout": {"type": "float", "default": 10.0},
        "bind": {"type": "str"},
        "certificate": {"type": "str"},
        "member_tls": {"type": "bool"},
        "member_ca": {"type": "str"},
        "member_tls_name": {"type": "str"},
        "stats_bind": {"type": "str"},
        "runtime_bind": {"type": "str"},
        "user": {"type": "str"},
        "group": {"type": "str"},
        "resolvers": {"type": "list", "elements": "str"},
        "connect_timeout": {"type": "float"},
        "check_interval": {"type": "float"},
        "check_timeout": {"type": "float"},
        "retries": {"type": "int"},
        "max_body": {"type": "int"},
        "max_connections": {"type": "int"},
    }


def settings_from_params(params: Mapping[str, Any]) -> dict[str, Any]:
    """Check and take over what the user set of the balancer's settings.

    :raises InputError: on a value that HAProxy's configuration must not hold.
    """
    given = {key: value for key, value in params.items() if value is not None and key not in _ACCESS}
    for key in ("bind", "stats_bind", "runtime_bind"):
        if given.get(key):
            _require_bind(given[key], f"haproxy.{key}", sockets=key == "runtime_bind")
    if "bind" in given and not given["bind"]:
        raise InputError("haproxy.bind: it is empty.", hint="Use ADDRESS:PORT, such as '*:8080'.")
    for key in ("certificate", "member_ca"):
        if given.get(key) and not re.fullmatch(r"/[A-Za-z0-9._/@+-]{1,255}", given[key]):
            raise InputError(
                f"haproxy.{key}: {given[key]!r} is no path that HAProxy's file can hold.",
                hint="Use a path from the root, of letters, digits and '._/@+-', as the machine of HAProxy has it.",
            )
    if "member_ca" in given and not given["member_ca"]:
        raise InputError("haproxy.member_ca: it is empty.", hint="Name the file with the authorities' certificates.")
    if given.get("member_tls_name"):
        require_host_name(given["member_tls_name"], "haproxy.member_tls_name")
    for key in ("user", "group"):
        if given.get(key) and not re.fullmatch(r"[a-z_][a-z0-9_-]{0,31}", given[key]):
            raise InputError(f"haproxy.{key}: {given[key]!r} is no name of a {key}.", hint="Use a system account.")
    for index, address in enumerate(given.get("resolvers", [])):
        _require_bind(address, f"haproxy.resolvers[{index}]")
    for key in ("connect_timeout", "check_interval", "check_timeout"):
        _require_range(given, key, 0.01, 60.0, "seconds")
    _require_range(given, "retries", 1, 10, "tries")
    _require_range(given, "max_body", 16 * 1024, 64 * 1024 * 1024, "bytes")
    _require_range(given, "max_connections", 10, 1_000_000, "connections")
    return given


def _require_bind(value: str, option: str, sockets: bool = False) -> None:
    if sockets and re.fullmatch(r"/[A-Za-z0-9._/-]{1,100}", value):
        return
    host, _unused, port = value.rpartition(":")
    if not re.fullmatch(r"[0-9]{1,5}", port, re.ASCII) or not host:
        raise InputError(f"{option}: {value!r} is no address.", hint="Use ADDRESS:PORT, such as '127.0.0.1:8404'.")
    require_port(int(port), option)
    if host not in ("*", "[::]", "0.0.0.0"):
        require_address(host.strip("[]"), option)


def _require_range(given: Mapping[str, Any], key: str, low: float, high: float, unit: str) -> None:
    if key in given and not low <= given[key] <= high:
        raise InputError(f"haproxy.{key}: {given[key]} is out of range.", hint=f"Use {low} to {high} {unit}.")


class HAProxy:
    """The balancer behind :class:`Balancer`.

    :param access: the options config_path, master, validate_command, timeout (seconds for one answer or one reload).
    :param adopt: whether a configuration that is not ours may be replaced.
    """

    predicts = True

    def __init__(self, access: Mapping[str, Any], adopt: bool = False) -> None:
        self._path = Path(access["config_path"])
        self._timeout: float = access["timeout"]
        self._master = Master(access["master"], self._timeout)
        self._validate: list[str] | None = access["validate_command"]
        self._adopt = adopt
        self._text: str | None = None

    def defaults(self) -> dict[str, Any]:
        """Give every setting with its default."""
        return dict(DEFAULTS)

    @contextmanager
    def exclusive(self) -> Iterator[None]:
        """Hold a lock on a file beside the configuration. It ends with its process, however that ends."""
        path = self._path.with_name(f".{self._path.name}.lock")
        try:
            # Not for writing: the next one may be another user. The file stays: of two that made it anew, each would
            # have its own lock.
            handle = os.open(path, os.O_RDONLY | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o644)
        except OSError as error:
            raise BalancerError(
                f"the lock file {path} cannot be opened: {error}.", hint="Check the folder's owner."
            ) from error
        try:
            self._lock(handle, path)
            yield
        finally:
            os.close(handle)

    def _lock(self, handle: int, path: Path) -> None:
        """Wait for another writer, for as long as a whole change with its reload and its way back may take."""
        seconds = 3 * self._timeout
        deadline = time.monotonic() + seconds
        while True:
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
                return
            except BlockingIOError:
                if time.monotonic() >= deadline:
                    break
            time.sleep(0.05)
        raise BalancerError(
            f"{_locker(handle)} has held {path} for {seconds:g} s, by which it changes the endpoint; nothing was done.",
            hint="If it is stopped or hangs, kill it and run this again, which mends what it has left.",
        )

    def read(self) -> Observed:
        """Read the file, and what the running process makes of it."""
        try:
            self._text = self._path.read_text(encoding="utf-8")
        except FileNotFoundError:
            self._text = None
        except (OSError, UnicodeDecodeError) as error:
            raise BalancerError(
                f"the HAProxy configuration {self._path} cannot be read: {error}.", hint="Check the path and its owner."
            ) from error
        complaints: list[str] = []
        endpoint = self._stored(complaints)
        if endpoint is None:
            return Observed(None, None, tuple(complaints))
        if self._text != render(endpoint, dict(endpoint.settings)):
            complaints.append(f"{self._path} was changed by hand, or written by another version")
        info = self._master.worker("show info")
        wanted = description(endpoint, dict(endpoint.settings))
        if f"\ndescription: {wanted}\n" not in info:
            complaints.append("the running HAProxy has not loaded its configuration")
            return Observed(endpoint, None, tuple(complaints))
        return Observed(endpoint, self._traffic(endpoint), tuple(complaints))

    def _stored(self, complaints: list[str]) -> Endpoint | None:
        if self._text is None:
            return None
        try:
            ours, endpoint = read_definition(self._text)
        except ValueError as error:
            ours, endpoint = False, None
            problem = str(error)
        else:
            problem = "its first line is not our mark"
        if not ours and not self._adopt:
            raise BalancerError(
                f"{self._path} is not managed by this collection ({problem}) and is left alone.",
                hint="Set adopt=true to replace it, or use another config_path.",
            )
        if not ours:
            complaints.append(f"{self._path} is taken over ({problem})")
        if endpoint is None:
            return None
        # What a version before this one has stored lacks the settings that are new.
        return replace(endpoint, settings={**DEFAULTS, **endpoint.settings})

    def _traffic(self, endpoint: Endpoint) -> dict[str, Traffic]:
        """Give what the running process gives each member; of several servers, the one that is unlike the rest."""
        states = self._server_states()
        traffic = {}
        for member in endpoint.members:
            found = Traffic(traffic_weight(member))
            for model in endpoint.models:
                for backend, server, wanted in servers_of(model, member):
                    weight, forced = states.get((backend, server), (wanted, ""))
                    if not forced and weight and not wanted:
                        forced = f"{'standby' if server.endswith(STANDBY) else 'active'}, weight {weight}"
                    if forced or weight != wanted:
                        found = Traffic(weight, forced)
            traffic[member.name] = found
        return traffic

    def _server_states(self) -> dict[tuple[str, str], tuple[int, str]]:
        """Give weight and forced state by backend and server."""
        lines = self._master.worker("show servers state").splitlines()
        header = next((line for line in lines if line.startswith("# ")), "").removeprefix("# ").split()
        states = {}
        for line in lines:
            values = line.split()
            if len(values) != len(header) or line.startswith("#"):
                continue
            row = dict(zip(header, values, strict=True))
            bits = int(row["srv_admin_state"])
            forced = " and ".join(name for bit, name in _FORCED.items() if bits & bit)
            states[row["be_name"], row["srv_name"]] = (int(row["srv_uweight"]), forced)
        return states

    def health(self) -> dict[str, MemberHealth]:
        """Give HAProxy's own view: the prediction checks of each member, by model."""
        text = self._master.worker("show stat -1 4 -1").lstrip("# ")
        members: dict[str, dict[str, Any]] = {}
        for row in csv.DictReader(io.StringIO(text)):
            kind, _unused, model = row["pxname"].partition(".")
            if row["svname"] in ("BACKEND", "FRONTEND") or not model:
                continue
            name = row["svname"].removesuffix(STANDBY)
            member = members.setdefault(name, {"models": {}, "reasons": {}, "sessions": 0, "rate": 0.0})
            member["sessions"] += int(row["scur"] or 0)
            # HAProxy's "sessions" of a server are requests, of which a kept connection carries many. Its req_rate
            # counts those too, but of frontends alone.
            member["rate"] += float(row["rate"] or 0)
            if (kind, row["svname"]) != ("rest", name):
                continue
            # DRAIN is a server that is up and has weight 0; "UP 1/2" is on its way down, "DOWN 1/2" on its way up.
            # Before its first check (INI) a server counts as up, which nobody has seen yet.
            up = row["status"] in ("UP", "DRAIN") and row["check_status"] not in ("", "INI")
            member["models"][model] = up
            if not up:
                words = (row["check_status"], row["check_desc"], row["last_chk"])
                member["reasons"][model] = f"{row['status']}: {', '.join(word for word in words if word)}"
        return {name: MemberHealth(all(found["models"].values()), **found) for name, found in members.items()}

    def addresses(self) -> list[str]:
        """Give none: what it listens at, such as ``*``, is not what clients call its machine, or the machines."""
        return []

    def errors(self) -> int:
        """Give the answers of 500 and above that clients got since this worker of HAProxy started."""
        text = self._master.worker("show stat -1 1 -1").lstrip("# ")
        return sum(int(row["hrsp_5xx"] or 0) for row in csv.DictReader(io.StringIO(text)))

    def check(self, plan: Plan) -> None:
        """Ask HAProxy itself whether it takes the configuration, where a command to ask is known."""
        if not plan.steps:
            return
        if plan.desired is not None:
            check_everybody_serves(plan.desired)
            check_tls_names(plan.desired)
        command = self._validate
        if command is None:
            program = shutil.which("haproxy")
            command = [program, "-c", "-f", "/dev/stdin"] if program else []
        if not command:
            return
        text = without_lookups(self._wanted(plan))
        try:
            # Not run_command: the door inside the controller has no AnsibleModule.
            verdict = subprocess.run(  # pylint: disable=ansible-bad-function
                command, input=text, capture_output=True, text=True, timeout=60, check=False
            )
        except (OSError, subprocess.TimeoutExpired) as error:
            raise BalancerError(
                f"the configuration could not be validated: {error}.", hint="Correct haproxy.validate_command."
            ) from error
        if verdict.returncode:
            raise BalancerError(
                f"HAProxy does not accept the configuration; nothing was changed. It says: {_alerts(verdict.stderr)}",
                hint="Correct the options it names.",
            )

    def diff(self, plan: Plan) -> list[dict[str, str]]:
        """Give the change of the file."""
        before, after = self._text or "", self._wanted(plan)
        if not plan.steps or before == after:
            return []
        return [{"before_header": str(self._path), "after_header": str(self._path), "before": before, "after": after}]

    def apply(self, plan: Plan) -> None:
        """Write the file, then make the running process follow: by weights alone where that is enough.

        The file comes first: cut in between, the next run finds the intent in it, and mends the process.
        """
        before, desired = plan.observed, plan.desired
        new = self._wanted(plan)
        processes = self._master.processes()
        if desired is not None and before.endpoint is not None and before.traffic is not None:
            same = description(desired, dict(desired.settings)) == description(
                before.endpoint, dict(before.endpoint.settings)
            )
            if same:
                self._write(new)
                self._set_traffic(desired, processes)
                return
        settings = self._settings(plan)
        # Until HAProxy has let go of an endpoint, the file tells the next run that there is one to be taken away.
        self._write(new if desired else render(None, settings, leaving=before.endpoint))
        failure = self._reload(processes, description(desired, settings))
        if not failure:
            if desired is None:
                self._write(new)
            return
        # The old processes still serve; the old file keeps it so when HAProxy is started anew.
        if self._text is None:
            self._path.unlink(missing_ok=True)
        else:
            self._write(self._text)
            self._master.ask("reload")
        raise BalancerError(
            f"HAProxy did not take the new configuration ({failure}); the old one is in force again.",
            hint="Its log says why; with haproxy.validate_command it is said here, before anything is changed.",
            details={"config_diff": "\n".join(difflib.unified_diff((self._text or "").splitlines(), new.splitlines()))},
        )

    def _wanted(self, plan: Plan) -> str:
        return render(plan.desired, self._settings(plan))

    def _settings(self, plan: Plan) -> dict[str, Any]:
        known = plan.desired or plan.observed.endpoint
        return dict(known.settings) if known else dict(DEFAULTS)

    def _write(self, text: str) -> None:
        """Replace the file in one step, with its owner and mode."""
        folder = self._path.parent
        try:
            handle, temporary = tempfile.mkstemp(prefix=f".{self._path.name}.", dir=folder)
            try:
                with os.fdopen(handle, "w", encoding="utf-8") as stream:
                    stream.write(text)
                    stream.flush()
                    os.fsync(stream.fileno())
                # HAProxy may read it as another user; it holds no secret.
                Path(temporary).chmod(0o644)
                if self._path.exists():
                    shutil.copymode(self._path, temporary)
                    status = self._path.stat()
                    os.chown(temporary, status.st_uid, status.st_gid)
                Path(temporary).replace(self._path)
            except BaseException:
                Path(temporary).unlink(missing_ok=True)
                raise
            directory = os.open(folder, os.O_RDONLY)
            try:
                os.fsync(directory)
            finally:
                os.close(directory)
        except OSError as error:
            raise BalancerError(
                f"the HAProxy configuration {self._path} cannot be written: {error}.", hint="Check the folder's owner."
            ) from error

    def _reload(self, before: Processes, wanted: str) -> str:
        """Reload, and give the reason when the new configuration is not in force in time."""
        self._master.ask("reload")
        deadline = time.monotonic() + self._timeout
        last = "it did not answer"
        while time.monotonic() < deadline:
            time.sleep(0.02)
            try:
                now = self._master.processes()
                if now.failed > before.failed or (now.reloads > before.reloads and now.failed):
                    return "the reload failed"
                if f"\ndescription: {wanted}\n" in self._master.worker("show info"):
                    return ""
                last = "the new process does not answer yet"
            except BalancerError as error:
                last = str(error)
        return f"no verdict within {self._timeout:g} s: {last}"

    def _set_traffic(self, desired: Endpoint, processes: Processes) -> None:
        states = self._server_states()
        commands = []
        for member in desired.members:
            for model in desired.models:
                for backend, name, wanted in servers_of(model, member):
                    weight, forced = states.get((backend, name), (None, ""))
                    server = f"{backend}/{name}"
                    if weight != wanted:
                        commands.append((wanted > 0, f"set server {server} weight {wanted}"))
                    if forced:
                        commands.append((wanted > 0, f"set server {server} state ready"))
        # What brings traffic comes before what takes it away.
        ordered = [command for _unused, command in sorted(commands, key=lambda entry: not entry[0])]
        if not ordered:
            return
        answer = self._master.worker("; ".join(ordered)).strip()
        if answer:
            raise BalancerError(
                f"HAProxy did not take every change of traffic: {answer}", hint="Run the task again: it mends the rest."
            )
        for pid in processes.old_workers:
            # A process that a reload left behind may know other servers, and ends by itself: as far as it goes.
            self._master.process(pid, "; ".join(ordered))


def _locker(handle: int) -> str:
    """Name the process that holds the lock on an open file, where Linux tells."""
    status = os.fstat(handle)
    place = f"{os.major(status.st_dev):02x}:{os.minor(status.st_dev):02x}:{status.st_ino}"
    try:
        for line in Path("/proc/locks").read_text(encoding="ascii").splitlines():
            words = line.split()
            if "FLOCK" in words and place in words and "->" not in words:
                return f"the process {words[words.index(place) - 1]}"
    except OSError:
        pass
    return "another process"


def _alerts(text: str) -> str:
    """Give HAProxy's errors without what surrounds them."""
    alerts = [line.split(" : ", 1)[-1] for line in text.splitlines() if "[ALERT]" in line]
    return " / ".join(alerts or text.strip().splitlines()[-5:])


class Processes:
    """What the master says of its processes."""

    def __init__(self, text: str) -> None:
        master = re.search(r"^\d+\s+master\s+(\d+)(?:\s+\[failed: (\d+)\])?", text, re.MULTILINE)
        if not master:
            raise BalancerError(f"the HAProxy master answered {text!r}.", hint="HAProxy 2.6 or later is needed.")
        self.reloads = int(master[1])
        self.failed = int(master[2] or 0)
        old = text.partition("# old workers")[2].partition("# programs")[0]
        self.old_workers = [int(pid) for pid in re.findall(r"^(\d+)\s+worker", old, re.MULTILINE)]


class Master:
    """The command line of HAProxy's master process.

    :param address: ``host:port`` or the path of a Unix socket.
    :param timeout: seconds for one answer.
    """

    def __init__(self, address: str, timeout: float) -> None:
        self._address = address
        self._timeout = timeout

    def processes(self) -> Processes:
        """Give the processes, and with them whether the master answers at all."""
        return Processes(self.ask("show proc"))

    def worker(self, command: str) -> str:
        """Ask the worker that serves now; several commands are separated by semicolons."""
        return self.ask("; ".join(f"@1 {part}" for part in command.split("; ")))

    def process(self, pid: int, command: str) -> str:
        """Ask a worker by its process number."""
        return self.ask("; ".join(f"@!{pid} {part}" for part in command.split("; ")))

    def ask(self, command: str) -> str:
        """Send one line, and give everything that comes back.

        A master that is away for a moment is asked again: nothing that is said to it does harm twice.

        :raises BalancerError: when nothing listens or the answer does not end in time.
        """
        deadline = time.monotonic() + min(_AWAY_SECONDS, self._timeout)
        while True:
            try:
                return self._exchange(command)
            except OSError as error:
                away = isinstance(error, (ConnectionRefusedError, ConnectionResetError))
                if away and time.monotonic() < deadline:
                    time.sleep(0.02)
                    continue
                raise BalancerError(
                    f"HAProxy's master does not answer at {self._address}: {error}.",
                    hint="Start HAProxy with -W -S ADDRESS, and give that address as haproxy.master.",
                ) from error

    def _exchange(self, command: str) -> str:
        with self._connect() as connection:
            connection.sendall(f"{command}; quit\n".encode())
            answer = bytearray()
            while data := connection.recv(65536):
                answer += data
        return answer.decode("utf-8", "replace")

    def _connect(self) -> socket.socket:
        if self._address.startswith("/"):
            connection = socket.socket(socket.AF_UNIX)
            try:
                connection.settimeout(self._timeout)
                connection.connect(self._address)
            except BaseException:
                connection.close()
                raise
            return connection
        host, _unused, port = self._address.rpartition(":")
        return socket.create_connection((host.strip("[]"), int(port)), self._timeout)


__all__ = ["DEFAULTS", "OWNERSHIP", "HAProxy"]
