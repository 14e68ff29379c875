"""HTTP/1.1 without I/O: bytes in, heads and body pieces out; and the way back (RFC 9112).

Rules:

1. Nothing here reads, writes, waits or tells the time. Every function can be tested with bytes.
2. The fast path takes a head apart at its line ends, and each line must match a regular expression (most have matched
   it before: `KnownFields`). It accepts only what h11 reads in the same way; what it does not accept goes, unchanged,
   to h11, which decides. A property test holds the two together.
3. Every quantifier over untrusted bytes is possessive (`++`, `*+`): no input makes the expressions backtrack, so the
   time to read a head is linear in its length.
4. Where the RFC lets a recipient be lenient and the leniency has been used for request smuggling (obs-fold, bare CR
   and LF, repeated Content-Length), the answer is an error.
"""

from __future__ import annotations

import re
from typing import NamedTuple

import h11

from .failures import (
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
)
from .http1_bodies import CHUNKED, UNTIL_CLOSE
from .http1_fields import TOKEN, KnownFields
from .message import Headers, remove_headers, set_header

_MAX_CONTENT_LENGTH_DIGITS = 20  # as h11; the value has to fit 64 bits besides
_TOO_LONG = 1 << 64

# RFC 9112, section 3:
#   request-line = method SP request-target SP HTTP-version
# A fragment is no part of a request-target, and h11 lets it pass: no `#` here.
_PLAIN_REQUEST_LINE = re.compile(rb"(" + TOKEN + rb") ([\x21\x22\x24-\x7e]++) HTTP/1\.[01]\Z")

# RFC 9112, section 4:
#   status-line = HTTP-version SP status-code SP [ reason-phrase ]
_PLAIN_STATUS_LINE = re.compile(rb"HTTP/1\.([01]) ([1-9][0-9][0-9])(?> [\t\x20-\x7e\x80-\xff]*+)?+\Z")

_known_field = KnownFields().__getitem__


class RequestHead(NamedTuple):
    """A request line and its fields, those of the connection taken out. `headers` belong to the reader: copy to change.

    `path` is the target in origin-form; `authority` is from Host, or from a target in absolute-form. `framing` tells
    how long the body is, and is never `UNTIL_CLOSE`. `upgrade` is the protocol the client would rather speak; where
    there is one, the fields that ask for it are left in.
    """

    method: bytes
    path: bytes
    authority: bytes
    http10: bool
    headers: Headers
    framing: int
    keep_alive: bool
    upgrade: bytes


class ResponseHead(NamedTuple):
    """A status line and its fields, those of the connection taken out. `headers` belong to the reader: copy to change.

    `keep_alive`: the connection serves another request after this body.
    """

    status: int
    headers: Headers
    framing: int
    keep_alive: bool


class HeadLimits(NamedTuple):
    """How large a head may be: bytes including its request line, and fields."""

    max_bytes: int = 60 * 1024
    max_fields: int = 100


# Of a larger head, nothing is remembered: connections that wait are many.
_MAX_REMEMBERED = 4096


