"""Virtual hosts and their routes: the service that finds a request's route and calls it.

A request's virtual host is the one whose domain is its host, else the one with the longest matching `*.suffix`, else
the longest `prefix.*`, else `*`
(https://www.envoyproxy.io/docs/envoy/latest/api-v3/config/route/v3/route_components.proto, "domains"). In it, the first
route whose conditions all hold is the request's.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from ...snapshot import Route, RouteConfiguration
from ..http.failures import ROUTE_NOT_FOUND, Failure
from ..http.message import Request, Response, Service
from .matchers import RequestTest, route_test


@dataclass(frozen=True, slots=True)
class CompiledRoute:
    """A route, ready to be tried and called."""

    test: RequestTest
    service: Service
    route: Route


class Router:
    """The routes of a listener, compiled: a service."""

    __slots__ = ("_hosts",)

    def __init__(self, config: RouteConfiguration, compile_action: Callable[[Route], Service]) -> None:
        def compiled(route: Route) -> CompiledRoute:
            return CompiledRoute(route_test(route.match), compile_action(route), route)

        self._hosts = _Domains((host.domains, list(map(compiled, host.routes))) for host in config.virtual_hosts)

    async def __call__(self, request: Request) -> Response:
        found = self.find(request)
        if found is None:
            raise Failure(ROUTE_NOT_FOUND)
        return await found.service(request)

    def find(self, request: Request) -> CompiledRoute | None:
        """The route of a request."""
        routes = self._hosts.find(without_port(request.authority).lower())
        if routes is not None:
            path = request.path.partition(b"?")[0]
            for route in routes:
                if route.test(request, path):
                    return route
        return None


def without_port(authority: bytes) -> bytes:
    """An authority's host; an IPv6 address keeps its brackets."""
    host, colon, _ = authority.rpartition(b":")
    return host if colon and (host.endswith(b"]") or not authority.startswith(b"[")) else authority


class _Domains:
    """Domains to routes, found without looking at each."""

    __slots__ = ("_any", "_exact", "_prefixes", "_suffixes")

    def __init__(self, hosts: Iterable[tuple[Sequence[str], list[CompiledRoute]]]) -> None:
        self._exact: dict[bytes, list[CompiledRoute]] = {}
        self._any: list[CompiledRoute] | None = None
        suffixes: dict[bytes, list[CompiledRoute]] = {}
        prefixes: dict[bytes, list[CompiledRoute]] = {}
        for domain, routes in ((domain, routes) for domains, routes in hosts for domain in domains):
            key = domain.lower().encode()
            if key == b"*":
                self._any = routes
            elif key.startswith(b"*"):
                suffixes[key[1:]] = routes
            elif key.endswith(b"*"):
                prefixes[key[:-1]] = routes
            else:
                self._exact[key] = routes
        self._suffixes = _by_length(suffixes)
        self._prefixes = _by_length(prefixes)

    def find(self, host: bytes) -> list[CompiledRoute] | None:
        routes = self._exact.get(host)
        if routes is not None:
            return routes
        # A wildcard stands for at least one character.
        for length, by_suffix in self._suffixes:
            if length < len(host) and (routes := by_suffix.get(host[-length:])) is not None:
                return routes
        for length, by_prefix in self._prefixes:
            if length < len(host) and (routes := by_prefix.get(host[:length])) is not None:
                return routes
        return self._any


_ByLength = list[tuple[int, dict[bytes, list[CompiledRoute]]]]


def _by_length(routes: dict[bytes, list[CompiledRoute]]) -> _ByLength:
    """Longest first: as many look-ups as there are different lengths, however many domains there are."""
    grouped: dict[int, dict[bytes, list[CompiledRoute]]] = {}
    for key, value in routes.items():
        grouped.setdefault(len(key), {})[key] = value
    return sorted(grouped.items(), reverse=True)
