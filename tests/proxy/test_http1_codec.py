"""HTTP/1.1 heads: what is read as what, what is refused and why, and that h11 would have read the same.

Refusals are those of Envoy 1.40, measured, but for those that the RFC calls for and Envoy leaves out. Those are in a
table of their own.
"""

from __future__ import annotations

import importlib
import re
from collections import Counter
from collections.abc import Iterable, Iterator
from typing import Any

import h11
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from meshproxy.proxy.http import http1_bodies, http1_codec, http1_fields, path
from meshproxy.proxy.http.failures import (
    ABSOLUTE_HTTPS_ON_PLAINTEXT,
    BAD_REQUEST,
    CONNECTION_HEADER_REJECTED,
    HEADERS_TOO_LARGE,
    INVALID_AUTHORITY,
    LOW_VERSION,
    MISSING_HOST,
    PROTOCOL_ERROR,
    TOO_MANY_HEADERS,
    UNSUPPORTED_TRANSFER_ENCODING,
    Failure,
    Kind,
)
from meshproxy.proxy.http.http1_bodies import CHUNKED, UNTIL_CLOSE
from meshproxy.proxy.http.http1_codec import (
    CHUNKED_LINE,
    HeadLimits,
    RequestHead,
    RequestHeads,
    ResponseHead,
    ResponseHeads,
    chunk,
    last_chunk,
    request_head,
    response_head,
)
from meshproxy.proxy.http.message import Headers

from .heads import in_pieces, request_heads, response_heads

LIMITS = HeadLimits()


def lines(*several: bytes) -> bytes:
    """A head of these lines."""
    return b"".join(b"%b\r\n" % line for line in several) + b"\r\n"


def get(*fields: bytes) -> bytes:
    return lines(b"GET / HTTP/1.1", b"Host: h", *fields)


def post(*fields: bytes) -> bytes:
    return lines(b"POST / HTTP/1.1", b"Host: h", *fields)


def target(text: bytes, method: bytes = b"GET") -> bytes:
    return lines(b"%b %b HTTP/1.1" % (method, text), b"Host: h")


def host(text: bytes) -> bytes:
    return lines(b"GET / HTTP/1.1", b"Host: " + text)


def read(data: bytes, limits: HeadLimits = LIMITS) -> RequestHead:
    found = RequestHeads(limits).read(data)
    assert found is not None, "the head is complete"
    return found[0]


def refused(data: bytes, limits: HeadLimits = LIMITS) -> Failure:
    with pytest.raises(Failure) as caught:
        RequestHeads(limits).read(data)
    return caught.value


def read_response(data: bytes, method: bytes = b"GET") -> ResponseHead:
    found = ResponseHeads(LIMITS).read(data, method)
    assert found is not None, "the head is complete"
    return found[0]


def h11_request(data: bytes) -> tuple[h11.Request, int] | None:
    """What h11 makes of a request head, and the head's length; None when h11 refuses it."""
    peer = h11.Connection(h11.SERVER, max_incomplete_event_size=LIMITS.max_bytes)
    peer.receive_data(data)
    try:
        event = peer.next_event()
    except h11.RemoteProtocolError:
        return None
    assert isinstance(event, h11.Request)
    return event, len(data) - len(peer.trailing_data[0])


def h11_response(data: bytes) -> tuple[h11.Response | h11.InformationalResponse, int] | None:
    peer = h11.Connection(h11.CLIENT, max_incomplete_event_size=LIMITS.max_bytes)
    peer.send(
        h11.Request(method="GET", target="/", headers=[("host", "h"), ("connection", "upgrade"), ("upgrade", "x")])
    )
    peer.receive_data(data)
    try:
        event = peer.next_event()
    except h11.RemoteProtocolError:
        return None
    assert isinstance(event, h11.Response | h11.InformationalResponse)
    return event, len(data) - len(peer.trailing_data[0])


def plain_head(first_line: re.Pattern[bytes], data: bytes) -> tuple[re.Match[bytes], Headers, int] | None:
    """What the fast path makes of a head, before it asks what that means: first line, fields, length."""
    head, found, _ = data.partition(b"\r\n\r\n")
    line, _, block = head.partition(b"\r\n")
    match = first_line.match(line)
    fields = http1_codec._plain_fields(block)
    if not found or match is None or fields is None:
        return None
    return match, fields, len(head) + 4


def comparable(fields: Iterable[tuple[bytes, bytes]]) -> Headers:
    """Fields without what h11 normalises: it makes one of equal Content-Lengths, and lowers Transfer-Encoding."""
    return [
        (name, value.lower() if name == b"transfer-encoding" else value)
        for name, value in fields
        if name != b"content-length"
    ]


def content_lengths(fields: Iterable[tuple[bytes, bytes]]) -> list[bytes]:
    return [value for name, value in fields if name == b"content-length"]


def test_whatever_the_fast_path_accepts_of_a_request_h11_reads_the_same() -> None:
    seen: Counter[str] = Counter()

    @settings(max_examples=1000)
    @given(request_heads)
    def agree(data: bytes) -> None:
        plain = plain_head(http1_codec._PLAIN_REQUEST_LINE, data)
        if plain is None:
            seen["left to h11"] += 1
            return
        try:
            ours = RequestHeads(LIMITS).read(data)
        except Failure:
            ours = None
        theirs = h11_request(data)
        if theirs is None:
            seen["syntax accepted, meaning refused by both"] += 1
            assert ours is None
            return
        request, length = theirs
        line, fields, end = plain
        assert line[0] == b"%b %b HTTP/%b" % (request.method, request.target, request.http_version)
        assert comparable(fields) == comparable(request.headers)
        assert end == length
        seen["accepted by both" if ours else "refused by us alone"] += 1
        if ours:
            assert ours[1] == length
            assert content_lengths(fields) == content_lengths(request.headers)

    agree()
    assert seen["accepted by both"] > 30
    assert seen["left to h11"] > 30
    assert seen["syntax accepted, meaning refused by both"] > 3


