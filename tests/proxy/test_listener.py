"""Accepting connections: all that wait at once, and on after running out of file descriptors."""

from __future__ import annotations

import errno
import os
import resource
import socket

import pytest
import trio
import trio.testing

from meshproxy.proxy.listener import accept
from meshproxy.proxy.readiness import readiness
from meshproxy.proxy.transport import listen
from meshproxy.proxy.worker import Worker
from meshproxy.snapshot import Snapshot

from .support import GET, LOCALHOST, Client, backend, cluster, gateway, snapshot, until


async def test_a_burst_of_connections_is_accepted_at_once() -> None:
    async with backend() as server, gateway(snapshot(server)) as proxy:
        address = (proxy.address.host, proxy.address.port)
        burst = [socket.create_connection(address) for _ in range(300)]
        steps = Steps()
        trio.lowlevel.add_instrument(steps)
        await until(lambda: len(proxy.connections) == 300)
        trio.lowlevel.remove_instrument(steps)
        assert steps.polls < 10, "one a scheduler tick would make the last of them wait"
        for sock in burst:
            sock.close()
        await until(lambda: not proxy.connections)


class Steps(trio.abc.Instrument):
    """Counts how often the event loop looks for I/O."""

    def __init__(self) -> None:
        self.polls = 0

    def after_io_wait(self, timeout: float) -> None:
        self.polls += 1


async def test_connections_that_the_kernel_has_let_in_are_accepted_before_listening_ends() -> None:
    accepted: list[socket.socket] = []
    listening = listen(LOCALHOST)
    address = listening.getsockname()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(accept, listening, accepted.append)
        await trio.testing.wait_all_tasks_blocked()
        nursery.cancel_scope.cancel()
        waiting = [socket.create_connection(address) for _ in range(3)]
    assert listening.fileno() == -1
    assert [one.getpeername() for one in accepted] == [one.getsockname() for one in waiting]
    for sock in (*waiting, *accepted):
        sock.close()


async def test_many_clients_are_served_at_once() -> None:
    async with backend() as server, gateway(snapshot(server)) as proxy:
        clients = [await proxy.client() for _ in range(100)]
        for client in clients:
            await client.send(GET)
        assert [(await client.response()).status for client in clients] == [200] * 100
        assert len(await proxy.logged(100)) == 100


async def test_running_out_of_descriptors_is_survived(caplog: pytest.LogCaptureFixture) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    async with backend() as server, gateway(snapshot(server)) as proxy:
        sock = socket.create_connection((proxy.address.host, proxy.address.port))
        os.close(lowest_free := os.dup(0))
        resource.setrlimit(resource.RLIMIT_NOFILE, (lowest_free, hard))
        try:
            await until(lambda: "Too many open files" in caplog.text)
            assert not proxy.connections
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        sock.setblocking(False)
        client = Client(trio.socket.from_stdlib_socket(sock))
        assert (await client.request(GET)).status == 200
        client.close()


async def test_an_address_in_use_is_said_and_nothing_is_left_open() -> None:
    descriptors = len(os.listdir("/proc/self/fd"))
    with socket.create_server(("127.0.0.1", 0)) as taken:
        config = snapshot(cluster())
        (listener,) = config.listeners
        busy = type(LOCALHOST)("127.0.0.1", taken.getsockname()[1])
        other = type(listener)("other", busy, listener.filter_chains)
        worker = Worker(Snapshot((listener, other), ()))
        with pytest.raises(OSError, match=f"cannot listen on {busy}: .*another program listens there") as raised:
            await worker.run()
        assert raised.value.errno == errno.EADDRINUSE
        with pytest.raises(OSError, match="cannot listen on"):
            await Worker(config, admin=busy).run()
    assert len(os.listdir("/proc/self/fd")) <= descriptors


async def test_a_worker_that_is_cancelled_closes_everything() -> None:
    readiness()  # opens its own descriptor, for as long as the event loop runs
    descriptors = len(os.listdir("/proc/self/fd"))
    async with backend() as server, trio.open_nursery() as nursery:
        worker = Worker(snapshot(server), admin=LOCALHOST)
        await nursery.start(worker.run)
        address = worker.addresses["http"]
        sock = trio.socket.socket()
        await sock.connect((address.host, address.port))
        client = Client(sock)
        await client.request(GET)
        nursery.cancel_scope.cancel()
    assert await client.ended() == "closed"
    client.close()
    assert len(os.listdir("/proc/self/fd")) <= descriptors
