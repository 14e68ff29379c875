"""Connections by TLS that differ in the server that was asked for: who may use which, and what is counted of them."""

from __future__ import annotations

import math
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
import trio

from meshproxy.proxy.http.failures import OVERFLOW, Failure
from meshproxy.proxy.http.message import Response
from meshproxy.proxy.upstream import named_host
from meshproxy.proxy.upstream.cluster import Cluster
from meshproxy.snapshot import CircuitBreakers, Endpoint
from meshproxy.snapshot import Cluster as ClusterConfig
from meshproxy.telemetry.metrics import ClusterStats

from .made import made_request
from .secure import SecureBackend, secure_backend, server_context
from .support import Holding, Script, answers, until
from .test_tls_client import AUTO, CA, upstream

OK = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok"
CLOSING = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\nconnection: close\r\n\r\nok"
SERVER = CA.issue("*.test", "a.example")


@asynccontextmanager
async def running(
    script: Script = answers(OK),  # noqa: B008
    **config: Any,
) -> AsyncIterator[tuple[Cluster, SecureBackend]]:
    """A cluster of one backend that takes the server's name from requests' authorities."""
    async with secure_backend(server_context(SERVER), script) as server:
        settings = ClusterConfig("c", (Endpoint(server.address),), **config)
        cluster = Cluster(settings, ClusterStats("c"), lambda: 0.0, tls=upstream(**AUTO))
        try:
            yield cluster, server
        finally:
            cluster.close()
        [*hosts] = cluster.hosts
        assert not hosts


async def get(cluster: Cluster, authority: bytes) -> Response:
    return await cluster(made_request(authority=authority))


def figures(cluster: Cluster) -> tuple[int, int, int, int]:
    """Of the only host: active requests, connections, idle ones, and all connections that there have been."""
    (host,) = cluster.hosts
    return host.active, host.connections, host.idle_count, host.connections_total


async def test_a_connection_is_used_only_for_the_server_that_it_is_to() -> None:
    async with running() as (cluster, server):
        for authority in (b"a.test", b"b.test", b"a.test:443", b"B.test", b"A.test"):
            await get(cluster, authority)

        assert server.names == ["a.test", "b.test"]
        assert [received.count(b"GET") for received in server.received] == [3, 2]
        assert figures(cluster) == (0, 2, 2, 2)
        assert [host.requests for host in cluster.hosts] == [5]


async def test_a_server_that_the_certificate_is_not_for_is_refused_and_nothing_is_sent_to_it() -> None:
    async with running() as (cluster, server):
        await get(cluster, b"a.test")
        with pytest.raises(Failure) as caught:
            await get(cluster, b"a.other")
        await get(cluster, b"a.test")

        assert (caught.value.kind.status, caught.value.kind.flags) == (503, "UF")
        assert caught.value.details.startswith(
            "upstream_reset_before_response_started{remote_connection_failure|TLS_error:|268435581:SSL_routines:"
            "OPENSSL_internal:CERTIFICATE_VERIFY_FAILED:verify_cert_failed:_verify_SAN_list,_expected_SANs:_[a.other]"
        )
        assert [received.count(b"GET") for received in server.received] == [2, 0]
        assert figures(cluster) == (0, 1, 1, 1)
        assert [host.connect_failures for host in cluster.hosts] == [1]


async def test_what_the_host_has_closed_is_counted_for_the_whole() -> None:
    async with running(answers(CLOSING)) as (cluster, _):
        await get(cluster, b"a.test")
        await get(cluster, b"b.test")

        assert figures(cluster) == (0, 0, 0, 2)


async def test_limits_hold_for_all_names_together_and_a_name_without_a_connection_may_have_one() -> None:
    holding = Holding()
    limits = CircuitBreakers(max_connections=1, max_pending_requests=1)
    async with running(holding, circuit_breakers=limits) as (cluster, server), trio.open_nursery() as nursery:
        breakers = cluster.bounds.breakers
        assert breakers is not None
        for count, authority in enumerate((b"a.test", b"b.test"), 1):
            nursery.start_soon(get, cluster, authority)
            await until(lambda count=count: holding.held == count)  # type: ignore[misc]
        nursery.start_soon(get, cluster, b"a.test")
        await until(lambda: breakers.pending.active)
        assert server.names == ["a.test", "b.test"]
        with pytest.raises(Failure) as caught:
            await get(cluster, b"a.test")
        assert caught.value.kind is OVERFLOW
        await holding.answer(3)

    assert breakers.requests.active == breakers.connections.active == 0


async def test_names_are_forgotten_when_there_are_too_many(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(named_host, "MAX_POOLS", 2)
    async with running() as (cluster, server):
        for authority in (b"a.test", b"b.test", b"a.test", b"c.test", b"a.test", b"b.test"):
            await get(cluster, authority)

        assert server.names == ["a.test", "b.test", "c.test", "b.test"]
        assert figures(cluster)[1] == 2
        assert await server.connections[1].ended() == "closed"


async def test_idle_connections_of_every_name_are_swept() -> None:
    async with running() as (cluster, server):
        await get(cluster, b"a.test")
        await get(cluster, b"b.test")
        (host,) = cluster.hosts
        now = trio.current_time()
        host.sweep(now, 10.0)
        assert host.connections == 2
        host.sweep(now + 11.0, 10.0)
        assert host.connections == 0
        host.sweep(now + 12.0, 10.0)
        assert repr(host).endswith("0 active, 0 of 0 connections idle>")
        assert [await peer.ended() for peer in server.connections] == ["closed", "closed"]


async def test_connections_end_in_time_whatever_their_names() -> None:
    async with running(max_requests_per_connection=1) as (cluster, server):
        await get(cluster, b"a.test")
        await get(cluster, b"a.test")

        assert server.names == ["a.test", "a.test"]
        (host,) = cluster.hosts
        assert host.end_idle(trio.current_time()) == math.inf


async def test_a_request_that_was_answered_by_a_close_is_sent_once_more_to_the_same_server() -> None:
    async def once(peer: Any) -> None:
        await peer.message()
        await peer.send(OK)
        await peer.message()

    async with running(once) as (cluster, server):
        await get(cluster, b"a.test")
        await get(cluster, b"a.test")

        assert server.names == ["a.test", "a.test"]
        assert figures(cluster) == (0, 1, 1, 2)
        assert [host.requests for host in cluster.hosts] == [2]
