"""What a route decides of a request before it is sent, and what the upstream is told of it."""

from __future__ import annotations

from typing import Any

import pytest
import trio

from meshproxy.proxy.http.message import Headers, Request
from meshproxy.proxy.upstream.time_limits import bounded, grpc_limit_s, grpc_timeout, parse_grpc_timeout
from meshproxy.proxy.upstream.tries import TimeLimits, Tries
from meshproxy.snapshot import RetryPolicy, RouteAction

from .made import Backend, made_request

GRPC: Headers = [(b"content-type", b"application/grpc")]


async def passed(headers: Headers, method: bytes = b"POST", count: bool = False, **action: Any) -> Request:
    """The request as the next service has it."""
    backend = Backend()
    request = made_request(method=method, headers=list(headers))
    await bounded(RouteAction((), **action), count, backend)(request)
    return backend.request


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        *((b"5S", 5), (b"100m", 0.1), (b"2M", 120), (b"1H", 3600), (b"99999999H", 99999999 * 3600)),
        *((b"1500u", 0.002), (b"1000000n", 0.001), (b"1n", 0.001), (b"1000001n", 0.002), (b"0m", 0)),
        *((b"7 S", 7), (b"", 0), (b"5", 0), (b"5x", 0), (b"S", 0), (b"123456789m", 0), (b"-1S", 0), (b"1.5S", 0)),
    ],
)
def test_grpc_timeouts_are_read_in_whole_milliseconds(value: bytes, seconds: float) -> None:
    assert parse_grpc_timeout(value) == pytest.approx(seconds)


@pytest.mark.parametrize(
    ("milliseconds", "value"),
    [
        (1, b"1m"),
        (99_999_999, b"99999999m"),
        (100_000_000, b"100000S"),
        (99_999_999_999, b"99999999S"),
        (100_000_000_000, b"1666666M"),
        (10**18, b"99999999H"),
    ],
)
def test_grpc_timeouts_are_written_in_eight_digits(milliseconds: int, value: bytes) -> None:
    assert grpc_timeout(milliseconds) == value


@pytest.mark.parametrize(
    ("told", "most", "limit"), [(b"5S", 0, 5), (b"5S", 3, 3), (b"2S", 3, 2), (b"", 3, 3), (b"", 0, 0), (b"0S", 3, 3)]
)
def test_a_route_bounds_what_grpc_asks_for(told: bytes, most: float, limit: float) -> None:
    assert grpc_limit_s([(b"grpc-timeout", told)], most) == limit


async def test_a_route_without_limits_passes_requests_on_as_they_are() -> None:
    backend = Backend()

    assert bounded(RouteAction(()), False, backend) is backend


async def test_the_upstream_is_told_how_long_it_has() -> None:
    assert (await passed([], timeout_s=1.5)).headers == [(b"x-envoy-expected-rq-timeout-ms", b"1500")]


async def test_a_try_with_next_to_no_time_left_is_not_told_that_it_may_take_any() -> None:
    tries = Tries(TimeLimits(1.0))
    tries.deadline = trio.current_time() + 1e-5

    assert tries.expected_ms() == 1


@pytest.mark.parametrize(("per_try_s", "expected"), [(0.2, b"200"), (1.5, b"1500"), (9.0, b"1500"), (0.0, b"1500")])
async def test_a_try_has_no_more_time_than_the_request(per_try_s: float, expected: bytes) -> None:
    request = await passed([], timeout_s=1.5, retry_policy=RetryPolicy(("5xx",), per_try_timeout_s=per_try_s))

    assert request.headers == [(b"x-envoy-expected-rq-timeout-ms", expected)]


async def test_a_grpc_request_tells_its_own_time() -> None:
    request = await passed([*GRPC, (b"grpc-timeout", b"2S")], max_grpc_timeout_s=0.0)

    assert request.headers[1:] == [(b"grpc-timeout", b"2000m"), (b"x-envoy-expected-rq-timeout-ms", b"2000")]


@pytest.mark.parametrize(("headers", "max_grpc_timeout_s"), [(GRPC, None), ([], 0.0)])
async def test_others_do_not(headers: Headers, max_grpc_timeout_s: float | None) -> None:
    told = [*headers, (b"grpc-timeout", b"2S")]

    request = await passed(told, max_grpc_timeout_s=max_grpc_timeout_s, timeout_s=5.0)

    assert request.headers == [*told, (b"x-envoy-expected-rq-timeout-ms", b"5000")]


async def test_the_first_attempt_is_the_first_whatever_a_client_says() -> None:
    request = await passed([(b"x-envoy-attempt-count", b"7")], count=True)

    assert request.headers == [(b"x-envoy-attempt-count", b"1")]
    assert request.tries is None


async def test_what_follows_an_upgrade_may_take_any_time() -> None:
    backend = Backend()
    request = made_request()
    request.upgrade = b"websocket"

    await bounded(RouteAction((), timeout_s=1.0), False, backend)(request)

    assert (request.tries, request.headers) == (None, [])
