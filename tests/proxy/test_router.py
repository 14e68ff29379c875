"""Which virtual host and which of its routes a request meets; hosts as Envoy 1.40 was measured to find them."""

from __future__ import annotations

import pytest

from meshproxy.proxy.http.failures import ROUTE_NOT_FOUND, Failure
from meshproxy.proxy.http.message import Request, Response, Service
from meshproxy.proxy.routing.router import Router, without_port
from meshproxy.snapshot import (
    DirectResponseAction,
    Exact,
    HeaderMatcher,
    Prefix,
    Route,
    RouteConfiguration,
    RouteMatch,
    VirtualHost,
)

from .made import Backend, made_request


def route(name: str, match: RouteMatch | None = None) -> Route:
    return Route(name, match or RouteMatch(), DirectResponseAction(200))


def router(*hosts: VirtualHost) -> Router:
    """A router whose routes answer with their own names."""

    def named(host: VirtualHost, route: Route) -> Service:
        async def answer(request: Request) -> Response:
            return Response(200, [], route.name.encode())

        return answer

    return Router(RouteConfiguration("r", hosts), named)


def found(router: Router, request: Request) -> str:
    compiled = router.find(request)
    return "404" if compiled is None else compiled.route.name


DOMAINS = {
    "exact": "foo.example.com",
    "suffix": "*.example.com",
    "suffix2": "*.sub.example.com",
    "dashsuffix": "*-x.example.com",
    "prefixw": "foo.*",
    "port": "p.test:8080",
    "portless": "p2.test",
    "v6": "[::1]",
    "v6p": "[::2]:81",
    "dot": "dot.test.",
    "upper": "Upper.Test",
}
ENVOY = router(*(VirtualHost(name, (domain,), (route(name),)) for name, domain in DOMAINS.items()))


@pytest.mark.parametrize(
    ("host", "expected"),
    [
        (b"foo.example.com", "exact"),
        (b"FOO.Example.COM", "exact"),
        (b"foo.example.com:80", "exact"),
        (b"foo.example.com:", "exact"),
        (b"foo.example.com:abc", "exact"),
        (b"bar.example.com", "suffix"),
        (b"a.b.example.com", "suffix"),
        (b"example.com", "404"),
        (b".example.com", "404"),
        (b"x.sub.example.com", "suffix2"),
        (b"a.b.sub.example.com", "suffix2"),
        (b"sub.example.com", "suffix"),
        (b"q-x.example.com", "dashsuffix"),
        (b"-x.example.com", "suffix"),
        (b"foo.org", "prefixw"),
        (b"foo.org:99", "prefixw"),
        (b"foo.", "404"),
        (b"p.test", "404"),
        (b"p.test:8080", "404"),
        (b"p.test:81", "404"),
        (b"p2.test", "portless"),
        (b"p2.test:8080", "portless"),
        (b"[::1]", "v6"),
        (b"[::1]:90", "v6"),
        (b"::1", "404"),
        (b"[::2]", "404"),
        (b"[::2]:81", "404"),
        (b"[::2]:82", "404"),
        (b"dot.test", "404"),
        (b"dot.test.", "dot"),
        (b"upper.test", "upper"),
        (b"UPPER.TEST:1", "upper"),
        (b"foo.example.com.", "prefixw"),
        (b"u@foo.example.com", "suffix"),
        (b"foo.example.com,foo.example.com", "suffix"),
        (b"", "404"),
    ],
)
def test_the_host_finds_its_virtual_host(host: bytes, expected: str) -> None:
    assert found(ENVOY, made_request(authority=host)) == expected


@pytest.mark.parametrize(
    ("host", "expected"),
    [(b"a.b.c", "a.b.c"), (b"x.b.c", "*.b.c"), (b"x.y.c", "*.c"), (b"a.b.d", "a.b.*"), (b"a.d", "a.*"), (b"d", "*")],
)
@pytest.mark.parametrize("backwards", [False, True])
def test_exact_before_suffix_before_prefix_before_any_and_the_longest_first(
    host: bytes, expected: str, backwards: bool
) -> None:
    domains = ["*", "a.*", "a.b.*", "*.c", "*.b.c", "a.b.c"]
    hosts = [VirtualHost(domain, (domain,), (route(domain),)) for domain in domains]

    assert found(router(*(reversed(hosts) if backwards else hosts)), made_request(authority=host)) == expected


