"""What a cluster keeps when its endpoints change, and which idle connections a host closes; no sockets here."""

from __future__ import annotations

from typing import cast

import pytest

from meshproxy.proxy.http.failures import NO_HEALTHY_UPSTREAM, Failure
from meshproxy.proxy.http.http1_client import Http1ClientConnection
from meshproxy.proxy.readiness import Waiter
from meshproxy.proxy.upstream.cluster import Cluster
from meshproxy.proxy.upstream.host import HealthFlag, Host
from meshproxy.snapshot import Cluster as ClusterConfig
from meshproxy.snapshot import Endpoint, LbPolicy, Locality, Pipe, SocketAddress
from meshproxy.telemetry.metrics import ClusterStats

from .made import made_request

A, B, C = (SocketAddress("192.0.2.1", port) for port in (1, 2, 3))


class FakeTransport:
    """A transport whose other side has said nothing, or has `left`."""

    def __init__(self, left: bool = False) -> None:
        self.left = left
        self.closed = False
        self.waiter = Waiter(-1)

    def peek(self) -> bool | None:
        return False if self.left else None

    def close(self) -> None:
        self.closed = True


class FakeConnection:
    def __init__(self, left: bool = False, idle_since: float | None = 0.0) -> None:
        self.transport = FakeTransport(left)
        self.idle_since = idle_since


def keep(host: Host, *connections: FakeConnection) -> None:
    """Have these be the host's idle connections."""
    host.idle = [cast(Http1ClientConnection, connection) for connection in connections]
    host.connections = host.connections_total = len(connections)


def idle(host: Host) -> list[object]:
    return list(host.idle)


def cluster(*endpoints: Endpoint, policy: LbPolicy = "ROUND_ROBIN") -> Cluster:
    config = ClusterConfig("c", endpoints, lb_policy=policy)
    return Cluster(config, ClusterStats("c"), lambda: 0.0)


def addresses(cluster: Cluster) -> list[object]:
    return [host.address for host in cluster.hosts]


def test_a_static_cluster_has_its_endpoints_from_the_start() -> None:
    under_test = cluster(Endpoint(A), Endpoint(B, 3))

    assert [(host.address, host.weight) for host in under_test.hosts] == [(A, 1), (B, 3)]
    assert repr(under_test) == "<Cluster c: 2 hosts>"


def test_a_cluster_of_names_has_no_host_before_they_are_resolved() -> None:
    config = ClusterConfig("c", (Endpoint(SocketAddress("name.example", 80)),), type="STRICT_DNS")

    assert Cluster(config, ClusterStats("c"), lambda: 0.0).hosts == []


def test_hosts_that_stay_keep_their_connections_and_counters() -> None:
    under_test = cluster(Endpoint(A), Endpoint(B))
    stays = under_test.hosts[1]
    connection = FakeConnection()
    keep(stays, connection)
    stays.active, stays.requests, stays.errors = 2, 10, 1

    under_test.update_hosts([Endpoint(B), Endpoint(C)])

    assert addresses(under_test) == [B, C]
    assert under_test.hosts[0] is stays
    assert (stays.active, stays.requests, stays.errors, stays.removed) == (2, 10, 1, False)
    assert not connection.transport.closed
    assert under_test.hosts[1].requests == 0


def test_hosts_that_go_close_their_idle_connections() -> None:
    under_test = cluster(Endpoint(A), Endpoint(B))
    goes = under_test.hosts[0]
    connections = [FakeConnection(), FakeConnection()]
    keep(goes, *connections)

    under_test.update_hosts([Endpoint(B)])

    assert addresses(under_test) == [B]
    assert goes.removed
    assert (goes.idle, goes.connections) == ([], 0)
    assert all(connection.transport.closed for connection in connections)


def test_a_host_that_comes_back_begins_anew() -> None:
    under_test = cluster(Endpoint(A))
    first = under_test.hosts[0]

    under_test.update_hosts([])
    under_test.update_hosts([Endpoint(A)])

    assert under_test.hosts[0] is not first
    assert not under_test.hosts[0].removed


def test_a_new_weight_is_taken_on() -> None:
    under_test = cluster(Endpoint(A, 1), Endpoint(B, 1))
    host = under_test.hosts[0]

    under_test.update_hosts([Endpoint(A, 3), Endpoint(B, 1)])

    assert (under_test.hosts[0], host.weight) == (host, 3)


