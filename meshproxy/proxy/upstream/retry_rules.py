"""When a request is tried again, and after how long: decisions, which `retries` carries out.

Source: Envoy's retry conditions and its fully jittered exponential back-off
(https://www.envoyproxy.io/docs/envoy/latest/configuration/http/http_filters/router_filter, "x-envoy-retry-on").
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from dataclasses import replace

from ...snapshot import CircuitBreakers, RetryBudget, RetryPolicy
from ..http.failures import (
    CONNECTION_FAILURE,
    CONNECTION_TERMINATION,
    CONNECTION_TIMEOUT,
    PER_TRY_TIMEOUT,
    PROTOCOL_ERROR,
    Failure,
    Kind,
)
from ..http.message import Headers, Response, header, name_of

_NOT_CONNECTED = frozenset((CONNECTION_FAILURE, CONNECTION_TIMEOUT))
_RESET = _NOT_CONNECTED | {CONNECTION_TERMINATION, PROTOCOL_ERROR, PER_TRY_TIMEOUT}

FAILURES: dict[str, frozenset[Kind]] = {
    "5xx": _RESET,
    "gateway-error": _RESET,
    "reset": _RESET,
    # A connection that came about is written to at once, so that nothing was sent only where none did.
    "reset-before-request": _NOT_CONNECTED,
    "connect-failure": _NOT_CONNECTED,
    "refused-stream": frozenset(),
    "http3-post-connect-failure": frozenset(),
}
"""Conditions that hold when a try failed in one of these ways. Whatever is in none of them is never tried again."""

STATUSES: dict[str, frozenset[int]] = {
    "5xx": frozenset(range(500, 600)),
    "gateway-error": frozenset((502, 503, 504)),
    "retriable-4xx": frozenset((409,)),
}
"""Conditions that hold when the response has one of these statuses."""

GRPC_STATUSES: dict[str, bytes] = {
    "cancelled": b"1",
    "deadline-exceeded": b"4",
    "resource-exhausted": b"8",
    "internal": b"13",
    "unavailable": b"14",
}
"""Conditions that hold when the response's headers, not its trailers, have this `grpc-status`."""

_GRPC_STATUS = b"grpc-status"
_RATE_LIMITED = b"x-envoy-ratelimited"
_MAX_BACKOFF = 10  # base intervals
_MAX_DIGITS = 10  # of a number in a header


NO_RETRIES = RetryPolicy((), 0)


class RetryRules:
    """A retry policy, compiled. Its decisions are about one outcome of a try, and know nothing of those before it."""

    __slots__ = (
        "_by_header",
        "_failures",
        "_grpc_statuses",
        "_heeded",
        "_names",
        "_rate_limited",
        "_statuses",
        "count_attempts",
        "policy",
    )

    def __init__(
        self, policy: RetryPolicy, count_attempts: bool = False, retriable_headers: Iterable[bytes] = ()
    ) -> None:
        on = frozenset(policy.retry_on)
        self.policy = policy
        self.count_attempts = count_attempts
        """Each try tells the upstream which it is."""
        self._failures = frozenset[Kind]().union(*(FAILURES[one] for one in on & FAILURES.keys()))
        self._statuses = frozenset[int]().union(*(STATUSES[one] for one in on & STATUSES.keys()))
        if "retriable-status-codes" in on:
            self._statuses |= frozenset(policy.retriable_status_codes)
        self._grpc_statuses = frozenset(GRPC_STATUSES[one] for one in on & GRPC_STATUSES.keys())
        self._names = frozenset(retriable_headers) if "retriable-headers" in on else frozenset[bytes]()
        self._rate_limited = "envoy-ratelimited" in on
        self._heeded = self._names | {_GRPC_STATUS, _RATE_LIMITED}
        self._by_header = bool(self._names or self._grpc_statuses or self._rate_limited)

    def failed(self, failure: Failure) -> bool:
        """Whether a try that came to no response is to be followed by another."""
        return failure.kind in self._failures

    def answered(self, response: Response) -> bool:
        """Whether a response is to be thrown away for another try. One that was rate limited has its own condition."""
        wanted = response.status in self._statuses
        if not (wanted or self._by_header):
            return False
        if self._heeded.isdisjoint(map(name_of, response.headers)):
            return wanted
        for name, value in response.headers:
            if name == _GRPC_STATUS:
                wanted = wanted or value in self._grpc_statuses
            elif name == _RATE_LIMITED:
                return self._rate_limited
            elif name in self._names:
                wanted = True
        return wanted


