"""When a request is tried again, and after how long; nothing is sent here."""

from __future__ import annotations

import pytest

from meshproxy.proxy.http.failures import (
    CONNECTION_FAILURE,
    CONNECTION_TERMINATION,
    CONNECTION_TIMEOUT,
    NO_HEALTHY_UPSTREAM,
    PER_TRY_TIMEOUT,
    PROTOCOL_ERROR,
    RESPONSE_TIMEOUT,
    Failure,
    Kind,
)
from meshproxy.proxy.http.message import Headers, Response
from meshproxy.proxy.upstream.retry_rules import RetryLimit, RetryRules, backoff_s, budget, steered
from meshproxy.snapshot import CircuitBreakers, RetryBudget, RetryPolicy

NOT_CONNECTED = {CONNECTION_FAILURE, CONNECTION_TIMEOUT}
RESET = NOT_CONNECTED | {CONNECTION_TERMINATION, PROTOCOL_ERROR, PER_TRY_TIMEOUT}
ALL = RESET | {NO_HEALTHY_UPSTREAM, RESPONSE_TIMEOUT}


def rules(*retry_on: str, **policy: object) -> RetryRules:
    return RetryRules(RetryPolicy(retry_on, **policy))  # type: ignore[arg-type]


def statuses(under_test: RetryRules, *headers: tuple[bytes, bytes]) -> set[int]:
    """Those that are tried again."""
    return {status for status in range(200, 600) if under_test.answered(Response(status, list(headers)))}


@pytest.mark.parametrize(
    ("condition", "kinds"),
    [
        ("5xx", RESET),
        ("gateway-error", RESET),
        ("reset", RESET),
        ("reset-before-request", NOT_CONNECTED),
        ("connect-failure", NOT_CONNECTED),
        ("refused-stream", set()),
        ("unavailable", set()),
        ("retriable-status-codes", set()),
    ],
)
def test_which_failures_a_condition_is_about(condition: str, kinds: set[Kind]) -> None:
    assert {kind for kind in ALL if rules(condition).failed(Failure(kind))} == kinds


@pytest.mark.parametrize(
    ("condition", "expected"),
    [
        ("5xx", set(range(500, 600))),
        ("gateway-error", {502, 503, 504}),
        ("retriable-4xx", {409}),
        ("retriable-status-codes", {404, 503}),
        ("reset", set()),
    ],
)
def test_which_statuses_a_condition_is_about(condition: str, expected: set[int]) -> None:
    assert statuses(rules(condition, retriable_status_codes=(404, 503))) == expected


@pytest.mark.parametrize(
    ("condition", "code"),
    [
        ("cancelled", b"1"),
        ("deadline-exceeded", b"4"),
        ("resource-exhausted", b"8"),
        ("internal", b"13"),
        ("unavailable", b"14"),
    ],
)
def test_which_grpc_status_a_condition_is_about(condition: str, code: bytes) -> None:
    codes = [b"%d" % number for number in range(17)]

    assert [one for one in codes if rules(condition).answered(Response(200, [(b"grpc-status", one)]))] == [code]


def test_what_was_rate_limited_has_its_own_condition() -> None:
    limited = (b"x-envoy-ratelimited", b"true")

    assert statuses(rules("5xx", "unavailable"), (b"grpc-status", b"14"), limited) == set()
    assert statuses(rules("envoy-ratelimited"), limited) == set(range(200, 600))
    assert statuses(rules("envoy-ratelimited")) == set()


def test_a_policy_without_conditions_retries_nothing() -> None:
    assert statuses(rules(), (b"grpc-status", b"14")) == set()


@pytest.mark.parametrize(
    ("retry", "longest"), [(1, 0.025), (2, 0.05), (3, 0.1), (4, 0.2), (5, 0.25), (6, 0.25), (1000, 0.25)]
)
def test_each_pause_is_a_part_of_twice_the_last_up_to_ten_times_the_first(retry: int, longest: float) -> None:
    policy = RetryPolicy(("5xx",))

    assert backoff_s(policy, retry, 0.0) == 0
    assert backoff_s(policy, retry, 0.5) == pytest.approx(longest / 2)
    assert backoff_s(policy, retry, 1.0) == pytest.approx(longest)


