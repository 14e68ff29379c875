"""Which hosts are outliers, for how long they are ejected, and how many at a time: Envoy 1.40's answers, measured."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from meshproxy.proxy.upstream.host import HealthFlag, Host
from meshproxy.proxy.upstream.outliers import Outlier, OutlierDetector
from meshproxy.snapshot import OutlierDetection, SocketAddress

FIVES = Outlier.CONSECUTIVE_5XX
GATEWAY = Outlier.CONSECUTIVE_GATEWAY_FAILURE
LOCAL = Outlier.CONSECUTIVE_LOCAL_ORIGIN_FAILURE

NOT_REACHED = "not reached"
BROKEN_OFF = "broken off"
Outcome = int | str | bytes


def hosts(count: int) -> list[Host]:
    return [Host(SocketAddress("192.0.2.1", 8000 + number)) for number in range(count)]


def seen(detector: OutlierDetector, host: Host, outcome: Outcome) -> Sequence[Outlier]:
    """What one request tells: a status, of gRPC if it is bytes, or how it failed."""
    if isinstance(outcome, int):
        return detector.answered(host, outcome)
    if isinstance(outcome, bytes):
        return detector.called(host, outcome)
    return detector.failed(host, connected=outcome == BROKEN_OFF)


def carried_out(detector: OutlierDetector, host: Host, outcome: Outcome, all_hosts: list[Host], now: float) -> None:
    """As a cluster does: the host is ejected for the first reason for which it may be."""
    for reason in seen(detector, host, outcome):
        detector.eject(host, reason, all_hosts, now)


def ejected_after(*outcomes: Outcome, **config: Any) -> int | None:
    """With how many of these outcomes a cluster's only host is ejected, if it is at all."""
    detector = OutlierDetector(OutlierDetection(**{"max_ejection_percent": 100, **config}))
    [host] = only = hosts(1)
    for number, outcome in enumerate(outcomes, 1):
        carried_out(detector, host, outcome, only, 0.0)
        if host.ejected:
            return number
    return None


GATEWAY_2: dict[str, Any] = {"consecutive_5xx": 0, "consecutive_gateway_failure": 2}
SPLIT_2: dict[str, Any] = {
    "consecutive_5xx": 1,
    "split_external_local_origin_errors": True,
    "consecutive_local_origin_failure": 2,
}


@pytest.mark.parametrize(
    ("config", "outcomes", "expected"),
    [
        # By default five in a row, whatever 5xx they are.
        ({}, (500, 501, 502, 503), None),
        ({}, (500, 501, 502, 503, 504), 5),
        ({}, (500, 500, 500, 500, 200, 500, 500, 500, 500, 500), 10),
        ({}, (500, 500, 500, 500, 404, 500), None),
        ({}, (NOT_REACHED, 500, BROKEN_OFF, 500, NOT_REACHED), 5),
        ({"consecutive_5xx": 0}, (500,) * 20, None),
        # Gateway failures are 502, 503, 504, and our own failures; another 5xx is no success and yet breaks the row.
        (GATEWAY_2, (500,) * 4, None),
        (GATEWAY_2, (503, 500, 503, 504), 4),
        (GATEWAY_2, (502, 503), 2),
        (GATEWAY_2, (BROKEN_OFF, BROKEN_OFF), 2),
        (GATEWAY_2, (NOT_REACHED, NOT_REACHED), 2),
        (GATEWAY_2, (503, 200, 503), None),
        # Split: what the host says, and whether it can be reached, are two rows; one that was reached begins anew.
        (SPLIT_2, (NOT_REACHED, NOT_REACHED), 2),
        (SPLIT_2, (NOT_REACHED, 200, NOT_REACHED), None),
        (SPLIT_2, (BROKEN_OFF,) * 4, None),
        (SPLIT_2 | {"consecutive_local_origin_failure": 1}, (BROKEN_OFF,), 1),
        (SPLIT_2, (NOT_REACHED, 500), 2),
        (SPLIT_2 | {"consecutive_5xx": 2}, (NOT_REACHED, 500, NOT_REACHED, 500), 4),
        (GATEWAY_2 | {"split_external_local_origin_errors": True}, (500,) * 4, None),
        # Codes: these and no others are failures; one below 500 counts as a 500.
        ({"error_codes": (404,), "consecutive_5xx": 2}, (404, 404), 2),
        ({"error_codes": (404,), "consecutive_5xx": 2}, (503, 503, 503), None),
        ({"error_codes": (404,), "consecutive_5xx": 2}, (404, 503, 404), None),
        ({"error_codes": (404,), "consecutive_5xx": 2}, (NOT_REACHED, NOT_REACHED), 2),
        (GATEWAY_2 | {"error_codes": (404,)}, (404,) * 4, None),
        (GATEWAY_2 | {"error_codes": (503, 404)}, (503, 503), 2),
        (SPLIT_2 | {"error_codes": (429,)}, (NOT_REACHED, 429), 2),
        # Statuses of gRPC, by what they come to in HTTP; codes are for HTTP's own.
        ({"consecutive_5xx": 2}, (b"14", b"13"), 2),
        ({"consecutive_5xx": 2}, (b"2", b"12", b"15"), 2),
        ({"consecutive_5xx": 1}, tuple(b"0 1 3 5 6 7 8 9 10 11 16".split()), None),
        ({"consecutive_5xx": 2}, (b"14", b"0", b"14", 500), 4),
        ({"consecutive_5xx": 1}, (b"17",), 1),
        ({"consecutive_5xx": 1}, (b"-1",), 1),
        ({"consecutive_5xx": 1}, (b"9" * 5000,), 1),
        (GATEWAY_2, (b"13", b"14", b"2", b"4", b"14"), 5),
        (SPLIT_2, (NOT_REACHED, b"0", NOT_REACHED), None),
        (SPLIT_2 | {"consecutive_5xx": 0}, (NOT_REACHED, b"14", NOT_REACHED), None),
        ({"error_codes": (404,), "consecutive_5xx": 2}, (b"5", b"5", b"14", b"14"), 4),
    ],
)
def test_a_host_is_ejected_after_as_many_failures_in_a_row(
    config: dict[str, Any], outcomes: tuple[Outcome, ...], expected: int | None
) -> None:
    assert ejected_after(*outcomes, **config) == expected


