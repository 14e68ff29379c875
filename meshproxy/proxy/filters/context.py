"""What filters need of the world besides the request. It is given to them; a test or `explain` can give another."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

import trio

from ...snapshot import FractionalPercent

Chance = Callable[[], float]
"""A random number from [0, 1)."""


@dataclass(frozen=True, slots=True)
class FilterContext:
    """What the filters of a proxy share. `background` runs a task that no request waits for, until the proxy ends."""

    chance: Chance
    background: Callable[[Callable[[], Awaitable[None]]], None]
    clock: Callable[[], float] = field(default=trio.current_time)
    sleep: Callable[[float], Awaitable[None]] = field(default=trio.sleep)

    def happens(self, percentage: FractionalPercent) -> bool:
        """Whether chance picks this request."""
        return self.chance() * percentage.denominator < percentage.numerator