def test_a_host_is_where_its_endpoint_is() -> None:
    here, there = Locality("eu", "a"), Locality("us")
    under_test = cluster(Endpoint(A, locality=here), Endpoint(B, locality=there, priority=1))

    assert [(host.locality, host.priority) for host in under_test.hosts] == [(here, 0), (there, 1)]


async def test_a_change_of_health_counts_from_the_refresh_on() -> None:
    under_test = cluster(Endpoint(A))
    (host,) = under_test.hosts
    host.health_flags |= HealthFlag.FAILED_ACTIVE_HC | HealthFlag.FAILED_OUTLIER_CHECK

    under_test.refresh()
    with pytest.raises(Failure) as caught:
        await under_test(made_request())
    host.health_flags &= ~HealthFlag.FAILED_ACTIVE_HC

    assert caught.value.kind is NO_HEALTHY_UPSTREAM
    assert not host.healthy


def test_unix_sockets_and_addresses_are_told_apart() -> None:
    under_test = cluster(Endpoint(Pipe("/a")), Endpoint(Pipe("/b")), Endpoint(A))

    assert [host.name for host in under_test.hosts] == ["unix:///a", "unix:///b", "192.0.2.1:1"]


async def test_a_cluster_without_hosts_fails() -> None:
    under_test = cluster(Endpoint(A))
    under_test.update_hosts([])
    request = made_request()

    with pytest.raises(Failure) as caught:
        await under_test(request)

    assert caught.value.kind is NO_HEALTHY_UPSTREAM
    assert (request.upstream_cluster, request.upstream_host) == ("c", "")


def test_a_sweep_closes_what_the_host_has_closed_and_what_was_idle_too_long() -> None:
    host = Host(A)
    fresh, old, left = FakeConnection(idle_since=10), FakeConnection(idle_since=9), FakeConnection(True, idle_since=11)
    keep(host, old, fresh, left)

    host.sweep(now=20, idle_timeout_s=10)

    assert idle(host) == [fresh]
    assert (fresh.transport.closed, old.transport.closed, left.transport.closed) == (False, True, True)
    assert host.connections == 1


def test_a_sweep_of_fresh_connections_changes_nothing() -> None:
    host = Host(A)
    keep(host, FakeConnection(idle_since=10), FakeConnection(idle_since=11))

    host.sweep(now=20, idle_timeout_s=10)

    assert len(host.idle) == host.connections == 2


def test_a_connection_is_idle_from_the_sweep_that_finds_it_so() -> None:
    host = Host(A)
    connection = FakeConnection(idle_since=None)
    keep(host, connection)

    host.sweep(now=20, idle_timeout_s=10)
    host.sweep(now=30, idle_timeout_s=10)
    assert idle(host) == [connection]

    host.sweep(now=31, idle_timeout_s=10)
    assert idle(host) == []


def test_the_connection_used_last_is_taken_first() -> None:
    host = Host(A)
    first, last = FakeConnection(), FakeConnection()
    keep(host, first, last)

    taken: list[object] = [host.take_idle(replayable=False) for _ in range(3)]

    assert taken == [last, first, None]


async def test_a_connection_given_back_has_not_been_idle_yet() -> None:
    host = Host(A)
    connection = FakeConnection()
    host.connections = 1
    host.begin()

    host._release(cast(Http1ClientConnection, connection), True)

    assert idle(host) == [connection]
    assert (host.active, connection.idle_since) == (0, None)


@pytest.mark.parametrize(("reusable", "removed"), [(False, False), (True, True)])
async def test_a_spent_connection_or_one_of_a_removed_host_is_closed(reusable: bool, removed: bool) -> None:
    host = Host(A)
    connection = FakeConnection()
    host.connections = 1
    host.begin()
    host.removed = removed

    host._release(cast(Http1ClientConnection, connection), reusable)

    assert connection.transport.closed
    assert (host.idle, host.connections, host.active) == ([], 0, 0)


def test_a_host_tells_its_state() -> None:
    host = Host(A)
    keep(host, FakeConnection())
    host.begin()

    assert repr(host) == "<Host 192.0.2.1:1: 1 active, 1 of 1 connections idle>"