class RequestHeads:
    """Reads the heads that one client sends, one after the other.

    A client says much the same in each request. Where the fields are those of the request before, byte for byte, what
    they mean is not found out again.
    """

    __slots__ = ("_block", "_last", "_limits")

    def __init__(self, limits: HeadLimits) -> None:
        self._limits = limits
        self._block = b""
        self._last = RequestHead(b"", b"", b"", False, [], 0, False, b"")

    def read(self, data: bytes, searched: int = 0) -> tuple[RequestHead, int] | None:
        """The head at the start of `data` and its length; None while it is incomplete.

        The first `searched` bytes have been here before: a caller that says so keeps the reading of a head that
        trickles in linear. Raises `Failure` with 400, 431 or 501.
        """
        limits = self._limits
        end = data.find(_HEAD_END, searched - 3 if searched > 3 else 0)
        if end < 0:
            _check_incomplete_request_head(data, limits, searched)
            return None
        line_end = data.find(b"\r\n")
        match = _PLAIN_REQUEST_LINE.match(data, 0, line_end)
        if match is None:
            return _read_unusual_request_head(data, limits)
        # The block begins with the version: it too has a say in what the fields mean.
        block = data[line_end - 1 : end]
        end += len(_HEAD_END)
        if end > limits.max_bytes:
            raise Failure(HEADERS_TOO_LARGE)
        method, target = match.groups()
        ordinary = target[:1] == b"/" and method in _ORDINARY_METHODS
        if ordinary and block == self._block:
            return tuple.__new__(RequestHead, (method, target, *self._last[2:])), end
        headers = _plain_fields(block[3:])
        if headers is None:
            return _read_unusual_request_head(data, limits)
        if len(headers) > limits.max_fields:
            raise Failure(TOO_MANY_HEADERS)
        head = _request_head(method, target, block.startswith(b"0"), headers)
        if ordinary and len(block) <= _MAX_REMEMBERED:
            self._block, self._last = block, head
        return head, end


class ResponseHeads:
    """Reads the heads that one upstream sends, one after the other; a head that comes again is not read again."""

    __slots__ = ("_last", "_last_bytes", "_limits")

    def __init__(self, limits: HeadLimits) -> None:
        self._limits = limits
        self._last_bytes = _HEAD_END  # which is in no head
        self._last = ResponseHead(0, [], 0, False)

    def read(self, data: bytes, request_method: bytes, searched: int = 0) -> tuple[ResponseHead, int] | None:
        """The head at the start of `data` and its length; None while it is incomplete.

        `searched` is as for a request's. Raises `Failure` with 502.
        """
        limits = self._limits
        end = data.find(_HEAD_END, searched - 3 if searched > 3 else 0)
        if end < 0:
            return _read_unusual_response_head(data, limits, request_method, searched)
        head = data[:end]
        end += len(_HEAD_END)
        if head == self._last_bytes and request_method != b"HEAD":
            return self._last, end
        line, _, block = head.partition(b"\r\n")
        match = _PLAIN_STATUS_LINE.match(line)
        headers = _plain_fields(block)
        if match is None or headers is None:
            return _read_unusual_response_head(data, limits, request_method, 0)
        if end > limits.max_bytes or len(headers) > limits.max_fields:
            raise Failure(PROTOCOL_ERROR)
        minor, status = match.groups()
        read = _response_head(int(status), minor == b"1", headers, request_method)
        if request_method != b"HEAD" and len(head) <= _MAX_REMEMBERED:
            self._last_bytes, self._last = head, read
        return read, end


def _plain_fields(block: bytes) -> Headers | None:
    """The fields of a head without its first line and its end; None when a line of it is no field line."""
    try:
        return list(map(_known_field, block.split(b"\r\n"))) if block else []
    except ValueError:
        return None


_HEAD_END = b"\r\n\r\n"
# Enough for clients that end a body with a line too many; no bound would be a way to make us read the same again.
_MAX_EMPTY_LINES = 8
_EMPTY_LINES = re.compile(rb"(?>\r\n){0,%d}+" % _MAX_EMPTY_LINES)
_REQUEST_LINE = re.compile(rb"[^ ]++ ([^ ]++) HTTP/([0-9])\.([0-9])\Z")

# What h11 would let pass in a request and we do not, with the reason that the access log gives.
_CONTROL_CHARACTER = re.compile(rb"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f]")
_REFUSED = (
    (re.compile(rb"\x00"), "NUL in the head", "http1.invalid_characters"),
    (re.compile(rb"\r(?!\n)"), "bare CR in the head", "http1.codec_error"),
    (re.compile(rb"(?<!\r)\n"), "bare LF in the head", "http1.codec_error"),
    (re.compile(rb"\r\n[ \t]"), "folded field line (obs-fold)", "http1.codec_error"),
    (_CONTROL_CHARACTER, "control character in the head", "http1.invalid_characters"),
)


