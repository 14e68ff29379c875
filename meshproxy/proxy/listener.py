"""Accepts connections."""

from __future__ import annotations

import errno
import logging
import socket
from collections.abc import Callable

import trio

_log = logging.getLogger(__name__)

# Out of descriptors or memory: new connections wait in the backlog until some have been given back.
_EXHAUSTED = frozenset((errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM))
_EXHAUSTED_PAUSE_S = 0.1


async def accept(listening: socket.socket, accepted: Callable[[socket.socket], None]) -> None:
    """Hand each connection to `accepted`, until cancelled; closes `listening` in the end.

    All that wait are accepted at each wake-up. One at a time, the 200th client of a burst would wait for half a second.
    """
    with listening:
        while True:
            await trio.lowlevel.wait_readable(listening)
            try:
                while True:
                    connection, _ = listening.accept()
                    accepted(connection)
            except BlockingIOError:
                pass
            except OSError as error:
                if error.errno in _EXHAUSTED:
                    _log.warning("cannot accept connections: %s; trying again", error.strerror)
                    await trio.sleep(_EXHAUSTED_PAUSE_S)
                # Otherwise one client gave up before it was accepted, which is its own affair.
