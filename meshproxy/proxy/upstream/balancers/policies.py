"""The policies that mind the host alone: which is next, which has the least to do. Each is for at least one host."""

from __future__ import annotations

from collections.abc import Sequence
from heapq import heapify, heapreplace

from ...http.message import Request
from ..host import Host
from .balancer import Chance


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


class _EarliestDeadlineFirst:
    """Each host's next turn comes 1/weight after its last: over time, turns in proportion to weights.

    (https://en.wikipedia.org/wiki/Earliest_deadline_first_scheduling; Envoy's weighted policies are built on it.)
    """

    def __init__(self, hosts: Sequence[Host], chance: Chance) -> None:
        self._turns = [(1 / self._weight(host), order, host) for order, host in enumerate(hosts)]
        heapify(self._turns)
        self._order = len(hosts)
        for _ in range(int(chance() * len(hosts))):
            self._take_turn()

    def pick(self, request: Request, attempt: int = 0) -> Host:
        return self._take_turn()

    def _take_turn(self) -> Host:
        deadline, _, host = self._turns[0]
        # Of equal deadlines, the one that has waited longer comes first.
        heapreplace(self._turns, (deadline + 1 / self._weight(host), self._order, host))
        self._order += 1
        return host

    def _weight(self, host: Host) -> float:
        raise NotImplementedError


class WeightedRoundRobin(_EarliestDeadlineFirst):
    """Turns in proportion to the hosts' weights."""

    def _weight(self, host: Host) -> float:
        return host.weight


class WeightedLeastRequest(_EarliestDeadlineFirst):
    """Turns in proportion to the hosts' weights, each divided by the requests that the host has already."""

    def _weight(self, host: Host) -> float:
        return host.weight / (host.active + 1)
