# SPDX-FileCopyrightText: The modelfleet maintainers
# SPDX-License-Identifier: GPL-3.0-or-later
"""The command line, as tensorflow::Flags reads it: `--name=value`, and `--name` alone for a boolean that is true.

Source: TF Serving's model_servers/main.cc and server.h, TensorFlow's util/command_line_flags.cc.
"""

from __future__ import annotations

import dataclasses
import os
from typing import Any

_CPUS = len(os.sched_getaffinity(0))


def _flag(default: Any, text: str, *, effect: bool = True) -> Any:
    """A flag's default and help; without `effect` it is accepted and has no meaning for this server."""
    return dataclasses.field(default=default, metadata={"help": text, "effect": effect})


@dataclasses.dataclass
class Flags:
    """Every flag of tensorflow_model_server, with its default."""

    port: int = _flag(8500, "TCP port to listen on for gRPC API. Disabled if port set to zero.")
    grpc_socket_path: str = _flag("", "If non-empty, listen to a UNIX socket for gRPC API on the given path.")
    rest_api_port: int = _flag(0, "Port to listen on for HTTP/REST API. If set to zero it will not be exported.")
    rest_api_num_threads: int = _flag(4 * _CPUS, "Number of threads for HTTP/REST API processing.")
    rest_api_timeout_in_ms: int = _flag(30000, "Timeout for HTTP/REST API calls.")
    rest_api_enable_cors_support: bool = _flag(False, "Enable CORS headers in response")
    enable_batching: bool = _flag(False, "enable batching")
    allow_version_labels_for_unavailable_models: bool = _flag(
        False, "If true, allows assigning unused version labels to models that are not available yet."
    )
    batching_parameters_file: str = _flag("", "File with an ascii BatchingParameters protobuf.")
    enable_per_model_batching_parameters: bool = _flag(
        False, "Batch only models whose directory has a file batching_params.pbtxt, by what it says."
    )
    model_config_file: str = _flag("", "File with an ascii ModelServerConfig protobuf.")
    model_config_file_poll_wait_seconds: int = _flag(
        0, "Interval in seconds between each poll of the filesystem for model_config_file; 0 reads it once."
    )
    model_name: str = _flag("default", "name of model (ignored if --model_config_file flag is set)")
    model_base_path: str = _flag("", "path to export (ignored if --model_config_file flag is set, otherwise required)")
    num_load_threads: int = _flag(0, "Threads to load servables with; 0 loads in the manager's main work loop.")
    num_unload_threads: int = _flag(0, "Threads to unload servables with; 0 unloads in the manager's work loop.")
    max_num_load_retries: int = _flag(5, "Times it retries loading a model after the first failure.")
    load_retry_interval_micros: int = _flag(60_000_000, "Microseconds between load retries; negative for no wait.")
    file_system_poll_wait_seconds: int = _flag(
        1, "Interval in seconds between each poll of the filesystem for new model version; 0 polls exactly once."
    )
    flush_filesystem_caches: bool = _flag(True, "Flush filesystem caches after loading.", effect=False)
    tensorflow_session_parallelism: int = _flag(0, "Number of threads to use for running a Tensorflow session.")
    tensorflow_session_config_file: str = _flag("", "File with an ascii TensorFlow ConfigProto protobuf.")
    tensorflow_intra_op_parallelism: int = _flag(0, "Number of threads to parallelize the execution of an op.")
    tensorflow_inter_op_parallelism: int = _flag(0, "Number of operators that can be executed simultaneously.")
    use_alts_credentials: bool = _flag(False, "Use Google ALTS credentials", effect=False)
    ssl_config_file: str = _flag("", "File with an ascii SSLConfig protobuf for a secure gRPC channel.")
    platform_config_file: str = _flag("", "File with an ascii PlatformConfigMap protobuf.", effect=False)
    per_process_gpu_memory_fraction: float = _flag(0.0, "Fraction of the GPU memory space.", effect=False)
    saved_model_tags: str = _flag("serve", "Comma-separated set of tags of the meta graph def to load.")
    grpc_channel_arguments: str = _flag("", "Comma separated list of arguments to be passed to the grpc server.")
    grpc_max_threads: int = _flag(4 * _CPUS, "Max grpc server threads to handle grpc messages.")
    enable_model_warmup: bool = _flag(True, "Enables model warmup at load time.")
    num_request_iterations_for_warmup: int = _flag(0, "Times a request is iterated during warmup replay.")
    version: bool = _flag(False, "Display version")
    monitoring_config_file: str = _flag("", "File with an ascii MonitoringConfig protobuf.")
    remove_unused_fields_from_bundle_metagraph: bool = _flag(True, "Saves memory.", effect=False)
    prefer_tflite_model: bool = _flag(False, "Prefer TensorFlow Lite models.", effect=False)
    num_tflite_pools: int = _flag(_CPUS, "Number of TFLite interpreter pools.", effect=False)
    num_tflite_interpreters_per_pool: int = _flag(1, "Number of TFLite interpreters per pool.", effect=False)
    enable_signature_method_name_check: bool = _flag(False, "Enable method_name check for SignatureDef.")
    xla_cpu_compilation_enabled: bool = _flag(False, "Enable XLA:CPU JIT.", effect=False)
    xla_gpu_compilation_enabled: bool = _flag(False, "Enable both XLA:CPU JIT and XLA:GPU JIT.", effect=False)
    enable_profiler: bool = _flag(True, "Enable profiler service.", effect=False)
    thread_pool_factory_config_file: str = _flag("", "File with an ascii ThreadPoolConfig.", effect=False)
    mixed_precision: str = _flag("", "specify mixed_precision mode", effect=False)
    skip_initialize_tpu: bool = _flag(False, "Whether to skip auto initializing TPU.", effect=False)
    enable_grpc_healthcheck_service: bool = _flag(False, "Enable the standard gRPC healthcheck service.")
    enable_serialization_as_tensor_content: bool = _flag(
        False, "Enable serialization of predict response as tensor content."
    )


def parse(arguments: list[str]) -> tuple[Flags, list[str], list[str]]:
    """The flags, the arguments that are none, and what could not be read. Only the last must stop the server."""
    flags = Flags()
    unknown: list[str] = []
    problems: list[str] = []
    kinds = {field.name: type(field.default) for field in dataclasses.fields(Flags)}
    for position, argument in enumerate(arguments):
        if argument == "--":
            unknown += arguments[position:]
            break
        name, equals, value = argument[2:].partition("=")
        kind = kinds.get(name) if argument.startswith("--") else None
        if kind is None or (not equals and kind is not bool):
            unknown.append(argument)
            continue
        try:
            setattr(flags, name, _value(kind, value if equals else None))
        except ValueError:
            problems.append(f"Couldn't interpret value {value} for flag {name}.")
    return flags, unknown, problems


def _value(kind: type, text: str | None) -> Any:
    if kind is bool:
        if text is None or text in ("true", "1"):
            return True
        if text in ("false", "0"):
            return False
        raise ValueError(text)
    if kind is int:
        return int(text or "")
    return kind(text)


def usage(program: str) -> str:
    """The text that --help prints."""
    lines = [f"usage: {program}", "Flags:"]
    for field in dataclasses.fields(Flags):
        kind = {str: "string", int: "int32", bool: "bool", float: "float"}[type(field.default)]
        default = f'"{field.default}"' if kind == "string" else str(field.default).lower()
        ignored = "" if field.metadata["effect"] else " (accepted without effect)"
        lines.append(f"\t{'--' + field.name + '=' + default:<48}\t{kind}\t{field.metadata['help']}{ignored}")
    return "\n".join(lines) + "\n"
