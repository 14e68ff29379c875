"""A reverse proxy in aiohttp: PORT METRICS-PORT ACCESS-LOG|off ENDPOINT...

Stands alone: it is run by an interpreter that need not know this package.
"""

from __future__ import annotations

import asyncio
import logging
import random
import sys
import time
import uuid
from collections.abc import Sequence

from aiohttp import ClientSession, ClientTimeout, TCPConnector, web
from prometheus_client import Counter, Histogram, start_http_server

_REQUESTS = Counter("requests", "Requests, by status.", ["status"])
_TIME = Histogram("request_seconds", "From a request's head to the end of its response.")
_HOP_BY_HOP = frozenset(
    ("connection", "keep-alive", "proxy-connection", "te", "trailer", "transfer-encoding", "upgrade")
)


class Endpoint:
    """Where requests go, and how many are there."""

    def __init__(self, address: str) -> None:
        self.base = f"http://{address}"
        self.active = 0


class ReverseProxy:
    """Forwards every request to the less busy of two endpoints."""

    def __init__(self, endpoints: Sequence[Endpoint], client: ClientSession) -> None:
        self._endpoints = endpoints
        self._client = client

    async def __call__(self, request: web.Request) -> web.StreamResponse:
        started = time.perf_counter()
        endpoint = min(random.sample(self._endpoints, 2), key=lambda one: one.active)
        endpoint.active += 1
        try:
            return await self._forward(request, endpoint)
        finally:
            endpoint.active -= 1
            _TIME.observe(time.perf_counter() - started)

    async def _forward(self, request: web.Request, endpoint: Endpoint) -> web.StreamResponse:
        headers = {name: value for name, value in request.headers.items() if name.lower() not in _HOP_BY_HOP}
        headers["X-Request-Id"] = str(uuid.uuid4())
        headers["X-Forwarded-For"] = request.remote or ""
        headers["X-Forwarded-Proto"] = request.scheme
        async with self._client.request(
            request.method,
            endpoint.base + request.rel_url.raw_path_qs,
            headers=headers,
            data=request.content if request.can_read_body else None,
            allow_redirects=False,
        ) as answer:
            _REQUESTS.labels(answer.status).inc()
            kept = {name: value for name, value in answer.headers.items() if name.lower() not in _HOP_BY_HOP}
            response = web.StreamResponse(status=answer.status, headers=kept)
            await response.prepare(request)
            async for piece in answer.content.iter_any():
                await response.write(piece)
            await response.write_eof()
            return response


async def main(port: int, metrics_port: int, log: str, endpoints: Sequence[str]) -> None:
    """Serve until ended."""
    start_http_server(metrics_port, "127.0.0.1")
    connector = TCPConnector(limit=0)
    async with ClientSession(connector=connector, auto_decompress=False, timeout=ClientTimeout(total=None)) as client:
        proxy = ReverseProxy([Endpoint(one) for one in endpoints], client)
        application = web.Application(client_max_size=0)
        application.router.add_route("*", "/service-a{rest:.*}", proxy.__call__)
        application.router.add_route("*", "/{rest:.*}", proxy.__call__)
        runner = web.AppRunner(application, access_log=_access_log(log))
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", port, backlog=4096).start()
        await asyncio.Event().wait()


def _access_log(path: str) -> logging.Logger | None:
    if path == "off":
        return None
    logger = logging.getLogger("access")
    logger.setLevel(logging.INFO)
    logger.addHandler(logging.FileHandler(path))
    return logger


if __name__ == "__main__":
    asyncio.run(main(int(sys.argv[1]), int(sys.argv[2]), sys.argv[3], sys.argv[4:]))
