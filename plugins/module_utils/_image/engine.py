# SPDX-FileCopyrightText: The modelfleet maintainers
# SPDX-License-Identifier: GPL-3.0-or-later
"""A Docker engine: what it, its registries and the nodes of kind clusters on it have, and how images get there."""

from __future__ import annotations

import os
import tempfile
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import IO, Any

from ansible_collections.modelfleet.serving.plugins.module_utils._errors import InputError, ServingError
from ansible_collections.modelfleet.serving.plugins.module_utils._image.context import Context
from ansible_collections.modelfleet.serving.plugins.module_utils._image.package import docker_package

# How much of a failed build's output an error quotes.
_LAST_LINES = 20
_CHUNK = 1 << 20
# containerd's own tool, in the namespace of what Kubernetes runs.
_CTR = ("ctr", "--namespace=k8s.io", "images")


@dataclass(frozen=True)
class Engine:
    """The connection to one engine; see :func:`connect`.

    :param client: a ``docker.DockerClient``.
    :param auth: ``username`` and ``password`` for the registry; without it, what ``docker login`` has stored.
    :param progress: is told each step of a long task.
    """

    client: Any
    auth: dict[str, str] | None
    progress: Callable[[str], None]

    def has(self, image: str) -> bool:
        """Tell whether the engine itself has an image."""
        with _named(f"image {image}"):
            return bool(self.client.api.images(image, quiet=True))

    def registry_has(self, image: str) -> bool:
        """Tell whether the image's registry has it.

        Who may not look gets the same answer as for an image that is not there: a registry does not tell them apart.
        """
        errors = docker_package("docker.errors")
        with _named(f"image {image}: its registry"):
            try:
                self.client.api.inspect_distribution(image, auth_config=self.auth)
            except errors.APIError as error:
                # Engines before 23 answer 500 where a registry has never heard of the name.
                if error.status_code in (401, 403, 404) or "manifest unknown" in str(error):
                    return False
                raise
            return True

    def node_has(self, node: str, image: str) -> bool:
        """Tell whether the containerd of a kind node has an image."""
        with _named(f"node {node}"):
            listed = self._node(node).exec_run([*_CTR, "list", "--quiet", f"name=={_full_name(image)}"])
        if listed.exit_code:
            raise ServingError(f"node {node}: its images can't be listed: {_text(listed.output)}.")
        return _full_name(image) in _text(listed.output).split()  # among what else it has to say

    def build(
        self, image: str, context: Context, *, build_args: Mapping[str, str], platform: str | None, network: str | None
    ) -> None:
        """Build an image under its name; the name is given only when all steps have succeeded."""
        lines: deque[str] = deque(maxlen=_LAST_LINES)
        with tempfile.TemporaryFile() as archive:
            context.write(archive)
            archive.seek(0)
            with _named(f"image {image}"):
                for event in self.client.api.build(
                    fileobj=archive,
                    custom_context=True,
                    dockerfile=context.dockerfile,
                    tag=image,
                    buildargs=dict(build_args),
                    platform=platform,
                    network_mode=network,
                    rm=True,
                    forcerm=True,
                    decode=True,
                ):
                    self._follow_build(image, event, lines)

    def _follow_build(self, image: str, event: Mapping[str, Any], lines: deque[str]) -> None:
        if "error" in event:
            raise ServingError(
                f"image {image}: the build failed: {str(event['error']).strip()}. Its last lines:\n" + "\n".join(lines),
                details={"build_output": list(lines)},
            )
        for line in event.get("stream", "").splitlines():
            if line.strip():
                lines.append(line.rstrip())
            if line.startswith("Step "):
                self.progress(f"{image}: {line}")

    def pull(self, image: str, platform: str | None) -> None:
        """Get an image from its registry."""
        self.progress(f"{image}: pull")
        repository, _colon, tag = image.rpartition(":")
        with _named(f"image {image}"):
            self._follow(
                f"image {image} could not be pulled",
                self.client.api.pull(
                    repository, tag=tag, stream=True, decode=True, auth_config=self.auth, platform=platform
                ),
            )

    def push(self, image: str) -> None:
        """Send an image to its registry."""
        self.progress(f"{image}: push")
        repository, _colon, tag = image.rpartition(":")
        with _named(f"image {image}"):
            self._follow(
                f"image {image} could not be pushed",
                self.client.api.push(repository, tag=tag, stream=True, decode=True, auth_config=self.auth),
            )

    @contextmanager
    def saved(self, image: str) -> Iterator[IO[bytes]]:
        """Keep an image as an archive for a while, so that it is read once for any number of nodes."""
        with tempfile.TemporaryFile() as archive, _named(f"image {image}"):
            for chunk in self.client.api.get_image(image):
                archive.write(chunk)
            yield archive

    def load(self, archive: IO[bytes], image: str, node: str) -> None:
        """Import a saved image into the containerd of a kind node."""
        self.progress(f"{image}: load into {node}")
        size = archive.seek(0, os.SEEK_END)
        archive.seek(0)
        # The end of the input is told by its length: to close one half of a connection is nothing that TLS can do.
        command = ["sh", "-c", f"head -c {size} | {' '.join(_CTR)} import --all-platforms --digests -"]
        with _named(f"node {node}"):
            api = self.client.api
            started = api.exec_create(self._node(node).id, command, stdin=True)["Id"]
            connection = api.exec_start(started, socket=True)
            # docker-py gives a plain socket's reader, whose socket is the one to write to.
            writer = getattr(connection, "_sock", connection)
            try:
                while chunk := archive.read(_CHUNK):
                    writer.sendall(chunk)
            except (BrokenPipeError, ConnectionResetError):
                pass  # what it says before it ended is the reason
            sockets = docker_package("docker.utils.socket")
            output = b"".join(data for _stream, data in sockets.frames_iter(connection, tty=False))
            connection.close()
            code = api.exec_inspect(started)["ExitCode"]
        if code:
            raise ServingError(f"node {node}: image {image} can't be loaded: {_text(output)}.")

    def remove(self, image: str) -> None:
        """Remove an image from the engine."""
        with _named(f"image {image}"):
            self.client.api.remove_image(image)

    def remove_from_node(self, image: str, node: str) -> None:
        """Remove an image from the containerd of a kind node."""
        with _named(f"node {node}"):
            removed = self._node(node).exec_run([*_CTR, "remove", "--sync", _full_name(image)])
        if removed.exit_code:
            raise ServingError(f"node {node}: image {image} can't be removed: {_text(removed.output)}.")

    def _node(self, name: str) -> Any:
        try:
            return self.client.containers.get(name)
        except docker_package("docker.errors").NotFound:
            raise InputError(
                f"load_into: the engine has no container {name!r}.",
                hint="Give the containers of kind's nodes, as `kind get nodes` lists them.",
            ) from None

    def _follow(self, what: str, events: Iterator[dict[str, Any]]) -> None:
        for event in events:
            if "error" in event:
                words = str(event["error"]).strip()
                denied = any(word in words.lower() for word in ("denied", "unauthorized", "authentication"))
                raise ServingError(
                    f"{what}: {words}.",
                    hint="Set registry_auth, or log in with `docker login` as the user that runs the task."
                    if denied
                    else "",
                )


