"""What keeps one workload from having a sidecar, or makes it less than it seems."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterator, Mapping
from typing import Any

from ...resources import Note, Problem, Resource, Service, ServiceEntry, WorkloadEntry
from ...snapshot import Address, SocketAddress
from ..advice import listed
from ..inbound import InboundPort, inbound_ports, served_ports
from ..mesh import Mesh
from ..names import is_ip_address


def sidecar_problems(
    mesh: Mesh,
    workload: Resource[WorkloadEntry],
    *,
    app: Address | None = None,
    outbound: SocketAddress | None = None,
) -> tuple[Problem, ...]:
    """Why a sidecar of `workload` cannot run, with the app and the outbound listener at these addresses if given."""
    return tuple(sorted({*_unsupported_ports(mesh, workload), *_unusable_addresses(mesh, workload, app, outbound)}))


def sidecar_notes(mesh: Mesh, workload: Resource[WorkloadEntry]) -> tuple[Note, ...]:
    """What a person should know of a sidecar that can run."""
    inbound = list(inbound_ports(mesh, workload))
    position = workload.position("spec", "labels")
    if not inbound:
        message = f"no service selects {workload.id}, so that its sidecar handles only what the app sends"
        return (Note(position, f"{message}; {_selectors(mesh, workload.namespace)}"),)
    return tuple(
        Note(
            port.service.position("spec", "ports", port.place, "targetPort"),
            f"{workload.id} has no port of this name, and its sidecar does not listen for port {port.port.number} "
            f"of {port.hostname}; name it in the WorkloadEntry's ports",
        )
        for port in inbound
        if port.number is None
    )


def _selectors(mesh: Mesh, namespace: str) -> str:
    selectors: list[tuple[Resource[Any], Mapping[str, str]]] = [(s, s.spec.selector) for s in mesh.of(Service)]
    selectors += [(e, e.spec.workload_selector.labels) for e in mesh.of(ServiceEntry) if e.spec.workload_selector]
    wanted = [
        f"{service.id} wants {', '.join(f'{name}={value}' for name, value in selector.items())}"
        for service, selector in selectors
        if selector and service.namespace == namespace
    ]
    return listed(wanted) or f"namespace {namespace!r} has none with a selector"


def _unsupported_ports(mesh: Mesh, workload: Resource[WorkloadEntry]) -> Iterator[Problem]:
    for inbound in inbound_ports(mesh, workload):
        if not inbound.port.is_http:
            message = (
                f"not supported yet: {inbound.port.protocol} at a sidecar, and {workload.id} is behind this port; "
                "name it http, or take its protocol away"
            )
            yield inbound.service.problem(("spec", "ports", inbound.place), message)


def _unusable_addresses(
    mesh: Mesh, workload: Resource[WorkloadEntry], app: Address | None, outbound: SocketAddress | None
) -> Iterator[Problem]:
    address = workload.spec.address or ""
    served = served_ports(mesh, workload)
    if not is_ip_address(address):
        if served:
            yield _not_an_ip_address(workload, next(iter(served.values())))
        served = {}
    for number, inbound in served.items():
        listener, reason = SocketAddress(address, number), _reason(inbound)
        if _leads_to(app, listener):
            message = (
                f"the sidecar listens on {listener} {reason}, and cannot find the app there too; let the app listen "
                "on another port, and name that one as the app's"
            )
            yield workload.problem(("spec", "address"), message)
        if _leads_to(outbound, listener):
            message = f"the sidecar listens on {listener} {reason}; give the outbound listener another port"
            yield workload.problem(("spec", "address"), message)
    if outbound is not None and _leads_to(app, outbound):
        message = f"the app and the outbound listener cannot both have {outbound}; give one of them another port"
        yield workload.problem((), message)


def _not_an_ip_address(workload: Resource[WorkloadEntry], inbound: InboundPort) -> Problem:
    address = workload.spec.address
    if address is None:
        message = f"is required to listen {_reason(inbound)}; give the IP address that the sidecar is to listen on"
    else:
        message = (
            f"a sidecar cannot listen on {address!r} {_reason(inbound)}; give an IP address of this machine, such as "
            "127.0.0.1"
        )
    return workload.problem(("spec", "address"), message)


def _reason(inbound: InboundPort) -> str:
    return f"for port {inbound.port.number} of {inbound.service.id}"


def _leads_to(address: Address | None, listener: SocketAddress) -> bool:
    """Whether a connection to `address` is one to `listener`."""
    if not isinstance(address, SocketAddress) or address.port != listener.port or not is_ip_address(address.host):
        return False
    to, at = ipaddress.ip_address(address.host), ipaddress.ip_address(listener.host)
    return to == at or (to.is_unspecified and at.is_loopback) or (at.is_unspecified and to.is_loopback)
