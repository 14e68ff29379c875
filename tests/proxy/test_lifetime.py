"""When connections to endpoints are closed, where a policy bounds their lives."""

from __future__ import annotations

import math
import socket
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from typing import Any, cast

import pytest
import trio
import trio.testing

from meshproxy.proxy.http.http1_client import Http1ClientConnection
from meshproxy.proxy.readiness import Waiter
from meshproxy.proxy.transport import Transport, connect
from meshproxy.proxy.upstream.cluster import Cluster
from meshproxy.proxy.upstream.deadlines import deadlines
from meshproxy.proxy.upstream.host import Host
from meshproxy.proxy.upstream.lifetime import lifetime
from meshproxy.snapshot import Cluster as ClusterConfig
from meshproxy.snapshot import Endpoint, SocketAddress, TcpKeepalive
from meshproxy.telemetry.metrics import ClusterStats

from .support import GET, OK, Backend, Gateway, answers, backend, cluster, gateway, snapshot, until

ADDRESS = SocketAddress("192.0.2.1", 80)


class FakeTransport:
    """Open until it is closed, and silent."""

    def __init__(self) -> None:
        self.closed_at = math.inf
        self.waiter = Waiter(-1)

    def peek(self) -> None:
        return None

    def close(self) -> None:
        self.closed_at = trio.current_time()


def running(**config: Any) -> Cluster:
    return Cluster(ClusterConfig("c", (Endpoint(ADDRESS),), **config), ClusterStats("c"), lambda: 0.0)


def opened(host: Host) -> Http1ClientConnection:
    """A connection that has just come about, for a request."""
    host.begin()
    host.connections += 1
    transport = cast(Transport, FakeTransport())
    connection = Http1ClientConnection(transport, host._release, trio.current_time(), deadlines())
    connection.requests += 1
    return connection


def enforced(under_test: Cluster, nursery: trio.Nursery) -> Host:
    """The cluster's host, while its connections' lifetimes are enforced."""
    assert under_test.bounds.lifetime is not None
    nursery.start_soon(under_test.bounds.lifetime.enforce, under_test)
    (host,) = under_test.hosts
    return host


def closed_at(connection: Http1ClientConnection) -> float:
    """When it was closed; infinity if it is open."""
    return cast(FakeTransport, connection.transport).closed_at


def test_without_bounds_there_is_nothing_to_look_after() -> None:
    assert lifetime(ClusterConfig("c", ())) is None


async def test_an_idle_connection_is_closed_when_it_has_been_idle_for_so_long(
    nursery: trio.Nursery, autojump_clock: trio.testing.MockClock
) -> None:
    host = enforced(running(idle_timeout_s=4.0), nursery)
    connection = opened(host)
    await trio.sleep(100)
    host._release(connection, True)

    await trio.sleep(1000)
    assert closed_at(connection) == 104.0
    assert (host.idle, host.connections) == ([], 0)


async def test_each_use_makes_an_idle_connections_time_begin_anew(
    nursery: trio.Nursery, autojump_clock: trio.testing.MockClock
) -> None:
    host = enforced(running(idle_timeout_s=4.0), nursery)
    connection = opened(host)
    host._release(connection, True)
    await trio.sleep(3)
    assert host.take_idle(replayable=True) is connection
    host.begin()
    await trio.sleep(3)
    host._release(connection, True)

    await trio.sleep(1000)
    assert closed_at(connection) == 10.0


async def test_each_idle_connection_has_a_time_of_its_own(
    nursery: trio.Nursery, autojump_clock: trio.testing.MockClock
) -> None:
    host = enforced(running(idle_timeout_s=4.0), nursery)
    first, second = opened(host), opened(host)
    host._release(first, True)
    await trio.sleep(1)
    host._release(second, True)

    await trio.sleep(1000)
    assert [closed_at(first), closed_at(second)] == [4.0, 5.0]


async def test_an_idle_timeout_of_0_is_none(nursery: trio.Nursery, autojump_clock: trio.testing.MockClock) -> None:
    host = enforced(running(idle_timeout_s=0.0), nursery)
    connection = opened(host)
    host._release(connection, True)

    await trio.sleep(1000)
    assert closed_at(connection) == math.inf


