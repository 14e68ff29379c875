"""Renders metrics in Prometheus' text format, by `prometheus_client`.

Names and labels: https://www.envoyproxy.io/docs/envoy/latest/configuration/upstream/cluster_manager/cluster_stats,
https://www.envoyproxy.io/docs/envoy/latest/configuration/http/http_conn_man/stats and
https://istio.io/latest/docs/reference/config/metrics/.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from operator import attrgetter

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.exposition import generate_latest
from prometheus_client.registry import Collector, CollectorRegistry

from .metrics import ClusterStats, ListenerStats, Metrics, RouteStats


def render(metrics: Metrics) -> bytes:
    """In Prometheus' text format, version 0.0.4."""
    registry = CollectorRegistry()
    registry.register(_Families(metrics))
    return generate_latest(registry)


class _Families(Collector):
    def __init__(self, metrics: Metrics) -> None:
        self._metrics = metrics

    def collect(self) -> Iterator[Metric]:
        """`prometheus_client`'s hook."""
        metrics = self._metrics
        yield from _listener_families(metrics.listeners.values())
        yield from _decision_families(metrics.listeners.values())
        yield from _tls_families(metrics.listeners.values())
        yield from _cluster_families(metrics.clusters.values())
        yield from _upstream_tls_families(metrics.clusters.values())
        yield from _outlier_families(metrics.clusters.values())
        yield from _circuit_breaker_families(metrics.clusters.values())
        yield from _route_families(metrics.routes.values())
        yield _istio_requests(metrics.listeners.values())


