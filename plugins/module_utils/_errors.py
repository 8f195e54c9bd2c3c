# SPDX-FileCopyrightText: The modelfleet maintainers
# SPDX-License-Identifier: GPL-3.0-or-later
"""The errors that helpers raise; the module or action boundary alone turns them into a task result."""

from __future__ import annotations

from typing import Any


class ServingError(Exception):
    """Something a user has to know: the thing, the cause and the next step.

    :param message: what went wrong and with which thing, in words a user can act on.
    :param hint: the next step, shown after the message.
    :param details: further keys for the task result, JSON-serialisable.
    """

    def __init__(self, message: str, *, hint: str = "", details: dict[str, Any] | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint
        self.details = details or {}

    def __str__(self) -> str:
        return f"{self.message} {self.hint}".strip()


class InputError(ServingError):
    """The user's input is wrong; nothing was called."""


class ApiError(ServingError):
    """A server answered with an error.

    :param status: the HTTP status code.
    :param reason: the server's own short reason, such as ``NotFound`` or ``Conflict``.
    :param conflict: whether another manager owns a field that was to be applied.
    """

    def __init__(
        self,
        message: str,
        *,
        status: int,
        reason: str = "",
        conflict: bool = False,
        hint: str = "",
        details: dict[str, Any] | None = None,
    ) -> None:
        super().__init__(message, hint=hint, details=details)
        self.status = status
        self.reason = reason
        self.conflict = conflict


class UnreachableError(ServingError):
    """A server did not answer at all. An unreachable cluster is not a failed one, and is reported apart."""


class WaitError(ServingError):
    """What was waited for failed, or did not come in time."""
