"""What filters need of the world besides the request. It is given to them; a test or `explain` can give another."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

import trio

from ...snapshot import FractionalPercent
from ...telemetry.metrics import RouteStats

Chance = Callable[[], float]
"""A random number from [0, 1)."""


@dataclass(frozen=True, slots=True)
class FilterContext:
    """What the filters of a proxy share. `background` runs a task that no request waits for, until the proxy ends.

    `route_stats` gives the counters for a virtual host's name and a route's `stat_prefix`.
    """

    chance: Chance
    background: Callable[[Callable[[], Awaitable[None]]], None]
    clock: Callable[[], float] = field(default=trio.current_time)
    sleep: Callable[[float], Awaitable[None]] = field(default=trio.sleep)
    route_stats: Callable[[str, str], RouteStats] = field(default=RouteStats)
    now: Callable[[], float] = field(default=time.time)
    """The time of day, in seconds since the epoch."""

    def happens(self, percentage: FractionalPercent) -> bool:
        """Whether chance picks this request."""
        return self.chance() * percentage.denominator < percentage.numerator
