"""Clusters and endpoints.

https://www.envoyproxy.io/docs/envoy/latest/api-v3/config/cluster/v3/cluster.proto
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from ..snapshot import (
    MAX_RING_SIZE,
    UNKNOWN_LOCALITY,
    CircuitBreakers,
    Cluster,
    Endpoint,
    LbPolicy,
    Locality,
    Maglev,
    Pipe,
    RetryBudget,
    RingHash,
)
from .fields import UINT32_MAX, Inexpressible, Message, address, duration, is_ip_address, limit, typed
from .health import PROBE, error_matcher, health_check_config, health_checks, outlier_detection, probe_socket
from .tls import by_request, tls_mode, transport_sockets

_DNS_REFRESH = "5s"  # as often as we look names up
_FORWARDED_TO_REFRESH = "60s"
_FORWARDED_TO_MAX_HOSTS = 1024


def cluster(config: Cluster, dns_cache: Message | None) -> Message:
    """`config.cluster.v3.Cluster`. `dns_cache` is the one that the listeners' forward proxies use, if there is any."""
    probes = probe_socket(config)
    return {
        "name": config.name,
        **_discovery(config, dns_cache),
        "connect_timeout": limit(config.connect_timeout_s, f"connect timeout of cluster {config.name!r}"),
        **_keepalive(config),
        "circuit_breakers": {"thresholds": [_thresholds(config.circuit_breakers)]},
        **outlier_detection(config),
        **health_checks(config),
        **transport_sockets(config, {"match": PROBE, "transport_socket": probes} if probes else {}),
        "typed_extension_protocol_options": {
            "envoy.extensions.upstreams.http.v3.HttpProtocolOptions": typed(
                "extensions.upstreams.http.v3.HttpProtocolOptions",
                common_http_protocol_options=_connections(config),
                **by_request(config),
                explicit_http_config={"http_protocol_options": {"enable_trailers": True}},
                **error_matcher(config.outlier_detection),
            )
        },
    }


def shared_dns_cache(clusters: Iterable[Cluster]) -> Message | None:
    """`DnsCacheConfig`, which a forward proxy's filter and its cluster must share; None if no cluster is one."""
    if not any(one.type == "DYNAMIC_FORWARD_PROXY" for one in clusters):
        return None
    return {
        "name": "forward_proxy",
        "dns_lookup_family": "V4_PREFERRED",
        "dns_refresh_rate": _FORWARDED_TO_REFRESH,
        "max_hosts": _FORWARDED_TO_MAX_HOSTS,
    }


def _discovery(config: Cluster, dns_cache: Message | None) -> Message:
    if config.type == "DYNAMIC_FORWARD_PROXY":
        if config.endpoints:
            raise Inexpressible(
                f"endpoints of cluster {config.name!r}: it is a dynamic forward proxy, which Envoy gives none"
            )
        forward_proxy = typed(
            "extensions.clusters.dynamic_forward_proxy.v3.ClusterConfig",
            dns_cache_config=dns_cache,
            allow_insecure_cluster_options=True,  # whether names are verified, the cluster's TLS says
        )
        return {
            "lb_policy": "CLUSTER_PROVIDED",
            "cluster_type": {"name": "envoy.clusters.dynamic_forward_proxy", "typed_config": forward_proxy},
        }
    for endpoint in config.endpoints:
        _refuse_address(endpoint, config)
    by_name = config.type != "STATIC"
    if config.type == "LOGICAL_DNS" and len(config.endpoints) != 1:
        raise Inexpressible(f"endpoints of cluster {config.name!r}: one of type LOGICAL_DNS has exactly one in Envoy")
    return {
        "type": config.type,
        **({"dns_lookup_family": "V4_PREFERRED", "dns_refresh_rate": _DNS_REFRESH} if by_name else {}),
        **_balancing(config),
        "load_assignment": {"cluster_name": config.name, "endpoints": list(_localities(config))},
    }


def _balancing(config: Cluster) -> Message:
    return {
        "lb_policy": str(config.lb_policy),
        **_policy(config),
        "common_lb_config": {
            "healthy_panic_threshold": {"value": config.healthy_panic_threshold},
            **({"locality_weighted_lb_config": {}} if config.locality_weights else {}),
        },
    }