def test_whatever_the_fast_path_accepts_of_a_response_h11_reads_the_same() -> None:
    seen: Counter[str] = Counter()

    @settings(max_examples=1000)
    @given(response_heads)
    def agree(data: bytes) -> None:
        plain = plain_head(http1_codec._PLAIN_STATUS_LINE, data)
        if plain is None:
            seen["left to h11"] += 1
            return
        try:
            ours = ResponseHeads(LIMITS).read(data, b"GET")
        except Failure:
            ours = None
        theirs = h11_response(data)
        if theirs is None:
            seen["syntax accepted, meaning refused by both"] += 1
            assert ours is None
            return
        response, length = theirs
        line, fields, end = plain
        minor, status = line.groups()
        assert (int(status), b"1." + minor) == (response.status_code, response.http_version)
        assert comparable(fields) == comparable(response.headers)
        assert end == length
        seen["accepted by both" if ours else "refused by us alone"] += 1
        if ours:
            assert ours[1] == length
            assert content_lengths(fields) == content_lengths(response.headers)

    agree()
    assert seen["accepted by both"] > 30
    assert seen["left to h11"] > 30
    assert seen["syntax accepted, meaning refused by both"] > 3


def test_what_the_fast_path_leaves_to_h11_never_comes_out_as_a_request() -> None:
    """All that h11 takes and the fast path does not is refused with a reason, so that there is one reading only."""

    @settings(max_examples=500)
    @given(request_heads)
    def refuse(data: bytes) -> None:
        data = data.lstrip(b"\r\n")
        if plain_head(http1_codec._PLAIN_REQUEST_LINE, data) is None and b"\r\n\r\n" in data:
            refused(data)

    refuse()


def outcome(reader: RequestHeads | ResponseHeads, *head: bytes) -> object:
    """What a head is read as, or why it is refused."""
    try:
        return reader.read(*head)  # type: ignore[arg-type]
    except Failure as failure:
        return failure.kind, failure.details


@given(st.lists(request_heads, min_size=2, max_size=4), st.data())
def test_what_a_client_said_before_does_not_change_how_a_request_is_read(
    heads: list[bytes], data: st.DataObject
) -> None:
    reader = RequestHeads(LIMITS)
    for head in data.draw(st.lists(st.sampled_from(mixed(heads)), min_size=2, max_size=8)):
        assert outcome(reader, head) == outcome(RequestHeads(LIMITS), head)


@given(st.lists(response_heads, min_size=2, max_size=4), st.data())
def test_what_an_upstream_said_before_does_not_change_how_a_response_is_read(
    heads: list[bytes], data: st.DataObject
) -> None:
    reader = ResponseHeads(LIMITS)
    methods = st.sampled_from((b"GET", b"HEAD", b"POST"))
    for head in data.draw(st.lists(st.sampled_from(mixed(heads)), min_size=2, max_size=8)):
        method = data.draw(methods)
        assert outcome(reader, head, method) == outcome(ResponseHeads(LIMITS), head, method)


def mixed(heads: list[bytes]) -> list[bytes]:
    """The heads, and heads of the first line of one and the fields of another."""
    lines_and_blocks = [head.partition(b"\r\n") for head in heads]
    return heads + [line + end + block for line, end, _ in lines_and_blocks for _, _, block in lines_and_blocks]


def test_lines_that_may_hold_a_secret_are_not_kept() -> None:
    known = http1_fields.KnownFields()
    assert known[b"Authorization: Basic c2VjcmV0"] == (b"authorization", b"Basic c2VjcmV0")
    assert known[b"Cookie: session=1"] == (b"cookie", b"session=1")
    assert not known


def test_lines_are_kept_up_to_a_number_and_a_length() -> None:
    known = http1_fields.KnownFields()
    for number in range(5000):
        assert known[b"User-Agent: %d" % number] == (b"user-agent", b"%d" % number)
        assert len(known) <= 1024
    known.clear()
    assert known[b"User-Agent: " + b"a" * 1000] == (b"user-agent", b"a" * 1000)
    assert not known


_parser: Any = importlib.import_module("re._parser")


def repeats_that_can_give_back(pattern: str | bytes) -> list[str]:
    """The quantifiers of an expression that may backtrack: neither possessive nor of one fixed count."""
    found: list[str] = []

    def walk(tree: Iterable[Any]) -> None:
        for operator, argument in tree:
            if str(operator) in ("MAX_REPEAT", "MIN_REPEAT") and argument[0] != argument[1]:
                found.append(f"{operator} of {argument[0]} to {argument[1]}")
            for part in _subpatterns(argument):
                walk(part)

    walk(_parser.parse(pattern))
    return found


def _subpatterns(argument: Any) -> Iterator[Any]:
    if isinstance(argument, _parser.SubPattern):
        yield argument
    elif isinstance(argument, tuple | list):
        for part in argument:
            yield from _subpatterns(part)


@pytest.mark.parametrize("module", [http1_codec, http1_bodies, http1_fields, path])
def test_no_expression_that_meets_untrusted_bytes_can_backtrack(module: object) -> None:
    """Reading is linear in the length of what is read, whatever it is."""
    patterns = {name: one for name, one in vars(module).items() if isinstance(one, re.Pattern)}
    assert patterns
    assert {name: repeats_that_can_give_back(one.pattern) for name, one in patterns.items()} == {
        name: [] for name in patterns
    }


def test_that_check_sees_a_quantifier_that_is_not_possessive() -> None:
    assert repeats_that_can_give_back(rb"(a(?:b|c+)d)*+") == ["MAX_REPEAT of 1 to MAXREPEAT"]
    assert repeats_that_can_give_back(rb"a?b{2}c{1,3}+") == ["MAX_REPEAT of 0 to 1"]


def outcome_of_pieces(pieces: list[bytes]) -> object:
    """What a server connection makes of a head that arrives so: the head and its length, the failure, or None."""
    buffer, searched = b"", 0
    for piece in pieces:
        buffer += piece
        try:
            found = RequestHeads(LIMITS).read(buffer, searched)
        except Failure as failure:
            return failure.kind
        if found is not None:
            return found
        searched = len(buffer)
    return None


