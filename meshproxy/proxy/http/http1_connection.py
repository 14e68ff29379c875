"""What both sides of HTTP/1.1 share: a transport, what was read ahead from it, and bodies that are read from it."""

from __future__ import annotations

from collections.abc import Callable

from ..splice import Sink
from ..transport import LOST, RECEIVE_SIZE, Transport
from .failures import Failure
from .http1_bodies import BodyError, decoder
from .message import Headers

# With less to come, it is copied.
_WORTH_SPLICING = 128 * 1024
# Where there is no splicing, fewer and larger pieces: measured, 1 MB costs a third less than in pieces of 64 KiB.
_LARGE = 256 * 1024


class Http1Connection:
    """A transport and its buffer: bytes received, and not yet used."""

    __slots__ = ("buffer", "transport")

    def __init__(self, transport: Transport) -> None:
        self.transport = transport
        self.buffer = b""

    async def fill(self) -> bool:
        """Receive more into the buffer; False at the end of the stream. Raises `OSError`."""
        data = await self.transport.receive()
        self.buffer = self.buffer + data if self.buffer else data
        return bool(data)


class ReceivedBody:
    """A `Body` that is read from a connection, as its framing says.

    The two sides differ in what a loss means, and in what happens at the end: `_lost` and `_ended`.
    """

    __slots__ = ("_connection", "_decoder", "finished", "length", "trailers")

    ends_when_cut = True
    """One that goes on to the end of the connection is whole, whoever has ended that."""

    def __init__(self, connection: Http1Connection, framing: int) -> None:
        self._connection = connection
        self._decoder = decoder(framing)
        self.length = framing if framing >= 0 else None
        self.trailers: Headers = []
        self.finished = False

    async def receive(self) -> bytes:
        while not self.finished:
            connection = self._connection
            piece = self.receive_nowait()
            if piece:
                return piece
            if self.finished:
                break
            try:
                data = await connection.transport.receive(max(RECEIVE_SIZE, min(self._decoder.run, _LARGE)))
            except LOST as error:
                raise self._lost(error) from error
            if data:
                connection.buffer = data
                continue
            try:
                if connection.transport.cut_off and not self.ends_when_cut:
                    raise BodyError("the connection was cut off")
                self._decoder.end_of_stream()
            except BodyError as error:
                raise self._lost(error) from error
            self._end()
        return b""

    async def splice_to(self, sink: Sink, sent: Callable[[int], None]) -> None:
        connection, decoder = self._connection, self._decoder
        if decoder.run < _WORTH_SPLICING or connection.buffer or not sink.spliceable:
            return
        while decoder.run:
            try:
                pipe = await connection.transport.receive_piped(decoder.run)
            except LOST as error:
                raise self._lost(error) from error
            if pipe is None:
                return
            with pipe:
                if not pipe.held:
                    return
                decoder.passed(pipe.held)
                self._received(pipe.held)
                if decoder.finished:
                    self._end()
                await sink.send_piped(pipe, sent)

    def receive_nowait(self) -> bytes:
        connection = self._connection
        data = connection.buffer
        if self.finished or not data:
            return b""
        connection.buffer = b""
        try:
            piece = self._decoder.feed(data)
        except BodyError as error:
            raise self._malformed(error) from error
        self._received(len(piece))
        if self._decoder.finished:
            self._end()
        return piece

    def _end(self) -> None:
        self.finished = True
        self.trailers = self._decoder.trailers
        self._connection.buffer = self._decoder.rest
        self._ended()

    def _received(self, count: int) -> None:
        """Some payload came."""

    def _ended(self) -> None:
        """All of it came, and `connection.buffer` holds what follows."""

    def _lost(self, error: Exception) -> Failure:
        """The connection broke off before the end."""
        raise NotImplementedError

    def _malformed(self, error: BodyError) -> Failure:
        """The sender does not keep to the framing."""
        raise NotImplementedError
