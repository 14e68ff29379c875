"""A request's body that is kept while it is sent, so that it can be sent again.

A try that has failed may still be waiting for the client's next piece. That piece is not lost: it goes to the record,
where the next try finds it; meanwhile that one waits too, for only one of them reads from the client.
"""

from __future__ import annotations

from collections.abc import Callable

import trio

from ..http.message import Body, Headers
from ..transport import Transport

MAX_RECORDED = 1 << 20
"""Bytes: Envoy's limit of what one connection buffers. What is larger can be sent once only."""


class RecordedBody(Body):
    """A body for one try. `again` is the same one for another try, as long as it is `replayable`."""

    def __init__(self, record: _Record) -> None:
        self._record = record
        self._taken = 0
        self.length = record.source.length
        self.trailers: Headers = []
        self.finished = False

    @property
    def replayable(self) -> bool:
        """All that has come is there to be sent again."""
        return self._record.keeping or not self._record.begun

    def again(self) -> RecordedBody:
        """The body from its beginning."""
        self._record.reader = another = RecordedBody(self._record)
        return another

    async def receive(self) -> bytes:
        record = self._record
        piece = b""
        if self._taken == len(record.pieces) and not record.ended:
            piece = await self._receive_more()
        if self._taken < len(record.pieces):
            piece = record.pieces[self._taken]
            self._taken += 1
        self._note_end()
        return piece

    async def _receive_more(self) -> bytes:
        """Have a piece more in the record; where it is not kept, the piece itself."""
        record = self._record
        try:
            record.reading.acquire_nowait()  # without giving way, where nobody else reads
        except trio.WouldBlock:
            await record.reading.acquire()
        try:
            if self._taken < len(record.pieces) or record.ended:
                return b""
            record.begun = True
            piece = await record.source.receive()
            record.note_end()
            if record.keeps(piece, self):
                return b""
            self._taken = 0
            return piece
        finally:
            record.reading.release()

    async def splice_to(self, sink: Transport, sent: Callable[[int], None]) -> None:
        record = self._record
        if not record.keeping:
            record.begun = True
            await record.source.splice_to(sink, sent)
            record.note_end()
            self._note_end()

    def receive_nowait(self) -> bytes:
        return b""

    def close(self) -> None:
        """Nothing to give back here: what is not read, the client's connection is closed over."""

    def _note_end(self) -> None:
        record = self._record
        self.finished = record.ended and self._taken == len(record.pieces)
        self.trailers = record.source.trailers


def recorded(source: Body, limit: int, on_end: Callable[[], None]) -> RecordedBody:
    """`source`, of which up to `limit` bytes are kept; `on_end` is called when the last of it has come."""
    return _Record(source, limit, on_end).reader


class _Record:
    """What has come of a body, and what was kept of it: all, or nothing. `reader` is that of the latest try."""

    __slots__ = ("_on_end", "_room", "begun", "ended", "keeping", "pieces", "reader", "reading", "source")

    def __init__(self, source: Body, limit: int, on_end: Callable[[], None]) -> None:
        self.source = source
        self.pieces: list[bytes] = []
        self.begun = False
        self.ended = False
        self.keeping = limit > 0
        self.reading = trio.Lock()
        self.reader = RecordedBody(self)
        self._room = limit
        self._on_end = on_end

    def keeps(self, piece: bytes, reader: RecordedBody) -> bool:
        """Keep a piece, or give up all when there is no room. What came for a try that has failed always has room."""
        self._room -= len(piece)
        if self._room < 0 and reader is self.reader:
            self.keeping = False
            self.pieces.clear()
        if self.keeping and piece:
            self.pieces.append(piece)
        return self.keeping

    def note_end(self) -> None:
        """See whether all has come."""
        if self.source.finished and not self.ended:
            self.ended = True
            self._on_end()
