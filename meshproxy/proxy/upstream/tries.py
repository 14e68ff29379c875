"""What the tries of one request share: its time limits, and the hosts that have had their turn.

Time is counted as Envoy counts it. The whole response has to come within the timeout, from when the last of the request
came; retries and the pauses before them are part of that. A try's own time begins when it has a connection and the
request has come whole, and ends with the response's head. Times are trio's.

When time runs out, the exchange that is waited for is given up, and fails as if the upstream had left; `expired` tells
why. That needs no scope of trio's for a try that finds a connection, which nearly all do. What waits for something else
does so in a `new_scope`.
"""

from __future__ import annotations

import math
from typing import Protocol

import trio

from ...telemetry.metrics import ClusterStats
from ..http.failures import PER_TRY_TIMEOUT, RESPONSE_TIMED_OUT, RESPONSE_TIMEOUT, Failure
from .deadlines import Deadlines
from .host import Host

_NONE: frozenset[int] = frozenset()
_UPDATE_FREQUENCY = 2  # Istio's, for the retry priority: after so many tries their priorities are passed over


class Exchange(Protocol):
    """What a try waits for."""

    deadlines: Deadlines
    """Those of its trio run."""

    def give_up(self) -> None:
        """End it: whoever waits for it finds it failed."""


class TimeLimits:
    """What a route gives its requests. A `timeout_s` or `per_try_timeout_s` of 0 is none."""

    __slots__ = ("grpc", "per_try_s", "timeout_s")

    def __init__(self, timeout_s: float = 0.0, per_try_timeout_s: float = 0.0, grpc: bool = False) -> None:
        self.grpc = grpc
        """The upstream is to be told in gRPC's way too how long it may take."""
        self.timeout_s = timeout_s or math.inf
        # One of at least the whole request's counts as none, as in Envoy: what ends then is the request.
        self.per_try_s = per_try_timeout_s if 0 < per_try_timeout_s < self.timeout_s else math.inf


_UNLIMITED = TimeLimits()


class Tries:
    """One request's."""

    __slots__ = (
        *("_exchange", "_passed_over", "_scope"),
        *("deadline", "due", "expired", "hosts", "limits", "stats", "whole"),
    )

    def __init__(self, limits: TimeLimits = _UNLIMITED) -> None:
        self.limits = limits
        self._scope: trio.CancelScope | None = None
        self._exchange: Exchange | None = None
        """That of the present try, when it has its connection."""
        self._passed_over: frozenset[int] = _NONE
        self.hosts: tuple[Host, ...] = ()
        """Those that have had their turn, one for each try that another has followed."""
        self.whole = False
        """The last of the request has come."""
        self.deadline = math.inf
        """When the response has to be whole, once the request is whole and is waited for."""
        self.due = 0
        self.expired = False
        """Time ran out for the exchange of the present try."""
        self.stats: ClusterStats | None = None
        """Those of the cluster that is asked."""

    @property
    def limited(self) -> bool:
        """Time plays a part."""
        return self.limits is not _UNLIMITED

    @property
    def is_connected(self) -> bool:
        """The present try has its connection."""
        return self._exchange is not None

    def expected_ms(self) -> int:
        """How long a try that begins now may take; 0 when it may take any time."""
        limit_s = min(self.limits.per_try_s, self.limits.timeout_s)
        if self.deadline < math.inf:
            limit_s = min(limit_s, max(self.deadline - trio.current_time(), 0.001))
        return 0 if limit_s == math.inf else round(limit_s * 1000)

    def request_ended(self) -> None:
        """The last of the request has come."""
        self.whole = True
        if self._scope is not None:
            self._scope.deadline = self._begin(trio.current_time())
        if self._exchange is not None:
            self.connected(self._exchange)

    def begin_another(self) -> None:
        """There is another try."""
        self.expired = False

    def new_scope(self) -> trio.CancelScope:
        """A scope for something else to wait for than an exchange: it ends when the response should be whole, or when
        time runs out for a try that goes on meanwhile."""
        self._scope = trio.CancelScope(deadline=self._begin(trio.current_time()) if self.whole else math.inf)
        return self._scope

    def connected(self, exchange: Exchange) -> None:
        """The present try has its connection. What it waits for is given up when time runs out, until it is `over`."""
        self._exchange = exchange
        if self.whole:
            deadlines = exchange.deadlines
            now = deadlines.now()
            deadline, time = self._begin(now), now + self.limits.per_try_s
            deadlines.set(self, time if time < deadline else deadline)

    def over(self) -> None:
        """The exchange of the present try has come to something."""
        exchange, self._exchange = self._exchange, None
        if exchange is not None:
            exchange.deadlines.forget(self)

    def strike(self) -> None:
        """Time has run out: for the present try, or for the request."""
        self.expired = True
        if self._exchange is not None:
            self._exchange.give_up()
        if self._scope is not None:
            self._scope.cancel()  # it may be the client's turn to take what the upstream has said so far

    def out_of_time(self) -> bool:
        """The response should have been there."""
        return self.deadline <= trio.current_time()

    def timed_out(self, stats: ClusterStats) -> Failure:
        """Why the present try has ended: the request has no time left, or this try has had too much of it."""
        if self.out_of_time():
            stats.timeouts += 1
            return Failure(RESPONSE_TIMEOUT)
        stats.per_try_timeouts += 1
        return Failure(PER_TRY_TIMEOUT)

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
        self._passed_over = _NONE
        self.hosts = ()

    def _begin(self, now: float) -> float:
        """The whole request is waited for, since `now` at the latest; returns its deadline."""
        if self.deadline == math.inf:
            self.deadline = now + self.limits.timeout_s
        return self.deadline
