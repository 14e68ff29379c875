"""Latencies in buckets: how much is lost by that, and nothing else."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from bench.histogram import Histogram

_MICROSECONDS = st.integers(0, 10**9)


def histogram(values: list[int]) -> Histogram:
    made = Histogram()
    for value in values:
        made.record(value)
    return made


@given(st.lists(_MICROSECONDS, min_size=1), st.floats(0, 100, exclude_min=True))
def test_a_percentile_is_never_less_than_the_true_one_and_hardly_more(values: list[int], percent: float) -> None:
    rank = max(sum(number / len(values) * 100 < percent for number in range(1, len(values) + 1)), 0)
    true = sorted(values)[min(rank, len(values) - 1)]
    assert true <= histogram(values).percentile(percent) <= true + true / 128


@given(st.lists(_MICROSECONDS))
def test_count_sum_and_maximum_are_exact(values: list[int]) -> None:
    made = histogram(values)
    assert (made.count, made.sum, made.max) == (len(values), sum(values), max(values, default=0))


@given(_MICROSECONDS)
def test_of_a_single_value_every_percentile_is_that_value(value: int) -> None:
    made = histogram([value])
    assert {made.percentile(percent) for percent in (0.1, 50, 99.99, 100)} == {value}


@given(st.lists(_MICROSECONDS, min_size=1))
def test_a_higher_percentile_is_no_lower(values: list[int]) -> None:
    made = histogram(values)
    found = [made.percentile(percent) for percent in (1, 25, 50, 75, 99, 100)]
    assert found == sorted(found)
    assert found[-1] == made.max


def test_without_values_percentiles_are_0() -> None:
    assert Histogram().percentile(99) == 0
