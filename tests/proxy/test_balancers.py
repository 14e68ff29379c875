"""Which host is next: exactly, where the policy is exact; by chi-squared, with a seeded chance, where it is random.

Patterns are those that Envoy 1.40 was measured to give.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable, Iterator

import pytest

from meshproxy.proxy.upstream.balancers import Balancer, Chance, load_balancer
from meshproxy.proxy.upstream.host import Host
from meshproxy.snapshot import Cluster, LbPolicy, SocketAddress

from .chi_squared import fits
from .made import made_request


def hosts(*weights: int) -> list[Host]:
    return [Host(SocketAddress("192.0.2.1", 8000 + number), weight) for number, weight in enumerate(weights)]


def balancer(policy: LbPolicy, among: list[Host], chance: Chance) -> Balancer:
    return load_balancer(Cluster("c", (), lb_policy=policy), among, chance, lambda: 0.0)


def chances(*numbers: float) -> Callable[[], float]:
    """These numbers, one after the other."""
    iterator: Iterator[float] = iter(numbers)
    return lambda: next(iterator)


def picks(balancer: Balancer, among: list[Host], count: int) -> str:
    """The numbers of the hosts picked, as digits."""
    request = made_request()
    return "".join(str(among.index(picked)) for _ in range(count) if (picked := balancer.pick(request)) is not None)


def counts(picked: str, number: int) -> list[int]:
    counter = Counter(picked)
    return [counter[str(index)] for index in range(number)]


def rotations(pattern: str) -> set[str]:
    return {pattern[start:] + pattern[:start] for start in range(len(pattern))}


@pytest.mark.parametrize(
    ("first", "second", "picked"), [(0.0, 0.4, "1"), (0.4, 0.0, "1"), (0.0, 0.9, "2"), (0.4, 0.9, "2")]
)
def test_least_request_takes_the_less_busy_of_two_drawn_hosts(first: float, second: float, picked: str) -> None:
    among = hosts(1, 1, 1)
    among[0].active, among[1].active, among[2].active = 5, 3, 0

    assert picks(balancer("LEAST_REQUEST", among, chances(first, second)), among, 1) == picked


def test_least_request_of_two_equally_busy_hosts_takes_the_first_drawn() -> None:
    among = hosts(1, 1)

    assert picks(balancer("LEAST_REQUEST", among, chances(0.9, 0.1)), among, 1) == "1"


def test_least_request_spreads_evenly_over_idle_hosts() -> None:
    among = hosts(1, 1, 1)

    picked = picks(balancer("LEAST_REQUEST", among, random.Random(1).random), among, 3000)

    assert fits(counts(picked, 3), (1, 1, 1))


def test_least_request_draws_both_hosts_independently() -> None:
    """The busiest of three is taken only when it is drawn twice: one time in nine."""
    among = hosts(1, 1, 1)
    among[2].active = 1

    picked = picks(balancer("LEAST_REQUEST", among, random.Random(2).random), among, 9000)

    assert fits(counts(picked, 3), (4, 4, 1))


def test_least_request_avoids_a_host_that_hangs() -> None:
    among = hosts(1, 1)
    among[0].active = 100
    under_test = balancer("LEAST_REQUEST", among, random.Random(3).random)

    assert fits(counts(picks(under_test, among, 4000), 2), (1, 3))


def test_round_robin_takes_each_in_turn() -> None:
    among = hosts(1, 1, 1)

    assert picks(balancer("ROUND_ROBIN", among, lambda: 0.0), among, 7) == "0120120"


def test_round_robin_begins_by_chance() -> None:
    among = hosts(1, 1, 1)

    firsts = {picks(balancer("ROUND_ROBIN", among, chances(at)), among, 3) for at in (0.0, 0.4, 0.99)}

    assert firsts == rotations("012")


def test_equal_weights_are_as_no_weights() -> None:
    among = hosts(5, 5)

    assert picks(balancer("ROUND_ROBIN", among, lambda: 0.0), among, 6) == "010101"


@pytest.mark.parametrize("policy", ["ROUND_ROBIN", "LEAST_REQUEST"])
@pytest.mark.parametrize(
    ("weights", "first"), [((1, 2, 3), "212012"), ((9, 1), "0000000001"), ((1, 3), "1110"), ((1, 100), "1111111111")]
)
def test_weighted_turns_begin_as_envoys(policy: LbPolicy, weights: tuple[int, ...], first: str) -> None:
    among = hosts(*weights)

    assert picks(balancer(policy, among, lambda: 0.0), among, len(first)) in rotations(first)


@pytest.mark.parametrize("policy", ["ROUND_ROBIN", "LEAST_REQUEST"])
@pytest.mark.parametrize("weights", [(1, 2, 3), (90, 10), (1, 3), (7, 11, 13)])
@pytest.mark.parametrize("start", [0.0, 0.34, 0.99])
def test_weighted_turns_are_spread_evenly_at_any_time(policy: LbPolicy, weights: tuple[int, ...], start: float) -> None:
    """No host gets its turns in a row: it is never further from its share than two turns."""
    among = hosts(*weights)

    picked = picks(balancer(policy, among, lambda: start), among, 500)

    for so_far in range(1, 501):
        fair = [so_far * weight / sum(weights) for weight in weights]
        assert counts(picked[:so_far], len(weights)) == pytest.approx(fair, abs=2)


@pytest.mark.parametrize(
    ("policy", "weights", "number", "expected"),
    [
        ("ROUND_ROBIN", (1, 2, 3), 600, [100, 200, 300]),
        ("ROUND_ROBIN", (90, 10), 500, [450, 50]),
        ("LEAST_REQUEST", (1, 3), 2000, [500, 1500]),
        ("LEAST_REQUEST", (1, 2, 3), 1500, [250, 500, 750]),
    ],
)
def test_weighted_turns_are_exactly_in_proportion(
    policy: LbPolicy, weights: tuple[int, ...], number: int, expected: list[int]
) -> None:
    among = hosts(*weights)

    picked = picks(balancer(policy, among, lambda: 0.0), among, number)

    assert counts(picked, len(weights)) == expected


def test_a_small_weight_beside_a_large_one_gets_its_turn() -> None:
    among = hosts(1, 100)

    assert counts(picks(balancer("ROUND_ROBIN", among, lambda: 0.0), among, 1010), 2) == [10, 1000]


def test_weighted_least_request_gives_a_busy_host_fewer_turns() -> None:
    among = hosts(1, 3)
    among[1].active = 5

    picked = picks(balancer("LEAST_REQUEST", among, lambda: 0.0), among, 900)

    assert counts(picked, 2) == pytest.approx([600, 300], abs=2)


def test_random_ignores_weights() -> None:
    among = hosts(1, 3)

    picked = picks(balancer("RANDOM", among, random.Random(4).random), among, 3000)

    assert fits(counts(picked, 2), (1, 1))
    assert not fits(counts(picked, 2), (1, 3))


@pytest.mark.parametrize("policy", ["LEAST_REQUEST", "ROUND_ROBIN", "RANDOM"])
@pytest.mark.parametrize("chance", [0.0, 0.5, 0.9999999999999999])
def test_a_single_host_is_always_picked(policy: LbPolicy, chance: float) -> None:
    among = hosts(3)

    assert picks(balancer(policy, among, lambda: chance), among, 3) == "000"
