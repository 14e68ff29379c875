"""Sends a copy of a request elsewhere, and forgets it (Envoy's request mirroring, which calls it shadowing).

Rules:

1. The request knows nothing of its copies: they neither slow nor fail it. A copy that reads the body more slowly than
   it comes is broken off once it is `_MAX_BEHIND` behind, or all copies of its policy are `_MAX_BEHIND_TOGETHER`; so is
   one whose request is broken off.
2. A copy lasts no longer than `_TIMEOUT_S`, and a policy has no more than `_MAX_COPIES` at a time, nor more bodies that
   came whole than `_MAX_BEHIND_TOGETHER`: a mirror that hangs holds no more than these. Its response is read, up to
   `_MAX_RESPONSE`, so that its connection can serve again.
"""

from __future__ import annotations

import copy
import logging
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from functools import partial

import trio

from ...snapshot import FractionalPercent
from ..http.failures import Failure
from ..http.message import Body, Headers, Request, Response, Service, set_header
from ..splice import Sink
from .context import FilterContext

_log = logging.getLogger(__name__)

_MAX_BEHIND = 1 << 20  # Envoy's limit of what one connection buffers
_MAX_BEHIND_TOGETHER = 64 << 20
_MAX_RESPONSE = 1 << 20
_MAX_COPIES = 1024  # what Envoy's clusters bear by default
_TIMEOUT_S = 60.0


class Mirror:
    """Where copies of some requests go."""

    def __init__(self, percentage: FractionalPercent, service: Service, context: FilterContext) -> None:
        self._percentage = percentage
        self._service = service
        self._context = context
        self._copies = 0
        self.backlog = _Backlog()

    def is_chosen(self) -> bool:
        """Whether chance has this request copied."""
        return self._context.happens(self._percentage)

    def send(self, request: Request, body: bytes | _CopiedBody) -> None:
        """Begin to send a copy with this body."""
        whole = len(body) if isinstance(body, bytes) else 0
        if self._copies < _MAX_COPIES and self.backlog.size + whole <= _MAX_BEHIND_TOGETHER:
            self._copies += 1
            self.backlog.size += whole
            self._context.background(partial(self._send, _copy_of(request, body), body))
        elif not isinstance(body, bytes):
            body.close()

    async def _send(self, request: Request, body: bytes | _CopiedBody) -> None:
        scope = trio.CancelScope() if isinstance(body, bytes) else body.scope
        scope.deadline = trio.current_time() + _TIMEOUT_S
        try:
            with scope:
                if isinstance(body, bytes):
                    await _forget(await self._service(request))
                    return
                async with trio.open_nursery() as nursery:
                    request.nursery = nursery
                    await _forget(await self._service(request))
                    nursery.cancel_scope.cancel()
        except* Failure:
            pass  # the cluster has counted it
        except* Exception:
            _log.exception("the copy of %r failed", request)
        finally:
            self._copies -= 1
            if isinstance(body, bytes):
                self.backlog.size -= len(body)
            else:
                body.close()


def mirrored(mirrors: Sequence[Mirror], service: Service) -> Service:
    """`service`, of whose requests some go to `mirrors` as well. A protocol's upgrade goes nowhere else."""

    def mirroring(request: Request) -> Awaitable[Response]:
        chosen = [mirror for mirror in mirrors if mirror.is_chosen()]
        if not chosen or request.upgrade:
            return service(request)
        body = request.body
        if not isinstance(body, bytes):
            return copied(request, body, chosen)
        for mirror in chosen:
            mirror.send(request, body)
        return service(request)

    async def copied(request: Request, body: Body, chosen: Sequence[Mirror]) -> Response:
        copies = [_CopiedBody(body.length, mirror.backlog) for mirror in chosen]
        for mirror, one in zip(chosen, copies, strict=True):
            mirror.send(request, one)
        request.body = tee = _Tee(body, copies)
        if request.nursery is not None:
            request.nursery.start_soon(tee.end_with_the_request)
        try:
            return await service(request)
        except BaseException:
            tee.break_off()
            raise

    return mirroring


async def _forget(response: Response) -> None:
    """Read a response to its end, if that comes soon."""
    body = response.body
    if isinstance(body, bytes):
        return
    try:
        size = 0
        while size < _MAX_RESPONSE and (piece := await body.receive()):
            size += len(piece)
    finally:
        body.close()


