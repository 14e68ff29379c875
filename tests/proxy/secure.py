"""Scripted backends that speak TLS."""

from __future__ import annotations

import ssl
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import cast

import trio

from meshproxy.snapshot import Address

from ..certificates import Ca, Pair
from .support import LOCALHOST, Backend, Peer, Script, answers, backend

OK = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok"


class SecurePeer(Peer):
    """A client's connection, by TLS. `received` is what it sent in plain text."""

    def __init__(self, sock: trio.socket.SocketType, context: ssl.SSLContext) -> None:
        super().__init__(sock)
        self._incoming, self._outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self.tls = context.wrap_bio(self._incoming, self._outgoing, server_side=True)
        self.failure: ssl.SSLError | None = None
        """Why there is no secure connection."""

    @property
    def asked_for(self) -> str | None:
        """The server that the client asked for."""
        name: str | None = getattr(self.tls, "asked_for", None)
        return name

    async def handshake(self) -> None:
        """Raises `ssl.SSLError`, when the client has been told, and `EOFError`."""
        while True:
            try:
                self.tls.do_handshake()
                break
            except ssl.SSLWantReadError:
                await self._flush()
                await self._fill()
            except ssl.SSLError as error:
                self.failure = error
                await self._flush()
                raise
        await self._flush()

    async def send(self, data: bytes) -> None:
        if data:
            self.tls.write(data)
        await self._flush()

    async def say_goodbye(self) -> None:
        """Send `close_notify`."""
        self.end_records()
        await self._flush()

    def end_records(self) -> None:
        """Let `close_notify` be the last of what is to be sent."""
        with suppress(ssl.SSLWantReadError):
            self.tls.unwrap()

    def enciphered(self) -> bytes:
        """What is to be sent, for whoever sends it otherwise than `send`."""
        return self._outgoing.read()

    async def _receive(self) -> None:
        while True:
            try:
                data = self.tls.read(65536)
            except ssl.SSLWantReadError:
                try:
                    await self._fill()
                except EOFError:
                    data = b""
                except ConnectionError:
                    self.end = "reset"
                    return
                else:
                    continue
            except (ssl.SSLZeroReturnError, ssl.SSLEOFError):
                data = b""
            self.received += data
            if not data:
                self.end = "closed"
            return

    async def _fill(self) -> None:
        data = await self.socket.recv(65536)
        if not data:
            raise EOFError
        self._incoming.write(data)

    async def _flush(self) -> None:
        data = self._outgoing.read()
        while data:
            data = data[await self.socket.send(data) :]


def server_context(certified: Pair, clients: Ca | None = None) -> ssl.SSLContext:
    """A server's context; with `clients`, those have to show a certificate of that authority."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    with tempfile.TemporaryDirectory() as folder:
        context.load_cert_chain(*certified.write(Path(folder)))
    if clients is not None:
        context.load_verify_locations(cadata=clients.pem)
        context.verify_mode = ssl.CERT_REQUIRED

    def asked(tls: ssl.SSLObject, name: str | None, _: ssl.SSLContext) -> None:
        tls.asked_for = name  # type: ignore[attr-defined]

    context.sni_callback = asked
    return context


class SecureBackend(Backend):
    """A backend that speaks TLS."""

    @property
    def peers(self) -> list[SecurePeer]:
        """The connections, in the order in which they were accepted."""
        return cast(list[SecurePeer], self.connections)

    @property
    def names(self) -> list[str | None]:
        """The servers that clients asked for, one for each connection."""
        return [peer.asked_for for peer in self.peers]


@asynccontextmanager
async def secure_backend(
    context: ssl.SSLContext,
    script: Script = answers(OK),  # noqa: B008
    bind: Address = LOCALHOST,
) -> AsyncIterator[SecureBackend]:
    """A backend that speaks TLS."""
    peers: list[Peer] = []

    async def by_tls(plain: Peer) -> None:
        peer = SecurePeer(plain.socket, context)
        Peer.open.discard(plain)
        peers.append(peer)
        try:
            await peer.handshake()
            await script(peer)
        finally:
            peer.close()

    async with backend(by_tls, bind) as plain:
        yield SecureBackend(plain.address, peers)
