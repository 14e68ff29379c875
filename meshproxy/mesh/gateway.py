"""What a gateway runs: the Gateways that select it, merged, with the VirtualServices bound to them.

Sources: Istio's `mergeGateways` (pilot/pkg/model/gateway.go), `buildGatewayListeners` and
`buildGatewayHTTPRouteConfig`. Servers of one port and one `bind` are one listener, whichever Gateways they come from.
Those of plain HTTP have one filter chain and one route configuration; each of HTTPS has its own, for the names that its
clients ask for (SNI).

Two differences from Istio: a Gateway's port is never translated to the `targetPort` of a Service that selects
the gateway. Istio does so because a pod cannot choose where its Service listens; here `publish` chooses. And no port
is for HTTP and HTTPS at once, whichever server comes first.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import NamedTuple, Unpack

from ..resources import Destination, Gateway, Problem, Resource, Secret, Server, format_path
from ..snapshot import (
    UNKNOWN_LOCALITY,
    ClientCertDetails,
    FilterChain,
    FilterChainMatch,
    HttpConnectionManager,
    Listener,
    Locality,
    Origin,
    Route,
    RouteConfiguration,
    Snapshot,
    SocketAddress,
    VirtualHost,
)
from ..snapshot import Secret as SnapshotSecret
from .advice import listed
from .authentication import jwt_authentication
from .authorization import rbac_filters
from .clusters import ClusterReference, Targets
from .covering import is_catch_all
from .credentials import Credentials
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
from .server_tls import server_tls
from .trust_domains import believed
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

    @property
    def listener(self) -> tuple[int, str]:
        """The port and the address that it shares a listener by."""
        return self.server.port.number, self.server.bind or ANY_ADDRESS

    @property
    def is_secured(self) -> bool:
        """It speaks TLS."""
        return self.server.port.protocol.upper() == "HTTPS"

    @property
    def server_names(self) -> tuple[str, ...]:
        """Its hosts, without what they say of namespaces: what a client asks for."""
        return tuple(dict.fromkeys(host.lower().rpartition("/")[2] for host in self.server.hosts))

    @property
    def full_hosts(self) -> tuple[str, ...]:
        """Its hosts, with the namespaces that they are for."""
        here = f"{self.gateway.namespace}/"
        return tuple(here + host[2:] if host.startswith("./") else host for host in map(str.lower, self.server.hosts))

    def origin(self, *path: str) -> Origin:
        """Where it is written, or a part of it."""
        steps: tuple[str | int, ...] = ("spec", "servers", self.place, *path)
        position = self.gateway.position(*steps)
        return Origin(position.file, position.line, self.gateway.id, format_path(steps))


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
    here, trust = Whereabouts.of(selector or {}, locality), believed(mesh, trust)
    credentials, secrets = Credentials.of(mesh.of(Secret), namespace), dict[str, SnapshotSecret]()
    view, listeners = mesh.registry.at_gateway(namespace), []
    targets = Targets(view, mesh.destination_rules, here, trust, credentials, auto_mtls=mesh.auto_mtls)
    merged = merge_servers(selected_gateways(mesh, selector))
    for (port, bind), servers in merged.items():
        chains = []
        for group in route_groups(servers):
            hosts = contributions(mesh, group, selector, namespace, partial(targets.cluster_of, port))
            limits = at_gateways(mesh.traffic_limits, [server.gateway_name for server in group])
            redirected = _redirected_hosts(mesh, group, namespace)
            routes = RouteConfiguration(_routes_name(group[0]), tuple(_virtual_hosts(hosts, port, limits, redirected)))
            target = gateway_target(namespace, selector, (server.gateway for server in group))
            access, tokens = rbac_filters(mesh, target, port, trust), jwt_authentication(mesh, target)
            asked = ext_authz(mesh, target, port, targets, trust)
            manager = HttpConnectionManager(routes, ext_authz=asked, jwt_authn=tokens, rbac=access, **http)
            chain, its_secrets = _chain(group[0], limits.on_manager(manager), credentials, trust or Trust())
            chains.append(chain)
            for secret in its_secrets:
                secrets.setdefault(secret.name, secret)
        address = (publish or {}).get(port, SocketAddress(bind, port))
        if sum(port == other for other, _ in merged) > 1:  # only their hosts tell these listeners apart
            address = SocketAddress(bind, address.port)
        listeners.append(Listener(f"{bind}_{port}", address, tuple(chains)))
    clusters = tuple(targets.clusters())
    secrets |= {secret.name: secret for secret in targets.secrets() if secret.name not in secrets}
    return with_identity(Snapshot(tuple(listeners), clusters, tuple(secrets.values())))


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
    """The servers of some Gateways by port and address to bind, in the order of the Gateways.

    One that cannot be served beside those before it is left out.
    """
    merged: dict[tuple[int, str], list[PlacedServer]] = {}
    for server, conflict in _joined(gateways):
        if conflict is None:
            merged.setdefault(server.listener, []).append(server)
    return merged


def server_conflicts(gateways: Iterable[Resource[Gateway]]) -> Iterator[Problem]:
    """The servers that one proxy that runs all these Gateways would leave out, and why."""
    for server, conflict in _joined(gateways):
        if conflict is not None:
            yield server.gateway.problem(("spec", "servers", server.place), conflict)


def _joined(gateways: Iterable[Resource[Gateway]]) -> Iterator[tuple[PlacedServer, str | None]]:
    """Each server, and why it cannot be served beside those before it."""
    merged: dict[tuple[int, str], list[PlacedServer]] = {}
    for gateway in gateways:
        for place, server in enumerate(gateway.spec.servers):
            if is_served(server):
                placed = PlacedServer(server, gateway, place)
                beside = merged.setdefault(placed.listener, [])
                conflict = next(filter(None, (_conflict(one, placed) for one in beside)), None)
                if conflict is None:
                    beside.append(placed)
                yield placed, conflict


def _conflict(earlier: PlacedServer, later: PlacedServer) -> str | None:
    """Why two servers cannot share a listener."""
    position = earlier.gateway.position("spec", "servers", earlier.place)
    where = f"{earlier.gateway.id} in {position.file}:{position.line}"
    port = f"port {later.server.port.number}"
    if earlier.is_secured != later.is_secured:
        return f"{port} speaks {earlier.server.port.protocol} for {where}, so that this is left out; use another port"
    if earlier.server.tls is None or later.server.tls is None:
        return None
    names = earlier.server_names if later.is_secured else earlier.full_hosts
    twice = [name for name in (later.server_names if later.is_secured else later.full_hosts) if name in names]
    if not twice:
        return None
    return f"{where} has {listed(twice)} on {port} too, so that this is left out; name each host in one server"


def is_served(server: Server) -> bool:
    """Whether this server gets a listener: HTTP over TCP or TLS that ends here, so far."""
    protocol = server.port.protocol.upper()
    if server.port.number == 0 or protocol not in ("HTTP", "HTTPS"):
        return False
    return protocol == "HTTP" or (server.tls is not None and server.tls.mode in _TERMINATING)


_TERMINATING = ("SIMPLE", "MUTUAL", "OPTIONAL_MUTUAL", "ISTIO_MUTUAL")


def route_groups(servers: Sequence[PlacedServer]) -> list[list[PlacedServer]]:
    """The servers of a listener that share a filter chain and a route configuration."""
    return [[server] for server in servers] if servers[0].is_secured else [list(servers)]


def servers_for(servers: Sequence[PlacedServer], host: str) -> list[PlacedServer]:
    """The servers of a listener that share the filter chain which requests for `host` come to; there may be none."""
    if not servers[0].is_secured:
        return list(servers)
    by_name = {name: server for server in servers for name in server.server_names}
    found = sorted((name for name in by_name if subset_of(host, name)), key=specificity)
    return [by_name[found[0]]] if found else []


def _chain(
    server: PlacedServer, manager: HttpConnectionManager, credentials: Credentials, trust: Trust
) -> tuple[FilterChain, tuple[SnapshotSecret, ...]]:
    """The filter chain of a server, or of all plain ones of a port, and the secrets that it refers to."""
    settings = server.server.tls
    if not server.is_secured or settings is None:
        return FilterChain(manager), ()
    tls = server_tls(settings, credentials, trust, server.origin("tls"))
    names = () if "*" in server.server_names else tuple(sorted(server.server_names))
    if tls.context.common.validation_context is not None:
        details = ClientCertDetails(subject=True, cert=True, uri=True, dns=True)
        manager = replace(manager, forward_client_cert="SANITIZE_SET", client_cert_details=details)
    name = manager.route_config.name
    return FilterChain(manager, FilterChainMatch(names), tls.context, name, server.origin()), tls.secrets


def _routes_name(server: PlacedServer) -> str:
    """What Istio calls the route configuration of a server (`gatewayRDSRouteName`)."""
    port, gateway = server.server.port, server.gateway
    name = f"http.{port.number}"
    if server.is_secured:
        name = f"https.{port.number}.{port.name}.{gateway.name}.{gateway.namespace}"
    return f"{name}.{server.server.bind}" if server.server.bind else name


def _redirected_hosts(mesh: Mesh, servers: Iterable[PlacedServer], proxy_namespace: str) -> frozenset[str]:
    """The hosts of which plain requests are sent to HTTPS: those of the servers that ask for it."""
    found: set[str] = set()
    for server in servers:
        if server.server.tls is not None and server.server.tls.https_redirect:
            found.update(server.server_names)
            for service in mesh.virtual_services.at_gateway(server.gateway_name, proxy_namespace):
                found.update(Admission(server).admit(service))
    return frozenset(found)


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


def _virtual_hosts(
    hosts: Mapping[str, list[Contribution]], port: int, limits: Limits, redirected: Collection[str] = frozenset()
) -> Iterator[VirtualHost]:
    """The virtual hosts, by name. Hosts with the very same routes and limits share one, named for the most specific.

    Plain requests for those that are `redirected` are sent to HTTPS; nothing else need be there for them.
    """
    everyone = {**hosts, **{host: [] for host in redirected if host not in hosts}}
    if not everyone:
        yield VirtualHost(f"blackhole:{port}", ("*",), ())
    alike: dict[tuple[tuple[Contribution, ...], tuple[Limit, ...], bool], list[str]] = {}
    for host in sorted(everyone, key=specificity):
        key = tuple(everyone[host]), limits.of_host((host,)), host in redirected
        alike.setdefault(key, []).append(host)
    for first, *others in sorted(alike.values(), key=lambda names: with_port(names[0], port)):
        routes = [route for contribution in everyone[first] for route in contribution.routes]
        # Each VirtualService may have a route for the rest; these wait until all others had their turn.
        routes.sort(key=lambda route: is_catch_all(route.match))
        yield VirtualHost(
            with_port(first, port),
            (first, *others),
            tuple(routes),
            include_request_attempt_count=True,
            require_tls=first in redirected,
        )
