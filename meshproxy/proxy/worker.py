"""One process's event loop: runs a snapshot until it is told to stop, then drains.

Nurseries tell what depends on what: the background (names, sweeps, logs, mirrors, the admin pages) outlives the
connections, which outlive accepting. A fault in one connection's task is logged and ends there.
"""

from __future__ import annotations

import logging
import math
import random
import socket
import time
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING

import trio

from ..identity.issuers import Issuers
from ..snapshot import (
    ANY_CONNECTION,
    FilterChain,
    HealthCheck,
    HttpConnectionManager,
    Listener,
    Snapshot,
    SocketAddress,
)
from ..snapshot import Cluster as ClusterConfig
from ..telemetry.access_log import AccessLog, refused_line, request_line
from ..telemetry.metrics import ListenerStats, Metrics, TlsStats
from . import splice
from .admin import Admin, State
from .filters.context import FilterContext
from .http.connection_manager import ConnectionManager
from .http.departures import Departures
from .http.failures import Failure
from .http.http1_server import Http1ServerConnection
from .http.message import Request, Response, Service
from .listener import RunningChain, RunningChains, accept
from .routing.access import guarded
from .routing.actions import cluster_not_found, router
from .tls.client import UpstreamTls
from .tls.secrets import Secrets
from .transport import BACKLOG, Transport, bind, listen
from .upstream.cluster import Cluster
from .upstream.dns import NameResolver, use_own_threads
from .upstream.forward_proxy import ForwardProxy
from .upstream.health import HealthChecker
from .upstream.retries import retrying

if TYPE_CHECKING:
    from ..identity import Credentials, WorkloadIdentity

_log = logging.getLogger(__name__)

_SWEEP_S = 5.0
_WARMING_S = 5.0


