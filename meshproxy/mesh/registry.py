"""The services of the mesh: their hosts, ports and endpoints, whichever resource declares them.

A service comes from a Kubernetes Service or from a host of a ServiceEntry. Where several declare one host,
Istio's order decides: in one namespace they are one service with the endpoints of all; between namespaces a
proxy sees the oldest of those visible to it; and a Kubernetes Service goes before any ServiceEntry, so that
no entry can take a service's name.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Literal

from ..resources import Resource
from ..snapshot import UNKNOWN_LOCALITY, Address, HealthCheck, Locality
from .hosts import HostMap, is_wildcard
from .names import Visibility
from .ordering import age
from .peer_authentication import Mode

Resolution = Literal["STATIC", "DNS", "DNS_ROUND_ROBIN", "NONE"]


@dataclass(frozen=True, slots=True)
class ServicePort:
    """A port that clients of a service name, by `number` in routes and by `name` in workloads' own ports.

    `protocol` is one of Istio's, in capitals; empty where nobody said, and Istio would look at the first bytes.
    """

    number: int
    name: str
    protocol: str

    @property
    def is_http(self) -> bool:
        """Whether requests are routed here; what nobody said is taken for HTTP, as that is all there is."""
        return self.protocol in _HTTP

    @property
    def is_grpc(self) -> bool:
        """Whether what comes here is gRPC."""
        return self.protocol in _GRPC


_GRPC = frozenset(("GRPC", "GRPC-WEB"))
_HTTP = _GRPC | {"", "HTTP", "HTTP2", "HTTP_PROXY"}


@dataclass(frozen=True, slots=True)
class ServiceEndpoint:
    """One server behind one port of a service; `labels` are its workload's, for subsets to choose by.

    `service_account` is its workload's, `NAMESPACE/ACCOUNT`, empty where nobody said. `mtls` is what its sidecar takes
    there; None where it has none that is known of.
    """

    address: Address
    labels: Mapping[str, str] = field(default_factory=dict)
    weight: int = 1
    locality: Locality = UNKNOWN_LOCALITY
    health_check: HealthCheck | None = None
    service_account: str = ""
    mtls: Mode | None = None

    @property
    def takes_mtls(self) -> bool:
        """Whether it takes mutual TLS from the workloads of the mesh."""
        return self.mtls in ("PERMISSIVE", "STRICT")


Endpoints = Mapping[int, tuple[ServiceEndpoint, ...]]
"""The endpoints of each of a service's ports, by port number."""


@dataclass(frozen=True, slots=True, eq=False)
class Service:
    """A host that requests can be sent to. With `external_name`, it is only another name for that host.

    `addresses` are the service's own, virtual as a rule: clients may name it by them, and no endpoint has them.
    `subject_alt_names` are those that its endpoints' certificates may have.
    """

    hostname: str
    namespace: str
    ports: tuple[ServicePort, ...]
    resolution: Resolution
    endpoints: Endpoints
    visibility: Visibility
    resource: Resource[Any]
    kubernetes: bool = False
    external_name: str | None = None
    addresses: tuple[str, ...] = ()
    subject_alt_names: tuple[str, ...] = ()
    mesh_external: bool = False

    def __repr__(self) -> str:
        return f"<Service {self.hostname} of {self.resource.id}, ports {[port.number for port in self.ports]}>"

    def port(self, number: int) -> ServicePort | None:
        """The port of this number."""
        return next((port for port in self.ports if port.number == number), None)

    def select(self, labels: Mapping[str, str]) -> bool:
        """Whether any endpoint, of any port, has all these labels."""
        return any(selects(labels, e.labels) for endpoints in self.endpoints.values() for e in endpoints)


def selects(selector: Mapping[str, str], labels: Mapping[str, str]) -> bool:
    """Whether a workload with `labels` has every label of `selector`."""
    return selector.items() <= labels.items()


