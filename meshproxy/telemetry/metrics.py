"""Counters and histograms, under the names that Envoy and Istio give them.

The hot path adds to plain numbers that it holds in its hands; only when somebody asks are they rendered (`prometheus`),
by what is imported only then.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter
from collections.abc import Mapping
from typing import Protocol

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
        "tls",
    )

    def __init__(self, name: str) -> None:
        self.name = name
        self.tls: UpstreamTlsStats | None = None
        """Of a cluster whose connections are secured."""
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


class UpstreamTlsStats:
    """What came of the handshakes with a cluster's endpoints, by Envoy's names."""

    __slots__ = (
        "connection_error",
        "fail_verify_error",
        "fail_verify_san",
        "handshake",
        "secrets_not_ready",
        "session_reused",
    )

    def __init__(self) -> None:
        self.connection_error = 0
        """Handshakes that failed otherwise than by a certificate."""
        self.fail_verify_error = 0
        """Certificates that were refused, and..."""
        self.fail_verify_san = 0
        """...those that were for somebody else."""
        self.handshake = 0
        """Handshakes that succeeded; of these, so many..."""
        self.session_reused = 0
        """...that went on with an earlier session."""
        self.secrets_not_ready = 0
        """Connections that were not made for want of key material."""


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


class Metrics:
    """All counters of a proxy."""

    def __init__(self) -> None:
        self.listeners: dict[str, ListenerStats] = {}
        self.clusters: dict[str, ClusterStats] = {}
        self.routes: dict[tuple[str, str], RouteStats] = {}

    def listener(self, name: str) -> ListenerStats:
        return self.listeners.setdefault(name, ListenerStats(name))

    def cluster(self, name: str) -> ClusterStats:
        return self.clusters.setdefault(name, ClusterStats(name))

    def route(self, virtual_host: str, stat_prefix: str) -> RouteStats:
        return self.routes.setdefault((virtual_host, stat_prefix), RouteStats(virtual_host, stat_prefix))