class Worker:
    """Runs `snapshot`. `run` it in a task; `stop` makes it drain and return."""

    def __init__(
        self,
        snapshot: Snapshot,
        *,
        admin: SocketAddress | None = None,
        access_log: AccessLog | None = None,
        drain_time_s: float = 5.0,
        chance: Callable[[], float] = random.random,
        trouble: Callable[[], str | None] = lambda: None,
        identity: WorkloadIdentity | None = None,
    ) -> None:
        """`trouble` tells why requests cannot be served although the worker is up; `/ready` repeats it. `identity` is
        the workload's own, without which nothing is served.

        Raises `Unusable`: a secret of the snapshot cannot be used.
        """
        self.snapshot = snapshot
        self.secrets = Secrets(snapshot.secrets)
        self.metrics = Metrics()
        self.clusters = {one.name: self._cluster(one, chance) for one in snapshot.clusters}
        self._services = {name: retrying(cluster, chance) for name, cluster in self.clusters.items()}
        self.addresses: dict[str, SocketAddress] = {}
        """Where each listener listens, by its name; of use where the configured port is 0."""
        self._admin_address = admin
        self._access_log = access_log
        self._drain_time_s = drain_time_s
        self._chance = chance
        self._trouble = trouble
        self._identity = identity
        self._departures = Departures()
        self._issuers = Issuers()
        self._managers: list[ConnectionManager] = []
        self._connections: set[Http1ServerConnection] = set()
        self._state = State.INITIALIZING
        self._stop = trio.Event()
        self._identifying = trio.CancelScope()
        self._warming = trio.CancelScope()

    @property
    def state(self) -> State:
        return self._state

    def stop(self) -> None:
        """Drain: accept nothing new, finish what runs, then return from `run`."""
        self._stop.set()
        self._identifying.cancel()
        self._warming.cancel()

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Serve until stopped. Raises `OSError` when an address cannot be listened on; then nothing has started.

        `task_status.started` is called when every listener accepts connections, names have been looked up, and
        endpoints whose health is checked have been tried, unless that takes too long. Where there is to be an identity,
        nothing listens before it is there, but for the admin pages. Raises `IdentityError`, in an exception group, when
        it is refused. It is called, too, when the worker was stopped before that; its state then is DRAINING.
        """
        listening = self._listen()
        try:
            admin = self._listen_admin()
        except OSError:
            for _, bound in listening:
                bound.close()
            raise
        try:
            await self._serve_until_stopped(listening, admin, task_status)
        finally:
            for _, bound in listening:
                bound.close()  # nobody may have come to accept on it
            for cluster in self.clusters.values():
                cluster.close()
            splice.close_idle()

    async def _serve_until_stopped(
        self,
        listening: list[tuple[Listener, socket.socket]],
        admin: socket.socket | None,
        task_status: trio.TaskStatus[None],
    ) -> None:
        use_own_threads()
        async with trio.open_nursery() as background:
            self._start_background(background, admin)
            if self._identity is None or await self._identified(self._identity, background):
                await self._serve_listeners(listening, background, task_status)
            else:
                self._state = State.DRAINING
                task_status.started()
            background.cancel_scope.cancel()

    async def _serve_listeners(
        self,
        listening: list[tuple[Listener, socket.socket]],
        background: trio.Nursery,
        task_status: trio.TaskStatus[None],
    ) -> None:
        async with trio.open_nursery() as connections, trio.open_nursery() as accepting:
            for listener, bound in listening:
                if self._identity is not None:
                    bound.listen(BACKLOG)
                accepting.start_soon(accept, bound, self._accepted(listener, connections, background))
            background.start_soon(self._issuers.run)  # of those that the listeners have named
            self._warming.deadline = trio.current_time() + _WARMING_S
            with self._warming:
                await self._clusters_warm(background)
            self._state = State.LIVE
            task_status.started()
            await self._stop.wait()
            accepting.cancel_scope.cancel()
            self._begin_draining(connections)

    async def _identified(self, identity: WorkloadIdentity, background: trio.Nursery) -> bool:
        """Begin to keep the identity current, and wait until there is one; False when the worker is to stop first."""
        arrived = trio.Event()

        def changed(credentials: Credentials) -> None:
            self.secrets.set_identity(credentials)
            arrived.set()

        background.start_soon(identity.run, changed)
        with self._identifying:
            await arrived.wait()
        return not self._stop.is_set()

    def _obstacle(self) -> str | None:
        """Why requests cannot be served."""
        return (self._identity and self._identity.obstacle()) or self._trouble()

    def _listen(self) -> list[tuple[Listener, socket.socket]]:
        listening: list[tuple[Listener, socket.socket]] = []
        try:
            for listener in self.snapshot.listeners:
                bound = listen(listener.address) if self._identity is None else bind(listener.address)
                listening.append((listener, bound))
                self.addresses[listener.name] = SocketAddress(*bound.getsockname()[:2])
        except OSError:
            for _, bound in listening:
                bound.close()
            raise
        return listening

    def _listen_admin(self) -> socket.socket | None:
        if self._admin_address is None:
            return None
        bound = listen(self._admin_address)
        self.addresses["admin"] = SocketAddress(*bound.getsockname()[:2])
        return bound

    def _start_background(self, background: trio.Nursery, admin: socket.socket | None) -> None:
        background.start_soon(self._departures.run)
        background.start_soon(self._sweep)
        background.start_soon(self.secrets.watch)
        for cluster in self.clusters.values():
            if cluster.bounds.lifetime is not None:
                background.start_soon(cluster.bounds.lifetime.enforce, cluster)
        if self._access_log is not None:
            background.start_soon(self._access_log.run)
        if admin is not None:
            pages = Admin(self.snapshot, self.clusters, self.metrics, lambda: self._state, self._obstacle, self.secrets)
            background.start_soon(accept, admin, self._admin_accepted(pages, background))

    async def _clusters_warm(self, background: trio.Nursery) -> None:
        """Begin to keep the clusters' hosts up to date, and wait until as much is known of them as can be at once."""
        clusters = [one for one in self.clusters.values() if isinstance(one, Cluster)]
        for cluster in clusters:
            if cluster.config.outlier_detection is not None:
                background.start_soon(cluster.detect_outliers)
        checks = _health_checks(clusters)
        checkers = {check: HealthChecker(check, those, self.secrets) for check, those in checks.items()}
        for checker in checkers.values():
            background.start_soon(checker.run)
        resolvers = [NameResolver(one) for one in clusters if one.config.type in ("STRICT_DNS", "LOGICAL_DNS")]
        for resolver in resolvers:
            background.start_soon(resolver.run)
        for resolver in resolvers:
            await resolver.resolved.wait()
        for check, checker in checkers.items():
            if not check.initial_delay_s:
                await checker.tried.wait()

    def _cluster(self, config: ClusterConfig, chance: Callable[[], float]) -> Cluster | ForwardProxy:
        stats = self.metrics.cluster(config.name)
        tls = self._upstream_tls(config)
        if config.type == "DYNAMIC_FORWARD_PROXY":
            return ForwardProxy(config, stats, chance, tls)
        return Cluster(config, stats, chance, tls=tls)

    def _upstream_tls(self, config: ClusterConfig) -> UpstreamTls | None:
        context = config.tls or config.auto_tls
        if context is None:
            return None
        where = f"cluster {config.name}" + (f" of {config.origin}" if config.origin else "")
        return UpstreamTls.of(context, self.secrets, where)

    def _manager(
        self, http: HttpConnectionManager, stats: ListenerStats, background: trio.Nursery
    ) -> ConnectionManager:
        def cluster(name: str) -> Service:
            return self._services.get(name, cluster_not_found)

        context = FilterContext(self._chance, background.start_soon, route_stats=self.metrics.route)
        routes = router(http, cluster, self._chance, context)
        service = guarded(http, routes, context, self._issuers.keys, stats.count, cluster)
        telemetry = _ListenerTelemetry(stats, self._access_log)
        manager = ConnectionManager(http, service, telemetry, self._departures)
        self._managers.append(manager)
        return manager

    def _accepted(
        self, listener: Listener, connections: trio.Nursery, background: trio.Nursery
    ) -> Callable[[socket.socket], None]:
        stats = self.metrics.listener(listener.name)
        chains = [(chain.match, self._chain(listener, chain, stats, background)) for chain in listener.filter_chains]
        running = RunningChains(chains, stats)

        def accepted(connected: socket.socket) -> None:
            connections.start_soon(self._serve, connected, running, stats)

        return accepted

    def _admin_accepted(self, pages: Admin, background: trio.Nursery) -> Callable[[socket.socket], None]:
        stats = ListenerStats("admin")
        manager = ConnectionManager(pages.http, pages, _ListenerTelemetry(stats, None), self._departures)
        running = RunningChains([(ANY_CONNECTION, RunningChain(FilterChain(pages.http), manager, None))], stats)

        def accepted(connected: socket.socket) -> None:
            background.start_soon(self._serve, connected, running, stats)

        return accepted

    async def _serve(self, connected: socket.socket, chains: RunningChains, stats: ListenerStats) -> None:
        stats.connections += 1
        stats.connections_active += 1
        connection = None
        try:
            connection = await self._arrived(connected, chains)
            if connection is not None:
                self._connections.add(connection)
                await connection.serve()
        except Exception:
            _log.exception("%r failed", connection or connected)
        finally:
            if connection is not None:
                self._connections.discard(connection)
            stats.connections_active -= 1

    async def _arrived(self, connected: socket.socket, chains: RunningChains) -> Http1ServerConnection | None:
        """The connection at its filter chain; None when it came to none, and is closed."""
        try:
            transport = Transport(connected)
            if chains.plain is not None:
                return Http1ServerConnection(transport, chains.plain)
        except OSError:
            connected.close()  # gone before we looked
            return None
        arrival = await chains.arrive(transport)
        return None if arrival is None else Http1ServerConnection(*arrival)

    def _chain(
        self, listener: Listener, chain: FilterChain, stats: ListenerStats, background: trio.Nursery
    ) -> RunningChain:
        tls = None
        if chain.tls is not None:
            from .tls.server import ServerTls  # brings cryptography, for which listeners without TLS need not wait

            stats.tls = stats.tls or TlsStats()
            where = f"listener {listener.name}" + (f", {chain.name}" if chain.name else "")
            tls = ServerTls(chain.tls, self.secrets, stats.tls, where)
        return RunningChain(chain, self._manager(chain.http, stats, background), tls)

    async def _sweep(self) -> None:
        """Close what has been idle for too long, and what the other side has left."""
        while True:
            await trio.sleep(_SWEEP_S)
            now = trio.current_time()
            for cluster in self.clusters.values():
                idle_timeout_s = cluster.config.idle_timeout_s or math.inf
                for host in cluster.hosts:
                    host.sweep(now, idle_timeout_s)
            for connection in self._connections:
                connection.sweep(now)

    def _begin_draining(self, connections: trio.Nursery) -> None:
        self._state = State.DRAINING
        for manager in self._managers:
            manager.draining = True
        for connection in self._connections:
            connection.drain()
        connections.cancel_scope.deadline = trio.current_time() + self._drain_time_s


