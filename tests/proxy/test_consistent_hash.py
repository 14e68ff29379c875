"""Ring hash and Maglev: shares, and who moves when a host goes. That hosts are Envoy's, the conformance suite shows."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from xxhash import xxh64_intdigest

from meshproxy.proxy.http.message import Request
from meshproxy.proxy.upstream.balancers import load_balancer
from meshproxy.proxy.upstream.host import HealthFlag, Host
from meshproxy.snapshot import Cluster, Locality, LocalityWeight, Maglev, Pipe, RingHash, SocketAddress

from .made import made_request

KEYS = [xxh64_intdigest(b"%d" % number) for number in range(3000)]


def hosts(*weights: int) -> list[Host]:
    return [Host(SocketAddress("192.0.2.1", 8000 + number), weight) for number, weight in enumerate(weights)]


def hashed(key: int | None) -> Request:
    request = made_request()
    request.hash_key = lambda: key
    return request


def found(policy: RingHash | Maglev, among: Sequence[Host], attempt: int = 0, **config: object) -> list[Host | None]:
    """The host of each key."""
    under_test = load_balancer(Cluster("c", (), lb_policy=policy, **config), among, lambda: 0.0, lambda: 0.0)  # type: ignore[arg-type]
    return [under_test.pick(hashed(key), attempt) for key in KEYS]


POLICIES = pytest.mark.parametrize("policy", [RingHash(), RingHash(100_000), Maglev(), Maglev(1009)])


@POLICIES
def test_a_key_stays_where_it_is(policy: RingHash | Maglev) -> None:
    among = hosts(1, 1, 1, 1)
    assert found(policy, among) == found(policy, among)


@pytest.mark.parametrize(
    ("policy", "weights", "remembered"),
    [
        (RingHash(), (1, 1), True),
        (Maglev(), (1, 1), True),
        (RingHash(200_000), (1, 1), False),
        (RingHash(), (1, 999, 1000, 400_000), False),
        (Maglev(262_147), (1, 1), False),
    ],
)
def test_what_was_made_is_remembered_if_it_is_not_large(
    policy: RingHash | Maglev, weights: tuple[int, ...], remembered: bool
) -> None:
    config = Cluster("c", (), lb_policy=policy)
    among = hosts(*weights)
    made: list[Any] = [load_balancer(config, among, lambda: 0.0, lambda: 0.0) for _ in range(2)]
    assert (made[0]._owners is made[1]._owners) == remembered
    assert made[0]._owners == made[1]._owners


@pytest.mark.parametrize("policy", [RingHash(100_000), Maglev()])
@pytest.mark.parametrize("weights", [(1, 1, 1), (1, 2, 5), (100, 1)])
def test_keys_are_spread_by_weight(policy: RingHash | Maglev, weights: tuple[int, ...]) -> None:
    among = hosts(*weights)
    counts = Counter(map(among.index, filter(None, found(policy, among))))
    for number, weight in enumerate(weights):
        assert counts[number] == pytest.approx(len(KEYS) * weight / sum(weights), rel=0.1, abs=30)


@given(number=st.integers(2, 40), data=st.data())
def test_when_a_host_goes_only_its_keys_move_on_a_ring(number: int, data: st.DataObject) -> None:
    """Provided that the others keep as many points as they had: here, one."""
    among = hosts(*[1] * number)
    gone = data.draw(st.sampled_from(among))
    before, after = found(RingHash(1), among), found(RingHash(1), [host for host in among if host is not gone])
    assert all(b is a or b is gone for b, a in zip(before, after, strict=True))


@POLICIES
def test_when_a_host_goes_few_keys_of_others_move(policy: RingHash | Maglev) -> None:
    among = hosts(*[1] * 20)
    before, after = found(policy, among), found(policy, among[1:])
    moved = sum(b is not a for b, a in zip(before, after, strict=True) if b is not among[0])
    assert moved < len(KEYS) * 0.05


@POLICIES
def test_an_ill_host_is_as_one_that_is_gone(policy: RingHash | Maglev) -> None:
    among = hosts(1, 1, 1)
    without = found(policy, [among[0], among[2]])
    among[1].health_flags = HealthFlag.FAILED_OUTLIER_CHECK
    assert found(policy, among) == without


def test_the_order_of_the_hosts_makes_no_difference_to_maglev() -> None:
    among = hosts(1, 2, 3, 4)
    assert found(Maglev(1009), among) == found(Maglev(1009), among[::-1])


@POLICIES
def test_another_attempt_finds_another_host(policy: RingHash | Maglev) -> None:
    among = hosts(*[1] * 10)
    first, second = found(policy, among), found(policy, among, attempt=1)
    assert sum(a is not b for a, b in zip(first, second, strict=True)) > len(KEYS) * 0.8
    assert second == found(policy, among, attempt=1)


@pytest.mark.parametrize("attempt", [1, 2, 5])
def test_another_attempt_at_a_table_is_one_with_most_bits_of_the_hash_turned_as_in_envoy(attempt: int) -> None:
    among = hosts(*[1] * 10)
    table = load_balancer(Cluster("c", (), lb_policy=Maglev()), among, lambda: 0.0, lambda: 0.0)
    turned = [table.pick(hashed(key ^ (2**64 - attempt))) for key in KEYS]
    assert [table.pick(hashed(key), attempt) for key in KEYS] == turned


@POLICIES
def test_one_host_has_all_keys_and_none_has_none(policy: RingHash | Maglev) -> None:
    [only] = hosts(3)
    assert set(found(policy, [only])) == {only}
    assert set(found(policy, [])) == {None}


@POLICIES
def test_a_request_without_a_key_goes_anywhere(policy: RingHash | Maglev) -> None:
    among = hosts(1, 1, 1)
    under_test = load_balancer(Cluster("c", (), lb_policy=policy), among, random.Random(1).random, lambda: 0.0)
    for request in (hashed(None), made_request()):
        assert {under_test.pick(request) for _ in range(200)} == set(among)


def test_a_unix_socket_is_hashed_by_its_path() -> None:
    among = [Host(Pipe("/tmp/a")), Host(Pipe("/tmp/b"))]
    ring = sorted((xxh64_intdigest(b"/tmp/%b_%d" % (name, n)), name) for name in (b"a", b"b") for n in range(512))
    expected = [next((name for point, name in ring if point >= key), ring[0][1]) for key in KEYS[:50]]
    assert [host and str(host.address)[-1].encode() for host in found(RingHash(), among)[:50]] == expected


@POLICIES
def test_localities_have_their_weights(policy: RingHash | Maglev) -> None:
    among = hosts(1, 1, 1, 1)
    for host in among[1:]:
        host.locality = Locality("far")
    weights = (LocalityWeight(Locality(), 0, 3), LocalityWeight(Locality("far"), 0, 1))
    counts = Counter(map(among.index, filter(None, found(policy, among, locality_weights=weights))))
    assert counts[0] == pytest.approx(len(KEYS) * 3 / 4, rel=0.1)


@POLICIES
def test_localities_without_any_weight_have_no_hosts(policy: RingHash | Maglev) -> None:
    weights = (LocalityWeight(Locality("else"), 0, 1),)
    assert set(found(policy, hosts(1, 1), locality_weights=weights)) == {None}


@POLICIES
def test_a_key_keeps_its_priority(policy: RingHash | Maglev) -> None:
    """The hash decides on the priority too: where two share the requests, a key does not go to and fro."""
    among = hosts(1, 1, 1, 1)
    among[0].health_flags = HealthFlag.FAILED_ACTIVE_HC
    for host in among[2:]:
        host.priority = 1
    first = found(policy, among)
    assert first == found(policy, among)
    assert Counter(host and host.priority for host in first)[0] == pytest.approx(len(KEYS) * 0.7, rel=0.1)
