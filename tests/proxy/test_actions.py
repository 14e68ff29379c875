"""What a route does: forward, redirect, answer. Location headers are those that Envoy 1.40 was measured to send."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable

import pytest

from meshproxy.proxy.http.failures import CLUSTER_NOT_FOUND, NO_HEALTHY_UPSTREAM, Failure, Kind
from meshproxy.proxy.http.message import Headers, Request, Response, Service
from meshproxy.proxy.routing.actions import action, cluster_not_found
from meshproxy.snapshot import (
    Action,
    DirectResponseAction,
    Exact,
    HeaderMutations,
    HeaderValue,
    Prefix,
    RedirectAction,
    RegexRewrite,
    Route,
    RouteAction,
    RouteMatch,
    StringMatcher,
    WeightedCluster,
)

from .chi_squared import fits
from .made import NO_CONTEXT, Backend, failing, made_request

ANY = Prefix("/")
NONE = HeaderMutations()


def never() -> float:
    raise AssertionError("no chance was to be taken")


def no_cluster(name: str) -> Service:
    raise AssertionError("no cluster was to be asked for")


def service(
    what: Action,
    *,
    match: StringMatcher = ANY,
    name: str = "",
    request_headers: HeaderMutations = NONE,
    response_headers: HeaderMutations = NONE,
    cluster: Callable[[str], Service] = no_cluster,
    chance: Callable[[], float] = never,
) -> Service:
    route = Route(name, RouteMatch(match), what, request_headers, response_headers)
    return action(route, cluster, chance, NO_CONTEXT)


def setting(**headers: str) -> HeaderMutations:
    """Sets these headers; `_` in a name is `-`."""
    return HeaderMutations(add=tuple(HeaderValue(name.replace("_", "-"), value) for name, value in headers.items()))


async def test_a_request_goes_to_its_cluster_as_it_is() -> None:
    backend = Backend()
    asked: list[str] = []

    def cluster(name: str) -> Service:
        asked.append(name)
        return backend

    request = made_request(b"/a?b", headers=[(b"x", b"1")])
    response = await service(RouteAction((WeightedCluster("c"),)), cluster=cluster)(request)

    assert asked == ["c"]
    assert backend.request is request
    assert (request.path, request.authority, request.headers) == (b"/a?b", b"h.example", [(b"x", b"1")])
    assert response.body == b"ok"


async def test_the_route_name_is_noted() -> None:
    request = made_request()

    await service(DirectResponseAction(200), name="r")(request)

    assert request.route_name == "r"


async def shares(clusters: tuple[WeightedCluster, ...], count: int, seed: int = 7) -> list[int]:
    """How many of `count` requests each cluster gets."""
    got: Counter[str] = Counter()

    def cluster(name: str) -> Service:
        async def answer(request: Request) -> Response:
            got[name] += 1
            return Response(200, [])

        return answer

    split = service(RouteAction(clusters), cluster=cluster, chance=random.Random(seed).random)
    for _ in range(count):
        await split(made_request())
    return [got[one.cluster] for one in clusters]


@pytest.mark.parametrize("weights", [(20, 80), (1, 1), (1, 2, 3), (10, 20, 30, 40)])
async def test_weighted_clusters_get_their_shares(weights: tuple[int, ...]) -> None:
    clusters = tuple(WeightedCluster(f"c{weight}-{index}", weight) for index, weight in enumerate(weights))

    assert fits(await shares(clusters, 10_000), weights)


async def test_the_test_of_shares_would_see_a_wrong_one() -> None:
    clusters = (WeightedCluster("a", 20), WeightedCluster("b", 80))

    assert not fits(await shares(clusters, 10_000), (22, 78))


@pytest.mark.parametrize("weights", [(0, 1, 0), (1, 0), (0, 0, 5)])
async def test_a_weight_of_zero_gets_nothing(weights: tuple[int, ...]) -> None:
    clusters = tuple(WeightedCluster(f"c{index}", weight) for index, weight in enumerate(weights))

    assert await shares(clusters, 1000) == [1000 if weight else 0 for weight in weights]


@pytest.mark.parametrize(
    ("chance", "cluster"), [(0.0, "a"), (0.1999999, "a"), (0.2, "b"), (0.5, "b"), (0.999999999999, "b")]
)
async def test_chance_falls_into_the_clusters_in_their_order(chance: float, cluster: str) -> None:
    backends = {"a": Backend(), "b": Backend()}
    split = service(
        RouteAction((WeightedCluster("a", 20), WeightedCluster("b", 80))),
        cluster=backends.__getitem__,
        chance=lambda: chance,
    )

    await split(made_request())

    assert [name for name, backend in backends.items() if backend.requests] == [cluster]


async def forwarded(what: RouteAction, request: Request, match: StringMatcher = ANY) -> Request:
    backend = Backend()
    await service(what, match=match, cluster=lambda name: backend)(request)
    return backend.request


async def test_a_rewritten_host_is_remembered_in_a_header() -> None:
    request = await forwarded(RouteAction((WeightedCluster("c"),), host_rewrite="rw.example"), made_request(b"/hr?q"))

    assert (request.authority, request.path) == (b"rw.example", b"/hr?q")
    assert request.headers == [(b"x-envoy-original-host", b"h.example")]


async def test_the_host_rewrite_of_a_route_wins_over_its_destinations() -> None:
    destination = WeightedCluster("c", host_rewrite="cl.example")

    assert (await forwarded(RouteAction((destination,)), made_request())).authority == b"cl.example"
    assert (await forwarded(RouteAction((destination,), host_rewrite="r"), made_request())).authority == b"r"


async def test_only_what_the_route_made_of_the_host_is_remembered() -> None:
    destination = WeightedCluster("c", host_rewrite="cl.example")
    alone = await forwarded(RouteAction((destination,)), made_request())
    both = await forwarded(RouteAction((destination,), host_rewrite="r"), made_request())

    assert alone.headers == []
    assert both.headers == [(b"x-envoy-original-host", b"cl.example")]


async def test_what_a_rewrite_remembers_takes_the_place_of_what_stood_there() -> None:
    forged = [(b"x-envoy-original-path", b"/forged"), (b"x-envoy-original-host", b"forged")]
    what = RouteAction((WeightedCluster("c"),), prefix_rewrite="/new", host_rewrite="r")

    request = await forwarded(what, made_request(b"/a", headers=forged), Prefix("/a"))

    assert request.headers == [(b"x-envoy-original-path", b"/a"), (b"x-envoy-original-host", b"h.example")]


async def test_a_cluster_that_is_not_there_has_no_name_to_quote() -> None:
    quoting = service(
        RouteAction((WeightedCluster("c"),)),
        request_headers=setting(x="1"),
        response_headers=setting(x_c="%UPSTREAM_CLUSTER%"),
        cluster=lambda name: cluster_not_found,
    )

    assert (await quoting(made_request())).headers == []


@pytest.mark.parametrize(
    ("what", "path"),
    [
        (RouteAction((WeightedCluster("c"),), prefix_rewrite="/new/"), b"/new/a?x=1"),
        (RouteAction((WeightedCluster("c"),), regex_rewrite=RegexRewrite("a", "b")), b"/pre/b?x=1"),
        (RouteAction((WeightedCluster("c"),), regex_rewrite=RegexRewrite("zzz", "b")), b"/pre/a?x=1"),
    ],
)
async def test_a_rewritten_path_is_remembered_in_a_header_and_for_the_log(what: RouteAction, path: bytes) -> None:
    request = await forwarded(what, made_request(b"/pre/a?x=1"), Prefix("/pre/"))

    assert request.path == path
    assert request.headers == [(b"x-envoy-original-path", b"/pre/a?x=1")]
    assert request.original_path == b"/pre/a?x=1"


async def test_header_changes_come_before_the_rewrites_and_their_headers() -> None:
    backend = Backend()
    forward = service(
        RouteAction((WeightedCluster("c", request_headers=setting(x_c="%REQ(:path)%")),), "/new", host_rewrite="rw"),
        match=Prefix("/old"),
        request_headers=setting(x_r="%REQ(:authority)%"),
        cluster=lambda name: backend,
    )

    await forward(made_request(b"/old/a"))

    assert backend.request.headers == [
        (b"x-c", b"/old/a"),
        (b"x-r", b"h.example"),
        (b"x-envoy-original-host", b"h.example"),
        (b"x-envoy-original-path", b"/old/a"),
    ]


async def test_a_request_header_may_quote_the_cluster_it_goes_to() -> None:
    backend = Backend()
    forward = service(
        RouteAction((WeightedCluster("c"),)),
        request_headers=setting(x_cluster="%UPSTREAM_CLUSTER%"),
        cluster=lambda name: backend,
    )

    await forward(made_request())

    assert backend.request.headers == [(b"x-cluster", b"c")]


async def test_the_route_has_the_last_word_over_its_destination() -> None:
    """Measured: a weighted cluster's changes are made first, then the route's, in both directions."""
    backend = Backend([(b"x-resp", b"up"), (b"x-respap", b"up")])
    destination = WeightedCluster(
        "c",
        request_headers=HeaderMutations(("x-r",), (HeaderValue("x-a", "cluster"), HeaderValue("x-c", "cluster"))),
        response_headers=HeaderMutations(
            add=(HeaderValue("x-resp", "cluster"), HeaderValue("x-respap", "cluster", append=True))
        ),
    )
    forward = service(
        RouteAction((destination,)),
        request_headers=setting(x_a="route", x_r="route"),
        response_headers=HeaderMutations(
            add=(HeaderValue("x-resp", "route"), HeaderValue("x-respap", "route", append=True))
        ),
        cluster=lambda name: backend,
    )

    response = await forward(made_request(headers=[(b"x-a", b"1"), (b"x-m", b"m"), (b"x-a", b"2"), (b"x-r", b"r")]))

    assert backend.request.headers == [(b"x-m", b"m"), (b"x-c", b"cluster"), (b"x-a", b"route"), (b"x-r", b"route")]
    assert response.headers == [
        (b"x-respap", b"up"),
        (b"x-respap", b"cluster"),
        (b"x-resp", b"route"),
        (b"x-respap", b"route"),
    ]


@pytest.mark.parametrize("kind", [NO_HEALTHY_UPSTREAM, CLUSTER_NOT_FOUND])
async def test_response_headers_are_given_to_failures_too(kind: Kind) -> None:
    forward = service(
        RouteAction((WeightedCluster("c"),)),
        response_headers=HeaderMutations(
            ("date", "server"), (HeaderValue("x-r", "1"), HeaderValue("content-length", "3"))
        ),
        cluster=lambda name: failing(Failure(kind)),
    )
    request = made_request()

    response = await forward(request)

    plain: Headers = [(b"content-length", b"19"), (b"content-type", b"text/plain")] if kind.body else []
    assert response.headers == [(b"x-r", b"1"), *plain]
    assert (response.status, request.flags, request.details) == (503, kind.flags, kind.details)


async def location(
    redirect: RedirectAction, path: bytes, authority: bytes = b"h.example:8080", match: StringMatcher = ANY
) -> bytes:
    response = await service(redirect, match=match)(made_request(path, authority=authority))
    assert response.body == b""
    ((name, value),) = response.headers
    assert name == b"location"
    return value


@pytest.mark.parametrize(
    ("redirect", "expected"),
    [
        (RedirectAction(host="new.example"), b"http://new.example/r/a?q=1"),
        (RedirectAction(scheme="https"), b"https://h.example:8080/r/a?q=1"),
        (RedirectAction(path="no-slash"), b"http://h.example:8080/no-slash?q=1"),
        (RedirectAction(scheme="http"), b"http://h.example:8080/r/a?q=1"),
        (RedirectAction(port=8443), b"http://h.example:8443/r/a?q=1"),
        (RedirectAction(scheme="https", port=8443), b"https://h.example:8443/r/a?q=1"),
        (RedirectAction(path="/p"), b"http://h.example:8080/p?q=1"),
        (RedirectAction(path="/p?z=9"), b"http://h.example:8080/p?z=9"),
        (RedirectAction(prefix_rewrite="/np"), b"http://h.example:8080/np/a?q=1"),
        (RedirectAction(prefix_rewrite="/"), b"http://h.example:8080//a?q=1"),
        (RedirectAction(scheme="https", host="x.example", path="/y"), b"https://x.example/y?q=1"),
        (RedirectAction(), b"http://h.example:8080/r/a?q=1"),
        (RedirectAction(host="h2:99"), b"http://h2:99/r/a?q=1"),
        (RedirectAction(host="h2", port=80), b"http://h2:80/r/a?q=1"),
    ],
)
async def test_where_a_redirect_leads(redirect: RedirectAction, expected: bytes) -> None:
    assert await location(redirect, b"/r/a?q=1", match=Prefix("/r")) == expected


@pytest.mark.parametrize(
    ("redirect", "authority", "path", "expected"),
    [
        (RedirectAction(scheme="https"), b"h.example", b"/x?y", b"https://h.example/x?y"),
        (RedirectAction(scheme="https"), b"h.example:80", b"/x", b"https://h.example/x"),
        (RedirectAction(scheme="https"), b"[::1]:80", b"/x", b"https://[::1]/x"),
        (RedirectAction(port=8443), b"h", b"/x", b"http://h:8443/x"),
        (RedirectAction(port=8443), b"[::1]:80", b"/x", b"http://[::1]:8443/x"),
        (RedirectAction(host="new.example"), b"h:80", b"/x", b"http://new.example/x"),
        (RedirectAction(), b"H.Ex:80", b"/x", b"http://H.Ex:80/x"),
    ],
)
async def test_what_a_redirect_makes_of_the_host_asked_for(
    redirect: RedirectAction, authority: bytes, path: bytes, expected: bytes
) -> None:
    assert await location(redirect, path, authority) == expected


async def test_a_redirect_of_an_exact_path_replaces_all_of_it() -> None:
    redirect = RedirectAction(prefix_rewrite="/L")

    assert await location(redirect, b"/rl?q=1", b"h", match=Exact("/rl")) == b"http://h/L?q=1"


@pytest.mark.parametrize("code", [301, 302, 303, 307, 308])
async def test_a_redirect_has_the_code_it_is_given(code: int) -> None:
    request = made_request()

    response = await service(RedirectAction(code=code))(request)

    assert (response.status, request.details, request.flags) == (code, "direct_response", "")


async def test_headers_set_on_a_redirect_follow_its_location_and_cannot_falsify_its_length() -> None:
    redirecting = service(RedirectAction(host="h2"), response_headers=setting(x_r="1", content_length="3"))

    response = await redirecting(made_request())

    assert response.headers == [(b"location", b"http://h2/"), (b"x-r", b"1")]


async def test_a_redirect_of_grpc_is_a_grpc_status_with_a_location() -> None:
    request = made_request(headers=[(b"content-type", b"application/grpc")])

    response = await service(RedirectAction(host="new.example"))(request)

    assert response.status == 200
    assert response.headers == [
        (b"location", b"http://new.example/"),
        (b"content-type", b"application/grpc"),
        (b"grpc-status", b"2"),
    ]


_JSON = setting(content_type="application/json", x_r="1")
_PLAIN: Headers = [(b"content-type", b"text/plain")]


@pytest.mark.parametrize(
    ("answer", "mutations", "headers"),
    [
        (DirectResponseAction(200, b"hello"), HeaderMutations(), [(b"content-length", b"5"), *_PLAIN]),
        (
            DirectResponseAction(200, b'{"a":1}'),
            _JSON,
            [(b"content-type", b"application/json"), (b"x-r", b"1"), (b"content-length", b"7")],
        ),
        (
            DirectResponseAction(200, b"x"),
            HeaderMutations(add=(HeaderValue("content-type", "application/json", append=True),)),
            [(b"content-type", b"application/json"), (b"content-length", b"1")],
        ),
        (DirectResponseAction(404), HeaderMutations(), []),
        (DirectResponseAction(503, b"x"), HeaderMutations(("content-type",)), [(b"content-length", b"1"), *_PLAIN]),
        (
            DirectResponseAction(301, b"moved"),
            setting(location="/z"),
            [(b"location", b"/z"), (b"content-length", b"5"), *_PLAIN],
        ),
        (DirectResponseAction(200, b"x"), setting(content_length="9"), [(b"content-length", b"1"), *_PLAIN]),
        (DirectResponseAction(204), HeaderMutations(), []),
    ],
)
async def test_a_direct_response_and_the_headers_set_on_it(
    answer: DirectResponseAction, mutations: HeaderMutations, headers: Headers
) -> None:
    request = made_request()

    response = await service(answer, response_headers=mutations)(request)

    assert (response.status, response.body, response.headers) == (answer.status, answer.body, headers)
    assert request.details == "direct_response"


async def test_a_direct_response_to_grpc_is_a_grpc_status() -> None:
    request = made_request(headers=[(b"content-type", b"application/grpc")])

    response = await service(DirectResponseAction(200, b"hello"))(request)

    assert response.headers == [
        (b"content-type", b"application/grpc"),
        (b"grpc-status", b"2"),
        (b"grpc-message", b"hello"),
    ]
