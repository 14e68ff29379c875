"""Delays and aborts on purpose, to see how clients bear them.

https://www.envoyproxy.io/docs/envoy/latest/configuration/http/http_filters/fault_filter
"""

from __future__ import annotations

from collections.abc import Awaitable

from ...snapshot import FaultAbort, FaultInjection
from ..http.failures import DELAY_INJECTED, FAULT_ABORT, Failure, Kind, add_flags
from ..http.message import Request, Response, Service
from .context import FilterContext


def fault(policy: FaultInjection, context: FilterContext, service: Service) -> Service:
    """`service`, of whose requests some are held back and some, perhaps the same, get an answer from here."""
    if policy.abort is not None:
        service = _aborting(policy.abort, context, service)
    delay = policy.delay
    if delay is None:
        return service

    async def delayed(request: Request) -> Response:
        add_flags(request, DELAY_INJECTED)
        await context.sleep(delay.fixed_delay_s)
        return await service(request)

    def delaying(request: Request) -> Awaitable[Response]:
        return delayed(request) if context.happens(delay.percentage) else service(request)

    return delaying


def _aborting(abort: FaultAbort, context: FilterContext, service: Service) -> Service:
    kind = FAULT_ABORT._replace(status=abort.status, grpc_status=abort.grpc_status)

    def aborting(request: Request) -> Awaitable[Response]:
        return _aborted(kind) if context.happens(abort.percentage) else service(request)

    return aborting


async def _aborted(kind: Kind) -> Response:
    raise Failure(kind)
