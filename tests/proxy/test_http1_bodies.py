"""Bodies: how each framing is decoded, that h11 reads chunks the same, however the bytes are cut."""

from __future__ import annotations

import re
from collections import Counter

import h11
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from meshproxy.proxy.http.http1_bodies import (
    CHUNKED,
    UNTIL_CLOSE,
    BodyError,
    ChunkedDecoder,
    Decoder,
    LengthDecoder,
    UntilCloseDecoder,
    decoder,
)
from meshproxy.proxy.http.http1_codec import chunk, last_chunk
from meshproxy.proxy.http.message import Headers

from .heads import in_pieces

Outcome = tuple[bytes, Headers, bytes] | str
"""Payload, trailers and what follows the body; or why there is none."""


def decode(pieces: list[bytes], into: Decoder | None = None) -> Outcome:
    """What a decoder makes of these pieces; once it has finished, the pieces that are left follow the body."""
    chunked = into or ChunkedDecoder()
    payload = b""
    for index, piece in enumerate(pieces):
        try:
            payload += chunked.feed(piece)
        except BodyError:
            return "malformed"
        if chunked.finished:
            return payload, chunked.trailers, chunked.rest + b"".join(pieces[index + 1 :])
    return "incomplete"


def h11_decode(data: bytes) -> Outcome:
    peer = h11.Connection(h11.SERVER)
    peer.receive_data(b"POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n" + data)
    payload = b""
    try:
        while True:
            event = peer.next_event()
            if isinstance(event, h11.Data):
                payload += event.data
            elif isinstance(event, h11.EndOfMessage):
                return payload, list(event.headers), peer.trailing_data[0]
            elif event is h11.NEED_DATA:
                return "incomplete"
    except h11.RemoteProtocolError:
        return "malformed"


_sizes = st.sampled_from([1, 1, 2, 3, 9, 10, 16, 255, 256])
_payloads = st.builds(
    lambda size, filler: (filler * size)[:size], _sizes, st.sampled_from([b"x", b"\r\n", b"0\r\n\r\n"])
)
_size_formats = st.sampled_from(["%x", "%x", "%X", "%04x", "%017x"])
_extensions = st.sampled_from([b"", b"", b"", b" ", b"\t ", b";a", b";a=b", b" ;a", b'; a="\xff\t"'])
_chunks = st.builds(
    lambda size_format, extension, payload: (
        b"%b%b\r\n%b\r\n" % ((size_format % len(payload)).encode(), extension, payload)
    ),
    _size_formats,
    _extensions,
    _payloads,
)
_trailers = st.sampled_from([b"", b"", b"X-T: 1\r\n", b"x-t:\t1 \r\nX-U:\r\n", b"X-T: \xff\r\n"])
_bodies = st.builds(
    lambda chunks, last, trailers, tail: b"".join([*chunks, last, b"\r\n", trailers, b"\r\n", tail]),
    st.lists(_chunks, max_size=4),
    st.sampled_from([b"0", b"00", b"0;x", b"0 "]),
    _trailers,
    st.sampled_from([b"", b"GET / HTTP/1.1\r\n\r\n", b"\r\n"]),
)


@st.composite
def _damaged(draw: st.DrawFn) -> bytes:
    data = draw(_bodies)
    for _ in range(draw(st.integers(1, 2))):
        at = draw(st.integers(0, len(data)))
        dropped = draw(st.sampled_from([0, 0, 1, 2]))
        added = draw(
            st.sampled_from([b"", b"\r", b"\n", b"\r\n", b"\0", b" ", b";", b":", b"0", b"g", b"f" * 20, b"-"])
        )
        data = data[:at] + added + data[at + dropped :]
    return data


bodies = st.one_of(_bodies, _damaged())

# RFC 9112, section 7.1.1: chunk-ext = *( BWS ";" ... ), of which h11 does not know the white space.
_WHITE_SPACE_BEFORE_EXTENSION = re.compile(rb"[0-9A-Fa-f][ \t]+;")


def test_what_is_accepted_of_a_chunked_body_h11_reads_the_same() -> None:
    seen: Counter[str] = Counter()

    @settings(max_examples=1000)
    @given(bodies)
    def agree(data: bytes) -> None:
        ours, theirs = decode([data]), h11_decode(data)
        if isinstance(ours, str):
            seen[ours] += 1
        else:
            seen["read"] += 1
            assert ours == theirs or _WHITE_SPACE_BEFORE_EXTENSION.search(data)

    agree()
    assert seen["read"] > 150
    assert seen["malformed"] > 100