def _check_incomplete_request_head(data: bytes, limits: HeadLimits, searched: int) -> None:
    """Answer at once what no further byte can mend, such as a head with bare LFs, or a TLS greeting.

    Of the first `searched` bytes only the last three are looked at again: each byte counts once, however it comes.
    """
    if len(data) > limits.max_bytes:
        raise Failure(HEADERS_TOO_LARGE)
    _refuse(data, max(searched - 3, 0), len(data) - data.endswith(b"\r"))
    start = _after_empty_lines(data)
    line_end = data.find(b"\r\n", max(searched - 1, start))
    if line_end >= 0 and data.find(b"\r\n", start) == line_end:
        _check_request_line(data[start:line_end])


def _after_empty_lines(data: bytes) -> int:
    """Where the request line begins. RFC 9112, section 2.2: a server SHOULD ignore empty lines before it."""
    empty_lines = _EMPTY_LINES.match(data)
    assert empty_lines is not None
    return empty_lines.end()


def _read_unusual_request_head(data: bytes, limits: HeadLimits) -> tuple[RequestHead, int] | None:
    if start := _after_empty_lines(data):
        if data.startswith(b"\r\n", start):
            raise bad_request("too many empty lines before the request")
        found = RequestHeads(limits._replace(max_bytes=limits.max_bytes - start)).read(data[start:])
        return found and (found[0], start + found[1])
    end = data.index(_HEAD_END) + len(_HEAD_END)
    if end > limits.max_bytes:
        raise Failure(HEADERS_TOO_LARGE)
    _refuse(data, 0, end)
    head = data[:end]
    _check_request_line(head[: head.index(b"\r\n")])
    peer = h11.Connection(h11.SERVER, max_incomplete_event_size=limits.max_bytes)
    peer.receive_data(head)
    try:
        event = peer.next_event()
    except h11.RemoteProtocolError as error:
        error.__traceback__ = None  # it ends in a frame that holds the error, which would be garbage
        if error.error_status_hint == 501:
            raise Failure(UNSUPPORTED_TRANSFER_ENCODING) from error
        # What follows the colon quotes the sender, at any length.
        raise bad_request(str(error).partition(":")[0]) from error
    if not isinstance(event, h11.Request):
        raise bad_request("not an HTTP request")
    headers = list(event.headers)
    if len(headers) > limits.max_fields:
        raise Failure(TOO_MANY_HEADERS)
    if not _content_length_is_plain(head):
        raise bad_request("Content-Length given more than once")
    return _request_head(event.method, event.target, event.http_version == b"1.0", headers), end


_CONTENT_LENGTH_LINE = re.compile(rb"\n(?i:content-length):([^\r\n]*+)")


def _content_length_is_plain(head: bytes) -> bool:
    """h11 makes one of equal Content-Lengths; we take none but a single number."""
    lengths = _CONTENT_LENGTH_LINE.findall(head)
    return not lengths or _content_length([value.strip(b" \t") for value in lengths]) is not None


# Upstream, Envoy takes lines that end in a bare LF, folded lines, and any version from 0.0 to 9.9.
_LENIENT_HEAD_END = re.compile(rb"\n\r?+\n")
_RESPONSE_BEGINNING = b"HTTP/"


