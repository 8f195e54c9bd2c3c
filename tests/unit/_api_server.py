# SPDX-FileCopyrightText: The modelfleet maintainers
# SPDX-License-Identifier: GPL-3.0-or-later
"""A small API server in this process, for what no real one does on request: errors, resets, slow answers.

It keeps objects of any kind, lists by equality of labels, watches, replaces, deletes, dry-runs, and applies
server-side. What it simplifies, and what the tests on a real API server and molecule are there for:

- It validates, defaults and admits nothing, and runs no controllers. A namespace goes at once with all that is in it.
- Server-side apply merges maps, and the lists in ``_LIST_KEYS`` by their keys; any other list is one value. Versions of
  an API are not converted, and only managers that apply own fields.
- ``exec`` runs the command in a shell of this machine, with ``/models`` standing for a temporary folder.
"""

from __future__ import annotations

import base64
import contextlib
import copy
import hashlib
import json
import re
import socket
import ssl
import struct
import subprocess
import threading
import time
import uuid
from collections.abc import Callable
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, Self
from urllib.parse import parse_qs, unquote, urlsplit

Json = dict[str, Any]
FieldPath = tuple[str, ...]

_LIST_KEYS = {
    "containers": ("name",),
    "env": ("name",),
    "ports": ("containerPort", "port", "protocol"),
    "volumeMounts": ("mountPath",),
    "volumes": ("name",),
}
_URL = re.compile(
    r"/(?:api|apis/(?P<group>[^/]+))/(?P<version>[^/]+)"
    r"(?:/namespaces/(?P<namespace>[^/]+)(?=/))?/(?P<plural>[^/]+)(?:/(?P<name>[^/]+))?(?P<rest>/.*)?"
)


@dataclass
class Fault:
    """What goes wrong with the next matching requests.

    :param method: ``GET`` also matches lists, ``WATCH`` only watches.
    :param path: a regular expression that is searched in the path.
    :param status: the answer's code; None resets the connection instead of answering.
    :param delay: seconds before the answer; a status below 400 then is the right answer, only late.
    :param stream: the events of a watch, instead of the right ones.
    """

    method: str
    path: str
    status: int | None
    reason: str = ""
    message: str = "injected"
    headers: dict[str, str] = field(default_factory=dict)
    times: int = 1
    delay: float = 0.0
    stream: list[Json] = field(default_factory=list)


@dataclass
class Request:
    """One request as the server saw it.

    :param impersonation: the values of each ``Impersonate-`` header, of which there may be several.
    :param certificate: the client's, as DER.
    """

    method: str
    path: str
    query: dict[str, str]
    headers: dict[str, str]
    body: bytes
    impersonation: dict[str, list[str]] = field(default_factory=dict)
    certificate: bytes | None = None

    @property
    def writes(self) -> bool:
        """Whether it could have changed something."""
        if self.method == "DELETE" and self.body:
            return json.loads(self.body).get("dryRun") != ["All"]
        return self.method not in ("GET", "WATCH") and self.query.get("dryRun") != "All"


