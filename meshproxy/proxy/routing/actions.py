"""What a route does: forward, redirect, answer. Each is compiled to a service that holds only what is configured."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Awaitable, Callable
from itertools import accumulate

from ...snapshot import (
    DirectResponseAction,
    RedirectAction,
    Route,
    RouteAction,
    StringMatcher,
    WeightedCluster,
)
from ..filters.headers import Change, request_headers, response_change, response_headers
from ..http.failures import CLUSTER_NOT_FOUND, Failure, local_reply
from ..http.message import Request, Response, Service, set_header
from .rewrites import Rewrite, prefix, rewrite
from .router import without_port

ClusterService = Callable[[str], Service]
"""Given a cluster's name, the service that sends requests to it."""
Chance = Callable[[], float]
"""A random number from [0, 1)."""


def action(route: Route, cluster: ClusterService, chance: Chance) -> Service:
    """The service behind a route's match."""
    match route.action:
        case RouteAction():
            service = _forward(route, route.action, cluster, chance)
        case RedirectAction():
            service = _redirect(route.action, route.match.path, response_change([route.response_headers]))
        case DirectResponseAction():
            service = _direct_response(route.action, response_change([route.response_headers]))
    return _named(route.name, service) if route.name else service


def _named(name: str, service: Service) -> Service:
    def named(request: Request) -> Awaitable[Response]:
        request.route_name = name
        return service(request)

    return named


def _forward(route: Route, forward: RouteAction, cluster: ClusterService, chance: Chance) -> Service:
    destinations = [_destination(route, forward, one, cluster) for one in forward.clusters]
    if len(destinations) == 1:
        return destinations[0]
    total, *_ = reversed(limits := list(accumulate(one.weight for one in forward.clusters)))

    def split(request: Request) -> Awaitable[Response]:
        return destinations[bisect_right(limits, chance() * total)](request)

    return split


def _destination(route: Route, forward: RouteAction, destination: WeightedCluster, cluster: ClusterService) -> Service:
    new_path = rewrite(route.match.path, forward.prefix_rewrite, forward.regex_rewrite)
    service = cluster(destination.cluster)
    if forward.host_rewrite or destination.host_rewrite or new_path:
        service = _rewriting(_encoded(destination.host_rewrite), _encoded(forward.host_rewrite), new_path, service)
    if destination.request_headers or route.request_headers:
        service = request_headers([destination.request_headers, route.request_headers], service)
        service = _bound_for(destination.cluster, service)
    return response_headers([destination.response_headers, route.response_headers], service)


def _encoded(host: str | None) -> bytes | None:
    return host.encode() if host else None


async def cluster_not_found(request: Request) -> Response:
    """The service behind a route to a cluster that is not there: no header may quote its name."""
    request.upstream_cluster = ""
    raise Failure(CLUSTER_NOT_FOUND)


def _bound_for(cluster: str, service: Service) -> Service:
    """`service`, whose headers may quote `%UPSTREAM_CLUSTER%`."""

    def bound(request: Request) -> Awaitable[Response]:
        request.upstream_cluster = cluster
        return service(request)

    return bound


def _rewriting(
    destination_host: bytes | None, route_host: bytes | None, new_path: Rewrite | None, service: Service
) -> Service:
    """`service`, given requests with another host or path, and the old ones in headers, as Envoy leaves them.

    The route's host has the last word, and it alone is told of.
    """

    def rewriting(request: Request) -> Awaitable[Response]:
        if destination_host is not None:
            request.authority = destination_host
        if route_host is not None:
            set_header(request.headers, b"x-envoy-original-host", request.authority)
            request.authority = route_host
        if new_path is not None:
            set_header(request.headers, b"x-envoy-original-path", request.path)
            request.original_path = request.path
            request.path = new_path(request.path)
        return service(request)

    return rewriting


_DEFAULT_PORTS = {b"http": b":80", b"https": b":443"}


def _redirect(redirect: RedirectAction, match: StringMatcher, change: Change | None) -> Service:
    new_path = None if redirect.prefix_rewrite is None else prefix(match, redirect.prefix_rewrite)
    new_scheme = redirect.scheme.encode() if redirect.scheme else None
    authority, path = _authority(redirect), _path(redirect, new_path)

    async def redirecting(request: Request) -> Response:
        request.details = "direct_response"
        scheme = new_scheme or request.scheme
        location = b"%b://%b%b" % (scheme, authority(request, scheme), path(request.path))
        headers = [(b"location", location)]
        if new_path is not None:
            request.path = new_path(request.path)  # what response headers quote, in Envoy
        return local_reply(request, redirect.code, b"", change(headers, request) if change else headers)

    return redirecting


def _authority(redirect: RedirectAction) -> Callable[[Request, bytes], bytes]:
    """From a request and the new scheme to the new authority.

    The host asked for keeps its port, unless that was its scheme's default and the scheme changes.
    """
    port = b":%d" % redirect.port if redirect.port else b""
    if redirect.host:
        fixed = redirect.host.encode() + port
        return lambda request, scheme: fixed
    if port:
        return lambda request, scheme: without_port(request.authority) + port

    def kept(request: Request, scheme: bytes) -> bytes:
        if scheme == request.scheme:
            return request.authority
        return request.authority.removesuffix(_DEFAULT_PORTS[request.scheme])

    return kept


def _path(redirect: RedirectAction, new_path: Rewrite | None) -> Rewrite:
    """The query stays, unless the new path brings its own."""
    if new_path is not None:
        return new_path
    if redirect.path is None:
        return lambda path: path
    fixed = redirect.path.encode()
    if not fixed.startswith(b"/"):
        fixed = b"/" + fixed
    if b"?" in fixed:
        return lambda path: fixed

    def with_query(path: bytes) -> bytes:
        _, mark, query = path.partition(b"?")
        return fixed + mark + query

    return with_query


def _direct_response(answer: DirectResponseAction, change: Change | None) -> Service:
    async def answering(request: Request) -> Response:
        request.details = "direct_response"
        return local_reply(request, answer.status, answer.body, change([], request) if change else None)

    return answering
