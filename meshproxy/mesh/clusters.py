"""Clusters: how a proxy reaches one port of a service, or of a subset of it (Istio's `ClusterBuilder`)."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import NamedTuple

from ..resources import Destination
from ..snapshot import Address, Cluster, DiscoveryType, Endpoint, LbPolicy, Origin, SocketAddress
from .destination_rules import DestinationRules, EffectivePolicy, PlacedSubset, effective_policy
from .names import cluster_name, fqdn, is_ip_address
from .registry import Service, ServiceEndpoint, View, selects
from .workloads import Workload

DEFAULT_CONNECT_TIMEOUT_S = 10.0
"""Istio's, from MeshConfig; Envoy's own is 5."""

_LB_POLICIES: dict[str, LbPolicy] = {
    "LEAST_REQUEST": "LEAST_REQUEST",
    "LEAST_CONN": "LEAST_REQUEST",
    "ROUND_ROBIN": "ROUND_ROBIN",
    "RANDOM": "RANDOM",
}


class Target(NamedTuple):
    """What a destination stands for at a proxy; its cluster may or may not exist."""

    host: str
    port: int
    subset: str

    @property
    def cluster(self) -> str:
        """The name of its cluster."""
        return cluster_name(self.host, self.port, self.subset)


class Targets:
    """What a snapshot's routes lead to, at a proxy that has `view` of the services."""

    def __init__(self, view: View, rules: DestinationRules) -> None:
        self.view = view
        self._rules = rules
        self._targets: dict[Target, None] = {}

    def add(self, target: Target) -> str:
        """The name of a target's cluster, which from now on is among the clusters if it exists."""
        self._targets[target] = None
        return target.cluster

    def cluster_of(self, listener_port: int, destination: Destination, rule_namespace: str) -> str:
        """The name of the cluster of a destination, added to the targets."""
        return self.add(resolve(destination, rule_namespace, listener_port, self.view))

    def clusters(self) -> Iterator[Cluster]:
        """The clusters of all targets that exist."""
        for target in sorted(self._targets, key=lambda target: target.cluster):
            cluster = build_cluster(target, self.view, self._rules)
            if cluster is not None:
                yield cluster


def resolve(destination: Destination, rule_namespace: str, listener_port: int, view: View) -> Target:
    """What a destination in a rule of `rule_namespace` means to a proxy.

    Without a port, a service's only port is meant, and otherwise the port that the request came in by. A name
    that is only another name for a service of the mesh leads to that service.
    """
    host = fqdn(destination.host, rule_namespace)
    service = view.meant(host, rule_namespace)
    if destination.port is not None:
        port = destination.port.number
    elif service is not None and len(service.ports) == 1:
        port = service.ports[0].number
    else:
        port = listener_port
    return Target(view.unaliased(host), port, destination.subset or "")


def build_cluster(target: Target, view: View, rules: DestinationRules) -> Cluster | None:
    """The cluster of a target, or None where service, port or subset do not exist: Envoy then answers 503 NC.

    A service that exists without endpoints has a cluster without any (503 UH), unless it is resolved by DNS:
    Istio makes no cluster with nothing to look up.
    """
    service = view.find(target.host)
    if service is None or not _serves(service, target.port):
        return None
    rule = rules.find(service.hostname, service.namespace, view.namespace)
    subset = rule.subset(target.subset) if rule and target.subset else None
    if target.subset and subset is None:
        return None
    endpoints = _endpoints(service, target.port, subset)
    if not endpoints and service.resolution == "DNS":
        return None
    policy = effective_policy(rule, subset.subset if subset else None, target.port)
    return Cluster(
        name=target.cluster,
        endpoints=endpoints,
        type=discovery_type(endpoints),
        lb_policy=_lb_policy(policy),
        connect_timeout_s=connect_timeout_s(policy),
        origin=_origin(service, subset),
    )


def _serves(service: Service, port: int) -> bool:
    """Whether a service has the port; one that is only a name for an outside host need not list any."""
    return service.port(port) is not None or (service.external_name is not None and not service.ports)


def _endpoints(service: Service, port: int, subset: PlacedSubset | None) -> tuple[Endpoint, ...]:
    if service.external_name is not None:
        behind: Iterable[ServiceEndpoint] = (ServiceEndpoint(Workload(service.external_name).at(port)),)
    else:
        behind = service.endpoints.get(port, ())
    labels = subset.subset.labels if subset else {}
    unique: dict[Address, Endpoint] = {}
    for endpoint in behind:
        if selects(labels, endpoint.labels):
            # Envoy knows an endpoint by its address: of several with one address, the first is the endpoint.
            unique.setdefault(endpoint.address, Endpoint(endpoint.address, endpoint.weight))
    return tuple(unique.values())


def discovery_type(endpoints: Iterable[Endpoint]) -> DiscoveryType:
    """How endpoints are found: by DNS, as soon as one of them has a name for its address."""
    hosts = [endpoint.address.host for endpoint in endpoints if isinstance(endpoint.address, SocketAddress)]
    return "STATIC" if all(map(is_ip_address, hosts)) else "STRICT_DNS"


def _lb_policy(policy: EffectivePolicy) -> LbPolicy:
    simple = policy.load_balancer.simple if policy.load_balancer else None
    return _LB_POLICIES.get(simple or "", "LEAST_REQUEST")


def connect_timeout_s(policy: EffectivePolicy) -> float:
    """How long a policy lets a connection take to come about."""
    tcp = policy.connection_pool.tcp if policy.connection_pool else None
    return DEFAULT_CONNECT_TIMEOUT_S if tcp is None or tcp.connect_timeout is None else tcp.connect_timeout


def _origin(service: Service, subset: PlacedSubset | None) -> Origin:
    resource = subset.resource if subset else service.resource
    position = resource.position("spec", "subsets", subset.place) if subset else resource.position("metadata", "name")
    return Origin(position.file, position.line, resource.id)
