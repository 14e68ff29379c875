"""The downstream side of HTTP/1.1: one connection, its requests one after the other (RFC 9112).

A request whose body is in the buffer is one straight line: read, ask the connection manager, send. Only a body that is
still on its way gets a nursery, in which the upstream side sends it on while the response comes back.

Rules:

1. Each request that was read is finished exactly once with `ConnectionManager.finished`, however it ends.
2. One task at a time reads from the client: who reads the request's body, else who watches for the client's departure,
   else who waits for the next request.
3. A client can tell a whole response from a broken one: where only the close would mark the end, a response that breaks
   off ends in a reset.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TYPE_CHECKING

import trio

from ..splice import Sink
from ..transport import LOST, Transport
from .failures import (
    DOWNSTREAM_DISCONNECT,
    DRAIN_TIMEOUT,
    NO_FAILURES,
    REQUEST_HEADER_TIMEOUT,
    Failure,
    add_flags,
)
from .http1_bodies import UNTIL_CLOSE, BodyError
from .http1_codec import (
    CHUNKED_LINE,
    NO_CONTENT_LINE,
    RequestHead,
    RequestHeads,
    bad_request,
    chunk,
    last_chunk,
    response_head,
)
from .http1_connection import Http1Connection, ReceivedBody
from .message import Body, Connection, Headers, Request, Response, header

if TYPE_CHECKING:
    from .connection_manager import ConnectionManager

_CLOSE = b"connection: close\r\n"
_KEEP_ALIVE = b"connection: keep-alive\r\n"
_LINGER_S = 1.0  # Envoy's delayed_close_timeout
_MAX_READ_AHEAD = 65536  # from a client that is only watched; one that says more is no longer watched


class Http1ServerConnection(Http1Connection):
    """A client's connection. `serve` it in a task; cancel `scope` to end it at once."""

    __slots__ = (
        "_connection",
        "_head_sent",
        "_heads",
        "_http10",
        "_idle_since",
        "_manager",
        "_upload",
        "_watcher",
        "idle",
        "scope",
    )

    def __init__(
        self,
        transport: Transport,
        manager: ConnectionManager,
        connection: Connection | None = None,
        received: bytes = b"",
    ) -> None:
        """`connection` is what is known of it besides its addresses; `received` has been read from it already."""
        super().__init__(transport)
        self.buffer = received
        self._manager = manager
        self._connection = connection or Connection(*transport.addresses())
        self._heads = RequestHeads(manager.limits)
        self._head_sent = False
        self._http10 = False
        self._watcher: _Watcher | None = None
        self._upload: _RequestBody | None = None
        self.scope = trio.CancelScope()
        self.idle = False
        """It waits for a request, of which nothing has come."""
        self._idle_since: float | None = None  # on trio's clock, as far as anybody has looked

    def __repr__(self) -> str:
        state = "idle" if self.idle else "busy"
        return f"<Http1ServerConnection from {self._connection.peer.decode()}, {state}>"

    async def serve(self) -> None:
        """Serve requests until the client leaves, the connection is spent, or `scope` is cancelled."""
        with self.scope:
            try:
                while await self._serve_next():
                    pass
            except LOST:
                pass  # the client is gone; what it was owed, it cannot get
            finally:
                self.transport.close()

    def sweep(self, now: float) -> None:
        """End it if it has waited for a request longer than its listener allows, or if its client has left and nobody
        has read any of its body since the last of these calls. `now` is on trio's clock.

        It has waited since the first of these calls that found it waiting: no request pays for a look at the clock.
        Who waits for an upstream to take more of a body, or for a turn, does not see the client leave.
        """
        if self.idle:
            if self._idle_since is None:
                self._idle_since = now
            elif now - self._idle_since > self._manager.idle_timeout_s:
                self.scope.cancel()
        elif self._upload is not None and self._upload.stands_still() and self.transport.left():
            self.scope.cancel()

    def drain(self) -> None:
        """End it unless there is something of a request, which then is its last: the manager is draining."""
        if self.idle and self.transport.peek() is None:
            self.scope.cancel()

    async def send_informational(self, status: int, headers: Headers) -> None:
        """Pass on an interim response; HTTP/1.0 has none (RFC 9110, section 15.2)."""
        if self._head_sent or self._http10:
            return
        try:
            await self.transport.send(response_head(status, headers))
        except LOST:
            self.scope.cancel()  # not the upstream's failure: the client has left
        except trio.Cancelled:
            self.transport.abort()  # behind a part of it, a client would read any answer as the rest
            raise

    async def _serve_next(self) -> bool:
        """One request; False when the connection can serve no other."""
        manager = self._manager
        if not self.buffer:
            if manager.draining and self.transport.peek() is None:
                return False
            self.idle = True
            await self.transport.readable()
            data = self.transport.receive_some()
            self.buffer = await self.transport.receive() if data is None else data
            self.idle = False
            self._idle_since = None
            if not self.buffer:
                return False
        else:
            # What a client has said ahead may be answered without a wait: it must not keep the others waiting.
            await trio.lowlevel.checkpoint()
        try:
            head, end = self._heads.read(self.buffer) or await self._rest_of_head()
        except Failure as failure:
            await self._refuse(failure)
            return False
        self.buffer = self.buffer[end:]
        request = request_of(head, self._connection)
        request.downstream = self
        request.arrived = time.time()
        request.started = time.perf_counter()
        self._head_sent = False
        self._http10 = head.http10
        departures = manager.departures
        departures[self] = False
        ended = keep_alive = False
        try:
            if 0 <= head.framing <= len(self.buffer) and not (request.upgrade or head.method == b"CONNECT"):
                if head.framing:
                    request.body = self.buffer[: head.framing]
                    request.bytes_received = head.framing
                    self.buffer = self.buffer[head.framing :]
                response = await manager(request)
                keep_alive = await self._respond(request, response, head.keep_alive and not manager.draining)
            else:
                keep_alive = await self._serve_streaming(request, head)
            ended = True
        finally:
            departures.pop(self, None)
            if self._watcher is not None:
                await self._stop_watcher()
            if not ended:
                _note(request, Failure(DOWNSTREAM_DISCONNECT if self.scope.cancel_called else DRAIN_TIMEOUT))
            manager.finished(request)
            whole = keep_alive or _complete(request.body)
            if request.nursery is not None:
                # The request's body, and the tasks that carried it, know the request: together they would be garbage.
                request.nursery, request.body = None, b""
        if not keep_alive and (head.keep_alive or not whole):
            await self._linger()
        return keep_alive

    async def _rest_of_head(self) -> tuple[RequestHead, int]:
        """Wait for a head that has begun. Raises `Failure`, also when it takes the client too long."""
        with trio.move_on_after(self._manager.request_headers_timeout_s):
            while True:
                searched = len(self.buffer)
                if not await self._fill_head():
                    raise Failure(DOWNSTREAM_DISCONNECT)
                found = self._heads.read(self.buffer, searched)
                if found is not None:
                    return found
        raise Failure(REQUEST_HEADER_TIMEOUT)

    async def _fill_head(self) -> bool:
        try:
            return await self.fill()
        except LOST:
            return False

    async def _refuse(self, failure: Failure) -> None:
        """Answer what is no request, as long as there is somebody to answer."""
        response = self._manager.refuse(failure, self._connection.peer)
        assert isinstance(response.body, bytes)
        if response.status:
            extra = _CLOSE if response.body else _CLOSE + NO_CONTENT_LINE
            await self.transport.send(response_head(response.status, response.headers, extra) + response.body)
            await self._linger()

    async def _serve_streaming(self, request: Request, head: RequestHead) -> bool:
        # What follows the head of an upgrade or a CONNECT is in another protocol: no next request, even if refused.
        body = request.body = self._upload = _RequestBody(self, head.framing or UNTIL_CLOSE, request)
        keep_alive = False
        try:
            async with trio.open_nursery() as nursery:
                request.nursery = nursery
                response = await self._manager(request)
                # What the client has not finished saying, it may say in vain, but not as a next request.
                spent = not body.finished and response.status != 101
                keep_alive = head.keep_alive and not spent and not self._manager.draining
                keep_alive = await self._respond(request, response, keep_alive)
                nursery.cancel_scope.cancel()
        finally:
            self._upload = None
        failure = body.failure
        if failure is None:
            return keep_alive
        if self._head_sent or not failure.kind.status:
            _note(request, failure)
        else:
            await self._respond(request, self._manager.local_reply(request, failure), False)
        return False

    async def _respond(self, request: Request, response: Response, keep_alive: bool) -> bool:
        """Send a response; False when the connection must be closed behind it."""
        request.response_code = response.status
        body = response.body
        try:
            if isinstance(body, bytes):
                self._head_sent = True
                data = _whole_response(request, response, body, keep_alive)
                sent = self.transport.send_some(data)
                if sent < len(data):
                    await self.transport.send_rest(data, sent)
                return keep_alive
            try:
                tries = request.tries
                if tries is None or not tries.limited:
                    return await self._relay(request, response, body, keep_alive)
                # A client that does not read holds the upstream no longer than one that does.
                with tries.new_scope():
                    return await self._relay(request, response, body, keep_alive)
                _note(request, tries.too_late())
                return False
            finally:
                body.close()
        except LOST:
            _note(request, Failure(DOWNSTREAM_DISCONNECT))
            return False

    async def _relay(self, request: Request, response: Response, body: Body, keep_alive: bool) -> bool:
        """Send a response whose body is still coming; False when the connection must be closed behind it."""
        upgraded = response.status == 101
        chunked = body.length is None and not request.http10 and not upgraded
        ends_with_close = body.length is None and not chunked
        keep_alive = keep_alive and not ends_with_close
        extra = b"" if upgraded else _connection_line(request, keep_alive) + (CHUNKED_LINE if chunked else b"")
        whole = False

        def sent(count: int) -> None:
            request.bytes_sent += count

        try:
            data = response_head(response.status, response.headers, extra, request.http10)
            self._head_sent = True
            try:
                piece = body.receive_nowait()
            except Failure:
                await self.transport.send(data)
                raise
            data += chunk(piece) if chunked and piece else piece
            while not body.finished:
                if data:
                    await self.transport.send(data)
                    request.bytes_sent += len(piece)
                if not chunked:
                    await body.splice_to(self.transport, sent)
                piece = await body.receive()
                data = chunk(piece) if chunked and piece else piece
            if chunked:
                data += last_chunk(body.trailers)
            if data:
                await self.transport.send(data)
                request.bytes_sent += len(piece)
            whole = True
        except Failure as failure:
            _note(request, failure)
        finally:
            if ends_with_close and not whole:
                self.transport.abort()
        return keep_alive and whole

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
        """Somebody else is going to read from the client."""
        self._manager.departures.pop(self, None)
        if self._watcher is not None:
            await self._stop_watcher()

    async def _stop_watcher(self) -> None:
        watcher, self._watcher = self._watcher, None
        assert watcher is not None
        with trio.CancelScope(shield=True):
            await watcher.stop()


