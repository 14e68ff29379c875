"""The upstream side of HTTP/1.1: one connection, one exchange at a time (RFC 9112).

Rule: an exchange ends exactly once, whatever happens: `release` is called with True when the connection can serve
another request, with False when it is spent. That happens when the response's body ends, fails or is closed, and at
the latest when `exchange` raises.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TYPE_CHECKING

import trio

from ..transport import LOST, Transport
from .failures import CONNECTION_TERMINATION, PROTOCOL_ERROR, RESPONSE_BROKEN_OFF, Failure
from .http1_bodies import UNTIL_CLOSE, BodyError
from .http1_codec import (
    CHUNKED_LINE,
    NO_CONTENT_LINE,
    HeadLimits,
    ResponseHead,
    ResponseHeads,
    chunk,
    last_chunk,
    request_head,
)
from .http1_connection import Http1Connection, ReceivedBody
from .message import Body, Request, Response, header, remove_headers

if TYPE_CHECKING:
    from ..upstream.deadlines import Deadlines

_CONTENT_LENGTH = frozenset((b"content-length",))
_RESPONSE_LIMITS = HeadLimits(max_bytes=80 * 1024, max_fields=100)  # Envoy's

# Of these, a request without a body is written without a Content-Length; of others, with one of 0, as Envoy does.
_BODYLESS_METHODS = frozenset((b"GET", b"HEAD", b"DELETE", b"TRACE", b"CONNECT"))


class Http1ClientConnection(Http1Connection):
    """A connection to an endpoint, in use by one exchange or idle in its pool."""

    __slots__ = (
        "_busy",
        "_heads",
        "_keep_alive",
        "_release",
        "_request_sent",
        "answered",
        "deadlines",
        "ends",
        "idle_since",
        "opened",
        "requests",
    )

    def __init__(
        self,
        transport: Transport,
        release: Callable[[Http1ClientConnection, bool], None],
        opened: float,
        deadlines: Deadlines,
    ) -> None:
        super().__init__(transport)
        self._release = release
        self._heads = ResponseHeads(_RESPONSE_LIMITS)
        self._busy = False
        self._keep_alive = True
        self._request_sent = False
        self.deadlines = deadlines
        """What its exchanges may be given up by."""
        self.answered = False
        """Something has come back in this exchange, if only an interim response."""
        self.requests = 0
        self.opened = opened
        """When it came about, on trio's clock."""
        self.ends = math.inf
        """When it is to be closed if it is still idle then, on trio's clock."""
        self.idle_since: float | None = None
        """Since when it has been idle, on trio's clock, as far as anybody has looked; None while it is in use."""

    def __repr__(self) -> str:
        state = "closed" if self.transport.closed else "busy" if self._busy else "idle"
        return f"<Http1ClientConnection {state}, {self.requests} requests>"

    async def exchange(self, request: Request) -> Response:
        """Send a request and return the response, whose body may still be coming.

        A request whose body is still coming is sent by a task of its own, in `request.nursery`. Raises `Failure`:
        `CONNECTION_TERMINATION` when nothing at all was answered, `PROTOCOL_ERROR` when it was no HTTP.
        """
        self._busy = True
        self.answered = False
        self.requests += 1
        try:
            body = request.body
            if isinstance(body, bytes):
                self._request_sent = True
                extra = b"" if body or request.method in _BODYLESS_METHODS else _length(request)
                data = request_head(request.method, request.path, request.authority, request.headers, extra) + body
                try:
                    sent = self.transport.send_some(data)
                    if sent < len(data):
                        await self.transport.send_rest(data, sent)
                except LOST:
                    self._keep_alive = False  # an answer may have come before the connection broke: read on
            else:
                await self._send_streaming(request, body)
            method, searched = request.method, 0
            while True:
                try:
                    await self.transport.readable()
                    received = self.transport.receive_some()
                except LOST as error:
                    raise self._no_answer() from error
                if received is None:
                    continue
                if not received:
                    raise self._no_answer()
                self.answered = True
                self.buffer += received
                while found := self._heads.read(self.buffer, method, searched):
                    head, end = found
                    self.buffer = self.buffer[end:]
                    searched = 0
                    if head.status >= 200:
                        return self._response(request, head)
                    if head.status == 101:
                        return self._response(request, self._upgraded(request, head))
                    await _inform(request, head)
                searched = len(self.buffer)
        except BaseException:
            self.finish(False)
            raise

    def give_up(self) -> None:
        """End the exchange: whoever waits for it finds that the upstream has left."""
        self.transport.close()

    def finish(self, reusable: bool) -> None:
        """The exchange is over. Only the first call counts."""
        if self._busy:
            self._busy = False
            reusable = reusable and self._keep_alive and self._request_sent and not self.buffer
            if not reusable:
                self.transport.close()
            self._release(self, reusable)

    async def _send_streaming(self, request: Request, body: Body) -> None:
        self._request_sent = False
        chunked = body.length is None and not request.upgrade
        extra = CHUNKED_LINE if chunked else b""
        head = request_head(request.method, request.path, request.authority, request.headers, extra)
        try:
            await self.transport.send(head)
        except LOST:
            self._keep_alive = False
        if not request.upgrade:
            _nursery(request).start_soon(self._send_body, body, chunked)

    async def _send_body(self, body: Body, chunked: bool) -> None:
        try:
            while piece := await body.receive():
                await self.transport.send(chunk(piece) if chunked else piece)
                if not chunked:
                    await body.splice_to(self.transport, lambda count: None)
            if chunked:
                await self.transport.send(last_chunk(body.trailers))
            elif body.length is None:
                self.transport.send_end()  # an upgraded connection: the client has no more to say
            self._request_sent = True
        except LOST:
            # The upstream wants no more of it. Whether it has answered, the other task finds out.
            self._keep_alive = False
        except Failure:
            pass  # the side that the body comes from knows, and cancels this exchange
        finally:
            body.close()

    def _upgraded(self, request: Request, head: ResponseHead) -> ResponseHead:
        """From here on both sides say what they like. What the client said early was kept back until now: had the
        upstream not agreed, it would have read that as requests which nobody routed."""
        body = request.body
        if not request.upgrade or isinstance(body, bytes):
            raise Failure(PROTOCOL_ERROR)
        _nursery(request).start_soon(self._send_body, body, False)
        return head._replace(framing=UNTIL_CLOSE, keep_alive=False)

    def _no_answer(self) -> Failure:
        return Failure(PROTOCOL_ERROR if self.buffer else CONNECTION_TERMINATION)

    def _response(self, request: Request, head: ResponseHead) -> Response:
        self._keep_alive = self._keep_alive and head.keep_alive
        framing = head.framing
        if request.upgrade and 200 <= head.status < 400:
            # Neither the switch that was asked for nor an error: Envoy passes it on without its body.
            self.finish(False)
            return Response(head.status, remove_headers(head.headers, _CONTENT_LENGTH))
        headers = [*head.headers]
        if framing == 0:
            self.finish(True)
            return Response(head.status, headers)
        buffer = self.buffer
        if framing == len(buffer):
            self.buffer = b""
            self.finish(True)
            return Response(head.status, headers, buffer)
        body = _ResponseBody if head.status != 101 else _Tunnel
        return Response(head.status, headers, body(self, framing))


