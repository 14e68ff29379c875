"""A cluster without endpoints: each request goes where its own authority says (Envoy's dynamic forward proxy).

A sidecar passes on what no resource names. The destinations are remembered, each as a cluster of its own with the
addresses that its name resolves to, looked up again when they are older than a minute; there is a bound to how many are
remembered, because clients choose them.
"""

from __future__ import annotations

import socket
from collections import OrderedDict
from dataclasses import replace
from ipaddress import ip_address

import trio

from ... import snapshot
from ...snapshot import Address, Endpoint, SocketAddress
from ...telemetry.metrics import ClusterStats
from ..http.failures import DNS_RESOLUTION_FAILED, INVALID_AUTHORITY, LOOP_DETECTED, Failure
from ..http.message import Request, Response
from ..tls.client import UpstreamTls
from .balancers import Chance
from .bounded_host import Bounds
from .cluster import Cluster
from .dns import preferred
from .host import Host
from .retry_rules import RetryLimit
from .tries import Tries

_DEFAULT_PORT = 80
_MAX_DIGITS = 20  # of a port, with zeros before it: Python makes no number of thousands
_MAX_DESTINATIONS = 1024
_FRESH_S = 60.0


class ForwardProxy:
    """A running cluster of type `DYNAMIC_FORWARD_PROXY`."""

    def __init__(
        self, config: snapshot.Cluster, stats: ClusterStats, chance: Chance, tls: UpstreamTls | None = None
    ) -> None:
        self.config = config
        self.stats = stats
        self.bounds = Bounds.of(config)
        """All destinations share them."""
        self.retry_limit = RetryLimit(config.circuit_breakers)
        self._chance = chance
        self._tls = tls
        if tls is not None:
            stats.tls = tls.stats
        self._destinations: OrderedDict[SocketAddress, _Destination] = OrderedDict()

    def __repr__(self) -> str:
        return f"<ForwardProxy {self.config.name}: {len(self._destinations)} destinations>"

    @property
    def hosts(self) -> list[Host]:
        """The hosts of all remembered destinations."""
        return [host for destination in self._destinations.values() for host in destination.cluster.hosts]

    def close(self) -> None:
        """Forget all destinations, and close what is idle."""
        for destination in self._destinations.values():
            destination.cluster.close()
        self._destinations.clear()

    async def __call__(self, request: Request) -> Response:
        address = destination_of(request.authority)
        destination = self._destinations.get(address)
        if destination is None:
            destination = self._remember(address)
        self._destinations.move_to_end(address)
        if trio.current_time() >= destination.stale_at:
            await self._look_up_in_time(address, destination, request.tries)
        if any(leads_back(host.address, request) for host in destination.cluster.hosts):
            raise Failure(LOOP_DETECTED)
        return await destination.cluster(request)

    def _remember(self, address: SocketAddress) -> _Destination:
        if len(self._destinations) >= _MAX_DESTINATIONS:
            _, forgotten = self._destinations.popitem(last=False)
            forgotten.forget()
        destination = self._destinations[address] = _Destination(
            Cluster(replace(self.config, type="STATIC"), self.stats, self._chance, bounds=self.bounds, tls=self._tls)
        )
        return destination

    async def _look_up_in_time(self, address: SocketAddress, destination: _Destination, tries: Tries | None) -> None:
        if tries is None or not tries.limited:
            return await self._look_up(address, destination)
        with tries.new_scope():
            return await self._look_up(address, destination)
        raise tries.timed_out(self.stats)

    async def _look_up(self, address: SocketAddress, destination: _Destination) -> None:
        try:
            found = await trio.socket.getaddrinfo(address.host, address.port, type=socket.SOCK_STREAM)
        except (OSError, UnicodeError) as error:
            raise Failure(DNS_RESOLUTION_FAILED) from error
        hosts = preferred((info[0], str(info[4][0])) for info in found)
        destination.cluster.update_hosts(Endpoint(reached(SocketAddress(host, address.port))) for host in hosts)
        destination.stale_at = trio.current_time() + _FRESH_S
        if destination.forgotten:
            destination.forget()


class _Destination:
    """A destination's cluster, and when its addresses have to be looked up again."""

    __slots__ = ("cluster", "forgotten", "stale_at")

    def __init__(self, cluster: Cluster) -> None:
        self.cluster = cluster
        self.stale_at = 0.0
        self.forgotten = False

    def forget(self) -> None:
        """Keep no connection any more. Requests that are under way here still go on: nobody would close theirs."""
        self.forgotten = True
        for host in self.cluster.hosts:
            host.remove()


def reached(address: SocketAddress) -> SocketAddress:
    """Where a connection to an IP address ends: the unspecified address stands for this machine, an IPv4 address mapped
    into IPv6 for itself."""
    ip = ip_address(address.host)
    ip = getattr(ip, "ipv4_mapped", None) or ip
    if ip.is_unspecified:
        return SocketAddress("127.0.0.1" if ip.version == 4 else "::1", address.port)
    return SocketAddress(str(ip), address.port)


def leads_back(address: Address, request: Request) -> bool:
    """Whether a request would be sent to the very address that it came in by, to come in by it again, and again.

    By another address of this machine it comes round once, and is recognised then.
    """
    return str(address) == request.local_address


def destination_of(authority: bytes) -> SocketAddress:
    """The host and port that an authority names, port 80 where it names none. Raises `Failure` (400)."""
    text = authority.rpartition(b"@")[2].decode("ascii", "replace")
    host, colon, port = text.rpartition(":")
    if not colon or text.endswith("]"):
        host, port = text, ""
    host = host.strip("[]").lower()
    if not host or (port and not (port.isdigit() and len(port) <= _MAX_DIGITS and int(port) <= 65535)):
        raise Failure(INVALID_AUTHORITY)
    return SocketAddress(host, int(port) if port else _DEFAULT_PORT)
