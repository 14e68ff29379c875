"""A set of equal hosts: a service that sends each request to one of them."""

from __future__ import annotations

import logging
import time
from collections.abc import Container, Iterable

import trio

from ... import snapshot
from ...telemetry.metrics import ClusterStats
from ..http.failures import (
    CONNECTION_FAILURE,
    CONNECTION_TERMINATION,
    CONNECTION_TIMEOUT,
    NO_HEALTHY_UPSTREAM,
    PER_TRY_TIMEOUT,
    PROTOCOL_ERROR,
    RESPONSE_TIMEOUT,
    Failure,
    grpc_status,
)
from ..http.http1_client import Http1ClientConnection
from ..http.message import Request, Response, set_header
from ..tls.client import UpstreamTls
from .balancers import Balancer, Chance, Clock, load_balancer
from .bounded_host import Bounds
from .host import HealthFlag, Host
from .named_host import NamedHost
from .outliers import Outlier, OutlierDetector
from .retry_rules import NO_RETRIES, RetryLimit
from .tries import Tries

_log = logging.getLogger(__name__)

# RFC 9110, section 9.2.2: sending one of these twice does no more than sending it once.
_IDEMPOTENT = frozenset((b"GET", b"HEAD", b"OPTIONS", b"TRACE", b"PUT", b"DELETE"))

SERVICE_TIME = b"x-envoy-upstream-service-time"

# The failures that speak against a host, and whether it had been reached. An overflow, say, does not: without a host
# there would be even more for the rest to do.
_FAILED_CONNECTED = {
    CONNECTION_FAILURE: False,
    CONNECTION_TIMEOUT: False,
    CONNECTION_TERMINATION: True,
    PROTOCOL_ERROR: True,
}
_LATE = frozenset((RESPONSE_TIMEOUT, PER_TRY_TIMEOUT))


