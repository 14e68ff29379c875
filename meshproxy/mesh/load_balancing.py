"""How a DestinationRule's `loadBalancer` balances, in Envoy's words (Istio's `applyLoadBalancer`)."""

from __future__ import annotations

from ..resources import ConsistentHashLB, LoadBalancerSettings
from ..snapshot import (
    DEFAULT_RING_SIZE,
    DEFAULT_TABLE_SIZE,
    HashCookie,
    HashHeader,
    HashPolicy,
    HashQueryParameter,
    HashSourceIp,
    LbPolicy,
    Maglev,
    RingHash,
    SlowStart,
)

_SIMPLE: dict[str | None, LbPolicy] = {
    "LEAST_REQUEST": "LEAST_REQUEST",
    "LEAST_CONN": "LEAST_REQUEST",
    "ROUND_ROBIN": "ROUND_ROBIN",
    "RANDOM": "RANDOM",
}


def lb_policy(settings: LoadBalancerSettings | None) -> LbPolicy:
    """The policy; LEAST_REQUEST where nothing is said. A size of 0 is none."""
    if settings is None:
        return "LEAST_REQUEST"
    hashed = settings.consistent_hash
    if hashed is None:
        return _SIMPLE.get(settings.simple, "LEAST_REQUEST")
    if hashed.maglev is not None:
        return Maglev(hashed.maglev.table_size or DEFAULT_TABLE_SIZE)
    minimum = hashed.ring_hash.minimum_ring_size if hashed.ring_hash else hashed.minimum_ring_size
    return RingHash(minimum or DEFAULT_RING_SIZE)


def slow_start(settings: LoadBalancerSettings | None) -> SlowStart | None:
    """How new endpoints warm up. Other policies than these two have no such thing."""
    if settings is None or lb_policy(settings) not in ("LEAST_REQUEST", "ROUND_ROBIN"):
        return None
    if settings.warmup is not None:
        warmup = settings.warmup
        given = {"aggression": warmup.aggression, "min_weight_percent": warmup.minimum_percent}
        return SlowStart(warmup.duration, **{name: value for name, value in given.items() if value is not None})
    return None if settings.warmup_duration_secs is None else SlowStart(settings.warmup_duration_secs)


def hash_policy(settings: LoadBalancerSettings | None) -> HashPolicy | None:
    """What of a request is hashed on the way to a destination."""
    return None if settings is None or settings.consistent_hash is None else _hash_policy(settings.consistent_hash)


def _hash_policy(hashed: ConsistentHashLB) -> HashPolicy | None:
    if hashed.http_header_name is not None:
        return HashHeader(hashed.http_header_name.lower())
    if hashed.http_query_parameter_name is not None:
        return HashQueryParameter(hashed.http_query_parameter_name)
    if hashed.http_cookie is None:
        return HashSourceIp() if hashed.use_source_ip else None
    cookie = hashed.http_cookie
    attributes = tuple((attribute.name, attribute.value or "") for attribute in cookie.attributes)
    ttl_s = None if cookie.ttl is None else int(cookie.ttl)
    return HashCookie(cookie.name, ttl_s, cookie.path or "", attributes)
