"""Keeps the hosts of a cluster of names in step with what the names resolve to (Envoy's STRICT_DNS and LOGICAL_DNS).

Every address of every name is a host with its endpoint's weight; those that go finish what they have begun. In a
logical cluster there is one host, whatever its name resolves to: new connections go to the first address of the last
answer, and those that there are stay in use.

A name that cannot be resolved keeps the addresses it had: a resolver that is down for a while must not take the
services down with it.
"""

from __future__ import annotations

import logging
import socket
from collections.abc import Iterable
from dataclasses import replace
from functools import partial
from typing import Any

import trio

from ...snapshot import Endpoint, Pipe, SocketAddress
from .cluster import Cluster

_log = logging.getLogger(__name__)

_MAX_LOOKUPS = 64  # at a time

REFRESH_S = 5.0  # Envoy's dns_refresh_rate; the system's resolver does not tell how long an answer may be kept


class Threads(trio.abc.HostnameResolver):
    """Asks the system's resolver in threads of its own: when names are not answered, the rest must not wait for one."""

    def __init__(self) -> None:
        self._limiter = trio.CapacityLimiter(_MAX_LOOKUPS)

    async def getaddrinfo(
        self,
        host: bytes | None,
        port: bytes | str | int | None,
        family: int = 0,
        type: int = 0,
        proto: int = 0,
        flags: int = 0,
    ) -> Any:
        """As `socket.getaddrinfo`."""
        ask = partial(socket.getaddrinfo, host, port, family, type, proto, flags)
        return await trio.to_thread.run_sync(ask, abandon_on_cancel=True, limiter=self._limiter)

    async def getnameinfo(self, sockaddr: Any, flags: int) -> tuple[str, str]:
        """As `socket.getnameinfo`."""
        return await trio.to_thread.run_sync(socket.getnameinfo, sockaddr, flags, limiter=self._limiter)


def use_own_threads() -> None:
    """Have all names of this trio run looked up by `Threads`, unless somebody else looks them up."""
    before = trio.socket.set_custom_hostname_resolver(Threads())
    if before is not None:
        trio.socket.set_custom_hostname_resolver(before)


class NameResolver:
    """Resolves one cluster's names, again and again."""

    def __init__(self, cluster: Cluster, refresh_s: float = REFRESH_S) -> None:
        self._cluster = cluster
        self._refresh_s = refresh_s
        self._logical = cluster.config.type == "LOGICAL_DNS"
        addresses = (endpoint.address for endpoint in cluster.config.endpoints)
        self._names = tuple(dict.fromkeys(one.host for one in addresses if isinstance(one, SocketAddress)))
        self._known: dict[str, list[str]] = {}
        """The addresses of each name that was asked for; none for one that was never resolved."""
        self._not_found: set[str] = set()
        """Those of which has been told that they could not be resolved the last time."""
        self._latest: list[Endpoint] = []
        self.resolved = trio.Event()
        """Each name has been asked for once."""

    async def run(self) -> None:
        async with trio.open_nursery() as nursery:
            self._update()
            for name in self._names:
                nursery.start_soon(self._follow, name)

    async def _follow(self, name: str) -> None:
        """Keep up with one name. One whose server does not answer must not hold up the others."""
        while True:
            await self._look_up(name)
            self._update()
            await trio.sleep(self._refresh_s)

    async def _look_up(self, name: str) -> None:
        try:
            found = await trio.socket.getaddrinfo(name, 0, type=socket.SOCK_STREAM)
        except (OSError, UnicodeError) as error:  # a name may not even be encodable
            if name not in self._not_found:
                self._not_found.add(name)
                _log.warning("cluster %s: cannot resolve %s: %s", self._cluster.config.name, name, error)
            self._known.setdefault(name, [])
        else:
            if name in self._not_found:
                self._not_found.remove(name)
                _log.info("cluster %s: %s is found again", self._cluster.config.name, name)
            self._known[name] = preferred((info[0], str(info[4][0])) for info in found)

    def _update(self) -> None:
        endpoints = [one for endpoint in self._cluster.config.endpoints for one in self._resolved(endpoint)]
        if endpoints != self._latest:
            self._latest = endpoints
            if self._logical and self._cluster.hosts:
                self._cluster.hosts[0].move(endpoints[0].address)
            else:
                self._cluster.update_hosts(endpoints)
        if len(self._known) == len(self._names):
            self.resolved.set()

    def _resolved(self, endpoint: Endpoint) -> list[Endpoint]:
        address = endpoint.address
        if isinstance(address, Pipe):
            return [endpoint]
        hosts = self._known.get(address.host, [])
        chosen = hosts[:1] if self._logical else sorted(hosts)
        return [replace(endpoint, address=SocketAddress(host, address.port)) for host in chosen]


def preferred(found: Iterable[tuple[int, str]]) -> list[str]:
    """Of addresses with their families, those of IPv4; only where there are none, those of IPv6 (V4_PREFERRED).

    Istio asks for IPv4 alone on machines that have it. `localhost` is often both, and its servers often only the first.
    """
    addresses = dict.fromkeys(found)
    ipv4 = [address for family, address in addresses if family == socket.AF_INET]
    return ipv4 or [address for _, address in addresses]