class Cluster:
    """A running cluster. Its hosts, their connections and its counters live as long as it does."""

    def __init__(
        self,
        config: snapshot.Cluster,
        stats: ClusterStats,
        chance: Chance,
        clock: Clock = time.monotonic,
        bounds: Bounds | None = None,
        tls: UpstreamTls | None = None,
    ) -> None:
        """`bounds` are those of a larger cluster that this one is a part of; otherwise it has its own.

        `tls` secures its connections.
        """
        self.config = config
        self.stats = stats
        self.clock = clock
        self.bounds = Bounds.of(config) if bounds is None else bounds
        if self.bounds.breakers is not None:
            stats.breakers = self.bounds.breakers.by_name
        self.retry_limit = RetryLimit(config.circuit_breakers)
        self._tls = tls
        if tls is not None:
            stats.tls = tls.stats
        self._by_authority = tls is not None and tls.by_authority
        self.hosts: list[Host] = []
        self._chance = chance
        self._outliers: OutlierDetector | None = None
        if config.outlier_detection is not None:
            self._outliers = OutlierDetector(config.outlier_detection)
            stats.outliers = self._outliers.stats
        self.refresh()
        if config.type == "STATIC":
            self.update_hosts(config.endpoints)

    def __repr__(self) -> str:
        return f"<Cluster {self.config.name}: {len(self.hosts)} hosts>"

    def update_hosts(self, endpoints: Iterable[snapshot.Endpoint]) -> None:
        """Have these hosts from now on; those that were here before keep their connections and counters.

        Of several endpoints with one address the first counts, as in Envoy. A new one whose health is checked is not
        healthy before it has passed, unless it shares the check with one that has.
        """
        known = {host.address: host for host in self.hosts}
        passed = {host.health_check for host in self.hosts if HealthFlag.FAILED_ACTIVE_HC not in host.health_flags}
        now = self.clock()
        hosts: list[Host] = []
        for endpoint in _first_of_each_address(endpoints):
            host = known.pop(endpoint.address, None) or self._new_host(endpoint, now)
            if host.health_check != endpoint.health_check:
                host.health_check = endpoint.health_check
                host.set_flag(HealthFlag.FAILED_ACTIVE_HC, endpoint.health_check not in (None, *passed))
            host.weight = endpoint.weight
            host.locality = endpoint.locality
            host.priority = endpoint.priority
            hosts.append(host)
        for host in known.values():
            host.remove()
        self.hosts = hosts
        self.refresh()

    def _new_host(self, endpoint: snapshot.Endpoint, now: float) -> Host:
        tls = self._tls
        if tls is None or (self.config.auto_tls is not None and endpoint.tls_mode != "istio"):
            return self.bounds.host(endpoint.address, now)
        if tls.by_authority:
            return NamedHost(endpoint.address, self.bounds, tls, now)
        return self.bounds.host(endpoint.address, now, tls.client())

    def refresh(self) -> None:
        """Balance over the hosts as they are now. To be called when the health of any of them has changed."""
        self._balancer = load_balancer(self.config, self.hosts, self._chance, self.clock)
        if self._outliers is not None:
            self._outliers.stats.active = sum(host.ejected for host in self.hosts)

    async def detect_outliers(self) -> None:
        """Let hosts that were ejected return when it is time."""
        assert self._outliers is not None, "this cluster detects outliers"
        while True:
            await trio.sleep(self._outliers.config.interval_s)
            if returned := self._outliers.sweep(self.hosts, trio.current_time()):
                self.refresh()
            for host in returned:
                _log.info("cluster %s: %s is back", self.config.name, host.name)

    def health_checked(self, check: snapshot.HealthCheck, healthy: bool) -> None:
        """A health check has come to a result: it counts for the hosts that have it."""
        changed = [
            host
            for host in self.hosts
            if host.health_check == check and host.set_flag(HealthFlag.FAILED_ACTIVE_HC, not healthy)
        ]
        for host in changed:
            host.healthy_since = self.clock()  # one that has passed warms up; for another it makes no difference
        if changed:
            self.refresh()

    def close(self) -> None:
        """Have no hosts any more, and close what is idle."""
        self.update_hosts(())

    async def __call__(self, request: Request) -> Response:
        request.upstream_cluster = self.config.name
        tries = request.tries
        host = self._balancer.pick(request) if tries is None or not tries.hosts else self._pick_another(request, tries)
        if host is None:
            raise Failure(NO_HEALTHY_UPSTREAM)
        request.upstream_host = host.name
        stats = self.stats
        stats.requests_active += 1
        started = time.perf_counter()
        try:
            replayable = request.method in _IDEMPOTENT and isinstance(request.body, bytes)
            pool = host.pool(request.authority) if self._by_authority else host
            connection = pool.take_idle(replayable)
            pool.begin()
            if connection is None:
                connection = await self._connect(pool, tries)
            if tries is not None:
                tries.connected(connection)
            try:
                response = await connection.exchange(request)
            except Failure:
                # The host may have closed it at that very moment: once more, if nothing at all came back.
                if connection.requests == 1 or connection.answered or not replayable or (tries and tries.expired):
                    raise
                pool.begin()
                host.requests -= 1
                response = await self._exchange_anew(request, pool, tries)
        except Failure as failure:
            raise self._failed(request, host, failure, time.perf_counter() - started) from None
        finally:
            stats.requests_active -= 1
            if tries is not None:
                tries.over()
        elapsed = time.perf_counter() - started
        status = response.status
        stats.count(status, elapsed)
        if status >= 500:
            host.errors += 1
        if self._outliers is not None:
            told = grpc_status(request, response) if request.method == b"POST" else None  # gRPC is always POST
            reasons = self._outliers.answered(host, status) if told is None else self._outliers.called(host, told)
            if reasons:
                self._eject(host, reasons)
        request.details = "via_upstream"
        if isinstance(request.body, bytes) or request.body.finished:
            request.service_time_ms = milliseconds = int(elapsed * 1000)
            set_header(response.headers, SERVICE_TIME, b"%d" % milliseconds)
        return response

    def _failed(self, request: Request, host: Host, failure: Failure, elapsed: float) -> Failure:
        """What is to be said of a try that has failed so: when time ran out for it, that is why."""
        tries = request.tries
        if tries is not None and tries.expired:
            failure = tries.timed_out(self.stats)
        host.errors += 1
        self.stats.count(failure.kind.status, elapsed)
        if self._outliers is not None:
            connected = _FAILED_CONNECTED.get(failure.kind)
            if tries is not None and failure.kind in _LATE:
                connected = tries.is_connected
            if connected is not None:
                self._eject(host, self._outliers.failed(host, connected))
        return failure

    def _eject(self, host: Host, reasons: Iterable[Outlier]) -> None:
        """Eject a host for the first of these reasons for which it may be."""
        outliers = self._outliers
        assert outliers is not None
        for reason in reasons:
            if outliers.eject(host, reason, self.hosts, trio.current_time()):
                self.refresh()
                message = "cluster %s: %s is ejected for %g s: %s, ejection %d"
                time_s, number = outliers.ejection_time_s(host), host.outlier.ejections
                _log.warning(message, self.config.name, host.name, time_s, reason.value, number)

    async def _exchange_anew(self, request: Request, pool: Host, tries: Tries | None) -> Response:
        """The same exchange by a new connection."""
        if tries is not None:
            tries.over()
        connection = await self._connect(pool, tries)
        if tries is not None:
            tries.connected(connection)
        return await connection.exchange(request)

    async def _connect(self, host: Host, tries: Tries | None) -> Http1ClientConnection:
        """A connection for a request that was given to the host. Raises `Failure`; then the request is over."""
        try:
            if tries is None or not tries.limited:
                return await host.connect(self.config.connect_timeout_s)
            with tries.new_scope():
                return await host.connect(self.config.connect_timeout_s)
            raise tries.timed_out(self.stats)
        except BaseException:
            host.end()
            raise

    def _pick_another(self, request: Request, tries: Tries) -> Host | None:
        """The host for another try, as far as the balancer finds one other than those that have had their turn."""
        policy = request.retry_rules.policy if request.retry_rules else NO_RETRIES
        balancer = self._balancer
        if policy.previous_priorities and (passed_over := tries.passed_over()):
            balancer = self._without(passed_over)
            if balancer.pick(request) is None:
                tries.begin_round()
                balancer = self._balancer
        host = balancer.pick(request)
        for attempt in range(1, policy.host_selection_max_attempts + 1 if policy.previous_hosts else 1):
            if host not in tries.hosts:
                break
            host = balancer.pick(request, attempt)
        return host

    def _without(self, priorities: Container[int]) -> Balancer:
        hosts = [host for host in self.hosts if host.priority not in priorities]
        return load_balancer(self.config, hosts, self._chance, self.clock)


def _first_of_each_address(endpoints: Iterable[snapshot.Endpoint]) -> Iterable[snapshot.Endpoint]:
    found: dict[snapshot.Address, snapshot.Endpoint] = {}
    for endpoint in endpoints:
        found.setdefault(endpoint.address, endpoint)
    return found.values()
