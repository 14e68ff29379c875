"""Upgraded connections: relayed both ways once the upstream has agreed, not a byte before (RFC 9110, section 7.8)."""

from __future__ import annotations

import pytest
import trio

from .support import GET, Peer, answers, backend, gateway, snapshot, stable, until

UPGRADE = (
    b"GET /chat HTTP/1.1\r\nHost: h\r\nConnection: keep-alive, Upgrade\r\nUpgrade: websocket\r\n"
    b"Sec-WebSocket-Key: k\r\n\r\n"
)
AGREED = (
    b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: z\r\n\r\n"
)


async def agrees_and_echoes(connection: Peer) -> None:
    await connection.read_until(b"\r\n\r\n")
    await connection.send(AGREED + b"hello")
    while word := await connection.read_some():
        await connection.send(word)
    await connection.send(b"bye")


async def test_an_upgrade_is_relayed_both_ways_until_the_client_has_no_more_to_say() -> None:
    async with backend(agrees_and_echoes) as server, gateway(snapshot(server)) as proxy:
        client = await proxy.client()
        await client.send(UPGRADE)
        assert stable(await client.read_until(b"\r\n\r\n")) == (
            b"HTTP/1.1 101 Switching Protocols\r\nupgrade: websocket\r\nconnection: Upgrade\r\n"
            b"sec-websocket-accept: z\r\ndate: <DATE>\r\nserver: meshproxy\r\n\r\n"
        )
        assert await client.read(5) == b"hello"
        for word in (b"ping", GET):
            await client.send(word)
            assert await client.read(len(word)) == word
        client.send_end()
        assert await client.read_all() == b"bye"
        assert client.end == "closed"
        (line,) = await proxy.logged()
        assert (line.status, line.received, line.sent) == (101, 4 + len(GET), 5 + 4 + len(GET) + 3)
        request, _, said = server.received[0].partition(b"\r\n\r\n")
        assert b"\r\nconnection: keep-alive, Upgrade\r\nupgrade: websocket" in request
        assert said == b"ping" + GET


async def test_an_upgrade_ends_when_the_upstream_has_no_more_to_say() -> None:
    async def script(connection: Peer) -> None:
        await connection.read_until(b"\r\n\r\n")
        await connection.send(AGREED + b"bye")

    async with backend(script) as server, gateway(snapshot(server)) as proxy:
        client = await proxy.client()
        await client.send(UPGRADE)
        await client.read_until(b"\r\n\r\n")
        assert await client.read_all() == b"bye"
        assert client.end == "closed"


async def test_an_upgrade_that_breaks_off_is_reset() -> None:
    async def script(connection: Peer) -> None:
        await connection.read_until(b"\r\n\r\n")
        await connection.send(AGREED)
        await connection.read(4)
        connection.reset()

    async with backend(script) as server, gateway(snapshot(server)) as proxy:
        client = await proxy.client()
        await client.send(UPGRADE)
        await client.read_until(b"\r\n\r\n")
        await client.send(b"ping")
        assert await client.ended() == "reset"
        (line,) = await proxy.logged()
        assert line.flags == "UPE"


async def test_a_client_that_resets_ends_the_upgrade() -> None:
    async with backend(agrees_and_echoes) as server, gateway(snapshot(server)) as proxy:
        client = await proxy.client()
        await client.send(UPGRADE)
        await client.read_until(b"hello")
        client.reset()
        await until(lambda: server.connections[0].end)
        (line,) = await proxy.logged()
        assert (line.status, line.flags) == (101, "DC")


async def test_what_a_client_says_early_is_kept_until_the_upstream_agrees() -> None:
    async def script(connection: Peer) -> None:
        await connection.read_until(b"\r\n\r\n")
        await agree.wait()
        assert connection.received.endswith(b"\r\n\r\n"), "nothing may follow the head yet"
        await connection.send(AGREED)
        await connection.read(len(GET + GET))

    agree = trio.Event()
    async with backend(script) as server, gateway(snapshot(server)) as proxy:
        client = await proxy.client()
        await client.send(UPGRADE + GET)
        await until(lambda: any(one._watcher for one in proxy.connections))
        await client.send(GET)
        await until(lambda: any(one.buffer == GET + GET for one in proxy.connections))
        agree.set()
        assert (await client.response()).status == 101
        await client.ended()
        assert server.received[0].endswith(b"\r\n\r\n" + GET + GET)
        await proxy.logged(1)


@pytest.mark.parametrize(
    ("refusal", "body"),
    [
        (b"HTTP/1.1 403 Forbidden\r\ncontent-length: 2\r\n\r\nno", b"no"),
        (b"HTTP/1.1 404 Not Found\r\ntransfer-encoding: chunked\r\n\r\n2\r\nno\r\n0\r\n\r\n", b"no"),
        (b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nno", b""),
        (b"HTTP/1.1 302 Found\r\ncontent-length: 2\r\n\r\nno", b""),
        (b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\nno\r\n0\r\n\r\n", b""),
    ],
    ids=["403", "404 in chunks", "200", "302", "200 in chunks"],
)
async def test_a_refused_upgrade_ends_the_connection_and_what_was_said_early_reaches_nobody(
    refusal: bytes, body: bytes
) -> None:
    async with backend(answers(refusal)) as server, gateway(snapshot(server)) as proxy:
        client = await proxy.client()
        await client.send(UPGRADE + GET)
        answer = await client.response()
        assert (answer.status, answer.body, answer.header("connection")) == (int(refusal[9:12]), body, "close")
        assert await client.read_all() == b""
        assert [received.count(b"GET") for received in server.received] == [1]
        (line,) = await proxy.logged()
        assert (line.status, line.flags) == (int(refusal[9:12]), "-")


async def test_an_upgrade_to_another_protocol_is_refused() -> None:
    async with backend() as server, gateway(snapshot(server)) as proxy:
        client = await proxy.client()
        answer = await client.request(UPGRADE.replace(b"Upgrade: websocket", b"Upgrade: foo") + GET)
        assert (answer.status, answer.body, answer.header("connection")) == (403, b"", "close")
        assert await client.read_all() == b""
        (line,) = await proxy.logged()
        assert (line.status, line.details) == (403, "upgrade_failed")
        assert server.connections == []


@pytest.mark.parametrize(
    "request_",
    [
        UPGRADE.replace(b"Upgrade: websocket", b"Upgrade: h2c"),
        UPGRADE.replace(b"keep-alive, Upgrade", b"keep-alive"),
        UPGRADE.replace(b"HTTP/1.1", b"HTTP/1.0"),
        UPGRADE.replace(b"GET", b"POST").replace(b"\r\n\r\n", b"\r\nContent-Length: 2\r\n\r\nhe"),
    ],
    ids=["h2c", "not in Connection", "HTTP/1.0", "with a body"],
)
async def test_some_upgrades_are_ignored(request_: bytes) -> None:
    async with backend() as server, gateway(snapshot(server)) as proxy:
        client = await proxy.client()
        assert [(await client.request(request_)).status for _ in range(2)] == [200, 200]
        assert b"upgrade:" not in server.received[0].replace(b"x-upgrade", b"")


async def test_what_follows_a_connect_is_no_request() -> None:
    async with backend() as server, gateway(snapshot(server)) as proxy:
        client = await proxy.client()
        answer = await client.request(b"CONNECT real.test:443 HTTP/1.1\r\nHost: real.test:443\r\n\r\n" + GET)
        assert (answer.status, answer.header("connection")) == (404, "close")
        assert await client.read_all() == b""
        (line,) = await proxy.logged()
        assert (line.status, line.flags) == (404, "NR")
        assert server.connections == []
