"""How a DestinationRule balances, and what its routes hash for it."""

from __future__ import annotations

import pytest

from meshproxy.mesh import remarks
from meshproxy.snapshot import (
    Cluster,
    HashCookie,
    HashHeader,
    HashPolicy,
    HashQueryParameter,
    HashSourceIp,
    LbPolicy,
    Maglev,
    RingHash,
    RouteAction,
    SlowStart,
)

from .support import GATEWAY, mesh_of, only_cluster, only_route, sidecar_of, snapshot_of, virtual_service
from .test_destination_rules import WORLD, rule

TO_A = virtual_service("- route: [{destination: {host: a.prod.svc.cluster.local, port: {number: 80}}}]")


def balanced(settings: str) -> str:
    return rule(f"trafficPolicy: {{loadBalancer: {{{settings}}}}}")


def cluster(settings: str) -> Cluster:
    return only_cluster(snapshot_of(GATEWAY, WORLD, TO_A, balanced(settings)))


def hashes(*documents: str) -> tuple[HashPolicy, ...]:
    action = only_route(snapshot_of(GATEWAY, WORLD, *documents)).action
    assert isinstance(action, RouteAction)
    return action.hash_policies


@pytest.mark.parametrize(
    ("settings", "policy"),
    [
        ("httpHeaderName: x", RingHash(1024)),
        ("httpHeaderName: x, ringHash: {}", RingHash(1024)),
        ("httpHeaderName: x, ringHash: {minimumRingSize: 0}", RingHash(1024)),
        ("httpHeaderName: x, ringHash: {minimumRingSize: 7}", RingHash(7)),
        ("httpHeaderName: x, minimumRingSize: 9", RingHash(9)),
        ("httpHeaderName: x, maglev: {tableSize: 251}", Maglev(251)),
    ],
)
def test_consistent_hashing_is_a_ring_unless_it_is_maglev(settings: str, policy: LbPolicy) -> None:
    assert cluster(f"consistentHash: {{{settings}}}").lb_policy == policy


@pytest.mark.parametrize(
    ("settings", "policy"),
    [
        ("httpHeaderName: X-User", HashHeader("x-user")),
        ("httpQueryParameterName: Q", HashQueryParameter("Q")),
        ("useSourceIp: true", HashSourceIp()),
        ("httpCookie: {name: c}", HashCookie("c")),
        ("httpCookie: {name: c, ttl: 0s}", HashCookie("c", 0)),
        ("httpCookie: {name: c, ttl: 90.7s, path: /p}", HashCookie("c", 90, "/p")),
        (
            "httpCookie: {name: c, attributes: [{name: SameSite, value: Lax}, {name: Secure}]}",
            HashCookie("c", attributes=(("SameSite", "Lax"), ("Secure", ""))),
        ),
    ],
)
def test_a_route_hashes_what_its_destination_balances_by(settings: str, policy: HashPolicy) -> None:
    assert hashes(TO_A, balanced(f"consistentHash: {{{settings}}}")) == (policy,)


def test_a_source_address_that_is_not_used_hashes_nothing() -> None:
    assert hashes(TO_A, balanced("consistentHash: {useSourceIp: false}")) == ()


def test_a_route_of_several_destinations_hashes_for_each_of_them() -> None:
    document = rule(
        "trafficPolicy: {loadBalancer: {consistentHash: {httpHeaderName: top}}}, subsets: ["
        "{name: v1, labels: {version: v1}},"
        "{name: v2, labels: {version: v2}, trafficPolicy: {loadBalancer: {consistentHash: {useSourceIp: true}}}},"
        "{name: v3, labels: {version: v2}, trafficPolicy: {loadBalancer: {simple: RANDOM}}}]"
    )
    to = [
        f"{{weight: {weight}, destination: {{host: a.prod.svc.cluster.local, port: {{number: 80}}, subset: {subset}}}}}"
        for subset, weight in (("v1", 50), ("v2", 30), ("v3", 20), ("v1", 0))
    ]
    assert hashes(virtual_service(f"- route: [{', '.join(to)}]"), document) == (HashHeader("top"), HashSourceIp())


def test_a_sidecars_route_to_a_service_without_rules_hashes_too() -> None:
    snapshot = sidecar_of(WORLD, balanced("consistentHash: {httpHeaderName: x}"))
    actions = [
        route.action
        for host in snapshot.listeners[0].filter_chains[0].http.route_config.virtual_hosts
        for route in host.routes
        if host.name == "a.prod.svc.cluster.local:80"
    ]
    assert [one.hash_policies for one in actions if isinstance(one, RouteAction)] == [(HashHeader("x"),)]


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ("simple: ROUND_ROBIN, warmup: {duration: 30s}", SlowStart(30.0, 1.0, 10.0)),
        ("warmup: {duration: 30s, minimumPercent: 0, aggression: 2.5}", SlowStart(30.0, 2.5, 0.0)),
        ("simple: LEAST_CONN, warmupDurationSecs: 1m", SlowStart(60.0)),
        ("simple: RANDOM, warmupDurationSecs: 1m", None),
        ("consistentHash: {useSourceIp: true}, warmupDurationSecs: 1m", None),
    ],
)
def test_new_endpoints_warm_up(settings: str, expected: SlowStart | None) -> None:
    assert cluster(settings).slow_start == expected


