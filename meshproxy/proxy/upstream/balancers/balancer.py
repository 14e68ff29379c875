"""What balancers have in common."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from ...http.message import Request
from ..host import Host

Chance = Callable[[], float]
"""A random number from [0, 1)."""

Clock = Callable[[], float]
"""Seconds since some moment; it only goes forward."""


class Balancer(Protocol):
    def pick(self, request: Request, attempt: int = 0) -> Host | None:
        """The host for a request; None if there is no healthy one.

        Each call is a choice of its own. A caller that will not have the host asks again, and `attempt` counts how
        often it has done so: where the request alone decides, that leads to another host.
        """


class NoHosts:
    """Nobody can serve."""

    def pick(self, request: Request, attempt: int = 0) -> None:
        return None
