"""When each request is due, and how to wait for that to the microsecond.

Requests are due at even intervals, whether or not the one before has been answered (an open loop), and a latency
counts from when its request was due. Were it counted from when the request could be sent, a server that stalls would
keep those requests from being sent that would have found it stalled, and hide its stall: coordinated omission.
"""

from __future__ import annotations

import ctypes
import os
import struct
import sys
import time
from collections.abc import Callable
from typing import NamedTuple

import trio

now = time.perf_counter
"""In seconds; on Linux this is the system's CLOCK_MONOTONIC, which a `Timer` goes by."""


class Schedule(NamedTuple):
    """`total` requests, `rate` a second, from `start` on."""

    start: float
    rate: float
    total: int

    def due(self, number: int) -> float:
        """When the request of that number, from 0, is due."""
        return self.start + number / self.rate

    def due_by(self, time: float) -> int:
        """How many have become due."""
        return min(max(int((time - self.start) * self.rate) + 1, 0), self.total) if time >= self.start else 0


class Timer:
    """Waits until a time.

    trio's own waits are exact to a millisecond on Linux, as epoll_wait is, and late by half of one on average; several
    requests are due within that. A timerfd is exact to some microseconds. Elsewhere trio's waits are exact.
    """

    def __init__(self) -> None:
        self._fd = _create() if sys.platform == "linux" else -1

    def close(self) -> None:
        if self._fd >= 0:
            os.close(self._fd)

    async def wait_until(self, time: float) -> None:
        """Wait until `now() >= time`."""
        while (left := time - now()) > 0:
            if self._fd < 0:
                await trio.sleep(left)
            else:
                _arm(self._fd, time)
                await trio.lowlevel.wait_readable(self._fd)
                os.read(self._fd, 8)


_libc = ctypes.CDLL(None, use_errno=True)
_TFD_TIMER_ABSTIME = 1


def _create() -> int:
    """timerfd_create(2), which `os` has from Python 3.13 on."""
    return _checked(_libc.timerfd_create, time.CLOCK_MONOTONIC, os.O_NONBLOCK | os.O_CLOEXEC)


def _arm(fd: int, time: float) -> None:
    """timerfd_settime(2), once, at an absolute time."""
    seconds, fraction = divmod(time, 1.0)
    timespec = struct.pack("@qqqq", 0, 0, int(seconds), int(fraction * 1e9))
    _checked(_libc.timerfd_settime, fd, _TFD_TIMER_ABSTIME, timespec, None)


def _checked(call: Callable[..., int], *arguments: object) -> int:
    result = call(*arguments)
    if result < 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    return result
