"""Where endpoints are, and what that makes of them for a proxy that is somewhere itself: priorities and weights.

Source: Istio's `loadbalancer.go`. From there:

- Priorities, and so failover, exist only where outlier detection does: without it no endpoint is ever known to be ill.
  Where it does, they exist unless `localityLbSetting.enabled` is false, and without any setting too.
- `distribute` needs none, and leaves out all endpoints of localities that it does not name.
- A setting for zones keeps requests in the proxy's region; it needs no outlier detection. Within the region Istio's
  proxies prefer their own zone only where they know of each other (`ENABLE_SELF_DISCOVERY`, off by default); here they
  never do.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from math import ceil
from typing import NamedTuple

from ..resources import (
    Distribute,
    Failover,
    LoadBalancerSettings,
    LocalityLoadBalancerSetting,
    ZoneAwareLoadBalancerSetting,
)
from ..snapshot import UNKNOWN_LOCALITY, Endpoint, Locality, LocalityWeight
from .registry import ServiceEndpoint
from .workloads import NETWORK_LABEL, locality_of, topology_labels


@dataclass(frozen=True, slots=True)
class Whereabouts:
    """Where a proxy is. `labels` are its workload's, those included that tell its place."""

    locality: Locality
    labels: Mapping[str, str]

    @classmethod
    def of(cls, labels: Mapping[str, str], locality: Locality = UNKNOWN_LOCALITY) -> Whereabouts:
        """Of a proxy whose workload has `labels`."""
        return cls(locality, {**labels, **topology_labels(locality)})


class Placed(NamedTuple):
    """Endpoints with their priorities, those of one locality and priority together, and the weights of localities."""

    endpoints: tuple[Endpoint, ...]
    weights: tuple[LocalityWeight, ...] = ()


def placed(
    endpoints: Sequence[ServiceEndpoint], settings: LoadBalancerSettings | None, here: Whereabouts, ejects: bool
) -> Placed:
    """The endpoints as a proxy sees them from where it is. `ejects`: outlier detection is on."""
    by_zone = settings.zone_aware_lb_setting if settings else None
    by_locality = settings.locality_lb_setting if settings else None
    if by_zone is not None:
        return Placed(_ranked(endpoints, _same if by_zone.enabled is False else _rank_by_region(by_zone, here)))
    if by_locality is None:
        return Placed(_ranked(endpoints, _rank(LocalityLoadBalancerSetting(), here) if ejects else _same))
    if by_locality.enabled is False:
        return Placed(_ranked(endpoints, _same))
    if by_locality.distribute:
        return _distributed(endpoints, by_locality.distribute, here.locality)
    if not ejects:
        return Placed(_ranked(endpoints, _same))
    found = _ranked(endpoints, _rank(by_locality, here))
    return Placed(found, _weights(found) if by_locality.failover or by_locality.failover_priority else ())


_Rank = Callable[[ServiceEndpoint], tuple[int, ...]]
"""The lower, the sooner asked."""


def _same(endpoint: ServiceEndpoint) -> tuple[int, ...]:
    return ()


def _ranked(endpoints: Iterable[ServiceEndpoint], rank: _Rank) -> tuple[Endpoint, ...]:
    """Priorities are the ranks that there are, without gaps."""
    ranks = [(rank(endpoint), endpoint) for endpoint in endpoints]
    priorities = {rank: priority for priority, rank in enumerate(sorted({rank for rank, _ in ranks}))}
    found = [
        Endpoint(
            one.address,
            one.weight,
            one.locality,
            priorities[rank],
            one.health_check,
            tls_mode="istio" if one.takes_mtls else "",
        )
        for rank, one in ranks
    ]
    return tuple(sorted(found, key=lambda one: (one.priority, dataclasses.astuple(one.locality))))


def _rank(setting: LocalityLoadBalancerSetting, here: Whereabouts) -> _Rank:
    """By `failoverPriority` first, then by place; by place alone where there is no `failoverPriority`."""
    near = _nearness(here.locality, setting.failover)
    if not setting.failover_priority:
        return lambda endpoint: (near(endpoint.locality),)
    unlike = _unlikeness(here.labels, setting.failover_priority)
    if not setting.failover:
        return lambda endpoint: (unlike(endpoint.labels),)
    return lambda endpoint: (unlike(endpoint.labels), near(endpoint.locality))