def test_a_request_head_is_read_or_refused_the_same_however_it_is_cut() -> None:
    seen: Counter[str] = Counter()
    faults = (LOW_VERSION, BAD_REQUEST)

    @settings(max_examples=1000)
    @given(in_pieces(request_heads))
    @example([b"\r\n\t", b"GET / HTTP/2.0\r\nHost: h\r\n\r\n"])
    def agree(pieces: list[bytes]) -> None:
        expected = outcome_of_pieces([b"".join(pieces)])
        seen["refused" if isinstance(expected, Kind) else "read" if expected else "incomplete"] += 1
        if expected is None:
            # What no further byte can mend may be refused before the rest has come.
            assert outcome_of_pieces(pieces) in (None, *faults)
        else:
            # Of several faults, the first to be complete decides.
            found = outcome_of_pieces(pieces)
            assert found == expected or (found in faults and expected in faults)

    agree()
    assert seen["read"] > 50
    assert seen["refused"] > 50


def test_a_response_head_is_read_or_refused_the_same_however_it_is_cut() -> None:
    def outcome(pieces: list[bytes]) -> object:
        buffer = b""
        for piece in pieces:
            buffer += piece
            try:
                found = ResponseHeads(LIMITS).read(buffer, b"GET")
            except Failure as failure:
                return failure.kind
            if found is not None:
                return found
        return None

    @settings(max_examples=300)
    @given(in_pieces(response_heads))
    def agree(pieces: list[bytes]) -> None:
        assert outcome(pieces) == outcome([b"".join(pieces)])

    agree()


@pytest.mark.parametrize("first", [1, 2, 3, 4, 5])
def test_a_head_whose_first_bytes_come_alone_is_complete_when_the_rest_is_there(first: int) -> None:
    data = get(b"X: 1")

    found = RequestHeads(LIMITS).read(data, searched=first)

    assert found is not None
    assert found[1] == len(data)


def test_what_has_been_searched_is_not_searched_again() -> None:
    searched = b"GET / HTTP/1.1\r\nX: \0" + b"a" * 100

    assert RequestHeads(LIMITS).read(searched + b"b", len(searched)) is None


@pytest.mark.parametrize(
    "beginning",
    [
        pytest.param(b"\x16\x03\x01\x02\x00\x01\x00\x01", id="a TLS greeting"),
        pytest.param(b"garbage\r\n", id="a line that is no request line"),
        pytest.param(b"GET / HTTP/1.1\nHost: h\n\n", id="bare LFs, after which CRLF CRLF will never come"),
        pytest.param(b"GET / HTTP/1.1\r\nX: a\rb", id="a bare CR"),
        pytest.param(b"GET / HTTP/1.1\r\nX: a\r\n b", id="obs-fold"),
    ],
)
def test_a_head_that_no_further_byte_can_mend_is_refused_before_it_ends(beginning: bytes) -> None:
    assert outcome_of_pieces([beginning]) == BAD_REQUEST
    assert outcome_of_pieces([bytes((code,)) for code in beginning]) == BAD_REQUEST


def test_a_cr_at_the_end_of_what_has_come_is_not_yet_a_bare_cr() -> None:
    assert RequestHeads(LIMITS).read(b"GET / HTTP/1.1\r") is None


def test_a_plain_request_is_read() -> None:
    data = lines(b"GET /a?b=c HTTP/1.1", b"Host: h.example:8080", b"X-MiXed:  A b\t", b"x-empty:", b"X-Mixed: 2")

    found = RequestHeads(LIMITS).read(data + b"next")

    assert found == (
        RequestHead(
            method=b"GET",
            path=b"/a?b=c",
            authority=b"h.example:8080",
            http10=False,
            headers=[(b"x-mixed", b"A b"), (b"x-empty", b""), (b"x-mixed", b"2")],
            framing=0,
            keep_alive=True,
            upgrade=b"",
        ),
        len(data),
    )


def test_an_incomplete_head_is_none() -> None:
    assert RequestHeads(LIMITS).read(get()[:-1]) is None
    assert RequestHeads(LIMITS).read(b"") is None


@pytest.mark.parametrize("count", [1, 2, 8])
def test_empty_lines_before_the_request_line_are_skipped(count: int) -> None:
    empty = b"\r\n" * count

    assert RequestHeads(LIMITS).read(empty + get(b"X: 1")) == (read(get(b"X: 1")), 2 * count + len(get(b"X: 1")))


@pytest.mark.parametrize(
    "method",
    [
        "GET",
        "HEAD",
        "POST",
        "PUT",
        "DELETE",
        "OPTIONS",
        "TRACE",
        "PATCH",
        "COPY",
        "LOCK",
        "MKCOL",
        "MOVE",
        "PROPFIND",
        "PROPPATCH",
        "SEARCH",
        "UNLOCK",
        "BIND",
        "REBIND",
        "UNBIND",
        "ACL",
        "REPORT",
        "MKACTIVITY",
        "CHECKOUT",
        "MERGE",
        "NOTIFY",
        "SUBSCRIBE",
        "UNSUBSCRIBE",
        "PURGE",
        "MKCALENDAR",
        "LINK",
        "UNLINK",
        "SOURCE",
        "MSEARCH",
    ],
)
def test_the_methods_that_envoy_knows_are_taken(method: str) -> None:
    assert read(target(b"/", method.encode())).method == method.encode()


@pytest.mark.parametrize(
    "method", ["M-SEARCH", "QUERY", "LIST", "FOO", "get", "Get", "G!T", "BASELINE-CONTROL", "CHECKIN"]
)
def test_other_methods_are_refused(method: str) -> None:
    failure = refused(target(b"/", method.encode()))

    assert failure.kind is BAD_REQUEST
    assert failure.details == "http1.codec_error:_unknown_method"


@pytest.mark.parametrize(
    ("url", "authority", "path"),
    [
        (b"http://h2.example/abs?q=1", b"h2.example", b"/abs?q=1"),
        (b"http://h2.example", b"h2.example", b"/"),
        (b"http://h2.example:81/x", b"h2.example:81", b"/x"),
        (b"HTTP://h2.example/abs", b"h2.example", b"/abs"),
        (b"http://u:p@h2.example/abs", b"h2.example", b"/abs"),
        (b"http://[::1]:80/x", b"[::1]:80", b"/x"),
        (b"http://h2.example/a?b=http://c/@", b"h2.example", b"/a?b=http://c/@"),
        (b"http://h2.example?q", b"h2.example", b"?q"),
    ],
)
def test_of_a_url_the_authority_takes_the_place_of_host(url: bytes, authority: bytes, path: bytes) -> None:
    head = read(target(url))

    assert (head.authority, head.path) == (authority, path)


