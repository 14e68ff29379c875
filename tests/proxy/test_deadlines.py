"""Deadlines of many, kept by one task: each strikes at its own time, or not at all."""

from __future__ import annotations

import random

import trio
import trio.testing

from meshproxy.proxy.upstream.deadlines import _FEW, Deadlines, deadlines


class Alarm:
    """Notes when its time came."""

    def __init__(self) -> None:
        self.due = 0
        self.struck: list[float] = []

    def strike(self) -> None:
        self.struck.append(trio.current_time())


async def test_each_strikes_at_its_time(autojump_clock: trio.testing.MockClock) -> None:
    kept, start = Deadlines(), trio.current_time()
    alarms = [Alarm() for _ in range(200)]
    times = [random.Random(place).uniform(0, 9) for place in range(200)]
    for alarm, time in zip(alarms, times, strict=True):
        kept.set(alarm, start + time)

    await trio.sleep(10)

    assert [alarm.struck for alarm in alarms] == [[start + time] for time in times]


async def test_one_that_is_forgotten_or_set_anew_does_not_strike_at_its_old_time(
    autojump_clock: trio.testing.MockClock,
) -> None:
    kept, start = Deadlines(), trio.current_time()
    forgotten, later, sooner = Alarm(), Alarm(), Alarm()
    for alarm in (forgotten, later, sooner):
        kept.set(alarm, start + 2)
    kept.forget(forgotten)
    kept.set(later, start + 3)
    kept.set(sooner, start + 1)

    await trio.sleep(10)

    assert (forgotten.struck, later.struck, sooner.struck) == ([], [start + 3], [start + 1])


async def test_a_strike_may_set_and_forget_others(autojump_clock: trio.testing.MockClock) -> None:
    class Chain(Alarm):
        def strike(self) -> None:
            super().strike()
            kept.forget(victim)
            kept.set(self if len(self.struck) < 3 else Alarm(), trio.current_time() + 1)

    kept, start = Deadlines(), trio.current_time()
    chain, victim = Chain(), Alarm()
    kept.set(chain, start + 1)
    kept.set(victim, start + 1)

    await trio.sleep(10)

    assert (chain.struck, victim.struck) == ([start + 1, start + 2, start + 3], [])


async def test_what_has_passed_strikes_at_once(autojump_clock: trio.testing.MockClock) -> None:
    kept, alarm = Deadlines(), Alarm()
    kept.set(alarm, trio.current_time() - 1)

    await trio.testing.wait_all_tasks_blocked()

    assert alarm.struck == [trio.current_time()]


async def test_what_is_forgotten_takes_no_memory_for_long(autojump_clock: trio.testing.MockClock) -> None:
    kept, waiting = Deadlines(), [Alarm() for _ in range(10)]
    for alarm in waiting:
        kept.set(alarm, trio.current_time() + 60)
    for _ in range(20 * _FEW):
        alarm = Alarm()
        kept.set(alarm, trio.current_time() + 30)
        kept.forget(alarm)
        assert len(kept._heap) <= 2 * (len(waiting) + 1) + _FEW + 1

    await trio.sleep(61)

    assert [len(alarm.struck) for alarm in waiting] == [1] * 10
    assert repr(kept) == "<Deadlines: 0>"


async def test_a_run_has_one_keeper() -> None:
    assert deadlines() is deadlines()
