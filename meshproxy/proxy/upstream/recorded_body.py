"""A request's body that is kept while it is sent, so that it can be sent again.

A try that has failed may still be waiting for the client's next piece. That piece is not lost: it goes to the record,
where the next try finds it; meanwhile that one waits too, for only one of them reads from the client.

Large pieces go from socket to socket inside the kernel, and are kept there too (`splice`): measured, an upload of 1 MB
costs half of what it costs to have it pass through this process.

Rules:

1. What is kept in the kernel is released exactly once: when it is read to be sent again, when the record has no room
   for more, or when the record is settled and who sends it has passed it or has ended.
"""

from __future__ import annotations

from collections.abc import Callable

import trio

from ..http.message import Body, Headers
from ..splice import KeptPipe, Pipe, Sink

MAX_RECORDED = 1 << 20
"""Bytes: Envoy's limit of what one connection buffers. What is larger can be sent once only."""

MAX_RECORDED_TOGETHER = 256 << 20
"""Bytes, of all requests at a time: clients choose how many there are, and how slowly they go on."""


class Room:
    """What may yet be kept, of all requests together. Whoever has claimed some of it gives it back, once."""

    __slots__ = ("left",)

    def __init__(self, size: int) -> None:
        self.left = size

    def claim(self, length: int | None) -> int:
        """How many bytes may be kept of a body so long, or of one whose length nobody knows: all that it may have, or
        nothing."""
        wanted = MAX_RECORDED if length is None else length
        if wanted > MAX_RECORDED or wanted > self.left:
            return 0
        self.left -= wanted
        return wanted

    def give_back(self, claimed: int) -> None:
        """They are kept no longer."""
        self.left += claimed


ROOM = Room(MAX_RECORDED_TOGETHER)


class RecordedBody(Body):
    """A body for one try. `again` is the same one for another try, as long as it is `replayable`."""

    def __init__(self, record: _Record) -> None:
        self._record = record
        self._taken = 0
        self._number = record.readers = record.readers + 1
        record.closed = False
        self.length = record.source.length
        self.trailers: Headers = []
        self.finished = False

    @property
    def replayable(self) -> bool:
        """All that has come is there to be sent again."""
        return self._record.keeping or not self._record.begun

    def again(self) -> RecordedBody:
        """The body from its beginning."""
        return RecordedBody(self._record)

    @property
    def latest(self) -> bool:
        """No other try has begun."""
        return self._number == self._record.readers

    def settle(self, answered: bool) -> None:
        """There will be no other try: keep nothing more. When this one was `answered`, it may go on to be sent."""
        record = self._record
        record.settled = True
        record.keeping = False
        record.closed = record.closed or not answered
        record.drop(len(record.pieces) if record.closed else self._taken)

    async def receive(self) -> bytes:
        record = self._record
        piece = b""
        if self._taken == len(record.pieces) and not record.ended:
            piece = await self._receive_more()
        if self._taken < len(record.pieces):
            piece = record.piece(self._taken)
            self._taken += 1
        self._note_end()
        return piece

    async def _receive_more(self) -> bytes:
        """Have a piece more in the record; where it is not kept, the piece itself."""
        record = self._record
        await record.begin_reading()
        try:
            if self._taken < len(record.pieces) or record.ended:
                return b""
            record.begun = True
            piece = await record.source.receive()
            record.note_end()
            if record.keeps(piece, len(piece), self):
                return b""
            self._taken = len(record.pieces)
            return piece
        finally:
            record.end_reading()

    async def splice_to(self, sink: Sink, sent: Callable[[int], None]) -> None:
        record = self._record
        if self._taken < len(record.pieces):
            return  # what has been kept need not wait for what is still to come
        await record.begin_reading()
        try:
            if self._taken == len(record.pieces) and not record.ended:
                record.begun = True
                await record.source.splice_to(_Keeping(self, sink) if record.keeping else sink, sent)
                record.note_end()
        finally:
            record.end_reading()
        self._note_end()

    async def send_kept(self, pipe: Pipe, sink: Sink, sent: Callable[[int], None]) -> None:
        """Send what a pipe holds, and keep it: in the kernel, or here where that has no room."""
        count = pipe.held
        piece = pipe.kept() or pipe.read()
        if self._record.keeps(piece, count, self):
            self._taken += 1
        elif isinstance(piece, KeptPipe):
            piece.release()
        if pipe.held:
            await sink.send_piped(pipe, sent)
        elif isinstance(piece, bytes):
            await sink.send(piece)
            sent(count)

    def receive_nowait(self) -> bytes:
        return b""

    def close(self) -> None:
        """What is not read, the client's connection is closed over."""
        record = self._record
        if self.latest:
            record.closed = True
            if record.settled:
                record.drop(len(record.pieces))

    def _note_end(self) -> None:
        record = self._record
        self.finished = record.ended and self._taken == len(record.pieces)
        self.trailers = record.source.trailers


