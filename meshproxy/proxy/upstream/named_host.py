"""A host whose connections differ in the server that was asked for: each has a pool of its own.

A connection by TLS is one to the server that its handshake named, and its peer has proven to be that one. Where the
name is a request's authority, only requests for that may use it (as in Envoy, where the name is part of the key that a
connection pool has). A pool is a host with its own idle connections and its own queue; the cluster's limits are common
to all, and what is counted of a pool counts for the whole.
"""

from __future__ import annotations

import math
from collections import OrderedDict

from ...snapshot import Address
from ..http.http1_client import Http1ClientConnection
from ..tls.client import TlsClient, UpstreamTls
from ..tls.names import server_name
from .bounded_host import BoundedHost, Bounds
from .host import Host

MAX_POOLS = 256
"""So many names are remembered for a host, because clients choose them."""


class NamedHost(Host):
    """A running endpoint with a pool of connections for each server that is asked for."""

    __slots__ = ("_bounds", "_pools", "_secured")

    def __init__(
        self, address: Address, bounds: Bounds, secured: UpstreamTls, healthy_since: float = -math.inf
    ) -> None:
        super().__init__(address, healthy_since=healthy_since)
        self._bounds = bounds
        self._secured = secured
        self._pools: OrderedDict[str, Host] = OrderedDict()

    def pool(self, authority: bytes) -> Host:
        """Where the connections for requests to an authority are."""
        name = server_name(authority).key
        pool = self._pools.get(name)
        if pool is None:
            if len(self._pools) >= MAX_POOLS:
                self._pools.popitem(last=False)[1].remove()
            pool = self._pools[name] = self._new_pool(self._secured.client(authority))
        self._pools.move_to_end(name)
        return pool

    def _new_pool(self, tls: TlsClient) -> Host:
        breakers, lifetime, keepalive = self._bounds
        if breakers is None:
            pool: _Pool | _BoundedPool = _Pool(self.address, lifetime=lifetime, keepalive=keepalive, tls=tls)
        else:
            pool = _BoundedPool(self.address, breakers, lifetime=lifetime, keepalive=keepalive, tls=tls)
        pool.whole = self
        return pool

    @property
    def idle_count(self) -> int:
        return sum(pool.idle_count for pool in self._pools.values())

    def move(self, address: Address) -> None:
        super().move(address)
        for pool in self._pools.values():
            pool.move(address)

    def sweep(self, now: float, idle_timeout_s: float) -> None:
        """As `Host.sweep`. Names that nobody asks for any more are forgotten."""
        for name, pool in [*self._pools.items()]:
            pool.sweep(now, idle_timeout_s)
            if not pool.connections and not pool.active:
                del self._pools[name]

    def end_idle(self, now: float) -> float:
        return min((pool.end_idle(now) for pool in self._pools.values()), default=math.inf)

    def remove(self) -> None:
        super().remove()
        for pool in self._pools.values():
            pool.remove()


class _Part(Host):
    """A host that is a pool of another, `whole`."""

    __slots__ = ()
    whole: NamedHost

    def begin(self) -> None:
        super().begin()
        self.whole.begin()

    def end(self) -> None:
        super().end()
        self.whole.end()

    def _opened(self) -> None:
        super()._opened()
        self.whole.connections += 1
        self.whole.connections_total += 1

    def _not_connected(self) -> None:
        super()._not_connected()
        self.whole.connect_failures += 1

    def _release(self, connection: Http1ClientConnection, reusable: bool) -> None:
        self.whole.active -= 1
        super()._release(connection, reusable)

    def _discard(self, connection: Http1ClientConnection) -> None:
        self.whole.connections -= 1
        super()._discard(connection)


class _Pool(_Part):
    __slots__ = ("whole",)


class _BoundedPool(_Part, BoundedHost):
    __slots__ = ("whole",)
