"""Bodies and their ends, on both ways; interim responses; several requests on a connection."""

from __future__ import annotations

from meshproxy.snapshot import DirectResponseAction, Prefix, Route, RouteMatch

from ..exchanges import OK, Answer, Case, Exchange, exchange, forward, head, routed

_BODY = b"b" * 20_000
_CHUNKED = b"transfer-encoding: chunked\r\n\r\n"


def _answered(name: str, response: bytes, *, method: str = "GET", end: str = "keep", interim: bytes = b"") -> Exchange:
    answer = Answer((response,), end, interim)  # type: ignore[arg-type]
    return exchange(name, head("/", method=method), answer=answer)


def _asks_to_switch(connection: str = "Upgrade", upgrade: str = "websocket", *lines: str) -> bytes:
    return head("/", f"connection: {connection}", f"upgrade: {upgrade}", "sec-websocket-key: k", *lines)


_UPGRADE = _asks_to_switch()
_SWITCHED = b"HTTP/1.1 101 Switching Protocols\r\nupgrade: websocket\r\nconnection: Upgrade\r\nx-k: v\r\n\r\n"
_NOT_SWITCHED = b"HTTP/1.1 %d Why\r\ncontent-length: 2\r\n\r\nno"
_CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"
_EARLY_HINTS = b"HTTP/1.1 103 Early Hints\r\nlink: </x>\r\n\r\n"
_STATUSES = (200, 201, 202, 203, 206, 207, 208, 226, 299, 300, 302, 400, 401, 403, 404, 405, 407, 408, 409, 410, 411)
_MORE = (412, 413, 415, 416, 417, 418, 421, 422, 423, 424, 425, 426, 428, 429, 431, 451, 499, 500, 501, 502, 503, 504)