def test_what_is_wrong_with_host_does_not_matter_when_the_target_is_a_url() -> None:
    assert read(lines(b"GET http://h2/x HTTP/1.1", b"Host: a b")).authority == b"h2"


def test_options_asterisk_is_read_as_it_is() -> None:
    assert read(target(b"*", b"OPTIONS")).path == b"*"


@pytest.mark.parametrize("authority", [b"h2.example:443", b"[::1]:443"])
def test_connect_has_an_authority_and_no_path(authority: bytes) -> None:
    head = read(target(authority, b"CONNECT"))

    assert (head.authority, head.path) == (authority, b"")


@pytest.mark.parametrize(
    "text",
    [
        *(b"h:80", b"u:p@h", b"u@h", b"h,i", b"h_x", b"h%20x", b"h:", b":80", b"h:abc", b"h:99999", b"[::1]:80"),
        *(b"[::1", b"h.", b"*", b"h'x", b"h!$&()*+;=~x", b""),
    ],
)
def test_hosts_that_envoy_lets_pass(text: bytes) -> None:
    assert read(host(text)).authority == text


@pytest.mark.parametrize(
    "text", [b"h h", b"h/x", b"h?x", b"h#x", b"h\\x", b'h"x', b"h<x", b"h>x", b"h{x}", b"h|x", b"h^x", b"h\xc3\xa9"]
)
def test_hosts_with_characters_that_no_authority_has_are_refused(text: bytes) -> None:
    assert refused(host(text)).kind is INVALID_AUTHORITY


def test_all_token_characters_may_stand_in_a_field_name() -> None:
    name = b"x!#$%&'*+-.^_`|~9"

    assert read(get(name + b": 1")).headers == [(name, b"1")]


def test_obs_text_and_tabs_may_stand_in_a_value() -> None:
    assert read(get(b"X: a\t\xe9\xc3\xa9\x80\xff")).headers == [(b"x", b"a\t\xe9\xc3\xa9\x80\xff")]


CODEC_ERROR = "http1.codec_error"
CHARACTERS = "http1.invalid_characters"
URL = "http1.invalid_url"

MALFORMED: list[tuple[str, bytes, str]] = [
    ("two different Content-Lengths", post(b"Content-Length: 5", b"Content-Length: 6"), CODEC_ERROR),
    ("two equal Content-Lengths", post(b"Content-Length: 5", b"Content-Length: 5"), CODEC_ERROR),
    ("a list of equal Content-Lengths", post(b"Content-Length: 5, 5"), CODEC_ERROR),
    ("Content-Length with a plus", post(b"Content-Length: +5"), CODEC_ERROR),
    ("Content-Length below zero", post(b"Content-Length: -5"), CODEC_ERROR),
    ("hexadecimal Content-Length", post(b"Content-Length: 0x5"), CODEC_ERROR),
    ("empty Content-Length", post(b"Content-Length: "), CODEC_ERROR),
    ("Content-Length with a blank inside", post(b"Content-Length: 1 0"), CODEC_ERROR),
    ("Content-Length in other digits", post(b"Content-Length: \xd9\xa5"), CODEC_ERROR),
    ("Content-Length past 64 bits", post(b"Content-Length: 18446744073709551616"), CODEC_ERROR),
    (
        "Transfer-Encoding in HTTP/1.0",
        lines(b"POST / HTTP/1.0", b"Host: h", b"Transfer-Encoding: chunked"),
        CODEC_ERROR,
    ),
    ("folded line before any field", lines(b"GET / HTTP/1.1", b" X: 1", b"Host: h"), CODEC_ERROR),
    ("NUL in a value", get(b"X: a\0b"), CHARACTERS),
    ("NUL in a name", get(b"X\0: 1"), CHARACTERS),
    ("NUL in the target", target(b"/a\0b"), CHARACTERS),
    ("control character in a value", get(b"X: a\x01b"), CHARACTERS),
    ("vertical tab in a value", get(b"X: a\x0bb"), CHARACTERS),
    ("form feed in a value", get(b"X: a\x0cb"), CHARACTERS),
    ("DEL in a value", get(b"X: a\x7fb"), CHARACTERS),
    ("control character in the target", target(b"/a\x01b"), CHARACTERS),
    ("DEL in the target", target(b"/a\x7fb"), CHARACTERS),
    ("space before the colon", get(b"X-A : 1"), CODEC_ERROR),
    ("tab before the colon", get(b"X-A\t: 1"), CODEC_ERROR),
    ("empty field name", get(b": 1"), CODEC_ERROR),
    ("no colon", get(b"foo"), CODEC_ERROR),
    ("a pseudo-header", get(b":path: /evil"), CODEC_ERROR),
    *((f"{char!r} in a name", get(b"x%cy: 1" % char), CODEC_ERROR) for char in b'()<>@,;\\"/[]?={} \x80'),
    ("garbage for a request line", lines(b"garbage"), CODEC_ERROR),
    ("leading space", b" " + get(), CODEC_ERROR),
    ("nine empty lines", b"\r\n" * 9 + get(), CODEC_ERROR),
    ("nothing but empty lines", b"\r\n" * 30_000, CODEC_ERROR),
    ("a method that is no token", target(b"/", b"G@T"), CODEC_ERROR),
    ("lower-case version", lines(b"GET / http/1.1", b"Host: h"), CODEC_ERROR),
    ("version of two digits", lines(b"GET / HTTP/1.01", b"Host: h"), CODEC_ERROR),
    ("space in the target", target(b"/a b"), CODEC_ERROR),
    ("tab in the target", target(b"/a\tb"), CODEC_ERROR),
    ("no ASCII in the target", target(b"/\xc3\xa9"), CODEC_ERROR),
    ("a relative path", target(b"a/b"), URL),
    ("nothing but a query", target(b"?q=1"), URL),
    ("asterisk with another method than OPTIONS", target(b"*"), URL),
    ("URL without a host", target(b"http:///abs"), URL),
    ("URL with nothing at all", target(b"http://"), URL),
    ("URL with a port and no host", target(b"http://:80/x"), URL),
    ("URL with userinfo and no host", target(b"http://u@/x"), URL),
    ("URL with two userinfos", target(b"http://a@b@h/x"), URL),
    ("URL of another scheme", target(b"ftp://h2.example/abs"), "http1.invalid_scheme"),
    ("CONNECT with a path", target(b"/x", b"CONNECT"), URL),
    ("CONNECT with a URL", target(b"http://h/", b"CONNECT"), URL),
    ("CONNECT without a port", target(b"h", b"CONNECT"), URL),
]


