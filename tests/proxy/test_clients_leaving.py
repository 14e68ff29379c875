"""A client that leaves takes what is done for it along: the upstream exchange ends, and every slot is given back."""

from __future__ import annotations

import sys
from collections.abc import Callable
from fcntl import ioctl
from termios import FIONREAD

import pytest
import trio
import trio.testing

from meshproxy.proxy.http.http1_server import Http1ServerConnection
from meshproxy.snapshot import CircuitBreakers

from .support import (
    CLUSTER,
    GET,
    OK,
    Client,
    Peer,
    Script,
    backend,
    cluster,
    gateway,
    silent,
    snapshot,
    unreachable,
    until,
)

UPLOAD = b"POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 10\r\n\r\nhe"
CHUNKED_UPLOAD = b"POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhe\r\n"
UPGRADE = b"GET / HTTP/1.1\r\nHost: h\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n"


def leaves(client: Client) -> None:
    client.close()


def resets(client: Client) -> None:
    client.reset()


def says_no_more(client: Client) -> None:
    client.send_end()


every_way = pytest.mark.parametrize("leave", [leaves, resets, says_no_more])
Leave = Callable[[Client], None]


@every_way
@pytest.mark.parametrize(
    "sent",
    [
        GET,
        b"POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 2\r\n\r\nhe",
        b"POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhe\r\n0\r\n\r\n",
        GET + b"GET /pipelined HTTP/1.1\r\nHost: h\r\n\r\n",
        UPGRADE,
    ],
    ids=["GET", "POST", "chunked POST", "pipelined", "upgrade"],
)
async def test_a_client_that_leaves_before_the_answer_ends_its_upstream_request(leave: Leave, sent: bytes) -> None:
    async with backend(silent) as server, gateway(snapshot(server)) as proxy:
        client = await proxy.client()
        await client.send(sent)
        upstream = await server.connected()
        await until(lambda: upstream.received)
        leave(client)
        await upstream.ended()
        (line,) = await proxy.logged()
        assert (line.status, line.flags, line.details) == (0, "DC", "downstream_remote_disconnect")
        assert (line.upstream, line.sent) == (str(server.address), 0)
        assert b"pipelined" not in upstream.received
        await until(lambda: not proxy.connections)


@every_way
@pytest.mark.parametrize("sent", [UPLOAD, CHUNKED_UPLOAD], ids=["length", "chunked"])
async def test_a_client_that_leaves_during_its_body_ends_its_upstream_request(leave: Leave, sent: bytes) -> None:
    async with backend(silent) as server, gateway(snapshot(server)) as proxy:
        client = await proxy.client()
        await client.send(sent)
        upstream = await server.connected()
        await until(lambda: b"he" in upstream.received.partition(b"\r\n\r\n")[2])
        leave(client)
        assert not (await upstream.read_all()).endswith(b"0\r\n\r\n")
        (line,) = await proxy.logged()
        assert (line.status, line.flags, line.received) == (0, "DC", 2)
        assert line.details == "downstream_remote_disconnect"


async def streams(connection: Peer) -> None:
    await connection.read_until(b"\r\n\r\n")
    await connection.send(b"HTTP/1.1 200 OK\r\n\r\n")
    while True:
        await connection.socket.send(bytes(65536))


@pytest.mark.parametrize("leave", [leaves, resets])
@pytest.mark.parametrize("sent", [GET, UPLOAD, CHUNKED_UPLOAD], ids=["GET", "length", "chunked"])
async def test_a_client_that_leaves_during_the_response_ends_it(leave: Leave, sent: bytes) -> None:
    async with backend(streams) as server, gateway(snapshot(server)) as proxy:
        client = await proxy.client()
        await client.send(sent)
        await client.read(100_000)
        leave(client)
        await until(lambda: server.connections[0] not in Peer.open)
        (line,) = await proxy.logged()
        assert (line.status, line.flags, line.details) == (200, "DC", "downstream_remote_disconnect")
        assert line.sent > 0


