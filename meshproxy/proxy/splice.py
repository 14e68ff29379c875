"""Bytes that go from one socket to another without entering this process: splice(2), through a pipe.

What may have to be sent again is kept in a second pipe, by tee(2): both hold the same pages of memory, and nothing is
copied. Python has no such call; the C library does.

Rules:

1. A pipe is in use only while bytes are in it; who waits for more has none.
2. One that still holds something when its user is done is emptied or closed: no byte can stray into another body.
3. There is a bound to how many are in use, because each costs two descriptors, and a slow reader leaves one full. Who
   gets none copies, as everybody does where the system cannot splice.
"""

from __future__ import annotations

import ctypes
import fcntl
import os
import socket
from collections.abc import Callable
from contextlib import suppress
from functools import cache
from typing import Protocol, Self

# By default, Linux lets an unprivileged user have as many pipes of this size before it makes them smaller.
_CAPACITY = 1 << 20
_MAX_IN_USE = 64
# Of those, as many may keep what has been sent: an upstream that takes its time leaves enough for the others.
_MAX_KEEPING = 32

# Measured, an upload of 1 MB costs a tenth more if its pipe is made for it.
_MAX_IDLE = 16


class Sink(Protocol):
    """Where bytes can be sent. What is sent raises `transport.LOST` when the connection breaks."""

    @property
    def spliceable(self) -> bool:
        """What is sent may come in a pipe."""

    async def send(self, data: bytes) -> None:
        """Send all of it."""

    async def send_piped(self, pipe: Pipe, sent: Callable[[int], None]) -> None:
        """Send all that the pipe holds; `sent` is told how many bytes have gone."""


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
        _put_away(self)

    def fill(self, source: int, most: int) -> None:
        """Move what can be read from `source` into the pipe, which is empty; nothing at the end. Raises `OSError`."""
        self.held = os.splice(source, self._write_end, min(most, _CAPACITY), flags=os.SPLICE_F_NONBLOCK)

    def drain(self, sink: int) -> int:
        """Move as much into `sink` as it takes. Raises `OSError`."""
        count = os.splice(self._read_end, sink, self.held, flags=os.SPLICE_F_NONBLOCK)
        self.held -= count
        return count

    def read(self) -> bytes:
        """Take what it holds out of it."""
        data = b""
        while self.held:
            data += (piece := os.read(self._read_end, self.held))
            self.held -= len(piece)
        return data

    def kept(self) -> KeptPipe | None:
        """What it holds, held once more, to be sent again; None where that cannot be done."""
        pipe = _pipe() if len(_keeping) < _MAX_KEEPING and _keeps() else None
        if pipe is None:
            return None
        with suppress(OSError):
            pipe.held = _tee(self._read_end, pipe._write_end, self.held)
        kept = KeptPipe(pipe)
        if pipe.held == self.held:
            return kept
        kept.release()
        return None

    def empty(self) -> None:
        """Let go of what it holds. Raises `OSError`."""
        while self.held:
            self.drain(_nowhere())

    def close(self) -> None:
        os.close(self._read_end)
        os.close(self._write_end)


class KeptPipe:
    """What has been sent and may have to be sent again. Whoever has it releases it, once."""

    __slots__ = ("_pipe",)

    def __init__(self, pipe: Pipe) -> None:
        self._pipe = pipe
        _in_use.add(pipe)
        _keeping.add(pipe)

    def __repr__(self) -> str:
        return f"<KeptPipe with {self._pipe.held} bytes>"

    def read(self) -> bytes:
        """Take what it holds out of it."""
        return self._pipe.read()

    def release(self) -> None:
        """Keep it no longer."""
        _in_use.discard(self._pipe)
        _keeping.discard(self._pipe)
        with suppress(OSError):  # then it is closed
            self._pipe.empty()
        _put_away(self._pipe)


_in_use: set[Pipe] = set()
_keeping: set[Pipe] = set()
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
    """Keep nothing open for later."""
    while _idle:
        _idle.pop().close()
    if _nowhere.cache_info().currsize:
        os.close(_nowhere())
        _nowhere.cache_clear()


def _pipe() -> Pipe | None:
    if len(_in_use) < _MAX_IN_USE:
        with suppress(OSError):  # out of descriptors
            if _works():
                return _idle.pop() if _idle else Pipe()
    return None


def _put_away(pipe: Pipe) -> None:
    if pipe.held or len(_idle) >= _MAX_IDLE:
        pipe.close()
    else:
        _idle.append(pipe)


def _tee(source: int, sink: int, size: int) -> int:
    """tee(2): as much of what the pipe `source` holds as the pipe `sink` has room for. Raises `OSError`."""
    count = int(_libc().tee(source, sink, ctypes.c_size_t(size), ctypes.c_uint(os.SPLICE_F_NONBLOCK)))
    if count < 0:
        raise OSError(ctypes.get_errno(), "tee")
    return count


@cache
def _libc() -> ctypes.CDLL:
    libc = ctypes.CDLL(None, use_errno=True)
    libc.tee.restype = ctypes.c_ssize_t
    return libc


@cache
def _nowhere() -> int:
    """What empties a pipe at no cost."""
    return os.open(os.devnull, os.O_WRONLY | os.O_CLOEXEC)


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


@cache
def _keeps() -> bool:
    """Whether what has been spliced can be kept here."""
    source, sink = socket.socketpair()
    with source, sink, Pipe() as trial, Pipe() as copy:
        sink.send(b"?")
        try:
            trial.fill(source.fileno(), 1)
            copy.held = _tee(trial._read_end, copy._write_end, 1)
            copy.empty()
            return trial.drain(_nowhere()) == 1
        except (OSError, AttributeError):
            return False
