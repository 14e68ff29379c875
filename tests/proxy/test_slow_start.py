"""New hosts get their share little by little."""

from __future__ import annotations

import pytest

from meshproxy.proxy.upstream.balancers import load_balancer
from meshproxy.proxy.upstream.cluster import Cluster
from meshproxy.proxy.upstream.host import Host
from meshproxy.snapshot import Cluster as ClusterConfig
from meshproxy.snapshot import Endpoint, HealthCheck, LbPolicy, SlowStart, SocketAddress, TcpProbe
from meshproxy.telemetry.metrics import ClusterStats

from .made import made_request

OLD, NEW = SocketAddress("192.0.2.1", 1), SocketAddress("192.0.2.1", 2)


class FakeClock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def share_of_new(config: SlowStart, age: float, policy: LbPolicy = "ROUND_ROBIN", weight: int = 1) -> float:
    """What part of the requests a host gets beside an old one of weight 1, at an age."""
    clock = FakeClock()
    hosts = [Host(OLD), Host(NEW, weight, healthy_since=clock.now - age)]
    under_test = load_balancer(ClusterConfig("c", (), lb_policy=policy, slow_start=config), hosts, lambda: 0.0, clock)
    request = made_request()
    return sum(under_test.pick(request) is hosts[1] for _ in range(11_000)) / 11_000


@pytest.mark.parametrize("policy", ["ROUND_ROBIN", "LEAST_REQUEST"])
@pytest.mark.parametrize(
    ("config", "age", "factor"),
    [
        (SlowStart(10), 0, 0.1),
        (SlowStart(10), 0.5, 0.1),
        (SlowStart(10), 5, 0.5),
        (SlowStart(10), 10, 1.0),
        (SlowStart(10, min_weight_percent=0), 0.1, 0.01),
        (SlowStart(10, min_weight_percent=40), 1, 0.4),
        (SlowStart(10, aggression=2), 2.5, 0.5),
        (SlowStart(10, aggression=0.5), 5, 0.25),
    ],
)
def test_a_new_host_has_a_part_of_its_weight(policy: LbPolicy, config: SlowStart, age: float, factor: float) -> None:
    assert share_of_new(config, age, policy) == pytest.approx(factor / (1 + factor), abs=0.002)


def test_after_its_window_a_host_is_like_any_other() -> None:
    assert share_of_new(SlowStart(10), 100) == 0.5


def test_it_is_a_part_of_the_hosts_own_weight() -> None:
    assert share_of_new(SlowStart(10), 5, weight=4) == pytest.approx(2 / 3, abs=0.002)


def test_a_host_that_joins_warms_up_and_those_that_are_there_do_not_again() -> None:
    clock = FakeClock()
    config = ClusterConfig("c", (Endpoint(OLD),), lb_policy="ROUND_ROBIN", slow_start=SlowStart(60))
    cluster = Cluster(config, ClusterStats("c"), lambda: 0.0, clock)
    clock.now += 100

    cluster.update_hosts([Endpoint(OLD), Endpoint(NEW)])
    cluster.refresh()

    assert [host.healthy_since for host in cluster.hosts] == [1000, 1100]
    picked = [cluster._balancer.pick(made_request()) for _ in range(110)]
    assert picked.count(cluster.hosts[1]) == pytest.approx(10, abs=1)


def test_hosts_that_are_all_new_share_evenly() -> None:
    clock = FakeClock()
    config = ClusterConfig("c", (Endpoint(OLD), Endpoint(NEW)), lb_policy="ROUND_ROBIN", slow_start=SlowStart(60))
    cluster = Cluster(config, ClusterStats("c"), lambda: 0.0, clock)

    picked = [cluster._balancer.pick(made_request()) for _ in range(100)]

    assert picked.count(cluster.hosts[0]) == 50


def test_a_host_whose_health_check_passes_after_it_has_failed_begins_anew() -> None:
    clock, check = FakeClock(), HealthCheck(TcpProbe(OLD))
    cluster = Cluster(ClusterConfig("c", (Endpoint(OLD, health_check=check),)), ClusterStats("c"), lambda: 0.0, clock)
    for healthy in (True, True, False, True, True):
        clock.now += 100
        cluster.health_checked(check, healthy)
    assert [host.healthy_since for host in cluster.hosts] == [1400]
