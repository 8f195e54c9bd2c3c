# SPDX-FileCopyrightText: The modelfleet maintainers
# SPDX-License-Identifier: GPL-3.0-or-later
"""Start the server: `python -m prediction_server --port=8500 --rest_api_port=8501 --model_base_path=/models/m`.

Like the original it has no handler for SIGTERM: as process 1 of a container it serves until it is killed, which is
what lets a pod answer while the balancers forget it.
"""

from __future__ import annotations

import asyncio
import gc
import os
import signal
import sys
import threading
import traceback
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from .errors import ServingError, invalid
from .flags import Flags, parse, usage
from .log import error, info

_VERSION = "2.21.0"
# All addresses, like the original; a test on a developer's machine asks for the loopback address alone.
_HOST = os.environ.get("PREDICTION_SERVER_HOST", "0.0.0.0")


def _preload() -> None:
    from . import tensorflow_c

    try:
        tensorflow_c.library()
    except OSError as problem:
        error(f"cannot load TensorFlow's libraries: {problem}")
        os._exit(255)


def main() -> None:
    """Read the flags, load the models, listen, and serve until the process is killed."""
    program = "tensorflow_model_server"
    flags, unknown, problems = parse(sys.argv[1:])
    if problems or "--help" in unknown[:1]:
        for problem in problems:
            error(problem)
        print(usage(program), end="")
        raise SystemExit(255)
    # Loading the libraries (0.4 s) and importing the rest go side by side: the former waits for the disk only.
    threading.Thread(target=_preload, name="preload").start()
    if flags.version:
        from . import tensorflow_c

        print(f"TensorFlow ModelServer: {_VERSION}-modelfleet\nTensorFlow Library: {tensorflow_c.library().version}")
        return
    if unknown:
        # The original says so and goes on.
        print(f"unknown argument: {unknown[0]}\n{usage(program)}", end="", flush=True)
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    try:
        asyncio.run(_serve(flags))
    except ServingError as problem:
        print(f"Failed to start server. Error: {problem}", flush=True)
    except Exception:
        traceback.print_exc()
    # Threads that still load or poll must not keep the process.
    os._exit(255)


def _check(flags: Flags) -> None:
    if not flags.port and not flags.grpc_socket_path:
        raise invalid("At least one of server_options.grpc_port or server_options.grpc_socket_path must be set.")
    if flags.use_alts_credentials:
        raise invalid("ALTS credentials are not supported by this server")
    if not flags.model_base_path and not flags.model_config_file:
        raise invalid("Both server_options.model_base_path and server_options.model_config_file are empty!")
    if flags.batching_parameters_file and not flags.enable_batching:
        raise invalid(
            "server_options.batching_parameters_file is set without setting server_options.enable_batching to true."
        )
    threads = (flags.tensorflow_intra_op_parallelism, flags.tensorflow_inter_op_parallelism)
    if all(threads) and flags.tensorflow_session_parallelism > 0:
        raise invalid(
            "Either configure server_options.tensorflow_session_parallelism or"
            " (server_options.tensorflow_intra_op_parallelism, server_options.tensorflow_inter_op_parallelism)"
            " separately. You cannot configure all."
        )


def _session_config(flags: Flags) -> bytes:
    from tensorflow.core.protobuf import config_pb2

    from .core import read_text_proto

    config = config_pb2.ConfigProto()
    if flags.tensorflow_session_config_file:
        read_text_proto(flags.tensorflow_session_config_file, config)
    intra, inter = flags.tensorflow_intra_op_parallelism, flags.tensorflow_inter_op_parallelism
    if intra <= 0 and inter <= 0:
        intra = inter = flags.tensorflow_session_parallelism
    config.intra_op_parallelism_threads = max(intra, 0)
    config.inter_op_parallelism_threads = max(inter, 0)
    return bytes(config.SerializeToString())


def _initial_config(flags: Flags) -> Any:
    from tensorflow_serving.config import model_server_config_pb2

    from .core import read_text_proto, single_model_config

    if flags.model_config_file:
        return read_text_proto(flags.model_config_file, model_server_config_pb2.ModelServerConfig())
    return single_model_config(flags.model_name, flags.model_base_path)


