"""The downstream side of HTTP/1.1: one connection, its requests one after the other (RFC 9112).

A request whose body is in the buffer is one straight line: read, ask the connection manager, send. Only a body that is
still on its way gets a nursery, in which the upstream side sends it on while the response comes back.

Rule: each request that was read is finished exactly once with `ConnectionManager.finished`, however it ends.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import trio

from ..transport import Transport
from .failures import (
    DOWNSTREAM_DISCONNECT,
    DRAIN_TIMEOUT,
    REQUEST_HEADER_TIMEOUT,
    Failure,
)
from .http1_bodies import UNTIL_CLOSE, BodyError
from .http1_codec import (
    RequestHead,
    bad_request,
    chunk,
    last_chunk,
    read_request_head,
    response_head,
)
from .http1_connection import Http1Connection, ReceivedBody
from .message import Body, Headers, Request, Response

if TYPE_CHECKING:
    from .connection_manager import ConnectionManager

_CLOSE = b"connection: close\r\n"
_KEEP_ALIVE = b"connection: keep-alive\r\n"
_NO_CONTENT = b"content-length: 0\r\n"
_CHUNKED = b"transfer-encoding: chunked\r\n"
_LINGER_S = 1.0  # Envoy's delayed_close_timeout


class Http1ServerConnection(Http1Connection):
    """A client's connection. `serve` it in a task; cancel `scope` to end it at once."""

    __slots__ = (
        "_head_sent",
        "_local_address",
        "_manager",
        "_peer",
        "_peer_address",
        "_watcher",
        "idle_since",
        "scope",
    )

    def __init__(self, transport: Transport, manager: ConnectionManager) -> None:
        super().__init__(transport)
        self._manager = manager
        self._peer, self._peer_address, self._local_address = transport.addresses()
        self._head_sent = False
        self._watcher: _Watcher | None = None
        self.scope = trio.CancelScope()
        self.idle_since: float | None = None
        """Since when it has waited for a request, on trio's clock; None while it serves one."""

    def __repr__(self) -> str:
        state = "idle" if self.idle_since is not None else "busy"
        return f"<Http1ServerConnection from {self._peer.decode()}, {state}>"

    async def serve(self) -> None:
        """Serve requests until the client leaves, the connection is spent, or `scope` is cancelled."""
        with self.scope:
            try:
                while await self._serve_next():
                    pass
            except (OSError, trio.ClosedResourceError):
                pass  # the client is gone; what it was owed, it cannot get
            finally:
                self.transport.close()

    def close_if_idle(self, now: float) -> None:
        """End it if it has waited for a request longer than its listener allows. `now` is on trio's clock."""
        if self.idle_since is not None and now - self.idle_since > self._manager.idle_timeout_s:
            self.scope.cancel()

    async def send_informational(self, status: int, headers: Headers) -> None:
        """Pass on an interim response; HTTP/1.0 has none (RFC 9110, section 15.2)."""
        if not self._head_sent:
            await self.transport.send(response_head(status, headers))

    async def _serve_next(self) -> bool:
        """One request; False when the connection can serve no other."""
        self.idle_since = trio.current_time()
        try:
            head = await self._read_head()
        except Failure as failure:
            response = self._manager.refuse(failure, self._peer)
            assert isinstance(response.body, bytes)
            await self.transport.send(response_head(response.status, response.headers, _CLOSE) + response.body)
            await self._linger()
            return False
        if head is None:
            return False
        self.idle_since = None
        self._head_sent = False
        request = self._request(head)
        framing = head.framing
        answered = False
        try:
            if 0 <= framing <= len(self.buffer) and not request.upgrade:
                request.body = self.buffer[:framing]
                request.bytes_received = framing
                self.buffer = self.buffer[framing:]
                self._manager.departures.enter(self)
                keep_alive = await self._serve(request, head.keep_alive)
            else:
                keep_alive = await self._serve_streaming(request, head)
            answered = True
            return keep_alive
        finally:
            await self.stop_watching()
            if not answered and not request.flags:
                _note(request, Failure(DRAIN_TIMEOUT if self._manager.draining else DOWNSTREAM_DISCONNECT))
            self._manager.finished(request)

    async def _read_head(self) -> RequestHead | None:
        if not self.buffer and not await self.fill():
            return None
        limits = self._manager.limits
        found = read_request_head(self.buffer, limits)
        if found is None:
            with trio.move_on_after(self._manager.request_headers_timeout_s) as patience:
                while found is None:
                    searched = len(self.buffer)
                    if not await self.fill():
                        return None
                    found = read_request_head(self.buffer, limits, searched)
            if patience.cancelled_caught:
                raise Failure(REQUEST_HEADER_TIMEOUT)
        assert found is not None
        head, end = found
        self.buffer = self.buffer[end:]
        return head

    def _request(self, head: RequestHead) -> Request:
        request = Request()
        request.method = head.method
        request.path = head.path
        request.authority = head.authority
        request.scheme = b"http"
        request.headers = head.headers
        request.upgrade = b"" if head.upgrade.lower() == b"h2c" or head.framing else head.upgrade
        request.nursery = None
        request.downstream = self
        request.http10 = head.http10
        request.protocol = b"HTTP/1.0" if head.http10 else b"HTTP/1.1"
        request.peer = self._peer
        request.peer_address = self._peer_address
        request.local_address = self._local_address
        request.arrived = time.time()
        request.started = time.perf_counter()
        request.original_path = None
        request.bytes_received = request.bytes_sent = request.response_code = 0
        request.route_name = request.upstream_cluster = request.upstream_host = ""
        request.flags = request.details = ""
        request.service_time_ms = -1
        return request

    async def _serve(self, request: Request, keep_alive: bool) -> bool:
        response = await self._manager(request)
        request.response_code = response.status
        # What the client has not finished saying, it may say in vain, but not as a next request.
        spent = not isinstance(request.body, bytes) and not request.body.finished and response.status != 101
        keep_alive = keep_alive and not spent and not self._manager.draining
        body = response.body
        if isinstance(body, bytes):
            if request.method == b"HEAD" or response.status in (204, 304):
                body = b""
            extra = b"" if keep_alive and not request.http10 else _KEEP_ALIVE if keep_alive else _CLOSE
            if not body and _needs_length(request, response):
                extra += _NO_CONTENT
            self._head_sent = True
            try:
                await self.transport.send(
                    response_head(response.status, response.headers, extra, request.http10) + body
                )
            except OSError:
                _note(request, Failure(DOWNSTREAM_DISCONNECT))
                raise
            request.bytes_sent = len(body)
        else:
            try:
                keep_alive = await self._relay(request, response, body, keep_alive)
            finally:
                body.close()
        if spent:
            await self._linger()
        return keep_alive

    async def _relay(self, request: Request, response: Response, body: Body, keep_alive: bool) -> bool:
        """Send a response whose body is still coming; False when the connection must be closed behind it."""
        upgraded = response.status == 101
        chunked = body.length is None and not request.http10 and not upgraded
        keep_alive = keep_alive and (chunked or body.length is not None)
        if upgraded:
            extra = b"connection: upgrade\r\nupgrade: %b\r\n" % request.upgrade
        else:
            extra = b"" if keep_alive and not request.http10 else _KEEP_ALIVE if keep_alive else _CLOSE
            extra += _CHUNKED if chunked else b""
        try:
            piece = body.receive_nowait()
            data = response_head(response.status, response.headers, extra, request.http10)
            self._head_sent = True
            data += chunk(piece) if chunked and piece else piece
            while not body.finished:
                if data:
                    await self.transport.send(data)
                    request.bytes_sent += len(piece)
                piece = await body.receive()
                data = chunk(piece) if chunked and piece else piece
            if chunked:
                data += last_chunk(body.trailers)
            if data:
                await self.transport.send(data)
                request.bytes_sent += len(piece)
        except Failure as failure:
            _note(request, failure)
            if not chunked and body.length is None:
                # A plain close would look like the end of the body.
                self.transport.abort()
            return False
        except OSError:
            _note(request, Failure(DOWNSTREAM_DISCONNECT))
            raise
        return keep_alive

    async def _serve_streaming(self, request: Request, head: RequestHead) -> bool:
        framing = UNTIL_CLOSE if request.upgrade else head.framing
        body = _RequestBody(self, framing, request)
        request.body = body
        keep_alive = False
        try:
            async with trio.open_nursery() as nursery:
                request.nursery = nursery
                keep_alive = await self._serve(request, head.keep_alive)
                nursery.cancel_scope.cancel()
        except* Failure as group:
            failure = _first(group)
            if not self._head_sent and failure.kind.status:
                await self._reply_to_broken_body(request, failure)
            else:
                _note(request, failure)
            keep_alive = False
        return keep_alive

    async def _reply_to_broken_body(self, request: Request, failure: Failure) -> None:
        response = self._manager.local_reply(request, failure)
        assert isinstance(response.body, bytes)
        request.response_code = response.status
        request.bytes_sent = len(response.body)
        await self.transport.send(
            response_head(response.status, response.headers, _CLOSE, request.http10) + response.body
        )
        await self._linger()

    async def _linger(self) -> None:
        """Let the client read the answer before its unread bytes make the kernel reset the connection."""
        self.transport.send_end()
        with trio.move_on_after(_LINGER_S):
            while await self.transport.receive():
                pass

    def watch(self, nursery: trio.Nursery) -> None:
        """Begin to watch whether the client leaves while it waits; if it does, cancel everything done for it."""
        self._watcher = _Watcher(self)
        nursery.start_soon(self._watcher.run)

    async def stop_watching(self) -> None:
        self._manager.departures.leave(self)
        watcher, self._watcher = self._watcher, None
        if watcher is not None:
            with trio.CancelScope(shield=True):
                await watcher.stop()


