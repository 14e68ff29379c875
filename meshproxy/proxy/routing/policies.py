"""What a route's filters do, in words: for people, who cannot wait for chance, time or other people's requests."""

from __future__ import annotations

from collections.abc import Iterator

from ...snapshot import (
    CorsPolicy,
    FaultInjection,
    HttpConnectionManager,
    LocalRateLimit,
    RetryPolicy,
    Route,
    RouteAction,
    TokenBucket,
    VirtualHost,
)
from .matchers import string_condition


def policies(http: HttpConnectionManager, host: VirtualHost, route: Route) -> Iterator[str]:
    """What stands between a route's match and its action, from the outside in."""
    rate_limit = route.rate_limit or host.rate_limit or http.rate_limit
    buffer = route.buffer or host.buffer or http.buffer
    action = route.action if isinstance(route.action, RouteAction) else RouteAction(())
    if rate_limit:
        yield from _rate_limit(rate_limit)
    if action.fault:
        yield from _fault(action.fault)
    if action.cors:
        yield _cors(action.cors)
    if buffer:
        yield f"collects a request's body before it is sent on, and refuses more than {buffer.max_request_bytes} bytes"
    for mirror in action.mirrors:
        yield f"sends a copy of {mirror.percentage} of the requests to {mirror.cluster}"
    if action.timeout_s:
        yield f"waits {action.timeout_s:g} s for the whole response"
    if action.retry_policy:
        yield from _retries(action.retry_policy)


def _rate_limit(limit: LocalRateLimit) -> Iterator[str]:
    yield f"lets requests pass as {limit.name} says: {_bucket(limit.token_bucket)}"
    for one in limit.descriptors:
        whose = f"with {one.header} {one.value!r}" if one.value is not None else f"with the same {one.header}"
        yield f"lets requests {whose} pass as {limit.name} says: {_bucket(one.token_bucket)}"


def _bucket(bucket: TokenBucket) -> str:
    return f"{bucket.max_tokens}, and {bucket.tokens_per_fill} more every {bucket.fill_interval_s:g} s"


def _fault(fault: FaultInjection) -> Iterator[str]:
    if fault.delay:
        yield f"delays {fault.delay.percentage} of the requests by {fault.delay.fixed_delay_s:g} s"
    if fault.abort:
        status = fault.abort.grpc_status
        how = f"{fault.abort.status}" if status is None else f"gRPC status {status}"
        yield f"answers {fault.abort.percentage} of the requests with {how}"


def _retries(policy: RetryPolicy) -> Iterator[str]:
    if policy.per_try_timeout_s:
        yield f"waits {policy.per_try_timeout_s:g} s for the head of each try's response"
    if policy.num_retries:
        codes = "".join(f" {code}" for code in policy.retriable_status_codes)
        conditions = ", ".join(
            one + codes if one == "retriable-status-codes" else one
            for one in policy.retry_on
            if codes or one != "retriable-status-codes"
        )
        often = "once" if policy.num_retries == 1 else f"up to {policy.num_retries} times"
        yield f"tries again {often}, on {conditions}"


def _cors(policy: CorsPolicy) -> str:
    origins = " or ".join(map(string_condition, policy.allow_origins)) or "is one of none"
    return f"answers preflights, and lets scripts read responses, where the origin {origins}"