def _rank_by_region(setting: ZoneAwareLoadBalancerSetting, here: Whereabouts) -> _Rank:
    """By `failoverPriority` first, then by region: what lies in the proxy's own has one rank, however near it is."""
    near = _nearness(here.locality, setting.failover)
    unlike = _unlikeness(here.labels, setting.failover_priority)
    return lambda endpoint: (unlike(endpoint.labels), max(_SAME_REGION, near(endpoint.locality)))


_SAME_REGION = 2


def _nearness(here: Locality, failover: Iterable[Failover]) -> Callable[[Locality], int]:
    """0 for the same place, 1 for the same zone, 2 for the same region, 3 for others; where a failover names the one
    that takes over from the proxy's region, 4 for all but that."""
    successors = [one.to for one in failover if (one.from_ or "") == here.region]

    def nearness(there: Locality) -> int:
        if there.region != here.region:
            return 4 if successors and there.region != successors[0] else 3
        if there.zone != here.zone:
            return _SAME_REGION
        return 0 if there.sub_zone == here.sub_zone else 1

    return nearness


def _unlikeness(own: Mapping[str, str], priority: Sequence[str]) -> Callable[[Mapping[str, str]], int]:
    """0 for endpoints that have all the labels that the proxy has, else how many are left from the first that differs.

    `name=value` asks for that value, whatever the proxy has. Where the first is the network, those in another one come
    after all that are in the proxy's.
    """
    pairs = [label.partition("=") for label in priority]
    wanted = [(name, value if equals else own.get(name, "")) for name, equals, value in pairs]
    network = wanted.pop(0) if priority[:1] == (NETWORK_LABEL,) else None

    def unlikeness(labels: Mapping[str, str]) -> int:
        abroad = network is not None and labels.get(NETWORK_LABEL, "") != network[1]
        differing = [len(wanted) - place for place, (name, value) in enumerate(wanted) if labels.get(name, "") != value]
        return (len(priority) if abroad else 0) + max(differing, default=0)

    return unlikeness if own else lambda labels: 0


def _distributed(endpoints: Iterable[ServiceEndpoint], rules: Iterable[Distribute], here: Locality) -> Placed:
    """The first rule for where the proxy is gives its shares to localities, and leaves out those that it does not name.

    Localities that one name covers have its share together, each by the weight of its endpoints.
    """
    found = _ranked(endpoints, _same)
    weights = {one.locality: one.weight for one in _weights(found)}
    rule = next((one for one in rules if _covers(one.from_ or "", here)), None)
    if rule is None:
        return Placed(found, _weights(found))
    shares: dict[Locality, int] = {}
    for pattern, share in rule.to.items():
        covered = {one: weight for one, weight in weights.items() if one not in shares and _covers(pattern, one)}
        total = sum(covered.values())
        shares |= {one: ceil(weight * share / total) for one, weight in covered.items()}
    return Placed(
        tuple(one for one in found if one.locality in shares),
        tuple(LocalityWeight(one, 0, shares[one]) for one in weights if one in shares),
    )


def _covers(pattern: str, locality: Locality) -> bool:
    """Whether a locality lies in what `region/zone/subzone` names; `*`, or nothing, stands for every zone."""
    wanted = locality_of(pattern)
    return (
        wanted.region in ("*", locality.region)
        and wanted.zone in ("*", "", locality.zone)
        and wanted.sub_zone in ("*", "", locality.sub_zone)
    )


def _weights(endpoints: Iterable[Endpoint]) -> tuple[LocalityWeight, ...]:
    """A locality weighs what its endpoints do."""
    sums: dict[tuple[Locality, int], int] = {}
    for one in endpoints:
        sums[one.locality, one.priority] = sums.get((one.locality, one.priority), 0) + one.weight
    return tuple(LocalityWeight(locality, priority, weight) for (locality, priority), weight in sums.items())
