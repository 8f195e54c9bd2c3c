# SPDX-FileCopyrightText: The modelfleet maintainers
# SPDX-License-Identifier: GPL-3.0-or-later
"""TensorFlow through its C API: load a SavedModel and run it.

`import tensorflow` costs 4.5 s and 590 MB. The shared libraries alone load in less than half a second, and hold all
that serving needs. Source of the interface: tensorflow/c/c_api.h and tensorflow/core/platform/ctstring_internal.h.
"""

from __future__ import annotations

import ctypes
import os
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from .errors import Code, ServingError, invalid
from .json_tensors import DT_BFLOAT16, DT_STRING, NUMPY_TYPES, Array

_c = ctypes
_P = ctypes.c_void_p


class _Output(ctypes.Structure):
    _fields_ = [("oper", _P), ("index", ctypes.c_int)]


class _Buffer(ctypes.Structure):
    _fields_ = [("data", _P), ("length", ctypes.c_size_t), ("data_deallocator", _P)]


_PROTOTYPES: dict[str, tuple[Any, list[Any]]] = {
    "TF_Version": (_c.c_char_p, []),
    "TF_NewStatus": (_P, []),
    "TF_DeleteStatus": (None, [_P]),
    "TF_GetCode": (_c.c_int, [_P]),
    "TF_Message": (_c.c_char_p, [_P]),
    "TF_NewBuffer": (_P, []),
    "TF_NewBufferFromString": (_P, [_c.c_char_p, _c.c_size_t]),
    "TF_DeleteBuffer": (None, [_P]),
    "TF_NewSessionOptions": (_P, []),
    "TF_SetConfig": (None, [_P, _c.c_char_p, _c.c_size_t, _P]),
    "TF_DeleteSessionOptions": (None, [_P]),
    "TF_NewGraph": (_P, []),
    "TF_DeleteGraph": (None, [_P]),
    "TF_GraphOperationByName": (_P, [_P, _c.c_char_p]),
    "TF_LoadSessionFromSavedModel": (
        _P,
        [_P, _P, _c.c_char_p, _c.POINTER(_c.c_char_p), _c.c_int, _P, _P, _P],
    ),
    "TF_CloseSession": (None, [_P, _P]),
    "TF_DeleteSession": (None, [_P, _P]),
    "TF_SessionRun": (
        None,
        [
            *[_P, _P, _c.POINTER(_Output), _c.POINTER(_P), _c.c_int, _c.POINTER(_Output), _c.POINTER(_P), _c.c_int],
            *[_P, _c.c_int, _P, _P],
        ],
    ),
    "TF_AllocateTensor": (_P, [_c.c_int, _c.POINTER(_c.c_int64), _c.c_int, _c.c_size_t]),
    "TF_DeleteTensor": (None, [_P]),
    "TF_TensorType": (_c.c_int, [_P]),
    "TF_NumDims": (_c.c_int, [_P]),
    "TF_Dim": (_c.c_int64, [_P, _c.c_int]),
    "TF_TensorByteSize": (_c.c_size_t, [_P]),
    "TF_TensorData": (_P, [_P]),
}


class Library:
    """The loaded shared libraries, with typed functions as attributes. Thread-safe; calls release Python's lock."""

    def __init__(self, directory: Path) -> None:
        # Not RTLD_GLOBAL: they export the symbols of their own BoringSSL, to which an OpenSSL that is loaded later
        # would be bound, and crash.
        framework = ctypes.CDLL(str(directory / "libtensorflow_framework.so.2"))
        main = ctypes.CDLL(str(directory / "libtensorflow_cc.so.2"))
        for name, (result, arguments) in _PROTOTYPES.items():
            function = getattr(main, name, None) or getattr(framework, name)
            function.restype, function.argtypes = result, arguments
            setattr(self, name, function)

    def __getattr__(self, name: str) -> Any:  # the functions set above, for the type checker
        raise AttributeError(name)

    @property
    def version(self) -> str:
        """TensorFlow's version, such as `2.21.0`."""
        return str(self.TF_Version().decode())


_lock = threading.Lock()
_library: Library | None = None


def library_directory() -> Path:
    """Where the shared libraries are: `PREDICTION_SERVER_LIB`, else the installed `tensorflow` package."""
    configured = os.environ.get("PREDICTION_SERVER_LIB")
    if configured:
        return Path(configured)
    import tensorflow  # the stub package, or the real one in a full installation

    return Path(next(iter(tensorflow.__path__)))


def library() -> Library:
    """The libraries, loaded at the first call (about 0.4 s)."""
    global _library
    with _lock:
        if _library is None:
            # TF Serving logs at INFO; TensorFlow's own chatter about CPU features is of no use here.
            os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "1")
            _library = Library(library_directory())
        return _library


