# SPDX-FileCopyrightText: The modelfleet maintainers
# SPDX-License-Identifier: GPL-3.0-or-later
r"""A golden answer as a regular expression, for balancers that compare text. Pure.

A server prints 2.5 as ``2.5``, ``2.50000001`` or ``2.49999995``, in its own layout. The expression takes every number
that is within the tolerance, and none that is further away than twice the tolerance: it lists the decimal prefixes, as
long as the tolerance is fine, that a number in the range can begin with. The expressions use only what PCRE, RE2 and
Python have in common.
"""

from __future__ import annotations

import itertools
import json
import math
import re
from collections.abc import Mapping
from decimal import Decimal
from typing import Any

from ansible_collections.modelfleet.serving.plugins.module_utils._endpoint.definition import Golden
from ansible_collections.modelfleet.serving.plugins.module_utils._errors import InputError

MAXIMUM_LENGTH = 32_000
# The order of an answer's keys is up to the server, and every order is an alternative of the expression.
_MAXIMUM_KEYS = 4
# printf's %g, by which TF Serving prints: it changes to an exponent below 1e-4, and from 1e6 for float.
_EXPONENT_BELOW, _EXPONENT_FROM = -4, 6


def request_body(golden: Golden) -> str:
    """Give the request as compact ASCII JSON without an apostrophe, so that it can stand between apostrophes."""
    text = json.dumps(golden.request, separators=(",", ":"), allow_nan=False)
    return _bounded(text.replace("'", "\\u0027"), "request")


def answer_pattern(golden: Golden) -> str:
    """Give the expression that a right answer's whole body matches; it holds no apostrophe and no line break."""
    pattern = f"^\\s*{_value(golden.response, Decimal(repr(float(golden.tolerance))))}\\s*$"
    return _bounded(pattern, "response")


def _bounded(text: str, part: str) -> str:
    if len(text) > MAXIMUM_LENGTH:
        raise InputError(
            f"the golden {part} is too long for a health check ({len(text)} characters, {MAXIMUM_LENGTH} at most).",
            hint="Put a smaller golden prediction first: the first one is the health check.",
        )
    return text


def _value(value: Any, tolerance: Decimal) -> str:
    if value is None or isinstance(value, bool):
        return json.dumps(value)
    if isinstance(value, (int, float)):
        return _number(value, tolerance)
    if isinstance(value, str):
        return _string(value)
    if isinstance(value, Mapping):
        if len(value) > _MAXIMUM_KEYS:
            raise InputError(
                f"the golden response has an object with {len(value)} keys, {_MAXIMUM_KEYS} at most can be compared.",
                hint="Put a golden prediction with fewer outputs first: the first one is the health check.",
            )
        entries = [f"{_string(str(key))}\\s*:\\s*{_value(entry, tolerance)}" for key, entry in value.items()]
        orders = ["\\s*,\\s*".join(order) for order in itertools.permutations(entries)]
        return f"\\{{\\s*{_either(orders)}\\s*\\}}"
    items = [_value(entry, tolerance) for entry in value]
    return "\\[\\s*" + "\\s*,\\s*".join(items) + "\\s*\\]"


def _either(alternatives: list[str]) -> str:
    return alternatives[0] if len(alternatives) == 1 else f"(?:{'|'.join(alternatives)})"


def _string(value: str) -> str:
    """Match a string; a character beyond ASCII may come as itself or escaped, and is only known to be one."""
    text = re.escape(json.dumps(value))
    text = re.sub(r"(?:\\\\u[0-9a-f]{4})+", r"(?:\\\\u[0-9A-Fa-f]{4}|[^\\x00-\\x7f])+", text)
    return text.replace("/", r"\\?/").replace("'", r"\x27")


def _number(value: float, tolerance: Decimal) -> str:
    if not math.isfinite(value):
        raise InputError("the golden response holds a number that is not finite.", hint="Use another golden request.")
    exact = Decimal(repr(value))
    # As the module model_probe compares: relative to the right number, or absolute near zero.
    tolerance *= max(Decimal(1), abs(exact))
    low, high = exact - tolerance, exact + tolerance
    alternatives = []
    if high >= 0:
        alternatives += _magnitudes("-?" if low <= 0 <= high and low == -high else "", max(low, Decimal(0)), high)
    if low < 0 and low != -high:
        alternatives += _magnitudes("-", max(-high, Decimal(0)), -low)
    return _either(list(dict.fromkeys(alternatives)))


def _magnitudes(sign: str, low: Decimal, high: Decimal) -> list[str]:
    """Match the numbers from low to high, both 0 or more, as decimals and with an exponent."""
    alternatives = [sign + text for text in _decimals(low, high)]
    if high.is_zero():
        return alternatives
    largest = high.adjusted()
    if low.is_zero():
        # Everything of a smaller order is near enough to 0, such as 3e-09.
        alternatives.append(f"{sign}[0-9](?:\\.[0-9]+)?[eE]-0*{_from(max(1, 1 - largest))}")
    for exponent in range(largest if low.is_zero() else low.adjusted(), largest + 1):
        if exponent < _EXPONENT_BELOW or exponent >= _EXPONENT_FROM:
            scale = Decimal(10) ** exponent
            mantissas = _decimals(max(low / scale, Decimal(1)), min(high / scale, Decimal("9.999999999999")))
            power = f"-0*{-exponent}" if exponent < 0 else f"\\+?0*{exponent}"
            alternatives.append(f"{sign}{_either(mantissas)}[eE]{power}")
    return alternatives


def _from(smallest: int) -> str:
    """Match the whole numbers from smallest (at most three digits)."""
    if smallest < 10:
        return f"(?:[{smallest}-9]|[1-9][0-9]{{1,2}})"
    return _either([*map(str, range(smallest, 100)), "[1-9][0-9]{2}"])


def _decimals(low: Decimal, high: Decimal) -> list[str]:
    """Match the decimal notation of the numbers from low to high, both 0 or more."""
    width = (high - low) / 2
    if width.is_zero():
        return [_prefix(*_split(low), exact=True)]
    # So many places that one step of the last place is no wider than the tolerance; negative places are whole digits.
    places = -width.adjusted()
    unit = Decimal(1).scaleb(-places)
    steps = range(int(low / unit), int(high / unit) + 1)
    if places > 0:
        return [_prefix(step // 10**places, f"{step % 10**places:0{places}d}") for step in steps]
    open_digits = f"{{{-places}}}" if places else ""
    return [
        (f"{step}[0-9]{open_digits}" if step else f"[0-9]{{1,{-places}}}") + r"(?:\.[0-9]*)?"
        if open_digits
        else _prefix(step, "")
        for step in steps
    ]


def _split(number: Decimal) -> tuple[int, str]:
    whole, _unused, fraction = f"{number:f}".partition(".")
    return int(whole), fraction.rstrip("0")


def _prefix(whole: int, fraction: str, exact: bool = False) -> str:
    """Match the numbers that begin with these digits, also where a server leaves out zeros at the end."""
    more = "0*" if exact else "[0-9]*"
    digits = fraction.rstrip("0")
    zeros = len(fraction) - len(digits)
    tail = f"(?:0{{{zeros}}}{more}|0{{0,{zeros}}})" if zeros else more
    if digits:
        return f"{whole}\\.{digits}{tail}"
    return f"{whole}(?:\\.{tail})?"
