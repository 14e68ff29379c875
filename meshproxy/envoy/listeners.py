"""Listeners, their HTTP connection managers, their virtual hosts.

https://www.envoyproxy.io/docs/envoy/latest/api-v3/extensions/filters/network/http_connection_manager/v3/http_connection_manager.proto
"""

from __future__ import annotations

from dataclasses import asdict

from ..snapshot import (
    ANY_CONNECTION,
    DirectResponseAction,
    FilterChain,
    HttpConnectionManager,
    Listener,
    RouteConfiguration,
    VirtualHost,
)
from .fields import UINT32_MAX, Inexpressible, Message, address, limit, typed
from .filters import http_filters, per_filter_config
from .routes import route
from .tls import downstream_transport_socket

_DEFAULT_MAX_BODY = 4096  # of a direct response


def listener(config: Listener, dns_cache: Message | None) -> Message:
    """`config.listener.v3.Listener`. `dns_cache` is needed where a route may lead to a dynamic forward proxy."""
    looks = any(one.match != ANY_CONNECTION for one in config.filter_chains)
    return {
        "name": config.name,
        "address": address(config.address),
        **({"listener_filters": [_TLS_INSPECTOR]} if looks else {}),
        "filter_chains": [filter_chain(config, one, dns_cache) for one in config.filter_chains],
    }


_TLS_INSPECTOR = {
    "name": "envoy.filters.listener.tls_inspector",
    "typed_config": typed("extensions.filters.listener.tls_inspector.v3.TlsInspector"),
}


def filter_chain(listener: Listener, config: FilterChain, dns_cache: Message | None) -> Message:
    """`config.listener.v3.FilterChain`"""
    manager = http_connection_manager(listener, config.http, dns_cache)
    match = {
        "server_names": list(config.match.server_names),
        "transport_protocol": config.match.transport_protocol,
        "application_protocols": list(config.match.application_protocols),
    }
    told = {name: value for name, value in match.items() if value}
    return {
        **({"name": config.name} if config.name else {}),
        **({"filter_chain_match": told} if told else {}),
        "filters": [{"name": "envoy.filters.network.http_connection_manager", "typed_config": manager}],
        **downstream_transport_socket(config.tls),
    }


def http_connection_manager(listener: Listener, config: HttpConnectionManager, dns_cache: Message | None) -> Message:
    """`HttpConnectionManager`. It speaks HTTP/1 only and has none of Envoy's time limits that we do not have."""
    if not 1 <= config.max_request_headers_kb <= 8192:
        raise Inexpressible(f"heads of {config.max_request_headers_kb} KiB: Envoy allows 1 to 8192")
    if not 1 <= config.max_headers_count <= UINT32_MAX:
        raise Inexpressible(f"heads of {config.max_headers_count} fields: Envoy allows 1 to {UINT32_MAX}")
    where = f"of listener {listener.name!r}"
    return typed(
        "extensions.filters.network.http_connection_manager.v3.HttpConnectionManager",
        stat_prefix=listener.name,
        codec_type="HTTP1",
        http_protocol_options={"accept_http_10": True, "enable_trailers": True},
        common_http_protocol_options={
            "idle_timeout": limit(config.idle_timeout_s, f"idle timeout {where}"),
            "max_headers_count": config.max_headers_count,
        },
        max_request_headers_kb=config.max_request_headers_kb,
        request_headers_timeout=limit(config.request_headers_timeout_s, f"request headers timeout {where}"),
        stream_idle_timeout="0s",
        server_name=config.server_name,
        use_remote_address=config.use_remote_address,
        **_client_cert(config),
        normalize_path=True,
        path_with_escaped_slashes_action="KEEP_UNCHANGED",
        proxy_100_continue=True,
        upgrade_configs=[{"upgrade_type": "websocket"}],
        http_filters=http_filters(config, dns_cache),
        route_config=route_configuration(config.route_config),
    )


def _client_cert(config: HttpConnectionManager) -> Message:
    """The fields that say what becomes of x-forwarded-client-cert; none where that is Envoy's default."""
    if config.forward_client_cert == "SANITIZE":
        return {}
    details = asdict(config.client_cert_details)
    return {
        "forward_client_cert_details": config.forward_client_cert,
        "set_current_client_cert_details": {name: True for name, is_told in details.items() if is_told},
    }


def route_configuration(config: RouteConfiguration) -> Message:
    """`config.route.v3.RouteConfiguration`. A route may name a cluster that is not there: its requests get 503."""
    bodies = [
        len(one.action.body)
        for host in config.virtual_hosts
        for one in host.routes
        if isinstance(one.action, DirectResponseAction)
    ]
    return {
        "name": config.name,
        "virtual_hosts": [virtual_host(one) for one in config.virtual_hosts],
        "ignore_port_in_host_matching": config.ignore_port_in_host_matching,
        "validate_clusters": False,
        "max_direct_response_body_size_bytes": max(_DEFAULT_MAX_BODY, *bodies, 0),
    }


def virtual_host(config: VirtualHost) -> Message:
    """`config.route.v3.VirtualHost`"""
    if not config.domains:
        raise Inexpressible(f"virtual host {config.name!r}: it has no domain, and Envoy requires one")
    return {
        "name": config.name,
        "domains": list(config.domains),
        "routes": [route(one) for one in config.routes],
        **({"include_request_attempt_count": True} if config.include_request_attempt_count else {}),
        **({"require_tls": "ALL"} if config.require_tls else {}),
        **per_filter_config(config),
    }
