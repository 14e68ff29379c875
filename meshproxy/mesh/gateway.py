"""What a gateway runs: the Gateways that select it, merged, with the VirtualServices bound to them.

Sources: Istio's `mergeGateways` (pilot/pkg/model/gateway.go) and `buildGatewayHTTPRouteConfig`. Servers of
one port and one `bind` are one listener, whichever Gateways they come from, and have one route configuration.

One difference from Istio: a Gateway's port is never translated to the `targetPort` of a Service that selects
the gateway. Istio does so because a pod cannot choose where its Service listens; here `publish` chooses.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import NamedTuple, Unpack

from ..resources import Destination, Gateway, Resource, Server
from ..snapshot import (
    UNKNOWN_LOCALITY,
    FilterChain,
    HttpConnectionManager,
    Listener,
    Locality,
    Route,
    RouteConfiguration,
    Snapshot,
    SocketAddress,
    VirtualHost,
)
from .authentication import jwt_authentication
from .authorization import rbac_filters
from .clusters import ClusterReference, Targets
from .covering import is_catch_all
from .ext_authz import ext_authz
from .hosts import HostMap, specificity, subset_of
from .http_options import HttpOptions
from .limits import Limit, Limits, at_gateways
from .localities import Whereabouts
from .mesh import Mesh
from .mutual_tls import Trust, with_identity
from .names import ROOT_NAMESPACE, with_port
from .policy_targets import Target
from .registry import selects
from .routes import ConsideredRoute, RouteContext, considered_routes, virtual_service_routes
from .virtual_services import Match, MergedVirtualService

ANY_ADDRESS = "0.0.0.0"


class PlacedServer(NamedTuple):
    """A server and the Gateway it is written in, at `spec.servers[place]`."""

    server: Server
    gateway: Resource[Gateway]
    place: int

    @property
    def gateway_name(self) -> str:
        """The Gateway as VirtualServices name it."""
        return f"{self.gateway.namespace}/{self.gateway.name}"


def gateway_snapshot(
    mesh: Mesh,
    *,
    selector: Mapping[str, str] | None = None,
    namespace: str = ROOT_NAMESPACE,
    publish: Mapping[int, SocketAddress] | None = None,
    locality: Locality = UNKNOWN_LOCALITY,
    trust: Trust | None = None,
    **http: Unpack[HttpOptions],
) -> Snapshot:
    """What a gateway of `namespace` with the labels `selector` runs; without labels, all Gateways.

    A Gateway belongs to a workload that has every label of its own selector. `publish` says where a Gateway
    port listens in truth, in place of the server's `bind` and the port itself; servers that share a port and
    differ in `bind` keep that. The snapshot's clusters are those that its routes and providers name, if they exist.
    `locality` is where the gateway runs.
    """
    here = Whereabouts.of(selector or {}, locality)
    listeners, targets = [], Targets(mesh.registry.at_gateway(namespace), mesh.destination_rules, here, trust)
    merged = merge_servers(selected_gateways(mesh, selector))
    for (port, bind), servers in merged.items():
        hosts = contributions(mesh, servers, selector, namespace, partial(targets.cluster_of, port))
        own_bind = servers[0].server.bind
        name = f"http.{port}.{own_bind}" if own_bind else f"http.{port}"
        limits = at_gateways(mesh.traffic_limits, [server.gateway_name for server in servers])
        routes = RouteConfiguration(name, tuple(_virtual_hosts(hosts, port, limits)))
        address = (publish or {}).get(port, SocketAddress(bind, port))
        if sum(port == other for other, _ in merged) > 1:  # only their hosts tell these listeners apart
            address = SocketAddress(bind, address.port)
        target = gateway_target(namespace, selector, (server.gateway for server in servers))
        access, tokens = rbac_filters(mesh, target, port), jwt_authentication(mesh, target)
        asked = ext_authz(mesh, target, port, targets)
        manager = HttpConnectionManager(routes, ext_authz=asked, jwt_authn=tokens, rbac=access, **http)
        listener = Listener(f"{bind}_{port}", address, (FilterChain(manager),))
        listeners.append(limits.on(listener))
    return with_identity(Snapshot(tuple(listeners), tuple(targets.clusters()), tuple(targets.secrets())))


def gateway_target(namespace: str, selector: Mapping[str, str] | None, gateways: Iterable[Resource[Gateway]]) -> Target:
    """A gateway as policies see it. One that runs all Gateways has the labels that each of them asks for."""
    return Target(namespace, tuple(gateway.spec.selector for gateway in gateways) if selector is None else (selector,))


def gateway_ports(mesh: Mesh, selector: Mapping[str, str] | None = None) -> frozenset[int]:
    """The Gateway ports that `gateway_snapshot` makes listeners of, for the same selector."""
    return frozenset(port for port, _ in merge_servers(selected_gateways(mesh, selector)))


def selected_gateways(mesh: Mesh, labels: Mapping[str, str] | None) -> list[Resource[Gateway]]:
    """The Gateways for a workload with these labels, the oldest first; every Gateway if there are none."""
    gateways = mesh.gateways.values()
    return [gateway for gateway in gateways if labels is None or selects(gateway.spec.selector, labels)]


def merge_servers(gateways: Iterable[Resource[Gateway]]) -> dict[tuple[int, str], list[PlacedServer]]:
    """The HTTP servers of some Gateways by port and address to bind, in the order of the Gateways."""
    merged: dict[tuple[int, str], list[PlacedServer]] = {}
    for gateway in gateways:
        for place, server in enumerate(gateway.spec.servers):
            if is_served(server):
                servers = merged.setdefault((server.port.number, server.bind or ANY_ADDRESS), [])
                servers.append(PlacedServer(server, gateway, place))
    return merged


def is_served(server: Server) -> bool:
    """Whether this server gets a listener: plain HTTP over TCP, so far."""
    return server.port.protocol.upper() == "HTTP" and server.port.number != 0


@dataclass(frozen=True, slots=True, eq=False)
class Contribution:
    """The routes that one VirtualService brings to a virtual host, by one Gateway, and what each comes of."""

    service: MergedVirtualService
    matches: tuple[Match, ...]
    routes: tuple[Route, ...]


def contributions(
    mesh: Mesh,
    servers: Iterable[PlacedServer],
    labels: Mapping[str, str] | None,
    proxy_namespace: str,
    cluster_of: Callable[[Destination, str], ClusterReference],
) -> dict[str, list[Contribution]]:
    """Which VirtualServices contribute to which host of some servers of one port, in merging order.

    A VirtualService that has no route here contributes nothing, not even its hosts: a wildcard of another may
    then take their requests.
    """
    hosts: dict[str, dict[Contribution, None]] = {}
    known: dict[tuple[str, MergedVirtualService], Contribution] = {}
    for context, service, admitted in _admitted(mesh, servers, labels, proxy_namespace, cluster_of):
        contribution = known.get((context.gateway, service))
        if contribution is None:
            routes = list(virtual_service_routes(service, context))
            contribution = Contribution(service, tuple(m for m, _ in routes), tuple(r for _, r in routes))
            known[context.gateway, service] = contribution
        for host in admitted if contribution.routes else ():
            hosts.setdefault(host, {})[contribution] = None  # once, though two servers may both admit it
    return {host: list(merged) for host, merged in hosts.items()}


def considered_by_gateway(
    mesh: Mesh,
    servers: Sequence[PlacedServer],
    host: str,
    *,
    selector: Mapping[str, str] | None = None,
    namespace: str = ROOT_NAMESPACE,
) -> list[ConsideredRoute]:
    """What requests for `host` may meet at some servers of one port, in the order in which it is tried.

    They are the routes of its virtual host with those that do not exist here, after those of more specific hosts that
    are no virtual hosts for want of a route.
    """
    targets = Targets(mesh.registry.at_gateway(namespace), mesh.destination_rules, Whereabouts.of(selector or {}))
    cluster_of = partial(targets.cluster_of, servers[0].server.port.number)
    hosts: dict[str, dict[tuple[str, MergedVirtualService], RouteContext]] = {}
    for context, service, admitted in _admitted(mesh, servers, selector, namespace, cluster_of):
        for pattern in admitted:
            if subset_of(host, pattern):
                hosts.setdefault(pattern, {}).setdefault((context.gateway, service), context)
    considered: list[ConsideredRoute] = []
    for pattern in sorted(hosts, key=specificity):
        found = [one for (_, service), context in hosts[pattern].items() for one in considered_routes(service, context)]
        considered += sorted(found, key=lambda one: one.unmet is None and is_catch_all(one.route.match))
        if any(one.unmet is None for one in found):
            break
    return considered


def _admitted(
    mesh: Mesh,
    servers: Iterable[PlacedServer],
    labels: Mapping[str, str] | None,
    proxy_namespace: str,
    cluster_of: Callable[[Destination, str], ClusterReference],
) -> Iterator[tuple[RouteContext, MergedVirtualService, dict[str, None]]]:
    """The VirtualServices that each server admits, with the hosts that they get there."""
    for server in servers:
        gateway, admission = server.gateway_name, Admission(server)
        proxy_labels = server.gateway.spec.selector if labels is None else labels
        context = RouteContext(gateway, server.server.port.number, proxy_namespace, proxy_labels, cluster_of)
        for service in mesh.virtual_services.at_gateway(gateway, proxy_namespace):
            if admitted := admission.admit(service):
                yield context, service, admitted


class Admission:
    """The hosts that a server admits, of VirtualServices of any namespace or of certain ones.

    `host` and `*/host` are open to all, `ns/host` to VirtualServices of `ns`, `./host` to those beside the
    Gateway.
    """

    def __init__(self, server: PlacedServer) -> None:
        by_namespace: dict[str, dict[str, None]] = {}
        for host in server.server.hosts:
            namespace, slash, name = host.lower().rpartition("/")
            scope = {"": "*", ".": server.gateway.namespace}.get(namespace, namespace) if slash else "*"
            by_namespace.setdefault(scope, {})[name] = None
        self._by_namespace = {namespace: HostMap(names) for namespace, names in by_namespace.items()}

    def admit(self, service: MergedVirtualService) -> dict[str, None]:
        """The hosts that a VirtualService gets here: what its own and the server's have in common."""
        return {common: None for host in service.hosts for common in self.admit_host(host, service)}

    def admit_host(self, host: str, service: MergedVirtualService) -> tuple[str, ...]:
        """What one host of a VirtualService and the server's hosts have in common."""
        scopes = (self._by_namespace.get(namespace) for namespace in ("*", service.resource.namespace))
        return tuple(common for scope in scopes if scope is not None for common in scope.intersection((host,)))


def _virtual_hosts(hosts: Mapping[str, list[Contribution]], port: int, limits: Limits) -> Iterator[VirtualHost]:
    """The virtual hosts, by name. Hosts with the very same routes and limits share one, named for the most specific."""
    if not hosts:
        yield VirtualHost(f"blackhole:{port}", ("*",), ())
    alike: dict[tuple[tuple[Contribution, ...], tuple[Limit, ...]], list[str]] = {}
    for host in sorted(hosts, key=specificity):
        alike.setdefault((tuple(hosts[host]), limits.of_host((host,))), []).append(host)
    for first, *others in sorted(alike.values(), key=lambda names: with_port(names[0], port)):
        routes = [route for contribution in hosts[first] for route in contribution.routes]
        # Each VirtualService may have a route for the rest; these wait until all others had their turn.
        routes.sort(key=lambda route: is_catch_all(route.match))
        yield VirtualHost(with_port(first, port), (first, *others), tuple(routes), include_request_attempt_count=True)
