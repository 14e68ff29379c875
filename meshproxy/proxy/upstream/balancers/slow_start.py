"""Hosts that are new get less than their share at first
(https://www.envoyproxy.io/docs/envoy/latest/intro/arch_overview/upstream/load_balancing/slow_start).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

from ....snapshot import SlowStart
from ..host import Host
from .balancer import Clock


def any_warming(hosts: Iterable[Host], config: SlowStart, clock: Clock) -> bool:
    """Whether one of the hosts is in its first seconds of service."""
    now = clock()
    return any(now - host.healthy_since <= config.window_s for host in hosts)


def warming(weight: Callable[[Host], float], config: SlowStart, clock: Clock) -> Callable[[Host], float]:
    """`weight`, less for hosts that are warming."""
    least = config.min_weight_percent / 100

    def reduced(host: Host) -> float:
        age = clock() - host.healthy_since
        if age >= config.window_s:
            return weight(host)
        grown: float = (max(age, 0.001) / config.window_s) ** (1 / config.aggression)
        return weight(host) * max(grown, least)

    return reduced
