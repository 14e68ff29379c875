"""What happens to every request and response of a listener, whatever the protocol: Envoy's HTTP connection manager.

On the way in the path is normalised, and the headers that proxies write for each other are put right; then the router
is asked. On the way out failures become responses, and every response gets `date` and `server`.
"""

from __future__ import annotations

import logging
import os
import re
import time
from collections.abc import Callable, Iterator
from email.utils import formatdate
from typing import TYPE_CHECKING, Protocol

from ...snapshot import HttpConnectionManager
from .departures import Departures
from .failures import ABSOLUTE_PATH_REJECTED, INTERNAL_ERROR, UPGRADE_NOT_ALLOWED, Failure
from .forwarded import at_edge, inside
from .http1_codec import HeadLimits
from .message import Request, Response, Service, name_of, set_header
from .path import normalize

if TYPE_CHECKING:
    from .client_cert import Forwarding

_log = logging.getLogger(__name__)


class Telemetry(Protocol):
    """Who is told of each request's end: access log and metrics."""

    def request_finished(self, request: Request) -> None:
        """The request has been answered, or never will be."""

    def head_refused(self, failure: Failure, response: Response, peer: bytes) -> None:
        """A client sent what could not be read as a request, and got `response`."""


class ConnectionManager:
    """A listener's side of HTTP. Calling it answers a request: it never raises `Failure`."""

    def __init__(
        self,
        config: HttpConnectionManager,
        router: Service,
        telemetry: Telemetry,
        departures: Departures,
        request_id: Callable[[], bytes] | None = None,
    ) -> None:
        self.limits = HeadLimits(config.max_request_headers_kb * 1024, config.max_headers_count)
        self.request_headers_timeout_s = config.request_headers_timeout_s
        self.idle_timeout_s = config.idle_timeout_s
        self.departures = departures
        self.draining = False
        """Every response is its connection's last."""
        self._router = router
        self._forwarded = _forwarding(config)
        self.finished = telemetry.request_finished
        """To be called when a request has been answered, or never will be."""
        self._telemetry = telemetry
        self._server = (b"server", config.server_name.encode())
        self._request_id = request_id or _request_ids().__next__
        self._date = (b"date", b"")
        self._date_second = 0

    async def __call__(self, request: Request) -> Response:
        try:
            request.path = path = normalize(request.path)
            if path[:1] != b"/" and request.method != b"CONNECT":
                raise Failure(ABSOLUTE_PATH_REJECTED)
            if request.upgrade and request.upgrade.lower() != b"websocket":
                raise Failure(UPGRADE_NOT_ALLOWED)
            request.headers = self._forwarded(request, self._request_id())
            response = await self._router(request)
        except Failure as failure:
            return self.local_reply(request, failure)
        except Exception as error:
            # A fault of ours must cost this one request, not the connection's neighbours.
            _log.exception("%r failed", request)
            return self.local_reply(request, Failure(INTERNAL_ERROR, f"internal_error:{type(error).__name__}"))
        self._finish_response(response)
        return response

    def local_reply(self, request: Request, failure: Failure) -> Response:
        """The response that a failure becomes."""
        response = failure.respond(request)
        self._finish_response(response)
        return response

    def refuse(self, failure: Failure, peer: bytes) -> Response:
        """The response to what is no request; it is not heard of again."""
        response = failure.respond(None)
        self._finish_response(response)
        self._telemetry.head_refused(failure, response, peer)
        return response

    def _finish_response(self, response: Response) -> None:
        headers = response.headers
        names = [*map(name_of, headers)]
        if b"date" not in names:
            second = int(time.time())
            if second != self._date_second:
                self._date_second = second
                self._date = (b"date", formatdate(second, usegmt=True).encode())
            headers.append(self._date)
        match names.count(b"server"):
            case 0:
                headers.append(self._server)
            case 1:
                headers[names.index(b"server")] = self._server
            case _:
                set_header(headers, *self._server)


def _forwarding(config: HttpConnectionManager) -> Forwarding:
    """What of the client and of its certificate goes on to the server."""
    forwarding = at_edge if config.use_remote_address else inside
    if config.forward_client_cert == "SANITIZE":
        return forwarding
    from .client_cert import telling_client_cert  # brings cryptography, for which others need not wait

    return telling_client_cert(config.forward_client_cert, forwarding)


def _request_ids() -> Iterator[bytes]:
    """Random UUIDs (RFC 9562, version 4) as text. They are unguessable: people put them into URLs and cache keys."""
    while True:
        # One system call for many: measured, it is a third of the cost of one request's id otherwise.
        digits = os.urandom(16 * _IDS).hex().encode()
        yield from [b"%b-%b-4%b-a%b-%b" % parts for parts in _UUID_PARTS.findall(digits)]


_IDS = 256
# Two digits in each make way for the version, and for the variant with two of the random bits beside it.
_UUID_PARTS = re.compile(rb"(.{8})(.{4}).(.{3}).(.{3})(.{12})")
