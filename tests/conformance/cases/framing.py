"""How requests are delimited (RFC 9112), and what either proxy refuses."""

from __future__ import annotations

from ..exchanges import Case, Exchange, exchange, head, routed

_HOST = b"host: example.com\r\n"


def _head(name: str, lines: bytes, body: bytes = b"") -> Exchange:
    """A POST with these lines."""
    return exchange(name, b"POST / HTTP/1.1\r\n" + _HOST + lines + b"\r\n" + body)


def _line(name: str, line: bytes, method: str = "GET") -> Exchange:
    """A request line."""
    return exchange(name, line + b"\r\n" + _HOST + b"\r\n", methods=(method,))


def _chunks(name: str, body: bytes) -> Exchange:
    """A POST with a chunked body as it stands on the wire."""
    return _head(name, b"transfer-encoding: chunked\r\n", body)


_METHODS = (
    *("ACL", "BIND", "CHECKOUT", "COPY", "LINK", "LOCK", "MERGE", "MKACTIVITY", "MKCALENDAR", "MKCOL", "MOVE"),
    *("M-SEARCH", "NOTIFY", "PROPFIND", "PROPPATCH", "PURGE", "REBIND", "REPORT", "SEARCH", "SOURCE", "SUBSCRIBE"),
    *("UNBIND", "UNLINK", "UNLOCK", "UNSUBSCRIBE", "QUERY", "LIST", "FOO", "get", "Get", "G", "PRI"),
)

