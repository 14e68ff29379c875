"""How much of a cluster may be in use at a time: Envoy's circuit breakers.

https://www.envoyproxy.io/docs/envoy/latest/intro/arch_overview/upstream/circuit_breaking. Here is only counting: what
is refused, waits or opens a connection because of it is in `bounded_host`.
"""

from __future__ import annotations

import math
from collections import OrderedDict
from typing import TYPE_CHECKING

from ... import snapshot

if TYPE_CHECKING:
    from .bounded_host import BoundedHost


class Breaker:
    """One limit. Whoever takes gives back, once. It is open, as a switch is, while no more are let pass."""

    __slots__ = ("active", "limit", "overflows")

    def __init__(self, limit: int | None) -> None:
        self.limit = math.inf if limit is None else limit
        self.active = 0
        self.overflows = 0
        """How many were not let pass."""

    def __repr__(self) -> str:
        return f"<Breaker {self.active} of {self.limit}>"

    @property
    def open(self) -> bool:
        return self.active >= self.limit

    def take(self) -> bool:
        """Have one more, if there may be; otherwise count the overflow."""
        if self.active >= self.limit:
            self.overflows += 1
            return False
        self.active += 1
        return True

    def take_anyway(self) -> None:
        """Have one more, whatever the limit."""
        self.active += 1

    def give_back(self) -> None:
        """Have one less."""
        self.active -= 1


def circuit_breakers(config: snapshot.CircuitBreakers) -> CircuitBreakers | None:
    """A cluster's circuit breakers but for that on retries; None where nothing is limited."""
    limits = (config.max_connections, config.max_pending_requests, config.max_requests)
    return None if limits == (None, None, None) else CircuitBreakers(config)


class CircuitBreakers:
    """A cluster's limits, and which of its hosts would open another connection if they might.

    Of the hosts that are held up, one that has nobody waiting any more lets the next have its turn.
    """

    __slots__ = ("_held_up", "connections", "pending", "requests")

    def __init__(self, config: snapshot.CircuitBreakers) -> None:
        self.connections = Breaker(config.max_connections)
        """Open, or being opened."""
        self.pending = Breaker(config.max_pending_requests)
        """Requests that wait for a connection."""
        self.requests = Breaker(config.max_requests)
        """Requests that have one, until the ends of their responses' bodies."""
        self._held_up: OrderedDict[BoundedHost, None] = OrderedDict()

    @property
    def by_name(self) -> dict[str, Breaker]:
        """As Envoy's statistics name them."""
        return {"cx": self.connections, "rq_pending": self.pending, "rq": self.requests}

    def hold_up(self, host: BoundedHost) -> None:
        """Let the host open connections as soon as it may, after those that were held up before it."""
        self._held_up[host] = None

    def go_on(self) -> None:
        """Let those that were held up open as many connections as there may be now."""
        while self._held_up and not self.connections.open:
            host, _ = self._held_up.popitem(last=False)
            host.open_connections()
