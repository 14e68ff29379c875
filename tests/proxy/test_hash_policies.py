"""What a route finds in a request to hash, and the cookies that it gives away."""

from __future__ import annotations

import pytest
from xxhash import xxh64_hexdigest, xxh64_intdigest

from meshproxy.proxy.http.failures import NO_HEALTHY_UPSTREAM, Failure
from meshproxy.proxy.http.message import Headers, Request, Response
from meshproxy.proxy.routing.hash_policies import cookie, hashing
from meshproxy.snapshot import HashCookie, HashHeader, HashPolicy, HashQueryParameter, HashSourceIp

from .made import failing, made_request

CONNECTION = xxh64_hexdigest(b"192.0.2.7:40000198.51.100.1:80").encode()


async def hashed(request: Request, *policies: HashPolicy, asked: bool = True) -> tuple[int | None, Headers]:
    """The hash that a cluster finds, and the headers of the response."""
    found: list[int | None] = []

    async def cluster(request: Request) -> Response:
        if asked:
            found.append(request.hash_key())
            assert request.hash_key() == found[0]
        return Response(200, [(b"x", b"1")])

    response = await hashing(policies, cluster)(request)
    return (found[0] if found else None), response.headers


async def test_a_header_is_hashed() -> None:
    request = made_request(headers=[(b"x-user", b"ann")])
    assert (await hashed(request, HashHeader("x-user")))[0] == xxh64_intdigest(b"ann")
    assert (await hashed(request, HashHeader("x-other")))[0] is None


async def test_fields_of_one_name_are_hashed_in_alphabetical_order() -> None:
    request = made_request(headers=[(b"x-user", b"b"), (b"x-user", b"a")])
    expected = xxh64_intdigest(b"b", xxh64_intdigest(b"a"))
    assert (await hashed(request, HashHeader("x-user")))[0] == expected


async def test_a_query_parameter_and_the_clients_address_are_hashed() -> None:
    request = made_request(b"/?q=%41")
    assert (await hashed(request, HashQueryParameter("q")))[0] == xxh64_intdigest(b"%41")
    assert (await hashed(request, HashSourceIp()))[0] == xxh64_intdigest(b"192.0.2.7")
    request.peer = b""  # a Unix socket
    assert (await hashed(request, HashSourceIp()))[0] is None


async def test_hashes_are_rotated_and_xored() -> None:
    request = made_request(b"/?q=1", headers=[(b"x", b"2")])
    one, other = xxh64_intdigest(b"1"), xxh64_intdigest(b"2")
    rotated = (one << 1 | one >> 63) % 2**64
    found, _ = await hashed(request, HashHeader("none"), HashQueryParameter("q"), HashSourceIp(), HashHeader("x"))
    ip = xxh64_intdigest(b"192.0.2.7")
    both = rotated ^ ip
    assert found == (both << 1 | both >> 63) % 2**64 ^ other


@pytest.mark.parametrize(
    ("policy", "told"),
    [
        (HashCookie("c", 60), b"; Max-Age=60; HttpOnly"),
        (HashCookie("c", 0), b"; HttpOnly"),
        (
            HashCookie("c", 5, "/p", (("SameSite", "Lax"), ("Secure", ""))),
            b"; Max-Age=5; Path=/p; SameSite=Lax; Secure; HttpOnly",
        ),
    ],
)
async def test_a_client_without_the_cookie_is_given_one(policy: HashCookie, told: bytes) -> None:
    found, headers = await hashed(made_request(), policy)
    assert found == xxh64_intdigest(CONNECTION)
    assert headers == [(b"x", b"1"), (b"set-cookie", b'c="%b"%b' % (CONNECTION, told))]


async def test_a_client_with_the_cookie_is_given_none() -> None:
    found, headers = await hashed(made_request(headers=[(b"cookie", b"c=1")]), HashCookie("c", 60))
    assert (found, headers) == (xxh64_intdigest(b"1"), [(b"x", b"1")])


async def test_without_a_ttl_no_cookie_is_made() -> None:
    assert await hashed(made_request(), HashCookie("c")) == (None, [(b"x", b"1")])


async def test_a_cluster_that_does_not_balance_by_hash_makes_no_cookie() -> None:
    assert await hashed(made_request(), HashCookie("c", 60), asked=False) == (None, [(b"x", b"1")])


async def test_a_failure_brings_no_cookie() -> None:
    with pytest.raises(Failure):
        await hashing([HashCookie("c", 60)], failing(Failure(NO_HEALTHY_UPSTREAM)))(made_request())


@pytest.mark.parametrize(
    ("field", "value"),
    [(b"a=1; c=2", b"2"), (b'c="2"', b"2"), (b'c="', b'"'), (b"c = 2", b""), (b"c", b""), (b"cc=1", b"")],
)
def test_cookies_are_read(field: bytes, value: bytes) -> None:
    assert cookie(made_request(headers=[(b"x", b"c=9"), (b"cookie", field)]), b"c") == value