class ApiServer:
    """The server; use it as a context manager.

    :param folder: what ``/models`` is for ``exec``, where ``folder_of`` makes no difference between pods.
    :param tls: serves HTTPS by this context.
    """

    def __init__(self, folder: Path, tls: ssl.SSLContext | None = None) -> None:
        self.folder = folder
        self.folder_of: Callable[[str], Path] = lambda pod: folder
        self.objects: dict[tuple[str, str, str, str], Json] = {}
        self.requests: list[Request] = []
        self.faults: list[Fault] = []
        self.on_create: Callable[[Json], None] = lambda manifest: None
        self.pod_answer: Callable[[str, str, str, bytes], tuple[int, Any]] = lambda *_: (503, {"message": "no pod"})
        self.exec_cut_after: int | None = None
        self.exec_status: Json | None = None
        self._history: list[tuple[int, str, tuple[str, str], Json]] = []
        self._version = 100
        self._changed = threading.Condition(threading.RLock())
        self._http = ThreadingHTTPServer(("127.0.0.1", 0), type("Handler", (_Handler,), {"api": self}))
        self._http.daemon_threads = True
        self._http.block_on_close = False
        self.stopped = False
        if tls:
            self._http.socket = tls.wrap_socket(self._http.socket, server_side=True)
        self.url = f"{'https' if tls else 'http'}://127.0.0.1:{self._http.server_port}"

    def __enter__(self) -> Self:
        threading.Thread(target=self._http.serve_forever, args=(0.02,), daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        with self._changed:
            self.stopped = True
            self._changed.notify_all()
        self._http.shutdown()
        self._http.server_close()

    def fail(self, method: str, path: str, status: int | None, **more: Any) -> None:
        """Let the next matching requests go wrong; see :class:`Fault`."""
        self.faults.append(Fault(method, path, status, **more))

    def writes(self) -> list[Request]:
        """Give the requests that could have changed something."""
        return [request for request in self.requests if request.writes]

    def put(self, plural: str, manifest: Json) -> Json:
        """Store an object as it is, the way a controller would."""
        metadata = manifest["metadata"]
        key = (manifest["apiVersion"], plural, metadata.get("namespace", ""), metadata["name"])
        return self._store(key, manifest)

    def find(self, plural: str) -> list[Json]:
        """Give the objects of a kind."""
        with self._changed:
            return [manifest for key, manifest in self.objects.items() if key[1] == plural]

    def remove(self, plural: str, name: str) -> None:
        """Remove an object as its controller would."""
        with self._changed:
            for key in [key for key in self.objects if key[1] == plural and key[3] == name]:
                self._drop(key)

    # What the handler calls.

    def take_fault(self, method: str, path: str) -> Fault | None:
        """Give the fault for a request, and use it up."""
        with self._changed:
            for fault in self.faults:
                if fault.times > 0 and fault.method == method and re.search(fault.path, path):
                    fault.times -= 1
                    return fault
        return None

    def read(self, key: tuple[str, str, str, str]) -> tuple[int, Json]:
        with self._changed:
            found = self.objects.get(key)
            return (200, found) if found else _not_found(key)

    def list(self, api_version: str, plural: str, namespace: str, selector: str) -> tuple[int, Json]:
        with self._changed:
            items = [
                {name: value for name, value in manifest.items() if name not in ("apiVersion", "kind")}
                for key, manifest in sorted(self.objects.items())
                if key[:2] == (api_version, plural) and namespace in ("", key[2]) and _selected(manifest, selector)
            ]
            return 200, {"kind": "List", "items": items, "metadata": {"resourceVersion": str(self._version)}}

    def events_since(self, version: int, timeout: float) -> list[tuple[int, str, tuple[str, str], Json]]:
        """Wait for changes after a version."""
        with self._changed:
            self._changed.wait_for(lambda: self.stopped or self._version > version, timeout)
            return [event for event in self._history if event[0] > version]

    def create(self, key: tuple[str, str, str, str], manifest: Json, dry: bool) -> tuple[int, Json]:
        with self._changed:
            if missing := self._missing_namespace(key):
                return missing
            if key in self.objects:
                return _status(409, "AlreadyExists", f'{key[1]} "{key[3]}" already exists')
            return 201, manifest if dry else self._store(key, manifest)

    def apply(
        self, key: tuple[str, str, str, str], manifest: Json, manager: str, force: bool, dry: bool
    ) -> tuple[int, Json]:
        with self._changed:
            if missing := self._missing_namespace(key):
                return missing
            live = self.objects.get(key)
            status, merged = _apply(live, manifest, manager, force)
            if status >= 400 or dry or (live and _same(live, merged)):
                return status, merged if status >= 400 or not live or dry else live
            return (200 if live else 201), self._store(key, merged)

    def merge(self, key: tuple[str, str, str, str], patch: Json, dry: bool) -> tuple[int, Json]:
        with self._changed:
            live = self.objects.get(key)
            if live is None:
                return _not_found(key)
            merged = _merge_patch(live, patch)
            return 200, merged if dry else self._store(key, merged)

    def replace(self, key: tuple[str, str, str, str], manifest: Json, dry: bool) -> tuple[int, Json]:
        with self._changed:
            live = self.objects.get(key)
            if live is None:
                return _not_found(key)
            if manifest["metadata"].get("resourceVersion") not in (None, live["metadata"]["resourceVersion"]):
                return _status(409, "Conflict", "please apply your changes to the latest version and try again")
            return 200, manifest if dry else self._store(key, manifest)

    def delete(self, key: tuple[str, str, str, str], options: Json, dry: bool) -> tuple[int, Json]:
        with self._changed:
            live = self.objects.get(key)
            if live is None:
                return _not_found(key)
            uid = options.get("preconditions", {}).get("uid")
            if uid is not None and uid != live["metadata"]["uid"]:
                return _status(409, "Conflict", "Precondition failed: UID in precondition")
            if not dry:
                if key[1] == "namespaces":
                    for inner in [inner for inner in self.objects if inner[2] == key[3]]:
                        self._drop(inner)
                self._drop(key)
            return 200, live

    def _missing_namespace(self, key: tuple[str, str, str, str]) -> tuple[int, Json] | None:
        if key[2] not in ("", "default") and ("v1", "namespaces", "", key[2]) not in self.objects:
            return _status(404, "NotFound", f'namespaces "{key[2]}" not found')
        return None

    def _store(self, key: tuple[str, str, str, str], manifest: Json) -> Json:
        with self._changed:
            self._version += 1
            known = self.objects.get(key)
            manifest = copy.deepcopy(manifest)
            metadata = manifest["metadata"]
            metadata |= {
                "resourceVersion": str(self._version),
                "uid": (known or manifest)["metadata"].get("uid") or str(uuid.uuid4()),
            }
            metadata.setdefault("generation", 1)
            if key[1] == "namespaces":
                metadata.setdefault("labels", {})["kubernetes.io/metadata.name"] = key[3]
            if known is None:
                self.on_create(manifest)
            self.objects[key] = manifest
            self._tell("MODIFIED" if known else "ADDED", key, manifest)
            return manifest

    def _drop(self, key: tuple[str, str, str, str]) -> None:
        self._version += 1
        self._tell("DELETED", key, self.objects.pop(key))

    def _tell(self, kind: str, key: tuple[str, str, str, str], manifest: Json) -> None:
        self._history.append((self._version, kind, key[:2], copy.deepcopy(manifest)))
        self._changed.notify_all()


class _Handler(BaseHTTPRequestHandler):
    api: ApiServer
    protocol_version = "HTTP/1.1"
    # Headers and body go out in two writes; without this each answer waits for the other side's delayed ACK.
    disable_nagle_algorithm = True

    def handle(self) -> None:
        with contextlib.suppress(OSError):  # the client left
            super().handle()

    def log_message(self, *_: object) -> None:
        """Stay silent."""

    def do_GET(self) -> None:
        self._answer()

    do_POST = do_PATCH = do_PUT = do_DELETE = do_GET  # noqa: N815 (http.server's own names)

    def _answer(self) -> None:
        url = urlsplit(self.path)
        path, query = unquote(url.path), {key: values[-1] for key, values in parse_qs(url.query).items()}
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        method = "WATCH" if query.get("watch") else self.command
        headers = {name.lower(): value for name, value in self.headers.items()}
        impersonation = {
            name: [value.encode("latin-1").decode() for value in self.headers.get_all(name, [])]
            for name in headers
            if name.startswith("impersonate-")
        }
        client = self.connection
        certificate = client.getpeercert(binary_form=True) if isinstance(client, ssl.SSLSocket) else None
        self.api.requests.append(Request(method, path, query, headers, body, impersonation, certificate))
        if fault := self.api.take_fault(method, path):
            time.sleep(fault.delay)
            if fault.status is None:
                # Not a clean end of the connection, but a reset.
                self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                self.close_connection = True
                self.connection.close()
                return
            if fault.status >= 400:
                self._send(*_status(fault.status, fault.reason, fault.message), fault.headers)
                return
            if fault.stream:
                self._send(200, b"".join(json.dumps(event).encode() + b"\n" for event in fault.stream))
                return
        match = _URL.fullmatch(path)
        if path == "/apis/apps/v1":
            self._send(200, {"resources": []})
            return
        if match is None:
            self._send(404, {"kind": "Status", "message": "the server could not find the requested resource"})
            return
        part = match.groupdict(default="")
        api_version = f"{part['group']}/{part['version']}" if part["group"] else part["version"]
        key = (api_version, part["plural"], part["namespace"], part["name"])
        if part["rest"].startswith("/proxy"):
            pod = part["name"].partition(":")[0]
            self._send(*self.api.pod_answer(pod, self.command, part["rest"].removeprefix("/proxy"), body))
        elif part["rest"] == "/exec":
            self._execute(part["name"], parse_qs(url.query)["command"])
        elif method == "WATCH":
            self._watch(key, query)
        elif method == "GET" and part["name"]:
            self._send(*self.api.read(key))
        elif method == "GET":
            self._send(*self.api.list(api_version, part["plural"], part["namespace"], query.get("labelSelector", "")))
        else:
            self._write(method, key, query, body)

    def _write(self, method: str, key: tuple[str, str, str, str], query: dict[str, str], body: bytes) -> None:
        dry = query.get("dryRun") == "All"
        if method == "DELETE":
            # As a real one does: with a body, the query's options count for nothing.
            options = json.loads(body) if body else {"dryRun": [query.get("dryRun")]}
            self._send(*self.api.delete(key, options, options.get("dryRun") == ["All"]))
            return
        manifest = json.loads(body)
        if method == "POST":
            self._send(*self.api.create((*key[:3], manifest["metadata"]["name"]), manifest, dry))
        elif method == "PUT":
            self._send(*self.api.replace(key, manifest, dry))
        elif self.headers["Content-Type"] == "application/apply-patch+yaml":
            force = query.get("force") == "true"
            self._send(*self.api.apply(key, manifest, query["fieldManager"], force, dry))
        else:
            self._send(*self.api.merge(key, manifest, dry))

    def _watch(self, key: tuple[str, str, str, str], query: dict[str, str]) -> None:
        version = int(query.get("resourceVersion") or 0)
        end = time.monotonic() + float(query.get("timeoutSeconds", 30))
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        while (left := end - time.monotonic()) > 0 and not self.api.stopped:
            for number, kind, collection, manifest in self.api.events_since(version, left):
                version = max(version, number)
                namespace = manifest["metadata"].get("namespace", "")
                meant = collection == key[:2] and key[2] in ("", namespace)
                if meant and _selected(manifest, query.get("labelSelector", "")):
                    self._chunk(json.dumps({"type": kind, "object": manifest}).encode() + b"\n")
        self._chunk(b"")

    def _chunk(self, data: bytes) -> None:
        self.wfile.write(f"{len(data):x}\r\n".encode() + data + b"\r\n")

    def _send(self, status: int, answer: Any, headers: dict[str, str] | None = None) -> None:
        data = answer if isinstance(answer, bytes) else json.dumps(answer).encode()
        self.send_response(status)
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def _execute(self, pod: str, command: list[str]) -> None:
        """Speak Kubernetes' channel protocol over a websocket, with a real process at the other end."""
        if self.headers.get("Accept", "*/*") != "*/*":  # as the real one
            self._send(406, b"406: Not Acceptable")
            return
        accept = hashlib.sha1(self.headers["Sec-WebSocket-Key"].encode() + b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11")
        self.send_response(101)
        self.send_header("Upgrade", "websocket")
        self.send_header("Connection", "Upgrade")
        self.send_header("Sec-WebSocket-Accept", base64.b64encode(accept.digest()).decode())
        self.send_header("Sec-WebSocket-Protocol", "v5.channel.k8s.io")
        self.end_headers()
        self.close_connection = True
        words = [re.sub(r"^/models(?=/|$)", str(self.api.folder_of(pod)), word) for word in command]
        process = subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        assert process.stdin
        received = 0
        while True:
            data = self._frame()
            if data[:1] == b"\xff":  # the client closed a channel: standard input
                break
            received += len(data)
            if self.api.exec_cut_after is not None and received > self.api.exec_cut_after:
                self.api.exec_cut_after = None
                process.kill()
                process.communicate()
                self.connection.close()
                return
            with contextlib.suppress(BrokenPipeError):  # it ended without reading all
                process.stdin.write(data[1:])
        output, errors = process.communicate()
        status: Json = {"status": "Success"}
        if process.returncode:
            causes = [{"reason": "ExitCode", "message": str(process.returncode)}]
            status = {"status": "Failure", "reason": "NonZeroExitCode", "details": {"causes": causes}}
        for channel, data in ((1, output), (2, errors), (3, json.dumps(self.api.exec_status or status).encode())):
            self._send_frame(2, bytes([channel]) + data)
        self._send_frame(8, struct.pack("!H", 1000))

    def _frame(self) -> bytes:
        start, length = self.rfile.read(2)
        length &= 0x7F
        if length >= 126:
            length = int.from_bytes(self.rfile.read(2 if length == 126 else 8), "big")
        mask = self.rfile.read(4)
        data = self.rfile.read(length)
        assert start & 0x80, "a fragmented frame"
        keys = mask * (length // 4 + 1)
        return (int.from_bytes(data, "big") ^ int.from_bytes(keys[:length], "big")).to_bytes(length, "big")

    def _send_frame(self, operation: int, data: bytes) -> None:
        size = struct.pack("!BQ", 127, len(data)) if len(data) > 125 else bytes([len(data)])
        self.wfile.write(bytes([0x80 | operation]) + size + data)


def _status(code: int, reason: str, message: str, causes: list[Json] | None = None) -> tuple[int, Json]:
    return code, {
        "kind": "Status",
        "apiVersion": "v1",
        "status": "Failure",
        "code": code,
        "reason": reason,
        "message": message,
        "details": {"causes": causes or []},
    }


def _not_found(key: tuple[str, str, str, str]) -> tuple[int, Json]:
    return _status(404, "NotFound", f'{key[1]} "{key[3]}" not found')


def _selected(manifest: Json, selector: str) -> bool:
    labels = manifest["metadata"].get("labels", {})
    wanted = [term.split("=", 1) for term in selector.split(",") if term]
    return all(labels.get(key) == value for key, value in wanted)


def _same(live: Json, merged: Json) -> bool:
    return json.dumps(live, sort_keys=True) == json.dumps(merged, sort_keys=True)


def _merge_patch(live: Any, patch: Any) -> Any:
    if not isinstance(patch, dict):
        return patch
    merged = dict(live) if isinstance(live, dict) else {}
    for key, value in patch.items():
        if value is None:
            merged.pop(key, None)
        else:
            merged[key] = _merge_patch(merged.get(key), value)
    return merged


def _item_key(name: str, item: Any) -> str | None:
    """Give the path element of an item in a keyed list."""
    keys = {key: item[key] for key in _LIST_KEYS.get(name, ()) if isinstance(item, dict) and key in item}
    return "k:" + json.dumps(keys, separators=(",", ":"), sort_keys=True) if keys else None


def _leaves(value: Any, path: FieldPath = (), name: str = "") -> dict[FieldPath, Any]:
    """Give the path and value of each leaf field of a manifest."""
    if isinstance(value, dict) and value:
        pairs = [(inner, (*path, f"f:{key}"), key) for key, inner in value.items()]
    elif isinstance(value, list) and value and all(_item_key(name, item) for item in value):
        pairs = [(item, (*path, str(_item_key(name, item))), "") for item in value]
    else:
        return {path: value}
    return {leaf: inner for pair in pairs for leaf, inner in _leaves(*pair).items()}


def _fields(paths: set[FieldPath]) -> Json:
    fields: Json = {}
    for path in sorted(paths):
        place = fields
        for element in path:
            place = place.setdefault(element, {})
            if element.startswith("k:"):
                place.setdefault(".", {})
    return fields


def _paths(fields: Json, path: FieldPath = ()) -> set[FieldPath]:
    inner = {key: value for key, value in fields.items() if key != "."}
    if not inner:
        return {path}
    return {leaf for key, value in inner.items() for leaf in _paths(value, (*path, key))}


def _owners(live: Json | None) -> dict[str, set[FieldPath]]:
    entries = (live or {}).get("metadata", {}).get("managedFields", [])
    return {entry["manager"]: _paths(entry["fieldsV1"]) for entry in entries}


def _apply(live: Json | None, manifest: Json, manager: str, force: bool) -> tuple[int, Json]:
    identity = {("f:apiVersion",), ("f:kind",), ("f:metadata", "f:name"), ("f:metadata", "f:namespace")}
    wanted = {path: value for path, value in _leaves(manifest).items() if path not in identity}
    present = _leaves(live or {})
    owners = _owners(live)
    others = {name: paths for name, paths in owners.items() if name != manager}
    conflicts = [
        (name, path)
        for name, paths in others.items()
        for path in sorted(paths & wanted.keys())
        if present.get(path) != wanted[path]
    ]
    if conflicts and not force:
        causes = [
            {"reason": "FieldManagerConflict", "message": f'conflict with "{name}"', "field": ".".join(path)}
            for name, path in conflicts
        ]
        words = f'Apply failed with {len(causes)} conflict: conflict with "{conflicts[0][0]}": {conflicts[0][1]}'
        return _status(409, "Conflict", words, causes)
    for name, path in conflicts:
        others[name] = others[name] - {path}
    merged = copy.deepcopy(live) if live else {"metadata": {}}
    for path in owners.get(manager, set()) - wanted.keys():
        if not any(path in paths for paths in others.values()):
            _edit(merged, path, None, remove=True)
    for path, value in {**wanted, **{path: _leaves(manifest).get(path) for path in identity}}.items():
        if value is not None:
            _edit(merged, path, value)
    merged["metadata"]["managedFields"] = [
        {"manager": name, "operation": "Apply", "apiVersion": manifest["apiVersion"], "fieldsV1": _fields(paths)}
        for name, paths in {**others, manager: set(wanted)}.items()
    ]
    return 200, merged


def _edit(place: Any, path: FieldPath, value: Any, *, remove: bool = False) -> None:
    """Set or remove one field in place; what removal leaves empty goes too."""
    element, *rest = path
    if element.startswith("k:"):
        wanted = json.loads(element[2:])
        item = next((entry for entry in place if wanted.items() <= entry.items()), None)
        if item is None:
            if remove:
                return
            item = dict(wanted)
            place.append(item)
        if rest and not (remove and rest[0][2:] in wanted):
            _edit(item, tuple(rest), value, remove=remove)
        if remove and not item.keys() - wanted.keys():
            place.remove(item)
        return
    key = element[2:]
    if not rest:
        if remove:
            place.pop(key, None)
        else:
            place[key] = copy.deepcopy(value)
        return
    if key not in place:
        if remove:
            return
        place[key] = [] if rest[0].startswith("k:") else {}
    _edit(place[key], tuple(rest), value, remove=remove)
    if remove and not place[key]:
        del place[key]
