"""How long connections to a cluster's hosts serve, where a policy bounds it.

Envoy's `common_http_protocol_options`: a connection whose time is over while it is in use finishes what it does; one
that is idle is closed at once.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import trio

from ... import snapshot

if TYPE_CHECKING:
    from ..http.http1_client import Http1ClientConnection
    from .cluster import Cluster
    from .forward_proxy import ForwardProxy

_DEFAULT_IDLE_S = snapshot.Cluster("", ()).idle_timeout_s


class Lifetime:
    """What bounds the lives of a cluster's connections, and when next one of the idle ones ends."""

    __slots__ = ("_idle_timeout_s", "_max_duration_s", "_max_requests", "_nap")

    def __init__(self, idle_timeout_s: float, max_duration_s: float, max_requests: float) -> None:
        self._idle_timeout_s = idle_timeout_s
        self._max_duration_s = max_duration_s
        self._max_requests = max_requests
        self._nap = trio.CancelScope()

    def ends(self, connection: Http1ClientConnection, now: float) -> float:
        """When a connection that has become idle is to be closed: not after `now` if it may serve no other request."""
        if connection.requests >= self._max_requests:
            return now
        end = min(now + self._idle_timeout_s, connection.opened + self._max_duration_s)
        if now < end < self._nap.deadline:
            self._nap.deadline = end
        return end

    async def enforce(self, cluster: Cluster | ForwardProxy) -> None:
        """Close each idle connection of a cluster when its time has come. Runs until it is cancelled."""
        while True:
            now = trio.current_time()
            end = min((host.end_idle(now) for host in cluster.hosts), default=math.inf)
            self._nap = trio.CancelScope(deadline=end)
            with self._nap:
                await trio.sleep_forever()


def lifetime(config: snapshot.Cluster) -> Lifetime | None:
    """What bounds the lives of a cluster's connections; None where it is no more than the default idle timeout."""
    bounds = (config.max_connection_duration_s, config.max_requests_per_connection)
    if bounds == (None, None) and config.idle_timeout_s == _DEFAULT_IDLE_S:
        return None
    duration, requests = (math.inf if bound is None else bound for bound in bounds)
    return Lifetime(config.idle_timeout_s or math.inf, duration, requests)