def _health_checks(clusters: Iterable[Cluster]) -> dict[HealthCheck, list[Cluster]]:
    """Every check, with the clusters that have endpoints with it: each is carried out once."""
    found: dict[HealthCheck, list[Cluster]] = {}
    for cluster in clusters:
        checks = {endpoint.health_check for endpoint in cluster.config.endpoints}
        for check in filter(None, checks):
            found.setdefault(check, []).append(cluster)
    return found


class _ListenerTelemetry:
    """Tells the counters and the access log of a listener's requests."""

    def __init__(self, stats: ListenerStats, access_log: AccessLog | None) -> None:
        self._stats = stats
        self._log = access_log

    def request_finished(self, request: Request) -> None:
        duration_s = time.perf_counter() - request.started
        stats = self._stats
        key = (request.upstream_cluster, request.response_code, request.flags)
        stats.requests[key] = stats.requests.get(key, 0) + 1
        stats.time.observe(duration_s)
        if self._log is not None:
            self._log.append(request_line(request, duration_s))

    def head_refused(self, failure: Failure, response: Response, peer: bytes) -> None:
        self._stats.refused += 1
        if self._log is not None:
            body = response.body if isinstance(response.body, bytes) else b""
            self._log.append(refused_line(time.time(), response.status, failure.kind.flags, failure.details, len(body)))
