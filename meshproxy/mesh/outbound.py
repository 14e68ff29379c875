"""What a sidecar knows of the hosts that its app may call: a virtual host for each of them and each of its ports.

An Istio sidecar has a listener for each port that some service has, and the kernel brings it every connection of
the app. Here the app knows its proxy: there is one listener, and each request says which host and port it is for.
So the route configurations of all those listeners are one, in which a domain of port 80 stands with and without
its port, and one of any other port only with it.

Sources: Istio's `BuildSidecarOutboundVirtualHosts` and `generateVirtualHostDomains` (httproute.go),
`BuildSidecarVirtualHostWrapper` (route.go) and `computeWildcardHostVirtualServiceIndex` (sidecar.go). From there:

- One VirtualService holds for a service on a port; several are not merged. The one that names the service goes
  before wildcards, a long wildcard before a short one, and after that the order of `VirtualServices.at_gateway`.
- If no route of it concerns this port and this proxy, the service has its default route.
- A host that is no service has a virtual host on port 80, and on those ports of services that its VirtualService
  holds for too; it is known by its full name alone.

Differences from Istio, on purpose:

1. Istio's own HTTP proxy port, `http_proxy`, is blind to `match.port` and to hosts that are no services, so that a
   rule would do one thing with a captured connection and another with a proxied one. Here they do the same.
2. A destination without a port means the only port of its service, as Istio documents, and not the request's.
3. A wildcard that lies within a service's wildcard holds for the hosts that it covers; Istio drops it.
4. A name that someone wrote goes before a short name of another service, wherever both are the same.
5. The pods of a headless service have no names of their own here.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial

from ..snapshot import Origin, Route, RouteAction, RouteMatch, VirtualHost, WeightedCluster
from .clusters import Target, Targets
from .hosts import HostMap, is_wildcard, specificity, subset_of
from .names import MESH_GATEWAY, short_names, with_port
from .registry import Service, View
from .retries import DEFAULT_RETRIES
from .routes import ConsideredRoute, RouteContext, considered_routes, virtual_service_routes
from .virtual_services import MergedVirtualService, VirtualServices

HTTP_PORT = 80
"""The port of a request that names none."""

DEFAULT_ROUTE = "default"

Routes = tuple[Route, ...]


def outbound_virtual_hosts(
    virtual_services: VirtualServices, labels: Mapping[str, str], targets: Targets
) -> list[VirtualHost]:
    """The virtual hosts of a sidecar whose workload has `labels`, by name.

    Where they lead is added to `targets`, whose view of the services is the sidecar's.
    """
    services = _services_by_port(targets.view)
    visible = virtual_services.at_gateway(MESH_GATEWAY, targets.view.namespace)
    rules = _Rules(visible, labels, targets)
    drafts: list[_Draft] = []
    for port in sorted({HTTP_PORT, *services}):
        drafts += _drafts(port, services.get(port, {}), rules, targets)
    return _virtual_hosts(sorted(drafts, key=lambda draft: draft.name))


def considered_outbound(
    virtual_services: VirtualServices,
    labels: Mapping[str, str],
    targets: Targets,
    proxy_name: str,
    host: str,
    port: int,
) -> list[ConsideredRoute]:
    """What requests to `port` of `host` may meet at a sidecar of this name, in the order in which it is tried.

    They are the routes of the VirtualService that holds, with those that do not exist here, after those of the
    VirtualServices that would go before it if they had a route.
    """
    is_service = host in _services_by_port(targets.view).get(port, {})
    cluster_of = partial(targets.cluster_of, port)
    context = RouteContext(MESH_GATEWAY, port, targets.view.namespace, labels, cluster_of, proxy_name)
    visible = virtual_services.at_gateway(MESH_GATEWAY, targets.view.namespace)
    considered: list[ConsideredRoute] = []
    for pattern in sorted(
        {one for service in visible for one in service.hosts if subset_of(host, one)}, key=specificity
    ):
        candidates = [service for service in visible if pattern in service.hosts]
        for service in candidates[:1] if is_service and is_wildcard(pattern) else candidates:
            found = list(considered_routes(service, context))
            considered += found
            if any(one.unmet is None for one in found):
                return considered
        if is_service:  # which has its default route then, whatever a wider pattern says
            break
    return considered


@dataclass(frozen=True, slots=True)
class _Draft:
    """A virtual host before it is known which of its domains another has taken.

    `hosts` are names that someone wrote, `others` those which follow from them.
    """

    name: str
    port: int
    routes: Routes
    hosts: tuple[str, ...]
    others: tuple[str, ...] = ()


def _virtual_hosts(drafts: Iterable[_Draft]) -> list[VirtualHost]:
    """The virtual hosts: first every written name finds its place, then the others where there is room."""
    known: set[str] = set()
    written = [(draft, _unclaimed(draft.hosts, draft.port, known)) for draft in drafts]
    hosts = [
        VirtualHost(
            draft.name,
            (*claimed, *_unclaimed(draft.others, draft.port, known)),
            draft.routes,
            include_request_attempt_count=True,
        )
        for draft, claimed in written
    ]
    return [host for host in hosts if host.domains]


def _unclaimed(hosts: Iterable[str], port: int, known: set[str]) -> list[str]:
    free = [domain for host in hosts for domain in _domains(host, port) if domain not in known]
    free = list(dict.fromkeys(free))
    known.update(free)
    return free


def _domains(host: str, port: int) -> tuple[str, ...]:
    """What a request's authority is if it is for `port` of `host`."""
    full = with_port(host, port)
    return (full.removesuffix(f":{port}"), full) if port == HTTP_PORT else (full,)


