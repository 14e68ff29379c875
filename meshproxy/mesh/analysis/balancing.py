"""What a DestinationRule says of balancing that comes to nothing, by Istio's own rules: worth telling, not wrong."""

from __future__ import annotations

from collections.abc import Iterator

from ...resources import (
    DestinationRule,
    LoadBalancerSettings,
    LocalityLoadBalancerSetting,
    Note,
    PortTrafficPolicy,
    TrafficPolicy,
)
from ...resources.problems import Path
from ..destination_rules import policies_of
from ..load_balancing import hash_policy, lb_policy
from ..mesh import Mesh


def idle_settings(mesh: Mesh) -> Iterator[Note]:
    """Settings of load balancers that nothing is done with, where they are written."""
    for rule in mesh.of(DestinationRule):
        for level, policy in policies_of(rule.spec):
            settings = policy.load_balancer
            for path, message in _idle(settings, _ejects(rule.spec, policy)) if settings else ():
                where = (*level, "loadBalancer", *path)
                yield Note(rule.position(*where), f"{rule.id}: {where[-1]} {message}")


def _ejects(rule: DestinationRule, policy: TrafficPolicy | PortTrafficPolicy) -> bool:
    """Whether outlier detection holds beside a policy. A subset's that has none has that of the service."""
    inherited = rule.traffic_policy if isinstance(policy, TrafficPolicy) else None
    return policy.outlier_detection is not None or bool(inherited and inherited.outlier_detection)


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
