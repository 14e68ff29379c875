"""Which of the hosts serve, by their health and their priority, and what share of the requests each priority gets.

Envoy's rules (https://www.envoyproxy.io/docs/envoy/latest/intro/arch_overview/upstream/load_balancing/priority and
.../panic_threshold), down to the whole percents that it reckons in: a priority takes all requests as long as its
healthy hosts, times 1.4, are as many as its hosts; what it cannot take goes to the next. Where healthy hosts are too
few even so, a priority with fewer than the panic threshold lets all its hosts serve: better a host that may fail than
one that is overrun.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Sequence
from itertools import accumulate
from typing import NamedTuple

from ...http.message import Request
from ..host import Host
from .balancer import Balancer

OVERPROVISIONING_PERCENT = 140
"""Envoy's overprovisioning factor."""


class Share(NamedTuple):
    """What a priority gets: `percent` of the requests. In `panic`, all its hosts serve, whatever their health."""

    percent: int
    panic: bool = False


def shares(host_sets: Sequence[Sequence[Host]], panic_threshold: float) -> list[Share]:
    """The shares of priorities, the first first, with these hosts each. They make 100."""
    sizes = [len(hosts) for hosts in host_sets]
    healthy = [sum(host.healthy for host in hosts) for hosts in host_sets]
    health = [
        min(100, OVERPROVISIONING_PERCENT * well // size) if size else 0
        for well, size in zip(healthy, sizes, strict=True)
    ]
    available = min(100, sum(health))
    threshold = round(panic_threshold)
    panics = [
        available < 100 and (100 * well / size if size else 0) < threshold
        for well, size in zip(healthy, sizes, strict=True)
    ]
    percents = _percents(sizes, sum(sizes)) if all(panics) else _percents(health, available)
    return list(map(Share, percents, panics))


def _percents(parts: Sequence[int], whole: int) -> list[int]:
    """Each part as percents of the whole, as long as there are any left; the first part has what rounding leaves."""
    left = 100
    percents = []
    for part in parts:
        percents.append(min(left, 100 * part // whole) if whole else 0)
        left -= percents[-1]
    percents[next((index for index, part in enumerate(parts) if part), 0)] += left
    return percents


class Priorities:
    """Several priorities, each with its percents of the requests, which make 100, and its balancer.

    `percentile` tells where a request stands among a hundred, from 0 on.
    """

    def __init__(self, parts: Sequence[tuple[int, Balancer]], percentile: Callable[[Request], int]) -> None:
        self._balancers = [balancer for _, balancer in parts]
        self._limits = list(accumulate(percent for percent, _ in parts))
        self._percentile = percentile

    def pick(self, request: Request, attempt: int = 0) -> Host | None:
        return self._balancers[bisect_right(self._limits, self._percentile(request))].pick(request, attempt)