def _read_unusual_response_head(
    data: bytes, limits: HeadLimits, request_method: bytes, searched: int
) -> tuple[ResponseHead, int] | None:
    found = _LENIENT_HEAD_END.search(data, max(searched - 2, 0))
    if found is None:
        # Not one line of HTTP: to wait for more would only give the garbage more time.
        if len(data) > limits.max_bytes or data[:5] != _RESPONSE_BEGINNING[: len(data)]:
            raise Failure(PROTOCOL_ERROR)
        return None
    end = found.end()
    if end > limits.max_bytes or _CONTROL_CHARACTER.search(data, 0, end):
        raise Failure(PROTOCOL_ERROR)
    peer = h11.Connection(h11.CLIENT, max_incomplete_event_size=limits.max_bytes)
    # To h11 a 101 is in order only after such a request; whether this one was, the exchange knows.
    upgrade = [("host", "-"), ("connection", "upgrade"), ("upgrade", "-")]
    peer.send(h11.Request(method=request_method, target="/", headers=upgrade))
    peer.receive_data(data[:end])
    try:
        event = peer.next_event()
    except h11.RemoteProtocolError as error:
        error.__traceback__ = None  # as for a request
        raise Failure(PROTOCOL_ERROR) from error
    if not isinstance(event, h11.Response | h11.InformationalResponse):
        raise Failure(PROTOCOL_ERROR)
    headers = list(event.headers)
    if len(headers) > limits.max_fields or not _content_length_is_plain(data[:end]):
        raise Failure(PROTOCOL_ERROR)
    return _response_head(event.status_code, event.http_version == b"1.1", headers, request_method), end


def _refuse(data: bytes, start: int, end: int) -> None:
    for pattern, reason, details in _REFUSED:
        if pattern.search(data, start, end):
            raise bad_request(reason, details)


def _check_request_line(line: bytes) -> None:
    match = _REQUEST_LINE.match(line)
    if match is None:
        raise bad_request("not an HTTP request line")
    target, major, minor = match.groups()
    if major != b"1" or minor not in (b"0", b"1"):
        raise Failure(LOW_VERSION, f"{LOW_VERSION.details}:_HTTP/{major.decode()}.{minor.decode()}")
    if b"#" in target:
        raise bad_request("fragment in the request target")


def bad_request(reason: str, details: str = BAD_REQUEST.details) -> Failure:
    """A 400; the access log tells the reason, after Envoy's name for it; the client is not told."""
    return Failure(BAD_REQUEST, f"{details}:_{reason.replace(' ', '_')}")


# RFC 9110, section 7.6.1: fields of one connection, not to be forwarded.
_HOP_BY_HOP = frozenset((b"connection", b"keep-alive", b"proxy-connection", b"transfer-encoding", b"upgrade"))
_TAKEN_FROM_REQUEST = _HOP_BY_HOP | {b"host"}
_OF_THE_CONNECTION = _HOP_BY_HOP | {b"content-length", b"te"}
_PLAIN_CONNECTIONS = ([b"keep-alive"], [b"close"])
# Both sides of an upgrade have to read these of each other: they are passed on as they were written, as in Envoy.
_UPGRADE = frozenset((b"connection", b"upgrade"))
# A sender may name fields of its own in Connection, to have them removed. It cannot have the framing removed; `te` has
# rules of its own; and what Envoy refuses to have removed by a client, we refuse too.
_NEVER_NOMINATED = frozenset((b"content-length", b"te", b"close"))
_REFUSED_NOMINATIONS = frozenset((b"x-forwarded-for", b"x-forwarded-host", b"x-forwarded-proto"))
_TOO_MANY_NOMINATIONS = 10

# The methods that Envoy's parser knows; others it refuses, as long as no one asks it to take custom ones.
_METHODS = frozenset(
    b"GET HEAD POST PUT DELETE CONNECT OPTIONS TRACE PATCH ACL BIND CHECKOUT COPY LINK LOCK "
    b"MERGE MKACTIVITY MKCALENDAR MKCOL MOVE MSEARCH NOTIFY PROPFIND PROPPATCH PURGE REBIND REPORT SEARCH SOURCE "
    b"SUBSCRIBE UNBIND UNLINK UNLOCK UNSUBSCRIBE".split()
)

_ORDINARY_METHODS = _METHODS - {b"CONNECT"}

