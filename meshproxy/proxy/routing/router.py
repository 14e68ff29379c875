"""Virtual hosts and their routes: the service that finds a request's route and calls it.

A request's virtual host is the one whose domain is its host, else the one with the longest matching `*.suffix`, else
the longest `prefix.*`, else `*`
(https://www.envoyproxy.io/docs/envoy/latest/api-v3/config/route/v3/route_components.proto, "domains"). In it, the first
route whose conditions all hold is the request's.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from itertools import chain
from typing import Protocol

from ...snapshot import RedirectAction, Route, RouteConfiguration, RouteMatch, VirtualHost
from ..http.failures import ROUTE_NOT_FOUND, Failure, local_reply
from ..http.message import Request, Response, Service
from .index import RouteIndex

# `in` finds a number in bytes three times as fast as it finds bytes.
_COLON = ord(":")
_QUESTION_MARK = ord("?")

# Authorities whose domain is remembered; it is clients who choose them.
_MAX_FOUND = 1024
_MAX_NAME = 255


@dataclass(frozen=True, slots=True)
class CompiledRoute:
    """A route, ready to be called."""

    service: Service
    route: Route


class Index(Protocol):
    """Finds a request's route among those of a virtual host."""

    def find(self, request: Request, path: bytes) -> int | None:
        """The place of a request's route. `path` is without its query."""


class TlsFirst:
    """The index of a host that requires TLS: what has not come by it, is for the route at `redirect`."""

    __slots__ = ("_index", "_redirect")

    def __init__(self, index: Index, redirect: int) -> None:
        self._index = index
        self._redirect = redirect

    def find(self, request: Request, path: bytes) -> int | None:
        return self._index.find(request, path) if request.scheme == b"https" else self._redirect


async def _redirect_to_tls(request: Request) -> Response:
    """The same by HTTPS, whatever was asked for; the authority stays, with its port."""
    request.details = "direct_response"
    return local_reply(request, 301, b"", [(b"location", b"https://%b%b" % (request.authority, request.path))])


TO_TLS = CompiledRoute(_redirect_to_tls, Route("", RouteMatch(), RedirectAction(scheme="https")))
"""The route to TLS, of hosts that require it."""


@dataclass(frozen=True, slots=True)
class Domain:
    """A domain of a virtual host, and the host's routes, which `index` finds."""

    name: str
    host: VirtualHost
    index: Index
    routes: Sequence[CompiledRoute]


async def route_not_found(request: Request) -> Response:
    """The service behind no route."""
    raise Failure(ROUTE_NOT_FOUND)


class Router:
    """The routes of a listener, compiled: a service. A request that meets none of them goes to `not_found`."""

    __slots__ = ("_not_found", "domains")

    def __init__(
        self,
        config: RouteConfiguration,
        compile_action: Callable[[VirtualHost, Route], Service],
        not_found: Service = route_not_found,
    ) -> None:
        self._not_found = not_found
        # Of thousands of hosts, many have the same paths. What they share stays in the processor's cache: measured, a
        # request to any of ten thousand hosts costs 6 % less.
        index = cache(RouteIndex)

        def compiled(host: VirtualHost) -> Iterator[Domain]:
            conditions = index(tuple(route.match for route in host.routes))
            routes = tuple(CompiledRoute(compile_action(host, route), route) for route in host.routes)
            if host.require_tls:
                secured = TlsFirst(conditions, len(routes))
                return (Domain(name, host, secured, (*routes, TO_TLS)) for name in host.domains)
            return (Domain(name, host, conditions, routes) for name in host.domains)

        domains = chain.from_iterable(map(compiled, config.virtual_hosts))
        self.domains = Domains(domains, config.ignore_port_in_host_matching)

    def __call__(self, request: Request) -> Awaitable[Response]:
        found = self.find(request)
        return (self._not_found if found is None else found.service)(request)

    def find(self, request: Request) -> CompiledRoute | None:
        """The route of a request."""
        domain = self.domains.find(request.authority)
        if domain is None:
            return None
        path = request.path
        place = domain.index.find(request, path.partition(b"?")[0] if _QUESTION_MARK in path else path)
        return None if place is None else domain.routes[place]


def without_port(authority: bytes) -> bytes:
    """An authority's host; an IPv6 address keeps its brackets."""
    host, colon, _ = authority.rpartition(b":")
    return host if colon and (authority[:1] != b"[" or host[-1:] == b"]") else authority


class Domains:
    """Domains, found by a request's authority without looking at each."""

    __slots__ = ("_any", "_exact", "_found", "_ignore_port", "_prefixes", "_suffixes")

    def __init__(self, domains: Iterable[Domain], ignore_port: bool) -> None:
        self._ignore_port = ignore_port
        self._found: dict[bytes, Domain | None] = {}
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

    def find(self, authority: bytes) -> Domain | None:
        """Where the routes of a request for `authority` are."""
        try:
            return self._found[authority]
        except KeyError:
            found = self._find(authority)
            if len(authority) <= _MAX_NAME:
                if len(self._found) >= _MAX_FOUND:
                    self._found.clear()
                self._found[authority] = found
            return found

    def _find(self, authority: bytes) -> Domain | None:
        host = without_port(authority) if self._ignore_port and _COLON in authority else authority
        domain = self._exact.get(host)  # as most clients write it, in lower case
        if domain is not None:
            return domain
        host = host.lower()
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
