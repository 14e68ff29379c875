"""Cancelled at any await, an exchange gives back every slot, connection and line of the log."""

from __future__ import annotations

import operator
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import replace
from functools import partial

import pytest
import trio
import trio.testing

from meshproxy.snapshot import RetryPolicy, RouteAction, Snapshot

from .support import (
    GET,
    OK,
    Backend,
    Client,
    Gateway,
    Peer,
    Script,
    answers,
    backend,
    cluster,
    forward,
    gateway,
    snapshot,
    until,
)

LARGE = bytes(200_000)
CHUNKED_POST = b"POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n"


class CancelAtStep(trio.abc.Instrument):
    """Does `cancel` when the proxy's tasks for requests have run `step` times."""

    def __init__(self, step: int, cancel: Callable[[], None]) -> None:
        self._left = step
        self._cancel = cancel

    def after_task_step(self, task: trio.lowlevel.Task) -> None:
        if "Worker._serve" in task.name or "_send_body" in task.name:
            self._left -= 1
            if self._left == 0:
                self._cancel()

    @property
    def fired(self) -> bool:
        return self._left <= 0


async def plain(client: Client) -> None:
    await client.request(GET)


async def twice(client: Client) -> None:
    await client.request(GET)
    await client.request(GET)


async def pipelined(client: Client) -> None:
    await client.send(GET + GET)
    await client.response()
    await client.response()


async def upload(client: Client) -> None:
    await client.send(CHUNKED_POST + b"3\r\nabc\r\n")
    await trio.lowlevel.checkpoint()
    await client.send(b"3\r\ndef\r\n")
    await client.request(b"0\r\n\r\n")


async def expecting(client: Client) -> None:
    await client.request(b"POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 2\r\nExpect: 100-continue\r\n\r\n")
    await client.request(b"he")


async def upgrade(client: Client) -> None:
    await client.request(b"GET / HTTP/1.1\r\nHost: h\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\nearly")
    await client.send(b"ping")
    await client.read(9)
    client.send_end()
    await client.read_all()


async def large_upload(client: Client) -> None:
    await client.send(b"POST / HTTP/1.1\r\nHost: h\r\nContent-Length: %d\r\n\r\n" % (2 * len(LARGE)))
    for _ in range(2):
        await client.send(LARGE)
        await trio.testing.wait_all_tasks_blocked()
    await client.response()