ServicesByPort = dict[int, dict[str, Service]]


def _services_by_port(view: View) -> ServicesByPort:
    """The services that a proxy sees, by HTTP port and host. Another name of a service has that one's ports."""
    by_port: ServicesByPort = {}
    for service in view.services():
        meant = view.find(view.unaliased(service.hostname)) or service
        for port in meant.ports:
            if port.is_http:
                by_port.setdefault(port.number, {})[service.hostname] = service
    return by_port


class _Rules:
    """The VirtualServices that a sidecar sees: which of them holds for a service, and its routes at a port."""

    def __init__(self, visible: list[MergedVirtualService], labels: Mapping[str, str], targets: Targets) -> None:
        self._age = {service: place for place, service in enumerate(visible)}
        self._labels = labels
        self._targets = targets
        self._routes: dict[tuple[MergedVirtualService, int], Routes] = {}
        self._naming: dict[str, list[MergedVirtualService]] = {}
        wildcards: dict[str, MergedVirtualService] = {}
        for service in visible:
            for host in service.hosts:
                if is_wildcard(host):
                    wildcards.setdefault(host, service)
                else:
                    self._naming.setdefault(host, []).append(service)
        self._wildcards = HostMap(wildcards)

    @property
    def visible(self) -> Iterable[MergedVirtualService]:
        """All of them, in their order."""
        return self._age.keys()

    def concerning(
        self, hosts: Iterable[str], others: Iterable[MergedVirtualService]
    ) -> Iterable[MergedVirtualService]:
        """Those that have one of `hosts` by its name, and `others`, in their order."""
        naming = {service for host in hosts for service in self._naming.get(host, ())}
        return sorted(naming.union(others), key=self._age.__getitem__)

    def holding(self, host: str, port: int) -> MergedVirtualService | None:
        """The VirtualService whose routes a service of this host has at `port`, if any."""
        candidates = self._naming.get(host)
        if candidates is None:
            best = self._wildcards.best(host)
            candidates = [] if best is None else [best]
        return next((service for service in candidates if self.routes(service, port)), None)

    def routes(self, service: MergedVirtualService, port: int) -> Routes:
        """The routes of a VirtualService for requests to `port` from this proxy."""
        known = self._routes.get((service, port))
        if known is None:
            cluster_of = partial(self._targets.cluster_of, port)
            context = RouteContext(MESH_GATEWAY, port, self._targets.view.namespace, self._labels, cluster_of)
            known = tuple(route for _, route in virtual_service_routes(service, context))
            self._routes[service, port] = known
        return known


def _drafts(port: int, services: Mapping[str, Service], rules: _Rules, targets: Targets) -> Iterator[_Draft]:
    view = targets.view
    held = {host: rule for host in services if (rule := rules.holding(host, port)) is not None}
    aliases: dict[str, list[str]] = {}
    for host in services:
        meant = view.unaliased(host)
        if meant != host and host not in held:
            aliases.setdefault(meant, []).append(host)
    for host, service in services.items():
        if host in held:
            routes = rules.routes(held[host], port)
        elif view.unaliased(host) == host:
            routes = (_default_route(service, port, targets),)
        else:
            continue  # its requests are those of the service that it is another name for
        hosts = (host, *sorted(aliases.get(host, ())))
        others = [name for each in hosts for name in short_names(each, view.namespace)]
        yield _Draft(with_port(host, port), port, routes, hosts, (*others, *service.addresses))
    concerned = rules.visible if port == HTTP_PORT else rules.concerning(services, held.values())
    yield from _outsiders(port, services, concerned, rules)


def _default_route(service: Service, port: int, targets: Targets) -> Route:
    cluster = targets.add(Target(service.hostname, port, ""))
    position = service.resource.position("metadata", "name")
    origin = Origin(position.file, position.line, service.resource.id)
    hashes = () if cluster.hash_policy is None else (cluster.hash_policy,)
    action = RouteAction(
        (WeightedCluster(cluster.name),),
        hash_policies=hashes,
        max_grpc_timeout_s=0.0,
        retry_policy=DEFAULT_RETRIES,
    )
    return Route(DEFAULT_ROUTE, RouteMatch(), action, origin=origin)


def _outsiders(
    port: int, services: Mapping[str, Service], concerned: Iterable[MergedVirtualService], rules: _Rules
) -> Iterator[_Draft]:
    """The hosts of VirtualServices that are no services on this port; of several rules for one, the first."""
    hosts = HostMap(dict.fromkeys(services))
    seen: set[str] = set()
    for service in concerned:
        for host in service.hosts:
            inside = host in services or (is_wildcard(host) and hosts.covered(host))
            if inside or host in seen or not rules.routes(service, port):
                continue
            seen.add(host)
            yield _Draft(with_port(host, port), port, rules.routes(service, port), (host,))