class Registry:
    """All services, one for each host and namespace: Kubernetes' first, then by age."""

    def __init__(self, services: Iterable[Service]) -> None:
        merged: dict[tuple[str, str], Service] = {}
        for service in sorted(services, key=_seniority):
            key = service.hostname, service.namespace
            merged[key] = _join(merged[key], service) if key in merged else service
        self.services = tuple(merged.values())
        self._by_host: dict[str, list[Service]] = {}
        for service in self.services:
            self._by_host.setdefault(service.hostname, []).append(service)

    def __repr__(self) -> str:
        return f"<Registry of {len(self.services)} services>"

    def __contains__(self, hostname: object) -> bool:
        return hostname in self._by_host

    def find(self, hostname: str, namespace: str) -> Service | None:
        """The service that a proxy of `namespace` reaches under `hostname`."""
        candidates = self._by_host.get(hostname, ())
        # An export that names the proxy's namespace goes before one to everybody, if the kind is the same.
        seen = [service for service in candidates if service.visibility.includes(namespace)]
        return min(seen, key=lambda service: (not service.kubernetes, service.visibility.everywhere), default=None)

    def at_gateway(self, namespace: str) -> View:
        """What a gateway of `namespace` sees."""
        return View(self, namespace)

    def at_sidecar(self, namespace: str) -> View:
        """What a sidecar of `namespace` sees."""
        return View(self, namespace, sidecar=True)

    def declared(self, hostname: str) -> tuple[Service, ...]:
        """Every service of this host, whoever may see it."""
        return tuple(self._by_host.get(hostname, ()))

    def under(self, pattern: str) -> tuple[Service, ...]:
        """Every service whose host is `pattern` or is covered by it."""
        hosts = [pattern, *self._hosts.covered(pattern)] if is_wildcard(pattern) else [pattern]
        return tuple(service for host in hosts for service in self._by_host.get(host, ()))

    @property
    def hostnames(self) -> Iterable[str]:
        """Every host that some service has."""
        return self._by_host.keys()

    @cached_property
    def _hosts(self) -> HostMap[None]:
        return HostMap(dict.fromkeys(self._by_host))


@dataclass(frozen=True, slots=True)
class View:
    """The services as a proxy of `namespace` sees them: of those exported to it, one for each host."""

    registry: Registry
    namespace: str
    sidecar: bool = False

    def find(self, hostname: str) -> Service | None:
        """The service that the proxy reaches under `hostname`. To a sidecar, its neighbours come before all."""
        if self.sidecar and (neighbour := self._declared_in(self.namespace, hostname)) is not None:
            return neighbour
        return self.registry.find(hostname, self.namespace)

    def services(self) -> Iterator[Service]:
        """Every service that can be found."""
        return (service for hostname in self.registry.hostnames if (service := self.find(hostname)) is not None)

    def meant(self, hostname: str, rule_namespace: str) -> Service | None:
        """The service that a rule of `rule_namespace` means by `hostname`: at a gateway, the rule's neighbour."""
        neighbour = None if self.sidecar else self._declared_in(rule_namespace, hostname)
        return neighbour or self.find(hostname)

    def unaliased(self, hostname: str) -> str:
        """The host that `hostname` is only another name for, if that is a service too; else itself."""
        seen: set[str] = set()
        while hostname not in seen:
            seen.add(hostname)
            service = self.find(hostname)
            if service is None or service.external_name is None or self.find(service.external_name) is None:
                break
            hostname = service.external_name
        return hostname

    def _declared_in(self, namespace: str, hostname: str) -> Service | None:
        for service in self.registry.declared(hostname):
            if service.namespace == namespace and service.visibility.includes(self.namespace):
                return service
        return None


def _seniority(service: Service) -> tuple[bool, Any, str, str]:
    return not service.kubernetes, *age(service.resource)


def _join(elder: Service, younger: Service) -> Service:
    """Two declarations of one host in one namespace: the elder's, with the endpoints, addresses and names of both.

    Only entries of a kind add ports to each other; what differs in how it is resolved or seen stays the
    elder's.
    """
    alike = (elder.kubernetes, elder.resolution, elder.visibility) == (
        younger.kubernetes,
        younger.resolution,
        younger.visibility,
    )
    new = tuple(port for port in younger.ports if elder.port(port.number) is None) if alike else ()
    ports = elder.ports + new
    endpoints = {p.number: elder.endpoints.get(p.number, ()) + younger.endpoints.get(p.number, ()) for p in ports}
    addresses = tuple(dict.fromkeys(elder.addresses + younger.addresses))
    names = tuple(dict.fromkeys(elder.subject_alt_names + younger.subject_alt_names))
    return dataclasses.replace(elder, ports=ports, endpoints=endpoints, addresses=addresses, subject_alt_names=names)
