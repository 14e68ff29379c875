"""Accepts connections, and finds out which filter chain each is for."""

from __future__ import annotations

import errno
import logging
import socket
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, NamedTuple

import trio

from ..snapshot import FilterChain, FilterChainMatch
from ..telemetry.metrics import ListenerStats
from .filter_chains import ChainIndex
from .http.connection_manager import ConnectionManager
from .http.message import Connection
from .tls.client_hello import ClientHello, HelloReader, NotTls, TooLong
from .transport import LOST, Transport

if TYPE_CHECKING:
    from .tls.server import ServerTls

_log = logging.getLogger(__name__)

# Out of descriptors or memory: new connections wait in the backlog until some have been given back.
_EXHAUSTED = frozenset((errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM))
_EXHAUSTED_PAUSE_S = 0.1

_INSPECTION_S = 15.0  # Envoy's listener_filters_timeout
_HANDSHAKE_S = 15.0  # Istio's transport_socket_connect_timeout of gateways


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


class Arrival(NamedTuple):
    """A connection at its filter chain: what speaks HTTP on it, what is known of it, what was read from it already."""

    transport: Transport
    manager: ConnectionManager
    connection: Connection
    received: bytes = b""


class RunningChain:
    """A filter chain with what runs it."""

    __slots__ = ("details", "manager", "name", "tls")

    def __init__(self, config: FilterChain, manager: ConnectionManager, tls: ServerTls | None) -> None:
        self.name = config.name
        self.manager = manager
        self.tls = tls
        self.details = None if config.http.forward_client_cert == "SANITIZE" else config.http.client_cert_details

    def __repr__(self) -> str:
        return f"<RunningChain {self.name}>"

    async def arrive(self, transport: Transport, received: bytes, hello: ClientHello | None) -> Arrival | None:
        """The connection, secured if need be; None when nothing came of it."""
        if self.tls is None:
            return Arrival(transport, self.manager, Connection(*transport.addresses()), received)
        addresses = transport.addresses()
        secured = await self.tls.secure(transport, received, _HANDSHAKE_S)
        if secured is None:
            return None
        names, told = secured.peer_names, secured.told(self.details)
        connection = Connection(*addresses, names, secured.server_name.encode("latin-1"), told, b"https")
        return Arrival(secured.transport, self.manager, connection)


class RunningChains:
    """A listener's filter chains, of which `find` takes one for each connection."""

    def __init__(self, chains: Sequence[tuple[FilterChainMatch, RunningChain]], stats: ListenerStats) -> None:
        self._index = ChainIndex(chains)
        self._stats = stats
        only = self._index.only
        self.plain = only.manager if only is not None and only.tls is None else None
        """What speaks HTTP on every connection, where there is nothing to be found out about it."""

    async def arrive(self, transport: Transport) -> Arrival | None:
        """A connection at its filter chain; None when it came to none, and is closed."""
        arrived = None
        try:
            arrived = await self._arrive(transport)
        except LOST:
            pass
        finally:
            if arrived is None:
                transport.close()
        return arrived

    async def _arrive(self, transport: Transport) -> Arrival | None:
        only = self._index.only
        if only is not None:
            return await only.arrive(transport, b"", None)
        received, hello, looked = b"", None, False
        with trio.move_on_after(_INSPECTION_S):
            received, hello = await _inspect(transport)
            looked = True
        chain = self._index.find(hello) if looked else None
        if chain is None:
            self._stats.no_filter_chain_match += looked
            return None
        return await chain.arrive(transport, received, hello)


async def _inspect(transport: Transport) -> tuple[bytes, ClientHello | None]:
    """What a client says first, as far as that has to be known, and its hello if it speaks TLS. Raises `LOST`."""
    reader, received = HelloReader(), b""
    while True:
        data = await transport.receive()
        if not data:
            raise ConnectionAbortedError("the client left before it said anything of use")
        received += data
        try:
            hello = reader.feed(data)
        except NotTls:
            return received, None
        except TooLong:
            raise ConnectionAbortedError("the client says more than a hello can hold") from None
        if hello is not None:
            return received, hello
