# SPDX-FileCopyrightText: The modelfleet maintainers
# SPDX-License-Identifier: GPL-3.0-or-later
"""The server's core: its configuration, version labels and the answers of ModelService.

Source: TF Serving's model_servers/server_core.cc, get_model_status_impl.cc, model_service_impl.cc and
servables/tensorflow/get_model_metadata_impl.cc.
"""

from __future__ import annotations

import contextlib
import posixpath
import re
import threading
from collections.abc import Iterator
from typing import Any

from google.protobuf import text_format
from tensorflow_serving.apis import get_model_metadata_pb2, get_model_status_pb2
from tensorflow_serving.config import model_server_config_pb2

from .errors import Code, ServingError, invalid
from .log import error, info
from .manager import Manager, State, StateMonitor
from .servable import Servable
from .source import Source

PLATFORM = "tensorflow"


def read_text_proto(path: str, message: Any) -> Any:
    """Parse a text-format file into `message`; raises INVALID_ARGUMENT or NOT_FOUND."""
    try:
        with open(path, encoding="utf-8") as stream:
            text = stream.read()
    except OSError as problem:
        raise ServingError(Code.NOT_FOUND, f"{path}; {problem.strerror}") from None
    try:
        return text_format.Parse(text, message)
    except text_format.ParseError as problem:
        error(f"Error parsing text-format {message.DESCRIPTOR.full_name}: {problem}")
        raise invalid(f"Invalid protobuf file: '{path}'") from None
    except UnicodeDecodeError:
        raise invalid(f"Invalid protobuf file: '{path}'") from None


def single_model_config(name: str, base_path: str) -> Any:
    """The configuration that --model_name and --model_base_path stand for."""
    info(f"Building single TensorFlow model file config:  model_name: {name} model_base_path: {base_path}")
    config = model_server_config_pb2.ModelServerConfig()
    config.model_config_list.config.add(name=name, base_path=base_path, model_platform=PLATFORM)
    return config


def _platform(model: Any) -> str:
    if model.model_type:
        if model.model_platform:
            raise invalid(
                "Illegal setting both ModelServerConfig::model_type (deprecated) and"
                f" ModelServerConfig::model_platform, model name is {model.name}"
            )
        if model.model_type != model_server_config_pb2.ModelType.Value("TENSORFLOW"):
            raise invalid(f"ModelServerConfig::model_type choice {model.model_type} not supported.")
        return PLATFORM
    if not model.model_platform:
        raise invalid(
            "Illegal setting neither ModelServerConfig::model_type (deprecated) nor"
            f" ModelServerConfig::model_platform, model name is {model.name}"
        )
    return str(model.model_platform)


