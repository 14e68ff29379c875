"""A cluster without endpoints: requests go where their authority says."""

from __future__ import annotations

from dataclasses import replace

import pytest
import trio
import trio.testing

from meshproxy.proxy.http.failures import INVALID_AUTHORITY, Failure
from meshproxy.proxy.upstream.forward_proxy import destination_of, reached
from meshproxy.snapshot import CircuitBreakers, Cluster, SocketAddress

from .support import CLUSTER, Gateway, Holding, backend, gateway, snapshot, until
from .test_dns import Names

PASSTHROUGH = Cluster(CLUSTER, (), "DYNAMIC_FORWARD_PROXY")


def get(authority: str) -> bytes:
    return f"GET / HTTP/1.1\r\nhost: {authority}\r\n\r\n".encode()


def destinations(proxy: Gateway) -> list[str]:
    return [host.name for host in proxy.worker.clusters[CLUSTER].hosts]


@pytest.mark.parametrize(
    ("authority", "host", "port"),
    [
        (b"example.com", "example.com", 80),
        (b"example.com:8080", "example.com", 8080),
        (b"EXAMPLE.com:", "example.com", 80),
        (b"127.0.0.1:1", "127.0.0.1", 1),
        (b"[::1]", "::1", 80),
        (b"[::1]:65535", "::1", 65535),
        (b"user:secret@example.com:81", "example.com", 81),
    ],
)
def test_the_destination_is_what_the_authority_names(authority: bytes, host: str, port: int) -> None:
    assert destination_of(authority) == SocketAddress(host, port)


@pytest.mark.parametrize("authority", [b"", b":80", b"a:b", b"a:65536", b"a:-1", b"[]:80", b"a:" + b"1" * 5000])
def test_an_authority_that_names_nothing_is_refused(authority: bytes) -> None:
    with pytest.raises(Failure) as failure:
        destination_of(authority)
    assert failure.value.kind is INVALID_AUTHORITY


async def test_requests_go_where_their_authorities_say(monkeypatch: pytest.MonkeyPatch) -> None:
    Names(monkeypatch, a=["127.0.0.1"], b=["127.0.0.1"])
    async with backend() as one, backend() as other, gateway(snapshot(PASSTHROUGH)) as proxy:
        to_one, to_other = f"a:{one.address.port}", f"b:{other.address.port}"  # type: ignore[union-attr]
        for authority in (to_one, to_other, to_one):
            assert (await proxy.exchange(get(authority))).status == 200
        assert len(one.received) == len(other.received) == 1
        assert one.received[0].count(b"host: " + to_one.encode()) == 2


async def test_a_name_is_looked_up_again_after_a_minute(
    monkeypatch: pytest.MonkeyPatch, mock_clock: trio.testing.MockClock
) -> None:
    names = Names(monkeypatch, a=["127.0.0.1"])
    async with backend() as server, gateway(snapshot(PASSTHROUGH)) as proxy:
        request = get(f"a:{server.address.port}")  # type: ignore[union-attr]
        await proxy.exchange(request)
        await proxy.exchange(request)
        assert names.asked == 1

        mock_clock.jump(61)
        await proxy.exchange(request)

        assert names.asked == 2


async def test_a_name_that_nobody_knows_is_503_df(monkeypatch: pytest.MonkeyPatch) -> None:
    Names(monkeypatch, a=OSError("no such name"))
    async with gateway(snapshot(PASSTHROUGH)) as proxy:
        answer = await proxy.exchange(get("a"))
        [line] = await proxy.logged()

    assert (answer.status, line.flags, line.details) == (503, "DF", "dns_resolution_failure")


@pytest.mark.parametrize("host", ["127.0.0.1", "0.0.0.0", "0", "[::ffff:127.0.0.1]", "localhost", "127.1"])
async def test_a_request_that_leads_back_here_is_not_sent_round_and_round(host: str) -> None:
    async with gateway(snapshot(PASSTHROUGH)) as proxy:
        answer = await proxy.exchange(get(f"{host}:{proxy.address.port}"))
        [line] = await proxy.logged()

    assert (answer.status, line.details) == (508, "request_leads_back_here")


@pytest.mark.parametrize(
    ("address", "end"),
    [
        ("0.0.0.0", "127.0.0.1"),
        ("::", "::1"),
        ("::ffff:192.0.2.1", "192.0.2.1"),
        ("::ffff:0.0.0.0", "127.0.0.1"),
        ("192.0.2.1", "192.0.2.1"),
        ("2001:db8::1", "2001:db8::1"),
    ],
)
def test_an_address_is_told_by_where_it_leads(address: str, end: str) -> None:
    assert reached(SocketAddress(address, 80)) == SocketAddress(end, 80)


async def test_clients_cannot_make_it_remember_without_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("meshproxy.proxy.upstream.forward_proxy._MAX_DESTINATIONS", 3)
    Names(monkeypatch, **{name: ["127.0.0.1"] for name in "abcde"})
    async with backend() as server, gateway(snapshot(PASSTHROUGH)) as proxy:
        port = server.address.port  # type: ignore[union-attr]
        for name in "abcade":
            await proxy.exchange(get(f"{name}:{port}"))

        assert len(destinations(proxy)) == 3
        await until(lambda: sum(host.connections for host in proxy.worker.clusters[CLUSTER].hosts) == 3)


async def test_a_destination_that_is_forgotten_while_it_is_looked_up_keeps_no_connection(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("meshproxy.proxy.upstream.forward_proxy._MAX_DESTINATIONS", 1)
    names = Names(monkeypatch, slow=["127.0.0.1"], other=["127.0.0.1"])
    names.wait["slow"] = trio.Event()
    async with backend() as server, backend() as another, gateway(snapshot(PASSTHROUGH)) as proxy:
        client = await proxy.client()
        await client.send(get(f"slow:{server.address.port}"))  # type: ignore[union-attr]
        await until(lambda: names.asked)
        assert (await proxy.exchange(get(f"other:{another.address.port}"))).status == 200  # type: ignore[union-attr]
        names.wait["slow"].set()

        assert (await client.response()).status == 200
        assert await server.connections[0].ended() == "closed"


async def test_all_destinations_share_the_limits() -> None:
    holding = Holding()
    limited = replace(PASSTHROUGH, circuit_breakers=CircuitBreakers(max_requests=1), max_requests_per_connection=1)
    async with backend(holding) as one, backend(holding) as other, gateway(snapshot(limited)) as proxy:
        client = await proxy.client()
        await client.send(get(f"127.0.0.1:{one.address.port}"))  # type: ignore[union-attr]
        await until(lambda: holding.held)

        refused = await proxy.exchange(get(f"127.0.0.1:{other.address.port}"))  # type: ignore[union-attr]
        await holding.answer()

        assert (refused.status, (await client.response()).status) == (503, 200)
        await until(lambda: one.connections[0].end)