async def _serve(flags: Flags) -> None:
    _check(flags)
    from . import rest, rpc, tensorflow_c
    from .batching import Batching
    from .core import Core
    from .manager import Manager, StateMonitor
    from .servable import Options, Servable
    from .source import Source
    from .text_protos import batching_parameters, monitoring_path, server_credentials

    batching = None
    if flags.enable_batching:
        batching = Batching(
            batching_parameters(flags.batching_parameters_file),
            batching_parameters,
            per_model=flags.enable_per_model_batching_parameters,
        )
    options = Options(
        tags=[tag for tag in flags.saved_model_tags.split(",") if tag],
        config=_session_config(flags),
        warmup=flags.enable_model_warmup,
        warmup_iterations=flags.num_request_iterations_for_warmup,
        check_method_names=flags.enable_signature_method_name_check,
        as_content=flags.enable_serialization_as_tensor_content,
        batching=batching,
    )
    monitor = StateMonitor()
    manager = Manager(
        lambda name, version, path: Servable(name, version, path, options),
        monitor,
        max_retries=flags.max_num_load_retries,
        retry_interval=flags.load_retry_interval_micros / 1e6,
        load_threads=flags.num_load_threads,
        unload_threads=flags.num_unload_threads,
    )
    source = Source(manager, flags.file_system_poll_wait_seconds)
    core = Core(
        manager, monitor, source, allow_labels_for_unavailable=flags.allow_version_labels_for_unavailable_models
    )
    config = _initial_config(flags)
    # Like the original it listens only after the first load of all its models. Nothing else runs in the loop yet,
    # but a thread keeps the interpreter able to take a signal.
    await asyncio.to_thread(core.reload, config)
    if flags.model_config_file and flags.model_config_file_poll_wait_seconds > 0:
        threading.Thread(target=_poll_config, args=(core, flags), name="config_poll", daemon=True).start()

    grpc_threads = ThreadPoolExecutor(max(flags.grpc_max_threads, 1), "grpc")
    arguments = [_channel_argument(text) for text in flags.grpc_channel_arguments.split(",") if text]
    grpc_server = rpc.server(core, grpc_threads, health=flags.enable_grpc_healthcheck_service, arguments=arguments)
    credentials = server_credentials(flags.ssl_config_file) if flags.ssl_config_file else None
    addresses = [f"{_HOST}:{flags.port}"] if flags.port else []
    addresses += [f"unix:{flags.grpc_socket_path}"] if flags.grpc_socket_path else []
    for address in addresses:
        try:
            if credentials:
                grpc_server.add_secure_port(address, credentials)
            else:
                grpc_server.add_insecure_port(address)
        except RuntimeError:
            raise invalid(f"Failed to BuildAndStart gRPC server at {address}") from None
    await grpc_server.start()
    for address in addresses:
        info(f"Running gRPC ModelServer at {address} ...")

    if flags.rest_api_port and flags.rest_api_port != flags.port:
        rest_options = rest.Options(
            timeout_ms=flags.rest_api_timeout_in_ms,
            cors=flags.rest_api_enable_cors_support,
            metrics_path=monitoring_path(flags.monitoring_config_file) if flags.monitoring_config_file else None,
        )
        rest_threads = ThreadPoolExecutor(max(flags.rest_api_num_threads, 1), "rest")
        handler = rest.Rest(core, rest_threads, rest_options)
        try:
            loop = asyncio.get_running_loop()
            await loop.create_server(handler.server(), _HOST, flags.rest_api_port, backlog=1024)
            info(f"Exporting HTTP/REST API at:localhost:{flags.rest_api_port} ...")
        except OSError:
            error(f"Failed to start HTTP Server at localhost:{flags.rest_api_port}")
    elif flags.rest_api_port:
        error(
            "server_options.http_port cannot be same as grpc_port."
            " Please use a different port for HTTP/REST API. Skipped exporting HTTP/REST API."
        )
    # What was imported stays for good: the collector need not look at it again.
    gc.collect()
    gc.freeze()
    tensorflow_c.drop_clean_pages()
    await grpc_server.wait_for_termination()


def _poll_config(core: Any, flags: Flags) -> None:
    import time

    while True:
        time.sleep(flags.model_config_file_poll_wait_seconds)
        try:
            config = _initial_config(flags)
        except ServingError as problem:
            error(f"Failed to read ModelServerConfig file: {problem.message}")
            continue
        try:
            core.reload(config)
        except ServingError as problem:
            error(f"PollFilesystemAndReloadConfig failed to ReloadConfig: {problem.message}")


def _channel_argument(text: str) -> tuple[str, Any]:
    key, _, value = text.partition("=")
    try:
        return key, int(value)
    except ValueError:
        return key, value


if __name__ == "__main__":
    main()
