"""One endpoint of a cluster: its connections, and what has happened to it.

A host outlives changes of its cluster as long as its address stays. The `active` requests are counted from the choice
of the host to the end of the response's body, so that a balancer sees those that are only connecting too.
"""

from __future__ import annotations

import enum
import math
import os

import trio

from ...snapshot import UNKNOWN_LOCALITY, Address, HealthCheck, TcpKeepalive
from ..http.failures import CONNECTION_FAILURE, CONNECTION_TIMEOUT, Failure
from ..http.http1_client import Http1ClientConnection
from ..tls.client import TlsClient
from ..tls.errors import TlsFailed
from ..transport import Transport, connect
from .deadlines import deadlines
from .lifetime import Lifetime


class HealthFlag(enum.Flag):
    """Why a host gets no requests. The names are those in Envoy's `/clusters`."""

    FAILED_ACTIVE_HC = enum.auto()
    FAILED_OUTLIER_CHECK = enum.auto()


class OutlierRecord:
    """What outlier detection remembers of a host. Times are on trio's clock."""

    __slots__ = (
        "backoff",
        "consecutive_5xx",
        "consecutive_gateway_failure",
        "consecutive_local_origin_failure",
        "ejected_at",
        "ejections",
        "failing",
        "returned_at",
    )

    def __init__(self) -> None:
        self.forgive()
        self.ejections = 0
        """Since there is the host."""
        self.backoff = 0
        """What the base ejection time is multiplied by: it grows with every ejection, and shrinks in good times."""
        self.ejected_at = 0.0
        self.returned_at: float | None = None

    def forgive(self) -> None:
        """Begin to count anew."""
        self.failing = False
        """Some count is not 0."""
        self.consecutive_5xx = 0
        self.consecutive_gateway_failure = 0
        self.consecutive_local_origin_failure = 0