def request_of(head: RequestHead, connection: Connection) -> Request:
    """The request of a head, at its beginning; what has a body, a time or a side to come back to must be given one."""
    request = Request()
    request.method = head.method
    request.path = head.path
    request.authority = head.authority
    request.scheme = connection.scheme
    request.headers = head.headers
    request.body = b""
    request.upgrade = head.upgrade
    request.nursery = None
    request.http10 = head.http10
    request.protocol = b"HTTP/1.0" if head.http10 else b"HTTP/1.1"
    request.connection = connection
    request.peer = connection.peer
    request.peer_address = connection.peer_address
    request.local_address = connection.local_address
    request.claims = None
    request.arrived = request.started = 0.0
    request.original_path = None
    request.bytes_received = request.bytes_sent = request.response_code = 0
    request.route_name = request.upstream_cluster = request.upstream_host = ""
    request.flags = request.details = ""
    request.service_time_ms = -1
    request.informed = False
    request.retry_rules = request.tries = None
    return request


class _Watcher:
    """Reads ahead from a client that has nothing to say for now, until it leaves or says too much."""

    def __init__(self, connection: Http1ServerConnection) -> None:
        self._connection = connection
        self._scope = trio.CancelScope()
        self._done = trio.Event()

    async def run(self) -> None:
        connection = self._connection
        try:
            with self._scope:
                while len(connection.buffer) < _MAX_READ_AHEAD:
                    if not await connection.fill():
                        connection.scope.cancel()
                        break
        except OSError:
            connection.scope.cancel()
        except trio.ClosedResourceError:
            pass  # we have left
        finally:
            self._done.set()

    async def stop(self) -> None:
        self._scope.cancel()
        await self._done.wait()