# RFC 3986, section 3.2: [ userinfo "@" ] host [ ":" port ]; characters only, as Envoy checks them.
_AUTHORITY = re.compile(rb"[A-Za-z0-9\-._~!$&'()*+,;=:@%\[\]]*+\Z")
# RFC 9112, section 3.2.2: absolute-form
_ABSOLUTE_FORM = re.compile(rb"([^:/?]++)://(?>([^/?@]*+)@)?+([^/?@:]++[^/?@]*+)([/?][^\n]*+)?+\Z")
# RFC 9112, section 3.2.3: authority-form
_AUTHORITY_FORM = re.compile(rb"(?>[^/?@:\[]++|\[[^/?@\]]++\]):[0-9]++\Z")


def _request_head(method: bytes, target: bytes, http10: bool, headers: Headers) -> RequestHead:
    if method not in _METHODS:
        raise bad_request("unknown method")
    fields = dict(headers)
    authority = fields.get(b"host")
    if authority is None:
        # RFC 9112, section 3.2: HTTP/1.1 requires it; in HTTP/1.0 a URL is enough.
        if not (http10 and _ABSOLUTE_FORM.match(target)):
            raise Failure(MISSING_HOST)
        authority = fields[b"host"] = b""
        headers = [*headers, (b"host", b"")]
    if len(fields) != len(headers) and sum(name == b"host" for name, _ in headers) > 1:
        raise bad_request("two Hosts")
    path = target
    if method == b"CONNECT":
        if not _AUTHORITY_FORM.match(target):
            raise bad_request("target of CONNECT is not host and port", "http1.invalid_url")
        path, authority = b"", target
    elif not target.startswith(b"/"):
        path, authority = _unusual_target(method, target, authority)
    if not _AUTHORITY.match(authority):
        raise Failure(INVALID_AUTHORITY)
    if _OF_THE_CONNECTION.isdisjoint(fields):
        headers.remove((b"host", fields[b"host"]))
        return RequestHead(method, path, authority, http10, headers, 0, not http10, b"")
    framing = 0
    if b"transfer-encoding" in fields or b"content-length" in fields:
        framing = _request_framing(headers, http10)
    keep_alive = not http10
    upgrade = b""
    taken = _TAKEN_FROM_REQUEST
    if b"connection" in fields:
        tokens = connection_tokens(headers)
        if tokens not in _PLAIN_CONNECTIONS:
            taken = taken | _nominated(tokens)
        keep_alive = b"close" not in tokens and (keep_alive or b"keep-alive" in tokens)
        protocol = _protocol(headers) if b"upgrade" in tokens else b""
        if protocol.lower() == b"h2c":  # is not offered, and passed over in silence, as in Envoy
            taken = taken | {b"http2-settings"}
        elif protocol and not (http10 or framing):
            upgrade = protocol
            taken = _TAKEN_FROM_REQUEST - _UPGRADE
    if b"proxy-connection" in fields and b"close" in comma_separated(headers, b"proxy-connection"):
        keep_alive = False
    headers = [field for field in headers if field[0] not in taken]
    if fields.get(b"te"):
        headers = _with_te_of_trailers_only(headers)
    return RequestHead(method, path, authority, http10, headers, framing, keep_alive, upgrade)


def _nominated(tokens: list[bytes]) -> frozenset[bytes]:
    """The fields that a client's Connection field has removed; raises `Failure` where Envoy does not let it."""
    if len(tokens) >= _TOO_MANY_NOMINATIONS:
        raise Failure(CONNECTION_HEADER_REJECTED)
    for token in tokens:
        if token in _REFUSED_NOMINATIONS or token.startswith(b":"):
            raise Failure(CONNECTION_HEADER_REJECTED)
        if token == b"host":
            raise Failure(MISSING_HOST)
    return frozenset(tokens) - _NEVER_NOMINATED


def _protocol(headers: Headers) -> bytes:
    """The protocol that the client would rather speak."""
    return b",".join([value for name, value in headers if name == b"upgrade"])


def _with_te_of_trailers_only(headers: Headers) -> Headers:
    """TE concerns one connection, but gRPC needs to know that its far end takes trailers; so Envoy leaves that."""
    takes_trailers = any(
        token.strip(b" \t") == b"trailers" for name, value in headers if name == b"te" for token in value.split(b",")
    )
    if not takes_trailers:
        return remove_headers(headers, frozenset((b"te",)))
    set_header(headers, b"te", b"trailers")
    return headers