def drop_clean_pages() -> None:
    """Let go of the libraries' pages that only loading them touched: symbol tables, relocations, registrations.

    Two thirds of 300 MB are never read again; what is comes back from the page cache. Only mappings without a single
    written page are let go of, since a written one (the relocated data) would come back as it is in the file.
    """
    advise = ctypes.CDLL(None).madvise
    advise.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int]
    dontneed = 4
    clean: list[tuple[int, int]] = []
    current: tuple[int, int] | None = None
    try:
        lines = Path("/proc/self/smaps").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return
    for line in lines:
        fields = line.split()
        if "-" in fields[0] and len(fields) > 5 and "libtensorflow" in fields[-1]:
            start, _, end = fields[0].partition("-")
            current = (int(start, 16), int(end, 16)) if fields[1] in ("r--p", "r-xp") else None
        elif ("-" in fields[0] and not fields[0].endswith(":")) or (
            current and fields[0] in ("Private_Dirty:", "Shared_Dirty:", "Anonymous:") and fields[1] != "0"
        ):
            current = None
        elif current and fields[0] == "VmFlags:":
            clean.append(current)
            current = None
    for begin, stop in clean:
        advise(begin, stop - begin, dontneed)


class _Status:
    """A TF_Status that raises what went wrong."""

    def __init__(self, lib: Library) -> None:
        self._lib = lib
        self.pointer = lib.TF_NewStatus()

    def check(self) -> None:
        code = self._lib.TF_GetCode(self.pointer)
        if code:
            message = (self._lib.TF_Message(self.pointer) or b"").decode("utf-8", "replace")
            try:
                raise ServingError(Code(code), message)
            except ValueError:
                raise ServingError(Code.UNKNOWN, message) from None

    def __enter__(self) -> _Status:
        return self

    def __exit__(self, *_: object) -> None:
        self._lib.TF_DeleteStatus(self.pointer)


_STRING_BYTES = 24  # sizeof(TF_TString)
_VIEW = 3  # the type in the two lowest bits of a TF_TString's size


def _new_tensor(lib: Library, array: Array, dtype: int, keep: list[Any]) -> int:
    """A TF_Tensor with a copy of `array`. `keep` must live until the run is over and its outputs are read."""
    dims = (ctypes.c_int64 * max(array.ndim, 1))(*array.shape)
    if dtype == DT_STRING:
        items = array.ravel().tolist()
        size = _STRING_BYTES * len(items)
        tensor = lib.TF_AllocateTensor(dtype, dims, array.ndim, size)
        if items:
            # Strings of the VIEW type point into one buffer that outlives the run: nothing to allocate or to free.
            joined = np.frombuffer(b"".join(items) + b"\0", dtype=np.uint8)
            keep.append(joined)
            lengths = np.fromiter(map(len, items), dtype=np.uint64, count=len(items))
            records = np.zeros((len(items), 3), dtype=np.uint64)
            records[:, 0] = (lengths << np.uint64(2)) | np.uint64(_VIEW)
            records[:, 1] = np.uint64(joined.ctypes.data) + np.cumsum(lengths) - lengths
            ctypes.memmove(lib.TF_TensorData(tensor), records.ctypes.data, size)
        return int(tensor)
    # Not ascontiguousarray(), which makes a vector of a scalar.
    array = np.asarray(array, order="C")
    tensor = lib.TF_AllocateTensor(dtype, dims, array.ndim, array.nbytes)
    if not tensor:
        raise ServingError(Code.RESOURCE_EXHAUSTED, f"cannot allocate a tensor of {array.nbytes} bytes")
    if array.nbytes:
        ctypes.memmove(lib.TF_TensorData(tensor), array.ctypes.data, array.nbytes)
    return int(tensor)


def _read_tensor(lib: Library, tensor: int) -> Array:
    """A copy of a tensor's values. bfloat16 comes as uint16 with its raw bits, viewed through `BFLOAT16`."""
    dtype = lib.TF_TensorType(tensor)
    shape = tuple(lib.TF_Dim(tensor, index) for index in range(lib.TF_NumDims(tensor)))
    address, size = lib.TF_TensorData(tensor), lib.TF_TensorByteSize(tensor)
    if dtype == DT_STRING:
        count = int(np.prod(shape, dtype=np.int64))
        flat = np.empty(count, dtype=object)
        flat[:] = [_read_string(address + _STRING_BYTES * index) for index in range(count)]
        return flat.reshape(shape)
    if dtype == DT_BFLOAT16:
        return np.frombuffer(ctypes.string_at(address, size), dtype=BFLOAT16).reshape(shape)
    if dtype not in NUMPY_TYPES:
        raise invalid(f"an output has the data type {dtype}, which cannot be sent")
    return np.frombuffer(ctypes.string_at(address, size), dtype=NUMPY_TYPES[dtype]).reshape(shape)


