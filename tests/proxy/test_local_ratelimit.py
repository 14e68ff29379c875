"""Token buckets: when there is a token, which bucket a request takes one of, and what its client is told."""

from __future__ import annotations

import sys
from dataclasses import replace

import pytest
import trio.testing
from hypothesis import given
from hypothesis import strategies as st

from meshproxy.proxy.filters.context import FilterContext
from meshproxy.proxy.filters.local_ratelimit import Bucket, RateLimiter, local_ratelimit
from meshproxy.proxy.http.failures import NO_HEALTHY_UPSTREAM, Failure
from meshproxy.proxy.http.message import Service
from meshproxy.snapshot import FilterChain, LocalRateLimit, RateLimitDescriptor, TokenBucket

from .made import Backend, failing, made_request
from .support import GET, backend, gateway, snapshot

HOUR = 3600.0


def taken(bucket: Bucket, *moments: float) -> list[bool]:
    """Whether there was a token at each of these moments."""
    return [bucket.take(now) for now in moments]


def test_a_bucket_gives_as_many_tokens_as_it_holds() -> None:
    assert taken(Bucket(TokenBucket(3, 1, HOUR)), 0, 0, 0, 0) == [True, True, True, False]


def test_a_token_comes_when_its_time_has_come_and_not_before() -> None:
    bucket = Bucket(TokenBucket(1, 2, 10.0))

    assert taken(bucket, 0, 4.9, 5.0, 5.0, 10.0) == [True, False, True, False, True]


def test_a_refusal_takes_nothing() -> None:
    assert taken(Bucket(TokenBucket(1, 1, 1.0)), 0, 0.5, 0.9, 1.0) == [True, False, False, True]


def test_a_bucket_holds_no_more_than_it_can() -> None:
    assert taken(Bucket(TokenBucket(2, 100, 1.0)), 1000, 1000, 1000) == [True, True, False]


def test_a_bucket_tells_what_is_in_it_and_when_the_next_token_comes() -> None:
    bucket = Bucket(TokenBucket(2, 1, 10.0))
    bucket.take(0)
    assert (bucket.remaining(0), bucket.reset_s(0)) == (1, 0)
    bucket.take(0)
    assert [(bucket.remaining(now), bucket.reset_s(now)) for now in (0, 4.5, 9.5, 10, 19.5, 20)] == [
        *((0, 10), (0, 6), (0, 1)),
        *((1, 0), (1, 0), (2, 0)),
    ]


@given(st.floats(0, 1e7), st.integers(1, 1000), st.floats(1e-3, 1e3))
def test_what_is_told_does_not_depend_on_what_time_it_is(now: float, size: int, interval_s: float) -> None:
    bucket = Bucket(TokenBucket(size, 1, interval_s))
    for taken in range(1, size + 1):
        assert bucket.take(now)
        assert bucket.remaining(now) == size - taken
    assert not bucket.take(now)


@given(
    st.integers(1, 20),
    st.integers(1, 20),
    st.floats(0.05, 100),
    st.lists(st.floats(0, 10), min_size=1, max_size=200),
)
def test_no_more_pass_than_fit_and_flow_in(size: int, per_fill: int, interval_s: float, waits: list[float]) -> None:
    bucket, now, passed = Bucket(TokenBucket(size, per_fill, interval_s)), 0.0, 0
    for wait in waits:
        now += wait
        passed += bucket.take(now)
        assert passed <= size + now * per_fill / interval_s + 0.01


def limit(*descriptors: RateLimitDescriptor, total: int = 100, values: int = 10) -> LocalRateLimit:
    return LocalRateLimit("l", TokenBucket(total, 1, HOUR), descriptors, values)


def each(name: str, size: int, value: str | None = None) -> RateLimitDescriptor:
    return RateLimitDescriptor(name, value, TokenBucket(size, 1, HOUR))


def admitted(limiter: RateLimiter, *fields: bytes) -> bool:
    """Whether a request with these fields, `name: value`, may pass."""
    headers = [(name, value) for name, _, value in (field.partition(b": ") for field in fields)]
    return limiter.admit(made_request(headers=headers), 0.0)[0]


def test_each_value_of_a_header_has_its_own_bucket() -> None:
    limiter = RateLimiter(limit(each("x-user", 1)))

    assert [admitted(limiter, b"x-user: " + user) for user in (b"a", b"a", b"b", b"b")] == [True, False, True, False]
    assert admitted(limiter)


def test_a_value_with_a_bucket_of_its_own_takes_from_no_other_of_that_header() -> None:
    limiter = RateLimiter(limit(each("x-user", 1), each("x-user", 3, "vip")))

    assert [admitted(limiter, b"x-user: vip") for _ in range(4)] == [True, True, True, False]


