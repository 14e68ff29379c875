"""Bodies on their way: both directions at the same time, each no faster than its reader, nothing buffered whole."""

from __future__ import annotations

import socket
import tracemalloc
from collections.abc import Iterator
from contextlib import contextmanager, suppress

import pytest
import trio
import trio.testing

from .support import GET, Client, Holding, Peer, backend, cluster, gateway, snapshot, until

pytestmark = pytest.mark.usefixtures("either_way")

MEGABYTE = 1 << 20
SIZE = 32 * MEGABYTE
PIECE = bytes(65536)
# What the kernel holds at most on its way: the send and receive buffers of two loopback connections.
IN_KERNEL = 20 * MEGABYTE
IN_PROXY = 2 * MEGABYTE  # each way, the piece being sent and the next
POST = b"POST / HTTP/1.1\r\nHost: h\r\nContent-Length: %d\r\n\r\n" % SIZE
CHUNKED_POST = b"POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n"
OK_HEAD = b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n" % SIZE


class Counted:
    """Sends and discards large bodies, and counts them; nothing of them is kept."""

    def __init__(self) -> None:
        self.sent = 0
        self.received = 0

    async def send(self, peer: Peer, size: int = SIZE) -> None:
        while self.sent < size:
            piece = PIECE[: size - self.sent]
            self.sent += await peer.socket.send(piece)

    async def discard(self, peer: Peer, size: int = SIZE) -> None:
        while self.received < size and (data := await peer.socket.recv(65536)):
            self.received += len(data)


@contextmanager
def bounded_memory() -> Iterator[None]:
    tracemalloc.start()
    try:
        before, _ = tracemalloc.get_traced_memory()
        yield
        _, peak = tracemalloc.get_traced_memory()
        assert peak - before < IN_PROXY
    finally:
        tracemalloc.stop()


async def test_a_slow_reader_of_a_response_slows_the_upstream() -> None:
    async def script(connection: Peer) -> None:
        await connection.message()
        await connection.send(OK_HEAD)
        await body.send(connection)
        await connection.ended()

    body = Counted()
    async with backend(script) as server, gateway(snapshot(server)) as proxy:
        client = await proxy.client(receive_buffer=4096)
        with bounded_memory():
            await client.send(GET)
            await trio.testing.wait_all_tasks_blocked(0.02)
            assert 0 < body.sent < IN_KERNEL
        head = await client.read_until(b"\r\n\r\n")
        body.received = len(client.received) - len(head)
        await body.discard(client)
        assert body.received == SIZE
        (line,) = await proxy.logged()
        assert line.sent == SIZE


