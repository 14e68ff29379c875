"""A socket with one face: receive, send, close.

Plain sockets wait until they are ready (`readiness`) and then are called directly: measured, that takes less than half
the time of trio's socket streams. Whoever reads or writes through a transport is alone in doing so: one task receives,
one task sends.
"""

from __future__ import annotations

import errno
import os
import socket
import struct
from collections.abc import Awaitable, Callable
from contextlib import suppress
from fcntl import ioctl
from termios import FIONREAD
from typing import Any

import trio
from trio.lowlevel import notify_closing, wait_writable

from .. import snapshot
from ..snapshot import Address, SocketAddress, TcpKeepalive
from . import splice
from .readiness import Waiter, readiness

RECEIVE_SIZE = 65536

_NONE = bytes(4)

_KEEPALIVE_TIME: int = getattr(socket, "TCP_KEEPIDLE", None) or getattr(socket, "TCP_KEEPALIVE")  # noqa: B009 (macOS)

_TCP_INFO: int = getattr(socket, "TCP_INFO", -1)
# Of enum tcp_state in Linux' <netinet/tcp.h>: TIME_WAIT, CLOSE, CLOSE_WAIT, LAST_ACK and CLOSING.
_LEFT = frozenset((6, 7, 8, 9, 11))

LOST = (OSError, trio.ClosedResourceError)
"""What `receive` and `send` raise: the connection broke, or was closed on this side."""


class Transport:
    """A connected, non-blocking stream socket, owned: `close` closes it."""

    __slots__ = ("_fd", "_readiness", "_socket", "waiter")

    spliceable = True
    """What is sent may come in a pipe."""

    cut_off = False
    """The end that was read is not the peer's word: anybody on the way may have made it."""

    def __init__(self, connected: socket.socket) -> None:
        connected.setblocking(False)
        if connected.family != socket.AF_UNIX:
            connected.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._socket = connected
        self._fd = connected.fileno()
        self.waiter = Waiter(self._fd)
        self._readiness = readiness()
        self._readiness.add(self.waiter)

    def _take_over(self, other: Transport) -> None:
        """Own the socket of another, which from now on is as good as closed."""
        self._socket, self._fd = other._socket, other._fd
        self.waiter, self._readiness = other.waiter, other._readiness
        other._fd = -1

    def __repr__(self) -> str:
        return f"<Transport fd={self._fd}>" if self._fd >= 0 else "<Transport closed>"

    @property
    def closed(self) -> bool:
        return self._fd < 0

    def addresses(self) -> tuple[bytes, str, str]:
        """The peer's IP address, the peer's address and our own, the last two as `ip:port`. Raises `OSError`."""
        peer, local = self._socket.getpeername(), self._socket.getsockname()
        if self._socket.family == socket.AF_UNIX:
            return b"", str(peer), str(local)
        return _ip(peer).encode(), str(SocketAddress(_ip(peer), peer[1])), str(SocketAddress(_ip(local), local[1]))

    async def receive(self, size: int = RECEIVE_SIZE) -> bytes:
        """What comes next, at least one byte; `b""` when the peer has closed its side. Raises `LOST`."""
        while True:
            await self.readable()
            data = self.receive_some(size)
            if data is not None:
                return data

    def readable(self) -> Awaitable[None]:
        """Until there may be something to receive. Raises `trio.ClosedResourceError`."""
        if self._fd < 0:
            raise trio.ClosedResourceError
        return self._readiness.wait(self.waiter)

    def receive_some(self, size: int = RECEIVE_SIZE) -> bytes | None:
        """What has come, `b""` when that is the end; None when nothing has. Raises `LOST`."""
        waiter = self.waiter
        try:
            data = self._socket.recv(size)
        except BlockingIOError:
            waiter.ready = False
            return None
        except OSError as error:
            if self._fd < 0:
                raise trio.ClosedResourceError from error
            raise
        if len(data) < size:
            waiter.ready = waiter.hung_up
        return data

    async def send(self, data: bytes) -> None:
        """Send all of it, waiting for the peer to take it. Raises `LOST`."""
        sent = self.send_some(data)
        if sent < len(data):
            await self.send_rest(data, sent)

    def send_some(self, data: bytes) -> int:
        """Send what can be sent without waiting, and tell how much of it that was. Raises `LOST`."""
        try:
            return self._socket.send(data)
        except BlockingIOError:
            return 0

    async def send_rest(self, data: bytes, sent: int) -> None:
        """Send what is left of it behind the first `sent` bytes. Raises `LOST`."""
        rest = memoryview(data)[sent:]
        while rest:
            await wait_writable(self._fd)
            with suppress(BlockingIOError):
                rest = rest[self._socket.send(rest) :]

    async def receive_piped(self, most: int) -> splice.Pipe | None:
        """What comes next, in a pipe for a `with` statement of the caller's; empty when the peer has closed its side.

        None when there is no pipe to be had. Raises `LOST`.
        """
        if self._fd < 0:
            raise trio.ClosedResourceError
        waiter = self.waiter
        while True:
            await self._readiness.wait(waiter)
            try:
                pipe = splice.received(self._fd, most)
            except BlockingIOError:
                waiter.ready = False
                continue
            # That it came short does not tell that all was seen: a pipe may be full with fewer bytes than asked for.
            if pipe is not None and ioctl(self._fd, FIONREAD, _NONE) == _NONE:
                waiter.ready = waiter.hung_up
            return pipe

    async def send_piped(self, pipe: splice.Pipe, sent: Callable[[int], None]) -> None:
        """Send all that the pipe holds; `sent` is told how many bytes the peer has taken. Raises `LOST`."""
        while pipe.held:
            try:
                sent(pipe.drain(self._fd))
            except BlockingIOError:
                await wait_writable(self._fd)

    def send_end(self) -> None:
        """Send no more: the peer reads an end of stream, and may still send."""
        with suppress(OSError):
            self._socket.shutdown(socket.SHUT_WR)

    def peek(self) -> bool | None:
        """Without waiting: True if there is something to receive, False if the peer is gone, None if neither."""
        try:
            return bool(self._socket.recv(1, socket.MSG_PEEK))
        except BlockingIOError:
            return None
        except OSError:
            return False

    def left(self) -> bool:
        """Whether the peer has closed its side, or the connection is broken, whatever came before and was not read.

        False where the system does not tell: elsewhere than on Linux, and of Unix sockets.
        """
        try:
            return self._socket.getsockopt(socket.IPPROTO_TCP, _TCP_INFO, 1)[0] in _LEFT
        except OSError:
            return False

    def abort(self) -> None:
        """Close with a reset, so that the peer cannot take this for the end of what it reads."""
        if self._fd >= 0:
            with suppress(OSError):
                self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            self.close()

    def close(self) -> None:
        """Close at once, any number of times; a task that waits on the socket gets `trio.ClosedResourceError`."""
        if self._fd >= 0:
            notify_closing(self._fd)
            self._readiness.remove(self.waiter)
            self._fd = -1
            self._socket.close()


