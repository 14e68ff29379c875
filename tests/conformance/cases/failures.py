"""What a client gets when something behind the proxy, or the client itself, goes wrong."""

from __future__ import annotations

import socket
from dataclasses import replace

from meshproxy.snapshot import Cluster, Endpoint, HeaderMutations, HeaderValue, Snapshot, SocketAddress

from ...proxy.support import unused_address
from ..exchanges import Answer, Backends, Case, Configuration, Exchange, exchange, forward, get, head, request, routed

_GRPC = "content-type: application/grpc"
_REFUSED = unused_address()


def _broken(name: str, *pieces: bytes, end: str = "close", method: str = "GET") -> Exchange:
    return exchange(name, head("/", method=method), answer=Answer(pieces, end))  # type: ignore[arg-type]


def _nobody_listens() -> Configuration:
    """All goes to a cluster where no connection is accepted; its failures carry a header of the route."""
    route = replace(forward("dead"), response_headers=HeaderMutations((), (HeaderValue("x-route", "1"),)))

    def configured(backends: Backends) -> Snapshot:
        snapshot = routed(route)(backends)
        endpoint = Endpoint(SocketAddress(_REFUSED.host, _REFUSED.port))
        return replace(snapshot, clusters=(*snapshot.clusters, Cluster("dead", (endpoint,))))

    return configured


def _nobody_answers() -> Configuration:
    """All goes to a cluster where no connection is ever established."""

    def configured(backends: Backends) -> Snapshot:
        # A full backlog: the kernel answers no further SYN.
        full = socket.create_server(("127.0.0.1", 0), backlog=0)
        fillers = [socket.socket() for _ in range(4)]
        for filler in fillers:
            filler.setblocking(False)
            filler.connect_ex(full.getsockname())
        _held.extend((full, *fillers))
        endpoint = Endpoint(SocketAddress(*full.getsockname()))
        snapshot = routed(forward("deaf"))(backends)
        return replace(snapshot, clusters=(*snapshot.clusters, Cluster("deaf", (endpoint,), connect_timeout_s=0.1)))

    return configured


_held: list[socket.socket] = []

_ANY = (
    get("/"),
    get("/", _GRPC),
    request("HEAD", "/"),
    request("HEAD", "/", _GRPC),
    get("/", "connection: close"),
    exchange("POST", head("/", "content-length: 2", method="POST") + b"hi"),
)

CASES = (
    Case("refused", _nobody_listens(), _ANY),
    Case("connect timeout", _nobody_answers(), _ANY),
    Case("no endpoint", routed(forward("empty")), _ANY),
    Case("no cluster", routed(forward("unknown")), _ANY),
    Case("no route", routed(forward("a", replace(forward("a").match, case_sensitive=True))), (get("/"),)),
    Case(
        "broken responses",
        routed(),
        (
            _broken("closed before the head"),
            _broken("reset before the head", end="reset"),
            _broken("closed in the head", b"HTTP/1.1 200 OK\r\ncontent-"),
            _broken("closed in the body", b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\n", b"he"),
            _broken("reset in the body", b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\n", b"he", end="reset"),
            _broken("reset in a chunk", b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n", b"5", end="reset"),
            _broken("slow", b"", b"HTTP/1.1 200", b" OK\r\ncontent-length: 2\r\n\r\n", b"o", b"k", end="keep"),
            _broken("closed in a chunk", b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n", b"5\r\nhe"),
            _broken(
                "closed before the last chunk", b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n", b"1\r\nx\r\n"
            ),
            _broken("garbage", b"garbage\r\n\r\n"),
            _broken("status 99", b"HTTP/1.1 99 X\r\ncontent-length: 0\r\n\r\n"),
            _broken("status 000", b"HTTP/1.1 000 X\r\ncontent-length: 0\r\n\r\n"),
            _broken("status of four digits", b"HTTP/1.1 2000 X\r\ncontent-length: 0\r\n\r\n"),
            _broken("bad header name", b"HTTP/1.1 200 OK\r\nx a: 1\r\ncontent-length: 0\r\n\r\n"),
            _broken("no colon", b"HTTP/1.1 200 OK\r\nx\r\ncontent-length: 0\r\n\r\n"),
            _broken("bare carriage return", b"HTTP/1.1 200 OK\r\nx: a\rb\r\ncontent-length: 0\r\n\r\n"),
            _broken("NUL", b"HTTP/1.1 200 OK\r\nx: \0\r\ncontent-length: 0\r\n\r\n"),
            _broken("two lengths that differ", b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\ncontent-length: 1\r\n\r\n"),
            _broken("two lengths that agree", b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\ncontent-length: 0\r\n\r\n"),
            _broken("bad length", b"HTTP/1.1 200 OK\r\ncontent-length: x\r\n\r\n"),
            _broken(
                "length and chunked",
                b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n",
            ),
            _broken("gzip, chunked", b"HTTP/1.1 200 OK\r\ntransfer-encoding: gzip, chunked\r\n\r\n0\r\n\r\n"),
            _broken("identity", b"HTTP/1.1 200 OK\r\ntransfer-encoding: identity\r\n\r\n"),
            _broken("too many lines", b"HTTP/1.1 200 OK\r\n" + b"x: 1\r\n" * 101 + b"content-length: 0\r\n\r\n"),
            _broken("HTTP/2.0", b"HTTP/2.0 200 OK\r\ncontent-length: 0\r\n\r\n"),
            _broken("folded line", b"HTTP/1.1 200 OK\r\nx: 1\r\n 2\r\ncontent-length: 0\r\n\r\n"),
            _broken("only line feeds", b"HTTP/1.1 200 OK\ncontent-length: 0\n\n"),
            _broken("a large head", b"HTTP/1.1 200 OK\r\nx: " + b"v" * 81_800 + b"\r\ncontent-length: 0\r\n\r\n"),
            _broken("too large a head", b"HTTP/1.1 200 OK\r\nx: " + b"v" * 82_000 + b"\r\ncontent-length: 0\r\n\r\n"),
            _broken("bad chunk", b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n", b"zz\r\n"),
            _broken(
                "longer than its chunk", b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n1\r\nabc\r\n0\r\n\r\n"
            ),
            _broken("more than its length", b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nokmore"),
        ),
    ),
    Case(
        "early answers",
        routed(),
        (
            exchange(
                "before the body is complete",
                head("/", "content-length: 9", method="POST") + b"hi",
                answer=Answer((b"HTTP/1.1 400 No\r\ncontent-length: 2\r\n\r\nno",), early=True),
            ),
        ),
    ),
    Case(
        "slow heads",
        routed(request_headers_timeout_s=0.2),
        (
            exchange("half a head", b"GET / HTTP/1.1\r\nhost: exam"),
            exchange("half a line", b"GET /"),
        ),
    ),
)