async def large(connection: Peer) -> None:
    await connection.message()
    await connection.send(b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n" % (2 * len(LARGE)))
    for _ in range(2):
        await connection.send(LARGE)
        await trio.testing.wait_all_tasks_blocked()
    await connection.ended()


async def streams(connection: Peer) -> None:
    await connection.message()
    await connection.send(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n")
    for _ in range(2):
        await connection.send(b"3\r\nabc\r\n")
        await trio.testing.wait_all_tasks_blocked()
    await connection.send(b"0\r\n\r\n")
    await connection.ended()


async def closes_when_used_again(connection: Peer) -> None:
    await connection.message()
    await connection.send(OK)
    await connection.message()


async def continues(connection: Peer) -> None:
    await connection.read_until(b"\r\n\r\n")
    await connection.send(b"HTTP/1.1 100 Continue\r\n\r\n")
    await connection.read(2)
    await connection.send(OK)
    await connection.ended()


async def echoes(connection: Peer) -> None:
    await connection.read_until(b"\r\n\r\n")
    await connection.send(b"HTTP/1.1 101 Switching Protocols\r\nupgrade: websocket\r\nconnection: upgrade\r\n\r\n")
    await connection.send(await connection.read(9))
    await connection.read_all()


async def half_an_answer(connection: Peer) -> None:
    await connection.message()
    await connection.send(b"HTTP/1.1 503 No\r\ncontent-length: 9\r\n\r\nhalf")
    await trio.testing.wait_all_tasks_blocked()


async def closes(connection: Peer) -> None:
    await connection.read_until(b"\r\n\r\n")


async def breaks_off(connection: Peer) -> None:
    await connection.message()
    await connection.send(b"HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nabc")


EXCHANGES = {
    "plain": (plain, answers(OK)),
    "kept alive": (twice, answers(OK)),
    "pipelined": (pipelined, answers(OK)),
    "sent once more": (twice, closes_when_used_again),
    "response streams": (plain, streams),
    "request streams": (upload, answers(OK)),
    "both stream": (upload, streams),
    "large response": (plain, large),
    "large request": (large_upload, answers(OK)),
    "100-continue": (expecting, continues),
    "upgraded": (upgrade, echoes),
    "broken off": (plain, breaks_off),
}


RETRIED = {
    "an answer": (plain, answers(b"HTTP/1.1 503 No\r\ncontent-length: 0\r\n\r\n")),
    "half an answer": (plain, half_an_answer),
    "a closed connection": (plain, closes),
    "while the request streams": (upload, closes),
}
POLICY = RetryPolicy(("5xx",), 2, per_try_timeout_s=60, base_interval_s=1e-6)


def retried(server: Backend) -> Snapshot:
    """All is tried again, and has its time."""
    route = forward()
    assert isinstance(route.action, RouteAction)
    action = replace(route.action, retry_policy=POLICY, timeout_s=100)
    return snapshot(cluster(server), routes=[replace(route, action=action)])


@pytest.mark.parametrize(("behave", "script"), RETRIED.values(), ids=RETRIED)
async def test_nothing_leaks_wherever_a_request_that_is_tried_again_is_cancelled(
    behave: Callable[[Client], Awaitable[None]], script: Script
) -> None:
    step, fired = 0, True
    while fired:
        step += 1
        async with backend(script) as server, gateway(retried(server)) as proxy:
            cancelling = CancelAtStep(step, partial(cancel_all, proxy))
            trio.lowlevel.add_instrument(cancelling)
            client = await proxy.client()
            with suppress(EOFError, OSError):
                await behave(client)
            trio.lowlevel.remove_instrument(cancelling)
            fired = cancelling.fired
            client.close()
            await until(partial(operator.not_, proxy.connections))
            [one] = proxy.worker.clusters.values()
            assert one.retry_limit.active == 0
    assert step > 3


def cancel_all(proxy: Gateway) -> None:
    for connection in proxy.connections:
        connection.scope.cancel()


@pytest.mark.parametrize(("behave", "script"), EXCHANGES.values(), ids=EXCHANGES)
async def test_nothing_leaks_wherever_an_exchange_is_cancelled(
    behave: Callable[[Client], Awaitable[None]], script: Script
) -> None:
    step, fired = 0, True
    while fired:
        step += 1
        # Leaving the gateway is what looks for leaks.
        async with backend(script) as server, gateway(snapshot(server)) as proxy:
            cancelling = CancelAtStep(step, partial(cancel_all, proxy))
            trio.lowlevel.add_instrument(cancelling)
            client = await proxy.client()
            with suppress(EOFError, OSError):
                await behave(client)
            trio.lowlevel.remove_instrument(cancelling)
            fired = cancelling.fired
            client.close()
            await until(partial(operator.not_, proxy.connections))
            assert proxy.log_lines or not any(server.received), "a request that was passed on has its line"
            assert all(line.details != "-" for line in proxy.log_lines)
    assert step > 2


@pytest.mark.parametrize(("behave", "script"), EXCHANGES.values(), ids=EXCHANGES)
async def test_nothing_leaks_wherever_the_time_to_drain_runs_out(
    behave: Callable[[Client], Awaitable[None]], script: Script
) -> None:
    step, fired = 0, True
    while fired:
        step += 1
        async with backend(script) as server, gateway(snapshot(server), drain_time_s=0) as proxy:
            cancelling = CancelAtStep(step, proxy.worker.stop)
            trio.lowlevel.add_instrument(cancelling)
            with suppress(EOFError, OSError):
                client = await proxy.client()
                await behave(client)
            trio.lowlevel.remove_instrument(cancelling)
            fired = cancelling.fired
