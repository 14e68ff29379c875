"""What a DestinationRule says of balancing that comes to nothing, by Istio's own rules: worth telling, not wrong."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from ...resources import (
    DestinationRule,
    LoadBalancerSettings,
    LocalityLoadBalancerSetting,
    Note,
    PortTrafficPolicy,
    TrafficPolicy,
)
from ...resources.problems import Path
from ..load_balancing import hash_policy, lb_policy
from ..mesh import Mesh


def idle_settings(mesh: Mesh) -> Iterator[Note]:
    """Settings of load balancers that nothing is done with, where they are written."""
    for rule in mesh.of(DestinationRule):
        for placed in _placed(rule.spec):
            for path, message in _idle(placed.settings, placed.ejects):
                where = (*placed.path, *path)
                yield Note(rule.position(*where), f"{rule.id}: {where[-1]} {message}")


class _Placed(NamedTuple):
    path: Path
    settings: LoadBalancerSettings
    ejects: bool


def _placed(rule: DestinationRule) -> Iterator[_Placed]:
    """Every `loadBalancer` of a rule. A subset's has the outlier detection of the rule where it has none of its own."""
    top = rule.traffic_policy
    yield from _at_level(("spec", "trafficPolicy"), top, False)
    for place, subset in enumerate(rule.subsets):
        inherited = top is not None and top.outlier_detection is not None
        yield from _at_level(("spec", "subsets", place, "trafficPolicy"), subset.traffic_policy, inherited)


def _at_level(path: Path, policy: TrafficPolicy | None, inherited: bool) -> Iterator[_Placed]:
    if policy is None:
        return
    levels: list[tuple[Path, TrafficPolicy | PortTrafficPolicy, bool]] = [(path, policy, inherited)]
    levels += (((*path, "portLevelSettings", n), one, False) for n, one in enumerate(policy.port_level_settings))
    for where, level, also in levels:
        if level.load_balancer is not None:
            ejects = also or level.outlier_detection is not None
            yield _Placed((*where, "loadBalancer"), level.load_balancer, ejects)


def _idle(settings: LoadBalancerSettings, ejects: bool) -> Iterator[tuple[Path, str]]:
    policy = lb_policy(settings)
    for name, value in (("warmup", settings.warmup), ("warmupDurationSecs", settings.warmup_duration_secs)):
        if value is not None and (settings.simple == "PASSTHROUGH" or policy not in ("LEAST_REQUEST", "ROUND_ROBIN")):
            kind = "PASSTHROUGH" if settings.simple == "PASSTHROUGH" else policy
            yield (name,), f"is for LEAST_REQUEST and ROUND_ROBIN; {kind} has no warming up"
    if settings.consistent_hash is not None and hash_policy(settings) is None:
        yield ("consistentHash", "useSourceIp"), "is false, so that nothing is hashed and requests go anywhere"
    if settings.simple == "PASSTHROUGH":
        yield ("simple",), "PASSTHROUGH is for sidecars; gateways have no cluster for this and answer 503"
    if settings.locality_lb_setting is not None:
        yield from _idle_locality(settings.locality_lb_setting, ejects)
    by_zone = settings.zone_aware_lb_setting
    if by_zone is not None and by_zone.min_cluster_size is not None:
        message = "counts among proxies that know of each other, which these do not: the region alone is kept to"
        yield ("zoneAwareLbSetting", "minClusterSize"), message


def _idle_locality(setting: LocalityLoadBalancerSetting, ejects: bool) -> Iterator[tuple[Path, str]]:
    given = {
        "distribute": setting.distribute,
        "failover": setting.failover,
        "failoverPriority": setting.failover_priority,
    }
    for name, value in given.items():
        if not value:
            continue
        if setting.enabled is False:
            yield ("localityLbSetting", name), "comes to nothing beside enabled: false"
        elif name != "distribute" and setting.distribute:
            yield ("localityLbSetting", name), "comes to nothing beside distribute"
        elif name != "distribute" and not ejects:
            message = "needs outlierDetection: without it no endpoint is known to fail"
            yield ("localityLbSetting", name), message
