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

import trio

from ...snapshot import Address, Endpoint, Pipe, SocketAddress
from .cluster import Cluster

_log = logging.getLogger(__name__)

REFRESH_S = 5.0  # Envoy's dns_refresh_rate; the system's resolver does not tell how long an answer may be kept


class NameResolver:
    """Resolves one cluster's names, again and again."""

    def __init__(self, cluster: Cluster, refresh_s: float = REFRESH_S) -> None:
        self._cluster = cluster
        self._refresh_s = refresh_s
        self._logical = cluster.config.type == "LOGICAL_DNS"
        self._known: dict[str, list[str]] = {}
        self._latest: list[Endpoint] = []
        self.resolved = trio.Event()
        """Each name has been asked for once."""

    async def run(self) -> None:
        while True:
            endpoints = await self._endpoints()
            if endpoints != self._latest:
                self._latest = endpoints
                if self._logical and self._cluster.hosts:
                    self._cluster.hosts[0].move(endpoints[0].address)
                else:
                    self._cluster.update_hosts(endpoints)
            self.resolved.set()
            await trio.sleep(self._refresh_s)

    async def _endpoints(self) -> list[Endpoint]:
        endpoints: list[Endpoint] = []
        for endpoint in self._cluster.config.endpoints:
            addresses = await self._addresses(endpoint.address)
            chosen = addresses[:1] if self._logical else sorted(addresses, key=str)
            endpoints += (replace(endpoint, address=address) for address in chosen)
        return endpoints

    async def _addresses(self, address: Address) -> list[Address]:
        if isinstance(address, Pipe):
            return [address]
        try:
            found = await trio.socket.getaddrinfo(address.host, address.port, type=socket.SOCK_STREAM)
        except (OSError, UnicodeError) as error:  # a name may not even be encodable
            if self._known.get(address.host) != []:
                _log.warning("cluster %s: cannot resolve %s: %s", self._cluster.config.name, address.host, error)
            hosts = self._known.setdefault(address.host, [])
        else:
            hosts = self._known[address.host] = preferred((info[0], str(info[4][0])) for info in found)
        return [SocketAddress(host, address.port) for host in hosts]


def preferred(found: Iterable[tuple[int, str]]) -> list[str]:
    """Of addresses with their families, those of IPv4; only where there are none, those of IPv6 (V4_PREFERRED).

    Istio asks for IPv4 alone on machines that have it. `localhost` is often both, and its servers often only the first.
    """
    addresses = dict.fromkeys(found)
    ipv4 = [address for family, address in addresses if family == socket.AF_INET]
    return ipv4 or [address for _, address in addresses]