def test_the_first_pause_can_be_told() -> None:
    assert backoff_s(RetryPolicy(("5xx",), base_interval_s=2.0), 3, 0.5) == 4.0


def steer(*headers: tuple[bytes, bytes], policy: RetryPolicy | None = None) -> RetryRules | None:
    given: Headers = list(headers)
    return steered(policy, False, given)


def test_a_routes_own_headers_add_to_its_policy() -> None:
    steering = steer(
        (b"x-envoy-retry-on", b"5xx, reset"),
        (b"x-envoy-retry-grpc-on", b"unavailable"),
        (b"x-envoy-retriable-status-codes", b"404,x,410,%b" % (b"9" * 5000)),
        policy=RetryPolicy(("retriable-status-codes",), 2, (409,), base_interval_s=1.0),
    )

    assert steering is not None
    assert steering.policy == RetryPolicy(
        ("retriable-status-codes", "5xx", "reset", "unavailable"), 2, (409, 404, 410), base_interval_s=1.0
    )


@pytest.mark.parametrize(("told", "retries"), [(b"7", 7), (b"0", 0), (b"many", 1), (b"-1", 1), (b"9" * 5000, 1)])
def test_a_routes_headers_tell_how_often(told: bytes, retries: int) -> None:
    steering = steer((b"x-envoy-retry-on", b"5xx"), (b"x-envoy-max-retries", told))

    assert steering is not None
    assert steering.policy.num_retries == retries


def test_a_routes_headers_name_those_of_responses() -> None:
    steering = steer(
        (b"x-envoy-retry-on", b"retriable-headers"), (b"x-envoy-retriable-header-names", b"X-Again, x-more")
    )

    assert steering is not None
    assert steering.answered(Response(200, [(b"x-again", b"")]))
    assert not steering.answered(Response(500, [(b"x-other", b"")]))


def test_how_often_alone_is_no_policy() -> None:
    assert steer((b"x-envoy-max-retries", b"7")) is None


@pytest.mark.parametrize(
    ("most", "active", "allowed"), [(None, 10**6, True), (2, 1, True), (2, 2, False), (0, 0, False)]
)
def test_a_cluster_bounds_its_retries(most: int | None, active: int, allowed: bool) -> None:
    limit = RetryLimit(CircuitBreakers(max_retries=most))
    limit.active = active

    assert limit.allows(active_requests=1, now=0.0) is allowed


@pytest.mark.parametrize(
    ("percent", "least", "requests", "retries"),
    [(20, 3, 0, 3), (20, 3, 15, 3), (20, 3, 25, 5), (20, 3, 29, 5), (100, 0, 7, 7), (0, 0, 7, 0), (0.5, 0, 400, 2)],
)
def test_a_budget_is_a_share_of_the_requests_but_never_less_than_a_few(
    percent: float, least: int, requests: int, retries: int
) -> None:
    assert budget(RetryBudget(percent, least), requests) == retries


def test_a_budget_counts_instead_of_a_number() -> None:
    limit = RetryLimit(CircuitBreakers(max_retries=0, retry_budget=RetryBudget(20, 3)))
    limit.active = 4

    assert limit.allows(active_requests=25, now=0.0)
    assert not limit.allows(active_requests=24, now=0.0)


def test_a_budget_may_look_back() -> None:
    limit = RetryLimit(CircuitBreakers(retry_budget=RetryBudget(50, 0, budget_interval_s=10.0)))
    assert limit.recent is not None
    for now in (1.0, 5.0, 5.5, 9.0):
        limit.recent.note(now)
    limit.active = 1

    allowed = [limit.allows(active_requests=99, now=now) for now in (9.0, 10.9, 11.0, 14.9, 15.0, 30.0)]

    assert allowed == [True, True, False, False, False, False]
    assert limit.recent.count(30.0) == 0
