"""TrafficLimits, which bound what a listener lets through, in Envoy's words.

Envoy knows three levels, the listener, its virtual hosts and their routes, and heeds the most specific that says
something. A TrafficLimit holds on one of them: that of its `routes`, else of its `hosts`, else the listener's.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import TypeVar

from ..resources import Resource, TrafficLimit
from ..resources import TokenBucket as WrittenBucket
from ..snapshot import (
    Buffer,
    HttpConnectionManager,
    Listener,
    LocalRateLimit,
    RateLimitDescriptor,
    Route,
    TokenBucket,
    VirtualHost,
)
from .hosts import subset_of
from .names import MESH_GATEWAY, ROOT_NAMESPACE, fqdn, gateway_name
from .registry import selects

Limit = Resource[TrafficLimit]
L = TypeVar("L", HttpConnectionManager, VirtualHost, Route)


def at_gateways(limits: Iterable[Limit], gateways: Iterable[str]) -> Limits:
    """The limits of a listener of these Gateways, given as `namespace/name`."""
    names = set(gateways)
    return Limits(tuple(one for one in limits if not names.isdisjoint(limited_gateways(one))))


def at_outbound(limits: Iterable[Limit], namespace: str) -> Limits:
    """The limits of a sidecar's outbound listener, from the sidecar's namespace and from the root's."""
    found = (one for one in limits if MESH_GATEWAY in limited_gateways(one))
    return Limits(tuple(one for one in found if one.namespace in (namespace, ROOT_NAMESPACE)))


def at_inbound(limits: Iterable[Limit], namespace: str, labels: Mapping[str, str]) -> Limits:
    """The limits of a sidecar's inbound listeners."""
    found = (one for one in limits if one.namespace in (namespace, ROOT_NAMESPACE))
    return Limits(tuple(one for one in found if one.spec.selector and selects(one.spec.selector.match_labels, labels)))


def limited_gateways(limit: Limit) -> list[str]:
    """The gateways that a limit is for, by their full names."""
    return [gateway_name(name, limit.namespace) for name in limit.spec.gateways]


@dataclass(frozen=True)
class Limits:
    """The limits of a listener, the oldest first."""

    limits: tuple[Limit, ...]

    def on(self, listener: Listener) -> Listener:
        """The listener, with its limits."""
        if not self.limits:
            return listener
        chains = (replace(chain, http=self.on_manager(chain.http)) for chain in listener.filter_chains)
        return replace(listener, filter_chains=tuple(chains))

    def of_host(self, domains: Iterable[str]) -> tuple[Limit, ...]:
        """The limits for the requests to some domains alone."""
        domains = tuple(domains)
        return tuple(one for one in self.limits if one.spec.hosts and _covers(one, domains))

    def on_manager(self, http: HttpConnectionManager) -> HttpConnectionManager:
        """A filter chain's manager, with its limits."""
        if not self.limits:
            return http
        everywhere = (one for one in self.limits if not one.spec.hosts and not one.spec.routes)
        hosts = tuple(self._on_host(host) for host in http.route_config.virtual_hosts)
        return _bounded(replace(http, route_config=replace(http.route_config, virtual_hosts=hosts)), everywhere)

    def _on_host(self, host: VirtualHost) -> VirtualHost:
        own = self.of_host(host.domains)
        of_routes = [one for one in self.limits if one.spec.routes and (not one.spec.hosts or one in own)]
        routes = tuple(
            _bounded(route, (one for one in of_routes if any(is_named(route, name) for name in one.spec.routes)))
            for route in host.routes
        )
        return _bounded(replace(host, routes=routes), (one for one in own if not one.spec.routes))


def is_named(route: Route, name: str) -> bool:
    """Whether a route has this name, or comes of a match of the rule that has."""
    return route.name == name or route.name.startswith(f"{name}.")


def _covers(limit: Limit, domains: Iterable[str]) -> bool:
    hosts = [fqdn(host, limit.namespace) for host in limit.spec.hosts]
    return any(subset_of(_host(domain), host) for domain in domains for host in hosts)


def _host(domain: str) -> str:
    host, colon, port = domain.rpartition(":")
    return host if colon and port.isdigit() and not host.endswith(":") else domain


def _bounded(level: L, limits: Iterable[Limit]) -> L:
    """A level with the oldest rate limit and the oldest buffer of some limits."""
    rate_limit: LocalRateLimit | None = None
    buffer: Buffer | None = None
    for limit in limits:
        rate_limit = rate_limit or _rate_limit(limit)
        buffer = buffer or (Buffer(limit.spec.buffer.max_request_bytes) if limit.spec.buffer else None)
    return replace(level, rate_limit=rate_limit, buffer=buffer) if rate_limit or buffer else level


def _rate_limit(limit: Limit) -> LocalRateLimit | None:
    written = limit.spec.rate_limit
    if written is None:
        return None
    return LocalRateLimit(
        f"{limit.name}.{limit.namespace}",
        _token_bucket(written.token_bucket),
        tuple(RateLimitDescriptor(one.name, one.value, _token_bucket(one.token_bucket)) for one in written.headers),
    )


def _token_bucket(bucket: WrittenBucket) -> TokenBucket:
    return TokenBucket(bucket.max_tokens, bucket.tokens_per_fill or 1, bucket.fill_interval)
