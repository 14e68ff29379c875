"""The same requests at the same time, through meshproxy and Envoy under the same limits: the same are let pass.

Steps are played to both proxies, each before backends of its own that hold every request until they are told to answer.
After each step all is settled before the next, and what is compared is who was answered what, and what each backend
has on which connection.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import trio

from meshproxy.proxy.worker import Worker
from meshproxy.snapshot import CircuitBreakers, SocketAddress

from ..envoy.binary import needs_envoy
from ..proxy.support import Backend, Client, Holding, backend, cluster, snapshot
from .referee import envoy

SETTLED_S = 0.15  # Envoy is another process: nothing tells when it has nothing left to do

Step = str
"""`3`: a client sends request 3. `-3`: it leaves. `a`: each backend answers the oldest that it has."""


@dataclass(frozen=True)
class Scene:
    """Limits, and what happens under them."""

    steps: str
    limits: CircuitBreakers
    endpoints: int = 1
    max_requests_per_connection: int | None = None

    def __str__(self) -> str:
        return f"{self.limits} {self.endpoints} {self.max_requests_per_connection}: {self.steps}"


SCENES = (
    Scene("1 2 3 a a a", CircuitBreakers(max_connections=1)),
    Scene("1 2 3 a a", CircuitBreakers(max_connections=1, max_pending_requests=1)),
    Scene("1 2 3 4 5 a a a 6 a", CircuitBreakers(2, 2)),
    Scene("1 2 3 a 4 a", CircuitBreakers(max_requests=1)),
    Scene("1 2 3 4 a a 5 a", CircuitBreakers(max_requests=3)),
    Scene("1 2 3 a a a", CircuitBreakers(max_connections=1, max_requests=1)),
    Scene("1 2 3 4 a a", CircuitBreakers(max_connections=1), endpoints=2),
    Scene("1 2 a a", CircuitBreakers(max_connections=0)),
    Scene("1 2 -2 3 a a", CircuitBreakers(1, 1)),
    Scene("1 2 -1 3 a a", CircuitBreakers(1, 1)),
    Scene("1 2 3 a a a", CircuitBreakers(max_connections=1), max_requests_per_connection=1),
    Scene("1 a 2 a 3 a", CircuitBreakers(), max_requests_per_connection=2),
)


@dataclass(frozen=True)
class Told:
    """What was seen after a step: who was answered what, and what came to each endpoint over each connection."""

    answers: dict[int, int]
    received: list[list[list[bytes]]]


@needs_envoy
@pytest.mark.parametrize("scene", SCENES, ids=str)
def test_the_same_are_let_pass(scene: Scene, tmp_path: Path) -> None:
    steps = scene.steps.split()
    with ThreadPoolExecutor() as threads:
        # In loops of their own: that of one may have to wait without the other's doing so.
        theirs, ours = threads.map(lambda folder: trio.run(_played, scene, steps, folder), (tmp_path, None))
    assert list(zip(steps, ours, strict=True)) == list(zip(steps, theirs, strict=True))


async def _played(scene: Scene, steps: Sequence[Step], folder: Path | None) -> list[Told]:
    """What was seen after each step, with Envoy if there is a folder for it."""
    holdings = [Holding() for _ in range(scene.endpoints)]
    async with trio.open_nursery() as nursery:
        backends = [await nursery.start(_backend, holding) for holding in holdings]
        async with _proxy(scene, backends, folder) as address:
            play = _Play(address, backends, holdings, nursery)
            told = []
            for step in steps:
                await play.do(step)
                await trio.sleep(SETTLED_S)
                told.append(play.told())
            await play.end()
        nursery.cancel_scope.cancel()
    return told


async def _backend(holding: Holding, *, task_status: trio.TaskStatus[Backend]) -> None:
    async with backend(holding) as server:
        task_status.started(server)
        await trio.sleep_forever()


@asynccontextmanager
async def _proxy(scene: Scene, backends: Sequence[Backend], folder: Path | None) -> AsyncIterator[SocketAddress]:
    options: dict[str, Any] = {"lb_policy": "ROUND_ROBIN", "circuit_breakers": scene.limits}
    options["max_requests_per_connection"] = scene.max_requests_per_connection
    config = snapshot(cluster(*backends, **options))
    if folder is not None:
        with envoy(config, folder) as listening:
            yield listening["http"]
        return
    worker = Worker(config, drain_time_s=0.2, chance=lambda: 0.0)
    async with trio.open_nursery() as nursery:
        await nursery.start(worker.run)
        yield worker.addresses["http"]
        worker.stop()


class _Play:
    def __init__(
        self, proxy: SocketAddress, backends: Sequence[Backend], holdings: Sequence[Holding], nursery: trio.Nursery
    ) -> None:
        self._proxy = proxy
        self._backends = backends
        self._holdings = holdings
        self._nursery = nursery
        self._clients: dict[int, Client] = {}
        self._answers: dict[int, int] = {}

    async def do(self, step: Step) -> None:
        if step == "a":
            for holding in self._holdings:
                if holding.held:
                    await holding.answer()
        elif step.startswith("-"):
            self._clients.pop(-int(step)).close()
        else:
            self._nursery.start_soon(self._send, int(step))

    async def _send(self, number: int) -> None:
        client = self._clients[number] = Client(trio.socket.socket())
        await client.socket.connect((self._proxy.host, self._proxy.port))
        await client.send(b"GET /%d HTTP/1.1\r\nhost: h\r\n\r\n" % number)
        with suppress(trio.ClosedResourceError):
            self._answers[number] = (await client.response()).status

    def told(self) -> Told:
        received = [
            [[line for line in one.received.split(b"\r\n") if line.startswith(b"GET ")] for one in server.connections]
            for server in self._backends
        ]
        # Which of two endpoints is the first to be asked, each proxy draws by lot.
        return Told(dict(sorted(self._answers.items())), sorted(received))

    async def end(self) -> None:
        for client in self._clients.values():
            client.close()
        self._clients.clear()
        for holding in self._holdings:
            await holding.answer(holding.held)