def test_of_two_reasons_at_once_gateway_failures_come_first() -> None:
    detector = OutlierDetector(OutlierDetection(consecutive_5xx=1, consecutive_gateway_failure=1))
    [host] = hosts(1)
    assert detector.answered(host, 503) == [GATEWAY, FIVES]


@pytest.mark.parametrize(
    ("count", "percent", "ejected"),
    [(1, 10, 0), (5, 10, 0), (10, 10, 1), (19, 10, 1), (2, 50, 1), (3, 34, 1), (3, 33, 0), (1, 100, 1), (4, 100, 4)],
)
def test_no_more_are_ejected_than_the_percentage_allows_not_even_the_first(
    count: int, percent: int, ejected: int
) -> None:
    detector = OutlierDetector(OutlierDetection(consecutive_5xx=1, max_ejection_percent=percent))
    members = hosts(count)
    for host in members:
        carried_out(detector, host, 500, members, 0.0)
    assert sum(host.ejected for host in members) == ejected
    assert detector.stats.overflow == count - ejected
    assert detector.stats.detected == {"consecutive_5xx": count}
    assert detector.stats.enforced.total() == ejected


def test_one_that_could_not_be_ejected_has_to_fail_as_often_again() -> None:
    detector = OutlierDetector(OutlierDetection(consecutive_5xx=2, max_ejection_percent=50))
    one, other = members = hosts(2)
    for outcome in (500, 500):
        carried_out(detector, one, outcome, members, 0.0)
        carried_out(detector, other, outcome, members, 0.0)
    assert (one.ejected, other.ejected) == (True, False)
    detector.sweep(members, 30.0)
    assert detector.answered(other, 500) == []
    assert detector.answered(other, 500) == [FIVES]


def test_answers_that_were_under_way_change_nothing_for_one_that_is_ejected() -> None:
    detector = OutlierDetector(OutlierDetection(consecutive_5xx=1, max_ejection_percent=100))
    [host] = only = hosts(1)
    carried_out(detector, host, 500, only, 0.0)
    carried_out(detector, host, 200, only, 20.0)
    carried_out(detector, host, 500, only, 20.0)
    assert detector.stats.enforced == {"consecutive_5xx": 1}
    assert detector.stats.detected == {"consecutive_5xx": 1}
    assert detector.sweep(only, 30.0) == [host]


def test_one_that_has_left_the_cluster_is_not_ejected() -> None:
    detector = OutlierDetector(OutlierDetection(consecutive_5xx=1, max_ejection_percent=100))
    [host] = hosts(1)
    host.remove()
    assert not detector.eject(host, FIVES, [], 0.0)
    assert not detector.stats.detected


def ejected_times(detector: OutlierDetector, host: Host, gaps_s: Sequence[float], step_s: float) -> list[float]:
    """For how long a host is ejected each time, when it fails again so long after it has returned."""
    now, times = 0.0, []
    for gap in gaps_s:
        for _ in range(round(gap / step_s)):
            now += step_s
            detector.sweep([host], now)
        carried_out(detector, host, 500, [host], now)
        since = now
        while host.ejected:
            now += step_s
            detector.sweep([host], now)
        times.append(now - since)
    return times