def test_what_h11_accepts_of_a_chunked_body_is_accepted_unless_it_is_refused_on_purpose() -> None:
    @settings(max_examples=1000)
    @given(bodies)
    def agree(data: bytes) -> None:
        theirs = h11_decode(data)
        if not isinstance(theirs, str) and decode([data]) == "malformed":
            # On purpose: bare CR or LF, control characters, folded trailers, and sizes past 64 bits.
            without_line_ends = data.replace(b"\r\n", b"")
            assert (
                any(control in without_line_ends for control in (b"\r", b"\n", b"\0"))
                or b"\r\n " in data
                or b"f" * 17 in data
            )

    agree()


@pytest.mark.parametrize(
    "data",
    [
        pytest.param(b"1;a\rb\r\nx\r\n0\r\n\r\n", id="bare CR in a chunk extension"),
        pytest.param(b"1;a\0b\r\nx\r\n0\r\n\r\n", id="NUL in a chunk extension"),
        pytest.param(b"1;a\x7fb\r\nx\r\n0\r\n\r\n", id="DEL in a chunk extension"),
        pytest.param(b"0\r\nX-T: 1\n\n", id="bare LF behind a trailer"),
        pytest.param(b"0\r\nX-T: 1\r\n 2\r\n\r\n", id="folded trailer"),
        pytest.param(b"0\r\nX-T: \x01\r\n\r\n", id="control character in a trailer"),
    ],
)
def test_chunked_bodies_that_h11_takes_and_we_do_not(data: bytes) -> None:
    assert not isinstance(h11_decode(data), str)
    assert decode([data, b"\r\n\r\n"]) == "malformed"


def test_a_chunked_body_is_read_or_refused_the_same_however_it_is_cut() -> None:
    @settings(max_examples=1000)
    @given(in_pieces(bodies))
    def agree(pieces: list[bytes]) -> None:
        assert decode(pieces) == decode([b"".join(pieces)])

    agree()


@pytest.mark.parametrize(
    "data",
    [
        pytest.param(b"zz\r\nabc\r\n0\r\n\r\n", id="size that is no number"),
        pytest.param(b"0x3\r\nabc\r\n0\r\n\r\n", id="size with 0x"),
        pytest.param(b"-3\r\nabc\r\n0\r\n\r\n", id="negative size"),
        pytest.param(b"+3\r\nabc\r\n0\r\n\r\n", id="size with a plus"),
        pytest.param(b" 3\r\nabc\r\n0\r\n\r\n", id="blank before the size"),
        pytest.param(b"\r\nabc\r\n0\r\n\r\n", id="empty size line"),
        pytest.param(b";a\r\nabc\r\n0\r\n\r\n", id="extension without a size"),
        pytest.param(b"3 a\r\nabc\r\n0\r\n\r\n", id="size with something behind it"),
        pytest.param(b"3\nabc\n0\n\n", id="bare LFs"),
        pytest.param(b"3\rabc", id="bare CR"),
        pytest.param(b"f" * 18 + b"\r\nabc\r\n", id="size past 64 bits"),
        pytest.param(b"10000000000000000\r\nabc\r\n", id="size of 2**64"),
        pytest.param(b"0" * 21 + b"\r\n", id="size of 21 digits"),
        pytest.param(b"3;" + b"a" * 4094, id="endless extension"),
        pytest.param(b"3\r\nabcX\r\n0\r\n\r\n", id="more data than the size says"),
        pytest.param(b"3\r\nabc\n0\r\n\r\n", id="LF alone behind the data"),
        pytest.param(b"3\r\nabc\rX", id="CR alone behind the data"),
        pytest.param(b"0\r\nfoo\r\n\r\n", id="trailer without a colon"),
        pytest.param(b"0\r\nx y: 1\r\n\r\n", id="trailer with a bad name"),
    ],
)
def test_malformed_chunked_bodies_are_refused(data: bytes) -> None:
    assert decode([data]) == "malformed"
    assert decode([data[at : at + 1] for at in range(len(data))]) == "malformed"


@pytest.mark.parametrize(
    "header", [b"3", b"003", b"3 ", b"3\t", b"3;a=b", b"3 ;a", b"00000000000000003", b"3;" + b"a" * 4092]
)
def test_forms_of_a_chunk_header_that_are_taken(header: bytes) -> None:
    assert decode([header + b"\r\nabc\r\n0\r\n\r\n"]) == (b"abc", [], b"")


def test_a_chunk_of_as_many_bytes_as_64_bits_can_count_is_begun() -> None:
    assert ChunkedDecoder().feed(b"ffffffffffffffff\r\nabc") == b"abc"


def test_payload_is_handed_out_as_it_comes() -> None:
    chunked = ChunkedDecoder()

    assert [chunked.feed(piece) for piece in (b"5\r", b"\nab", b"cde", b"\r\n2\r\nfg\r\n1\r\nh")] == [
        b"",
        b"ab",
        b"cde",
        b"fgh",
    ]
    assert not chunked.finished


