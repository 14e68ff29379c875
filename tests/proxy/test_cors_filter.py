"""Cross-origin requests: what a preflight is answered, and what responses allow, as Envoy was measured to do it."""

from __future__ import annotations

import pytest

from meshproxy.proxy.filters.cors import cors
from meshproxy.proxy.http.failures import NO_HEALTHY_UPSTREAM, Failure
from meshproxy.proxy.http.message import Headers
from meshproxy.snapshot import CorsPolicy, Exact, Prefix, Regex

from .made import Backend, failing, made_request

ORIGIN = (b"origin", b"http://o.test")
OTHER = (b"origin", b"http://other.test")
ASKS = (b"access-control-request-method", b"PUT")
POLICY = CorsPolicy(
    (Exact("http://o.test"), Regex(r"https://.*\.x"), Prefix("http://p.")),
    allow_methods=("GET", "POST"),
    allow_headers=("x-a", "x-b"),
    expose_headers=("x-e",),
    max_age_s=60,
    allow_credentials=True,
)


async def answered(policy: CorsPolicy, *fields: tuple[bytes, bytes], method: bytes = b"GET") -> tuple[bool, Headers]:
    """Whether a request reached the upstream, which allows an origin itself, and the headers of the answer."""
    upstream = Backend([(b"access-control-allow-origin", b"up"), (b"x-up", b"1")])
    response = await cors(policy, upstream)(made_request(method=method, headers=list(fields)))
    return bool(upstream.requests), response.headers


async def test_an_allowed_origin_is_told_so_in_place_of_what_the_upstream_says() -> None:
    assert await answered(POLICY, ORIGIN) == (
        True,
        [
            (b"access-control-allow-origin", b"http://o.test"),
            (b"x-up", b"1"),
            (b"access-control-allow-credentials", b"true"),
            (b"access-control-expose-headers", b"x-e"),
        ],
    )


@pytest.mark.parametrize("origin", [b"https://a.x", b"http://p.q"])
async def test_origins_match_by_expression_and_prefix(origin: bytes) -> None:
    _, headers = await answered(POLICY, (b"origin", origin))

    assert dict(headers)[b"access-control-allow-origin"] == origin


@pytest.mark.parametrize(
    "fields", [(), (OTHER,), ((b"origin", b""),), (ORIGIN, OTHER), ((b"origin", b"HTTP://O.TEST"),)]
)
async def test_whoever_is_not_allowed_gets_what_the_upstream_says(fields: tuple[tuple[bytes, bytes], ...]) -> None:
    assert await answered(POLICY, *fields) == (True, [(b"access-control-allow-origin", b"up"), (b"x-up", b"1")])


async def test_a_preflight_is_answered_with_what_is_allowed() -> None:
    assert await answered(POLICY, ORIGIN, ASKS, method=b"OPTIONS") == (
        False,
        [
            (b"access-control-allow-origin", b"http://o.test"),
            (b"access-control-allow-credentials", b"true"),
            (b"access-control-allow-methods", b"GET,POST"),
            (b"access-control-allow-headers", b"x-a,x-b"),
            (b"access-control-max-age", b"60"),
            (b"access-control-expose-headers", b"x-e"),
        ],
    )


async def test_a_star_allows_whatever_a_preflight_asks_for() -> None:
    policy = CorsPolicy((Exact("*"),), allow_methods=("*",), allow_headers=("*",))
    asked = (b"access-control-request-headers", b"x-1, x-2")

    _, headers = await answered(policy, OTHER, ASKS, asked, method=b"OPTIONS")

    assert headers == [
        (b"access-control-allow-origin", b"http://other.test"),
        (b"access-control-allow-methods", b"PUT"),
        (b"access-control-allow-headers", b"x-1, x-2"),
    ]


async def test_a_star_among_others_is_one_of_them() -> None:
    policy = CorsPolicy((Exact("*"),), allow_methods=("*", "GET"), max_age_s=0)

    _, headers = await answered(policy, OTHER, ASKS, method=b"OPTIONS")

    assert headers[1:] == [(b"access-control-allow-methods", b"*,GET"), (b"access-control-max-age", b"0")]


@pytest.mark.parametrize("fields", [(ORIGIN,), (ORIGIN, (ASKS[0], b"")), (ASKS,), (OTHER, ASKS)])
async def test_what_is_no_preflight_of_an_allowed_origin_goes_upstream(fields: tuple[tuple[bytes, bytes], ...]) -> None:
    reached, _ = await answered(POLICY, *fields, method=b"OPTIONS")

    assert reached


async def test_a_preflight_that_is_not_forwarded_is_answered_without_a_permission() -> None:
    policy = CorsPolicy((Exact("http://o.test"),), allow_methods=("GET",), forward_not_matching_preflights=False)

    reached, headers = await answered(policy, OTHER, ASKS, method=b"OPTIONS")

    assert (reached, headers) == (False, [(b"access-control-allow-methods", b"GET")])


async def test_scripts_may_read_of_failures_too() -> None:
    request = made_request(headers=[ORIGIN])

    response = await cors(POLICY, failing(Failure(NO_HEALTHY_UPSTREAM)))(request)

    assert (response.status, request.flags) == (503, "UH")
    assert dict(response.headers)[b"access-control-allow-origin"] == b"http://o.test"


async def test_a_preflights_answer_is_known_by_its_details() -> None:
    request = made_request(method=b"OPTIONS", headers=[ORIGIN, ASKS])

    response = await cors(POLICY, Backend())(request)

    assert (response.status, response.body, request.details) == (200, b"", "cors_response")