@contextmanager
def connect(
    host: str | None, timeout: int, auth: dict[str, str] | None, progress: Callable[[str], None]
) -> Iterator[Engine]:
    """Connect to an engine.

    :param host: its URL; without it, what ``DOCKER_HOST`` says, or this machine's.
    :param timeout: seconds that it may be silent.
    """
    docker = docker_package()
    environment = {**os.environ, **({"DOCKER_HOST": host} if host else {})}
    shown = environment.get("DOCKER_HOST") or "unix:///var/run/docker.sock"
    try:
        client = docker.from_env(timeout=timeout, environment=environment)
    except docker.errors.DockerException as error:
        raise ServingError(
            f"The Docker engine at {shown} does not answer: {error}.",
            hint="Start it, let this user use it, or set docker_host.",
        ) from error
    try:
        yield Engine(client, auth, progress)
    finally:
        client.close()


@contextmanager
def _named(what: str) -> Iterator[None]:
    """Turn what the package raises into an error that names the thing."""
    docker = docker_package()
    broken = (
        docker.errors.DockerException,
        docker_package("requests").exceptions.RequestException,
        docker_package("urllib3").exceptions.HTTPError,
        OSError,
    )
    try:
        yield
    except docker.errors.APIError as error:
        raise ServingError(f"{what}: {str(error.explanation or error).rstrip('.')}.") from error
    except broken as error:
        raise ServingError(f"{what}: the Docker engine's answer failed: {error}.") from error


def _full_name(image: str) -> str:
    """Give the name by which containerd knows an image, with the registry and folder that Docker leaves out."""
    registry, name = docker_package("docker.auth").resolve_repository_name(image)
    if registry != "docker.io":
        return f"{registry}/{name}"
    return f"docker.io/{name if '/' in name else f'library/{name}'}"


def _text(output: bytes) -> str:
    return output.decode(errors="replace").strip()
