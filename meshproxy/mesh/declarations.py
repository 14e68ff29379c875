"""Services as declared by ServiceEntry, and by Kubernetes' Service with Endpoints and EndpointSlice.

Where a workload listens for a port of a service, Istio's order holds. For a ServiceEntry: a Unix socket, the
workload's own port of the service port's name, `targetPort`, the port itself. For a Service: a named
`targetPort` is the workload's port of that name, and a workload without one is left out; else the workload's
own port of the service port's name, the numbered `targetPort`, the port itself.

One difference from Istio, where pods do the work: any Service, a headless one too, finds WorkloadEntries with
any address that one can have, because here they are all that stands for pods.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from .. import resources as api
from ..resources import Resource
from ..resources.gateway import PROTOCOLS
from ..snapshot import SocketAddress
from .names import Visibility, is_ip_address, service_hostname
from .registry import Resolution, Service, ServiceEndpoint, ServicePort
from .workloads import Workload, Workloads

EXPORT_TO_ANNOTATION = "networking.istio.io/exportTo"
SERVICE_NAME_LABEL = "kubernetes.io/service-name"

_RESOLUTIONS: dict[str | None, Resolution] = {
    "STATIC": "STATIC",
    "DNS": "DNS",
    "DNS_ROUND_ROBIN": "DNS_ROUND_ROBIN",
}

AddressesByPort = Mapping[str, list[SocketAddress]]
"""Addresses that Kubernetes publishes for a Service, by the name of the Service's port."""


def entry_services(entry: Resource[api.ServiceEntry], workloads: Workloads) -> Iterator[Service]:
    """The services that a ServiceEntry declares: one for each host."""
    spec = entry.spec
    resolution = _RESOLUTIONS.get(spec.resolution, "NONE")
    external = spec.location != "MESH_INTERNAL"
    for host in map(str.lower, spec.hosts):
        servers = _entry_workloads(entry, host, resolution, workloads)
        yield Service(
            hostname=host,
            namespace=entry.namespace,
            ports=tuple(ServicePort(port.number, port.name, (port.protocol or "").upper()) for port in spec.ports),
            resolution=resolution,
            endpoints={port.number: tuple(_entry_endpoint(server, port) for server in servers) for port in spec.ports},
            mesh_external=external,
            visibility=Visibility.of(spec.export_to, entry.namespace),
            resource=entry,
            addresses=tuple(filter(is_ip_address, (_single_address(subnet) for subnet in spec.addresses))),
            subject_alt_names=spec.subject_alt_names,
        )


def _entry_workloads(
    entry: Resource[api.ServiceEntry], host: str, resolution: Resolution, workloads: Workloads
) -> list[Workload]:
    spec = entry.spec
    if spec.workload_selector is not None:
        return workloads.select(entry.namespace, spec.workload_selector.labels)
    if not spec.endpoints and resolution in ("DNS", "DNS_ROUND_ROBIN"):
        return [Workload(host)]
    workloads_within = (workloads.workload(one, {}, entry.namespace) for one in spec.endpoints)
    return [workload for workload in workloads_within if workload.address]


def _single_address(subnet: str) -> str:
    """The address that a subnet consists of, if it is one; nobody can name a larger one as a host."""
    address, _, length = subnet.partition("/")
    return address if length in ("", "128" if ":" in address else "32") else ""


def _entry_endpoint(workload: Workload, port: api.ServicePort) -> ServiceEndpoint:
    return _endpoint(workload, entry_target_port(port, workload))


def _endpoint(workload: Workload, port: int) -> ServiceEndpoint:
    return ServiceEndpoint(
        workload.at(port),
        workload.endpoint_labels,
        workload.weight,
        workload.locality,
        workload.health_check,
        workload.service_account,
        workload.mtls.at(port) if workload.mtls is not None else None,
    )


def entry_target_port(port: api.ServicePort, workload: Workload) -> int:
    """Where a workload listens for a port of a ServiceEntry."""
    return workload.ports.get(port.name) or port.target_port or port.number


