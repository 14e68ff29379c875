"""TrafficLimits: which listener, virtual host or route has which."""

from __future__ import annotations

from meshproxy.snapshot import Buffer, Listener, LocalRateLimit, RateLimitDescriptor, TokenBucket

from .support import GATEWAY, problems_of, service_entry, sidecar_of, snapshot_of, virtual_service

RATE = "rateLimit: {tokenBucket: {maxTokens: 10, tokensPerFill: 5, fillInterval: 1s}}"
RULES = """
- {name: cart, match: [{uri: {prefix: /cart}, name: one}, {uri: {exact: /basket}}], route: [{destination: {host: a}}]}
- {name: all, route: [{destination: {host: a}}]}
"""
SHOP = (GATEWAY, service_entry("a"), virtual_service(RULES, hosts="shop.test, other.test"))


def limit(spec: str, *, name: str = "l", namespace: str = "default") -> str:
    return f"""
apiVersion: meshproxy.io/v1alpha1
kind: TrafficLimit
metadata: {{name: {name}, namespace: {namespace}}}
spec: {{{spec}}}
"""


def limited(*limits: str) -> Listener:
    """The listener of a gateway `gw` with two hosts of the same routes, and these limits."""
    [listener] = snapshot_of(*SHOP, *limits).listeners
    return listener


def names(listener: Listener) -> dict[str, str]:
    """Where a rate limit is, and its name without the namespace."""
    http = listener.filter_chains[0].http
    found = {"listener": http.rate_limit}
    for host in http.route_config.virtual_hosts:
        found[host.name] = host.rate_limit
        found |= {f"{host.name} {route.name or route.match.path.value}": route.rate_limit for route in host.routes}
    return {place: one.name.removesuffix(".default") for place, one in found.items() if one}


def test_without_hosts_or_routes_it_is_the_listeners() -> None:
    listener = limited(limit(f"gateways: [gw], {RATE}, buffer: {{maxRequestBytes: 100}}"))

    assert listener.filter_chains[0].http.rate_limit == LocalRateLimit("l.default", TokenBucket(10, 5, 1.0))
    assert listener.filter_chains[0].http.buffer == Buffer(100)
    assert names(listener) == {"listener": "l"}


def test_headers_have_buckets_of_their_own() -> None:
    headers = "headers: [{name: X-User, value: vip, tokenBucket: {maxTokens: 3, fillInterval: 1m}}]"

    listener = limited(limit(f"gateways: [gw], {RATE[:-1]}, {headers}}}"))

    rate_limit = listener.filter_chains[0].http.rate_limit
    assert rate_limit is not None
    assert rate_limit.descriptors == (RateLimitDescriptor("x-user", "vip", TokenBucket(3, 1, 60.0)),)


def test_hosts_that_are_limited_differently_are_virtual_hosts_of_their_own() -> None:
    assert len(limited().filter_chains[0].http.route_config.virtual_hosts) == 1

    listener = limited(limit(f"gateways: [gw], hosts: [shop.test], {RATE}"))

    hosts = listener.filter_chains[0].http.route_config.virtual_hosts
    assert [host.domains for host in hosts] == [("other.test",), ("shop.test",)]
    assert names(listener) == {"shop.test:80": "l"}


def test_a_wildcard_is_for_all_that_it_covers() -> None:
    assert names(limited(limit(f"gateways: [gw], hosts: ['*.test'], {RATE}"))) == {"other.test:80": "l"}


def test_a_rules_name_means_each_of_its_routes() -> None:
    listener = limited(limit(f"gateways: [gw], routes: [cart], {RATE}"))

    assert names(listener) == {"other.test:80 cart.one": "l", "other.test:80 cart": "l"}


def test_routes_may_be_those_of_some_hosts() -> None:
    listener = limited(limit(f"gateways: [gw], hosts: [other.test], routes: [all], {RATE}"))

    assert names(listener) == {"other.test:80 all": "l"}


def test_limits_of_several_levels_stand_beside_each_other_and_of_equals_the_first_counts() -> None:
    listener = limited(
        limit(f"gateways: [gw], {RATE}", name="b"),
        limit(f"gateways: [gw], {RATE}", name="a"),
        limit(f"gateways: [gw], routes: [all], {RATE}", name="c"),
    )

    assert names(listener) == {"listener": "a", "other.test:80 all": "c"}


def test_a_buffer_and_a_rate_limit_may_come_from_two() -> None:
    listener = limited(
        limit("gateways: [gw], buffer: {maxRequestBytes: 1}", name="a"), limit(f"gateways: [gw], {RATE}", name="b")
    )

    assert (listener.filter_chains[0].http.buffer, names(listener)) == (Buffer(1), {"listener": "b"})


def test_a_gateway_of_another_namespace_is_named_with_it() -> None:
    assert names(limited(limit(f"gateways: [gw], {RATE}", namespace="other"))) == {}
    assert names(limited(limit(f"gateways: [default/gw], {RATE}", namespace="other"))) == {"listener": "l.other"}


def test_a_sidecar_has_those_of_its_apps_own_requests() -> None:
    entry = service_entry("a")
    for spec, namespace, holds in (
        ("gateways: [mesh]", "default", True),
        ("gateways: [mesh]", "istio-system", True),
        ("gateways: [mesh]", "other", False),
        ("gateways: [gw]", "default", False),
    ):
        snapshot = sidecar_of(GATEWAY, entry, limit(f"{spec}, {RATE}", namespace=namespace))
        assert (snapshot.listeners[0].filter_chains[0].http.rate_limit is not None) == holds, (spec, namespace)


def test_a_service_is_limited_by_whichever_of_its_names_it_is_called() -> None:
    snapshot = sidecar_of(service_entry("a"), limit(f"gateways: [mesh], hosts: [a], {RATE}"))

    [host] = [one for one in snapshot.listeners[0].filter_chains[0].http.route_config.virtual_hosts if one.rate_limit]
    assert {"a", "a.default", "a.default.svc.cluster.local", "a.default.svc.cluster.local:80"} <= set(host.domains)


def test_a_workload_is_limited_by_its_labels() -> None:
    service = """
apiVersion: v1
kind: Service
metadata: {name: caller}
spec: {selector: {app: caller}, ports: [{port: 80, name: http}]}
"""
    snapshot = sidecar_of(service, limit(f"selector: {{matchLabels: {{app: caller}}}}, {RATE}"))
    outbound, inbound = (one.filter_chains[0].http for one in snapshot.listeners)
    assert (outbound.rate_limit, inbound.rate_limit is not None) == (None, True)

    snapshot = sidecar_of(service, limit(f"selector: {{matchLabels: {{app: other}}}}, {RATE}"))
    assert snapshot.listeners[1].filter_chains[0].http.rate_limit is None


def test_check_tells_of_gateways_and_routes_that_are_not_there() -> None:
    found = problems_of(
        *SHOP,
        limit(f"gateways: [gv], {RATE}", name="a"),
        limit(f"gateways: [gw], routes: [card], {RATE}", name="b"),
        limit(f"gateways: [gw], routes: [cart], {RATE}", name="c"),
        limit(f"gateways: [mesh], {RATE}", name="d"),
    )

    assert [(problem.path, problem.message) for problem in found] == [
        ("spec.gateways[0]", "no Gateway 'default/gv'; known are default/gw"),
        ("spec.routes[0]", "no rule has the name 'card'; did you mean 'cart'?"),
    ]
