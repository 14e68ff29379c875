"""What a client gets when a cluster has no more to give."""

from __future__ import annotations

from dataclasses import replace

from meshproxy.snapshot import CircuitBreakers, HeaderMutations, HeaderValue, Snapshot

from ..exchanges import Backends, Case, Configuration, exchange, forward, get, head, request, routed

_GRPC = "content-type: application/grpc"


def _limited(limits: CircuitBreakers) -> Configuration:
    """All goes to a cluster with these limits; its failures carry a header of the route."""
    route = replace(forward("a"), response_headers=HeaderMutations((), (HeaderValue("x-route", "1"),)))

    def configured(backends: Backends) -> Snapshot:
        snapshot = routed(route)(backends)
        return replace(snapshot, clusters=tuple(replace(one, circuit_breakers=limits) for one in snapshot.clusters))

    return configured


_ANY = (
    get("/"),
    get("/", _GRPC),
    request("HEAD", "/"),
    get("/", "connection: close"),
    exchange("POST", head("/", "content-length: 2", method="POST") + b"hi"),
    exchange("pipelined", head("/1") + head("/2"), methods=("GET", "GET")),
)

CASES = (
    Case("no pending requests", _limited(CircuitBreakers(max_pending_requests=0)), _ANY),
    Case("no active requests", _limited(CircuitBreakers(max_requests=0)), _ANY),
    Case("no connections", _limited(CircuitBreakers(max_connections=0)), _ANY),
    Case("one of each", _limited(CircuitBreakers(1, 1, 1)), _ANY),
)
