"""Between VirtualServices and Gateways: names, hosts, ports."""

from __future__ import annotations

from collections.abc import Iterator

from ...resources import Gateway, Problem
from ..advice import advice, listed
from ..names import MESH_GATEWAY, gateway_name
from ..virtual_services import MergedVirtualService, own_rules
from .scope import Scope


def unknown_gateways(scope: Scope) -> Iterator[Problem]:
    """A gateway that does not exist."""
    known = scope.mesh.gateways
    for service in scope.merged:
        for place, name in enumerate(service.resource.spec.gateways):
            full = gateway_name(name, service.resource.namespace)
            if full == MESH_GATEWAY or full in known or _id(full) in scope.invalid:
                continue
            short = full.partition("/")[2]
            namesakes = [other for other in known if other.endswith(f"/{short}")]
            hint = advice(full, known, "there are no Gateways", likely=namesakes)
            yield service.resource.problem(("spec", "gateways", place), f"no Gateway {full!r}; {hint}")


def unseen_virtual_services(scope: Scope) -> Iterator[Problem]:
    """A VirtualService for gateways alone that is not exported to where the gateway runs."""
    for service in scope.merged:
        is_certain = _has_whole(service, "gateways") and _has_whole(service, "exportTo")
        for_gateways = is_certain and MESH_GATEWAY not in service.gateways
        if for_gateways and not service.visibility.includes(scope.namespace):
            message = f"not exported to namespace {scope.namespace!r}, where the gateway runs; add that, or use '*'"
            yield service.resource.problem(("spec", "exportTo"), message)


def unbound_match_gateways(scope: Scope) -> Iterator[Problem]:
    """A match for a gateway that its VirtualService is not bound to."""
    for service in _bound(scope):
        for rule in own_rules(service.resource):
            for match in rule.matches:
                for place, name in enumerate(match.request.gateways):
                    full = gateway_name(name, service.resource.namespace)
                    if full not in service.gateways:
                        hint = advice(full, service.gateways, "it is bound to none")
                        message = f"not bound to gateway {full!r}, so nothing can match; {hint}"
                        yield service.resource.problem((*match.path, "gateways", place), message)


def hosts_not_admitted(scope: Scope) -> Iterator[Problem]:
    """A host that no gateway of its VirtualService serves, or a gateway that serves none of its hosts."""
    for service in _bound(scope):
        if not _has_whole(service, "hosts"):
            continue
        bound = [gateway for gateway in dict.fromkeys(service.gateways) if gateway != MESH_GATEWAY]
        if not bound or not all(gateway in scope.mesh.gateways for gateway in bound):
            continue
        admitted = {gateway: _admitted(scope, gateway, service) for gateway in bound}
        if MESH_GATEWAY not in service.gateways:
            yield from _unserved_hosts(scope, service, set().union(*admitted.values()))
        if MESH_GATEWAY in service.gateways or any(admitted.values()):
            yield from _unused_gateways(scope, service, admitted)


def _admitted(scope: Scope, gateway: str, service: MergedVirtualService) -> set[str]:
    """The hosts of a VirtualService of which a gateway serves at least a part."""
    admissions = scope.admissions[gateway]
    return {host for host in service.hosts if any(a.admit_host(host, service) for a in admissions)}


def _server_hosts(scope: Scope, gateway: str) -> str:
    servers = scope.mesh.gateways[gateway].spec.servers
    return listed(dict.fromkeys(host for server in servers for host in server.hosts))


def _unserved_hosts(scope: Scope, service: MergedVirtualService, served: set[str]) -> Iterator[Problem]:
    gateways = [gateway for gateway in service.gateways if gateway != MESH_GATEWAY]
    hosts = "; ".join(f"Gateway {gateway!r} has {_server_hosts(scope, gateway)}" for gateway in gateways)
    for place, host in enumerate(service.hosts):
        if host not in served:
            message = f"no server admits the host {host!r} of namespace {service.resource.namespace!r}: {hosts}"
            yield service.resource.problem(("spec", "hosts", place), message)


def _unused_gateways(scope: Scope, service: MergedVirtualService, admitted: dict[str, set[str]]) -> Iterator[Problem]:
    for place, gateway in enumerate(service.gateways if service.resource.spec.gateways else ()):
        if gateway != MESH_GATEWAY and not admitted[gateway]:
            hosts = f"{listed(service.hosts)}; its servers have {_server_hosts(scope, gateway)}"
            message = f"Gateway {gateway!r} admits none of the hosts {hosts}"
            yield service.resource.problem(("spec", "gateways", place), message)


def ports_without_server(scope: Scope) -> Iterator[Problem]:
    """A match for a port on which no gateway of the VirtualService listens."""
    for service in _bound(scope):
        for rule in own_rules(service.resource):
            for match in rule.matches:
                if not service.resource.is_whole(*match.path):
                    continue
                gateways = match.gateways or frozenset(service.gateways)
                if match.request.port is None or not gateways <= scope.mesh.gateways.keys():
                    continue  # a sidecar's ports are those of the services
                servers = [s for gateway in gateways for s in scope.mesh.gateways[gateway].spec.servers]
                ports = sorted({server.port.number for server in servers})
                if match.request.port not in ports:
                    places = f"{listed(sorted(gateways))} listens on {listed(ports)}"
                    message = f"no gateway listens on port {match.request.port}, so nothing can match; {places}"
                    yield service.resource.problem((*match.path, "port"), message)


def unsupported_servers(scope: Scope) -> Iterator[Problem]:
    """A server on a Unix socket, which listeners cannot be yet."""
    for gateway in scope.of(Gateway):
        for place, server in enumerate(gateway.spec.servers):
            if server.bind is not None and server.bind.startswith("unix:"):
                message = "not supported yet: listeners on Unix sockets; bind an IP address"
                yield gateway.problem(("spec", "servers", place, "bind"), message)


def _bound(scope: Scope) -> Iterator[MergedVirtualService]:
    """The VirtualServices of which it is known which gateways they are bound to."""
    return (service for service in scope.merged if _has_whole(service, "gateways"))


def _has_whole(service: MergedVirtualService, field: str) -> bool:
    return service.resource.is_whole("spec", field)


def _id(gateway: str) -> str:
    namespace, _, name = gateway.partition("/")
    return f"Gateway/{name}.{namespace}"