async def test_a_client_that_leaves_while_it_reads_nothing_is_noticed() -> None:
    async with backend(streams) as server, gateway(snapshot(server)) as proxy:
        client = await proxy.client(receive_buffer=4096)
        await client.send(GET)
        await server.connected()
        await trio.testing.wait_all_tasks_blocked(0.02)
        client.reset()
        (line,) = await proxy.logged()
        assert (line.status, line.flags) == (200, "DC")


async def reads_the_head_alone(connection: Peer) -> None:
    await connection.socket.recv(100)
    await trio.sleep_forever()


LARGE_UPLOADS = (
    b"POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 100000000\r\n\r\n",
    b"POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n5f5e100\r\n",
)


@every_way
@pytest.mark.parametrize("head", LARGE_UPLOADS, ids=["length", "chunked"])
async def test_a_client_that_leaves_while_its_upstream_takes_no_more_of_its_body_is_noticed(
    leave: Leave, head: bytes, mock_clock: trio.testing.MockClock
) -> None:
    async with backend(reads_the_head_alone) as server, gateway(snapshot(server)) as proxy:
        client = await proxy.client()
        await client.send(head)
        await server.connected()
        (connection,) = proxy.connections
        while not unread(connection):
            await client.send(bytes(262_144))
            await trio.testing.wait_all_tasks_blocked(0.01)
        leave(client)
        await swept(mock_clock, 2)
        (line,) = await proxy.logged()
        assert (line.status, line.flags, line.details) == (0, "DC", "downstream_remote_disconnect")


@every_way
async def test_a_client_that_leaves_the_queue_in_its_body_is_noticed(
    leave: Leave, mock_clock: trio.testing.MockClock
) -> None:
    async with backend(silent) as server:
        config = cluster(server, circuit_breakers=CircuitBreakers(max_connections=1))
        async with gateway(snapshot(config)) as proxy:
            first = await proxy.client()
            await first.send(GET)
            await server.connected()
            client = await proxy.client()
            await client.send(LARGE_UPLOADS[0] + bytes(131_072))
            pending = proxy.worker.clusters[CLUSTER].stats.breakers["rq_pending"]
            await until(lambda: pending.active)
            mock_clock.jump(0.2)  # it is watched, and has more to say than is read ahead
            await trio.testing.wait_all_tasks_blocked(0.01)
            leave(client)
            await swept(mock_clock, 2)
            assert not pending.active
            first.close()


async def test_a_client_that_is_slow_is_not_taken_for_one_that_has_left(mock_clock: trio.testing.MockClock) -> None:
    async with backend() as server, gateway(snapshot(server)) as proxy:
        client = await proxy.client()
        await client.send(UPLOAD)
        await server.connected()
        await swept(mock_clock, 5)
        await client.send(bytes(8))
        assert (await client.response()).status == 200


def unread(connection: Http1ServerConnection) -> int:
    """How many bytes of a client the proxy has not read."""
    return int.from_bytes(ioctl(connection.transport._fd, FIONREAD, bytes(4)), sys.byteorder)


async def swept(clock: trio.testing.MockClock, times: int) -> None:
    """Let the worker look after what is idle, so many times."""
    for _ in range(times):
        clock.jump(5.1)
        await trio.testing.wait_all_tasks_blocked(0.01)


async def test_a_client_that_leaves_in_a_pause_of_the_response_is_noticed() -> None:
    async def pauses(connection: Peer) -> None:
        await connection.message()
        await connection.send(b"HTTP/1.1 200 OK\r\n\r\nabc")
        await connection.ended()

    async with backend(pauses) as server, gateway(snapshot(server)) as proxy:
        client = await proxy.client()
        await client.send(GET)
        await client.read_until(b"abc")
        client.close()
        await server.connections[0].ended()
        (line,) = await proxy.logged()
        assert (line.status, line.flags, line.sent) == (200, "DC", 3)


