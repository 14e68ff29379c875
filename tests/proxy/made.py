"""Requests and services made by hand, for tests that call services directly."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from meshproxy.proxy.filters.context import FilterContext
from meshproxy.proxy.http.message import Body, Connection, Headers, Request, Response, Service

CONNECTION = Connection(b"192.0.2.7", "192.0.2.7:40000", "198.51.100.1:80")


def made_request(
    path: bytes = b"/",
    *,
    method: bytes = b"GET",
    authority: bytes = b"h.example",
    headers: Headers | None = None,
    body: bytes | Body = b"",
    connection: Connection = CONNECTION,
) -> Request:
    """A request as a server connection makes it, from 192.0.2.7."""
    request = Request()
    request.method = method
    request.path = path
    request.authority = authority
    request.scheme = b"http"
    request.headers = headers if headers is not None else []
    request.body = body
    request.nursery = None
    request.upgrade = b""
    request.http10 = False
    request.protocol = b"HTTP/1.1"
    request.connection = connection
    request.peer = connection.peer
    request.peer_address = connection.peer_address
    request.local_address = connection.local_address
    request.claims = None
    request.arrived = 1_700_000_000.25
    request.started = 0.0
    request.original_path = None
    request.bytes_received = request.bytes_sent = request.response_code = 0
    request.route_name = request.upstream_cluster = request.upstream_host = ""
    request.flags = request.details = ""
    request.service_time_ms = -1
    request.informed = False
    request.retry_rules = request.tries = None
    return request


class Backend:
    """A service that keeps what it was sent, and answers 200 with `headers`."""

    def __init__(self, headers: Headers | None = None) -> None:
        self.requests: list[Request] = []
        self._headers = headers or []

    async def __call__(self, request: Request) -> Response:
        self.requests.append(request)
        return Response(200, list(self._headers), b"ok")

    @property
    def request(self) -> Request:
        """The only request."""
        (request,) = self.requests
        return request


def failing(failure: Exception) -> Service:
    async def fail(request: Request) -> Response:
        raise failure

    return fail


def _never() -> float:
    raise AssertionError("no chance was to be taken")


def _nothing(task: Callable[[], Awaitable[None]]) -> None:
    raise AssertionError("nothing was to be done in the background")


NO_CONTEXT = FilterContext(_never, _nothing)
"""For what needs nothing of the world."""