class Core:
    """Serves the models of one configuration, which may be replaced while it runs."""

    def __init__(
        self, manager: Manager, monitor: StateMonitor, source: Source, *, allow_labels_for_unavailable: bool
    ) -> None:
        self._manager, self._monitor, self._source = manager, monitor, source
        self._allow_labels_for_unavailable = allow_labels_for_unavailable
        self._lock = threading.Lock()
        self._config: Any = None
        self._started = False
        self._labels: dict[str, dict[str, int]] = {}

    # -- configuration

    def reload(self, config: Any) -> None:
        """Replace all models by those of a ModelServerConfig and wait until the new names are available.

        Models whose name was there before are not waited for. Raises ServingError.
        """
        with self._lock:
            kind = config.WhichOneof("config")
            if kind is None:
                info("Taking no action for empty config.")
                return
            if kind != "model_config_list":
                raise ServingError(
                    Code.FAILED_PRECONDITION,
                    "Cannot transition to requested config. It is only legal to transition from one ModelConfigList"
                    " to another.",
                )
            models = list(config.model_config_list.config)
            self._validate(models)
            self._config = config
            self._update_labels(models)
            info("Adding/updating models.")
            for model in models:
                if _platform(model) != PLATFORM:
                    raise invalid(f"Model {model.name} requests unsupported platform {_platform(model)}")
                info(f" (Re-)adding model: {model.name}")
            by_name = {model.name: model for model in models}
            if self._started:
                new = set(by_name) - self._source.names
                fresh = self._monitor.listen()
                try:
                    self._source.update(by_name)
                    fresh.wait_available(new)
                finally:
                    self._monitor.forget(fresh)
            else:
                self._source.update(by_name)
                self._started = True
                self._source.start()
                self._monitor.wait_available(by_name)
                self._manager.initial_load_done()
            info("Finished adding/updating models")

    def _validate(self, models: list[Any]) -> None:
        names: set[str] = set()
        for model in models:
            if model.name in names:
                raise invalid(f"Illegal to list model {model.name} multiple times in config list")
            names.add(model.name)
        for model in models:
            if not posixpath.isabs(model.base_path) and not re.match(r"[a-zA-Z][a-zA-Z0-9.]*://", model.base_path):
                raise invalid(
                    f"Expected model {model.name} to have an absolute path or URI; got base_path()={model.base_path}"
                )
        if self._config is not None:
            old = {model.name: _platform(model) for model in self._config.model_config_list.config}
            for model in models:
                if model.name in old and _platform(model) != old[model.name]:
                    raise invalid(
                        f"Illegal to change a model's platform. For model {model.name} platform was"
                        f" {old[model.name]} and new platform requested is {_platform(model)}"
                    )

    def _update_labels(self, models: list[Any]) -> None:
        labels: dict[str, dict[str, int]] = {}
        for model in models:
            states = self._monitor.versions(model.name)
            for label, version in model.version_labels.items():
                existing = self._labels.get(model.name, {}).get(label)
                unused = existing is None or existing == version
                state = states.get(version)
                available = state is not None and state.state is State.AVAILABLE
                if not available and not (self._allow_labels_for_unavailable and unused):
                    raise ServingError(
                        Code.FAILED_PRECONDITION,
                        f"Request to assign label to version {version} of model {model.name},"
                        " which is not currently available for inference",
                    )
                labels.setdefault(model.name, {})[label] = version
        self._labels = labels

    # -- requests

    @contextlib.contextmanager
    def servable(self, spec: Any) -> Iterator[Servable]:
        """The servable that a ModelSpec names, for as long as the block runs."""
        if not spec.name:
            raise invalid("ModelSpec has no name specified.")
        version: int | None = None
        choice = spec.WhichOneof("version_choice")
        if choice == "version":
            version = spec.version.value
        elif choice == "version_label":
            version = self._version_of(spec.name, spec.version_label)
        servable = self._manager.acquire(spec.name, version)
        try:
            yield servable
        finally:
            servable.release()

    def _version_of(self, name: str, label: str) -> int:
        version = self._labels.get(name, {}).get(label)
        if version is None:
            raise invalid(f"Unrecognized servable version label: {label}")
        return version

    def status(self, request: Any) -> Any:
        """GetModelStatusRequest -> GetModelStatusResponse. A label in the request is not looked at: so the original."""
        if not request.HasField("model_spec"):
            raise invalid("Missing ModelSpec")
        spec = request.model_spec
        versions = self._monitor.versions(spec.name)
        if spec.HasField("version"):
            wanted = spec.version.value
            if wanted not in versions:
                raise ServingError(Code.NOT_FOUND, f"Could not find version {wanted} of model {spec.name}")
            versions = {wanted: versions[wanted]}
        elif not versions:
            raise ServingError(Code.NOT_FOUND, f"Could not find any versions of model {spec.name}")
        response = get_model_status_pb2.GetModelStatusResponse()
        for version, state in versions.items():
            item = response.model_version_status.add(version=version, state=int(state.state))
            item.status.error_code = int(state.error.code) if state.error else 0
            if state.error:
                item.status.error_message = state.error.message
        return response

    def metadata(self, request: Any) -> Any:
        """GetModelMetadataRequest -> GetModelMetadataResponse: the signatures of a version that is loaded."""
        if not request.HasField("model_spec"):
            raise invalid("Missing ModelSpec")
        if not request.metadata_field:
            raise invalid("GetModelMetadataRequest must specify at least one metadata_field")
        for field in request.metadata_field:
            if field != "signature_def":
                raise invalid(f"Metadata field {field} is not supported")
        response = get_model_metadata_pb2.GetModelMetadataResponse()
        with self.servable(request.model_spec) as servable:
            signatures = get_model_metadata_pb2.SignatureDefMap()
            for name, signature in servable.signatures.items():
                signatures.signature_def[name].CopyFrom(signature)
            response.model_spec.name = servable.name
            response.model_spec.version.value = servable.version
            response.metadata["signature_def"].Pack(signatures)
        return response
