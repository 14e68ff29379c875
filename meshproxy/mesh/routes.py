"""The rules of a VirtualService as Envoy's routes, for one port of one gateway (Istio's `TranslateRoute`).

A rule with several matches becomes a route for each, in their order. Conditions that concern the proxy are
decided here: a route exists only where they hold, and `considered_routes` tells of the others. Istio's order of
precedence for the authority: `rewrite.authority`, then the rule's headers, then the destination's.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import NamedTuple

from ..resources import (
    Destination,
    HTTPBody,
    HTTPRedirect,
    HTTPRoute,
    HTTPRouteDestination,
    Resource,
    VirtualService,
    format_path,
)
from ..snapshot import (
    Action,
    DirectResponseAction,
    Origin,
    RedirectAction,
    RegexRewrite,
    Route,
    RouteAction,
    WeightedCluster,
)
from .clusters import ClusterReference
from .covering import is_catch_all
from .header_changes import HeaderChanges, header_changes
from .retries import retry_policy
from .route_policies import cors_policy, fault_injection, mirror_policies
from .virtual_services import Match, MergedVirtualService, Path, Rule


@dataclass(frozen=True, slots=True)
class RouteContext:
    """For whom routes are made: a port of a gateway, at a proxy. `cluster_of` names a destination's cluster.

    `cluster_of` takes the destination and the namespace that its rule is written in. `proxy_name` is for people.
    """

    gateway: str
    port: int
    proxy_namespace: str
    proxy_labels: Mapping[str, str]
    cluster_of: Callable[[Destination, str], ClusterReference]
    proxy_name: str = "this proxy"


class Unmet(NamedTuple):
    """A condition on the proxy that does not hold, in words, and what the proxy has there."""

    failed: str
    given: str


class ConsideredRoute(NamedTuple):
    """A route as it would be; it exists only where nothing is `unmet`."""

    route: Route
    unmet: Unmet | None


def virtual_service_routes(service: MergedVirtualService, context: RouteContext) -> Iterator[tuple[Match, Route]]:
    """The routes of a VirtualService, each with the match that it comes of.

    They end with the first that takes every request: none after it could be met.
    """
    for rule, match, unmet in _considered(service, context):
        if unmet is None:
            yield match, translate_route(rule, match, context)


def considered_routes(service: MergedVirtualService, context: RouteContext) -> Iterator[ConsideredRoute]:
    """The routes of a VirtualService and, in their places, those that do not exist here."""
    for rule, match, unmet in _considered(service, context):
        yield ConsideredRoute(translate_route(rule, match, context), unmet)


def _considered(service: MergedVirtualService, context: RouteContext) -> Iterator[tuple[Rule, Match, Unmet | None]]:
    for rule in service.rules:
        for match in rule.matches:
            unmet = _unmet(match, context)
            yield rule, match, unmet
            if unmet is None and is_catch_all(match.route_match):
                return


def _unmet(match: Match, context: RouteContext) -> Unmet | None:
    """The first of a match's conditions on the proxy that fails. Where it names gateways, the source has no say."""
    request = match.request
    if request.port is not None and request.port != context.port:
        return Unmet(f"comes by port {request.port}", f"this is port {context.port}")
    if match.gateways:
        if context.gateway in match.gateways:
            return None
        return Unmet(f"comes by gateway {' or '.join(sorted(match.gateways))}", f"this is {context.gateway}")
    for name, value in request.source_labels.items():
        own = context.proxy_labels.get(name)
        if own != value:
            given = f"has no label {name}" if own is None else f"has {name}={own}"
            return Unmet(f"comes from a workload with {name}={value}", f"{context.proxy_name} {given}")
    if request.source_namespace not in (None, context.proxy_namespace):
        given = f"{context.proxy_name} is in {context.proxy_namespace}"
        return Unmet(f"comes from namespace {request.source_namespace}", given)
    return None


def translate_route(rule: Rule, match: Match, context: RouteContext) -> Route:
    """The route of one match of a rule."""
    action, changes = _action(rule, context)
    return Route(
        name=f"{rule.http.name or ''}.{match.request.name}" if match.request.name else rule.http.name or "",
        match=match.route_match,
        action=action,
        request_headers=changes.request,
        response_headers=changes.response,
        stat_prefix=match.request.stat_prefix or "",
        origin=_route_origin(rule, match),
    )


