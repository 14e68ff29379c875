"""What the tries of one request share: its time limits, and the hosts that have had their turn.

Time is counted as Envoy counts it. The whole response has to come within the timeout, from when the last of the request
came; retries and the pauses before them are part of that. A try's own time begins when it has a connection and the
request has come whole, and ends with the response's head. Times are trio's.
"""

from __future__ import annotations

import math

import trio

from ...telemetry.metrics import ClusterStats
from ..http.failures import RESPONSE_TIMED_OUT, Failure
from .host import Host

_UPDATE_FREQUENCY = 2  # Istio's, for the retry priority: after so many tries their priorities are passed over


class Tries:
    """One request's. A `timeout_s` or `per_try_timeout_s` of 0 is none."""

    __slots__ = (
        *("is_connected", "_passed_over", "_per_try_s", "_scope", "_timeout_s"),
        *("deadline", "ended_at", "grpc", "hosts", "stats"),
    )

    def __init__(self, timeout_s: float = 0.0, per_try_timeout_s: float = 0.0, grpc: bool = False) -> None:
        self.grpc = grpc
        """The upstream is to be told in gRPC's way too how long it may take."""
        self._timeout_s = timeout_s
        self._per_try_s = 0.0 if 0 < timeout_s <= per_try_timeout_s else per_try_timeout_s
        self._scope: trio.CancelScope | None = None
        self.is_connected = False
        self._passed_over: frozenset[int] = frozenset()
        self.hosts: list[Host] = []
        """Those that have had their turn, one for each try."""
        self.deadline = math.inf
        """When the response has to be whole."""
        self.ended_at = math.inf
        """When the last of the request came."""
        self.stats: ClusterStats | None = None
        """Those of the cluster that is asked."""

    @property
    def limited(self) -> bool:
        """Time plays a part."""
        return bool(self._timeout_s or self._per_try_s)

    def expected_ms(self) -> int:
        """How long a try that begins now may take; 0 when it may take any time."""
        limit_s = self._per_try_s or self._timeout_s
        if self._timeout_s and self.deadline < math.inf:
            limit_s = min(limit_s, max(self.deadline - trio.current_time(), 0.001))
        return round(limit_s * 1000)

    def request_ended(self) -> None:
        """The last of the request has come."""
        self.ended_at = now = trio.current_time()
        if self._timeout_s:
            self.deadline = now + self._timeout_s
            self._end_by(self.deadline)
        if self.is_connected:
            self._begin()

    def new_scope(self) -> trio.CancelScope:
        """A scope for a try, or for a wait for the response's body, that ends in time."""
        self.is_connected = False
        self._scope = trio.CancelScope(deadline=self.deadline)
        return self._scope

    def connected(self) -> None:
        """The present try has its connection."""
        self.is_connected = True
        if self.ended_at < math.inf:
            self._begin()

    def expired(self) -> bool:
        """Time has run out: for the present try, or for the request."""
        return self._scope is not None and self._scope.deadline <= trio.current_time()

    def out_of_time(self) -> bool:
        """The response should have been there."""
        return self.deadline <= trio.current_time()

    def too_late(self) -> Failure:
        """The response is not whole in time. To a client that has its head, nothing can be said any more."""
        if self.stats is not None:
            self.stats.timeouts += 1
        return Failure(RESPONSE_TIMED_OUT)

    def passed_over(self) -> frozenset[int]:
        """The priorities that are to have no further turn (Envoy's retry priority `previous_priorities`)."""
        hosts = self.hosts
        if len(hosts) >= _UPDATE_FREQUENCY and len(hosts) % _UPDATE_FREQUENCY == 0:
            self._passed_over |= {host.priority for host in hosts}
        return self._passed_over

    def begin_round(self) -> None:
        """All priorities have had their turns: they begin anew."""
        self._passed_over = frozenset()
        self.hosts.clear()

    def _begin(self) -> None:
        if self._per_try_s:
            self._end_by(trio.current_time() + self._per_try_s)

    def _end_by(self, deadline: float) -> None:
        if self._scope is not None:
            self._scope.deadline = min(self._scope.deadline, deadline)