def test_every_request_takes_from_the_common_bucket_too() -> None:
    limiter = RateLimiter(limit(each("x-user", 1), total=2))

    assert [admitted(limiter, b"x-user: " + user) for user in (b"a", b"b", b"c")] == [True, True, False]


def test_a_request_that_is_refused_by_its_own_bucket_takes_nothing_from_the_common_one() -> None:
    limiter = RateLimiter(limit(each("x-user", 1), total=2))

    assert [admitted(limiter, b"x-user: a") for _ in range(10)] == [True, *[False] * 9]
    assert admitted(limiter)


def test_the_strictest_bucket_is_asked_first_so_that_who_is_refused_there_takes_nothing_elsewhere() -> None:
    users, teams = TokenBucket(2, 1, 60.0), TokenBucket(1, 1, HOUR)
    limiter = RateLimiter(limit(RateLimitDescriptor("x-user", None, users), RateLimitDescriptor("x-team", None, teams)))

    assert [admitted(limiter, b"x-user: a", b"x-team: t") for _ in range(3)] == [True, False, False]
    assert [admitted(limiter, b"x-user: a") for _ in range(2)] == [True, False]


def test_a_value_with_a_bucket_of_its_own_has_one_in_that_header_alone() -> None:
    limiter = RateLimiter(limit(each("x-user", 1), each("x-team", 3, "vip")))

    assert [admitted(limiter, b"x-user: vip") for _ in range(2)] == [True, False]


def test_the_values_that_were_seen_last_are_remembered() -> None:
    limiter = RateLimiter(limit(each("x-user", 1), values=2))
    users = (b"a", b"b", b"a", b"c", b"a", b"b")

    assert [admitted(limiter, b"x-user: " + user) for user in users] == [True, True, False, True, False, True]


def test_long_values_are_not_kept() -> None:
    limiter = RateLimiter(limit(each("x-user", 1)))
    value = bytes(60_000)
    before = sys.getrefcount(value)

    assert limiter.admit(made_request(headers=[(b"x-user", value)]), 0.0)[0]
    assert sys.getrefcount(value) == before


def limited(limit: LocalRateLimit, service: Service) -> Service:
    def no_background(task: object) -> None: ...

    return local_ratelimit(RateLimiter(limit), FilterContext(lambda: 0.0, no_background), service)


async def test_every_response_tells_what_is_left(autojump_clock: trio.testing.MockClock) -> None:
    filtered = limited(LocalRateLimit("l", TokenBucket(2, 1, 60.0)), Backend())

    told = [(await filtered(made_request())).headers for _ in range(3)]

    names = (b"x-ratelimit-limit", b"x-ratelimit-remaining", b"x-ratelimit-reset")
    values = [tuple(dict(headers)[name] for name in names) for headers in told]
    assert values == [(b"2", b"1", b"0"), (b"2", b"0", b"60"), (b"2", b"0", b"60")]


async def test_a_refused_request_gets_429_with_its_flag() -> None:
    filtered, request = limited(limit(total=1), Backend()), made_request()
    await filtered(made_request())

    response = await filtered(request)

    assert (response.status, response.body) == (429, b"local_rate_limited")
    assert (request.flags, request.details) == ("RL", "local_rate_limited")


async def test_a_failure_tells_what_is_left_too() -> None:
    request = made_request()

    response = await limited(limit(), failing(Failure(NO_HEALTHY_UPSTREAM)))(request)

    assert (response.status, request.flags) == (503, "UH")
    assert dict(response.headers)[b"x-ratelimit-remaining"] == b"99"


@pytest.mark.parametrize("level", ["listener", "host", "route"])
async def test_with_so_many_allowed_so_many_pass_and_the_next_is_refused(level: str) -> None:
    async with backend() as server:
        config = snapshot(server)
        bound = limit(total=5)
        listener = config.listeners[0]
        (chain,) = listener.filter_chains
        routes = chain.http.route_config
        host = routes.virtual_hosts[0]
        if level == "route":
            host = replace(host, routes=(replace(host.routes[0], rate_limit=bound),))
        if level == "host":
            host = replace(host, rate_limit=bound)
        http = replace(
            chain.http,
            route_config=replace(routes, virtual_hosts=(host,)),
            rate_limit=bound if level == "listener" else None,
        )
        config = replace(config, listeners=(replace(listener, filter_chains=(FilterChain(http),)),))
        async with gateway(config) as running:
            client = await running.client()
            statuses = [(await client.request(GET)).status for _ in range(7)]
            lines = await running.logged(7)

    assert statuses == [200] * 5 + [429] * 2
    assert [line.flags for line in lines] == ["-"] * 5 + ["RL"] * 2
