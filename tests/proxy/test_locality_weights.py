"""Localities with weights: how requests are spread over them, in good health and in bad."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Sequence

import pytest

from meshproxy.proxy.upstream.balancers import load_balancer
from meshproxy.proxy.upstream.host import HealthFlag, Host
from meshproxy.snapshot import Cluster, LbPolicy, Locality, LocalityWeight, SocketAddress

from .made import made_request

EAST, WEST = Locality("east"), Locality("west")


def hosts(east: int, west: int, ill: Sequence[int] = ()) -> list[Host]:
    made = [Host(SocketAddress("192.0.2.1", 8000 + number)) for number in range(east + west)]
    for number, host in enumerate(made):
        host.locality = EAST if number < east else WEST
        if number in ill:
            host.health_flags = HealthFlag.FAILED_OUTLIER_CHECK
    return made


def shares(
    among: list[Host], east: int, west: int, policy: LbPolicy = "ROUND_ROBIN", panic_threshold: float = 0
) -> dict[Locality, float]:
    """What part of the requests each locality gets."""
    config = Cluster(
        "c",
        (),
        lb_policy=policy,
        locality_weights=(LocalityWeight(EAST, 0, east), LocalityWeight(WEST, 0, west)),
        healthy_panic_threshold=panic_threshold,
    )
    under_test = load_balancer(config, among, random.Random(1).random, lambda: 0.0)
    request = made_request()
    counts = Counter(host.locality for _ in range(2000) if (host := under_test.pick(request)) is not None)
    return {locality: count / 2000 for locality, count in counts.items()}


@pytest.mark.parametrize("policy", ["ROUND_ROBIN", "LEAST_REQUEST", "RANDOM"])
def test_a_locality_has_its_weight_however_many_hosts_it_has(policy: LbPolicy) -> None:
    assert shares(hosts(1, 9), 3, 1, policy) == {EAST: 0.75, WEST: 0.25}


def test_a_locality_with_weight_0_has_no_requests() -> None:
    assert shares(hosts(1, 1), 0, 1) == {WEST: 1.0}


def test_where_no_locality_has_any_weight_there_are_no_localities() -> None:
    assert shares(hosts(1, 3), 0, 0) == {EAST: 0.25, WEST: 0.75}


def test_a_locality_bears_some_loss_and_then_gets_less() -> None:
    """7 of 10 healthy hosts, times 1.4, are 98 percent of 10; 5 of 10 are 70."""
    assert shares(hosts(10, 10, ill=(0, 1)), 1, 1) == pytest.approx({EAST: 0.5, WEST: 0.5}, abs=0.001)
    assert shares(hosts(10, 10, ill=(0, 1, 2, 3, 4)), 1, 1) == pytest.approx(
        {EAST: 0.7 / 1.7, WEST: 1 / 1.7}, abs=0.001
    )
    assert shares(hosts(2, 1, ill=(0, 1)), 9, 1) == {WEST: 1.0}


def test_in_panic_localities_have_no_weights() -> None:
    assert shares(hosts(1, 3, ill=(0, 1, 2)), 9, 1, panic_threshold=50) == {EAST: 0.25, WEST: 0.75}


def test_hosts_of_a_locality_take_turns() -> None:
    among = hosts(2, 2)
    config = Cluster("c", (), lb_policy="ROUND_ROBIN", locality_weights=(LocalityWeight(EAST, 0, 1),))
    under_test = load_balancer(config, among, lambda: 0.0, lambda: 0.0)
    request = made_request()
    assert [under_test.pick(request) for _ in range(4)] == [among[0], among[1], among[0], among[1]]