def _unusual_target(method: bytes, target: bytes, authority: bytes) -> tuple[bytes, bytes]:
    """Path and authority of a target that is no path (RFC 9112, section 3.2)."""
    if target == b"*" and method == b"OPTIONS":
        return target, authority
    absolute = _ABSOLUTE_FORM.match(target)
    if absolute is None:
        raise bad_request("request target is neither a path nor a URL", "http1.invalid_url")
    scheme, _, authority, path = absolute.groups()
    if scheme.lower() == b"https":
        raise Failure(ABSOLUTE_HTTPS_ON_PLAINTEXT)
    if scheme.lower() != b"http":
        raise bad_request("scheme is not http", "http1.invalid_scheme")
    # Of a URL without a path Envoy makes `/`, but of one with nothing but a query no path at all.
    return path or b"/", authority


def _request_framing(headers: Headers, http10: bool) -> int:
    codings = [value for name, value in headers if name == b"transfer-encoding"]
    lengths = [value for name, value in headers if name == b"content-length"]
    if not codings:
        length = _content_length(lengths)
        if length is None:
            raise bad_request("Content-Length given more than once" if len(lengths) > 1 else "bad Content-Length")
        return length
    if lengths:
        raise bad_request("Content-Length with Transfer-Encoding", "http1.content_length_and_chunked_not_allowed")
    if http10:
        raise bad_request("Transfer-Encoding in HTTP/1.0")
    if len(codings) > 1 or codings[0].lower() != b"chunked":
        raise Failure(UNSUPPORTED_TRANSFER_ENCODING)
    return CHUNKED


def _response_head(status: int, http11: bool, headers: Headers, request_method: bytes) -> ResponseHead:
    fields = dict(headers)
    framing = UNTIL_CLOSE
    keep_alive = http11
    if b"transfer-encoding" in fields:
        codings = [value.lower() for name, value in headers if name == b"transfer-encoding"]
        if b"content-length" in fields or codings != [b"chunked"]:
            raise Failure(PROTOCOL_ERROR)
        framing = CHUNKED
    elif b"content-length" in fields:
        length = _content_length([value for name, value in headers if name == b"content-length"])
        if length is None:
            raise Failure(PROTOCOL_ERROR)
        framing = length
    if not _HOP_BY_HOP.isdisjoint(fields):
        tokens = connection_tokens(headers)
        keep_alive = b"close" not in tokens and (keep_alive or b"keep-alive" in tokens)
        taken = _HOP_BY_HOP if tokens in _PLAIN_CONNECTIONS else _HOP_BY_HOP | (frozenset(tokens) - _NEVER_NOMINATED)
        if status == 101:
            taken -= _UPGRADE
        headers = [field for field in headers if field[0] not in taken]
    # RFC 9112, section 6.3, rules 1 and 2: these have no body, whatever their fields say.
    if status < 200 or status == 204:
        # RFC 9110, section 8.6, and RFC 9112, section 6.1: nor have they these fields. Envoy overlooks a length of 0.
        if framing > 0 or framing == CHUNKED:
            raise Failure(PROTOCOL_ERROR)
        headers = remove_headers(headers, frozenset((b"content-length",)))
        framing = 0
    elif request_method == b"HEAD" or status == 304:
        framing = 0
    elif framing == UNTIL_CLOSE:
        keep_alive = False
    return ResponseHead(status, headers, framing, keep_alive)


def _content_length(values: list[bytes]) -> int | None:
    """RFC 9110, section 8.6: 1*DIGIT, once. A list of equal values may be accepted there; here it is not."""
    value = values[0]
    if len(values) > 1 or not value.isdigit() or len(value) > _MAX_CONTENT_LENGTH_DIGITS:
        return None
    length = int(value)
    return length if length < _TOO_LONG else None


