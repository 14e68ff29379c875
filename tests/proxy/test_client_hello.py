"""The first bytes of a connection, read without I/O; OpenSSL says the hellos."""

from __future__ import annotations

import ssl
from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from meshproxy.proxy.tls.client_hello import MAX_BYTES, ClientHello, HelloReader, NotTls, TooLong


def said(
    name: str | None = "a.test", protocols: list[str] | None = None, version: ssl.TLSVersion | None = None
) -> bytes:
    """What OpenSSL begins with."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    if protocols:
        context.set_alpn_protocols(protocols)
    if version:
        context.maximum_version = version
    outgoing = ssl.MemoryBIO()
    with suppress(ssl.SSLWantReadError):
        context.wrap_bio(ssl.MemoryBIO(), outgoing, server_hostname=name).do_handshake()
    return outgoing.read()


def read(data: bytes) -> ClientHello | None:
    return HelloReader().feed(data)


def record(fragment: bytes) -> bytes:
    return b"\x16\x03\x01" + len(fragment).to_bytes(2, "big") + fragment


def vector(content: bytes, size: int = 2) -> bytes:
    return len(content).to_bytes(size, "big") + content


def hello(*extensions: tuple[int, bytes], tail: bytes | None = None) -> bytes:
    """A hello by hand; `tail` in place of the extensions."""
    written = b"".join(kind.to_bytes(2, "big") + vector(content) for kind, content in extensions)
    body = b"\x03\x03" + bytes(32) + vector(b"", 1) + vector(b"\x13\x01") + vector(b"\0", 1)
    return b"\x01" + vector(body + (vector(written) if tail is None else tail), 3)


def name_extension(name: bytes, kind: int = 0) -> tuple[int, bytes]:
    return 0, vector(bytes([kind]) + vector(name))


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
@pytest.mark.parametrize(
    ("name", "protocols"),
    [("a.test", ["h2", "http/1.1"]), ("A.Test", []), (None, ["istio"]), ("192.0.2.1", []), (None, [])],
)
def test_what_openssl_says_is_understood(name: str | None, protocols: list[str], version: ssl.TLSVersion) -> None:
    asked_for = "" if name in (None, "192.0.2.1") else str(name).lower()  # RFC 6066: addresses are not asked for
    assert read(said(name, protocols, version)) == ClientHello(asked_for, tuple(protocols))


@pytest.mark.parametrize(
    "data", [b"GET / HTTP/1.1\r\n", b"G", b"\0", b"\x16\x02", b"\x15\x03\x03\x00\x02", b"\x16\x03\x01\x00\x00"]
)
def test_what_does_not_begin_as_tls_does_is_known_at_once(data: bytes) -> None:
    with pytest.raises(NotTls):
        read(data)


@pytest.mark.parametrize(
    "message",
    [
        b"\x02" + vector(bytes(40), 3),
        b"\x01" + vector(b"", 3),
        b"\x01" + vector(bytes(34), 3),
        hello(tail=b"\x00"),
        hello(tail=vector(b"") + b"more"),
        hello((0, b"")),
        hello((0, vector(b""))),
        hello(name_extension(b"")),
        hello(name_extension(b"a\0b")),
        hello(name_extension(b"a" * 256)),
        hello(name_extension(b"a", kind=1)),
        hello((0, vector(b"\0" + vector(b"a") + b"\0" + vector(b"b")))),
        hello((0, vector(b"\0" + vector(b"a")) + b"more")),
        hello(name_extension(b"a"), name_extension(b"b")),
        hello((16, vector(b""))),
        hello((16, vector(vector(b"", 1)))),
        hello((16, vector(b"\x05h2"))),
        hello((16, vector(vector(b"h2", 1)) + b"more")),
    ],
)
def test_what_is_no_well_formed_hello_is_not_tls(message: bytes) -> None:
    with pytest.raises(NotTls):
        read(record(message))


def test_a_hello_without_extensions_or_with_unknown_ones_asks_for_nothing() -> None:
    assert read(record(hello(tail=b""))) == ClientHello()
    assert read(record(hello((0x0A0A, b""), (65_000, b"x")))) == ClientHello()


def test_a_hello_that_is_too_long_is_not_waited_for() -> None:
    with pytest.raises(TooLong):
        read(record(b"\x01\x00\x40\x01"))


def test_a_hello_in_endless_small_records_is_not_waited_for() -> None:
    reader, message = HelloReader(), hello((65_000, bytes(10_000)))
    with pytest.raises(TooLong):
        for byte in message:
            assert reader.feed(record(bytes([byte]))) is None


@given(st.lists(st.integers(1, 600), max_size=12), st.lists(st.integers(1, 600), max_size=12))
def test_it_may_come_in_any_records_and_any_pieces(records: list[int], pieces: list[int]) -> None:
    message = hello(name_extension(b"a.test"), (16, vector(vector(b"h2", 1))), (21, bytes(400)))
    wire, at = b"", 0
    for length in (*records, len(message)):
        if message[at : at + length]:
            wire += record(message[at : at + length])
            at += length
    reader, found, at = HelloReader(), None, 0
    for length in (*pieces, len(wire)):
        piece = wire[at : at + length]
        at += length
        if piece and found is None:
            found = reader.feed(piece)
    assert found == ClientHello("a.test", ("h2",))


@given(st.binary(max_size=300))
def test_whatever_comes_is_a_hello_or_not(data: bytes) -> None:
    for begun in (b"", b"\x16\x03\x01", record(hello())[:60]):
        with suppress(NotTls, TooLong):
            read(begun + data)


@given(st.integers(0, 400), st.integers(0, 255))
def test_a_hello_with_one_byte_changed_does_no_harm(place: int, byte: int) -> None:
    wire = bytearray(said("a.test", ["h2"]))
    wire[place % len(wire)] = byte
    with suppress(NotTls, TooLong):
        read(bytes(wire))


def test_so_much_is_read_at_most() -> None:
    reader, read_so_far = HelloReader(), 0
    with pytest.raises(TooLong):
        while read_so_far < 2 * MAX_BYTES:
            assert reader.feed(record(b"\x01\x00\x3f\xff") if not read_so_far else record(b"\0")) is None
            read_so_far += 6
    assert read_so_far < MAX_BYTES
