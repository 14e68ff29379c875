"""Receiving through a transport: what came is told once, whoever waits and however it came."""

from __future__ import annotations

import socket
import struct

import pytest
import trio
import trio.testing

from meshproxy.proxy import readiness
from meshproxy.proxy.transport import LOST, Transport


@pytest.fixture(params=[readiness.Edges, readiness.EachWait], ids=["epoll", "trio"])
async def pair(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> tuple[Transport, socket.socket]:
    """A transport and the other end of its connection."""
    made = request.param()
    monkeypatch.setattr("meshproxy.proxy.transport.readiness", lambda: made)
    with socket.create_server(("127.0.0.1", 0)) as listening:
        far = socket.create_connection(listening.getsockname())
        near, _ = listening.accept()
    return Transport(near), far


async def test_what_came_before_the_wait_is_received(pair: tuple[Transport, socket.socket]) -> None:
    near, far = pair
    with far:
        far.send(b"early")
        await trio.testing.wait_all_tasks_blocked()
        assert await near.receive() == b"early"
    near.close()


async def test_more_than_one_read_takes_is_received_in_order(pair: tuple[Transport, socket.socket]) -> None:
    near, far = pair
    sent = bytes(range(256)) * 64
    received = b""
    with far:
        far.send(sent)
        while len(received) < len(sent):
            received += await near.receive(1000)
    assert received == sent
    near.close()


async def test_a_wait_for_what_comes_later_ends_when_it_comes(pair: tuple[Transport, socket.socket]) -> None:
    near, far = pair
    received: list[bytes] = []

    async def receive() -> None:
        received.append(await near.receive())

    with far:
        for word in (b"one", b"two", b"three"):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(receive)
                await trio.testing.wait_all_tasks_blocked()
                far.send(word)
    assert received == [b"one", b"two", b"three"]
    near.close()


async def test_the_end_behind_the_last_bytes_is_seen_as_often_as_asked_for(
    pair: tuple[Transport, socket.socket],
) -> None:
    near, far = pair
    far.send(b"last")
    far.close()
    assert [await near.receive() for _ in range(3)] == [b"last", b"", b""]
    near.close()


async def test_what_comes_behind_urgent_data_is_received(pair: tuple[Transport, socket.socket]) -> None:
    near, far = pair
    with far:
        far.send(b"before ")
        far.send(b"!", socket.MSG_OOB)
        far.send(b"behind")
        await trio.testing.wait_all_tasks_blocked()
        received = b""
        with trio.fail_after(5):
            while received != b"before behind":
                received += await near.receive()
    near.close()


async def test_a_reset_is_a_loss(pair: tuple[Transport, socket.socket]) -> None:
    near, far = pair
    far.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    far.close()
    with pytest.raises(LOST):
        await near.receive()
    near.close()


async def test_closing_ends_the_wait_of_another_task(pair: tuple[Transport, socket.socket]) -> None:
    near, far = pair
    with far:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(_expect_closed, near)
            await trio.testing.wait_all_tasks_blocked()
            near.close()
    with pytest.raises(trio.ClosedResourceError):
        await near.receive()


async def test_a_cancelled_wait_loses_nothing(pair: tuple[Transport, socket.socket]) -> None:
    near, far = pair
    with far:
        with trio.move_on_after(0):
            await near.receive()
        far.send(b"kept")
        assert await near.receive() == b"kept"
    near.close()


async def test_a_sender_never_short_of_bytes_does_not_keep_others_waiting(
    pair: tuple[Transport, socket.socket],
) -> None:
    near, far = pair
    turns = 0

    async def other() -> None:
        nonlocal turns
        while True:
            turns += 1
            await trio.lowlevel.checkpoint()

    with far:
        far.send(bytes(10_000))
        async with trio.open_nursery() as nursery:
            nursery.start_soon(other)
            for _ in range(10_000):
                await near.receive(1)
            nursery.cancel_scope.cancel()
    assert turns > 1000
    near.close()


async def _expect_closed(transport: Transport) -> None:
    with pytest.raises(trio.ClosedResourceError):
        await transport.receive()
