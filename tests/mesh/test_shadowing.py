"""Hidden rules: reported only if truly no request can meet them first."""

from __future__ import annotations

from typing import Any

import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from meshproxy.mesh.analysis.shadowing import hidden_by
from meshproxy.mesh.matches import route_match
from meshproxy.mesh.virtual_services import MergedVirtualService, Rule

from .support import Request, meets, mesh_of

PATHS = ["/", "/a", "/A", "/ab", "/a/b", "/b"]
TEXTS = ["a", "ab", "b"]
TEXT_MATCHES = st.one_of(
    st.builds(lambda how, text: {how: text}, st.sampled_from(["exact", "prefix"]), st.sampled_from(TEXTS)),
    st.sampled_from([{"regex": ".*"}, {"regex": "a.*"}, {"regex": "[ab]"}]),
)
PRESENCE_MATCHES: st.SearchStrategy[dict[str, str]] = st.one_of(TEXT_MATCHES, st.just({}))
URIS = st.one_of(
    st.builds(lambda how, path: {how: path}, st.sampled_from(["exact", "prefix"]), st.sampled_from(PATHS)),
    st.sampled_from([{"regex": ".*"}, {"regex": "/a.*"}, {"regex": "/[ab]"}]),
)
MATCHES = st.fixed_dictionaries(
    {},
    optional={
        "uri": URIS,
        "ignoreUriCase": st.booleans(),
        "method": st.sampled_from([{"exact": "GET"}, {"prefix": "G"}]),
        "headers": st.dictionaries(st.sampled_from(["x", "y"]), PRESENCE_MATCHES, min_size=1),
        "withoutHeaders": st.dictionaries(st.sampled_from(["x", "y"]), PRESENCE_MATCHES, min_size=1),
        "queryParams": st.dictionaries(st.sampled_from(["q"]), PRESENCE_MATCHES, min_size=1),
        "port": st.sampled_from([80, 81]),
        "gateways": st.lists(st.sampled_from(["gw", "other", "mesh"]), min_size=1, unique=True),
        "sourceLabels": st.dictionaries(st.sampled_from(["app"]), st.sampled_from(TEXTS), min_size=1),
        "sourceNamespace": st.sampled_from(["default", "edge"]),
    },
)
RULES = st.lists(st.lists(MATCHES, max_size=2), min_size=2, max_size=4)
REQUESTS = st.builds(
    Request,
    path=st.sampled_from(PATHS),
    headers=st.dictionaries(st.sampled_from(["x", "y"]), st.sampled_from(TEXTS)).flatmap(
        lambda headers: st.sampled_from(["GET", "PUT"]).map(lambda method: {**headers, ":method": method})
    ),
    query=st.dictionaries(st.sampled_from(["q"]), st.sampled_from(TEXTS)),
)
PROXIES = st.tuples(
    st.sampled_from(["default/gw", "default/other", "mesh"]),
    st.sampled_from([80, 81]),
    st.dictionaries(st.sampled_from(["app"]), st.sampled_from(TEXTS)),
    st.sampled_from(["default", "edge"]),
)
Proxy = tuple[str, int, dict[str, str], str]


def merged(rules: list[list[dict[str, Any]]]) -> MergedVirtualService:
    http = [{"match": matches, "redirect": {"uri": "/"}} for matches in rules]
    spec = {"hosts": ["example.com"], "gateways": ["gw", "other", "mesh"], "http": http}
    document = {
        "apiVersion": "networking.istio.io/v1",
        "kind": "VirtualService",
        "metadata": {"name": "vs"},
        "spec": spec,
    }
    (service,) = mesh_of(yaml.safe_dump(document)).virtual_services.merged
    return service


def takes(rule: Rule, request: Request, proxy: Proxy) -> bool:
    """Whether a rule takes a request at a proxy, by the words of Istio's API."""
    gateway, port, labels, namespace = proxy
    for match in rule.matches:
        wanted = match.request
        source = all(labels.get(name) == value for name, value in wanted.source_labels.items()) and (
            wanted.source_namespace in (None, namespace)
        )
        here = gateway in match.gateways if match.gateways else source
        if here and wanted.port in (None, port) and meets(request, route_match(wanted)):
            return True
    return False


@settings(max_examples=300, deadline=None)
@given(RULES, st.lists(st.tuples(REQUESTS, PROXIES), min_size=1, max_size=30))
def test_a_hidden_rule_is_never_the_first_to_take_a_request(
    rules: list[list[dict[str, Any]]], arrivals: list[tuple[Request, Proxy]]
) -> None:
    service = merged(rules)
    hidden = hidden_by(service)
    for request, proxy in arrivals:
        first = next((rule for rule in service.rules if takes(rule, request, proxy)), None)
        assert first not in hidden


def test_a_rule_is_hidden_if_each_of_its_matches_is_though_by_different_rules() -> None:
    service = merged(
        [
            [{"uri": {"prefix": "/a"}}],
            [{"uri": {"prefix": "/b"}}],
            [{"uri": {"prefix": "/a/b"}}, {"uri": {"exact": "/b"}}],
        ]
    )
    one, other, hidden = service.rules
    assert hidden_by(service) == {hidden: [one, other]}


def test_a_rule_is_hidden_gateway_by_gateway() -> None:
    everywhere = {"gateways": ["gw", "other"]}
    service = merged([[{"gateways": ["gw"]}], [{"gateways": ["other", "mesh"]}], [everywhere]])
    assert list(hidden_by(service)) == [service.rules[2]]


def test_a_rule_with_one_match_left_is_not_hidden() -> None:
    service = merged([[{"uri": {"prefix": "/a"}}], [{"uri": {"prefix": "/a/b"}}, {"uri": {"prefix": "/b"}}]])
    assert hidden_by(service) == {}


def test_where_gateways_are_named_the_source_labels_say_nothing() -> None:
    labels = {"sourceLabels": {"app": "a"}}
    assert hidden_by(merged([[labels], [{**labels, "gateways": ["gw"]}]])) == {}
    service = merged([[{**labels, "gateways": ["gw"]}], [{"gateways": ["gw"]}]])
    assert list(hidden_by(service)) == [service.rules[1]]