def test_passthrough_is_a_sidecars_forward_proxy() -> None:
    document = rule("trafficPolicy: {loadBalancer: {simple: PASSTHROUGH}, connectionPool: {tcp: {connectTimeout: 3s}}}")
    snapshot = sidecar_of(WORLD, document)
    [found] = [one for one in snapshot.clusters if one.name == "outbound|80||a.prod.svc.cluster.local"]
    assert (found.type, found.endpoints, found.connect_timeout_s) == ("DYNAMIC_FORWARD_PROXY", (), 3.0)


def test_a_gateway_passes_nothing_through() -> None:
    assert snapshot_of(GATEWAY, WORLD, TO_A, balanced("simple: PASSTHROUGH")).clusters == ()


def entry(endpoints: str = "") -> str:
    return f"""
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {{name: a, namespace: prod}}
spec:
  hosts: [a.prod.svc.cluster.local]
  ports: [{{number: 80, name: http, protocol: HTTP}}]
  resolution: DNS_ROUND_ROBIN
  {endpoints}
"""


@pytest.mark.parametrize(
    ("endpoints", "kind", "host"),
    [
        ("", "LOGICAL_DNS", "a.prod.svc.cluster.local"),
        ("endpoints: [{address: db.example}]", "LOGICAL_DNS", "db.example"),
        ("endpoints: [{address: 10.0.0.1}]", "STATIC", "10.0.0.1"),
    ],
)
def test_dns_round_robin_is_logical_dns(endpoints: str, kind: str, host: str) -> None:
    found = only_cluster(snapshot_of(GATEWAY, entry(endpoints), TO_A))
    assert (found.type, [one.address.host for one in found.endpoints]) == (kind, [host])  # type: ignore[union-attr]


@pytest.mark.parametrize(
    ("settings", "beginning"),
    [
        ("simple: RANDOM, warmup: {duration: 1s}", "warmup is for LEAST_REQUEST and ROUND_ROBIN; RANDOM has no"),
        (
            "consistentHash: {useSourceIp: true}, warmupDurationSecs: 1s",
            "warmupDurationSecs is for LEAST_REQUEST and ROUND_ROBIN; RING_HASH has no",
        ),
        ("consistentHash: {useSourceIp: false}", "useSourceIp is false"),
        ("simple: PASSTHROUGH", "simple PASSTHROUGH is for sidecars"),
        ("localityLbSetting: {failover: [{from: a, to: b}]}", "failover needs outlierDetection"),
        ("localityLbSetting: {failoverPriority: [a]}", "failoverPriority needs outlierDetection"),
        (
            "localityLbSetting: {failoverPriority: [a], distribute: [{from: a, to: {a: 100}}]}",
            "failoverPriority comes to nothing beside distribute",
        ),
        (
            "localityLbSetting: {enabled: false, distribute: [{from: a, to: {a: 100}}]}",
            "distribute comes to nothing beside enabled: false",
        ),
        ("zoneAwareLbSetting: {minClusterSize: 2}", "minClusterSize counts among proxies"),
    ],
)
@pytest.mark.parametrize(
    "level",
    [
        "trafficPolicy: {{loadBalancer: {{{}}}}}",
        "subsets: [{{name: v1, trafficPolicy: {{loadBalancer: {{{}}}}}}}]",
        "trafficPolicy: {{portLevelSettings: [{{port: {{number: 80}}, loadBalancer: {{{}}}}}]}}",
    ],
)
def test_what_comes_to_nothing_is_told(settings: str, beginning: str, level: str) -> None:
    [note] = remarks(mesh_of(rule(level.format(settings))))
    assert note.message.startswith(f"DestinationRule/r.prod: {beginning}")
    assert note.position.line == 5


def test_what_comes_to_something_is_not_told_of() -> None:
    for settings in (
        "simple: RANDOM",
        "warmup: {duration: 1s}",
        "consistentHash: {useSourceIp: true}",
        "localityLbSetting: {distribute: [{from: a, to: {a: 100}}]}",
        "zoneAwareLbSetting: {enabled: true}",
    ):
        assert remarks(mesh_of(balanced(settings))) == ()