class Host:
    """A running endpoint. Idle connections are taken last in, first out: the warmest first, the surplus can age."""

    __slots__ = (
        "active",
        "address",
        "connect_failures",
        "connections",
        "connections_total",
        "errors",
        "health_check",
        "health_flags",
        "healthy_since",
        "idle",
        "keepalive",
        "lifetime",
        "locality",
        "name",
        "outlier",
        "priority",
        "removed",
        "requests",
        "tls",
        "weight",
    )

    def __init__(
        self,
        address: Address,
        weight: int = 1,
        healthy_since: float = -math.inf,
        *,
        lifetime: Lifetime | None = None,
        keepalive: TcpKeepalive | None = None,
        tls: TlsClient | None = None,
    ) -> None:
        self.address = address
        self.name = str(address)
        self.weight = weight
        self.locality = UNKNOWN_LOCALITY
        self.priority = 0
        self.health_flags = HealthFlag(0)
        """Whoever changes them lets the cluster `refresh`: only then do they count."""
        self.healthy_since = healthy_since
        """When its service began, on its cluster's clock: from then on it warms up."""
        self.health_check: HealthCheck | None = None
        self.outlier = OutlierRecord()
        self.removed = False
        self.lifetime = lifetime
        self.keepalive = keepalive
        self.tls = tls
        """What secures its connections."""
        self.active = 0
        self.idle: list[Http1ClientConnection] = []
        self.connections = 0
        self.connections_total = 0
        self.connect_failures = 0
        self.requests = 0
        self.errors = 0

    def __repr__(self) -> str:
        return f"<Host {self.name}: {self.active} active, {self.idle_count} of {self.connections} connections idle>"

    def move(self, address: Address) -> None:
        """Be at another address from now on; the connections that there are stay where they are."""
        self.address = address
        self.name = str(address)

    def pool(self, authority: bytes) -> Host:
        """Where the connections for requests to an authority are: here, unless it makes a difference."""
        return self

    @property
    def idle_count(self) -> int:
        """How many of its connections are idle."""
        return len(self.idle)

    @property
    def healthy(self) -> bool:
        """Nothing is known against it."""
        return not self.health_flags

    @property
    def ejected(self) -> bool:
        """It is an outlier."""
        return HealthFlag.FAILED_OUTLIER_CHECK in self.health_flags

    def set_flag(self, flag: HealthFlag, set_: bool) -> bool:
        """Set or clear a flag; whether that changed anything."""
        before = self.health_flags
        self.health_flags = before | flag if set_ else before & ~flag
        return self.health_flags != before

    def take_idle(self, replayable: bool) -> Http1ClientConnection | None:
        """An idle connection that the host has not closed, as far as this end can know.

        One on which something arrived while nothing was asked is closed too: it would pass for the next answer. For a
        request that cannot be sent twice the kernel is asked; for another it is enough what the event loop was told.
        """
        while self.idle:
            connection = self.idle.pop()
            transport = connection.transport
            if (replayable and not transport.waiter.ready) or transport.peek() is None:
                return connection
            self._discard(connection)
        return None

    async def connect(self, timeout_s: float) -> Http1ClientConnection:
        """A new connection, and a secure one where it has to be. Raises `Failure` (UF)."""
        with trio.move_on_after(timeout_s):
            transport = await self._connected()
            self._opened()
            return Http1ClientConnection(transport, self._release, trio.current_time(), deadlines())
        self._not_connected()
        raise Failure(CONNECTION_TIMEOUT)

    async def _connected(self) -> Transport:
        try:
            transport = await connect(self.address, self.keepalive)
        except OSError as error:
            self._not_connected()
            reason = os.strerror(error.errno) if error.errno else "unknown"
            raise _connection_failure(f"delayed connect error: {reason}") from error
        if self.tls is None:
            return transport
        try:
            return await self.tls.secure(transport)
        except TlsFailed as error:
            self._not_connected()
            raise _connection_failure(error.reason) from error

    def _opened(self) -> None:
        self.connections += 1
        self.connections_total += 1

    def _not_connected(self) -> None:
        self.connect_failures += 1

    def begin(self) -> None:
        """A request was given to this host."""
        self.active += 1
        self.requests += 1

    def end(self) -> None:
        """It is over. A connection's exchange ends it by itself; this is for one that got no connection."""
        self.active -= 1

    def sweep(self, now: float, idle_timeout_s: float) -> None:
        """Close the idle connections that the host has closed, or that nobody has used for too long.

        One is idle since the first sweep that found it so: no request pays for a look at the clock.
        """
        kept: list[Http1ClientConnection] = []
        for connection in self.idle:
            if connection.idle_since is None:
                connection.idle_since = now
            if now - connection.idle_since > idle_timeout_s or connection.transport.peek() is not None:
                self._discard(connection)
            else:
                kept.append(connection)
        self.idle = kept

    def end_idle(self, now: float) -> float:
        """Close the idle connections whose lifetime is over, and tell when the next one's will be."""
        for connection in [one for one in self.idle if one.ends <= now]:
            self.idle.remove(connection)
            self._discard(connection)
        return min((connection.ends for connection in self.idle), default=math.inf)

    def remove(self) -> None:
        """Serve no new request; what is under way goes on."""
        self.removed = True
        while self.idle:
            self._discard(self.idle.pop())

    def _release(self, connection: Http1ClientConnection, reusable: bool) -> None:
        self.active -= 1
        if reusable and not self.removed and (self.lifetime is None or self._lives_on(connection, self.lifetime)):
            connection.idle_since = None
            self.idle.append(connection)
        else:
            self._discard(connection)

    def _lives_on(self, connection: Http1ClientConnection, lifetime: Lifetime) -> bool:
        now = trio.current_time()
        connection.ends = lifetime.ends(connection, now)
        return connection.ends > now

    def _discard(self, connection: Http1ClientConnection) -> None:
        connection.transport.close()
        self.connections -= 1


def _connection_failure(reason: str) -> Failure:
    """What comes of a connection that did not come about, for Envoy's transport failure reason."""
    told = f"remote_connection_failure|{reason}".replace(" ", "_")
    return Failure(CONNECTION_FAILURE, f"upstream_reset_before_response_started{{{told}}}")