@pytest.mark.parametrize(
    ("gaps_s", "expected"),
    [
        ((0, 0, 0, 0), [30, 60, 90, 120]),
        ((0,) * 12, [30, 60, 90, 120, 150, 180, 210, 240, 270, 300, 300, 300]),
        # Every sweep at least an interval after its return takes one off.
        ((0, 10), [30, 30]),
        ((0, 0, 0, 10), [30, 60, 90, 90]),
        ((0, 0, 0, 20), [30, 60, 90, 60]),
        ((0, 0, 0, 500, 0), [30, 60, 90, 30, 60]),
        # However often it was ejected, good times count from little more than the most.
        ((*(0,) * 20, 50), [*range(30, 300, 30), *[300] * 11, 210]),
    ],
)
def test_an_ejection_takes_longer_each_time_and_less_long_again_after_good_times(
    gaps_s: Sequence[float], expected: list[float]
) -> None:
    detector = OutlierDetector(OutlierDetection(consecutive_5xx=1, max_ejection_percent=100))
    [host] = hosts(1)
    assert ejected_times(detector, host, gaps_s, step_s=10.0) == expected


def test_a_base_time_above_the_most_is_the_most() -> None:
    config = OutlierDetection(
        consecutive_5xx=1, base_ejection_time_s=400, max_ejection_time_s=400, max_ejection_percent=100
    )
    [host] = hosts(1)
    assert ejected_times(OutlierDetector(config), host, (0, 0, 0), step_s=10.0) == [400, 400, 400]


def test_one_returns_at_a_sweep_and_not_before_its_time() -> None:
    detector = OutlierDetector(OutlierDetection(consecutive_5xx=1, max_ejection_percent=100))
    one, other = members = hosts(2)
    carried_out(detector, one, 500, members, 5.0)
    carried_out(detector, other, 500, members, 15.0)
    assert detector.sweep(members, 34.9) == []
    assert detector.sweep(members, 35.0) == [one]
    assert (one.ejected, other.ejected) == (False, True)


def test_one_that_returns_is_forgiven_but_not_for_other_reasons() -> None:
    config = OutlierDetection(consecutive_5xx=3, consecutive_gateway_failure=2, max_ejection_percent=100)
    detector = OutlierDetector(config)
    [host] = only = hosts(1)
    host.set_flag(HealthFlag.FAILED_ACTIVE_HC, True)
    for _ in range(2):
        carried_out(detector, host, 503, only, 0.0)
    assert detector.sweep(only, 30.0) == [host]
    assert host.health_flags == HealthFlag.FAILED_ACTIVE_HC
    assert detector.answered(host, 503) == []
    assert detector.answered(host, 500) == []


OUTCOMES = st.sampled_from([200, 200, 404, 500, 503, NOT_REACHED, BROKEN_OFF])
STEPS = st.lists(st.tuples(st.integers(0, 4), OUTCOMES, st.sampled_from([0.0, 1.0, 7.0])), max_size=150)
CONFIGS = st.builds(
    OutlierDetection,
    consecutive_5xx=st.integers(0, 3),
    consecutive_gateway_failure=st.integers(0, 3),
    split_external_local_origin_errors=st.booleans(),
    consecutive_local_origin_failure=st.integers(1, 3),
    error_codes=st.sampled_from([(), (404,)]),
    base_ejection_time_s=st.sampled_from([3.0, 30.0]),
    max_ejection_percent=st.integers(0, 100),
)


@given(CONFIGS, st.integers(1, 5), STEPS)
def test_whatever_happens_the_percentage_holds_and_everyone_returns_in_time(
    config: OutlierDetection, count: int, steps: list[tuple[int, Outcome, float]]
) -> None:
    detector = OutlierDetector(config)
    members = hosts(count)
    now = 0.0
    for number, outcome, passed in steps:
        host = members[number % count]
        before = host.outlier.ejections
        carried_out(detector, host, outcome, members, now)
        assert 100 * sum(one.ejected for one in members) <= config.max_ejection_percent * count
        assert host.outlier.ejections in (before, before + 1)
        assert detector.ejection_time_s(host) <= min(
            host.outlier.ejections * config.base_ejection_time_s, config.max_ejection_time_s
        )
        now += passed
        for one in detector.sweep(members, now):
            assert now - one.outlier.ejected_at >= config.base_ejection_time_s
        for one in members:
            assert not one.ejected or now - one.outlier.ejected_at < detector.ejection_time_s(one)
    detector.sweep(members, now + config.max_ejection_time_s)
    assert not any(one.ejected for one in members)


@given(CONFIGS, st.lists(st.integers(200, 399), max_size=50))
def test_a_host_that_answers_well_is_never_an_outlier(config: OutlierDetection, statuses: list[int]) -> None:
    detector = OutlierDetector(config)
    [host] = hosts(1)
    assert not any(detector.answered(host, status) for status in statuses)
    assert not host.outlier.failing
