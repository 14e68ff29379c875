"""Large bodies go from socket to socket inside the kernel, and nobody can tell but by the cost."""

from __future__ import annotations

import errno
import fcntl
import os
import random
import socket
from collections.abc import Callable, Iterator
from contextlib import suppress

import pytest
import trio
import trio.testing

from meshproxy.proxy import splice

from .support import GET, OK, Peer, Script, backend, gateway, snapshot, until

KB = 1024
# Around what is received at once, what is worth splicing, what is copied at once, and what a pipe holds.
SIZES = [
    size + more
    for size in (64 * KB, 128 * KB, 192 * KB, 256 * KB, 320 * KB, 1024 * KB, 1088 * KB, 3000 * KB)
    for more in (-1, 0, 1)
]
LARGE = 700 * KB
UPGRADE = b"GET / HTTP/1.1\r\nHost: h\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n"
SWITCHING = b"HTTP/1.1 101 Switching Protocols\r\nupgrade: websocket\r\nconnection: upgrade\r\n\r\n"

either_way = pytest.mark.usefixtures("either_way")


def payload(size: int) -> bytes:
    return random.Random(size).randbytes(size)


def head(size: int) -> bytes:
    return b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n" % size


def post(body: bytes, length: int | None = None) -> bytes:
    return b"POST / HTTP/1.1\r\nhost: h.test\r\ncontent-length: %d\r\n\r\n" % (length or len(body)) + body


async def send_in_pieces(peer: Peer, data: bytes) -> None:
    """Send it cut anywhere, now and then pausing until all of that has gone as far as it goes."""
    chance = random.Random(len(data))
    while data:
        size = chance.choice((1, 1000, 65536, 300_000, len(data)))
        await peer.send(data[:size])
        data = data[size:]
        if chance.random() < 0.5:
            await trio.testing.wait_all_tasks_blocked()


@pytest.fixture
def through_pipes(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[int]]:
    """How many bytes each filling of a pipe took."""
    if not splice._works():
        pytest.skip("this system cannot splice sockets")
    filled: list[int] = []

    def fill(self: splice.Pipe, source: int, most: int) -> None:
        original(self, source, most)
        filled.append(self.held)

    original = splice.Pipe.fill
    monkeypatch.setattr(splice.Pipe, "fill", fill)
    yield filled
    assert not splice._in_use


@either_way
@pytest.mark.parametrize("size", SIZES)
async def test_a_response_arrives_byte_for_byte_and_the_next_behind_it(size: int) -> None:
    async def script(connection: Peer) -> None:
        for _ in range(2):
            await connection.message()
            await send_in_pieces(connection, head(size) + body)
        await connection.ended()

    body = payload(size)
    async with backend(script) as server, gateway(snapshot(server)) as proxy:
        client = await proxy.client()
        for _ in range(2):
            answer = await client.request(GET)
            assert (answer.status, answer.body == body) == (200, True)
        assert len(server.connections) == 1
        assert [(line.sent, line.flags) for line in await proxy.logged(2)] == [(size, "-")] * 2


@either_way
@pytest.mark.parametrize("size", SIZES)
async def test_a_request_arrives_byte_for_byte_and_the_next_behind_it(size: int) -> None:
    async def script(connection: Peer) -> None:
        for _ in range(3):
            received.append((await connection.message()).partition(b"\r\n\r\n")[2])
            await connection.send(OK)
        await connection.ended()

    received: list[bytes] = []
    body = payload(size)
    async with backend(script) as server, gateway(snapshot(server)) as proxy, trio.open_nursery() as nursery:
        client = await proxy.client()
        nursery.start_soon(send_in_pieces, client, post(body) + post(body) + GET)
        assert [(await client.response()).status for _ in range(3)] == [200] * 3
        assert [one == body for one in received[:2]] == [True, True]
        assert len(server.connections) == 1
        assert [line.received for line in await proxy.logged(3)] == [size, size, 0]


@either_way
async def test_a_large_body_up_to_the_close_arrives_byte_for_byte() -> None:
    async def script(connection: Peer) -> None:
        await connection.message()
        await send_in_pieces(connection, b"HTTP/1.1 200 OK\r\n\r\n" + body)

    body = payload(3_000_000)
    for request in (b"GET / HTTP/1.0\r\nhost: h\r\n\r\n", GET):
        async with backend(script) as server, gateway(snapshot(server)) as proxy:
            answer = await proxy.exchange(request)
            assert (answer.status, answer.body == body, answer.whole) == (200, True, True)
            (line,) = await proxy.logged()
            assert line.sent == len(body)


@either_way
async def test_large_and_small_pieces_of_an_upgraded_connection_arrive_in_order_and_at_once() -> None:
    async def echo(connection: Peer) -> None:
        await connection.read_until(b"\r\n\r\n")
        await connection.send(SWITCHING)
        while data := await connection.read_some():
            await connection.send(data)

    async with backend(echo) as server, gateway(snapshot(server)) as proxy:
        client = await proxy.client()
        await client.send(UPGRADE)
        await client.read_until(b"\r\n\r\n")
        for size in (5, 2_000_000, 7, 100_000, 65536, 3):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(client.send, payload(size))
                assert await client.read(size) == payload(size)
        client.send_end()
        assert await client.ended() == "closed"
        (line,) = await proxy.logged()
        assert line.received == line.sent == 2_165_551


