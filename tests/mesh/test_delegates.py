"""Delegation: one VirtualService's rules in the place of another's rule."""

from __future__ import annotations

import pytest

from meshproxy.snapshot import Exact, HeaderMatcher, Prefix, RedirectAction, Route, RouteAction, RouteMatch

from .support import GATEWAY, cluster_names, snapshot_of, virtual_hosts, virtual_service


def delegate(rules: str, *, name: str = "sub", namespace: str = "default", spec: str = "") -> str:
    return (
        virtual_service(rules, name=name, spec=f"gateways: []\n  {spec}")
        .replace(f"{{name: {name}}}", f"{{name: {name}, namespace: {namespace}}}")
        .replace("  hosts: [example.com]\n", "")
        .replace("  gateways: []\n", "")
    )


def routes(root: str, *documents: str) -> list[Route]:
    hosts = virtual_hosts(snapshot_of(GATEWAY, virtual_service(root), *documents))
    return list(hosts["example.com"].routes) if "example.com" in hosts else []


ROOT = "- match: [{uri: {prefix: /a}}]\n  delegate: {name: sub}"
TO_X = "- route: [{destination: {host: x}}]"


def test_a_delegates_rule_takes_the_roots_match() -> None:
    (route,) = routes(ROOT, delegate(TO_X))
    assert route.match == RouteMatch(Prefix("/a"))
    assert cluster_names(route) == ["outbound|80||x.default.svc.cluster.local"]


@pytest.mark.parametrize(
    ("root", "sub", "match"),
    [
        ("uri: {prefix: /a}", "uri: {prefix: /a/b}", RouteMatch(Prefix("/a/b"))),
        ("uri: {prefix: /a}", "uri: {exact: /ab}", RouteMatch(Exact("/ab"))),
        ("uri: {exact: /a}", "uri: {exact: /a}", RouteMatch(Exact("/a"))),
        (
            "uri: {prefix: /a}, headers: {x: {exact: '1'}}",
            "headers: {y: {exact: '2'}}",
            RouteMatch(Prefix("/a"), headers=(HeaderMatcher("x", Exact("1")), HeaderMatcher("y", Exact("2")))),
        ),
        ("uri: {prefix: /a/b}", "uri: {prefix: /a}", None),
        ("uri: {exact: /a}", "uri: {prefix: /a}", None),
        ("uri: {prefix: /a}", "uri: {regex: /a.*}", None),
        ("uri: {regex: /a.*}", "uri: {exact: /ab}", None),
        ("uri: {prefix: /a}, headers: {x: {exact: '1'}}", "headers: {x: {exact: '2'}}", None),
        ("uri: {prefix: /a}, port: 80", "port: 81", None),
        ("uri: {prefix: /a}, ignoreUriCase: true", "uri: {prefix: /a}", None),
        ("uri: {prefix: /a}, sourceNamespace: istio-system", "uri: {prefix: /a}", None),
        ("uri: {prefix: /a}, gateways: [gw]", "gateways: [gw, mesh]", None),
        ("uri: {prefix: /a}, gateways: [gw]", "gateways: [gw]", RouteMatch(Prefix("/a"))),
    ],
)
def test_a_delegates_match_may_only_narrow_the_roots(root: str, sub: str, match: RouteMatch | None) -> None:
    found = routes(
        f"- match: [{{{root}}}]\n  delegate: {{name: sub}}",
        delegate(f"- match: [{{{sub}}}]\n  route: [{{destination: {{host: x}}}}]"),
    )
    assert [route.match for route in found] == ([match] if match else [])


def test_each_match_of_the_delegate_joins_each_of_the_root_that_it_fits() -> None:
    root = "- match: [{uri: {prefix: /a}}, {method: {exact: GET}}]\n  delegate: {name: sub}"
    found = routes(root, delegate("- match: [{uri: {prefix: /a/b}}]\n  route: [{destination: {host: x}}]"))
    get = HeaderMatcher(":method", Exact("GET"))
    assert [route.match for route in found] == [
        RouteMatch(Prefix("/a/b")),
        RouteMatch(Prefix("/a/b"), headers=(get,)),
    ]


def test_what_the_delegate_leaves_out_it_takes_from_the_root() -> None:
    root = "- {name: root, delegate: {name: sub}, headers: {request: {set: {x: root}}}, rewrite: {uri: /root}}"
    own, bare = routes(
        root,
        delegate(
            "- name: own\n  match: [{uri: {prefix: /own}}]\n  headers: {request: {set: {x: own}}}\n"
            "  route: [{destination: {host: x}}]\n" + TO_X
        ),
    )
    assert (own.name, own.request_headers.add[0].value) == ("root-own", "own")
    assert (bare.name, bare.request_headers.add[0].value) == ("root", "root")
    assert own.action.prefix_rewrite == bare.action.prefix_rewrite == "/root"  # type: ignore[union-attr]


def test_names_in_a_delegate_belong_to_its_own_namespace() -> None:
    root = "- delegate: {name: sub, namespace: prod}"
    (route,) = routes(root, delegate(TO_X, namespace="prod"))
    assert cluster_names(route) == ["outbound|80||x.prod.svc.cluster.local"]
    assert route.origin is not None and route.origin.resource == "VirtualService/sub.prod"


@pytest.mark.parametrize(
    "sub",
    [
        delegate(TO_X, name="other"),
        virtual_service(TO_X, name="sub", hosts="other.com"),
        delegate(TO_X, spec="exportTo: [other]"),
    ],
)
def test_a_rule_whose_delegate_is_unfit_is_left_out_and_the_others_stay(sub: str) -> None:
    found = routes(ROOT + "\n- redirect: {uri: /x}", sub)
    assert [route.action for route in found] == [RedirectAction(path="/x")]


@pytest.mark.parametrize("mirror", ["mirror: {host: copy}", "mirrors: [{destination: {host: copy}}]"])
def test_a_mirror_that_the_root_names_is_its_own_neighbour(mirror: str) -> None:
    root = f"- delegate: {{name: sub, namespace: other}}\n  {mirror}"
    (route,) = routes(root, delegate(TO_X, namespace="other"))
    assert cluster_names(route) == ["outbound|80||x.other.svc.cluster.local"]
    assert isinstance(route.action, RouteAction)
    assert [one.cluster for one in route.action.mirrors] == ["outbound|80||copy.default.svc.cluster.local"]


def test_a_mirror_that_the_delegate_names_is_the_delegates_neighbour() -> None:
    sub = f"{TO_X}\n  mirror: {{host: copy}}"
    (route,) = routes("- delegate: {name: sub, namespace: other}", delegate(sub, namespace="other"))
    assert isinstance(route.action, RouteAction)
    assert [one.cluster for one in route.action.mirrors] == ["outbound|80||copy.other.svc.cluster.local"]