async def test_a_client_that_leaves_before_its_upstream_is_connected_gives_its_slot_back() -> None:
    with unreachable() as address:
        async with gateway(snapshot(cluster(address))) as proxy:
            for sent in (GET, UPLOAD, UPGRADE):
                client = await proxy.client()
                await client.send(sent)
                await until(lambda: proxy.hosts[0].active)
                client.close()
                await until(lambda: not proxy.hosts[0].active)
            assert {line[3:5] for line in await proxy.logged(3)} == {(0, "DC")}


async def test_a_client_that_leaves_during_interim_responses_is_no_fault_of_ours() -> None:
    async def hints(connection: Peer) -> None:
        await connection.message()
        while True:
            await connection.send(b"HTTP/1.1 103 Early Hints\r\n\r\n")
            await trio.lowlevel.checkpoint()

    async with backend(hints) as server, gateway(snapshot(server)) as proxy:
        client = await proxy.client()
        await client.send(GET)
        await client.response()
        client.reset()
        (line,) = await proxy.logged()
        assert (line.status, line.flags, line.details) == (0, "DC", "downstream_remote_disconnect")


async def test_a_client_that_leaves_an_interim_response_unread_gets_no_chance_to_hold_the_upstream() -> None:
    async with backend(silent) as server, gateway(snapshot(server)) as proxy:
        client = await proxy.client()
        await client.send(UPLOAD.replace(b"\r\n\r\n", b"\r\nExpect: 100-continue\r\n\r\n"))
        upstream = await server.connected()
        await until(lambda: upstream.received)
        client.close()
        await upstream.ended()
        (line,) = await proxy.logged()
        assert line.flags == "DC"


def answers_when(go_on: trio.Event) -> Script:
    async def script(connection: Peer) -> None:
        while True:
            await connection.message()
            await go_on.wait()
            await connection.send(OK)

    return script


async def test_a_client_that_stays_is_served_however_long_it_was_watched() -> None:
    go_on = trio.Event()
    async with backend(answers_when(go_on)) as server, gateway(snapshot(server)) as proxy:
        client = await proxy.client()
        await client.send(GET)
        await until(lambda: any(one._watcher for one in proxy.connections))
        go_on.set()
        assert (await client.response()).status == 200
        assert (await client.request(GET)).status == 200
        assert [line.flags for line in await proxy.logged(2)] == ["-", "-"]


async def test_requests_that_are_pipelined_while_the_client_is_watched_are_served() -> None:
    go_on = trio.Event()
    async with backend(answers_when(go_on)) as server, gateway(snapshot(server)) as proxy:
        client = await proxy.client()
        await client.send(GET)
        await until(lambda: any(one._watcher for one in proxy.connections))
        await client.send(GET + GET[:10])
        await until(lambda: any(one.buffer for one in proxy.connections))
        await client.send(GET[10:])
        go_on.set()
        assert [(await client.response()).status for _ in range(3)] == [200, 200, 200]
        await proxy.logged(3)


async def test_a_watched_client_cannot_make_the_proxy_remember_all_it_says() -> None:
    async with backend(silent) as server, gateway(snapshot(server)) as proxy:
        client = await proxy.client()
        await client.send(GET)
        await server.connected()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(client.send, bytes(50_000_000))
            await until(lambda: any(len(one.buffer) >= 65536 for one in proxy.connections))
            await trio.testing.wait_all_tasks_blocked(0.02)
            assert all(len(one.buffer) <= 2 * 65536 for one in proxy.connections)
            nursery.cancel_scope.cancel()
        # It says too much to be watched; its upstream is what ends this.
        server.connections[0].reset()
        assert (await client.response()).status == 503


async def test_those_who_leave_do_not_disturb_others_on_the_same_upstream() -> None:
    go_on = trio.Event()
    async with backend(answers_when(go_on)) as server, gateway(snapshot(server)) as proxy:
        staying = await proxy.client()
        await staying.send(GET)
        await server.connected()
        for _ in range(10):
            leaving = await proxy.client()
            await leaving.send(GET)
            leaving.close()
        await proxy.logged_at_least(10)
        go_on.set()
        assert (await staying.response()).status == 200
        assert [line.flags for line in await proxy.logged(11)] == ["DC"] * 10 + ["-"]