async def test_an_idle_connection_is_closed_when_it_is_too_old(
    nursery: trio.Nursery, autojump_clock: trio.testing.MockClock
) -> None:
    host = enforced(running(max_connection_duration_s=5.0), nursery)
    connection = opened(host)
    await trio.sleep(3)
    host._release(connection, True)

    await trio.sleep(1000)
    assert closed_at(connection) == 5.0


async def test_a_connection_that_is_too_old_finishes_what_it_does(
    nursery: trio.Nursery, autojump_clock: trio.testing.MockClock
) -> None:
    host = enforced(running(max_connection_duration_s=5.0), nursery)
    connection = opened(host)
    await trio.sleep(7)
    assert closed_at(connection) == math.inf

    host._release(connection, True)
    assert closed_at(connection) == 7.0


async def test_a_connection_serves_as_many_requests_as_it_may(
    nursery: trio.Nursery, autojump_clock: trio.testing.MockClock
) -> None:
    host = enforced(running(max_requests_per_connection=2), nursery)
    connection = opened(host)
    host._release(connection, True)
    assert host.take_idle(replayable=True) is connection
    host.begin()
    connection.requests += 1
    host._release(connection, True)

    assert closed_at(connection) == 0.0
    assert (host.idle, host.connections, host.active) == ([], 0, 0)


@asynccontextmanager
async def limited(**bounds: Any) -> AsyncIterator[tuple[Gateway, Backend]]:
    """A gateway before one backend, which is all of a cluster with these bounds."""
    async with backend(answers(OK)) as server, gateway(snapshot(cluster(server, **bounds))) as proxy:
        yield proxy, server


@pytest.mark.parametrize(("limit", "connections"), [(None, [5]), (1, [1] * 5), (2, [2, 2, 1]), (5, [5])])
async def test_requests_go_over_as_many_connections_as_it_takes(limit: int | None, connections: list[int]) -> None:
    async with limited(max_requests_per_connection=limit) as (proxy, server):
        client = await proxy.client()
        for _ in range(5):
            assert (await client.request(GET)).status == 200
        assert [received.count(b"GET / ") for received in server.received] == connections


async def test_the_worker_closes_what_has_been_idle_too_long() -> None:
    async with backend(answers(OK)) as server, gateway(snapshot(cluster(server, idle_timeout_s=0.05))) as proxy:
        client = await proxy.client()
        await client.request(GET)
        await until(lambda: not any(host.connections for host in proxy.hosts))


KEEPALIVES = [
    (None, (0, None, None, None)),
    (TcpKeepalive(), (1, None, None, None)),
    (TcpKeepalive(probes=3, time_s=60, interval_s=5), (1, 60, 5, 3)),
]


@pytest.mark.parametrize(("keepalive", "expected"), KEEPALIVES)
async def test_the_kernel_probes_idle_connections_as_it_is_told(
    keepalive: TcpKeepalive | None, expected: tuple[int, int | None, int | None, int | None]
) -> None:
    async with backend() as server:
        transport = await connect(server.address, keepalive)
        found = transport._socket.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)
        options = (socket.TCP_KEEPIDLE, socket.TCP_KEEPINTVL, socket.TCP_KEEPCNT)
        with socket.socket() as other:
            plain = list(_tcp_options(other, options))
        values = list(_tcp_options(transport._socket, options))
        transport.close()

    assert found == expected[0]
    assert values == [default if value is None else value for value, default in zip(expected[1:], plain, strict=True)]


def _tcp_options(sock: socket.socket, options: tuple[int, ...]) -> Iterator[int]:
    for option in options:
        yield sock.getsockopt(socket.IPPROTO_TCP, option)


async def test_connections_of_a_cluster_are_kept_alive_as_its_policy_says() -> None:
    async with limited(tcp_keepalive=TcpKeepalive(time_s=77)) as (proxy, _):
        await proxy.exchange(GET)
        (connection,) = proxy.hosts[0].idle
        assert connection.transport._socket.getsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE) == 77
