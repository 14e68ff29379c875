"""What a route does: forward, redirect, answer. Each is compiled to a service that holds only what is configured.

The filters of a route stand around it in Istio's order: the rate limit, the fault, CORS, the buffer, and then what is
the router's in Envoy, header changes and mirrors among it. So a response from a filter passes those outside of it, and
a request that one of them answers is not seen further in. A route's changes to responses are made to such an answer
too, but for one to a preflight (as Envoy does it).
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from itertools import accumulate

from ...snapshot import (
    Buffer,
    DirectResponseAction,
    HeaderMutations,
    HttpConnectionManager,
    RedirectAction,
    Route,
    RouteAction,
    StringMatcher,
    VirtualHost,
    WeightedCluster,
)
from ...telemetry.metrics import RouteStats
from ..filters.buffer import buffer
from ..filters.context import Chance, FilterContext
from ..filters.cors import cors
from ..filters.fault import fault
from ..filters.headers import Change, refusal_headers, request_headers, response_change, response_headers
from ..filters.local_ratelimit import RateLimiter, local_ratelimit
from ..filters.mirror import Mirror, mirrored
from ..filters.stats import counted
from ..http.failures import CLUSTER_NOT_FOUND, Failure, local_reply
from ..http.message import Request, Response, Service, set_header
from ..upstream.retry_rules import STEERING
from ..upstream.time_limits import bounded, steerable
from .hash_policies import hashing
from .rewrites import Rewrite, prefix, rewrite
from .router import Router, route_not_found, without_port

ClusterService = Callable[[str], Service]
"""Given a cluster's name, the service that sends requests to it."""


@dataclass(frozen=True, slots=True)
class Limits:
    """What bounds the requests of a route: its own, its virtual host's or its listener's."""

    rate: RateLimiter | None = None
    buffer: Buffer | None = None

    def within(self, config: HttpConnectionManager | VirtualHost | Route) -> Limits:
        """These, or what is said more specifically. A rate limit has buckets of its own wherever it is said."""
        rate = self.rate if config.rate_limit is None else RateLimiter(config.rate_limit)
        return Limits(rate, config.buffer or self.buffer)


NO_LIMITS = Limits()


def router(http: HttpConnectionManager, cluster: ClusterService, chance: Chance, context: FilterContext) -> Router:
    """A listener's routes, compiled. `chance` chooses among destinations, the `context`'s whatever filters do."""
    here = NO_LIMITS.within(http)
    of_hosts = {host.name: here.within(host) for host in http.route_config.virtual_hosts}

    def compiled(host: VirtualHost, route: Route) -> Service:
        limits = of_hosts[host.name].within(route)
        stats = context.route_stats(host.name, route.stat_prefix) if route.stat_prefix else None
        return action(route, cluster, chance, context, limits, host.include_request_attempt_count, stats)

    not_found = route_not_found if here.rate is None else local_ratelimit(here.rate, context, route_not_found)
    return Router(http.route_config, compiled, not_found)


def action(
    route: Route,
    cluster: ClusterService,
    chance: Chance,
    context: FilterContext,
    limits: Limits = NO_LIMITS,
    count_attempts: bool = False,
    stats: RouteStats | None = None,
) -> Service:
    """The service behind a route's match."""
    match route.action:
        case RouteAction():
            service = _forward(route, route.action, cluster, chance, context, limits, count_attempts, stats)
        case RedirectAction():
            service = _redirect(route.action, route.match.path, response_change([route.response_headers]))
            service = _limited(limits, context, service)
        case DirectResponseAction():
            service = _direct_response(route.action, response_change([route.response_headers]))
            service = _limited(limits, context, service)
    return _named(route.name, service) if route.name else service


def _limited(limits: Limits, context: FilterContext, service: Service) -> Service:
    if limits.buffer is not None:
        service = buffer(limits.buffer, service)
    return service if limits.rate is None else local_ratelimit(limits.rate, context, service)


def _named(name: str, service: Service) -> Service:
    def named(request: Request) -> Awaitable[Response]:
        request.route_name = name
        return service(request)

    return named


def _forward(
    route: Route,
    forward: RouteAction,
    cluster: ClusterService,
    chance: Chance,
    context: FilterContext,
    limits: Limits,
    count_attempts: bool,
    stats: RouteStats | None,
) -> Service:
    mirrors = [Mirror(one.percentage, cluster(one.cluster), context) for one in forward.mirrors]

    def destination(one: WeightedCluster) -> Service:
        to = cluster(one.cluster) if stats is None else counted(stats, cluster(one.cluster))
        if forward.hash_policies:
            to = hashing(forward.hash_policies, to)
        service = _destination(route, forward, one, count_attempts, mirrored(mirrors, to) if mirrors else to)
        changes = [one.response_headers, route.response_headers]
        return _filtered(forward, limits, context, changes, response_headers(changes, service))

    destinations = [destination(one) for one in forward.clusters]
    if len(destinations) == 1:
        return destinations[0]
    total, *_ = reversed(shares := list(accumulate(one.weight for one in forward.clusters)))

    def split(request: Request) -> Awaitable[Response]:
        return destinations[bisect_right(shares, chance() * total)](request)

    return split


def _filtered(
    forward: RouteAction,
    limits: Limits,
    context: FilterContext,
    changes: Sequence[HeaderMutations],
    service: Service,
) -> Service:
    """`service` behind the filters of its route. What they raise has `changes` made to it on its way out."""
    if limits.buffer is not None:
        service = refusal_headers(changes, buffer(limits.buffer, service))
    if forward.cors is not None:
        service = cors(forward.cors, service)
    if forward.fault is not None:
        service = refusal_headers(changes, fault(forward.fault, context, service))
    if limits.rate is not None:
        service = local_ratelimit(limits.rate, context, service, response_change(changes))
    return service


def _destination(
    route: Route, forward: RouteAction, destination: WeightedCluster, count_attempts: bool, service: Service
) -> Service:
    """`service`, given requests as this destination is to have them."""
    new_path = rewrite(route.match.path, forward.prefix_rewrite, forward.regex_rewrite)
    if forward.host_rewrite or destination.host_rewrite or new_path:
        service = _rewriting(_encoded(destination.host_rewrite), _encoded(forward.host_rewrite), new_path, service)
    changes = [destination.request_headers, route.request_headers]
    if any(changes):
        if any(one.name.encode() in STEERING for level in changes for one in level.add):
            service = steerable(forward.retry_policy, count_attempts, service)
        service = request_headers(changes, service)
        service = _bound_for(destination.cluster, service)
    return bounded(forward, count_attempts, service)


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
            request.original_path = request.original_path or request.path
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
