"""When requests are due."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from bench.pacing import Schedule, Timer, now


def test_requests_are_due_at_even_intervals() -> None:
    schedule = Schedule(start=10.0, rate=4.0, total=5)
    assert [schedule.due(number) for number in range(5)] == [10.0, 10.25, 10.5, 10.75, 11.0]


def test_nothing_is_due_before_the_start_and_no_more_than_all_after_the_end() -> None:
    schedule = Schedule(start=10.0, rate=4.0, total=5)
    assert [schedule.due_by(time) for time in (0.0, 9.99, 10.0, 10.3, 1000.0)] == [0, 0, 1, 2, 5]


@given(st.floats(0, 1e6), st.floats(0.1, 1e5), st.integers(1, 10_000), st.floats(0, 100))
def test_what_is_due_by_a_time_was_due_before_it(start: float, rate: float, total: int, after: float) -> None:
    schedule = Schedule(start, rate, total)
    time = start + after
    due = schedule.due_by(time)
    rounding = 1e-6
    assert due == 0 or schedule.due(due - 1) <= time + rounding
    assert due == total or schedule.due(due) >= time - rounding


async def test_a_timer_does_not_end_too_early() -> None:
    timer = Timer()
    try:
        for _ in range(10):
            time = now() + 0.0005
            await timer.wait_until(time)
            assert now() >= time
    finally:
        timer.close()


async def test_what_is_past_is_not_waited_for() -> None:
    timer = Timer()
    await timer.wait_until(now() - 1)
    timer.close()
