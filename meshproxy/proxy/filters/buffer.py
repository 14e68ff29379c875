"""Collects a request's body before anything of it is sent on, so that no upstream waits for a slow client.

https://www.envoyproxy.io/docs/envoy/latest/configuration/http/http_filters/buffer_filter
"""

from __future__ import annotations

from collections.abc import Awaitable

import trio

from ...snapshot import Buffer
from ..http.failures import PAYLOAD_TOO_LARGE, Failure
from ..http.message import Body, Request, Response, Service, header, remove_headers

_EXPECT = frozenset((b"expect",))


def buffer(policy: Buffer, service: Service) -> Service:
    """`service`, given requests whose bodies are whole. What follows a protocol's upgrade is no body, and passes."""
    limit = policy.max_request_bytes

    async def collected(request: Request, body: Body) -> Response:
        if body.length is not None and body.length > limit:
            raise Failure(PAYLOAD_TOO_LARGE)
        if header(request.headers, b"expect") is not None:
            # The client waits for a word, and the upstream, which cannot give it, hears of the request too late.
            await request.downstream.send_informational(100, [])
            request.headers = remove_headers(request.headers, _EXPECT)
        request.body = await _whole(body, limit)
        if body.length is None:
            request.headers.append((b"content-length", b"%d" % len(request.body)))
        return await service(request)

    def buffering(request: Request) -> Awaitable[Response]:
        body = request.body
        if not isinstance(body, bytes):
            return service(request) if request.upgrade else collected(request, body)
        return service(request) if len(body) <= limit else _refused()

    return buffering


async def _whole(body: Body, limit: int) -> bytes:
    pieces, size = [], 0
    while piece := await received(body):
        size += len(piece)
        if size > limit:
            raise Failure(PAYLOAD_TOO_LARGE)
        pieces.append(piece)
    return b"".join(pieces)


async def received(body: Body) -> bytes:
    """The next piece of a request's body, `b""` at its end."""
    try:
        return await body.receive()
    except Failure:
        await trio.sleep_forever()  # the side that the body comes from knows, and has cancelled this exchange
        raise


async def _refused() -> Response:
    raise Failure(PAYLOAD_TOO_LARGE)