@pytest.mark.parametrize(("data", "details"), [pytest.param(head, why, id=name) for name, head, why in MALFORMED])
def test_malformed_heads_get_400_and_their_reason_is_told(data: bytes, details: str) -> None:
    failure = refused(data)

    assert failure.kind is BAD_REQUEST
    assert re.fullmatch(re.escape(details) + r":_[\x21-\x7e]+", failure.details)


STRICTER_THAN_ENVOY: list[tuple[str, bytes, Kind, str]] = [
    ("obs-fold", get(b"X-A: 1", b" 2"), BAD_REQUEST, "obs-fold"),
    ("obs-fold with a tab", get(b"X-A: 1", b"\t2"), BAD_REQUEST, "obs-fold"),
    ("bare LF as line end", get(b"X: 1\nY: 2"), BAD_REQUEST, "bare_LF"),
    ("bare LF throughout", b"GET / HTTP/1.1\nHost: h\n\n", BAD_REQUEST, "bare_LF"),
    ("bare LF before the request line", b"\n" + get(), BAD_REQUEST, "bare_LF"),
    ("bare LF as end of the head", b"GET / HTTP/1.1\r\nHost: h\r\n\n", BAD_REQUEST, "bare_LF"),
    ("bare CR in a value", get(b"X: a\rb"), BAD_REQUEST, "bare_CR"),
    ("CR CR LF", get(b"X: a\r"), BAD_REQUEST, "bare_CR"),
    ("two equal Hosts", get(b"Host: h"), BAD_REQUEST, "two_Hosts"),
    ("two different Hosts", get(b"Host: i"), BAD_REQUEST, "two_Hosts"),
    ("two Hosts beside a URL", lines(b"GET http://h/ HTTP/1.1", b"Host: h", b"Host: h"), BAD_REQUEST, "two_Hosts"),
    ("no Host", lines(b"GET / HTTP/1.1", b"X: 1"), MISSING_HOST, "missing_host"),
    ("no Host beside a URL", lines(b"GET http://h/ HTTP/1.1"), MISSING_HOST, "missing_host"),
    ("no Host in HTTP/1.0", lines(b"GET / HTTP/1.0"), MISSING_HOST, "missing_host"),
    ("no Host beside an asterisk in HTTP/1.0", lines(b"OPTIONS * HTTP/1.0"), MISSING_HOST, "missing_host"),
    ("fragment in the target", target(b"/a#f"), BAD_REQUEST, "fragment"),
    ("fragment behind the query", target(b"/a?q#f"), BAD_REQUEST, "fragment"),
    ("fragment in a URL", target(b"http://h/a#f"), BAD_REQUEST, "fragment"),
    ("HTTP/0.9 without a version", lines(b"GET /"), BAD_REQUEST, "not_an_HTTP_request_line"),
    ("two spaces in the request line", lines(b"GET  / HTTP/1.1", b"Host: h"), BAD_REQUEST, "request_line"),
    ("tab in the request line", lines(b"GET\t/ HTTP/1.1", b"Host: h"), BAD_REQUEST, "request_line"),
    ("space behind the version", lines(b"GET / HTTP/1.1 ", b"Host: h"), BAD_REQUEST, "request_line"),
]


@pytest.mark.parametrize(
    ("data", "kind", "reason"), [pytest.param(*row, id=name) for name, *row in STRICTER_THAN_ENVOY]
)
def test_where_the_rfc_is_stricter_than_envoy_it_is_the_rfc_that_holds(data: bytes, kind: Kind, reason: str) -> None:
    failure = refused(data)

    assert (failure.kind, failure.kind.status) == (kind, 400)
    assert reason in failure.details


@pytest.mark.parametrize("length", [b"5", b" 5 ", b"005", b"18446744073709551615", b"00000000000000000005"])
def test_content_lengths_that_are_one_number_are_taken(length: bytes) -> None:
    head = read(post(b"Content-Length:" + length))

    assert head.framing == int(length)
    assert head.headers == [(b"content-length", length.strip())]


@pytest.mark.parametrize("coding", [b"chunked", b"CHUNKED", b"Chunked", b" chunked\t"])
def test_a_chunked_request_is_known_by_its_framing_and_not_by_a_header(coding: bytes) -> None:
    head = read(post(b"Transfer-Encoding:" + coding))

    assert (head.framing, head.headers) == (CHUNKED, [])


@pytest.mark.parametrize("coding", [b"gzip", b"gzip, chunked", b"chunked, chunked", b"identity", b"", b"xchunked"])
def test_other_transfer_encodings_are_not_implemented(coding: bytes) -> None:
    assert refused(post(b"Transfer-Encoding: " + coding)).kind is UNSUPPORTED_TRANSFER_ENCODING


def test_transfer_encoding_given_twice_is_not_implemented() -> None:
    failure = refused(post(b"Transfer-Encoding: chunked", b"Transfer-Encoding: chunked"))

    assert failure.kind is UNSUPPORTED_TRANSFER_ENCODING


@pytest.mark.parametrize("coding", [b"chunked", b"identity", b"gzip", b""])
@pytest.mark.parametrize("leading", [b"", b"\r\n"])
def test_content_length_beside_any_transfer_encoding_is_refused(coding: bytes, leading: bytes) -> None:
    for fields in (
        (b"Transfer-Encoding: " + coding, b"Content-Length: 5"),
        (b"Content-Length: 5", b"Transfer-Encoding:"),
    ):
        failure = refused(leading + post(*fields))
        assert failure.kind is BAD_REQUEST
        assert failure.details.startswith("http1.content_length_and_chunked_not_allowed:")


def test_a_url_of_https_is_forbidden_where_there_is_no_tls() -> None:
    assert refused(target(b"https://h2.example/abs")).kind is ABSOLUTE_HTTPS_ON_PLAINTEXT
    assert ABSOLUTE_HTTPS_ON_PLAINTEXT.status == 403


