"""What `explain` tells of a request: each condition in words, and every step of the way."""

from __future__ import annotations

from typing import Any

import pytest

from meshproxy.proxy.http.message import Headers
from meshproxy.proxy.routing.explain import ANY_ENDPOINT, Explainer, Explanation, HeaderChange, explain
from meshproxy.proxy.routing.matchers import conditions
from meshproxy.snapshot import (
    Action,
    Buffer,
    Cluster,
    CorsPolicy,
    DirectResponseAction,
    Endpoint,
    Exact,
    FaultAbort,
    FaultDelay,
    FaultInjection,
    FilterChain,
    FractionalPercent,
    HeaderMatcher,
    HeaderMutations,
    HeaderValue,
    HttpConnectionManager,
    Listener,
    LocalRateLimit,
    Prefix,
    QueryParameterMatcher,
    RateLimitDescriptor,
    RedirectAction,
    Regex,
    RequestMirrorPolicy,
    Route,
    RouteAction,
    RouteConfiguration,
    RouteMatch,
    Snapshot,
    SocketAddress,
    TokenBucket,
    VirtualHost,
    WeightedCluster,
)

from .made import made_request

HEADERS: Headers = [(b"x-a", b"1"), (b"x-a", b"2")]
WORDS: list[tuple[RouteMatch, str, str]] = [
    (RouteMatch(Prefix("/r")), "path begins with /r", "it is /p"),
    (RouteMatch(Exact("/r")), "path is /r", "it is /p"),
    (RouteMatch(Regex("/r.*")), "path matches /r.*", "it is /p"),
    (RouteMatch(Exact("/r"), case_sensitive=False), "path is /r in upper or lower case", "it is /p"),
    (RouteMatch(headers=(HeaderMatcher("x-b"),)), "header x-b is present", "the request has none"),
    (RouteMatch(headers=(HeaderMatcher("x-a", invert=True),)), "header x-a is absent", 'the request has "1" and "2"'),
    (RouteMatch(headers=(HeaderMatcher("x-a", Exact("3")),)), 'header x-a is "3"', 'the request has "1" and "2"'),
    (
        RouteMatch(headers=(HeaderMatcher("x-a", Prefix("1"), invert=True),)),
        'header x-a does not begin with "1"',
        'the request has "1" and "2"',
    ),
    (
        RouteMatch(headers=(HeaderMatcher("x-a", Regex("[0-9]"), invert=True),)),
        'header x-a does not match "[0-9]"',
        'the request has "1" and "2"',
    ),
    (RouteMatch(headers=(HeaderMatcher(":method", Exact("PUT")),)), 'method is "PUT"', 'the request has "GET"'),
    (
        RouteMatch(headers=(HeaderMatcher(":authority", Prefix("a")),)),
        'authority begins with "a"',
        'the request has "h.example"',
    ),
    (
        RouteMatch(query_parameters=(QueryParameterMatcher("q"),)),
        "query parameter q is present",
        "the request has none",
    ),
    (
        RouteMatch(query_parameters=(QueryParameterMatcher("v", Exact("2")),)),
        'query parameter v is "2"',
        'the request has "1"',
    ),
]


@pytest.mark.parametrize(("match", "text", "given"), WORDS, ids=[text for _, text, _ in WORDS])
def test_a_condition_says_what_it_asks_and_what_a_request_has_there(match: RouteMatch, text: str, given: str) -> None:
    request = made_request(b"/p?v=1", headers=list(HEADERS))

    (failed,) = [one for one in conditions(match) if not one.test(request, b"/p")]

    assert (failed.text, failed.given(request, b"/p")) == (text, given)


TWO = Cluster("two", (Endpoint(SocketAddress("192.0.2.8", 80)), Endpoint(SocketAddress("192.0.2.9", 80), 3)))
ONE = Cluster("one", (Endpoint(SocketAddress("192.0.2.7", 80)),))
EMPTY = Cluster("empty", ())
ELSEWHERE = Cluster("elsewhere", (), type="DYNAMIC_FORWARD_PROXY")


def to(*names: str) -> RouteAction:
    return RouteAction(tuple(WeightedCluster(name) for name in names))


def told(action: Action, request: str = "GET /p HTTP/1.1", *fields: str, **route: Any) -> Explanation:
    """What is told of a request for `h.example` where the only route has `action`."""
    route.setdefault("match", RouteMatch())
    return told_of([Route("r", action=action, **route)], request, "host: h.example", *fields)


def told_of(routes: list[Route], request: str, *fields: str, domain: str = "*.example") -> Explanation:
    host = VirtualHost("v", (domain,), tuple(routes))
    manager = HttpConnectionManager(RouteConfiguration("c", (host,)))
    listener = Listener("l", SocketAddress("198.51.100.1", 80), (FilterChain(manager),))
    head = "\r\n".join((request, *fields, "", "")).encode()
    return explain(Snapshot((listener,), (ONE, TWO, EMPTY, ELSEWHERE)), listener, head)


