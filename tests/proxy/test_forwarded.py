"""The headers by which proxies tell each other of a request: at the edge of the mesh, and inside it."""

from __future__ import annotations

import pytest

from meshproxy.proxy.http.forwarded import at_edge, inside
from meshproxy.proxy.http.message import Headers

from .made import made_request

ID = b"the-id"


def edge(*headers: tuple[bytes, bytes]) -> Headers:
    return at_edge(made_request(headers=list(headers)), ID)


def within(*headers: tuple[bytes, bytes]) -> Headers:
    return inside(made_request(headers=list(headers)), ID)


def test_the_edge_tells_where_a_request_came_from() -> None:
    assert edge((b"accept", b"*/*")) == [
        (b"accept", b"*/*"),
        (b"x-forwarded-for", b"192.0.2.7"),
        (b"x-forwarded-proto", b"http"),
        (b"x-envoy-external-address", b"192.0.2.7"),
        (b"x-request-id", ID),
    ]


def test_the_edge_believes_nothing_and_keeps_the_place_of_what_it_sets() -> None:
    assert edge(
        (b"x-request-id", b"forged"),
        (b"x-forwarded-for", b"1.2.3.4"),
        (b"x-envoy-external-address", b"1.2.3.4"),
        (b"a", b"b"),
        (b"x-forwarded-for", b"5.6.7.8"),
        (b"x-forwarded-proto", b"https"),
    ) == [
        (b"x-request-id", ID),
        (b"x-forwarded-for", b"1.2.3.4,5.6.7.8,192.0.2.7"),
        (b"x-envoy-external-address", b"192.0.2.7"),
        (b"a", b"b"),
        (b"x-forwarded-proto", b"http"),
    ]


STEERING = [b"x-envoy-retry-on", b"x-envoy-upstream-rq-timeout-ms", b"x-envoy-internal", b"x-forwarded-client-cert"]
TOLD_INSIDE = [b"x-envoy-original-path", b"x-envoy-decorator-operation", b"x-envoy-downstream-service-node"]
ANYBODYS = [b"x-envoy-attempt-count", b"x-forwarded-host", b"traceparent", b"x-envoy-unheard-of"]


@pytest.mark.parametrize("name", STEERING + TOLD_INSIDE)
def test_what_only_the_mesh_may_say_is_taken_from_clients(name: bytes) -> None:
    assert name not in dict(edge((name, b"forged")))


@pytest.mark.parametrize("name", STEERING)
def test_what_steers_a_proxy_is_taken_inside_the_mesh_too(name: bytes) -> None:
    assert name not in dict(within((name, b"forged")))


@pytest.mark.parametrize("name", TOLD_INSIDE)
def test_what_proxies_tell_each_other_passes_inside_the_mesh(name: bytes) -> None:
    assert dict(within((name, b"told")))[name] == b"told"


@pytest.mark.parametrize("name", ANYBODYS)
def test_what_anybody_may_say_passes_everywhere(name: bytes) -> None:
    assert dict(edge((name, b"said")))[name] == dict(within((name, b"said")))[name] == b"said"


def test_inside_the_mesh_only_what_is_missing_is_added() -> None:
    told = [
        (b"x-forwarded-for", b"1.2.3.4"),
        (b"x-forwarded-proto", b"https"),
        (b"x-envoy-external-address", b"1.2.3.4"),
        (b"x-request-id", b"from-the-edge"),
    ]

    assert within(*told) == told
    assert within() == [(b"x-forwarded-proto", b"http"), (b"x-request-id", ID)]


@pytest.mark.parametrize(
    ("told", "scheme"), [([b"https"], b"https"), ([b"ftp"], b"http"), ([b"https", b"https"], b"http"), ([], b"http")]
)
def test_inside_the_mesh_the_scheme_is_what_the_edge_says(told: list[bytes], scheme: bytes) -> None:
    request = made_request(headers=[(b"x-forwarded-proto", one) for one in told])
    inside(request, ID)
    assert request.scheme == scheme


@pytest.mark.parametrize(
    ("told", "peer", "address"),
    [
        ([b"1.2.3.4, 5.6.7.8"], b"5.6.7.8", "5.6.7.8:0"),
        ([b"1.2.3.4", b"2001:db8::1"], b"2001:db8::1", "[2001:db8::1]:0"),
        ([b"2001:DB8:0:0:1::1"], b"2001:db8::1:0:0:1", "[2001:db8::1:0:0:1]:0"),
        ([b"::ffff:102:304"], b"::ffff:1.2.3.4", "[::ffff:1.2.3.4]:0"),
        ([b"::1.2.3.4"], b"::1.2.3.4", "[::1.2.3.4]:0"),
        ([b"fe80::1%1"], b"fe80::1%1", "[fe80::1%1]:0"),
        ([b"01.2.3.4"], b"192.0.2.7", "192.0.2.7:40000"),
        ([b"1.2.3.4, unknown"], b"192.0.2.7", "192.0.2.7:40000"),
        ([b""], b"192.0.2.7", "192.0.2.7:40000"),
        ([], b"192.0.2.7", "192.0.2.7:40000"),
    ],
)
def test_inside_the_mesh_the_client_is_whom_the_last_proxy_saw(told: list[bytes], peer: bytes, address: str) -> None:
    request = made_request(headers=[(b"x-forwarded-for", value) for value in told])

    inside(request, ID)

    assert (request.peer, request.peer_address) == (peer, address)
