"""Deadlines of many, kept by one task: each strikes at its own time, or not at all."""

from __future__ import annotations

import random
import weakref

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


async def test_what_is_set_while_others_strike_strikes_in_its_turn(autojump_clock: trio.testing.MockClock) -> None:
    class Setter(Alarm):
        def strike(self) -> None:
            super().strike()
            kept.set(later, start + 3)
            kept.set(sooner, start + 2)

    kept, start = Deadlines(), trio.current_time()
    setter, sooner, later = Setter(), Alarm(), Alarm()
    kept.set(setter, start + 1)

    await trio.sleep(10)

    assert (setter.struck, sooner.struck, later.struck) == ([start + 1], [start + 2], [start + 3])


async def test_what_is_forgotten_after_a_look_does_not_strike(autojump_clock: trio.testing.MockClock) -> None:
    kept, start = Deadlines(), trio.current_time()
    first, forgotten, later = Alarm(), Alarm(), Alarm()
    kept.set(first, start + 1)
    kept.set(forgotten, start + 2)
    kept.set(later, start + 2)
    await trio.sleep(1.5)
    kept.forget(forgotten)
    kept.set(later, start + 4)
    await trio.sleep(1)
    assert (first.struck, forgotten.struck, later.struck) == ([start + 1], [], [])

    await trio.sleep(10)

    assert (forgotten.struck, later.struck) == ([], [start + 4])


async def test_what_is_forgotten_takes_no_memory_for_long(autojump_clock: trio.testing.MockClock) -> None:
    kept, waiting = Deadlines(), [Alarm() for _ in range(10)]
    start = trio.current_time()
    for alarm in waiting:
        kept.set(alarm, start + 5e4)
    for number in range(100):
        brief, left = Alarm(), [Alarm() for _ in range(_FEW // 2)]
        for alarm in left:
            kept.set(alarm, start + 4e4)
        kept.set(brief, start + number)
        await trio.testing.wait_all_tasks_blocked()
        await trio.sleep(1)
        assert brief.struck
        for alarm in left:
            kept.forget(alarm)
        assert len(kept._heap) <= 2 * (len(waiting) + len(left)) + _FEW
    assert repr(kept) == "<Deadlines: 10>"

    await trio.sleep(6e4)

    assert [alarm.struck for alarm in waiting] == [[start + 5e4]] * 10
    assert repr(kept) == "<Deadlines: 0>"


async def test_one_that_is_forgotten_is_not_kept(autojump_clock: trio.testing.MockClock) -> None:
    kept, seen, unseen, brief = Deadlines(), Alarm(), Alarm(), Alarm()
    kept.set(seen, trio.current_time() + 60)
    kept.set(brief, trio.current_time() + 1)
    await trio.sleep(2)
    kept.set(unseen, trio.current_time() + 60)
    gone = [weakref.ref(seen), weakref.ref(unseen)]

    kept.forget(seen)
    kept.forget(unseen)
    del seen, unseen

    assert [one() for one in gone] == [None, None]


async def test_a_run_has_one_keeper() -> None:
    assert deadlines() is deadlines()