class _Watcher:
    """Waits for a sign of life or of death from a client that has sent its request and should have nothing to say."""

    def __init__(self, connection: Http1ServerConnection) -> None:
        self._connection = connection
        self._scope = trio.CancelScope()
        self._done = trio.Event()

    async def run(self) -> None:
        transport = self._connection.transport
        try:
            with self._scope:
                await transport.wait_readable()
                # Something to read is the next request, pipelined: the client is there.
                if transport.peek() is False:
                    self._connection.scope.cancel()
        except trio.ClosedResourceError:
            pass
        finally:
            self._done.set()

    async def stop(self) -> None:
        self._scope.cancel()
        await self._done.wait()


class _RequestBody(ReceivedBody):
    __slots__ = ("_request",)
    _connection: Http1ServerConnection

    def __init__(self, connection: Http1ServerConnection, framing: int, request: Request) -> None:
        super().__init__(connection, framing)
        self._request = request

    def _received(self, count: int) -> None:
        self._request.bytes_received += count

    def _ended(self) -> None:
        connection = self._connection
        if not self._request.upgrade:
            connection._manager.departures.enter(connection)

    def _lost(self, error: Exception) -> Failure:
        return Failure(DOWNSTREAM_DISCONNECT)

    def _malformed(self, error: BodyError) -> Failure:
        return bad_request(str(error))

    def close(self) -> None:
        """Nothing to give back: what was not read, the connection is closed over."""


def _needs_length(request: Request, response: Response) -> bool:
    """An empty body has to be announced where there could have been one (RFC 9110, section 8.6)."""
    if request.method == b"HEAD" or response.status in (204, 304):
        return False
    return not any(name == b"content-length" for name, _ in response.headers)


def _note(request: Request, failure: Failure) -> None:
    request.flags = failure.kind.flags
    request.details = failure.details


def _first(group: BaseExceptionGroup[Failure]) -> Failure:
    found: BaseException = group
    while isinstance(found, BaseExceptionGroup):
        found = found.exceptions[0]
    assert isinstance(found, Failure)
    return found
