"""What DestinationRules say of connections and of the requests over them."""

from __future__ import annotations

from dataclasses import replace

import pytest

from meshproxy.snapshot import CircuitBreakers, Cluster, TcpKeepalive

from .support import service_entry, sidecar_of
from .test_destination_rules import cluster, rule


def pooled(pool: str) -> Cluster:
    """The cluster under a connection pool."""
    return cluster(rule(f"trafficPolicy: {{connectionPool: {pool}}}"))


def test_without_a_policy_nothing_is_limited() -> None:
    plain = cluster()

    assert plain == replace(
        plain,
        connect_timeout_s=10.0,
        idle_timeout_s=3600.0,
        max_connection_duration_s=None,
        max_requests_per_connection=None,
        tcp_keepalive=None,
        circuit_breakers=CircuitBreakers(),
    )


@pytest.mark.parametrize(
    ("pool", "expected"),
    [
        ("{tcp: {maxConnections: 100}}", CircuitBreakers(max_connections=100)),
        ("{http: {http1MaxPendingRequests: 50}}", CircuitBreakers(max_pending_requests=50)),
        ("{http: {http2MaxRequests: 7}}", CircuitBreakers(max_requests=7)),
        ("{tcp: {maxConnections: 0}, http: {http1MaxPendingRequests: 0, http2MaxRequests: 0}}", CircuitBreakers()),
    ],
)
def test_limits(pool: str, expected: CircuitBreakers) -> None:
    assert pooled(pool).circuit_breakers == expected


@pytest.mark.parametrize(
    ("pool", "idle_timeout_s"),
    [
        ("{tcp: {idleTimeout: 5s}}", 5.0),
        ("{tcp: {idleTimeout: 0s}}", 0.0),
        ("{http: {idleTimeout: 6s}}", 6.0),
        ("{tcp: {idleTimeout: 5s}, http: {idleTimeout: 6s}}", 6.0),
    ],
)
def test_the_idle_timeout_of_http_goes_before_that_of_tcp(pool: str, idle_timeout_s: float) -> None:
    assert pooled(pool).idle_timeout_s == idle_timeout_s


def test_bounds_of_a_connection() -> None:
    bounded = pooled("{tcp: {maxConnectionDuration: 90s}, http: {maxRequestsPerConnection: 5}}")

    assert (bounded.max_connection_duration_s, bounded.max_requests_per_connection) == (90.0, 5)
    assert pooled("{http: {maxRequestsPerConnection: 0}}").max_requests_per_connection is None


@pytest.mark.parametrize(
    ("keepalive", "expected"),
    [
        ("{}", TcpKeepalive()),
        ("{probes: 0}", TcpKeepalive()),
        ("{probes: 3, time: 7200s, interval: 75s}", TcpKeepalive(3, 7200, 75)),
        ("{time: 1.9s}", TcpKeepalive(time_s=1)),
    ],
)
def test_keepalive_counts_in_whole_seconds(keepalive: str, expected: TcpKeepalive) -> None:
    assert pooled(f"{{tcp: {{tcpKeepalive: {keepalive}}}}}").tcp_keepalive == expected


def test_a_subsets_pool_takes_the_place_of_the_top_levels_as_a_whole() -> None:
    top = "{connectionPool: {tcp: {maxConnections: 1}, http: {http2MaxRequests: 2}}}"
    own = "{connectionPool: {http: {http2MaxRequests: 3}}}"
    document = rule(f"trafficPolicy: {top}, subsets: [{{name: v1, trafficPolicy: {own}}}, {{name: v2}}]")

    assert cluster(document, subset="v1").circuit_breakers == CircuitBreakers(max_requests=3)
    assert cluster(document, subset="v2").circuit_breakers == CircuitBreakers(max_connections=1, max_requests=2)


def test_a_ports_settings_hold_for_that_port() -> None:
    port_81 = "portLevelSettings: [{port: {number: 81}, connectionPool: {tcp: {maxConnections: 81}}}]"
    document = rule(f"trafficPolicy: {{connectionPool: {{http: {{http2MaxRequests: 2}}}}, {port_81}}}")

    assert cluster(document, port=81).circuit_breakers == CircuitBreakers(max_connections=81)
    assert cluster(document).circuit_breakers == CircuitBreakers(max_requests=2)


def test_the_limits_of_a_service_hold_at_its_own_sidecars_too() -> None:
    service = """
apiVersion: v1
kind: Service
metadata: {name: b}
spec: {selector: {app: caller}, ports: [{port: 80, name: http}]}
"""
    limits = "trafficPolicy: {connectionPool: {tcp: {maxConnections: 3}}}"
    snapshot = sidecar_of(service, rule(limits, namespace="default", host="b"))

    found = {one.name: one.circuit_breakers.max_connections for one in snapshot.clusters}
    assert found == {
        "PassthroughCluster": None,
        "inbound|80||": 3,
        "outbound|80||b.default.svc.cluster.local": 3,
    }


def test_the_limits_hold_for_what_is_passed_through() -> None:
    policy = "trafficPolicy: {loadBalancer: {simple: PASSTHROUGH}, connectionPool: {http: {http2MaxRequests: 3}}}"
    snapshot = sidecar_of(service_entry("a"), rule(policy, namespace="default", host="a"))

    found = {one.name: one for one in snapshot.clusters}["outbound|80||a.default.svc.cluster.local"]
    assert (found.type, found.circuit_breakers.max_requests) == ("DYNAMIC_FORWARD_PROXY", 3)
