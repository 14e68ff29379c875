"""Hosts that fail are ejected and return, between real backends that answer 5xx, reset, hang, and come back."""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Sequence
from contextlib import AsyncExitStack
from pathlib import Path

import pytest
import trio
import trio.testing

from meshproxy.proxy.upstream.cluster import Cluster as RunningCluster
from meshproxy.snapshot import Cluster, Endpoint, OutlierDetection, SocketAddress

from ..mesh.support import service_entry, snapshot_of
from .support import (
    CLUSTER,
    GET,
    LOCALHOST,
    OK,
    Backend,
    Gateway,
    Peer,
    Script,
    answers,
    backend,
    cluster,
    gateway,
    silent,
    snapshot,
    unreachable,
    until,
    unused_address,
)
from .test_retries import routed

EXAMPLE = Path(__file__).parents[2] / "policies" / "istio-basics" / "istio-basics.yaml"
FAILED = b"HTTP/1.1 500 Internal Server Error\r\ncontent-length: 0\r\n\r\n"
UNAVAILABLE = b"HTTP/1.1 503 Service Unavailable\r\ncontent-length: 0\r\n\r\n"


def detecting(*addresses: Backend | SocketAddress, panic: float = 0, **config: object) -> Cluster:
    """A cluster that asks its hosts in turn, and ejects after two 5xx as many as there are."""
    settings = OutlierDetection(**{"consecutive_5xx": 2, "max_ejection_percent": 100, **config})  # type: ignore[arg-type]
    return cluster(*addresses, lb_policy="ROUND_ROBIN", outlier_detection=settings, healthy_panic_threshold=panic)


async def resets(connection: Peer) -> None:
    await connection.message()
    connection.reset()


async def statuses(proxy: Gateway, count: int) -> list[int]:
    client = await proxy.client()
    return [(await client.request(GET)).status for _ in range(count)]


async def page(proxy: Gateway, path: str) -> str:
    client = await proxy.client(to=proxy.admin)
    return (await client.request(f"GET {path} HTTP/1.1\r\nhost: a\r\n\r\n".encode())).body.decode()


@pytest.fixture
def events(caplog: pytest.LogCaptureFixture) -> Callable[[], list[str]]:
    """What has been told of ejections, the ports left out."""
    caplog.set_level(logging.INFO, "meshproxy.proxy.upstream.cluster")
    return lambda: [record.getMessage().partition(": ")[2].partition(" ")[2] for record in caplog.records]


@pytest.mark.parametrize("script", [answers(FAILED), resets, answers(b"no HTTP\r\n\r\n")])
async def test_a_backend_that_fails_is_ejected(script: Script) -> None:
    async with backend(script) as bad, backend() as good, gateway(snapshot(detecting(bad, good))) as proxy:
        found = await statuses(proxy, 20)
    assert sum(status != 200 for status in found) == 2
    assert found[5:] == [200] * 15


CALL = b"POST / HTTP/1.1\r\nhost: a\r\ncontent-type: application/grpc+proto\r\ncontent-length: 0\r\n\r\n"
POST = b"POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 0\r\n\r\n"


@pytest.mark.parametrize(
    ("request_", "answer", "ejected"),
    [
        (CALL, OK.replace(b"\r\n", b"\r\ngrpc-status: 14\r\n", 1), True),
        (CALL, OK.replace(b"\r\n", b"\r\ngrpc-status: 5\r\n", 1), False),
        (CALL, FAILED.replace(b"\r\n", b"\r\ngrpc-status: 0\r\n", 1), False),
        (CALL, FAILED, True),
        (POST, OK.replace(b"\r\n", b"\r\ngrpc-status: 14\r\n", 1), False),
    ],
)
async def test_a_call_of_grpc_counts_by_its_own_status(request_: bytes, answer: bytes, ejected: bool) -> None:
    async with backend(answers(answer)) as called, gateway(snapshot(detecting(called))) as proxy:
        client = await proxy.client()
        for _ in range(2):
            await client.request(request_)
        status = (await client.request(GET)).status
    assert (status == 503) is ejected


async def test_a_backend_that_refuses_connections_is_ejected() -> None:
    dead = unused_address()
    async with backend() as good, gateway(snapshot(detecting(dead, good))) as proxy:
        found = await statuses(proxy, 20)
    assert found.count(503) == 2


async def test_a_backend_that_does_not_accept_connections_is_ejected(mock_clock: trio.testing.MockClock) -> None:
    mock_clock.autojump_threshold = 0.01
    dropping = SocketAddress("192.0.2.1", 80)  # nobody there answers, not even with a refusal
    async with backend() as good:
        config = detecting(dropping, good, consecutive_5xx=1)
        async with gateway(snapshot(config)) as proxy:
            found = await statuses(proxy, 8)
    assert found.count(503) <= 1
    assert found[2:] == [200] * 6


