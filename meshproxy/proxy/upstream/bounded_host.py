"""A host of a cluster with circuit breakers: requests wait for its connections in a queue.

Source: Envoy's connection pool (conn_pool_base.cc), with its questions in their order:

1. A request takes an idle connection. Where there is none it waits, unless too many wait already.
2. Connections are opened for those who wait, as many as the cluster may have; a host without any may always open one.
   Who has waited longest takes the first that is given back or comes about, whoever it was opened for.
3. When a connection does not come about, all who wait for the host fail.
4. Who is given a connection is refused after all if the cluster has as many active requests as it may.

Nobody waits while a connection is idle. A request is pending while it waits, and active from then until its exchange
ends; a connection counts from the attempt to open it until it is closed.
"""

from __future__ import annotations

import logging
import math
from collections import OrderedDict
from typing import NamedTuple, Self

import trio
from trio.lowlevel import Abort, RaiseCancelT, Task, current_task, reschedule, spawn_system_task, wait_task_rescheduled

from ... import snapshot
from ...snapshot import Address, TcpKeepalive
from ..http.failures import CONNECTION_FAILURE, OVERFLOW, Failure
from ..http.http1_client import Http1ClientConnection
from ..tls.client import TlsClient
from .circuit_breakers import CircuitBreakers, circuit_breakers
from .host import Host
from .lifetime import Lifetime, lifetime

_log = logging.getLogger(__name__)


class BoundedHost(Host):
    """A running endpoint whose cluster has limits."""

    __slots__ = ("_breakers", "_connect_timeout_s", "_connecting", "_waiting")

    def __init__(
        self,
        address: Address,
        breakers: CircuitBreakers,
        healthy_since: float = -math.inf,
        *,
        lifetime: Lifetime | None = None,
        keepalive: TcpKeepalive | None = None,
        tls: TlsClient | None = None,
    ) -> None:
        super().__init__(address, healthy_since=healthy_since, lifetime=lifetime, keepalive=keepalive, tls=tls)
        self._breakers = breakers
        self._connect_timeout_s = 0.0
        self._connecting: set[trio.CancelScope] = set()
        self._waiting: OrderedDict[_Waiter, None] = OrderedDict()

    def __repr__(self) -> str:
        queue = f"{len(self._waiting)} waiting, {len(self._connecting)} connecting"
        return f"{super().__repr__().removesuffix('>')}, {queue}>"

    def take_idle(self, replayable: bool) -> Http1ClientConnection | None:
        """As `Host.take_idle`. Raises `Failure` (UO)."""
        connection = Host.take_idle(self, replayable)  # `super` takes as long again
        if connection is not None and not self._breakers.requests.take():
            self.idle.append(connection)
            raise Failure(OVERFLOW)
        return connection

    async def connect(self, timeout_s: float) -> Http1ClientConnection:
        """A connection, when it is this request's turn. Raises `Failure` (UF, UO)."""
        pending = self._breakers.pending
        if not pending.take():
            raise Failure(OVERFLOW)
        self._connect_timeout_s = timeout_s
        waiter = _Waiter(current_task())
        self._waiting[waiter] = None
        self.open_connections()
        while self.idle and len(self._connecting) < len(self._waiting):
            # Only who has failed on an idle one comes here past others: they make way for a new one.
            self._discard(self.idle.pop(0))

        def cancelled(_: RaiseCancelT) -> Abort:
            del self._waiting[waiter]
            pending.give_back()
            return Abort.SUCCEEDED

        await wait_task_rescheduled(cancelled)
        given = waiter.given
        if isinstance(given, Http1ClientConnection):
            return given
        raise given

    def open_connections(self) -> None:
        """Open a connection for each who waits, as far as the cluster may have more."""
        connections = self._breakers.connections
        while len(self._connecting) < len(self._waiting):
            if not connections.take():
                if self.connections or self._connecting:
                    self._breakers.hold_up(self)
                    return
                connections.take_anyway()
            scope = trio.CancelScope()
            self._connecting.add(scope)
            spawn_system_task(self._open, scope)

    def remove(self) -> None:
        super().remove()
        if not self._waiting:
            for scope in self._connecting:
                scope.cancel()

    async def _open(self, scope: trio.CancelScope) -> None:
        """Open a connection. No request's task does this: who it is for may leave, or be served by another."""
        connection = failure = None
        try:
            with scope:
                connection = await super().connect(self._connect_timeout_s)
        except Failure as error:
            failure = error.alone()
        except Exception:
            _log.exception("%r failed to connect", self)
            failure = Failure(CONNECTION_FAILURE)
        finally:
            self._connecting.discard(scope)
        if connection is None:
            if failure is not None:
                self._fail(failure)
            self._connection_gone()
        elif self.removed and not self._waiting:
            self._discard(connection)
        else:
            if self.lifetime is not None:
                connection.ends = self.lifetime.ends(connection, trio.current_time())
            self.idle.append(connection)
            self._hand_out()

    def _hand_out(self) -> None:
        """Give the idle connections to those who have waited longest, and have more opened for the others."""
        while self._waiting and self.idle:
            connection = self.idle.pop()
            if connection.transport.waiter.ready:
                self._discard(connection)
            elif self._breakers.requests.take():
                self._wake(connection)
            else:
                self.idle.append(connection)
                self._wake(Failure(OVERFLOW))
        self.open_connections()

    def _fail(self, failure: Failure) -> None:
        while self._waiting:
            self._wake(Failure(failure.kind, failure.details))

    def _wake(self, given: Http1ClientConnection | Failure) -> None:
        waiter, _ = self._waiting.popitem(last=False)
        self._breakers.pending.give_back()
        waiter.given = given
        reschedule(waiter.task)

    def _release(self, connection: Http1ClientConnection, reusable: bool) -> None:
        self._breakers.requests.give_back()
        Host._release(self, connection, reusable)
        if self._waiting:
            self._hand_out()

    def _discard(self, connection: Http1ClientConnection) -> None:
        super()._discard(connection)
        self._connection_gone()

    def _connection_gone(self) -> None:
        self._breakers.connections.give_back()
        # Our own first: left without any, we would open one beyond the limit.
        self.open_connections()
        self._breakers.go_on()


class Bounds(NamedTuple):
    """What bounds the requests and connections of all hosts of a cluster together; None where nothing does."""

    breakers: CircuitBreakers | None
    lifetime: Lifetime | None
    keepalive: TcpKeepalive | None

    @classmethod
    def of(cls, config: snapshot.Cluster) -> Self:
        return cls(circuit_breakers(config.circuit_breakers), lifetime(config), config.tcp_keepalive)

    def host(self, address: Address, healthy_since: float, tls: TlsClient | None = None) -> Host:
        """A new host of the cluster, whose connections `tls` secures."""
        breakers, lifetime, keepalive = self
        if breakers is None:
            return Host(address, healthy_since=healthy_since, lifetime=lifetime, keepalive=keepalive, tls=tls)
        return BoundedHost(address, breakers, healthy_since, lifetime=lifetime, keepalive=keepalive, tls=tls)


class _Waiter:
    """A request that waits for a connection, and what it is given in the end."""

    __slots__ = ("given", "task")
    given: Http1ClientConnection | Failure

    def __init__(self, task: Task) -> None:
        self.task = task
