# SPDX-FileCopyrightText: The modelfleet maintainers
# SPDX-License-Identifier: GPL-3.0-or-later
"""The interface that every balancer has: read, and apply what the shared plan asks for.

A balancer is one file in this package with one class, with options, calls and objects in files beside it, and
one line in ``arguments.py``.
"""

from __future__ import annotations

from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import Any, Protocol

from ansible_collections.modelfleet.serving.plugins.module_utils._endpoint.plan import Observed, Plan
from ansible_collections.modelfleet.serving.plugins.module_utils._errors import ServingError


class BalancerError(ServingError):
    """A balancer did not answer, or refused.

    Not an :class:`UnreachableError`: the balancer is no host of the inventory, and only a failed task reaches the
    ``rescue`` and ``always`` of a playbook.
    """


class ChangedMeanwhileError(BalancerError):
    """Somebody else changed the endpoint between :meth:`Balancer.read` and :meth:`Balancer.apply`.

    Nothing was changed. Raised where nobody is kept out; the decision is then made anew.
    """


# What not every balancer can do, with those that can.
_ABLE = {
    "weights": ("cloudflare", "google_cloud", "haproxy", "route53", "traffic_manager"),
    "small weights": ("google_cloud", "haproxy", "route53", "traffic_manager"),
    "ports": ("cloudflare", "google_cloud", "haproxy"),
    "hosts": ("google_cloud", "haproxy"),
    "host names": ("cloudflare", "google_cloud", "haproxy", "route53", "traffic_manager"),
    "private addresses": ("google_cloud", "haproxy", "rfc2136"),
    "timeouts": ("google_cloud", "haproxy"),
    "jurisdictions": ("haproxy",),
    "large definitions": ("haproxy",),
    "health checks of several models": ("haproxy", "route53"),
    "several standby members": ("google_cloud", "haproxy", "route53", "traffic_manager"),
}


def others(what: str) -> str:
    """Give the end of a refusal's hint: the balancers that can do it.

    :param what: what was refused, in the plural.
    """
    return f", or use a balancer that takes such {what}: {', '.join(_ABLE[what])}."


@dataclass(frozen=True)
class MemberHealth:
    """A member by the balancer's own view.

    :param up: whether the balancer would send it requests for every model, were it active.
    :param models: whether its health check passes, by model.
    :param reasons: the balancer's own words, by model that fails.
    :param sessions: requests that the member is working on.
    :param rate: requests a second that the balancer sends it, of all models; ``None`` where the balancer does not tell.
    """

    up: bool
    models: dict[str, bool] = field(default_factory=dict)
    reasons: dict[str, str] = field(default_factory=dict)
    sessions: int = 0
    rate: float | None = None


def text_diff(header: str, before: str, after: str) -> list[dict[str, str]]:
    """Give a diff as Ansible shows it; none where nothing changes."""
    if before == after:
        return []
    return [{"before_header": header, "after_header": header, "before": before, "after": after}]


class Balancer(Protocol):
    """What a balancer can do. Whether a step may be done is decided before, by the plan and its rules.

    :cvar predicts: whether its health checks make golden predictions. One that cannot does not store them.
    """

    predicts: bool

    def defaults(self) -> dict[str, Any]:
        """Give every setting of the balancer with its default."""

    def exclusive(self) -> AbstractContextManager[None]:
        """Keep other writers out, so that nothing changes between :meth:`read` and :meth:`apply`.

        Where that cannot be, :meth:`apply` finds it and raises a :class:`ChangedMeanwhileError`.

        :raises BalancerError: when another one does not come to its end.
        """

    def read(self) -> Observed:
        """Give what is there.

        :raises BalancerError: when the balancer does not answer, or carries something that is not ours.
        """

    def health(self) -> dict[str, MemberHealth]:
        """Give the balancer's own view of each member, by name; empty where it has none."""

    def addresses(self) -> list[str]:
        """Name where clients go, host names or IP addresses, as of the last :meth:`read` or :meth:`apply`.

        Empty where the balancer does not know, or does not know yet.
        """

    def errors(self) -> int | None:
        """Count the server errors that clients got since the balancer started; ``None`` where it does not tell."""

    def check(self, plan: Plan) -> None:
        """Refuse, before anything is changed, what this balancer cannot do."""

    def diff(self, plan: Plan) -> list[dict[str, str]]:
        """Give what :meth:`apply` will change beside the definition, such as a file."""

    def apply(self, plan: Plan) -> None:
        """Do the plan, completely or not at all, and return when it is in force.

        :raises ChangedMeanwhileError: when somebody else was faster.
        """
