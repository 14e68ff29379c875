"""When time runs out: the deadlines of all requests under way, which one task keeps.

Most requests are answered long before. A cancel scope of trio's for each of them costs two fifths of all that a small
request costs; here a deadline is an entry in a dictionary. Only those that the task still finds there when it looks, at
the soonest of them, are put in order.

Rules:

1. A deadline strikes once, at its time and not before, unless it is forgotten or another is set in its place.
2. When the task has looked, its heap holds no more than twice the deadlines that may still strike, and a few.
"""

from __future__ import annotations

import math
from heapq import heapify, heappop, heappush
from itertools import count
from typing import Protocol

import trio
from trio.lowlevel import RunVar, spawn_system_task

_FEW = 128


class Timed(Protocol):
    """What has a deadline."""

    due: int
    """Which of those in order is its own; 0 for none. It is for `Deadlines` to change."""

    def strike(self) -> None:
        """Its time has come. Must not raise."""


class Deadlines:
    """Those of a trio run. Times are trio's."""

    __slots__ = ("_heap", "_in_order", "_nap", "_new", "_next", "_number", "now")

    def __init__(self) -> None:
        self.now = trio.lowlevel.current_clock().current_time
        """`trio.current_time`, without finding out first which run this is."""
        self._new: dict[Timed, float] = {}
        """Those that were set since the task looked last."""
        self._heap: list[tuple[float, int]] = []
        # Apart from the heap, so that what needs its deadline no more is not kept for it.
        self._in_order: dict[int, Timed] = {}
        self._number = count(1).__next__
        self._next = math.inf
        """When the task looks next: nothing has to strike before."""
        self._nap = trio.CancelScope()
        spawn_system_task(self._run)

    def __repr__(self) -> str:
        return f"<Deadlines: {len(self._new) + len(self._in_order)}>"

    def set(self, timed: Timed, time: float) -> None:
        """Let it strike at a time, and at no other."""
        if timed.due:
            self.forget(timed)
        self._new[timed] = time
        if time < self._next:
            self._next = self._nap.deadline = time

    def forget(self, timed: Timed) -> None:
        """It need not strike, if it has not yet."""
        if timed.due:
            del self._in_order[timed.due]
            timed.due = 0
        else:
            self._new.pop(timed, None)

    async def _run(self) -> None:
        while True:
            self._next = self._strike(self.now())
            self._nap = trio.CancelScope(deadline=self._next)
            with self._nap:
                await trio.sleep_forever()

    def _strike(self, now: float) -> float:
        """Let all strike whose time has come, who may set and forget others. Returns when to look again."""
        while True:
            if self._new:
                self._put_in_order()
            if not self._heap:
                return math.inf
            time, number = self._heap[0]
            if time > now and number in self._in_order:
                return time
            heappop(self._heap)
            timed = self._in_order.pop(number, None)
            if timed is not None:
                timed.due = 0
                timed.strike()

    def _put_in_order(self) -> None:
        for timed, time in self._new.items():
            timed.due = number = self._number()
            self._in_order[number] = timed
            heappush(self._heap, (time, number))
        self._new.clear()
        if len(self._heap) > 2 * len(self._in_order) + _FEW:
            self._heap = [entry for entry in self._heap if entry[1] in self._in_order]
            heapify(self._heap)


def deadlines() -> Deadlines:
    """Those of this trio run."""
    try:
        return _CURRENT.get()
    except LookupError:
        made = Deadlines()
        _CURRENT.set(made)
        return made


_CURRENT: RunVar[Deadlines] = RunVar("meshproxy.proxy.upstream.deadlines")
