"""How many pairs a run has compared, and how they came out, for the line at its end."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from .compare import Finding, Pair
from .differences import unexplained


class Tally:
    """Pairs by kind, and those among them that differ."""

    def __init__(self) -> None:
        self._pairs: Counter[str] = Counter()
        self._differing = 0
        self._unexplained = 0

    def counts(self) -> tuple[dict[str, int], int, int]:
        """What one process has counted, for `add` in another."""
        return dict(self._pairs), self._differing, self._unexplained

    def add(self, counts: tuple[dict[str, int], int, int]) -> None:
        pairs, differing, unexplained = counts
        self._pairs.update(pairs)
        self._differing += differing
        self._unexplained += unexplained

    def count(self, kind: str, pair: Pair, findings: Sequence[Finding]) -> list[Finding]:
        """Count a pair, and return those of its findings that no difference on purpose explains."""
        left = unexplained(pair, findings)
        self._pairs[kind] += 1
        self._differing += bool(findings)
        self._unexplained += bool(left)
        return left

    def __str__(self) -> str:
        kinds = ", ".join(f"{count} {kind}" for kind, count in self._pairs.items()) or "none"
        return (
            f"pairs of Envoy and meshproxy: {kinds}; {self._differing} differ, "
            f"{self._unexplained} of them not as docs/differences.md says"
        )


TALLY = Tally()
