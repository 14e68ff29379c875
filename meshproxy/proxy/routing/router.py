"""Virtual hosts and their routes: the service that finds a request's route and calls it.

A request's virtual host is the one whose domain is its host, else the one with the longest matching `*.suffix`, else
the longest `prefix.*`, else `*`
(https://www.envoyproxy.io/docs/envoy/latest/api-v3/config/route/v3/route_components.proto, "domains"). In it, the first
route whose conditions all hold is the request's.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass

from ...snapshot import Route, RouteConfiguration, VirtualHost
from ..http.failures import ROUTE_NOT_FOUND, Failure
from ..http.message import Request, Response, Service
from .matchers import RequestTest, route_test


@dataclass(frozen=True, slots=True)
class CompiledRoute:
    """A route, ready to be tried and called."""

    test: RequestTest
    service: Service
    route: Route


@dataclass(frozen=True, slots=True)
class Domain:
    """A domain of a virtual host, and the host's routes in the order in which they are tried."""

    name: str
    host: VirtualHost
    routes: Sequence[CompiledRoute]


class Router:
    """The routes of a listener, compiled: a service."""

    __slots__ = ("_domains", "_heeds_port")

    def __init__(self, config: RouteConfiguration, compile_action: Callable[[Route], Service]) -> None:
        def compiled(route: Route) -> CompiledRoute:
            return CompiledRoute(route_test(route.match), compile_action(route), route)

        self._heeds_port = not config.ignore_port_in_host_matching
        hosts = [(host, list(map(compiled, host.routes))) for host in config.virtual_hosts]
        self._domains = _Domains(Domain(name, host, routes) for host, routes in hosts for name in host.domains)

    def __call__(self, request: Request) -> Awaitable[Response]:
        found = self.find(request)
        if found is None:
            raise Failure(ROUTE_NOT_FOUND)
        return found.service(request)

    def find(self, request: Request) -> CompiledRoute | None:
        """The route of a request."""
        domain = self.domain(request)
        if domain is not None:
            path = request.path.partition(b"?")[0]
            for route in domain.routes:
                if route.test(request, path):
                    return route
        return None

    def domain(self, request: Request) -> Domain | None:
        """Where the routes of a request are."""
        authority = request.authority if self._heeds_port else without_port(request.authority)
        return self._domains.find(authority.lower())


def without_port(authority: bytes) -> bytes:
    """An authority's host; an IPv6 address keeps its brackets."""
    host, colon, _ = authority.rpartition(b":")
    return host if colon and (host.endswith(b"]") or not authority.startswith(b"[")) else authority


class _Domains:
    """Domains, found without looking at each."""

    __slots__ = ("_any", "_exact", "_prefixes", "_suffixes")

    def __init__(self, domains: Iterable[Domain]) -> None:
        self._exact: dict[bytes, Domain] = {}
        self._any: Domain | None = None
        suffixes: dict[bytes, Domain] = {}
        prefixes: dict[bytes, Domain] = {}
        for domain in domains:
            key = domain.name.lower().encode()
            if key == b"*":
                self._any = domain
            elif key.startswith(b"*"):
                suffixes[key[1:]] = domain
            elif key.endswith(b"*"):
                prefixes[key[:-1]] = domain
            else:
                self._exact[key] = domain
        self._suffixes = _by_length(suffixes)
        self._prefixes = _by_length(prefixes)

    def find(self, host: bytes) -> Domain | None:
        domain = self._exact.get(host)
        if domain is not None:
            return domain
        # A wildcard stands for at least one character.
        for length, by_suffix in self._suffixes:
            if length < len(host) and (domain := by_suffix.get(host[-length:])) is not None:
                return domain
        for length, by_prefix in self._prefixes:
            if length < len(host) and (domain := by_prefix.get(host[:length])) is not None:
                return domain
        return self._any


_ByLength = list[tuple[int, dict[bytes, Domain]]]


def _by_length(domains: dict[bytes, Domain]) -> _ByLength:
    """Longest first: as many look-ups as there are different lengths, however many domains there are."""
    grouped: dict[int, dict[bytes, Domain]] = {}
    for key, domain in domains.items():
        grouped.setdefault(len(key), {})[key] = domain
    return sorted(grouped.items(), reverse=True)
