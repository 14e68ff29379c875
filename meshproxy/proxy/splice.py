"""Bytes that go from one socket to another without entering this process: splice(2), through a pipe.

Rules:

1. A pipe is in use only while bytes are in it; who waits for more has none.
2. One that still holds something when its user is done is closed: no byte can stray into another body.
3. There is a bound to how many are in use, because each costs two descriptors, and a slow reader leaves one full. Who
   gets none copies, as everybody does where the system cannot splice.
"""

from __future__ import annotations

import fcntl
import os
import socket
from contextlib import suppress
from functools import cache
from typing import Self

# By default, Linux lets an unprivileged user have as many pipes of this size before it makes them smaller.
_CAPACITY = 1 << 20
_MAX_IN_USE = 64

# Measured, an upload of 1 MB costs a tenth more if its pipe is made for it.
_MAX_IDLE = 8


class Pipe:
    """A pipe, and how many bytes it holds. A context manager that ends its use."""

    __slots__ = ("_read_end", "_write_end", "held")

    def __init__(self) -> None:
        self._read_end, self._write_end = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        self.held = 0
        with suppress(OSError):  # a smaller one will do
            fcntl.fcntl(self._write_end, fcntl.F_SETPIPE_SZ, _CAPACITY)

    def __repr__(self) -> str:
        return f"<Pipe with {self.held} bytes>"

    def __enter__(self) -> Self:
        _in_use.add(self)
        return self

    def __exit__(self, *_: object) -> None:
        _in_use.discard(self)
        if self.held or len(_idle) >= _MAX_IDLE:
            self.close()
        else:
            _idle.append(self)

    def fill(self, source: int, most: int) -> None:
        """Move what can be read from `source` into the pipe, which is empty; nothing at the end. Raises `OSError`."""
        self.held = os.splice(source, self._write_end, min(most, _CAPACITY), flags=os.SPLICE_F_NONBLOCK)

    def drain(self, sink: int) -> int:
        """Move as much into `sink` as it takes. Raises `OSError`."""
        count = os.splice(self._read_end, sink, self.held, flags=os.SPLICE_F_NONBLOCK)
        self.held -= count
        return count

    def close(self) -> None:
        os.close(self._read_end)
        os.close(self._write_end)


_in_use: set[Pipe] = set()
_idle: list[Pipe] = []


def received(source: int, most: int) -> Pipe | None:
    """What can be read from a socket, in a pipe to be used in a `with` statement; an empty one at the end.

    None when there is no pipe to be had. Raises `OSError`, such as `BlockingIOError` when there is nothing yet.
    """
    pipe = _pipe()
    if pipe is not None:
        try:
            pipe.fill(source, most)
        except OSError:
            _idle.append(pipe)
            raise
    return pipe


def close_idle() -> None:
    """Keep no pipes for later."""
    while _idle:
        _idle.pop().close()


def _pipe() -> Pipe | None:
    if len(_in_use) < _MAX_IN_USE:
        with suppress(OSError):  # out of descriptors
            if _works():
                return _idle.pop() if _idle else Pipe()
    return None


@cache
def _works() -> bool:
    """Whether sockets can be spliced here. Some systems do not have the call; some sandboxes have it and refuse it."""
    if not hasattr(os, "splice"):
        return False
    source, sink = socket.socketpair()
    with source, sink, Pipe() as trial:
        sink.send(b"?")
        try:
            trial.fill(source.fileno(), 1)
            return trial.drain(sink.fileno()) == 1
        except OSError:
            return False
