"""A set of equal hosts: a service that sends each request to one of them."""

from __future__ import annotations

import time
from collections.abc import Iterable

from ... import snapshot
from ...telemetry.metrics import ClusterStats
from ..http.failures import NO_HEALTHY_UPSTREAM, Failure
from ..http.message import Request, Response, set_header
from .balancers import Chance, Clock, load_balancer
from .host import Host

# RFC 9110, section 9.2.2: sending one of these twice does no more than sending it once.
_IDEMPOTENT = frozenset((b"GET", b"HEAD", b"OPTIONS", b"TRACE", b"PUT", b"DELETE"))

_SERVICE_TIME = b"x-envoy-upstream-service-time"


class Cluster:
    """A running cluster. Its hosts, their connections and its counters live as long as it does."""

    def __init__(
        self, config: snapshot.Cluster, stats: ClusterStats, chance: Chance, clock: Clock = time.monotonic
    ) -> None:
        self.config = config
        self.stats = stats
        self.clock = clock
        self.hosts: list[Host] = []
        self._chance = chance
        self.refresh()
        if config.type == "STATIC":
            self.update_hosts(config.endpoints)

    def __repr__(self) -> str:
        return f"<Cluster {self.config.name}: {len(self.hosts)} hosts>"

    def update_hosts(self, endpoints: Iterable[snapshot.Endpoint]) -> None:
        """Have these hosts from now on; those that were here before keep their connections and counters.

        Of several endpoints with one address the first counts, as in Envoy.
        """
        known = {host.address: host for host in self.hosts}
        now = self.clock()
        hosts: list[Host] = []
        for endpoint in _first_of_each_address(endpoints):
            host = known.pop(endpoint.address, None) or Host(endpoint.address, healthy_since=now)
            host.weight = endpoint.weight
            host.locality = endpoint.locality
            host.priority = endpoint.priority
            hosts.append(host)
        for host in known.values():
            host.remove()
        self.hosts = hosts
        self.refresh()

    def refresh(self) -> None:
        """Balance over the hosts as they are now. To be called when the health of any of them has changed."""
        self._balancer = load_balancer(self.config, self.hosts, self._chance, self.clock)

    def close(self) -> None:
        """Have no hosts any more, and close what is idle."""
        self.update_hosts(())

    async def __call__(self, request: Request) -> Response:
        request.upstream_cluster = self.config.name
        host = self._balancer.pick(request)
        if host is None:
            raise Failure(NO_HEALTHY_UPSTREAM)
        request.upstream_host = host.name
        stats = self.stats
        stats.requests_active += 1
        started = time.perf_counter()
        try:
            host.begin()
            replayable = request.method in _IDEMPOTENT and isinstance(request.body, bytes)
            connection = host.take_idle(replayable)
            if connection is None:
                response = await self._connect_and_exchange(host, request)
            else:
                try:
                    response = await connection.exchange(request)
                except Failure:
                    # Its host may have closed it at that very moment: once more, if nothing at all came back.
                    if connection.answered or not replayable:
                        raise
                    host.begin()
                    host.requests -= 1
                    response = await self._connect_and_exchange(host, request)
        except Failure as failure:
            host.errors += 1
            stats.count(failure.kind.status, time.perf_counter() - started)
            raise
        finally:
            stats.requests_active -= 1
        elapsed = time.perf_counter() - started
        status = response.status
        stats.count(status, elapsed)
        if status >= 500:
            host.errors += 1
        request.details = "via_upstream"
        if isinstance(request.body, bytes) or request.body.finished:
            request.service_time_ms = milliseconds = int(elapsed * 1000)
            set_header(response.headers, _SERVICE_TIME, b"%d" % milliseconds)
        return response

    async def _connect_and_exchange(self, host: Host, request: Request) -> Response:
        try:
            connection = await host.connect(self.config.connect_timeout_s)
        except BaseException:
            host.end()
            raise
        return await connection.exchange(request)


def _first_of_each_address(endpoints: Iterable[snapshot.Endpoint]) -> Iterable[snapshot.Endpoint]:
    found: dict[snapshot.Address, snapshot.Endpoint] = {}
    for endpoint in endpoints:
        found.setdefault(endpoint.address, endpoint)
    return found.values()
