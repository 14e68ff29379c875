"""Localities with weights: which of them a request goes to, and what that makes of their hosts' weights
(https://www.envoyproxy.io/docs/envoy/latest/intro/arch_overview/upstream/load_balancing/locality_weight).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from ....snapshot import Cluster, Locality
from ...http.message import Request
from ..host import Host
from .balancer import Balancer, Chance
from .priorities import OVERPROVISIONING_PERCENT
from .turns import Turns


class Part(NamedTuple):
    """The hosts of one locality: `serving` of `all` of them get requests. `weight` is the locality's own."""

    weight: int
    all: Sequence[Host]
    serving: Sequence[Host]


def parts(config: Cluster, priority: int, hosts: Sequence[Host], panic: bool) -> list[Part]:
    """The hosts of one priority, by locality. A locality without a weight has 0."""
    weights = {one.locality: one.weight for one in config.locality_weights if one.priority == priority}
    together: dict[Locality, list[Host]] = {}
    for host in hosts:
        together.setdefault(host.locality, []).append(host)
    return [
        Part(weights.get(locality, 0), those, [host for host in those if panic or host.healthy])
        for locality, those in together.items()
    ]


def effective_weight(part: Part) -> float:
    """A locality's weight, less where its healthy hosts, times 1.4, are fewer than its hosts."""
    return part.weight * min(1.0, OVERPROVISIONING_PERCENT / 100 * len(part.serving) / len(part.all))


class Localities:
    """Turns of localities in proportion to their weights, each with its balancer."""

    def __init__(self, balancers: Sequence[tuple[float, Balancer]], chance: Chance) -> None:
        self._turns = Turns(balancers, lambda locality: locality[0], chance)

    def pick(self, request: Request, attempt: int = 0) -> Host | None:
        _, balancer = self._turns.take()
        return balancer.pick(request, attempt)


def shared_weights(those: Sequence[Part]) -> list[tuple[Host, float]]:
    """The hosts that serve, each with its share of the whole: its part of what its locality's part is."""
    whole = sum(part.weight for part in those)
    return [pair for part in those if part.weight for pair in host_weights(part.serving, part.weight / whole)]


def host_weights(hosts: Sequence[Host], of: float = 1.0) -> list[tuple[Host, float]]:
    """The hosts, each with its share of `of` by weight. The order of the operations is Envoy's: so is the rounding."""
    total = sum(host.weight for host in hosts)
    return [(host, host.weight * of / total) for host in hosts]