def _ip(name: tuple[Any, ...]) -> str:
    """The IP address of a socket's name; one of IPv4 as such, also where it came by a socket of both versions."""
    return str(name[0]).removeprefix("::ffff:") if "." in name[0] else str(name[0])


async def connect(address: Address, keepalive: TcpKeepalive | None = None) -> Transport:
    """A connection to an address (an IP address: names are looked up elsewhere). Raises `OSError`.

    With `keepalive`, the kernel asks the other side whether it is still there when nothing comes.
    """
    if isinstance(address, snapshot.Pipe):
        connecting = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        target: str | tuple[str, int] = address.path
    else:
        family = socket.AF_INET6 if ":" in address.host else socket.AF_INET
        connecting = socket.socket(family, socket.SOCK_STREAM)
        target = (address.host, address.port)
    try:
        connecting.setblocking(False)
        if keepalive is not None and connecting.family != socket.AF_UNIX:
            _keep_alive(connecting, keepalive)
        error = connecting.connect_ex(target)
        if error == errno.EINPROGRESS:
            await wait_writable(connecting)
            error = connecting.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
        if error:
            raise OSError(error, os.strerror(error))
        return Transport(connecting)
    except BaseException:
        connecting.close()
        raise


def _keep_alive(connecting: socket.socket, keepalive: TcpKeepalive) -> None:
    connecting.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for option, value in (
        (_KEEPALIVE_TIME, keepalive.time_s),
        (socket.TCP_KEEPINTVL, keepalive.interval_s),
        (socket.TCP_KEEPCNT, keepalive.probes),
    ):
        if value is not None:
            connecting.setsockopt(socket.IPPROTO_TCP, option, value)


BACKLOG = 4096


def listen(address: SocketAddress) -> socket.socket:
    """A listening, non-blocking socket. Raises `OSError`, with the address in its words."""
    return _bound(address, BACKLOG)


def bind(address: SocketAddress) -> socket.socket:
    """A non-blocking socket that has an address, and does not listen yet. Raises `OSError`, as `listen` does."""
    return _bound(address, None)


def _bound(address: SocketAddress, backlog: int | None) -> socket.socket:
    family = socket.AF_INET6 if ":" in address.host else socket.AF_INET
    try:
        return _opened(address, family, backlog)
    except OSError as error:
        hint = ""
        if error.errno == errno.EADDRINUSE:
            hint = "; another program listens there"
        elif error.errno == errno.EACCES:
            hint = "; ports below 1024 need privileges, or publish another port"
        raise OSError(error.errno, f"cannot listen on {address}: {os.strerror(error.errno or 0)}{hint}") from error


def _opened(address: SocketAddress, family: socket.AddressFamily, backlog: int | None) -> socket.socket:
    listening = socket.socket(family, socket.SOCK_STREAM)
    try:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.setblocking(False)
        listening.bind((address.host, address.port))
        if backlog is not None:
            listening.listen(backlog)
    except BaseException:
        listening.close()
        raise
    return listening