def test_the_rules_tried_before_tell_the_first_condition_that_failed() -> None:
    routes = [
        Route("path", RouteMatch(Exact("/a"), headers=(HeaderMatcher("x-a"),)), to("one")),
        Route("header", RouteMatch(headers=(HeaderMatcher("x-a"), HeaderMatcher("x-b"))), to("one")),
        Route("met", RouteMatch(Prefix("/p"), headers=(HeaderMatcher(":method", Exact("GET")),)), to("one")),
        Route("never tried", RouteMatch(), to("one")),
    ]

    explanation = told_of(routes, "GET /p HTTP/1.1", "host: H.example:80")

    assert [(one.route.name, one.failed, one.given) for one in explanation.tried] == [
        ("path", "path is /a", "it is /p"),
        ("header", "header x-a is present", "the request has none"),
    ]
    assert explanation.route == routes[2]
    assert explanation.conditions == ("path begins with /p", 'method is "GET"')
    assert explanation.domain == "*.example"


def test_no_rule_is_met() -> None:
    explanation = told_of([Route("r", RouteMatch(Exact("/a")), to("one"))], "GET / HTTP/1.1", "host: h.example")

    assert explanation.route is None and explanation.virtual_host is not None
    assert [one.route.name for one in explanation.tried] == ["r"]
    assert explanation.answer is not None
    assert (explanation.answer.status, explanation.answer.flags) == (404, "NR")


def test_no_virtual_host_has_the_requests_host() -> None:
    explanation = told_of([], "GET / HTTP/1.1", "host: h.test")

    assert explanation.virtual_host is None and explanation.domain == ""
    assert explanation.answer is not None and explanation.answer.status == 404


@pytest.mark.parametrize(
    ("request_line", "fields", "status", "details"),
    [
        ("GET / HTTP/1.1", (), 400, "missing_host_header"),
        ("GET /#f HTTP/1.1", ("host: h",), 400, "http1.codec_error:_fragment_in_the_request_target"),
        ("BREW / HTTP/1.1", ("host: h",), 400, "http1.codec_error:_unknown_method"),
        ("GET /%00 HTTP/1.1", ("host: h",), 400, "path_normalization_failed"),
        ("GET / HTTP/1.1", ("host: h", "connection: upgrade", "upgrade: irc"), 403, "upgrade_failed"),
    ],
)
def test_a_request_that_gets_to_no_route_tells_why(
    request_line: str, fields: tuple[str, ...], status: int, details: str
) -> None:
    explanation = told_of([], request_line, *fields, domain="*")

    assert explanation.answer is not None and explanation.request is None
    assert (explanation.answer.status, explanation.answer.details) == (status, details)


def test_the_path_is_seen_as_the_routes_see_it() -> None:
    explanation = told(to("one"), "GET /a/../p HTTP/1.1")

    assert explanation.received is not None and explanation.request is not None
    assert (explanation.received.path, explanation.request.path) == ("/a/../p", "/p")


def test_what_the_listener_does_to_headers_is_told() -> None:
    explanation = told(to("one"), "GET / HTTP/1.1", "x-envoy-internal: true", "x-forwarded-for: 203.0.113.1")

    assert explanation.header_changes[:2] == (
        HeaderChange("x-envoy-internal", "remove"),
        HeaderChange("x-forwarded-for", "set", ("203.0.113.1,192.0.2.1",)),
    )


def test_each_destination_has_its_share_its_endpoints_and_its_changes() -> None:
    action = RouteAction(
        (
            WeightedCluster("one", 9, request_headers=HeaderMutations(add=(HeaderValue("x-v", "1"),))),
            WeightedCluster("two", 1, host_rewrite="two.test"),
        ),
        prefix_rewrite="/new",
    )

    first, second = told(action, match=RouteMatch(Prefix("/p"))).destinations

    assert (first.share, second.share) == (0.9, 0.1)
    assert (first.endpoints, second.endpoints) == (ONE.endpoints, TWO.endpoints)
    assert first.request is not None and second.request is not None
    assert (first.request.path, first.request.authority) == ("/new", "h.example")
    assert (second.request.path, second.request.authority) == ("/new", "two.test")
    original = HeaderChange("x-envoy-original-path", "set", ("/p",))
    assert first.request_changes == (HeaderChange("x-v", "set", ("1",)), original)
    assert second.request_changes == (original,)


def test_every_change_of_a_response_is_told_whether_the_upstream_sends_such_a_header_or_not() -> None:
    changes = HeaderMutations(
        remove=("x-removed",), add=(HeaderValue("x-set", "1"), HeaderValue("x-added", "%UPSTREAM_HOST%", append=True))
    )

    (destination,) = told(to("one"), response_headers=changes).destinations

    assert destination.response_changes == (
        HeaderChange("x-removed", "remove"),
        HeaderChange("x-set", "set", ("1",)),
        HeaderChange("x-added", "append", ("192.0.2.7:80",)),
        HeaderChange("server", "set", ("meshproxy",)),
    )


def test_of_several_endpoints_none_is_promised() -> None:
    changes = HeaderMutations(add=(HeaderValue("x-set", "%UPSTREAM_HOST%"),))

    (destination,) = told(to("two"), response_headers=changes).destinations

    assert destination.response_changes[0] == HeaderChange("x-set", "set", (ANY_ENDPOINT,))