class _ResponseBody(ReceivedBody):
    __slots__ = ()
    _connection: Http1ClientConnection

    # RFC 9112, section 9.8: by TLS, such a response is complete only if the server has said so.
    ends_when_cut = False

    def _ended(self) -> None:
        self._connection.finish(True)

    def _lost(self, error: Exception) -> Failure:
        self._connection.finish(False)
        return Failure(RESPONSE_BROKEN_OFF)

    def _malformed(self, error: BodyError) -> Failure:
        return self._lost(error)

    def close(self) -> None:
        self._connection.finish(False)


async def _inform(request: Request, head: ResponseHead) -> None:
    """Pass on an interim response, for as long as the request may wait."""
    request.informed = True
    tries = request.tries
    if tries is None or not tries.limited:
        await request.downstream.send_informational(head.status, head.headers)
    else:
        with tries.new_scope():
            await request.downstream.send_informational(head.status, head.headers)


class _Tunnel(_ResponseBody):
    """What follows an upgrade: what it means that there is no more of it, those at both ends know."""

    __slots__ = ()
    ends_when_cut = True


def _nursery(request: Request) -> trio.Nursery:
    assert request.nursery is not None, "a request with a streaming body has a nursery"
    return request.nursery


def _length(request: Request) -> bytes:
    """The Content-Length of an empty body, unless the client has said it."""
    return NO_CONTENT_LINE if header(request.headers, b"content-length") is None else b""
