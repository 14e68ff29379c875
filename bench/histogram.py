"""Latencies in little memory: a histogram whose buckets grow with the value, after Gil Tene's HdrHistogram.

Below `_LINEAR` every value has a bucket of its own; above, every power of two is cut into `_LINEAR / 2` of them. So a
percentile is never less than the true value, and at most 1/128 more. https://hdrhistogram.github.io/HdrHistogram/
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

_BITS = 8
_LINEAR = 1 << _BITS


class Histogram:
    """How often values came up: whole numbers from 0, such as microseconds."""

    __slots__ = ("_counts", "count", "max", "sum")

    def __init__(self) -> None:
        self._counts: Counter[int] = Counter()
        self.count = 0
        self.sum = 0
        self.max = 0

    def record(self, value: int) -> None:
        self._counts[_bucket(value)] += 1
        self.count += 1
        self.sum += value
        if value > self.max:
            self.max = value

    def percentile(self, percent: float) -> int:
        """The value that so many percent of all do not exceed; 0 if there is none."""
        wanted = percent / 100 * self.count
        passed = 0
        for highest, count in self._ascending():
            passed += count
            if passed >= wanted:
                return min(highest, self.max)
        return self.max

    def _ascending(self) -> Iterator[tuple[int, int]]:
        for bucket, count in sorted(self._counts.items()):
            yield _highest(bucket), count


def _bucket(value: int) -> int:
    shift = max(value.bit_length() - _BITS, 0)
    return (shift << (_BITS - 1)) + (value >> shift)


def _highest(bucket: int) -> int:
    """The largest value that falls into a bucket."""
    shift = max((bucket >> (_BITS - 1)) - 1, 0)
    return (((bucket - (shift << (_BITS - 1))) + 1) << shift) - 1