async def test_with_all_ejected_there_is_no_upstream() -> None:
    async with backend(answers(FAILED)) as bad, gateway(snapshot(detecting(bad))) as proxy:
        found = await statuses(proxy, 4)
        assert found == [500, 500, 503, 503]
        assert [line.flags for line in await proxy.logged(4)] == ["-", "-", "UH", "UH"]


async def test_below_the_panic_threshold_all_serve_even_those_that_are_ejected() -> None:
    async with (
        backend(answers(FAILED)) as bad,
        backend() as good,
        gateway(snapshot(detecting(bad, good, panic=51))) as proxy,
    ):
        found = await statuses(proxy, 20)
        assert found[-10:].count(500) == 5
        assert sum(host.ejected for host in proxy.hosts) == 1


async def test_no_host_of_five_is_ejected_by_default() -> None:
    async with backend(answers(FAILED)) as bad:
        others = [SocketAddress("127.0.0.2", port) for port in (1, 2, 3, 4)]
        config = cluster(bad, *others, lb_policy="ROUND_ROBIN", outlier_detection=OutlierDetection(consecutive_5xx=1))
        async with gateway(snapshot(config)) as proxy:
            await statuses(proxy, 10)
            assert not any(host.ejected for host in proxy.hosts)


async def test_one_returns_when_its_time_is_over_and_is_ejected_for_longer_the_next_time(
    mock_clock: trio.testing.MockClock, events: Callable[[], list[str]]
) -> None:
    async with backend(answers(FAILED)) as bad, gateway(snapshot(detecting(bad))) as proxy:
        [host] = proxy.hosts
        await statuses(proxy, 2)
        assert host.ejected
        for _ in range(2):
            mock_clock.jump(10)
            await trio.testing.wait_all_tasks_blocked()
        assert host.ejected
        mock_clock.jump(10)
        await until(lambda: not host.ejected)
        assert await statuses(proxy, 3) == [500, 500, 503]
        for _ in range(5):
            mock_clock.jump(10)
            await trio.testing.wait_all_tasks_blocked()
        assert host.ejected
        mock_clock.jump(10)
        await until(lambda: not host.ejected)
    assert events() == [
        "is ejected for 30 s: consecutive_5xx, ejection 1",
        "is back",
        "is ejected for 60 s: consecutive_5xx, ejection 2",
        "is back",
    ]


async def test_one_that_has_recovered_serves_again(mock_clock: trio.testing.MockClock) -> None:
    recovering = answers(FAILED, FAILED, OK)
    async with backend(recovering) as one, backend() as other, gateway(snapshot(detecting(one, other))) as proxy:
        client = await proxy.client()
        for _ in range(6):
            await client.request(GET)
        assert one.received[0].count(b"GET") == 2
        for _ in range(3):
            mock_clock.jump(10)
            await trio.testing.wait_all_tasks_blocked()
        assert [(await client.request(GET)).status for _ in range(6)] == [200] * 6
        assert sum(one.count(b"GET") for one in one.received) == 5


async def test_the_outlier_limits_of_the_first_example_hold_at_exactly_their_numbers(
    mock_clock: trio.testing.MockClock,
) -> None:
    """consecutiveErrors 5 (of gateways), interval 1s, baseEjectionTime 30s, maxEjectionPercent 10: of 10, one."""
    async with AsyncExitStack() as backends:
        scripts = [answers(UNAVAILABLE)] * 2 + [answers(FAILED)] + [answers(OK)] * 7
        servers = [await backends.enter_async_context(backend(script)) for script in scripts]
        config = snapshot_of(EXAMPLE.read_text(), entry_of("service-a", servers), publish={80: LOCALHOST})
        proxy = await backends.enter_async_context(gateway(config))
        (proxy.worker.addresses["http"],) = proxy.worker.addresses.values()
        hosts = {host.name: host for host in proxy.hosts}
        bad = [hosts[str(server.address)] for server in servers]
        client = await proxy.client()

        while not any(host.ejected for host in bad):
            assert all(host.errors < 5 for host in bad[:2])
            await client.request(GET.replace(b" / ", b" /service-a "))
        first, second = sorted(bad[:2], key=lambda host: -host.errors)
        assert (first.ejected, first.errors) == (True, 5)
        while second.errors < 12 or bad[2].errors < 12:
            await client.request(GET.replace(b" / ", b" /service-a "))
        assert [host for host in bad if host.ejected] == [first]
        assert first.errors == 5

        for _ in range(29):
            mock_clock.jump(1)
            await trio.testing.wait_all_tasks_blocked()
        assert first.ejected
        mock_clock.jump(1)
        await trio.testing.wait_all_tasks_blocked()
        assert not first.ejected
        client.close()