async def test_a_slow_reader_of_a_request_slows_the_client() -> None:
    async def script(connection: Peer) -> None:
        await connection.read_until(b"\r\n\r\n")
        upstream.received = len(connection.received) - len(connection.received.partition(b"\r\n\r\n")[0]) - 4
        await go_on.wait()
        await upstream.discard(connection)
        await connection.send(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n")
        await connection.ended()

    body, upstream, go_on = Counted(), Counted(), trio.Event()
    async with backend(script) as server, gateway(snapshot(server)) as proxy, trio.open_nursery() as nursery:
        client = await proxy.client()
        with bounded_memory():
            await client.send(POST)
            nursery.start_soon(body.send, client)
            await trio.testing.wait_all_tasks_blocked(0.02)
            assert 0 < body.sent < IN_KERNEL
        go_on.set()
        assert (await client.response()).status == 200
        assert upstream.received == SIZE
        (line,) = await proxy.logged()
        assert line.received == SIZE


async def test_large_bodies_go_both_ways_at_once() -> None:
    async def echo(connection: Peer) -> None:
        head = await connection.read_until(b"\r\n\r\n")
        early = await connection.read(len(connection.received) - len(head))
        await connection.send(OK_HEAD + early)
        left = SIZE - len(early)
        while left:
            data = await connection.socket.recv(65536)
            await connection.send(data)
            left -= len(data)
        await connection.ended()

    async with backend(echo) as server, gateway(snapshot(server)) as proxy, trio.open_nursery() as nursery:
        client = await proxy.client()
        body = Counted()
        with bounded_memory():
            await client.send(POST)
            nursery.start_soon(body.send, client)
            head = await client.read_until(b"\r\n\r\n")
            body.received = len(client.received) - len(head)
            await body.discard(client)
        assert (body.sent, body.received) == (SIZE, SIZE)
        (line,) = await proxy.logged()
        assert (line.received, line.sent, line.flags) == (SIZE, SIZE, "-")


async def test_request_and_response_can_take_turns_piece_by_piece() -> None:
    async def echo(connection: Peer) -> None:
        await connection.read_until(b"\r\n\r\n")
        await connection.send(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n")
        while (line := await connection.read_until(b"\r\n")) != b"0\r\n":
            await connection.send(line + await connection.read(int(line, 16) + 2))
        await connection.send(b"0\r\n\r\n")
        await connection.ended()

    async with backend(echo) as server, gateway(snapshot(server)) as proxy:
        client = await proxy.client()
        await client.send(CHUNKED_POST)
        head = await client.read_until(b"\r\n\r\n")
        assert b"connection: close\r\n" in head
        assert b"x-envoy-upstream-service-time" not in head
        for word in (b"ping", b"pong"):
            await client.send(b"4\r\n%b\r\n" % word)
            assert await client.read(9) == b"4\r\n%b\r\n" % word
        await client.send(b"0\r\n\r\n")
        assert await client.read_all() == b"0\r\n\r\n"
        (line,) = await proxy.logged()
        assert (line.received, line.sent, line.service_time) == (8, 8, "-")


async def answers_early(connection: Peer) -> None:
    await connection.read_until(b"\r\n\r\n")
    await connection.send(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok")
    await connection.ended()


@pytest.mark.parametrize(
    "begun",
    [POST, POST + b"he", CHUNKED_POST, CHUNKED_POST + b"2\r\nhe\r\n"],
    ids=["length", "length and some", "chunked", "chunked and some"],
)
async def test_a_response_before_the_end_of_its_request_closes_both_connections(begun: bytes) -> None:
    async with backend(answers_early) as server, gateway(snapshot(server)) as proxy:
        client = await proxy.client()
        answer = await client.request(begun)
        assert (answer.status, answer.body, answer.header("connection")) == (200, b"ok", "close")
        assert answer.header("x-envoy-upstream-service-time") is None
        assert await server.connections[0].ended()
        await client.send(b"late" + GET)
        assert await client.ended() == "closed"
        (line,) = await proxy.logged()
        assert (line.status, line.flags, line.details) == (200, "-", "via_upstream")


async def test_an_early_response_ends_a_request_that_its_upstream_does_not_read() -> None:
    async def script(connection: Peer) -> None:
        await connection.read_until(b"\r\n\r\n")
        await stuck.wait()
        await connection.send(b"HTTP/1.1 413 Payload Too Large\r\ncontent-length: 2\r\n\r\nno")
        await done.wait()

    async def upload(client: Client) -> None:
        with suppress(OSError, trio.ClosedResourceError):
            await client.send(POST)
            await body.send(client)

    body, stuck, done = Counted(), trio.Event(), trio.Event()
    async with backend(script) as server, gateway(snapshot(server)) as proxy, trio.open_nursery() as nursery:
        client = await proxy.client()
        nursery.start_soon(upload, client)
        await trio.testing.wait_all_tasks_blocked(0.02)
        assert 0 < body.sent < SIZE
        stuck.set()
        answer = await client.response()
        assert (answer.status, answer.body, answer.header("connection")) == (413, b"no", "close")
        done.set()
        (line,) = await proxy.logged()
        assert (line.status, line.flags) == (413, "-")
        client.close()


async def test_a_response_that_streams_on_after_its_request_has_ended_keeps_the_connection() -> None:
    async def script(connection: Peer) -> None:
        await connection.message()
        await connection.send(b"HTTP/1.1 200 OK\r\ncontent-length: 6\r\n\r\nabc")
        await go_on.wait()
        await connection.send(b"def")
        await connection.message()
        await connection.send(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n")
        await connection.ended()

    go_on = trio.Event()
    async with backend(script) as server, gateway(snapshot(server)) as proxy:
        client = await proxy.client()
        await client.send(CHUNKED_POST + b"0\r\n\r\n")
        await client.read_until(b"abc")
        client._read = 0
        go_on.set()
        answer = await client.response()
        assert (answer.body, answer.header("connection")) == (b"abcdef", None)
        assert (await client.request(GET)).status == 200
        assert len(server.connections) == 1


async def test_pieces_are_passed_on_as_they_come() -> None:
    async def script(connection: Peer) -> None:
        await connection.message()
        await connection.send(b"HTTP/1.1 200 OK\r\n\r\n")
        for piece in (b"one", b"two"):
            await connection.send(piece)
            await seen.pop().wait()

    seen = [trio.Event(), trio.Event()]
    events = list(reversed(seen))
    async with backend(script) as server, gateway(snapshot(server)) as proxy:
        client = await proxy.client()
        await client.send(GET)
        await client.read_until(b"\r\n\r\n")
        for piece, event in zip((b"one", b"two"), events, strict=True):
            assert await client.read(8) == b"3\r\n%b\r\n" % piece
            event.set()
        assert await client.read(5) == b"0\r\n\r\n"


async def test_a_client_that_reads_nothing_gets_all_in_the_end_when_its_buffers_are_small() -> None:
    async def script(connection: Peer) -> None:
        connection.socket.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
        await connection.message()
        await connection.send(OK_HEAD.replace(b"%d" % SIZE, b"1000000") + bytes(1_000_000))
        done.set()
        await connection.ended()

    done = trio.Event()
    async with backend(script) as server, gateway(snapshot(server)) as proxy:
        client = await proxy.client(receive_buffer=4096)
        await client.send(GET)
        await until(lambda: proxy.hosts[0].active)
        answer = await client.response()
        assert (len(answer.body), answer.whole) == (1_000_000, True)
        assert done.is_set()


async def test_a_request_under_way_may_be_quiet_for_hours(mock_clock: trio.testing.MockClock) -> None:
    holding = Holding()
    async with backend(holding) as server, gateway(snapshot(cluster(server))) as running:
        client = await running.client()
        await client.send(GET)
        await until(lambda: holding.held)
        for _ in range(3):
            mock_clock.jump(5 * 3600.0)
            await trio.testing.wait_all_tasks_blocked()  # the sweeps of what is idle have been here
        await holding.answer()
        assert (await client.response()).status == 200