def connection_tokens(headers: Headers) -> list[bytes]:
    """The options in all Connection fields, in lower case (RFC 9110, section 7.6.1)."""
    return comma_separated(headers, b"connection")


def comma_separated(headers: Headers, name: bytes) -> list[bytes]:
    """The elements of all fields of that name, in lower case, the empty ones aside (RFC 9110, section 5.6.1)."""
    values = b",".join([value for field, value in headers if field == name]).lower()
    if b"," not in values:
        return [values] if values else []
    return [token for token in [part.strip(b" \t") for part in values.split(b",")] if token]


# RFC 9110, section 15, and the registry; the reason phrases are Envoy's own, the upstream's are dropped as there.
_REASONS = {
    100: "Continue", 101: "Switching Protocols",
    200: "OK", 201: "Created", 202: "Accepted", 203: "Non-Authoritative Information", 204: "No Content",
    205: "Reset Content", 206: "Partial Content", 207: "Multi-Status", 208: "Already Reported", 226: "IM Used",
    300: "Multiple Choices", 301: "Moved Permanently", 302: "Found", 303: "See Other", 304: "Not Modified",
    305: "Use Proxy", 307: "Temporary Redirect", 308: "Permanent Redirect",
    400: "Bad Request", 401: "Unauthorized", 402: "Payment Required", 403: "Forbidden", 404: "Not Found",
    405: "Method Not Allowed", 406: "Not Acceptable", 407: "Proxy Authentication Required",
    408: "Request Timeout", 409: "Conflict", 410: "Gone", 411: "Length Required", 412: "Precondition Failed",
    413: "Payload Too Large", 414: "URI Too Long", 415: "Unsupported Media Type", 416: "Range Not Satisfiable",
    417: "Expectation Failed", 421: "Misdirected Request", 422: "Unprocessable Entity", 423: "Locked",
    424: "Failed Dependency", 425: "Too Early", 426: "Upgrade Required", 428: "Precondition Required",
    429: "Too Many Requests", 431: "Request Header Fields Too Large",
    500: "Internal Server Error", 501: "Not Implemented", 502: "Bad Gateway", 503: "Service Unavailable",
    504: "Gateway Timeout", 505: "HTTP Version Not Supported", 506: "Variant Also Negotiates",
    507: "Insufficient Storage", 508: "Loop Detected", 510: "Not Extended",
    511: "Network Authentication Required", 599: "Last Unassigned Server Error Code",
}  # fmt: skip

_STATUS_LINES = {status: f"HTTP/1.1 {status} {_REASONS.get(status, 'Unknown')}".encode() for status in range(100, 1000)}

NO_CONTENT_LINE = b"content-length: 0\r\n"
CHUNKED_LINE = b"transfer-encoding: chunked\r\n"


def request_head(method: bytes, path: bytes, authority: bytes, headers: Headers, extra: bytes = b"") -> bytes:
    """The bytes of a request's head; `host` comes first, as Envoy writes it. `extra` are whole field lines."""
    line = b"%b %b HTTP/1.1\r\nhost: %b" % (method, path, authority)
    return b"\r\n".join([line, *map(_line_of, headers), extra + b"\r\n"])


def response_head(status: int, headers: Headers, extra: bytes = b"", http10: bool = False) -> bytes:
    """The bytes of a response's head; `extra` are whole field lines of the connection's own."""
    line = _STATUS_LINES[status]
    if http10:
        line = b"HTTP/1.0" + line[8:]
    return b"\r\n".join([line, *map(_line_of, headers), extra + b"\r\n"])


_line_of = b": ".join


def chunk(data: bytes) -> bytes:
    """`data`, not empty, as one chunk."""
    return b"%x\r\n%b\r\n" % (len(data), data)


def last_chunk(trailers: Headers) -> bytes:
    """The end of a chunked body, with its trailer fields."""
    return b"\r\n".join([b"0", *map(_line_of, trailers), b"\r\n"])
