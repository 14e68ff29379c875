"""TLS on a transport: whoever reads and writes through it sees what they would see without, but the peer's secrets."""

from __future__ import annotations

import os
import shutil
import socket
import ssl
import struct
import time
from collections.abc import AsyncIterator, Callable
from contextlib import suppress

import pytest
import trio
import trio.lowlevel
import trio.testing

from meshproxy.proxy import readiness
from meshproxy.proxy.tls.transport import TlsTransport
from meshproxy.proxy.transport import LOST, Transport

from ..certificates import Ca
from .support import until

NAME = "server.test"
CA = Ca()
VERSIONS = [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3]


class Peer:
    """The other end, step by step: what it sends waits in `wire` until the test lets it go."""

    def __init__(self, sock: socket.socket, context: ssl.SSLContext, server_side: bool = False) -> None:
        sock.setblocking(False)
        self.socket = trio.socket.from_stdlib_socket(sock)
        self.incoming, self.outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        name = None if server_side else NAME
        self.tls = context.wrap_bio(self.incoming, self.outgoing, server_side, name)

    async def handshake(self) -> None:
        while True:
            try:
                self.tls.do_handshake()
                break
            except ssl.SSLWantReadError:
                await self.flush()
                await self.feed()
        await self.flush()

    async def feed(self) -> None:
        data = await self.socket.recv(65536)
        if data:
            self.incoming.write(data)
        else:
            self.incoming.write_eof()

    def wire(self, data: bytes) -> bytes:
        """The records that carry these bytes."""
        self.tls.write(data)
        return self.outgoing.read()

    async def send(self, data: bytes) -> None:
        await self.send_wire(self.wire(data))

    async def send_wire(self, data: bytes) -> None:
        while data:
            data = data[await self.socket.send(data) :]

    async def flush(self) -> None:
        await self.send_wire(self.outgoing.read())

    async def receive(self, size: int = 65536) -> bytes:
        """`b""` when the other side has said that it is the end. Raises `ssl.SSLEOFError` when it has only gone."""
        while True:
            try:
                return self.tls.read(size)
            except ssl.SSLWantReadError:
                await self.feed()
            except ssl.SSLZeroReturnError:
                return b""

    async def goodbye(self) -> None:
        with suppress(ssl.SSLWantReadError):
            self.tls.unwrap()
        await self.flush()


@pytest.fixture(scope="module")
def server_context(tmp_path_factory: pytest.TempPathFactory) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*CA.issue(NAME).write(tmp_path_factory.mktemp("server")))
    return context