def _policy(config: Cluster) -> Message:
    policy, slow_start = config.lb_policy, config.slow_start
    if slow_start is not None and policy not in _WARMING:
        raise Inexpressible(f"slow start of cluster {config.name!r}: in Envoy {policy} has none")
    if isinstance(policy, RingHash):
        if policy.minimum_ring_size > MAX_RING_SIZE:
            raise Inexpressible(f"ring of cluster {config.name!r}: Envoy's have at most {MAX_RING_SIZE} points")
        return {"ring_hash_lb_config": {"minimum_ring_size": policy.minimum_ring_size}}
    if isinstance(policy, Maglev):
        return {"maglev_lb_config": {"table_size": policy.table_size}}
    if slow_start is None:
        return {}
    # A runtime key must be there; nobody sets it.
    aggression = {"default_value": slow_start.aggression, "runtime_key": "meshproxy.slow_start.aggression"}
    return {
        _WARMING[policy]: {
            "slow_start_config": {
                "slow_start_window": limit(slow_start.window_s, f"slow start of cluster {config.name!r}"),
                "aggression": aggression,
                "min_weight_percent": {"value": slow_start.min_weight_percent},
            }
        }
    }


_WARMING: dict[LbPolicy, str] = {
    "LEAST_REQUEST": "least_request_lb_config",
    "ROUND_ROBIN": "round_robin_lb_config",
}


def _localities(config: Cluster) -> Iterator[Message]:
    """`config.endpoint.v3.LocalityLbEndpoints`, one for each locality and priority."""
    weights = {(one.locality, one.priority): one.weight for one in config.locality_weights}
    together: dict[tuple[Locality, int], list[Endpoint]] = {}
    for endpoint in config.endpoints:
        together.setdefault((endpoint.locality, endpoint.priority), []).append(endpoint)
    for (locality, priority), those in together.items():
        weight = weights.get((locality, priority), 0)
        yield {
            **({"locality": _locality(locality)} if locality != UNKNOWN_LOCALITY else {}),
            **({"priority": priority} if priority else {}),
            **({"load_balancing_weight": weight} if weight else {}),
            "lb_endpoints": [_endpoint(one, config.endpoints) for one in those],
        }


def _locality(locality: Locality) -> Message:
    """`config.core.v3.Locality`"""
    fields = {"region": locality.region, "zone": locality.zone, "sub_zone": locality.sub_zone}
    return {name: value for name, value in fields.items() if value}


def _refuse_address(endpoint: Endpoint, config: Cluster) -> None:
    where = f"endpoint {endpoint.address} of cluster {config.name!r}"
    if isinstance(endpoint.address, Pipe):
        if config.type != "STATIC":
            raise Inexpressible(f"{where}: in Envoy a cluster of type {config.type} has no Unix domain sockets")
    elif config.type == "STATIC" and not is_ip_address(endpoint.address.host):
        raise Inexpressible(f"{where}: in Envoy a cluster of type STATIC has IP addresses only")


def _endpoint(endpoint: Endpoint, among: Iterable[Endpoint]) -> Message:
    """`config.endpoint.v3.LbEndpoint`"""
    return {
        "endpoint": {"address": address(endpoint.address), **health_check_config(endpoint, among)},
        "load_balancing_weight": endpoint.weight,
        **tls_mode(endpoint),
    }


def _thresholds(config: CircuitBreakers) -> Message:
    """`CircuitBreakers.Thresholds`: Envoy's defaults would let no more than 1024 of each pass, and 3 retries."""
    limits = {
        "max_connections": config.max_connections,
        "max_pending_requests": config.max_pending_requests,
        "max_requests": config.max_requests,
        "max_retries": config.max_retries,
    }
    thresholds: Message = {name: UINT32_MAX if limit is None else limit for name, limit in limits.items()}
    return thresholds | ({"retry_budget": retry_budget(config.retry_budget)} if config.retry_budget else {})


def retry_budget(budget: RetryBudget) -> Message:
    """`CircuitBreakers.Thresholds.RetryBudget`"""
    return {
        "budget_percent": {"value": budget.budget_percent},
        "min_retry_concurrency": budget.min_retry_concurrency,
        **({"budget_interval": duration(budget.budget_interval_s)} if budget.budget_interval_s else {}),
    }


def _connections(config: Cluster) -> Message:
    """`config.core.v3.HttpProtocolOptions`"""
    options: Message = {"idle_timeout": duration(config.idle_timeout_s)}
    if config.max_connection_duration_s is not None:
        what = f"max connection duration of cluster {config.name!r}"
        options["max_connection_duration"] = limit(config.max_connection_duration_s, what)
    if config.max_requests_per_connection is not None:
        options["max_requests_per_connection"] = config.max_requests_per_connection
    return options


def _keepalive(config: Cluster) -> Message:
    keepalive = config.tcp_keepalive
    if keepalive is None:
        return {}
    fields = {
        "keepalive_probes": keepalive.probes,
        "keepalive_time": keepalive.time_s,
        "keepalive_interval": keepalive.interval_s,
    }
    tcp_keepalive = {name: value for name, value in fields.items() if value is not None}
    return {"upstream_connection_options": {"tcp_keepalive": tcp_keepalive}}