async def test_most_of_a_large_response_does_not_enter_the_process(through_pipes: list[int]) -> None:
    async with backend(answers_large) as server, gateway(snapshot(server)) as proxy:
        answer = await proxy.exchange(GET)
        assert len(answer.body) == LARGE
        assert LARGE - 64 * KB <= sum(through_pipes) <= LARGE


async def answers_large(connection: Peer) -> None:
    await connection.message()
    await connection.send(head(LARGE))
    await connection.send(bytes(LARGE))
    await connection.ended()


async def test_most_of_a_large_request_does_not_enter_the_process(through_pipes: list[int]) -> None:
    async with backend() as server, gateway(snapshot(server)) as proxy:
        client = await proxy.client()
        assert (await client.request(post(bytes(LARGE)))).status == 200
        assert LARGE - 320 * KB <= sum(through_pipes) <= LARGE


async def test_a_small_body_has_no_pipe(through_pipes: list[int]) -> None:
    async def script(connection: Peer) -> None:
        await connection.message()
        await send_in_pieces(connection, head(100_000) + bytes(100_000))
        await connection.ended()

    async with backend(script) as server, gateway(snapshot(server)) as proxy:
        assert len((await proxy.exchange(GET)).body) == 100_000
        assert not through_pipes


def closes(connection: Peer) -> None:
    connection.close()


def resets(connection: Peer) -> None:
    connection.reset()


@either_way
@pytest.mark.parametrize("end", [closes, resets])
@pytest.mark.parametrize("arrived", [0, 1, 64 * KB, 300 * KB, LARGE - 1])
async def test_a_response_that_breaks_off_is_told_of(arrived: int, end: Callable[[Peer], None]) -> None:
    async def script(connection: Peer) -> None:
        await connection.message()
        await connection.send(head(LARGE) + payload(LARGE)[:arrived])
        # A reset may overtake what was sent before it.
        await until(lambda: len(client.received) - client.received.find(b"\r\n\r\n") - 4 >= arrived)
        end(connection)

    async with backend(script) as server, gateway(snapshot(server)) as proxy, trio.open_nursery() as nursery:
        client = await proxy.client()
        nursery.start_soon(client.ended)
        await client.send(GET)
        await until(lambda: client.end)
        assert client.received.partition(b"\r\n\r\n")[2] == payload(LARGE)[:arrived]
        (line,) = await proxy.logged()
        assert (line.status, line.flags, line.sent) == (200, "UPE", arrived)


@either_way
@pytest.mark.parametrize("leave", [closes, resets, Peer.send_end])
@pytest.mark.parametrize("arrived", [0, 1, 64 * KB, 300 * KB, LARGE - 1])
async def test_a_request_that_breaks_off_ends_at_the_upstream_too(arrived: int, leave: Callable[[Peer], None]) -> None:
    async def script(connection: Peer) -> None:
        await connection.ended()

    async with backend(script) as server, gateway(snapshot(server)) as proxy:
        client = await proxy.client()
        await client.send(post(payload(LARGE)[:arrived], LARGE))
        upstream = await server.connected()
        await until(lambda: len(upstream.received) - upstream.received.find(b"\r\n\r\n") - 4 == arrived)
        leave(client)
        await upstream.ended()
        assert upstream.received.partition(b"\r\n\r\n")[2] == payload(LARGE)[:arrived]
        (line,) = await proxy.logged()
        assert (line.status, line.flags, line.received) == (0, "DC", arrived)


@either_way
async def test_an_upstream_that_leaves_during_an_upload_is_503() -> None:
    async def script(connection: Peer) -> None:
        await connection.read_until(b"\r\n\r\n")
        await connection.read(200_000)
        connection.reset()

    async with backend(script) as server, gateway(snapshot(server)) as proxy, trio.open_nursery() as nursery:
        client = await proxy.client()

        async def upload() -> None:
            with suppress(OSError):
                await client.send(post(bytes(20_000_000)))

        nursery.start_soon(upload)
        assert (await client.response()).status == 503
        (line,) = await proxy.logged()
        assert (line.status, line.flags) == (503, "UC")
        nursery.cancel_scope.cancel()


def streams(size: int) -> Script:
    async def script(connection: Peer) -> None:
        await connection.message()
        await connection.send(head(size))
        await connection.send(bytes(size))
        await connection.ended()

    return script


@either_way
async def test_what_a_client_took_before_it_left_is_what_was_sent() -> None:
    size = 30_000_000
    async with backend(streams(size)) as server, gateway(snapshot(server)) as proxy:
        client = await proxy.client(receive_buffer=4096)
        await client.send(GET)
        await client.read(500_000)
        client.reset()
        (line,) = await proxy.logged()
        assert (line.status, line.flags) == (200, "DC")
        assert 500_000 - 1000 <= line.sent < size


