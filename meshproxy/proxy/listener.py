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
        try:
            while True:
                await trio.lowlevel.wait_readable(listening)
                if not _accept_waiting(listening, accepted):
                    await trio.sleep(_EXHAUSTED_PAUSE_S)
        finally:
            # The kernel has let these in already: closed over, they would be reset.
            _accept_waiting(listening, accepted)


def _accept_waiting(listening: socket.socket, accepted: Callable[[socket.socket], None]) -> bool:
    """Accept all that wait; False when there is no room for more."""
    try:
        while True:
            connection, _ = listening.accept()
            accepted(connection)
    except BlockingIOError:
        return True
    except OSError as error:
        if error.errno in _EXHAUSTED:
            _log.warning("cannot accept connections: %s; trying again", error.strerror)
            return False
        return True  # one client gave up before it was accepted, which is its own affair