def entry_of(name: str, servers: Sequence[Backend]) -> str:
    """A service whose endpoints these are."""
    addresses = [server.address for server in servers]
    endpoints = ", ".join(
        f"{{address: {one.host}, ports: {{http: {one.port}}}}}" for one in addresses if isinstance(one, SocketAddress)
    )
    return re.sub("endpoints: .*", f"endpoints: [{endpoints}]", service_entry(name))


async def test_a_request_that_hangs_is_not_cut_by_the_ejection_of_its_host() -> None:
    async def first_hangs(connection: Peer) -> None:
        if len(server.connections) == 1:
            await silent(connection)
        else:
            await answers(FAILED)(connection)

    async with backend(first_hangs) as server, gateway(snapshot(detecting(server))) as proxy:
        waiting = await proxy.client()
        await waiting.send(GET)
        await server.connected()
        assert await statuses(proxy, 3) == [500, 500, 503]
        assert not waiting.received
        server.connections[0].send_now(OK)
        assert (await waiting.response()).status == 200
        server.connections[0].close()


async def test_where_they_are_counted_apart_a_host_is_ejected_that_is_not_reached_in_time_and_none_that_only_hangs(
    mock_clock: trio.testing.MockClock,
) -> None:
    settings = OutlierDetection(
        consecutive_local_origin_failure=2, split_external_local_origin_errors=True, max_ejection_percent=100
    )
    found = []
    async with backend(silent) as hanging:
        with unreachable() as address:
            for asked in (hanging, address):
                config = routed(asked, policy=None, timeout_s=3.0, outlier_detection=settings)
                async with gateway(config) as proxy:
                    [host] = proxy.hosts
                    for _ in range(2):
                        client = await proxy.client()
                        await client.send(GET)
                        while not host.active:
                            await trio.lowlevel.checkpoint()
                        await trio.testing.wait_all_tasks_blocked(0.01)
                        mock_clock.jump(3.1)
                        assert (await client.response()).status == 504
                    found.append(host.ejected)

    assert found == [False, True]


async def test_hosts_that_go_take_their_ejection_with_them() -> None:
    async with (
        backend(answers(FAILED)) as bad,
        backend() as good,
        gateway(snapshot(detecting(bad)), admin=True) as proxy,
    ):
        await statuses(proxy, 2)
        running = proxy.worker.clusters[CLUSTER]
        assert isinstance(running, RunningCluster)
        running.update_hosts([Endpoint(good.address), Endpoint(bad.address)])
        assert [host.ejected for host in running.hosts] == [False, True]
        running.update_hosts([Endpoint(good.address)])
        metrics = await page(proxy, "/stats/prometheus")
        assert f'outlier_detection_ejections_active{{envoy_cluster_name="{CLUSTER}"}} 0.0' in metrics
        assert await statuses(proxy, 2) == [200, 200]


async def test_ejections_show_on_the_admin_pages() -> None:
    async with backend(answers(UNAVAILABLE)) as bad, backend(answers(UNAVAILABLE)) as other:
        config = detecting(bad, other, consecutive_gateway_failure=1, consecutive_5xx=0, max_ejection_percent=50)
        async with gateway(snapshot(config), admin=True) as proxy:
            await statuses(proxy, 4)
            shown = await page(proxy, "/clusters")
            metrics = await page(proxy, "/stats/prometheus")
    flags = sorted(line.rpartition("::")[2] for line in shown.splitlines() if "::health_flags::" in line)
    assert flags == ["/failed_outlier_check", "healthy"]
    prefix, label = "envoy_cluster_outlier_detection_ejections", f'{{envoy_cluster_name="{CLUSTER}"}}'
    for name, value in {
        "active": 1,
        "enforced_total": 1,
        "enforced_consecutive_gateway_failure_total": 1,
        "detected_consecutive_gateway_failure_total": 4,
        "detected_consecutive_5xx_total": 0,
        "overflow_total": 3,
    }.items():
        assert f"{prefix}_{name}{label} {value:.1f}\n" in metrics


async def test_a_cluster_that_detects_nothing_has_no_such_metrics() -> None:
    async with backend(answers(FAILED)) as bad, gateway(snapshot(bad), admin=True) as proxy:
        assert await statuses(proxy, 8) == [500] * 8
        assert "outlier_detection_ejections_active{" not in await page(proxy, "/stats/prometheus")
