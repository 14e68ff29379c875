"""What decides about a listener's requests before they go to their routes: others, then tokens, then access.

Istio has all three before all other filters, and the last two hold for requests that no route is for, too. A request
that is not let pass is answered as its route's own would be: with what that changes of responses' headers.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Awaitable, Callable
from itertools import accumulate

from ...identity.issuers import Keys
from ...snapshot import HttpConnectionManager, Jwks, JwtAuthentication, Route, RouteAction
from ..filters.context import FilterContext
from ..filters.ext_authz import ext_authz
from ..filters.headers import Change, response_change
from ..filters.jwt_authn import Refuse, hiding, jwt_authn
from ..filters.rbac import Count, rbac
from ..http.failures import Failure
from ..http.message import Request, Response, Service
from .actions import ClusterService
from .router import Router


def guarded(
    http: HttpConnectionManager,
    router: Router,
    context: FilterContext,
    keys: KeysOf,
    count: Count,
    cluster: ClusterService,
) -> Service:
    """A listener's routes behind what it asks of all requests; the routes themselves if that is nothing.

    `keys` gives those of a provider of tokens, `count` counts decisions, `cluster` gives whoever else decides.
    """
    refuse = refusal(router, context)
    config = http.ext_authz
    routes = router if config is None else _cached(router)
    service = authenticated(http, context, keys, refuse, authorized(http, count, refuse, routes))
    if config is None:
        return service

    def find(request: Request) -> Service | None:
        found = router.find(request)
        return None if found is None else found.service

    if http.jwt_authn is not None:
        refuse = _hiding(http.jwt_authn, refuse)
    return ext_authz(config, cluster(config.cluster), find, count, refuse, service)


def _hiding(tokens: JwtAuthentication, refuse: Refuse) -> Refuse:
    """`refuse`, for requests whose tokens nobody has looked at: no log is to show them either."""
    hide = hiding(tokens)

    def refused(request: Request, failure: Failure) -> Awaitable[Response]:
        hide(request)
        return refuse(request, failure)

    return refused


def _cached(router: Router) -> Service:
    """`router`, except for requests that have their route already. Claims, when there are any, may mean another."""

    def routed(request: Request) -> Awaitable[Response]:
        route = request.cached_route
        return router(request) if route is None or request.claims is not None else route(request)

    return routed


KeysOf = Callable[[Jwks], Keys]


def authenticated(
    http: HttpConnectionManager, context: FilterContext, keys: KeysOf, refuse: Refuse, service: Service
) -> Service:
    """`service` for requests without a token, or with one that is valid."""
    return service if http.jwt_authn is None else jwt_authn(http.jwt_authn, keys, context.now, refuse, service)


def authorized(http: HttpConnectionManager, count: Count, refuse: Refuse, service: Service) -> Service:
    """`service` for requests that policies let pass."""
    return rbac(http.rbac, count, refuse, service) if http.rbac else service


def refusal(router: Router, context: FilterContext) -> Refuse:
    """What a listener answers in place of its routes."""

    async def refuse(request: Request, failure: Failure) -> Response:
        found = router.find(request)
        if found is None:
            raise failure
        request.route_name = found.route.name
        change = _response_change(found.route, context.chance)
        return failure.respond(request, change([], request) if change else None)

    return refuse


def _response_change(route: Route, chance: Callable[[], float]) -> Change | None:
    """What a route changes in responses. Where destinations differ in that, chance chooses one, as for any request."""
    if not isinstance(route.action, RouteAction):
        return None
    clusters = route.action.clusters
    *_, total = shares = list(accumulate(one.weight for one in clusters))
    chosen = clusters[bisect_right(shares, chance() * total) if len(clusters) > 1 else 0]
    return response_change([chosen.response_headers, route.response_headers])