def test_trailers_are_read_and_what_follows_the_body_is_left() -> None:
    chunked = ChunkedDecoder()

    assert chunked.feed(b"0\r\nX-T: a b \r\nx-u:\r\n\r\nGET / ") == b""

    assert chunked.finished
    assert chunked.trailers == [(b"x-t", b"a b"), (b"x-u", b"")]
    assert chunked.rest == b"GET / "


@pytest.mark.parametrize("cut", [False, True])
def test_trailers_may_be_as_large_as_the_limit_and_no_larger(cut: bool) -> None:
    def outcome(size: int) -> Outcome:
        data = b"0\r\n%b\r\n" % (b"x:" + b"a" * (size - 4) + b"\r\n")
        return decode([data[at : at + 1] for at in range(len(data))] if cut else [data], ChunkedDecoder(100))

    assert not isinstance(outcome(100), str)
    assert outcome(101) == "malformed"


def test_trailers_without_an_end_are_refused_at_the_limit() -> None:
    assert decode([b"0\r\nx: " + b"a" * 61440]) == "malformed"


def test_what_is_written_as_chunks_is_read_as_it_was() -> None:
    @given(st.lists(st.binary(min_size=1, max_size=40), max_size=5))
    def same(payloads: list[bytes]) -> None:
        trailers = [(b"x-t", b"1")]
        data = b"".join(map(chunk, payloads)) + last_chunk(trailers)
        assert decode([data]) == (b"".join(payloads), trailers, b"")

    same()


@pytest.mark.parametrize(
    ("pieces", "expected"),
    [
        ([b"abcde"], (b"abcde", [], b"")),
        ([b"ab", b"cde"], (b"abcde", [], b"")),
        ([b"abc", b"defg"], (b"abcde", [], b"fg")),
        ([b"abcdefg"], (b"abcde", [], b"fg")),
        ([b"abcd"], "incomplete"),
    ],
)
def test_a_body_of_known_length_ends_there(pieces: list[bytes], expected: Outcome) -> None:
    assert decode(pieces, LengthDecoder(5)) == expected


def test_a_body_until_close_is_all_that_comes() -> None:
    until_close = UntilCloseDecoder()

    assert until_close.feed(b"abc") == b"abc"
    assert not until_close.finished
    until_close.end_of_stream()
    assert until_close.finished


@pytest.mark.parametrize("broken_off", [ChunkedDecoder(), LengthDecoder(5)])
def test_the_end_of_the_stream_before_the_end_of_the_body_is_an_error(broken_off: Decoder) -> None:
    with pytest.raises(BodyError):
        broken_off.end_of_stream()


def test_what_goes_another_way_than_through_the_decoder_counts_as_fed() -> None:
    body = LengthDecoder(10)
    assert body.run == 10
    assert body.feed(b"abc") == b"abc"
    body.passed(5)
    assert (body.run, body.finished) == (2, False)
    assert body.feed(b"dere") == b"de"
    assert (body.run, body.finished, body.rest) == (0, True, b"re")
    body = LengthDecoder(10)
    body.passed(10)
    assert (body.run, body.finished, body.rest) == (0, True, b"")


def test_of_a_chunked_body_only_the_present_chunk_may_go_another_way() -> None:
    body = ChunkedDecoder()
    assert body.run == 0
    body.feed(b"a\r\nab")
    assert body.run == 8
    body.passed(8)
    assert body.run == 0
    assert body.feed(b"\r") == b""
    assert body.run == 0
    assert body.feed(b"\n2\r\nxy\r\n0\r\n\r\n") == b"xy"
    assert (body.run, body.finished) == (0, True)


def test_of_a_body_until_close_more_is_expected_only_behind_a_large_piece() -> None:
    body = UntilCloseDecoder()
    assert body.run == 0
    body.feed(bytes(65536))
    assert body.run > 1 << 40
    body.passed(65535)
    assert body.run == 0
    body.feed(bytes(65536))
    body.end_of_stream()
    assert (body.run, body.finished) == (0, True)


def test_each_framing_has_its_decoder() -> None:
    assert isinstance(decoder(CHUNKED), ChunkedDecoder)
    assert isinstance(decoder(UNTIL_CLOSE), UntilCloseDecoder)
    assert isinstance(decoder(5), LengthDecoder)


@pytest.mark.parametrize(
    "name",
    [
        b"Content-Length",
        b"transfer-encoding",
        b"Host",
        b"Authorization",
        b"cookie",
        b"x-forwarded-for",
        b"X-Envoy-Internal",
    ],
)
def test_what_decides_about_a_message_cannot_come_behind_it(name: bytes) -> None:
    decoder = ChunkedDecoder()
    decoder.feed(b"0\r\ngrpc-status: 0\r\n%b: 1\r\nx-checksum: 2\r\n\r\n" % name)

    assert decoder.trailers == [(b"grpc-status", b"0"), (b"x-checksum", b"2")]
