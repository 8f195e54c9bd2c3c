# SPDX-FileCopyrightText: The modelfleet maintainers
# SPDX-License-Identifier: GPL-3.0-or-later
"""A cloud's API on a free port of 127.0.0.1, and the module in front of it: what all of them have alike."""

from __future__ import annotations

import abc
import threading
from collections.abc import Callable, Iterable
from typing import Any, ClassVar

from werkzeug import Request, Response
from werkzeug.serving import WSGIRequestHandler, make_server

from ansible_collections.modelfleet.serving.plugins.module_utils._call import Call, Result
from ansible_collections.modelfleet.serving.plugins.module_utils._features import global_endpoint, global_endpoint_info

from .lab import complete


class Quiet(WSGIRequestHandler):
    """A request handler that writes no line a request."""

    def log_request(self, *_unused: Any) -> None:
        """Say nothing."""


class Cloud(abc.ABC):
    """An account, and what a test wants to know of it.

    :ivar calls: operations in order, by the vendor's own names.
    :ivar faults: what the next calls of an operation are answered, one each: ``throttled``, ``broken``, ``forbidden``,
        one of the vendor's own, or ``lost`` for a call that is carried out and whose answer does not arrive.
    :ivar sick: addresses of members whose health checks fail.
    :ivar problems: what must never be.
    :ivar leaving: whether the endpoint may go.
    :ivar before: called with the operation before each call.
    """

    def __init__(self) -> None:
        self.calls: list[str] = []
        self.faults: list[tuple[str, str]] = []
        self.sick: set[str] = set()
        self.problems: list[str] = []
        self.leaving = False
        self.before: Callable[[str], None] = lambda _operation: None
        self._lock = threading.Lock()
        self._server = make_server("127.0.0.1", 0, self._serve, threaded=True, request_handler=Quiet)
        self.url = f"http://127.0.0.1:{self._server.port}"
        self._thread = threading.Thread(target=self._server.serve_forever)
        self._thread.start()

    def close(self) -> None:
        """End the server."""
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    @abc.abstractmethod
    def operation(self, request: Request) -> str:
        """Name the operation that a request is."""

    @abc.abstractmethod
    def is_read(self, operation: str) -> bool:
        """Tell whether an operation changes nothing."""

    @abc.abstractmethod
    def answer(self, request: Request) -> Response:
        """Carry a request out."""

    @abc.abstractmethod
    def refuse(self, code: str) -> Response:
        """Give the vendor's answer to a fault."""

    @abc.abstractmethod
    def shares(self) -> dict[str, float]:
        """Give the share of the clients that each address gets, by the vendor's documented rules."""

    @abc.abstractmethod
    def snapshot(self) -> Callable[[], None]:
        """Remember everything there is; gives what brings it back."""

    @abc.abstractmethod
    def ours(self) -> list[str]:
        """Name every object of ours that there is, used or not."""

    def writes(self) -> list[str]:
        """Give the calls that were no reads, and forget all calls."""
        found = [call for call in self.calls if not self.is_read(call)]
        self.calls.clear()
        return found

    def _serve(self, environ: dict[str, Any], start: Any) -> Iterable[bytes]:
        request = Request(environ)
        operation = self.operation(request)
        self.before(operation)
        with self._lock:
            self.calls.append(operation)
            fault = next((entry for entry in self.faults if entry[0] == operation), None)
            if fault is not None:
                self.faults.remove(fault)
                if fault[1] != "lost":
                    return self.refuse(fault[1])(environ, start)
            served = self.shares()
            response = self.answer(request)
            if served and not self.shares() and not self.leaving:
                self.problems.append(f"nobody is served any more after {operation}")
            if fault is not None:
                response = self.refuse("broken")
        return response(environ, start)


class CloudLab(abc.ABC):
    """The module in front of a :class:`Cloud`, with three members named a, b and c.

    :cvar balancer: the value of the option ``balancer``.
    :cvar call: the class and the method through which each call of the API goes.
    """

    balancer: ClassVar[str]
    cloud: Cloud

    def __init__(self, cloud: Cloud) -> None:
        self.cloud = cloud

    @abc.abstractmethod
    def access(self) -> dict[str, Any]:
        """Give the balancer's options by which it is reached."""

    @staticmethod
    @abc.abstractmethod
    def call() -> tuple[type, str]:
        """Give the class and the method through which each call of the API goes, once a call."""

    @abc.abstractmethod
    def foreign(self) -> None:
        """Put something that is not ours in the way."""

    @property
    @abc.abstractmethod
    def front(self) -> str:
        """Give the address that clients go to, once the endpoint exists."""

    @staticmethod
    def address(name: str) -> str:
        """Give the address of a member."""
        return f"{name}.edge.example.net"

    def members(self, names: str, **states: str) -> list[dict[str, Any]]:
        """Give members as a task has them.

        :param states: those of members that are not active.
        """
        return [
            {"name": name, "address": self.address(name), **({"state": states[name]} if name in states else {})}
            for name in names
        ]

    def params(self, **changed: Any) -> dict[str, Any]:
        """Give a task's options as Ansible would, after the argument spec."""
        given = {
            "balancer": self.balancer,
            "name": "models",
            "members": self.members("abc"),
            "models": [{"name": "iris"}],
            "wait_timeout": 5,
            **changed,
        }
        given[self.balancer] = {**self.access(), **changed.get(self.balancer, {})}
        return complete(global_endpoint.FEATURE.arguments, given)

    def run(self, check: bool = False, **changed: Any) -> Result:
        """Run the feature behind the module global_endpoint."""
        return global_endpoint.FEATURE.run(Call(self.params(**changed), check_mode=check))

    def change(self, name: str, state: str | None = None, **more: Any) -> Result:
        """Change one member."""
        given = {"name": name, "state": state, "weight": more.pop("weight", None)}
        return self.run(members=[given], exclusive_members=False, models=None, **more)

    def remove(self, **more: Any) -> Result:
        """Remove the endpoint."""
        return self.run(state="absent", members=None, models=None, **more)

    def info(self) -> dict[str, Any]:
        """Run the feature behind the module global_endpoint_info."""
        arguments = global_endpoint_info.FEATURE.arguments
        given = {"balancer": self.balancer, self.balancer: self.access()}
        return global_endpoint_info.FEATURE.run(Call(complete(arguments, given))).values

    def shares(self) -> dict[str, float]:
        """Give the share of the clients that each member gets, by its name."""
        names = {self.address(name): name for name in "abcd"}
        return {names[address]: round(share, 6) for address, share in self.cloud.shares().items()}

    def settled(self) -> dict[str, Any]:
        """Assert that nothing is left to do, and that nothing bad ever was; gives what the info module says."""
        info = self.info()
        assert self.cloud.problems == []
        assert info["drift"] == []
        return info

    def drained(self) -> set[str]:
        """Name the drained members."""
        return {member["name"] for member in self.info()["members"] if member["state"] == "drained"}

    def meanwhile(self, action: Callable[[], Any], operation: str) -> None:
        """Do something just before the next call of an operation."""

        def before(called: str) -> None:
            if called == operation:
                self.cloud.before = lambda _called: None
                action()

        self.cloud.before = before