async def test_a_client_that_reads_nothing_holds_one_pipe_and_gives_it_back(through_pipes: list[int]) -> None:
    async with backend(streams(30_000_000)) as server, gateway(snapshot(server)) as proxy:
        client = await proxy.client(receive_buffer=4096)
        await client.send(GET)
        await server.connected()
        await trio.testing.wait_all_tasks_blocked(0.02)
        (held,) = splice._in_use
        assert 0 < held.held <= 1024 * KB
        client.reset()
        await proxy.logged()
        assert not splice._in_use
        assert held not in splice._idle, "what is in it must not go to another client"


async def test_a_client_that_waits_for_more_holds_no_pipe(through_pipes: list[int]) -> None:
    async def script(connection: Peer) -> None:
        await connection.message()
        await connection.send(head(LARGE) + bytes(LARGE - 10))
        await go_on.wait()
        await connection.send(bytes(10))

    go_on = trio.Event()
    async with backend(script) as server, gateway(snapshot(server)) as proxy:
        client = await proxy.client()
        await client.send(GET)
        await client.read(LARGE)
        await trio.testing.wait_all_tasks_blocked()
        assert through_pipes
        assert not splice._in_use
        go_on.set()
        await proxy.logged()


async def test_who_gets_no_pipe_is_served_all_the_same(
    through_pipes: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(splice, "_MAX_IN_USE", 1)
    size = 30_000_000
    async with backend(streams(size)) as server, gateway(snapshot(server)) as proxy:
        slow = await proxy.client(receive_buffer=4096)
        await slow.send(GET)
        await until(lambda: splice._in_use)
        await trio.testing.wait_all_tasks_blocked(0.02)
        other = await proxy.client()
        await other.send(GET)
        for client in (other, slow):
            length = len(await client.read_until(b"\r\n\r\n"))
            left = size + length - len(client.received)
            while left and (data := await client.socket.recv(1_000_000)):
                left -= len(data)
            assert not left
        await proxy.logged(2)


async def test_without_descriptors_for_a_pipe_bodies_are_copied(monkeypatch: pytest.MonkeyPatch) -> None:
    def pipe2(_: int) -> tuple[int, int]:
        raise OSError(errno.EMFILE, "too many")

    splice.close_idle()
    monkeypatch.setattr(os, "pipe2", pipe2)
    async with backend(answers_large) as server, gateway(snapshot(server)) as proxy:
        assert len((await proxy.exchange(GET)).body) == LARGE


async def test_a_smaller_pipe_does_as_well(through_pipes: list[int], monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(*_: object) -> int:
        raise PermissionError(errno.EPERM, "over pipe-user-pages-soft")

    splice.close_idle()
    monkeypatch.setattr(fcntl, "fcntl", refused)
    async with backend(answers_large) as server, gateway(snapshot(server)) as proxy:
        assert len((await proxy.exchange(GET)).body) == LARGE
        assert len(through_pipes) > 1


def test_where_a_sandbox_refuses_the_call_bodies_are_copied(monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(*_: object, **__: object) -> int:
        raise PermissionError(errno.EPERM, "not here")

    assert not refusing(lambda: monkeypatch.setattr(os, "splice", refused))


def test_where_the_system_lacks_the_call_bodies_are_copied(monkeypatch: pytest.MonkeyPatch) -> None:
    assert not refusing(lambda: monkeypatch.delattr(os, "splice", raising=False))


def refusing(change: Callable[[], None]) -> bool:
    """Whether sockets can be spliced after a change, as a process finds out that starts with it."""
    change()
    try:
        return splice._works.__wrapped__()
    finally:
        splice.close_idle()


def test_a_pipe_that_holds_something_is_closed_and_an_empty_one_kept() -> None:
    if not splice._works():
        pytest.skip("this system cannot splice sockets")
    splice.close_idle()
    source, sink = socket.socketpair()
    with source, sink:
        sink.send(b"secret")
        pipe = splice.received(source.fileno(), 100)
        assert pipe is not None
        with pipe:
            assert pipe.held == 6
        assert not splice._idle
        source.setblocking(False)
        with pytest.raises(BlockingIOError):
            splice.received(source.fileno(), 100)
        assert len(splice._idle) == 1
        sink.close()
        ended = splice.received(source.fileno(), 100)
        assert ended is not None
        with ended:
            assert ended.held == 0
        assert splice._idle == [ended]
    splice.close_idle()
    assert not splice._idle


def test_what_has_no_room_in_a_second_pipe_is_not_kept_there(monkeypatch: pytest.MonkeyPatch) -> None:
    if not (splice._works() and splice._keeps()):
        pytest.skip("this system cannot keep what it splices")
    splice.close_idle()
    source, sink = socket.socketpair()
    with source, sink, splice.Pipe() as pipe:
        sink.send(bytes(50_000))
        pipe.fill(source.fileno(), 50_000)
        monkeypatch.setattr(splice, "_CAPACITY", 4096)
        assert pipe.kept() is None
        assert pipe.read() == bytes(50_000)
    assert not splice._keeping