def _route_origin(rule: Rule, match: Match) -> Origin:
    """Where a route is written: at its match. A delegate's rule may have it from the rule that delegates."""
    if rule.root is None:
        return _origin(match.resource, match.path)
    if match.resource is rule.resource:
        return _origin(match.resource, match.path, _origin(rule.root.resource, rule.root.path))
    return _origin(rule.resource, rule.path, _origin(match.resource, match.path))


def _origin(resource: Resource[VirtualService], path: Path, root: Origin | None = None) -> Origin:
    position = resource.position(*path)
    return Origin(position.file, position.line, resource.id, format_path(path), root)


def _action(rule: Rule, context: RouteContext) -> tuple[Action, HeaderChanges]:
    """What a rule does, and the header changes that come before it whichever destination is chosen."""
    http, changes = rule.http, header_changes(rule.http.headers)
    if http.redirect is not None:
        return _redirect(http.redirect, context.port), changes
    if http.direct_response is not None:
        return DirectResponseAction(http.direct_response.status, _body(http.direct_response.body)), changes

    def cluster_of(destination: Destination) -> ClusterReference:
        return context.cluster_of(destination, rule.resource.namespace)

    if len(http.route) == 1:
        # A single destination has no weight to speak of, and its changes are those of the route.
        changes = changes.then(header_changes(http.route[0].headers))
        only = cluster_of(http.route[0].destination)
        return _forward(http, (WeightedCluster(only.name),), (only,), changes, cluster_of), changes
    chosen = [(one, cluster_of(one.destination)) for one in http.route if one.weight]
    weighted = tuple(_weighted(destination, cluster.name) for destination, cluster in chosen)
    return _forward(http, weighted, [cluster for _, cluster in chosen], changes, cluster_of), changes


def _body(body: HTTPBody | None) -> bytes:
    if body is None:
        return b""
    return (body.string or "").encode() if body.bytes is None else body.bytes


def _weighted(destination: HTTPRouteDestination, cluster: str) -> WeightedCluster:
    changes = header_changes(destination.headers)
    return WeightedCluster(cluster, destination.weight or 0, changes.request, changes.response, changes.authority)


def _forward(
    http: HTTPRoute,
    clusters: tuple[WeightedCluster, ...],
    references: Iterable[ClusterReference],
    changes: HeaderChanges,
    cluster_of: Callable[[Destination], ClusterReference],
) -> RouteAction:
    authority = (http.rewrite.authority if http.rewrite else None) or changes.authority
    if authority:
        # Envoy would apply both, the route's last; saying only the one that counts leaves no room for doubt.
        clusters = tuple(replace(cluster, host_rewrite=None) for cluster in clusters)
    regex = http.rewrite.uri_regex_rewrite if http.rewrite else None
    # Envoy has one list for the route, whichever destination is chosen.
    hash_policies = tuple(one.hash_policy for one in references if one.hash_policy is not None)
    return RouteAction(
        clusters,
        prefix_rewrite=http.rewrite.uri or None if http.rewrite and not regex else None,
        regex_rewrite=RegexRewrite(regex.match, regex.rewrite) if regex else None,
        host_rewrite=authority or None,
        fault=fault_injection(http.fault),
        cors=cors_policy(http.cors_policy),
        mirrors=tuple(mirror_policies(http, cluster_of)),
        hash_policies=hash_policies,
        timeout_s=http.timeout or 0.0,
        max_grpc_timeout_s=http.timeout or 0.0,
        retry_policy=retry_policy(http.retries, hashed=bool(hash_policies) and len(http.route) == 1),
    )


_DEFAULT_PORTS = {"http": 80, "https": 443}


def _redirect(redirect: HTTPRedirect, listener_port: int) -> RedirectAction:
    """A redirect. Its port is left out where it is the default of the scheme that the client is sent to."""
    port = redirect.port or (listener_port if redirect.derive_port == "FROM_REQUEST_PORT" else 0)
    return RedirectAction(
        code=redirect.redirect_code or 301,
        scheme=redirect.scheme or None,
        host=redirect.authority or None,
        port=0 if port == _DEFAULT_PORTS[redirect.scheme or "http"] else port,
        path=None if redirect.prefix_rewrite else redirect.uri or None,
        prefix_rewrite=redirect.prefix_rewrite or None,
    )
