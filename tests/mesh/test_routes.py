"""What a route matches, what it does, and which headers it changes."""

from __future__ import annotations

import pytest

from meshproxy.snapshot import (
    Action,
    DirectResponseAction,
    Exact,
    HeaderMatcher,
    HeaderMutations,
    HeaderValue,
    Prefix,
    QueryParameterMatcher,
    RedirectAction,
    Regex,
    RegexRewrite,
    Route,
    RouteAction,
    RouteMatch,
    WeightedCluster,
)

from .support import GATEWAY, forwarding, only_route, snapshot_of, virtual_service

A = "outbound|80||a.default.svc.cluster.local"
B = "outbound|80|v2|b.default.svc.cluster.local"
ONE = "route: [{destination: {host: a, port: {number: 80}}}]"


def route(rule: str) -> Route:
    """The route of a rule, written as one flow mapping's inside."""
    return only_route(snapshot_of(GATEWAY, virtual_service(f"- {{{rule}}}")))


@pytest.mark.parametrize(
    ("condition", "match"),
    [
        ("uri: {exact: /a}", RouteMatch(Exact("/a"))),
        ("uri: {prefix: /a}", RouteMatch(Prefix("/a"))),
        ("uri: {regex: /a.*}", RouteMatch(Regex("/a.*"))),
        ("uri: {prefix: /a}, ignoreUriCase: true", RouteMatch(Prefix("/a"), case_sensitive=False)),
        ("method: {exact: GET}", RouteMatch(headers=(HeaderMatcher(":method", Exact("GET")),))),
        ("scheme: {exact: https}", RouteMatch(headers=(HeaderMatcher(":scheme", Exact("https")),))),
        ("authority: {prefix: a.}", RouteMatch(headers=(HeaderMatcher(":authority", Prefix("a.")),))),
        ("headers: {X-User: {exact: a}}", RouteMatch(headers=(HeaderMatcher("x-user", Exact("a")),))),
        ("headers: {x: {}}", RouteMatch(headers=(HeaderMatcher("x"),))),
        ("withoutHeaders: {x: {}}", RouteMatch(headers=(HeaderMatcher("x", None, invert=True),))),
        ("withoutHeaders: {x: {regex: '*'}}", RouteMatch(headers=(HeaderMatcher("x", None, invert=True),))),
        (
            "withoutHeaders: {x: {prefix: a}}",
            RouteMatch(headers=(HeaderMatcher("x", Prefix("a"), True, treat_missing_header_as_empty=True),)),
        ),
        ("queryParams: {Q: {}}", RouteMatch(query_parameters=(QueryParameterMatcher("Q"),))),
        (
            "queryParams: {q: {regex: a+}}",
            RouteMatch(query_parameters=(QueryParameterMatcher("q", Regex("a+")),)),
        ),
        (
            "method: {exact: GET}, headers: {z: {}, b: {}}, withoutHeaders: {m: {}}",
            RouteMatch(
                headers=(
                    HeaderMatcher("b"),
                    HeaderMatcher("m", None, invert=True),
                    HeaderMatcher("z"),
                    HeaderMatcher(":method", Exact("GET")),
                )
            ),
        ),
    ],
)
def test_each_condition_becomes_a_matcher(condition: str, match: RouteMatch) -> None:
    assert route(f"match: [{{{condition}}}], {ONE}").match == match


@pytest.mark.parametrize(
    ("rule", "action"),
    [
        (ONE, forwarding((WeightedCluster(A),))),
        ("route: [{destination: {host: a}, weight: 0}]", forwarding((WeightedCluster(A),))),
        (
            "route: [{destination: {host: a}, weight: 20}, {destination: {host: b, subset: v2}, weight: 80}]",
            forwarding((WeightedCluster(A, 20), WeightedCluster(B, 80))),
        ),
        (
            "route: [{destination: {host: a}, weight: 0}, {destination: {host: b, subset: v2}, weight: 1}]",
            forwarding((WeightedCluster(B, 1),)),
        ),
        (f"rewrite: {{uri: /x}}, {ONE}", forwarding((WeightedCluster(A),), prefix_rewrite="/x")),
        (f"rewrite: {{authority: x.com}}, {ONE}", forwarding((WeightedCluster(A),), host_rewrite="x.com")),
        (
            f"rewrite: {{uriRegexRewrite: {{match: '^/(.*)', rewrite: '/v1/\\1'}}}}, {ONE}",
            forwarding((WeightedCluster(A),), regex_rewrite=RegexRewrite("^/(.*)", "/v1/\\1")),
        ),
        ("directResponse: {status: 204}", DirectResponseAction(204)),
        ("directResponse: {status: 200, body: {string: hé}}", DirectResponseAction(200, "hé".encode())),
        ("directResponse: {status: 200, body: {bytes: AAE=}}", DirectResponseAction(200, b"\0\1")),
    ],
)
def test_each_rule_becomes_an_action(rule: str, action: Action) -> None:
    assert route(rule).action == action


