"""The balancer of a cluster: priorities, in each of them localities if they have weights, and in each of these a policy
for the hosts that serve. It holds only what the configuration and the hosts ask for.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

from ....snapshot import Cluster, Maglev, RingHash
from ..host import HealthFlag, Host
from .balancer import Balancer, Chance, Clock, NoHosts
from .consistent_hash import HashOf, MaglevTable, Ring, hash_of
from .localities import Localities, effective_weight, host_weights, parts, shared_weights
from .policies import LeastRequest, Random, RoundRobin, Weighted, weight, weight_by_load
from .priorities import Priorities, shares
from .slow_start import any_warming, warming


def load_balancer(config: Cluster, hosts: Sequence[Host], chance: Chance, clock: Clock) -> Balancer:
    """The balancer for hosts as they are now.

    Where outlier detection may panic, hosts that fail their health checks are as good as not there, as in Istio: it is
    those that are ejected which may be better than none.
    """
    if config.outlier_detection is not None and config.healthy_panic_threshold:
        hosts = [host for host in hosts if HealthFlag.FAILED_ACTIVE_HC not in host.health_flags]
    if isinstance(config.lb_policy, RingHash | Maglev):
        key = hash_of(chance)
        compose = partial(_by_hash, config, key)
    else:
        key = None
        compose = partial(_by_host, config, chance, clock)
    host_sets: list[list[Host]] = [[] for _ in range(max((host.priority for host in hosts), default=0) + 1)]
    for host in hosts:
        host_sets[host.priority].append(host)
    balancers = [
        (share.percent, compose(priority, host_set, share.panic))
        for priority, (share, host_set) in enumerate(
            zip(shares(host_sets, config.healthy_panic_threshold), host_sets, strict=True)
        )
        if share.percent
    ]
    if len(balancers) == 1:
        return balancers[0][1]
    return Priorities(balancers, lambda request: int(chance() * 100) if key is None else key(request) % 100)


def _by_hash(config: Cluster, key: HashOf, priority: int, hosts: Sequence[Host], panic: bool) -> Balancer:
    if config.locality_weights:
        weights = shared_weights(parts(config, priority, hosts, panic))
    else:
        weights = host_weights(_serving(hosts, panic))
    if not weights:
        return NoHosts()
    if isinstance(config.lb_policy, RingHash):
        return Ring(config.lb_policy, weights, key)
    assert isinstance(config.lb_policy, Maglev)
    return MaglevTable(config.lb_policy, weights, key)


def _by_host(
    config: Cluster, chance: Chance, clock: Clock, priority: int, hosts: Sequence[Host], panic: bool
) -> Balancer:
    if config.locality_weights and not panic:
        localities = [
            (effective, _policy(config, part.serving, chance, clock))
            for part in parts(config, priority, hosts, panic)
            if (effective := effective_weight(part))
        ]
        if localities:
            return localities[0][1] if len(localities) == 1 else Localities(localities, chance)
    return _policy(config, _serving(hosts, panic), chance, clock)


def _serving(hosts: Sequence[Host], panic: bool) -> list[Host]:
    return [host for host in hosts if panic or host.healthy]


def _policy(config: Cluster, hosts: Sequence[Host], chance: Chance, clock: Clock) -> Balancer:
    if not hosts:
        return NoHosts()
    if config.lb_policy == "RANDOM":
        return Random(hosts, chance)
    by_load = config.lb_policy == "LEAST_REQUEST"
    of_host = weight_by_load if by_load else weight
    if config.slow_start is not None and any_warming(hosts, config.slow_start, clock):
        return Weighted(hosts, warming(of_host, config.slow_start, clock), chance)
    if len({host.weight for host in hosts}) > 1:
        return Weighted(hosts, of_host, chance)
    return LeastRequest(hosts, chance) if by_load else RoundRobin(hosts, chance)