def _listener_families(listeners: Iterable[ListenerStats]) -> Iterator[Metric]:
    label = ["envoy_http_conn_manager_prefix"]
    connections = CounterMetricFamily("envoy_http_downstream_cx", "Connections accepted.", labels=label)
    active = GaugeMetricFamily("envoy_http_downstream_cx_active", "Connections open.", labels=label)
    requests = CounterMetricFamily("envoy_http_downstream_rq", "Requests received.", labels=label)
    refused = CounterMetricFamily(
        "envoy_http_downstream_cx_protocol_error", "What could not be read as a request.", labels=label
    )
    classes = CounterMetricFamily(
        "envoy_http_downstream_rq_xx",
        "Responses sent, by class.",
        labels=[*label, "envoy_response_code_class"],
    )
    time = HistogramMetricFamily(
        "envoy_http_downstream_rq_time", "From a request's head to the end of its response, ms.", labels=label
    )
    for stats in listeners:
        connections.add_metric([stats.name], stats.connections)
        active.add_metric([stats.name], stats.connections_active)
        requests.add_metric([stats.name], sum(stats.requests.values()))
        refused.add_metric([stats.name], stats.refused)
        for response_class in range(1, 6):
            count = sum(n for (_, code, _), n in stats.requests.items() if code // 100 == response_class)
            classes.add_metric([stats.name, str(response_class)], count)
        time.add_metric([stats.name], stats.time.buckets(), stats.time.sum_ms)
    yield from (connections, active, requests, refused, classes, time)


def _decision_families(listeners: Iterable[ListenerStats]) -> Iterator[Metric]:
    families: dict[str, CounterMetricFamily] = {}
    for stats in listeners:
        for decision, count in stats.decisions.items():
            family = families.get(decision)
            if family is None:
                told = f"Requests by what access control decided: {decision}."
                family = CounterMetricFamily(f"envoy_http_{decision}", told, labels=["envoy_http_conn_manager_prefix"])
                families[decision] = family
            family.add_metric([stats.name], count)
    yield from families.values()


_HANDSHAKES = {
    "handshake": "Handshakes that succeeded.",
    "connection_error": "Handshakes that failed.",
    "session_reused": "Handshakes that went on with an earlier session.",
    "no_certificate": "Handshakes with clients that have shown no certificate.",
    "fail_verify_no_cert": "Clients that had to show a certificate, and have not.",
    "fail_verify_error": "Clients' certificates that were refused.",
}


def _tls_families(listeners: Iterable[ListenerStats]) -> Iterator[Metric]:
    secured = [(stats, stats.tls) for stats in listeners if stats.tls is not None]
    label = ["envoy_listener_address"]
    for name, told in _HANDSHAKES.items():
        family = CounterMetricFamily(f"envoy_listener_ssl_{name}", told, labels=label)
        for stats, tls in secured:
            family.add_metric([stats.name], getattr(tls, name))
        yield family
    told = "Connections that were for no filter chain."
    unmatched = CounterMetricFamily("envoy_listener_no_filter_chain_match", told, labels=label)
    for stats, _ in secured:
        unmatched.add_metric([stats.name], stats.no_filter_chain_match)
    yield unmatched


_UPSTREAM_HANDSHAKES = {
    "ssl_handshake": "Handshakes with endpoints that succeeded.",
    "ssl_session_reused": "Handshakes with endpoints that went on with an earlier session.",
    "ssl_connection_error": "Handshakes with endpoints that failed otherwise than by a certificate.",
    "ssl_fail_verify_error": "Endpoints' certificates that were refused.",
    "ssl_fail_verify_san": "Endpoints' certificates that were for somebody else.",
    "client_ssl_socket_factory_upstream_context_secrets_not_ready": "Connections not made for want of key material.",
}


def _upstream_tls_families(clusters: Iterable[ClusterStats]) -> Iterator[Metric]:
    secured = [(stats.name, stats.tls) for stats in clusters if stats.tls is not None]
    for name, told in _UPSTREAM_HANDSHAKES.items() if secured else ():
        family = CounterMetricFamily(f"envoy_cluster_{name}", told, labels=["envoy_cluster_name"])
        for cluster, tls in secured:
            field = name.removeprefix("ssl_").removeprefix("client_ssl_socket_factory_upstream_context_")
            family.add_metric([cluster], getattr(tls, field))
        yield family


def _cluster_families(clusters: Iterable[ClusterStats]) -> Iterator[Metric]:
    label = ["envoy_cluster_name"]
    requests = CounterMetricFamily("envoy_cluster_upstream_rq", "Requests to the cluster.", labels=label)
    active = GaugeMetricFamily("envoy_cluster_upstream_rq_active", "Waiting for a response.", labels=label)
    classes = CounterMetricFamily(
        "envoy_cluster_upstream_rq_xx", "Responses, by class.", labels=[*label, "envoy_response_code_class"]
    )
    time = HistogramMetricFamily(
        "envoy_cluster_upstream_rq_time", "From a request to the head of its response, ms.", labels=label
    )
    retried = CounterMetricFamily(
        "envoy_cluster_retry_upstream_rq_xx",
        "Responses that were thrown away for another try, by class.",
        labels=[*label, "envoy_response_code_class"],
    )
    counted = [
        (CounterMetricFamily(f"envoy_cluster_upstream_rq_{name}", told, labels=label), of)
        for name, told, of in (
            ("retry", "Retries.", attrgetter("retries")),
            ("retry_success", "Retries that ended the trying.", attrgetter("retry_success")),
            ("retry_limit_exceeded", "Requests not tried again: often enough.", attrgetter("retry_limit_exceeded")),
            ("retry_overflow", "Requests not tried again: too many others are.", attrgetter("retry_overflow")),
            ("timeout", "Requests that took longer than their timeout.", attrgetter("timeouts")),
            ("per_try_timeout", "Tries that took longer than theirs.", attrgetter("per_try_timeouts")),
        )
    ]
    for stats in clusters:
        for family, of in counted:
            family.add_metric([stats.name], of(stats))
        requests.add_metric([stats.name], sum(stats.responses) + sum(stats.retried))
        active.add_metric([stats.name], stats.requests_active)
        for response_class in range(1, 6):
            last = 10 if response_class == 5 else response_class + 1
            classes.add_metric([stats.name, str(response_class)], sum(stats.responses[response_class:last]))
        time.add_metric([stats.name], stats.time.buckets(), stats.time.sum_ms)
    yield from (requests, active, classes, time, retried, *(family for family, _ in counted))


OUTLIERS = ("consecutive_5xx", "consecutive_gateway_failure", "consecutive_local_origin_failure")
"""The reasons to eject a host, as Envoy names them."""


def _outlier_families(clusters: Iterable[ClusterStats]) -> Iterator[Metric]:
    label = ["envoy_cluster_name"]
    prefix = "envoy_cluster_outlier_detection_ejections"
    active = GaugeMetricFamily(f"{prefix}_active", "Endpoints that are ejected now.", labels=label)
    total = CounterMetricFamily(f"{prefix}_enforced", "Ejections.", labels=label)
    overflow = CounterMetricFamily(
        f"{prefix}_overflow", "Ejections that were not made, as too many endpoints were ejected.", labels=label
    )
    detected, enforced = (
        {why: CounterMetricFamily(f"{prefix}_{what}_{why}", f"{text} for {why}.", labels=label) for why in OUTLIERS}
        for what, text in (("detected", "Reasons to eject,"), ("enforced", "Ejections"))
    )
    for stats in clusters:
        if (outliers := stats.outliers) is None:
            continue
        active.add_metric([stats.name], outliers.active)
        total.add_metric([stats.name], outliers.enforced.total())
        overflow.add_metric([stats.name], outliers.overflow)
        for why in OUTLIERS:
            detected[why].add_metric([stats.name], outliers.detected[why])
            enforced[why].add_metric([stats.name], outliers.enforced[why])
    yield from (active, total, overflow, *detected.values(), *enforced.values())


# By the names that Envoy has for them: what overflows of each, and what there is to a limit of it.
_BREAKERS = {
    "cx": ("upstream_cx_overflow", "cx", "connections"),
    "rq_pending": ("upstream_rq_pending_overflow", "pending", "requests that wait for a connection"),
    "rq": ("upstream_rq_active_overflow", "rq", "requests that have a connection"),
}


def _circuit_breaker_families(clusters: Iterable[ClusterStats]) -> Iterator[Metric]:
    label = ["envoy_cluster_name"]
    prefix = "envoy_cluster_circuit_breakers_default"
    pending = GaugeMetricFamily("envoy_cluster_upstream_rq_pending_active", "Waiting for a connection.", labels=label)
    for name, (overflow, short, things) in _BREAKERS.items():
        overflows = CounterMetricFamily(f"envoy_cluster_{overflow}", f"Not let pass of {things}.", labels=label)
        opened = GaugeMetricFamily(f"{prefix}_{name}_open", f"1 while no more {things} are let pass.", labels=label)
        remaining = GaugeMetricFamily(f"{prefix}_remaining_{short}", f"How many more {things} may be.", labels=label)
        for stats in clusters:
            breaker = stats.breakers.get(name)
            if breaker is not None:
                overflows.add_metric([stats.name], breaker.overflows)
                opened.add_metric([stats.name], breaker.active >= breaker.limit)
                if breaker.limit < math.inf:
                    remaining.add_metric([stats.name], max(breaker.limit - breaker.active, 0))
                if name == "rq_pending":
                    pending.add_metric([stats.name], breaker.active)
        yield from (overflows, opened, remaining)
    yield pending


def _route_families(routes: Iterable[RouteStats]) -> Iterator[Metric]:
    labels = ["envoy_virtual_host", "envoy_route"]
    requests = CounterMetricFamily("envoy_vhost_route_upstream_rq", "Requests forwarded by a route.", labels=labels)
    classes = CounterMetricFamily(
        "envoy_vhost_route_upstream_rq_xx",
        "What came of them, by class.",
        labels=[*labels, "envoy_response_code_class"],
    )
    for stats in routes:
        requests.add_metric([stats.virtual_host, stats.name], sum(stats.responses))
        for response_class in range(1, 6):
            last = 10 if response_class == 5 else response_class + 1
            count = sum(stats.responses[response_class:last])
            classes.add_metric([stats.virtual_host, stats.name, str(response_class)], count)
    yield from (requests, classes)


def _istio_requests(listeners: Iterable[ListenerStats]) -> Metric:
    family = CounterMetricFamily(
        "istio_requests",
        "Requests, as Istio counts them.",
        labels=["reporter", "destination_service", "request_protocol", "response_code", "response_flags"],
    )
    totals: dict[tuple[str, int, str], int] = {}
    for stats in listeners:
        for key, count in stats.requests.items():
            totals[key] = totals.get(key, 0) + count
    for (cluster, code, flags), count in totals.items():
        # A cluster's name is outbound|port|subset|host.
        service = cluster.rpartition("|")[2] or "unknown"
        family.add_metric(["source", service, "http", str(code), flags or "-"], count)
    return family