def head_of(size: int) -> bytes:
    return get(b"X: " + b"a" * (size - len(get(b"X: "))))


def test_a_head_as_large_as_the_limit_is_read() -> None:
    assert len(head_of(60 * 1024)) == 61440
    assert read(head_of(60 * 1024)).headers[0][0] == b"x"


def test_a_head_one_byte_larger_gets_431() -> None:
    assert refused(head_of(60 * 1024 + 1)).kind is HEADERS_TOO_LARGE


def test_a_head_that_is_not_yet_complete_gets_431_as_soon_as_it_is_too_large() -> None:
    beginning = head_of(100_000)

    assert RequestHeads(LIMITS).read(beginning[: 60 * 1024]) is None
    assert refused(beginning[: 60 * 1024 + 1]).kind is HEADERS_TOO_LARGE
    with pytest.raises(Failure) as caught:
        RequestHeads(LIMITS).read(beginning[: 60 * 1024 + 1], 60 * 1024)
    assert caught.value.kind is HEADERS_TOO_LARGE


def test_empty_lines_before_the_request_line_count_against_the_limit() -> None:
    limits = HeadLimits(max_bytes=100)

    assert RequestHeads(limits).read(b"\r\n" * 8) is None
    assert RequestHeads(limits).read(b"\r\n" + head_of(98)) is not None
    assert refused(b"\r\n" + head_of(99), limits).kind is HEADERS_TOO_LARGE


def test_a_long_target_counts_too() -> None:
    assert refused(target(b"/" + b"a" * 62_000)).kind is HEADERS_TOO_LARGE


def test_a_hundred_fields_are_read_and_one_more_gets_431() -> None:
    fields = [b"X-%d: a" % number for number in range(100)]

    assert len(read(get(*fields[:99])).headers) == 99
    assert refused(get(*fields)).kind is TOO_MANY_HEADERS


def test_limits_are_configurable() -> None:
    assert refused(get(b"X: 1"), HeadLimits(max_fields=1)).kind is TOO_MANY_HEADERS
    assert refused(get(b"X: 1"), HeadLimits(max_bytes=20)).kind is HEADERS_TOO_LARGE


def test_hop_by_hop_fields_are_removed_and_others_stay() -> None:
    head = read(
        get(
            *(b"A: 1", b"Connection: keep-alive", b"Keep-Alive: timeout=5", b"Proxy-Connection: keep-alive"),
            *(b"Upgrade: websocket", b"Proxy-Authorization: b", b"Trailer: q", b"B: 2"),
        )
    )

    assert head.headers == [(b"a", b"1"), (b"proxy-authorization", b"b"), (b"trailer", b"q"), (b"b", b"2")]


@pytest.mark.parametrize("name", [b"X-Foo", b"Cookie", b"Authorization", b"Accept", b"X-Request-Id", b"x-envoy-foo"])
@pytest.mark.parametrize("option", [b"%b", b"keep-alive, %b", b"%b ,, x-other,", b"close,\t%b"])
def test_fields_that_connection_names_are_removed(name: bytes, option: bytes) -> None:
    head = read(get(b"X-A: 1", name + b": v", b"Connection: " + option % name, b"X-B: 2"))

    assert head.headers == [(b"x-a", b"1"), (b"x-b", b"2")]


def test_each_of_several_connection_fields_counts() -> None:
    assert read(get(b"Connection: X-A", b"X-A: 1", b"X-B: 2", b"Connection: x-b")).headers == []


@pytest.mark.parametrize("name", [b"content-length", b"te", b"close"])
def test_fields_that_connection_cannot_remove(name: bytes) -> None:
    value = b"5" if name == b"content-length" else b"trailers"

    assert read(get(name + b": " + value, b"Connection: " + name)).headers == [(name, value)]


@pytest.mark.parametrize("name", [b"X-Forwarded-For", b"x-forwarded-host", b"X-FORWARDED-PROTO", b":path"])
def test_what_says_where_a_request_came_from_cannot_be_removed_by_its_sender(name: bytes) -> None:
    assert refused(get(b"Connection: keep-alive, " + name)).kind is CONNECTION_HEADER_REJECTED


def test_a_host_that_connection_names_is_a_missing_host() -> None:
    assert refused(get(b"Connection: close, Host")).kind is MISSING_HOST


def test_connection_may_name_nine_fields_and_no_more() -> None:
    names = [b"x%d" % number for number in range(10)]

    assert read(get(b"Connection: " + b",".join(names[:9]))).headers == []
    assert read(get(b"Connection: " + b"," * 20)).headers == []
    assert refused(get(b"Connection: " + b",".join(names))).kind is CONNECTION_HEADER_REJECTED


@pytest.mark.parametrize(
    ("fields", "kept"),
    [
        ([b"TE: trailers"], True),
        ([b"TE: gzip, trailers"], True),
        ([b"TE: trailers,gzip"], True),
        ([b"TE: trailers, trailers"], True),
        ([b"TE: gzip", b"TE: trailers"], True),
        ([b"TE: gzip"], False),
        ([b"TE: Trailers"], False),
        ([b"TE: trailers;q=1"], False),
        ([b"TE: gzip, trailers;q=0.5"], False),
    ],
)
def test_of_te_only_trailers_remains(fields: list[bytes], kept: bool) -> None:
    head = read(get(b"X-A: 1", *fields, b"X-B: 2"))

    assert head.headers == [(b"x-a", b"1"), *([(b"te", b"trailers")] if kept else []), (b"x-b", b"2")]


def test_a_te_of_nothing_is_left_alone_as_in_envoy() -> None:
    assert read(get(b"TE: ")).headers == [(b"te", b"")]


@pytest.mark.parametrize(
    ("version", "fields", "keep_alive"),
    [
        (b"1.1", [], True),
        (b"1.1", [b"Connection: keep-alive"], True),
        (b"1.1", [b"Connection: close"], False),
        (b"1.1", [b"Connection: Close"], False),
        (b"1.1", [b"Connection: keep-alive, close"], False),
        (b"1.1", [b"Connection: x", b"Connection: close"], False),
        (b"1.1", [b"Proxy-Connection: close"], False),
        (b"1.1", [b"Proxy-Connection: keep-alive"], True),
        (b"1.0", [], False),
        (b"1.0", [b"Connection: Keep-Alive"], True),
        (b"1.0", [b"Connection: keep-alive, close"], False),
    ],
)
def test_whether_the_connection_serves_another_request(version: bytes, fields: list[bytes], keep_alive: bool) -> None:
    head = read(lines(b"GET / HTTP/" + version, b"Host: h", *fields))

    assert (head.keep_alive, head.http10) == (keep_alive, version == b"1.0")


