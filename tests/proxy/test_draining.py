"""Told to stop, a worker accepts nothing new, finishes what runs and returns; what takes too long is cut."""

from __future__ import annotations

import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
import trio
import trio.testing

from meshproxy.snapshot import Cluster, Endpoint, SocketAddress

from .support import GET, OK, Backend, Client, Gateway, Peer, Script, backend, gateway, silent, snapshot, until


def answers_when(go_on: trio.Event) -> Script:
    async def script(connection: Peer) -> None:
        while True:
            await connection.message()
            await go_on.wait()
            await connection.send(OK)

    return script


@asynccontextmanager
async def a_request_under_way(
    script: Script, drain_time_s: float = 5.0
) -> AsyncIterator[tuple[Gateway, Client, Backend]]:
    async with backend(script) as server, gateway(snapshot(server), drain_time_s=drain_time_s) as proxy:
        client = await proxy.client()
        await client.send(GET)
        upstream = await server.connected()
        await until(lambda: upstream.received)
        yield proxy, client, server


async def test_idle_connections_are_closed_at_once() -> None:
    async with backend() as server, gateway(snapshot(server)) as proxy:
        used, unused = await proxy.client(), await proxy.client()
        await used.request(GET)
        await until(lambda: len(proxy.connections) == 2)
        proxy.worker.stop()
        assert [await used.ended(), await unused.ended()] == ["closed", "closed"]
        await proxy.stopped.wait()
        await proxy.logged(1)


async def test_a_running_request_is_finished_with_connection_close() -> None:
    go_on = trio.Event()
    async with a_request_under_way(answers_when(go_on)) as (proxy, client, _):
        proxy.worker.stop()
        await until(lambda: proxy.worker.state.value == "DRAINING")
        assert not proxy.stopped.is_set()
        go_on.set()
        answer = await client.response()
        assert (answer.status, answer.body, answer.header("connection")) == (200, b"ok", "close")
        assert await client.ended() == "closed"
        client.close()
        await proxy.stopped.wait()
        assert [line.flags for line in await proxy.logged()] == ["-"]


async def test_a_response_that_had_begun_is_finished_and_its_connection_closed() -> None:
    async def script(connection: Peer) -> None:
        await connection.message()
        await connection.send(b"HTTP/1.1 200 OK\r\ncontent-length: 6\r\n\r\nabc")
        await go_on.wait()
        await connection.send(b"def")
        await connection.ended()

    go_on = trio.Event()
    async with a_request_under_way(script) as (proxy, client, _):
        await client.read_until(b"abc")
        proxy.worker.stop()
        await until(lambda: proxy.worker.state.value == "DRAINING")
        go_on.set()
        assert await client.read_all() == b"def"
        assert client.end == "closed"
        client.close()
        await proxy.stopped.wait()


async def test_requests_that_had_arrived_are_served() -> None:
    async with backend() as server, gateway(snapshot(server)) as proxy:
        idle, new = await proxy.client(), await proxy.client()
        await idle.request(GET)
        await until(lambda: len(proxy.connections) == 2)
        for client in (idle, new):
            client.send_now(GET)
        proxy.worker.stop()
        for client in (idle, new):
            answer = await client.response()
            assert (answer.status, answer.header("connection")) == (200, "close")
            client.close()
        await proxy.stopped.wait()


async def test_a_head_that_has_begun_to_arrive_is_waited_for() -> None:
    async with backend() as server, gateway(snapshot(server)) as proxy:
        client = await proxy.client()
        await client.send(GET[:10])
        await until(lambda: any(one.buffer for one in proxy.connections))
        proxy.worker.stop()
        await until(lambda: proxy.worker.state.value == "DRAINING")
        answer = await client.request(GET[10:])
        assert (answer.status, answer.header("connection")) == (200, "close")


async def test_new_connections_are_refused() -> None:
    go_on = trio.Event()
    async with a_request_under_way(answers_when(go_on)) as (proxy, client, _):
        proxy.worker.stop()
        await until(lambda: proxy.worker.state.value == "DRAINING")
        await trio.testing.wait_all_tasks_blocked()
        with pytest.raises(ConnectionRefusedError):
            await proxy.client()
        go_on.set()
        await client.response()


async def test_connections_that_the_kernel_had_let_in_are_not_reset() -> None:
    async with backend() as server, gateway(snapshot(server)) as proxy:
        address = (proxy.address.host, proxy.address.port)
        # Without an await, so that the proxy cannot have accepted them.
        waiting = [socket.create_connection(address) for _ in range(3)]
        for sock in waiting:
            sock.send(GET)
        proxy.worker.stop()
        for sock in waiting:
            sock.setblocking(False)
            client = Client(trio.socket.from_stdlib_socket(sock))
            answer = await client.response()
            assert (answer.status, answer.header("connection")) == (200, "close")
            client.close()
        await proxy.stopped.wait()


