"""Turns in proportion to weights."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from heapq import heapify, heapreplace
from typing import Generic, TypeVar

from .balancer import Chance

T = TypeVar("T")


class Turns(Generic[T]):
    """Each one's next turn comes 1/weight after its last: over time, turns in proportion to weights.

    (https://en.wikipedia.org/wiki/Earliest_deadline_first_scheduling; Envoy's weighted policies are built on it.)
    Weights are above 0, and are asked for at every turn. Chance decides who begins.
    """

    def __init__(self, those: Sequence[T], weight: Callable[[T], float], chance: Chance) -> None:
        self._weight = weight
        self._turns = [(1 / weight(one), order, one) for order, one in enumerate(those)]
        heapify(self._turns)
        self._order = len(those)
        for _ in range(int(chance() * len(those))):
            self.take()

    def take(self) -> T:
        """Whose turn it is."""
        deadline, _, one = self._turns[0]
        # Of equal deadlines, the one that has waited longer comes first.
        heapreplace(self._turns, (deadline + 1 / self._weight(one), self._order, one))
        self._order += 1
        return one
