"""The snapshot's data: compared and hashed by value, and dumped as JSON."""

from __future__ import annotations

import dataclasses
import json

import pytest

from meshproxy.snapshot import (
    WORKLOAD_ROOTS,
    Cluster,
    DirectResponseAction,
    Endpoint,
    Exact,
    FileSource,
    FilterChain,
    HeaderMatcher,
    HeaderMutations,
    HeaderValue,
    HttpConnectionManager,
    InlineSource,
    Listener,
    Origin,
    Pipe,
    Prefix,
    QueryParameterMatcher,
    RedirectAction,
    Regex,
    RegexRewrite,
    Route,
    RouteAction,
    RouteConfiguration,
    RouteMatch,
    Secret,
    Snapshot,
    SocketAddress,
    TlsCertificate,
    VirtualHost,
    WeightedCluster,
    WorkloadRoots,
)

HERE = Origin("mesh.yaml", 7, "VirtualService/a.default", "spec.http[0]")


def snapshot(origin: Origin | None = HERE) -> Snapshot:
    """A snapshot with something of each kind, made anew each time."""
    routes = (
        Route(
            "forward",
            RouteMatch(
                Prefix("/"), headers=(HeaderMatcher("x", Exact("1")),), query_parameters=(QueryParameterMatcher("q"),)
            ),
            RouteAction((WeightedCluster("c", 2),), regex_rewrite=RegexRewrite("a", "b")),
            request_headers=HeaderMutations(("x-gone",), (HeaderValue("x-new", "1"),)),
            origin=origin,
        ),
        Route("redirect", RouteMatch(Exact("/r")), RedirectAction(host="h"), origin=origin),
        Route("answer", RouteMatch(Regex("/d.*")), DirectResponseAction(200, "é".encode() + b"\xff")),
    )
    config = RouteConfiguration("http.80", (VirtualHost("v", ("*",), routes),))
    listener = Listener("l", SocketAddress("0.0.0.0", 80), (FilterChain(HttpConnectionManager(config)),))
    cluster = Cluster("c", (Endpoint(SocketAddress("192.0.2.1", 80)), Endpoint(Pipe("/s"), 3)), origin=origin)
    return Snapshot((listener,), (cluster,))


def test_equal_configuration_is_equal_data() -> None:
    assert snapshot() == snapshot()
    assert hash(snapshot()) == hash(snapshot())


def test_where_something_was_written_makes_no_difference() -> None:
    elsewhere = snapshot(Origin("other.yaml", 99, "VirtualService/b.default"))

    assert snapshot() == elsewhere == snapshot(None)
    assert hash(snapshot()) == hash(elsewhere)


def test_any_other_difference_does() -> None:
    cluster = snapshot().clusters[0]

    assert dataclasses.replace(cluster, connect_timeout_s=1.0) != cluster
    assert dataclasses.replace(cluster, endpoints=cluster.endpoints[::-1]) != cluster
    assert dataclasses.replace(cluster, lb_policy="RANDOM") != cluster


def test_a_snapshot_cannot_be_changed() -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        snapshot().clusters[0].name = "other"  # type: ignore[misc]


def test_a_snapshot_is_dumped_as_json_in_which_alternatives_are_named() -> None:
    dumped = json.loads(json.dumps(snapshot().as_dict()))

    (listener,) = dumped["listeners"]
    assert listener["address"] == {"@type": "SocketAddress", "host": "0.0.0.0", "port": 80}
    forward, redirect, answer = listener["filter_chains"][0]["http"]["route_config"]["virtual_hosts"][0]["routes"]
    assert forward["match"]["path"] == {"@type": "Prefix", "value": "/"}
    assert forward["match"]["headers"][0]["match"] == {"@type": "Exact", "value": "1"}
    assert forward["action"]["@type"] == "RouteAction"
    assert forward["action"]["clusters"][0]["weight"] == 2
    place = {"file": "mesh.yaml", "line": 7, "resource": "VirtualService/a.default", "path": "spec.http[0]"}
    assert forward["origin"] == {**place, "root": None}
    assert forward["request_headers"]["add"] == [{"name": "x-new", "value": "1", "append": False}]
    assert redirect["action"]["@type"] == "RedirectAction"
    assert answer["match"]["path"] == {"@type": "Regex", "value": "/d.*"}
    assert answer["action"] == {"@type": "DirectResponseAction", "status": 200, "body": "é\\xff"}
    (cluster,) = dumped["clusters"]
    assert cluster["endpoints"][1]["address"] == {"@type": "Pipe", "path": "/s"}
    assert cluster["endpoints"][1]["weight"] == 3


def test_an_empty_snapshot_is_dumped_too() -> None:
    assert Snapshot().as_dict() == {"listeners": [], "clusters": [], "secrets": []}


def test_what_is_secret_is_in_no_dump_and_no_repr() -> None:
    source = TlsCertificate(FileSource("/etc/certs/tls.crt"), InlineSource("tls.key", "-----BEGIN PRIVATE KEY-----"))
    secrets = (Secret("web", source, HERE), Secret(WORKLOAD_ROOTS, WorkloadRoots()))
    web, roots = Snapshot(secrets=secrets).as_dict()["secrets"]

    assert web["source"] == {
        "@type": "TlsCertificate",
        "certificate_chain": {"@type": "FileSource", "path": "/etc/certs/tls.crt"},
        "private_key": {"@type": "InlineSource", "name": "tls.key", "text": "[redacted]"},
    }
    assert roots["source"] == {"@type": "WorkloadRoots"}
    assert "PRIVATE" not in repr(secrets)


@pytest.mark.parametrize(
    ("address", "text"),
    [
        (SocketAddress("192.0.2.1", 80), "192.0.2.1:80"),
        (SocketAddress("::1", 80), "[::1]:80"),
        (SocketAddress("name.example", 80), "name.example:80"),
        (Pipe("/run/s"), "unix:///run/s"),
        (HERE, "mesh.yaml:7 (VirtualService/a.default)"),
    ],
)
def test_addresses_and_origins_are_written_as_people_write_them(address: object, text: str) -> None:
    assert str(address) == text


def test_mutations_that_change_nothing_are_false() -> None:
    assert not HeaderMutations()
    assert HeaderMutations(remove=("x",))
    assert HeaderMutations(add=(HeaderValue("x", "1"),))


def test_defaults_are_those_of_an_istio_gateway() -> None:
    manager = HttpConnectionManager(RouteConfiguration("r", ()))

    assert (manager.max_request_headers_kb, manager.max_headers_count) == (60, 100)
    assert (manager.request_headers_timeout_s, manager.idle_timeout_s) == (60.0, 3600.0)
    assert Cluster("c", ()).lb_policy == "LEAST_REQUEST"
    assert Cluster("c", ()).connect_timeout_s == 10.0
