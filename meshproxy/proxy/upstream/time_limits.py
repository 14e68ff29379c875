"""What a route decides of a request before it is sent: how long it may take, and how it may be tried again.

A gRPC request tells its time itself, in `grpc-timeout`
(https://github.com/grpc/grpc/blob/master/doc/PROTOCOL-HTTP2.md); no other header of a client is believed. The upstream
is told, in `x-envoy-expected-rq-timeout-ms`, how long the proxy will wait for it
(https://www.envoyproxy.io/docs/envoy/latest/configuration/http/http_filters/router_filter).
"""

from __future__ import annotations

import re
from collections.abc import Awaitable

from ...snapshot import RetryPolicy, RouteAction
from ..http.failures import is_grpc
from ..http.message import Headers, Request, Response, Service, header, remove_headers, set_header
from .retry_rules import STEERING, RetryRules, steered
from .tries import TimeLimits, Tries

_ATTEMPT_COUNT = b"x-envoy-attempt-count"
_EXPECTED = b"x-envoy-expected-rq-timeout-ms"
_GRPC_TIMEOUT = b"grpc-timeout"

# Timeout -> "grpc-timeout" TimeoutValue TimeoutUnit, the value of at most 8 digits. Envoy lets white space pass.
_GRPC_TIMEOUT_VALUE = re.compile(rb"[ \t]*([0-9]{1,8})[ \t]*([HMSmun])")
_UNIT_S = {b"H": 3600.0, b"M": 60.0, b"S": 1.0, b"m": 1e-3, b"u": 1e-6, b"n": 1e-9}
_MAX_VALUE = 99_999_999


def bounded(action: RouteAction, count_attempts: bool, service: Service) -> Service:
    """`service`, given requests with the time limits and the retry rules of their route."""
    policy = action.retry_policy
    rules = RetryRules(policy, count_attempts) if policy and policy.num_retries else None
    timeout_s, max_grpc_timeout_s = action.timeout_s, action.max_grpc_timeout_s
    per_try_timeout_s = policy.per_try_timeout_s if policy else 0.0
    if not (rules or count_attempts or timeout_s or per_try_timeout_s or max_grpc_timeout_s is not None):
        return service

    limits = TimeLimits(timeout_s, per_try_timeout_s)
    expected_ms = Tries(limits).expected_ms()
    expected = (_EXPECTED, b"%d" % expected_ms)

    def bounding(request: Request) -> Awaitable[Response]:
        request.retry_rules = rules
        if count_attempts:
            set_header(request.headers, _ATTEMPT_COUNT, b"1")
        if expected_ms and not request.upgrade:
            request.tries = Tries(limits)
            request.headers.append(expected)  # of these, no other is let in
        return service(request)

    def bounding_grpc(request: Request) -> Awaitable[Response]:
        # gRPC is always POST: others need not be looked at.
        if request.method != b"POST" or request.upgrade or not is_grpc(request):
            return bounding(request)
        request.retry_rules = rules
        if count_attempts:
            set_header(request.headers, _ATTEMPT_COUNT, b"1")
        limit_s = grpc_limit_s(request.headers, max_grpc_timeout_s or 0.0)
        if limit_s or per_try_timeout_s:
            request.tries = Tries(TimeLimits(limit_s, per_try_timeout_s, grpc=True))
            _tell_time(request, request.tries)
        return service(request)

    return bounding if max_grpc_timeout_s is None else bounding_grpc


def steerable(policy: RetryPolicy | None, count_attempts: bool, service: Service) -> Service:
    """`service`, whose requests have headers, set by their route, that say how to retry them."""

    def steering(request: Request) -> Awaitable[Response]:
        request.retry_rules = steered(policy, count_attempts, request.headers)
        request.headers = remove_headers(request.headers, STEERING)
        return service(request)

    return steering


def tell_retry(request: Request, tries: Tries, rules: RetryRules, attempt: int) -> None:
    """Tell the upstream which attempt this is, and how much time it has."""
    if rules.count_attempts:
        set_header(request.headers, _ATTEMPT_COUNT, b"%d" % attempt)
    _tell_time(request, tries)


def _tell_time(request: Request, tries: Tries) -> None:
    milliseconds = tries.expected_ms()
    if milliseconds:
        set_header(request.headers, _EXPECTED, b"%d" % milliseconds)
        if tries.limits.grpc:
            set_header(request.headers, _GRPC_TIMEOUT, grpc_timeout(milliseconds))


def grpc_limit_s(headers: Headers, most_s: float) -> float:
    """How long a gRPC request may take, whatever its headers are, when `most_s` is the most, or 0 for no bound."""
    told_s = parse_grpc_timeout(header(headers, _GRPC_TIMEOUT) or b"")
    return most_s if most_s and (not told_s or told_s > most_s) else told_s


def parse_grpc_timeout(value: bytes) -> float:
    """Seconds, rounded up to whole milliseconds; 0 for what is no timeout."""
    found = _GRPC_TIMEOUT_VALUE.fullmatch(value)
    if found is None:
        return 0.0
    milliseconds = int(found[1]) * _UNIT_S[found[2]] * 1000
    return -(-round(milliseconds, 6) // 1) / 1000


def grpc_timeout(milliseconds: int) -> bytes:
    """The value of the header, in the finest unit that has room for it."""
    for unit, size in ((b"m", 1), (b"S", 1000), (b"M", 60_000)):
        if milliseconds // size <= _MAX_VALUE:
            return b"%d%b" % (milliseconds // size, unit)
    return b"%dH" % min(milliseconds // 3_600_000, _MAX_VALUE)
