"""The balancer of a cluster: priorities, and in each of them a policy for the hosts that serve."""

from __future__ import annotations

from collections.abc import Sequence

from ....snapshot import Cluster
from ..host import Host
from .balancer import Balancer, Chance, NoHosts
from .policies import LeastRequest, Random, RoundRobin, WeightedLeastRequest, WeightedRoundRobin
from .priorities import Priorities, shares


def load_balancer(config: Cluster, hosts: Sequence[Host], chance: Chance) -> Balancer:
    """The balancer for hosts as they are now. It holds only what the configuration and the hosts ask for."""
    host_sets: list[list[Host]] = [[] for _ in range(max((host.priority for host in hosts), default=0) + 1)]
    for host in hosts:
        host_sets[host.priority].append(host)
    parts = [
        (share.percent, _policy(config, [host for host in host_set if share.panic or host.healthy], chance))
        for share, host_set in zip(shares(host_sets, config.healthy_panic_threshold), host_sets, strict=True)
        if share.percent
    ]
    return parts[0][1] if len(parts) == 1 else Priorities(parts, chance)


def _policy(config: Cluster, hosts: Sequence[Host], chance: Chance) -> Balancer:
    if not hosts:
        return NoHosts()
    weighted = len({host.weight for host in hosts}) > 1
    match config.lb_policy:
        case "LEAST_REQUEST":
            return WeightedLeastRequest(hosts, chance) if weighted else LeastRequest(hosts, chance)
        case "ROUND_ROBIN":
            return WeightedRoundRobin(hosts, chance) if weighted else RoundRobin(hosts, chance)
        case "RANDOM":
            return Random(hosts, chance)
