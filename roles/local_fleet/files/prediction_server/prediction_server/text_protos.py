# SPDX-FileCopyrightText: The modelfleet maintainers
# SPDX-License-Identifier: GPL-3.0-or-later
"""The three text-format files whose messages are not in the tensorflow-serving-api package.

Source: TF Serving's config/monitoring_config.proto, config/ssl_config.proto and, for BatchingParameters,
servables/tensorflow/session_bundle_config.proto.
"""

from __future__ import annotations

from typing import Any

import grpc
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory, wrappers_pb2

from .core import read_text_proto

_Field = descriptor_pb2.FieldDescriptorProto
_PACKAGE = "tensorflow.serving"
_METRICS_PATH = "/monitoring/prometheus/metrics"


def _messages() -> dict[str, Any]:
    file = descriptor_pb2.FileDescriptorProto(
        name="prediction_server/text_protos.proto",
        package=_PACKAGE,
        syntax="proto3",
        dependency=[wrappers_pb2.DESCRIPTOR.name],
    )

    def add(message: str, *fields: tuple[str, int, str]) -> None:
        target = file.message_type.add(name=message)
        for name, kind, type_name in fields:
            field = target.field.add(name=name, number=len(target.field) + 1, label=_Field.LABEL_OPTIONAL, type=kind)
            if type_name:
                field.type_name = type_name

    def wrapped(name: str, kind: str = "Int64") -> tuple[str, int, str]:
        return name, _Field.TYPE_MESSAGE, f".google.protobuf.{kind}Value"

    add("PrometheusConfig", ("enable", _Field.TYPE_BOOL, ""), ("path", _Field.TYPE_STRING, ""))
    add("MonitoringConfig", ("prometheus_config", _Field.TYPE_MESSAGE, f".{_PACKAGE}.PrometheusConfig"))
    add(
        "SSLConfig",
        ("server_key", _Field.TYPE_STRING, ""),
        ("server_cert", _Field.TYPE_STRING, ""),
        ("custom_ca", _Field.TYPE_STRING, ""),
        ("client_verify", _Field.TYPE_BOOL, ""),
    )
    # The numbers of the fields are not upstream's, which a text does not show.
    add(
        "BatchingParameters",
        wrapped("max_batch_size"),
        wrapped("batch_timeout_micros"),
        wrapped("max_enqueued_batches"),
        wrapped("num_batch_threads"),
        wrapped("thread_pool_name", "String"),
        ("allowed_batch_sizes", _Field.TYPE_INT64, ""),
        ("pad_variable_length_inputs", _Field.TYPE_BOOL, ""),
        wrapped("enable_large_batch_splitting", "Bool"),
        wrapped("max_execution_batch_size"),
    )
    file.message_type[-1].field[5].label = _Field.LABEL_REPEATED
    pool = descriptor_pool.DescriptorPool()
    pool.AddSerializedFile(wrappers_pb2.DESCRIPTOR.serialized_pb)
    pool.Add(file)
    return {
        name: message_factory.GetMessageClass(pool.FindMessageTypeByName(f"{_PACKAGE}.{name}"))
        for name in ("BatchingParameters", "MonitoringConfig", "SSLConfig")
    }


def batching_parameters(file: str = "") -> Any:
    """The BatchingParameters of a file, or without one those of --enable_batching alone."""
    message = _messages()["BatchingParameters"]()
    if file:
        return read_text_proto(file, message)
    message.thread_pool_name.value = "model_server_batch_threads"
    return message


def monitoring_path(file: str) -> str | None:
    """The path of the metrics page by a MonitoringConfig file, or None if it is not enabled."""
    config = read_text_proto(file, _messages()["MonitoringConfig"]()).prometheus_config
    return (config.path or _METRICS_PATH) if config.enable else None


def server_credentials(file: str) -> Any:
    """gRPC server credentials by an SSLConfig file."""
    config = read_text_proto(file, _messages()["SSLConfig"]())
    return grpc.ssl_server_credentials(
        [(config.server_key.encode(), config.server_cert.encode())],
        root_certificates=config.custom_ca.encode() or None,
        require_client_auth=config.client_verify,
    )