def backoff_s(policy: RetryPolicy, retry: int, chance: float) -> float:
    """How long to wait before a retry, counted from 1, by a random number from [0, 1)."""
    return policy.base_interval_s * min(1 << min(retry - 1, _MAX_BACKOFF), _MAX_BACKOFF) * chance


STEERING = frozenset(
    (
        b"x-envoy-hedge-on-per-try-timeout",
        b"x-envoy-max-retries",
        b"x-envoy-retriable-header-names",
        b"x-envoy-retriable-status-codes",
        b"x-envoy-retry-grpc-on",
        b"x-envoy-retry-on",
        b"x-envoy-upstream-rq-per-try-timeout-ms",
    )
)
"""Headers that say how a request is to be retried. From clients they are not believed, but a route may set them."""


def steered(policy: RetryPolicy | None, count_attempts: bool, headers: Headers) -> RetryRules | None:
    """The rules of a request whose headers say something about it; they add to its route's `policy`."""
    base = policy or RetryPolicy(())
    said = (*_listed(headers, b"x-envoy-retry-on"), *_listed(headers, b"x-envoy-retry-grpc-on"))
    retry_on = (*base.retry_on, *(one.decode("latin-1") for one in said))
    if not retry_on:
        return None
    codes = (_number(code) for code in _listed(headers, b"x-envoy-retriable-status-codes"))
    most = _number(header(headers, b"x-envoy-max-retries") or b"")
    policy = replace(
        base,
        retry_on=retry_on,
        num_retries=base.num_retries if most is None else most,
        retriable_status_codes=(*base.retriable_status_codes, *(code for code in codes if code is not None)),
    )
    names = (name.lower() for name in _listed(headers, b"x-envoy-retriable-header-names"))
    return RetryRules(policy, count_attempts, names)


def _listed(headers: Headers, name: bytes) -> list[bytes]:
    return [part for part in map(bytes.strip, (header(headers, name) or b"").split(b",")) if part]


def _number(text: bytes) -> int | None:
    return int(text) if text.isdigit() and len(text) <= _MAX_DIGITS else None


class RetryLimit:
    """How many retries a cluster may have under way (its circuit breaker on retries)."""

    __slots__ = ("_budget", "_most", "active", "recent")

    def __init__(self, config: CircuitBreakers) -> None:
        self._most = config.max_retries
        self._budget = config.retry_budget
        interval_s = self._budget.budget_interval_s if self._budget else 0.0
        self.recent = Recent(interval_s) if interval_s else None
        """The requests that count, where those that are under way do not."""
        self.active = 0

    def allows(self, active_requests: int, now: float) -> bool:
        """Whether one more may begin."""
        if self._budget is None:
            return self._most is None or self.active < self._most
        requests = active_requests if self.recent is None else self.recent.count(now)
        return self.active < budget(self._budget, requests)


class Recent:
    """How many requests began lately, to a tenth of the time that is looked back."""

    __slots__ = ("_parts", "_size_s")

    def __init__(self, interval_s: float) -> None:
        self._size_s = interval_s / 10
        self._parts: deque[list[int]] = deque()

    def note(self, now: float) -> None:
        """One begins."""
        part = int(now / self._size_s)
        if not self._parts or self._parts[-1][0] != part:
            self._forget(part)
            self._parts.append([part, 0])
        self._parts[-1][1] += 1

    def count(self, now: float) -> int:
        """How many have begun."""
        self._forget(int(now / self._size_s))
        return sum(count for _, count in self._parts)

    def _forget(self, part: int) -> None:
        while self._parts and self._parts[0][0] <= part - 10:
            self._parts.popleft()


def budget(budget: RetryBudget, active_requests: int) -> int:
    """How many retries may be under way beside so many requests, themselves among them."""
    return max(int(budget.budget_percent * active_requests / 100), budget.min_retry_concurrency)
