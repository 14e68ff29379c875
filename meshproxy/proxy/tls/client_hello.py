"""The first bytes of a connection: whether they are TLS, which server a client asks for, what it can speak.

Without I/O: bytes in, a `ClientHello` out. Grammar: RFC 8446, section 5.1 (records) and 4.1.2 (the message); RFC 6066,
section 3 (server names); RFC 7301, section 3.1 (protocols). As in Envoy's TLS inspector, what is not a well-formed
hello is not TLS, and who says so much that no hello could be as long is not listened to.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

MAX_HELLO_BYTES = 16 * 1024
"""Envoy's `max_client_hello_size`."""
MAX_BYTES = 2 * MAX_HELLO_BYTES
"""Of records, with their heads: so many are looked at."""

_BEGINNING = b"\x16\x03"  # a record of a handshake, of any version since SSL 3.0
_CLIENT_HELLO = 1
_SERVER_NAME = 0
_PROTOCOLS = 16
_HOST_NAME = 0


class ClientHello(NamedTuple):
    """What a client says of the connection that it wants: the server, in lower case, and protocols (ALPN)."""

    server_name: str = ""
    protocols: tuple[str, ...] = ()


class NotTls(Exception):
    """The connection does not begin as TLS does."""


class TooLong(Exception):
    """No hello is as long."""


class HelloReader:
    """Reads a hello from what comes, piece by piece; each byte is looked at once."""

    __slots__ = ("_head", "_left", "_message", "_seen")

    def __init__(self) -> None:
        self._head = b""
        self._left = 0  # of the present record
        self._message = bytearray()
        self._seen = 0

    def feed(self, data: bytes) -> ClientHello | None:
        """The hello, None while it has not all come. Raises `NotTls` or `TooLong`, and is then of no more use."""
        at = 0
        while at < len(data):
            if self._left:
                piece = data[at : at + self._left]
                self._message += piece
                self._left -= len(piece)
                found = self._complete()
                if found is not None:
                    return found
            else:
                piece = data[at : at + 5 - len(self._head)]
                self._head += piece
                self._begin_record()
            at += len(piece)
        self._seen += len(data)
        if self._seen >= MAX_BYTES:
            raise TooLong
        return None

    def _begin_record(self) -> None:
        """struct { ContentType type; ProtocolVersion version; uint16 length; opaque fragment[length]; }"""
        head = self._head
        if not _BEGINNING.startswith(head[:2]):
            raise NotTls
        if len(head) == 5:
            self._left = int.from_bytes(head[3:], "big")
            self._head = b""
            if not self._left:
                raise NotTls

    def _complete(self) -> ClientHello | None:
        """struct { HandshakeType msg_type; uint24 length; select (...) }"""
        message = self._message
        if message[0] != _CLIENT_HELLO:
            raise NotTls
        length = int.from_bytes(message[1:4], "big")
        if len(message) >= 4 and length > MAX_HELLO_BYTES:
            raise TooLong
        if len(message) < 4 + length:
            return None
        try:
            return _hello(bytes(message[4 : 4 + length]))
        except _Short:
            raise NotTls from None


class _Short(Exception):
    """Something ends before it should."""


class _Reader:
    """Takes numbers and bytes from the front of some bytes."""

    __slots__ = ("_at", "_data")

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._at = 0

    def __bool__(self) -> bool:
        return self._at < len(self._data)

    def number(self, size: int) -> int:
        return int.from_bytes(self.take(size), "big")

    def take(self, size: int) -> bytes:
        end = self._at + size
        if end > len(self._data):
            raise _Short
        taken = self._data[self._at : end]
        self._at = end
        return taken

    def rest(self) -> bytes:
        return self.take(len(self._data) - self._at)

    def vector(self, size: int) -> _Reader:
        """What stands behind its length, which is a number of `size` bytes."""
        return _Reader(self.take(self.number(size)))


def _hello(message: bytes) -> ClientHello:
    """struct { ProtocolVersion legacy_version; Random random; opaque legacy_session_id<0..32>;
    CipherSuite cipher_suites<2..2^16-2>; opaque legacy_compression_methods<1..2^8-1>;
    Extension extensions<8..2^16-1>; }
    """
    reader = _Reader(message)
    reader.take(2 + 32)
    reader.vector(1)
    reader.vector(2)
    reader.vector(1)
    name = ""
    protocols: tuple[str, ...] = ()
    for kind, content in _extensions(reader):
        if kind == _SERVER_NAME:
            name = _server_name(content)
        elif kind == _PROTOCOLS:
            protocols = tuple(_protocols(content))
    return ClientHello(name, protocols)


def _extensions(reader: _Reader) -> Iterator[tuple[int, _Reader]]:
    if not reader:
        return  # older clients have none
    extensions = reader.vector(2)
    if reader:
        raise NotTls
    seen = set()
    while extensions:
        kind = extensions.number(2)
        if kind in seen:
            raise NotTls
        seen.add(kind)
        yield kind, extensions.vector(2)


def _server_name(content: _Reader) -> str:
    names = content.vector(2)
    kind, name = names.number(1), names.vector(2).rest()
    if names or content or kind != _HOST_NAME or not 0 < len(name) <= 255 or b"\0" in name:
        raise NotTls
    return name.decode("latin-1").lower()


def _protocols(content: _Reader) -> Iterator[str]:
    names = content.vector(2)
    if content or not names:
        raise NotTls
    while names:
        name = names.vector(1).rest()
        if not name:
            raise NotTls
        yield name.decode("latin-1")
