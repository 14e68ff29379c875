"""Pearson's chi-squared test: do counts fit the shares they should have?"""

from __future__ import annotations

from collections.abc import Sequence

# Quantiles 0.999 of the distribution, by degrees of freedom: right counts pass 999 times in 1000.
_CRITICAL = {1: 10.828, 2: 13.816, 3: 16.266, 4: 18.467}


def fits(counts: Sequence[int], shares: Sequence[float]) -> bool:
    """Whether `counts` are likely to come of chances in proportion to `shares`."""
    total, whole = sum(counts), sum(shares)
    expected = [total * share / whole for share in shares]
    statistic = sum((count - mean) ** 2 / mean for count, mean in zip(counts, expected, strict=True))
    return statistic < _CRITICAL[len(counts) - 1]