async def test_what_takes_longer_than_the_drain_time_is_cut(mock_clock: trio.testing.MockClock) -> None:
    async with a_request_under_way(silent, drain_time_s=5.0) as (proxy, client, server):
        proxy.worker.stop()
        await until(lambda: proxy.worker.state.value == "DRAINING")
        mock_clock.jump(4.9)
        await trio.testing.wait_all_tasks_blocked()
        assert not proxy.stopped.is_set()
        mock_clock.jump(0.2)
        assert await client.ended() == "closed"
        await until(lambda: server.connections[0].end)
        await proxy.stopped.wait()
        (line,) = await proxy.logged()
        assert (line.status, line.flags, line.details) == (0, "DT", "drain_timeout")


@pytest.mark.parametrize(("version", "end"), [(b"1.1", "closed"), (b"1.0", "reset")])
async def test_a_client_can_tell_that_its_response_was_cut(
    mock_clock: trio.testing.MockClock, version: bytes, end: str
) -> None:
    async def script(connection: Peer) -> None:
        await connection.message()
        await connection.send(b"HTTP/1.1 200 OK\r\n\r\nabc")
        await connection.ended()

    async with backend(script) as server, gateway(snapshot(server)) as proxy:
        client = await proxy.client()
        await client.send(GET.replace(b"1.1", version))
        await client.read_until(b"abc")
        client._read = 0
        proxy.worker.stop()
        await until(lambda: proxy.worker.state.value == "DRAINING")
        mock_clock.jump(6)
        answer = await client.response()
        assert (answer.whole, await client.ended()) == (False, end)
        await proxy.stopped.wait()
        (line,) = await proxy.logged()
        assert (line.status, line.flags, line.sent) == (200, "DT", 3)


async def test_a_client_that_leaves_during_the_drain_is_logged_as_one_that_left() -> None:
    async with a_request_under_way(silent) as (proxy, client, _):
        proxy.worker.stop()
        await until(lambda: proxy.worker.state.value == "DRAINING")
        client.close()
        await proxy.stopped.wait()
        assert [line.flags for line in await proxy.logged()] == ["DC"]


async def test_a_worker_without_connections_stops_at_once() -> None:
    async with backend() as server, gateway(snapshot(server), admin=True) as proxy:
        await proxy.client(to=proxy.admin)
        proxy.worker.stop()
        await proxy.stopped.wait()


async def test_connections_idle_for_too_long_are_closed(mock_clock: trio.testing.MockClock) -> None:
    async with backend() as server, gateway(snapshot(server, idle_timeout_s=30.0)) as proxy:
        client, busy = await proxy.client(), await proxy.client()
        await client.request(GET)
        await busy.send(GET[:10])
        await until(lambda: sum(bool(one.buffer) for one in proxy.connections) == 1)
        for seconds in (5, 29):
            mock_clock.jump(seconds)
            await trio.testing.wait_all_tasks_blocked()
        assert len(proxy.connections) == 2
        mock_clock.jump(6)
        assert await client.ended() == "closed"
        assert (await busy.request(GET[10:])).status == 200
        await proxy.logged(2)


async def test_upstream_connections_idle_for_too_long_or_closed_are_given_up(
    mock_clock: trio.testing.MockClock,
) -> None:
    async with backend() as server, gateway(snapshot(server)) as proxy:
        await proxy.exchange(GET)
        (host,) = proxy.hosts
        assert len(host.idle) == 1
        for seconds in (5, 3500):
            mock_clock.jump(seconds)
            await trio.testing.wait_all_tasks_blocked()
        assert len(host.idle) == 1
        mock_clock.jump(110)
        await until(lambda: not host.idle)
        await until(lambda: server.connections[0].end)
        await proxy.exchange(GET)
        server.connections[1].close()
        mock_clock.jump(6)
        await until(lambda: not host.idle)
        assert host.connections == 0


async def test_a_worker_that_still_looks_up_names_stops_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    async def getaddrinfo(*_: Any, **__: Any) -> None:
        await trio.sleep_forever()

    monkeypatch.setattr(trio.socket, "getaddrinfo", getaddrinfo)
    named = Cluster("named", (Endpoint(SocketAddress("slow.test", 80)),), "STRICT_DNS")
    async with gateway(snapshot(named), started=False) as proxy:
        assert proxy.worker.state.value == "PRE_INITIALIZING"
        proxy.worker.stop()
        with trio.fail_after(1):
            await proxy.stopped.wait()
