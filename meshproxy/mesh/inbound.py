"""Where a workload is called: its own ports behind the services that select it, and what a sidecar does there.

Source: Istio's `getFilterChainsByServicePort`, `buildSidecarInboundHTTPRouteConfig` and `buildInboundCluster`. Where
several services lead to one port of the workload, the oldest of them names what is there.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from .. import resources as api
from ..resources import Resource, WorkloadEntry
from ..snapshot import (
    Address,
    Cluster,
    Endpoint,
    HealthCheck,
    Origin,
    Route,
    RouteAction,
    RouteConfiguration,
    RouteMatch,
    VirtualHost,
    WeightedCluster,
)
from .clusters import discovery_type
from .connection_pools import with_connection_pool
from .declarations import entry_target_port, protocol_of, target_port
from .destination_rules import DestinationRules, effective_policy
from .mesh import Mesh
from .names import inbound_cluster_name, service_hostname
from .ordering import age
from .outbound import DEFAULT_ROUTE
from .registry import ServicePort, selects
from .retries import INBOUND_RETRIES
from .workloads import Workload


@dataclass(frozen=True, slots=True)
class InboundPort:
    """A service's port that leads to a workload: `number` is the workload's own, None if it has not the named one.

    The service's port is written at `spec.ports[place]` of `service`.
    """

    number: int | None
    port: ServicePort
    hostname: str
    service: Resource[Any]
    place: int


def inbound_ports(mesh: Mesh, entry: Resource[WorkloadEntry]) -> Iterator[InboundPort]:
    """Every port by which services lead to a workload, those of the oldest service first."""
    workload = Workload.of(entry.spec, entry.labels)
    services = [service for service in mesh.resources if leads_to(service, entry, workload)]
    for service in sorted(services, key=age):
        if isinstance(service.spec, api.Service):
            yield from _service_ports(service, workload)
        else:
            yield from _entry_ports(service, workload)


def leads_to(service: Resource[Any], entry: Resource[WorkloadEntry], workload: Workload) -> bool:
    """Whether a service selects an entry's workload."""
    if service.namespace != entry.namespace:
        return False
    spec = service.spec
    if isinstance(spec, api.Service):
        return bool(spec.selector) and selects(spec.selector, workload.labels)
    if isinstance(spec, api.ServiceEntry):
        return spec.workload_selector is not None and selects(spec.workload_selector.labels, workload.labels)
    return False


def _service_ports(service: Resource[api.Service], workload: Workload) -> Iterator[InboundPort]:
    hostname = service_hostname(service.name, service.namespace)
    for place, port in enumerate(service.spec.ports):
        if port.protocol == "TCP":
            known = ServicePort(port.port, port.name or "", protocol_of(port))
            yield InboundPort(target_port(port, workload), known, hostname, service, place)


def _entry_ports(entry: Resource[api.ServiceEntry], workload: Workload) -> Iterator[InboundPort]:
    for place, port in enumerate(entry.spec.ports):
        known = ServicePort(port.number, port.name, (port.protocol or "").upper())
        yield InboundPort(entry_target_port(port, workload), known, entry.spec.hosts[0].lower(), entry, place)


def served_ports(mesh: Mesh, entry: Resource[WorkloadEntry]) -> dict[int, InboundPort]:
    """The ports where a sidecar listens for a workload, by the workload's number, lowest first."""
    served: dict[int, InboundPort] = {}
    for inbound in inbound_ports(mesh, entry):
        if inbound.number is not None and inbound.port.is_http:
            served.setdefault(inbound.number, inbound)
    return dict(sorted(served.items()))


def inbound_routes(number: int, inbound: InboundPort) -> RouteConfiguration:
    """The routes for requests to a workload's port: all of them lead to the app."""
    cluster = inbound_cluster_name(number)
    # A reset tells nothing of a stream of gRPC: Istio retries none here.
    retries = None if inbound.port.is_grpc else INBOUND_RETRIES
    action = RouteAction((WeightedCluster(cluster),), max_grpc_timeout_s=0.0, retry_policy=retries)
    route = Route(DEFAULT_ROUTE, RouteMatch(), action, origin=_origin(inbound))
    return RouteConfiguration(cluster, (VirtualHost(f"inbound|http|{inbound.port.number}", ("*",), (route,)),))


def inbound_cluster(
    number: int, inbound: InboundPort, app: Address, rules: DestinationRules, check: HealthCheck | None
) -> Cluster:
    """The app, for requests to a workload's port. What a DestinationRule says of connections holds here as well."""
    namespace = inbound.service.namespace
    policy = effective_policy(rules.find(inbound.hostname, namespace, namespace), None, inbound.port.number)
    endpoints = (Endpoint(app, health_check=check),)
    cluster = Cluster(
        name=inbound_cluster_name(number),
        endpoints=endpoints,
        type=discovery_type(endpoints),
        origin=_origin(inbound),
    )
    return with_connection_pool(cluster, policy.connection_pool, policy.retry_budget)


def _origin(inbound: InboundPort) -> Origin:
    position = inbound.service.position("spec", "ports", inbound.place)
    return Origin(position.file, position.line, inbound.service.id)
