"""HTTP filters: those that a listener needs, and what its routes and virtual hosts tell them.

https://www.envoyproxy.io/docs/envoy/latest/api-v3/config/filter/http/http
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from ..snapshot import (
    Buffer,
    CorsPolicy,
    FaultInjection,
    FractionalPercent,
    HttpConnectionManager,
    LocalRateLimit,
    RateLimitDescriptor,
    Route,
    RouteAction,
    TokenBucket,
    VirtualHost,
)
from .access import access_filters
from .fields import Inexpressible, Message, duration, string_matcher, typed

_RATE_LIMIT = "envoy.filters.http.local_ratelimit"
_FAULT = "envoy.filters.http.fault"
_CORS = "envoy.filters.http.cors"
_BUFFER = "envoy.filters.http.buffer"

_DENOMINATORS = {100: "HUNDRED", 10_000: "TEN_THOUSAND", 1_000_000: "MILLION"}
_ALWAYS = {"default_value": {"numerator": 100}}
_LEAST_FILL_INTERVAL_S = 0.05
_UNUSED_BYTES = 1  # of a buffer that is disabled; Envoy wants a number


def http_filters(config: HttpConnectionManager, dns_cache: Message | None) -> list[Message]:
    """The `HttpFilter`s in their order. One that nobody asks for is left out."""
    hosts = config.route_config.virtual_hosts
    routes = [route for host in hosts for route in host.routes]
    levels: list[HttpConnectionManager | VirtualHost | Route] = [config, *hosts, *routes]
    actions = [one.action for one in routes if isinstance(one.action, RouteAction)]
    filters: dict[str, Message] = {}
    if any(one.rate_limit for one in levels):
        inactive = typed(_LOCAL_RATE_LIMIT, stat_prefix="http_local_rate_limiter")
        filters[_RATE_LIMIT] = _typed_config(local_rate_limit(config.rate_limit) if config.rate_limit else inactive)
    if any(one.fault for one in actions):
        filters[_FAULT] = _typed_config(typed(_HTTP_FAULT))
    if any(one.cors for one in actions):
        filters[_CORS] = _typed_config(typed("extensions.filters.http.cors.v3.Cors"))
    if any(one.buffer for one in levels):
        size = config.buffer.max_request_bytes if config.buffer else _UNUSED_BYTES
        buffer = typed("extensions.filters.http.buffer.v3.Buffer", max_request_bytes=size)
        filters[_BUFFER] = _typed_config(buffer) | ({} if config.buffer else {"disabled": True})
    if dns_cache is not None:
        forward_proxy = typed(
            "extensions.filters.http.dynamic_forward_proxy.v3.FilterConfig", dns_cache_config=dns_cache
        )
        filters["envoy.filters.http.dynamic_forward_proxy"] = _typed_config(forward_proxy)
    filters["envoy.filters.http.router"] = _typed_config(typed("extensions.filters.http.router.v3.Router"))
    access = access_filters(config.ext_authz, config.jwt_authn, config.rbac)
    return [*access, *({"name": name, **one} for name, one in filters.items())]


def _typed_config(config: Message) -> Message:
    return {"typed_config": config}


def per_filter_config(config: Route | VirtualHost) -> Message:
    """`typed_per_filter_config`, if a route or a virtual host has anything to tell filters."""
    told = dict(_told(config))
    return {"typed_per_filter_config": told} if told else {}


def _told(config: Route | VirtualHost) -> Iterator[tuple[str, Message]]:
    if config.rate_limit is not None:
        yield _RATE_LIMIT, local_rate_limit(config.rate_limit)
    if isinstance(config, Route) and isinstance(config.action, RouteAction):
        if config.action.fault is not None:
            yield _FAULT, http_fault(config.action.fault)
        if config.action.cors is not None:
            yield _CORS, cors_policy(config.action.cors)
    if config.buffer is not None:
        yield _BUFFER, buffer_per_route(config.buffer)


_HTTP_FAULT = "extensions.filters.http.fault.v3.HTTPFault"
_LOCAL_RATE_LIMIT = "extensions.filters.http.local_ratelimit.v3.LocalRateLimit"


def http_fault(fault: FaultInjection) -> Message:
    """`extensions.filters.http.fault.v3.HTTPFault`"""
    delay, abort = fault.delay, fault.abort
    fields: dict[str, Any] = {}
    if delay is not None:
        percentage = fractional_percent(delay.percentage)
        fields["delay"] = {"percentage": percentage, "fixed_delay": duration(delay.fixed_delay_s)}
    if abort is not None:
        how = {"http_status": abort.status} if abort.grpc_status is None else {"grpc_status": abort.grpc_status}
        fields["abort"] = {"percentage": fractional_percent(abort.percentage), **how}
    return typed(_HTTP_FAULT, **fields)


def fractional_percent(percent: FractionalPercent) -> Message:
    """`type.v3.FractionalPercent`"""
    return {"numerator": percent.numerator, "denominator": _DENOMINATORS[percent.denominator]}


def cors_policy(policy: CorsPolicy) -> Message:
    """`extensions.filters.http.cors.v3.CorsPolicy`"""
    lists: Mapping[str, tuple[str, ...]] = {
        "allow_methods": policy.allow_methods,
        "allow_headers": policy.allow_headers,
        "expose_headers": policy.expose_headers,
    }
    return typed(
        "extensions.filters.http.cors.v3.CorsPolicy",
        filter_enabled=_ALWAYS,
        allow_origin_string_match=[string_matcher(origin) for origin in policy.allow_origins],
        **{name: ",".join(values) for name, values in lists.items() if values},
        **({} if policy.max_age_s is None else {"max_age": str(policy.max_age_s)}),
        allow_credentials=policy.allow_credentials,
        forward_not_matching_preflights=policy.forward_not_matching_preflights,
    )


def local_rate_limit(limit: LocalRateLimit) -> Message:
    """`extensions.filters.http.local_ratelimit.v3.LocalRateLimit`"""
    headers = dict.fromkeys(one.header for one in limit.descriptors)
    descriptors = {
        "rate_limits": [
            {"actions": [{"request_headers": {"header_name": header, "descriptor_key": header}}]} for header in headers
        ],
        "descriptors": [_descriptor(one) for one in limit.descriptors],
        "max_dynamic_descriptors": limit.max_dynamic_descriptors,
    }
    return typed(
        _LOCAL_RATE_LIMIT,
        stat_prefix=limit.name,
        token_bucket=token_bucket(limit.token_bucket),
        filter_enabled=_ALWAYS,
        filter_enforced=_ALWAYS,
        enable_x_ratelimit_headers="DRAFT_VERSION_03",
        **(descriptors if headers else {}),
    )


def _descriptor(descriptor: RateLimitDescriptor) -> Message:
    value = {} if descriptor.value is None else {"value": descriptor.value}
    return {
        "entries": [{"key": descriptor.header, **value}],
        "token_bucket": token_bucket(descriptor.token_bucket),
    }


def token_bucket(bucket: TokenBucket) -> Message:
    """`type.v3.TokenBucket`"""
    if bucket.fill_interval_s < _LEAST_FILL_INTERVAL_S:
        raise Inexpressible(f"tokens every {bucket.fill_interval_s:g} s: Envoy fills a bucket every 0.05 s at most")
    return {
        "max_tokens": bucket.max_tokens,
        "tokens_per_fill": bucket.tokens_per_fill,
        "fill_interval": duration(bucket.fill_interval_s),
    }


def buffer_per_route(buffer: Buffer) -> Message:
    """`extensions.filters.http.buffer.v3.BufferPerRoute`"""
    size = {"max_request_bytes": buffer.max_request_bytes}
    return typed("extensions.filters.http.buffer.v3.BufferPerRoute", buffer=size)
