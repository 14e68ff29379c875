"""Services: named target ports, and entries that disagree."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator

from ...resources import Problem, Resource, Service, ServiceEntry
from ..advice import listed
from ..declarations import selected_workloads
from ..names import Visibility, service_hostname
from .scope import Scope


def unknown_target_ports(scope: Scope) -> Iterator[Problem]:
    """A `targetPort` by a name that no workload behind the Service has for a port of its own."""
    if scope.unreadable("WorkloadEntry", "Endpoints", "EndpointSlice"):
        return
    for service in scope.mesh.of(Service):
        workloads = selected_workloads(service, scope.mesh.workloads)
        for place, port in enumerate(service.spec.ports):
            if isinstance(port.target_port, str) and workloads and not _reached(scope, service, port.port):
                known = listed(dict.fromkeys(name for workload in workloads for name in workload.ports))
                message = (
                    f"no workload that the selector picks has a port named {port.target_port!r}; "
                    f"theirs are {known or 'none'}: name it in the WorkloadEntry's ports, or give a number"
                )
                yield service.problem(("spec", "ports", place, "targetPort"), message)


def _reached(scope: Scope, service: Resource[Service], port: int) -> bool:
    host = service_hostname(service.name, service.namespace)
    return any(s.endpoints.get(port) for s in scope.mesh.registry.declared(host) if s.resource is service)


def protocol_conflicts(scope: Scope) -> Iterator[Problem]:
    """Two ServiceEntries that some namespace sees, with different protocols for one port of one host."""
    known: defaultdict[tuple[str, int], list[tuple[Resource[ServiceEntry], str]]] = defaultdict(list)
    for entry in scope.mesh.of(ServiceEntry):
        visibility = Visibility.of(entry.spec.export_to, entry.namespace)
        for place, port in enumerate(entry.spec.ports):
            for host in entry.spec.hosts if port.protocol else ():
                protocol = (port.protocol or "").upper()
                for elder, other in known[host.lower(), port.number]:
                    if other != protocol and Visibility.of(elder.spec.export_to, elder.namespace).overlaps(visibility):
                        message = f"port {port.number} of {host} is {other} in {elder.id}; make them agree"
                        yield entry.problem(("spec", "ports", place, "protocol"), message)
                known[host.lower(), port.number].append((entry, protocol))
