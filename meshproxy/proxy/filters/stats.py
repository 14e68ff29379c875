"""Counts what comes of the requests of a route apart from others.

https://www.envoyproxy.io/docs/envoy/latest/configuration/http/http_filters/router_filter#statistics, "route statistics"
"""

from __future__ import annotations

from ...telemetry.metrics import RouteStats
from ..http.failures import Failure
from ..http.message import Request, Response, Service


def counted(stats: RouteStats, service: Service) -> Service:
    """`service`, whose responses and failures are counted by class."""

    async def counting(request: Request) -> Response:
        try:
            response = await service(request)
        except Failure as failure:
            stats.responses[failure.kind.status // 100] += 1
            raise
        stats.responses[response.status // 100] += 1
        return response

    return counting
