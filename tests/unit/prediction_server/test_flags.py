# SPDX-FileCopyrightText: The modelfleet maintainers
# SPDX-License-Identifier: GPL-3.0-or-later
"""The command line: TensorFlow's util/command_line_flags.cc."""

from __future__ import annotations

import pytest
from prediction_server.flags import parse, usage


def test_values() -> None:
    flags, unknown, problems = parse(["--port=9000", "--model_name=m", "--enable_profiler=false", "--enable_batching"])
    assert (flags.port, flags.model_name, flags.enable_profiler, flags.enable_batching) == (9000, "m", False, True)
    assert (unknown, problems) == ([], [])


@pytest.mark.parametrize("argument", ["--no_such=1", "word", "--port", "-port=1"])
def test_unknown(argument: str) -> None:
    # A value is never taken from the next argument.
    flags, unknown, problems = parse([argument])
    assert (flags.port, unknown, problems) == (8500, [argument], [])


@pytest.mark.parametrize("argument", ["--port=many", "--enable_batching=perhaps", "--port="])
def test_unreadable(argument: str) -> None:
    assert parse([argument])[2]


def test_usage_names_every_flag() -> None:
    text = usage("tensorflow_model_server")
    assert "--model_config_file_poll_wait_seconds=0" in text
    assert "--enable_profiler=true" in text
