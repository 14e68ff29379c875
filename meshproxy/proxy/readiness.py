"""Which sockets have something to receive.

`trio.lowlevel.wait_readable` arms a descriptor anew for every wait: a system call and its bookkeeping, twice a request.
Here a socket is registered once and stays registered, edge-triggered (epoll(7)), in a set of our own, and trio waits
for the set: one wait for all sockets on which something has come meanwhile. Measured on a relay that does nothing else,
32 connections: 17.5 µs of CPU a round instead of 20. Where there is no epoll, trio waits for each socket.

Rules:

1. An edge is told once. What it said stays in `Waiter.ready` until a read has come short or would have blocked.
2. A hang-up may be told together with data before it, and never again: `Waiter.hung_up` stays. Urgent data, too, is
   told once, and a read comes short before it whatever is behind: it counts as a hang-up.
3. One task at a time waits for a socket.
"""

from __future__ import annotations

import select
from collections.abc import Awaitable
from typing import Protocol

from trio.lowlevel import (
    Abort,
    RaiseCancelT,
    RunVar,
    Task,
    checkpoint,
    current_task,
    notify_closing,
    reschedule,
    spawn_system_task,
    wait_readable,
    wait_task_rescheduled,
)


class Waiter:
    """One socket's part in a set: what is known of it, and who waits. `fd` is its descriptor."""

    __slots__ = ("fd", "hung_up", "ready", "task")

    def __init__(self, fd: int) -> None:
        self.fd = fd
        self.ready = False
        """Something may have come, or the peer may have hung up, and nobody has seen all of it."""
        self.hung_up = False
        self.task: Task | None = None

    def stop(self, _: RaiseCancelT) -> Abort:
        """The waiting task was cancelled."""
        self.task = None
        return Abort.SUCCEEDED


class Readiness(Protocol):
    """A set of sockets. A wait may end although there is nothing: whoever reads must expect to be told so."""

    def add(self, waiter: Waiter) -> None: ...

    def wait(self, waiter: Waiter) -> Awaitable[None]:
        """Until there may be something to receive, or it is removed."""

    def remove(self, waiter: Waiter) -> None:
        """Its descriptor is about to be closed."""


def readiness() -> Readiness:
    """The set of this trio run."""
    try:
        return _CURRENT.get()
    except LookupError:
        made = Edges() if hasattr(select, "epoll") else EachWait()
        _CURRENT.set(made)
        return made


_CURRENT: RunVar[Readiness] = RunVar("meshproxy.proxy.readiness")


class Edges:
    """Sockets registered once with epoll, edge-triggered; a system task of trio's passes the edges on."""

    def __init__(self) -> None:
        self._epoll = select.epoll()
        self._waiters: dict[int, Waiter] = {}
        spawn_system_task(self._run)

    def add(self, waiter: Waiter) -> None:
        self._waiters[waiter.fd] = waiter
        self._epoll.register(waiter.fd, select.EPOLLIN | select.EPOLLPRI | select.EPOLLRDHUP | select.EPOLLET)

    def wait(self, waiter: Waiter) -> Awaitable[None]:
        if waiter.ready:
            # A sender who is never short of bytes must not keep the others waiting.
            return checkpoint()  # noqa: ASYNC105 (whoever calls this awaits)
        waiter.task = current_task()
        return wait_task_rescheduled(waiter.stop)  # noqa: ASYNC105

    def remove(self, waiter: Waiter) -> None:
        del self._waiters[waiter.fd]
        self._epoll.unregister(waiter.fd)
        if waiter.task is not None:
            reschedule(waiter.task)
            waiter.task = None

    async def _run(self) -> None:
        hang_up = select.EPOLLRDHUP | select.EPOLLHUP | select.EPOLLERR | select.EPOLLPRI
        waiters = self._waiters
        with self._epoll as edges:
            while True:
                await wait_readable(edges.fileno())
                for fd, events in edges.poll(0):
                    waiter = waiters[fd]
                    waiter.ready = True
                    if events & hang_up:
                        waiter.hung_up = True
                    if waiter.task is not None:
                        reschedule(waiter.task)
                        waiter.task = None


class EachWait:
    """Sockets that trio waits for, each time anew. Of none it is known that nothing has come."""

    def add(self, waiter: Waiter) -> None:
        waiter.ready = waiter.hung_up = True

    def wait(self, waiter: Waiter) -> Awaitable[None]:
        return wait_readable(waiter.fd)  # noqa: ASYNC105

    def remove(self, waiter: Waiter) -> None:
        notify_closing(waiter.fd)
