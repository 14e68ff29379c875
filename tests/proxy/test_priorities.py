"""Which hosts serve: their health, their priority, and the panic threshold, in the numbers of Envoy's documentation."""

from __future__ import annotations

import random
from collections import Counter

import pytest

from meshproxy.proxy.upstream.balancers import load_balancer
from meshproxy.proxy.upstream.balancers.priorities import shares
from meshproxy.proxy.upstream.host import HealthFlag, Host
from meshproxy.snapshot import Cluster, OutlierDetection, SocketAddress

from .chi_squared import fits
from .made import made_request


def host_set(healthy: int, unhealthy: int = 0, priority: int = 0) -> list[Host]:
    hosts = [Host(SocketAddress(f"192.0.2.{priority}", 8000 + number)) for number in range(healthy + unhealthy)]
    for host in hosts:
        host.priority = priority
    for host in hosts[healthy:]:
        host.health_flags = HealthFlag.FAILED_OUTLIER_CHECK
    return hosts


def percents(*healthy: int, panic_threshold: float = 0) -> list[int]:
    """The percents of priorities of 100 hosts, of which as many are healthy."""
    found = shares([host_set(well, 100 - well) for well in healthy], panic_threshold)
    return [share.percent for share in found]


@pytest.mark.parametrize(
    ("healthy", "expected"),
    [
        ((100, 100), [100, 0]),
        ((72, 72), [100, 0]),
        ((71, 71), [99, 1]),
        ((50, 50), [70, 30]),
        ((25, 100), [35, 65]),
        ((25, 25), [50, 50]),
        ((0, 100), [0, 100]),
        ((0, 1), [0, 100]),
        ((100,), [100]),
        ((1,), [100]),
        ((25, 25, 25), [35, 35, 30]),
        ((20, 20, 10), [40, 40, 20]),
        ((0, 0), [100, 0]),
    ],
)
def test_a_priority_takes_what_its_healthy_hosts_can_bear(healthy: tuple[int, ...], expected: list[int]) -> None:
    assert percents(*healthy) == expected


@pytest.mark.parametrize(
    ("healthy", "expected"),
    [
        ((72, 72), [(100, False), (0, False)]),
        ((49, 100), [(68, False), (32, False)]),  # enough hosts in all: nobody panics
        ((60, 5), [(93, False), (7, True)]),
        ((5, 60), [(8, True), (92, False)]),
        ((5, 5), [(50, True), (50, True)]),
        ((0, 0), [(50, True), (50, True)]),
        ((0,), [(100, True)]),
        ((49,), [(100, True)]),
        ((50,), [(100, False)]),
    ],
)
def test_below_the_panic_threshold_all_hosts_of_a_priority_serve(
    healthy: tuple[int, ...], expected: list[tuple[int, bool]]
) -> None:
    assert shares([host_set(well, 100 - well) for well in healthy], 50) == expected


def test_the_panic_threshold_is_rounded_to_whole_percents() -> None:
    assert [shares([host_set(49, 51)], threshold)[0].panic for threshold in (49.4, 49.6)] == [False, True]


def test_when_all_panic_a_priority_gets_what_its_hosts_make_of_all() -> None:
    assert shares([host_set(0, 1), host_set(0, 2)], 50) == [(34, True), (66, True)]


def test_a_priority_without_hosts_is_passed_over() -> None:
    assert [share.percent for share in shares([[], host_set(1)], 0)] == [0, 100]
    assert shares([[], host_set(0, 1)], 50) == [(0, True), (100, True)]


def picked(hosts: list[Host], panic_threshold: float = 0, count: int = 1000) -> Counter[int]:
    """How often each host was picked, by its place in the list."""
    config = Cluster("c", (), lb_policy="RANDOM", healthy_panic_threshold=panic_threshold)
    under_test = load_balancer(config, hosts, random.Random(1).random, lambda: 0.0)
    request = made_request()
    return Counter(hosts.index(host) for _ in range(count) if (host := under_test.pick(request)) is not None)


def test_only_healthy_hosts_are_picked() -> None:
    assert picked(host_set(2, 3)).keys() == {0, 1}


def test_without_a_healthy_host_nobody_is_picked() -> None:
    assert picked(host_set(0, 3)) == {}
    assert picked([]) == {}


def test_one_healthy_host_of_very_many_is_found() -> None:
    """1 of 200, times 1.4, is no whole percent."""
    assert picked(host_set(1, 199)) == {0: 1000}


def test_in_panic_all_hosts_are_picked() -> None:
    assert picked(host_set(1, 3), panic_threshold=50).keys() == {0, 1, 2, 3}


def test_priorities_get_their_shares() -> None:
    hosts = host_set(1, 1, priority=0) + host_set(1, priority=1)

    found = picked(hosts, count=2000)

    assert fits([found[0], found[2]], (70, 30))
    assert found[1] == 0


def test_a_priority_stands_by_until_it_is_needed() -> None:
    first, second = host_set(2, priority=0), host_set(2, priority=1)

    assert picked(first + second).keys() == {0, 1}
    for host in first:
        host.health_flags = HealthFlag.FAILED_ACTIVE_HC
    assert picked(first + second).keys() == {2, 3}


@pytest.mark.parametrize(
    ("panic_threshold", "serving"),
    [
        (0, {8000}),
        (50, {8000}),  # one of the two that pass is healthy
        (51, {8000, 8001}),
    ],
)
def test_when_outlier_detection_panics_hosts_that_fail_their_health_checks_are_as_good_as_not_there(
    panic_threshold: float, serving: set[int]
) -> None:
    hosts = host_set(1, 3)
    for host in hosts[2:]:
        host.health_flags = HealthFlag.FAILED_ACTIVE_HC
    config = Cluster("c", (), healthy_panic_threshold=panic_threshold, outlier_detection=OutlierDetection())
    balancer = load_balancer(config, hosts, random.Random(7).random, lambda: 0.0)
    assert {port_of(balancer.pick(made_request())) for _ in range(100)} == serving


def test_without_anybody_who_passes_there_is_no_panic() -> None:
    [host] = host_set(1)
    host.health_flags = HealthFlag.FAILED_ACTIVE_HC
    config = Cluster("c", (), healthy_panic_threshold=100, outlier_detection=OutlierDetection())
    assert load_balancer(config, [host], random.Random(7).random, lambda: 0.0).pick(made_request()) is None


def port_of(host: Host | None) -> int:
    assert host is not None and isinstance(host.address, SocketAddress)
    return host.address.port