def test_a_virtual_host_may_have_several_domains() -> None:
    several = router(VirtualHost("v", ("a", "*.b"), (route("r"),)))

    assert found(several, made_request(authority=b"a")) == "r"
    assert found(several, made_request(authority=b"x.b")) == "r"


def test_the_first_route_that_matches_wins() -> None:
    ordered = router(
        VirtualHost(
            "v",
            ("*",),
            (
                route("header", RouteMatch(Prefix("/a"), headers=(HeaderMatcher("x-a"),))),
                route("prefix", RouteMatch(Prefix("/a"))),
                route("exact", RouteMatch(Exact("/a/b"))),
            ),
        )
    )

    assert found(ordered, made_request(b"/a/b")) == "prefix"
    assert found(ordered, made_request(b"/a/b", headers=[(b"x-a", b"")])) == "header"
    assert found(ordered, made_request(b"/b")) == "404"


def test_routes_of_a_less_specific_host_are_not_tried() -> None:
    hosts = router(
        VirtualHost("exact", ("h",), (route("a", RouteMatch(Prefix("/a"))),)), VirtualHost("any", ("*",), (route("b"),))
    )

    assert found(hosts, made_request(b"/b", authority=b"h")) == "404"


def test_the_path_is_matched_without_its_query() -> None:
    exact = router(VirtualHost("v", ("*",), (route("r", RouteMatch(Exact("/a"))),)))

    assert found(exact, made_request(b"/a?b=/c")) == "r"


async def test_a_request_is_given_to_its_route() -> None:
    response = await ENVOY(made_request(authority=b"foo.org"))

    assert response.body == b"prefixw"


async def test_a_request_without_a_route_fails() -> None:
    with pytest.raises(Failure) as caught:
        await ENVOY(made_request(authority=b"nowhere"))

    assert caught.value.kind is ROUTE_NOT_FOUND


@pytest.mark.parametrize(
    ("authority", "host"),
    [(b"h", b"h"), (b"h:80", b"h"), (b"h:", b"h"), (b"[::1]", b"[::1]"), (b"[::1]:80", b"[::1]"), (b"[::1", b"[::1")],
)
def test_the_port_is_taken_off_an_authority(authority: bytes, host: bytes) -> None:
    assert without_port(authority) == host


@pytest.mark.parametrize(
    ("authority", "met"),
    [
        (b"a.test", "any port"),
        (b"a.test:80", "port 80"),
        (b"A.Test:80", "port 80"),
        (b"a.test:81", None),
        (b"x.wild.test:8080", "wildcard with a port"),
        (b"x.wild.test", None),
    ],
)
def test_a_route_configuration_can_heed_the_port(authority: bytes, met: str | None) -> None:
    domains = {"any port": "a.test", "port 80": "a.test:80", "wildcard with a port": "*.wild.test:8080"}
    hosts = tuple(
        VirtualHost(name, (domain,), (Route(name, RouteMatch(), DirectResponseAction(200)),))
        for name, domain in domains.items()
    )
    router = Router(RouteConfiguration("r", hosts, ignore_port_in_host_matching=False), lambda host, route: Backend())

    found = router.find(made_request(authority=authority))

    assert (found and found.route.name) == met


@pytest.mark.parametrize(
    ("path", "scheme", "expected"),
    [(b"/a", b"https", "r"), (b"/b", b"https", "404"), (b"/a", b"http", ""), (b"/b?c", b"http", "")],
)
def test_a_host_that_requires_tls_sends_all_else_there(path: bytes, scheme: bytes, expected: str) -> None:
    secured = router(VirtualHost("h", ("h.test",), (route("r", RouteMatch(Prefix("/a"))),), require_tls=True))
    request = made_request(path=path, authority=b"h.test")
    request.scheme = scheme
    assert found(secured, request) == expected
