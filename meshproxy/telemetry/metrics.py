"""Counters and histograms, under the names that Envoy and Istio give them.

The hot path adds to plain numbers that it holds in its hands; only when somebody asks are they rendered, by
`prometheus_client`. Names and labels: https://www.envoyproxy.io/docs/envoy/latest/configuration/upstream/cluster_manager/cluster_stats,
https://www.envoyproxy.io/docs/envoy/latest/configuration/http/http_conn_man/stats and
https://istio.io/latest/docs/reference/config/metrics/.
"""

from __future__ import annotations

import math
from bisect import bisect_left
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from operator import attrgetter
from typing import Protocol

from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    Metric,
)
from prometheus_client.exposition import generate_latest
from prometheus_client.registry import Collector, CollectorRegistry

# Envoy's default buckets, in milliseconds.
BUCKETS_MS = (
    *(0.5, 1, 5, 10, 25, 50, 100, 250, 500, 1000, 2500, 5000, 10000),
    *(30000, 60000, 300000, 600000, 1800000, 3600000),
)
_BUCKET_LABELS = [*map(str, BUCKETS_MS), "+Inf"]


class Histogram:
    """How many durations fell below each of `BUCKETS_MS`, and their sum, in milliseconds."""

    __slots__ = ("counts", "sum_ms")

    def __init__(self) -> None:
        self.counts = [0] * len(_BUCKET_LABELS)
        self.sum_ms = 0.0

    def observe(self, seconds: float) -> None:
        milliseconds = seconds * 1000
        self.counts[bisect_left(BUCKETS_MS, milliseconds)] += 1
        self.sum_ms += milliseconds

    def buckets(self) -> list[tuple[str, float]]:
        """Cumulative, as Prometheus has them."""
        total = 0
        return [(label, total := total + count) for label, count in zip(_BUCKET_LABELS, self.counts, strict=True)]


class OutlierStats:
    """What a cluster's outlier detection found and did."""

    __slots__ = ("active", "detected", "enforced", "overflow")

    def __init__(self) -> None:
        self.active = 0
        """Hosts that are ejected now."""
        self.detected: Counter[str] = Counter()
        """How often there was reason to eject a host, by Envoy's name of the reason."""
        self.enforced: Counter[str] = Counter()
        """How often a host was ejected."""
        self.overflow = 0
        """How often none was because there were too many already."""


class Breaker(Protocol):
    """One of a cluster's limits: how many of something there may be at a time, and how many there are."""

    limit: float
    active: int
    overflows: int
    """How many were not let pass."""


class ClusterStats:
    """One cluster's counters."""

    __slots__ = (
        "breakers",
        "name",
        "outliers",
        "per_try_timeouts",
        "requests_active",
        "responses",
        "retried",
        "retries",
        "retry_limit_exceeded",
        "retry_overflow",
        "retry_success",
        "time",
        "timeouts",
    )

    def __init__(self, name: str) -> None:
        self.name = name
        self.outliers: OutlierStats | None = None
        """Of a cluster that detects outliers."""
        self.requests_active = 0
        self.responses = [0] * 10
        """By class of status: `responses[2]` are 2xx; `responses[0]` had none."""
        self.retried = [0] * 10
        """Those that were thrown away for another try; `retried[0]` are tries that failed."""
        self.retries = 0
        self.retry_success = 0
        """Retries whose outcome was not one to be tried again."""
        self.retry_limit_exceeded = 0
        self.retry_overflow = 0
        self.timeouts = 0
        self.per_try_timeouts = 0
        self.time = Histogram()
        self.breakers: Mapping[str, Breaker] = {}
        """By the names in `_BREAKERS`; none where nothing is limited."""

    def count(self, status: int, seconds: float) -> None:
        """A response came, or the failure that stands for one."""
        self.responses[status // 100] += 1
        self.time.observe(seconds)

    def count_retry(self, status: int, answered: bool) -> None:
        """What was counted last was not the end: the request is tried again."""
        self.retries += 1
        self.responses[status // 100] -= 1
        self.retried[status // 100 if answered else 0] += 1


class RouteStats:
    """The counters of routes of one virtual host that share a `stat_prefix`."""

    __slots__ = ("name", "responses", "virtual_host")

    def __init__(self, virtual_host: str, name: str) -> None:
        self.virtual_host = virtual_host
        self.name = name
        self.responses = [0] * 10
        """By class of status, as in `ClusterStats`, but of requests, however often they were tried."""


class TlsStats:
    """What came of a listener's handshakes, by Envoy's names."""

    __slots__ = (
        "connection_error",
        "fail_verify_error",
        "fail_verify_no_cert",
        "handshake",
        "no_certificate",
        "session_reused",
    )

    def __init__(self) -> None:
        self.connection_error = 0
        """Handshakes that failed."""
        self.fail_verify_error = 0
        """Clients' certificates that were refused."""
        self.fail_verify_no_cert = 0
        """Clients that had to show a certificate, and have not."""
        self.handshake = 0
        """Handshakes that succeeded; of these, so many..."""
        self.no_certificate = 0
        """...with clients that have shown none, and so many..."""
        self.session_reused = 0
        """...that went on with an earlier session."""


class ListenerStats:
    """One listener's counters."""

    __slots__ = (
        "connections",
        "connections_active",
        "decisions",
        "name",
        "no_filter_chain_match",
        "refused",
        "requests",
        "time",
        "tls",
    )

    def __init__(self, name: str) -> None:
        self.name = name
        self.connections = 0
        self.connections_active = 0
        self.refused = 0
        """Heads that could not be read as a request."""
        self.requests: dict[tuple[str, int, str], int] = {}
        """By cluster, response code and response flags."""
        self.decisions: dict[str, int] = {}
        """What its filters for access have decided, by Envoy's names, such as `rbac_denied`."""
        self.time = Histogram()
        self.no_filter_chain_match = 0
        """Connections that were for no filter chain."""
        self.tls: TlsStats | None = None
        """Of a listener that speaks TLS."""

    def count(self, decision: str) -> None:
        """A filter for access has decided."""
        self.decisions[decision] = self.decisions.get(decision, 0) + 1


class Metrics(Collector):
    """All counters of a proxy."""

    def __init__(self) -> None:
        self.listeners: dict[str, ListenerStats] = {}
        self.clusters: dict[str, ClusterStats] = {}
        self.routes: dict[tuple[str, str], RouteStats] = {}
        self._registry = CollectorRegistry()
        self._registry.register(self)

    def listener(self, name: str) -> ListenerStats:
        return self.listeners.setdefault(name, ListenerStats(name))

    def cluster(self, name: str) -> ClusterStats:
        return self.clusters.setdefault(name, ClusterStats(name))

    def route(self, virtual_host: str, stat_prefix: str) -> RouteStats:
        return self.routes.setdefault((virtual_host, stat_prefix), RouteStats(virtual_host, stat_prefix))

    def render(self) -> bytes:
        """In Prometheus' text format, version 0.0.4."""
        return generate_latest(self._registry)

    def collect(self) -> Iterator[Metric]:
        yield from _listener_families(self.listeners.values())
        yield from _decision_families(self.listeners.values())
        yield from _tls_families(self.listeners.values())
        yield from _cluster_families(self.clusters.values())
        yield from _outlier_families(self.clusters.values())
        yield from _circuit_breaker_families(self.clusters.values())
        yield from _route_families(self.routes.values())
        yield _istio_requests(self.listeners.values())


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