@pytest.mark.parametrize(
    ("cluster", "flags", "details"),
    [("empty", "UH", "no_healthy_upstream"), ("unknown", "NC", "cluster_not_found")],
)
def test_a_destination_that_nothing_can_be_sent_to_tells_the_answer(cluster: str, flags: str, details: str) -> None:
    explanation = told(to("one", cluster))

    reachable, unreachable = explanation.destinations
    assert explanation.answer is None and reachable.answer is None
    assert unreachable.request is None and unreachable.answer is not None
    assert (unreachable.answer.status, unreachable.answer.flags, unreachable.answer.details) == (503, flags, details)


def test_what_goes_where_its_authority_says_tells_where() -> None:
    (destination,) = told(to("elsewhere")).destinations

    assert destination.endpoints == (Endpoint(SocketAddress("h.example", 80)),)


@pytest.mark.parametrize("host", ["198.51.100.1", "198.51.100.1:80", "[::ffff:198.51.100.1]"])
def test_what_would_come_back_to_the_listener_is_refused(host: str) -> None:
    explanation = told_of([Route("r", RouteMatch(), to("elsewhere"))], "GET / HTTP/1.1", f"host: {host}", domain="*")

    (destination,) = explanation.destinations
    assert destination.answer is not None and destination.answer.status == 508
    assert destination.endpoints == (Endpoint(SocketAddress("198.51.100.1", 80)),)


def test_a_redirect_is_an_answer() -> None:
    explanation = told(RedirectAction(308, host="other.test"), "GET /p?q HTTP/1.1")

    assert explanation.answer is not None and explanation.destinations == ()
    assert explanation.answer.status == 308
    assert ("location", "http://other.test/p?q") in explanation.answer.headers


def test_a_direct_response_is_an_answer() -> None:
    explanation = told(DirectResponseAction(200, b"here"))

    assert explanation.answer is not None
    assert (explanation.answer.status, explanation.answer.body) == (200, "here")


def test_half_a_head_cannot_be_explained() -> None:
    manager = HttpConnectionManager(RouteConfiguration("c", ()))
    listener = Listener("l", SocketAddress("198.51.100.1", 80), (FilterChain(manager),))

    with pytest.raises(ValueError, match="empty line"):
        explain(Snapshot((listener,)), listener, b"GET / HTTP/1.1\r\nhost: h")


def test_what_filters_do_is_told_in_words_and_nothing_waits() -> None:
    fault = FaultInjection(FaultDelay(5.0, FractionalPercent(10)), FaultAbort(FractionalPercent(1, 1_000_000), 503))
    policies: dict[str, Any] = {
        "fault": fault,
        "cors": CorsPolicy((Exact("http://o.test"), Prefix("https://p"))),
        "mirrors": (RequestMirrorPolicy("two", FractionalPercent(50)),),
    }
    limit = LocalRateLimit("l", TokenBucket(1, 2, 60.0), (RateLimitDescriptor("x-user", None, TokenBucket(3)),))

    explanation = told(
        RouteAction((WeightedCluster("one"),), **policies), "GET /p HTTP/1.1", rate_limit=limit, buffer=Buffer(99)
    )

    assert explanation.policies == (
        "lets requests pass as l says: 1, and 2 more every 60 s",
        "lets requests with the same x-user pass as l says: 3, and 1 more every 1 s",
        "delays 10 % of the requests by 5 s",
        "answers 0.0001 % of the requests with 503",
        'answers preflights, and lets scripts read responses, where the origin is "http://o.test" or begins with '
        '"https://p"',
        "collects a request's body before it is sent on, and refuses more than 99 bytes",
        "sends a copy of 50 % of the requests to two",
    )
    [destination] = explanation.destinations
    assert destination.request is not None
    assert HeaderChange("x-ratelimit-remaining", "set", ("0",)) in destination.response_changes


def test_what_happens_to_every_request_is_its_answer() -> None:
    hour = FaultDelay(3600.0, FractionalPercent(100))
    always = FaultInjection(hour, FaultAbort(FractionalPercent(100), grpc_status=14))

    [destination] = told(RouteAction((WeightedCluster("one"),), fault=always)).destinations

    assert destination.request is None and destination.answer is not None
    assert (destination.answer.status, destination.answer.flags) == (200, "DI,FI")


def test_a_request_that_is_explained_again_finds_the_limit_as_before() -> None:
    route = Route("r", RouteMatch(), to("one"), rate_limit=LocalRateLimit("l", TokenBucket(1, 1, 3600.0)))
    manager = HttpConnectionManager(RouteConfiguration("c", (VirtualHost("v", ("*",), (route,)),)))
    listener = Listener("l", SocketAddress("198.51.100.1", 80), (FilterChain(manager),))
    explainer = Explainer(Snapshot((listener,), (ONE,)), listener)

    twice = [explainer.explain(b"GET / HTTP/1.1\r\nhost: h.example\r\n\r\n") for _ in range(2)]

    assert twice[0] == twice[1]
    assert twice[0].destinations[0].request is not None
