"""Bodies without I/O: how long one is, and what the bytes behind a head say of it (RFC 9112, sections 6 and 7).

A family of decoders with one face, one for each framing.
"""

from __future__ import annotations

import re
import sys
from typing import Protocol

from .http1_fields import trailers_of
from .message import Headers

CHUNKED = -1
"""A body's framing is its number of bytes, or `CHUNKED`, or `UNTIL_CLOSE` (RFC 9112, section 6)."""
UNTIL_CLOSE = -2

_LARGE = 65536


class Decoder(Protocol):
    """What a framing makes of the bytes behind a head.

    `feed` returns the payload that the bytes so far held. Once `finished`, `trailers` holds the trailer fields and
    `rest` the bytes behind the body. `feed` and `end_of_stream` raise `BodyError`, after which it is of no more use.
    """

    finished: bool
    trailers: Headers
    rest: bytes

    def feed(self, data: bytes) -> bytes: ...

    @property
    def run(self) -> int:
        """How many bytes come next that are all payload, as far as is known. They need not be fed, but `passed`."""

    def passed(self, count: int) -> None:
        """As many bytes of the run have gone another way."""

    def end_of_stream(self) -> None:
        """The sender closed its side: the end of the body, or its loss."""


class BodyError(Exception):
    """A body that breaks its framing. Whose fault that is, its reader knows."""


def decoder(framing: int) -> Decoder:
    """The decoder for a body of that framing."""
    if framing == CHUNKED:
        return ChunkedDecoder()
    return UntilCloseDecoder() if framing == UNTIL_CLOSE else LengthDecoder(framing)


class LengthDecoder:
    """A body of a known number of bytes, at least one."""

    __slots__ = ("finished", "rest", "run", "trailers")

    def __init__(self, length: int) -> None:
        self.run = length
        self.finished = False
        self.trailers: Headers = []
        self.rest = b""

    def feed(self, data: bytes) -> bytes:
        left = self.run - len(data)
        if left > 0:
            self.run = left
            return data
        self.run = 0
        self.finished = True
        if left == 0:
            return data
        self.rest = data[left:]
        return data[:left]

    def passed(self, count: int) -> None:
        self.run -= count
        self.finished = self.run == 0

    def end_of_stream(self) -> None:
        raise BodyError(f"{self.run} bytes of the body never came")


class UntilCloseDecoder:
    """A body that ends where the connection does.

    What an upgraded connection says is one too, and mostly a few words: only behind a large piece more is expected.
    """

    __slots__ = ("finished", "rest", "run", "trailers")

    def __init__(self) -> None:
        self.run = 0
        self.finished = False
        self.trailers: Headers = []
        self.rest = b""

    def feed(self, data: bytes) -> bytes:
        self.passed(len(data))
        return data

    def passed(self, count: int) -> None:
        self.run = sys.maxsize if count >= _LARGE else 0

    def end_of_stream(self) -> None:
        self.run = 0
        self.finished = True


_CHUNK_HEADER_LIMIT = 4096
# RFC 9112, section 7.1:
#   chunk = chunk-size [ chunk-ext ] CRLF chunk-data CRLF
# White space behind the size is no part of it, but Envoy and h11 let it pass, and so it is let pass here.
# More digits than 64 bits need are leading zeros, which some senders pad with.
_CHUNK_HEADER = re.compile(rb"([0-9A-Fa-f]{1,20}+)[ \t]*+(?>;[\t\x20-\x7e\x80-\xff]*+)?+\Z")


class ChunkedDecoder:
    """A chunked body, read from pieces of any size (RFC 9112, section 7.1)."""

    __slots__ = ("_buffer", "_in_trailers", "_left", "_max_trailer_bytes", "finished", "rest", "trailers")

    def __init__(self, max_trailer_bytes: int = 60 * 1024) -> None:
        self._buffer = b""
        self._left = 0  # bytes still to come of the present chunk, its CRLF included
        self._in_trailers = False
        self._max_trailer_bytes = max_trailer_bytes
        self.finished = False
        self.trailers: Headers = []
        self.rest = b""

    def feed(self, data: bytes) -> bytes:
        data = self._buffer + data if self._buffer else data
        position, payload = 0, []
        while not self._in_trailers:
            if self._left > 2:
                piece = data[position : position + self._left - 2]
                payload.append(piece)
                position += len(piece)
                self._left -= len(piece)
            if self._left:
                end = data[position : position + self._left]
                if end != b"\r\n"[-self._left :][: len(end)]:
                    raise BodyError("no CRLF after chunk data")
                position += len(end)
                self._left -= len(end)
                if self._left:
                    break
            line_end = data.find(b"\r\n", position, position + _CHUNK_HEADER_LIMIT)
            if line_end < 0:
                self._refuse_hopeless_header(data, position)
                break
            size = self._chunk_size(data[position:line_end])
            position = line_end + 2
            self._left = size + 2
            self._in_trailers = size == 0
        self._buffer = data[position:]
        if self._in_trailers:
            self._read_trailers()
        return payload[0] if len(payload) == 1 else b"".join(payload)

    @property
    def run(self) -> int:
        return max(self._left - 2, 0)

    def passed(self, count: int) -> None:
        self._left -= count

    def end_of_stream(self) -> None:
        raise BodyError("the last chunk never came")

    def _read_trailers(self) -> None:
        buffer = self._buffer
        end = 0 if buffer.startswith(b"\r\n") else buffer.find(b"\r\n\r\n") + 2
        if end == 1:
            # One byte more may be the CR of the empty line behind them.
            if len(buffer) > self._max_trailer_bytes + 1:
                raise BodyError("trailers too large")
            return
        block = buffer[:end]
        if len(block) > self._max_trailer_bytes:
            raise BodyError("trailers too large")
        try:
            self.trailers = trailers_of(block)
        except ValueError as error:
            raise BodyError("bad trailer") from error
        self.rest = buffer[end + 2 :]
        self._buffer = b""
        self.finished = True

    @staticmethod
    def _chunk_size(line: bytes) -> int:
        match = _CHUNK_HEADER.match(line)
        size = -1 if match is None else int(match[1], 16)
        if not 0 <= size < 1 << 64:
            raise BodyError("bad chunk size")
        return size

    @staticmethod
    def _refuse_hopeless_header(data: bytes, position: int) -> None:
        line = data[position : position + _CHUNK_HEADER_LIMIT].removesuffix(b"\r")
        if len(data) - position >= _CHUNK_HEADER_LIMIT or (line and not _CHUNK_HEADER.match(line)):
            raise BodyError("bad chunk size")