@pytest.mark.parametrize(
    ("redirect", "action"),
    [
        ("uri: /x", RedirectAction(path="/x")),
        ("authority: x.com, redirectCode: 308", RedirectAction(308, host="x.com")),
        ("scheme: https", RedirectAction(scheme="https")),
        ("prefixRewrite: /x", RedirectAction(prefix_rewrite="/x")),
        ("port: 8443", RedirectAction(port=8443)),
        ("port: 80", RedirectAction()),
        ("port: 80, scheme: https", RedirectAction(scheme="https", port=80)),
        ("port: 443, scheme: https", RedirectAction(scheme="https")),
        ("derivePort: FROM_PROTOCOL_DEFAULT", RedirectAction()),
        ("derivePort: FROM_REQUEST_PORT", RedirectAction()),
        ("derivePort: FROM_REQUEST_PORT, scheme: https", RedirectAction(scheme="https", port=80)),
    ],
)
def test_a_redirect_keeps_no_port_that_is_its_schemes_default(redirect: str, action: RedirectAction) -> None:
    assert route(f"redirect: {{{redirect}}}").action == action


def test_header_changes_are_lower_case_and_by_name_what_is_set_before_what_is_added() -> None:
    changed = route(
        "headers: {request: {add: {C: '1'}, set: {B: '2', A: '3'}, remove: [D]}, response: {set: {E: '4'}}}," + ONE
    )
    assert changed.request_headers == HeaderMutations(
        ("d",), (HeaderValue("a", "3"), HeaderValue("b", "2"), HeaderValue("c", "1", append=True))
    )
    assert changed.response_headers == HeaderMutations((), (HeaderValue("e", "4"),))


@pytest.mark.parametrize("name", ["Host", "host", "':authority'"])
@pytest.mark.parametrize("how", ["set", "add"])
def test_setting_the_host_rewrites_the_authority_and_is_no_header(name: str, how: str) -> None:
    changed = route(f"headers: {{request: {{{how}: {{{name}: x.com}}}}}}, {ONE}")
    assert isinstance(changed.action, RouteAction) and changed.action.host_rewrite == "x.com"
    assert not changed.request_headers


def test_a_single_destinations_header_changes_are_the_routes_and_come_after_them() -> None:
    changed = route(
        "headers: {request: {set: {x: route}}},"
        "route: [{destination: {host: a}, headers: {request: {set: {x: own, Host: own.com}, remove: [y]}}}]"
    )
    assert changed.request_headers == HeaderMutations(("y",), (HeaderValue("x", "route"), HeaderValue("x", "own")))
    assert changed.action == forwarding((WeightedCluster(A),), host_rewrite="own.com")


def test_weighted_destinations_keep_their_header_changes_and_authority() -> None:
    action = route(
        "route: [{destination: {host: a}, weight: 1, headers: {request: {set: {Host: own.com, x: y}}}},"
        "{destination: {host: b, subset: v2}, weight: 1}]"
    ).action
    assert isinstance(action, RouteAction) and action.host_rewrite is None
    first = WeightedCluster(A, 1, HeaderMutations((), (HeaderValue("x", "y"),)), host_rewrite="own.com")
    assert action.clusters == (first, WeightedCluster(B, 1))


@pytest.mark.parametrize("weights", [(1, 0), (1, 1)])
def test_the_rules_authority_goes_before_the_destinations(weights: tuple[int, int]) -> None:
    own = "headers: {request: {set: {Host: own.com}}}"
    action = route(
        "rewrite: {authority: rule.com},"
        f"route: [{{destination: {{host: a}}, weight: {weights[0]}, {own}}},"
        f"{{destination: {{host: a}}, weight: {weights[1]}}}]"
    ).action
    assert isinstance(action, RouteAction) and action.host_rewrite == "rule.com"
    assert all(cluster.host_rewrite is None for cluster in action.clusters)


def test_a_route_is_named_by_its_rule_and_its_match() -> None:
    assert route(f"name: r, {ONE}").name == "r"
    assert route(f"name: r, match: [{{name: m, uri: {{prefix: /a}}}}], {ONE}").name == "r.m"
    assert route(ONE).name == ""
