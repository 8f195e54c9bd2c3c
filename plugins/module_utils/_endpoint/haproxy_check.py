# SPDX-FileCopyrightText: The modelfleet maintainers
# SPDX-License-Identifier: GPL-3.0-or-later
"""How HAProxy asks a cluster whether a model predicts right. Pure."""

from __future__ import annotations

from ansible_collections.modelfleet.serving.plugins.module_utils._endpoint.definition import Golden
from ansible_collections.modelfleet.serving.plugins.module_utils._endpoint.golden import answer_pattern, request_body


def http_check(model: str, golden: Golden | None, host: str) -> tuple[str, ...]:
    """Give the lines of a backend's health check.

    :param golden: the prediction to make; without it, the model's metadata is asked for, which needs a loaded one. The
        model's status would answer 200 while it loads, too.
    """
    if golden is None:
        return (
            "option httpchk",
            f"http-check send meth GET uri '/v1/models/{model}/metadata' ver HTTP/1.1 hdr Host '{host}'",
            "http-check expect status 200",
        )
    return (
        "option httpchk",
        f"http-check send meth POST uri '/v1/models/{model}:predict' ver HTTP/1.1 hdr Host '{host}'"
        f" hdr Content-Type application/json body '{request_body(golden)}'",
        f"http-check expect rstring '{answer_pattern(golden)}'",
    )
