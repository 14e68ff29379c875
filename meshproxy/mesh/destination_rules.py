"""DestinationRules: which of them hold for a service at a proxy, and the traffic policy that comes of them.

Sources: Istio's `destinationRule` and `mergeDestinationRule` (push_context.go, destination_rule.go),
`MergeSubsetTrafficPolicy` (util.go).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from ..resources import (
    ClientTLSSettings,
    ConnectionPoolSettings,
    DestinationRule,
    LoadBalancerSettings,
    OutlierDetection,
    PortTrafficPolicy,
    Resource,
    RetryBudget,
    Subset,
    TrafficPolicy,
    format_path,
)
from ..resources.problems import Path
from ..snapshot import Origin
from .hosts import HostMap
from .names import ROOT_NAMESPACE, Visibility, fqdn
from .ordering import age
from .registry import selects

Rules = Sequence[Resource[DestinationRule]]


class PlacedSubset(NamedTuple):
    """A subset, and where it is written: at `spec.subsets[place]` of one of the rules that were merged."""

    subset: Subset
    resource: Resource[DestinationRule]
    place: int


@dataclass(frozen=True, slots=True)
class MergedRule:
    """DestinationRules of one host that act as one: the first top-level policy, the subsets of each.

    The policy is written in `owner`. `for_workload`: the rule is for workloads that it selects.
    """

    traffic_policy: TrafficPolicy | None
    subsets: tuple[PlacedSubset, ...]
    owner: Resource[DestinationRule]
    for_workload: bool = False

    def subset(self, name: str) -> PlacedSubset | None:
        """The subset of this name; the first, where there are several."""
        return next((placed for placed in self.subsets if placed.subset.name == name), None)


class DestinationRules:
    """Every DestinationRule, to be asked for what holds for a service.

    Istio looks in the proxy's namespace, then in the service's, then in the root namespace, and the first
    that has a rule for the host, by longest match, decides alone. A proxy of the root namespace takes no rule
    for its own there that all the mesh shares: an ingress gateway would never see the services' rules.

    Of one host's rules those act as one that are exported alike, see `together`; of others the youngest counts. A
    rule with a workload selector is for clients of its own namespace alone, and goes before those without.
    """

    def __init__(self, rules: Iterable[Resource[DestinationRule]]) -> None:
        own: dict[str, dict[str, list[Resource[DestinationRule]]]] = {}
        exported: dict[str, dict[str, list[Resource[DestinationRule]]]] = {}
        for rule in sorted(rules, key=lambda rule: (rule.spec.workload_selector is None, age(rule))):
            host = fqdn(rule.spec.host, rule.namespace)
            visibility = visibility_of(rule)
            shared = visibility.everywhere or visibility.namespaces != {rule.namespace}
            if shared:
                exported.setdefault(rule.namespace, {}).setdefault(host, []).append(rule)
            if visibility.includes(rule.namespace) and not (shared and rule.namespace == ROOT_NAMESPACE):
                own.setdefault(rule.namespace, {}).setdefault(host, []).append(rule)
        self._own = {namespace: HostMap(hosts) for namespace, hosts in own.items()}
        self._exported = {namespace: HostMap(hosts) for namespace, hosts in exported.items()}

    def find(
        self, hostname: str, service_namespace: str, proxy_namespace: str, labels: Mapping[str, str] | None = None
    ) -> MergedRule | None:
        """The rule for a service of `service_namespace` at a proxy of `proxy_namespace` whose workload has `labels`.

        Without labels it is the rule for what comes in, of which workload selectors do not speak.
        """
        if rules := _best(self._own, proxy_namespace, hostname):
            acting = together(rules, proxy_namespace, labels)
            return merge(acting) if acting else None
        for namespace in (service_namespace, ROOT_NAMESPACE):
            if acting := together(_best(self._exported, namespace, hostname), proxy_namespace):
                return merge(acting)
        return None

    def findable(self, hostname: str, service_namespace: str, proxy_namespace: str) -> list[MergedRule]:
        """What `find` finds for one workload or another."""
        selectors = [selector_of(rule) for rule in _best(self._own, proxy_namespace, hostname)]
        each = (self.find(hostname, service_namespace, proxy_namespace, labels) for labels in (None, *selectors))
        return [rule for rule in each if rule is not None]


def visibility_of(rule: Resource[DestinationRule]) -> Visibility:
    """Who sees a rule."""
    export_to = rule.spec.export_to if rule.spec.workload_selector is None else (".",)
    return Visibility.of(export_to, rule.namespace)


def selector_of(rule: Resource[DestinationRule]) -> Mapping[str, str] | None:
    """The labels of the workloads that a rule is for; None for all."""
    selector = rule.spec.workload_selector
    return None if selector is None else selector.match_labels


def together(rules: Rules, namespace: str, labels: Mapping[str, str] | None = None) -> Rules:
    """Those of one host's and namespace's rules that act as one for a workload with `labels` in `namespace`.

    Those with a selector come first, then the oldest. Rules join the first one that is exported alike, or to fewer
    namespaces than they are; where several do not join, the last counts. Other than in Istio, none is lost by joining
    one that it is exported further than, or one for single workloads.
    """
    visible = [rule for rule in rules if visibility_of(rule).includes(namespace)]
    for rule in visible:
        selector = selector_of(rule)
        if selector is not None and labels is not None and selects(selector, labels):
            return [one for one in visible if selector_of(one) in (selector, None) and joins(one, rule)]
    for_all = [rule for rule in visible if selector_of(rule) is None]
    heads = [n for n, rule in enumerate(for_all) if not any(joins(rule, elder) for elder in for_all[:n])]
    return [rule for rule in for_all[heads[-1] :] if joins(rule, for_all[heads[-1]])] if heads else ()


def joins(rule: Resource[DestinationRule], elder: Resource[DestinationRule]) -> bool:
    """Whether a rule adds to an older one of the same host and namespace, as far as exporting goes."""
    mine, its = visibility_of(rule), visibility_of(elder)
    return mine == its or (bool(its.namespaces) and mine.namespaces >= its.namespaces)


def merge(rules: Rules) -> MergedRule:
    """Merge rules of one host and namespace, the oldest first."""
    owner = next((rule for rule in rules if rule.spec.traffic_policy is not None), rules[0])
    subsets: dict[str, PlacedSubset] = {}
    for rule in rules:
        for place, subset in enumerate(rule.spec.subsets):
            subsets.setdefault(subset.name, PlacedSubset(subset, rule, place))
    for_workload = rules[0].spec.workload_selector is not None
    return MergedRule(owner.spec.traffic_policy, tuple(subsets.values()), owner, for_workload)


def _best(by_namespace: dict[str, HostMap[list[Resource[DestinationRule]]]], namespace: str, hostname: str) -> Rules:
    hosts = by_namespace.get(namespace)
    return (hosts.best(hostname) if hosts is not None else None) or ()


class PlacedTls(NamedTuple):
    """Settings of TLS, and where they are written. `for_workload`: by a rule for workloads that it selects."""

    settings: ClientTLSSettings
    resource: Resource[DestinationRule]
    path: Path
    for_workload: bool

    @property
    def origin(self) -> Origin:
        """Where they are written."""
        position = self.resource.position(*self.path)
        return Origin(position.file, position.line, self.resource.id, format_path(self.path))


class EffectivePolicy(NamedTuple):
    """What holds for one port of one subset, once every level has had its say."""

    load_balancer: LoadBalancerSettings | None = None
    connection_pool: ConnectionPoolSettings | None = None
    outlier_detection: OutlierDetection | None = None
    retry_budget: RetryBudget | None = None
    tls: PlacedTls | None = None


def effective_policy(rule: MergedRule | None, subset: PlacedSubset | None, port: int) -> EffectivePolicy:
    """The policy of `port`: a subset's fields go before those of the top level, one by one.

    At either level, a port's own settings stand in for that level's as a whole: what they leave out is back
    at its default, not inherited. That cannot be said of the retry budget, which ports do not have.
    """
    all_levels = list(_levels(rule, subset, port))
    levels = all_levels[:1] if all_levels and isinstance(all_levels[0].policy, PortTrafficPolicy) else all_levels
    policies = [level.policy for level in levels]
    return EffectivePolicy(
        next((level.load_balancer for level in policies if level.load_balancer is not None), None),
        next((level.connection_pool for level in policies if level.connection_pool is not None), None),
        next((level.outlier_detection for level in policies if level.outlier_detection is not None), None),
        next((budget for level in all_levels if (budget := _retry_budget(level.policy))), None),
        next((_tls(level, rule) for level in levels if level.policy.tls is not None), None),
    )


def policies_of(rule: DestinationRule) -> Iterator[tuple[Path, TrafficPolicy | PortTrafficPolicy]]:
    """Every traffic policy of a rule, by where it is written: the service's, its subsets', and those of ports."""
    levels: list[tuple[Path, TrafficPolicy | None]] = [(("spec", "trafficPolicy"), rule.traffic_policy)]
    levels += ((("spec", "subsets", n, "trafficPolicy"), one.traffic_policy) for n, one in enumerate(rule.subsets))
    for path, policy in levels:
        if policy is not None:
            yield path, policy
            yield from (((*path, "portLevelSettings", n), one) for n, one in enumerate(policy.port_level_settings))


class _Level(NamedTuple):
    """A traffic policy, and where it is written."""

    policy: TrafficPolicy | PortTrafficPolicy
    resource: Resource[DestinationRule]
    path: Path


def _levels(rule: MergedRule | None, subset: PlacedSubset | None, port: int) -> Iterator[_Level]:
    """The levels that have a say about `port`, the narrow one first."""
    if subset is not None and subset.subset.traffic_policy is not None:
        path = ("spec", "subsets", subset.place, "trafficPolicy")
        yield _at_port(subset.subset.traffic_policy, subset.resource, path, port)
    if rule is not None and rule.traffic_policy is not None:
        yield _at_port(rule.traffic_policy, rule.owner, ("spec", "trafficPolicy"), port)


def _retry_budget(policy: TrafficPolicy | PortTrafficPolicy) -> RetryBudget | None:
    return policy.retry_budget if isinstance(policy, TrafficPolicy) else None


def _at_port(policy: TrafficPolicy, resource: Resource[DestinationRule], path: Path, port: int) -> _Level:
    for place, own in enumerate(policy.port_level_settings):
        if own.port.number == port:
            return _Level(own, resource, (*path, "portLevelSettings", place))
    return _Level(policy, resource, path)


def _tls(level: _Level, rule: MergedRule | None) -> PlacedTls:
    assert level.policy.tls is not None and rule is not None
    return PlacedTls(level.policy.tls, level.resource, (*level.path, "tls"), rule.for_workload)
