"""What becomes of a request at one proxy: the rule that it meets, what each destination gets, and the answers."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from functools import cached_property

from ..mesh import Mesh
from ..mesh.hosts import is_wildcard
from ..mesh.virtual_services import Rule
from ..proxy.routing.explain import Answer, Destination, Explainer, Explanation, Head, Tried
from ..resources import format_path
from ..snapshot import Address, Cluster, Endpoint, Origin, RouteAction, Snapshot, SocketAddress, VirtualHost
from .cases import CraftedRequest
from .entrances import HTTP_PORT, Entrance, host_and_port

HeaderFields = tuple[tuple[str, str], ...]
"""Headers by lower-case name, in order."""

_NOWHERE = SocketAddress("192.0.2.2", 80)  # RFC 5737: an address for documentation


@dataclass(frozen=True, slots=True)
class Arrival:
    """A request as one of the route's destinations gets it; `endpoints` are those that it may be sent to."""

    cluster: str
    request: Head
    endpoints: tuple[Address, ...]


@dataclass(frozen=True, slots=True)
class Reply:
    """What the client gets back, by way of `cluster` if any.

    Of an endpoint's own answer nothing is known. Its status counts as 200, `headers` are those that the proxy gives it,
    and all others but those `removed` are passed on if the endpoint sends them.
    """

    cluster: str
    status: int
    headers: HeaderFields
    details: str
    passed_on: bool = False
    removed: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class Passage:
    """A request's way through one proxy. `rule` is None where no VirtualService decided."""

    entrance: Entrance = field(repr=False)
    rule: Rule | None
    origin: Origin | None
    explanation: Explanation = field(repr=False)
    arrivals: tuple[Arrival, ...]
    replies: tuple[Reply, ...]

    def tried(self) -> Iterator[Tried]:
        """The rules before the one that was met, each in its place and with why it was not met.

        Those that do not exist for this proxy or port are among them. Finding these takes time, for failures only.
        """
        told, considered = self.explanation, self.entrance.considered
        if considered is None or told.request is None:
            yield from told.tried
            return
        tried = iter(told.tried)
        for route, unmet in considered(*_destined(told.request.authority, told.virtual_host)):
            if unmet is not None:
                yield Tried(route, unmet.failed, unmet.given)
            elif one := next(tried, None):
                yield one
            else:
                return  # it is the rule that was met


def _destined(authority: str, virtual_host: VirtualHost | None) -> tuple[str, int]:
    """The host and port that a request is for: by their full name where it has a virtual host of its own."""
    if virtual_host and not is_wildcard(virtual_host.name):
        host, port = host_and_port(virtual_host.name)
        if port is not None:
            return host, port
    host, port = host_and_port(authority)
    return host, HTTP_PORT if port is None else port


class Proxy:
    """A listener, to be asked about any number of requests."""

    def __init__(self, entrance: Entrance, rules: Rules) -> None:
        self.entrance = entrance
        self._rules = rules
        self._explainer = Explainer(entrance.snapshot, entrance.listener)

    @cached_property
    def _supposing(self) -> Explainer:
        """The same, if every destination existed and had an endpoint."""
        return Explainer(_with_every_cluster(self.entrance), self.entrance.listener)

    def passage(self, request: CraftedRequest) -> Passage:
        """What becomes of a request."""
        head = _head(request)
        found = self._explainer.explain(head)
        supposed = found
        if any(destination.request is None for destination in found.destinations):
            supposed = self._supposing.explain(head)
        origin = found.route.origin if found.route is not None else None
        rule = self._rules.find(origin)
        return Passage(
            self.entrance,
            rule,
            origin,
            found,
            tuple(_arrivals(found.destinations, supposed.destinations)),
            tuple(_replies(found)),
        )


def _head(request: CraftedRequest) -> bytes:
    fields = "".join(f"{name}: {value}\r\n" for name, value in request.headers)
    return f"{request.method} {request.uri} HTTP/1.1\r\nhost: {request.authority}\r\n{fields}\r\n".encode()


def _with_every_cluster(entrance: Entrance) -> Snapshot:
    snapshot, endpoints = entrance.snapshot, (Endpoint(_NOWHERE),)
    known = {cluster.name: cluster for cluster in snapshot.clusters}
    hosts = [host for chain in entrance.listener.filter_chains for host in chain.http.route_config.virtual_hosts]
    actions = [route.action for host in hosts for route in host.routes]
    for name in [one.cluster for action in actions if isinstance(action, RouteAction) for one in action.clusters]:
        cluster = known.setdefault(name, Cluster(name, endpoints))
        if not cluster.endpoints and cluster.type != "DYNAMIC_FORWARD_PROXY":
            known[name] = replace(cluster, endpoints=endpoints)
    return replace(snapshot, clusters=tuple(known.values()))


def _arrivals(found: Iterable[Destination], supposed: Iterable[Destination]) -> Iterable[Arrival]:
    for real, supposition in zip(found, supposed, strict=True):
        if supposition.request is not None:
            endpoints = tuple(endpoint.address for endpoint in real.endpoints)
            yield Arrival(real.name, supposition.request, endpoints)


def _replies(found: Explanation) -> Iterable[Reply]:
    for destination in found.destinations:
        if destination.answer is not None:
            yield _reply(destination.name, destination.answer)
        else:
            changes = destination.response_changes
            headers = tuple((change.name, value) for change in changes for value in change.values)
            removed = frozenset(change.name for change in changes if change.operation == "remove")
            yield Reply(destination.name, 200, headers, "via_upstream", True, removed)
    if found.answer is not None:
        yield _reply("", found.answer)


def _reply(cluster: str, answer: Answer) -> Reply:
    return Reply(cluster, answer.status, answer.headers, answer.details)


class Rules:
    """The rules of a mesh, to be found by where they are written."""

    def __init__(self, mesh: Mesh) -> None:
        self._rules = {_place(rule): rule for service in mesh.virtual_services.merged for rule in service.rules}

    def find(self, origin: Origin | None) -> Rule | None:
        """The rule that a route comes of; None if it is a service's default, or the proxy's own."""
        if origin is None:
            return None
        steps = (origin,) if origin.root is None else (origin, origin.root)
        return self._rules.get(tuple((one.resource, one.path.partition(".match")[0]) for one in steps))


def _place(rule: Rule) -> tuple[tuple[str, str], ...]:
    rules = (rule,) if rule.root is None else (rule, rule.root)
    return tuple((one.resource.id, format_path(one.path)) for one in rules)