@pytest.mark.parametrize(
    "data",
    [
        lines(b"GET / HTTP/0.9", b"Host: h"),
        lines(b"GET / HTTP/1.2", b"Host: h"),
        lines(b"GET / HTTP/2.0", b"Host: h"),
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    ],
)
def test_another_version_of_http_is_answered_as_istio_answers_it(data: bytes) -> None:
    failure = refused(data)

    assert (failure.kind.status, failure.details[:18]) == (426, "low_version:_HTTP/")


def test_a_url_needs_no_host_beside_it_in_http_1_0() -> None:
    head = read(lines(b"GET http://h:81/a HTTP/1.0"))

    assert (head.path, head.authority) == (b"/a", b"h:81")


@pytest.mark.parametrize(
    "fields",
    [
        [(b"connection", b"Upgrade"), (b"upgrade", b"WebSocket")],
        [(b"connection", b"keep-alive, upgrade, x-a"), (b"x-a", b"1"), (b"upgrade", b"websocket")],
    ],
)
def test_the_fields_of_an_upgrade_are_left_as_they_were_written(fields: Headers) -> None:
    head = read(get(*(b": ".join(field) for field in fields)))

    assert (head.upgrade, head.headers) == (fields[-1][1], fields)


@pytest.mark.parametrize(
    "fields",
    [
        [b"Connection: Upgrade, HTTP2-Settings", b"Upgrade: h2c", b"HTTP2-Settings: AAMA"],
        [b"Connection: Upgrade", b"Upgrade: h2c", b"HTTP2-Settings: AAMA"],
        [b"Upgrade: websocket"],
        [b"Connection: keep-alive", b"Upgrade: websocket"],
        [b"Connection: Upgrade"],
    ],
)
def test_an_upgrade_takes_both_fields_and_is_not_to_h2c(fields: list[bytes]) -> None:
    head = read(get(*fields))

    assert (head.upgrade, head.headers) == (b"", [])


def test_of_several_protocols_none_is_chosen() -> None:
    assert read(get(b"Connection: Upgrade", b"Upgrade: foo", b"Upgrade: websocket")).upgrade == b"foo,websocket"


def response(*fields: bytes, status: bytes = b"200 OK") -> bytes:
    return lines(b"HTTP/1.1 " + status, *fields)


def test_a_plain_response_is_read() -> None:
    data = response(b"Content-Length: 2", b"X-Dup: 1", b"x-dup:  2 ")

    assert ResponseHeads(LIMITS).read(data + b"ok", b"GET") == (
        ResponseHead(200, [(b"content-length", b"2"), (b"x-dup", b"1"), (b"x-dup", b"2")], framing=2, keep_alive=True),
        len(data),
    )


BROKEN_RESPONSES: list[tuple[str, bytes]] = [
    ("nothing", b"\r\n\r\n"),
    ("garbage", b"garbage\r\n\r\n"),
    ("status of two digits", lines(b"HTTP/1.1 99 x")),
    ("status of four digits", lines(b"HTTP/1.1 2000 x")),
    ("status 000", lines(b"HTTP/1.1 000 x")),
    ("no status", lines(b"HTTP/1.1")),
    ("lower-case version", lines(b"http/1.1 200 OK")),
    ("bad field name", response(b"x y: 1")),
    ("no colon", response(b"foo")),
    ("NUL", response(b"X: a\0b")),
    ("control character", response(b"X: a\x01b")),
    ("DEL", response(b"X: a\x7fb")),
    ("bare CR", response(b"X: a\rb")),
    ("two different Content-Lengths", response(b"Content-Length: 2", b"Content-Length: 3")),
    ("two equal Content-Lengths", response(b"Content-Length: 2", b"Content-Length: 2")),
    ("two equal Content-Lengths, bare LFs", b"HTTP/1.1 200 OK\nContent-Length: 2\nContent-Length: 2\n\n"),
    ("list of equal Content-Lengths, bare LFs", b"HTTP/1.1 200 OK\nContent-Length: 2, 2\n\n"),
    ("Content-Length that is no number", response(b"Content-Length: x")),
    ("Content-Length with Transfer-Encoding", response(b"Content-Length: 2", b"Transfer-Encoding: chunked")),
    ("Transfer-Encoding of two codings", response(b"Transfer-Encoding: gzip, chunked")),
    ("Transfer-Encoding identity", response(b"Transfer-Encoding: identity")),
    ("Transfer-Encoding twice", response(b"Transfer-Encoding: chunked", b"Transfer-Encoding: chunked")),
    ("204 with a length", response(b"Content-Length: 5", status=b"204 No Content")),
    ("204 that is chunked", response(b"Transfer-Encoding: chunked", status=b"204 No Content")),
    ("103 with a length", response(b"Content-Length: 5", status=b"103 Early Hints")),
    ("103 that is chunked", response(b"Transfer-Encoding: chunked", status=b"103 Early Hints")),
    ("too many fields", response(*(b"X-%d: a" % number for number in range(101)))),
    ("too large", response(b"X: " + b"a" * 61440)),
    ("too large and without an end", response(b"X: " + b"a" * 61440)[:-4]),
    ("TLS", b"\x15\x03\x01\x00\x02\x02\x46"),
]


@pytest.mark.parametrize("data", [pytest.param(data, id=name) for name, data in BROKEN_RESPONSES])
def test_responses_that_break_the_protocol_are_502(data: bytes) -> None:
    for method in (b"GET", b"HEAD"):
        with pytest.raises(Failure) as caught:
            ResponseHeads(LIMITS).read(data, method)
        assert caught.value.kind is PROTOCOL_ERROR


