"""The examples of outlier detection and health checks in docs/traffic.md do what is said of them."""

from __future__ import annotations

import trio
import trio.testing

from meshproxy.snapshot import Snapshot, SocketAddress

from .mesh.support import snapshot_of
from .proxy.support import Backend, Peer, answers, backend, gateway, until
from .test_traffic import INGRESS, ROUTES, example, request

FAILED = b"HTTP/1.1 500 Internal Server Error\r\ncontent-length: 0\r\n\r\n"
OK = b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n"


def snapshot(*documents: str) -> Snapshot:
    config = snapshot_of(INGRESS, ROUTES, *documents, publish={80: SocketAddress("127.0.0.1", 0)})
    [listener] = config.listeners
    return Snapshot((type(listener)("http", listener.address, listener.filter_chains),), config.clusters)


def port(server: Backend) -> int:
    assert isinstance(server.address, SocketAddress)
    return server.address.port


def shop(*servers: Backend) -> str:
    """The service, with endpoints."""
    endpoints = ", ".join(f"{{address: 127.0.0.1, ports: {{http: {port(server)}}}}}" for server in servers)
    return f"""
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {{name: shop}}
spec:
  hosts: [shop.default.svc.cluster.local]
  ports: [{{number: 80, name: http, protocol: HTTP}}]
  resolution: STATIC
  endpoints: [{endpoints}]
"""


async def test_outlier_detection(mock_clock: trio.testing.MockClock) -> None:
    async with backend(answers(FAILED, FAILED, FAILED, OK)) as bad, backend() as good:
        config = snapshot(shop(bad, good), example("Outlier detection"))
        async with gateway(config) as proxy:
            client = await proxy.client()
            found = [(await client.request(request())).status for _ in range(30)]
            assert found.count(500) == 3
            assert [host.ejected for host in proxy.hosts] == [True, False]
            for _ in range(9):
                mock_clock.jump(1)
                await trio.testing.wait_all_tasks_blocked()
            assert proxy.hosts[0].ejected
            mock_clock.jump(1)
            await until(lambda: not proxy.hosts[0].ejected)
            assert {(await client.request(request())).status for _ in range(30)} == {200}
    assert bad.received[0].count(b"GET") > 3


async def test_health_checks(mock_clock: trio.testing.MockClock) -> None:
    well = True

    async def app(connection: Peer) -> None:
        while True:
            probed = b" /healthz " in await connection.message()
            await connection.send(OK if well or not probed else FAILED)

    async with backend(app) as one, backend(bind=SocketAddress("127.0.0.2", port(one))) as other:
        config = snapshot(example("Health checks").replace("8080", str(port(one))))
        async with gateway(config) as proxy:
            assert [(host.name, host.healthy) for host in proxy.hosts] == [
                (str(one.address), True),
                (str(other.address), True),
            ]
            well = False
            for healthy in (True, False):
                before = len(one.connections)
                mock_clock.jump(5)
                await one.connected(before + 1)
                await until(lambda: one.received[-1].count(b"GET"))
                await trio.testing.wait_all_tasks_blocked(0.02)
                assert proxy.hosts[0].healthy == healthy
            served = len(one.connections)
            client = await proxy.client()
            assert {(await client.request(request())).status for _ in range(10)} == {200}
            assert len(one.connections) == served