CASES = (
    Case(
        "length",
        routed(),
        (
            _head("as told", b"content-length: 5\r\n", b"hello"),
            _head("none", b"content-length: 0\r\n"),
            _head("two that agree", b"content-length: 5\r\ncontent-length: 5\r\n", b"hello"),
            _head("two that differ", b"content-length: 5\r\ncontent-length: 6\r\n", b"hello!"),
            _head("a list", b"content-length: 5, 5\r\n", b"hello"),
            _head("plus", b"content-length: +5\r\n", b"hello"),
            _head("minus", b"content-length: -5\r\n", b"hello"),
            _head("hexadecimal", b"content-length: 0x5\r\n", b"hello"),
            _head("empty", b"content-length:\r\n"),
            _head("leading zeros", b"content-length: 005\r\n", b"hello"),
            _head("space behind", b"content-length: 5 \r\n", b"hello"),
            _head("space within", b"content-length: 1 2\r\n", b"hello"),
            _head("too large a number", b"content-length: 18446744073709551616\r\n", b"hello"),
            _head("letters", b"content-length: five\r\n", b"hello"),
            _head("and chunked", b"content-length: 5\r\ntransfer-encoding: chunked\r\n", b"0\r\n\r\n"),
            _head("chunked and", b"transfer-encoding: chunked\r\ncontent-length: 5\r\n", b"0\r\n\r\n"),
            exchange("of a GET", head("/", "content-length: 5") + b"hello"),
            exchange("of a HEAD", head("/", "content-length: 5", method="HEAD") + b"hello"),
            exchange("of a DELETE", head("/", "content-length: 5", method="DELETE") + b"hello"),
        ),
    ),
    Case(
        "transfer codings",
        routed(),
        (
            _head("chunked", b"transfer-encoding: chunked\r\n", b"5\r\nhello\r\n0\r\n\r\n"),
            _head("Chunked", b"Transfer-Encoding: Chunked\r\n", b"5\r\nhello\r\n0\r\n\r\n"),
            _head("gzip", b"transfer-encoding: gzip\r\n"),
            _head("gzip, chunked", b"transfer-encoding: gzip, chunked\r\n", b"0\r\n\r\n"),
            _head("chunked, gzip", b"transfer-encoding: chunked, gzip\r\n", b"0\r\n\r\n"),
            _head("identity", b"transfer-encoding: identity\r\n"),
            _head("chunked twice", b"transfer-encoding: chunked, chunked\r\n", b"0\r\n\r\n"),
            _head("two fields", b"transfer-encoding: chunked\r\ntransfer-encoding: chunked\r\n", b"0\r\n\r\n"),
            _head("empty coding", b"transfer-encoding:\r\n"),
            _head("xchunked", b"transfer-encoding: xchunked\r\n", b"0\r\n\r\n"),
            _head("chunked with a tab", b"transfer-encoding:\tchunked\r\n", b"0\r\n\r\n"),
            _head("chunked with a vertical tab", b"transfer-encoding: \x0bchunked\r\n", b"0\r\n\r\n"),
            _head("space before the colon", b"transfer-encoding : chunked\r\n", b"0\r\n\r\n"),
            exchange("chunked GET", head("/", "transfer-encoding: chunked") + b"2\r\nhi\r\n0\r\n\r\n"),
        ),
    ),
    Case(
        "chunks",
        routed(),
        (
            _chunks("several", b"3\r\nabc\r\n4\r\ndefg\r\n0\r\n\r\n"),
            _chunks("none", b"0\r\n\r\n"),
            _chunks("upper case", b"A\r\n0123456789\r\n0\r\n\r\n"),
            _chunks("leading zeros", b"0003\r\nabc\r\n000\r\n\r\n"),
            _chunks("an extension", b"3;x=y\r\nabc\r\n0;z\r\n\r\n"),
            _chunks("an extension with a quoted string", b'3;x="y;\\"z"\r\nabc\r\n0\r\n\r\n'),
            _chunks("space behind the size", b"3 \r\nabc\r\n0\r\n\r\n"),
            _chunks("space before the size", b" 3\r\nabc\r\n0\r\n\r\n"),
            _chunks("bare line feeds", b"3\nabc\n0\n\n"),
            _chunks("empty size", b"\r\nabc\r\n0\r\n\r\n"),
            _chunks("0x", b"0x3\r\nabc\r\n0\r\n\r\n"),
            _chunks("no number", b"zz\r\nabc\r\n0\r\n\r\n"),
            _chunks("minus", b"-3\r\nabc\r\n0\r\n\r\n"),
            _chunks("plus", b"+3\r\nabc\r\n0\r\n\r\n"),
            _chunks("underscore", b"1_0\r\nabc\r\n0\r\n\r\n"),
            _chunks("too large a size", b"fffffffffffffffff\r\nabc\r\n0\r\n\r\n"),
            _chunks("longer than its size", b"3\r\nabcd\r\n0\r\n\r\n"),
            _chunks("no line end behind the data", b"3\r\nabc0\r\n\r\n"),
            _chunks("a trailer", b"3\r\nabc\r\n0\r\nx-t: 1\r\nX-U:  2 \r\n\r\n"),
            _chunks(
                "a trailer that is none", b"3\r\nabc\r\n0\r\nx-request-id: 1\r\nx-t: 1\r\ncontent-length: 9\r\n\r\n"
            ),
            _chunks("a malformed trailer", b"3\r\nabc\r\n0\r\nno colon\r\n\r\n"),
            _chunks("a trailer with a space", b"3\r\nabc\r\n0\r\nx t: 1\r\n\r\n"),
        ),
    ),
    Case(
        "request lines",
        routed(),
        (
            *(_line(f"method {method}", f"{method} / HTTP/1.1".encode(), method=method) for method in _METHODS),
            _line("version 1.0", b"GET / HTTP/1.0"),
            _line("version 1.2", b"GET / HTTP/1.2"),
            _line("version 2.0", b"GET / HTTP/2.0"),
            _line("version 0.9", b"GET / HTTP/0.9"),
            _line("no version", b"GET /"),
            _line("lower-case version", b"GET / http/1.1"),
            _line("version 1.10", b"GET / HTTP/1.10"),
            _line("no target", b"GET HTTP/1.1"),
            _line("two spaces", b"GET  / HTTP/1.1"),
            _line("a tab", b"GET\t/ HTTP/1.1"),
            _line("space behind", b"GET / HTTP/1.1 "),
            _line("space before", b" GET / HTTP/1.1"),
            _line("space in the target", b"GET /a b HTTP/1.1"),
            _line("empty line before", b"\r\nGET / HTTP/1.1"),
            _line("two empty lines before", b"\r\n\r\nGET / HTTP/1.1"),
            _line("eight empty lines before", b"\r\n" * 8 + b"GET / HTTP/1.1"),
            _line("nine empty lines before", b"\r\n" * 9 + b"GET / HTTP/1.1"),
            _line("bare line feed before", b"\nGET / HTTP/1.1"),
            _line("NUL in the target", b"GET /\x00 HTTP/1.1"),
            _line("control character in the target", b"GET /\x01 HTTP/1.1"),
            _line("byte above 127 in the target", b"GET /\xe9 HTTP/1.1"),
            _line("delete in the target", b"GET /\x7f HTTP/1.1"),
            _line("fragment", b"GET /a#b HTTP/1.1"),
            _line("relative target", b"GET a HTTP/1.1"),
            _line("query alone", b"GET ?q HTTP/1.1"),
            _line("escaped NUL", b"GET /%00 HTTP/1.1"),
            _line("escaped NUL in the query", b"GET /?%00 HTTP/1.1"),
        ),
    ),
    Case(
        "field lines",
        routed(),
        (
            _head("space before the colon", b"x-a : 1\r\n"),
            _head("no colon", b"x-a\r\n"),
            _head("empty name", b": 1\r\n"),
            _head("pseudo header", b":path: /x\r\n"),
            _head("space in the name", b"x a: 1\r\n"),
            _head("underscore in the name", b"x_a: 1\r\n"),
            _head("odd token characters", b"x!#$%&'*+-.^_`|~: 1\r\n"),
            _head("parentheses in the name", b"x(a): 1\r\n"),
            _head("byte above 127 in the name", b"x\xe9: 1\r\n"),
            _head("NUL in the value", b"x-a: 1\x002\r\n"),
            _head("control character in the value", b"x-a: 1\x012\r\n"),
            _head("delete in the value", b"x-a: 1\x7f2\r\n"),
            _head("tab in the value", b"x-a: 1\t2\r\n"),
            _head("folded line", b"x-a: 1\r\n 2\r\n"),
            _head("folded line with a tab", b"x-a: 1\r\n\t2\r\n"),
            _head("bare line feed", b"x-a: 1\nx-b: 2\r\n"),
            _head("bare carriage return in the value", b"x-a: 1\r2\r\n"),
            _head("two carriage returns", b"x-a: 1\r\r\n"),
            exchange("only line feeds", b"GET / HTTP/1.1\nhost: example.com\n\n"),
            exchange("folded first line", b"GET / HTTP/1.1\r\n x: y\r\nhost: example.com\r\n\r\n"),
            exchange("no Host", b"GET / HTTP/1.1\r\n\r\n"),
            exchange("empty Host", b"GET / HTTP/1.1\r\nhost:\r\n\r\n"),
            exchange("two Hosts", b"GET / HTTP/1.1\r\nhost: example.com\r\nhost: example.com\r\n\r\n"),
            exchange("two Hosts that differ", b"GET / HTTP/1.1\r\nhost: example.com\r\nhost: b\r\n\r\n"),
            *(
                exchange(f"Host {host!r}", head("/", host=host))
                for host in (
                    *("a b", "a/b", "a?b", "a#b", "a\\b", 'a"b', "<a>", "{a}", "a|b", "a^b", "\xe9", "a,b", "[::1"),
                    *("a%20b", "a_b", "u:p@h", "h:abc", ":80", "a`b", "a'b", "!$&()*+;=~"),
                )
            ),
            exchange("HTTP/1.0 with a Host", b"GET / HTTP/1.0\r\nhost: example.com\r\n\r\n"),
            exchange("HTTP/1.0 without a Host", b"GET / HTTP/1.0\r\n\r\n"),
            exchange(
                "HTTP/1.0 that is kept alive", b"GET / HTTP/1.0\r\nhost: example.com\r\nconnection: keep-alive\r\n\r\n"
            ),
            exchange("HTTP/1.0 with a bad name", b"GET / HTTP/1.0\r\nx y: 1\r\nhost: example.com\r\n\r\n"),
            exchange(
                "HTTP/1.0 with gzip",
                b"POST / HTTP/1.0\r\nhost: example.com\r\ntransfer-encoding: gzip\r\n\r\n",
            ),
            exchange(
                "HTTP/1.0 with chunks",
                b"POST / HTTP/1.0\r\nhost: example.com\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n",
            ),
        ),
    ),
    Case(
        "limits",
        routed(max_request_headers_kb=8, max_headers_count=20),
        (
            exchange("large head", head("/", "x: " + "v" * 7000)),
            exchange("too large a head", head("/", "x: " + "v" * 9000)),
            exchange("too long a target", head("/" + "p" * 9000)),
            exchange("many lines", head("/", *(f"x-{n}: 1" for n in range(19)))),
            exchange("too many lines", head("/", *(f"x-{n}: 1" for n in range(20)))),
            exchange("too many of one name", head("/", *("x: 1" for _ in range(20)))),
        ),
    ),
    Case(
        "default limits",
        routed(),
        (
            exchange("large head", head("/", "x: " + "v" * 60_000)),
            exchange("too large a head", head("/", "x: " + "v" * 62_000)),
            exchange("100 lines", head("/", *(f"x-{n}: 1" for n in range(99)))),
            exchange("101 lines", head("/", *(f"x-{n}: 1" for n in range(100)))),
        ),
    ),
)
