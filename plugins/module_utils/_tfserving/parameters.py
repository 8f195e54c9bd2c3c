# SPDX-FileCopyrightText: The modelfleet maintainers
# SPDX-License-Identifier: GPL-3.0-or-later
"""TF Serving's configuration files beside the models: batching and monitoring. Pure.

Formats: the text forms of ``BatchingParameters`` (tensorflow_serving/servables/tensorflow/session_bundle_config.proto)
and ``MonitoringConfig`` (tensorflow_serving/config/monitoring_config.proto).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ansible_collections.modelfleet.serving.plugins.module_utils._errors import InputError

BATCHING_OPTION: dict[str, Any] = {
    "type": "dict",
    "options": {
        "max_batch_size": {"type": "int", "default": 32},
        "batch_timeout_micros": {"type": "int", "default": 1000},
        "num_batch_threads": {"type": "int"},
        "max_enqueued_batches": {"type": "int", "default": 100},
        "allowed_batch_sizes": {"type": "list", "elements": "int", "default": []},
    },
}


@dataclass(frozen=True)
class Batching:
    """How a server merges requests that come at the same time.

    :param max_batch_size: rows of one run of the model at most.
    :param batch_timeout_micros: microseconds that a request may wait for others.
    :param num_batch_threads: batches that run at the same time; the server's number of CPUs without it.
    :param max_enqueued_batches: more than that many are refused.
    :param allowed_batch_sizes: batches are padded up to one of these sizes, in rising order.
    """

    max_batch_size: int
    batch_timeout_micros: int
    num_batch_threads: int | None
    max_enqueued_batches: int
    allowed_batch_sizes: tuple[int, ...]


def read_batching(params: Mapping[str, Any] | None) -> Batching | None:
    """Read the ``batching`` option.

    :raises InputError: for what the server would refuse at its start.
    """
    if params is None:
        return None
    for name, least in (("max_batch_size", 1), ("batch_timeout_micros", 0), ("max_enqueued_batches", 1)):
        if params[name] < least:
            raise InputError(f"batching.{name}: {params[name]} is too few.", hint=f"Use {least} or more.")
    threads = params["num_batch_threads"]
    if threads is not None and threads < 1:
        raise InputError(f"batching.num_batch_threads: {threads} is too few.", hint="Use 1 or more, or leave it out.")
    sizes = params["allowed_batch_sizes"]
    if sizes and (sorted(set(sizes)) != sizes or sizes[0] < 1 or sizes[-1] != params["max_batch_size"]):
        raise InputError(
            f"batching.allowed_batch_sizes: the server would refuse {sizes}.",
            hint=f"Sizes must rise, and the last one be max_batch_size, {params['max_batch_size']}.",
        )
    return Batching(
        params["max_batch_size"],
        params["batch_timeout_micros"],
        threads,
        params["max_enqueued_batches"],
        tuple(sizes),
    )


def batching_text(batching: Batching) -> str:
    """Write the file for ``--batching_parameters_file``."""
    values = {
        "max_batch_size": batching.max_batch_size,
        "batch_timeout_micros": batching.batch_timeout_micros,
        "num_batch_threads": batching.num_batch_threads,
        "max_enqueued_batches": batching.max_enqueued_batches,
    }
    lines = [f"{name} {{ value: {value} }}" for name, value in values.items() if value is not None]
    return "\n".join([*lines, *(f"allowed_batch_sizes: {size}" for size in batching.allowed_batch_sizes), ""])


def monitoring_text(path: str) -> str:
    """Write the file for ``--monitoring_config_file``: metrics for Prometheus on the REST port."""
    return f'prometheus_config {{\n  enable: true\n  path: "{path}"\n}}\n'
