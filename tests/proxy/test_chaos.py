"""Many clients and upstreams that do what they like at the same time: nothing leaks, and nothing is a fault of ours."""

from __future__ import annotations

import random
from contextlib import suppress

import pytest
import trio

from .support import GET, OK, Gateway, Peer, Script, backend, cluster, gateway, snapshot

PLAIN = b"POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 5\r\n\r\nhello"
STREAMED = b"POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n"
UPGRADE = b"GET / HTTP/1.1\r\nHost: h\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\nsome words"
LARGE = b"POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 500000\r\n\r\n" + bytes(500_000)
HTTP_1_0 = b"GET / HTTP/1.0\r\nhost: h\r\n\r\n"
REQUESTS = (GET, PLAIN, STREAMED, UPGRADE, LARGE, GET * 5, STREAMED + GET, HTTP_1_0, b"bad\r\n\r\n")
RESPONSES = (
    OK,
    b"HTTP/1.1 103 Early Hints\r\n\r\n" + OK,
    b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n",
    b"HTTP/1.1 200 OK\r\n\r\nuntil the close",
    b"HTTP/1.1 200 OK\r\ncontent-length: 300000\r\n\r\n" + bytes(300_000),
    b"HTTP/1.1 101 Switching Protocols\r\nupgrade: websocket\r\nconnection: upgrade\r\n\r\nwords",
    b"garbage\r\n\r\n",
)


class Chaos:
    def __init__(self, seed: int) -> None:
        self._random = random.Random(seed)

    async def pause(self) -> None:
        for _ in range(self._random.choice((0, 0, 0, 1, 3, 10))):
            await trio.lowlevel.checkpoint()

    async def send(self, peer: Peer, data: bytes) -> bool:
        """Send it in pieces; False when it was not sent whole."""
        whole = self._random.random() < 0.8
        if not whole:
            data = data[: self._random.randrange(len(data))]
        while data:
            cut = self._random.choice((len(data), self._random.randrange(1, len(data) + 1)))
            await peer.send(data[:cut])
            data = data[cut:]
            await self.pause()
        return whole

    def end(self, peer: Peer) -> None:
        self._random.choice((peer.close, peer.reset, peer.send_end))()

    def script(self) -> Script:
        async def script(connection: Peer) -> None:
            while self._random.random() < 0.9 and await connection.read_some():
                await self.pause()
                if not await self.send(connection, self._random.choice(RESPONSES)):
                    break
            self.end(connection)

        return script

    async def client(self, proxy: Gateway) -> None:
        client = await proxy.client()
        with suppress(OSError, EOFError, trio.ClosedResourceError):
            while self._random.random() < 0.8:
                whole = await self.send(client, self._random.choice(REQUESTS))
                if not whole or self._random.random() < 0.3:
                    await self.pause()
                    break
                with trio.move_on_after(0.02):
                    await client.read_some()
            self.end(client)
        await self.pause()
        client.close()


@pytest.mark.parametrize("seed", range(2))
async def test_nothing_leaks_in_chaos(seed: int) -> None:
    chaos = Chaos(seed)
    async with backend(chaos.script()) as one, backend(chaos.script()) as other:
        config = snapshot(cluster(one, other))
        async with gateway(config) as proxy:
            for _ in range(10):
                async with trio.open_nursery() as nursery:
                    for _ in range(20):
                        nursery.start_soon(chaos.client, proxy)
            for server in (one, other):
                for connection in server.connections:
                    connection.close()
