"""The policies that choose a host, as Envoy's do
(https://www.envoyproxy.io/docs/envoy/latest/intro/arch_overview/upstream/load_balancing/load_balancers).

A balancer is made for a fixed list of hosts, none of them removed, and has one method: `pick`. Chance is passed in.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from heapq import heapify, heapreplace
from typing import Protocol

from ...snapshot import LbPolicy
from .host import Host

Chance = Callable[[], float]
"""A random number from [0, 1)."""


class Balancer(Protocol):
    def pick(self) -> Host: ...


def balancer(policy: LbPolicy, hosts: Sequence[Host], chance: Chance) -> Balancer:
    """The balancer for a policy and at least one host."""
    weighted = len({host.weight for host in hosts}) > 1
    match policy:
        case "LEAST_REQUEST":
            return WeightedLeastRequest(hosts, chance) if weighted else LeastRequest(hosts, chance)
        case "ROUND_ROBIN":
            return WeightedRoundRobin(hosts, chance) if weighted else RoundRobin(hosts, chance)
        case "RANDOM":
            return Random(hosts, chance)


class LeastRequest:
    """Of two hosts drawn by chance, the one with fewer active requests ("power of two choices")."""

    def __init__(self, hosts: Sequence[Host], chance: Chance) -> None:
        self._hosts = hosts
        self._count = len(hosts)
        self._chance = chance

    def pick(self) -> Host:
        first = self._hosts[int(self._chance() * self._count)]
        second = self._hosts[int(self._chance() * self._count)]
        return second if second.active < first.active else first


class RoundRobin:
    """Each in turn, from one drawn by chance on: many proxies must not all begin with the same host."""

    def __init__(self, hosts: Sequence[Host], chance: Chance) -> None:
        self._hosts = hosts
        self._next = int(chance() * len(hosts))

    def pick(self) -> Host:
        host = self._hosts[self._next]
        self._next = (self._next + 1) % len(self._hosts)
        return host


class Random:
    """Any of them. Weights do not count, as in Envoy."""

    def __init__(self, hosts: Sequence[Host], chance: Chance) -> None:
        self._hosts = hosts
        self._chance = chance

    def pick(self) -> Host:
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
            self.pick()

    def pick(self) -> Host:
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