BFLOAT16 = np.dtype([("bfloat16", np.uint16)])
"""How bfloat16 values are held: NumPy has no such type, and they only need to pass through."""


def _read_string(address: int) -> bytes:
    first = ctypes.c_uint8.from_address(address).value
    kind = first & 3
    if kind == 0:  # small: the length in one byte, then the text
        return ctypes.string_at(address + 1, first >> 2)
    if kind == 2:  # offset: 32 bits of length and of distance from here
        size = ctypes.c_uint32.from_address(address).value >> 2
        return ctypes.string_at(address + ctypes.c_uint32.from_address(address + 4).value, size)
    size = ctypes.c_uint64.from_address(address).value >> 2
    pointer = ctypes.c_uint64.from_address(address + (16 if kind == 1 else 8)).value
    return ctypes.string_at(pointer, size)


class Session:
    """A loaded SavedModel. `run` may be called from many threads at once; `close` only when no run is under way."""

    def __init__(self, path: str, tags: Sequence[str], config: bytes = b"") -> None:
        """Load the meta graph with `tags` from `path`; `config` is a serialized ConfigProto.

        Raises ServingError with TensorFlow's own code and words.
        """
        lib = self._lib = library()
        self._operations: dict[str, _Output] = {}
        names = (ctypes.c_char_p * len(tags))(*[tag.encode() for tag in tags])
        options = lib.TF_NewSessionOptions()
        meta_graph = lib.TF_NewBuffer()
        self._graph = lib.TF_NewGraph()
        self._session = None
        try:
            with _Status(lib) as status:
                if config:
                    lib.TF_SetConfig(options, config, len(config), status.pointer)
                    status.check()
                self._session = lib.TF_LoadSessionFromSavedModel(
                    options, None, os.fsencode(path), names, len(tags), self._graph, meta_graph, status.pointer
                )
                status.check()
            buffer = _Buffer.from_address(meta_graph)
            self.meta_graph = ctypes.string_at(buffer.data, buffer.length)
        except ServingError:
            lib.TF_DeleteGraph(self._graph)
            raise
        finally:
            lib.TF_DeleteBuffer(meta_graph)
            lib.TF_DeleteSessionOptions(options)

    def _output(self, name: str) -> _Output:
        found = self._operations.get(name)
        if found is None:
            operation, _, index = name.rpartition(":")
            if not operation or not index.isdigit():
                operation, index = name, "0"
            pointer = self._lib.TF_GraphOperationByName(self._graph, operation.encode())
            if not pointer:
                raise invalid(
                    f"Tensor {name}, specified in either feed_devices or fetch_devices was not found in the Graph"
                )
            found = self._operations[name] = _Output(pointer, int(index))
        return found

    def run(
        self, inputs: Mapping[str, tuple[Array, int]], outputs: Sequence[str], run_options: bytes = b""
    ) -> list[Array]:
        """Feed tensors by name, each with its `DataType` number, and fetch others.

        `run_options` is a serialized RunOptions (its timeout is in milliseconds). Raises ServingError.
        """
        lib = self._lib
        keep: list[Any] = []
        feeds = (_Output * max(len(inputs), 1))(*[self._output(name) for name in inputs])
        fetches = (_Output * max(len(outputs), 1))(*[self._output(name) for name in outputs])
        values = (_P * max(len(inputs), 1))()
        results = (_P * max(len(outputs), 1))()
        options = lib.TF_NewBufferFromString(run_options, len(run_options)) if run_options else None
        try:
            for index, (array, dtype) in enumerate(inputs.values()):
                values[index] = _new_tensor(lib, array, dtype, keep)
            with _Status(lib) as status:
                lib.TF_SessionRun(
                    self._session, options, feeds, values, len(inputs), fetches, results, len(outputs),
                    None, 0, None, status.pointer,
                )  # fmt: skip
                status.check()
            return [_read_tensor(lib, result or 0) for result in results[: len(outputs)]]
        finally:
            for tensor in [*values, *results]:
                if tensor:
                    lib.TF_DeleteTensor(tensor)
            if options:
                lib.TF_DeleteBuffer(options)
            keep.clear()

    def close(self) -> None:
        """Free the model."""
        lib = self._lib
        if self._session:
            with _Status(lib) as status:
                lib.TF_CloseSession(self._session, status.pointer)
                lib.TF_DeleteSession(self._session, status.pointer)
            lib.TF_DeleteGraph(self._graph)
            self._session = None
            self._operations.clear()