def kubernetes_service(
    service: Resource[api.Service], workloads: Workloads, published: Iterable[AddressesByPort]
) -> Service:
    """The service that a Kubernetes Service declares; `published` is what its Endpoints and slices hold."""
    spec = service.spec
    tcp = [port for port in spec.ports if port.protocol == "TCP"]
    published = tuple(published)
    selected = selected_workloads(service, workloads)
    exported = service.annotations.get(EXPORT_TO_ANNOTATION, "")
    return Service(
        hostname=service_hostname(service.name, service.namespace),
        namespace=service.namespace,
        ports=tuple(ServicePort(port.port, port.name or "", protocol_of(port)) for port in tcp),
        resolution="STATIC",
        endpoints={port.port: tuple(_service_endpoints(port, selected, published)) for port in tcp},
        visibility=Visibility.of(filter(None, map(str.strip, exported.split(","))), service.namespace),
        resource=service,
        kubernetes=True,
        external_name=spec.external_name.lower() if spec.type == "ExternalName" and spec.external_name else None,
        addresses=tuple(filter(is_ip_address, dict.fromkeys((spec.cluster_ip or "", *spec.cluster_ips)))),
    )


_SERVER_SPEAKS_FIRST = frozenset((25, 53, 3306, 27017))  # SMTP, DNS, MySQL, MongoDB: there is nothing to look at


def protocol_of(port: api.KubernetesServicePort) -> str:
    """What a Service's port speaks: its `appProtocol`, or else the beginning of its name, if that is a protocol.

    Istio's `ConvertProtocol`; empty where neither says.
    """
    said = (port.name if port.app_protocol is None else port.app_protocol) or ""
    if said in _KUBERNETES_PROTOCOLS:  # a port's name cannot hold a slash
        return _KUBERNETES_PROTOCOLS[said]
    said = said.upper()
    known = "GRPC-WEB" if said.startswith("GRPC-WEB") else said.partition("-")[0]
    if known in PROTOCOLS:
        return known
    return "TCP" if port.port in _SERVER_SPEAKS_FIRST else ""


_KUBERNETES_PROTOCOLS = {"kubernetes.io/h2c": "HTTP2", "kubernetes.io/ws": "HTTP", "kubernetes.io/wss": "HTTPS"}


def selected_workloads(service: Resource[api.Service], workloads: Workloads) -> list[Workload]:
    """The workloads behind a Kubernetes Service; one without a selector has none of its own."""
    return workloads.select(service.namespace, service.spec.selector) if service.spec.selector else []


def _service_endpoints(
    port: api.KubernetesServicePort, selected: Iterable[Workload], published: Iterable[AddressesByPort]
) -> Iterator[ServiceEndpoint]:
    for workload in selected:
        number = target_port(port, workload)
        if number is not None:
            yield _endpoint(workload, number)
    for addresses in published:
        yield from map(ServiceEndpoint, addresses.get(port.name or "", ()))


def target_port(port: api.KubernetesServicePort, workload: Workload) -> int | None:
    """Where a workload listens for a port of a Service; None if `targetPort` is a name it does not know."""
    if isinstance(port.target_port, str):
        return workload.ports.get(port.target_port)
    return workload.ports.get(port.name or "") or port.target_port or port.port


class Published:
    """What Endpoints and EndpointSlices say of each Service.

    A cluster's dump has both for the same addresses; endpoints of equal address count once where clusters are
    made.
    """

    def __init__(self, resources: Iterable[Resource[Any]]) -> None:
        self._endpoints: dict[tuple[str, str], list[api.Endpoints]] = {}
        self._slices: dict[tuple[str, str], list[api.EndpointSlice]] = {}
        for resource in resources:
            if isinstance(resource.spec, api.Endpoints):
                self._endpoints.setdefault((resource.namespace, resource.name), []).append(resource.spec)
            elif isinstance(resource.spec, api.EndpointSlice) and SERVICE_NAME_LABEL in resource.labels:
                key = resource.namespace, resource.labels[SERVICE_NAME_LABEL]
                self._slices.setdefault(key, []).append(resource.spec)

    def addresses(self, service: Resource[api.Service]) -> Iterator[AddressesByPort]:
        """The addresses of a Service; those that are not ready only if it publishes them."""
        key, unready = (service.namespace, service.name), service.spec.publish_not_ready_addresses
        for endpoints in self._endpoints.get(key, ()):
            for subset in endpoints.subsets:
                hosts = [a.ip for a in subset.addresses + (subset.not_ready_addresses if unready else ())]
                yield {port.name or "": [SocketAddress(host, port.port) for host in hosts] for port in subset.ports}
        for part in self._slices.get(key, ()):
            ready = [e for e in part.endpoints if unready or e.conditions.ready is not False]
            hosts = [host for endpoint in ready for host in endpoint.addresses]
            ports = [(port.name or "", port.port) for port in part.ports if port.port is not None]
            yield {name: [SocketAddress(host, number) for host in hosts] for name, number in ports}