CASES = (
    Case(
        "statuses",
        routed(),
        tuple(
            _answered(f"{status}", b"HTTP/1.1 %d Because\r\ncontent-length: 1\r\n\r\nx" % status)
            for status in (*_STATUSES, *_MORE, 505, 506, 507, 508, 510, 511, 599, 600, 799, 999)
        ),
    ),
    Case(
        "response bodies",
        routed(),
        (
            _answered("length", b"HTTP/1.1 200 OK\r\ncontent-length: 20000\r\n\r\n" + _BODY),
            _answered("chunked", b"HTTP/1.1 200 OK\r\n" + _CHUNKED + b"3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n"),
            _answered("trailers", b"HTTP/1.1 200 OK\r\n" + _CHUNKED + b"3\r\nabc\r\n0\r\nx-t: 1\r\nX-U: 2\r\n\r\n"),
            _answered(
                "trailer set-cookie", b"HTTP/1.1 200 OK\r\n" + _CHUNKED + b"0\r\nset-cookie: 1\r\nx-t: 1\r\n\r\n"
            ),
            _answered("until closed", b"HTTP/1.1 200 OK\r\n\r\nuntil the end", end="close"),
            _answered("empty until closed", b"HTTP/1.1 200 OK\r\n\r\n", end="close"),
            _answered("HTTP/1.0", b"HTTP/1.0 200 OK\r\ncontent-length: 2\r\n\r\nok", end="close"),
            _answered("HTTP/1.0 until closed", b"HTTP/1.0 200 OK\r\n\r\nok", end="close"),
            _answered("connection: close", b"HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: 0\r\n\r\n"),
            _answered("no reason", b"HTTP/1.1 200\r\ncontent-length: 0\r\n\r\n"),
            _answered("204", b"HTTP/1.1 204 No Content\r\n\r\n"),
            _answered("204 with length 0", b"HTTP/1.1 204 No Content\r\ncontent-length: 0\r\n\r\n"),
            _answered("204 with a length", b"HTTP/1.1 204 No Content\r\ncontent-length: 5\r\n\r\nhello"),
            _answered("204 with chunks", b"HTTP/1.1 204 No Content\r\n" + _CHUNKED + b"0\r\n\r\n"),
            _answered("205", b"HTTP/1.1 205 Reset Content\r\ncontent-length: 0\r\n\r\n"),
            _answered("304", b"HTTP/1.1 304 Not Modified\r\netag: x\r\n\r\n"),
            _answered("304 with a length", b"HTTP/1.1 304 Not Modified\r\ncontent-length: 5\r\n\r\n"),
            _answered("HEAD with a length", b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\n", method="HEAD"),
            _answered("HEAD with chunked", b"HTTP/1.1 200 OK\r\n" + _CHUNKED, method="HEAD"),
            _answered("HEAD with nothing", b"HTTP/1.1 200 OK\r\n\r\n", method="HEAD"),
            _answered("HEAD with 204", b"HTTP/1.1 204 No Content\r\n\r\n", method="HEAD"),
            _answered("HEAD with 304", b"HTTP/1.1 304 Not Modified\r\ncontent-length: 5\r\n\r\n", method="HEAD"),
            exchange(
                "in pieces", head("/"), answer=Answer((b"HTTP/1.1 200 OK\r\nconte", b"nt-length: 4\r\n\r\nab", b"cd"))
            ),
            exchange(
                "chunks in pieces",
                head("/"),
                answer=Answer((b"HTTP/1.1 200 OK\r\n" + _CHUNKED, b"2\r\nab\r", b"\n2\r\ncd\r\n0", b"\r\n\r\n")),
            ),
        ),
    ),
    Case(
        "interim responses",
        routed(),
        (
            exchange(
                "100 before the body",
                head("/", "expect: 100-continue", "content-length: 5", method="POST"),
                b"hello",
                answer=Answer((OK,), interim=_CONTINUE),
                methods=("POST",),
            ),
            exchange(
                "100 with a header",
                head("/", "expect: 100-continue", "content-length: 5", method="POST"),
                b"hello",
                answer=Answer((OK,), interim=b"HTTP/1.1 100 Continue\r\nx-i: 1\r\n\r\n"),
                methods=("POST",),
            ),
            exchange(
                "a refusal in place of 100",
                head("/", "expect: 100-continue", "content-length: 5", method="POST"),
                answer=Answer((b"HTTP/1.1 413 No\r\ncontent-length: 0\r\n\r\n",), early=True),
            ),
            exchange(
                "Expect with the body at once",
                head("/", "Expect: 100-Continue", "content-length: 5", method="POST") + b"hello",
            ),
            exchange("another Expect", head("/", "expect: something", "content-length: 0", method="POST")),
            _answered("unsolicited 100", OK, interim=_CONTINUE),
            _answered("103", OK, interim=_EARLY_HINTS),
            _answered("103 twice", OK, interim=_EARLY_HINTS * 2),
            _answered("102", OK, interim=b"HTTP/1.1 102 Processing\r\n\r\n"),
            _answered("two 100s", OK, interim=_CONTINUE * 2),
            _answered("104", OK, interim=b"HTTP/1.1 104 Upload Resumption Supported\r\n\r\n"),
            _answered("199", OK, interim=b"HTTP/1.1 199 X\r\n\r\n"),
        ),
    ),
    Case(
        "request bodies",
        routed(),
        (
            exchange("large", head("/", "content-length: 20000", method="PUT") + _BODY),
            exchange(
                "trailers",
                head("/", "transfer-encoding: chunked", "trailer: x-t", method="POST")
                + b"3\r\nabc\r\n0\r\nx-t: 1\r\n\r\n",
            ),
            exchange(
                "chunks of all sizes",
                head("/", "transfer-encoding: chunked", method="POST")
                + b"1\r\na\r\n4e20\r\n%b\r\n2;e=1\r\nbc\r\n0\r\n\r\n" % _BODY,
            ),
            *(
                exchange(f"a body with {method}", head("/", "content-length: 2", method=method) + b"hi")
                for method in ("GET", "DELETE", "OPTIONS", "PATCH", "TRACE")
            ),
        ),
    ),
    Case(
        "pipelining",
        routed(Route("", RouteMatch(Prefix("/here")), DirectResponseAction(200, b"here")), forward("a")),
        (
            exchange("two", head("/1") + head("/2"), methods=("GET", "GET")),
            exchange("ten", b"".join(head(f"/{n}") for n in range(10)), methods=("GET",) * 10),
            exchange(
                "bodies",
                (head("/1", "content-length: 2", method="POST") + b"hi") * 2 + head("/3"),
                methods=("POST", "POST", "GET"),
            ),
            exchange(
                "chunks",
                (head("/1", "transfer-encoding: chunked", method="POST") + b"2\r\nhi\r\n0\r\n\r\n") * 2,
                methods=("POST", "POST"),
            ),
            exchange("HEAD first", head("/1", method="HEAD") + head("/2"), methods=("HEAD", "GET")),
            exchange("close first", head("/1", "connection: close") + head("/2"), methods=("GET", "GET")),
            exchange("a bad one second", head("/1") + b"GET / HTTP/1.1\r\nbad\r\n\r\n", methods=("GET", "GET")),
            exchange("an empty line between", head("/1") + b"\r\n" + head("/2"), methods=("GET", "GET")),
            exchange("answered here", head("/here") + head("/2"), methods=("GET", "GET")),
            exchange(
                "after an unrouted target",
                head("/1") + b"OPTIONS * HTTP/1.1\r\nhost: h\r\n\r\n" + head("/3"),
                methods=("GET", "OPTIONS", "GET"),
            ),
            exchange(
                "after an answer from here", head("/1") + head("/here") + head("/3"), methods=("GET", "GET", "GET")
            ),
            exchange(
                "answered here with a body",
                head("/here", "content-length: 2", method="POST") + b"hi" + head("/2"),
                methods=("POST", "GET"),
            ),
        ),
    ),
    Case(
        "websocket",
        routed(),
        (
            exchange("switched", _UPGRADE, b"hello", answer=_SWITCHED, methods=("GET",), tunnel=5),
            exchange("data with the head", _UPGRADE + b"hello", answer=_SWITCHED, tunnel=5),
            exchange("data in pieces", _UPGRADE, b"he", b"llo", answer=_SWITCHED, tunnel=5),
            exchange("data with the answer", _UPGRADE, answer=_SWITCHED + b"hello", tunnel=5),
            exchange("closed by the backend", _UPGRADE, answer=Answer((_SWITCHED, b"hello"), "close"), tunnel=5),
            exchange("half-closed", _UPGRADE + b"hello", answer=_SWITCHED, tunnel=5, half_close=True),
            exchange("as Firefox asks", _asks_to_switch("keep-alive, Upgrade"), answer=_SWITCHED),
            exchange("in other letters", _asks_to_switch("uPgrade", "WebSocket"), answer=_SWITCHED.title()),
            exchange(
                "with a nominated field", _asks_to_switch("upgrade, x-a", "websocket", "x-a: 1"), answer=_SWITCHED
            ),
            exchange("to several protocols", _asks_to_switch("upgrade", "websocket, foo"), answer=_SWITCHED),
            exchange("to h2c", _asks_to_switch("upgrade", "h2c")),
            exchange("answered with 100 first", _UPGRADE, answer=_CONTINUE + _SWITCHED),
            *(
                exchange(f"refused with {status}", _UPGRADE, answer=_NOT_SWITCHED % status)
                for status in (200, 201, 206, 299, 302, 400, 403, 426, 500)
            ),
            exchange("refused with 204", _UPGRADE, answer=b"HTTP/1.1 204 No Content\r\n\r\n"),
            exchange("unasked", head("/"), answer=_SWITCHED),
        ),
    ),
)
