"""The admin pages: readiness, counters, the running snapshot, and each endpoint's state."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest
import trio
from prometheus_client.parser import text_string_to_metric_families

from meshproxy.proxy.upstream.host import HealthFlag
from meshproxy.snapshot import Cluster, Endpoint, Locality, Prefix, RouteMatch, SocketAddress

from .support import (
    CLUSTER,
    GET,
    OK,
    Answer,
    Gateway,
    Peer,
    answers,
    backend,
    cluster,
    forward,
    gateway,
    silent,
    snapshot,
    until,
    unused_address,
)


async def page(proxy: Gateway, path: str, method: str = "GET") -> Answer:
    client = await proxy.client(to=proxy.admin)
    return await client.request(f"{method} {path} HTTP/1.1\r\nhost: admin\r\n\r\n".encode(), method)


async def counters(proxy: Gateway) -> dict[tuple[str, frozenset[tuple[str, str]]], float]:
    answer = await page(proxy, "/stats/prometheus")
    assert answer.header("content-type") == "text/plain; version=0.0.4; charset=utf-8"
    families = text_string_to_metric_families(answer.body.decode())
    return {(one.name, frozenset(one.labels.items())): one.value for family in families for one in family.samples}


def labels(**expected: str) -> frozenset[tuple[str, str]]:
    return frozenset(expected.items())


async def test_ready_says_live() -> None:
    async with backend() as server, gateway(snapshot(server), admin=True) as proxy:
        answer = await page(proxy, "/ready")
        assert (answer.status, answer.body) == (200, b"LIVE\n")


async def test_ready_says_when_names_are_still_being_looked_up(monkeypatch: pytest.MonkeyPatch) -> None:
    async def getaddrinfo(*_: Any, **__: Any) -> list[Any]:
        await found.wait()
        return []

    found = trio.Event()
    monkeypatch.setattr(trio.socket, "getaddrinfo", getaddrinfo)
    named = Cluster(CLUSTER, (Endpoint(SocketAddress("slow.test", 80)),), "STRICT_DNS")
    async with gateway(snapshot(named), admin=True, started=False) as proxy:
        answer = await page(proxy, "/ready")
        assert (answer.status, answer.body) == (503, b"PRE_INITIALIZING\n")
        found.set()
        await until(lambda: proxy.worker.state.value == "LIVE")
        assert (await page(proxy, "/ready")).status == 200


async def test_ready_says_draining() -> None:
    async with backend(silent) as server, gateway(snapshot(server), admin=True) as proxy:
        client = await proxy.client()
        await client.send(GET)
        await server.connected()
        proxy.worker.stop()
        await until(lambda: proxy.worker.state.value == "DRAINING")
        answer = await page(proxy, "/ready")
        assert (answer.status, answer.body) == (503, b"DRAINING\n")


async def test_the_counters_count() -> None:
    responses = (OK, b"HTTP/1.1 404 Not Found\r\ncontent-length: 0\r\n\r\n", b"garbage\r\n\r\n")
    async with backend(answers(*responses)) as server, gateway(snapshot(server), admin=True) as proxy:
        client = await proxy.client()
        for _ in responses:
            await client.request(GET)
        await client.request(b"bad\r\n\r\n")
        counted = await counters(proxy)
        http, upstream = labels(envoy_http_conn_manager_prefix="http"), labels(envoy_cluster_name=CLUSTER)
        assert counted["envoy_http_downstream_cx_total", http] == 1
        assert counted["envoy_http_downstream_cx_active", http] == 1
        assert counted["envoy_http_downstream_rq_total", http] == 3
        assert counted["envoy_http_downstream_cx_protocol_error_total", http] == 1
        assert counted["envoy_cluster_upstream_rq_total", upstream] == 3
        assert counted["envoy_cluster_upstream_rq_active", upstream] == 0
        for response_class in ("2", "4", "5"):
            of_class = labels(envoy_response_code_class=response_class)
            assert counted["envoy_http_downstream_rq_xx_total", http | of_class] == 1
            assert counted["envoy_cluster_upstream_rq_xx_total", upstream | of_class] == 1
        assert counted["envoy_http_downstream_rq_time_count", http] == 3
        assert counted["envoy_cluster_upstream_rq_time_count", upstream] == 3
        istio = labels(
            reporter="source", destination_service="backend.test", request_protocol="http", response_code="502"
        )
        assert counted["istio_requests_total", istio | labels(response_flags="UPE")] == 1


async def test_what_comes_of_a_route_is_counted_apart_where_it_asks_for_it() -> None:
    dead = cluster(unused_address(), name="dead")
    async with backend() as server:
        alive = Cluster("alive", (Endpoint(server.address),))
        routes = [
            replace(forward("dead", RouteMatch(Prefix("/dead"))), stat_prefix="api"),
            replace(forward("alive", RouteMatch(Prefix("/api"))), stat_prefix="api"),
            forward("alive"),
        ]
        async with gateway(snapshot(alive, dead, routes=routes), admin=True) as proxy:
            client = await proxy.client()
            for path in (b"/api", b"/api/x", b"/dead", b"/"):
                await client.request(GET.replace(b" / ", b" %b " % path))
            counted = await counters(proxy)
    api = labels(envoy_route="api", envoy_virtual_host="all")
    assert counted["envoy_vhost_route_upstream_rq_total", api] == 3
    good, bad = (labels(envoy_response_code_class=response_class) for response_class in "25")
    assert counted["envoy_vhost_route_upstream_rq_xx_total", api | good] == 2
    assert counted["envoy_vhost_route_upstream_rq_xx_total", api | bad] == 1


async def test_what_is_under_way_is_counted_as_active() -> None:
    async with backend(silent) as server, gateway(snapshot(server), admin=True) as proxy:
        client = await proxy.client()
        await client.send(GET)
        await server.connected()
        upstream = labels(envoy_cluster_name=CLUSTER)
        assert (await counters(proxy))["envoy_cluster_upstream_rq_active", upstream] == 1
        client.close()
        await proxy.logged(1)
        assert (await counters(proxy))["envoy_cluster_upstream_rq_active", upstream] == 0


async def test_the_config_dump_is_the_snapshot() -> None:
    async with backend() as server, gateway(snapshot(server), admin=True) as proxy:
        answer = await page(proxy, "/config_dump")
        assert answer.header("content-type") == "application/json"
        dumped = json.loads(answer.body)
        assert dumped == json.loads(json.dumps(proxy.worker.snapshot.as_dict()))
        assert isinstance(server.address, SocketAddress)
        (endpoint,) = dumped["clusters"][0]["endpoints"]
        assert endpoint["address"] == {"@type": "SocketAddress", "host": "127.0.0.1", "port": server.address.port}


async def test_clusters_shows_each_endpoint() -> None:
    async def answers_once(connection: Peer) -> None:
        await connection.message()
        await connection.send(OK)
        await connection.ended()

    dead = cluster(unused_address(), name="dead")
    async with backend(answers_once) as server:
        alive = Cluster("alive", (Endpoint(server.address, 3),))
        routes = [forward("dead", RouteMatch(Prefix("/dead"))), forward("alive")]
        async with gateway(snapshot(alive, dead, routes=routes), admin=True) as proxy:
            client = await proxy.client()
            await client.request(GET.replace(b" / ", b" /dead "))
            await client.request(GET)
            await client.send(GET)
            await until(lambda: server.connections[0].received.count(b"GET") == 2)
            shown = json.loads((await page(proxy, "/clusters?format=json")).body)
            place = {"health_flags": "healthy", "region": "", "zone": "", "sub_zone": "", "priority": 0}
            none = dict.fromkeys(shown["alive"][str(server.address)], 0) | place
            assert shown["alive"] == {
                str(server.address): none | {"cx_active": 1, "cx_total": 1, "rq_active": 1, "rq_total": 2, "weight": 3}
            }
            assert shown["dead"] == {
                str(dead.endpoints[0].address): none | {"cx_connect_fail": 1, "rq_error": 1, "rq_total": 1, "weight": 1}
            }
            text = (await page(proxy, "/clusters")).body.decode()
            assert f"alive::{server.address}::rq_active::1\n" in text
            assert len(text.splitlines()) == 2 * len(none)


async def test_clusters_shows_where_an_endpoint_is_and_why_it_is_left_out() -> None:
    endpoint = Endpoint(unused_address(), locality=Locality("eu", "b", "2"), priority=1)
    async with gateway(snapshot(Cluster("c", (endpoint,)), routes=[forward("c")]), admin=True) as proxy:
        (host,) = proxy.hosts
        host.health_flags = HealthFlag.FAILED_ACTIVE_HC | HealthFlag.FAILED_OUTLIER_CHECK
        lines = (await page(proxy, "/clusters")).body.decode().splitlines()
    shown = dict(line.removeprefix(f"c::{endpoint.address}::").split("::") for line in lines)
    assert shown["health_flags"] == "/failed_active_hc/failed_outlier_check"
    assert [shown[name] for name in ("region", "zone", "sub_zone", "priority")] == ["eu", "b", "2", "1"]


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/", 200),
        ("HEAD", "/ready", 200),
        ("GET", "/ready?x", 200),
        ("GET", "/nowhere", 404),
        ("POST", "/ready", 405),
        ("DELETE", "/config_dump", 405),
    ],
)
async def test_pages_are_only_shown(method: str, path: str, status: int) -> None:
    async with backend() as server, gateway(snapshot(server), admin=True) as proxy:
        answer = await page(proxy, path, method)
        assert answer.status == status
        assert answer.header("allow") == ("GET, HEAD" if status == 405 else None)
        if status == 404:
            assert b"/stats/prometheus" in answer.body
