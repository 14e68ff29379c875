"""Clusters: how a proxy reaches one port of a service, or of a subset of it (Istio's `ClusterBuilder`)."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import NamedTuple

from ..resources import Destination
from ..snapshot import (
    Address,
    Cluster,
    DiscoveryType,
    Endpoint,
    HashPolicy,
    Origin,
    Secret,
    SocketAddress,
    UpstreamTlsContext,
)
from .connection_pools import with_connection_pool
from .credentials import Credentials
from .destination_rules import DestinationRules, EffectivePolicy, PlacedSubset, effective_policy
from .load_balancing import hash_policy, lb_policy, slow_start
from .localities import Whereabouts, placed
from .mutual_tls import Trust
from .names import cluster_name, fqdn, is_ip_address
from .outliers import outlier_detection, panic_threshold
from .registry import Service, ServiceEndpoint, View, selects
from .upstream_tls import (
    OWN,
    UpstreamTls,
    expected_names,
    istio_mutual,
    secured,
    secured_where_known,
    upstream_tls,
)
from .workloads import Workload


class Target(NamedTuple):
    """What a destination stands for at a proxy; its cluster may or may not exist."""

    host: str
    port: int
    subset: str

    @property
    def cluster(self) -> str:
        """The name of its cluster."""
        return cluster_name(self.host, self.port, self.subset)


class ClusterReference(NamedTuple):
    """A cluster, as a route refers to it: by name, with what of a request is hashed if it balances by that."""

    name: str
    hash_policy: HashPolicy | None = None


class Targets:
    """What a snapshot's routes lead to, at a proxy that has `view` of the services from where it is.

    `trust` is whose identities it believes, where it has one itself; `credentials` are the Secrets of its namespace.
    Without `auto_mtls`, nothing is called by mutual TLS of which no DestinationRule says so.
    """

    def __init__(
        self,
        view: View,
        rules: DestinationRules,
        here: Whereabouts,
        trust: Trust | None = None,
        credentials: Credentials | None = None,
        *,
        auto_mtls: bool = True,
    ) -> None:
        self.view = view
        self._trust = trust
        self._credentials = credentials
        self._auto_mtls = auto_mtls
        self._rules = rules
        self._here = here
        self._targets: dict[Target, _Found | None] = {}

    def add(self, target: Target) -> ClusterReference:
        """A target's cluster, which from now on is among the clusters if it exists."""
        if target not in self._targets:
            self._targets[target] = _find(target, self.view, self._rules, self._here.labels)
        found = self._targets[target]
        return ClusterReference(target.cluster, found and hash_policy(found.policy.load_balancer))

    def cluster_of(self, listener_port: int, destination: Destination, rule_namespace: str) -> ClusterReference:
        """The cluster of a destination, added to the targets."""
        return self.add(resolve(destination, rule_namespace, listener_port, self.view))

    def clusters(self) -> Iterator[Cluster]:
        """The clusters of all targets that exist: where one does not, Envoy answers 503 NC."""
        for target, found in sorted(self._targets.items(), key=lambda item: item[0].cluster):
            cluster = found and _cluster(target, found, self.view, self._here)
            if found is None or cluster is None:
                continue
            if found.policy.tls is None:
                yield secured_where_known(cluster, (self._auto_mtls and _auto_tls(target, found, self._trust)) or None)
            else:
                tls = self._tls(target, found)
                yield secured(cluster, tls and tls.context)

    def secrets(self) -> Iterator[Secret]:
        """The secrets that the clusters refer to."""
        named: dict[str, Secret] = {}
        for target, found in self._targets.items():
            tls = self._tls(target, found)
            named |= {secret.name: secret for secret in (tls.secrets if tls is not None else ())}
        yield from (named[name] for name in sorted(named))

    def _tls(self, target: Target, found: _Found | None) -> UpstreamTls | None:
        if found is None:
            return None
        placed, trust = found.policy.tls, self._trust or OWN
        is_given = placed is not None and (placed.for_workload or not self.view.sidecar)
        credentials = self._credentials if is_given else None
        return upstream_tls(placed, found.service, target.port, target.subset, trust, credentials)


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


class _Found(NamedTuple):
    """What there is of a target: its service, its subset if it names one, and the policy that holds for it."""

    service: Service
    subset: PlacedSubset | None
    policy: EffectivePolicy


def _find(target: Target, view: View, rules: DestinationRules, labels: Mapping[str, str]) -> _Found | None:
    """None where service, port or subset do not exist."""
    service = view.find(target.host)
    if service is None or not _serves(service, target.port):
        return None
    rule = rules.find(service.hostname, service.namespace, view.namespace, labels)
    subset = rule.subset(target.subset) if rule and target.subset else None
    if target.subset and subset is None:
        return None
    return _Found(service, subset, effective_policy(rule, subset, target.port))