@pytest.mark.parametrize(
    ("data", "headers"),
    [
        pytest.param(response(b"X: 1", b" 2", b"\t3"), [(b"x", b"1 2 3")], id="obs-fold, as one space"),
        pytest.param(b"HTTP/1.1 200 OK\nX: 1\n\n", [(b"x", b"1")], id="bare LFs"),
        pytest.param(lines(b"HTTP/2.0 200 OK", b"X: 1"), [(b"x", b"1")], id="another version"),
        pytest.param(response(b"X: 1", status=b"200"), [(b"x", b"1")], id="no reason phrase"),
        pytest.param(response(b"X: 1", status=b"200 "), [(b"x", b"1")], id="empty reason phrase"),
        pytest.param(response(b"X: 1", status=b"200 d\xe9j\xe0"), [(b"x", b"1")], id="reason phrase in Latin-1"),
    ],
)
def test_lenient_forms_that_envoy_takes_from_upstreams_are_taken(data: bytes, headers: Headers) -> None:
    head = read_response(data)

    assert (head.status, head.headers) == (200, headers)


def test_a_lenient_101_is_taken_too() -> None:
    assert read_response(b"HTTP/1.1 101 Go\nUpgrade: websocket\n\n").status == 101


@pytest.mark.parametrize(
    ("method", "status", "fields", "framing"),
    [
        (b"GET", b"200", [b"Content-Length: 5"], 5),
        (b"GET", b"200", [b"Content-Length: 0"], 0),
        (b"GET", b"200", [b"Transfer-Encoding: CHUNKED"], CHUNKED),
        (b"GET", b"200", [], UNTIL_CLOSE),
        (b"HEAD", b"200", [b"Content-Length: 5"], 0),
        (b"HEAD", b"200", [b"Transfer-Encoding: chunked"], 0),
        (b"HEAD", b"200", [], 0),
        (b"GET", b"304", [b"Content-Length: 5"], 0),
        (b"GET", b"304", [b"Transfer-Encoding: chunked"], 0),
        (b"GET", b"204", [], 0),
        (b"GET", b"204", [b"Content-Length: 0"], 0),
        (b"GET", b"103", [b"Content-Length: 0"], 0),
        (b"GET", b"101", [b"Upgrade: websocket"], 0),
    ],
)
def test_how_long_the_body_of_a_response_is(method: bytes, status: bytes, fields: list[bytes], framing: int) -> None:
    assert read_response(response(*fields, status=status), method).framing == framing


def test_a_content_length_stays_where_there_may_be_one_and_goes_where_there_may_not() -> None:
    assert read_response(response(b"Content-Length: 5", status=b"304")).headers == [(b"content-length", b"5")]
    assert read_response(response(b"Content-Length: 5"), b"HEAD").headers == [(b"content-length", b"5")]
    assert read_response(response(b"Content-Length: 0", status=b"204")).headers == []
    assert read_response(response(b"Content-Length: 0", status=b"103")).headers == []


@pytest.mark.parametrize(
    ("version", "fields", "keep_alive"),
    [
        (b"1.1", [b"Content-Length: 2"], True),
        (b"1.1", [b"Transfer-Encoding: chunked"], True),
        (b"1.1", [], False),
        (b"1.1", [b"Content-Length: 2", b"Connection: Close"], False),
        (b"1.0", [b"Content-Length: 2"], False),
        (b"1.0", [b"Content-Length: 2", b"Connection: keep-alive"], True),
        (b"1.0", [b"Connection: keep-alive"], False),
    ],
)
def test_whether_the_upstream_connection_can_be_used_again(
    version: bytes, fields: list[bytes], keep_alive: bool
) -> None:
    assert read_response(lines(b"HTTP/%b 200 OK" % version, *fields)).keep_alive == keep_alive


def test_hop_by_hop_fields_of_a_response_are_removed() -> None:
    head = read_response(
        response(
            *(b"A: 1", b"Connection: x-foo, content-length", b"Keep-Alive: timeout=5", b"Proxy-Connection: x"),
            *(b"Upgrade: h2c", b"X-Foo: 1", b"Content-Length: 2", b"Trailer: q"),
        )
    )

    assert head.headers == [(b"a", b"1"), (b"content-length", b"2"), (b"trailer", b"q")]
    assert head.framing == 2


@pytest.mark.parametrize("cut", [1, 6, 9, 13, 17])
def test_an_incomplete_response_head_is_none(cut: int) -> None:
    assert ResponseHeads(LIMITS).read(response(b"X: 1")[:cut], b"GET") is None


def test_a_request_is_written_with_host_first() -> None:
    head = request_head(b"POST", b"/a?b", b"h:80", [(b"x-a", b"1"), (b"x-empty", b"")], CHUNKED_LINE)

    assert head == lines(b"POST /a?b HTTP/1.1", b"host: h:80", b"x-a: 1", b"x-empty: ", b"transfer-encoding: chunked")


def test_a_response_is_written_with_the_reason_phrase_of_envoys_table() -> None:
    assert response_head(200, [(b"x-a", b"1")], b"connection: close\r\n") == lines(
        b"HTTP/1.1 200 OK", b"x-a: 1", b"connection: close"
    )
    assert response_head(418, []) == lines(b"HTTP/1.1 418 Unknown")
    assert response_head(425, []) == lines(b"HTTP/1.1 425 Too Early")
    assert response_head(103, []) == lines(b"HTTP/1.1 103 Unknown")
    assert response_head(600, []) == lines(b"HTTP/1.1 600 Unknown")
    assert response_head(404, [], http10=True) == lines(b"HTTP/1.0 404 Not Found")


@pytest.mark.parametrize("method", [b"GET", b"POST"])
def test_what_is_written_is_read_as_it_was(method: bytes) -> None:
    headers = [(b"x-a", b"1"), (b"x-a", b"\xff\t2"), (b"x-empty", b"")]

    head = read(request_head(method, b"/p", b"h", headers, CHUNKED_LINE))

    assert (head.method, head.path, head.authority, head.headers, head.framing) == (
        method,
        b"/p",
        b"h",
        headers,
        CHUNKED,
    )


def test_chunks_are_written_in_lower_case_hexadecimal() -> None:
    assert chunk(b"x" * 171) == b"ab\r\n" + b"x" * 171 + b"\r\n"
    assert last_chunk([]) == b"0\r\n\r\n"
    assert last_chunk([(b"x-t", b"1"), (b"x-u", b"")]) == b"0\r\nx-t: 1\r\nx-u: \r\n\r\n"
