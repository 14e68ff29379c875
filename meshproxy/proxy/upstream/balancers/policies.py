"""The policies that mind the host alone: which is next, which has the least to do. Each is for at least one host."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from ...http.message import Request
from ..host import Host
from .balancer import Chance
from .turns import Turns


class LeastRequest:
    """Of two hosts drawn by chance, the one with fewer active requests ("power of two choices")."""

    def __init__(self, hosts: Sequence[Host], chance: Chance) -> None:
        self._hosts = hosts
        self._count = len(hosts)
        self._chance = chance

    def pick(self, request: Request, attempt: int = 0) -> Host:
        first = self._hosts[int(self._chance() * self._count)]
        second = self._hosts[int(self._chance() * self._count)]
        return second if second.active < first.active else first


class RoundRobin:
    """Each in turn, from one drawn by chance on: many proxies must not all begin with the same host."""

    def __init__(self, hosts: Sequence[Host], chance: Chance) -> None:
        self._hosts = hosts
        self._next = int(chance() * len(hosts))

    def pick(self, request: Request, attempt: int = 0) -> Host:
        host = self._hosts[self._next]
        self._next = (self._next + 1) % len(self._hosts)
        return host


class Random:
    """Any of them. Weights do not count, as in Envoy."""

    def __init__(self, hosts: Sequence[Host], chance: Chance) -> None:
        self._hosts = hosts
        self._chance = chance

    def pick(self, request: Request, attempt: int = 0) -> Host:
        return self._hosts[int(self._chance() * len(self._hosts))]


class Weighted:
    """Turns in proportion to the hosts' weights."""

    def __init__(self, hosts: Sequence[Host], weight: Callable[[Host], float], chance: Chance) -> None:
        self._turns = Turns(hosts, weight, chance)

    def pick(self, request: Request, attempt: int = 0) -> Host:
        return self._turns.take()


def weight(host: Host) -> float:
    """A host's weight for ROUND_ROBIN."""
    return host.weight


def weight_by_load(host: Host) -> float:
    """A host's weight for LEAST_REQUEST: divided by the requests that it has already, and this one."""
    return host.weight / (host.active + 1)
