"""Connection pools: what a traffic policy says of a cluster's connections and of how many requests they carry.

Source: Istio's `applyConnectionPool` and `applyTCPKeepalive`. What is left out or 0 is without limit.
"""

from __future__ import annotations

from dataclasses import replace

from .. import resources as api
from ..resources import ConnectionPoolSettings
from ..snapshot import CircuitBreakers, Cluster, RetryBudget, TcpKeepalive

DEFAULT_CONNECT_TIMEOUT_S = 10.0
"""Istio's, from MeshConfig; Envoy's own is 5."""
DEFAULT_IDLE_TIMEOUT_S = 3600.0
"""Envoy's."""


def with_connection_pool(
    cluster: Cluster, settings: ConnectionPoolSettings | None, budget: api.RetryBudget | None = None
) -> Cluster:
    """`cluster`, its connections as the settings have them, and its retries within the budget."""
    tcp = (settings and settings.tcp) or api.TCPSettings()
    http = (settings and settings.http) or api.HTTPSettings()
    idle_timeout = tcp.idle_timeout if http.idle_timeout is None else http.idle_timeout
    return replace(
        cluster,
        connect_timeout_s=DEFAULT_CONNECT_TIMEOUT_S if tcp.connect_timeout is None else tcp.connect_timeout,
        idle_timeout_s=DEFAULT_IDLE_TIMEOUT_S if idle_timeout is None else idle_timeout,
        max_connection_duration_s=tcp.max_connection_duration,
        max_requests_per_connection=http.max_requests_per_connection or None,
        tcp_keepalive=_keepalive(tcp.tcp_keepalive),
        circuit_breakers=CircuitBreakers(
            max_connections=tcp.max_connections or None,
            max_pending_requests=http.http1_max_pending_requests or None,
            max_requests=http.http2_max_requests or None,
            max_retries=http.max_retries or None,
            retry_budget=_retry_budget(budget),
        ),
    )


def _retry_budget(budget: api.RetryBudget | None) -> RetryBudget | None:
    if budget is None:
        return None
    default = RetryBudget()
    return RetryBudget(
        default.budget_percent if budget.percent is None else budget.percent,
        budget.min_retry_concurrency or default.min_retry_concurrency,
        budget.budget_interval or default.budget_interval_s,
    )


def _keepalive(settings: api.TcpKeepalive | None) -> TcpKeepalive | None:
    """In whole seconds, as Istio passes them on."""
    if settings is None:
        return None
    return TcpKeepalive(settings.probes or None, _whole(settings.time), _whole(settings.interval))


def _whole(seconds: float | None) -> int | None:
    return None if seconds is None else int(seconds)