class _RequestBody(ReceivedBody):
    """A request's body. Should it fail, all that is done for the request is cancelled: `failure` says why."""

    __slots__ = ("_request", "_seen", "failure")
    _connection: Http1ServerConnection

    def __init__(self, connection: Http1ServerConnection, framing: int, request: Request) -> None:
        super().__init__(connection, framing)
        self._request = request
        self._seen = 0
        self.failure: Failure | None = None

    def stands_still(self) -> bool:
        """Whether it is not whole, and nothing of it was read since this was last asked."""
        seen, self._seen = self._seen, self._request.bytes_received
        return not self.finished and seen == self._seen

    async def receive(self) -> bytes:
        if not self.finished:
            await self._connection.stop_watching()
        return await super().receive()

    async def splice_to(self, sink: Sink, sent: Callable[[int], None]) -> None:
        if not self.finished:
            await self._connection.stop_watching()
        await super().splice_to(sink, sent)

    def _received(self, count: int) -> None:
        self._request.bytes_received += count

    def _ended(self) -> None:
        connection = self._connection
        if not self._request.upgrade:
            connection._manager.departures[connection] = False

    def _lost(self, error: Exception) -> Failure:
        return self._failed(Failure(DOWNSTREAM_DISCONNECT))

    def _malformed(self, error: BodyError) -> Failure:
        return self._failed(bad_request(str(error)))

    def _failed(self, failure: Failure) -> Failure:
        self.failure = failure
        if self._request.nursery is not None:
            self._request.nursery.cancel_scope.cancel()
        # Raised, it holds the frames that it comes through, and those hold this body.
        return Failure(failure.kind, failure.details)

    def close(self) -> None:
        """Nothing to give back: what was not read, the connection is closed over."""


def _complete(body: bytes | Body) -> bool:
    return isinstance(body, bytes) or body.finished


def _whole_response(request: Request, response: Response, body: bytes, keep_alive: bool) -> bytes:
    """The bytes of a response whose body is at hand, as far as it may be sent; noted in `bytes_sent`."""
    extra = b"" if keep_alive and not request.http10 else _connection_line(request, keep_alive)
    if request.method == b"HEAD" or response.status in (204, 304):
        body = b""
    elif not body and header(response.headers, b"content-length") is None:
        extra += NO_CONTENT_LINE  # there could have been one (RFC 9110, section 8.6)
    request.bytes_sent = len(body)
    return response_head(response.status, response.headers, extra, request.http10) + body


def _connection_line(request: Request, keep_alive: bool) -> bytes:
    """What goes without saying in HTTP/1.1 must be said in HTTP/1.0 (RFC 9112, section 9.3)."""
    if keep_alive:
        return _KEEP_ALIVE if request.http10 else b""
    return _CLOSE


def _note(request: Request, failure: Failure) -> None:
    """What went wrong first is why the request failed; what follows from it is not."""
    if NO_FAILURES.issuperset(request.flags.split(",")):
        add_flags(request, failure.kind.flags)
        request.details = failure.details