def _copy_of(request: Request, body: bytes | Body) -> Request:
    """The request as Envoy's shadow has it: from this proxy, and with a mark at its host for the logs of the other."""
    shadow = copy.copy(request)
    shadow.body = body
    shadow.downstream = _NOBODY
    shadow.retry_rules = shadow.tries = None
    host, colon, port = request.authority.rpartition(b":")
    if colon and port.isdigit():
        shadow.authority = host + b"-shadow:" + port
    else:
        shadow.authority = request.authority + b"-shadow"
    shadow.headers = list(request.headers)
    here = request.local_address.rpartition(":")[0].strip("[]").encode()
    hops = [value for name, value in request.headers if name == b"x-forwarded-for"]
    if here:  # a Unix socket has no address
        set_header(shadow.headers, b"x-forwarded-for", b",".join([*hops, here]))
    set_header(shadow.headers, b"x-envoy-internal", b"true")
    return shadow


class _Nobody:
    """The side that a copy's response goes to."""

    async def send_informational(self, status: int, headers: Headers) -> None: ...


_NOBODY = _Nobody()


class _Tee:
    """A request's body that is copied while it is read."""

    def __init__(self, body: Body, copies: Sequence[_CopiedBody]) -> None:
        self._body = body
        self._copies = copies
        self.length = body.length
        self.trailers = body.trailers
        self.finished = body.finished

    async def receive(self) -> bytes:
        try:
            piece = await self._body.receive()
        except BaseException:
            self.break_off()
            raise
        self._copy(piece)
        return piece

    async def splice_to(self, sink: Sink, sent: Callable[[int], None]) -> None:
        """Whoever copies has to see the bytes."""

    def receive_nowait(self) -> bytes:
        piece = self._body.receive_nowait()
        self._copy(piece)
        return piece

    def _copy(self, piece: bytes) -> None:
        self.trailers = self._body.trailers
        self.finished = self._body.finished
        for one in self._copies:
            one.add(piece, self._body)

    async def end_with_the_request(self) -> None:
        """Break off with the request's nursery: an upstream may answer early, and nobody read the rest."""
        try:
            await trio.sleep_forever()
        finally:
            self.break_off()

    def break_off(self) -> None:
        """No more will come: copies of what is not whole end here."""
        for one in self._copies:
            one.break_off()

    def close(self) -> None:
        self.break_off()
        self._body.close()


class _Backlog:
    """How many bytes the copies of a policy have yet to read, in all, and those of bodies that came whole."""

    __slots__ = ("size",)

    def __init__(self) -> None:
        self.size = 0


class _CopiedBody:
    """A body that comes from another's reader. `scope` is that of the copy, which ends where the body breaks off."""

    def __init__(self, length: int | None, backlog: _Backlog) -> None:
        self._backlog = backlog
        self.length = length
        self.trailers: Headers = []
        self.finished = False
        self.scope = trio.CancelScope()
        self._pieces: deque[bytes] = deque()
        self._behind = 0
        self._whole = False
        self._more = trio.Event()

    def add(self, piece: bytes, source: Body) -> None:
        """Some more, and perhaps the last of it."""
        if self.scope.cancel_called or self._whole:
            return
        self._grow(len(piece))
        if self._behind > _MAX_BEHIND or self._backlog.size > _MAX_BEHIND_TOGETHER:
            self.close()
            return
        if piece:
            self._pieces.append(piece)
        if source.finished:
            self._whole = True
            self.trailers = source.trailers
        self._more.set()

    def break_off(self) -> None:
        """There will be no more; unless it is whole, the copy ends here."""
        if not self._whole:
            self.close()

    async def receive(self) -> bytes:
        while not (piece := self.receive_nowait()) and not self.finished:
            self._more = trio.Event()
            await self._more.wait()
        return piece

    async def splice_to(self, sink: Sink, sent: Callable[[int], None]) -> None:
        """It comes out of memory."""

    def receive_nowait(self) -> bytes:
        piece = self._pieces.popleft() if self._pieces else b""
        self._grow(-len(piece))
        self.finished = self._whole and not self._pieces
        return piece

    def _grow(self, size: int) -> None:
        self._behind += size
        self._backlog.size += size

    def close(self) -> None:
        self._pieces.clear()
        self._grow(-self._behind)
        if not self.finished:
            self.scope.cancel()
