"""The examples in docs/traffic.md do what is said of them, between real sockets."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import trio.testing
import yaml

from meshproxy.snapshot import SocketAddress, TcpKeepalive

from .certificates import Ca
from .mesh.support import service_entry, snapshot_of
from .proxy.secure import secure_backend, server_context
from .proxy.support import LOCALHOST, OK, Backend, Gateway, Holding, Peer, Script, answers, backend, gateway, until

DOCS = (Path(__file__).parents[1] / "docs" / "traffic.md").read_text()
SERVES = answers(OK)


def example(heading: str, number: int = 0) -> str:
    """The YAML below a heading, the first unless another is asked for."""
    section = DOCS.partition(f"\n## {heading}\n")[2].partition("\n## ")[0]
    found: list[str] = re.findall(r"```yaml\n(.*?)```", section, re.DOTALL)
    return found[number]


BEGINNING, ROUTES = example("To try them"), example("To try them", 1)
INGRESS = BEGINNING.partition("---\n")[0]


@asynccontextmanager
async def running(
    heading: str,
    *more: str,
    script: Script = answers(OK),  # noqa: B008
) -> AsyncIterator[tuple[Gateway, Backend, Backend]]:
    """A gateway with the example, before `shop`, which runs `script`, and `shop-next`."""
    async with backend(script) as shop, backend() as following:
        begin = BEGINNING
        for port, server in (("9101", shop), ("9102", following)):
            assert isinstance(server.address, SocketAddress)
            begin = begin.replace(port, str(server.address.port))
        config = snapshot_of(begin, example(heading), *more, publish={80: SocketAddress("127.0.0.1", 0)})
        async with gateway(config) as proxy:
            proxy.worker.addresses["http"] = next(iter(proxy.worker.addresses.values()))
            yield proxy, shop, following


def request(*lines: str, method: str = "GET", body: bytes = b"") -> bytes:
    head = "\r\n".join([f"{method} / HTTP/1.1", "host: shop.example.com", *lines, "", ""])
    return head.encode() + body


def test_every_policy_has_an_example() -> None:
    headings = re.findall(r"^## (.*)$", DOCS, re.MULTILINE)

    assert all(all(yaml.safe_load_all(example(heading))) for heading in headings)


async def test_faults() -> None:
    async with running("Faults") as (proxy, shop, _):
        slow = await proxy.exchange(request("x-test: slow"))
        broken = await proxy.exchange(request("x-test: broken"))
        other = await proxy.exchange(request())
        lines = await proxy.logged(3)

    assert [answer.status for answer in (slow, broken, other)] == [200, 503, 200]
    assert broken.body == b"fault filter abort"
    assert [line.flags for line in lines] == ["DI", "FI", "-"]
    assert len(shop.received) >= 1


async def test_mirrors() -> None:
    async with running("Mirrors") as (proxy, shop, following):
        answer = await proxy.exchange(request("content-length: 5", method="POST", body=b"hello"))
        await until(lambda: following.received and following.received[0].endswith(b"hello"))

    assert answer.status == 200
    assert b"host: shop.example.com\r\n" in shop.received[0]
    assert b"host: shop.example.com-shadow\r\n" in following.received[0]


async def test_cors() -> None:
    origin = "origin: https://team.dev.example.com"
    async with running("CORS") as (proxy, shop, _):
        preflight = await proxy.exchange(request(origin, "access-control-request-method: POST", method="OPTIONS"))
        assert shop.received == []
        actual = await proxy.exchange(request(origin))
        other = await proxy.exchange(request("origin: https://elsewhere.example"))

    assert preflight.status == 200
    assert preflight.header("access-control-allow-origin") == "https://team.dev.example.com"
    assert preflight.header("access-control-allow-methods") == "GET,POST"
    assert preflight.header("access-control-max-age") == "86400"
    assert actual.header("access-control-allow-origin") == "https://team.dev.example.com"
    assert actual.header("access-control-expose-headers") == "x-total"
    assert other.header("access-control-allow-origin") is None


async def test_rate_limits() -> None:
    async with running("Rate limits", ROUTES) as (proxy, _, _):
        client = await proxy.client()
        users = ["x-user: al"] * 3 + ["x-user: vip"] * 3
        answers = [await client.request(request(user)) for user in users]
        lines = await proxy.logged(6)

    assert [answer.status for answer in answers] == [200, 200, 429, 200, 200, 429]
    assert [answer.header("x-ratelimit-limit") for answer in answers] == ["2", "2", "2", "3", "3", "4"]
    assert [line.flags for line in lines] == ["-", "-", "RL", "-", "-", "RL"]


async def test_buffering() -> None:
    async with running("Buffering", ROUTES) as (proxy, shop, _):
        large = await proxy.exchange(request("content-length: 1001", method="POST", body=bytes(1001)))
        assert shop.received == []
        fitting = await proxy.exchange(request("content-length: 1000", method="POST", body=bytes(1000)))

    assert (large.status, large.body) == (413, b"Payload Too Large")
    assert fitting.status == 200


async def test_connection_pools() -> None:
    async with running("Connection pools", ROUTES) as (proxy, shop, _):
        client = await proxy.client()
        for _ in range(3):
            assert (await client.request(request())).status == 200
        (config,) = (one.config for one in proxy.worker.clusters.values())

    assert [received.count(b"GET / ") for received in shop.received] == [2, 1]
    assert (config.connect_timeout_s, config.idle_timeout_s, config.max_connection_duration_s) == (0.25, 4, 600)
    assert config.tcp_keepalive == TcpKeepalive(probes=3, time_s=60, interval_s=5)


async def test_tls(tmp_path: Path) -> None:
    ca = Ca()
    (tmp_path / "ca.pem").write_text(ca.pem)
    text = example("TLS").replace("/etc/certs/ca.pem", str(tmp_path / "ca.pem"))
    names = ("shop.example.com", "other.example.com")
    async with (
        secure_backend(server_context(ca.issue(names[0]))) as shop,
        secure_backend(server_context(Ca("another root").issue(*names))) as stranger,
    ):
        for server, status in ((shop, 200), (stranger, 503)):
            assert isinstance(server.address, SocketAddress)
            entry = service_entry("shop", port=server.address.port)
            async with gateway(snapshot_of(INGRESS, entry, text, ROUTES, publish={80: LOCALHOST})) as proxy:
                proxy.worker.addresses["http"] = next(iter(proxy.worker.addresses.values()))
                assert (await proxy.exchange(request())).status == status

    assert shop.names == ["shop.example.com"]
    assert [b"GET" in received for received in (*shop.received, *stranger.received)] == [True, False, False, False]


async def test_circuit_breakers() -> None:
    holding = Holding()
    async with running("Circuit breakers", ROUTES, script=holding) as (proxy, _, _):
        (cluster,) = proxy.worker.clusters.values()
        breakers = cluster.stats.breakers
        clients = [await proxy.client() for _ in range(3)]
        for number, client in enumerate(clients[:2], 1):
            await client.send(request())
            await until(lambda: holding.held == number)  # noqa: B023
        await clients[2].send(request())
        await until(lambda: breakers["rq_pending"].active == 1)

        refused = await proxy.exchange(request())
        await holding.answer(3)
        answers = [await client.response() for client in clients]
        lines = await proxy.logged(4)

    assert (refused.status, refused.header("x-envoy-overloaded")) == (503, "true")
    assert [answer.status for answer in answers] == [200, 200, 200]
    assert sorted(line.flags for line in lines) == ["-", "-", "-", "UO"]
    assert "upstream_reset_before_response_started{overflow}" in [line.details for line in lines]


async def hangs(connection: Peer) -> None:
    await connection.ended()


async def test_timeouts(mock_clock: trio.testing.MockClock) -> None:
    async with running("Timeouts", script=hangs) as (proxy, shop, _):
        client = await proxy.client()
        await client.send(request())
        await until(lambda: shop.received and shop.received[0].endswith(b"\r\n\r\n"))
        mock_clock.jump(0.11)
        answer = await client.response()
        [line] = await proxy.logged()

    assert (answer.status, answer.body) == (504, b"upstream request timeout")
    assert (line.flags, line.details) == ("UT", "response_timeout")
    assert b"x-envoy-expected-rq-timeout-ms: 100\r\n" in shop.received[0]


async def test_retries() -> None:
    busy = [b"HTTP/1.1 %d X\r\ncontent-length: 0\r\n\r\n" % status for status in (503, 409)]
    async with running("Retries", script=answers(*busy, OK)) as (proxy, shop, _):
        answer = await proxy.exchange(request("content-length: 5", method="POST", body=b"hello"))
        [cluster] = proxy.worker.clusters.values()

    assert answer.status == 200
    assert [b"x-envoy-attempt-count: %d\r\n" % attempt in shop.received[0] for attempt in (1, 2, 3, 4)] == [
        *(True, True, True, False)
    ]
    assert (cluster.stats.retries, cluster.stats.retry_success) == (2, 1)