@pytest.fixture(params=[readiness.Edges, readiness.EachWait], ids=["epoll", "trio"])
async def sockets(
    request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[tuple[Transport, socket.socket]]:
    """A transport and the other end of its connection."""
    made = request.param()
    monkeypatch.setattr("meshproxy.proxy.transport.readiness", lambda: made)
    with socket.create_server(("127.0.0.1", 0)) as listening:
        far = socket.create_connection(listening.getsockname())
        near, _ = listening.accept()
    yield Transport(near), far
    far.close()


@pytest.fixture(params=VERSIONS, ids=lambda version: str(version.name))
def client_context(request: pytest.FixtureRequest) -> ssl.SSLContext:
    context = ssl.create_default_context(cadata=CA.pem)
    context.maximum_version = request.param
    return context


@pytest.fixture
async def server(
    sockets: tuple[Transport, socket.socket], server_context: ssl.SSLContext, client_context: ssl.SSLContext
) -> AsyncIterator[tuple[TlsTransport, Peer]]:
    """A server's end, and a client."""
    near, peer = TlsTransport(sockets[0], server_context, server_side=True), Peer(sockets[1], client_context)
    await both(near.handshake, peer.handshake)
    yield near, peer
    near.close()
    peer.socket.close()


@pytest.fixture
async def client(
    sockets: tuple[Transport, socket.socket], server_context: ssl.SSLContext, client_context: ssl.SSLContext
) -> AsyncIterator[tuple[TlsTransport, Peer]]:
    """A client's end, and a server."""
    near = TlsTransport(sockets[0], client_context, server_hostname=NAME)
    peer = Peer(sockets[1], server_context, server_side=True)
    await both(near.handshake, peer.handshake)
    yield near, peer
    near.close()
    peer.socket.close()


async def both(*steps: Callable[[], object]) -> None:
    with trio.fail_after(10):
        async with trio.open_nursery() as nursery:
            for step in steps:
                nursery.start_soon(step)  # type: ignore[arg-type]


async def received(near: TlsTransport, count: int, size: int = 65536) -> bytes:
    data = b""
    with trio.fail_after(10):
        while len(data) < count:
            piece = await near.receive(size)
            assert 0 < len(piece) <= size
            data += piece
    return data


async def test_a_server_and_its_client_say_something(server: tuple[TlsTransport, Peer]) -> None:
    await say_something(*server)


async def test_a_client_and_its_server_say_something(client: tuple[TlsTransport, Peer]) -> None:
    await say_something(*client)


async def say_something(near: TlsTransport, peer: Peer) -> None:
    await peer.send(b"question")
    assert await near.receive() == b"question"
    await near.send(b"answer")
    assert await peer.receive() == b"answer"


async def test_what_came_with_the_end_of_the_handshake_is_received(
    sockets: tuple[Transport, socket.socket], server_context: ssl.SSLContext, client_context: ssl.SSLContext
) -> None:
    near, peer = TlsTransport(sockets[0], server_context, server_side=True), Peer(sockets[1], client_context)

    async def client() -> None:
        while True:
            try:
                peer.tls.do_handshake()
                break
            except ssl.SSLWantReadError:
                await peer.flush()
                await peer.feed()
        peer.tls.write(b"early")
        await peer.flush()

    await both(near.handshake, client)
    with trio.fail_after(5):
        assert await near.receive() == b"early"
    near.close()


async def test_what_was_read_before_the_handshake_is_not_lost(
    sockets: tuple[Transport, socket.socket], server_context: ssl.SSLContext, client_context: ssl.SSLContext
) -> None:
    peer = Peer(sockets[1], client_context)
    with pytest.raises(ssl.SSLWantReadError):
        peer.tls.do_handshake()
    await peer.flush()
    hello = await sockets[0].receive(100)
    near = TlsTransport(sockets[0], server_context, received=hello, server_side=True)
    await both(near.handshake, peer.handshake)
    await peer.send(b"hello")
    assert await near.receive() == b"hello"
    near.close()


@pytest.mark.parametrize("size", [1, 10, 1000, 16_384, 65_536])
async def test_what_openssl_holds_is_received_though_no_edge_tells_of_it(
    server: tuple[TlsTransport, Peer], size: int
) -> None:
    near, peer = server
    sent = bytes(range(256)) * 8
    await peer.send_wire(peer.wire(sent) + peer.wire(b"next"))
    assert await received(near, len(sent) + 4, size) == sent + b"next"
    assert near.receive_some() is None
    assert not near.waiter.ready or isinstance(near._readiness, readiness.EachWait)


async def test_a_record_may_come_byte_by_byte(server: tuple[TlsTransport, Peer]) -> None:
    near, peer = server
    wire = peer.wire(b"slowly")
    for number in range(len(wire) - 1):
        await peer.send_wire(wire[number : number + 1])
        await near.readable()
        assert near.receive_some() is None
    await peer.send_wire(wire[-1:])
    assert await near.receive() == b"slowly"


async def test_a_whole_record_and_a_part_of_the_next_come_apart(server: tuple[TlsTransport, Peer]) -> None:
    near, peer = server
    first, second = peer.wire(b"first"), peer.wire(b"second")
    await peer.send_wire(first + second[:7])
    assert await near.receive() == b"first"
    assert near.receive_some() is None
    async with trio.open_nursery() as nursery:
        nursery.start_soon(peer.send_wire, second[7:])
        assert await near.receive() == b"second"


async def test_bodies_of_many_records_go_both_ways_at_once(server: tuple[TlsTransport, Peer]) -> None:
    near, peer = server
    body = bytes(range(256)) * 20_000  # 5 MB

    async def peer_reads() -> None:
        got = 0
        while got < len(body):
            got += len(await peer.receive())

    async def reads() -> None:
        assert await received(near, len(body), 256 * 1024) == body

    async def sends() -> None:
        for at in range(0, len(body), 300_000):
            await near.send(body[at : at + 300_000])

    async def peer_sends() -> None:
        for at in range(0, len(body), 100_000):
            await peer.send(body[at : at + 100_000])

    await both(peer_reads, reads, sends, peer_sends)


async def test_a_peer_that_does_not_read_holds_the_sender_and_little_memory(server: tuple[TlsTransport, Peer]) -> None:
    near, peer = server
    body, sent = bytes(20_000_000), 0

    async def sends() -> None:
        nonlocal sent
        await near.send(body)
        sent = len(body)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(sends)
        await trio.testing.wait_all_tasks_blocked()
        assert not sent
        assert len(near._unsent) < 200_000
        got = 0
        with trio.fail_after(20):
            while got < len(body):
                got += len(await peer.receive(1 << 20))
    assert sent == got


async def test_the_last_byte_is_not_called_sent_while_something_is_kept_back(
    server: tuple[TlsTransport, Peer],
) -> None:
    near, peer = server
    piece, pieces = bytes(1000), 0
    while (sent := near.send_some(piece)) == len(piece):
        pieces += 1
    assert sent == len(piece) - 1
    assert near.send_some(piece) == 0

    async def sends() -> None:
        await near.send_rest(piece, sent)
        near.send_end()

    async def reads() -> None:
        got = 0
        while data := await peer.receive():
            got += len(data)
        assert got == (pieces + 1) * len(piece)

    await both(sends, reads)


async def test_nothing_sent_is_nothing(server: tuple[TlsTransport, Peer]) -> None:
    near, peer = server
    await near.send(b"")
    await near.send(b"something")
    assert await peer.receive() == b"something"


async def test_the_end_is_said_and_the_other_side_may_go_on(server: tuple[TlsTransport, Peer]) -> None:
    near, peer = server
    await near.send(b"last")
    near.send_end()
    assert [await peer.receive(), await peer.receive()] == [b"last", b""]
    await peer.send(b"still here")
    assert await near.receive() == b"still here"


async def test_what_has_come_is_received_though_the_end_was_said_before(server: tuple[TlsTransport, Peer]) -> None:
    near, peer = server
    await peer.send_wire(peer.wire(b"one") + peer.wire(b"two"))
    assert await near.receive(3) == b"one"
    near.send_end()
    assert await near.receive() == b"two"


async def test_the_peers_end_is_seen_as_often_as_asked_for_and_this_side_may_go_on(
    server: tuple[TlsTransport, Peer],
) -> None:
    near, peer = server
    await peer.send(b"last")
    await peer.goodbye()
    with trio.fail_after(5):
        assert [await near.receive() for _ in range(3)] == [b"last", b"", b""]
    await near.send(b"still here")
    assert await peer.receive() == b"still here"


async def test_a_connection_that_ends_without_a_word_ends(server: tuple[TlsTransport, Peer]) -> None:
    near, peer = server
    await peer.send(b"last")
    peer.socket.shutdown(socket.SHUT_WR)
    with trio.fail_after(5):
        assert [await near.receive() for _ in range(3)] == [b"last", b"", b""]


async def test_closing_says_goodbye(server: tuple[TlsTransport, Peer]) -> None:
    near, peer = server
    near.close()
    assert await peer.receive() == b""
    near.close()


async def test_aborting_says_no_goodbye(server: tuple[TlsTransport, Peer]) -> None:
    near, peer = server
    near.abort()
    with pytest.raises(ConnectionResetError):
        await peer.receive()


async def test_a_message_that_breaks_off_does_not_look_whole(server: tuple[TlsTransport, Peer]) -> None:
    near, peer = server
    while near.send_some(bytes(65536)) == 65536:
        pass
    near.close()
    with pytest.raises((ssl.SSLEOFError, ConnectionResetError)):
        while await peer.receive():
            pass


async def test_a_reset_is_a_loss(server: tuple[TlsTransport, Peer]) -> None:
    near, peer = server
    peer.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    peer.socket.close()
    with pytest.raises(LOST):
        await near.receive()
    with pytest.raises(LOST):
        await near.send(b"in vain")


async def test_a_record_that_was_tampered_with_is_a_loss_behind_what_came_before(
    server: tuple[TlsTransport, Peer],
) -> None:
    near, peer = server
    wire = peer.wire(b"good") + peer.wire(b"bad")
    await peer.send_wire(wire[:-1] + bytes([wire[-1] ^ 1]))
    assert await near.receive() == b"good"
    for _ in range(2):
        with pytest.raises(ssl.SSLError):
            await near.receive()


@pytest.mark.parametrize(
    "said",
    [b"GET / HTTP/1.1\r\n\r\n", b"\x16\x03\x01\x00\x05hello", bytes(600), b"\x16\x03\x01\xff\xff" + b"x" * 70_000],
    ids=["http", "no hello", "zeros", "too large"],
)
async def test_who_does_not_speak_tls_fails_at_once(
    sockets: tuple[Transport, socket.socket], server_context: ssl.SSLContext, said: bytes
) -> None:
    near, far = sockets
    far.settimeout(5)
    tls = TlsTransport(near, server_context, server_side=True)

    async def says() -> None:
        with suppress(OSError):
            await trio.to_thread.run_sync(far.sendall, said)

    async def refuses() -> None:
        with pytest.raises(ssl.SSLError):
            await tls.handshake()
        tls.close()

    await both(says, refuses)


async def test_a_client_that_leaves_in_the_handshake_is_a_loss(
    sockets: tuple[Transport, socket.socket], server_context: ssl.SSLContext
) -> None:
    near, far = sockets
    tls = TlsTransport(near, server_context, server_side=True)
    far.send(b"\x16\x03\x01\x02\x00\x01")
    far.shutdown(socket.SHUT_WR)
    with trio.fail_after(5), pytest.raises(LOST):
        await tls.handshake()
    tls.close()


async def test_a_client_that_says_nothing_is_waited_for_as_long_as_the_caller_likes(
    sockets: tuple[Transport, socket.socket], server_context: ssl.SSLContext, autojump_clock: trio.testing.MockClock
) -> None:
    tls = TlsTransport(sockets[0], server_context, server_side=True)
    with trio.move_on_after(10) as limit:
        await tls.handshake()
    assert limit.cancelled_caught
    tls.close()


async def test_the_peer_is_told_why_a_handshake_failed(
    sockets: tuple[Transport, socket.socket], server_context: ssl.SSLContext, client_context: ssl.SSLContext
) -> None:
    near = TlsTransport(sockets[0], ssl.create_default_context(), server_hostname=NAME)  # trusts somebody else
    peer = Peer(sockets[1], server_context, server_side=True)

    async def refuses() -> None:
        with pytest.raises(ssl.SSLCertVerificationError):
            await near.handshake()
        near.close()

    async def hears() -> None:
        with pytest.raises(ssl.SSLError, match="UNKNOWN_CA"):
            await peer.handshake()
            await peer.receive()

    await both(refuses, hears)


async def test_a_wait_that_is_cancelled_loses_nothing(server: tuple[TlsTransport, Peer]) -> None:
    near, peer = server
    wire = peer.wire(b"kept")
    await peer.send_wire(wire[:9])
    await trio.testing.wait_all_tasks_blocked()
    with trio.move_on_after(0):
        await near.receive()
    await peer.send_wire(wire[9:])
    assert await near.receive() == b"kept"


async def test_a_handshake_that_is_cancelled_anywhere_leaves_nothing_open(
    server_context: ssl.SSLContext, client_context: ssl.SSLContext
) -> None:
    for steps in range(1, 12):
        with socket.create_server(("127.0.0.1", 0)) as listening:
            far = socket.create_connection(listening.getsockname())
            accepted, _ = listening.accept()
        near, peer = TlsTransport(Transport(accepted), server_context, server_side=True), Peer(far, client_context)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(near.handshake)
            nursery.start_soon(peer.handshake)
            for _ in range(steps):
                await trio.lowlevel.checkpoint()
            nursery.cancel_scope.cancel()
        near.close()
        assert near.closed
        peer.socket.close()


async def test_closing_ends_the_wait_of_another_task(server: tuple[TlsTransport, Peer]) -> None:
    near, _ = server

    async def waits() -> None:
        with pytest.raises(trio.ClosedResourceError):
            await near.receive()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(waits)
        await trio.testing.wait_all_tasks_blocked()
        near.close()
    with pytest.raises(trio.ClosedResourceError):
        await near.receive_piped(10)


async def test_session_tickets_are_nothing_to_receive(client: tuple[TlsTransport, Peer]) -> None:
    near, peer = client
    if peer.tls.version() == "TLSv1.3":
        await near.readable()
    assert near.peek() is None
    assert not near.waiter.ready or isinstance(near._readiness, readiness.EachWait)
    await peer.send(b"unasked")
    await until(lambda: near.peek() is not None)
    assert [near.peek(), near.peek()] == [True, True]
    assert [await near.receive(2), await near.receive()] == [b"un", b"asked"]
    await peer.goodbye()
    await until(lambda: near.peek() is not None)
    assert [near.peek(), near.peek()] == [False, False]


async def test_a_server_that_looks_takes_nothing_from_the_task_that_waits(server: tuple[TlsTransport, Peer]) -> None:
    near, peer = server
    got: list[bytes] = []

    async def waits() -> None:
        got.append(await near.receive())

    assert near.peek() is None
    async with trio.open_nursery() as nursery:
        nursery.start_soon(waits)
        await trio.testing.wait_all_tasks_blocked()
        os.write(peer.socket.fileno(), peer.wire(b"said"))
        deadline = time.perf_counter() + 5
        while near.peek() is None and time.perf_counter() < deadline:
            pass  # nobody else may run, or it is received
        assert near.peek() is True
    assert got == [b"said"]
    await peer.send(b"more than that")
    assert await near.receive(4) == b"more"
    assert near.peek() is True


@pytest.mark.skipif(shutil.which("openssl") is None, reason="openssl is not installed")
async def test_new_keys_in_the_middle_are_no_matter(server_context: ssl.SSLContext) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        command = ["openssl", "s_client", "-connect", f"127.0.0.1:{listening.getsockname()[1]}"]
        process = await trio.lowlevel.open_process(command, stdin=-1, stdout=-1, stderr=-1)
        accepted, _ = await trio.to_thread.run_sync(listening.accept)
    near = TlsTransport(Transport(accepted), server_context, server_side=True)
    assert process.stdin is not None
    with trio.fail_after(10):
        await near.handshake()
        for line in (b"one\n", b"two\n", b"three\n"):
            await process.stdin.send_all(line)
            assert await near.receive() == line
            await process.stdin.send_all(b"K\n")  # asks for new keys on both sides
            await near.readable()
            assert near.receive_some() is None
            await near.send(line)
        await process.stdin.send_all(b"Q\n")
        assert await near.receive() == b""
        near.close()
        await process.wait()
        assert process.stdout is not None
        told = await process.stdout.receive_some(1 << 20)
    assert b"three" in told