def _auto_tls(target: Target, found: _Found, trust: Trust | None) -> UpstreamTlsContext | None:
    """Mutual TLS of the mesh with those endpoints that are known to take it, as nobody has said anything else.

    Sources: Istio's `buildUpstreamTLSSettings` and `checkMtlsEnabled`. Without an identity of its own, a proxy needs
    one for the endpoints that take nothing else, and speaks to all others in plain text. As Istio does not, it goes by
    what holds for each endpoint also where the namespace's policy is DISABLE.
    """
    service, subset, _ = found
    if service.mesh_external or service.external_name is not None:
        return None
    endpoints = _endpoints(service, target.port, subset)
    taking = [one for one in endpoints if (one.takes_mtls if trust is not None else one.mtls == "STRICT")]
    if not taking or (_passes_through(found) and len(taking) < len(endpoints)):
        return None
    trust = trust or OWN
    return istio_mutual(service, target.port, target.subset, expected_names(service, trust), trust=trust)


def _passes_through(found: _Found) -> bool:
    balancer = found.policy.load_balancer
    return balancer is not None and balancer.simple == "PASSTHROUGH"


def _cluster(target: Target, found: _Found, view: View, here: Whereabouts) -> Cluster | None:
    """The cluster of a target.

    A service that exists without endpoints has a cluster without any (503 UH), unless it is resolved by DNS:
    Istio makes no cluster with nothing to look up.
    """
    service, subset, policy = found
    if _passes_through(found):
        return _passthrough(target, found, view)
    endpoints = _endpoints(service, target.port, subset)
    if not endpoints and service.resolution in ("DNS", "DNS_ROUND_ROBIN"):
        return None
    if service.resolution == "DNS_ROUND_ROBIN":
        endpoints = endpoints[:1]  # of entries for one host that are one service, the first has the name to look up
    where = placed(endpoints, policy.load_balancer, here, ejects=policy.outlier_detection is not None)
    cluster = Cluster(
        name=target.cluster,
        endpoints=where.endpoints,
        type=discovery_type(where.endpoints, one_by_one=service.resolution == "DNS_ROUND_ROBIN"),
        lb_policy=lb_policy(policy.load_balancer),
        healthy_panic_threshold=panic_threshold(policy.outlier_detection),
        outlier_detection=outlier_detection(policy.outlier_detection),
        locality_weights=where.weights,
        slow_start=slow_start(policy.load_balancer),
        origin=_origin(service, subset),
    )
    return with_connection_pool(cluster, policy.connection_pool, policy.retry_budget)


def _passthrough(target: Target, found: _Found, view: View) -> Cluster | None:
    """Requests go where their app sent them. What comes to a gateway was sent to the gateway: it has no such cluster.

    Were it to trust the authority in its place, clients could reach whatever the gateway can.
    """
    if not view.sidecar:
        return None
    cluster = Cluster(
        name=target.cluster,
        endpoints=(),
        type="DYNAMIC_FORWARD_PROXY",
        origin=_origin(found.service, found.subset),
    )
    return with_connection_pool(cluster, found.policy.connection_pool, found.policy.retry_budget)


def _serves(service: Service, port: int) -> bool:
    """Whether a service has the port; one that is only a name for an outside host need not list any."""
    return service.port(port) is not None or (service.external_name is not None and not service.ports)


def _endpoints(service: Service, port: int, subset: PlacedSubset | None) -> tuple[ServiceEndpoint, ...]:
    if service.external_name is not None:
        behind: Iterable[ServiceEndpoint] = (ServiceEndpoint(Workload(service.external_name).at(port)),)
    else:
        behind = service.endpoints.get(port, ())
    labels = subset.subset.labels if subset else {}
    unique: dict[Address, ServiceEndpoint] = {}
    for endpoint in behind:
        if selects(labels, endpoint.labels):
            # Envoy knows an endpoint by its address: of several with one address, the first is the endpoint.
            unique.setdefault(endpoint.address, endpoint)
    return tuple(unique.values())


def discovery_type(endpoints: Iterable[Endpoint], one_by_one: bool = False) -> DiscoveryType:
    """How endpoints are found: by DNS, as soon as one of them has a name for its address.

    With `one_by_one`, only one of the name's addresses is used at a time.
    """
    hosts = [endpoint.address.host for endpoint in endpoints if isinstance(endpoint.address, SocketAddress)]
    if all(map(is_ip_address, hosts)):
        return "STATIC"
    return "LOGICAL_DNS" if one_by_one else "STRICT_DNS"


def _origin(service: Service, subset: PlacedSubset | None) -> Origin:
    resource = subset.resource if subset else service.resource
    position = resource.position("spec", "subsets", subset.place) if subset else resource.position("metadata", "name")
    return Origin(position.file, position.line, resource.id)