class _Keeping:
    """A sink that keeps what is sent by way of it, for another try."""

    def __init__(self, body: RecordedBody, sink: Sink) -> None:
        self._body = body
        self._sink = sink
        self.spliceable = sink.spliceable

    async def send(self, data: bytes) -> None:
        await self._sink.send(data)

    async def send_piped(self, pipe: Pipe, sent: Callable[[int], None]) -> None:
        await self._body.send_kept(pipe, self._sink, sent)


def recorded(source: Body, limit: int, on_end: Callable[[], None]) -> RecordedBody:
    """`source`, of which up to `limit` bytes are kept; `on_end` is called when the last of it has come."""
    return RecordedBody(_Record(source, limit, on_end))


class _Record:
    """What has come of a body, and what was kept of it: all, or nothing. It has no reference to its `readers`: that
    would be garbage from every request."""

    __slots__ = (
        "_on_end",
        "_reading",
        "_reading_ended",
        "_room",
        "begun",
        "closed",
        "ended",
        "keeping",
        "pieces",
        "readers",
        "settled",
        "source",
    )

    def __init__(self, source: Body, limit: int, on_end: Callable[[], None]) -> None:
        self.source = source
        self.pieces: list[bytes | KeptPipe] = []
        self.begun = False
        self.ended = False
        self.keeping = limit > 0
        self.settled = False
        """There will be no other try."""
        self.readers = 0
        """How many there have been, one for each try."""
        self.closed = False
        """The latest of them reads no more."""
        self._reading = False
        self._reading_ended: trio.Event | None = None
        self._room = limit
        self._on_end = on_end

    async def begin_reading(self) -> None:
        """Be the one who reads from the client. A lock of trio's costs as much as a tenth of the copying it guards."""
        while self._reading:
            if self._reading_ended is None:
                self._reading_ended = trio.Event()
            await self._reading_ended.wait()
        self._reading = True

    def end_reading(self) -> None:
        """Let another read."""
        self._reading = False
        if self._reading_ended is not None:
            self._reading_ended.set()
            self._reading_ended = None

    def keeps(self, piece: bytes | KeptPipe, size: int, reader: RecordedBody) -> bool:
        """Keep a piece, or give up all when there is no room.

        What came for a try that has failed always has room, also for the last try: it has yet to get it.
        """
        self._room -= size
        late = not reader.latest
        if self._room < 0 and not late:
            self.keeping = False
            self.drop(len(self.pieces))
        kept = self.keeping or (late and not (self.settled and self.closed))
        if kept and size:
            self.pieces.append(piece)
        return kept

    def piece(self, place: int) -> bytes:
        """A piece that is kept, to be sent once more."""
        piece = self.pieces[place]
        if isinstance(piece, KeptPipe):
            kept, piece = piece, piece.read()
            kept.release()
            self.pieces[place] = piece
        return piece

    def drop(self, count: int) -> None:
        """Keep the first so many pieces no longer; their places stay."""
        for place, piece in enumerate(self.pieces[:count]):
            if isinstance(piece, KeptPipe):
                piece.release()
            self.pieces[place] = b""

    def note_end(self) -> None:
        """See whether all has come."""
        if self.source.finished and not self.ended:
            self.ended = True
            self._on_end()
